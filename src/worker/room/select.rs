//! Which of the room's tracks are pulled, and what becomes of them where that
//! changes while the room runs.

use super::{Effects, Room, position};
use crate::{bus::messages::RoomNews, id::TrackId, sdk::pipe::ToAdapter, task::Pull};

/// A track that the adapter has open and nobody wants: it may be wanted later.
#[derive(Debug)]
pub(super) struct Offered {
    pub(super) user: String,
    pub(super) role: String,
    pub(super) muted: bool,
}

impl Room {
    /// Whether a participant of this role is pulled.
    pub(super) fn selects(&self, role: &str) -> bool {
        self.spec.pull.as_ref().is_some_and(|pull| {
            pull.participants && (pull.roles.is_empty() || pull.roles.iter().any(|it| it == role))
        })
    }

    /// Something else is pulled from now on: tracks that are no longer wanted
    /// end, and those that are wanted now begin.
    pub fn update(&mut self, pull: Pull, now: i64, fx: &mut Effects) {
        self.spec.pull = Some(pull);
        // A raw adapter has one track, and its user no role.
        if self.is_raw() {
            return;
        }
        for index in 0..self.tracks.len() {
            let track = &self.tracks[index];
            let about = track.writer.track();
            if !track.is_open() || self.selects(&about.role) {
                continue;
            }
            let (user, role, muted) = (track.user.clone(), about.role.clone(), track.muted);
            if let Some(stream) = track.stream {
                self.say(&ToAdapter::Subscribe { stream, on: false }, fx);
                self.others.insert(stream, Offered { user, role, muted });
            }
            self.close_track(index, now, fx);
        }
        let wanted: Vec<u16> = (self.others.iter())
            .filter(|(_, offered)| self.selects(&offered.role))
            .map(|(stream, _)| *stream)
            .collect();
        for stream in wanted {
            self.begin(stream, now, fx);
        }
    }

    /// Begins to pull a track that the adapter has open.
    fn begin(&mut self, stream: u16, now: i64, fx: &mut Effects) {
        let Some(Offered { user, role, muted }) = self.others.remove(&stream) else { return };
        let id = TrackId::of_user(&user);
        if self.tracks.iter().any(|track| track.id == id && track.stream.is_some()) {
            self.others.insert(stream, Offered { user, role, muted });
            return;
        }
        self.open_track(stream, None, user, role, now, fx);
        self.say(&ToAdapter::Subscribe { stream, on: true }, fx);
        let index = self.streams.get(usize::from(stream)).copied().flatten();
        if let Some(index) = index.filter(|_| muted) {
            let track = &mut self.tracks[index];
            track.muted = true;
            track.writer.mute(None);
            let pos = position(self.origin.position(now));
            fx.news(pos, now, RoomNews::Muted { track: id });
        }
    }
}
