//! A listener in virtual time, without a server.

mod asking;
mod handover;
mod past;

use bytes::{Bytes, BytesMut};

use super::{inquiry::Question, *};
use crate::{
    audio::{BatchView, FLAG_LAST, FLAG_RESENT, Format, Gap, GapReason, Runs, SlotState},
    bus::messages::{MissingReason, NackReply, NackStatus},
};

const LIVE: &str = "audio.live.r.ann";
const AGAIN: &str = "audio.resend.r.ann.me";

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

fn payload(epoch: u64, seq: u64, flags: u32) -> Bytes {
    payload_at(epoch * 1_000_000 + seq * 3_200, epoch, seq, flags)
}

fn payload_at(pos: u64, epoch: u64, seq: u64, flags: u32) -> Bytes {
    let pcm = (seq as i16).to_le_bytes().repeat(3_200);
    let runs = Runs::of(SlotState::Audio, 10);
    BatchView {
        epoch,
        seq,
        pos,
        time: 0,
        format: Format::default(),
        runs: &runs,
        user: "ann",
        role: "host",
        flags,
        pcm: &pcm,
    }
    .encode(&mut BytesMut::new())
}

fn reply(status: NackStatus, epoch: u64, missing: &[(u64, u64, MissingReason)]) -> Answer {
    Answer::Reply(NackReply {
        status,
        epoch: Epoch(epoch),
        held: None,
        missing: missing.to_vec(),
        retry_after_ms: 0,
        spread_ms: 0,
        message: String::new(),
    })
}

/// A listener, the clock, and what it said, in short.
struct Play {
    ears: Ears,
    now: Instant,
    asks: Vec<Ask>,
    looks: Vec<Look>,
    said: Vec<String>,
}

impl Play {
    /// It has listened for long enough to know a new track from an old one.
    fn settled() -> Self {
        let mut play = Self::fresh(ListenOptions::default());
        play.now += limits::LISTEN_SETTLED;
        play
    }

    fn fresh(options: ListenOptions) -> Self {
        let subscriber = SubscriberId::parse("me").unwrap();
        let now = Instant::now();
        let ears = Ears::new(&ListenOptions { subscriber, ..options }, now);
        Self { ears, now, asks: Vec::new(), looks: Vec::new(), said: Vec::new() }
    }

    fn with(&mut self, act: impl FnOnce(&mut Ears, Instant, &mut Vec<Output>)) {
        let mut out = Vec::new();
        act(&mut self.ears, self.now, &mut out);
        for output in out {
            match output {
                Output::Ask(ask) => self.asks.push(ask),
                Output::Look(look) => self.looks.push(look),
                Output::Heard(heard) => self.said.push(short(&heard)),
            }
        }
    }

    fn hear(&mut self, subject: &str, payload: &Bytes) -> Vec<String> {
        self.with(|ears, now, out| ears.message(subject, payload, now, out));
        std::mem::take(&mut self.said)
    }

    fn batch(&mut self, epoch: u64, seq: u64) -> Vec<String> {
        self.hear(LIVE, &payload(epoch, seq, 0))
    }

    fn again(&mut self, epoch: u64, seq: u64) -> Vec<String> {
        self.hear(AGAIN, &payload(epoch, seq, FLAG_RESENT))
    }

    /// Answers the oldest NACK.
    fn answer(&mut self, answer: &Answer) -> Vec<String> {
        let ask = self.asks.remove(0);
        self.with(|ears, now, out| ears.answer(&ask.asked, answer, now, out));
        std::mem::take(&mut self.said)
    }

    /// Lets time pass, and does what falls due on the way.
    fn pass(&mut self, time: Duration) -> Vec<String> {
        let until = self.now + time;
        while let Some(due) = self.ears.deadline()
            && due <= until
        {
            self.now = self.now.max(due);
            self.with(Ears::wake);
        }
        self.now = until;
        std::mem::take(&mut self.said)
    }

    fn ranges(&self) -> Vec<Vec<(u64, u64)>> {
        self.asks.iter().map(|ask| ask.nack.ranges.clone()).collect()
    }
}

fn short(heard: &Heard) -> String {
    match &heard.what {
        Sounds::Opened { epoch, user, .. } => format!("opened {user} {epoch}"),
        Sounds::Batch(delivered) => {
            format!("{}:{}", delivered.batch.epoch, delivered.batch.seq)
        }
        Sounds::Gap(Gap { epoch, from_seq, count, reason, .. }) => {
            format!("gap {epoch}:{from_seq}+{count} {reason}")
        }
        Sounds::Epoch { from, to } => format!("epoch {from}>{to}"),
        Sounds::Closed(ending) => format!("closed {}", ending.as_str()),
    }
}

#[test]
fn a_hole_is_asked_for_at_once_and_filled_in_order() {
    let mut play = Play::settled();
    assert_eq!(play.batch(7, 0), ["opened ann 7", "7:0"]);
    assert!(play.batch(7, 2).is_empty());
    let ask = &play.asks[0];
    assert_eq!((ask.room.as_str(), ask.track.as_str()), ("r", "ann"));
    assert_eq!((ask.nack.epoch, &*ask.nack.ranges), (Epoch(7), &[(1, 1)][..]));
    assert_eq!(play.again(7, 1), ["7:1", "7:2"]);
    assert!(play.answer(&reply(NackStatus::Ok, 7, &[])).is_empty());
    assert_eq!(play.batch(7, 3), ["7:3"]);
    let stats = play.ears.stats();
    assert_eq!((stats.batches, stats.recovered, stats.lost, stats.asked), (4, 1, 0, 1));
}

#[test]
fn what_is_repeated_is_heard_once() {
    let mut play = Play::settled();
    play.batch(7, 0);
    assert!(play.batch(7, 0).is_empty() && play.again(7, 0).is_empty());
    assert_eq!(play.hear("audio.rec.r.ann", &payload(7, 1, 0)), ["7:1"]);
    assert_eq!(play.ears.stats().duplicates, 2);
}

#[test]
fn what_the_worker_no_longer_has_is_a_gap_in_its_place() {
    let mut play = Play::settled();
    play.batch(7, 0);
    play.batch(7, 5);
    let missing = [(1, 2, MissingReason::Evicted), (4, 1, MissingReason::Held)];
    let said = play.answer(&reply(NackStatus::Partial, 7, &missing));
    assert_eq!(said, ["gap 7:1+2 evicted"]);
    assert_eq!(play.again(7, 3), ["7:3"]);
    assert_eq!(play.again(7, 4), ["7:4", "7:5"]);
}

#[test]
fn a_stranger_gives_up_nothing_but_what_was_asked_for() {
    let mut play = Play::settled();
    play.batch(7, 0);
    play.batch(7, 2);
    play.asks.clear();
    play.batch(7, 4);
    let missing = [(0, u64::MAX, MissingReason::Evicted)];
    play.pass(limits::NACK_RETRY);
    assert!(play.asks.is_empty(), "one NACK a track waits for its answer");
    let ask = Asked {
        key: "r.ann".into(),
        question: Question { epoch: 7, ranges: vec![(1, 1)], probe: false },
    };
    play.with(|ears, now, out| {
        ears.answer(&ask, &reply(NackStatus::Partial, 7, &missing), now, out);
    });
    assert_eq!(play.said, ["gap 7:1+1 evicted", "7:2"]);
}

#[test]
fn without_an_answer_it_is_asked_again_and_given_up_in_time() {
    let mut play = Play::settled();
    play.batch(7, 0);
    play.batch(7, 2);
    let mut asked = 0;
    let mut said = Vec::new();
    for seq in 3..60 {
        while !play.asks.is_empty() {
            asked += 1;
            said.extend(play.answer(&Answer::Nobody));
        }
        said.extend(play.pass(ms(200)));
        said.extend(play.batch(7, seq));
    }
    assert!((5..=10).contains(&asked), "{asked} NACKs");
    assert_eq!(said[..2], ["gap 7:1+1 deadline", "7:2"]);
    assert_eq!(said.last().unwrap(), "7:59");
    assert_eq!(play.ears.stats().lost, 1);
}

#[test]
fn a_short_deadline_bounds_the_delay() {
    let options = ListenOptions { deadline: ms(300), ..ListenOptions::default() };
    let mut play = Play::fresh(options);
    play.batch(7, 10);
    play.batch(7, 12);
    assert!(play.pass(ms(299)).is_empty());
    assert_eq!(play.pass(ms(30)), ["gap 7:11+1 deadline", "7:12"]);
    assert!(play.again(7, 11).is_empty());
}

#[test]
fn a_track_that_ran_before_begins_where_we_came_in() {
    let mut play = Play::fresh(ListenOptions::default());
    assert_eq!(play.batch(7, 40), ["opened ann 7", "7:40"]);
    assert!(play.asks.is_empty());
}

#[test]
fn a_track_that_began_while_we_listened_is_heard_whole() {
    let mut play = Play::settled();
    assert!(play.batch(7, 2).is_empty());
    assert_eq!(play.ranges(), [[(0, 2)]]);

    let mut play = Play::fresh(ListenOptions::default());
    let news = br#"{"room":"r","epoch":7,"pos":0,"time":0,
        "event":"track_opened","track":"ann","user":"ann","role":""}"#;
    assert!(play.hear("audio.event.r", &Bytes::from_static(news)).is_empty());
    assert!(play.batch(7, 1).is_empty());
    assert_eq!(play.ranges(), [[(0, 1)]]);
    assert_eq!(play.again(7, 0), ["opened ann 7", "7:0", "7:1"]);
}

#[test]
fn a_new_epoch_ends_the_old_one_and_is_heard_whole() {
    let mut play = Play::settled();
    play.batch(7, 0);
    play.batch(7, 2);
    play.answer(&Answer::Late);
    play.pass(ms(1_500));
    play.asks.clear();
    assert_eq!(play.batch(9, 1), ["gap 7:1+1 epoch", "7:2"]);
    assert!(play.batch(7, 3).is_empty() && play.again(7, 1).is_empty());
    assert_eq!(play.ears.stats().stale_epochs, 2);
    assert_eq!(play.ranges(), [[(0, 1)]]);
    assert_eq!(play.again(9, 0), ["epoch 7>9", "9:0", "9:1"]);
}

#[test]
fn a_worker_that_was_replaced_has_no_say() {
    let mut play = Play::settled();
    play.batch(7, 0);
    play.batch(7, 2);
    assert!(play.answer(&reply(NackStatus::Epoch, 6, &[])).is_empty());
    // Nor has its successor, as long as it may answer itself.
    let mut seq = 3;
    for status in [NackStatus::Epoch, NackStatus::Unknown] {
        while play.asks.is_empty() {
            play.batch(7, seq);
            play.pass(ms(200));
            seq += 1;
        }
        assert!(play.answer(&reply(status, 8, &[])).is_empty());
    }
    while play.asks.is_empty() {
        play.batch(7, seq);
        play.pass(ms(200));
        seq += 1;
    }
    play.pass(limits::HANDOVER_SILENT);
    let said = play.answer(&reply(NackStatus::Epoch, 8, &[]));
    assert_eq!(said[..2], ["gap 7:1+1 epoch", "7:2"]);
}

#[test]
fn a_loss_at_the_end_is_found_by_asking() {
    let mut play = Play::settled();
    play.batch(7, 0);
    play.pass(limits::LISTEN_PROBE);
    assert_eq!(play.ranges(), [[(1, limits::NACK_MAX_BATCHES)]]);
    let never = [(2, 7, MissingReason::Unknown)];
    assert!(play.answer(&reply(NackStatus::Partial, 7, &never)).is_empty());
    let last = payload(7, 1, FLAG_LAST | FLAG_RESENT);
    assert_eq!(play.hear(AGAIN, &last), ["7:1"]);
    assert!(play.pass(limits::LISTEN_ENDED - ms(1)).is_empty());
    assert_eq!(play.pass(ms(1)), ["closed last"]);
    assert!(play.pass(limits::LISTEN_SILENT * 2).is_empty() && play.asks.is_empty());
}

#[test]
fn what_was_not_sent_yet_when_asked_is_no_gap() {
    let mut play = Play::settled();
    play.batch(7, 0);
    play.pass(limits::LISTEN_PROBE);
    // 1 was sent, and lost, after the worker had looked.
    play.batch(7, 2);
    let never = [(1, limits::NACK_MAX_BATCHES, MissingReason::Unknown)];
    assert!(play.answer(&reply(NackStatus::Partial, 7, &never)).is_empty());
    assert_eq!(play.ranges(), [[(1, 1)]]);
    assert_eq!(play.again(7, 1), ["7:1", "7:2"]);
}

#[test]
fn a_silent_track_is_closed_and_heard_again() {
    let mut play = Play::settled();
    play.batch(7, 0);
    let mut said = Vec::new();
    for _ in 0..100 {
        said.extend(play.pass(limits::LISTEN_SILENT / 100));
        while !play.asks.is_empty() {
            play.answer(&Answer::Nobody);
        }
    }
    assert_eq!(said, ["closed silent"]);
    assert_eq!(play.batch(7, 1), ["opened ann 7", "7:1"]);
}

#[test]
fn while_the_server_is_away_nobody_is_silent() {
    let mut play = Play::settled();
    play.batch(7, 0);
    play.with(|ears, now, out| ears.connected(false, now, out));
    assert!(play.pass(limits::LISTEN_SILENT * 2).is_empty() && play.asks.is_empty());
    play.with(|ears, now, out| ears.connected(true, now, out));
    play.batch(7, 41);
    assert_eq!(play.ranges(), [[(1, 40)]]);
    for seq in 1..40 {
        play.again(7, seq);
    }
    assert_eq!(play.again(7, 40), ["7:40", "7:41"]);
}

#[test]
fn garbage_is_counted_and_disturbs_nobody() {
    let mut play = Play::settled();
    play.batch(7, 0);
    let bomb = Bytes::from_static(&[0xdd, 0xff, 0xff, 0xff, 0xff]);
    let huge = Bytes::from(vec![0x80; limits::BATCH_MAX_BYTES + 1]);
    for bad in [Bytes::new(), bomb, huge, payload(7, 1, 0).slice(..100)] {
        for subject in [LIVE, AGAIN, "audio.live.r.bob", "audio.event.r", "audio.else.r.ann"] {
            assert!(play.hear(subject, &bad).is_empty());
        }
    }
    let foreign = br#"{"room":"other","epoch":7,"pos":0,"time":0,
        "event":"track_opened","track":"x","user":"","role":""}"#;
    play.hear("audio.event.r", &Bytes::from_static(foreign));
    assert_eq!((play.ears.stats().bad, play.ears.stats().tracks), (21, 1));
    assert_eq!(play.batch(7, 1), ["7:1"]);
}

#[test]
fn tracks_are_bounded_a_room_and_an_idle_one_makes_place() {
    let mut play = Play::fresh(ListenOptions::default());
    for track in 0..limits::TRACKS_MAX + 10 {
        play.hear(&format!("audio.live.r.t{track}"), &payload(7, 0, 0));
    }
    let stats = play.ears.stats();
    assert_eq!((stats.tracks, stats.refused), (limits::TRACKS_MAX as u64, 10));
    assert_eq!(play.hear("audio.live.q.t", &payload(7, 0, 0)).len(), 2);
    play.hear("audio.live.r.t0", &payload(7, 1, FLAG_LAST));
    play.pass(limits::LISTEN_ENDED);
    assert_eq!(play.hear("audio.live.r.new", &payload(7, 0, 0)).len(), 2);
}

#[test]
fn a_program_that_did_not_keep_up_goes_on_with_what_is_new() {
    let mut play = Play::settled();
    play.batch(7, 0);
    play.batch(7, 2);
    play.answer(&reply(NackStatus::Ok, 7, &[]));
    play.with(|ears, now, out| ears.keeping_up(false, now, out));
    assert!(play.batch(7, 3).is_empty() && play.batch(7, 4).is_empty());
    assert!(play.pass(ms(1_000)).is_empty() && play.asks.is_empty());
    play.with(|ears, now, out| ears.keeping_up(true, now, out));
    assert!(play.pass(ms(100)).is_empty() && play.asks.is_empty(), "nothing is asked for");
    assert_eq!(play.batch(7, 5), ["gap 7:1+1 too_slow", "7:2", "gap 7:3+2 too_slow", "7:5"]);
    assert_eq!(play.ears.stats().too_slow, 2);
    // From there on it is as before.
    play.batch(7, 7);
    assert_eq!(play.ranges(), [[(6, 1)]]);
}

#[test]
fn a_program_that_did_not_keep_up_may_find_its_room_with_another_worker() {
    let mut play = Play::settled();
    play.batch(7, 0);
    play.with(|ears, now, out| ears.keeping_up(false, now, out));
    play.pass(ms(5_000));
    play.with(|ears, now, out| ears.keeping_up(true, now, out));
    let said = play.batch(9, 20);
    assert_eq!(said, ["epoch 7>9", "gap 9:0+20 too_slow", "9:20"]);
    assert!(play.asks.is_empty());
}

#[test]
fn what_is_thrown_away_is_chosen_by_the_seed_and_recovered() {
    let drop = Some(DropOnPurpose { fraction: 0.2, seed: 3, again: false });
    let run = || {
        let mut play = Play::fresh(ListenOptions { drop, ..ListenOptions::default() });
        let mut said = play.again(7, 0);
        for seq in 1..200 {
            said.extend(play.batch(7, seq));
            while let Some(ask) = play.asks.first() {
                let ranges = ask.nack.ranges.clone();
                for seq in ranges.into_iter().flat_map(|(first, count)| first..first + count) {
                    said.extend(play.again(7, seq));
                }
                said.extend(play.answer(&reply(NackStatus::Ok, 7, &[])));
            }
        }
        (said, play.ears.stats())
    };
    let (said, stats) = run();
    let heard: Vec<_> = said.iter().filter_map(|said| said.strip_prefix("7:")).collect();
    let want: Vec<_> = (0..heard.len()).map(|seq| seq.to_string()).collect();
    assert!(heard.len() > 195 && heard == want);
    assert!((20..60).contains(&stats.thrown_away) && stats.recovered + 5 > stats.thrown_away);
    assert_eq!(run().1, stats);
}

#[test]
fn stopping_tells_what_was_held() {
    let mut play = Play::settled();
    play.batch(7, 0);
    play.batch(7, 2);
    play.with(|ears, now, out| ears.finish(now, out));
    assert_eq!(play.said, ["gap 7:1+1 closed", "7:2", "closed stopped"]);
}

#[test]
fn only_reasons_that_end_a_wait_are_gaps() {
    // What the reorder buffer calls a gap is told under the same words here.
    assert_eq!(GapReason::Spent.as_str(), "spent");
    let mut play = Play::settled();
    play.batch(7, 0);
    play.batch(7, 3);
    let held = [(1, 1, MissingReason::Held), (2, 1, MissingReason::Throttled)];
    assert!(play.answer(&reply(NackStatus::Partial, 7, &held)).is_empty());
    play.pass(limits::NACK_RETRY);
    assert_eq!(play.ranges(), [[(1, 2)]]);
    let spent = [(1, 2, MissingReason::Spent)];
    // The last of those that were sent may be on its way.
    assert!(play.answer(&reply(NackStatus::Partial, 7, &spent)).is_empty());
    assert_eq!(play.again(7, 1), ["7:1"]);
    assert_eq!(play.pass(limits::NACK_RETRY), ["gap 7:2+1 spent", "7:3"]);
}
