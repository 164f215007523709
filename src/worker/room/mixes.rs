//! The mixes of a room: who is in which, and what is published of them. How
//! they are mixed is `audio::Mixer`'s; what goes in comes from the tracks' taps,
//! where each slot passes when it goes out.

use std::collections::BTreeMap;

use super::{
    Effects, Spec, position,
    track::Track,
    wanted::{Part, Wanted},
};
use crate::{
    audio::{self, Format, MixStats, Mixer, Origin, SlotState},
    bus::{messages::RoomNews, subjects::Lane},
    id::TrackId,
    limits,
    task::Mix,
};

#[derive(Debug)]
struct Made {
    mixer: Mixer,
    track: Track,
    told: MixStats,
    /// Position before which it is no match for the mix of the worker that
    /// still serves the room; none: there is no such worker.
    partial: Option<u64>,
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Mixes {
    /// Those of the task, in its order, once the room is joined.
    made: Vec<Made>,
    /// Number and next sequence number of those that have ended.
    retired: BTreeMap<TrackId, (u32, u64)>,
    open: bool,
    /// Another worker goes on with them.
    over: bool,
}

/// What the tracks of mixes are made with.
pub(super) struct Opening<'a> {
    pub(super) spec: &'a Spec,
    pub(super) lane: Lane,
    pub(super) origin: Origin,
    pub(super) batch_slots: u8,
    /// The number of the last track the room has had.
    pub(super) numbers: &'a mut u32,
    pub(super) now: i64,
}

impl Mixes {
    /// Whether there was a time for them to begin.
    pub(super) fn are_open(&self) -> bool {
        self.open
    }

    /// Begins those that the task names and there are not, and ends the others.
    pub(super) fn update(
        &mut self,
        tracks: &mut [Track],
        mut opening: Opening<'_>,
        fx: &mut Effects,
    ) {
        let mixes = opening.spec.pull.as_ref().map_or(&[][..], |pull| &pull.mix);
        let mut before: Vec<Option<Made>> = self.made.drain(..).map(Some).collect();
        let mut places = vec![None; before.len()];
        for (made, place) in before.iter_mut().zip(&mut places) {
            let is = |made: &Made, mix: &Mix| {
                made.track.id == mix.name
                    && usize::from(made.mixer.format().channels) == mix.channels.len()
            };
            *place = made.as_ref().and_then(|it| mixes.iter().position(|mix| is(it, mix)));
            if let Some(made) = made.take_if(|_| place.is_none()) {
                self.retire(made, opening.now, fx);
            }
        }
        for (at, mix) in mixes.iter().enumerate() {
            let stays = places.iter().position(|place| *place == Some(at));
            let stays = stays.and_then(|place| before[place].take());
            let made = stays.unwrap_or_else(|| self.begin(mix, tracks, &mut opening, fx));
            self.made.push(made);
        }
        for track in tracks {
            track.parts.retain_mut(|part| {
                let place = places.get(part.mix).copied().flatten();
                part.mix = place.unwrap_or(part.mix);
                place.is_some()
            });
        }
        self.open = true;
    }

    /// A mix begins; one that had its name before goes on counting.
    fn begin(
        &mut self,
        mix: &Mix,
        tracks: &[Track],
        opening: &mut Opening<'_>,
        fx: &mut Effects,
    ) -> Made {
        let Opening { spec, lane, origin, batch_slots, now, .. } = *opening;
        let start = origin.position(now);
        let mixer = Mixer::new(mix.channels.len() as u8);
        let mut about = audio::Track::new(spec.epoch.0, "", "", origin, start);
        (about.format, about.batch_slots) = (mixer.format(), batch_slots);
        let namesake = tracks.iter().find(|track| track.id == mix.name);
        let namesake = namesake.map(|track| (track.number, track.writer.next_seq()));
        let (number, seq) = self.last_of(&mix.name).max(namesake).unwrap_or_else(|| {
            *opening.numbers += 1;
            (*opening.numbers, 0)
        });
        let mut track = Track::new(&spec.room, lane, number, mix.name.clone(), about, now);
        track.writer.follow(seq, start);
        let (user, role) = (String::new(), String::new());
        let news = RoomNews::TrackOpened { track: track.id.clone(), user, role };
        fx.news(position(start), now, news);
        let limit = Format::default().samples(limits::HANDOVER_MAX);
        let partial = (spec.taken_over && !self.open).then(|| position(start) + limit);
        Made { mixer, track, told: MixStats::default(), partial }
    }

    /// A mix ends, and may be wanted again.
    fn retire(&mut self, mut made: Made, now: i64, fx: &mut Effects) {
        while let Some(slot) = made.mixer.finish() {
            made.track.writer.slot(slot.pos, slot.state, slot.pcm);
        }
        made.track.shut(None, now, fx);
        let Track { id, user, number, writer, .. } = made.track;
        let end = position(writer.end());
        fx.news(end, now, RoomNews::TrackClosed { track: id.clone(), user });
        if self.retired.len() < limits::TRACKS_KEPT || self.retired.contains_key(&id) {
            self.retired.insert(id, (number, writer.next_seq()));
        }
    }

    /// Number and next sequence number of a mix that had this name.
    pub(super) fn last_of(&self, id: &TrackId) -> Option<(u32, u64)> {
        self.retired.get(id).copied()
    }

    /// Whether there are any.
    pub(super) fn are_any(&self) -> bool {
        !self.made.is_empty()
    }

    /// Whether so many slots of every mix that anybody is in have been on the bus.
    pub(super) fn are_heard(&self, least: u64) -> bool {
        self.made.iter().all(|made| made.mixer.is_empty() || made.track.has_told(least))
    }

    /// Puts a track into the mixes it is wanted in, from a position on, and
    /// takes it out of the others.
    pub(super) fn select(&mut self, track: &mut Track, wanted: &Wanted, from: i64) {
        for (mix, made) in self.made.iter_mut().enumerate() {
            let channels = wanted.channels.get(mix).copied().unwrap_or(0);
            if track.parts.iter().any(|part| part.mix == mix && part.channels == channels) {
                continue;
            }
            track.parts.retain(|part| {
                let other = part.mix != mix;
                if !other {
                    made.mixer.leave(part.key);
                }
                other
            });
            if channels != 0 {
                let key = made.mixer.join(channels, position(from));
                track.parts.push(Part { mix, channels, key });
            }
        }
        track.writer.set_tapped(!track.parts.is_empty());
    }

    /// A track whose adapter was gone is open again.
    pub(super) fn expect(&mut self, track: &Track, from: i64) {
        for part in &track.parts {
            self.made[part.mix].mixer.expect(part.key, position(from));
        }
    }

    /// Takes a track out of all mixes.
    pub(super) fn leave(&mut self, track: &mut Track) {
        for part in track.parts.drain(..) {
            if let Some(made) = self.made.get_mut(part.mix) {
                made.mixer.leave(part.key);
            }
        }
        track.writer.set_tapped(false);
    }

    /// Mixes what the tracks have said, as far as all have said it or the
    /// deadline is, and publishes what is due.
    pub(super) fn settle(
        &mut self,
        tracks: &mut [Track],
        deadline: i64,
        now: i64,
        fx: &mut Effects,
    ) {
        if self.made.is_empty() {
            return;
        }
        while self.feed(tracks) | self.make(now, fx, |mixer| Mixer::next(mixer, deadline)) {}
        for track in tracks.iter_mut().filter(|track| !track.parts.is_empty()) {
            let all_said = track.writer.tap().is_none_or(|tap| tap.front().is_none());
            if !track.is_open() && all_said {
                self.leave(track);
            }
            // One that nobody has open is not waited for until somebody has.
            for part in track.parts.iter().filter(|_| track.stream.is_none() && all_said) {
                self.made[part.mix].mixer.away(part.key);
            }
        }
        for made in &mut self.made {
            made.track.settle_mix(now, fx);
        }
    }

    /// The epoch is over: what was said is mixed, and each mix says its last.
    pub(super) fn close(&mut self, tracks: &mut [Track], now: i64, fx: &mut Effects) {
        while self.feed(tracks) | self.make(now, fx, Mixer::finish) {}
        self.end(tracks, now, fx);
    }

    /// As [`Mixes::close`], but nobody falls silent: what all have said is mixed
    /// as it is, and who takes the room over has what follows.
    pub(super) fn hand_over(&mut self, tracks: &mut [Track], now: i64, fx: &mut Effects) {
        self.over = true;
        while self.feed(tracks) | self.make(now, fx, Mixer::hand_over) {}
        self.end(tracks, now, fx);
    }

    fn end(&mut self, tracks: &mut [Track], now: i64, fx: &mut Effects) {
        for track in tracks {
            self.leave(track);
        }
        for made in self.made.drain(..) {
            let Made { mut track, .. } = made;
            track.end(now, fx);
            let (id, user) = (track.id.clone(), track.user.clone());
            let end = position(track.writer.end());
            fx.news(end, now, RoomNews::TrackClosed { track: id, user });
        }
    }

    /// Hands what the tracks have said to the mixers, as far as they have room
    /// for it; whether that was anything.
    fn feed(&mut self, tracks: &mut [Track]) -> bool {
        let mut any = false;
        for track in tracks.iter_mut().filter(|track| !track.parts.is_empty()) {
            let Track { parts, writer, .. } = track;
            let Some(tap) = writer.tap() else { continue };
            while let Some(said) = tap.front() {
                let rooms = parts.iter().map(|part| self.made[part.mix].mixer.room(said.pos));
                let room = rooms.min().unwrap_or(u64::MAX).saturating_sub(said.pos);
                let samples = said.samples.min(room);
                if samples == 0 {
                    break;
                }
                // That a track ends here is not to be heard where another goes on.
                let heard = !(self.over && said.state == SlotState::Absent);
                for part in parts.iter().filter(|_| heard) {
                    let mixer = &mut self.made[part.mix].mixer;
                    if said.state.is_audio() {
                        mixer.audio(part.key, said.pos, &said.pcm[..2 * samples as usize]);
                    } else {
                        mixer.quiet(part.key, said.pos, samples, said.state);
                    }
                }
                tap.take(samples);
                any = true;
            }
        }
        any
    }

    /// Makes slots of all mixes; whether there were any.
    fn make(
        &mut self,
        now: i64,
        fx: &mut Effects,
        mut next: impl for<'a> FnMut(&'a mut Mixer) -> Option<audio::Mixed<'a>>,
    ) -> bool {
        let mut any = false;
        for made in &mut self.made {
            made.track.writer.borrow(&mut fx.spare);
            let whole = made.mixer.whole_from().unwrap_or(u64::MAX);
            while let Some(slot) = next(&mut made.mixer) {
                // While some are still to come in, listeners go on hearing the
                // other worker: what is absent here is no reason to leave it.
                made.partial = made.partial.filter(|most| slot.pos < whole.min(*most));
                match made.partial {
                    Some(_) => made.track.writer.slot(slot.pos, SlotState::Absent, &[]),
                    None => made.track.writer.slot(slot.pos, slot.state, slot.pcm),
                }
                any = true;
            }
            made.track.publish_full(now, fx);
            let (stats, told) = (made.mixer.stats(), made.told);
            fx.tally.mix_left_out += stats.left_out - told.left_out;
            fx.tally.mix_late_samples += stats.late_samples - told.late_samples;
            fx.tally.mix_limited += stats.limited - told.limited;
            made.told = stats;
        }
        any
    }
}
