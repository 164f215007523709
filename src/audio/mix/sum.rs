//! The sum of all that is said, as integers that cannot overflow, with what
//! each slot is made of. Which slots are complete is `mix`'s.

use crate::{
    audio::frame::SlotState,
    limits::{FRAME_SAMPLES, MIX_SLOTS_MAX},
};

/// Positions in a slot.
pub(super) const SLOT: u64 = FRAME_SAMPLES as u64;
/// Slots there is room for at first: a batch, and the one that is being said.
const SLOTS_FIRST: usize = 16;

/// The states that came together in a slot, a bit each.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct States(u8);

impl States {
    /// Whether somebody is heard in it.
    pub(super) fn has_audio(self) -> bool {
        self.has(SlotState::Audio)
    }

    fn has(self, state: SlotState) -> bool {
        self.0 & bit(state) != 0
    }

    /// What the mix of them is: what tells most.
    pub(super) fn mixed(self) -> SlotState {
        use SlotState::{Absent, Audio, Dropped, Lost, Muted, Redacted, Silence, Stalled};
        if self.has(Muted) && !self.has(Audio) {
            return Silence;
        }
        let order = [Audio, Silence, Redacted, Dropped, Lost, Stalled];
        order.into_iter().find(|state| self.has(*state)).unwrap_or(Absent)
    }
}

fn bit(state: SlotState) -> u8 {
    match state.to_wire() {
        number @ 0..=7 => 1 << number,
        _ => 0,
    }
}

/// A circle of slots, each with a sum for every channel.
#[derive(Debug)]
pub(super) struct Sum {
    channels: usize,
    /// Slots in the circle, a power of two.
    slots: usize,
    /// One channel behind the other.
    planes: Vec<i32>,
    states: Vec<States>,
}

impl Sum {
    pub(super) fn new(channels: usize) -> Self {
        let slots = SLOTS_FIRST;
        Self {
            channels,
            slots,
            planes: vec![0; channels * slots * FRAME_SAMPLES],
            states: vec![States::default(); slots],
        }
    }

    /// Makes room for so many samples, at most [`MIX_SLOTS_MAX`] slots. The
    /// lowest position that is in use is that of the slot at `lowest`.
    pub(super) fn hold(&mut self, lowest: u64, samples: u64) {
        let need = usize::try_from(samples.div_ceil(SLOT)).unwrap_or(usize::MAX);
        debug_assert!(need <= MIX_SLOTS_MAX);
        if need <= self.slots {
            return;
        }
        let mut larger = Self::new(self.channels);
        larger.slots = need.min(MIX_SLOTS_MAX).next_power_of_two();
        larger.planes = vec![0; self.channels * larger.slots * FRAME_SAMPLES];
        larger.states = vec![States::default(); larger.slots];
        for at in (0..self.slots as u64).map(|slot| lowest + slot * SLOT) {
            let index = larger.index(at);
            larger.states[index] = self.states[self.index(at)];
            for channel in 0..self.channels {
                let from = self.start(channel, at);
                let to = larger.start(channel, at);
                larger.planes[to..to + FRAME_SAMPLES]
                    .copy_from_slice(&self.planes[from..from + FRAME_SAMPLES]);
            }
        }
        *self = larger;
    }

    fn index(&self, pos: u64) -> usize {
        (pos / SLOT) as usize & (self.slots - 1)
    }

    fn start(&self, channel: usize, pos: u64) -> usize {
        (channel * self.slots + self.index(pos)) * FRAME_SAMPLES
    }

    /// Adds s16le samples to the channels whose bit is set.
    pub(super) fn add(&mut self, channels: u8, pos: u64, pcm: &[u8]) {
        self.each_part(channels, pos, pcm.len() / 2, |sum, from, count| {
            let pcm = &pcm[2 * from..2 * (from + count)];
            for (sum, two) in sum.iter_mut().zip(pcm.chunks_exact(2)) {
                *sum += i32::from(i16::from_le_bytes([two[0], two[1]]));
            }
        });
    }

    /// Adds numbers to the channels whose bit is set.
    pub(super) fn add_numbers(&mut self, channels: u8, pos: u64, numbers: &[i32]) {
        self.each_part(channels, pos, numbers.len(), |sum, from, count| {
            for (sum, number) in sum.iter_mut().zip(&numbers[from..from + count]) {
                *sum += number;
            }
        });
    }

    /// Hands out the sums of a stretch, slot after slot, with where in the
    /// stretch they begin and how many they are.
    fn each_part(
        &mut self,
        channels: u8,
        pos: u64,
        count: usize,
        mut act: impl FnMut(&mut [i32], usize, usize),
    ) {
        for channel in (0..self.channels).filter(|channel| channels & 1 << channel != 0) {
            let mut done = 0;
            while done < count {
                let at = pos + done as u64;
                let inside = (at % SLOT) as usize;
                let part = (FRAME_SAMPLES - inside).min(count - done);
                let start = self.start(channel, at) + inside;
                act(&mut self.planes[start..start + part], done, part);
                done += part;
            }
        }
    }

    /// Notes what somebody is in all slots that a stretch touches.
    pub(super) fn mark(&mut self, pos: u64, end: u64, state: SlotState) {
        let mut at = pos - pos % SLOT;
        while at < end {
            let index = self.index(at);
            self.states[index].0 |= bit(state);
            at += SLOT;
        }
    }

    pub(super) fn states(&self, pos: u64) -> States {
        self.states[self.index(pos)]
    }

    /// The sums of one channel in the slot at `pos`.
    pub(super) fn slot(&self, channel: usize, pos: u64) -> &[i32; FRAME_SAMPLES] {
        let start = self.start(channel, pos);
        self.planes[start..start + FRAME_SAMPLES].try_into().expect("a slot has that length")
    }

    /// Empties the slot at `pos`.
    pub(super) fn clear(&mut self, pos: u64) {
        let index = self.index(pos);
        if std::mem::take(&mut self.states[index]).has_audio() {
            for channel in 0..self.channels {
                let start = self.start(channel, pos);
                self.planes[start..start + FRAME_SAMPLES].fill(0);
            }
        }
    }

    /// Empties all.
    pub(super) fn clear_all(&mut self) {
        self.planes.fill(0);
        self.states.fill(States::default());
    }
}
