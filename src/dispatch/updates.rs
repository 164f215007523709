//! Changes of tasks that wait or run: how they come to the record, and from
//! there to whoever serves the task.
//!
//! The record has a revision, and so has each session that its worker reports.
//! Where the session's is lower its worker is told what is wanted now, and told
//! again until it shows it: no message that is lost, no leader that goes and no
//! hand-over loses an update. A worker of a version that knows none goes on as
//! it is; whoever has the room after it begins with what is wanted.

use super::{core::Core, io::Output, memory::Telling, tasks::shortened};
use crate::{
    bus::messages::{Refusal, RefusalCode, TaskView, UpdateSession},
    limits,
    task::{Handover, TaskRecord, Update},
};

impl Core {
    /// A task's record with an update; none where that changes nothing.
    pub(super) fn updated(
        &self,
        record: &TaskRecord,
        update: &Update,
    ) -> Result<Option<TaskRecord>, Refusal> {
        if record.state.is_terminal() {
            let why = format!("task {} is {}: submit another", record.task, record.state);
            return Err(Refusal::new(RefusalCode::Conflict, why));
        }
        let spec = update.apply(&record.spec).map_err(|error| {
            Refusal::new(RefusalCode::BadRequest, shortened(&error.to_string()))
        })?;
        let shown = self.shown(record).map(|(_, revision)| revision).max().unwrap_or_default();
        let anew = spec != record.spec;
        Ok(anew.then(|| record.updated(spec, shown, self.now.unix_ms)))
    }

    /// A task as services see it.
    pub(super) fn view(&self, record: &TaskRecord) -> TaskView {
        let updating = self.shown(record).any(|(_, shown)| shown < record.revision);
        TaskView { updating, ..TaskView::from(record) }
    }

    /// The sessions of a task that have not ended, with the last update that
    /// each of them shows.
    fn shown<'a>(
        &'a self,
        record: &'a TaskRecord,
    ) -> impl Iterator<Item = (Handover, u64)> + use<'a> {
        let last = record.worker.clone().map(|worker| Handover { worker, epoch: record.epoch });
        last.into_iter().chain(record.from.clone()).filter_map(|holder| {
            let worker = self.workers.get(&holder.worker)?;
            let report = &worker.sessions.get(&(record.task.clone(), holder.epoch))?.report;
            (!report.state.is_ended()).then_some((holder, report.revision))
        })
    }

    /// Tells whoever serves a task of its last update, where they do not show
    /// it: at once, and then after twice as long each time. Each of their
    /// heartbeats comes here as long as that is so.
    pub(super) fn tell_of_update(&mut self, record: &TaskRecord) {
        if record.revision == 0 {
            return;
        }
        let now = self.now.at;
        let behind: Vec<Handover> = (self.shown(record))
            .filter(|(_, shown)| *shown < record.revision)
            .map(|(holder, _)| holder)
            .collect();
        let told = &mut self.plan(&record.task).told;
        told.retain(|worker, _| behind.iter().any(|holder| holder.worker == *worker));
        let mut due = Vec::new();
        for Handover { worker, epoch } in behind {
            let fresh = || Telling { revision: 0, again: now, wait: limits::ACCEPT_TIMEOUT };
            let telling = told.entry(worker.clone()).or_insert_with(fresh);
            if telling.revision != record.revision {
                *telling = Telling { revision: record.revision, ..fresh() };
            }
            if telling.again <= now {
                telling.again = now + telling.wait;
                telling.wait = (2 * telling.wait).min(limits::UPDATE_AGAIN_MAX);
                due.push((worker, epoch));
            }
        }
        for (worker, epoch) in due {
            let update = Box::new(UpdateSession {
                task: record.task.clone(),
                epoch,
                revision: record.revision,
                pull: record.spec.pull_or_default(),
            });
            self.out.push(Output::Update { worker, update });
        }
    }
}
