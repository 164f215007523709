//! How starts go: what a failed one means for its task and for its worker.

use super::{core::Core, io::NoAnswer, place::NoPlace, quarantine::Failure, tasks::shortened};
use crate::{
    bus::messages::{Fault, SessionState},
    id::{AdapterName, TaskId, WorkerId},
    task::{Epoch, TaskRecord, TaskState},
};

impl Core {
    /// Takes note of the starts that a worker's last heartbeat tells of. Every
    /// dispatcher does, so that each knows who is in quarantine.
    pub(super) fn note_starts(&mut self, id: &WorkerId) {
        let Some(worker) = self.workers.get(id) else { return };
        let mut ended: Vec<(TaskId, Epoch, AdapterName, Option<Failure>)> = Vec::new();
        for ((task, epoch), session) in worker.sessions.iter().filter(|(_, s)| !s.noted) {
            let Some(record) = self.tasks.get(task) else { continue };
            let report = &session.report;
            let failure = match (report.state, report.fault) {
                (SessionState::Starting | SessionState::Other, _) => continue,
                (SessionState::Failed, Fault::Worker | Fault::Unjoined | Fault::Crashed) => {
                    let sure = report.fault == Fault::Worker;
                    Some(Failure { task: task.clone(), sure, reason: report.reason.clone() })
                }
                // It came far enough to say why, or had been in the room.
                _ => None,
            };
            let worked = report.state == SessionState::Running;
            if worked || failure.is_some() {
                ended.push((task.clone(), *epoch, record.spec.sdk.clone(), failure));
            }
        }
        for (task, epoch, sdk, failure) in ended {
            if let Some(worker) = self.workers.get_mut(id)
                && let Some(session) = worker.sessions.get_mut(&(task, epoch))
            {
                session.noted = true;
            }
            match failure {
                Some(failure) => self.count_failure(id, &sdk, failure),
                None => {
                    for closed in self.quarantine.worked(id, &sdk, self.now.at) {
                        self.tell_of_quarantine(&closed, &sdk);
                    }
                }
            }
        }
    }

    /// Why an adapter gets no tasks at a worker, where that is so.
    pub(super) fn quarantined(&self, worker: &WorkerId, sdk: &AdapterName) -> Option<&str> {
        self.quarantine.closed(worker, sdk, self.now.at)
    }

    /// Why a task with this adapter fits nowhere, in full.
    pub(super) fn why(&self, why: NoPlace, sdk: &AdapterName) -> String {
        let mut ill = self.workers.keys().filter_map(|id| Some((id, self.quarantined(id, sdk)?)));
        match (why, ill.next()) {
            (NoPlace::Quarantined, Some((worker, reason))) => {
                shortened(&format!("{why}: worker {worker}: {reason}"))
            }
            _ => why.to_string().replace("this adapter", &format!("the adapter {sdk}")),
        }
    }

    /// A worker gave no answer to an assignment.
    pub(super) fn unanswered(&mut self, record: &TaskRecord, worker: &WorkerId, why: NoAnswer) {
        // Where nobody is there, it is gone: that is no start.
        if why == NoAnswer::TimedOut {
            let reason = "it did not answer in time".to_owned();
            let failure = Failure { task: record.task.clone(), sure: false, reason };
            self.count_failure(worker, &record.spec.sdk, failure);
        }
    }

    fn count_failure(&mut self, worker: &WorkerId, sdk: &AdapterName, failure: Failure) {
        if self.quarantine.failed(worker, sdk, failure, self.now.at) {
            self.tell_of_quarantine(worker, sdk);
        }
    }

    fn tell_of_quarantine(&self, worker: &WorkerId, sdk: &AdapterName) {
        if self.leads {
            let reason = self.quarantine.closed(worker, sdk, self.now.at).unwrap_or_default();
            tracing::warn!(%worker, adapter = %sdk, reason, "starts fail there: in quarantine");
        }
    }

    /// The adapter was not started, or did not join in time: another worker may
    /// have more luck.
    pub(super) fn start_failed(&mut self, record: &TaskRecord, worker: &WorkerId, reason: &str) {
        self.try_another(&record.task, worker);
        let reason = shortened(&format!("worker {worker}: {reason}"));
        match record.state {
            TaskState::Assigned | TaskState::Starting => {
                let since = record.pending_ms;
                self.change(record, TaskState::Pending, &reason, |next| next.pending_ms = since);
            }
            _ => self.requeue(record, &reason),
        }
    }
}
