//! What goes into the dispatcher's core and what comes out: its whole
//! conversation with the outside, as values.

use std::{sync::Arc, time::Instant};

use crate::{
    bus::messages::{
        Assign, Cancel, Get, Heartbeat, List, Listed, Refusal, Revoke, Submitted, TaskEvent,
        TaskView, UpdateSession, Verdict, Workers,
    },
    id::{RoomId, TaskId, WorkerId},
    task::{RoomRecord, TaskRecord, TaskSpec, Update},
};

/// The time, as it is handed in: one clock to measure with, one to write down.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Now {
    /// Never steps.
    pub at: Instant,
    /// Milliseconds since the Unix epoch; may step.
    pub unix_ms: u64,
}

/// Names a caller that waits for an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CallId(pub u64);

/// One of the two buckets the dispatcher follows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Shelf {
    /// `gateway_tasks`.
    Tasks,
    /// `gateway_rooms`.
    Rooms,
}

/// A key of one of them.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Key {
    /// A task's.
    Task(TaskId),
    /// A room's.
    Room(RoomId),
}

/// A value of one of them.
#[derive(Debug, Clone, PartialEq)]
pub enum Record {
    /// A task.
    Task(Arc<TaskRecord>),
    /// A room.
    Room(Arc<RoomRecord>),
}

impl Record {
    /// The key it is kept under.
    #[must_use]
    pub fn key(&self) -> Key {
        match self {
            Self::Task(record) => Key::Task(record.task.clone()),
            Self::Room(record) => Key::Room(record.room.clone()),
        }
    }
}

/// What became of a write or a read.
#[derive(Debug, Clone, PartialEq)]
pub enum Outcome<R = Record> {
    /// The write took place and made this revision.
    Written(u64),
    /// The delete took place.
    Dropped,
    /// Somebody wrote first.
    Conflict,
    /// No answer: it may have taken place or not.
    Unknown,
    /// What a read found, with its revision.
    Found(Option<(R, u64)>),
}

impl<R> Outcome<R> {
    /// The same with what was read turned into `S`, or taken for unreadable.
    pub(super) fn map<S>(self, turn: impl FnOnce(R) -> Option<S>) -> Outcome<S> {
        match self {
            Self::Written(revision) => Outcome::Written(revision),
            Self::Dropped => Outcome::Dropped,
            Self::Conflict => Outcome::Conflict,
            Self::Unknown => Outcome::Unknown,
            Self::Found(None) => Outcome::Found(None),
            Self::Found(Some((record, revision))) => match turn(record) {
                Some(record) => Outcome::Found(Some((record, revision))),
                None => Outcome::Unknown,
            },
        }
    }
}

/// Why a worker gave no answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NoAnswer {
    /// Nobody serves its subjects.
    NoResponder,
    /// Nothing came in time, or what came cannot be read.
    TimedOut,
}

/// What a service or an operator asks.
#[derive(Debug, Clone, PartialEq)]
pub enum Request {
    /// Hands in a task, whose id is set.
    Submit(Box<TaskSpec>),
    /// Asks for one task.
    Get(Get),
    /// Asks for tasks.
    List(List),
    /// Changes a task.
    Update(Box<Update>),
    /// Ends a task.
    Cancel(Cancel),
    /// Asks for the workers.
    Workers,
}

/// What they are answered.
#[derive(Debug, Clone, PartialEq)]
pub enum Answer {
    /// To a submit.
    Submitted(Submitted),
    /// To a get, an update or a cancel.
    Task(TaskView),
    /// To a list.
    Listed(Listed),
    /// To a question for the workers.
    Workers(Workers),
}

/// What the core is told.
#[derive(Debug, Clone, PartialEq)]
pub enum Input {
    /// This dispatcher leads from now on.
    Elected,
    /// It leads no more.
    Deposed,
    /// The connection to the server is there.
    BusUp,
    /// It is not.
    BusDown,
    /// A bucket is being read from its beginning.
    Watching(Shelf),
    /// All that was in it has been told.
    Current(Shelf),
    /// A bucket has lost all it held and was made anew.
    Wiped(Shelf),
    /// A key of a bucket changed; none: it was deleted.
    Changed {
        /// The key.
        key: Key,
        /// The change's revision.
        revision: u64,
        /// What it holds now.
        record: Option<Record>,
    },
    /// A write or a read came to its end.
    Finished {
        /// The key.
        key: Key,
        /// How.
        outcome: Outcome,
    },
    /// A worker's sign of life.
    Heartbeat(Box<Heartbeat>),
    /// A worker's lease was renewed.
    Renewed(WorkerId),
    /// A worker was pinged.
    Ponged {
        /// The worker.
        worker: WorkerId,
        /// What came back.
        answer: Result<Box<Heartbeat>, NoAnswer>,
    },
    /// A worker was given a task.
    Assigned {
        /// The worker.
        worker: WorkerId,
        /// What it was given.
        assign: Box<Assign>,
        /// What it said.
        answer: Result<Verdict, NoAnswer>,
    },
    /// A worker was told to end a session; whether it heard shows in what it
    /// reports.
    Revoked {
        /// The worker.
        worker: WorkerId,
        /// The task.
        task: TaskId,
    },
    /// Somebody asks.
    Call {
        /// Who.
        call: CallId,
        /// What.
        request: Request,
    },
    /// Something else came from the server: it is there, and so are we.
    Heard,
    /// Time has passed.
    Tick,
}

impl Input {
    /// Whether it shows that the server is there and is heard.
    pub(super) fn is_from_server(&self) -> bool {
        match self {
            Self::Changed { .. } | Self::Heartbeat(_) | Self::Renewed(_) | Self::Heard => true,
            Self::Finished { outcome, .. } => !matches!(outcome, Outcome::Unknown),
            Self::Ponged { answer, .. } => !matches!(answer, Err(NoAnswer::TimedOut)),
            Self::Assigned { answer, .. } => !matches!(answer, Err(NoAnswer::TimedOut)),
            _ => false,
        }
    }
}

/// What is to be done.
#[derive(Debug, Clone, PartialEq)]
pub enum Output {
    /// Write a record if its key's last revision is `expected` (0: there is
    /// none). Answered by [`Input::Finished`].
    Put {
        /// The record.
        record: Record,
        /// See above.
        expected: u64,
    },
    /// Delete a key if its last revision is `expected`. Answered likewise.
    Drop {
        /// The key.
        key: Key,
        /// See above.
        expected: u64,
    },
    /// Read a key. Answered likewise.
    Read(Key),
    /// Give a worker a task. Answered by [`Input::Assigned`].
    Assign {
        /// The worker.
        worker: WorkerId,
        /// The task.
        assign: Box<Assign>,
    },
    /// Have a worker end a session. Answered by [`Input::Revoked`].
    Revoke {
        /// The worker.
        worker: WorkerId,
        /// Which.
        revoke: Revoke,
    },
    /// Have a worker change a session; whether it heard shows in what it reports.
    Update {
        /// The worker.
        worker: WorkerId,
        /// How.
        update: Box<UpdateSession>,
    },
    /// Ask a worker for a sign of life. Answered by [`Input::Ponged`].
    Ping(WorkerId),
    /// Keep an event.
    Event(TaskEvent),
    /// Answer a caller.
    Answer {
        /// Who.
        call: CallId,
        /// What.
        answer: Result<Answer, Refusal>,
    },
}
