//! The lane of recorded rooms in virtual time, with a stream that is away.

use super::*;
use crate::bus::subjects::{self, Lane};

fn keep(seq: u64) -> Keep {
    let (room, track) = (RoomId::parse("r").unwrap(), TrackId::of_user("u"));
    let to = Address::new(subjects::track(Lane::Rec, &room, &track));
    Keep::new(to, Bytes::from(vec![0; 1_000]), (&room, &track), Epoch(7), seq)
}

fn offered(count: u64) -> (Window, Instant) {
    let mut window = Window::default();
    (0..count).for_each(|seq| window.offer(keep(seq)));
    (window, Instant::now())
}

fn send_all(window: &mut Window, now: Instant) -> Vec<u64> {
    std::iter::from_fn(|| window.next(now)).map(|(number, _)| number).collect()
}

#[test]
fn a_batch_has_a_name_of_its_own() {
    assert_eq!(keep(3).name, "r.u.7.3");
}

#[test]
fn a_window_is_on_its_way_and_each_answer_makes_room() {
    let (mut window, now) = offered(300);
    let sent = send_all(&mut window, now);
    assert_eq!(sent, (0..256).collect::<Vec<_>>());
    for number in 0..10 {
        assert_eq!(window.answered(number, &Kept::Yes, now), None);
    }
    assert_eq!(send_all(&mut window, now), (256..266).collect::<Vec<_>>());
    assert_eq!(window.stats(), LaneStats { kept: 10, waiting: 290, ..LaneStats::default() });
}

#[test]
fn a_stream_that_does_not_answer_holds_nobody_up_for_long() {
    let (mut window, now) = offered(300);
    send_all(&mut window, now);
    assert_eq!(window.deadline(), Some(now + FRESH));
    assert_eq!(send_all(&mut window, now + FRESH).len(), 44);
    assert_eq!(window.deadline(), Some(now + limits::RECORD_RETRY));
    // Nobody answers at all: one asks now and then.
    let later = now + limits::RECORD_RETRY;
    assert_eq!(send_all(&mut window, later), [0]);
    assert!(window.lacks_stream());
    let later = later + limits::RECORD_RETRY;
    assert_eq!(send_all(&mut window, later), [0]);
    assert_eq!(window.stats().again, 2);
    // It answers again: all are sent again, a window at a time.
    window.answered(0, &Kept::Already, later);
    assert_eq!(send_all(&mut window, later).len(), 256);
    for number in 1..300 {
        window.answered(number, &Kept::Already, later);
        window.answered(number, &Kept::Already, later);
    }
    assert!(window.is_empty() && window.deadline().is_none());
    assert_eq!((window.stats().kept, window.stats().already), (300, 300));
}

#[test]
fn a_stream_that_answers_nothing_is_asked_by_one_at_a_time() {
    let (mut window, start) = offered(300);
    send_all(&mut window, start);
    send_all(&mut window, start + FRESH);
    let later = start + limits::RECORD_RETRY;
    assert_eq!(send_all(&mut window, later), [0]);
    // The time of those sent behind it runs out while it is on its way.
    assert_eq!(send_all(&mut window, later + FRESH), [0u64; 0]);
    assert_eq!(window.deadline(), Some(later + limits::RECORD_RETRY));
    window.answered(299, &Kept::NoStream, later + FRESH);
    assert_eq!(window.deadline(), Some(later + limits::RECORD_RETRY));
    let later = later + limits::RECORD_RETRY;
    assert_eq!(send_all(&mut window, later), [0]);
    // One that is refused asks no more; the next one does.
    window.answered(0, &Kept::Refused("no".into()), later);
    assert_eq!(send_all(&mut window, later), [1]);
}

#[test]
fn a_stream_is_lacking_as_long_as_the_only_one_that_asks_is_not_answered() {
    let (mut window, now) = offered(1);
    send_all(&mut window, now);
    window.answered(0, &Kept::NoStream, now);
    let later = now + limits::RECORD_RETRY;
    assert_eq!(send_all(&mut window, later), [0]);
    assert!(window.lacks_stream());
    window.answered(0, &Kept::Yes, later);
    assert!(!window.lacks_stream());
}

#[test]
fn what_a_server_took_with_it_is_sent_again_when_it_is_back() {
    let (mut window, now) = offered(3);
    send_all(&mut window, now);
    window.answered(1, &Kept::Yes, now);
    let back = now + Duration::from_millis(900);
    window.reconnected(back);
    assert_eq!(send_all(&mut window, back), [0, 2]);
}

#[test]
fn without_a_stream_rooms_go_on_and_are_recorded_once_there_is_one() {
    let (mut window, now) = offered(300);
    let mut sent = send_all(&mut window, now);
    while !sent.is_empty() {
        for number in sent {
            window.answered(number, &Kept::NoStream, now);
        }
        sent = send_all(&mut window, now);
    }
    assert!(window.lacks_stream() && window.stats().waiting == 300);
    // One of them asks now and then.
    assert_eq!(window.deadline(), Some(now + limits::RECORD_RETRY));
    let mut later = now + limits::RECORD_RETRY;
    assert_eq!(send_all(&mut window, later), [0]);
    window.answered(0, &Kept::NoStream, later);
    // However late: they were not kept for sure.
    later += limits::RECORD_SURE * 2;
    assert_eq!(send_all(&mut window, later), [0]);
    window.answered(0, &Kept::Yes, later);
    assert_eq!(send_all(&mut window, later).len(), 256);
    assert_eq!((window.lacks_stream(), window.stats().unsure), (false, 0));
}

#[test]
fn what_may_have_been_kept_long_ago_is_not_sent_again() {
    let (mut window, now) = offered(2);
    send_all(&mut window, now);
    let late = now + limits::RECORD_SURE + Duration::from_millis(1);
    window.offer(keep(2));
    window.reconnected(late);
    assert_eq!(send_all(&mut window, late), [2]);
    assert_eq!(window.stats().unsure, 2);
}

#[test]
fn nor_does_it_ask_whether_there_is_a_stream() {
    let (mut window, mut now) = offered(2);
    let sure = now + limits::RECORD_SURE;
    send_all(&mut window, now);
    while now < sure {
        now += limits::RECORD_RETRY;
        assert_eq!(send_all(&mut window, now), [0]);
    }
    window.offer(keep(2));
    now += limits::RECORD_RETRY;
    assert_eq!(send_all(&mut window, now), [2]);
    assert_eq!(window.stats().unsure, 2);
    now += limits::RECORD_RETRY;
    assert_eq!(send_all(&mut window, now), [2]);
}

#[test]
fn too_much_drops_the_oldest_that_is_not_on_its_way() {
    let (mut window, now) = offered(1);
    send_all(&mut window, now);
    let most = limits::RECORD_BYTES as u64 / 1_000;
    (1..=most + 10).for_each(|seq| window.offer(keep(seq)));
    let dropped = window.stats().dropped;
    assert_eq!(dropped, 11);
    assert_eq!(window.next(now).map(|(_, keep)| keep.name), Some(format!("r.u.7.{}", dropped + 1)));
}

#[test]
fn what_is_refused_is_told_and_left() {
    let (mut window, now) = offered(1);
    send_all(&mut window, now);
    assert_eq!(window.answered(0, &Kept::Refused("no".into()), now), Some("no".into()));
    assert!(window.is_empty() && window.stats().refused == 1);
}
