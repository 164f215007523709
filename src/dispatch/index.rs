//! The tasks by what they are looked up by: room, worker, place in the queue,
//! time of their end.

use std::collections::{BTreeMap, BTreeSet};

use super::queue::Turn;
use crate::{
    id::{RoomId, TaskId, WorkerId},
    task::{TaskRecord, TaskState},
};

/// Whether a worker has the task.
pub(super) fn is_given(state: TaskState) -> bool {
    !state.is_terminal() && state != TaskState::Pending
}

/// The index.
#[derive(Debug, Default)]
pub(super) struct Index {
    by_room: BTreeMap<RoomId, BTreeSet<TaskId>>,
    by_worker: BTreeMap<WorkerId, BTreeSet<TaskId>>,
    queue: BTreeSet<Turn>,
    moving: BTreeSet<TaskId>,
    ended: BTreeSet<(u64, TaskId)>,
    states: BTreeMap<TaskState, usize>,
}

impl Index {
    /// Takes in that a task's record changed.
    pub(super) fn update(&mut self, before: Option<&TaskRecord>, after: Option<&TaskRecord>) {
        if let Some(old) = before {
            self.remove(old);
            if let Some(count) = self.states.get_mut(&old.state) {
                *count -= 1;
            }
        }
        if let Some(new) = after {
            self.insert(new);
            *self.states.entry(new.state).or_default() += 1;
        }
        self.states.retain(|_, count| *count > 0);
    }

    fn insert(&mut self, record: &TaskRecord) {
        let task = &record.task;
        if record.state.is_terminal() {
            self.ended.insert((record.changed_ms, task.clone()));
            return;
        }
        self.by_room.entry(record.spec.room.clone()).or_default().insert(task.clone());
        if record.state == TaskState::Pending {
            self.queue.insert(Turn::of(record));
            return;
        }
        for worker in record.workers() {
            self.by_worker.entry(worker.clone()).or_default().insert(task.clone());
        }
        if record.from.is_some() {
            self.moving.insert(task.clone());
        }
    }

    fn remove(&mut self, record: &TaskRecord) {
        let task = &record.task;
        if record.state.is_terminal() {
            self.ended.remove(&(record.changed_ms, task.clone()));
            return;
        }
        remove_from(&mut self.by_room, &record.spec.room, task);
        if record.state == TaskState::Pending {
            self.queue.remove(&Turn::of(record));
            return;
        }
        for worker in record.workers() {
            remove_from(&mut self.by_worker, worker, task);
        }
        self.moving.remove(task);
    }

    /// The tasks of a room that have not ended.
    pub(super) fn of_room(&self, room: &RoomId) -> impl Iterator<Item = &TaskId> {
        self.by_room.get(room).into_iter().flatten()
    }

    /// The tasks a worker has, and those it hands over.
    pub(super) fn of_worker(&self, worker: &WorkerId) -> impl Iterator<Item = &TaskId> {
        self.by_worker.get(worker).into_iter().flatten()
    }

    /// The workers that have tasks.
    pub(super) fn workers(&self) -> impl Iterator<Item = &WorkerId> {
        self.by_worker.keys()
    }

    /// The tasks that wait for a worker, in their order.
    pub(super) fn queue(&self) -> &BTreeSet<Turn> {
        &self.queue
    }

    /// How many tasks are in each state that is not empty.
    pub(super) fn states(&self) -> &BTreeMap<TaskState, usize> {
        &self.states
    }

    /// The tasks that are being handed over.
    pub(super) fn moving(&self) -> &BTreeSet<TaskId> {
        &self.moving
    }

    /// The tasks that have ended, by when.
    pub(super) fn ended(&self) -> &BTreeSet<(u64, TaskId)> {
        &self.ended
    }
}

fn remove_from<K: Ord + Clone>(sets: &mut BTreeMap<K, BTreeSet<TaskId>>, key: &K, task: &TaskId) {
    if let Some(set) = sets.get_mut(key) {
        set.remove(task);
        if set.is_empty() {
            sets.remove(key);
        }
    }
}
