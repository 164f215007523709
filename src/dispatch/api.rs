//! What services and operators ask, answered by any dispatcher, leader or not.
//!
//! What is answered is on disk: a submit once its record is created, an
//! update once it is written, a cancel once the task's end is. Callers wait at the key of their task until
//! nothing is under way there.

use std::sync::Arc;

use super::{
    core::Core,
    io::{Answer, CallId, Output, Request},
    memory::{Waiting, Want},
    queue::places_for,
    tasks::shortened,
};
use crate::{
    bus::messages::{Cancel, Get, List, Listed, Refusal, RefusalCode, Submitted},
    id::TaskId,
    limits,
    task::{Epoch, TaskRecord, TaskSpec, TaskState},
};

/// How often one call writes before it gives up: each time somebody else was
/// faster.
const TRIES: u8 = 5;

impl Core {
    /// Somebody asks.
    pub(super) fn call(&mut self, call: CallId, request: Request) {
        match request {
            Request::Submit(spec) => self.submit(call, spec),
            Request::Get(Get { task }) => {
                // Another dispatcher may have just created or ended it.
                if !self.tasks.is_busy(&task) {
                    self.read_task(&task);
                }
                self.wait(&task, call, Want::Get);
            }
            Request::Cancel(Cancel { task, reason }) => {
                if !self.tasks.is_busy(&task) && self.tasks.get(&task).is_none() {
                    self.read_task(&task);
                }
                self.wait(&task, call, Want::Cancel { reason: shortened(&reason), wrote: false });
            }
            Request::Update(update) => {
                let task = update.task.clone();
                if !self.tasks.is_busy(&task) && self.tasks.get(&task).is_none() {
                    self.read_task(&task);
                }
                self.wait(&task, call, Want::Update(update));
            }
            Request::List(list) => {
                let answer = self.list(&list);
                self.answer(call, answer.map(Answer::Listed));
            }
            Request::Workers => {
                let workers = self.workers_view();
                self.answer(call, Ok(Answer::Workers(workers)));
            }
        }
    }

    fn answer(&mut self, call: CallId, answer: Result<Answer, Refusal>) {
        self.out.push(Output::Answer { call, answer });
    }

    fn wait(&mut self, task: &TaskId, call: CallId, want: Want) {
        let waiting = Waiting { call, want, tries: 0 };
        self.calls.entry(task.clone()).or_default().push(waiting);
        self.dirty.insert(task.clone());
    }

    fn submit(&mut self, call: CallId, spec: Box<TaskSpec>) {
        let Some(task) = spec.id.clone() else {
            let why = "the task has no id; one should have been made for it";
            return self.answer(call, Err(Refusal::new(RefusalCode::Internal, why)));
        };
        if self.tasks.get(&task).is_none()
            && let Some(refusal) = self.no_more(&task, &spec)
        {
            return self.answer(call, Err(refusal));
        }
        self.wait(&task, call, Want::Submit { spec, created: false });
    }

    /// Why a new task is not taken in.
    fn no_more(&self, task: &TaskId, spec: &TaskSpec) -> Option<Refusal> {
        let (waiting, priority) = (self.index.queue().len(), spec.priority);
        if waiting >= places_for(priority) {
            return Some(Refusal {
                retry_after_ms: 1_000,
                ..Refusal::new(
                    RefusalCode::QueueFull,
                    format!(
                        "{waiting} tasks wait for a worker, too many for one more of priority \
                         {priority}: add workers"
                    ),
                )
            });
        }
        let other = self.index.of_room(&spec.room).find(|other| *other != task)?;
        Some(Refusal::new(
            RefusalCode::Conflict,
            format!("room {} is served by task {other}: cancel it first", spec.room),
        ))
    }

    /// Answers whoever waits at a key at which nothing is under way, or begins
    /// the write that the first of them needs.
    pub(super) fn serve(&mut self, task: &TaskId) {
        let Some(calls) = self.calls.remove(task) else { return };
        let mut calls = calls.into_iter();
        for waiting in calls.by_ref() {
            if let Some(waiting) = self.serve_one(task, waiting) {
                // It writes: the others wait for that.
                let rest: Vec<Waiting> = std::iter::once(waiting).chain(calls).collect();
                self.calls.insert(task.clone(), rest);
                return;
            }
        }
    }

    /// Answers a caller, or begins a write and returns him.
    fn serve_one(&mut self, task: &TaskId, mut waiting: Waiting) -> Option<Waiting> {
        let record = self.tasks.get(task).cloned();
        let answer = match (&mut waiting.want, record) {
            (Want::Get | Want::Cancel { .. } | Want::Update(_), None) => Err(Refusal::new(
                RefusalCode::NotFound,
                format!("there is no task {task}: it was never submitted, or ended long ago"),
            )),
            (Want::Get, Some(record)) => Ok(Answer::Task(self.view(&record))),
            (Want::Submit { spec, created }, Some(record)) => match record.differs_from(spec) {
                None => Ok(Answer::Submitted(submitted(&record, *created))),
                Some(field) => Err(Refusal::new(
                    RefusalCode::Conflict,
                    format!("task {task} exists with another `{field}`: use another id"),
                )),
            },
            (Want::Cancel { wrote, .. }, Some(record)) if record.state.is_terminal() => {
                // The leader revokes too; this is the shorter way.
                for worker in record.workers().filter(|_| *wrote) {
                    let reason = format!("the task is {}", record.state);
                    self.revoke(worker, task, record.epoch, reason);
                }
                Ok(Answer::Task(self.view(&record)))
            }
            (_, _) if waiting.tries >= TRIES => Err(Refusal::new(
                RefusalCode::Unavailable,
                format!("task {task} changes too fast: repeat the request"),
            )),
            (Want::Submit { spec, .. }, None) => {
                let record = self.fresh_record(task, spec);
                self.events.insert(task.clone(), (self.event(&record), true));
                self.put(record);
                waiting.tries += 1;
                return Some(waiting);
            }
            (Want::Update(update), Some(record)) => match self.updated(&record, update) {
                Err(refusal) => Err(refusal),
                Ok(None) => Ok(Answer::Task(self.view(&record))),
                Ok(Some(next)) => {
                    self.put(next);
                    waiting.tries += 1;
                    return Some(waiting);
                }
            },
            (Want::Cancel { reason, wrote }, Some(record)) => {
                *wrote = true;
                waiting.tries += 1;
                let reason = std::mem::take(reason);
                self.change(&record, TaskState::Cancelled, &reason, |_| ());
                if let Want::Cancel { reason: kept, .. } = &mut waiting.want {
                    *kept = reason;
                }
                return Some(waiting);
            }
        };
        self.answer(waiting.call, answer);
        None
    }

    fn fresh_record(&self, task: &TaskId, spec: &TaskSpec) -> TaskRecord {
        // One that went unanswered may take place yet: this is the same again, and
        // whichever does is the one of which the event tells.
        let unsaid = self.events.get(task).map(|(event, _)| event);
        let unsaid = unsaid.filter(|event| event.state == TaskState::Pending);
        let created_ms = unsaid.map_or(self.now.unix_ms, |event| event.time_ms);
        TaskRecord {
            task: task.clone(),
            spec: spec.clone(),
            state: TaskState::Pending,
            epoch: Epoch::default(),
            worker: None,
            from: None,
            reason: String::new(),
            created_ms,
            changed_ms: created_ms,
            pending_ms: created_ms,
            started_ms: None,
            cancel: false,
            revision: 0,
            submitted: None,
        }
    }

    /// A write at a task's key took place: if it was a creation, it was that of
    /// the first caller who waits there.
    pub(super) fn created(&mut self, task: &TaskId) {
        let first = self.calls.get_mut(task).and_then(|calls| calls.first_mut());
        if let Some(Waiting { want: Want::Submit { created, .. }, tries: 1.., .. }) = first {
            *created = true;
        }
    }

    /// The store gave no answer: nobody is kept waiting for it.
    pub(super) fn turn_away(&mut self, task: &TaskId) {
        for waiting in self.calls.remove(task).unwrap_or_default() {
            let refusal = Refusal {
                retry_after_ms: 1_000,
                ..Refusal::new(
                    RefusalCode::Unavailable,
                    format!(
                        "the store did not answer in time, so it is not known what became of \
                         task {task}: repeat the request with that id"
                    ),
                )
            };
            self.answer(waiting.call, Err(refusal));
        }
    }

    fn list(&self, list: &List) -> Result<Listed, Refusal> {
        if !self.tasks.is_current() {
            let why = "this dispatcher is still reading the tasks: repeat the request";
            return Err(Refusal {
                retry_after_ms: 200,
                ..Refusal::new(RefusalCode::Unavailable, why)
            });
        }
        let wanted = |record: &&Arc<TaskRecord>| {
            let state = if list.states.is_empty() {
                !record.state.is_terminal()
            } else {
                list.states.contains(&record.state)
            };
            state && list.room.as_ref().is_none_or(|room| *room == record.spec.room)
        };
        let mut found: Vec<_> =
            self.tasks.iter().map(|(_, record)| record).filter(wanted).collect();
        found.sort_by_key(|record| (std::cmp::Reverse(record.created_ms), &record.task));
        let most = match list.limit {
            0 => limits::LIST_MAX,
            limit => limit.min(limits::LIST_MAX),
        };
        let mut listed = Listed { tasks: Vec::new(), truncated: found.len() > most };
        let mut bytes = 0;
        for record in found.into_iter().take(most) {
            let view = self.view(record);
            bytes += serde_json::to_vec(&view).map_or(0, |json| json.len() + 1);
            if bytes > limits::CONTROL_MAX_BYTES {
                listed.truncated = true;
                break;
            }
            listed.tasks.push(view);
        }
        Ok(listed)
    }
}

fn submitted(record: &TaskRecord, created: bool) -> Submitted {
    let (state, epoch) = match created {
        // A leader may have been faster than our own acknowledgement.
        true => (TaskState::Pending, Epoch::default()),
        false => (record.state, record.epoch),
    };
    Submitted { task: record.task.clone(), state, epoch, duplicate: !created }
}
