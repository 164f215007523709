//! A room that is handed over, as its listener hears it. Batches are of 200 ms;
//! the second epoch begins where the first one's batch 10 would.

use super::*;

/// A batch of epoch 1 or 2 of one time line.
fn of(epoch: u64, seq: u64, flags: u32) -> Bytes {
    let first = if epoch == 1 { seq } else { seq + 10 };
    payload_at(first * 3_200, epoch, seq, flags)
}

/// A listener that has heard epoch 1 up to its batch `last`.
fn hearing(last: u64) -> Play {
    let mut play = Play::settled();
    for seq in 0..=last {
        play.hear(LIVE, &of(1, seq, 0));
        play.pass(ms(200));
    }
    play
}

#[test]
fn one_epoch_passes_into_the_next_and_no_track_closes() {
    let mut play = hearing(8);
    assert!(play.hear(LIVE, &of(2, 0, 0)).is_empty(), "9 is still to come");
    assert_eq!(play.hear(LIVE, &of(1, 9, 0)), ["1:9", "epoch 1>2", "2:0"]);
    assert!(play.hear(LIVE, &of(1, 10, 0)).is_empty(), "that was 2:0");
    assert_eq!(play.hear(LIVE, &of(2, 1, 0)), ["2:1"]);
    assert!(play.hear(LIVE, &of(1, 11, FLAG_LAST)).is_empty());
    play.pass(ms(200));
    assert_eq!(play.hear(LIVE, &of(2, 2, 0)), ["2:2"]);
    assert_eq!(play.ears.stats().stale_epochs, 2);
}

#[test]
fn both_epochs_are_asked_while_both_are_held() {
    let mut play = hearing(6);
    // 7 of the one is lost, and the first two of the other.
    play.hear(LIVE, &of(1, 8, 0));
    assert!(play.hear(LIVE, &of(2, 2, 0)).is_empty());
    let asked: Vec<_> =
        play.asks.iter().map(|ask| (ask.nack.epoch.0, ask.nack.ranges.clone())).collect();
    assert_eq!(asked, [(1, vec![(7, 1)]), (2, vec![(0, 2)])]);
    // Each worker hears both, and says of the other's that it has it not.
    assert!(play.answer(&reply(NackStatus::Epoch, 2, &[])).is_empty());
    assert!(play.answer(&reply(NackStatus::Epoch, 1, &[])).is_empty());
    assert_eq!(play.hear(AGAIN, &of(1, 7, FLAG_RESENT)), ["1:7", "1:8"]);
    assert!(play.hear(AGAIN, &of(2, 0, FLAG_RESENT)).is_empty());
    assert_eq!(play.hear(AGAIN, &of(1, 9, FLAG_RESENT)), ["1:9", "epoch 1>2", "2:0"]);
    assert_eq!(play.hear(AGAIN, &of(2, 1, FLAG_RESENT)), ["2:1", "2:2"]);
    assert_eq!(play.ears.stats().lost, 0);
}

#[test]
fn what_the_old_one_said_last_is_asked_for_at_once() {
    let mut play = hearing(7);
    play.hear(LIVE, &of(2, 0, 0));
    assert_eq!(play.asks[0].nack.epoch, Epoch(1));
    assert_eq!(play.ranges(), [[(8, limits::NACK_MAX_BATCHES)]]);
    play.answer(&Answer::Late);
    play.hear(AGAIN, &of(1, 8, FLAG_RESENT));
    play.pass(ms(250));
    assert_eq!(play.ranges(), [[(9, limits::NACK_MAX_BATCHES)]], "and soon again");
    assert_eq!(play.hear(AGAIN, &of(1, 9, FLAG_RESENT)), ["1:9", "epoch 1>2", "2:0"]);
    // An answer about an epoch that was left changes nothing.
    assert!(play.answer(&reply(NackStatus::Unknown, 1, &[])).is_empty());
    assert_eq!(play.hear(LIVE, &of(2, 1, 0)), ["2:1"]);
}

#[test]
fn a_track_that_said_its_last_may_go_on() {
    // The successor's first batches were lost, and the last of the old one came.
    let mut play = hearing(10);
    assert_eq!(play.hear(LIVE, &of(1, 11, FLAG_LAST)), ["1:11"]);
    assert!(play.pass(ms(300)).is_empty());
    assert!(play.hear(LIVE, &of(2, 3, 0)).is_empty());
    assert_eq!(play.ranges(), [[(0, 3)]]);
    assert!(play.pass(ms(500)).is_empty(), "it is not closed any more");
    for seq in [0, 1] {
        assert!(play.hear(AGAIN, &of(2, seq, FLAG_RESENT)).is_empty(), "heard already");
    }
    assert_eq!(play.hear(AGAIN, &of(2, 2, FLAG_RESENT)), ["epoch 1>2", "2:2", "2:3"]);
}

#[test]
fn a_worker_that_was_killed_is_not_waited_for() {
    let mut play = hearing(8);
    play.pass(ms(1_500));
    assert_eq!(play.hear(LIVE, &payload_at(20 * 3_200, 2, 0, 0)), ["epoch 1>2", "2:0"]);
}

#[test]
fn a_worker_that_dies_in_the_middle_is_waited_for_two_batches() {
    let mut play = hearing(8);
    play.hear(LIVE, &payload_at(12 * 3_200, 2, 0, 0));
    assert!(play.pass(ms(399)).is_empty());
    assert_eq!(play.pass(ms(21)), ["epoch 1>2", "2:0"]);
}
