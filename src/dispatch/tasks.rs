//! One task at a time: what its record, its room and its worker's last report
//! say comes next.

use std::time::Instant;

use super::{
    core::Core,
    io::{NoAnswer, Output},
    memory::{Ask, Plan, Timer},
};
use crate::{
    bus::messages::{Assign, SessionReport, SessionState, Verdict},
    id::{TaskId, WorkerId},
    limits,
    task::{Handover, TaskRecord, TaskState},
};

/// What became of a task that was given to a worker.
pub(super) enum Taken {
    /// It may still take it.
    Waits,
    /// It refuses, as every worker would.
    Wrong(String),
    /// Another is to be asked.
    Refused(String),
    /// It had it, or may have had it, and has it no more.
    Lost(String),
}

impl Core {
    /// Does what comes next for a task.
    pub(super) fn step(&mut self, task: &TaskId) {
        if self.tasks.is_due(task, self.now.at) {
            self.read_task(task);
        }
        if !self.tasks.is_busy(task) {
            self.serve(task);
        }
        if self.tasks.is_busy(task) || !self.schedules() {
            return;
        }
        let Some(record) = self.tasks.get(task).cloned() else { return self.forget(task) };
        match record.state {
            state if state.is_terminal() => self.forget(task),
            TaskState::Pending => self.step_pending(&record),
            _ => self.step_given(&record),
        }
    }

    fn forget(&mut self, task: &TaskId) {
        self.plans.remove(task);
        self.claims.remove(task);
        self.timers.set(Timer::Task(task.clone()), None);
    }

    pub(super) fn plan(&mut self, task: &TaskId) -> &mut Plan {
        self.plans.entry(task.clone()).or_default()
    }

    fn step_pending(&mut self, record: &TaskRecord) {
        if let Some(claim) = self.claims.get(&record.task) {
            if !claim.granted {
                return; // the store's answer steps this task again
            }
            let last = self.rooms.get(&record.spec.room).map(|room| room.epoch);
            if last == Some(claim.epoch) && claim.epoch > record.epoch {
                let (worker, epoch) = (claim.worker.clone(), claim.epoch);
                return self.change(record, TaskState::Assigned, "", |next| {
                    next.worker = Some(worker);
                    next.epoch = epoch;
                });
            }
            // Another leader has claimed the room since.
            self.claims.remove(&record.task);
            self.places.again(record);
        }
        if let Some(report) = self.report(record) {
            // Its worker was taken for gone and is back before anybody else got
            // the task.
            match report.state {
                // Its start failed there: others are tried.
                SessionState::Failed if report.fault.may_go_elsewhere() => (),
                SessionState::Done | SessionState::Failed => return self.end_as(record, &report),
                SessionState::Starting | SessionState::Running | SessionState::Other => {
                    if self.claim_stands(record) {
                        return self.change(
                            record,
                            TaskState::Assigned,
                            "its worker is back",
                            |_| (),
                        );
                    }
                }
            }
        }
        if self.is_served_already(record) {
            return;
        }
        let within = std::time::Duration::from_secs(record.spec.start_within_s);
        let expires = match self.plan(&record.task).expires {
            Some((since, at)) if since == record.pending_ms => at,
            _ => self.moment(record.pending_ms, within),
        };
        let now = self.now.at;
        let plan = self.plan(&record.task);
        plan.expires = Some((record.pending_ms, expires));
        if expires <= now {
            let why = plan.waits.as_ref().map_or(&record.reason, |(why, _)| why).clone();
            let why = self.places.why(record).map_or(why, str::to_owned);
            let reason = format!("no worker took it within {} s: {why}", within.as_secs());
            return self.change(record, TaskState::Expired, &reason, |_| ());
        }
        self.wake(&record.task);
        self.tell_why(record);
    }

    /// Writes that a task is with the worker that reports it under the claim on its
    /// room, where that is ahead of its record: what was known of it was lost with
    /// a bucket, and it was submitted again. Where it was submitted as another the
    /// worker has to leave first.
    fn is_served_already(&mut self, record: &TaskRecord) -> bool {
        let Some(claimed) = self.as_claimed(record) else { return false };
        let Some(report) = self.report(&claimed).filter(|report| !report.state.is_ended()) else {
            return false;
        };
        let crc = self.rooms.get(&record.spec.room).and_then(|room| room.fixed_crc);
        if crc != record.spec.fixed_crc() {
            if let Some(Handover { worker, epoch }) = claimed.holder() {
                let reason = "its task was forgotten, and submitted again as another".to_owned();
                self.end_session(&worker, &record.task, epoch, reason);
            }
            return false;
        }
        let now = self.now.unix_ms;
        self.change(record, TaskState::Assigned, "its worker has it already", |next| {
            (next.worker, next.epoch) = (claimed.worker, claimed.epoch);
            // What it pulls is of the submit or the update that was forgotten.
            *next = next.updated(next.spec.clone(), report.revision, now);
        });
        true
    }

    /// Has a task stepped again when something about it is due.
    pub(super) fn wake(&mut self, task: &TaskId) {
        let now = self.now.at;
        let Some(plan) = self.plans.get(task) else { return };
        let moments = [
            plan.expires.map(|(_, at)| at),
            plan.ends.map(|(_, at)| at),
            plan.rests_until,
            plan.ahead.map(|ahead| ahead.until),
            plan.room_left,
            plan.look,
            plan.waits.as_ref().map(|(_, since)| *since + limits::WAIT_REASON_AFTER),
            plan.tell_at,
        ];
        let next = moments.into_iter().flatten().filter(|at| *at > now).min();
        self.timers.set(Timer::Task(task.clone()), next);
    }

    /// Writes into a task that waits why it does.
    fn tell_why(&mut self, record: &TaskRecord) {
        let now = self.now.at;
        // Its class may have found another reason since it had its own.
        let newer = self.places.why(record).map(str::to_owned);
        let Some((why, since)) = self.plan(&record.task).waits.clone() else { return };
        let why = newer.unwrap_or(why);
        let due = self.plan(&record.task).tell_at.unwrap_or(since + limits::WAIT_REASON_AFTER);
        if due > now {
            return;
        }
        self.plan(&record.task).tell_at = Some(now + limits::WAIT_REASON_AGAIN);
        self.wake(&record.task);
        if why != record.reason && self.places.may_tell(now) {
            self.change(record, TaskState::Pending, &why, |_| ());
        }
    }

    fn step_given(&mut self, record: &TaskRecord) {
        if self.is_claimed_on(record) {
            return;
        }
        let ours = self.claims.remove(&record.task);
        let Some(worker) = record.worker.clone() else {
            return self.requeue(record, "it was given to nobody");
        };
        let ends = self.ends(record);
        if ends.is_some_and(|at| at <= self.now.at) {
            return self.change(record, TaskState::Done, "its max_duration_s is over", |_| ());
        }
        if ours.is_some_and(|claim| claim.granted && claim.epoch == record.epoch) {
            self.plan(&record.task).ask = Ask::Due;
        }
        self.keep_claim(record);
        self.plan(&record.task).look = None;
        self.tell_of_update(record);
        match &record.from {
            Some(from) => self.step_handover(record, from),
            None => self.step_alone(record, &worker),
        }
        self.wake(&record.task);
    }

    /// A task that one worker has, or is to have.
    fn step_alone(&mut self, record: &TaskRecord, worker: &WorkerId) {
        if self.workers.get(worker).is_some_and(|worker| worker.gone) {
            return self.requeue(record, &format!("worker {worker} is gone"));
        }
        let room = &record.spec.room;
        let claimed = self.rooms.get(room).map(|room| room.epoch);
        if claimed > Some(record.epoch) && !self.rooms.is_busy(room) && !self.is_offered(record) {
            return self.requeue(record, "its room was claimed again");
        }
        self.close_handover(record);
        let Some(report) = self.report(record) else {
            return match record.state {
                TaskState::Assigned | TaskState::Draining => self.await_worker(record, worker),
                _ if self.is_missed(record) => {
                    self.requeue(record, &format!("worker {worker} lost it"));
                }
                _ => (),
            };
        };
        self.plan(&record.task).missing = None;
        match (report.state, record.state) {
            (SessionState::Failed, _) if report.fault.may_go_elsewhere() => {
                self.start_failed(record, worker, &report.reason);
            }
            (SessionState::Done | SessionState::Failed, _) => self.end_as(record, &report),
            (SessionState::Starting, TaskState::Assigned) => {
                self.change(record, TaskState::Starting, "", |_| ());
            }
            (
                SessionState::Running,
                TaskState::Assigned | TaskState::Starting | TaskState::Draining,
            ) => {
                let now = self.now.unix_ms;
                self.plan(&record.task).started();
                self.change(record, TaskState::Running, "", |next| {
                    next.started_ms.get_or_insert(now);
                });
            }
            _ => self.seek_successor(record),
        }
    }

    fn await_worker(&mut self, record: &TaskRecord, worker: &WorkerId) {
        match self.ask(record, worker) {
            Taken::Waits => (),
            Taken::Wrong(reason) => self.change(record, TaskState::Failed, &reason, |_| ()),
            Taken::Refused(reason) => {
                self.try_another(&record.task, worker);
                self.requeue(record, &reason);
            }
            Taken::Lost(reason) => self.requeue(record, &reason),
        }
    }

    fn ends(&mut self, record: &TaskRecord) -> Option<Instant> {
        let started = record.started_ms?;
        let seconds = record.spec.max_duration_s;
        let span = match seconds {
            0 => limits::TASK_MAX_DURATION,
            seconds => std::time::Duration::from_secs(seconds),
        };
        let at = match self.plan(&record.task).ends {
            Some((of, at)) if of == (started, seconds) => at,
            _ => self.moment(started, span),
        };
        self.plan(&record.task).ends = Some(((started, seconds), at));
        Some(at)
    }

    /// A task that was given away and that its worker does not report. An epoch
    /// is asked for once, by whoever made its claim: a worker that was restarted
    /// in between would else begin it a second time. Whoever finds it given away
    /// waits for the report, and claims anew where none comes.
    pub(super) fn ask(&mut self, record: &TaskRecord, worker: &WorkerId) -> Taken {
        let judges = self.judges_from <= self.now.at;
        match std::mem::take(&mut self.plan(&record.task).ask) {
            Ask::Due if self.claim_stands(record) => {
                self.give(record, worker);
                return Taken::Waits;
            }
            Ask::Due => return Taken::Lost("its room's claim is lost".to_owned()),
            Ask::Out => {
                self.plan(&record.task).ask = Ask::Out;
                return Taken::Waits;
            }
            Ask::No => (),
            Ask::Said(Ok(verdict)) if verdict.accepted => (),
            Ask::Said(Ok(verdict)) if verdict.fatal => {
                return Taken::Wrong(format!("worker {worker}: {}", shortened(&verdict.reason)));
            }
            Ask::Said(Ok(verdict)) => {
                let reason = shortened(&verdict.reason);
                return Taken::Refused(format!("worker {worker} refused: {reason}"));
            }
            // Our own connection may be at fault: it shows whether it heard us.
            Ask::Said(Err(_)) if !judges => (),
            Ask::Said(Err(why)) => {
                self.unanswered(record, worker, why);
                let how = match why {
                    NoAnswer::NoResponder => "is not there",
                    NoAnswer::TimedOut => "did not answer in time",
                };
                return Taken::Refused(format!("worker {worker} {how}"));
            }
        }
        match self.is_missed(record) {
            true => Taken::Lost(format!("worker {worker} lost it")),
            false => Taken::Waits,
        }
    }

    fn give(&mut self, record: &TaskRecord, worker: &WorkerId) {
        let room = &record.spec.room;
        let Some(claim) = self.rooms.get(room) else { return };
        let assign = Box::new(Assign {
            task: record.task.clone(),
            room: room.clone(),
            epoch: record.epoch,
            sdk: record.spec.sdk.clone(),
            params: record.spec.params.clone(),
            pull: record.spec.pull_or_default(),
            push: record.spec.push.clone(),
            origin_us: claim.origin_us,
            from: record.from.clone(),
            revision: record.revision,
        });
        self.plan(&record.task).ask = Ask::Out;
        self.out.push(Output::Assign { worker: worker.clone(), assign });
    }

    /// A worker answered, or not, whether it takes a task.
    pub(super) fn assigned(
        &mut self,
        worker: &WorkerId,
        assign: &Assign,
        answer: Result<Verdict, NoAnswer>,
    ) {
        if answer == Err(NoAnswer::NoResponder) {
            self.nobody_there(worker);
        }
        let current = self.tasks.get(&assign.task).is_some_and(|record| {
            record.epoch == assign.epoch && record.worker.as_ref() == Some(worker)
        });
        if let Some(plan) = self.plans.get_mut(&assign.task)
            && current
            && matches!(plan.ask, Ask::Out)
        {
            plan.ask = Ask::Said(answer);
            self.touch(&assign.task);
        }
    }

    /// Whether the worker has beaten for long enough without reporting the task.
    fn is_missed(&mut self, record: &TaskRecord) -> bool {
        let now = self.now.at;
        let (since, beats) = *self.plan(&record.task).missing.get_or_insert((now, 0));
        since + limits::SESSION_MISSING <= now && beats >= 2
    }

    /// A heartbeat came that does not report the task.
    pub(super) fn missed(&mut self, task: &TaskId) {
        if self.leads {
            if let Some((_, beats)) = &mut self.plan(task).missing {
                *beats = beats.saturating_add(1);
            }
            self.touch(task);
        }
    }

    /// Whether the room is claimed for exactly this assignment.
    pub(super) fn claim_stands(&self, record: &TaskRecord) -> bool {
        self.rooms.get(&record.spec.room).is_some_and(|room| {
            room.task.as_ref() == Some(&record.task)
                && room.worker == record.worker
                && room.epoch == record.epoch
        })
    }

    /// What the worker last said about the task's last assignment.
    pub(super) fn report(&self, record: &TaskRecord) -> Option<SessionReport> {
        let worker = self.workers.get(record.worker.as_ref()?)?;
        // The last words of somebody who is silent are no reason to go back.
        if worker.gone || (record.state == TaskState::Pending && !self.is_lively(worker)) {
            return None;
        }
        let key = (record.task.clone(), record.epoch);
        Some(worker.sessions.get(&key)?.report.clone())
    }

    pub(super) fn end_as(&mut self, record: &TaskRecord, report: &SessionReport) {
        let end = match report.state {
            SessionState::Failed => TaskState::Failed,
            _ => TaskState::Done,
        };
        self.change(record, end, &shortened(&report.reason), |_| ());
    }

    /// Back to the queue: to its old place, where it has not begun.
    pub(super) fn requeue(&mut self, record: &TaskRecord, reason: &str) {
        let now = self.now.unix_ms;
        let since = if record.state == TaskState::Assigned { record.pending_ms } else { now };
        self.change(record, TaskState::Pending, reason, |next| {
            next.pending_ms = since;
            next.from = None;
        });
    }
}

/// A reason that fits an event.
pub(super) fn shortened(reason: &str) -> String {
    let mut end = reason.len().min(limits::REASON_MAX_BYTES);
    while !reason.is_char_boundary(end) {
        end -= 1;
    }
    reason[..end].to_owned()
}
