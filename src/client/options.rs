//! What a listener is told: which tracks, under which name, how patient it is,
//! and what it throws away on purpose.

use std::time::Duration;

use crate::{
    id::{SubscriberId, TrackId},
    limits,
};

/// Which tracks of a room are listened to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Tracks {
    /// Every one, also those that open later.
    All,
    /// These alone.
    Some(Vec<TrackId>),
}

/// Batches thrown away as they come, to show that they are recovered.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct DropOnPurpose {
    /// The share that is thrown away: 0.0 to 1.0.
    pub fraction: f64,
    /// Where the choice begins: the same seed throws away the same ones.
    pub seed: u64,
    /// Whether those that were asked for again may be lost as well.
    pub again: bool,
}

/// Where in a room's time listening begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum From {
    /// With what is said from now on.
    #[default]
    Now,
    /// So long ago: up to [`limits::RING_AGE`] out of what workers keep, and more
    /// of rooms that are recorded.
    Ago(Duration),
    /// With the first that was recorded of it and is still there. Of tracks that
    /// are not recorded, with what the worker keeps.
    RoomStart,
}

impl From {
    /// How much of it the worker may have.
    pub(super) fn preroll(self) -> Duration {
        match self {
            Self::Now => Duration::ZERO,
            Self::Ago(time) => time.min(limits::RING_AGE),
            Self::RoomStart => limits::RING_AGE,
        }
    }
}

/// See the module.
#[derive(Debug, Clone)]
pub struct ListenOptions {
    /// Which tracks.
    pub tracks: Tracks,
    /// The name under which missing batches are asked for.
    pub subscriber: SubscriberId,
    /// How long a missing batch is waited for before it is declared a gap.
    /// What comes after it waits as long, so a short one bounds the delay.
    pub deadline: Duration,
    /// Where it begins.
    pub from: From,
    /// Whether what the worker has no more is looked for in what is recorded,
    /// where the track is. Whoever may not read that is told once, in the log.
    pub recorded: bool,
    /// What is thrown away.
    pub drop: Option<DropOnPurpose>,
}

impl Default for ListenOptions {
    /// Every track, patient for as long as a worker keeps its batches.
    fn default() -> Self {
        Self {
            tracks: Tracks::All,
            subscriber: SubscriberId::fresh(),
            deadline: limits::REORDER_DEADLINE,
            from: From::Now,
            recorded: true,
            drop: None,
        }
    }
}
