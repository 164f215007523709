//! Tasks as values: what a service asks for, the states a task goes through
//! and the moves that are legal between them.
//!
//! Who may make a move, and when, is the dispatcher's matter.

mod mix;
mod state;
mod update;

use std::{collections::BTreeMap, fmt};

use serde::{Deserialize, Serialize, de::DeserializeOwned};

pub use self::mix::{Mix, Voices};
use crate::{
    id::{AdapterName, RoomId, TaskId, TrackId, WorkerId},
    json, limits,
};

pub use self::{
    state::{TaskState, known_state},
    update::{AsSubmitted, PullUpdate, Update},
};

/// Counts the times a room was given to a worker. It never falls: the next one
/// is at least the last one plus one and at least the Unix time in ms, so that
/// even a lost bucket cannot bring an old one back.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct Epoch(pub u64);

impl Epoch {
    /// The epoch of an assignment made at `unix_ms` after this one.
    #[must_use]
    pub fn next(self, unix_ms: u64) -> Self {
        Self(self.0.saturating_add(1).max(unix_ms))
    }
}

impl fmt::Display for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// What an adapter is handed and nobody else may read: it may hold secrets, so
/// it shows itself in no log.
#[derive(Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Params(pub serde_json::Map<String, serde_json::Value>);

impl fmt::Debug for Params {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Params({} hidden)", self.0.len())
    }
}

/// What is pulled out of the room.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Pull {
    /// A track for each participant.
    pub participants: bool,
    /// Only the tracks of participants of these roles; empty: of all roles.
    pub roles: Vec<String>,
    /// Mixed tracks.
    pub mix: Vec<Mix>,
    /// Frames in a batch, 1 to 50.
    pub batch_frames: u8,
    /// Whether the tracks go to JetStream to be recorded.
    pub record: bool,
}

impl Default for Pull {
    fn default() -> Self {
        Self {
            participants: true,
            roles: Vec::new(),
            mix: Vec::new(),
            batch_frames: limits::BATCH_FRAMES,
            record: false,
        }
    }
}

/// What is played into the room.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Push {
    /// The subject the audio comes from: any track.
    pub from: String,
}

/// Which way a task's audio goes: what a session costs hangs on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// Out of the room.
    Pull,
    /// Into the room.
    Push,
    /// Both.
    Both,
}

impl Kind {
    /// The kind of a task that pulls, or pushes, or both.
    #[must_use]
    pub fn of(pulls: bool, pushes: bool) -> Self {
        match (pulls, pushes) {
            (true, true) => Self::Both,
            (false, true) => Self::Push,
            (_, false) => Self::Pull,
        }
    }
}

/// The highest priority a task may have.
pub const HIGHEST_PRIORITY: u8 = 9;

/// A task as a service submits it. A field that is not known is refused there,
/// by [`TaskSpec::from_json`], and read over where the task is kept or given
/// away: another version of ours wrote it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TaskSpec {
    /// The idempotency key; made where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<TaskId>,
    /// The room to join.
    pub room: RoomId,
    /// The adapter that joins it.
    pub sdk: AdapterName,
    /// Handed to the adapter as it is.
    #[serde(default)]
    pub params: Params,
    /// What is pulled; `{}` where neither `pull` nor `push` is named.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pull: Option<Pull>,
    /// What is pushed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub push: Option<Push>,
    /// 0 to 9; a higher one is placed first.
    #[serde(default = "default_priority")]
    pub priority: u8,
    /// The task ends `done` after this many seconds; 0: no limit but the
    /// system's own.
    #[serde(default)]
    pub max_duration_s: u64,
    /// The task ends `expired` where no worker has it after this long.
    #[serde(default = "default_start_within")]
    pub start_within_s: u64,
    /// Labels a worker must carry.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
}

fn default_priority() -> u8 {
    5
}

fn default_start_within() -> u64 {
    limits::TASK_START_WITHIN.as_secs()
}

/// Why a task cannot be taken as it stands.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {why}")]
pub struct SpecError {
    field: &'static str,
    why: String,
}

impl TaskSpec {
    /// Reads a task from JSON and checks every bound.
    ///
    /// # Errors
    /// [`SpecError`] names the field and the mend.
    pub fn from_json(payload: &[u8]) -> Result<Self, SpecError> {
        let (spec, unknown): (Self, _) = read(payload, "task")?;
        if let Some(field) = unknown {
            return refuse("task", format!("unknown field `{field}`"));
        }
        spec.check()?;
        Ok(spec)
    }

    fn check(&self) -> Result<(), SpecError> {
        if self.priority > HIGHEST_PRIORITY {
            return refuse("priority", format!("use 0 to {HIGHEST_PRIORITY}"));
        }
        if self.max_duration_s > limits::TASK_MAX_DURATION.as_secs() {
            return refuse(
                "max_duration_s",
                format!("use at most {}", limits::TASK_MAX_DURATION.as_secs()),
            );
        }
        let start_max = limits::TASK_MAX_START_WITHIN.as_secs();
        if self.start_within_s == 0 || self.start_within_s > start_max {
            return refuse("start_within_s", format!("use 1 to {start_max}"));
        }
        if let Some(pull) = &self.pull {
            pull.check()?;
        }
        if let Some(push) = &self.push
            && !is_track_subject(&push.from)
        {
            return refuse(
                "push.from",
                "use a track's subject: audio.push|live|rec.<room>.<track>, without wildcards"
                    .into(),
            );
        }
        let pairs = self.labels.iter().flat_map(|(key, value)| [key, value]);
        short("labels", pairs, 2 * limits::TASK_MAX_LIST)
    }

    /// Which way its audio goes.
    #[must_use]
    pub fn kind(&self) -> Kind {
        Kind::of(self.pull.is_some() || self.push.is_none(), self.push.is_some())
    }

    /// What is pulled: all participants where the task names nothing at all.
    #[must_use]
    pub fn pull_or_default(&self) -> Option<Pull> {
        match (&self.pull, &self.push) {
            (None, None) => Some(Pull::default()),
            (pull, _) => pull.clone(),
        }
    }

    /// CRC-32C of what a session keeps as it began with: all that no update changes.
    #[must_use]
    pub fn fixed_crc(&self) -> Option<u32> {
        let pull = self.pull_or_default().map(|pull| (pull.batch_frames, pull.record));
        let fixed = (&self.room, &self.sdk, &self.params, &self.push, pull);
        Some(crc_fast::crc32_iscsi(&serde_json::to_vec(&fixed).ok()?))
    }
}

impl Pull {
    fn check(&self) -> Result<(), SpecError> {
        let most = limits::BATCH_MAX_SLOTS;
        if self.batch_frames == 0 || usize::from(self.batch_frames) > most {
            return refuse("pull.batch_frames", format!("use 1 to {most}"));
        }
        Mix::check_all(&self.mix)?;
        if !self.participants && self.mix.is_empty() {
            let why = "nothing would be pulled: use true, or name a mix";
            return refuse("pull.participants", why.into());
        }
        short("pull.roles", self.roles.iter(), limits::TASK_MAX_LIST)
    }

    /// Whether a participant has a track of its own on the bus.
    #[must_use]
    pub fn has_track_of(&self, role: &str) -> bool {
        self.participants && (self.roles.is_empty() || self.roles.iter().any(|it| it == role))
    }
}

/// Reads what a service says of a task, and the first field of it that nobody
/// knows.
fn read<T: DeserializeOwned>(
    payload: &[u8],
    what: &'static str,
) -> Result<(T, Option<String>), SpecError> {
    json::object(payload, limits::TASK_MAX_BYTES).map_err(|why| SpecError { field: what, why })
}

fn refuse<T>(field: &'static str, why: String) -> Result<T, SpecError> {
    Err(SpecError { field, why })
}

fn short<'a>(
    field: &'static str,
    texts: impl Iterator<Item = &'a String>,
    most: usize,
) -> Result<(), SpecError> {
    for (count, text) in texts.enumerate() {
        if text.len() > limits::TASK_MAX_STRING || count >= most {
            return refuse(
                field,
                format!(
                    "use at most {} entries of at most {} bytes",
                    limits::TASK_MAX_LIST,
                    limits::TASK_MAX_STRING
                ),
            );
        }
    }
    Ok(())
}

/// Whether audio may be taken from this subject: a track, without wildcards.
fn is_track_subject(subject: &str) -> bool {
    let mut parts = subject.split('.');
    parts.next() == Some("audio")
        && matches!(parts.next(), Some("push" | "live" | "rec"))
        && parts.next().is_some_and(|room| RoomId::parse(room).is_ok())
        && parts.next().is_some_and(|track| TrackId::parse(track).is_ok())
        && parts.next().is_none()
}

/// Who still serves a room while another worker takes it over.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Handover {
    /// The worker that gives it away.
    pub worker: WorkerId,
    /// The epoch under which it has it.
    pub epoch: Epoch,
}

/// A task as the bucket `gateway_tasks` keeps it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TaskRecord {
    /// Its id, which is also its key.
    pub task: TaskId,
    /// What was asked for.
    pub spec: TaskSpec,
    /// Where it stands.
    #[serde(deserialize_with = "known_state")]
    pub state: TaskState,
    /// The epoch of its last assignment; 0 before the first.
    pub epoch: Epoch,
    /// The worker of its last assignment.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub worker: Option<WorkerId>,
    /// Who serves it until that worker does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<Handover>,
    /// Why it stands there.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub reason: String,
    /// When it was submitted, ms since the Unix epoch.
    pub created_ms: u64,
    /// When its state last changed, ms since the Unix epoch.
    pub changed_ms: u64,
    /// Since when it waits for a worker, ms since the Unix epoch.
    pub pending_ms: u64,
    /// When it first ran, ms since the Unix epoch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started_ms: Option<u64>,
    /// Whether somebody asked for its end.
    #[serde(default)]
    pub cancel: bool,
    /// Rises with each update; 0: there was none.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub revision: u64,
    /// What was submitted, where it was updated since.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub submitted: Option<Box<AsSubmitted>>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde hands it in like that")]
fn is_zero(number: &u64) -> bool {
    *number == 0
}

impl TaskRecord {
    /// The workers that may have a session of it.
    pub fn workers(&self) -> impl Iterator<Item = &WorkerId> {
        self.worker.iter().chain(self.from.iter().map(|from| &from.worker))
    }

    /// Who serves its room until somebody takes it over.
    #[must_use]
    pub fn holder(&self) -> Option<Handover> {
        let last = || Some(Handover { worker: self.worker.clone()?, epoch: self.epoch });
        self.from.clone().or_else(last)
    }
}

/// A room as the bucket `gateway_rooms` keeps it: the claim on it. Whoever
/// writes this record by compare-and-set has the room.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RoomRecord {
    /// The room, which is also the key.
    pub room: RoomId,
    /// The task that has it; none: it is free.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub task: Option<TaskId>,
    /// The worker that serves it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub worker: Option<WorkerId>,
    /// Who may still be in it, and plays into it alone as long as it stands
    /// here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<Handover>,
    /// The epoch of the last claim.
    pub epoch: Epoch,
    /// Where sample 0 of the room's time line lies, µs since the Unix epoch.
    pub origin_us: i64,
    /// [`TaskSpec::fixed_crc`] of the task, as its worker was given it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fixed_crc: Option<u32>,
}

#[cfg(test)]
mod tests;
