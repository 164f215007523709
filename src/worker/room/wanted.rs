//! What a task wants of a participant: a track of its own, a part in mixes,
//! both or neither.

use crate::{
    audio::SourceKey,
    id::TrackId,
    task::{Mix, Pull},
};

/// See the module.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Wanted {
    /// A track of its own on the bus.
    pub(super) own: bool,
    /// Its voice in the mixes: a bit for each channel.
    pub(super) channels: Vec<u8>,
}

impl Wanted {
    /// What a task wants of a participant: asked when its track opens, and to
    /// be asked again where the task or the participant's role changes.
    pub(super) fn of(pull: &Pull, user: &str, role: &str) -> Self {
        Self {
            own: pull.has_track_of(role),
            channels: pull.mix.iter().map(|mix| mix.channels_of(user, role)).collect(),
        }
    }

    /// Whether its audio is wanted at all.
    pub(super) fn any(&self) -> bool {
        self.own || self.channels.iter().any(|channels| *channels != 0)
    }
}

/// The part that a track has in a mix.
#[derive(Debug, Clone, Copy)]
pub(super) struct Part {
    /// The mix, by its place in the task.
    pub(super) mix: usize,
    /// A bit for each channel it is heard in.
    pub(super) channels: u8,
    /// Its name there.
    pub(super) key: SourceKey,
}

/// The track of a participant: its own name, unless a mix has that.
pub(super) fn track_of(mixes: &[Mix], user: &str) -> TrackId {
    let id = TrackId::of_user(user);
    if mixes.iter().any(|mix| mix.name == id) { TrackId::of_user_apart(user) } else { id }
}
