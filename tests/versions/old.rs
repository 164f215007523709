//! The rules by which 0.1.0 reads, as they were: which fields it needs, which it
//! knows, and where it refuses what it does not know. Nothing here changes any
//! more; a version that is no longer N-1 is taken out.

#![allow(dead_code, reason = "that it can be read is all that matters")]

use std::collections::BTreeMap;

use serde::{Deserialize, de::DeserializeOwned};
use serde_json::{Map, Value};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct TaskSpec {
    #[serde(default)]
    id: Option<String>,
    room: String,
    sdk: String,
    #[serde(default)]
    params: Map<String, Value>,
    #[serde(default)]
    pull: Option<Pull>,
    #[serde(default)]
    push: Option<Push>,
    #[serde(default)]
    priority: u8,
    #[serde(default)]
    max_duration_s: u64,
    #[serde(default)]
    start_within_s: u64,
    #[serde(default)]
    labels: BTreeMap<String, String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Pull {
    #[serde(default)]
    participants: bool,
    #[serde(default)]
    roles: Vec<String>,
    #[serde(default)]
    mix: Vec<String>,
    #[serde(default)]
    batch_frames: u8,
    #[serde(default)]
    record: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Push {
    from: String,
}

#[derive(Debug, PartialEq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum TaskState {
    Pending,
    Assigned,
    Starting,
    Running,
    Draining,
    Done,
    Failed,
    Cancelled,
    Expired,
}

#[derive(Deserialize)]
pub(crate) struct TaskRecord {
    task: String,
    spec: TaskSpec,
    pub(crate) state: TaskState,
    epoch: u64,
    #[serde(default)]
    worker: Option<String>,
    #[serde(default)]
    reason: String,
    created_ms: u64,
    changed_ms: u64,
    pending_ms: u64,
    #[serde(default)]
    started_ms: Option<u64>,
    #[serde(default)]
    cancel: bool,
}

#[derive(Deserialize)]
pub(crate) struct RoomRecord {
    room: String,
    #[serde(default)]
    task: Option<String>,
    #[serde(default)]
    worker: Option<String>,
    epoch: u64,
    origin_us: i64,
}

#[derive(Deserialize)]
#[serde(rename_all = "snake_case")]
enum Phase {
    Running,
    LameDuck,
}

#[derive(Deserialize)]
struct Load {
    cores: f64,
    cores_used: f64,
    memory: u64,
    memory_used: u64,
    sessions_max: usize,
    session_cost: f64,
}

#[derive(Deserialize)]
#[serde(rename_all = "snake_case")]
enum SessionState {
    Starting,
    Running,
    Done,
    Failed,
}

#[derive(Deserialize)]
struct SessionReport {
    task: String,
    room: String,
    epoch: u64,
    state: SessionState,
    #[serde(default)]
    reason: String,
}

#[derive(Deserialize)]
pub(crate) struct Heartbeat {
    worker: String,
    boot: String,
    seq: u64,
    phase: Phase,
    version: String,
    load: Load,
    adapters: Vec<String>,
    #[serde(default)]
    labels: BTreeMap<String, String>,
    sessions: Vec<SessionReport>,
    time_ms: u64,
}

#[derive(Deserialize)]
pub(crate) struct Inventory {
    worker: String,
    sessions: Vec<SessionReport>,
}

#[derive(Deserialize)]
pub(crate) struct Assign {
    task: String,
    room: String,
    epoch: u64,
    sdk: String,
    #[serde(default)]
    params: Map<String, Value>,
    #[serde(default)]
    pull: Option<Pull>,
    #[serde(default)]
    push: Option<Push>,
    origin_us: i64,
}

#[derive(Deserialize)]
pub(crate) struct Revoke {
    task: String,
    epoch: u64,
    #[serde(default)]
    reason: String,
}

#[derive(Deserialize)]
pub(crate) struct Verdict {
    accepted: bool,
    #[serde(default)]
    reason: String,
    #[serde(default)]
    fatal: bool,
}

#[derive(Deserialize)]
pub(crate) struct TaskEvent {
    task: String,
    room: String,
    state: TaskState,
    epoch: u64,
    #[serde(default)]
    worker: Option<String>,
    #[serde(default)]
    reason: String,
    by: String,
    time_ms: u64,
}

#[derive(Deserialize)]
pub(crate) struct Submitted {
    task: String,
    state: TaskState,
    epoch: u64,
    duplicate: bool,
}

#[derive(Deserialize)]
pub(crate) struct TaskView {
    task: String,
    room: String,
    sdk: String,
    state: TaskState,
    epoch: u64,
    priority: u8,
    created_ms: u64,
    changed_ms: u64,
}

#[derive(Deserialize)]
pub(crate) struct Listed {
    tasks: Vec<TaskView>,
    truncated: bool,
}

#[derive(Deserialize)]
#[serde(rename_all = "snake_case")]
enum RefusalCode {
    BadRequest,
    NotFound,
    Conflict,
    RateLimited,
    Internal,
    QueueFull,
    Unavailable,
}

#[derive(Deserialize)]
pub(crate) struct Refusal {
    error: RefusalCode,
    message: String,
    #[serde(default)]
    retry_after_ms: u64,
}

/// Reads what today's code writes, by these rules.
#[track_caller]
pub(crate) fn reads<Old: DeserializeOwned>(message: &impl serde::Serialize) -> Old {
    let text = serde_json::to_string(message).unwrap();
    serde_json::from_str(&text).unwrap_or_else(|why| {
        panic!("{} of 0.1.0 does not read it: {why}\n{text}", std::any::type_name::<Old>())
    })
}
