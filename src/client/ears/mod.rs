//! All that a listener knows: its tracks, keyed by their subjects, what is due
//! for each and when. Pure: messages, answers and time are handed in, what is to
//! be said and asked is handed out. One of it serves hundreds of rooms, so a
//! message costs one look-up and no search through the others.

mod heard;
mod inquiry;
mod output;
mod pace;
mod track;

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::Bound,
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;

pub use heard::{Ending, Heard, ListenStats, Sounds};
pub use output::{Ask, Asked, Look, Output};
use pace::Trips;
pub use track::{Answer, Search};
use track::{Out, Track, Wish};

use super::options::{DropOnPurpose, From, ListenOptions, Tracks};
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
    from: From,
    /// Whether what is recorded is read first: until then what comes live of it
    /// is left to be read there.
    reading: bool,
    /// Whether a recording may be looked into.
    recording: bool,
    /// Looks into it that are under way.
    looking: usize,
    trips: Trips,
    random: fastrand::Rng,
    stats: ListenStats,
}

impl Ears {
    /// Ears that have heard nothing yet.
    #[must_use]
    pub fn new(options: &ListenOptions, now: Instant) -> Self {
        // Each listener draws lots of its own.
        let name = options.subscriber.as_str().bytes();
        let seed = name.fold(0, |sum: u64, byte| sum.wrapping_mul(31) + u64::from(byte));
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
            from: options.from,
            reading: false,
            recording: options.recorded,
            looking: 0,
            trips: Trips::default(),
            random: fastrand::Rng::with_seed(seed),
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
                let recorded = kind == "rec";
                if recorded && self.reading {
                    // It is read where it is kept, in its turn.
                } else if !self.keeping_up {
                    self.stats.too_slow += 1;
                } else if self.thrown_away() {
                    self.stats.thrown_away += 1;
                } else {
                    self.batch(subject, rest, payload, Some(recorded), now, out);
                }
            }
            "resend" => {
                if self.drop.as_ref().is_some_and(|(drop, _)| drop.again) && self.thrown_away() {
                    self.stats.thrown_away += 1;
                    return;
                }
                // The last token is our own name.
                let key = rest.rsplit_once('.').map_or(rest, |(key, _)| key);
                self.batch(subject, key, payload, None, now, out);
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
        recorded: Option<bool>,
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
                let wish = self.wish(now);
                let Some(key) = self.open(room, track, wish, now) else {
                    self.stats.refused += 1;
                    return;
                };
                key
            }
        };
        self.with(&key, now, out, |track, out| track.batch(batch, recorded, now, out));
    }

    /// Reads what is recorded first, until [`Ears::is_read`].
    pub fn read_first(&mut self) {
        self.reading = true;
    }

    /// Takes in what was recorded.
    pub fn past(&mut self, subject: &str, payload: &Bytes, now: Instant, out: &mut Vec<Output>) {
        match subject.strip_prefix("audio.rec.") {
            Some(key) => self.batch(subject, key, payload, Some(true), now, out),
            None => self.stats.bad += 1,
        }
    }

    /// All that was recorded has been taken in: what comes live follows on it.
    pub fn is_read(&mut self, now: Instant, out: &mut Vec<Output>) {
        self.reading = false;
        self.for_all(now, out, |track, _| track.spoke(now));
    }

    /// What was found of it has been taken in; `fault` where the recording
    /// cannot be read, and so is not looked into again.
    pub fn looked(&mut self, look: &Look, fault: bool, now: Instant, out: &mut Vec<Output>) {
        self.looking = self.looking.saturating_sub(1);
        self.stats.searched += 1;
        self.recording &= !fault;
        let key = key_of(&look.room, &look.track);
        self.with(&key, now, out, |track, out| track.searched(&look.search, now, out));
        if fault {
            self.for_all(now, out, |_, _| ());
        }
    }

    /// What is wanted of a track that is heard for the first time.
    fn wish(&self, now: Instant) -> Wish {
        let settled = now.saturating_duration_since(self.since) >= limits::LISTEN_SETTLED;
        let joined_within = match (self.reading, self.from) {
            // What is recorded first of it may not be what was said first.
            (true, From::RoomStart) => limits::RECORD_WINDOW as u64,
            (false, _) if settled && !self.forgetful => u64::MAX,
            _ => 0,
        };
        let preroll = if self.reading { Duration::ZERO } else { self.from.preroll() };
        Wish { deadline: self.deadline, joined_within, preroll }
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
                // What is recorded may have it from before that.
                if wanted && !known && !self.reading {
                    let wish = Wish { joined_within: u64::MAX, ..self.wish(now) };
                    if self.open(event.room, track, wish, now).is_none() {
                        self.stats.refused += 1;
                    }
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
    fn open(&mut self, room: RoomId, track: TrackId, wish: Wish, now: Instant) -> Option<Arc<str>> {
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
        let track = Track::new(room, track, wish, now);
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
            let listening = self.connected && !self.reading;
            self.with(&key, now, out, |track, out| track.tick(now, listening, out));
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
    /// taken in, and nothing is asked for that could not be told; afterwards each
    /// track goes on with what is new, behind a gap that says so.
    pub fn keeping_up(&mut self, keeping_up: bool, now: Instant, out: &mut Vec<Output>) {
        if self.keeping_up != keeping_up {
            self.keeping_up = keeping_up;
            self.for_all(now, out, |track, _| {
                track.behind = true;
                track.spoke(now);
            });
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
        let listening = self.connected && !self.reading;
        let may_ask = listening && self.keeping_up;
        let mut out = Out {
            outputs,
            stats: &mut self.stats,
            trips: &self.trips,
            recording: self.recording,
            random: &mut self.random,
        };
        act(track, &mut out);
        // What was to be looked for where nothing can be is not there.
        while !self.recording
            && let Some(search) = track.search()
        {
            track.searched(&search, now, &mut out);
        }
        track.pace(&mut self.trips);
        // What it left behind is not asked for.
        let may_ask = may_ask && !track.behind;
        while may_ask
            && self.in_flight < limits::LISTEN_ASKS
            && let Some(question) = track.question(now)
        {
            self.in_flight += 1;
            let useful =
                if question.probe { self.deadline } else { track.useful_for(&question, now) };
            outputs.push(Output::Ask(Ask {
                room: track.room.clone(),
                track: track.track.clone(),
                nack: Nack {
                    subscriber: self.subscriber.clone(),
                    epoch: Epoch(question.epoch),
                    ranges: question.ranges.clone(),
                    deadline_ms: u64::try_from(useful.as_millis()).unwrap_or(u64::MAX).max(1),
                },
                within: self.trips.pace().retry,
                asked: Asked { key: key.clone(), question },
            }));
        }
        while may_ask
            && self.looking < limits::LISTEN_LOOKS
            && let Some(search) = track.search()
        {
            self.looking += 1;
            let (room, track) = (track.room.clone(), track.track.clone());
            outputs.push(Output::Look(Look { room, track, search }));
        }
        count(&mut self.stats, before, track.counted());
        let free =
            may_ask && self.in_flight < limits::LISTEN_ASKS && self.looking < limits::LISTEN_LOOKS;
        let due = track.deadline(now, free, listening);
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
