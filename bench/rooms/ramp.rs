//! Checks what is heard against the index ramp: each sample is the one before
//! plus one, so a hole, a repeat or a shift shows in the samples themselves. And
//! tells how long a batch was on its way.

use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, Instant},
};

use audio_gateway::{
    audio::{Batch, SlotState},
    client::{Heard, Sounds},
};

use crate::rig::feed::Moments;

/// All tracks.
#[derive(Debug)]
pub(crate) struct Ramps {
    tracks: HashMap<String, Track>,
    total: Tally,
    moments: Arc<Moments>,
    /// From when the last frame of a batch entered its pipe to when the batch was
    /// in hand, in µs.
    delays: Vec<u32>,
    /// How long batches were missing that came, in µs.
    recoveries: Vec<u32>,
    fault: Option<Instant>,
    measuring: bool,
}

#[derive(Debug, Default)]
struct Track {
    next_sample: Option<i16>,
    next_pos: Option<u64>,
    epoch: u64,
    last_heard: Option<Instant>,
    /// From the fault, or from the last batch before it, to the new epoch.
    fail_over: Option<(Duration, Duration)>,
}

/// What was counted.
#[derive(Debug, Clone, Copy, Default, serde::Serialize)]
pub(crate) struct Tally {
    /// Batches.
    pub(crate) batches: u64,
    /// Slots with audio.
    pub(crate) audio_slots: u64,
    /// Slots without, of any state.
    pub(crate) other_slots: u64,
    /// Places where the ramp breaks without a declared reason.
    pub(crate) breaks: u64,
    /// Jumps of the position within an epoch without a declared reason.
    pub(crate) jumps: u64,
    /// Gaps the listener declared.
    pub(crate) gaps: u64,
    /// Batches in them.
    pub(crate) lost: u64,
    /// New epochs.
    pub(crate) epochs: u64,
}

/// What came out of it.
#[derive(Debug, Clone, serde::Serialize)]
pub(crate) struct Summary {
    /// The counts.
    pub(crate) tally: Tally,
    /// Tracks that were heard in the last two seconds.
    pub(crate) alive: usize,
    /// p50, p99, p99.9 and maximum of the added latency in ms, and of how many
    /// batches.
    pub(crate) delay_ms: [f64; 4],
    pub(crate) delays: usize,
    /// The same of how long batches were missing that came.
    pub(crate) recovery_ms: [f64; 4],
    /// Tracks that moved to another epoch after the fault, then the median and
    /// maximum in ms from the fault to the first batch of the new epoch, and
    /// from the last batch before.
    pub(crate) fail_over: Option<(usize, [f64; 2], [f64; 2])>,
}

impl Ramps {
    /// None yet; `moments` tells when frames entered their pipes.
    pub(crate) fn new(moments: Arc<Moments>) -> Self {
        Self {
            tracks: HashMap::new(),
            total: Tally::default(),
            moments,
            delays: Vec::new(),
            recoveries: Vec::new(),
            fault: None,
            measuring: false,
        }
    }

    /// Tracks on which audio was heard.
    pub(crate) fn audible(&self) -> usize {
        self.tracks.values().filter(|track| track.next_sample.is_some()).count()
    }

    /// Forgets the counts, not where each ramp stands.
    pub(crate) fn restart(&mut self) {
        self.total = Tally::default();
        self.delays.clear();
        self.recoveries.clear();
        self.measuring = true;
    }

    /// From here on the delay is no longer measured.
    pub(crate) fn measured(&mut self) {
        self.measuring = false;
    }

    /// From here on new epochs are timed.
    pub(crate) fn fault(&mut self, now: Instant) {
        self.fault = Some(now);
    }

    /// Takes in what was heard.
    pub(crate) fn take(&mut self, heard: Heard, now: Instant) {
        let key = format!("{}.{}", heard.room, heard.track);
        let track = self.tracks.entry(key).or_default();
        match heard.what {
            Sounds::Batch(delivered) => {
                let now_us = self.moments.now();
                let last = delivered.batch.runs.iter().last();
                if self.measuring && last.is_some_and(|run| run.state.is_audio()) {
                    let length = delivered.batch.end() - delivered.batch.pos;
                    let end = delivered.batch.time + (length * 1_000_000 / 16_000) as i64;
                    let room = heard.room.as_str().rsplit('-').next();
                    let room = room.and_then(|number| number.parse().ok());
                    // The simulator writes a slot when it has ended.
                    let written = room.and_then(|room| self.moments.written(room, end));
                    let delay = now_us - written.unwrap_or(end);
                    self.delays.push(u32::try_from(delay).unwrap_or(0));
                    let missing = delivered.missing.map(|time| time.as_micros() as u32);
                    self.recoveries.extend(missing);
                }
                track.batch(&delivered.batch, &mut self.total, self.fault, now);
            }
            Sounds::Gap(gap) => {
                self.total.gaps += 1;
                tracing::warn!(room = %heard.room, ?gap, "a gap");
                self.total.lost += gap.count;
                track.next_sample = None;
                track.next_pos = None;
            }
            Sounds::Epoch { .. } => self.total.epochs += 1,
            Sounds::Opened { .. } | Sounds::Closed(_) => (),
        }
    }

    /// What came out of it.
    pub(crate) fn summary(&mut self, now: Instant) -> Summary {
        let spread_of = |times: &mut Vec<u32>| {
            times.sort_unstable();
            let last = times.len().saturating_sub(1) as f64;
            [0.5, 0.99, 0.999, 1.0].map(|share| {
                times.get((last * share) as usize).map_or(0.0, |us| f64::from(*us) / 1e3)
            })
        };
        let delay_ms = spread_of(&mut self.delays);
        let recovery_ms = spread_of(&mut self.recoveries);
        let alive = self
            .tracks
            .values()
            .filter(|track| track.last_heard.is_some_and(|at| now - at < Duration::from_secs(2)));
        let mut moved: Vec<_> = self.tracks.values().filter_map(|track| track.fail_over).collect();
        let count = moved.len();
        let mut spread = |of: fn(&(Duration, Duration)) -> Duration| {
            moved.sort_unstable_by_key(of);
            let ms = |index: usize| of(&moved[index]).as_secs_f64() * 1e3;
            [ms(moved.len() / 2), ms(moved.len() - 1)]
        };
        let fail_over =
            (count > 0).then(|| (count, spread(|times| times.0), spread(|times| times.1)));
        Summary {
            tally: self.total,
            alive: alive.count(),
            delay_ms,
            delays: self.delays.len(),
            recovery_ms,
            fail_over,
        }
    }
}

impl Track {
    fn batch(&mut self, batch: &Batch, total: &mut Tally, fault: Option<Instant>, now: Instant) {
        total.batches += 1;
        if batch.epoch != self.epoch {
            if let (Some(fault), Some(last)) = (fault, self.last_heard)
                && self.epoch != 0
            {
                self.fail_over = Some((now - fault, now - last));
            }
            self.epoch = batch.epoch;
            self.next_sample = None;
            self.next_pos = None;
        }
        self.last_heard = Some(now);
        if self.next_pos.is_some_and(|pos| pos != batch.pos) {
            total.jumps += 1;
        }
        self.next_pos = Some(batch.end());
        for slot in batch.slots() {
            match (slot.state, slot.pcm) {
                (SlotState::Audio, Some(pcm)) => {
                    total.audio_slots += 1;
                    self.samples(pcm, total);
                }
                // The ramp's only zero lies inside a slot: none is all zeros.
                _ => total.other_slots += 1,
            }
        }
    }

    fn samples(&mut self, pcm: &[u8], total: &mut Tally) {
        for sample in pcm.chunks_exact(2) {
            let sample = i16::from_le_bytes([sample[0], sample[1]]);
            if self.next_sample.is_some_and(|next| next != sample) {
                total.breaks += 1;
            }
            self.next_sample = Some(sample.wrapping_add(1));
        }
    }
}
