//! What a track's slots turned out to be, for whoever mixes them: handed on when
//! they go out, for good, as their batch has them.

use std::collections::VecDeque;

use super::frame::{Format, SlotState};
use crate::limits::WRITER_MAX_SLOTS;

/// Slots in a row of one state.
#[derive(Debug)]
struct Stretch {
    pos: u64,
    state: SlotState,
    samples: u64,
}

/// A stretch of a track at the front of its tap.
#[derive(Debug, PartialEq, Eq)]
pub struct Tapped<'a> {
    /// Position of its first sample.
    pub pos: u64,
    /// What it is.
    pub state: SlotState,
    /// How long it is.
    pub samples: u64,
    /// Its samples where it is audio, else none.
    pub pcm: &'a [u8],
}

/// See the module. Of what nobody takes the oldest is kept, up to a bound: a
/// mixer that far behind has its deadline long behind it.
#[derive(Debug)]
pub struct Tap {
    format: Format,
    stretches: VecDeque<Stretch>,
    /// The audio, and how much of it was taken.
    pcm: Vec<u8>,
    taken: usize,
}

impl Tap {
    pub(super) fn new(format: Format) -> Self {
        Self { format, stretches: VecDeque::new(), pcm: Vec::new(), taken: 0 }
    }

    /// Slots of a state stand at a position; `pcm` are their samples where they
    /// are audio.
    pub(super) fn note(&mut self, pos: u64, state: SlotState, count: u64, pcm: &[u8]) {
        let samples = count * self.format.slot_samples();
        let full = WRITER_MAX_SLOTS * self.format.slot_bytes();
        if self.stretches.len() >= WRITER_MAX_SLOTS || self.pcm.len() - self.taken >= full {
            return;
        }
        self.pcm.extend_from_slice(pcm);
        match self.stretches.back_mut() {
            Some(last) if last.state == state && last.pos + last.samples == pos => {
                last.samples += samples;
            }
            _ => self.stretches.push_back(Stretch { pos, state, samples }),
        }
    }

    /// What was not taken yet, the oldest of it.
    #[must_use]
    pub fn front(&self) -> Option<Tapped<'_>> {
        let &Stretch { pos, state, samples } = self.stretches.front()?;
        let bytes = if state.is_audio() { self.bytes(samples) } else { 0 };
        Some(Tapped { pos, state, samples, pcm: &self.pcm[self.taken..self.taken + bytes] })
    }

    /// Takes so many samples from the front.
    pub fn take(&mut self, samples: u64) {
        let Some(front) = self.stretches.front_mut() else { return };
        let samples = samples.min(front.samples);
        let audio = front.state.is_audio();
        front.pos += samples;
        front.samples -= samples;
        if front.samples == 0 {
            self.stretches.pop_front();
        }
        if audio {
            self.taken += self.bytes(samples);
        }
        if self.taken == self.pcm.len() {
            self.pcm.clear();
            self.taken = 0;
        } else if self.taken > self.pcm.len() / 2 {
            self.pcm.drain(..self.taken);
            self.taken = 0;
        }
    }

    fn bytes(&self, samples: u64) -> usize {
        samples as usize * self.format.sample_bytes()
    }
}
