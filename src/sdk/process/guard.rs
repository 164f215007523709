//! The guard as its worker sees it: a process that is told every process group
//! and, when the pipe to it ends, kills those that are left.

use std::{
    io,
    os::fd::OwnedFd,
    path::Path,
    process::{Command as Process, Stdio},
    time::Duration,
};

use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    fs::{OFlags, fcntl_getfl, fcntl_setfl},
    pipe::{PipeFlags, pipe_with},
    process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal},
};

use super::child::reap;
use crate::sdk::launch::passed_env;

/// A guard that was started and not yet reaped.
#[derive(Debug)]
pub(super) struct Guard {
    pub(super) pid: Pid,
    /// Readable once the guard has ended.
    pub(super) pidfd: OwnedFd,
    pipe: OwnedFd,
}

impl Guard {
    /// Starts a guard and tells it the marker and the groups that exist.
    pub(super) fn start(
        launcher: &Path,
        marker: &str,
        groups: impl Iterator<Item = Pid>,
    ) -> io::Result<Self> {
        let (reader, pipe) = pipe_with(PipeFlags::CLOEXEC)?;
        fcntl_setfl(&pipe, fcntl_getfl(&pipe)? | OFlags::NONBLOCK)?;
        let spawned = Process::new(launcher)
            .arg("guard")
            .env_clear()
            .envs(passed_env())
            .stdin(Stdio::from(reader))
            .stdout(Stdio::null())
            .spawn()?;
        let pid = Pid::from_child(&spawned);
        let pidfd = match pidfd_open(pid, PidfdFlags::empty()) {
            Ok(pidfd) => pidfd,
            Err(error) => {
                drop(pipe); // which ends it
                reap(pid);
                return Err(error.into());
            }
        };
        let guard = Self { pid, pidfd, pipe };
        guard.say(&format!("={marker}\n"));
        for group in groups {
            guard.add(group);
        }
        Ok(guard)
    }

    /// The group of a process that was started.
    pub(super) fn add(&self, group: Pid) {
        self.say(&format!("+{}\n", group.as_raw_nonzero()));
    }

    /// The group of a process that has ended.
    pub(super) fn remove(&self, group: Pid) {
        self.say(&format!("-{}\n", group.as_raw_nonzero()));
    }

    /// A guard that takes no more lines has lost some, so it is killed: its end
    /// is noticed, and the next one is told everything.
    fn say(&self, line: &str) {
        if rustix::io::write(&self.pipe, line.as_bytes()) != Ok(line.len()) {
            let _ = pidfd_send_signal(&self.pidfd, Signal::KILL);
        }
    }

    /// Reaps a guard that has ended.
    pub(super) fn reap(self) {
        reap(self.pid);
    }

    /// Lets the guard do its work and waits for its end.
    pub(super) fn leave(self, patience: Duration) {
        let Self { pid, pidfd, pipe } = self;
        drop(pipe);
        let patience = Timespec::try_from(patience).ok();
        let ended = poll(&mut [PollFd::new(&pidfd, PollFlags::IN)], patience.as_ref());
        if !matches!(ended, Ok(1..)) {
            tracing::warn!("the guard of the adapters does not leave; killing it");
            let _ = pidfd_send_signal(&pidfd, Signal::KILL);
        }
        reap(pid);
    }
}
