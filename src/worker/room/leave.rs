//! Who leaves and is back at once was never away: a leave is kept back for as
//! long as an SDK takes to reconnect, and told with the time at which it was.

use std::collections::BTreeMap;

use super::{Effects, Room, position};
use crate::{bus::messages::RoomNews, limits, sdk::pipe::Participant};

/// [`limits::LEAVE_HOLD`] in µs.
const HOLD_US: i64 = limits::LEAVE_HOLD.as_micros() as i64;

/// Who is in the room, and who has just left.
#[derive(Debug, Default)]
pub(super) struct People {
    /// Name and role by user, as PARTICIPANT_JOINED gave them.
    here: BTreeMap<String, (String, String)>,
    /// Since when somebody is not there.
    left: BTreeMap<String, i64>,
    /// The adapter is gone that said so: nobody knows who is there.
    unknown: bool,
}

impl People {
    /// The role of a user.
    pub(super) fn role(&self, user: &str) -> Option<&str> {
        self.here.get(user).map(|(_, role)| role.as_str())
    }

    /// The adapter is gone.
    pub(super) fn lose_sight(&mut self) {
        self.unknown = true;
    }

    /// The next adapter is in the room, since a moment, and says who is there.
    pub(super) fn look_again(&mut self, since: i64) {
        if std::mem::take(&mut self.unknown) {
            for user in self.here.keys() {
                self.left.entry(user.clone()).or_insert(since);
            }
        }
    }
}

impl Room {
    pub(super) fn participant(&mut self, who: Participant, now: i64, fx: &mut Effects) {
        let about = (who.name.unwrap_or_default(), who.role.unwrap_or_default());
        let left = self.people.left.remove(&who.user);
        let known = self.people.here.get(&who.user) == Some(&about);
        if let Some(at) = left {
            if known {
                return;
            }
            self.tell_left(who.user.clone(), at, now, fx);
        }
        if known || self.people.here.len() < limits::TRACKS_KEPT {
            self.people.here.insert(who.user.clone(), about.clone());
        }
        let (name, role) = about;
        self.tell(now, RoomNews::ParticipantJoined { user: who.user, name, role }, fx);
    }

    pub(super) fn participant_left(&mut self, user: String, now: i64, fx: &mut Effects) {
        if self.people.here.contains_key(&user) {
            self.people.left.entry(user).or_insert(now);
        } else {
            self.tell_left(user, now, now, fx);
        }
    }

    fn tell_left(&mut self, user: String, at: i64, now: i64, fx: &mut Effects) {
        let pos = position(self.origin.position(at));
        self.tell_at(pos, at, now, RoomNews::ParticipantLeft { user }, fx);
    }

    /// The adapter has closed a track: it is absent, and closed in a while.
    pub(super) fn leave_track(&mut self, index: usize, at: i64, now: i64, fx: &mut Effects) {
        self.forget_stream(index);
        self.tracks[index].leave(at, now, fx);
    }

    /// Closes the tracks that a new adapter does not open again.
    pub(super) fn close_orphans(&mut self, now: i64, fx: &mut Effects) {
        let keep = limits::ORPHAN_KEEP.as_micros() as i64;
        for index in 0..self.tracks.len() {
            if self.tracks[index].orphan.is_some_and(|since| now - since > keep) {
                self.close_track(index, now, fx);
            }
        }
    }

    /// Tells of those who have not come back.
    pub(super) fn tell_leaves(&mut self, now: i64, fx: &mut Effects) {
        let gone = |since: i64| now.saturating_sub(since) >= HOLD_US;
        for index in 0..self.tracks.len() {
            if self.tracks[index].leaving.is_some_and(|(since, _)| gone(since)) {
                self.close_track(index, now, fx);
            }
        }
        self.tell_who_left(now, gone, fx);
    }

    /// Tells of people who left at such times.
    pub(super) fn tell_who_left(&mut self, now: i64, gone: impl Fn(i64) -> bool, fx: &mut Effects) {
        let left = &mut self.people.left;
        // Until the next adapter has joined nobody is known to be away.
        if left.is_empty() || self.people.unknown {
            return;
        }
        for (user, at) in left.extract_if(.., |_, since| gone(*since)).collect::<Vec<_>>() {
            self.people.here.remove(&user);
            self.tell_left(user, at, now, fx);
        }
    }
}
