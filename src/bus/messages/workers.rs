//! What workers, dispatchers and operators say to each other.

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer, Serialize, de::DeserializeOwned};

use super::{is_false, is_zero};
use crate::{
    id::{AdapterName, DispatcherId, RoomId, TaskId, WorkerId},
    task::{Epoch, Handover, Kind, Params, Pull, Push},
};

/// Whether a worker takes rooms.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WorkerPhase {
    /// It takes rooms.
    #[default]
    Running,
    /// It takes none and gives away what it has.
    LameDuck,
    /// One of a later version: it is given nothing, and nothing is taken from it.
    #[serde(other)]
    Other,
}

/// What a worker has and uses.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Load {
    /// Cores it may use: of its cgroup where there is a limit, else the host's.
    pub cores: f64,
    /// Cores in use there.
    pub cores_used: f64,
    /// Bytes of memory it may use.
    pub memory: u64,
    /// Bytes in use there.
    pub memory_used: u64,
    /// Sessions it runs at most.
    pub sessions_max: usize,
    /// What one session costs in cores, as measured; its configuration's guess
    /// before.
    pub session_cost: f64,
    /// File descriptors it may have open; 0: not told.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub fds: u64,
    /// File descriptors it has open.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub fds_used: u64,
    /// What a session of each adapter costs; one of a kind that is not known is
    /// left out.
    #[serde(default, skip_serializing_if = "Vec::is_empty", deserialize_with = "readable")]
    pub costs: Vec<Cost>,
}

/// What one session of an adapter costs at a worker.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Cost {
    /// The adapter.
    pub adapter: AdapterName,
    /// The kind of task it was measured with; none: as configured, until it is
    /// measured.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kind: Option<Kind>,
    /// CPU in cores.
    pub cores: f64,
    /// Memory in bytes; 0: not measured.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub memory: u64,
    /// Sessions of the adapter that run there at most, as configured.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sessions_max: Option<usize>,
}

/// Reads what can be read of a list.
fn readable<'de, D: Deserializer<'de>, T: DeserializeOwned>(from: D) -> Result<Vec<T>, D::Error> {
    let all = Vec::<serde_json::Value>::deserialize(from)?;
    Ok(all.into_iter().filter_map(|one| serde_json::from_value(one).ok()).collect())
}

/// Where a session stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SessionState {
    /// The adapter was started and has not joined.
    Starting,
    /// The adapter is in the room.
    Running,
    /// It ended as it should. Told until the dispatcher revokes it.
    Done,
    /// It ended by a fault. Told until the dispatcher revokes it.
    Failed,
    /// One of a later version: the session is there, and nothing follows from it.
    #[serde(other)]
    Other,
}

impl SessionState {
    /// Whether the session has ended.
    #[must_use]
    pub fn is_ended(self) -> bool {
        matches!(self, Self::Done | Self::Failed)
    }
}

/// Whom the failure of a session speaks against, where it says so.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Fault {
    /// The worker: it could not start the adapter. Another may.
    Worker,
    /// The adapter ran and did not join in time. It may elsewhere.
    Unjoined,
    /// The adapter crashed again and again and never joined: the task ends.
    Crashed,
    /// The task, or nobody knows: the task ends. So it is with one of a later
    /// version.
    #[default]
    #[serde(other)]
    Task,
}

impl Fault {
    /// Whether another worker is tried.
    #[must_use]
    pub fn may_go_elsewhere(self) -> bool {
        matches!(self, Self::Worker | Self::Unjoined)
    }

    /// Whether it is the task that failed, as far as anybody can tell.
    #[must_use]
    pub fn is_task(&self) -> bool {
        *self == Self::Task
    }
}

/// A session as its worker reports it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SessionReport {
    /// The task served.
    pub task: TaskId,
    /// Its room.
    pub room: RoomId,
    /// The epoch it was assigned with.
    pub epoch: Epoch,
    /// Where it stands.
    pub state: SessionState,
    /// Whether its audio is on the bus. One that only plays is heard as soon as
    /// it has joined.
    #[serde(default, skip_serializing_if = "is_false")]
    pub heard: bool,
    /// Why it ended.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub reason: String,
    /// Whom its failure speaks against.
    #[serde(default, skip_serializing_if = "Fault::is_task")]
    pub fault: Fault,
    /// The last update of its task that it has taken in.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub revision: u64,
}

/// A worker's sign of life and everything placement needs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Heartbeat {
    /// The worker.
    pub worker: WorkerId,
    /// Made anew at each start: tells a restarted worker from a slow one.
    pub boot: String,
    /// Counts the heartbeats of this boot from 0.
    pub seq: u64,
    /// Whether it takes rooms.
    pub phase: WorkerPhase,
    /// Its version.
    pub version: String,
    /// What it has and uses.
    pub load: Load,
    /// The adapters it can start.
    pub adapters: Vec<AdapterName>,
    /// Its labels.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// All its sessions.
    pub sessions: Vec<SessionReport>,
    /// When it was sent, ms since the Unix epoch.
    pub time_ms: u64,
}

/// A task given to a worker.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Assign {
    /// The task.
    pub task: TaskId,
    /// Its room.
    pub room: RoomId,
    /// Its epoch.
    pub epoch: Epoch,
    /// The adapter to start.
    pub sdk: AdapterName,
    /// For the adapter.
    #[serde(default)]
    pub params: Params,
    /// What is pulled.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pull: Option<Pull>,
    /// What is pushed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub push: Option<Push>,
    /// The room's time origin, µs since the Unix epoch.
    pub origin_us: i64,
    /// Who serves the room until this assignment does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<Handover>,
    /// The last update of the task that is in it; 0: there was none.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub revision: u64,
}

impl Assign {
    /// Which way its audio goes.
    #[must_use]
    pub fn kind(&self) -> Kind {
        Kind::of(self.pull.is_some(), self.push.is_some())
    }
}

/// A change of a session that runs. Told again until the session shows its
/// revision.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct UpdateSession {
    /// The task.
    pub task: TaskId,
    /// The epoch of the session; no other is meant.
    pub epoch: Epoch,
    /// What is lower than what the session has is old.
    pub revision: u64,
    /// What is pulled from now on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pull: Option<Pull>,
}

/// A worker's answer to an assignment or a revocation.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Verdict {
    /// Whether it does what was asked.
    pub accepted: bool,
    /// Why not.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub reason: String,
    /// Whether another worker would answer the same: the task itself is wrong.
    #[serde(default)]
    pub fatal: bool,
}

/// Takes a task from a worker, or tells it that a session's end is known.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Revoke {
    /// The task.
    pub task: TaskId,
    /// Sessions of this epoch and lower ones end.
    pub epoch: Epoch,
    /// Why.
    #[serde(default)]
    pub reason: String,
}

/// Asks a worker to give its rooms away, or to take some again.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Drain {
    /// Why.
    pub reason: String,
    /// Whether it takes rooms again.
    #[serde(skip_serializing_if = "is_false")]
    pub undrain: bool,
}

/// Asks the dispatcher to have a worker give its rooms away, or take some again.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DrainWorker {
    /// The worker.
    pub worker: WorkerId,
    /// Why.
    #[serde(default)]
    pub reason: String,
    /// Whether it takes rooms again.
    #[serde(default, skip_serializing_if = "is_false")]
    pub undrain: bool,
}

/// An empty question.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub struct Ping {}

/// What a worker has in hand.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Inventory {
    /// The worker.
    pub worker: WorkerId,
    /// All its sessions.
    pub sessions: Vec<SessionReport>,
}

/// The workers the dispatcher knows.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Workers {
    /// Their last heartbeats, without the sessions.
    pub workers: Vec<WorkerView>,
}

/// One worker as the dispatcher knows it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct WorkerView {
    /// The worker.
    pub worker: WorkerId,
    /// Whether it takes rooms.
    pub phase: WorkerPhase,
    /// Its version.
    pub version: String,
    /// What it has and uses.
    pub load: Load,
    /// The adapters it can start.
    pub adapters: Vec<AdapterName>,
    /// Its labels.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// How many sessions it runs.
    pub sessions: usize,
    /// How long ago it was last heard, in ms.
    pub heard_ms: u64,
    /// Adapters of its that get no tasks for a while.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub quarantined: Vec<Quarantined>,
}

/// An adapter of a worker that gets no tasks for a while, because its starts
/// failed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Quarantined {
    /// The adapter.
    pub adapter: AdapterName,
    /// For how long still, in ms.
    pub for_ms: u64,
    /// Why its last start failed.
    pub reason: String,
}

/// Who leads the dispatchers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Leader {
    /// The leader; none: there is none right now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub leader: Option<DispatcherId>,
    /// The dispatcher that answers.
    pub answered_by: DispatcherId,
    /// Rises with each new leader.
    pub term: u64,
}

/// Asks the leader of the dispatchers to let another lead.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct StepDown {
    /// Why, for its log.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub reason: String,
}

/// The answer of the leader that let go.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SteppedDown {
    /// Who led until now.
    pub was: DispatcherId,
    /// The term that is over.
    pub term: u64,
}

/// What the bucket `gateway_leases` keeps under `leader` and `worker.<id>`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeaseRecord {
    /// Who holds it.
    pub holder: String,
    /// Tells two lives of one holder apart.
    pub boot: String,
    /// Rises with each new holder.
    pub term: u64,
}
