//! A worker of which nobody hears: its rooms may have been given to another one,
//! and it cannot know.

use super::{Core, Output};
use crate::id::TaskId;

/// What has become of the worker's lease.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lease {
    /// It is renewed, and our rooms are ours.
    Held,
    /// It has run out: somebody else may play in our rooms.
    Lapsed,
    /// Nobody has heard of us for longer than any outage lasts.
    Lost,
}

impl Core {
    /// A room in which two play is worse than one in which nobody does, so what
    /// is pushed is muted at once. What is pulled harms nobody under an epoch
    /// that is over, so the rooms are kept until there is no hope.
    pub(super) fn leased(&mut self, lease: Lease, out: &mut Vec<Output>) {
        match lease {
            Lease::Held => out.push(Output::Mute(false)),
            Lease::Lapsed => out.push(Output::Mute(true)),
            Lease::Lost => {
                let all: Vec<TaskId> = self.sessions.keys().cloned().collect();
                all.iter().for_each(|task| self.end(task, out));
            }
        }
    }
}
