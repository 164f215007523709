//! What a listener tells its program, and what it counts.

use crate::{
    audio::{Delivered, Gap},
    id::{RoomId, TrackId},
};

/// Something about one track, in the order of its time line.
#[derive(Debug, Clone, PartialEq)]
pub struct Heard {
    /// The room.
    pub room: RoomId,
    /// The track.
    pub track: TrackId,
    /// What.
    pub what: Sounds,
}

/// What can be heard of a track.
#[derive(Debug, Clone, PartialEq)]
pub enum Sounds {
    /// The track is heard for the first time, or again after it was closed.
    Opened {
        /// The epoch it is heard under.
        epoch: u64,
        /// The participant as the SDK names it.
        user: String,
        /// Its role.
        role: String,
    },
    /// The next batch.
    Batch(Delivered),
    /// Batches that will not come.
    Gap(Gap),
    /// The room was given to a worker anew; positions run on.
    Epoch {
        /// Before.
        from: u64,
        /// From here on.
        to: u64,
    },
    /// The track is not heard any more.
    Closed(Ending),
}

/// Why a track is not heard any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// Its worker said so: nothing is missing at its end.
    Last,
    /// Nothing came for [`crate::limits::LISTEN_SILENT`].
    Silent,
    /// The listener was stopped.
    Stopped,
}

impl Ending {
    /// The word for it in messages and tables.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Last => "last",
            Self::Silent => "silent",
            Self::Stopped => "stopped",
        }
    }
}

/// What a listener has seen so far, all its tracks together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize)]
pub struct ListenStats {
    /// Tracks known.
    pub tracks: u64,
    /// Batches passed on in order.
    pub batches: u64,
    /// Slots of 20 ms in them.
    pub frames: u64,
    /// Batches received that were there already.
    pub duplicates: u64,
    /// Batches that were missing and came.
    pub recovered: u64,
    /// Batches that were given up.
    pub lost: u64,
    /// Gaps declared.
    pub gaps: u64,
    /// Batches asked for, each time counted.
    pub asked: u64,
    /// Times missing batches were looked for in what is recorded.
    pub searched: u64,
    /// Batches ignored because another epoch has replaced theirs.
    pub stale_epochs: u64,
    /// Messages that are no batch or event.
    pub bad: u64,
    /// Batches thrown away on purpose.
    pub thrown_away: u64,
    /// Batches left on the way because the program did not take what was there.
    pub too_slow: u64,
    /// Batches of tracks beyond the bound.
    pub refused: u64,
}
