//! What the worker has and uses, cheaply, twice a second: its cgroup where that
//! has a limit, else the host.
//!
//! The kernel's figures for the whole host can be far too low in a container
//! and know nothing of a quota, so the cgroup is asked first.

use std::{
    collections::{HashMap, VecDeque},
    fs,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use crate::{
    bus::messages::Load,
    limits,
    sdk::process::{ChildKey, Usage},
};

/// Samples whose median is told: a spike of one is none.
const SAMPLES: usize = 5;
/// Weight of a new measurement of a session's cost.
const LEARN: f64 = 0.1;

/// Measures the load.
#[derive(Debug)]
pub(super) struct Meter {
    group: Option<PathBuf>,
    /// Cores that may be filled.
    cores: f64,
    host_cores: f64,
    host: Option<sysinfo::System>,
    last: Option<(Instant, Duration)>,
    samples: VecDeque<f64>,
    children: HashMap<ChildKey, Duration>,
    own: Duration,
    cost: Option<f64>,
}

impl Meter {
    /// Capacity is what the cgroup or the host has, unless `cores` says
    /// otherwise.
    pub(super) fn new(cores: Option<f64>) -> Self {
        let group = own_group();
        let host_cores = std::thread::available_parallelism().map_or(1.0, |n| n.get() as f64);
        let quota = group.as_deref().and_then(quota);
        Self {
            cores: cores.unwrap_or(quota.map_or(host_cores, |quota| quota.min(host_cores))),
            host_cores,
            group,
            host: sysinfo::System::new().ok(),
            last: None,
            samples: VecDeque::new(),
            children: HashMap::new(),
            own: Duration::ZERO,
            cost: None,
        }
    }

    /// Measures. `usage` is the CPU time of the adapters, `own` that of
    /// this process.
    pub(super) fn measure(&mut self, usage: &[Usage], own: Duration, now: Instant) -> Load {
        let spent = self.group.as_deref().and_then(spent);
        let since = self.last.map(|(at, _)| now.saturating_duration_since(at));
        if let Some(since) = since.filter(|since| !since.is_zero()) {
            let used = match (spent, self.last) {
                (Some(spent), Some((_, before))) => {
                    spent.saturating_sub(before).as_secs_f64() / since.as_secs_f64()
                }
                _ => self.host_used(),
            };
            self.samples.push_back(used);
            if self.samples.len() > SAMPLES {
                self.samples.pop_front();
            }
            self.learn(usage, own, since);
        }
        self.children = usage.iter().map(|usage| (usage.key, usage.cpu)).collect();
        self.own = own;
        self.last = Some((now, spent.unwrap_or_default()));
        let (memory, memory_used) = self.memory();
        Load {
            cores: self.cores,
            cores_used: self.median(),
            memory,
            memory_used,
            sessions_max: 0, // the core knows
            session_cost: self.cost.unwrap_or(limits::SESSION_COST),
        }
    }

    fn median(&self) -> f64 {
        let mut sorted: Vec<f64> = self.samples.iter().copied().collect();
        sorted.sort_by(f64::total_cmp);
        sorted.get(sorted.len() / 2).copied().unwrap_or(0.0)
    }

    /// Learns what a session costs: its adapter's CPU time and its share of
    /// this process's.
    fn learn(&mut self, usage: &[Usage], own: Duration, since: Duration) {
        let known: Vec<Duration> = usage
            .iter()
            .filter_map(|it| Some(it.cpu.saturating_sub(*self.children.get(&it.key)?)))
            .collect();
        if known.is_empty() {
            return;
        }
        let spent = known.iter().sum::<Duration>() + own.saturating_sub(self.own);
        let each = spent.as_secs_f64() / since.as_secs_f64() / known.len() as f64;
        let before = self.cost.unwrap_or(each);
        self.cost = Some(before + LEARN * (each - before));
    }

    fn host_used(&mut self) -> f64 {
        let Some(host) = &mut self.host else { return 0.0 };
        host.refresh_cpu_usage();
        f64::from(host.global_cpu_usage()) / 100.0 * self.host_cores
    }

    fn memory(&mut self) -> (u64, u64) {
        let limit = self.group.as_deref().and_then(|group| number(&group.join("memory.max")));
        let used = self.group.as_deref().and_then(|group| number(&group.join("memory.current")));
        if let (Some(limit), Some(used)) = (limit, used) {
            return (limit, used);
        }
        let Some(host) = &mut self.host else { return (0, 0) };
        host.refresh_memory();
        (host.total_memory(), host.used_memory())
    }
}

/// The folder of this process's cgroup (version 2).
fn own_group() -> Option<PathBuf> {
    let own = fs::read_to_string("/proc/self/cgroup").ok()?;
    let path = own.lines().find_map(|line| line.strip_prefix("0::/"))?;
    let group = Path::new("/sys/fs/cgroup").join(path);
    group.join("cpu.stat").exists().then_some(group)
}

/// Cores that the cgroup or one above it may use, where one has a limit.
fn quota(group: &Path) -> Option<f64> {
    let quotas = group.ancestors().take_while(|folder| folder.starts_with("/sys/fs/cgroup"));
    quotas
        .filter_map(|folder| parse_quota(&fs::read_to_string(folder.join("cpu.max")).ok()?))
        .reduce(f64::min)
}

/// `cpu.max`: the quota or `max`, and the period.
fn parse_quota(text: &str) -> Option<f64> {
    let (quota, period) = text.trim().split_once(' ')?;
    let (quota, period): (f64, f64) = (quota.parse().ok()?, period.parse().ok()?);
    (period > 0.0).then(|| quota / period)
}

/// CPU time the cgroup has used.
fn spent(group: &Path) -> Option<Duration> {
    parse_spent(&fs::read_to_string(group.join("cpu.stat")).ok()?)
}

fn parse_spent(text: &str) -> Option<Duration> {
    let micros = text.lines().find_map(|line| line.strip_prefix("usage_usec "))?;
    micros.trim().parse().ok().map(Duration::from_micros)
}

fn number(file: &Path) -> Option<u64> {
    fs::read_to_string(file).ok()?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cgroup_s_files_are_read() {
        assert_eq!(parse_quota("150000 100000\n"), Some(1.5));
        assert_eq!(parse_quota("max 100000\n"), None);
        let stat = "usage_usec 1500000\nuser_usec 1000000\n";
        assert_eq!(parse_spent(stat), Some(Duration::from_millis(1_500)));
        assert_eq!(parse_spent("nothing"), None);
    }

    #[test]
    fn a_session_s_cost_is_learnt() {
        let (mut meter, start) = (Meter::new(None), Instant::now());
        let usage = |ms| [Usage { key: ChildKey(1), cpu: Duration::from_millis(ms) }];
        let first = meter.measure(&usage(100), Duration::ZERO, start);
        assert_eq!(first.session_cost, limits::SESSION_COST);
        let later = start + Duration::from_millis(500);
        let load = meter.measure(&usage(105), Duration::from_millis(5), later);
        assert!((load.session_cost - 0.02).abs() < 1e-9, "{}", load.session_cost);
        assert!(load.cores > 0.0 && load.memory > 0);
        let told = Meter::new(Some(64.0)).measure(&[], Duration::ZERO, start);
        assert_eq!(told.cores, 64.0);
    }
}
