//! All that a listener knows: its tracks, keyed by their subjects, what is due
//! for each and when. Pure: messages, answers and time are handed in, what is to
//! be said and asked is handed out. One of it serves hundreds of rooms, so a
//! message costs one look-up and no search through the others.

mod heard;
mod inquiry;
mod track;

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::Bound,
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;

pub use heard::{Ending, Heard, ListenStats, Sounds};
use inquiry::Question;
pub use track::Answer;
use track::{Out, Track};

use super::options::{DropOnPurpose, ListenOptions, Tracks};
use crate::{
    audio::{Batch, ReorderStats},
    bus::{
        incoming::read_json,
        messages::{Nack, RoomEvent, RoomNews},
        subjects::parse_track,
    },
    id::{RoomId, SubscriberId, TrackId},
    limits,
    task::Epoch,
};

/// While nothing may be asked, what is due is looked at this often.
const HOLD: Duration = Duration::from_millis(20);

/// What is to be done.
#[derive(Debug, PartialEq)]
pub enum Output {
    /// Tell the program.
    Heard(Heard),
    /// Send this NACK and hand its answer to [`Ears::answer`].
    Ask(Ask),
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
    /// To be handed back with the answer.
    pub asked: Asked,
}

/// What a NACK asked for, to be handed back with its answer.
#[derive(Debug, PartialEq)]
pub struct Asked {
    key: Arc<str>,
    question: Question,
}

/// See the module.
#[derive(Debug)]
pub struct Ears {
    subscriber: SubscriberId,
    deadline: Duration,
    /// The tracks that are wanted; none: all.
    wanted: Option<BTreeSet<TrackId>>,
    drop: Option<(DropOnPurpose, fastrand::Rng)>,
    /// By `<room>.<track>`.
    tracks: BTreeMap<Arc<str>, Track>,
    due: BTreeSet<(Instant, Arc<str>)>,
    /// NACKs without an answer so far.
    in_flight: usize,
    since: Instant,
    /// Whether the server is there.
    connected: bool,
    /// Whether the program takes what it is told.
    keeping_up: bool,
    /// Whether a track was ever forgotten: a new one may then be an old one.
    forgetful: bool,
    stats: ListenStats,
}

impl Ears {
    /// Ears that have heard nothing yet.
    #[must_use]
    pub fn new(options: &ListenOptions, now: Instant) -> Self {
        Self {
            subscriber: options.subscriber.clone(),
            deadline: options.deadline.min(limits::LISTEN_SILENT),
            wanted: match &options.tracks {
                Tracks::All => None,
                Tracks::Some(tracks) => Some(tracks.iter().cloned().collect()),
            },
            drop: options.drop.map(|drop| (drop, fastrand::Rng::with_seed(drop.seed))),
            tracks: BTreeMap::new(),
            due: BTreeSet::new(),
            in_flight: 0,
            since: now,
            connected: true,
            keeping_up: true,
            forgetful: false,
            stats: ListenStats::default(),
        }
    }

    /// What was seen so far.
    #[must_use]
    pub fn stats(&self) -> ListenStats {
        ListenStats { tracks: self.tracks.len() as u64, ..self.stats }
    }

    /// Takes in whatever came.
    pub fn message(&mut self, subject: &str, payload: &Bytes, now: Instant, out: &mut Vec<Output>) {
        let Some((kind, rest)) =
            subject.strip_prefix("audio.").and_then(|rest| rest.split_once('.'))
        else {
            self.stats.bad += 1;
            return;
        };
        match kind {
            "live" | "rec" => {
                if !self.keeping_up {
                    self.stats.too_slow += 1;
                } else if self.thrown_away() {
                    self.stats.thrown_away += 1;
                } else {
                    self.batch(subject, rest, payload, now, out);
                }
            }
            "resend" => {
                // The last token is our own name.
                let key = rest.rsplit_once('.').map_or(rest, |(key, _)| key);
                self.batch(subject, key, payload, now, out);
            }
            "event" => self.event(rest, payload, now, out),
            _ => self.stats.bad += 1,
        }
    }

    fn thrown_away(&mut self) -> bool {
        self.drop.as_mut().is_some_and(|(drop, random)| random.f64() < drop.fraction)
    }

    fn batch(
        &mut self,
        subject: &str,
        key: &str,
        payload: &Bytes,
        now: Instant,
        out: &mut Vec<Output>,
    ) {
        // A payload shares its buffer of 64 kB with its neighbours, and a batch
        // may be held for seconds: it is copied, unless it is none by its size.
        let batch = if payload.len() > limits::BATCH_MAX_BYTES {
            Batch::decode(payload)
        } else {
            Batch::decode(&Bytes::copy_from_slice(payload))
        };
        let batch = match batch {
            Ok(batch) => batch,
            Err(error) => return self.bad(key, &error.to_string()),
        };
        let key = match self.tracks.get_key_value(key) {
            Some((key, _)) => key.clone(),
            None => {
                let Some((room, track)) = parse_track(subject) else {
                    return self.bad(key, "the subject names no track");
                };
                let whole = !self.forgetful
                    && now.saturating_duration_since(self.since) >= limits::LISTEN_SETTLED;
                let Some(key) = self.open(room, track, whole, now) else {
                    self.stats.refused += 1;
                    return;
                };
                key
            }
        };
        self.with(&key, now, out, |track, out| track.batch(batch, now, out));
    }

    /// Counts what is no batch. The first of a track is logged.
    fn bad(&mut self, key: &str, error: &str) {
        self.stats.bad += 1;
        let first = match self.tracks.get_mut(key) {
            Some(track) => {
                track.bad += 1;
                track.bad == 1
            }
            None => self.stats.bad == 1,
        };
        if first {
            tracing::warn!(track = key, error, "what came is no batch; it is left out");
        }
    }

    /// Room news say when a track begins, so that its first batch may be asked
    /// for, and when it ends, so that its last one is.
    fn event(&mut self, room: &str, payload: &Bytes, now: Instant, out: &mut Vec<Output>) {
        let event = read_json::<RoomEvent>(payload).ok();
        // Who may speak of one room may not of another.
        let Some(event) = event.filter(|event| event.room.as_str() == room) else {
            self.stats.bad += 1;
            return;
        };
        match event.what {
            RoomNews::TrackOpened { track, .. } => {
                let wanted = self.wanted.as_ref().is_none_or(|wanted| wanted.contains(&track));
                let known = self.tracks.contains_key(&*key_of(&event.room, &track));
                if wanted && !known && self.open(event.room, track, true, now).is_none() {
                    self.stats.refused += 1;
                }
            }
            RoomNews::TrackClosed { track, .. } => {
                let key = key_of(&event.room, &track);
                self.with(&key, now, out, |track, _| track.closing(now));
            }
            _ => (),
        }
    }

    /// Begins a track, where there is room for it.
    fn open(
        &mut self,
        room: RoomId,
        track: TrackId,
        whole: bool,
        now: Instant,
    ) -> Option<Arc<str>> {
        let key = key_of(&room, &track);
        // A token holds neither '.' nor '/', which follows it.
        let (from, to) = (format!("{room}."), format!("{room}/"));
        let of_room = (Bound::Included(&*from), Bound::Excluded(&*to));
        let room_is_full = self.tracks.range::<str, _>(of_room).count() >= limits::TRACKS_MAX;
        if room_is_full || self.tracks.len() >= limits::LISTEN_TRACKS_MAX {
            let all = (Bound::Unbounded, Bound::Unbounded);
            let range = if room_is_full { of_room } else { all };
            let idle = self.tracks.range::<str, _>(range);
            let idle = idle.filter_map(|(key, track)| Some((track.idle()?, key)));
            let Some(oldest) = idle.min().map(|(_, key)| key.clone()) else {
                if self.stats.refused == 0 {
                    tracing::warn!(track = &*key, "too many tracks; it is left out");
                }
                return None;
            };
            self.forget(&oldest);
        }
        let track = Track::new(room, track, whole, self.deadline, now);
        self.tracks.insert(key.clone(), track);
        Some(key)
    }

    fn forget(&mut self, key: &Arc<str>) {
        self.forgetful = true;
        if let Some(due) = self.tracks.remove(key).and_then(|track| track.due) {
            self.due.remove(&(due, key.clone()));
        }
    }

    /// Takes the answer to a NACK.
    pub fn answer(&mut self, asked: &Asked, answer: &Answer, now: Instant, out: &mut Vec<Output>) {
        self.in_flight = self.in_flight.saturating_sub(1);
        self.with(&asked.key, now, out, |track, out| {
            track.answer(&asked.question, answer, now, out);
        });
    }

    /// Does what is due.
    pub fn wake(&mut self, now: Instant, out: &mut Vec<Output>) {
        while let Some((at, key)) = self.due.first()
            && *at <= now
        {
            let key = key.clone();
            let connected = self.connected;
            self.with(&key, now, out, |track, out| track.tick(now, connected, out));
        }
    }

    /// When [`Ears::wake`] is due.
    #[must_use]
    pub fn deadline(&self) -> Option<Instant> {
        self.due.first().map(|(at, _)| *at)
    }

    /// The server is there, or is not. While it is away nobody is silent.
    pub fn connected(&mut self, connected: bool, now: Instant, out: &mut Vec<Output>) {
        self.connected = connected;
        self.for_all(now, out, |track, _| track.spoke(now));
    }

    /// The program takes what it is told, or does not. Meanwhile nothing new is
    /// taken in, and nothing is asked for that could not be told.
    pub fn keeping_up(&mut self, keeping_up: bool, now: Instant, out: &mut Vec<Output>) {
        if self.keeping_up != keeping_up {
            self.keeping_up = keeping_up;
            self.for_all(now, out, |track, _| track.spoke(now));
        }
    }

    /// Tells what is held back, and that every track ends here.
    pub fn finish(&mut self, now: Instant, out: &mut Vec<Output>) {
        self.keeping_up = false;
        self.for_all(now, out, |track, out| track.close(Ending::Stopped, now, out));
        self.due.clear();
    }

    fn for_all(
        &mut self,
        now: Instant,
        out: &mut Vec<Output>,
        mut act: impl FnMut(&mut Track, &mut Out<'_>),
    ) {
        let keys: Vec<_> = self.tracks.keys().cloned().collect();
        for key in keys {
            self.with(&key, now, out, &mut act);
        }
    }

    /// Lets something happen to a track, and puts in order what follows from it:
    /// what it counted, what it asks, when it is due.
    fn with(
        &mut self,
        key: &Arc<str>,
        now: Instant,
        outputs: &mut Vec<Output>,
        act: impl FnOnce(&mut Track, &mut Out<'_>),
    ) {
        let Some(track) = self.tracks.get_mut(key) else { return };
        let before = track.counted();
        act(track, &mut Out { outputs, stats: &mut self.stats });
        let may_ask = self.connected && self.keeping_up;
        while may_ask
            && self.in_flight < limits::LISTEN_ASKS
            && let Some(question) = track.question(now)
        {
            self.in_flight += 1;
            outputs.push(Output::Ask(Ask {
                room: track.room.clone(),
                track: track.track.clone(),
                nack: Nack {
                    subscriber: self.subscriber.clone(),
                    epoch: Epoch(question.epoch),
                    ranges: question.ranges.clone(),
                    deadline_ms: self.deadline.as_millis() as u64,
                },
                asked: Asked { key: key.clone(), question },
            }));
        }
        count(&mut self.stats, before, track.counted());
        let free = may_ask && self.in_flight < limits::LISTEN_ASKS;
        let due = track.deadline(now, free, self.connected);
        if due != track.due {
            if let Some(due) = track.due {
                self.due.remove(&(due, key.clone()));
            }
            if let Some(due) = due {
                self.due.insert((due, key.clone()));
            }
            track.due = due;
        }
    }
}

fn key_of(room: &RoomId, track: &TrackId) -> Arc<str> {
    format!("{room}.{track}").into()
}

fn count(stats: &mut ListenStats, before: ReorderStats, after: ReorderStats) {
    stats.duplicates += after.duplicates - before.duplicates;
    stats.recovered += after.recovered - before.recovered;
    stats.lost += after.lost - before.lost;
    stats.asked += after.nacked - before.nacked;
    stats.stale_epochs += after.stale_epoch - before.stale_epoch;
}

#[cfg(test)]
mod tests;
