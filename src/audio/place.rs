//! Where on the time line belongs what an adapter says of a track. Making
//! batches of it is `writer`'s.

use super::{
    frame::{Format, SlotState},
    pending::Pending,
};
use crate::limits::{GAP_MAX, PTS_BACKSTEP, PTS_TOLERANCE};

/// Positions are held within this, so that no sum of two overflows.
const POSITION_MAX: i64 = 1 << 60;

/// Why a track is discontinuous although its positions run on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Break {
    /// The adapter's clock stepped by so many samples.
    Step(i64),
    /// So many samples of silence were added, or left out, because the clock
    /// had drifted.
    Drift(i64),
}

/// Where a track's words belong. Two positions run side by side: the *end* of
/// the time line is where the next slot goes; `media` is where the adapter's
/// next sample belongs by its own timestamps. While all is well they are the
/// same. A stall moves the end on alone; the burst that follows is behind the
/// end and is cut off up to it, so that nothing lengthens the time line.
#[derive(Debug)]
pub(super) struct Line {
    format: Format,
    pub(super) pending: Pending,
    /// Whether the first slot has its place.
    placed: bool,
    /// See above; holds only where the adapter is timed.
    media: i64,
    /// Whether the adapter has said where something belongs.
    timed: bool,
    /// Added to every position, after the adapter's clock stepped back.
    shift: i64,
    /// What time is of which the adapter says nothing.
    between: SlotState,
    /// What the discontinuity to come is about.
    cause: Option<Break>,
    pub(super) late_samples: u64,
    pub(super) discontinuities: u64,
}

impl Line {
    /// A line that begins at `start` unless the adapter says otherwise.
    pub(super) fn new(format: Format, start: i64) -> Self {
        Self {
            format,
            pending: Pending::new(format, clamp(start)),
            placed: false,
            media: start.clamp(-POSITION_MAX, POSITION_MAX),
            timed: false,
            shift: 0,
            between: SlotState::Stalled,
            cause: None,
            late_samples: 0,
            discontinuities: 0,
        }
    }

    /// What time is of which the adapter says nothing.
    pub(super) fn between(&self) -> SlotState {
        self.between
    }

    /// The position of the next sample.
    pub(super) fn end(&self) -> i64 {
        let partial = self.pending.partial() / self.format.sample_bytes();
        self.pending.end() as i64 + partial as i64
    }

    /// Samples that belong where `media` is; those behind the end are cut off.
    pub(super) fn say(&mut self, pcm: &[u8]) {
        if self.between == SlotState::Absent {
            self.between = SlotState::Stalled;
        }
        let bytes = self.format.sample_bytes();
        let samples = (pcm.len() / bytes) as i64;
        let (end, media) = (self.end(), self.media());
        if self.between == SlotState::Muted {
            // What a muted participant's adapter sends all the same is nobody's.
            self.media = media + samples;
            self.push_until(media + samples, SlotState::Muted);
            return;
        }
        let late = (end - media).clamp(0, samples);
        self.late_samples += late as u64;
        let kept = &pcm[late as usize * bytes..];
        self.pending.extend(kept);
        self.media = if kept.is_empty() { media + samples } else { self.end() };
    }

    /// Pieces that follow on what was placed and said just before: `media` is within
    /// [`PTS_TOLERANCE`] of where they belong, so they need no place of their own.
    pub(super) fn say_all<'a>(&mut self, pieces: impl ExactSizeIterator<Item = &'a [u8]> + Clone) {
        let quick = self.between == SlotState::Stalled && self.end() == self.media();
        if quick && self.pending.extend_slots(pieces.clone()) {
            self.media = self.end();
        } else {
            pieces.for_each(|pcm| self.say(pcm));
        }
    }

    /// Time of which nothing is said is something else from here on.
    pub(super) fn turn(&mut self, state: SlotState) {
        let late = self.end() > self.media();
        self.pad();
        if !late {
            self.media = self.end();
        }
        self.pending.hurry();
        self.between = state;
    }

    /// Time goes on to a position without a word from the adapter.
    pub(super) fn wait(&mut self, up_to: i64) {
        let up_to = up_to.clamp(0, POSITION_MAX);
        self.placed = true;
        if up_to - self.end() > self.samples(GAP_MAX) {
            self.pad();
            self.jump(up_to - self.slot());
        }
        self.push_until(up_to, self.between);
        if self.pending.slots() == 0 {
            self.add_one(self.between);
        }
        self.pending.hurry();
    }

    /// Completes the slot that has begun, or adds one.
    pub(super) fn add_one(&mut self, state: SlotState) {
        if self.pending.partial() > 0 {
            self.pad();
        } else {
            self.pending.push(state, 1);
        }
    }

    /// Moves `media` to where the adapter says it is, and the end along with it
    /// where that is further on.
    pub(super) fn place(&mut self, at: i64) {
        let at = self.shifted(at);
        self.timed = true;
        if !self.placed {
            self.placed = true;
            self.pending.start(clamp(at));
            self.media = at;
            return;
        }
        let (end, tolerance) = (self.end(), self.samples(PTS_TOLERANCE));
        let step = at - self.media;
        if step < -self.samples(PTS_BACKSTEP) {
            self.step_back(at);
        } else if step.abs() <= tolerance {
            // What was said before goes on.
        } else if at <= end + tolerance {
            self.media = at.min(end);
        } else {
            self.reach(at);
        }
    }

    /// Without timestamps what comes next belongs at the end.
    pub(super) fn place_raw(&mut self) {
        self.placed = true;
        self.media = self.end();
    }

    /// Brings the end, and `media` with it, as near to `at` as whole slots can.
    fn reach(&mut self, at: i64) {
        self.pad();
        let missing = at.saturating_sub(self.end());
        if missing > self.samples(GAP_MAX) {
            self.jump(at);
        } else if missing > 0 {
            // Less than a slot is what rounding left behind the slot before.
            let state = match self.pending.last() {
                Some(last) if missing < self.slot() && !last.is_audio() => last,
                _ => self.between,
            };
            self.pending.push(state, nearest(missing, self.slot()));
        }
        self.media = self.end();
    }

    /// The adapter says what all time up to a position is.
    pub(super) fn pass(&mut self, up_to: i64, state: SlotState) {
        let up_to = self.shifted(up_to);
        self.timed = true;
        if !self.placed {
            self.placed = true;
            self.pending.start(clamp(up_to));
            self.media = up_to;
        }
        if self.between == SlotState::Absent {
            self.between = SlotState::Stalled;
        }
        self.advance(up_to, state);
    }

    /// Moves `media` to a position, and the end with slots of `state`.
    fn advance(&mut self, to: i64, state: SlotState) {
        let (end, media) = (self.end(), self.media());
        if to <= media {
            return;
        }
        if to <= end {
            self.media = to;
        } else if to - end > self.samples(GAP_MAX) {
            self.pad();
            self.jump(to);
            self.media = to;
        } else {
            self.push_until(to, state);
            self.media = self.end().max(media);
        }
    }

    /// `count` slots of a state follow on what the adapter said.
    pub(super) fn count_on(&mut self, count: u64, state: SlotState) {
        self.placed = true;
        let most = self.format.samples(GAP_MAX) / self.format.slot_samples();
        let samples = count.min(most) * self.format.slot_samples();
        self.advance(self.media() + samples as i64, state);
    }

    /// Adds as many slots as end by a position. The first of them may be the
    /// rest of one that has begun.
    fn push_until(&mut self, to: i64, state: SlotState) {
        let whole = (to - self.pending.end() as i64).div_euclid(self.slot());
        if whole < 1 {
            return;
        }
        let rest = whole as u64 - u64::from(self.pending.partial() > 0);
        self.pad();
        self.pending.push(state, rest);
    }

    /// Completes a slot that has begun with zeros.
    pub(super) fn pad(&mut self) {
        const ZEROS: [u8; 256] = [0; 256];
        while self.pending.partial() > 0 {
            let missing = self.format.slot_bytes() - self.pending.partial();
            self.pending.extend(&ZEROS[..missing.min(ZEROS.len())]);
        }
    }

    fn jump(&mut self, to: i64) {
        self.pending.jump(clamp(to));
        self.discontinuities += 1;
    }

    /// The adapter's clock stepped back: what it now calls `at` is the end.
    fn step_back(&mut self, at: i64) {
        self.pad();
        let end = self.end();
        self.shift = self.shift.saturating_add(end - at);
        self.cause = Some(Break::Step(at - self.media));
        self.media = end;
        self.jump(end);
    }

    /// Where the adapter's next sample belongs, in the positions that are handed
    /// in; none where it has not said when anything was.
    pub(super) fn due(&self) -> Option<i64> {
        (self.placed && self.timed).then(|| self.media - self.shift)
    }

    /// The clock stepped, and positions were moved so that they run on: says so
    /// with the slot to come.
    pub(super) fn stepped(&mut self, by: i64) {
        self.pending.part();
        self.cause = Some(Break::Step(by));
        self.discontinuities += 1;
    }

    /// What the discontinuity was about, for whoever tells of it.
    pub(super) fn take_break(&mut self) -> Option<Break> {
        self.cause.take()
    }

    /// Whether a slot can be added or left out at a position.
    pub(super) fn is_quiet(&self, at: u64) -> bool {
        let explained = matches!(self.between, SlotState::Muted | SlotState::Absent);
        self.pending.is_quiet(at) || (explained && self.end() <= at as i64)
    }

    /// Moves all that follows on a quiet position by a slot, forward or back,
    /// as all positions will be from now on.
    pub(super) fn correct(&mut self, at: u64, by: i64) {
        self.media = self.media.saturating_add(by);
        if self.pending.is_quiet(at) {
            self.pending.correct(at, by > 0);
        } else {
            // It has said all up to there, and more or less of nothing follows.
            self.pending.part();
        }
        self.cause = Some(Break::Drift(by));
        self.discontinuities += 1;
    }

    fn shifted(&self, at: i64) -> i64 {
        at.saturating_add(self.shift).clamp(-POSITION_MAX, POSITION_MAX)
    }

    fn media(&self) -> i64 {
        if self.timed { self.media } else { self.end() }
    }

    fn slot(&self) -> i64 {
        self.format.slot_samples() as i64
    }

    fn samples(&self, time: std::time::Duration) -> i64 {
        self.format.samples(time) as i64
    }
}

/// Nothing is placed before the room's origin.
fn clamp(position: i64) -> u64 {
    u64::try_from(position).unwrap_or(0)
}

/// Whole slots nearest to a number of samples above zero; halves upwards.
fn nearest(samples: i64, slot: i64) -> u64 {
    ((samples + slot / 2) / slot) as u64
}
