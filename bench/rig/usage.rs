//! What programs have used, as the kernel counts it.

use std::{collections::BTreeMap, fs};

/// What a program, or a part of it, has used.
#[derive(Debug, Clone, Copy, Default, serde::Serialize, serde::Deserialize)]
pub(crate) struct Usage {
    /// CPU time in µs.
    pub(crate) cpu_us: f64,
    /// Times it gave the CPU away itself, as by sleeping …
    pub(crate) voluntary: u64,
    /// … and times it was taken from it.
    pub(crate) involuntary: u64,
    /// Calls that read …
    pub(crate) reads: u64,
    /// … and that wrote, to files, pipes and (where they are made by `read` and
    /// `write`) sockets.
    pub(crate) writes: u64,
}

impl Usage {
    /// What came since an earlier look.
    pub(crate) fn since(self, before: Self) -> Self {
        Self {
            cpu_us: self.cpu_us - before.cpu_us,
            voluntary: self.voluntary.saturating_sub(before.voluntary),
            involuntary: self.involuntary.saturating_sub(before.involuntary),
            reads: self.reads.saturating_sub(before.reads),
            writes: self.writes.saturating_sub(before.writes),
        }
    }

    /// Both.
    pub(crate) fn and(self, other: Self) -> Self {
        Self {
            cpu_us: self.cpu_us + other.cpu_us,
            voluntary: self.voluntary + other.voluntary,
            involuntary: self.involuntary + other.involuntary,
            reads: self.reads + other.reads,
            writes: self.writes + other.writes,
        }
    }
}

/// What a process has used, with its threads, without its children.
pub(crate) fn of(pid: u32) -> Usage {
    let io = fields(&format!("/proc/{pid}/io"));
    let mut usage = Usage { cpu_us: cpu_us(pid), ..Usage::default() };
    (usage.reads, usage.writes) = (number(&io, "syscr"), number(&io, "syscw"));
    for thread in tasks(pid) {
        let status = fields(&format!("{thread}/status"));
        usage.voluntary += number(&status, "voluntary_ctxt_switches");
        usage.involuntary += number(&status, "nonvoluntary_ctxt_switches");
    }
    usage
}

/// CPU time of a process and nothing else: of a thousand that is read in 1 ms.
pub(crate) fn cpu_of(pid: u32) -> Usage {
    Usage { cpu_us: cpu_us(pid), ..Usage::default() }
}

/// The children of a process, whichever of its threads started them.
pub(crate) fn children(pid: u32) -> Vec<u32> {
    let list = |thread: &String| fs::read_to_string(format!("{thread}/children")).ok();
    let lists: Vec<String> = tasks(pid).iter().filter_map(list).collect();
    lists
        .iter()
        .flat_map(|list| list.split_whitespace())
        .filter_map(|pid| pid.parse().ok())
        .collect()
}

/// What its threads have used, by name; those of one name together.
pub(crate) fn threads(pid: u32) -> BTreeMap<String, Usage> {
    let mut by_name: BTreeMap<String, Usage> = BTreeMap::new();
    for thread in tasks(pid) {
        let name = fs::read_to_string(format!("{thread}/comm")).unwrap_or_default();
        let run = fs::read_to_string(format!("{thread}/schedstat")).unwrap_or_default();
        let status = fields(&format!("{thread}/status"));
        let nanos = run.split(' ').next().and_then(|nanos| nanos.parse().ok()).unwrap_or(0.0);
        let usage = Usage {
            cpu_us: nanos / 1e3,
            voluntary: number(&status, "voluntary_ctxt_switches"),
            involuntary: number(&status, "nonvoluntary_ctxt_switches"),
            ..Usage::default()
        };
        let sum = by_name.entry(name.trim().to_owned()).or_default();
        *sum = sum.and(usage);
    }
    by_name
}

/// The threads of a process but for those of one name.
pub(crate) fn thread_ids(pid: u32, but: &str) -> Vec<u32> {
    let name = |thread: &str| fs::read_to_string(format!("{thread}/comm")).unwrap_or_default();
    let others = tasks(pid).into_iter().filter(|thread| name(thread).trim() != but);
    others.filter_map(|thread| thread.rsplit('/').next()?.parse().ok()).collect()
}

/// Resident memory in MiB.
pub(crate) fn resident(pid: u32) -> f64 {
    let statm = fs::read_to_string(format!("/proc/{pid}/statm")).unwrap_or_default();
    let pages: f64 = statm.split(' ').nth(1).and_then(|pages| pages.parse().ok()).unwrap_or(0.0);
    pages * rustix::param::page_size() as f64 / (1024.0 * 1024.0)
}

/// Resident memory in MiB with what is shared counted in parts: walks every
/// page, so it is not for whoever is measured.
pub(crate) fn proportional(pid: u32) -> f64 {
    number(&fields(&format!("/proc/{pid}/smaps_rollup")), "Pss") as f64 / 1024.0
}

/// CPU time of a process with all threads it ever had, in µs: its own clock, since
/// what `/proc` tells is in ticks of 10 ms.
fn cpu_us(pid: u32) -> f64 {
    let (Ok(pid), mut clock) = (pid.try_into(), 0) else { return 0.0 };
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: both write to places that live as long as the calls.
    let read = unsafe {
        libc::clock_getcpuclockid(pid, &raw mut clock) == 0
            && libc::clock_gettime(clock, &raw mut time) == 0
    };
    if read { time.tv_sec as f64 * 1e6 + time.tv_nsec as f64 / 1e3 } else { 0.0 }
}

fn tasks(pid: u32) -> Vec<String> {
    let Ok(threads) = fs::read_dir(format!("/proc/{pid}/task")) else { return Vec::new() };
    threads.flatten().map(|thread| thread.path().display().to_string()).collect()
}

fn fields(path: &str) -> BTreeMap<String, String> {
    let text = fs::read_to_string(path).unwrap_or_default();
    let pair =
        |line: &str| line.split_once(':').map(|(key, value)| (key.to_owned(), value.to_owned()));
    text.lines().filter_map(pair).collect()
}

fn number(fields: &BTreeMap<String, String>, key: &str) -> u64 {
    let value = fields.get(key).and_then(|value| value.split_whitespace().next());
    value.and_then(|value| value.parse().ok()).unwrap_or(0)
}
