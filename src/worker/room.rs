//! One room as its adapter tells it, as a pure value: bytes of the pipe go in,
//! encoded batches, events and bytes for the adapter come out.
//!
//! It outlives its adapter: where that crashes and is started again, tracks and
//! their sequence numbers run on. Descriptors, clocks and rings are
//! [`super::plane`]'s.

mod clock;
mod framed;
mod leave;
mod mixes;
mod play;
mod raw;
mod select;
mod track;
mod tracks;
mod wanted;

use std::collections::BTreeMap;

use self::{
    clock::Watch,
    leave::People,
    mixes::Mixes,
    track::{Sweep, Track},
};
use super::bucket::Bucket;
use crate::{
    audio::{Encoded, Format, Origin, Pool, Timeline, ask_for_slice},
    bus::{Address, messages::RoomNews},
    id::{RoomId, TaskId, TrackId, WorkerId},
    limits,
    sdk::{
        adapter::{Direction, Mode},
        pipe::{Decoder, Encoder, MediaClock, Message, ToAdapter},
    },
    task::{Epoch, Params, Pull},
};

/// What a room is asked to do.
#[derive(Debug, Clone)]
pub struct Spec {
    /// The room.
    pub room: RoomId,
    /// The task it serves.
    pub task: TaskId,
    /// The epoch of the assignment.
    pub epoch: Epoch,
    /// Where its time line begins, µs since the Unix epoch.
    pub origin_us: i64,
    /// The worker, for WELCOME.
    pub worker: WorkerId,
    /// How it speaks.
    pub mode: Mode,
    /// For the adapter.
    pub params: Params,
    /// What is taken from the room.
    pub pull: Option<Pull>,
    /// The subject of what is played into it.
    pub push: Option<String>,
    /// Whether another worker plays it still.
    pub held: bool,
    /// Whether another worker serves the room until this one is heard.
    pub taken_over: bool,
}

/// A batch to publish and keep.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outgoing {
    /// Its track.
    pub track: TrackId,
    /// Tells the track from all others the room ever had.
    pub number: u32,
    /// Where it is published.
    pub address: Address,
    /// Whether that is where it is recorded as well.
    pub recorded: bool,
    /// The batch.
    pub batch: Encoded,
}

/// What an adapter says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Word {
    /// It is in the room.
    Joined,
    /// It breaks the protocol and cannot be worked with.
    Broken(String),
    /// The room is lost to it.
    Fatal(String),
    /// It leaves.
    Bye(String),
    /// It writes no more.
    Closed,
}

/// What is to be told of a room.
#[derive(Debug, Clone, PartialEq)]
pub enum Notice {
    /// To the worker.
    Word(Word),
    /// To the room's listeners.
    News {
        /// Where on the time line.
        pos: u64,
        /// When that was, µs since the Unix epoch.
        time: i64,
        /// What.
        what: RoomNews,
    },
}

/// Counts since the worker started.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tally {
    /// Audio frames of adapters.
    pub frames: u64,
    /// Bytes read from adapters.
    pub read: u64,
    /// Frames that break the protocol or belong to no track.
    pub refused: u64,
    /// Events that were left out because an adapter makes too many.
    pub unsaid: u64,
    /// Slots of single tracks without which a mix went on.
    pub mix_left_out: u64,
    /// Samples that came too late for a mix.
    pub mix_late_samples: u64,
    /// Slots of mixes that were turned down.
    pub mix_limited: u64,
}

/// What a room wants done. Used again and again.
#[derive(Debug, Default)]
pub struct Effects {
    /// To publish, in order.
    pub batches: Vec<Outgoing>,
    /// To report, in order.
    pub notices: Vec<Notice>,
    /// To write to the adapter.
    pub stdin: Vec<u8>,
    /// Added to, never cleared here.
    pub tally: Tally,
    /// Where batches are encoded.
    pub pool: Pool,
    /// Where tracks gather samples, in turns.
    pub spare: Vec<Vec<u8>>,
    /// A frame to be played.
    pub frame: Vec<u8>,
}

impl Effects {
    fn say(&mut self, word: Word) {
        self.notices.push(Notice::Word(word));
    }

    fn news(&mut self, pos: u64, time: i64, what: RoomNews) {
        self.notices.push(Notice::News { pos, time, what });
    }
}

/// What a look at a room's tracks finds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Found {
    /// A track has a full batch.
    pub full: bool,
    /// A track that speaks is one frame short of it.
    pub soon: bool,
}

/// How far the adapter has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// There is none.
    Away,
    /// It was started.
    Started,
    /// It has said HELLO.
    Greeted,
    /// It is in the room.
    Joined,
}

/// See the module. `now` is µs since the Unix epoch throughout.
#[derive(Debug)]
pub struct Room {
    spec: Spec,
    origin: Origin,
    stage: Stage,
    decoder: Decoder,
    encoder: Encoder,
    timeline: Option<Timeline>,
    /// What the adapter's clock counts from, as HELLO has it.
    clock: MediaClock,
    tracks: Vec<Track>,
    mixes: Mixes,
    /// Index in `tracks` by stream.
    streams: Vec<Option<usize>>,
    /// What the adapter has open and nobody wants, by stream.
    others: BTreeMap<u16, select::Offered>,
    people: People,
    watch: Watch,
    numbers: u32,
    voice: Bucket,
    /// Whether the adapter takes more of what is pushed.
    flowing: bool,
    /// µs of what was pushed.
    pushed: i64,
    /// The adapter has said its last, or was told to leave: what else it says
    /// counts no more.
    deaf: bool,
    /// The first half of a sample of an adapter without frames.
    odd: Option<u8>,
    /// Frames of each track that are kept back.
    keep: u64,
    /// It was told to leave: who else is in the room hears what goes on there.
    dismissed: bool,
}

impl Room {
    /// A room without an adapter.
    #[must_use]
    pub fn new(spec: Spec, now: i64) -> Self {
        Self {
            origin: Origin { unix_us: spec.origin_us, rate: limits::SAMPLE_RATE },
            stage: Stage::Away,
            decoder: Decoder::from_adapter(),
            encoder: Encoder::default(),
            timeline: None,
            clock: MediaClock::Own,
            tracks: Vec::new(),
            mixes: Mixes::default(),
            streams: Vec::new(),
            others: BTreeMap::new(),
            people: People::default(),
            watch: Watch::default(),
            numbers: 0,
            voice: Bucket::new(limits::ROOM_EVENTS_PER_S, limits::ROOM_EVENTS_BURST, now),
            flowing: true,
            pushed: 0,
            deaf: false,
            odd: None,
            keep: 0,
            dismissed: false,
            spec,
        }
    }

    /// What it was asked to do.
    #[must_use]
    pub fn spec(&self) -> &Spec {
        &self.spec
    }

    /// Whether its adapter has joined; until then it wants to be swept often.
    #[must_use]
    pub fn is_joined(&self) -> bool {
        self.stage == Stage::Joined
    }

    /// Whether every track that is open has been on the bus with something else
    /// than missing audio: where the room was taken over for long enough that
    /// whoever leaves it has said what came before, however late its adapter is.
    #[must_use]
    pub fn is_heard(&self) -> bool {
        let least = if self.spec.taken_over { limits::HANDOVER_OVERLAP } else { 1 };
        let mut open = self.tracks.iter().filter(|track| track.stream.is_some()).peekable();
        let tracks = open.peek().is_some() && open.all(|track| track.has_spoken(least));
        tracks && self.mixes.are_heard(least)
    }

    /// A process serves the room from now on.
    pub fn attach(&mut self, now: i64, fx: &mut Effects) {
        self.stage = Stage::Started;
        self.decoder = Decoder::from_adapter();
        self.encoder = Encoder::default();
        self.timeline = None;
        self.watch = Watch::default();
        self.clock = MediaClock::Own;
        (self.flowing, self.pushed, self.deaf, self.dismissed) = (true, 0, false, false);
        self.odd = None;
        if let Mode::Raw { direction: Direction::Push, .. } = self.spec.mode {
            self.joined(now, fx);
        }
    }

    /// Takes what the adapter wrote.
    pub fn take(&mut self, bytes: &[u8], now: i64, fx: &mut Effects) {
        fx.tally.read += bytes.len() as u64;
        if self.deaf {
            return;
        }
        match &self.spec.mode {
            Mode::Framed => self.take_frames(bytes, now, fx),
            Mode::Raw { participant, realtime, .. } => {
                let (user, realtime) = (participant.clone(), *realtime);
                self.take_samples(bytes, user, realtime, now, fx);
            }
        }
    }

    /// Publishes what is due. `on_time` says whether this sweep came when it
    /// should have.
    pub fn settle(&mut self, now: i64, on_time: bool, fx: &mut Effects) {
        self.follow_drift(now);
        let wall = self.origin.position(now);
        let grace = Format::default().samples(limits::STALL_GRACE) as i64;
        let expected = self.timeline.as_ref().map_or(wall - grace, |line| line.expected(wall));
        let sweep = Sweep { now, expected, on_time, keep: self.keep };
        for track in self.tracks.iter_mut().filter(|track| track.is_open()) {
            track.settle(sweep, fx);
        }
        self.close_orphans(now, fx);
        self.tell_leaves(now, fx);
        // Who is late by our own fault has a sweep more.
        let patience = if on_time { 0 } else { Format::default().samples(limits::HEARTBEAT_TRACK) };
        let deadline = expected.saturating_sub(patience as i64);
        self.mixes.settle(&mut self.tracks, deadline, now, fx);
        self.tell_clock(now, fx);
    }

    /// Asks for the memory that a sweep begins with, beside the value itself.
    pub fn look_ahead(&self) {
        ask_for_slice(&self.streams);
        ask_for_slice(&self.tracks);
    }

    /// Asks for what the tracks begin with, once they are there.
    pub fn look_further_ahead(&self) {
        self.tracks.iter().for_each(|track| track.writer.look_ahead());
    }

    /// Whether a batch is full, or about to be.
    #[must_use]
    pub fn found(&self) -> Found {
        let most = u64::from(self.batch_slots()) + self.keep;
        let mut found = Found { full: false, soon: false };
        for track in self.tracks.iter().filter(|track| track.is_open()) {
            let pending = track.writer.pending_slots();
            found.full |= pending >= most;
            found.soon |= pending + 1 == most && track.speaks();
        }
        // Waiting for another speaker's frame would cost a short batch its point.
        found.soon &= !(found.full && most < track::EVEN_FROM);
        found
    }

    /// Whether a frame of each track is kept back: the room is about to be handed
    /// over. The last batch of a track must have a slot, and where nothing waits
    /// that is one that says *absent*, in the place of the successor's first frame.
    pub fn keep_back(&mut self, keep: bool) {
        self.keep = u64::from(keep);
    }

    /// Whether there is a track that may be heard.
    #[must_use]
    pub fn has_tracks(&self) -> bool {
        self.mixes.are_any() || self.tracks.iter().any(Track::is_open)
    }

    /// Frames that the fullest track has left over.
    #[must_use]
    pub fn rest(&self) -> u64 {
        let open = self.tracks.iter().filter(|track| track.is_open());
        let most = open.map(|track| track.writer.pending_slots()).max().unwrap_or(0);
        most.saturating_sub(self.keep)
    }

    /// The process is gone: its tracks wait for the next one.
    pub fn detach(&mut self, now: i64) {
        self.decoder.end();
        self.stage = Stage::Away;
        self.timeline = None;
        self.streams.clear();
        self.others.clear();
        for track in self.tracks.iter_mut().filter(|track| track.stream.is_some()) {
            track.stream = None;
            track.orphan = Some(now);
            track.muted = false;
            track.writer.absent(None);
        }
        self.people.lose_sight();
    }

    /// The adapter must leave; what it says from now on counts no more.
    pub fn leave(&mut self, reason: &str, fx: &mut Effects) {
        if self.spec.mode == Mode::Framed && matches!(self.stage, Stage::Greeted | Stage::Joined) {
            self.say(&ToAdapter::Leave { reason: reason.to_owned() }, fx);
        }
        (self.deaf, self.dismissed) = (true, true);
    }

    /// The epoch is over: every track says so.
    pub fn close(&mut self, now: i64, fx: &mut Effects) {
        for track in self.tracks.iter_mut().filter(|track| track.is_open()) {
            track.end(now, fx);
            let (id, user) = (track.id.clone(), track.user.clone());
            let end = (now, position(track.writer.end()));
            let (time, pos) = track.leaving.take().unwrap_or(end);
            track.orphan = None;
            if track.on_bus {
                fx.news(pos, time, RoomNews::TrackClosed { track: id, user });
            }
        }
        match self.dismissed {
            true => self.mixes.hand_over(&mut self.tracks, now, fx),
            false => self.mixes.close(&mut self.tracks, now, fx),
        }
        self.people.look_again(now);
        self.tell_who_left(now, |_| true, fx);
    }

    /// How often it must be swept to publish in time.
    #[must_use]
    pub fn period(&self) -> std::time::Duration {
        (limits::FRAME * u32::from(self.batch_slots())).min(limits::HEARTBEAT_TRACK)
    }

    fn batch_slots(&self) -> u8 {
        self.spec.pull.as_ref().map_or(limits::BATCH_FRAMES, |pull| pull.batch_frames)
    }

    /// The adapter's last word.
    fn last_word(&mut self, word: Word, fx: &mut Effects) {
        if !std::mem::replace(&mut self.deaf, true) {
            fx.say(word);
        }
    }

    /// The adapter has closed its stdout.
    pub fn closed(&mut self, fx: &mut Effects) {
        self.last_word(Word::Closed, fx);
    }

    fn say(&mut self, message: &impl Message, fx: &mut Effects) {
        if let Err(error) = self.encoder.write(message, &mut fx.stdin) {
            self.last_word(Word::Broken(format!("it cannot be spoken to: {error}")), fx);
        }
    }
}

/// Nothing is placed before the room's origin.
fn position(samples: i64) -> u64 {
    u64::try_from(samples).unwrap_or(0)
}

#[cfg(test)]
mod tests;
