//! One process: its pipes, its start through the launcher, its signals, its
//! reaping. When any of that happens is the loop's decision.

use std::{
    ffi::OsStr,
    io,
    os::{fd::OwnedFd, unix::process::CommandExt},
    path::Path,
    process::{Command as Process, Stdio},
    time::{Duration, Instant},
};

use rustix::{
    fs::{OFlags, fcntl_getfl, fcntl_setfl},
    io::Errno,
    pipe::{PipeFlags, fcntl_getpipe_size, fcntl_setpipe_size, pipe_with},
    process::{Pid, PidfdFlags, Signal, kill_process_group, pidfd_open, pidfd_send_signal},
};

use super::{ChildKey, End, Pipe, SpawnError, SpawnRequest, Spawned, Stop, log::StderrLog};
use crate::{
    id::TaskId,
    limits,
    sdk::launch::{CANNOT_START, MARKER, find_program, passed_env, search_path},
};

/// A process that was started and not yet reaped.
#[derive(Debug)]
pub(super) struct Child {
    pub(super) key: ChildKey,
    pub(super) task: TaskId,
    pub(super) pid: Pid,
    /// Readable once the process has ended.
    pub(super) pidfd: OwnedFd,
    /// Until its other end is closed.
    pub(super) stderr: Option<OwnedFd>,
    pub(super) log: StderrLog,
    /// Whether closing its stdin can tell it to leave.
    pub(super) hears: bool,
    pub(super) stopped: Option<Stop>,
    /// When the next level of stopping is due.
    pub(super) due: Option<Instant>,
}

/// Starts the program of a request as the leader of a new process group.
pub(super) fn start(
    launcher: &Path,
    marker: &str,
    request: &SpawnRequest,
    now: Instant,
) -> Result<(Child, Spawned), SpawnError> {
    let refused = |what| move |source: io::Error| SpawnError::System { what, source };
    let command = &request.command;
    let path = command.env.iter().find(|(name, _)| name == "PATH").map(|(_, value)| value.clone());
    let program = find_program(command.program.as_os_str(), &path.unwrap_or_else(search_path))?;
    let program = std::path::absolute(program).map_err(refused("the program's folder"))?;
    let cwd = command.cwd.as_deref().unwrap_or(Path::new("/"));
    // `posix_spawn` would blame the launcher for a folder that is not there.
    std::fs::metadata(cwd.join(".")).map_err(refused("the folder to run in"))?;

    // Stderr first and small: what it does not take of the user's allowance of
    // pipe memory is left to the audio.
    let (stderr, their_stderr) = pipe(limits::STDERR_PIPE_BYTES).map_err(refused("a pipe"))?;
    let stderr = ours(stderr).map_err(refused("a pipe"))?.fd;
    let (stdin, their_stdin) = match command.stdin {
        true => {
            let (reader, writer) = pipe(limits::PIPE_BYTES).map_err(refused("a pipe"))?;
            (Some(ours(writer).map_err(refused("a pipe"))?), Stdio::from(reader))
        }
        false => (None, Stdio::null()),
    };
    let (stdout, their_stdout) = match command.stdout {
        true => {
            let (reader, writer) = pipe(limits::PIPE_BYTES).map_err(refused("a pipe"))?;
            (Some(ours(reader).map_err(refused("a pipe"))?), Stdio::from(writer))
        }
        false => (None, Stdio::null()),
    };

    // No `pre_exec`, and the launcher as an absolute path: either would turn
    // `posix_spawn` into a fork that copies the page tables of the whole worker.
    let mut process = Process::new(launcher);
    process
        .arg("exec")
        .arg(std::process::id().to_string())
        .arg(program)
        .args(&command.args)
        .env_clear()
        .envs(passed_env())
        .envs(command.env.iter().filter(|(name, _)| !is_secret(name)).cloned())
        .env(MARKER, marker)
        .current_dir(cwd)
        .process_group(0)
        .stdin(their_stdin)
        .stdout(their_stdout)
        .stderr(their_stderr);
    let spawned = process
        .spawn()
        .map_err(|source| SpawnError::Launcher { launcher: launcher.to_owned(), source })?;
    // The command still holds the child's ends of the pipes.
    drop(process);
    let pid = Pid::from_child(&spawned);
    let pidfd = match pidfd_open(pid, PidfdFlags::empty()) {
        Ok(pidfd) => pidfd,
        Err(error) => {
            let _ = kill_process_group(pid, Signal::KILL);
            reap(pid);
            return Err(refused("a pidfd")(error.into()));
        }
    };

    let child = Child {
        key: request.key,
        task: request.task.clone(),
        pid,
        pidfd,
        stderr: Some(stderr),
        log: StderrLog::new(now),
        hears: command.stdin,
        stopped: None,
        due: None,
    };
    Ok((child, Spawned { pid: spawned.id(), stdin, stdout }))
}

/// The bus's credentials never reach an adapter, whatever is configured.
fn is_secret(name: &OsStr) -> bool {
    name.as_encoded_bytes().starts_with(b"NATS_")
}

/// A pipe of about this size; a user who has used up the allowance gets less.
fn pipe(bytes: usize) -> io::Result<(OwnedFd, OwnedFd)> {
    let (reader, writer) = pipe_with(PipeFlags::CLOEXEC)?;
    match fcntl_setpipe_size(&writer, bytes) {
        Ok(_) | Err(Errno::PERM | Errno::BUSY) => Ok((reader, writer)),
        Err(error) => Err(error.into()),
    }
}

/// Our end of a pipe, which never blocks. The other end is not concerned.
fn ours(fd: OwnedFd) -> io::Result<Pipe> {
    fcntl_setfl(&fd, fcntl_getfl(&fd)? | OFlags::NONBLOCK)?;
    let capacity = fcntl_getpipe_size(&fd)?;
    Ok(Pipe { fd, capacity })
}

/// The end of a process as the system reports it.
pub(super) struct Reaped {
    code: Option<i32>,
    signal: i32,
    pub(super) cpu: Duration,
}

impl Reaped {
    /// How it ended, as the launcher's message or the status tells.
    pub(super) fn end(&self, stderr_tail: &str) -> End {
        match (self.code, stderr_tail.strip_prefix(CANNOT_START)) {
            (Some(126 | 127), Some(why)) => End::NotStarted(why.to_owned()),
            (Some(code), _) => End::Code(code),
            (None, _) => End::Signal(self.signal),
        }
    }
}

/// Waits for a process that has ended, with the CPU time it used. Nobody else
/// waits for it: `std`'s handle of it was dropped.
pub(super) fn reap(pid: Pid) -> Reaped {
    let mut status = 0;
    // SAFETY: a `rusage` is a plain value; `wait4` writes only to what it is given.
    let usage = unsafe {
        let mut usage = std::mem::zeroed::<libc::rusage>();
        while libc::wait4(pid.as_raw_nonzero().get(), &raw mut status, 0, &raw mut usage) < 0
            && io::Error::last_os_error().kind() == io::ErrorKind::Interrupted
        {}
        usage
    };
    let time = |time: libc::timeval| {
        Duration::from_secs(time.tv_sec.unsigned_abs())
            + Duration::from_micros(time.tv_usec.unsigned_abs())
    };
    Reaped {
        code: libc::WIFEXITED(status).then(|| libc::WEXITSTATUS(status)),
        signal: libc::WTERMSIG(status),
        cpu: time(usage.ru_utime) + time(usage.ru_stime),
    }
}

/// Reaps what ends among processes that nobody here started: orphans, which
/// the system gives to the first process of a container. Stops at one that is
/// known, whose own end is about to be noticed.
pub(super) fn reap_orphans(known: impl Fn(Pid) -> bool) {
    loop {
        // SAFETY: a `siginfo_t` is a plain value, zero where nobody has ended,
        // and the system sets `si_pid` for those that have.
        let ended = unsafe {
            let mut info = std::mem::zeroed::<libc::siginfo_t>();
            let look = libc::WEXITED | libc::WNOHANG | libc::WNOWAIT;
            match libc::waitid(libc::P_ALL, 0, &raw mut info, look) {
                0 => info.si_pid(),
                _ => 0,
            }
        };
        match Pid::from_raw(ended) {
            Some(pid) if !known(pid) => drop(reap(pid)),
            _ => break,
        }
    }
}

impl Child {
    /// Sends a signal to the group, and to the process itself should it have
    /// left its group. It is not reaped yet, so both are still its own.
    pub(super) fn signal(&self, signal: Signal) {
        let _ = kill_process_group(self.pid, signal);
        if rustix::process::getpgid(Some(self.pid)) != Ok(self.pid) {
            let _ = pidfd_send_signal(&self.pidfd, signal);
        }
    }

    /// Reads what is there of stderr, at most [`limits::STDERR_READ`] bytes, and
    /// logs it. Returns whether more may be there at once.
    pub(super) fn drain_stderr(&mut self, buffer: &mut [u8], now: Instant) -> bool {
        let Some(stderr) = &self.stderr else { return false };
        let (task, pid) = (&self.task, self.pid.as_raw_nonzero().get());
        match rustix::io::read(stderr, &mut *buffer) {
            Ok(0) => {
                self.stderr = None;
                false
            }
            Ok(count) => {
                self.log.push(&buffer[..count], now, |line, left_out| {
                    write_line(task, pid, line, left_out);
                });
                true
            }
            Err(Errno::AGAIN | Errno::INTR) => false,
            Err(error) => {
                tracing::warn!(%task, pid, %error, "cannot read an adapter's stderr any more");
                self.stderr = None;
                false
            }
        }
    }

    /// Logs what is left of stderr after the end and returns the tail.
    pub(super) fn finish_stderr(&mut self, now: Instant) -> String {
        let (task, pid) = (&self.task, self.pid.as_raw_nonzero().get());
        self.log.finish(now, |line, left_out| write_line(task, pid, line, left_out));
        self.log.tail()
    }
}

fn write_line(task: &TaskId, pid: i32, line: &str, left_out: u64) {
    if left_out > 0 {
        tracing::warn!(%task, pid, lines = left_out, "an adapter writes too much; lines left out");
    }
    if !line.is_empty() {
        tracing::info!(%task, pid, "adapter: {line}");
    }
}
