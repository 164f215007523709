//! What a listener wants done.

use std::{sync::Arc, time::Duration};

use super::{heard::Heard, inquiry::Question, track::Search};
use crate::{
    bus::messages::Nack,
    id::{RoomId, TrackId},
};

/// What is to be done.
#[derive(Debug, PartialEq)]
pub enum Output {
    /// Tell the program.
    Heard(Heard),
    /// Send this NACK and hand its answer to [`super::Ears::answer`].
    Ask(Ask),
    /// Look for these in what is recorded, hand what is found to [`super::Ears::past`]
    /// and then the look to [`super::Ears::looked`].
    Look(Look),
}

/// Batches to be looked for in what is recorded.
#[derive(Debug, Clone, PartialEq)]
pub struct Look {
    /// The room.
    pub room: RoomId,
    /// The track.
    pub track: TrackId,
    /// Which of its batches.
    pub search: Search,
}

/// A NACK to be sent.
#[derive(Debug, PartialEq)]
pub struct Ask {
    /// The room.
    pub room: RoomId,
    /// The track.
    pub track: TrackId,
    /// The request.
    pub nack: Nack,
    /// How long its answer is waited for.
    pub within: Duration,
    /// To be handed back with the answer.
    pub asked: Asked,
}

/// What a NACK asked for, to be handed back with its answer.
#[derive(Debug, PartialEq)]
pub struct Asked {
    pub(super) key: Arc<str>,
    pub(super) question: Question,
}
