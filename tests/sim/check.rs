//! What must always hold, and what must hold once everything is calm.

use std::collections::{BTreeMap, BTreeSet};

use audio_gateway::{
    bus::messages::{SessionReport, Submitted, TaskEvent, TaskView},
    dispatch::io::Record,
    id::{RoomId, TaskId, WorkerId},
    task::{Epoch, Pull, RoomRecord, TaskState},
};

use super::store::{Store, Written};

/// Watches over a run.
#[derive(Debug, Default)]
pub struct Checker {
    /// What was promised to be on disk.
    promised: BTreeSet<TaskId>,
    /// What was said to have ended.
    ended: BTreeSet<TaskId>,
    /// Which life of which worker got a room's epoch.
    started: BTreeMap<(RoomId, Epoch), (WorkerId, u32)>,
    /// The claim on a room with the highest epoch.
    claimed: BTreeMap<RoomId, RoomRecord>,
    /// The highest epoch a room was heard under: a listener takes no lower one.
    heard: BTreeMap<RoomId, Epoch>,
    /// Changes of state that were written, and those that an event told of.
    changes: BTreeSet<(TaskId, Epoch, TaskState, u64)>,
    told: BTreeSet<(TaskId, Epoch, TaskState, u64)>,
    /// Nothing is lost: nobody may be taken for gone who is not.
    pub strict: bool,
    /// A bucket was lost: what was known last may be older than what was written.
    wiped: bool,
    /// Until when such a loss may not have been noticed by everybody.
    unnoticed: u64,
    /// Who knew what was lost may have been gone: it is not written again.
    forgotten: bool,
    /// No fault at all.
    pub untouched: bool,
    /// No dispatcher ends: every change must be told.
    pub no_deaths: bool,
    pub broken: Option<String>,
    /// Times a task that had begun went back to the queue.
    pub requeued: u32,
    pub served: u32,
    /// Sessions that had taken in an update of their task at the end.
    pub updated: u32,
    /// When sessions were started, and left while they ran.
    pub starts: Vec<u64>,
    pub left: Vec<u64>,
}

/// After every other.
const LAST: Epoch = Epoch(u64::MAX);

fn is_given(state: TaskState) -> bool {
    !state.is_terminal() && state != TaskState::Pending
}

impl Checker {
    pub fn breaks(&mut self, what: String) {
        self.broken.get_or_insert(what);
    }

    /// A bucket was lost. Whoever knows what was in it writes it again, and may
    /// not have known the last of it.
    pub fn lost(&mut self, until: u64, known: bool) {
        self.wiped = true;
        self.unnoticed = self.unnoticed.max(until);
        self.forgotten |= !known;
        self.ended.clear();
    }

    /// A dispatcher is gone, for good or for a while, and what it alone knew.
    pub fn gone(&mut self, now: u64) {
        self.forgotten |= now < self.unnoticed;
    }

    /// Somebody wrote.
    pub fn wrote(&mut self, written: &Written, store: &Store) {
        if let Some(Record::Task(after)) = &written.after {
            self.changes.insert((after.task.clone(), after.epoch, after.state, after.changed_ms));
        }
        match (&written.before, &written.after) {
            (Some(Record::Task(before)), Some(Record::Task(after))) => {
                let (from, to) = (before.state, after.state);
                if from != to && !from.may_become(to) {
                    self.breaks(format!("task {}: {from} became {to}", after.task));
                }
                if after.revision < before.revision {
                    self.breaks(format!("task {}: its revision fell", after.task));
                }
                if from.is_terminal() {
                    self.breaks(format!("task {}: written after its end", after.task));
                }
                if after.epoch < before.epoch {
                    self.breaks(format!("task {}: its epoch fell", after.task));
                }
                if to == TaskState::Pending && is_given(from) && from != TaskState::Assigned {
                    self.requeued += 1;
                }
                let anew = after.epoch != before.epoch;
                if to == TaskState::Assigned && from == TaskState::Pending || anew {
                    self.given(&after.task, &after.spec.room, store);
                }
            }
            (Some(Record::Task(before)), None) if !before.state.is_terminal() => {
                self.breaks(format!("task {}: deleted while {}", before.task, before.state));
            }
            (Some(Record::Task(before)), None) => {
                // By a clock that is hours ahead; its id may be used again.
                self.ended.remove(&before.task);
            }
            (Some(Record::Room(before)), Some(Record::Room(after)))
                if before.from.is_some()
                    && **after == RoomRecord { from: None, ..RoomRecord::clone(before) } => {}
            (_, Some(Record::Room(after))) => {
                let last = self.claimed.get(&after.room).cloned();
                // With a bucket the last claim may be forgotten, and made again as
                // it was; or outbid in its turn, which does no harm where nobody
                // had been given the room under it yet.
                let began = (after.room.clone(), after.epoch)..=(after.room.clone(), LAST);
                let unused = self.started.range(began).next().is_none();
                let same = last.as_ref().is_some_and(|last| {
                    let who =
                        |room: &RoomRecord| (room.epoch, room.task.clone(), room.worker.clone());
                    who(last) == who(after)
                });
                let again = self.wiped && (written.before.is_none() || same || unused);
                if last.as_ref().is_some_and(|last| last.epoch >= after.epoch) {
                    if !again {
                        let (room, epoch) = (&after.room, after.epoch);
                        self.breaks(format!("room {room}: claimed again under {epoch}"));
                    }
                } else {
                    self.claimed.insert(after.room.clone(), RoomRecord::clone(after));
                }
            }
            _ => (),
        }
    }

    /// A task was written as given away: its claim must stand, and no other
    /// task of its room may be with a worker.
    fn given(&mut self, task: &TaskId, room: &RoomId, store: &Store) {
        let others = store.tasks().filter(|other| other.task != *task && other.spec.room == *room);
        for other in others {
            if is_given(other.state) {
                self.breaks(format!("room {room}: both {task} and {} are given", other.task));
            }
        }
    }

    /// A worker started a session.
    pub fn started(&mut self, room: RoomId, epoch: Epoch, worker: &WorkerId, boot: u32, now: u64) {
        let who = (worker.clone(), boot);
        let key = (room, epoch);
        if let Some(first) = self.started.get(&key)
            && *first != who
        {
            let (first, who) = (first.clone(), who.clone());
            self.breaks(format!("room {} epoch {}: {first:?} and {who:?}", key.0, key.1));
        }
        if self.claimed.get(&key.0).is_none_or(|claimed| claimed.epoch < key.1) {
            self.breaks(format!("room {} epoch {}: started, never claimed", key.0, key.1));
        }
        self.served += 1;
        self.starts.push(now);
        self.started.insert(key, who);
    }

    /// A room is heard under an epoch.
    pub fn heard(&mut self, room: &RoomId, epoch: Epoch) {
        let known = self.heard.entry(room.clone()).or_insert(epoch);
        *known = (*known).max(epoch);
    }

    /// An event was told.
    pub fn event(&mut self, event: &TaskEvent) {
        self.told.insert((event.task.clone(), event.epoch, event.state, event.time_ms));
    }

    /// A submit was answered.
    pub fn promised(&mut self, answer: &Submitted, store: &Store, now: u64) {
        let known = self.promised.contains(&answer.task) || now < self.unnoticed;
        if store.task(&answer.task).is_none() && !known {
            self.breaks(format!("task {}: promised and not stored", answer.task));
        }
        self.promised.insert(answer.task.clone());
    }

    /// A cancel or a get was answered.
    pub fn told(&mut self, view: &TaskView) {
        if view.state.is_terminal() {
            self.ended.insert(view.task.clone());
        }
    }

    /// What a session pulls, once it is calm: what its task says. A task that
    /// was written again may be older than what its worker was told.
    pub fn pulled(&mut self, store: &Store, report: &SessionReport, pull: Option<&Pull>) {
        let Some(record) = store.task(&report.task) else { return };
        if record.state != TaskState::Running || pull.is_none() || record.revision == 0 {
            return;
        }
        self.updated += u32::from(report.revision == record.revision);
        let newer = self.wiped && report.revision > record.revision;
        let same =
            report.revision == record.revision && record.spec.pull_or_default().as_ref() == pull;
        if !same && !newer {
            let (task, shown, wanted) = (&report.task, report.revision, record.revision);
            self.breaks(format!("task {task}: calm, and pulls {pull:?} of {shown}, not {wanted}"));
        }
    }

    /// Everything has been calm for long.
    pub fn calm(&mut self, store: &Store, live: &[(WorkerId, SessionReport)]) {
        for task in self.promised.clone() {
            let Some(record) = store.task(&task) else { continue };
            if self.ended.contains(&task) && !record.state.is_terminal() {
                self.breaks(format!("task {task}: was ended and is {}", record.state));
            }
            match record.state {
                state if state.is_terminal() => (),
                TaskState::Running => (),
                state => {
                    let waits = store.tasks().any(|other| {
                        other.task != task
                            && other.spec.room == record.spec.room
                            && other.state == TaskState::Running
                    });
                    if state != TaskState::Pending || !waits {
                        let reason = &record.reason;
                        self.breaks(format!("task {task}: calm, and still {state} ({reason})"));
                    }
                }
            }
        }
        let untold = self.changes.difference(&self.told).next().cloned();
        if let Some((task, epoch, state, _)) = untold.filter(|_| self.no_deaths) {
            self.breaks(format!("task {task} became {state} under {epoch} and no event tells"));
        }
        let mut by_task: BTreeMap<&TaskId, Vec<(&WorkerId, Epoch)>> = BTreeMap::new();
        for (worker, report) in live {
            by_task.entry(&report.task).or_default().push((worker, report.epoch));
        }
        for record in store.tasks() {
            let sessions = by_task.remove(&record.task).unwrap_or_default();
            let wanted: Vec<_> = match (&record.worker, record.state) {
                (Some(worker), TaskState::Running) => vec![(worker, record.epoch)],
                _ => Vec::new(),
            };
            if sessions != wanted {
                let state = record.state;
                self.breaks(format!(
                    "task {}: {state}, with sessions {sessions:?} instead of {wanted:?}",
                    record.task
                ));
            }
            if record.state == TaskState::Running {
                let heard = self.heard.get(&record.spec.room).copied();
                if heard.is_some_and(|heard| heard > record.epoch) {
                    let (task, epoch) = (&record.task, record.epoch);
                    self.breaks(format!("task {task}: runs under {epoch}, heard was {heard:?}"));
                }
                let room = store.room(&record.spec.room);
                // Where a leader died between two writes, nobody took up the
                // claim for a successor, and a later one outbids it.
                let stands = |room: &RoomRecord| match &room.from {
                    None => room.epoch == record.epoch,
                    from => *from == record.holder(),
                };
                let claimed =
                    |room: &&RoomRecord| stands(room) && room.task.as_ref() == Some(&record.task);
                if !room.as_ref().map_or(self.forgotten, claimed) {
                    self.breaks(format!("task {}: runs and has no claim: {room:?}", record.task));
                }
            }
        }
        if let Some((task, sessions)) = by_task.pop_first() {
            let sessions = format!("{sessions:?}");
            self.breaks(format!("task {task}: nobody's sessions {sessions}"));
        }
    }
}
