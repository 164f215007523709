//! Keeping a room pulled: there is a task for it for as long as somebody wants,
//! whatever becomes of tasks, workers and dispatchers.
//!
//! Tasks are renewed under ids that follow from what the dispatchers know, not
//! from anything kept here: `base`, `base-2`, `base-3` and so on. Whoever keeps
//! the same room by the same base (a second instance, the same one after its
//! restart) arrives at the same id, and submitting it again is harmless.

use std::time::Duration;

use tokio::time::sleep;

use super::{Gateway, WaitError};
use crate::{
    bus::{
        AskError,
        messages::{List, RefusalCode, TaskView},
    },
    id::TaskId,
    limits,
    task::{TaskSpec, TaskState},
};

/// How stubbornly a room is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KeepOptions {
    /// Tasks in a row that may end without having run for a minute; none: as
    /// many as come.
    pub tries: Option<u32>,
}

impl Default for KeepOptions {
    fn default() -> Self {
        Self { tries: Some(limits::KEEP_TRIES) }
    }
}

/// Why a room is kept no more.
#[derive(Debug, thiserror::Error)]
pub enum KeepError {
    /// Its tasks end one after the other.
    #[error(
        "room {} is given up after {tries} tasks in a row that did not last: {} is {}: {}",
        .last.room, .last.task, .last.state, .last.reason
    )]
    GaveUp {
        /// The last of them.
        last: Box<TaskView>,
        /// How many there were.
        tries: u32,
    },
    /// A task of somebody else has the room.
    #[error("room {} is served by task {}, which is none of ours", .0.room, .0.task)]
    Foreign(Box<TaskView>),
    /// The task is refused as it stands.
    #[error(transparent)]
    Refused(AskError),
    /// The id is too long to be numbered.
    #[error("{0} is too long an id to be renewed: use at most {1} characters")]
    LongId(TaskId, usize),
}

/// Room for `-` and a number behind an id.
const NUMBER_MAX: usize = 11;

impl Gateway {
    /// Keeps a room pulled until its task is cancelled, which is returned.
    ///
    /// Where no task of this base (the spec's id, else `keep-<room>`) is active
    /// one is submitted; where it ends, as done, failed or expired, the next one
    /// is, after a wait that doubles from [`limits::KEEP_RETRY`] to
    /// [`limits::KEEP_RETRY_MAX`] until one has run for [`limits::KEEP_STEADY`].
    /// Dispatchers or a server that are away are waited for. `seen` is told each
    /// state of each task. Dropping the future leaves the task as it is.
    ///
    /// # Errors
    /// [`KeepError`] says why it is of no use to go on.
    pub async fn keep(
        &self,
        spec: &TaskSpec,
        options: KeepOptions,
        mut seen: impl FnMut(&TaskView),
    ) -> Result<TaskView, KeepError> {
        let base = base(spec)?;
        let mut patience = Patience::new(options.tries);
        let mut begun = None;
        loop {
            let wait = match self.keep_one(spec, &base, &mut begun, &mut seen).await? {
                Some(ended) if ended.state == TaskState::Cancelled => return Ok(ended),
                Some(ended) => patience.ended(ended)?,
                None => patience.away(),
            };
            // Nothing tells when whoever is away, or the task's next try, is due.
            sleep(wait).await;
        }
    }

    /// Sees one task through. None where nobody can say what became of it. `begun`
    /// is the last number that had ended when the keeping began.
    async fn keep_one(
        &self,
        spec: &TaskSpec,
        base: &TaskId,
        begun: &mut Option<u64>,
        seen: &mut impl FnMut(&TaskView),
    ) -> Result<Option<TaskView>, KeepError> {
        let tasks = match self.list(&of_room(spec)).await {
            Ok(listed) => listed.tasks,
            Err(error) if is_passing(&error) => return Ok(None),
            Err(error) => return Err(KeepError::Refused(error)),
        };
        let begun = *begun.get_or_insert_with(|| ended(base, &tasks));
        if let Some(cancelled) = cancelled(base, &tasks, begun) {
            return Ok(Some(cancelled));
        }
        let task = match turn(base, &tasks) {
            Turn::Ours(task) => task,
            Turn::Foreign(view) => return Err(KeepError::Foreign(view)),
        };
        let named = TaskSpec { id: Some(task.clone()), ..spec.clone() };
        match self.submit(&named).await {
            Ok(_) => (),
            Err(error) if is_passing(&error) => return Ok(None),
            Err(AskError::Refused(refusal)) if refusal.error == RefusalCode::Conflict => {
                // The room was taken in between: by one of ours, or not. Where it
                // was not, this id stands for something else.
                let listed = self.list(&of_room(spec)).await;
                return match listed.map(|listed| turn(base, &listed.tasks)) {
                    Ok(Turn::Ours(other)) if other != task => Ok(None),
                    Ok(Turn::Foreign(view)) => Err(KeepError::Foreign(view)),
                    _ => Err(KeepError::Refused(refusal.into())),
                };
            }
            Err(error) => return Err(KeepError::Refused(error)),
        }
        loop {
            let (state, within) = (TaskState::Done, limits::KEEP_FOLLOW);
            return match self.follow(&task, state, within, limits::KEEP_POLL, &mut *seen).await {
                Ok(ended) => Ok(Some(ended)),
                Err(WaitError::Ended(view)) => Ok(Some(*view)),
                // It lives: its end must not be missed.
                Err(WaitError::TimedOut { .. }) => continue,
                Err(WaitError::Listen(_) | WaitError::Ask(_)) => Ok(None),
            };
        }
    }
}

/// All tasks of the room that are still known.
fn of_room(spec: &TaskSpec) -> List {
    use TaskState::{
        Assigned, Cancelled, Done, Draining, Expired, Failed, Pending, Running, Starting,
    };
    let states =
        vec![Pending, Assigned, Starting, Running, Draining, Done, Failed, Cancelled, Expired];
    List { states, room: Some(spec.room.clone()), limit: 0 }
}

fn base(spec: &TaskSpec) -> Result<TaskId, KeepError> {
    let most = limits::TOKEN_MAX - NUMBER_MAX;
    let base = match &spec.id {
        Some(id) => id.clone(),
        None => {
            // A room's name is a token; the longest ones are told apart by their end.
            let room = spec.room.as_str();
            let room = &room[room.len().saturating_sub(most - "keep-".len())..];
            TaskId::parse(&format!("keep-{room}")).expect("parts of tokens make a token")
        }
    };
    if base.as_str().len() > most { Err(KeepError::LongId(base, most)) } else { Ok(base) }
}

/// The highest number of ours that has ended; 0 where none has.
fn ended(base: &TaskId, tasks: &[TaskView]) -> u64 {
    let ended = tasks.iter().filter(|view| view.state.is_terminal());
    ended.filter_map(|view| number(base, &view.task)).max().unwrap_or(0)
}

/// The last of ours, where somebody has cancelled it since the keeping began: it
/// is the keeping that was meant, though nobody followed the task just then.
fn cancelled(base: &TaskId, tasks: &[TaskView], begun: u64) -> Option<TaskView> {
    let ours = tasks.iter().filter_map(|view| Some((number(base, &view.task)?, view)));
    let (at, last) = ours.max_by_key(|(at, _)| *at)?;
    (at > begun && last.state == TaskState::Cancelled).then(|| last.clone())
}

/// Whose turn it is in a room.
#[derive(Debug, PartialEq)]
enum Turn {
    /// The task that serves it, or the next one that may.
    Ours(TaskId),
    Foreign(Box<TaskView>),
}

/// Which number an id has within a base.
fn number(base: &TaskId, task: &TaskId) -> Option<u64> {
    let rest = task.as_str().strip_prefix(base.as_str())?;
    if rest.is_empty() {
        return Some(1);
    }
    let number = rest.strip_prefix('-')?;
    // As it is written, so that `x-02` is no second `x-2`.
    number.parse().ok().filter(|at: &u64| *at >= 2 && at.to_string() == number)
}

fn turn(base: &TaskId, tasks: &[TaskView]) -> Turn {
    let active = tasks.iter().find(|view| !view.state.is_terminal());
    if let Some(view) = active {
        return match number(base, &view.task) {
            Some(_) => Turn::Ours(view.task.clone()),
            None => Turn::Foreign(Box::new(view.clone())),
        };
    }
    let last = tasks.iter().filter_map(|view| number(base, &view.task)).max();
    let next = match last {
        None => base.clone(),
        Some(last) => TaskId::parse(&format!("{base}-{}", last.saturating_add(1)))
            .unwrap_or_else(|_| TaskId::fresh()),
    };
    Turn::Ours(next)
}

/// Whether it goes by itself: nobody there, too late, too many.
fn is_passing(error: &AskError) -> bool {
    match error {
        AskError::Refused(refusal) => {
            !matches!(refusal.error, RefusalCode::BadRequest | RefusalCode::Conflict)
        }
        _ => true,
    }
}

/// How long to wait, and how often.
#[derive(Debug)]
struct Patience {
    tries: Option<u32>,
    spent: u32,
    wait: Duration,
}

impl Patience {
    fn new(tries: Option<u32>) -> Self {
        Self { tries, spent: 0, wait: limits::KEEP_RETRY }
    }

    /// A task has ended.
    fn ended(&mut self, last: TaskView) -> Result<Duration, KeepError> {
        let ran = last.started_ms.map_or(0, |since| last.changed_ms.saturating_sub(since));
        if u128::from(ran) >= limits::KEEP_STEADY.as_millis() {
            *self = Self::new(self.tries);
        }
        self.spent += 1;
        match self.tries {
            Some(tries) if self.spent >= tries => {
                Err(KeepError::GaveUp { last: Box::new(last), tries })
            }
            _ => Ok(self.away()),
        }
    }

    /// Nobody could be asked: that is no fault of the task's.
    fn away(&mut self) -> Duration {
        let wait = self.wait;
        self.wait = (wait * 2).min(limits::KEEP_RETRY_MAX);
        wait
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn view(task: &str, state: TaskState) -> TaskView {
        serde_json::from_value(json!({
            "task": task, "room": "r", "sdk": "sim", "state": state, "epoch": 7,
            "priority": 5, "created_ms": 0, "changed_ms": 90_000,
        }))
        .unwrap()
    }

    fn id(text: &str) -> TaskId {
        TaskId::parse(text).unwrap()
    }

    #[test]
    fn ids_follow_from_what_is_known() {
        use TaskState::*;
        let base = id("b");
        for (tasks, next) in [
            (vec![], "b"),
            (vec![view("b", Running)], "b"),
            (vec![view("b", Done)], "b-2"),
            (vec![view("b-9", Failed), view("b", Done), view("other", Done)], "b-10"),
            (vec![view("b-3", Starting), view("b-2", Expired)], "b-3"),
            (vec![view("b-x", Done), view("bb", Done), view("b-02", Done)], "b"),
        ] {
            assert_eq!(turn(&base, &tasks), Turn::Ours(id(next)), "{tasks:?}");
        }
        let other = view("c", Pending);
        let tasks = [other.clone(), view("b", Done)];
        assert_eq!(turn(&base, &tasks), Turn::Foreign(Box::new(other)));
    }

    #[test]
    fn a_task_that_is_cancelled_while_nobody_follows_it_ends_the_keeping() {
        use TaskState::*;
        let base = id("b");
        for (tasks, begun, ends) in [
            (vec![], 0, false),
            (vec![view("b", Cancelled)], 1, false),
            (vec![view("b", Cancelled)], 0, true),
            (vec![view("b", Failed), view("b-2", Cancelled)], 1, true),
            (vec![view("b", Cancelled), view("b-2", Failed)], 0, false),
            (vec![view("b", Cancelled), view("b-2", Running)], 0, false),
            (vec![view("c", Cancelled)], 0, false),
        ] {
            assert_eq!(cancelled(&base, &tasks, begun).is_some(), ends, "{tasks:?} {begun}");
        }
        let tasks = [view("b", Failed), view("b-2", Running), view("c-7", Done)];
        assert_eq!((ended(&base, &tasks), ended(&base, &[])), (1, 0));
    }

    #[test]
    fn a_base_leaves_room_for_its_number() {
        let spec = |id: Option<&str>, room: &str| TaskSpec {
            id: id.map(|id| TaskId::parse(id).unwrap()),
            ..TaskSpec::from_json(format!(r#"{{"room":"{room}","sdk":"sim"}}"#).as_bytes()).unwrap()
        };
        assert_eq!(base(&spec(None, "42")).unwrap(), id("keep-42"));
        assert_eq!(base(&spec(Some("call"), "42")).unwrap(), id("call"));
        assert_eq!(base(&spec(None, &"x".repeat(64))).unwrap().as_str().len(), 53);
        assert!(base(&spec(Some(&"x".repeat(54)), "42")).is_err());
    }

    #[test]
    fn patience_ends_and_comes_back_with_a_task_that_lasts() {
        let mut patience = Patience::new(Some(3));
        let failed = view("b", TaskState::Failed);
        let waits = [patience.ended(failed.clone()).unwrap(), patience.away()];
        assert_eq!(waits, [limits::KEEP_RETRY, limits::KEEP_RETRY * 2]);
        let ran = TaskView { started_ms: Some(10_000), ..failed.clone() };
        assert_eq!(patience.ended(ran).unwrap(), limits::KEEP_RETRY);
        patience.ended(failed.clone()).unwrap();
        assert!(matches!(patience.ended(failed), Err(KeepError::GaveUp { tries: 3, .. })));
        let mut stubborn = Patience::new(None);
        let waits = (0..40).map(|_| stubborn.ended(view("b", TaskState::Expired)).unwrap());
        assert_eq!(waits.max(), Some(limits::KEEP_RETRY_MAX));
    }
}
