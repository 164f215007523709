//! Beginning in a room's past, and finding in a recording what the worker has no
//! more.

use super::*;

const REC: &str = "audio.rec.r.ann";

fn from(from: From) -> Play {
    Play::fresh(ListenOptions { from, ..ListenOptions::default() })
}

impl Play {
    fn rec(&mut self, epoch: u64, seq: u64) -> Vec<String> {
        self.hear(REC, &payload(epoch, seq, 0))
    }

    /// A batch out of the recording.
    fn past(&mut self, epoch: u64, seq: u64) -> Vec<String> {
        let payload = payload(epoch, seq, 0);
        self.with(|ears, now, out| ears.past(REC, &payload, now, out));
        std::mem::take(&mut self.said)
    }

    fn looked(&mut self, fault: bool) -> Vec<String> {
        let look = self.looks.remove(0);
        self.with(|ears, now, out| ears.looked(&look, fault, now, out));
        std::mem::take(&mut self.said)
    }
}

#[test]
fn the_ring_is_asked_for_what_came_before() {
    let mut play = from(From::Ago(ms(1_000)));
    assert!(play.batch(7, 100).is_empty(), "nothing is heard before what came before it");
    // A second are five batches, and a few more in case they are shorter.
    assert_eq!(play.ranges(), [[(94, 6)]]);
    let said: Vec<_> = (94..100).flat_map(|seq| play.again(7, seq)).collect();
    assert_eq!(said, ["opened ann 7", "7:95", "7:96", "7:97", "7:98", "7:99", "7:100"]);
    assert_eq!(play.ears.stats().duplicates, 0);
    play.answer(&reply(NackStatus::Ok, 7, &[]));
    assert_eq!(play.batch(7, 101), ["7:101"]);
    assert_eq!((play.ears.stats().gaps, play.ears.stats().lost), (0, 0));
}

#[test]
fn the_first_slot_is_the_one_that_was_asked_for() {
    let mut play = from(From::Ago(ms(300)));
    play.batch(7, 100);
    let said: Vec<_> = (97..100).flat_map(|seq| play.again(7, seq)).collect();
    assert_eq!(said, ["opened ann 7", "7:98", "7:99", "7:100"]);
    assert_eq!(play.ears.stats().frames, 5 + 10 + 10, "300 ms and the first batch");
}

#[test]
fn what_the_ring_does_not_have_is_no_gap_at_the_beginning() {
    let mut play = from(From::Ago(ms(10_000)));
    play.batch(7, 100);
    assert_eq!(play.ranges(), [[(43, 57)]]);
    let gone = [(43, 55, MissingReason::Evicted)];
    assert!(play.answer(&reply(NackStatus::Partial, 7, &gone)).is_empty());
    assert!(play.again(7, 99).is_empty());
    assert_eq!(play.again(7, 98), ["opened ann 7", "7:98", "7:99", "7:100"]);
    assert_eq!((play.ears.stats().gaps, play.ears.stats().lost), (0, 0));
    // Nobody answers another one: it is not waited for as long as others are.
    let bob = "audio.live.r.bob";
    assert!(play.hear(bob, &payload(7, 50, 0)).is_empty());
    let mut said = Vec::new();
    for seq in 51..70 {
        while !play.asks.is_empty() {
            play.answer(&Answer::Nobody);
        }
        said.extend(play.pass(ms(200)));
        said.extend(play.hear(bob, &payload(7, seq, 0)));
    }
    assert_eq!(said[..2], ["opened ann 7", "7:50"]);
}

#[test]
fn a_track_that_begins_later_is_heard_from_its_beginning() {
    let mut play = from(From::Ago(ms(10_000)));
    play.pass(limits::LISTEN_SETTLED);
    play.now += limits::LISTEN_SETTLED;
    assert_eq!(play.batch(7, 0), ["opened ann 7", "7:0"]);
}

#[test]
fn what_is_recorded_is_read_first_and_joined_to_what_is_live() {
    let mut play = from(From::RoomStart);
    play.with(|ears, _, _| ears.read_first());
    assert!(play.rec(7, 6).is_empty(), "it is read in its turn");
    // Kept out of order, as what was sent again is.
    assert!(play.past(7, 1).is_empty());
    assert!(play.asks.is_empty() && play.looks.is_empty());
    assert_eq!(play.past(7, 0), ["opened ann 7", "7:0", "7:1"]);
    // However long the program takes.
    assert!(play.pass(limits::LISTEN_SILENT * 2).is_empty());
    assert_eq!(play.past(7, 2), ["7:2"]);
    assert_eq!(play.past(7, 3), ["7:3"]);
    play.with(|ears, now, out| ears.is_read(now, out));
    assert!(play.rec(7, 7).is_empty());
    assert_eq!(play.ranges(), [[(4, 3)]], "the seam is asked for");
    // It may as well come from the recording still.
    assert_eq!(play.past(7, 4), ["7:4"]);
    assert_eq!(play.past(7, 5), ["7:5"]);
    assert_eq!(play.again(7, 6), ["7:6", "7:7"]);
    assert!(play.past(7, 6).is_empty() && play.past(7, 7).is_empty());
    assert_eq!((play.ears.stats().gaps, play.ears.stats().duplicates), (0, 2));
}

#[test]
fn a_recording_from_which_the_beginning_is_gone_begins_where_it_does() {
    let mut play = from(From::RoomStart);
    play.with(|ears, _, _| ears.read_first());
    assert_eq!(play.past(7, 5_000), ["opened ann 7", "7:5000"]);
    play.with(|ears, now, out| ears.is_read(now, out));
    assert!(play.asks.is_empty());
}

#[test]
fn one_epoch_after_the_other_is_read() {
    let mut play = from(From::RoomStart);
    play.with(|ears, _, _| ears.read_first());
    assert_eq!(play.past(7, 0), ["opened ann 7", "7:0"]);
    play.past(9, 0);
    play.past(9, 1);
    assert_eq!(play.pass(limits::HANDOVER_MAX), ["epoch 7>9", "9:0", "9:1"]);
}

#[test]
fn what_the_ring_lost_is_looked_for_where_it_is_recorded() {
    let mut play = Play::settled();
    play.rec(7, 0);
    play.rec(7, 4);
    let gone = [(1, 3, MissingReason::Evicted)];
    assert!(play.answer(&reply(NackStatus::Partial, 7, &gone)).is_empty());
    let look = &play.looks[0];
    assert_eq!((look.search.epoch, look.search.from, look.search.to), (7, 1, 4));
    assert!(play.pass(ms(500)).is_empty() && play.asks.is_empty(), "nobody else is asked");
    assert_eq!(play.past(7, 1), ["7:1"]);
    assert!(play.past(7, 3).is_empty());
    assert_eq!(play.looked(false), ["gap 7:2+1 evicted", "7:3", "7:4"]);
    assert!(play.looks.is_empty());
    assert_eq!((play.ears.stats().recovered, play.ears.stats().searched), (2, 1));
}

#[test]
fn where_the_worker_is_gone_the_recording_is_asked_once_and_the_worker_again() {
    let mut play = Play::settled();
    play.rec(7, 0);
    play.rec(7, 2);
    assert!(play.answer(&Answer::Nobody).is_empty());
    assert_eq!(play.looks.len(), 1);
    assert!(play.looked(false).is_empty(), "it is not there yet");
    play.pass(limits::NACK_RETRY);
    assert_eq!(play.ranges(), [[(1, 1)]]);
    assert!(play.answer(&Answer::Nobody).is_empty() && play.looks.is_empty());
    assert_eq!(
        play.pass(limits::REORDER_DEADLINE),
        ["gap 7:1+1 deadline", "7:2", "closed silent"][..2]
    );
}

#[test]
fn who_may_not_read_recordings_has_the_gap_at_once() {
    let mut play = Play::settled();
    play.rec(7, 0);
    play.rec(7, 2);
    let gone = [(1, 1, MissingReason::Evicted)];
    play.answer(&reply(NackStatus::Partial, 7, &gone));
    assert_eq!(play.looked(true), ["gap 7:1+1 evicted", "7:2"]);
    play.rec(7, 4);
    let gone = [(3, 1, MissingReason::Evicted)];
    let said = play.answer(&reply(NackStatus::Partial, 7, &gone));
    assert_eq!(said, ["gap 7:3+1 evicted", "7:4"]);
    assert!(play.looks.is_empty());
}

#[test]
fn a_track_that_is_not_recorded_is_not_looked_for() {
    let mut play = Play::settled();
    play.batch(7, 0);
    play.batch(7, 2);
    let gone = [(1, 1, MissingReason::Evicted)];
    assert_eq!(play.answer(&reply(NackStatus::Partial, 7, &gone)), ["gap 7:1+1 evicted", "7:2"]);
    assert!(play.looks.is_empty());
}
