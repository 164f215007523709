//! What each program costs while rooms run: CPU, system calls, switches.

use std::{
    collections::BTreeMap,
    process::{Child, Command, Stdio},
};

use crate::rig::{
    feed::THREAD as FEEDER,
    usage::{self, Usage},
};

/// The processes that are measured.
#[derive(Debug, Clone)]
pub(crate) struct Programs {
    pub(crate) server: u32,
    pub(crate) dispatcher: u32,
    pub(crate) workers: Vec<u32>,
}

/// What each has used.
#[derive(Debug, Clone, Default, serde::Serialize)]
pub(crate) struct Costs {
    /// All workers, without their adapters.
    pub(crate) worker: Usage,
    /// Their threads by name.
    pub(crate) threads: BTreeMap<String, Usage>,
    /// nats-server.
    pub(crate) server: Usage,
    /// This process, without the thread that writes for the adapters.
    pub(crate) listener: Usage,
    /// All adapters: their CPU alone.
    pub(crate) adapters: Usage,
    /// The thread that writes for them.
    pub(crate) feeder_us: i64,
    /// The dispatcher.
    pub(crate) dispatcher: Usage,
}

impl Costs {
    /// What was used so far.
    pub(crate) fn read(programs: &Programs, feeder_us: i64) -> Self {
        let workers = || programs.workers.iter().copied();
        let mut threads: BTreeMap<String, Usage> = BTreeMap::new();
        for (name, usage) in workers().flat_map(usage::threads) {
            let sum = threads.entry(name).or_default();
            *sum = sum.and(usage);
        }
        let mut listener = usage::of(std::process::id());
        if let Some(feeder) = usage::threads(std::process::id()).get(FEEDER) {
            listener.voluntary -= feeder.voluntary;
            listener.involuntary -= feeder.involuntary;
        }
        listener.cpu_us -= feeder_us as f64;
        let all = |usages: &mut dyn Iterator<Item = Usage>| {
            usages.fold(Usage::default(), |sum, usage| sum.and(usage))
        };
        Self {
            worker: all(&mut workers().map(usage::of)),
            threads,
            server: usage::of(programs.server),
            listener,
            adapters: all(&mut workers().flat_map(usage::children).map(usage::cpu_of)),
            feeder_us,
            dispatcher: usage::of(programs.dispatcher),
        }
    }

    /// What came since an earlier look.
    pub(crate) fn since(self, before: &Self) -> Self {
        let earlier = |name: &String| before.threads.get(name).copied().unwrap_or_default();
        Self {
            worker: self.worker.since(before.worker),
            threads: self
                .threads
                .into_iter()
                .map(|(name, usage)| {
                    let new = usage.since(earlier(&name));
                    (name, new)
                })
                .collect(),
            server: self.server.since(before.server),
            listener: self.listener.since(before.listener),
            adapters: self.adapters.since(before.adapters),
            feeder_us: self.feeder_us - before.feeder_us,
            dispatcher: self.dispatcher.since(before.dispatcher),
        }
    }

    /// The programs in order, by name.
    pub(crate) fn programs(&self) -> [(&'static str, Usage); 6] {
        let feeder = Usage { cpu_us: self.feeder_us as f64, ..Usage::default() };
        [
            ("worker", self.worker),
            ("server", self.server),
            ("listener", self.listener),
            ("adapters", self.adapters),
            ("feeder", feeder),
            ("dispatcher", self.dispatcher),
        ]
    }
}

/// Counts the system calls of a program for some seconds: `perf` counts where it
/// is there and may, and slows the program by a few hundredths meanwhile.
pub(crate) struct Calls {
    perf: Child,
}

impl Calls {
    /// Begins; none where there is no `perf`.
    pub(crate) fn start(pids: &[u32], seconds: f64) -> Option<Self> {
        let threads = pids.iter().flat_map(|pid| usage::thread_ids(*pid, FEEDER));
        let threads: Vec<_> = threads.map(|thread| thread.to_string()).collect();
        Command::new("perf")
            .args(["stat", "-x", ",", "-e", "raw_syscalls:sys_enter", "-t", &threads.join(",")])
            .args(["--", "sleep", &seconds.to_string()])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .ok()
            .map(|perf| Self { perf })
    }

    /// Whether it has counted.
    pub(crate) fn is_over(&mut self) -> bool {
        !matches!(self.perf.try_wait(), Ok(None))
    }

    /// How many there were; none where it was not allowed to count.
    pub(crate) fn count(self) -> Option<f64> {
        let output = self.perf.wait_with_output().ok()?;
        let text = String::from_utf8_lossy(&output.stderr);
        text.lines().find_map(|line| line.split(',').next()?.parse().ok())
    }
}
