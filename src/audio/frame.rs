//! What a slot of 20 ms can be, and how many samples and bytes it has in a
//! given format. Batches of slots are `batch`'s.

use crate::limits::{BATCH_MAX_CHANNELS, BATCH_RATES, SAMPLE_RATE};

/// Slots in a second: 1 s ÷ 20 ms.
pub const SLOTS_PER_S: u32 = 50;

/// The first audio after something else begins in this batch.
pub const FLAG_TALK_SPURT: u32 = 1;
/// This batch was sent before.
pub const FLAG_RESENT: u32 = 2;
/// The track says nothing more in this epoch.
pub const FLAG_LAST: u32 = 4;
/// The position or the adapter's clock jumped before this batch.
pub const FLAG_DISCONTINUITY: u32 = 8;

/// What a slot is. Only [`SlotState::Audio`] has samples.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum SlotState {
    /// Samples.
    Audio,
    /// Exact zeros, or nothing to say.
    Silence,
    /// The participant is muted.
    Muted,
    /// The participant or track is not there.
    Absent,
    /// The SDK says that it was lost on its way to us.
    Lost,
    /// Nothing came from the adapter although it should have.
    Stalled,
    /// Taken out on purpose.
    Redacted,
    /// Dropped by us, for want of room or time.
    Dropped,
    /// A state of a later version: no samples, nothing else is known.
    Unknown(u8),
}

impl SlotState {
    /// The state behind a number on the wire; never fails.
    #[must_use]
    pub fn from_wire(number: u8) -> Self {
        match number {
            0 => Self::Audio,
            1 => Self::Silence,
            2 => Self::Muted,
            3 => Self::Absent,
            4 => Self::Lost,
            5 => Self::Stalled,
            6 => Self::Redacted,
            7 => Self::Dropped,
            other => Self::Unknown(other),
        }
    }

    /// The number on the wire.
    #[must_use]
    pub fn to_wire(self) -> u8 {
        match self {
            Self::Audio => 0,
            Self::Silence => 1,
            Self::Muted => 2,
            Self::Absent => 3,
            Self::Lost => 4,
            Self::Stalled => 5,
            Self::Redacted => 6,
            Self::Dropped => 7,
            Self::Unknown(other) => other,
        }
    }

    /// Whether it tells what was to be heard; else it only tells that something
    /// is missing, which another worker may have.
    #[must_use]
    pub(super) fn is_known(self) -> bool {
        !matches!(self, Self::Absent | Self::Lost | Self::Stalled | Self::Dropped)
    }

    /// Whether a slot in this state has samples.
    #[must_use]
    pub fn is_audio(self) -> bool {
        self == Self::Audio
    }
}

/// Sample rate and channels of s16le samples.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Format {
    /// Samples of one channel in a second.
    pub rate: u32,
    /// Interleaved channels.
    pub channels: u8,
}

impl Default for Format {
    /// The format of the bus: 16 kHz mono.
    fn default() -> Self {
        Self { rate: SAMPLE_RATE, channels: 1 }
    }
}

impl Format {
    /// Whether a batch may have this format: a known range, and a whole number
    /// of samples in a slot.
    #[must_use]
    pub fn is_valid(self) -> bool {
        BATCH_RATES.contains(&self.rate)
            && self.rate.is_multiple_of(SLOTS_PER_S)
            && (1..=BATCH_MAX_CHANNELS).contains(&self.channels)
    }

    /// Positions on the time line that a slot covers.
    #[must_use]
    pub fn slot_samples(self) -> u64 {
        u64::from(self.rate / SLOTS_PER_S)
    }

    /// Bytes of one sample of all channels.
    #[must_use]
    pub fn sample_bytes(self) -> usize {
        2 * usize::from(self.channels)
    }

    /// Bytes of a slot of audio.
    #[must_use]
    pub fn slot_bytes(self) -> usize {
        (self.rate / SLOTS_PER_S) as usize * self.sample_bytes()
    }

    /// Samples in a duration, rounded down.
    #[must_use]
    pub fn samples(self, time: std::time::Duration) -> u64 {
        let rate = u64::from(self.rate);
        let part = u64::from(time.subsec_micros()) * rate / 1_000_000;
        time.as_secs().saturating_mul(rate).saturating_add(part)
    }
}
