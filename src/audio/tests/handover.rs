//! Two epochs of one time line, one behaviour a test. Batches are of ten slots;
//! epoch 7 begins where batch 10 of epoch 5 would.

use std::time::{Duration, Instant};

use super::{
    super::{Batch, Delivery, FLAG_LAST, Reorder, ReorderConfig, Runs, SlotState},
    batch, ramp,
};
use crate::limits::{HANDOVER_MAX, HANDOVER_SILENT, REORDER_MAX_SLOTS};

const SLOT: u64 = 320;

/// A batch of the ramp that tells its position.
fn at(epoch: u64, seq: u64, slot: u64) -> Batch {
    let pcm = ramp(slot * SLOT, 10 * SLOT as usize).into();
    Batch { pos: slot * SLOT, pcm, ..batch(epoch, seq, 10) }
}

fn old(seq: u64) -> Batch {
    at(5, seq, seq * 10)
}

fn new(seq: u64) -> Batch {
    at(7, seq, (seq + 10) * 10)
}

/// What was delivered: epoch, first slot, slots, and the jump where there is one.
fn said(deliveries: Vec<Delivery>) -> Vec<String> {
    let told = deliveries.into_iter().map(|delivery| match delivery {
        Delivery::Batch(heard) => {
            let batch = heard.batch;
            if batch.runs.all_audio() {
                let samples = usize::from(batch.runs.slots()) * SLOT as usize;
                assert_eq!(batch.pcm, ramp(batch.pos, samples), "the samples of its slots");
            }
            let slot = batch.pos as f64 / SLOT as f64;
            let jump = if heard.jump == 0 { String::new() } else { format!(" {:+}", heard.jump) };
            format!("{}: {slot}+{}{jump}", batch.epoch, batch.runs.slots())
        }
        Delivery::Gap(gap) => format!("gap {}: {}+{}", gap.epoch, gap.from_seq, gap.count),
    });
    told.collect()
}

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

/// A listener that has heard epoch 5 up to its batch `last`.
fn hearing(last: u64) -> (Reorder, Instant) {
    let (mut reorder, now) = (Reorder::new(ReorderConfig::default()), Instant::now());
    for seq in 0..=last {
        assert_eq!(reorder.insert(old(seq), now).len(), 1);
    }
    (reorder, now)
}

#[test]
fn the_old_epoch_is_heard_up_to_the_beginning_of_the_new_one() {
    let (mut reorder, now) = hearing(7);
    assert!(reorder.insert(new(0), now).is_empty());
    assert_eq!((reorder.epoch(), reorder.successor()), (Some(5), Some(7)));
    assert_eq!(said(reorder.insert(old(8), now)), ["5: 80+10"]);
    assert_eq!(said(reorder.insert(old(9), now)), ["5: 90+10", "7: 100+10"]);
    assert_eq!((reorder.epoch(), reorder.successor()), (Some(7), None));
    assert!(reorder.insert(old(10), now).is_empty());
    assert_eq!(said(reorder.insert(new(1), now)), ["7: 110+10"]);
    assert_eq!(reorder.stats().stale_epoch, 1);
}

#[test]
fn slots_that_were_heard_are_left_out() {
    // Three slots of the next batch, and all of the one before it.
    let (mut reorder, now) = hearing(9);
    assert!(reorder.insert(at(7, 0, 83), now).is_empty());
    assert_eq!(said(reorder.insert(at(7, 1, 93), now)), ["7: 100+3"]);
    assert_eq!(said(reorder.insert(at(7, 2, 103), now)), ["7: 103+10"]);
}

#[test]
fn a_slot_is_left_out_where_more_than_half_of_it_was_heard() {
    for (off, first, jump) in
        [(-160, 99.5, " -160"), (-161, 100.496_875, " +159"), (160, 100.5, " +160")]
    {
        let (mut reorder, now) = hearing(9);
        let pos = (100 * SLOT as i64 + off) as u64;
        let pcm = ramp(pos, 10 * SLOT as usize).into();
        let moved = Batch { pos, pcm, ..batch(7, 0, 10) };
        let slots = if off == -161 { 9 } else { 10 };
        assert_eq!(said(reorder.insert(moved, now)), [format!("7: {first}+{slots}{jump}")]);
    }
}

#[test]
fn an_epoch_that_said_its_last_is_not_waited_for() {
    let (mut reorder, now) = hearing(7);
    assert!(reorder.insert(new(0), now).is_empty());
    let last = Batch { flags: FLAG_LAST, ..old(8) };
    assert_eq!(said(reorder.insert(last, now)), ["5: 80+10", "7: 100+10 +3200"]);
    // And what follows later on one that has ended is cut all the same.
    let (mut reorder, now) = hearing(10);
    reorder.insert(Batch { flags: FLAG_LAST, ..old(11) }, now);
    assert!(reorder.insert(new(0), now).is_empty());
    assert!(reorder.insert(new(1), now).is_empty());
    assert_eq!(said(reorder.insert(new(2), now)), ["7: 120+10"]);
}

#[test]
fn an_epoch_that_falls_silent_is_waited_for_two_batches() {
    let (mut reorder, now) = hearing(7);
    let begun = now + ms(100);
    assert!(reorder.insert(new(0), begun).is_empty());
    // Since both are there: the one before may just be missing.
    let silent = begun + HANDOVER_SILENT;
    assert_eq!(reorder.deadline(begun), Some(silent));
    assert!(reorder.tick(silent - ms(1)).is_empty());
    assert_eq!(said(reorder.tick(silent)), ["7: 100+10 +6400"]);
    assert_eq!(reorder.deadline(silent), None);
}

#[test]
fn an_epoch_that_is_gone_is_not_waited_for() {
    let (mut reorder, now) = hearing(7);
    let later = now + ms(1_500);
    assert_eq!(said(reorder.insert(at(7, 0, 150), later)), ["7: 150+10 +22400"]);
    // Where we were held up ourselves, the time line tells that it lives.
    let (mut reorder, _) = hearing(7);
    assert!(reorder.insert(new(0), later).is_empty());
    assert_eq!(said(reorder.insert(old(8), later)), ["5: 80+10"]);
    assert_eq!(said(reorder.insert(old(9), later)), ["5: 90+10", "7: 100+10"]);
}

#[test]
fn what_is_lost_of_both_is_asked_for() {
    let (mut reorder, now) = hearing(7);
    assert!(reorder.insert(new(2), now).is_empty());
    assert!(reorder.insert(old(10), now).is_empty());
    assert_eq!(reorder.missing(5, now), [(8, 2)]);
    assert_eq!(reorder.missing(7, now), [(0, 2)]);
    assert_eq!(reorder.missing(6, now), []);
    // The old one goes on as long as the new one has not what comes next.
    let heard = said(reorder.insert(old(9), now));
    assert!(heard.is_empty());
    assert_eq!(said(reorder.insert(old(8), now)), ["5: 80+10", "5: 90+10", "5: 100+10"]);
    assert!(reorder.insert(new(0), now).is_empty(), "by now it was heard");
    assert_eq!(said(reorder.insert(new(1), now)), ["7: 110+10", "7: 120+10"]);
    assert_eq!((reorder.stats().lost, reorder.stats().recovered), (0, 4));
}

#[test]
fn a_hole_of_the_old_one_that_the_new_one_covers_is_no_gap() {
    let (mut reorder, now) = hearing(9);
    reorder.insert(old(11), now);
    assert_eq!(said(reorder.insert(new(0), now)), ["7: 100+10"]);
    assert_eq!((reorder.stats().lost, reorder.missing(5, now).len()), (0, 0));
}

#[test]
fn a_second_is_the_longest_that_is_waited() {
    let (mut reorder, now) = hearing(7);
    // The old worker lives, but nobody has its batch 8, nor the new one's first.
    assert!(reorder.insert(new(1), now).is_empty());
    for step in 1..10 {
        assert!(reorder.insert(old(8 + step), now + ms(100 * step)).is_empty());
    }
    let heard = said(reorder.tick(now + HANDOVER_MAX));
    assert_eq!(heard[..3], ["gap 5: 8+1", "5: 90+10 +3200", "5: 100+10"]);
    assert_eq!(heard.last().unwrap(), "7: 110+10");
}

#[test]
fn what_is_held_of_the_new_one_is_bounded() {
    let (mut reorder, now) = hearing(7);
    let most = REORDER_MAX_SLOTS as u64 / 10;
    for seq in 0..most {
        assert!(reorder.insert(new(seq), now).is_empty());
    }
    let heard = said(reorder.insert(new(most), now));
    assert_eq!((heard[0].as_str(), heard.len() as u64), ("7: 100+10 +6400", most + 1));
}

#[test]
fn who_replaces_the_successor_is_followed_instead() {
    let (mut reorder, now) = hearing(7);
    reorder.insert(new(0), now);
    assert!(reorder.insert(at(9, 0, 110), now).is_empty());
    assert!(reorder.insert(new(1), now).is_empty());
    assert_eq!(said(reorder.insert(old(8), now)), ["5: 80+10"]);
    assert_eq!(said(reorder.insert(old(9), now)), ["5: 90+10"]);
    assert_eq!(said(reorder.insert(old(10), now)), ["5: 100+10", "9: 110+10"]);
    assert_eq!(reorder.stats().stale_epoch, 2);
}

#[test]
fn a_successor_that_hears_nothing_yet_is_not_followed() {
    let (mut reorder, now) = hearing(8);
    let mut runs = Runs::of(SlotState::Stalled, 4);
    runs.push(SlotState::Audio, 6);
    let pcm = ramp(104 * SLOT, 6 * SLOT as usize).into();
    assert!(reorder.insert(Batch { runs, pcm, ..new(0) }, now).is_empty());
    assert_eq!(said(reorder.insert(old(9), now)), ["5: 90+10"]);
    assert_eq!(said(reorder.insert(old(10), now)), ["5: 100+10"]);
    assert_eq!(said(reorder.insert(new(1), now)), ["7: 110+10"]);
}

#[test]
fn another_time_line_is_not_cut() {
    let (mut reorder, now) = hearing(7);
    let far = Batch { pos: 1_000_000, ..old(8) };
    reorder.insert(far, now);
    let heard = said(reorder.insert(at(7, 0, 0), now + HANDOVER_MAX));
    assert_eq!(heard, ["7: 0+10 -1003200"]);
    // Nor is a source that begins anew.
    let config = ReorderConfig { one_line: false, ..ReorderConfig::default() };
    let mut source = Reorder::new(config);
    source.insert(old(0), now);
    assert_eq!(said(source.insert(at(7, 0, 0), now)), ["7: 0+10 -3200"]);
}

#[test]
fn at_the_end_both_are_told() {
    let (mut reorder, now) = hearing(7);
    reorder.insert(old(9), now);
    reorder.insert(new(1), now);
    assert_eq!(
        said(reorder.finish()),
        ["gap 5: 8+1", "5: 90+10 +3200", "gap 7: 0+1", "7: 110+10 +3200"]
    );
}
