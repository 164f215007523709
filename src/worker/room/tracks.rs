//! The tracks of a room: who opens one, whom it belongs to, and when it is
//! closed.

use super::{Effects, Room, Stage, Word, mixes::Opening, position, track::Track, wanted::track_of};
use crate::{
    audio,
    bus::{messages::RoomNews, subjects::Lane},
    limits,
};

impl Room {
    pub(super) fn joined(&mut self, now: i64, fx: &mut Effects) {
        self.stage = Stage::Joined;
        // Who is not there again in a while is gone.
        for track in self.tracks.iter_mut().filter(|track| track.orphan.is_some()) {
            track.orphan = Some(now);
        }
        self.people.look_again(now);
        self.update_mixes(now, fx);
        fx.say(Word::Joined);
    }

    /// Sees to it that there are the mixes that the task names, once the room
    /// was joined.
    pub(super) fn update_mixes(&mut self, now: i64, fx: &mut Effects) {
        if self.stage != Stage::Joined && !self.mixes.are_open() {
            return;
        }
        let (lane, batch_slots, origin) = (self.lane(), self.batch_slots(), self.origin);
        let (spec, numbers) = (&self.spec, &mut self.numbers);
        let opening = Opening { spec, lane, origin, batch_slots, numbers, now };
        self.mixes.update(&mut self.tracks, opening, fx);
    }

    /// Opens a track from a position on, or opens one again that was closed.
    pub(super) fn open_track(
        &mut self,
        stream: u16,
        at: Option<i64>,
        user: String,
        role: String,
        now: i64,
        fx: &mut Effects,
    ) {
        let start = at.unwrap_or_else(|| self.origin.position(now));
        let wanted = self.wanted(&user, &role);
        let Some(pull) = &self.spec.pull else { return };
        let id = track_of(&pull.mix, &user);
        let index = match self.tracks.iter().position(|track| track.id == id) {
            Some(index) => index,
            None => {
                let mut about =
                    audio::Track::new(self.spec.epoch.0, &user, &role, self.origin, start);
                about.batch_slots = self.batch_slots();
                let number = self.mixes.last_of(&id).map(|(number, _)| number);
                let number = number.unwrap_or_else(|| {
                    self.numbers += 1;
                    self.numbers
                });
                let lane = self.lane();
                let track = Track::new(&self.spec.room, lane, number, id.clone(), about, now);
                match self.replaceable(now, fx) {
                    Some(index) => {
                        self.mixes.leave(&mut self.tracks[index]);
                        self.tracks[index] = track;
                        index
                    }
                    None => {
                        self.tracks.push(track);
                        self.tracks.len() - 1
                    }
                }
            }
        };
        let track = &mut self.tracks[index];
        if let Some((_, seq)) = self.mixes.last_of(&id) {
            track.writer.follow(seq, start);
        }
        track.on_bus = wanted.own;
        track.role.clone_from(&role);
        self.mixes.select(track, &wanted, start);
        if track.stream.is_none() {
            self.mixes.expect(track, start);
        }
        if let Some(at) = at.filter(|_| track.writer.next_seq() > 0) {
            // It was away until then.
            track.writer.unmute(Some(at));
        }
        if track.orphan.is_none() && track.leaving.is_none() && track.on_bus {
            let news = RoomNews::TrackOpened { track: id, user, role };
            fx.news(position(start), now, news);
        }
        (track.stream, track.orphan, track.leaving) = (Some(stream), None, None);
        (track.closed_at, track.muted) = (None, false);
        let stream = usize::from(stream);
        if self.streams.len() <= stream {
            self.streams.resize(stream + 1, None);
        }
        self.streams[stream] = Some(index);
    }

    pub(super) fn lane(&self) -> Lane {
        match self.spec.pull.as_ref().is_some_and(|pull| pull.record) {
            true => Lane::Rec,
            false => Lane::Live,
        }
    }

    /// The place of the track closed longest ago, where too many are kept; one
    /// that may come back still is closed for it.
    fn replaceable(&mut self, now: i64, fx: &mut Effects) -> Option<usize> {
        if self.tracks.len() < limits::TRACKS_KEPT {
            return None;
        }
        let tracks = || self.tracks.iter().enumerate();
        let closed = tracks().filter_map(|(at, it)| Some((it.closed_at?, at)));
        if let Some((_, index)) = closed.min() {
            return Some(index);
        }
        let leaving = tracks().filter_map(|(at, it)| Some((it.leaving?, at)));
        let (_, index) = leaving.min()?;
        self.close_track(index, now, fx);
        Some(index)
    }

    /// The adapter's number for a track is nobody's any more.
    pub(super) fn forget_stream(&mut self, index: usize) {
        let stream = self.tracks[index].stream.map(usize::from);
        if let Some(place) = stream.and_then(|stream| self.streams.get_mut(stream))
            && *place == Some(index)
        {
            *place = None;
        }
    }

    pub(super) fn close_track(&mut self, index: usize, now: i64, fx: &mut Effects) {
        self.forget_stream(index);
        let track = &mut self.tracks[index];
        let left = track.leaving;
        track.shut(None, now, fx);
        if track.on_bus {
            let (time, pos) = left.unwrap_or_else(|| (now, position(track.writer.end())));
            let news = RoomNews::TrackClosed { track: track.id.clone(), user: track.user.clone() };
            fx.news(pos, time, news);
        }
    }
}
