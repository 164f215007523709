//! The slots of a batch as runs of one state each, kept in place: a batch of
//! speech with a pause in it costs no allocation.

use super::frame::SlotState;
use crate::limits::{BATCH_MAX_RUNS, BATCH_MAX_SLOTS};

/// Slots in a row that are in the same state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Run {
    /// What they are.
    pub state: SlotState,
    /// How many, at least one.
    pub count: u8,
}

/// The runs of a batch: 1 to 50 slots once it is complete.
#[derive(Clone, Copy)]
pub struct Runs {
    len: u8,
    slots: u8,
    runs: [(u8, u8); BATCH_MAX_RUNS],
}

impl Default for Runs {
    fn default() -> Self {
        Self { len: 0, slots: 0, runs: [(0, 0); BATCH_MAX_RUNS] }
    }
}

impl Runs {
    /// `count` slots of one state; what is over 50 is left out.
    #[must_use]
    pub fn of(state: SlotState, count: u8) -> Self {
        let mut runs = Self::default();
        runs.push(state, count);
        runs
    }

    /// Adds slots at the end, up to 50 in all, and says how many it took. A
    /// state that is the last one's lengthens that run.
    pub fn push(&mut self, state: SlotState, count: u8) -> u8 {
        let room = BATCH_MAX_SLOTS as u8 - self.slots;
        let count = count.min(room);
        if count == 0 {
            return 0;
        }
        let state = state.to_wire();
        let last = self.runs[..usize::from(self.len)].last_mut();
        match last {
            Some(run) if run.0 == state => run.1 += count,
            // Each run has a slot at least, and there are as many places for
            // runs as slots.
            _ => {
                self.runs[usize::from(self.len)] = (state, count);
                self.len += 1;
            }
        }
        self.slots += count;
        count
    }

    /// Leaves out the first slots, and says how many of them were audio.
    pub(super) fn skip(&mut self, slots: u8) -> u8 {
        let (mut left, mut audio, mut kept) = (slots, 0, Self::default());
        for run in self.iter() {
            let skipped = run.count.min(left);
            left -= skipped;
            audio += if run.state.is_audio() { skipped } else { 0 };
            kept.push(run.state, run.count - skipped);
        }
        *self = kept;
        audio
    }

    /// The runs in order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = Run> + '_ {
        self.raw().iter().map(|&(state, count)| Run { state: SlotState::from_wire(state), count })
    }

    /// The runs as they stand on the wire.
    pub(super) fn raw(&self) -> &[(u8, u8)] {
        &self.runs[..usize::from(self.len)]
    }

    /// All slots.
    #[must_use]
    pub fn slots(&self) -> u8 {
        self.slots
    }

    /// Slots of audio, the ones with samples.
    #[must_use]
    pub fn audio_slots(&self) -> u8 {
        self.iter().filter(|run| run.state.is_audio()).map(|run| run.count).sum()
    }

    /// Slots at the beginning that only tell that something is missing.
    pub(super) fn unknown_slots(&self) -> u8 {
        self.iter().take_while(|run| !run.state.is_known()).map(|run| run.count).sum()
    }

    /// Whether every slot is audio.
    #[must_use]
    pub fn all_audio(&self) -> bool {
        self.audio_slots() == self.slots
    }
}

impl std::fmt::Debug for Runs {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.iter().map(|run| (run.state, run.count))).finish()
    }
}

impl PartialEq for Runs {
    fn eq(&self, other: &Self) -> bool {
        self.raw() == other.raw()
    }
}
impl Eq for Runs {}
