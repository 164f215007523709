//! From a worker that leaves to the next: a task that runs is given to a
//! successor while its worker still serves it, and taken from that one only
//! when the successor is heard.
//!
//! The room is claimed as for any assignment, under the next epoch, and names
//! who serves it meanwhile. A successor that does not come is followed by
//! another; the room stays where it is.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use super::{
    capacity::Left,
    core::Core,
    io::{Output, Record},
    memory::{Ask, Old, Worker},
    queue::{Class, Turn},
    tasks::{Taken, shortened},
};
use crate::{
    bus::messages::{SessionReport, SessionState, WorkerPhase},
    id::{TaskId, WorkerId},
    limits,
    task::{Handover, RoomRecord, TaskRecord, TaskState},
};

/// Where the session stands that a room is taken from.
enum Leaver {
    Serves,
    /// Its worker says that it has ended.
    Ended(SessionReport),
    Gone,
    /// It is not reported, which may mean that we have not heard of it yet.
    Unsure,
}

/// Where the session stands that takes a room over.
enum Successor {
    Comes,
    /// It is in the room.
    Joined,
    /// And is heard.
    Serves,
    /// Another is wanted.
    Lost(String),
}

impl Core {
    /// Whether a task that runs is to be given to another worker.
    fn wants_successor(&self, record: &TaskRecord) -> bool {
        let task = &record.task;
        if self.claims.contains_key(task)
            || self.tasks.is_busy(task)
            || self.rooms.is_busy(&record.spec.room)
        {
            return false;
        }
        let lost = self.plans.get(task).is_some_and(|plan| plan.lost.is_some());
        let Some(holder) = record.holder() else { return false };
        let Some(worker) = self.workers.get(&holder.worker) else { return false };
        let wanted = match &record.from {
            None => record.state == TaskState::Running && is_lame_duck(worker),
            Some(_) => lost,
        };
        let session = worker.sessions.get(&(task.clone(), holder.epoch));
        let runs = session.is_some_and(|it| it.report.state == SessionState::Running);
        wanted && runs && self.is_lively(worker)
    }

    /// Has a successor looked for, where one is wanted.
    pub(super) fn seek_successor(&mut self, record: &TaskRecord) {
        if self.wants_successor(record) {
            self.moving.turns.insert(Turn::of(record));
            self.moving.due = true;
            self.tell_why_it_stays(record);
        } else if record.state == TaskState::Running && !self.holder_leaves(record) {
            self.it_stays(record);
        }
    }

    fn holder_leaves(&self, record: &TaskRecord) -> bool {
        let holder = record.holder().and_then(|holder| self.workers.get(&holder.worker));
        holder.is_some_and(is_lame_duck)
    }

    /// Writes into a task whose worker leaves why nobody takes it over.
    fn tell_why_it_stays(&mut self, record: &TaskRecord) {
        let now = self.now.at;
        let Some(holder) = record.holder() else { return };
        let plan = self.plan(&record.task);
        let Some((why, since)) = plan.waits.clone() else { return };
        if plan.tell_at.unwrap_or(since + limits::WAIT_REASON_AFTER) > now {
            return;
        }
        plan.tell_at = Some(now + limits::WAIT_REASON_AGAIN);
        let why = shortened(&format!("worker {} is leaving; {why}", holder.worker));
        if why != record.reason && self.places.may_tell(now) {
            self.change(record, record.state, &why, |_| ());
        }
    }

    /// A task runs where it may stay: whatever was said of its worker's leaving
    /// is over.
    fn it_stays(&mut self, record: &TaskRecord) {
        let plan = self.plan(&record.task);
        (plan.waits, plan.tell_at) = (None, None);
        if !record.reason.is_empty() && self.places.may_tell(self.now.at) {
            self.change(record, TaskState::Running, "", |_| ());
        }
    }

    /// Claims rooms for successors that are there, as many as may start at a
    /// time.
    pub(super) fn place_successors(&mut self) {
        if !self.schedules() || !std::mem::take(&mut self.moving.due) {
            return;
        }
        let mut free = self.free_places();
        let mut hopeless = BTreeMap::new();
        let mut under_way = self.under_way();
        let mut left = BTreeSet::new();
        for turn in std::mem::take(&mut self.moving.turns) {
            let Some(record) = self.tasks.get(&turn.task).cloned() else { continue };
            if !self.wants_successor(&record) {
                continue; // whatever makes it want one again steps it
            }
            let plan = self.plan(&record.task);
            let rests = plan.rests_until.is_some_and(|until| until > self.now.at);
            let full = self.claims.len() >= limits::CLAIMS_MAX;
            if rests || full || under_way >= limits::HANDOVERS_MAX {
                left.insert(turn);
                continue;
            }
            match self.successor_for(&record, &mut free, &mut hopeless) {
                Some(worker) => {
                    under_way += 1;
                    self.claim(&record, worker, record.holder());
                }
                None => {
                    left.insert(turn);
                }
            }
        }
        self.moving.turns.append(&mut left);
    }

    /// Hand-overs that are claimed or written, but for those that wait for
    /// another successor.
    fn under_way(&self) -> usize {
        let rests = |task: &TaskId| self.plans.get(task).is_some_and(|it| it.lost.is_some());
        let is_claimed = |task: &TaskId| self.claims.get(task).is_some_and(|it| it.from.is_some());
        let moves = |task: &&TaskId| !is_claimed(task) && !rests(task);
        self.index.moving().iter().filter(moves).count()
            + self.claims.values().filter(|claim| claim.from.is_some()).count()
    }

    fn successor_for(
        &mut self,
        record: &TaskRecord,
        free: &mut BTreeMap<WorkerId, Left>,
        hopeless: &mut BTreeMap<Class, String>,
    ) -> Option<WorkerId> {
        let class = Class::of(record);
        if let Some(why) = hopeless.get(&class).cloned() {
            self.waits(record, why);
            return None;
        }
        let tried = self.plan(&record.task).tried.clone();
        let holder = record.holder();
        let leaver = holder.as_ref().map(|holder| &holder.worker);
        match self.find(record, free, &tried, leaver) {
            Ok(worker) => {
                let need = self.need(&worker, record);
                if let Some(left) = free.get_mut(&worker) {
                    left.take(&need, &record.spec.sdk);
                }
                Some(worker)
            }
            Err(why) => {
                let why = self.why(why, &record.spec.sdk);
                let why = self.plan(&record.task).lost.clone().unwrap_or(why);
                match tried.is_empty() {
                    true => drop(hopeless.insert(class, why.clone())),
                    false => self.rest_moving(&record.task),
                }
                self.waits(record, why);
                None
            }
        }
    }

    /// The claim of a successor is under way or granted. Says whether that is
    /// all there is to do for now.
    pub(super) fn is_claimed_on(&mut self, record: &TaskRecord) -> bool {
        let Some(claim) = self.claims.get(&record.task) else { return false };
        if claim.from.is_none() || claim.from != record.holder() || claim.epoch <= record.epoch {
            return false;
        }
        if !claim.granted {
            return true; // the store's answer steps this task again
        }
        let last = self.rooms.get(&record.spec.room).map(|room| room.epoch);
        if last != Some(claim.epoch) {
            self.claims.remove(&record.task); // another leader was faster
            return false;
        }
        let (worker, epoch, from) = (claim.worker.clone(), claim.epoch, claim.from.clone());
        let reason = match (&from, self.plan(&record.task).lost.take()) {
            (_, Some(why)) => why,
            (Some(from), None) => format!("worker {} is leaving", from.worker),
            (None, None) => String::new(),
        };
        self.change(record, TaskState::Draining, &reason, |next| {
            next.worker = Some(worker);
            next.epoch = epoch;
            next.from = from;
        });
        true
    }

    /// Whether the room is claimed for a successor of whoever serves this task.
    pub(super) fn is_offered(&self, record: &TaskRecord) -> bool {
        self.rooms.get(&record.spec.room).is_some_and(|room| {
            room.task.as_ref() == Some(&record.task)
                && room.from.is_some()
                && room.from == record.holder()
        })
    }

    /// A task that one worker serves and another takes over.
    pub(super) fn step_handover(&mut self, record: &TaskRecord, from: &Handover) {
        let leaver = self.leaver(&record.task, from);
        match (leaver, self.successor(record)) {
            // What becomes of the leaver is no matter any more. Some vendors put
            // out whoever has the name of one that joins.
            (_, Successor::Serves) | (Leaver::Ended(_), Successor::Joined) => {
                self.plan(&record.task).started();
                self.change(record, TaskState::Running, "", |next| next.from = None);
            }
            // The other may still be had, or may be on its way: no reason to end.
            (Leaver::Ended(report), _) if is_elsewhere(&report) => {
                let reason = format!("worker {}: {}", from.worker, report.reason);
                self.goes_on_alone(record, &reason);
            }
            // Its worker reports it until it is revoked, and the next one comes
            // within its time or is lost.
            (Leaver::Ended(report), Successor::Comes) if report.state == SessionState::Failed => (),
            (Leaver::Ended(report), _) => self.end_as(record, &report),
            (Leaver::Gone, _) => {
                self.goes_on_alone(record, &format!("worker {} is gone", from.worker));
            }
            (_, Successor::Lost(why)) => self.lose_successor(record, why),
            (Leaver::Serves, _) => (),
            (Leaver::Unsure, _) => self.look_again(&record.task),
        }
    }

    /// Nobody serves a task any more but who is to take it over.
    fn goes_on_alone(&mut self, record: &TaskRecord, reason: &str) {
        self.change(record, record.state, &shortened(reason), |next| next.from = None);
    }

    fn successor(&mut self, record: &TaskRecord) -> Successor {
        let task = &record.task;
        if self.rooms.is_busy(&record.spec.room) {
            return Successor::Comes;
        }
        let Some(worker) = record.worker.clone() else {
            return Successor::Lost("it was given to nobody".to_owned());
        };
        if !self.claim_stands(record) {
            return Successor::Lost("its room was claimed again".to_owned());
        }
        if self.workers.get(&worker).is_some_and(|worker| worker.gone) {
            return Successor::Lost(format!("worker {worker} is gone"));
        }
        let report = self.report(record);
        let is_heard = report
            .as_ref()
            .is_some_and(|report| report.state == SessionState::Running && report.heard);
        if let Some(why) = self.plan(task).lost.clone().filter(|_| !is_heard) {
            return Successor::Lost(why);
        }
        let Some(report) = report else {
            return match self.ask(record, &worker) {
                Taken::Waits => Successor::Comes,
                Taken::Wrong(why) | Taken::Refused(why) | Taken::Lost(why) => Successor::Lost(why),
            };
        };
        let plan = self.plan(task);
        plan.missing = None;
        match report.state {
            SessionState::Done | SessionState::Failed => {
                Successor::Lost(format!("worker {worker}: {}", report.reason))
            }
            SessionState::Starting | SessionState::Other => Successor::Comes,
            SessionState::Running if report.heard => Successor::Serves,
            SessionState::Running => {
                let now = self.now.at;
                let worker = self.workers.get(&worker);
                let session = worker.and_then(|it| it.sessions.get(&(task.clone(), record.epoch)));
                let runs = session.and_then(|session| session.runs).unwrap_or(now);
                let due = runs + limits::HEARD_WITHIN;
                // It may be gone since its worker last told of it.
                if worker.is_some_and(|worker| worker.told >= due) {
                    return Successor::Serves;
                }
                let look = if due > now { due } else { now + limits::HEARTBEAT };
                self.plan(task).look = Some(look);
                Successor::Joined
            }
        }
    }

    fn lose_successor(&mut self, record: &TaskRecord, why: String) {
        let plan = self.plan(&record.task);
        if plan.lost.is_none() {
            plan.ask = Ask::No;
            tracing::info!(task = %record.task, why, "a successor does not come");
            plan.lost = Some(why);
            plan.tried.extend(record.worker.clone());
            if plan.tried.len() >= limits::CANDIDATES_MAX {
                self.rest_moving(&record.task);
            }
        }
        self.seek_successor(record);
        // Its worker may be silent just now, and nobody wanted for that; nothing
        // else steps the task when it is back.
        self.look_again(&record.task);
    }

    /// Nobody takes the room over: it is tried again, each time later.
    fn rest_moving(&mut self, task: &TaskId) {
        let now = self.now.at;
        self.plan(task).rest(now);
        self.wake(task);
    }

    fn look_again(&mut self, task: &TaskId) {
        self.plan(task).look = Some(self.now.at + limits::HEARTBEAT);
    }

    /// The room's record names who may still be in it, until that session is
    /// gone.
    pub(super) fn close_handover(&mut self, record: &TaskRecord) {
        let room = &record.spec.room;
        let Some(known) = self.rooms.get(room).cloned() else { return };
        let Some(from) = &known.from else { return };
        if !self.claim_stands(record) || self.rooms.is_busy(room) {
            return;
        }
        match self.leaver(&record.task, from) {
            Leaver::Serves | Leaver::Unsure => self.look_again(&record.task),
            Leaver::Ended(_) | Leaver::Gone => {
                let next = Arc::new(RoomRecord { from: None, ..RoomRecord::clone(&known) });
                let expected = self.rooms.write(room, next.clone());
                self.out.push(Output::Put { record: Record::Room(next), expected });
            }
        }
    }

    fn leaver(&mut self, task: &TaskId, from: &Handover) -> Leaver {
        let now = self.now.at;
        let may_judge = self.judges_from <= now && !self.is_deaf();
        let worker = self.workers.get(&from.worker);
        let session = worker.and_then(|it| it.sessions.get(&(task.clone(), from.epoch)));
        let report = session.map(|session| session.report.clone());
        let (beats, gone) = worker.map_or((0, false), |worker| (worker.beats, worker.gone));
        let is_there = worker.is_some();
        let fresh = || Old { of: from.clone(), since: now, beats, seen: false };
        let old = self.plan(task).old.get_or_insert_with(fresh);
        if old.of != *from {
            *old = fresh();
        }
        match report {
            _ if gone => Leaver::Gone,
            Some(report) => {
                *old = Old { seen: true, ..fresh() };
                if report.state.is_ended() { Leaver::Ended(report) } else { Leaver::Serves }
            }
            None if !is_there => {
                let over = old.since + limits::WORKER_GONE <= now && may_judge;
                if over { Leaver::Gone } else { Leaver::Unsure }
            }
            None if old.seen && beats > old.beats => Leaver::Gone,
            None => {
                let over = old.since + limits::SESSION_MISSING <= now && beats >= old.beats + 2;
                if over { Leaver::Gone } else { Leaver::Unsure }
            }
        }
    }
}

/// Whether a session failed in a way that others may not.
fn is_elsewhere(report: &SessionReport) -> bool {
    report.state == SessionState::Failed && report.fault.may_go_elsewhere()
}

/// Whether a worker gives its rooms away.
pub(super) fn is_lame_duck(worker: &Worker) -> bool {
    worker.beat.as_ref().is_some_and(|beat| beat.phase == WorkerPhase::LameDuck)
}
