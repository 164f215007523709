//! Writing tasks' records: each change is one compare-and-set and, where the
//! state changes, one event after it; and deleting them when their time is over.

use std::sync::Arc;

use super::{
    core::Core,
    io::{Key, Outcome, Output, Record},
    memory::Timer,
    table::End,
};
use crate::{
    bus::messages::TaskEvent,
    id::TaskId,
    limits,
    task::{Epoch, TaskRecord, TaskState},
};

impl Core {
    /// Writes a task's next record, and its event where the state or the
    /// assignment changes.
    pub(super) fn change(
        &mut self,
        record: &TaskRecord,
        state: TaskState,
        reason: &str,
        more: impl FnOnce(&mut TaskRecord),
    ) {
        debug_assert!(
            state == record.state || record.state.may_become(state),
            "{} may not become {state}",
            record.state
        );
        let mut next = record.clone();
        next.state = state;
        reason.clone_into(&mut next.reason);
        more(&mut next);
        if state != record.state || next.epoch != record.epoch {
            next.changed_ms = self.now.unix_ms;
            self.events.insert(next.task.clone(), (self.event(&next), true));
        }
        self.put(next);
    }

    pub(super) fn put(&mut self, record: TaskRecord) {
        if let Some((event, last)) = self.events.get_mut(&record.task) {
            *last = is_of(event, &record);
        }
        let record = Arc::new(record);
        let expected = self.tasks.write(&record.task, record.clone());
        self.out.push(Output::Put { record: Record::Task(record), expected });
    }

    pub(super) fn event(&self, record: &TaskRecord) -> TaskEvent {
        TaskEvent {
            task: record.task.clone(),
            room: record.spec.room.clone(),
            state: record.state,
            epoch: record.epoch,
            worker: record.worker.clone(),
            reason: record.reason.clone(),
            by: format!("dispatcher:{}", self.me),
            time_ms: record.changed_ms,
        }
    }

    /// A write or read of a task's key came to its end.
    pub(super) fn task_finished(&mut self, task: &TaskId, outcome: Outcome<Arc<TaskRecord>>) {
        let retry = self.now.at + limits::WRITE_RETRY;
        let written = matches!(outcome, Outcome::Written(_));
        let (change, end) = self.tasks.finished(task, outcome, retry);
        if written {
            self.created(task);
        }
        self.take_task(task, change);
        match end {
            End::Fine => (),
            End::ReadNow => self.out.push(Output::Read(Key::Task(task.clone()))),
            End::Restore => {
                if let Some(record) = self.tasks.get(task).cloned() {
                    self.restore(Record::Task(record));
                }
            }
            End::Later => self.timers.set(Timer::Task(task.clone()), Some(retry)),
            End::Unanswered => {
                self.timers.set(Timer::Task(task.clone()), Some(retry));
                self.turn_away(task);
            }
        }
        if end == End::Fine {
            // One that went unanswered may take place yet, and is told then.
            if written && let Some((event, true)) = self.events.remove(task) {
                self.out.push(Output::Event(event));
            }
            if !written && self.holds_nothing(task) && self.events.contains_key(task) {
                let at = self.now.at + limits::EVENTS_AGAIN;
                self.timers.set(Timer::Unsaid(task.clone()), Some(at));
            }
            self.owner_looked_up(task);
            if self.tasks.get(task).is_none() {
                self.nobody_knows(task);
            }
        }
        self.touch(task);
    }

    fn holds_nothing(&self, task: &TaskId) -> bool {
        self.tasks.get(task).is_none() && !self.tasks.is_busy(task)
    }

    /// A creation that went unanswered has not taken place, and does not any more.
    pub(super) fn forget_unsaid(&mut self, task: &TaskId) {
        // Where something is under way there, its end looks at it again.
        if self.holds_nothing(task) {
            self.events.remove(task);
        }
    }

    /// A record was seen that a write of ours made: it may be the only answer.
    pub(super) fn tell_if_ours(&mut self, record: &TaskRecord) {
        let told_of = |event: &TaskEvent| is_of(event, record) || is_of_its_creation(event, record);
        let ours = self.events.get(&record.task).is_some_and(|(event, _)| told_of(event));
        if ours && let Some((event, _)) = self.events.remove(&record.task) {
            self.out.push(Output::Event(event));
        }
    }

    /// Says again what a predecessor may have left unsaid.
    pub(super) fn repeat_events(&mut self) {
        let young = u64::try_from(limits::EVENTS_AGAIN.as_millis()).unwrap_or(u64::MAX);
        let since = self.now.unix_ms.saturating_sub(young);
        let events: Vec<_> = self
            .tasks
            .iter()
            .filter(|(_, record)| record.changed_ms >= since)
            .map(|(_, record)| Output::Event(self.event(record)))
            .collect();
        self.out.extend(events);
    }

    /// Deletes tasks that ended long ago, and rooms nobody used since.
    pub(super) fn sweep(&mut self) {
        if !self.leads {
            return;
        }
        let every = limits::SWEEP_EVERY;
        self.timers.set(Timer::Sweep, Some(self.now.at + every));
        if !self.schedules() {
            return;
        }
        let keep = u64::try_from(limits::TASK_KEEP.as_millis()).unwrap_or(u64::MAX);
        let before = self.now.unix_ms.saturating_sub(keep);
        let surplus = self.index.ended().len().saturating_sub(limits::TASKS_KEPT_MAX);
        let old: Vec<TaskId> = (self.index.ended().iter().enumerate())
            .take(limits::SWEEP_BATCH)
            .filter(|(at, (changed, _))| *at < surplus || *changed < before)
            .map(|(_, (_, task))| task.clone())
            .collect();
        for task in old {
            self.drop_task(&task);
        }
    }

    fn drop_task(&mut self, task: &TaskId) {
        let Some(room) = self.tasks.get(task).map(|record| record.spec.room.clone()) else {
            return;
        };
        if self.tasks.is_busy(task) {
            return;
        }
        let owns = self.rooms.get(&room).is_some_and(|room| room.task.as_ref() == Some(task));
        if owns && !self.rooms.is_busy(&room) && self.index.of_room(&room).next().is_none() {
            let expected = self.rooms.delete(&room);
            self.out.push(Output::Drop { key: Key::Room(room), expected });
        }
        let expected = self.tasks.delete(task);
        self.out.push(Output::Drop { key: Key::Task(task.clone()), expected });
    }
}

/// Whether an event tells that this task was created, whatever became of it since.
fn is_of_its_creation(event: &TaskEvent, record: &TaskRecord) -> bool {
    let created = event.state == TaskState::Pending && event.epoch == Epoch::default();
    created && event.time_ms == record.created_ms
}

/// Whether an event tells of this change.
fn is_of(event: &TaskEvent, record: &TaskRecord) -> bool {
    (event.state, event.epoch, event.time_ms) == (record.state, record.epoch, record.changed_ms)
}
