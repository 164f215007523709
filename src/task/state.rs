//! Where a task stands, and where it may go from there.

use std::fmt;

use serde::{
    Deserialize, Deserializer, Serialize,
    de::{Error as _, value::StrDeserializer},
};

/// Where a task stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TaskState {
    /// Stored; waits for a worker.
    Pending,
    /// Given to a worker that has not answered yet.
    Assigned,
    /// The worker starts the adapter.
    Starting,
    /// The adapter has joined the room.
    Running,
    /// Being handed over: its worker begins while another still serves it.
    Draining,
    /// Ended as it should.
    Done,
    /// Ended by a fault.
    Failed,
    /// Ended because somebody asked.
    Cancelled,
    /// Ended because no worker had it in time.
    Expired,
    /// One of a later version: it can be shown, and nothing follows from it.
    #[serde(other)]
    Other,
}

/// Reads a state that something follows from: one of a later version is not
/// read at all.
///
/// # Errors
/// Names the states there are.
pub fn known_state<'de, D: Deserializer<'de>>(from: D) -> Result<TaskState, D::Error> {
    let word = String::deserialize(from)?;
    match TaskState::deserialize(StrDeserializer::<D::Error>::new(&word))? {
        TaskState::Other => Err(D::Error::unknown_variant(&word, STATES)),
        state => Ok(state),
    }
}

/// As they are written.
const STATES: &[&str] = &[
    "pending",
    "assigned",
    "starting",
    "running",
    "draining",
    "done",
    "failed",
    "cancelled",
    "expired",
];

impl TaskState {
    /// Whether the task has ended for good.
    #[must_use]
    pub fn is_terminal(self) -> bool {
        matches!(self, Self::Done | Self::Failed | Self::Cancelled | Self::Expired)
    }

    /// Whether a task may go from this state to `next`.
    ///
    /// From any state that is not terminal it may end `done`, `failed` or
    /// `cancelled`, or go back to `pending` because its worker is gone; it ends
    /// `expired` only from `pending`. It is handed over, `draining`, only while
    /// it runs, and to one worker after the other until one has it.
    #[must_use]
    pub fn may_become(self, next: Self) -> bool {
        use TaskState::{
            Assigned, Cancelled, Done, Draining, Expired, Failed, Other, Pending, Running, Starting,
        };
        if self.is_terminal() || self == Other {
            return false;
        }
        match next {
            Pending => self != Pending,
            Assigned => self == Pending,
            Starting => self == Assigned,
            Running => matches!(self, Assigned | Starting | Draining),
            Draining => matches!(self, Running | Draining),
            Expired => self == Pending,
            Done | Failed | Cancelled => true,
            Other => false,
        }
    }
}

impl fmt::Display for TaskState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Pending => "pending",
            Self::Assigned => "assigned",
            Self::Starting => "starting",
            Self::Running => "running",
            Self::Draining => "draining",
            Self::Done => "done",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
            Self::Expired => "expired",
            Self::Other => "other",
        })
    }
}
