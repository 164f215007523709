//! From the queue to a worker: who is placed next, and the claim on its room.
//!
//! The claim is the point at which it is settled who has a room: its record is
//! written by compare-and-set under a higher epoch than any before. Only then
//! is the task's record written, and only then is the worker asked.

use std::{collections::BTreeMap, sync::Arc, time::Instant};

use super::{
    capacity::{Left, Need},
    core::Core,
    index::is_given,
    io::{Output, Record},
    memory::{Ahead, Claim, Timer},
    place::{NoPlace, Offer, Want, place},
    queue::Class,
};
use crate::{
    bus::messages::WorkerPhase,
    id::{RoomId, TaskId, WorkerId},
    limits,
    task::{Epoch, Handover, RoomRecord, TaskRecord, TaskState},
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
    /// Has the whole queue looked through soon: there may be room again, or
    /// another reason why there is none.
    pub(super) fn room_again(&mut self) {
        if self.index.queue().is_empty() && self.moving.turns.is_empty() {
            return;
        }
        let at = self.places.rest_until.map_or(self.now.at, |at| at.max(self.now.at));
        self.timers.set(Timer::Queue, Some(at));
    }

    /// Looks through the whole queue, and not again for a while.
    pub(super) fn look_through(&mut self) {
        self.places.look_through();
        self.moving.due = !self.moving.turns.is_empty();
        self.places.rest_until = Some(self.now.at + limits::PLACE_EVERY);
    }

    /// Claims rooms for tasks that fit somewhere.
    pub(super) fn place(&mut self) {
        if !self.schedules() {
            return;
        }
        let mut free = None;
        while self.claims.len() < limits::CLAIMS_MAX && !self.places.is_idle() {
            let Some(task) = self.places.next() else { break };
            let Some(record) = self.tasks.get(&task).cloned() else { continue };
            if record.state != TaskState::Pending || !self.is_placeable(&record) {
                continue;
            }
            let class = Class::of(&record);
            if self.places.must_wait(&class) {
                self.places.park(&record, class, None);
                let why = self.places.why(&record).unwrap_or_default().to_owned();
                self.waits(&record, why);
                continue;
            }
            let free = free.get_or_insert_with(|| self.free_places());
            let tried = std::mem::take(&mut self.plan(&task).tried);
            match self.find(&record, free, &tried, None) {
                Ok(worker) => {
                    self.plan(&task).tried = tried;
                    let need = self.need(&worker, &record);
                    if let Some(left) = free.get_mut(&worker) {
                        left.take(&need, &record.spec.sdk);
                    }
                    self.claim(&record, worker, None);
                }
                Err(why) => {
                    let why = self.why(why, &record.spec.sdk);
                    if tried.is_empty() {
                        self.places.park(&record, class, Some(&why));
                    } else {
                        self.rest(&task);
                    }
                    self.waits(&record, why);
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
        let known = self.rooms.get(room).map(|room| (room.task.clone(), room.epoch));
        let Some((Some(owner), epoch)) = known else {
            // Who has it may have been forgotten with a bucket.
            let given = |task: &&TaskId| self.tasks.get(*task).is_some_and(|it| is_given(it.state));
            let mut others = self.index.of_room(room).filter(|task| **task != record.task);
            return others.find(given).map_or(Access::Free, |task| Access::Taken(task.clone()));
        };
        if owner == record.task {
            return if epoch > record.epoch { self.ahead(record, epoch) } else { Access::Free };
        }
        let Some(other) = self.tasks.get(&owner) else {
            // Its creation may be on its way to us still.
            if self.plan(&record.task).no_owner.as_ref() == Some(&owner) {
                // Forgotten with a bucket, it may be served still.
                return self.left(room, &owner, [None, None]);
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
        let last = other.worker.clone().map(|worker| Handover { worker, epoch: other.epoch });
        self.left(room, &owner, [last, other.from.clone()])
    }

    /// Whether a task's own room may be claimed although it is claimed already,
    /// ahead of the task's record. Another leader may be about to write that, as
    /// long as the store may take for it; what we have of it may be old; and its
    /// worker may have the room, where the record was forgotten.
    fn ahead(&mut self, record: &TaskRecord, epoch: Epoch) -> Access {
        let now = self.now.at;
        let plan = self.plan(&record.task);
        let ahead = plan.ahead.filter(|ahead| ahead.epoch == epoch);
        let ahead =
            ahead.unwrap_or(Ahead { epoch, until: now + limits::STORE_TIMEOUT, read: false });
        let over = ahead.until <= now;
        plan.ahead = Some(Ahead { read: over, ..ahead });
        if !over {
            self.wake(&record.task);
        } else if !ahead.read {
            self.read_task(&record.task);
        }
        if !ahead.read {
            return Access::Wait;
        }
        let claimed = self.as_claimed(record).and_then(|claimed| claimed.holder());
        let still = claimed.and_then(|holder| self.leaving(&record.task, &holder));
        still.map_or(Access::Free, Access::Leaving)
    }

    /// A task as the claim on its room has it, where that is ahead of its record.
    pub(super) fn as_claimed(&self, record: &TaskRecord) -> Option<TaskRecord> {
        let room = self.rooms.get(&record.spec.room)?;
        let ahead = room.task.as_ref() == Some(&record.task) && room.epoch > record.epoch;
        // Whose room is being handed over has nobody to whom it could be left.
        let claimed = ahead && room.from.is_none();
        claimed.then(|| TaskRecord {
            worker: room.worker.clone(),
            epoch: room.epoch,
            ..record.clone()
        })
    }

    /// Whether all have left a room who may have been in it for a task: those
    /// that its record names, and these.
    fn left(&self, room: &RoomId, task: &TaskId, others: [Option<Handover>; 2]) -> Access {
        let known = self.rooms.get(room);
        let claim = known
            .and_then(|known| Some(Handover { worker: known.worker.clone()?, epoch: known.epoch }));
        let named = known.and_then(|known| known.from.clone());
        let holders = others.into_iter().chain([claim, named]).flatten();
        let still = holders.filter_map(|holder| self.leaving(task, &holder)).max();
        still.map_or(Access::Free, Access::Leaving)
    }

    /// Until when at most a worker may still be leaving a task that ended.
    fn leaving(&self, task: &TaskId, holder: &Handover) -> Option<Instant> {
        let now = self.now.at;
        let Some(worker) = self.workers.get(&holder.worker).filter(|it| it.beat.is_some()) else {
            // Who leads only just now has not heard yet of all that run.
            return (now < self.judges_from).then_some(now + limits::HEARTBEAT);
        };
        let session = worker.sessions.get(&(task.clone(), holder.epoch))?;
        let until = session.over.unwrap_or(now) + limits::ROOM_LEAVING;
        let is_there = !worker.gone && !session.report.state.is_ended();
        (is_there && until > now).then_some(until)
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

    /// What every worker has left that anything is given to.
    pub(super) fn free_places(&self) -> BTreeMap<WorkerId, Left> {
        let mut claimed: BTreeMap<&WorkerId, Vec<&TaskId>> = BTreeMap::new();
        for (task, claim) in &self.claims {
            claimed.entry(&claim.worker).or_default().push(task);
        }
        let left = |id: &WorkerId| {
            let claims = claimed.get(id).map(Vec::as_slice).unwrap_or_default();
            Some((id.clone(), self.left_at(id, claims)?))
        };
        self.workers.keys().filter_map(left).collect()
    }

    /// A place for a task, but not where it leaves.
    pub(super) fn find(
        &self,
        record: &TaskRecord,
        free: &BTreeMap<WorkerId, Left>,
        tried: &[WorkerId],
        leaver: Option<&WorkerId>,
    ) -> Result<WorkerId, NoPlace> {
        let offers: Vec<Offer<'_>> = free
            .iter()
            .filter_map(|(worker, left)| {
                let beat = self.workers.get(worker)?.beat.as_ref()?;
                let need = Need::of(&beat.load, &record.spec.sdk, record.spec.kind());
                Some(Offer {
                    worker,
                    adapters: &beat.adapters,
                    labels: &beat.labels,
                    leaving: beat.phase != WorkerPhase::Running || leaver == Some(worker),
                    quarantined: self.quarantined(worker, &record.spec.sdk).is_some(),
                    tried: tried.contains(worker),
                    capped: !left.may_run(&record.spec.sdk),
                    free: left.count(&need, &record.spec.sdk),
                })
            })
            .collect();
        let want = Want { sdk: &record.spec.sdk, labels: &record.spec.labels };
        place(want, &offers).cloned()
    }

    /// Claims a room for a worker, and `from` another where that serves it.
    pub(super) fn claim(&mut self, record: &TaskRecord, worker: WorkerId, from: Option<Handover>) {
        let room = record.spec.room.clone();
        let known = self.rooms.get(&room);
        let last = known.map_or(record.epoch, |known| known.epoch).max(record.epoch);
        let epoch = last.max(self.floor).next(self.now.unix_ms);
        self.floor = epoch;
        self.write_claim(&TaskRecord {
            worker: Some(worker.clone()),
            from: from.clone(),
            epoch,
            ..record.clone()
        });
        self.claims
            .insert(record.task.clone(), Claim { room, worker, epoch, from, granted: false });
    }

    /// Writes that a task has its room, as it says.
    fn write_claim(&mut self, record: &TaskRecord) {
        let room = &record.spec.room;
        let now_us = i64::try_from(self.now.unix_ms.saturating_mul(1_000)).unwrap_or(i64::MAX);
        let next = Arc::new(RoomRecord {
            room: room.clone(),
            task: Some(record.task.clone()),
            worker: record.worker.clone(),
            from: record.from.clone(),
            epoch: record.epoch,
            origin_us: self.rooms.get(room).map_or(now_us, |known| known.origin_us),
            fixed_crc: record.spec.fixed_crc(),
        });
        let expected = self.rooms.write(room, next.clone());
        self.out.push(Output::Put { record: Record::Room(next), expected });
    }

    /// Writes a room's claim again where the record of the task that has the room
    /// is ahead of it: with a bucket the claim was lost, or what was written in
    /// its place is older.
    pub(super) fn keep_claim(&mut self, record: &TaskRecord) {
        let room = &record.spec.room;
        let stands = self.rooms.get(room).is_some_and(|known| known.epoch >= record.epoch);
        if !stands && !self.rooms.is_busy(room) {
            self.write_claim(record);
        }
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
    pub(super) fn waits(&mut self, record: &TaskRecord, why: String) {
        let now = self.now.at;
        let plan = self.plan(&record.task);
        if plan.waits.as_ref().is_none_or(|(known, _)| *known != why) {
            plan.waits = Some((why, now));
            // Once it has waited for long enough, it is told.
            self.wake(&record.task);
        }
    }
}
