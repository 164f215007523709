//! A worker that is killed leaves nothing behind, whatever its adapters did.

use std::{
    io::{BufRead, BufReader, Write},
    path::{Path, PathBuf},
    process::Stdio,
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process};

use crate::bench::*;

/// Set for the process that plays a worker in the tests below.
const ROLE: &str = "PLAY_A_WORKER";

/// An adapter with a child, and one that went into a session of its own.
const FAMILY: &str = "sleep 600 & echo $$ $!; setsid sh -c 'echo $$ ready; exec sleep 600' & wait";

/// Not a test of its own: a worker that starts a family at once and another
/// for each line it is sent, and says whom it started.
#[tokio::test]
async fn the_worker_that_is_killed() {
    if std::env::var_os(ROLE).is_none() {
        return;
    }
    audio_gateway::telemetry::init("info");
    let bench = Bench::new();
    let mut kept = Vec::new();
    let mut lines = std::io::stdin().lines();
    for key in 0.. {
        let spawned = bench.sh(key, FAMILY).await;
        let family = pids(&read_until(&spawned, Some("ready")));
        kept.push(spawned);
        let mut out = std::io::stdout().lock();
        writeln!(out, "\nfamily {family:?}").unwrap();
        out.flush().unwrap();
        drop(out);
        if lines.next().is_none() {
            break;
        }
    }
}

struct Worker {
    process: std::process::Child,
    said: BufReader<std::process::ChildStdout>,
}

impl Worker {
    fn start() -> Self {
        let mut process = std::process::Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "killed::the_worker_that_is_killed", "--nocapture"])
            .env(ROLE, "1")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let said = BufReader::new(process.stdout.take().unwrap());
        Self { process, said }
    }

    fn family(&mut self) -> Vec<i32> {
        let mut line = String::new();
        while !line.starts_with("family ") {
            line.clear();
            assert!(self.said.read_line(&mut line).unwrap() > 0, "the worker ended");
        }
        let list = line["family ".len()..].trim().trim_matches(['[', ']']);
        let family: Vec<_> = list.split(", ").map(|pid| pid.parse().unwrap()).collect();
        assert_eq!(family.len(), 3);
        family
    }

    fn another(&mut self) {
        writeln!(self.process.stdin.as_ref().unwrap()).unwrap();
    }

    fn guard(&self) -> i32 {
        let children = format!("/proc/{0}/task", self.process.id());
        let of_thread = |thread: &Path| std::fs::read_to_string(thread.join("children"));
        std::fs::read_dir(children)
            .unwrap()
            .filter_map(|thread| of_thread(&thread.unwrap().path()).ok())
            .flat_map(|list| pids(&list))
            .find(|pid| {
                let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
                line.ends_with(b"sdk-launch\0guard\0")
            })
            .expect("a guard")
    }

    /// SIGKILL, and how long the last of the family outlived it.
    fn kill(mut self, families: &[i32]) -> Duration {
        assert!(families.iter().all(|&pid| !ends(pid, Duration::ZERO)), "all alive");
        self.process.kill().unwrap();
        self.process.wait().unwrap();
        let began = Instant::now();
        for &pid in families {
            assert!(ends(pid, GONE.saturating_sub(began.elapsed())), "{pid} of {families:?}");
        }
        began.elapsed()
    }
}

#[test]
fn nothing_outlives_a_worker_that_is_killed() {
    let mut worker = Worker::start();
    let mut families = worker.family();
    for _ in 0..3 {
        worker.another();
        families.extend(worker.family());
    }
    let guard = worker.guard();
    let took = worker.kill(&families);
    assert!(ends(guard, DEADLINE), "the guard has nothing left to do");
    println!("the last of {} processes ended {took:?} after the worker", families.len());
}

#[test]
fn a_guard_that_died_is_replaced_and_told_everything() {
    let mut worker = Worker::start();
    let mut families = worker.family();
    let first = worker.guard();
    kill_process(Pid::from_raw(first).unwrap(), Signal::KILL).unwrap();
    let log = BufReader::new(worker.process.stderr.take().unwrap());
    let mut log = log.lines().map_while(Result::ok);
    assert!(log.any(|line| line.contains("the guard of the adapters has died")));
    // Served by the same thread, so after the guard was replaced.
    worker.another();
    families.extend(worker.family());
    let second = worker.guard();
    assert_ne!(first, second);
    worker.kill(&families);
    assert!(ends(second, DEADLINE));
}

#[test]
fn signals_do_not_move_the_guard() {
    let mut worker = Worker::start();
    let families = worker.family();
    let guard = worker.guard();
    for signal in [Signal::TERM, Signal::INT, Signal::HUP] {
        kill_process(Pid::from_raw(guard).unwrap(), signal).unwrap();
    }
    worker.another();
    let more = worker.family();
    assert_eq!(worker.guard(), guard);
    worker.kill(&[families, more].concat());
}

#[test]
fn the_launcher_starts_nothing_for_a_worker_that_is_gone() {
    let launcher = PathBuf::from(env!("CARGO_BIN_EXE_sdk-launch"));
    for args in [&["exec", "1", "/bin/echo", "started"][..], &["exec"], &["exec", "x", "y"], &[]] {
        let output = std::process::Command::new(&launcher).args(args).output().unwrap();
        assert_eq!((output.status.code(), output.stdout), (Some(125), vec![]), "{args:?}");
        assert!(!output.stderr.is_empty());
    }
}
