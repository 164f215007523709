//! From the queue to a worker: who is placed next, and the claim on its room.
//!
//! The claim is the point at which it is settled who has a room: its record is
//! written by compare-and-set under a higher epoch than any before. Only then
//! is the task's record written, and only then is the worker asked.

use std::{collections::BTreeMap, sync::Arc, time::Instant};

use super::{
    core::Core,
    io::{Output, Record},
    memory::{Claim, Timer},
    place::{NoPlace, Offer, Want, free, place},
};
use crate::{
    bus::messages::WorkerPhase,
    id::{AdapterName, RoomId, TaskId, WorkerId},
    limits,
    task::{RoomRecord, TaskRecord, TaskState},
};

/// Whether a room may be claimed.
enum Access {
    Free,
    /// Something about it is under way; it steps the task again.
    Wait,
    /// Another task has it.
    Taken(TaskId),
    /// Its last session is still being left, until then at most.
    Leaving(Instant),
}

impl Core {
    /// Has the whole queue looked through soon: there is room again.
    pub(super) fn room_again(&mut self) {
        if self.index.queue().is_empty() {
            return;
        }
        let at = self.places.rest_until.map_or(self.now.at, |at| at.max(self.now.at));
        self.timers.set(Timer::Queue, Some(at));
    }

    /// Looks through the whole queue, and not again for a while.
    pub(super) fn look_through(&mut self) {
        self.places.fresh.extend(self.index.queue().iter().cloned());
        self.places.rest_until = Some(self.now.at + limits::PLACE_EVERY);
    }

    /// Claims rooms for tasks that fit somewhere.
    pub(super) fn place(&mut self) {
        let full = self.claims.len() >= limits::CLAIMS_MAX;
        if !self.schedules() || self.places.fresh.is_empty() || full {
            return;
        }
        let mut free: BTreeMap<WorkerId, usize> =
            self.workers.keys().filter_map(|id| Some((id.clone(), self.free_at(id)?))).collect();
        let mut hopeless: BTreeMap<(AdapterName, BTreeMap<String, String>), NoPlace> =
            BTreeMap::new();
        while self.claims.len() < limits::CLAIMS_MAX {
            let Some(turn) = self.places.fresh.pop_first() else { break };
            let Some(record) = self.tasks.get(&turn.task).cloned() else { continue };
            if record.state != TaskState::Pending || !self.is_placeable(&record) {
                continue;
            }
            let class = (record.spec.sdk.clone(), record.spec.labels.clone());
            let tried = std::mem::take(&mut self.plan(&record.task).tried);
            let found = match hopeless.get(&class) {
                Some(why) => Err(*why),
                None => self.find(&record, &free, &tried),
            };
            match found {
                Ok(worker) => {
                    self.plan(&record.task).tried = tried;
                    if let Some(left) = free.get_mut(&worker) {
                        *left = left.saturating_sub(1);
                    }
                    self.claim(&record, worker);
                }
                Err(why) => {
                    if tried.is_empty() {
                        hopeless.insert(class, why);
                    } else {
                        self.rest(&record.task);
                    }
                    self.waits(&record, self.why(why, &record.spec.sdk));
                }
            }
        }
    }

    /// Whether a task may be placed now; where it may not, what ends that steps
    /// it again.
    fn is_placeable(&mut self, record: &TaskRecord) -> bool {
        let task = &record.task;
        let rests = self.plans.get(task).and_then(|plan| plan.rests_until);
        if self.claims.contains_key(task)
            || self.tasks.is_busy(task)
            || rests.is_some_and(|until| until > self.now.at)
        {
            return false;
        }
        match self.access(record) {
            Access::Free => true,
            Access::Wait => false,
            Access::Taken(by) => {
                self.waits(record, format!("room {} is served by task {by}", record.spec.room));
                false
            }
            Access::Leaving(until) => {
                self.plan(task).room_left = Some(until);
                self.wake(task);
                self.waits(record, format!("room {} is still being left", record.spec.room));
                false
            }
        }
    }

    fn access(&mut self, record: &TaskRecord) -> Access {
        let room = &record.spec.room;
        if self.rooms.is_busy(room) {
            return Access::Wait;
        }
        let Some(owner) = self.rooms.get(room).and_then(|room| room.task.clone()) else {
            return Access::Free;
        };
        if owner == record.task {
            return Access::Free;
        }
        let Some(other) = self.tasks.get(&owner) else {
            // Its creation may be on its way to us still.
            if self.plan(&record.task).no_owner.as_ref() == Some(&owner) {
                return Access::Free;
            }
            self.places.owners.insert(owner.clone(), record.task.clone());
            if !self.tasks.is_busy(&owner) {
                self.read_task(&owner);
            }
            return Access::Wait;
        };
        if !other.state.is_terminal() {
            return Access::Taken(owner);
        }
        let still = other.worker.as_ref().and_then(|worker| self.leaving(worker, other));
        still.map_or(Access::Free, Access::Leaving)
    }

    /// Until when at most a worker may still be leaving a task that ended.
    fn leaving(&self, worker: &WorkerId, record: &TaskRecord) -> Option<Instant> {
        let worker = self.workers.get(worker).filter(|worker| !worker.gone)?;
        let session = worker.sessions.get(&(record.task.clone(), record.epoch))?;
        let until = session.over.unwrap_or(self.now.at) + limits::ROOM_LEAVING;
        (!session.report.state.is_ended() && until > self.now.at).then_some(until)
    }

    /// A read of a task's key that somebody waited for has ended.
    pub(super) fn owner_looked_up(&mut self, owner: &TaskId) {
        if let Some(waiter) = self.places.owners.remove(owner) {
            if self.tasks.get(owner).is_none() {
                self.plan(&waiter).no_owner = Some(owner.clone());
            }
            self.touch(&waiter);
        }
    }

    /// Sessions that a worker has room for; none where nothing is given to it.
    pub(super) fn free_at(&self, id: &WorkerId) -> Option<usize> {
        let worker = self.workers.get(id).filter(|worker| self.is_lively(worker))?;
        let load = &worker.beat.as_ref()?.load;
        let claims = self.claims.values().filter(|claim| claim.worker == *id).count();
        let unseen = worker.unseen.len() + claims;
        Some(free(load, worker.live + unseen, worker.young + unseen))
    }

    fn find(
        &self,
        record: &TaskRecord,
        free: &BTreeMap<WorkerId, usize>,
        tried: &[WorkerId],
    ) -> Result<WorkerId, NoPlace> {
        let offers: Vec<Offer<'_>> = free
            .iter()
            .filter_map(|(worker, free)| {
                let beat = self.workers.get(worker)?.beat.as_ref()?;
                Some(Offer {
                    worker,
                    adapters: &beat.adapters,
                    labels: &beat.labels,
                    leaving: beat.phase == WorkerPhase::LameDuck,
                    quarantined: self.quarantined(worker, &record.spec.sdk).is_some(),
                    tried: tried.contains(worker),
                    free: *free,
                })
            })
            .collect();
        let want = Want { sdk: &record.spec.sdk, labels: &record.spec.labels };
        place(want, &offers).cloned()
    }

    fn claim(&mut self, record: &TaskRecord, worker: WorkerId) {
        let room = record.spec.room.clone();
        let known = self.rooms.get(&room);
        let last = known.map_or(record.epoch, |known| known.epoch).max(record.epoch);
        let epoch = last.max(self.floor).next(self.now.unix_ms);
        self.floor = epoch;
        let now_us = i64::try_from(self.now.unix_ms.saturating_mul(1_000)).unwrap_or(i64::MAX);
        let next = Arc::new(RoomRecord {
            room: room.clone(),
            task: Some(record.task.clone()),
            worker: Some(worker.clone()),
            epoch,
            origin_us: known.map_or(now_us, |known| known.origin_us),
        });
        let expected = self.rooms.write(&room, next.clone());
        self.out.push(Output::Put { record: Record::Room(next), expected });
        self.claims.insert(record.task.clone(), Claim { room, worker, epoch, granted: false });
    }

    /// A write or a read of a room's key has ended: its claim is granted or void.
    pub(super) fn room_settled(&mut self, room: &RoomId) {
        let waiting = |(_, claim): &(&TaskId, &Claim)| claim.room == *room && !claim.granted;
        let Some(task) = self.claims.iter().find(waiting).map(|(task, _)| task.clone()) else {
            return;
        };
        let Some(claim) = self.claims.get_mut(&task) else { return };
        let stands = self.rooms.get(room).is_some_and(|known| {
            known.task.as_ref() == Some(&task)
                && known.epoch == claim.epoch
                && known.worker.as_ref() == Some(&claim.worker)
        });
        if stands && !self.rooms.is_busy(room) {
            claim.granted = true;
        } else {
            self.claims.remove(&task);
        }
        self.touch(&task);
    }

    /// A worker did not take a task: the next one, or a rest.
    pub(super) fn try_another(&mut self, task: &TaskId, worker: &WorkerId) {
        let plan = self.plan(task);
        plan.tried.push(worker.clone());
        if plan.tried.len() >= limits::CANDIDATES_MAX {
            self.rest(task);
        }
    }

    fn rest(&mut self, task: &TaskId) {
        let now = self.now.at;
        let plan = self.plan(task);
        plan.rest(now);
        self.wake(task);
    }

    /// Remembers why a task waits.
    fn waits(&mut self, record: &TaskRecord, why: String) {
        let now = self.now.at;
        let plan = self.plan(&record.task);
        if plan.waits.as_ref().is_none_or(|(known, _)| *known != why) {
            plan.waits = Some((why, now));
            // Once it has waited for long enough, it is told.
            self.wake(&record.task);
        }
    }
}
