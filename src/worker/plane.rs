//! The audio thread: everything that happens fifty times a second.
//!
//! It owns the pipes of its rooms, reads each in a rhythm of its own, and hands
//! what comes of it to bounded queues. It never waits for anything but time: a
//! server that is away fills a queue, and no adapter's pipe.

mod outbox;
mod outlet;
mod rhythm;
mod seat;
mod thread;
mod time;
mod wheel;

use std::{collections::HashSet, io, sync::mpsc as std_mpsc, thread::JoinHandle, time::Instant};

use bytes::Bytes;
use tokio::sync::{mpsc, watch};

pub use self::outbox::{Outbox, Parcels, Ready, outbox};
use self::thread::Thread;
use super::{
    core::SessionKey,
    nack::DeskStats,
    record::Keep,
    room::{Spec, Tally, Word},
};
use crate::{
    bus::{
        Address, Inbox,
        messages::{NackReply, RoomEvent},
    },
    id::{RoomId, TrackId},
    limits,
    sdk::process::{ChildKey, Pipe},
    task::Pull,
};

/// What the audio thread is told to do.
#[derive(Debug)]
pub enum Command {
    /// A room is served from now on.
    Open(SessionKey, Box<Spec>),
    /// A process serves it, through these pipes.
    Attach {
        /// The room.
        session: SessionKey,
        /// The process.
        child: ChildKey,
        /// What it reads.
        stdin: Option<Pipe>,
        /// What it writes.
        stdout: Option<Pipe>,
    },
    /// The process must leave.
    Leave(SessionKey, ChildKey),
    /// The process is gone: read what is left, and say [`Report::Drained`].
    Drain(SessionKey, ChildKey),
    /// Something else is pulled out of the room from now on.
    Update(SessionKey, Box<Pull>),
    /// The room is no longer served: its tracks end.
    Close(SessionKey),
    /// What is pushed passes unplayed, or is played again, in all rooms.
    Mute(bool),
    /// The rooms are about to be handed over, or stay: whether a frame of each
    /// track is kept for its last batch.
    KeepBack(bool),
    /// What is pushed is played from now on: nobody else does.
    Play(SessionKey),
    /// A payload of the subject from which the room is played to.
    Push(SessionKey, Bytes),
    /// Somebody asks for batches again.
    Nack(Box<Asked>),
    /// Ends the thread.
    Stop,
}

/// A NACK as it came.
#[derive(Debug)]
pub struct Asked {
    /// The room of its subject.
    pub room: RoomId,
    /// The track of its subject.
    pub track: TrackId,
    /// The request, a copy.
    pub payload: Bytes,
    /// Where the result goes.
    pub reply: Inbox,
    /// When it came.
    pub came: Instant,
}

/// What the audio thread reports. None of it is ever lost.
#[derive(Debug, PartialEq)]
pub enum Report {
    /// What an adapter says of itself.
    Adapter(ChildKey, Word),
    /// All that the process had written was read.
    Drained(ChildKey),
    /// Audio of every open track of the room is on the bus.
    Heard(SessionKey),
    /// Something for the room's listeners.
    Event(Box<RoomEvent>),
}

/// What goes out because somebody asked for it.
#[derive(Debug)]
pub enum Again {
    /// A batch, of use until then.
    Batch(Address, Bytes, Option<Instant>),
    /// What became of the request.
    Reply(Inbox, NackReply),
}

/// Where the audio thread puts what it makes.
#[derive(Debug)]
pub struct Outlets {
    /// Batches for the bus; where it is full they are left out, and kept.
    pub publish: Outbox,
    /// Batches of rooms that are recorded; likewise.
    pub record: mpsc::Sender<Keep>,
    /// Answers to NACKs; where it is full they are left out.
    pub again: mpsc::Sender<Again>,
    /// Reports; where it is full they wait.
    pub reports: mpsc::Sender<Report>,
}

/// What the audio thread has done so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PlaneStats {
    /// What came in.
    pub tally: Tally,
    /// Batches made.
    pub batches: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Batches that were kept and not published: the server was away.
    pub unpublished: u64,
    /// Batches of recorded rooms that were kept here and not handed on.
    pub unrecorded: u64,
    /// Sweeps.
    pub sweeps: u64,
    /// Sweeps that came 50 ms late or more.
    pub late_sweeps: u64,
    /// The latest of them, in µs.
    pub latest_us: u64,
    /// Batches sent again.
    pub resent: u64,
    /// Their bytes.
    pub resent_bytes: u64,
    /// NACKs that were not answered.
    pub desk: DeskStats,
    /// NACKs answered `throttled`.
    pub throttled: u64,
    /// Pushed frames handed to adapters.
    pub played: u64,
    /// Pushed frames that were left out, and pushed messages that are none.
    pub unplayed: u64,
    /// Rooms served.
    pub rooms: usize,
    /// Bytes kept for those who lost a batch.
    pub kept: usize,
    /// Chunks of memory they are in, of 64 KiB each or a little more.
    pub chunks: usize,
    /// CPU time of the thread in µs.
    pub cpu_us: u64,
}

/// The handle of an audio thread.
#[derive(Debug)]
pub struct Plane {
    commands: std_mpsc::SyncSender<Command>,
    stats: watch::Receiver<PlaneStats>,
    rooms: watch::Receiver<HashSet<RoomId>>,
    thread: Option<JoinHandle<()>>,
}

impl Plane {
    /// Starts the thread; its rings hold at most this many bytes.
    ///
    /// # Errors
    /// Where the system refuses a thread.
    pub fn start(outlets: Outlets, ring_bytes: usize) -> io::Result<Self> {
        let (commands, queue) = std_mpsc::sync_channel(limits::PLANE_COMMANDS);
        let (stats_out, stats) = watch::channel(PlaneStats::default());
        let (rooms_out, rooms) = watch::channel(HashSet::new());
        let thread = std::thread::Builder::new()
            .name("audio".to_owned())
            .spawn(move || Thread::new(queue, outlets, ring_bytes, stats_out, rooms_out).run())?;
        Ok(Self { commands, stats, rooms, thread: Some(thread) })
    }

    /// Tells the thread to do something; gives it back where its queue is full.
    ///
    /// # Errors
    /// The command.
    pub fn command(&self, command: Command) -> Result<(), Command> {
        match self.commands.try_send(command) {
            Ok(()) => Ok(()),
            Err(std_mpsc::TrySendError::Full(command)) => Err(command),
            // A thread that has ended needs no telling.
            Err(std_mpsc::TrySendError::Disconnected(_)) => Ok(()),
        }
    }

    /// A way to tell it of NACKs.
    #[must_use]
    pub fn sender(&self) -> std_mpsc::SyncSender<Command> {
        self.commands.clone()
    }

    /// What it has done, as of a fifth of a second ago.
    #[must_use]
    pub fn stats(&self) -> PlaneStats {
        *self.stats.borrow()
    }

    /// The rooms of which it keeps batches.
    #[must_use]
    pub fn rooms(&self) -> watch::Receiver<HashSet<RoomId>> {
        self.rooms.clone()
    }

    /// Ends the thread, once it has done what it was told before, and then this.
    pub fn stop(&mut self, rest: impl IntoIterator<Item = Command>) {
        for command in rest.into_iter().chain([Command::Stop]) {
            // A full queue is worked off soon; blocking here is at the very end.
            if self.commands.send(command).is_err() {
                break;
            }
        }
        if self.thread.take().is_some_and(|thread| thread.join().is_err()) {
            tracing::error!("the audio thread has panicked");
        }
    }
}
