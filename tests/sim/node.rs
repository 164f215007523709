//! One dispatcher process: core, lease, watches, and its shell's bookkeeping.

use std::{
    collections::{BTreeMap, VecDeque},
    time::{Duration, Instant},
};

use audio_gateway::{
    bus::messages::{Assign, Revoke},
    dispatch::{
        core::Core,
        io::{Input, Key, NoAnswer, Now, Outcome, Record, Shelf},
        lease::{Lease, LeaseInput},
    },
    id::{DispatcherId, WorkerId},
};

use super::{
    store::{Written, shelf_of},
    wire::Port,
};

/// What comes to a dispatcher.
#[derive(Debug, Clone)]
pub enum Message {
    Core(Input),
    Lease(LeaseInput),
    /// The answer to a request of its own.
    Answer(u64, Box<Message>),
    /// No answer came in time.
    TimedOut(u64),
    Wake(u64),
}

/// What a dispatcher asked and has no answer to.
#[derive(Debug, Clone)]
pub enum Asked {
    Store(Key),
    Lease,
    Assign(WorkerId, Box<Assign>),
    Revoke(WorkerId, Revoke),
    Ping(WorkerId),
    Update,
}

impl Asked {
    /// What it is told where no answer comes.
    pub fn unanswered(self, why: NoAnswer) -> Message {
        Message::Core(match self {
            Self::Store(key) => Input::Finished { key, outcome: Outcome::Unknown },
            Self::Lease => return Message::Lease(LeaseInput::Unknown),
            Self::Assign(worker, assign) => Input::Assigned { worker, assign, answer: Err(why) },
            Self::Revoke(worker, revoke) => Input::Revoked { worker, task: revoke.task },
            Self::Ping(worker) => Input::Ponged { worker, answer: Err(why) },
            Self::Update => Input::Tick,
        })
    }
}

/// What a watch will tell.
#[derive(Debug, Clone)]
pub enum Told {
    Change { key: Key, revision: u64, record: Option<Record> },
    Current(Shelf),
}

/// The process.
pub struct Node {
    pub id: DispatcherId,
    pub life: u32,
    pub alive: bool,
    pub core: Core,
    pub lease: Lease,
    pub port: Port,
    pub skew_ms: i64,
    pub forced_until: Option<u64>,
    /// Counts wake-ups set: only the last one counts.
    pub wake: u64,
    pub asked: BTreeMap<u64, Asked>,
    pub backlog: Vec<Message>,
    pub watch: VecDeque<Told>,
    /// Buckets that were lost, which it has not noticed.
    pub lost: Vec<Shelf>,
    /// Those whose watch tells nothing therefore.
    pub unwatched: Vec<Shelf>,
    start: Instant,
}

impl Node {
    pub fn new(name: &str, life: u32, start: Instant, time: u64, skew_ms: i64) -> Self {
        let id = DispatcherId::parse(name).unwrap();
        let now = now(start, time, skew_ms);
        Self {
            core: Core::new(id.clone(), now),
            lease: Lease::new(id.clone(), format!("life-{life}")),
            id,
            life,
            alive: true,
            port: Port::default(),
            skew_ms,
            forced_until: None,
            wake: 0,
            asked: BTreeMap::new(),
            backlog: Vec::new(),
            watch: VecDeque::new(),
            lost: Vec::new(),
            unwatched: Vec::new(),
            start,
        }
    }

    pub fn now(&self, time: u64) -> Now {
        now(self.start, time, self.skew_ms)
    }

    /// When it wants to be woken, in µs.
    pub fn deadline(&self) -> Option<u64> {
        let at = [self.core.deadline(), self.lease.deadline()].into_iter().flatten().min()?;
        let after = at.saturating_duration_since(self.start).as_nanos().div_ceil(1_000);
        Some(u64::try_from(after).unwrap())
    }

    /// Has the watch of a bucket tell everything from the beginning. Returns how
    /// many things that are.
    pub fn watch_anew(&mut self, shelf: Shelf, all: &[Written]) -> usize {
        let of_it = |told: &Told| match told {
            Told::Current(it) => *it == shelf,
            Told::Change { key, .. } => shelf_of(key) == shelf,
        };
        self.watch.retain(|told| !of_it(told));
        self.unwatched.retain(|it| *it != shelf);
        let changes = all.iter().filter(|written| shelf_of(&written.key) == shelf).map(told);
        let before = self.watch.len();
        self.watch.extend(changes);
        self.watch.push_back(Told::Current(shelf));
        self.watch.len() - before
    }
}

pub fn told(written: &Written) -> Told {
    Told::Change {
        key: written.key.clone(),
        revision: written.revision,
        record: written.after.clone(),
    }
}

fn now(start: Instant, time: u64, skew_ms: i64) -> Now {
    let unix_ms = (1_700_000_000_000 + i64::try_from(time / 1_000).unwrap() + skew_ms).max(0);
    Now { at: start + Duration::from_micros(time), unix_ms: u64::try_from(unix_ms).unwrap() }
}
