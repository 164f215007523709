//! A supervisor with the real launcher, and ways to wait for processes.

use std::{os::fd::AsFd, time::Duration};

use audio_gateway::{
    id::TaskId,
    sdk::{
        launch::Command,
        process::{
            ChildKey, Exited, Patience, SpawnError, SpawnRequest, Spawned, Stop, Supervisor,
        },
    },
};
use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    process::{Pid, PidfdFlags, pidfd_open},
};
use tokio::sync::mpsc::Receiver;

/// What any wait in these tests may take before it has failed.
pub const DEADLINE: Duration = Duration::from_secs(20);
/// Within this time nothing is left of a worker that was killed.
pub const GONE: Duration = Duration::from_secs(1);
/// Quick enough for a test, long enough to tell the levels apart.
pub const PATIENCE: Patience =
    Patience { leave: Duration::from_millis(200), terminate: Duration::from_millis(200) };

pub struct Bench {
    pub supervisor: Supervisor,
    pub exits: Receiver<Exited>,
}

impl Bench {
    pub fn new() -> Self {
        Self::with(PATIENCE)
    }

    pub fn with(patience: Patience) -> Self {
        let launcher = env!("CARGO_BIN_EXE_sdk-launch").into();
        let (supervisor, exits) = Supervisor::start(launcher, patience).unwrap();
        Self { supervisor, exits }
    }

    pub async fn spawn(&self, key: u64, command: Command) -> Result<Spawned, SpawnError> {
        let task = TaskId::parse(&format!("t{key}")).unwrap();
        self.supervisor.spawn(SpawnRequest { key: ChildKey(key), task, command }).await
    }

    pub async fn sh(&self, key: u64, script: &str) -> Spawned {
        self.spawn(key, sh(script)).await.unwrap()
    }

    pub fn stop(&self, key: u64, how: Stop) {
        self.supervisor.stop(ChildKey(key), how);
    }

    pub async fn exit(&mut self) -> Exited {
        tokio::time::timeout(DEADLINE, self.exits.recv()).await.expect("an exit").unwrap()
    }

    pub async fn shut_down(mut self) {
        tokio::time::timeout(DEADLINE, self.supervisor.shut_down(Stop::Kill)).await.unwrap();
        assert_eq!(self.supervisor.alive(), 0);
        while self.exits.recv().await.is_some() {}
    }
}

pub fn sh(script: &str) -> Command {
    Command::new("/bin/sh").arg("-c").arg(script)
}

/// Waits until a descriptor can be read, or fails.
pub fn readable(fd: impl AsFd, within: Duration) -> bool {
    let within = Timespec::try_from(within).unwrap();
    poll(&mut [PollFd::new(&fd, PollFlags::IN)], Some(&within)).unwrap() > 0
}

/// Reads what a process writes until it ends or has written the text.
pub fn read_until(spawned: &Spawned, text: Option<&str>) -> String {
    let fd = spawned.stdout.as_ref().unwrap().fd.as_fd();
    let mut seen = Vec::new();
    loop {
        let so_far = String::from_utf8_lossy(&seen).into_owned();
        if text.is_some_and(|text| so_far.contains(text)) {
            return so_far;
        }
        assert!(readable(fd, DEADLINE), "nothing more after {so_far:?}");
        let mut buffer = [0; 4096];
        match rustix::io::read(fd, &mut buffer).unwrap() {
            0 => return so_far,
            count => seen.extend_from_slice(&buffer[..count]),
        }
    }
}

/// The process ids a process wrote, up to a line `ready`.
pub fn pids(text: &str) -> Vec<i32> {
    text.split_whitespace().filter_map(|word| word.parse().ok()).collect()
}

/// Whether a process, anybody's child, ends in time.
pub fn ends(pid: i32, within: Duration) -> bool {
    match pidfd_open(Pid::from_raw(pid).unwrap(), PidfdFlags::empty()) {
        Ok(pidfd) => readable(pidfd, within),
        Err(_) => true,
    }
}
