//! What is pushed into a room: put in order, queued, and played slot by slot
//! as time passes.

use std::{collections::VecDeque, time::Instant};

use bytes::Bytes;

use crate::{
    audio::{Batch, Delivery, Format, Reorder, ReorderConfig},
    limits,
};

/// Length of a slot in µs.
const SLOT_US: i64 = limits::FRAME.as_micros() as i64;

/// Slots of a pause that are played.
const PAUSE_SLOTS: u64 = (limits::PLAYOUT_PAUSE.as_micros() / limits::FRAME.as_micros()) as u64;

/// What a slot of playback holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Played {
    /// Samples.
    Audio(Bytes),
    /// The source says nothing here, or has nothing left.
    Quiet,
}

/// What happened so far, in slots.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct PlayoutStats {
    /// Played with samples.
    pub(super) played: u64,
    /// The queue had run out.
    pub(super) underruns: u64,
    /// Left out because the queue was full.
    pub(super) dropped: u64,
    /// Batches that are none, or not of our format.
    pub(super) refused: u64,
}

/// See the module. Times are µs on any clock that runs forward.
#[derive(Debug)]
pub(super) struct Playout {
    reorder: Reorder,
    queue: VecDeque<Played>,
    /// When the next slot is due; none: playback waits for its cushion.
    next: Option<i64>,
    /// When playback may begin at the latest.
    begin: Option<i64>,
    /// Since when there has been nothing to play.
    dry: Option<i64>,
    /// Slots without samples since the last one with some.
    quiet: u64,
    stats: PlayoutStats,
}

impl Playout {
    pub(super) fn new() -> Self {
        let config = ReorderConfig {
            deadline: limits::PLAYOUT_DEADLINE,
            one_line: false,
            ..ReorderConfig::default()
        };
        Self {
            reorder: Reorder::new(config),
            queue: VecDeque::new(),
            next: None,
            begin: None,
            dry: None,
            quiet: PAUSE_SLOTS,
            stats: PlayoutStats::default(),
        }
    }

    /// Takes a payload of the source's subject.
    pub(super) fn take(&mut self, payload: &Bytes, at: Instant, now: i64) {
        match Batch::decode(payload) {
            Ok(mut batch) if batch.format == Format::default() => {
                // What waits keeps its payload alive, of which samples may be little.
                if payload.len() > batch.pcm.len() / 4 * 5 {
                    batch.pcm = Bytes::copy_from_slice(&batch.pcm);
                }
                let deliveries = self.reorder.insert(batch, at);
                self.queue(deliveries, now);
            }
            _ => self.stats.refused += 1,
        }
    }

    fn queue(&mut self, deliveries: Vec<Delivery>, now: i64) {
        for delivery in deliveries {
            match delivery {
                Delivery::Batch(delivered) => {
                    for slot in delivered.batch.slots() {
                        self.push(match slot.pcm {
                            Some(pcm) => Played::Audio(delivered.batch.pcm.slice_ref(pcm)),
                            None => Played::Quiet,
                        });
                    }
                }
                Delivery::Gap(gap) => {
                    let samples = gap.positions.map_or(0, |(from, to)| to.saturating_sub(from));
                    let slots = samples / Format::default().slot_samples();
                    // A longer one is a source that begins anew. What it was waited
                    // for in silence is a part of it.
                    let waited = self.dry.map_or(0, |since| (now - since) / SLOT_US);
                    let slots = slots.min(limits::BATCH_MAX_SLOTS as u64);
                    for _ in 0..slots.saturating_sub(waited.unsigned_abs()) {
                        self.push(Played::Quiet);
                    }
                }
            }
        }
        if self.begin.is_none() && !self.queue.is_empty() {
            self.begin = Some(now + limits::PLAYOUT_CUSHION.as_micros() as i64);
        }
    }

    fn push(&mut self, slot: Played) {
        if self.queue.len() >= limits::PLAYOUT_SLOTS {
            self.queue.pop_front();
            self.stats.dropped += 1;
        }
        self.queue.push_back(slot);
    }

    /// The next slot where one is due. To be called until it returns `None`.
    pub(super) fn due(&mut self, at: Instant, now: i64) -> Option<Played> {
        if self.reorder.deadline(at).is_some() {
            let deliveries = self.reorder.tick(at);
            self.queue(deliveries, now);
        }
        let due = match (self.next, self.begin) {
            (Some(next), _) => next,
            (None, Some(begin)) if begin <= now => begin,
            (None, _) => return None,
        };
        if due > now {
            return None;
        }
        let Some(slot) = self.queue.pop_front() else {
            // The next sound begins with a cushion again.
            self.stats.underruns += 1;
            (self.next, self.begin, self.dry) = (None, None, Some(due));
            return None;
        };
        (self.next, self.dry) = (Some(due + SLOT_US), None);
        if matches!(slot, Played::Audio(_)) {
            (self.stats.played, self.quiet) = (self.stats.played + 1, 0);
            return Some(slot);
        }
        self.quiet += 1;
        // Told of by silence alone, an adapter's cushion would swallow a short one.
        let zeros = Played::Audio(Bytes::from_static(&[0; limits::FRAME_BYTES]));
        Some(if self.quiet <= PAUSE_SLOTS { zeros } else { slot })
    }

    /// Nobody wants to hear anything now: time does not count.
    pub(super) fn hold(&mut self, now: i64) {
        if self.next.take().is_some() || self.begin.is_some() {
            self.begin = Some(now);
        }
    }

    /// What happened so far.
    pub(super) fn stats(&self) -> PlayoutStats {
        self.stats
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use bytes::BytesMut;

    use super::*;
    use crate::audio::{Origin, Track, TrackWriter};

    /// Batches of ten slots, each slot filled with its number.
    fn source(slots: u8) -> Vec<Bytes> {
        let origin = Origin { unix_us: 0, rate: limits::SAMPLE_RATE };
        let mut writer = TrackWriter::new(Track::new(1, "tts", "", origin, 0));
        let mut pool = BytesMut::new();
        for slot in 0..slots {
            writer.audio(Some(i64::from(slot) * 320), &[slot + 1; limits::FRAME_BYTES]);
        }
        std::iter::from_fn(|| writer.next_batch(true, &mut pool)).map(|it| it.payload).collect()
    }

    fn number(slot: &Played) -> u8 {
        match slot {
            Played::Audio(pcm) => pcm[0],
            Played::Quiet => 0,
        }
    }

    /// Plays every 20 ms from `from` up to `to`, in ms.
    fn play(playout: &mut Playout, at: Instant, (from, to): (i64, i64)) -> Vec<u8> {
        let mut out = Vec::new();
        for ms in (from..to).step_by(20) {
            let at = at + std::time::Duration::from_millis(ms.unsigned_abs());
            while let Some(slot) = playout.due(at, ms * 1_000) {
                out.push(number(&slot));
            }
        }
        out
    }

    #[test]
    fn slots_are_played_in_order_at_the_pace_of_time() {
        let (mut playout, at) = (Playout::new(), Instant::now());
        let batches = source(20);
        playout.take(&batches[0], at, 0);
        assert_eq!(play(&mut playout, at, (0, 60)), [0u8; 0], "a cushion first");
        assert_eq!(play(&mut playout, at, (60, 160)), [1, 2, 3, 4, 5]);
        playout.take(&batches[1], at, 160_000);
        // A visit that comes late plays what is due by then.
        assert_eq!(play(&mut playout, at, (300, 320)), [6, 7, 8, 9, 10, 11, 12, 13]);
        assert_eq!(play(&mut playout, at, (320, 1_000)), [14, 15, 16, 17, 18, 19, 20]);
        assert_eq!(playout.stats().underruns, 1);
    }

    #[test]
    fn a_hole_is_waited_for_a_little_and_then_quiet() {
        let (mut playout, at) = (Playout::new(), Instant::now());
        let batches = source(30);
        playout.take(&batches[0], at, 0);
        playout.take(&batches[2], at, 0);
        let out = play(&mut playout, at, (0, 1_000));
        let heard: Vec<u8> = (1..=10).chain([0; 10]).chain(21..=30).collect();
        assert_eq!(out, heard);

        let mut playout = Playout::new();
        for index in [0, 2, 1] {
            playout.take(&batches[index], at, 0);
        }
        let out = play(&mut playout, at, (0, 1_000));
        assert_eq!(out, (1..=30).collect::<Vec<u8>>(), "in order again");
    }

    #[test]
    fn a_hole_that_was_waited_for_in_silence_is_no_longer_for_that() {
        let (mut playout, at) = (Playout::new(), Instant::now());
        let batches = source(30);
        playout.take(&batches[0], at, 0);
        assert_eq!(play(&mut playout, at, (0, 400)), (1..=10).collect::<Vec<u8>>());
        playout.take(&batches[2], at + Duration::from_millis(400), 400_000);
        // 260 ms of silence before it is given up, of a hole of 200 ms; a cushion.
        let silent = limits::PLAYOUT_DEADLINE + limits::PLAYOUT_CUSHION;
        let begins = 400 + silent.as_millis() as i64;
        assert_eq!(play(&mut playout, at, (400, begins)), [0u8; 0]);
        assert_eq!(play(&mut playout, at, (begins, 1_000)), (21..=30).collect::<Vec<u8>>());
    }

    #[test]
    fn a_pause_is_played_and_a_long_one_is_not() {
        let mut playout = Playout::new();
        let sound = || Played::Audio(Bytes::from_static(&[1; limits::FRAME_BYTES]));
        let long = PAUSE_SLOTS as usize + 5;
        let slots = [vec![Played::Quiet; 2], vec![sound()], vec![Played::Quiet; long]];
        slots.concat().into_iter().for_each(|slot| playout.push(slot));
        playout.begin = Some(0);
        let end = (long as i64 + 2) * SLOT_US;
        let heard: Vec<Played> = std::iter::from_fn(|| playout.due(Instant::now(), end)).collect();
        let zeros = Played::Audio(Bytes::from_static(&[0; limits::FRAME_BYTES]));
        assert_eq!(heard[..3], [Played::Quiet, Played::Quiet, sound()]);
        assert!(heard[3..][..PAUSE_SLOTS as usize].iter().all(|slot| *slot == zeros));
        assert_eq!(heard[3 + PAUSE_SLOTS as usize..], vec![Played::Quiet; 5]);
        assert_eq!(playout.stats().played, 1);
    }

    #[test]
    fn a_source_that_begins_anew_is_played_at_once() {
        let (mut playout, at) = (Playout::new(), Instant::now());
        playout.take(&source(20)[0], at, 0);
        // Under a higher epoch, and at position 0 as before.
        let anew = Batch { epoch: 2, ..Batch::decode(&source(10)[0]).unwrap() };
        playout.take(&anew.encode(&mut BytesMut::new()), at, 0);
        let heard: Vec<u8> = (1..=10).chain(1..=10).collect();
        assert_eq!(play(&mut playout, at, (0, 1_000)), heard);
    }

    #[test]
    fn what_waits_keeps_no_more_than_its_samples() {
        // One slot, beside a key that nobody knows.
        let mut padded = source(1)[0].to_vec();
        assert_eq!(padded[0] & 0xf0, 0x80, "a map of up to 15 keys");
        padded[0] += 1;
        padded.extend([b"\xa1x\xc5".as_slice(), &4_000u16.to_be_bytes()].concat());
        padded.resize(padded.len() + 4_000, 0);
        let payload = Bytes::from(padded);
        let (mut playout, at) = (Playout::new(), Instant::now());
        playout.take(&payload, at, 0);
        assert!(payload.is_unique());
        assert_eq!(play(&mut playout, at, (0, 200)), [1]);
    }

    #[test]
    fn what_is_too_much_or_no_batch_is_counted() {
        let (mut playout, at) = (Playout::new(), Instant::now());
        playout.take(&Bytes::from_static(b"\xc1"), at, 0);
        assert_eq!(playout.stats().refused, 1);
        for _ in 0..=limits::PLAYOUT_SLOTS {
            playout.push(Played::Quiet);
        }
        assert_eq!(playout.stats().dropped, 1);
    }
}
