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
    for (_, thread) in tasks(pid) {
        let status = fields(&format!("{thread}/status"));
        usage.voluntary += number(&status, "voluntary_ctxt_switches");
        usage.involuntary += number(&status, "nonvoluntary_ctxt_switches");
    }
    usage
}

/// What its threads have used, by name; those of one name together.
pub(crate) fn threads(pid: u32) -> BTreeMap<String, Usage> {
    let mut by_name: BTreeMap<String, Usage> = BTreeMap::new();
    for (_, thread) in tasks(pid) {
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

/// Resident and proportional memory in MiB.
pub(crate) fn memory(pid: u32) -> (f64, f64) {
    let rollup = fields(&format!("/proc/{pid}/smaps_rollup"));
    let mib = |key| number(&rollup, key) as f64 / 1024.0;
    (mib("Rss"), mib("Pss"))
}

/// User and system time in µs. The kernel tells it in ticks of 10 ms, of a sum
/// that it keeps in ns.
fn cpu_us(pid: u32) -> f64 {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let fields = stat.rsplit_once(") ").map_or("", |(_, fields)| fields);
    let ticks: f64 =
        fields.split(' ').skip(11).take(2).filter_map(|field| field.parse::<f64>().ok()).sum();
    ticks * 1e6 / rustix::param::clock_ticks_per_second() as f64
}

fn tasks(pid: u32) -> Vec<(u32, String)> {
    let Ok(threads) = fs::read_dir(format!("/proc/{pid}/task")) else { return Vec::new() };
    let id = |name: std::ffi::OsString| name.to_str().and_then(|name| name.parse().ok());
    threads
        .flatten()
        .filter_map(|thread| Some((id(thread.file_name())?, thread.path().display().to_string())))
        .collect()
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
