//! Which of the room's tracks are pulled and mixed, and what becomes of them
//! where that changes while the room runs.

use super::{
    Effects, Room, position,
    wanted::{Wanted, track_of},
};
use crate::{audio::Format, bus::messages::RoomNews, sdk::pipe::ToAdapter, task::Pull};

/// A track that the adapter has open and nobody wants: it may be wanted later.
#[derive(Debug)]
pub(super) struct Offered {
    pub(super) user: String,
    pub(super) role: String,
    pub(super) muted: bool,
}

impl Room {
    /// What is wanted of a participant.
    pub(super) fn wanted(&self, user: &str, role: &str) -> Wanted {
        let Some(pull) = &self.spec.pull else { return Wanted::default() };
        let mut wanted = Wanted::of(pull, user, role);
        // A raw adapter has one track, and its user no role.
        wanted.own |= pull.participants && self.is_raw();
        wanted
    }

    /// Something else is pulled from now on: tracks that are no longer wanted
    /// end, and those that are wanted now begin.
    pub fn update(&mut self, pull: Pull, now: i64, fx: &mut Effects) {
        self.spec.pull = Some(pull);
        // A mix may have got the name of somebody's track.
        let renamed = |room: &Self, index: usize| {
            let (pull, track) = (room.spec.pull.as_ref(), &room.tracks[index]);
            pull.is_some_and(|pull| track_of(&pull.mix, &track.user) != track.id)
        };
        for index in 0..self.tracks.len() {
            if !self.tracks[index].is_open() {
                continue;
            }
            let track = &self.tracks[index];
            let wanted = self.wanted(&track.user, &track.role);
            if self.is_raw() || wanted.any() && !renamed(self, index) {
                continue;
            }
            let (user, role, muted) = (track.user.clone(), track.role.clone(), track.muted);
            if let Some(stream) = track.stream {
                if !wanted.any() {
                    self.say(&ToAdapter::Subscribe { stream, on: false }, fx);
                }
                self.others.insert(stream, Offered { user, role, muted });
            }
            self.close_track(index, now, fx);
        }
        self.update_mixes(now, fx);
        for index in 0..self.tracks.len() {
            if self.tracks[index].is_open() {
                self.keep(index, now, fx);
            }
        }
        let wanted: Vec<u16> = (self.others.iter())
            .filter(|(_, offered)| self.wanted(&offered.user, &offered.role).any())
            .map(|(stream, _)| *stream)
            .collect();
        for stream in wanted {
            self.begin(stream, now, fx);
        }
    }

    /// A track stays open, and has another part than before: published or not,
    /// in these mixes or those.
    fn keep(&mut self, index: usize, now: i64, fx: &mut Effects) {
        let wanted = self.wanted(&self.tracks[index].user, &self.tracks[index].role);
        let track = &mut self.tracks[index];
        let before = track.on_bus;
        let waits = track.writer.pending_slots() * Format::default().slot_samples();
        let end = track.writer.end() - waits as i64;
        let (id, user, role) = (track.id.clone(), track.user.clone(), track.role.clone());
        if wanted.own && !before {
            track.on_bus = true;
            fx.news(position(end), now, RoomNews::TrackOpened { track: id, user, role });
        } else if !wanted.own && before {
            track.withdraw(now, fx);
            fx.news(position(end), now, RoomNews::TrackClosed { track: id, user });
        }
        self.mixes.select(track, &wanted, end);
    }

    /// Begins to pull a track that the adapter has open.
    fn begin(&mut self, stream: u16, now: i64, fx: &mut Effects) {
        let Some(Offered { user, role, muted }) = self.others.remove(&stream) else { return };
        let id = track_of(self.spec.pull.as_ref().map_or(&[], |pull| &pull.mix), &user);
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
