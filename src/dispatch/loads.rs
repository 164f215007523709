//! What each worker has left, as far as anybody can know: what it says it uses,
//! and what was given to it and does not show there yet.

use super::{
    capacity::{Budget, Left, Need},
    core::Core,
};
use crate::{
    id::{TaskId, WorkerId},
    limits,
    task::TaskRecord,
};

impl Core {
    /// A heartbeat came: counts its sessions and sees whether it is full.
    pub(super) fn weigh(&mut self, id: &WorkerId) {
        let now = self.now.at;
        let Some(worker) = self.workers.get(id) else { return };
        let (mut live, mut young) = (0, Need::default());
        for ((task, _), session) in &worker.sessions {
            if session.report.state.is_ended() {
                continue;
            }
            live += 1;
            if session.since + limits::SESSION_YOUNG > now {
                young = young.and(self.need_of(id, task));
            }
        }
        if let Some(worker) = self.workers.get_mut(id) {
            (worker.live, worker.young) = (live, young);
        }
        let full = self.budget(id, &self.claimed_at(id)).is_some_and(|(budget, average)| {
            let was = self.workers.get(id).is_some_and(|worker| worker.full);
            budget.is_full(was, &average)
        });
        if let Some(worker) = self.workers.get_mut(id) {
            worker.full = full;
        }
    }

    /// What a task takes at a worker.
    pub(super) fn need(&self, id: &WorkerId, record: &TaskRecord) -> Need {
        let load = self.workers.get(id).and_then(|worker| worker.beat.as_ref()).map(|it| &it.load);
        load.map_or_else(Need::default, |load| Need::of(load, &record.spec.sdk, record.spec.kind()))
    }

    fn need_of(&self, id: &WorkerId, task: &TaskId) -> Need {
        if let Some(record) = self.tasks.get(task) {
            return self.need(id, record);
        }
        let beat = self.workers.get(id).and_then(|worker| worker.beat.as_ref());
        beat.map_or_else(Need::default, |beat| Need::average(&beat.load))
    }

    fn claimed_at(&self, id: &WorkerId) -> Vec<&TaskId> {
        let claims = self.claims.iter().filter(|(_, claim)| claim.worker == *id);
        claims.map(|(task, _)| task).collect()
    }

    fn budget(&self, id: &WorkerId, claims: &[&TaskId]) -> Option<(Budget, Need)> {
        let worker = self.workers.get(id)?;
        let load = &worker.beat.as_ref()?.load;
        let unseen = worker.unseen.iter().chain(claims.iter().copied());
        let (mut hidden, mut sessions) = (worker.young, worker.live);
        for task in unseen {
            hidden = hidden.and(self.need_of(id, task));
            sessions += 1;
        }
        Some((Budget::of(load, hidden, sessions), Need::average(load)))
    }

    /// What a worker has left beside these claims; none where nothing is given
    /// to it.
    pub(super) fn left_at(&self, id: &WorkerId, claims: &[&TaskId]) -> Option<Left> {
        let worker = self.workers.get(id).filter(|worker| self.is_lively(worker))?;
        let (budget, _) = self.budget(id, claims)?;
        let budget = if worker.full { budget.closed() } else { budget };
        let live = worker.sessions.iter().filter(|(_, it)| !it.report.state.is_ended());
        let live = live.map(|((task, _), _)| task);
        let tasks = live.chain(&worker.unseen).chain(claims.iter().copied());
        let adapters = tasks.filter_map(|task| Some(&self.tasks.get(task)?.spec.sdk));
        Some(Left::of(budget, &worker.beat.as_ref()?.load, adapters))
    }
}
