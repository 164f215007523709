//! What is kept, for how long, and how often it is sent again.

use std::time::{Duration, Instant};

use bytes::Bytes;

use super::super::{Resend, Ring};
use crate::{
    id::SubscriberId,
    limits::{RESEND_MAX, RESEND_SUBSCRIBERS, RESEND_WINDOW, RING_AGE},
};

fn who(name: &str) -> SubscriberId {
    SubscriberId::parse(name).unwrap()
}

fn payload(seq: u64) -> Bytes {
    Bytes::from(seq.to_string())
}

/// Fifty batches, one every 200 ms.
fn filled() -> (Ring, Instant) {
    let (mut ring, mut now) = (Ring::new(7), Instant::now());
    for seq in 0..50 {
        now += Duration::from_millis(200);
        ring.push(seq, payload(seq), now);
    }
    (ring, now)
}

#[test]
fn a_ring_knows_what_it_has() {
    let (mut ring, now) = filled();
    assert_eq!((ring.epoch(), ring.held()), (7, Some((0, 49))));
    assert_eq!(ring.resend(&who("a"), 3, now), Resend::Now(&payload(3)));
    assert_eq!(ring.resend(&who("a"), 50, now), Resend::Unknown);
    assert_eq!(ring.resend(&who("a"), u64::MAX, now), Resend::Unknown);
    assert_eq!(Ring::new(1).held(), None);
    assert_eq!(Ring::new(1).resend(&who("a"), 0, now), Resend::Unknown);
}

#[test]
fn what_is_old_goes_and_is_accounted_for() {
    let (mut ring, now) = filled();
    let all = ring.bytes();
    let freed = ring.expire(now + RING_AGE - Duration::from_secs(8));
    assert_eq!(ring.held(), Some((9, 49)));
    assert_eq!(ring.resend(&who("a"), 8, now), Resend::Evicted);
    assert_eq!(ring.bytes() + freed, all);
    let mut freed = freed;
    while ring.oldest().is_some() {
        freed += ring.evict_oldest();
    }
    assert_eq!((ring.bytes(), freed, ring.evict_oldest()), (0, all, 0));
    // What comes next follows on what was evicted.
    ring.push(50, payload(50), now);
    assert_eq!(ring.held(), Some((50, 50)));
}

#[test]
fn each_subscriber_is_answered_three_times_and_not_at_once() {
    let (mut ring, mut now) = filled();
    for _ in 0..RESEND_MAX {
        for name in ["a", "b"] {
            assert_eq!(ring.resend(&who(name), 3, now), Resend::Now(&payload(3)));
            assert_eq!(ring.resend(&who(name), 3, now), Resend::Hold);
        }
        now += RESEND_WINDOW;
    }
    assert_eq!(ring.resend(&who("a"), 3, now), Resend::Spent);
    assert_eq!(ring.resend(&who("a"), 4, now), Resend::Now(&payload(4)));
    for other in 2..RESEND_SUBSCRIBERS {
        assert!(matches!(ring.resend(&who(&format!("s{other}")), 3, now), Resend::Now(_)));
    }
    assert_eq!(ring.resend(&who("one-more"), 3, now), Resend::Spent);
}
