//! The workers as their heartbeats show them: who is there, who is silent, and
//! which of their sessions are nobody's any more.

use std::collections::BTreeSet;

use super::{
    core::Core,
    handover::is_lame_duck,
    io::{NoAnswer, Output},
    memory::{Session, Timer, Worker},
};
use crate::{
    bus::messages::{Heartbeat, Revoke, SessionState, WorkerView, Workers},
    id::{TaskId, WorkerId},
    limits,
    task::{Epoch, Handover, TaskRecord, TaskState},
};

/// Former lives of a worker that are remembered, so that a heartbeat of theirs
/// that comes late is known for what it is.
const BOOTS: usize = 4;

/// What becomes of a session that a worker reports.
enum Review {
    Keep,
    /// It may be that we do not know something yet.
    Doubtful,
    Over(String),
}

impl Core {
    /// Has a worker in the table that some task's record names.
    pub(super) fn expect(&mut self, worker: &WorkerId) {
        if !self.workers.contains_key(worker) {
            self.workers.insert(worker.clone(), Worker::expected(self.now.at));
            self.timers
                .set(Timer::Worker(worker.clone()), Some(self.now.at + limits::WORKER_SUSPECT));
        }
    }

    /// A task was given to its worker.
    pub(super) fn given_to(&mut self, record: &TaskRecord) {
        let Some(id) = &record.worker else { return };
        self.expect(id);
        if let Some(worker) = self.workers.get_mut(id)
            && !worker.sessions.contains_key(&(record.task.clone(), record.epoch))
        {
            worker.unseen.insert(record.task.clone());
        }
    }

    /// A task is its worker's no more.
    pub(super) fn taken_from(&mut self, record: &TaskRecord) {
        if let Some(worker) = record.worker.as_ref().and_then(|id| self.workers.get_mut(id)) {
            worker.unseen.remove(&record.task);
        }
    }

    /// A worker says how it is.
    pub(super) fn heartbeat(&mut self, mut beat: Heartbeat) {
        let now = self.now.at;
        let id = beat.worker.clone();
        if !self.workers.contains_key(&id) && self.workers.len() >= limits::WORKERS_MAX {
            return;
        }
        let worker = self.workers.entry(id.clone()).or_insert_with(|| Worker::expected(now));
        if !worker.is_news(&beat) {
            return;
        }
        if let Some(last) = worker.beat.as_ref().filter(|last| last.boot != beat.boot) {
            self.quarantine.forget(&id);
            worker.boots.push_back(last.boot.clone());
            if worker.boots.len() > BOOTS {
                worker.boots.pop_front();
            }
        }
        let was_there = worker.beat.is_some() && !worker.gone;
        let reports = std::mem::take(&mut beat.sessions);
        let mut old = std::mem::take(&mut worker.sessions);
        for report in reports {
            let key = (report.task.clone(), report.epoch);
            let before = old.remove(&key);
            let (since, over) = before.as_ref().map_or((now, None), |s| (s.since, s.over));
            let runs = before.as_ref().and_then(|s| s.runs);
            let runs = runs.or((report.state == SessionState::Running).then_some(now));
            let sought = before.as_ref().is_some_and(|s| s.sought);
            let noted = before.is_some_and(|s| s.noted && s.report.state == report.state);
            worker.unseen.remove(&report.task);
            worker.sessions.insert(key, Session { report, since, runs, over, noted, sought });
        }
        worker.beat = Some(beat);
        worker.beats += 1;
        (worker.heard, worker.told) = (now, now);
        worker.beat_due = now + limits::WORKER_SUSPECT;
        worker.absolve();
        self.timers.set(Timer::Worker(id.clone()), Some(now + limits::WORKER_SUSPECT));
        for session in old.into_values() {
            // Somebody may wait for the room to be left.
            self.touch_room(&session.report.room);
        }
        self.weigh(&id);
        self.note_starts(&id);
        self.compare(&id);
        self.review(&id);
        self.room_again();
        if !was_there {
            let tasks: Vec<TaskId> = self.index.of_worker(&id).cloned().collect();
            tasks.iter().for_each(|task| self.touch(task));
        }
    }

    /// Steps every task whose record says something else than its worker.
    fn compare(&mut self, id: &WorkerId) {
        let Some(worker) = self.workers.get(id) else { return };
        let mut touched = Vec::new();
        let mut missed = Vec::new();
        for ((task, epoch), session) in &worker.sessions {
            let Some(record) = self.tasks.get(task) else { continue };
            let report = &session.report;
            let hands_over = record.from.is_some();
            let agree = match report.state {
                SessionState::Starting => record.state == TaskState::Starting || hands_over,
                SessionState::Running => {
                    let said = !record.reason.is_empty();
                    record.state == TaskState::Running && !is_lame_duck(worker) && !said
                }
                SessionState::Done | SessionState::Failed => record.state.is_terminal(),
                SessionState::Other => true,
            };
            let leaves = |from: &Handover| from.worker == *id && from.epoch == *epoch;
            let left = record.from.as_ref().is_some_and(leaves) && report.state.is_ended();
            let theirs = record.epoch == *epoch || record.from.as_ref().is_some_and(leaves);
            let behind = !report.state.is_ended() && report.revision < record.revision;
            if (record.epoch == *epoch && !agree) || left || (theirs && behind) {
                touched.push(task.clone());
            }
        }
        for task in self.index.of_worker(id) {
            let Some(record) = self.tasks.get(task) else { continue };
            let is_its = record.worker.as_ref() == Some(id);
            if is_its && !worker.sessions.contains_key(&(task.clone(), record.epoch)) {
                missed.push(task.clone());
            }
        }
        touched.iter().for_each(|task| self.touch(task));
        missed.iter().for_each(|task| self.missed(task));
        if let Some(worker) = self.workers.get_mut(id) {
            worker.unseen.extend(missed);
        }
    }

    // ---- sessions that are nobody's ----

    /// Ends every session of a worker that should not be.
    pub(super) fn review(&mut self, worker: &WorkerId) {
        let Some(entry) = self.workers.get(worker) else { return };
        let tasks: BTreeSet<TaskId> = entry.sessions.keys().map(|(task, _)| task.clone()).collect();
        tasks.iter().for_each(|task| self.review_task(worker, task));
    }

    /// Ends every session of this task at this worker that should not be.
    pub(super) fn review_task(&mut self, worker: &WorkerId, task: &TaskId) {
        if !self.schedules() {
            return;
        }
        let Some(entry) = self.workers.get(worker) else { return };
        let sessions =
            entry.sessions.range((task.clone(), Epoch(0))..=(task.clone(), Epoch(u64::MAX)));
        let (mut over, mut seeks) = (Vec::new(), false);
        for ((_, epoch), session) in sessions {
            match self.verdict(worker, session) {
                Review::Keep => (),
                Review::Doubtful if session.since + limits::SESSION_FOREIGN > self.now.at => (),
                // A watch that stands still tells of no new task.
                Review::Doubtful if self.tasks.is_busy(task) => (),
                Review::Doubtful if !session.sought => seeks = true,
                Review::Doubtful => over.push((*epoch, "nobody knows this task".to_owned())),
                Review::Over(reason) => over.push((*epoch, reason)),
            }
        }
        if seeks {
            self.seek(worker, task);
        }
        // The highest one ends the lower ones too.
        if let Some((epoch, reason)) = over.pop() {
            over.iter().for_each(|(epoch, _)| self.mark_over(worker, task, *epoch));
            self.end_session(worker, task, epoch, reason);
        }
    }

    /// Has a worker leave a room.
    pub(super) fn end_session(
        &mut self,
        worker: &WorkerId,
        task: &TaskId,
        epoch: Epoch,
        reason: String,
    ) {
        self.mark_over(worker, task, epoch);
        self.revoke(worker, task, epoch, reason);
    }

    fn mark_over(&mut self, worker: &WorkerId, task: &TaskId, epoch: Epoch) {
        let entry = self.workers.get_mut(worker);
        if let Some(it) = entry.and_then(|it| it.sessions.get_mut(&(task.clone(), epoch))) {
            it.over.get_or_insert(self.now.at);
        }
    }

    /// Asks the store for a task that a worker reports and nobody knows; where it
    /// knows of none either, the task is reviewed again.
    fn seek(&mut self, worker: &WorkerId, task: &TaskId) {
        let entry = self.workers.get_mut(worker);
        let sessions = entry.into_iter().flat_map(|it| it.sessions.iter_mut());
        for (_, session) in sessions.filter(|((of, _), _)| of == task) {
            session.sought = true;
        }
        self.read_task(task);
    }

    /// A read of a task's key has found none: whoever reports it may be told so.
    pub(super) fn nobody_knows(&mut self, task: &TaskId) {
        let reports = |worker: &Worker| worker.sessions.keys().any(|(of, _)| of == task);
        let of = self.workers.iter().filter(|(_, worker)| reports(worker)).map(|(id, _)| id);
        for worker in of.cloned().collect::<Vec<_>>() {
            self.review_task(&worker, task);
        }
    }

    fn verdict(&self, worker: &WorkerId, session: &Session) -> Review {
        let report = &session.report;
        let Some(record) = self.tasks.get(&report.task) else { return Review::Doubtful };
        if record.state.is_terminal() {
            return Review::Over(format!("the task is {}", record.state));
        }
        let leaves = |from: &Handover| from.worker == *worker && from.epoch == report.epoch;
        if record.from.as_ref().is_some_and(leaves) {
            return Review::Keep;
        }
        match record.epoch.cmp(&report.epoch) {
            std::cmp::Ordering::Greater => {
                Review::Over(format!("epoch {} is over: {} has begun", report.epoch, record.epoch))
            }
            std::cmp::Ordering::Equal if record.worker.as_ref() == Some(worker) => Review::Keep,
            std::cmp::Ordering::Equal => Review::Doubtful,
            // We lag behind, or the store does: the next claim settles it.
            std::cmp::Ordering::Less => Review::Keep,
        }
    }

    pub(super) fn revoke(
        &mut self,
        worker: &WorkerId,
        task: &TaskId,
        epoch: Epoch,
        reason: String,
    ) {
        if self.revoking.insert((worker.clone(), task.clone())) {
            let revoke = Revoke { task: task.clone(), epoch, reason };
            self.out.push(Output::Revoke { worker: worker.clone(), revoke });
        }
    }

    // ---- silence ----

    fn silence(&self, worker: &Worker) -> std::time::Duration {
        self.now.at.saturating_duration_since(worker.heard.max(self.hears_since))
    }

    /// Whether a worker may be given something new.
    pub(super) fn is_lively(&self, worker: &Worker) -> bool {
        !worker.gone && self.silence(worker) < limits::WORKER_SUSPECT
    }

    /// A worker has been silent, or something about it is due.
    pub(super) fn judge(&mut self, id: &WorkerId) {
        let may_judge = self.leads && self.up && !self.is_deaf() && self.judges_from <= self.now.at;
        let Some(worker) = self.workers.get(id) else { return };
        let now = self.now.at;
        let timer = Timer::Worker(id.clone());
        let silence = self.silence(worker);
        if silence < limits::WORKER_SUSPECT {
            if may_judge {
                self.ask_unread(id);
            }
            return self.timers.set(timer, Some(now + (limits::WORKER_SUSPECT - silence)));
        }
        let idle = self.index.of_worker(id).next().is_none();
        if silence >= limits::WORKER_GONE && idle {
            self.workers.remove(id);
            self.quarantine.forget(id);
            return self.timers.set(timer, None);
        }
        if worker.gone || !may_judge {
            let waits = self.judges_from > now && !worker.gone;
            let at = if waits { self.judges_from } else { now + limits::HEARTBEAT };
            return self.timers.set(timer, Some(at));
        }
        if silence >= limits::WORKER_GONE || worker.nobody >= 2 {
            return self.give_up(id);
        }
        let Some(worker) = self.workers.get_mut(id) else { return };
        let gone_at = now + (limits::WORKER_GONE - silence);
        let mut next = gone_at;
        if !worker.asked {
            match worker.ask_at {
                Some(at) if at > now => next = next.min(at),
                _ => {
                    worker.asked = true;
                    self.out.push(Output::Ping(id.clone()));
                }
            }
        }
        self.timers.set(timer, Some(next));
    }

    /// A worker lives, and none of its heartbeats comes: one may be too large to
    /// be read, or not find its way. The answer to a ping is one, of any size.
    fn ask_unread(&mut self, id: &WorkerId) {
        let now = self.now.at;
        if let Some(worker) = self.workers.get_mut(id)
            && worker.beat.is_some()
            && !worker.gone
            && !worker.asked
            && worker.beat_due <= now
        {
            worker.asked = true;
            worker.beat_due = now + limits::WORKER_SUSPECT;
            self.out.push(Output::Ping(id.clone()));
        }
    }

    /// A worker is taken for gone: its tasks go to others.
    fn give_up(&mut self, id: &WorkerId) {
        let Some(worker) = self.workers.get_mut(id) else { return };
        worker.gone = true;
        let tasks: Vec<TaskId> = self.index.of_worker(id).cloned().collect();
        tracing::warn!(worker = %id, tasks = tasks.len(), "a worker is gone");
        tasks.iter().for_each(|task| self.touch(task));
        self.timers.set(Timer::Worker(id.clone()), Some(self.now.at + limits::HEARTBEAT));
    }

    /// A worker's lease was renewed: it lives, though its heartbeats may not
    /// reach us. In a cluster its server can be cut off from ours and not from
    /// the one that keeps the leases.
    pub(super) fn renewed(&mut self, id: &WorkerId) {
        let now = self.now.at;
        if let Some(worker) = self.workers.get_mut(id).filter(|it| it.beat.is_some() && !it.gone) {
            worker.heard = now;
            worker.absolve();
        }
    }

    /// A ping was answered, or not.
    pub(super) fn ponged(&mut self, id: &WorkerId, answer: Result<Box<Heartbeat>, NoAnswer>) {
        if let Some(worker) = self.workers.get_mut(id) {
            worker.asked = false;
        }
        match answer {
            Ok(beat) => {
                // It speaks, whether or not it says anything new.
                if let Some(worker) = self.workers.get_mut(id)
                    && worker.is_news(&beat)
                {
                    self.heartbeat(*beat);
                } else if let Some(worker) = self.workers.get_mut(id)
                    && worker.beat.as_ref().is_some_and(|last| last.boot == beat.boot)
                {
                    (worker.heard, worker.told) = (self.now.at, self.now.at);
                    worker.beat_due = self.now.at + limits::WORKER_SUSPECT;
                    worker.absolve();
                }
            }
            Err(NoAnswer::NoResponder) => self.nobody_there(id),
            Err(NoAnswer::TimedOut) => self.judge(id),
        }
    }

    /// The server knows nobody who serves this worker's subjects.
    pub(super) fn nobody_there(&mut self, id: &WorkerId) {
        let silence = self.workers.get(id).map(|worker| self.silence(worker));
        let Some(worker) = self.workers.get_mut(id) else { return };
        // One that beats at the same time is between two connections.
        if silence < Some(limits::HEARTBEAT) {
            return;
        }
        worker.nobody = worker.nobody.saturating_add(1);
        worker.ask_at = Some(self.now.at + limits::PING_RETRY);
        self.judge(id);
    }

    /// All workers, for operators.
    pub(super) fn workers_view(&self) -> Workers {
        let view = |worker: &Worker| {
            let beat = worker.beat.as_ref()?;
            let heard = self.now.at.saturating_duration_since(worker.heard);
            Some(WorkerView {
                worker: beat.worker.clone(),
                phase: beat.phase,
                version: beat.version.clone(),
                load: beat.load.clone(),
                adapters: beat.adapters.clone(),
                labels: beat.labels.clone(),
                sessions: worker.live,
                heard_ms: u64::try_from(heard.as_millis()).unwrap_or(u64::MAX),
                quarantined: self.quarantine.view(&beat.worker, self.now.at),
            })
        };
        Workers { workers: self.workers.values().filter_map(view).collect() }
    }
}
