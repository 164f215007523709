//! What of a task may be changed after it was submitted, while it waits or runs.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{Pull, SpecError, TaskRecord, TaskSpec, read, refuse};
use crate::id::TaskId;

/// A change of a task; what is absent stays as it is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Update {
    /// The task.
    pub task: TaskId,
    /// What is pulled.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pull: Option<PullUpdate>,
    /// 0 to 9.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub priority: Option<u8>,
    /// The task ends `done` after this many seconds, counted from when it first
    /// ran; 0: no limit but the system's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_duration_s: Option<u64>,
    /// Labels that the next worker must carry; the last one may stay.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub labels: Option<BTreeMap<String, String>>,
}

/// A change of what is pulled, likewise.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct PullUpdate {
    /// A track for each participant.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub participants: Option<bool>,
    /// Only participants of these roles; empty: of all roles.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub roles: Option<Vec<String>>,
    /// Mixed tracks, as a task names them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mix: Option<Value>,
}

/// What may be changed, for whoever tries something else.
const MAY: &str = "pull.participants, pull.roles, pull.mix, priority, max_duration_s and labels may \
                   be changed; for anything else submit another task";

impl Update {
    /// A change of nothing.
    #[must_use]
    pub fn of(task: TaskId) -> Self {
        Self { task, pull: None, priority: None, max_duration_s: None, labels: None }
    }

    /// Reads a change from JSON.
    ///
    /// # Errors
    /// [`SpecError`] names the field that cannot be read, or not be changed.
    pub fn from_json(payload: &[u8]) -> Result<Self, SpecError> {
        match read(payload, "update")? {
            (_, Some(field)) => {
                refuse("update", format!("`{field}` is none of what may be: {MAY}"))
            }
            (update, None) => Ok(update),
        }
    }

    /// A task's specification with this change, every bound checked as for a
    /// submit.
    ///
    /// # Errors
    /// [`SpecError`] names the field and the mend.
    pub fn apply(&self, to: &TaskSpec) -> Result<TaskSpec, SpecError> {
        let mut spec = to.clone();
        if let Some(change) = &self.pull {
            let Some(mut pull) = to.pull_or_default() else {
                return refuse("pull", "this task pulls nothing: submit one that does".into());
            };
            change.apply(&mut pull)?;
            spec.pull = Some(pull);
        }
        spec.priority = self.priority.unwrap_or(spec.priority);
        spec.max_duration_s = self.max_duration_s.unwrap_or(spec.max_duration_s);
        if let Some(labels) = &self.labels {
            labels.clone_into(&mut spec.labels);
        }
        // Naming what is the default anyway changes nothing.
        if to.pull.is_none() && spec.pull == to.pull_or_default() {
            spec.pull = None;
        }
        spec.check()?;
        Ok(spec)
    }
}

impl PullUpdate {
    fn apply(&self, pull: &mut Pull) -> Result<(), SpecError> {
        pull.participants = self.participants.unwrap_or(pull.participants);
        if let Some(roles) = &self.roles {
            roles.clone_into(&mut pull.roles);
        }
        if let Some(mix) = &self.mix {
            let mut unknown = None;
            let read = serde_ignored::deserialize(mix.clone(), |path| {
                unknown.get_or_insert_with(|| path.to_string());
            });
            match (read, unknown) {
                (Ok(mix), None) => pull.mix = mix,
                (Ok(_), Some(field)) => {
                    return refuse("pull.mix", format!("unknown field `{field}`"));
                }
                (Err(error), _) => return refuse("pull.mix", error.to_string()),
            }
        }
        Ok(())
    }
}

/// What was submitted, of what may have been changed since.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AsSubmitted {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pull: Option<Pull>,
    priority: u8,
    max_duration_s: u64,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    labels: BTreeMap<String, String>,
}

impl TaskRecord {
    /// The record with another specification, under a revision that is higher
    /// than any before: `shown` is the highest that a worker has shown. As with
    /// epochs the clock is in it, so that a lost bucket, or a version that knows
    /// no revisions, brings no old one back.
    #[must_use]
    pub fn updated(&self, spec: TaskSpec, shown: u64, unix_ms: u64) -> Self {
        let mut next = self.clone();
        let TaskSpec { pull, priority, max_duration_s, labels, .. } = &self.spec;
        next.submitted.get_or_insert_with(|| {
            Box::new(AsSubmitted {
                pull: pull.clone(),
                priority: *priority,
                max_duration_s: *max_duration_s,
                labels: labels.clone(),
            })
        });
        next.spec = spec;
        next.revision = self.revision.max(shown).saturating_add(1).max(unix_ms);
        next
    }

    /// The field in which a specification is not this task's; none: it asks for
    /// this task. It does where it is what was submitted, or what that has become
    /// by updates, so a submit may be repeated whatever was updated since.
    #[must_use]
    pub fn differs_from(&self, spec: &TaskSpec) -> Option<&'static str> {
        let now = difference(&self.spec, spec)?;
        let Some(was) = self.submitted.as_deref().cloned() else { return Some(now) };
        let AsSubmitted { pull, priority, max_duration_s, labels } = was;
        let was = TaskSpec { pull, priority, max_duration_s, labels, ..self.spec.clone() };
        difference(&was, spec)
    }
}

/// The first field in which two specifications are not the same.
fn difference(one: &TaskSpec, other: &TaskSpec) -> Option<&'static str> {
    let TaskSpec {
        id,
        room,
        sdk,
        params,
        pull: _,
        push,
        priority,
        max_duration_s,
        start_within_s,
        labels,
    } = one;
    let fields = [
        ("id", *id == other.id),
        ("room", *room == other.room),
        ("sdk", *sdk == other.sdk),
        ("params", *params == other.params),
        // Saying what goes without saying is no difference.
        ("pull", one.pull_or_default() == other.pull_or_default()),
        ("push", *push == other.push),
        ("priority", *priority == other.priority),
        ("max_duration_s", *max_duration_s == other.max_duration_s),
        ("start_within_s", *start_within_s == other.start_within_s),
        ("labels", *labels == other.labels),
    ];
    fields.iter().find(|(_, same)| !same).map(|(field, _)| *field)
}
