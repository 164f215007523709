//! Waiting until a task has come as far as somebody wants.

use std::time::Duration;

use tokio::time::{Instant, timeout_at};

use super::{Gateway, ListenError};
use crate::{
    bus::{
        AskError,
        messages::{TaskEvent, TaskView},
    },
    id::TaskId,
    limits,
    task::TaskState,
};

/// Why a task did not come as far as was waited for.
#[derive(Debug, thiserror::Error)]
pub enum WaitError {
    /// It ended before.
    #[error("task {} is {}{}", .0.task, .0.state, because(&.0.reason))]
    Ended(Box<TaskView>),
    /// It took too long.
    #[error("task {} is still {} after {within:?}{}", .last.task, .last.state, because(&.last.reason))]
    TimedOut {
        /// Where it stands.
        last: Box<TaskView>,
        /// How long was waited.
        within: Duration,
    },
    /// Its events cannot be heard.
    #[error(transparent)]
    Listen(#[from] ListenError),
    /// Nobody says where it stands.
    #[error(transparent)]
    Ask(#[from] AskError),
}

fn because(reason: &str) -> String {
    if reason.is_empty() { String::new() } else { format!(": {reason}") }
}

impl Gateway {
    /// Waits until a task is in `state`, or has ended where `state` is an end.
    /// `seen` is told each state on the way, the first one included.
    ///
    /// # Errors
    /// [`WaitError`] holds where the task stands.
    pub async fn wait_for(
        &self,
        task: &TaskId,
        state: TaskState,
        within: Duration,
        seen: impl FnMut(&TaskView),
    ) -> Result<TaskView, WaitError> {
        self.follow(task, state, within, limits::WAIT_POLL, seen).await
    }

    /// The same, with a look at the task each time nothing was heard of it for
    /// `poll`.
    pub(super) async fn follow(
        &self,
        task: &TaskId,
        state: TaskState,
        within: Duration,
        poll: Duration,
        mut seen: impl FnMut(&TaskView),
    ) -> Result<TaskView, WaitError> {
        let until = Instant::now() + within;
        let mut events = self.task_events(Some(task)).await?;
        let mut view = self.get(task).await?;
        seen(&view);
        loop {
            if reached(view.state, state) {
                return Ok(view);
            }
            if view.state.is_terminal() {
                return Err(WaitError::Ended(Box::new(view)));
            }
            if Instant::now() >= until {
                return Err(WaitError::TimedOut { last: Box::new(view), within });
            }
            let look = until.min(Instant::now() + poll);
            let next = match timeout_at(look, events.next()).await {
                Ok(Some(event)) => following(&view, event),
                // The connection is closed: asking says so.
                Ok(None) => Some(self.get(task).await?),
                // A lost event, or a dispatcher that is away for a moment.
                Err(_) => match self.get(task).await {
                    Ok(view) => Some(view),
                    Err(error @ AskError::Refused(_)) => return Err(error.into()),
                    Err(_) => None,
                },
            };
            let Some(next) = next.filter(|next| next.epoch >= view.epoch) else { continue };
            if (next.state, &next.reason) != (view.state, &view.reason) {
                seen(&next);
            }
            view = next;
        }
    }
}

/// A task that is done has run: it may have been too short to be seen running.
fn reached(is: TaskState, wanted: TaskState) -> bool {
    is == wanted
        || (wanted.is_terminal() && is.is_terminal())
        || (wanted == TaskState::Running && is == TaskState::Done)
}

/// The task after an event; none where the event is older than what is known.
fn following(view: &TaskView, event: TaskEvent) -> Option<TaskView> {
    let newer =
        event.epoch > view.epoch || (event.epoch == view.epoch && event.time_ms >= view.changed_ms);
    (newer && event.task == view.task).then(|| TaskView {
        state: event.state,
        epoch: event.epoch,
        worker: event.worker,
        reason: event.reason,
        changed_ms: event.time_ms,
        ..view.clone()
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::task::Epoch;

    fn view(state: TaskState, epoch: u64, changed_ms: u64) -> TaskView {
        TaskView {
            task: TaskId::parse("t").unwrap(),
            room: crate::id::RoomId::parse("r").unwrap(),
            sdk: crate::id::AdapterName::parse("sim").unwrap(),
            state,
            epoch: Epoch(epoch),
            worker: None,
            reason: String::new(),
            priority: 5,
            created_ms: 0,
            changed_ms,
            started_ms: None,
            revision: 0,
            pull: None,
            updating: false,
        }
    }

    fn event(state: TaskState, epoch: u64, time_ms: u64) -> TaskEvent {
        let view = view(state, epoch, time_ms);
        TaskEvent {
            task: view.task,
            room: view.room,
            state,
            epoch: view.epoch,
            worker: None,
            reason: String::new(),
            by: "dispatcher:d".to_owned(),
            time_ms,
        }
    }

    #[test]
    fn any_end_is_the_end_that_was_waited_for() {
        assert!(reached(TaskState::Failed, TaskState::Done));
        assert!(reached(TaskState::Running, TaskState::Running));
        assert!(reached(TaskState::Done, TaskState::Running));
        assert!(!reached(TaskState::Failed, TaskState::Running));
    }

    #[test]
    fn events_of_before_change_nothing() {
        let now = view(TaskState::Running, 7, 100);
        assert_eq!(following(&now, event(TaskState::Failed, 6, 200)), None);
        assert_eq!(following(&now, event(TaskState::Starting, 7, 99)), None);
        let next = following(&now, event(TaskState::Pending, 8, 99)).unwrap();
        assert_eq!((next.state, next.epoch), (TaskState::Pending, Epoch(8)));
    }
}
