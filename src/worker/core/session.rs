//! One task as its worker runs it, and the process that runs it.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use crate::{
    bus::messages::{Assign, Fault, SessionReport, SessionState},
    id::TaskId,
    limits,
    sdk::process::ChildKey,
};

/// Names a session among all that this worker ever had.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SessionKey(pub u64);

/// How a process ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ended {
    /// With exit code 0.
    pub clean: bool,
    /// It can never be started here.
    pub hopeless: bool,
    /// In words, with the end of what it wrote to stderr.
    pub text: String,
}

/// What an adapter said of its own end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum LastWord {
    /// It has left as it should.
    Bye(String),
    /// The room is lost to it.
    Fatal(String),
    /// It said something that cannot be, or nothing in time.
    Broken(String),
}

/// A process that was ordered and whose end was not yet dealt with.
#[derive(Debug)]
pub(super) struct Child {
    pub(super) task: TaskId,
    pub(super) session: SessionKey,
    pub(super) spawned: bool,
    pub(super) joined: bool,
    pub(super) last_word: Option<LastWord>,
    pub(super) ended: Option<Ended>,
}

impl Child {
    pub(super) fn new(task: TaskId, session: SessionKey) -> Self {
        Self { task, session, spawned: false, joined: false, last_word: None, ended: None }
    }
}

/// Where the adapter of a session stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Adapter {
    /// The session has ended.
    None,
    /// It crashed and is started again then.
    Waiting(Instant),
    /// It was ordered and must have joined by then.
    Starting(ChildKey, Instant),
    /// It is in the room.
    Joined(ChildKey),
    /// It did not join in time and is made to end.
    Stopping(ChildKey),
}

impl Adapter {
    pub(super) fn child(self) -> Option<ChildKey> {
        match self {
            Self::Starting(child, _) | Self::Joined(child) | Self::Stopping(child) => Some(child),
            Self::None | Self::Waiting(_) => None,
        }
    }
}

/// See the module.
#[derive(Debug)]
pub(super) struct Session {
    pub(super) key: SessionKey,
    pub(super) assign: Assign,
    pub(super) state: SessionState,
    pub(super) adapter: Adapter,
    /// Whether an adapter of its was ever in the room.
    pub(super) joined: bool,
    /// Its audio is on the bus.
    pub(super) heard: bool,
    /// Another worker plays what is pushed until it has left.
    pub(super) held: bool,
    reason: String,
    fault: Fault,
    ended_at: Option<Instant>,
    crashes: VecDeque<Instant>,
}

impl Session {
    pub(super) fn new(key: SessionKey, assign: Assign) -> Self {
        Self {
            key,
            heard: false,
            held: assign.from.is_some() && assign.push.is_some(),
            assign,
            state: SessionState::Starting,
            adapter: Adapter::None,
            joined: false,
            reason: String::new(),
            fault: Fault::default(),
            ended_at: None,
            crashes: VecDeque::new(),
        }
    }

    pub(super) fn is_live(&self) -> bool {
        !self.state.is_ended()
    }

    /// When time alone changes something.
    pub(super) fn deadline(&self) -> Option<Instant> {
        match self.adapter {
            Adapter::Waiting(due) | Adapter::Starting(_, due) => Some(due),
            Adapter::None => self.ended_at.map(|at| at + limits::TASK_KEEP),
            Adapter::Joined(_) | Adapter::Stopping(_) => None,
        }
    }

    /// Counts a crash. Returns how long to wait before the next start, or
    /// `None` where there were too many.
    pub(super) fn crashed(&mut self, now: Instant) -> Option<Duration> {
        self.crashes.retain(|at| now.saturating_duration_since(*at) < limits::CRASH_WINDOW);
        self.crashes.push_back(now);
        let doublings = u32::try_from(self.crashes.len() - 1).unwrap_or(u32::MAX);
        (self.crashes.len() <= limits::CRASHES_MAX)
            .then(|| limits::RESTART_DELAY * 2_u32.saturating_pow(doublings))
    }

    pub(super) fn ended(&mut self, end: (SessionState, Fault), mut reason: String, now: Instant) {
        reason.truncate(reason.floor_char_boundary(limits::REASON_MAX_BYTES));
        (self.state, self.fault) = end;
        self.reason = reason;
        self.adapter = Adapter::None;
        self.ended_at = Some(now);
    }

    /// How it stands, its reason in at most so many bytes of a message.
    pub(super) fn report(&self, most: usize) -> SessionReport {
        SessionReport {
            task: self.assign.task.clone(),
            room: self.assign.room.clone(),
            epoch: self.assign.epoch,
            state: self.state,
            heard: self.heard,
            reason: shortened(&self.reason, most).to_owned(),
            fault: self.fault,
            revision: self.assign.revision,
        }
    }
}

/// As much of a text as takes at most so many bytes as JSON: what an adapter
/// wrote to its stderr may be six times as long there.
fn shortened(text: &str, most: usize) -> &str {
    let mut left = most;
    let mut fits = |c: char| {
        let bytes = match c {
            '"' | '\\' | '\n' | '\r' | '\t' => 2,
            c if c < ' ' => 6,
            c => c.len_utf8(),
        };
        left.checked_sub(bytes).map(|rest| left = rest).is_some()
    };
    let end = text.char_indices().find(|(_, c)| !fits(*c));
    &text[..end.map_or(text.len(), |(at, _)| at)]
}
