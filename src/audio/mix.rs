//! The mix of several tracks of a room, slot after slot of its time line.
//!
//! Sources say where on the time line what they have belongs; when it comes
//! makes no difference. A slot of the mix is made as soon as all have said what
//! they have for it, or at a deadline: who is late then is left out of it and
//! counted. Where one voice speaks, or several that fit together, the mix is
//! their exact sum. Who is in a mix, and what becomes of its slots, is left to
//! others.

mod limiter;
mod ramp;
mod source;
mod sum;

use self::{
    limiter::Limiter,
    source::Source,
    sum::{SLOT, Sum},
};
use super::frame::{Format, SlotState};
use crate::limits::{FRAME_SAMPLES, GAP_MAX, MIX_AHEAD_SAMPLES, MIX_SLOTS_MAX, SAMPLE_RATE};

/// Names a source within its mixer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SourceKey(usize);

/// One slot of a mix.
#[derive(Debug, PartialEq, Eq)]
pub struct Mixed<'a> {
    /// Its position, a multiple of a slot's length.
    pub pos: u64,
    /// What it is: of all that its sources are there, what tells most.
    pub state: SlotState,
    /// s16le samples where it is audio, else none.
    pub pcm: &'a [u8],
}

/// What a mix was made of so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct MixStats {
    /// Slots of single sources without which a slot of the mix was made.
    pub left_out: u64,
    /// Samples that came after their slot was made.
    pub late_samples: u64,
    /// Slots that were turned down, or on their way back up.
    pub limited: u64,
}

/// See the module.
#[derive(Debug)]
pub struct Mixer {
    format: Format,
    sum: Sum,
    sources: Vec<Option<Source>>,
    limiter: Limiter,
    /// Position of the slot that is made next, once the first is known.
    next: Option<u64>,
    /// Whether a slot was made.
    begun: bool,
    /// Position up to which anybody has said anything.
    said: u64,
    out: Vec<u8>,
    stats: MixStats,
}

/// What is over the end of a slot must be known before it is made.
const AHEAD: u64 = MIX_AHEAD_SAMPLES as u64;

impl Mixer {
    /// A mix of one channel, or of two.
    #[must_use]
    pub fn new(channels: u8) -> Self {
        let format = Format { rate: SAMPLE_RATE, channels: channels.clamp(1, 2) };
        Self {
            sum: Sum::new(format.channels.into()),
            sources: Vec::new(),
            limiter: Limiter::new(),
            next: None,
            begun: false,
            said: 0,
            out: vec![0; format.slot_bytes()],
            stats: MixStats::default(),
            format,
        }
    }

    /// Rate and channels of what it makes.
    #[must_use]
    pub fn format(&self) -> Format {
        self.format
    }

    /// What it was made of so far.
    #[must_use]
    pub fn stats(&self) -> MixStats {
        self.stats
    }

    /// Somebody comes in, who is waited for from a position on: into the first
    /// channel for bit 0, into the second for bit 1.
    pub fn join(&mut self, channels: u8, from: u64) -> SourceKey {
        let source = Some(Source::new(channels, from));
        match self.sources.iter().position(Option::is_none) {
            Some(free) => {
                self.sources[free] = source;
                SourceKey(free)
            }
            None => {
                self.sources.push(source);
                SourceKey(self.sources.len() - 1)
            }
        }
    }

    /// Somebody is away and may come back: nobody waits until it is expected.
    pub fn away(&mut self, key: SourceKey) {
        if let Some(source) = self.sources.get_mut(key.0).and_then(Option::as_mut) {
            source.away(&mut self.sum);
        }
    }

    /// Somebody who was away is back, and waited for from a position on.
    pub fn expect(&mut self, key: SourceKey, from: u64) {
        if let Some(source) = self.sources.get_mut(key.0).and_then(Option::as_mut) {
            source.expect(from, &mut self.sum);
        }
    }

    /// Position from which on all who are in it were heard in full; none: of
    /// some it is not known yet.
    #[must_use]
    pub fn whole_from(&self) -> Option<u64> {
        self.sources.iter().flatten().map(Source::whole).try_fold(0, |last, it| Some(last.max(it?)))
    }

    /// Whether nobody is in it.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.sources.iter().all(Option::is_none)
    }

    /// Somebody goes where it has spoken up to.
    pub fn leave(&mut self, key: SourceKey) {
        if let Some(mut source) = self.sources.get_mut(key.0).and_then(Option::take) {
            source.shut(&mut self.sum);
        }
    }

    /// Position up to which there is room for what begins at `pos`; what is
    /// beyond it has to wait.
    #[must_use]
    pub fn room(&self, pos: u64) -> u64 {
        self.first(pos) + MIX_SLOTS_MAX as u64 * SLOT
    }

    /// The slot that is next where something is said at `pos`: before the first
    /// one is made, the beginning may turn out to be earlier.
    fn first(&self, pos: u64) -> u64 {
        let first = pos - pos % SLOT;
        match self.next {
            None => first,
            Some(next) if self.begun || first >= next => next,
            Some(_) => {
                let most = MIX_SLOTS_MAX as u64 * SLOT;
                first.max(self.said.saturating_sub(most).next_multiple_of(SLOT))
            }
        }
    }

    /// Samples of a source, s16le of one channel. What is for a slot
    /// that was made or has no [`Mixer::room`] is left out.
    pub fn audio(&mut self, key: SourceKey, pos: u64, pcm: &[u8]) {
        let count = self.hold(key, pos, pcm.len() as u64 / 2);
        let settled = self.settled();
        if let Some(source) = self.sources.get_mut(key.0).and_then(Option::as_mut) {
            let pcm = &pcm[..2 * count as usize];
            self.stats.late_samples += source.audio(pos, pcm, settled, &mut self.sum);
        }
    }

    /// A source has no samples for a stretch, and this is why.
    pub fn quiet(&mut self, key: SourceKey, pos: u64, samples: u64, state: SlotState) {
        let count = self.hold(key, pos, samples);
        let base = self.next.unwrap_or(pos);
        if let Some(source) = self.sources.get_mut(key.0).and_then(Option::as_mut) {
            let from = if self.begun { pos } else { pos.max(source.end()) };
            source.quiet(pos, count, state, &mut self.sum);
            if pos + count > from.max(base) {
                self.sum.mark(from.max(base), pos + count, state);
            }
        }
    }

    /// Sees to room for what a source says, and says how much of it there is. What
    /// was before it came in is no beginning for the mix.
    fn hold(&mut self, key: SourceKey, pos: u64, samples: u64) -> u64 {
        let source = self.sources.get(key.0).and_then(Option::as_ref);
        let before = source.filter(|_| !self.begun).map_or(0, |it| it.end().saturating_sub(pos));
        if before >= samples {
            return samples;
        }
        before + self.make_room(pos + before, samples - before)
    }

    /// Sees to room for a stretch, and says how much of it there is.
    fn make_room(&mut self, pos: u64, samples: u64) -> u64 {
        let (next, end) = (self.first(pos), (pos + samples).min(self.room(pos)));
        let lowest = self.next.replace(next).unwrap_or(next);
        self.said = self.said.max(end);
        self.sum.hold(lowest, self.said.saturating_sub(next));
        end.saturating_sub(pos).min(samples)
    }

    /// Position before which nothing of the sum can change any more.
    fn settled(&self) -> u64 {
        let next = self.next.unwrap_or_default();
        if self.begun { next + AHEAD } else { next }
    }

    /// Makes the next slot, if all sources have said what they have for it, or
    /// the room has come to `deadline` and they must have. To be called until it
    /// returns `None`.
    pub fn next(&mut self, deadline: i64) -> Option<Mixed<'_>> {
        let deadline = u64::try_from(deadline).unwrap_or(0);
        let next = match self.next {
            Some(next) => next,
            None if deadline >= SLOT + AHEAD => deadline - AHEAD - (deadline - AHEAD) % SLOT - SLOT,
            None => return None,
        };
        let next = self.catch_up(next, deadline);
        self.next = Some(next);
        let until = next + SLOT + AHEAD;
        // Where nobody is there, only time says how far it has gone.
        let known = self.sources.iter().flatten().map(Source::known).min().unwrap_or(u64::MAX);
        if known < until || known == u64::MAX {
            if deadline < until {
                return None;
            }
            self.leave_out(next, until);
        }
        Some(self.make(next))
    }

    /// Makes the next slot that all have said all of, without looking ahead:
    /// nothing more comes here, and another mixer goes on with the same voices.
    pub fn hand_over(&mut self) -> Option<Mixed<'_>> {
        let next = self.next?;
        let said = self.sources.iter().flatten().filter_map(Source::present_to).min()?;
        if said < next + SLOT {
            return None;
        }
        Some(self.make(next))
    }

    /// Makes the next slot of those that somebody has said something for,
    /// without waiting for anybody: nothing more comes.
    pub fn finish(&mut self) -> Option<Mixed<'_>> {
        if self.next? >= self.said {
            return None;
        }
        self.next(i64::try_from(self.said + SLOT + AHEAD).unwrap_or(i64::MAX))
    }

    /// Far behind the room there is nothing to be made any more.
    fn catch_up(&mut self, next: u64, deadline: u64) -> u64 {
        let most = self.format.samples(GAP_MAX);
        if deadline.saturating_sub(next) <= most {
            return next;
        }
        let to = deadline - AHEAD - (deadline - AHEAD) % SLOT - SLOT;
        for source in self.sources.iter_mut().flatten() {
            source.leave_out(to, &mut self.sum);
        }
        self.sum.clear_all();
        to
    }

    /// Goes on without whom is late.
    fn leave_out(&mut self, next: u64, until: u64) {
        self.sum.hold(next, until - next);
        for source in self.sources.iter_mut().flatten() {
            let end = source.end().max(next);
            let late = source.leave_out(until, &mut self.sum);
            if end < until {
                self.sum.mark(end, until, source.standing());
                self.stats.left_out += u64::from(late);
            }
        }
    }

    fn make(&mut self, pos: u64) -> Mixed<'_> {
        let after = pos + SLOT;
        self.sum.hold(pos, 2 * SLOT);
        let states = self.sum.states(pos);
        let audio = states.has_audio();
        let volumes = if audio || self.sum.states(after).has_audio() || !self.limiter.is_idle() {
            let channels = 0..usize::from(self.format.channels);
            let sum = &self.sum;
            self.limiter
                .volumes(channels.map(|channel| (sum.slot(channel, pos), sum.slot(channel, after))))
        } else {
            None
        };
        if audio {
            self.stats.limited += u64::from(volumes.is_some());
            self.write(pos, volumes.as_ref());
        }
        self.sum.clear(pos);
        (self.next, self.begun) = (Some(after), true);
        Mixed { pos, state: states.mixed(), pcm: if audio { &self.out } else { &[] } }
    }

    /// Writes the samples of a slot, the channels interleaved.
    fn write(&mut self, pos: u64, volumes: Option<&[i32; FRAME_SAMPLES]>) {
        let left = samples(self.sum.slot(0, pos), volumes);
        if self.format.channels == 1 {
            for (out, sample) in self.out.chunks_exact_mut(2).zip(left) {
                out.copy_from_slice(&sample.to_le_bytes());
            }
            return;
        }
        let right = samples(self.sum.slot(1, pos), volumes);
        for ((out, left), right) in self.out.chunks_exact_mut(4).zip(left).zip(right) {
            let ([a, b], [c, d]) = (left.to_le_bytes(), right.to_le_bytes());
            out.copy_from_slice(&[a, b, c, d]);
        }
    }
}

/// A channel's samples: its sums at their volumes.
fn samples(
    sums: &[i32; FRAME_SAMPLES],
    volumes: Option<&[i32; FRAME_SAMPLES]>,
) -> [i16; FRAME_SAMPLES] {
    let mut samples = [0; FRAME_SAMPLES];
    match volumes {
        None => {
            for (sample, sum) in samples.iter_mut().zip(sums) {
                *sample = *sum as i16;
            }
        }
        Some(volumes) => {
            for ((sample, sum), volume) in samples.iter_mut().zip(sums).zip(volumes) {
                *sample = limiter::scaled(*sum, *volume);
            }
        }
    }
    samples
}
