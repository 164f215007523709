//! One participant inside a mix: how far it has spoken, and where it comes in
//! and goes.

use super::{
    ramp::{self, Ramp},
    sum::Sum,
};
use crate::{audio::frame::SlotState, limits::MIX_RAMP_SAMPLES as RAMP};

/// See the module.
#[derive(Debug)]
pub(super) struct Source {
    /// A bit for each channel it is heard in.
    channels: u8,
    /// Position up to which it has said what it has.
    end: u64,
    /// What it is where it was not heard of in time.
    standing: SlotState,
    /// Whether nothing is to be expected of it.
    away: bool,
    /// Position from which it was heard in full, once that is known.
    whole: Option<u64>,
    /// Steps of the ramp it has come up; none: it is not in.
    risen: Option<usize>,
    /// What it added last, which must go down where nothing follows.
    tail: Ramp,
    tail_len: usize,
}

impl Source {
    /// One that says nothing yet, and is waited for from a position on.
    pub(super) fn new(channels: u8, from: u64) -> Self {
        Self {
            channels,
            end: from,
            standing: SlotState::Stalled,
            away: false,
            whole: None,
            risen: None,
            tail: [0; RAMP],
            tail_len: 0,
        }
    }

    /// Position up to which nothing it says can change the sum.
    pub(super) fn known(&self) -> u64 {
        if self.away { u64::MAX } else { self.tail_start() }
    }

    fn tail_start(&self) -> u64 {
        self.end - self.tail_len as u64
    }

    /// Position up to which it has spoken, where it is there.
    pub(super) fn present_to(&self) -> Option<u64> {
        (!self.away).then_some(self.end)
    }

    /// It is away, and not waited for.
    pub(super) fn away(&mut self, sum: &mut Sum) {
        self.shut(sum);
        self.away = true;
    }

    /// It is there, and waited for from a position on.
    pub(super) fn expect(&mut self, from: u64, sum: &mut Sum) {
        self.away = false;
        if from > self.end {
            self.shut(sum);
            self.end = from;
        }
    }

    /// Position from which it was heard in full; none: it has not said yet what
    /// it does.
    pub(super) fn whole(&self) -> Option<u64> {
        self.whole
    }

    pub(super) fn end(&self) -> u64 {
        self.end
    }

    /// Adds samples; what belongs before `settled` is left out. Says how many
    /// those were.
    pub(super) fn audio(&mut self, pos: u64, pcm: &[u8], settled: u64, sum: &mut Sum) -> u64 {
        let samples = pcm.len() as u64 / 2;
        let late = settled.max(self.end).saturating_sub(pos).min(samples);
        self.standing = SlotState::Stalled;
        let (at, pcm) = (pos + late, &pcm[2 * late as usize..]);
        if pcm.is_empty() {
            return late;
        }
        if at != self.end {
            self.shut(sum);
        }
        self.whole.get_or_insert(at + RAMP as u64);
        self.end = pos + samples;
        sum.mark(at, self.end, SlotState::Audio);
        let rise = self.rise(at, pcm, sum);
        let (at, pcm) = (at + rise as u64, &pcm[2 * rise..]);
        sum.add(self.channels, at, pcm);
        // Of what is added as it is only the end has to be kept.
        let last = pcm.len().saturating_sub(2 * RAMP);
        self.keep(pcm[last..].chunks_exact(2).map(sample));
        late
    }

    /// Adds the first samples of one that comes in, and says how many.
    fn rise(&mut self, at: u64, pcm: &[u8], sum: &mut Sum) -> usize {
        let risen = self.risen.unwrap_or(0);
        let count = (RAMP - risen).min(pcm.len() / 2);
        if count > 0 {
            let mut ramp = [0; RAMP];
            for (number, two) in ramp.iter_mut().zip(pcm.chunks_exact(2).take(count)) {
                *number = sample(two);
            }
            ramp::up(&mut ramp[..count], risen);
            sum.add_numbers(self.channels, at, &ramp[..count]);
            self.keep(ramp[..count].iter().copied());
        }
        self.risen = Some(risen + count);
        count
    }

    /// Says what it is, without samples, over a stretch.
    pub(super) fn quiet(&mut self, pos: u64, samples: u64, state: SlotState, sum: &mut Sum) {
        let (at, end) = (pos.max(self.end), pos + samples);
        // Zeros go on where sound was before, and sound on them.
        let silent = state == SlotState::Silence;
        if silent || state == SlotState::Muted {
            self.whole.get_or_insert(at);
        }
        if !silent || at != self.end {
            self.shut(sum);
        }
        self.risen = if silent { Some(RAMP) } else { None };
        self.tail_len = 0;
        self.standing = match state {
            SlotState::Muted | SlotState::Absent => state,
            _ => SlotState::Stalled,
        };
        if end > at {
            self.end = end;
        }
    }

    /// The mix goes on up to a position without it. Says whether it should have
    /// been heard of.
    pub(super) fn leave_out(&mut self, to: u64, sum: &mut Sum) -> bool {
        if self.known() >= to {
            return false;
        }
        self.shut(sum);
        self.end = self.end.max(to);
        self.standing == SlotState::Stalled
    }

    /// What it is where the mix goes on without it.
    pub(super) fn standing(&self) -> SlotState {
        self.standing
    }

    /// It goes: what it said last goes down.
    pub(super) fn shut(&mut self, sum: &mut Sum) {
        if self.tail_len > 0 {
            let mut change = self.tail;
            let change = &mut change[RAMP - self.tail_len..];
            ramp::down(change);
            for (change, was) in change.iter_mut().zip(&self.tail[RAMP - self.tail_len..]) {
                *change -= was;
            }
            sum.add_numbers(self.channels, self.tail_start(), change);
        }
        (self.risen, self.tail_len) = (None, 0);
    }

    /// Keeps the end of what was added.
    fn keep(&mut self, added: impl ExactSizeIterator<Item = i32>) {
        let count = added.len();
        self.tail.copy_within(count.., 0);
        for (tail, sample) in self.tail[RAMP - count..].iter_mut().zip(added) {
            *tail = sample;
        }
        self.tail_len = (self.tail_len + count).min(RAMP);
    }
}

fn sample(two: &[u8]) -> i32 {
    i32::from(i16::from_le_bytes([two[0], two[1]]))
}
