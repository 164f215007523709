//! What services and the dispatcher say to each other about tasks.

use serde::{Deserialize, Deserializer, Serialize};

use super::{is_false, is_zero};
use crate::{
    id::{AdapterName, RoomId, TaskId, WorkerId},
    task::{Epoch, Pull, TaskRecord, TaskState, known_state},
};

/// The answer to a submit.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Submitted {
    /// The task.
    pub task: TaskId,
    /// Where it stands.
    pub state: TaskState,
    /// Its epoch; 0 before it was first given to a worker.
    pub epoch: Epoch,
    /// Whether the same task was known already.
    pub duplicate: bool,
}

/// Asks for one task.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Get {
    /// The task.
    pub task: TaskId,
}

/// Asks for tasks; an empty payload asks for all that have not ended.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct List {
    /// Only tasks in these states; empty: all that have not ended.
    #[serde(deserialize_with = "known_states")]
    pub states: Vec<TaskState>,
    /// Only tasks of this room.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub room: Option<RoomId>,
    /// At most this many; 0: as many as one answer holds.
    pub limit: usize,
}

/// Whoever asks for a state that we do not know is told so.
fn known_states<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<TaskState>, D::Error> {
    #[derive(Deserialize)]
    struct Known(#[serde(deserialize_with = "known_state")] TaskState);
    Ok(Vec::<Known>::deserialize(from)?.into_iter().map(|Known(state)| state).collect())
}

/// Tasks, newest first.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Listed {
    /// The tasks.
    pub tasks: Vec<TaskView>,
    /// Whether there are more than the answer holds.
    pub truncated: bool,
}

/// Asks for a task's end.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Cancel {
    /// The task.
    pub task: TaskId,
    /// Why, for the event.
    #[serde(default)]
    pub reason: String,
}

/// A task as services see it: without the adapter's params, which may hold
/// secrets.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TaskView {
    /// The task.
    pub task: TaskId,
    /// Its room.
    pub room: RoomId,
    /// Its adapter.
    pub sdk: AdapterName,
    /// Where it stands.
    pub state: TaskState,
    /// The epoch of its last assignment.
    pub epoch: Epoch,
    /// The worker of its last assignment.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub worker: Option<WorkerId>,
    /// Why it stands there.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub reason: String,
    /// 0 to 9.
    pub priority: u8,
    /// When it was submitted, ms since the Unix epoch.
    pub created_ms: u64,
    /// When its state last changed, ms since the Unix epoch.
    pub changed_ms: u64,
    /// When it first ran, ms since the Unix epoch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started_ms: Option<u64>,
    /// Rises with each update; 0: there was none.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub revision: u64,
    /// What is pulled, where it was updated.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pull: Option<Pull>,
    /// Whether its worker has yet to take the last update in.
    #[serde(default, skip_serializing_if = "is_false")]
    pub updating: bool,
}

impl From<&TaskRecord> for TaskView {
    fn from(record: &TaskRecord) -> Self {
        Self {
            task: record.task.clone(),
            room: record.spec.room.clone(),
            sdk: record.spec.sdk.clone(),
            state: record.state,
            epoch: record.epoch,
            worker: record.worker.clone(),
            reason: record.reason.clone(),
            priority: record.spec.priority,
            created_ms: record.created_ms,
            changed_ms: record.changed_ms,
            started_ms: record.started_ms,
            revision: record.revision,
            pull: record.spec.pull.clone().filter(|_| record.revision > 0),
            updating: false,
        }
    }
}

/// Why a request was refused; its number goes out in `Nats-Service-Error-Code`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RefusalCode {
    /// 400: the request cannot be read or breaks a bound.
    BadRequest,
    /// 404: there is no such thing.
    NotFound,
    /// 409: it contradicts what is there.
    Conflict,
    /// 429: too many at once; come back after `retry_after_ms`.
    RateLimited,
    /// 500: something of ours failed; the request may be repeated.
    Internal,
    /// 503: too many tasks wait already.
    QueueFull,
    /// 503: the store or the leader cannot be reached; repeat the request.
    Unavailable,
    /// 500: one of a later version; its message says what it is. Never sent.
    #[serde(other)]
    Other,
}

impl RefusalCode {
    /// The number, after HTTP's.
    #[must_use]
    pub fn number(self) -> u16 {
        match self {
            Self::BadRequest => 400,
            Self::NotFound => 404,
            Self::Conflict => 409,
            Self::RateLimited => 429,
            Self::Internal | Self::Other => 500,
            Self::QueueFull | Self::Unavailable => 503,
        }
    }
}

/// A refusal, as a JSON body beside the two headers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{message}")]
pub struct Refusal {
    /// Its reason as a word.
    pub error: RefusalCode,
    /// What was wrong and what mends it.
    pub message: String,
    /// When to come back; 0: no sooner helps.
    #[serde(default)]
    pub retry_after_ms: u64,
}

impl Refusal {
    /// A refusal that names its reason.
    #[must_use]
    pub fn new(error: RefusalCode, message: impl Into<String>) -> Self {
        Self { error, message: message.into(), retry_after_ms: 0 }
    }
}

/// A change of a task's state.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TaskEvent {
    /// The task.
    pub task: TaskId,
    /// Its room.
    pub room: RoomId,
    /// The state it has now.
    pub state: TaskState,
    /// The epoch it has now.
    pub epoch: Epoch,
    /// The worker that has it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub worker: Option<WorkerId>,
    /// Why.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub reason: String,
    /// Who says so: `dispatcher:<id>` or `worker:<id>`.
    pub by: String,
    /// When, ms since the Unix epoch.
    pub time_ms: u64,
}
