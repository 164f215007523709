//! What the frames of an adapter mean for its room.

use super::{
    Effects, Room, Stage, Word, clock::strayed, position, select::Offered, wanted::track_of,
};
use crate::{
    audio::Timeline,
    bus::messages::RoomNews,
    limits,
    sdk::pipe::{
        Audio, Decoder, Frame, FromAdapter, Hello, Join, MediaClock, PROTOCOL, Refusal, Sounds,
        ToAdapter, Track, Welcome,
    },
};

impl Room {
    pub(super) fn take_frames(&mut self, mut bytes: &[u8], now: i64, fx: &mut Effects) {
        // The decoder lends its frames, so it steps outside meanwhile.
        let mut decoder = std::mem::replace(&mut self.decoder, Decoder::from_adapter());
        while let Some(frame) = decoder.next(&mut bytes) {
            let sound = frame.sound().filter(|_| self.stage == Stage::Joined);
            if let Some(audio) = sound {
                let header = frame.header;
                self.audio(&audio, now, fx);
                let more = decoder.sounds(&header, &mut bytes);
                if !more.is_empty() && !self.go_on(more, now, fx) {
                    more.each().for_each(|audio| self.audio(&audio, now, fx));
                }
            } else {
                self.take_frame(frame, now, fx);
            }
            if self.deaf {
                break;
            }
        }
        self.decoder = decoder;
    }

    fn take_frame(&mut self, frame: Frame<'_>, now: i64, fx: &mut Effects) {
        match FromAdapter::parse(frame) {
            Ok(message) => self.hear(message, now, fx),
            Err(error @ Refusal::NotUnderstood { .. }) => {
                self.last_word(Word::Broken(error.to_string()), fx);
            }
            Err(error @ Refusal::Malformed { .. }) => {
                fx.tally.refused += 1;
                self.tell(now, RoomNews::AdapterError { message: error.to_string() }, fx);
            }
        }
    }

    fn hear(&mut self, message: FromAdapter<'_>, now: i64, fx: &mut Effects) {
        match message {
            FromAdapter::Hello(hello) => self.greet(&hello, fx),
            FromAdapter::Joined { now: pts, clock } if self.stage == Stage::Greeted => {
                let wall = self.origin.position(now);
                let line = match self.clock == MediaClock::Unix || clock == MediaClock::Unix {
                    true => Timeline::unix(self.origin, pts, wall),
                    false => Timeline::new(self.origin.rate, pts, wall),
                };
                if !line.keeps_its_word() {
                    self.tell(now, strayed(pts, now), fx);
                }
                self.timeline = Some(line);
                self.clock_joined(pts, now);
                self.joined(now, fx);
            }
            FromAdapter::Error { message, fatal } => {
                self.tell(now, RoomNews::AdapterError { message: message.clone() }, fx);
                if fatal {
                    self.last_word(Word::Fatal(message), fx);
                }
            }
            FromAdapter::Bye { reason } => self.last_word(Word::Bye(reason), fx),
            // What follows has a meaning in the room only.
            _ if self.stage != Stage::Joined => fx.tally.refused += 1,
            FromAdapter::Audio(audio) => self.audio(&audio, now, fx),
            FromAdapter::Idle { stream, pts } => {
                // As far as can be told; most say it for each frame.
                let at = self.observe_end(stream, pts, limits::FRAME_SAMPLES as i64, now, fx);
                self.with(stream, fx, |room, index, _| {
                    let track = &mut room.tracks[index];
                    track.heard = true;
                    track.writer.idle(at);
                });
            }
            FromAdapter::Lost { stream, from, to } => {
                let (from, to) = self.observe_span(stream, (from, to), now, fx);
                self.with(stream, fx, |room, index, _| {
                    let track = &mut room.tracks[index];
                    track.heard = true;
                    track.writer.lost(from, to);
                });
            }
            FromAdapter::Muted { stream, pts } => self.mute(stream, pts, true, now, fx),
            FromAdapter::Unmuted { stream, pts } => self.mute(stream, pts, false, now, fx),
            FromAdapter::ParticipantJoined(who) => self.participant(who, now, fx),
            FromAdapter::ParticipantLeft { user } => self.participant_left(user, now, fx),
            FromAdapter::TrackOpened { stream, pts, track } => {
                self.track_opened(stream, pts, track, now, fx);
            }
            FromAdapter::TrackClosed { stream, pts } => {
                let at = self.observe(stream, pts, now, fx);
                if self.others.remove(&stream).is_some() {
                    return;
                }
                self.with(stream, fx, |room, index, fx| room.leave_track(index, at, now, fx));
            }
            FromAdapter::MarkReached { name, .. } => {
                let from = self.spec.push.as_deref().unwrap_or_default();
                let source = from.rsplit('.').next().unwrap_or_default().to_owned();
                self.tell(now, RoomNews::MarkReached { source, name }, fx);
            }
            FromAdapter::Flow { go } => self.flowing = go,
            FromAdapter::Stats { now: pts, .. } => self.clock_read(pts),
            // Nothing more is made of these yet than the adapter's good will.
            FromAdapter::Joined { .. } | FromAdapter::Played { .. } => {}
        }
    }

    fn audio(&mut self, audio: &Audio<'_>, now: i64, fx: &mut Effects) {
        let at = self.observe(audio.stream, audio.pts, now, fx);
        let track = self.streams.get(usize::from(audio.stream)).copied().flatten();
        let Some(track) = track.map(|index| &mut self.tracks[index]) else {
            // It may not have heard yet that nobody wants it any more.
            fx.tally.refused += u64::from(!self.others.contains_key(&audio.stream));
            return;
        };
        track.heard = true;
        track.writer.borrow(&mut fx.spare);
        track.writer.audio(Some(at), audio.pcm);
        fx.tally.frames += 1;
    }

    /// Frames that go on where one ended that was just taken in. Does nothing and
    /// answers false where they need to be looked at one by one.
    fn go_on(&mut self, sounds: Sounds<'_>, now: i64, fx: &mut Effects) -> bool {
        let Some(line) = &mut self.timeline else { return false };
        let track = self.streams.get(usize::from(sounds.stream())).copied().flatten();
        let Some(track) = track.map(|index| &mut self.tracks[index]) else { return false };
        let (wall, last) = (self.origin.position(now), sounds.last_pts());
        if line.is_ahead(line.position(last), wall) {
            return false;
        }
        // What the line makes of times it makes of the last.
        line.observe(last, wall);
        track.writer.go_on(sounds.pcm());
        fx.tally.frames += sounds.len() as u64;
        true
    }

    fn greet(&mut self, hello: &Hello, fx: &mut Effects) {
        if self.stage != Stage::Started {
            return;
        }
        if hello.protocol != PROTOCOL {
            let text = format!(
                "{} speaks protocol {} of the pipe and this worker {PROTOCOL}",
                hello.name, hello.protocol
            );
            self.last_word(Word::Broken(text), fx);
            return;
        }
        (self.stage, self.clock) = (Stage::Greeted, hello.clock);
        let welcome = Welcome {
            protocol: PROTOCOL,
            worker: self.spec.worker.clone(),
            rate: limits::SAMPLE_RATE,
            channels: 1,
        };
        let join = Join {
            room: self.spec.room.clone(),
            task: self.spec.task.clone(),
            params: self.spec.params.clone(),
            pull: self.spec.pull.is_some(),
            push: self.spec.push.is_some(),
        };
        self.say(&ToAdapter::Welcome(welcome), fx);
        self.say(&ToAdapter::Join(join), fx);
    }

    fn track_opened(&mut self, stream: u16, pts: i64, track: Track, now: i64, fx: &mut Effects) {
        let at = self.observe(stream, pts, now, fx);
        if let Some(index) = self.streams.get(usize::from(stream)).copied().flatten() {
            self.leave_track(index, at, now, fx);
        }
        let role = track
            .role
            .or_else(|| self.people.role(&track.user).map(str::to_owned))
            .unwrap_or_default();
        self.others.remove(&stream);
        let Some(pull) = &self.spec.pull else { return };
        if !self.wanted(&track.user, &role).any() {
            let offered = Offered { user: track.user, role, muted: false };
            self.others.insert(stream, offered);
            return;
        }
        let id = track_of(&pull.mix, &track.user);
        let other = self.tracks.iter().find(|it| it.id == id).and_then(|it| it.stream);
        if let Some(other) = other {
            let message = format!(
                "{:?} has an open track already (stream {other}): stream {stream} is not taken",
                track.user
            );
            self.tell(now, RoomNews::AdapterError { message }, fx);
            return;
        }
        self.open_track(stream, Some(at), track.user, role, now, fx);
        self.say(&ToAdapter::Subscribe { stream, on: true }, fx);
    }

    fn mute(&mut self, stream: u16, pts: i64, muted: bool, now: i64, fx: &mut Effects) {
        let at = self.observe(stream, pts, now, fx);
        if let Some(offered) = self.others.get_mut(&stream) {
            offered.muted = muted;
            return;
        }
        self.with(stream, fx, |room, index, fx| {
            let track = &mut room.tracks[index];
            if track.muted == muted {
                return;
            }
            track.muted = muted;
            track.heard = true;
            let id = track.id.clone();
            let news = if muted {
                // What was said before does not wait for a sweep.
                track.writer.mute(Some(at));
                track.flush(now, fx);
                RoomNews::Muted { track: id }
            } else {
                track.writer.unmute(Some(at));
                RoomNews::Unmuted { track: id }
            };
            room.tell_at(position(at), now, now, news, fx);
        });
    }

    /// Does something with the track of a stream; one that was not asked for
    /// is nobody's, and one that is no longer wanted is let be.
    fn with(
        &mut self,
        stream: u16,
        fx: &mut Effects,
        act: impl FnOnce(&mut Self, usize, &mut Effects),
    ) {
        match self.streams.get(usize::from(stream)).copied().flatten() {
            Some(index) => act(self, index, fx),
            None => fx.tally.refused += u64::from(!self.others.contains_key(&stream)),
        }
    }

    /// News that an adapter can make at will, as many as its listeners can
    /// stand.
    pub(super) fn tell(&mut self, now: i64, news: RoomNews, fx: &mut Effects) {
        self.tell_at(position(self.origin.position(now)), now, now, news, fx);
    }

    /// The same of another moment than now.
    pub(super) fn tell_at(
        &mut self,
        pos: u64,
        time: i64,
        now: i64,
        news: RoomNews,
        fx: &mut Effects,
    ) {
        if self.voice.take(1, now) == 1 {
            fx.news(pos, time, news);
        } else {
            fx.tally.unsaid += 1;
        }
    }
}
