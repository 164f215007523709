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

/// Batches thrown away as they come, to show that they are recovered. Those
/// that were asked for again are kept.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct DropOnPurpose {
    /// The share that is thrown away: 0.0 to 1.0.
    pub fraction: f64,
    /// Where the choice begins: the same seed throws away the same ones.
    pub seed: u64,
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
            drop: None,
        }
    }
}
