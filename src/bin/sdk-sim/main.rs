//! `sdk-sim`: a voice room that exists only here, to try everything that sits
//! behind a real one. It speaks `docs/sdk-pipe.md` on stdin and stdout; what
//! its rooms do is said by the task's params.
//!
//! A thousand of these share a machine with what they test, so it is one
//! thread that sleeps in `poll` and leaves one write per slot. A worker that
//! does not read blocks that write; what is then more than two seconds late is
//! lost and reported as LOST, as a real SDK would lose it.

mod clock;
mod outbox;
mod params;
mod playout;
mod room;
mod sim;
mod source;
mod speech;
mod track;
mod wav;

use std::{
    io::{self, Write},
    num::NonZeroU64,
    os::fd::AsFd,
    path::PathBuf,
    process::ExitCode,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use audio_gateway::sdk::pipe::{Decoder, FromAdapter};
use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    io::Errno,
    process::{Resource, Rlimit, setrlimit},
    thread::set_current_timer_slack,
};

use crate::{
    outbox::Outbox,
    params::Fate,
    sim::{Began, End, Sim},
};

const USAGE: &str = "\
A simulated voice room, started by a worker.

Usage: sdk-sim [--media-dir DIR]...

  --media-dir DIR  let tasks play the WAV files of this folder; may be repeated
  --help           print this
  --version        print the version

It speaks the SDK pipe on stdin and stdout (docs/sdk-pipe.md) and logs to
stderr. What its rooms do is in the params of their tasks (docs/sim.md). The end
of stdin makes it leave.
";

/// How late the kernel may wake it, in ns: less than any SDK's own jitter, and
/// a quarter cheaper with hundreds of them, since they then wake together.
const TIMER_SLACK: NonZeroU64 = NonZeroU64::new(2_000_000).expect("not zero");

/// Bytes gathered before they are written in the middle of a moment.
const WRITE_AT: usize = 64 * 1024;

fn main() -> ExitCode {
    let mut media_dirs = Vec::new();
    let mut args = std::env::args_os().skip(1);
    while let Some(arg) = args.next() {
        match arg.to_str() {
            Some("--help" | "-h") => return print(USAGE),
            Some("--version" | "-V") => {
                return print(concat!("sdk-sim ", env!("CARGO_PKG_VERSION"), "\n"));
            }
            Some("--media-dir") => match args.next() {
                Some(dir) => media_dirs.push(PathBuf::from(dir)),
                None => return usage("--media-dir needs a folder"),
            },
            _ => return usage(&format!("unknown argument {}", arg.display())),
        }
    }
    let mut out = Outbox::default();
    let end = match run(media_dirs, &mut out) {
        Ok(end) => end,
        // The worker is gone; there is nobody left to tell.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => return ExitCode::SUCCESS,
        Err(error) => {
            out.say(&format!("the pipe to the worker: {error}"));
            End::Fate(Fate::Crash(Some(1)))
        }
    };
    finish(end, out)
}

/// Serves one room until its end.
fn run(media_dirs: Vec<PathBuf>, out: &mut Outbox) -> io::Result<End> {
    let stdin = io::stdin();
    let mut decoder = Decoder::to_adapter();
    let mut buffer = vec![0; 8 * 1024];
    let unix = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let began = Began { at: Instant::now(), unix_us: unix.as_micros() as i64 };
    let mut sim = Sim::new(media_dirs, began, out);
    // Where it is refused, the rooms only cost more.
    let _ = set_current_timer_slack(Some(TIMER_SLACK));
    loop {
        let now = Instant::now();
        while sim.deadline().is_some_and(|at| at <= now) {
            if let Some(end) = sim.act(now, out) {
                return Ok(end);
            }
            if out.bytes.len() >= WRITE_AT {
                flush(out)?;
            }
        }
        flush(out)?;
        let wait = sim.deadline().map(|at| at.saturating_duration_since(Instant::now()));
        if !readable(&stdin, wait)? {
            continue;
        }
        let count = match rustix::io::read(&stdin, &mut buffer[..]) {
            Ok(0) => return Ok(End::Bye("stdin has ended".to_owned())),
            Ok(count) => count,
            Err(Errno::INTR | Errno::AGAIN) => continue,
            Err(error) => return Err(error.into()),
        };
        let (mut input, now) = (&buffer[..count], Instant::now());
        while let Some(frame) = decoder.next(&mut input) {
            if let Some(end) = sim.hear(frame, now, out) {
                return Ok(end);
            }
        }
        if std::mem::take(&mut sim.ignore_sigterm) {
            ignore_sigterm();
        }
    }
}

/// Waits for the worker, at most so long.
fn readable(stdin: &impl AsFd, wait: Option<Duration>) -> io::Result<bool> {
    let wait = wait.map(|wait| Timespec {
        tv_sec: wait.as_secs() as i64,
        tv_nsec: wait.subsec_nanos().into(),
    });
    match poll(&mut [PollFd::new(stdin, PollFlags::IN)], wait.as_ref()) {
        Ok(ready) => Ok(ready > 0),
        Err(Errno::INTR) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// Writes what was gathered, whole: a frame is never cut.
fn flush(out: &mut Outbox) -> io::Result<()> {
    let stdout = io::stdout();
    let mut rest = out.bytes.as_slice();
    while !rest.is_empty() {
        match rustix::io::write(&stdout, rest) {
            Ok(count) => rest = &rest[count..],
            Err(Errno::INTR) => (),
            Err(Errno::AGAIN) => {
                poll(&mut [PollFd::new(&stdout, PollFlags::OUT)], None)?;
            }
            Err(error) => return Err(error.into()),
        }
    }
    out.bytes.clear();
    if !out.log.is_empty() {
        // A log that nobody takes is no reason to stop.
        let _ = io::stderr().write_all(&out.log);
        out.log.clear();
    }
    Ok(())
}

/// Says goodbye where that is meant to be said.
fn finish(end: End, mut out: Outbox) -> ExitCode {
    let code = match end {
        End::Bye(reason) => {
            out.say(&format!("leaves: {reason}"));
            out.send(&FromAdapter::Bye { reason });
            0
        }
        End::Error(message, code) => {
            out.say(&message);
            out.send(&FromAdapter::Error { message, fatal: true });
            code
        }
        End::Fate(Fate::Ended | Fate::Exit) => 0,
        End::Fate(Fate::Crash(Some(code))) => code,
        End::Fate(Fate::Crash(None)) => {
            let _ = flush(&mut out);
            // Hundreds of them at once must not fill a disk.
            let _ = setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: None });
            std::process::abort();
        }
        End::Fate(Fate::Hang) => {
            let _ = flush(&mut out);
            loop {
                std::thread::park();
            }
        }
    };
    // A worker that is gone reads no goodbye.
    let _ = flush(&mut out);
    ExitCode::from(code)
}

fn ignore_sigterm() {
    unsafe extern "C" {
        fn signal(number: i32, handler: usize) -> usize;
    }
    const SIG_IGN: usize = 1;
    // SAFETY: `signal` of the C library, with arguments it documents; no code
    // of ours runs in a handler.
    unsafe { signal(rustix::process::Signal::TERM.as_raw(), SIG_IGN) };
}

fn print(text: &str) -> ExitCode {
    let printed = io::stdout().write_all(text.as_bytes());
    ExitCode::from(u8::from(printed.is_err()))
}

fn usage(error: &str) -> ExitCode {
    eprint!("sdk-sim: {error}\n\n{USAGE}");
    ExitCode::from(2)
}
