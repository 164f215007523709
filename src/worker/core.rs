//! What a worker decides: which tasks it takes, when an adapter is started,
//! started again or made to leave, what a session ended as, and when the
//! dispatchers must hear of it.
//!
//! It is handed inputs and the time and returns what to do. It knows nothing of
//! pipes, audio or the bus; that is `run`'s and [`super::plane`]'s.

mod adapters;
mod alone;
mod orders;
mod session;

use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant},
};

pub use self::{
    alone::{Contact, Lease},
    session::{Ended, SessionKey},
};
use self::{
    orders::accepted,
    session::{Adapter, Child, LastWord, Session},
};
use crate::{
    bus::messages::{
        Assign, Heartbeat, Inventory, Load, Revoke, SessionReport, UpdateSession, Verdict,
        WorkerPhase,
    },
    id::{AdapterName, RoomId, TaskId, WorkerId},
    limits,
    sdk::process::ChildKey,
    task::{Epoch, Handover, Kind},
};

/// Names a request, so that the shell finds whom to answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ticket(pub u64);

/// Why the configured adapters cannot serve a task.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unfit {
    /// In words.
    pub reason: String,
    /// Whether every worker would say so: the task itself is wrong.
    pub fatal: bool,
}

/// What a worker is.
#[derive(Debug, Clone, PartialEq)]
pub struct About {
    /// Its id.
    pub worker: WorkerId,
    /// Made anew at each start.
    pub boot: String,
    /// Its version.
    pub version: String,
    /// The adapters it can start.
    pub adapters: Vec<AdapterName>,
    /// Those of them whose first sign of life is sound.
    pub raw: BTreeSet<AdapterName>,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// Sessions it runs at most.
    pub sessions_max: usize,
}

/// What happens to a worker.
#[derive(Debug, Clone, PartialEq)]
#[expect(missing_docs, reason = "the fields are what the variants' texts name")]
pub enum Input {
    /// A dispatcher gives it a task; `fit` is what the configuration says of it.
    Assign { ticket: Ticket, assign: Box<Assign>, fit: Result<(), Unfit> },
    /// A dispatcher changes what a session does.
    Update { ticket: Ticket, update: Box<UpdateSession> },
    /// A dispatcher takes a task away, or has taken note of its end.
    Revoke { ticket: Ticket, revoke: Revoke },
    /// Somebody wants it empty, or to take rooms again.
    Drain { ticket: Ticket, undrain: bool },
    /// The room is claimed under this epoch, and served by `from` until then.
    Claimed { room: RoomId, epoch: Epoch, from: Option<Handover> },
    /// The process runs.
    Spawned(ChildKey),
    /// The process could not be started; `hopeless` where another try is no use.
    NotSpawned { child: ChildKey, reason: String, hopeless: bool },
    /// The adapter is in the room.
    Joined(ChildKey),
    /// Audio of every track of the room is on the bus.
    Heard(SessionKey),
    /// The adapter breaks the protocol and cannot be worked with.
    Broken { child: ChildKey, why: String },
    /// The adapter says that the room is lost.
    Fatal { child: ChildKey, why: String },
    /// The adapter says farewell.
    Bye { child: ChildKey, reason: String },
    /// The adapter writes no more.
    Closed(ChildKey),
    /// The process has ended.
    Exited { child: ChildKey, ended: Ended },
    /// All that the process had written was read.
    Drained(ChildKey),
    /// The load was measured.
    Load(Load),
    /// What has become of the worker's lease.
    Lease(Lease),
    /// The process is asked to end: its rooms are given to others first.
    Retire,
    /// The worker must leave now: it gives back what it has.
    Leave,
    /// Time has passed.
    Tick,
}

/// What a worker does.
#[derive(Debug, Clone, PartialEq)]
pub enum Output {
    /// Answer this request.
    Answer(Ticket, Verdict),
    /// Make a place for the room of this task.
    Open(SessionKey, TaskId),
    /// Tell the room what is pulled from now on.
    Update(SessionKey, TaskId),
    /// Start the adapter of this task.
    Start(ChildKey, TaskId),
    /// Hand the pipes of this process to the room.
    Attach(ChildKey, SessionKey),
    /// The process is gone: read what is left in its pipe and say
    /// [`Input::Drained`].
    Drain(ChildKey, SessionKey),
    /// Make this process leave the room in an orderly way.
    Leave(ChildKey, SessionKey),
    /// Make this process end: it did not do as it must.
    Terminate(ChildKey),
    /// End the room's tracks.
    Close(SessionKey),
    /// What is pushed passes unplayed in every room, or is played again.
    Mute(bool),
    /// What is pushed may be played: nobody else plays it any more.
    Play(SessionKey),
    /// Send a heartbeat.
    Beat,
}

/// See the module.
#[derive(Debug)]
pub struct Core {
    about: About,
    phase: WorkerPhase,
    /// Its process is on its way out: nobody can keep it.
    leaves: bool,
    load: Load,
    sessions: BTreeMap<TaskId, Session>,
    children: BTreeMap<ChildKey, Child>,
    /// The highest epoch seen of each room, and when it was of use last.
    epochs: BTreeMap<RoomId, (Epoch, Instant)>,
    /// Tasks that were taken away, up to which epoch and when: the assignment
    /// may come after its revocation.
    revoked: BTreeMap<TaskId, (Epoch, Instant)>,
    keys: u64,
    beats: u64,
    born: Instant,
    last_beat: Option<Instant>,
    /// When [`Core::forget`] is due.
    forgets_at: Instant,
    /// Something changed that the dispatchers have not heard.
    news: bool,
}

impl Core {
    /// A worker without sessions.
    #[must_use]
    pub fn new(about: About, now: Instant) -> Self {
        let load = Load {
            sessions_max: about.sessions_max,
            session_cost: limits::SESSION_COST,
            ..Load::default()
        };
        Self {
            about,
            load,
            phase: WorkerPhase::default(),
            leaves: false,
            sessions: BTreeMap::new(),
            children: BTreeMap::new(),
            epochs: BTreeMap::new(),
            revoked: BTreeMap::new(),
            keys: 0,
            beats: 0,
            born: now,
            last_beat: None,
            forgets_at: now,
            news: true,
        }
    }

    /// Takes an input and returns what to do, in order.
    pub fn handle(&mut self, input: Input, now: Instant) -> Vec<Output> {
        let mut out = Vec::new();
        match input {
            Input::Assign { ticket, assign, fit } => {
                let verdict = self.assign(*assign, fit, now, &mut out);
                out.push(Output::Answer(ticket, verdict));
            }
            Input::Update { ticket, update } => {
                let verdict = self.update(*update, &mut out);
                out.push(Output::Answer(ticket, verdict));
            }
            Input::Revoke { ticket, revoke } => {
                self.revoke(&revoke, now, &mut out);
                out.push(Output::Answer(ticket, accepted()));
            }
            Input::Drain { ticket, undrain } => {
                let verdict = self.drain(undrain);
                out.push(Output::Answer(ticket, verdict));
            }
            Input::Claimed { room, epoch, from } => {
                self.claimed(&room, epoch, from.as_ref(), now, &mut out);
            }
            Input::Spawned(child) => self.spawned(child, &mut out),
            Input::NotSpawned { child, reason, hopeless } => {
                let ended = Ended { clean: false, hopeless, text: reason };
                self.conclude(child, ended, now, &mut out);
            }
            Input::Joined(child) => self.joined(child),
            Input::Heard(session) => self.heard(session),
            Input::Broken { child, why } => self.broken(child, why, &mut out),
            Input::Fatal { child, why } => {
                self.last_word(child, Some(LastWord::Fatal(why)), &mut out);
            }
            Input::Bye { child, reason } => {
                self.last_word(child, Some(LastWord::Bye(reason)), &mut out);
            }
            Input::Closed(child) => self.last_word(child, None, &mut out),
            Input::Exited { child, ended } => self.exited(child, ended, &mut out),
            Input::Drained(child) => {
                if let Some(ended) = self.children.get_mut(&child).and_then(|it| it.ended.take()) {
                    self.conclude(child, ended, now, &mut out);
                }
            }
            Input::Load(load) => {
                self.load = Load { sessions_max: self.about.sessions_max, ..load };
                // It is told with the next heartbeat, and no session is due for it.
                return out;
            }
            Input::Lease(lease) => self.leased(lease, &mut out),
            Input::Retire => self.retire(),
            Input::Leave => self.leave(&mut out),
            Input::Tick => (),
        }
        self.expire(now, &mut out);
        self.beat(now, &mut out);
        out
    }

    /// When [`Input::Tick`] is due.
    #[must_use]
    pub fn deadline(&self) -> Instant {
        let beat = self.next_beat();
        self.sessions.values().filter_map(Session::deadline).fold(beat, Instant::min)
    }

    /// The heartbeat of this moment.
    pub fn heartbeat(&mut self, time_ms: u64) -> Heartbeat {
        let seq = self.beats;
        self.beats += 1;
        Heartbeat {
            worker: self.about.worker.clone(),
            boot: self.about.boot.clone(),
            seq,
            phase: self.phase,
            version: self.about.version.clone(),
            load: self.load.clone(),
            adapters: self.about.adapters.clone(),
            labels: self.about.labels.clone(),
            sessions: self.reports(),
            time_ms,
        }
    }

    /// What the worker has in hand.
    #[must_use]
    pub fn inventory(&self) -> Inventory {
        Inventory { worker: self.about.worker.clone(), sessions: self.reports() }
    }

    /// What was assigned of a task that runs here.
    #[must_use]
    pub fn assigned(&self, task: &TaskId) -> Option<&Assign> {
        self.sessions.get(task).map(|session| &session.assign)
    }

    /// The rooms served.
    #[must_use]
    pub fn rooms(&self) -> Vec<RoomId> {
        let live = self.sessions.values().filter(|session| session.is_live());
        live.map(|session| session.assign.room.clone()).collect()
    }

    /// How many sessions of an adapter have not ended.
    #[must_use]
    pub fn live_of(&self, sdk: &AdapterName) -> usize {
        let live = self.sessions.values().filter(|session| session.is_live());
        live.filter(|session| session.assign.sdk == *sdk).count()
    }

    /// Processes that are alive.
    #[must_use]
    pub fn processes(&self) -> usize {
        self.children.len()
    }

    /// What each process that is alive runs.
    #[must_use]
    pub fn classes(&self) -> BTreeMap<ChildKey, (AdapterName, Kind)> {
        let class = |(key, child): (&ChildKey, &Child)| {
            let assign = &self.sessions.get(&child.task)?.assign;
            Some((*key, (assign.sdk.clone(), assign.kind())))
        };
        self.children.iter().filter_map(class).collect()
    }

    /// Rooms that wait until another worker has left before they play what is
    /// pushed.
    #[must_use]
    pub fn held(&self) -> Vec<RoomId> {
        let held = self.sessions.values().filter(|session| session.is_live() && session.held);
        held.map(|session| session.assign.room.clone()).collect()
    }

    /// Whether nothing is left that a dispatcher must take note of.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.sessions.is_empty() && self.children.is_empty()
    }

    /// Whether a process is alive or about to be.
    #[must_use]
    pub fn has_children(&self) -> bool {
        !self.children.is_empty()
    }

    /// Whether it takes rooms.
    #[must_use]
    pub fn phase(&self) -> WorkerPhase {
        self.phase
    }

    /// Its load as it was last measured.
    #[must_use]
    pub fn load(&self) -> &Load {
        &self.load
    }

    /// How many sessions have not ended.
    #[must_use]
    pub fn live(&self) -> usize {
        self.sessions.values().filter(|session| session.is_live()).count()
    }

    /// How its sessions stand, in no more than is read of a message: where many
    /// have ended at once, with a shorter reason each.
    fn reports(&self) -> Vec<SessionReport> {
        let ended = self.sessions.values().filter(|session| !session.is_live()).count();
        let rest = limits::REASONS_MAX_BYTES / ended.max(1);
        self.sessions.values().map(|session| session.report(rest)).collect()
    }

    fn key(&mut self) -> u64 {
        self.keys += 1;
        self.keys
    }

    // ---- time ----

    fn expire(&mut self, now: Instant, out: &mut Vec<Output>) {
        let due: Vec<TaskId> = self
            .sessions
            .values()
            .filter(|session| session.deadline().is_some_and(|due| due <= now))
            .map(|session| session.assign.task.clone())
            .collect();
        for task in due {
            match self.sessions[&task].adapter {
                Adapter::Waiting(_) => self.start(&task, now, out),
                Adapter::Starting(child, _) => {
                    let Some(session) = self.sessions.get_mut(&task) else { continue };
                    session.adapter = Adapter::Stopping(child);
                    let why = match self.about.raw.contains(&session.assign.sdk) {
                        true => format!("no sound within {:?}", limits::FIRST_FRAME_TIMEOUT),
                        false => format!("it did not join within {:?}", limits::JOIN_TIMEOUT),
                    };
                    self.broken(child, why, out);
                }
                Adapter::Joined(_) | Adapter::Stopping(_) => (),
                Adapter::None => {
                    self.sessions.remove(&task);
                    self.news = true;
                }
            }
        }
    }

    /// Forgets the epochs of rooms that were left long ago. It looks at every room, and so
    /// does so now and then.
    fn forget(&mut self, now: Instant) {
        if now < self.forgets_at {
            return;
        }
        self.forgets_at = now + limits::EPOCH_KEEP / 12;
        let live: BTreeSet<&RoomId> =
            self.sessions.values().map(|session| &session.assign.room).collect();
        self.epochs.retain(|room, (_, seen)| {
            if live.contains(room) {
                *seen = now;
            }
            now.saturating_duration_since(*seen) < limits::EPOCH_KEEP
        });
        self.revoked.retain(|_, (_, at)| now.saturating_duration_since(*at) < limits::EPOCH_KEEP);
    }

    fn next_beat(&self) -> Instant {
        match self.last_beat {
            Some(last) => last + if self.news { self.pace() } else { limits::HEARTBEAT },
            None => self.born,
        }
    }

    /// Between two heartbeats that tell of changes: the more sessions, the more
    /// changes go into one.
    fn pace(&self) -> Duration {
        let share = u32::try_from(self.sessions.len() / 100).unwrap_or(u32::MAX);
        limits::HEARTBEAT_NEWS.saturating_mul(1 + share).min(limits::HEARTBEAT)
    }

    fn beat(&mut self, now: Instant, out: &mut Vec<Output>) {
        if self.last_beat.is_none() || self.next_beat() <= now {
            self.last_beat = Some(now);
            self.news = false;
            self.forget(now);
            out.push(Output::Beat);
        }
    }
}

#[cfg(test)]
mod tests;
