//! Who leads, told as what comes and what is done.

use std::time::Duration;

use super::{LeaseInput::*, LeaseOutput::*, *};

struct Clock(Instant);

impl Clock {
    fn ms(&self, ms: u64) -> Now {
        Now { at: self.0 + Duration::from_millis(ms), unix_ms: 5_000 + ms }
    }
}

fn lease(name: &str) -> Lease {
    Lease::new(DispatcherId::parse(name).unwrap(), "b1".into())
}

fn record(name: &str, term: u64) -> LeaseRecord {
    LeaseRecord { holder: name.into(), boot: "b1".into(), term }
}

#[test]
fn a_tick_is_never_due_while_only_an_answer_helps() {
    let clock = Clock(Instant::now());
    let mut lease = leader(&clock);
    assert_eq!(lease.deadline(), Some(clock.ms(510).at));
    assert_eq!(lease.handle(Tick, clock.ms(510)), [Renew(record("d1", 5), 7)]);
    // The server is gone: the answer stays out for longer than the lease.
    assert_eq!(lease.deadline(), Some(clock.ms(2_010).at));
    assert_eq!(lease.handle(Tick, clock.ms(2_010)), [Deposed]);
    assert_eq!(lease.deadline(), None);
    assert_eq!(lease.handle(Unknown, clock.ms(2_500)), []);
    assert!(lease.deadline() > Some(clock.ms(2_500).at));
}

/// `d1` after its create of revision 7 was sent at 10 ms and acknowledged.
fn leader(clock: &Clock) -> Lease {
    let mut lease = lease("d1");
    assert_eq!(lease.handle(Tick, clock.ms(0)), [Read]);
    assert_eq!(lease.handle(Seen(None), clock.ms(10)), [Create(record("d1", 5))]);
    assert_eq!(lease.handle(Written(7), clock.ms(20)), [Elected]);
    lease
}

#[test]
fn the_first_to_create_leads_and_renews() {
    let clock = Clock(Instant::now());
    let mut lease = leader(&clock);
    assert_eq!(lease.deadline(), Some(clock.ms(510).at));
    assert_eq!(lease.handle(Tick, clock.ms(510)), [Renew(record("d1", 5), 7)]);
    assert_eq!(lease.handle(Written(8), clock.ms(900)), []);
    assert_eq!(lease.handle(Tick, clock.ms(1_010)), [Renew(record("d1", 5), 8)]);
    assert_eq!(lease.leader().unwrap().as_str(), "d1");
}

#[test]
fn a_lease_counts_from_when_its_renewal_was_sent() {
    let clock = Clock(Instant::now());
    let mut lease = leader(&clock);
    assert_eq!(lease.handle(Tick, clock.ms(510)), [Renew(record("d1", 5), 7)]);
    // The answer takes 1.4 s: it is worth 2 s after 510, not after 1,900.
    assert_eq!(lease.handle(Written(8), clock.ms(1_900)), [Renew(record("d1", 5), 8)]);
    assert_eq!(lease.handle(Tick, clock.ms(2_509)), []);
    assert_eq!(lease.handle(Tick, clock.ms(2_510)), [Deposed]);
    assert!(!lease.leads());
}

#[test]
fn who_was_paused_leads_no_more() {
    let clock = Clock(Instant::now());
    let mut lease = leader(&clock);
    assert_eq!(lease.handle(Tick, clock.ms(60_000)), [Deposed, Read]);
    assert_eq!(lease.handle(Seen(Some((record("d2", 9), 50))), clock.ms(60_001)), []);
    assert_eq!((lease.leader().unwrap().as_str(), lease.term()), ("d2", 9));
}

#[test]
fn a_standby_takes_over_as_soon_as_the_key_is_gone() {
    let clock = Clock(Instant::now());
    let mut lease = lease("d2");
    assert_eq!(lease.handle(Tick, clock.ms(0)), [Read]);
    assert_eq!(lease.handle(Seen(Some((record("d1", 90), 7))), clock.ms(1)), []);
    // The watch tells of a graceful end between two reads.
    assert_eq!(lease.handle(Seen(None), clock.ms(100)), [Create(record("d2", 91))]);
    assert_eq!(lease.handle(NotWritten, clock.ms(110)), [Read]);
    assert_eq!(lease.handle(Seen(Some((record("d3", 91), 9))), clock.ms(120)), []);
    assert_eq!(lease.leader().unwrap().as_str(), "d3");
}

#[test]
fn a_renewal_without_an_answer_is_looked_up() {
    let clock = Clock(Instant::now());
    let mut lease = leader(&clock);
    lease.handle(Tick, clock.ms(510));
    assert_eq!(lease.handle(Unknown, clock.ms(1_500)), []);
    assert_eq!(lease.handle(Tick, clock.ms(1_700)), [Read]);
    let ours = Seen(Some((record("d1", 5), 8)));
    assert_eq!(lease.handle(ours, clock.ms(1_710)), [Renew(record("d1", 5), 8)]);
    assert_eq!(lease.handle(Written(9), clock.ms(1_720)), []);
    assert_eq!(lease.handle(Tick, clock.ms(2_210)), [Renew(record("d1", 5), 9)]);
}

#[test]
fn a_create_without_an_answer_counts_from_when_it_was_sent() {
    let clock = Clock(Instant::now());
    let mut lease = lease("d1");
    lease.handle(Tick, clock.ms(0));
    lease.handle(Seen(None), clock.ms(10));
    lease.handle(Unknown, clock.ms(1_010));
    assert_eq!(lease.handle(Tick, clock.ms(1_210)), [Read]);
    let ours = Seen(Some((record("d1", 5), 7)));
    assert_eq!(lease.handle(ours.clone(), clock.ms(1_220)), [Elected, Renew(record("d1", 5), 7)]);
    assert_eq!(lease.handle(Tick, clock.ms(2_010)), [Deposed]);
}

#[test]
fn another_life_of_ours_is_somebody_else() {
    let clock = Clock(Instant::now());
    let mut lease = lease("d1");
    lease.handle(Tick, clock.ms(0));
    let old = LeaseRecord { boot: "b0".into(), ..record("d1", 4) };
    assert_eq!(lease.handle(Seen(Some((old, 3))), clock.ms(1)), []);
    assert!(!lease.leads());
}

#[test]
fn who_resigns_lets_go_at_once_and_never_comes_back() {
    let clock = Clock(Instant::now());
    let mut lease = leader(&clock);
    lease.handle(Tick, clock.ms(510));
    assert_eq!(lease.handle(Resign, clock.ms(520)), [Deposed]);
    assert_eq!(lease.handle(Written(8), clock.ms(530)), [Release(8)]);
    assert_eq!(lease.handle(NotWritten, clock.ms(540)), []);
    assert!(lease.is_idle());
    assert_eq!(lease.handle(Seen(None), clock.ms(5_000)), []);
}

#[test]
fn who_steps_down_lets_others_stand_first() {
    let clock = Clock(Instant::now());
    let mut lease = leader(&clock);
    assert_eq!(lease.handle(StepDown, clock.ms(100)), [Deposed, Release(7)]);
    assert_eq!((lease.leads(), lease.leader()), (false, None));
    assert_eq!(lease.handle(Seen(None), clock.ms(105)), []);
    assert_eq!(lease.handle(NotWritten, clock.ms(110)), [Read]);
    let other = Seen(Some((record("d2", 6), 9)));
    assert_eq!(lease.handle(other.clone(), clock.ms(120)), []);
    assert_eq!(lease.leader().unwrap().as_str(), "d2");
    assert_eq!(lease.handle(Seen(None), clock.ms(200)), []);
    // It is a standby like any other once its time is over.
    assert_eq!(lease.handle(Tick, clock.ms(2_150)), [Read]);
    assert_eq!(lease.handle(other, clock.ms(2_160)), []);
    assert_eq!(lease.handle(Seen(None), clock.ms(2_170)), [Create(record("d1", 7))]);
}

#[test]
fn who_steps_down_with_nobody_else_there_comes_back() {
    let clock = Clock(Instant::now());
    let mut lease = leader(&clock);
    lease.handle(StepDown, clock.ms(100));
    assert_eq!(lease.handle(NotWritten, clock.ms(110)), [Read]);
    let mut ms = 120;
    let created = loop {
        assert_eq!(lease.handle(Seen(None), clock.ms(ms)), []);
        let due = lease.deadline().expect("it looks again");
        ms = u64::try_from(due.duration_since(clock.0).as_millis()).unwrap();
        assert!(ms < 5_000);
        assert_eq!(lease.handle(Tick, clock.ms(ms)), [Read]);
        if ms >= 2_100 {
            break lease.handle(Seen(None), clock.ms(ms));
        }
    };
    assert_eq!(created, [Create(record("d1", 7))]);
}

#[test]
fn a_renewal_under_way_does_not_keep_the_lease_of_who_steps_down() {
    let clock = Clock(Instant::now());
    let mut lease = leader(&clock);
    lease.handle(Tick, clock.ms(510));
    assert_eq!(lease.handle(StepDown, clock.ms(520)), [Deposed]);
    assert_eq!(lease.handle(Written(8), clock.ms(530)), [Release(8)]);
    // No answer at all: what is found is ours, and let go of.
    let mut lease = leader(&clock);
    lease.handle(Tick, clock.ms(510));
    lease.handle(StepDown, clock.ms(520));
    assert_eq!(lease.handle(Unknown, clock.ms(1_000)), []);
    assert_eq!(lease.handle(Tick, clock.ms(1_200)), [Read]);
    assert_eq!(lease.handle(Seen(Some((record("d1", 5), 8))), clock.ms(1_210)), [Release(8)]);
}
