//! What is really said in the room: who is there, and what each of them says at
//! each moment of the room's own time, which all adapters hear.

use fastrand::Rng;

/// Samples in a slot of 20 ms.
pub const SLOT: i64 = 320;
/// A slot in µs.
pub const SLOT_US: i64 = 20_000;

/// What somebody does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Act {
    /// Speaks.
    Talk,
    /// Sends zeros.
    Zeros,
    /// Is quiet, and the adapter says so.
    Idle,
    /// Is muted.
    Muted,
    /// Is not in the room.
    Away,
}

/// Somebody, by slots of the room's time from 0 on.
#[derive(Debug)]
pub struct Person {
    pub user: String,
    base: u16,
    /// One after the last slot of each act.
    acts: Vec<(i64, Act)>,
}

/// How people behave.
#[derive(Debug, Clone, Copy)]
pub struct Manners {
    pub people: usize,
    /// Of ten acts that many are being away.
    pub away: u8,
    /// Of ten acts that many are being muted.
    pub muted: u8,
    /// The longest act, in slots.
    pub longest: i64,
}

impl Person {
    pub fn new(index: usize, manners: Manners, slots: i64, rng: &mut Rng) -> Self {
        let mut acts: Vec<(i64, Act)> = Vec::new();
        let mut end = 0;
        while end < slots {
            let act = match rng.u8(0..10) {
                roll if roll < manners.away => Act::Away,
                roll if roll < manners.away + manners.muted => Act::Muted,
                7 => Act::Zeros,
                8 => Act::Idle,
                _ => Act::Talk,
            };
            end += rng.i64(1..=manners.longest);
            // Somebody is there when the room begins.
            let act = if acts.is_empty() && act == Act::Away { Act::Talk } else { act };
            acts.push((end, act));
        }
        Self { user: format!("user-{index}"), base: (9_973 * index) as u16, acts }
    }

    pub fn at(&self, slot: i64) -> Act {
        let at = self.acts.partition_point(|(end, _)| *end <= slot);
        self.acts.get(at).map_or(Act::Away, |(_, act)| *act)
    }

    /// The samples of a slot: each is the one before and one.
    pub fn pcm(&self, slot: i64) -> &'static [u8] {
        let first = usize::from(self.base.wrapping_add((slot * SLOT) as u16));
        &ramp()[2 * first..2 * (first + SLOT as usize)]
    }

    /// The index nearest to `near` of a first sample.
    pub fn index(&self, sample: u16, near: i64) -> i64 {
        let off = sample.wrapping_sub(self.base).wrapping_sub(near as u16);
        near + i64::from(off as i16)
    }

    /// How many samples are right, of those that begin at an index.
    pub fn right(&self, index: i64, pcm: &[u8]) -> usize {
        let first = usize::from(self.base.wrapping_add(index as u16));
        let said = &ramp()[2 * first..2 * first + pcm.len()];
        if said == pcm {
            return pcm.len() / 2;
        }
        let both = said.chunks_exact(2).zip(pcm.chunks_exact(2));
        both.take_while(|(said, heard)| said == heard).count()
    }
}

/// Two rounds of all samples.
pub fn ramp() -> &'static [u8] {
    static RAMP: std::sync::OnceLock<Vec<u8>> = std::sync::OnceLock::new();
    RAMP.get_or_init(|| (0..2 << 16).flat_map(|at| (at as u16).to_le_bytes()).collect())
}

impl Person {
    /// What is done around a slot, for whoever reads of a failure.
    pub fn around(&self, slot: i64) -> String {
        let acts = (slot - 30..slot + 30).map(|at| match self.at(at) {
            Act::Talk => 'T',
            Act::Zeros => '0',
            Act::Idle => '.',
            Act::Muted => 'm',
            Act::Away => ' ',
        });
        acts.collect()
    }
}
