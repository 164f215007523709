//! What an open track is, and what comes out of its writer.

use bytes::Bytes;

use super::{frame::Format, timeline::Origin};
use crate::limits::BATCH_FRAMES;

/// What stays the same about a track while it is open.
#[derive(Debug, Clone)]
pub struct Track {
    /// Rate and channels of what the adapter sends.
    pub format: Format,
    /// Epoch of the assignment.
    pub epoch: u64,
    /// The participant as the SDK names it.
    pub user: String,
    /// Its role as the SDK names it.
    pub role: String,
    /// Where the room's time line begins.
    pub origin: Origin,
    /// Slots in a full batch, 1 to 50.
    pub batch_slots: u8,
    /// Position at which the track was opened: where a track that says nothing
    /// begins.
    pub start: i64,
}

impl Track {
    /// A track of the usual format and batch length that opens at `start`.
    #[must_use]
    pub fn new(epoch: u64, user: &str, role: &str, origin: Origin, start: i64) -> Self {
        Self {
            format: Format::default(),
            epoch,
            user: user.to_owned(),
            role: role.to_owned(),
            origin,
            batch_slots: BATCH_FRAMES,
            start,
        }
    }
}

/// An encoded batch and what the worker needs to know of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Encoded {
    /// Its sequence number.
    pub seq: u64,
    /// Position of its first slot.
    pub pos: u64,
    /// Its slots.
    pub slots: u8,
    /// Its `FLAG_…` bits.
    pub flags: u32,
    /// The payload to publish and keep.
    pub payload: Bytes,
}

/// What a track has published so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct WriterStats {
    /// Batches.
    pub batches: u64,
    /// Bytes of payload.
    pub bytes: u64,
    /// Slots by the number of their state.
    pub slots: [u64; 8],
    /// Samples that came after their slots had been published as stalled, or a
    /// second time, and were cut off.
    pub late_samples: u64,
    /// Jumps of the position and steps of the adapter's clock.
    pub discontinuities: u64,
}
