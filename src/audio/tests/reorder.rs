//! A listener's side of a track, one behaviour a test.

use std::time::{Duration, Instant};

use super::super::{Batch, Delivery, GapReason, Reorder, ReorderConfig};
use super::batch;
use crate::limits::{HANDOVER_SILENT, NACK_RETRY, REORDER_DEADLINE};

/// What was delivered, as sequence numbers and gaps.
fn said(deliveries: &[Delivery]) -> Vec<String> {
    deliveries
        .iter()
        .map(|delivery| match delivery {
            Delivery::Batch(delivered) => format!("{}", delivered.batch.seq),
            Delivery::Gap(gap) => format!("gap {}+{} {}", gap.from_seq, gap.count, gap.reason),
        })
        .collect()
}

fn listening() -> (Reorder, Instant) {
    let (mut reorder, now) = (Reorder::new(ReorderConfig::default()), Instant::now());
    assert_eq!(said(&reorder.insert(batch(5, 100, 10), now)), ["100"]);
    (reorder, now)
}

#[test]
fn a_hole_is_asked_for_and_filled() {
    let (mut reorder, now) = listening();
    assert_eq!(reorder.deadline(now), None);
    assert!(reorder.insert(batch(5, 103, 10), now).is_empty());
    assert_eq!(reorder.deadline(now), Some(now));
    assert_eq!(reorder.missing(5, now), [(101, 2)]);
    assert_eq!(reorder.missing(5, now), []);
    assert_eq!(reorder.deadline(now), Some(now + NACK_RETRY));
    assert!(reorder.insert(batch(5, 102, 10), now).is_empty());
    assert_eq!(reorder.missing(5, now + NACK_RETRY), [(101, 1)]);
    assert_eq!(said(&reorder.insert(batch(5, 101, 10), now)), ["101", "102", "103"]);
    assert_eq!(reorder.deadline(now), None);
    let stats = reorder.stats();
    assert_eq!((stats.received, stats.recovered, stats.lost, stats.nacked), (4, 2, 0, 3));
}

#[test]
fn what_was_heard_is_not_heard_again() {
    let (mut reorder, now) = listening();
    reorder.insert(batch(5, 102, 10), now);
    for seq in [100, 102, 7] {
        assert!(reorder.insert(batch(5, seq, 10), now).is_empty());
    }
    assert!(reorder.insert(batch(4, 101, 10), now).is_empty());
    let stats = reorder.stats();
    assert_eq!((stats.duplicates, stats.stale_epoch, stats.received), (3, 1, 2));
}

#[test]
fn patience_ends_in_a_gap_of_known_length() {
    let (mut reorder, now) = listening();
    reorder.insert(batch(5, 103, 10), now);
    let late = now + REORDER_DEADLINE;
    assert!(reorder.tick(late - Duration::from_millis(1)).is_empty());
    let deliveries = reorder.tick(late);
    assert_eq!(said(&deliveries), ["gap 101+2 deadline", "103"]);
    let Delivery::Gap(gap) = &deliveries[0] else { panic!("{deliveries:?}") };
    assert_eq!((gap.epoch, gap.positions), (5, Some((101 * 3_200, 103 * 3_200))));
    let Delivery::Batch(delivered) = &deliveries[1] else { panic!("{deliveries:?}") };
    assert_eq!(delivered.jump, 2 * 3_200);
    assert_eq!(reorder.stats().lost, 2);
}

#[test]
fn what_the_worker_no_longer_has_is_a_gap_at_once() {
    let (mut reorder, now) = listening();
    reorder.insert(batch(5, 110, 10), now);
    assert_eq!(said(&reorder.unavailable(5, 90, 13, GapReason::Evicted)), ["gap 101+2 evicted"]);
    // Not the next one: it waits for its turn, and may yet come.
    assert!(reorder.unavailable(5, 105, 2, GapReason::Spent).is_empty());
    assert!(reorder.unavailable(4, 103, 9, GapReason::Evicted).is_empty());
    assert_eq!(reorder.missing(5, now), [(103, 2), (107, 3)]);
    assert!(reorder.insert(batch(5, 106, 10), now).is_empty());
    reorder.insert(batch(5, 104, 10), now);
    assert_eq!(
        said(&reorder.insert(batch(5, 103, 10), now)),
        ["103", "104", "gap 105+1 spent", "106"]
    );
    assert!(reorder.unavailable(5, u64::MAX, u64::MAX, GapReason::Evicted).is_empty());
}

#[test]
fn a_new_epoch_ends_the_old_one_and_begins_at_its_beginning() {
    let (mut reorder, now) = listening();
    reorder.insert(batch(5, 102, 10), now);
    reorder.insert(batch(5, 104, 10), now);
    let later = |seq| Batch { pos: (200 + seq) * 3_200, ..batch(8, seq, 10) };
    let now = now + HANDOVER_SILENT;
    let deliveries = reorder.insert(later(2), now);
    assert_eq!(said(&deliveries), ["gap 101+1 epoch", "102", "gap 103+1 epoch", "104"]);
    assert_eq!((reorder.epoch(), reorder.missing(8, now)), (Some(8), vec![(0, 2)]));
    reorder.insert(later(1), now);
    assert_eq!(said(&reorder.insert(later(0), now)), ["0", "1", "2"]);
}

#[test]
fn a_track_that_began_while_we_listened_is_wanted_whole() {
    let config = ReorderConfig { joined_within: 10, ..ReorderConfig::default() };
    let now = Instant::now();
    let mut early = Reorder::new(config);
    assert!(early.insert(batch(1, 10, 10), now).is_empty());
    assert_eq!(early.missing(1, now), [(0, 10)]);
    let mut late = Reorder::new(config);
    assert_eq!(said(&late.insert(batch(1, 11, 10), now)), ["11"]);
}

#[test]
fn a_full_window_is_caught_up_with() {
    for slots in [1, 10] {
        let (mut reorder, now) = (Reorder::new(ReorderConfig::default()), Instant::now());
        let window = 500 / u64::from(slots);
        reorder.insert(batch(1, 0, slots), now);
        assert!(reorder.insert(batch(1, window + 1, slots), now).is_empty());
        let mut asked = 0;
        loop {
            let ranges = reorder.missing(1, now);
            let batches: u64 = ranges.iter().map(|range| range.1).sum();
            assert!(batches <= 64 && ranges.len() <= 16);
            if batches == 0 {
                break;
            }
            asked += batches;
        }
        assert_eq!(asked, window);
        for seq in (1..=window).rev() {
            reorder.insert(batch(1, seq, slots), now);
        }
        assert_eq!((reorder.stats().recovered, reorder.stats().lost), (window, 0));
    }
}

#[test]
fn a_nack_holds_sixteen_ranges() {
    let (mut reorder, now) = listening();
    for seq in (102..180).step_by(2) {
        reorder.insert(batch(5, seq, 1), now);
    }
    assert_eq!(reorder.missing(5, now).len(), 16);
    assert_eq!(reorder.missing(5, now).len(), 16);
    assert_eq!(reorder.missing(5, now).len(), 39 - 32);
}

#[test]
fn what_is_held_back_is_bounded() {
    let (mut reorder, now) = listening();
    let mut heard = Vec::new();
    for seq in 102..=250 {
        heard.extend(said(&reorder.insert(batch(5, seq, 10), now)));
    }
    // 100 batches of 10 slots wait; one more and the hole before them is given up.
    assert_eq!(heard[0], "gap 101+1 overflow");
    assert_eq!(heard.len(), 1 + 149);
}

#[test]
fn a_jump_of_the_sequence_is_bounded() {
    let (mut reorder, now) = listening();
    let far = (1 << 62) - 1;
    let strange = Batch { pos: 0, ..batch(5, 0, 10) };
    let heard = reorder.insert(Batch { seq: far, ..strange }, now);
    assert_eq!(said(&heard), [format!("gap 101+{} overflow", far + 1 - 1_000 - 101)]);
    let asked: u64 = std::iter::from_fn(|| Some(reorder.missing(5, now)).filter(|r| !r.is_empty()))
        .flatten()
        .map(|range| range.1)
        .sum();
    assert_eq!(asked, 999);
    assert_eq!(said(&reorder.finish())[0], format!("gap {}+999 closed", far - 999));
}
