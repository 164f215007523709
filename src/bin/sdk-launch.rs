//! The launcher: `exec` prepares the process an adapter runs in and becomes
//! the adapter; `guard` outlives its worker just long enough to kill what the
//! worker left behind. Both are started by the worker, never by people.
//!
//! Kept small and without a runtime: it runs once for each adapter. Which
//! adapters there are, and when they end, is the worker's affair.

use std::{
    collections::BTreeSet,
    ffi::OsString,
    io::{self, BufRead, BufReader, Read, Write},
    os::unix::process::CommandExt,
    process::{Command, ExitCode},
    time::Duration,
};

use audio_gateway::sdk::launch::{CANNOT_START, MARKER};
use rustix::process::{
    Pid, Signal, getppid, kill_process, kill_process_group, set_parent_process_death_signal, setsid,
};

/// What a shell exits with where a program is not there.
const NOT_FOUND: u8 = 127;
/// What a shell exits with where a program cannot be executed.
const NOT_EXECUTABLE: u8 = 126;
/// Wrong usage, or a worker that is gone.
const NOT_STARTED: u8 = 125;
/// Longest line the guard reads: a sign and a number, or a marker of 32 digits.
const LINE_MAX: u64 = 128;
/// Largest environment the guard looks into for the marker.
const ENVIRON_MAX: u64 = 1024 * 1024;
/// How often the guard looks for processes that bear the marker.
const SWEEPS: usize = 50;
/// A stray is missed by a sweep that passes while it forks or executes another
/// program, so the last sweeps find nothing several times in a row.
const CLEAN_SWEEPS: usize = 3;
/// Wait between two sweeps, for the killed to die.
const SWEEP_WAIT: Duration = Duration::from_millis(5);

fn main() -> ExitCode {
    let mut args = std::env::args_os().skip(1);
    match args.next().as_deref().and_then(|verb| verb.to_str()) {
        Some("exec") => exec(args),
        Some("guard") => guard(),
        _ => say("sdk-launch is started by a worker: exec PARENT PROGRAM [ARG…] | guard"),
    }
}

/// Writes a line to stderr and says that nothing was started. Unlike
/// `eprintln!` it survives a stderr that nobody reads.
fn say(line: &str) -> ExitCode {
    let _ = writeln!(io::stderr(), "{line}");
    ExitCode::from(NOT_STARTED)
}

/// Becomes the program named, as a process that dies with its parent.
fn exec(mut args: impl Iterator<Item = OsString>) -> ExitCode {
    let parent = args.next().and_then(|arg| arg.to_str()?.parse::<i32>().ok());
    let (Some(parent), Some(program)) = (parent.and_then(Pid::from_raw), args.next()) else {
        return say("sdk-launch: exec needs the parent's process id and a program");
    };
    if let Err(error) = set_parent_process_death_signal(Some(Signal::KILL)) {
        return say(&format!("sdk-launch: cannot follow the worker's death: {error}"));
    }
    // A parent that died before the line above sent no signal.
    if getppid() != Some(parent) {
        return say("sdk-launch: the worker is gone");
    }
    // A set-user-id program would lose the death signal when it is executed.
    let _ = rustix::thread::set_no_new_privs(true);
    reset_signals();
    keep_only_stdio();
    yield_to_worker();

    let error = Command::new(&program).args(args).exec();
    let _ = writeln!(io::stderr(), "{CANNOT_START}{}: {error}", program.display());
    match error.kind() {
        io::ErrorKind::NotFound => ExitCode::from(NOT_FOUND),
        _ => ExitCode::from(NOT_EXECUTABLE),
    }
}

/// Gives every signal its default action and blocks none: masks and ignored
/// signals pass through `exec`, and the worker has its own.
fn reset_signals() {
    // SAFETY: SIG_DFL installs no handler; signals that cannot be changed are
    // refused with an error. The set is a plain value made by `sigemptyset`.
    // No other thread runs.
    unsafe {
        for signal in 1..=libc::SIGRTMAX() {
            libc::signal(signal, libc::SIG_DFL);
        }
        let mut none = std::mem::zeroed::<libc::sigset_t>();
        libc::sigemptyset(&raw mut none);
        libc::sigprocmask(libc::SIG_SETMASK, &raw const none, std::ptr::null_mut());
    }
}

/// Marks every descriptor but stdin, stdout and stderr to be closed by `exec`,
/// whatever the worker had open without that mark. Older kernels refuse; there
/// the mark the worker sets itself must do.
fn keep_only_stdio() {
    // SAFETY: marking descriptors close-on-exec invalidates none of them.
    unsafe {
        libc::syscall(libc::SYS_close_range, 3, libc::c_uint::MAX, libc::CLOSE_RANGE_CLOEXEC);
    }
}

/// A waking adapter does not preempt the thread that serves all of them, and
/// where memory is short an adapter goes before its worker.
fn yield_to_worker() {
    // SAFETY: a `sched_param` is a plain value, and 0 is this process.
    unsafe {
        let param = std::mem::zeroed::<libc::sched_param>();
        libc::sched_setscheduler(0, libc::SCHED_BATCH, &raw const param);
    }
    let _ = std::fs::write("/proc/self/oom_score_adj", "500");
}

/// Reads process groups from stdin until the worker closes it or dies, then
/// kills those that are left.
fn guard() -> ExitCode {
    // Its own session: no terminal and no group signal of the worker's reaches it.
    let _ = setsid();
    let _ = std::env::set_current_dir("/");
    // Signals are blocked from its start by the thread that started it.

    let mut groups = BTreeSet::new();
    let mut marker = None;
    let mut input = BufReader::new(io::stdin().lock());
    let mut line = String::new();
    // A line without its end counts for nothing.
    while matches!((&mut input).take(LINE_MAX).read_line(&mut line), Ok(1..)) {
        match line.strip_suffix('\n').and_then(|text| text.split_at_checked(1)) {
            Some(("+", group)) => groups.extend(group.parse::<i32>().ok().filter(|&id| id > 1)),
            Some(("-", group)) => groups.retain(|id| group.parse() != Ok(*id)),
            Some(("=", value)) => marker = Some(format!("{MARKER}={value}")),
            _ => (),
        }
        line.clear();
    }

    let left = groups.len();
    for group in groups.into_iter().filter_map(Pid::from_raw) {
        let _ = kill_process_group(group, Signal::KILL);
    }
    let strays = marker.map_or(0, |marker| sweep(marker.as_bytes()));
    if left + strays > 0 {
        say(&format!("sdk-launch: killed {left} process groups and {strays} strays of a worker"));
    }
    ExitCode::SUCCESS
}

/// Kills every process whose environment bears the marker, until none is left:
/// those that went into a session of their own, and those that were started so
/// shortly before the worker died that it could not name them. Returns how many.
fn sweep(marker: &[u8]) -> usize {
    let mut killed = BTreeSet::new();
    let mut clean = 0;
    for _ in 0..SWEEPS {
        clean += 1;
        for process in std::fs::read_dir("/proc").into_iter().flatten().flatten() {
            let Some(id) = process.file_name().to_str().and_then(|name| name.parse::<i32>().ok())
            else {
                continue;
            };
            match bears(id, marker) {
                Bears::No => continue,
                Bears::Unsure => (),
                Bears::Yes => {
                    killed.insert(id);
                    let _ = Pid::from_raw(id).map(|pid| kill_process(pid, Signal::KILL));
                }
            }
            clean = 0;
        }
        if clean == CLEAN_SWEEPS {
            break;
        }
        // Nothing tells of processes that are not one's own children.
        std::thread::sleep(SWEEP_WAIT);
    }
    killed.len()
}

/// Whether a process was started with the marker in its environment.
enum Bears {
    Yes,
    /// Not, or it is dead, or another user's.
    No,
    /// It is being replaced by `exec`: for that time it has no environment.
    Unsure,
}

fn bears(id: i32, marker: &[u8]) -> Bears {
    let read = |name: &str| {
        let mut text = Vec::new();
        let file = std::fs::File::open(format!("/proc/{id}/{name}"))?;
        file.take(ENVIRON_MAX).read_to_end(&mut text).map(|_| text)
    };
    let Ok(environ) = read("environ") else { return Bears::No };
    if environ.split(|&byte| byte == 0).any(|entry| entry == marker) {
        return Bears::Yes;
    }
    // A process that is executing a program has neither environment nor
    // arguments; nor have the dead and the kernel's own threads.
    let executing = environ.is_empty()
        && read("cmdline").is_ok_and(|arguments| arguments.is_empty())
        && read("stat").is_ok_and(|stat| is_program(&stat));
    if executing { Bears::Unsure } else { Bears::No }
}

/// Whether a line of `/proc/PID/stat` is that of a living program.
fn is_program(stat: &[u8]) -> bool {
    // "pid (name) state ppid pgrp session tty_nr tpgid flags …", proc_pid_stat(5).
    const KERNEL_THREAD: u32 = 0x0020_0000;
    let stat = String::from_utf8_lossy(stat);
    let mut fields = stat.rsplit_once(") ").map_or("", |(_, rest)| rest).split(' ');
    let alive = fields.next().is_some_and(|state| !matches!(state, "Z" | "X"));
    let flags = fields.nth(5).and_then(|flags| flags.parse::<u32>().ok());
    alive && flags.is_some_and(|flags| flags & KERNEL_THREAD == 0)
}
