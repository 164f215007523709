//! Starting, watching and ending adapter processes.
//!
//! One thread a [`Supervisor`] does all of it: starts them (a process dies with
//! the *thread* that started it, so that thread must not end first), drains
//! what they write to stderr, notices their end through a pidfd, ends those
//! that must leave, and reaps every one. A second process, the guard, kills
//! what is left should this one be killed.
//!
//! Stdin and stdout are the caller's: it is handed non-blocking descriptors and
//! reads and writes them in its own rhythm. What goes over them is
//! [`super::pipe`]'s and [`super::raw`]'s.
//!
//! Limit: a descendant that both leaves its process group and clears its
//! environment is not found again; only a cgroup or a PID namespace around the
//! worker holds it. One that only leaves the group lives until the supervisor
//! ends.

mod child;
mod guard;
mod inbox;
mod log;
mod supervise;
mod usage;

use std::{
    io,
    os::fd::OwnedFd,
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
    thread::JoinHandle,
    time::Duration,
};

use tokio::sync::{mpsc, oneshot, watch};

pub use self::usage::Usage;
use self::{
    inbox::{Inbox, Order},
    supervise::Loop,
    usage::Pids,
};
use super::launch::{Command, NotFound};
use crate::{id::TaskId, limits};

/// The caller's name for one process, unique among those alive.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ChildKey(pub u64);

/// A process to be started.
#[derive(Debug, Clone)]
pub struct SpawnRequest {
    /// The caller's name for it.
    pub key: ChildKey,
    /// The task it serves, for the log.
    pub task: TaskId,
    /// What is started.
    pub command: Command,
}

/// The caller's end of a pipe to or from a process: non-blocking, closed on
/// exec, closed when dropped.
#[derive(Debug)]
pub struct Pipe {
    /// The descriptor.
    pub fd: OwnedFd,
    /// Bytes the kernel holds in it, which may be fewer than were asked for.
    pub capacity: usize,
}

/// A process that runs.
#[derive(Debug)]
pub struct Spawned {
    /// Its process id, also that of its process group.
    pub pid: u32,
    /// Writes to its stdin, where it has one. Dropping it asks the process to leave.
    pub stdin: Option<Pipe>,
    /// Reads its stdout, where it has one.
    pub stdout: Option<Pipe>,
}

/// Why a process was not started.
#[derive(Debug, thiserror::Error)]
pub enum SpawnError {
    /// The program is not there; retrying does not help.
    #[error("adapter program not found: {0}")]
    NotFound(#[from] NotFound),
    /// The launcher could not be started.
    #[error("cannot run {launcher}: {source}")]
    Launcher {
        /// The launcher's file.
        launcher: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// The system refused a pipe or a process; it may have room later.
    #[error("the system refused {what}: {source}")]
    System {
        /// What was asked for.
        what: &'static str,
        /// Why not.
        source: io::Error,
    },
    /// The key belongs to a process that is alive.
    #[error("a process with key {} is alive", .0.0)]
    Duplicate(ChildKey),
    /// Too many processes wait to be started; try again later.
    #[error("{} processes wait to be started already", limits::SPAWN_QUEUE)]
    Busy,
    /// It was stopped before it was started, or everything is being stopped.
    #[error("stopped before it was started")]
    Stopped,
}

/// How a process is made to end. Each level includes the ones after it, when
/// the process does not end in time; asking again only ever raises the level.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stop {
    /// The caller has asked it to leave and closed its stdin: wait, then
    /// terminate.
    Leave,
    /// SIGTERM to its group, wait, then kill.
    Terminate,
    /// SIGKILL to its group.
    Kill,
}

/// How long a process may take at each level of [`Stop`].
#[derive(Debug, Clone, Copy)]
pub struct Patience {
    /// From [`Stop::Leave`] to SIGTERM.
    pub leave: Duration,
    /// From SIGTERM to SIGKILL.
    pub terminate: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self { leave: limits::LEAVE_TIMEOUT, terminate: limits::TERM_TIMEOUT }
    }
}

/// How a process ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum End {
    /// It exited with this code.
    Code(i32),
    /// This signal ended it.
    Signal(i32),
    /// The launcher could not execute the program; the text says why.
    NotStarted(String),
}

impl std::fmt::Display for End {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Code(code) => write!(f, "exit code {code}"),
            Self::Signal(signal) => write!(f, "signal {signal}"),
            Self::NotStarted(why) => write!(f, "it could not be started: {why}"),
        }
    }
}

/// A process has ended, and was reaped.
#[derive(Debug, Clone)]
pub struct Exited {
    /// The caller's name for it, free again.
    pub key: ChildKey,
    /// The task it served.
    pub task: TaskId,
    /// The process id it had.
    pub pid: u32,
    /// How it ended.
    pub end: End,
    /// How far it had been made to, if at all: `None` is an end of its own.
    pub stopped: Option<Stop>,
    /// The end of what it wrote to stderr.
    pub stderr_tail: String,
    /// CPU time used by it and by the children it waited for.
    pub cpu: Duration,
}

/// Starts, watches and ends processes. Clones are the same supervisor; when
/// the last is dropped without [`Supervisor::shut_down`], all are killed.
#[derive(Debug, Clone)]
pub struct Supervisor {
    handle: Arc<Handle>,
}

/// What the clones of a supervisor share.
#[derive(Debug)]
struct Handle {
    inbox: Arc<Inbox>,
    pids: Arc<Pids>,
    ended: watch::Receiver<bool>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl Supervisor {
    /// Starts the supervisor and its guard with the launcher's file. Each
    /// process started gives exactly one [`Exited`], which may overtake the
    /// answer of [`Supervisor::spawn`]; the receiver ends with the supervisor.
    ///
    /// # Errors
    /// Where the launcher cannot be run, or the system refuses a thread or a
    /// descriptor.
    pub fn start(
        launcher: PathBuf,
        patience: Patience,
    ) -> Result<(Self, mpsc::Receiver<Exited>), SpawnError> {
        let (exits, receiver) = mpsc::channel(limits::CHILD_EXITS);
        let (alive, ended) = watch::channel(false);
        let refused = |what| move |source: io::Error| SpawnError::System { what, source };
        let inbox = Arc::new(Inbox::new().map_err(refused("an eventfd"))?);
        let pids = Arc::new(Pids::default());
        let mut watch = Loop::new(launcher, patience, Arc::clone(&inbox), Arc::clone(&pids), exits)
            .map_err(refused("an epoll"))?;
        let (started, guarded) = std::sync::mpsc::sync_channel(1);
        let thread = std::thread::Builder::new()
            .name("supervisor".into())
            .spawn(move || {
                block_signals();
                // The guard too is started by the thread that does not end.
                let guard = watch.start_guard();
                let guarded = guard.is_ok();
                if started.send(guard).is_ok() && guarded {
                    watch.run();
                }
                alive.send_replace(true);
            })
            .map_err(refused("a thread"))?;
        guarded.recv().unwrap_or(Err(SpawnError::Stopped))?;
        let thread = Mutex::new(Some(thread));
        Ok((Self { handle: Arc::new(Handle { inbox, pids, ended, thread }) }, receiver))
    }

    /// Starts a process. Dropping the future before it is ready takes the
    /// request back: the process is not started, or killed.
    ///
    /// # Errors
    /// [`SpawnError`] says whether trying again may help.
    pub async fn spawn(&self, request: SpawnRequest) -> Result<Spawned, SpawnError> {
        let (reply, answer) = oneshot::channel();
        let mut awaited = Awaited { key: request.key, answer, inbox: &self.handle.inbox };
        self.handle.inbox.order(Order { request, reply })?;
        (&mut awaited.answer).await.unwrap_or(Err(SpawnError::Stopped))
    }

    /// Makes a process end. Unknown keys are those of processes that have ended.
    pub fn stop(&self, key: ChildKey, how: Stop) {
        self.handle.inbox.stop(key, how);
    }

    /// The CPU time each living process has used, read now.
    #[must_use]
    pub fn cpu_times(&self) -> Vec<Usage> {
        self.handle.pids.cpu_times()
    }

    /// The memory these processes occupy, in bytes, read now. Each costs tens of
    /// times more than its CPU time.
    #[must_use]
    pub fn resident(&self, keys: &[ChildKey]) -> Vec<(ChildKey, u64)> {
        self.handle.pids.resident(keys)
    }

    /// How many processes are alive.
    #[must_use]
    pub fn alive(&self) -> usize {
        self.handle.pids.len()
    }

    /// Makes every process end and starts no more; returns when all are reaped
    /// and the supervisor's thread has ended. Calling it again with a higher
    /// level raises the level.
    pub async fn shut_down(&self, how: Stop) {
        self.handle.inbox.shut_down(how);
        // A sender that is gone is a thread that has ended too.
        let _ = self.handle.ended.clone().wait_for(|ended| *ended).await;
        let thread = self.handle.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        if thread.is_some_and(|thread| thread.join().is_err()) {
            tracing::error!("the supervisor's thread has panicked");
        }
    }
}

/// An order whose answer is awaited. Dropped before the answer came, nobody
/// gets it any more; dropped with an answer in it, the process is killed.
struct Awaited<'a> {
    key: ChildKey,
    answer: oneshot::Receiver<Result<Spawned, SpawnError>>,
    inbox: &'a Inbox,
}

impl Drop for Awaited<'_> {
    fn drop(&mut self) {
        self.answer.close();
        if let Ok(Ok(_)) = self.answer.try_recv() {
            self.inbox.stop(self.key, Stop::Kill);
        }
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.inbox.shut_down(Stop::Kill);
    }
}

/// Blocks all signals on this thread, so that they are handled elsewhere and
/// the guard, which inherits the mask, is out of their reach from its start.
/// The launcher clears the mask for adapters.
fn block_signals() {
    // SAFETY: the set is a plain value; the mask is this thread's own.
    unsafe {
        let mut all = std::mem::zeroed::<libc::sigset_t>();
        libc::sigfillset(&raw mut all);
        libc::pthread_sigmask(libc::SIG_BLOCK, &raw const all, std::ptr::null_mut());
    }
}

/// Raises this process's limit of open files to the most it is allowed and
/// returns it: an adapter takes four.
///
/// # Errors
/// Where the system refuses.
pub fn raise_open_files() -> io::Result<u64> {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let now = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: now.maximum, maximum: now.maximum })?;
    Ok(now.maximum.unwrap_or(u64::MAX))
}
