//! What the worker has and uses, cheaply, twice a second: its cgroup where that
//! has a limit, else the host.
//!
//! The kernel's figures for the whole host can be far too low in a container
//! and know nothing of a quota, so the cgroup is asked first. Where a group
//! above it has the tightest limit, that group's use counts: its siblings take
//! from the same.

use std::{
    collections::{BTreeMap, VecDeque},
    fs,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use super::cost::{Class, Costs};
use crate::{
    bus::messages::Load,
    id::AdapterName,
    limits,
    sdk::process::{ChildKey, Supervisor},
};

/// Samples whose median is told: a spike of one is none.
const SAMPLES: usize = 5;
/// Where the groups are.
const GROUPS: &str = "/sys/fs/cgroup";

/// Hard caps by configuration.
#[derive(Debug, Clone, Default)]
pub(super) struct Caps {
    /// Cores that may be filled, instead of what there is.
    pub(super) cores: Option<f64>,
    /// Bytes of memory, likewise.
    pub(super) memory: Option<u64>,
    /// What a session of each adapter costs until it was measured, in cores,
    /// and how many of them may run.
    pub(super) guesses: BTreeMap<AdapterName, (f64, Option<usize>)>,
}

/// A group and the limit it sets.
#[derive(Debug, Clone, PartialEq)]
struct Bound<N> {
    folder: PathBuf,
    limit: N,
}

/// Measures the load.
#[derive(Debug)]
pub(super) struct Meter {
    /// The group whose CPU time counts.
    group: Option<PathBuf>,
    /// Whether it has a limit; otherwise the host's others count too.
    bounded: bool,
    memory: Option<Bound<u64>>,
    memory_cap: Option<u64>,
    /// Cores that may be filled.
    cores: f64,
    host_cores: f64,
    host: Option<sysinfo::System>,
    last: Option<(Instant, Duration)>,
    samples: VecDeque<f64>,
    costs: Costs,
    /// When the costs were learnt last.
    learnt: Option<Instant>,
}

impl Meter {
    /// Capacity is what the cgroup or the host has, unless the caps say
    /// otherwise.
    pub(super) fn new(caps: Caps) -> Self {
        let own = own_group();
        let host_cores = std::thread::available_parallelism().map_or(1.0, |n| n.get() as f64);
        let quota = own.as_deref().and_then(|own| tightest(Path::new(GROUPS), own, quota));
        let quota = quota.filter(|quota| quota.limit <= host_cores);
        let cores = quota.as_ref().map_or(host_cores, |quota| quota.limit);
        Self {
            cores: caps.cores.unwrap_or(cores),
            host_cores,
            bounded: quota.is_some(),
            memory: own.as_deref().and_then(|own| tightest(Path::new(GROUPS), own, memory_max)),
            group: quota.map(|quota| quota.folder).or(own),
            memory_cap: caps.memory,
            host: sysinfo::System::new().ok(),
            last: None,
            samples: VecDeque::new(),
            costs: Costs::new(caps.guesses),
            learnt: None,
        }
    }

    /// Measures. Of so many processes `classes` says what each is, where that is
    /// asked for; `own` is the CPU time of this one.
    pub(super) fn measure(
        &mut self,
        supervisor: &Supervisor,
        processes: usize,
        classes: impl FnOnce() -> BTreeMap<ChildKey, Class>,
        own: Duration,
        now: Instant,
    ) -> Load {
        self.sample(now);
        if self.learns(processes, now) {
            let since = self.learnt.replace(now).map(|at| now.saturating_duration_since(at));
            let classes = classes();
            self.costs.learn(&supervisor.cpu_times(), &classes, own, since);
            let resident = supervisor.resident(&self.costs.due_for_memory(&classes));
            self.costs.learn_memory(&resident, &classes);
        }
        let (memory, memory_used) = self.memory();
        let (fds, fds_used) = descriptors();
        Load {
            cores: self.cores,
            cores_used: median(&self.samples),
            memory: self.memory_cap.map_or(memory, |cap| cap.min(memory)),
            memory_used,
            sessions_max: 0, // the core knows
            session_cost: self.costs.average(),
            fds,
            fds_used,
            costs: self.costs.told(),
        }
    }

    /// Whether it is time to learn what sessions cost: each process is asked for by
    /// system calls, so where there are many they are asked less often.
    fn learns(&self, processes: usize, now: Instant) -> bool {
        let since = self.learnt.map(|at| now.saturating_duration_since(at));
        let few = processes <= limits::CPU_SAMPLE;
        few || since.is_none_or(|since| since >= limits::CPU_SAMPLE_EVERY)
    }

    /// Takes a sample of the CPU in use.
    fn sample(&mut self, now: Instant) {
        let spent = self.group.as_deref().and_then(spent);
        let last = self.last.replace((now, spent.unwrap_or_default()));
        let since = last.map(|(at, _)| now.saturating_duration_since(at));
        let Some(since) = since.filter(|since| !since.is_zero()) else { return };
        let ours = match (spent, last) {
            (Some(spent), Some((_, before))) => {
                spent.saturating_sub(before).as_secs_f64() / since.as_secs_f64()
            }
            _ => 0.0,
        };
        let used = if self.bounded { ours } else { ours.max(self.host_used()) };
        self.samples.push_back(used);
        if self.samples.len() > SAMPLES {
            self.samples.pop_front();
        }
    }

    fn host_used(&mut self) -> f64 {
        let Some(host) = &mut self.host else { return 0.0 };
        host.refresh_cpu_usage();
        f64::from(host.global_cpu_usage()) / 100.0 * self.host_cores
    }

    fn memory(&mut self) -> (u64, u64) {
        if let Some(bound) = &self.memory
            && let Some(used) = working_set(&bound.folder)
        {
            return (bound.limit, used);
        }
        let Some(host) = &mut self.host else { return (0, 0) };
        host.refresh_memory();
        (host.total_memory(), host.used_memory())
    }
}

fn median(samples: &VecDeque<f64>) -> f64 {
    let mut sorted: Vec<f64> = samples.iter().copied().collect();
    sorted.sort_by(f64::total_cmp);
    sorted.get(sorted.len() / 2).copied().unwrap_or(0.0)
}

/// The folder of this process's cgroup (version 2).
fn own_group() -> Option<PathBuf> {
    let own = fs::read_to_string("/proc/self/cgroup").ok()?;
    let path = own.lines().find_map(|line| line.strip_prefix("0::/"))?;
    let group = Path::new(GROUPS).join(path);
    group.join("cpu.stat").exists().then_some(group)
}

/// Of a group and those above it the one with the lowest limit.
fn tightest<N: PartialOrd>(
    root: &Path,
    group: &Path,
    limit: impl Fn(&Path) -> Option<N>,
) -> Option<Bound<N>> {
    let groups = group.ancestors().take_while(|folder| folder.starts_with(root));
    let bounds = groups
        .filter_map(|folder| Some(Bound { limit: limit(folder)?, folder: folder.to_owned() }));
    bounds.reduce(|tight, above| if above.limit < tight.limit { above } else { tight })
}

/// `cpu.max` in cores, where there is a limit: the quota or `max`, and the period.
fn quota(group: &Path) -> Option<f64> {
    let text = fs::read_to_string(group.join("cpu.max")).ok()?;
    let (quota, period) = text.trim().split_once(' ')?;
    let (quota, period): (f64, f64) = (quota.parse().ok()?, period.parse().ok()?);
    (period > 0.0 && quota > 0.0).then(|| quota / period)
}

fn memory_max(group: &Path) -> Option<u64> {
    fs::read_to_string(group.join("memory.max")).ok()?.trim().parse().ok()
}

/// CPU time the cgroup has used.
fn spent(group: &Path) -> Option<Duration> {
    field(&group.join("cpu.stat"), "usage_usec").map(Duration::from_micros)
}

/// Memory the cgroup cannot give back: files it read once do not count.
fn working_set(group: &Path) -> Option<u64> {
    let used: u64 = fs::read_to_string(group.join("memory.current")).ok()?.trim().parse().ok()?;
    let idle = field(&group.join("memory.stat"), "inactive_file").unwrap_or_default();
    Some(used.saturating_sub(idle))
}

/// A line `name number` of a file.
fn field(file: &Path, name: &str) -> Option<u64> {
    let text = fs::read_to_string(file).ok()?;
    let number = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '))?;
    number.trim().parse().ok()
}

/// File descriptors this process may have open, and has.
fn descriptors() -> (u64, u64) {
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
    let folder = Path::new("/proc/self/fd");
    // Its size is their number, where the kernel is new enough.
    let open = match fs::metadata(folder).map_or(0, |folder| folder.len()) {
        0 => fs::read_dir(folder).map_or(0, |open| open.count() as u64),
        open => open,
    };
    (limit.unwrap_or(0), open)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A group with these files.
    fn group(root: &Path, path: &str, files: &[(&str, &str)]) -> PathBuf {
        let folder = root.join(path);
        fs::create_dir_all(&folder).unwrap();
        for (name, text) in files {
            fs::write(folder.join(name), text).unwrap();
        }
        folder
    }

    #[test]
    fn the_tightest_limit_above_counts_with_the_use_beside_it() {
        let root = tempfile::tempdir().unwrap();
        let root = root.path();
        group(root, "", &[("cpu.max", "800000 100000\n"), ("memory.max", "max\n")]);
        let files = [("cpu.max", "150000 100000\n"), ("memory.max", "1000\n")];
        let pod = group(root, "pod", &files);
        let own = group(root, "pod/worker", &[("cpu.max", "max 100000\n"), ("memory.max", "2000")]);
        assert_eq!(tightest(root, &own, quota), Some(Bound { folder: pod.clone(), limit: 1.5 }));
        assert_eq!(tightest(root, &own, memory_max), Some(Bound { folder: pod, limit: 1_000 }));
        let free = group(root, "free", &[("cpu.max", "max 100000\n")]);
        assert_eq!(tightest(&free, &free, quota), None);
        assert_eq!(tightest(root, &root.join("gone"), memory_max), None);
    }

    #[test]
    fn the_group_s_use_is_read() {
        let root = tempfile::tempdir().unwrap();
        let files = [
            ("cpu.stat", "usage_usec 1500000\nuser_usec 1000000\n"),
            ("memory.current", "5000\n"),
            ("memory.stat", "anon 100\nfile 3000\ninactive_file 2000\n"),
        ];
        let own = group(root.path(), "own", &files);
        assert_eq!(spent(&own), Some(Duration::from_millis(1_500)));
        assert_eq!(working_set(&own), Some(3_000));
        assert_eq!((spent(root.path()), working_set(root.path())), (None, None));
    }

    #[test]
    fn the_cpu_in_use_is_the_median_of_what_the_group_spends() {
        let root = tempfile::tempdir().unwrap();
        let own = group(root.path(), "own", &[]);
        let meter = Meter::new(Caps::default());
        let mut meter = Meter { group: Some(own.clone()), bounded: true, ..meter };
        let (start, mut spent) = (Instant::now(), 0);
        // One core, but for a spike.
        for (step, used) in [0, 500_000, 500_000, 9_000_000, 500_000].into_iter().enumerate() {
            spent += used;
            fs::write(own.join("cpu.stat"), format!("usage_usec {spent}\n")).unwrap();
            meter.sample(start + Duration::from_millis(500) * step as u32);
        }
        assert!((median(&meter.samples) - 1.0).abs() < 1e-9, "{:?}", meter.samples);
        assert_eq!(meter.samples.len(), 4);
    }

    #[test]
    fn where_there_are_many_processes_costs_are_learnt_less_often() {
        let (mut meter, now) = (Meter::new(Caps::default()), Instant::now());
        assert!(meter.learns(10_000, now));
        meter.learnt = Some(now);
        let soon = now + limits::CPU_SAMPLE_EVERY / 2;
        assert!(meter.learns(limits::CPU_SAMPLE, soon));
        assert!(!meter.learns(limits::CPU_SAMPLE + 1, soon));
        assert!(meter.learns(limits::CPU_SAMPLE + 1, now + limits::CPU_SAMPLE_EVERY));
    }

    #[test]
    fn caps_count_instead_of_what_there_is() {
        let mut meter = Meter::new(Caps { cores: Some(64.0), ..Caps::default() });
        let (memory, used) = meter.memory();
        assert!(meter.cores == 64.0 && memory > 0 && used > 0);
    }

    #[test]
    fn descriptors_are_counted() {
        let (limit, before) = descriptors();
        let open: Vec<_> = (0..20).map(|_| fs::File::open("/dev/null").unwrap()).collect();
        let (_, after) = descriptors();
        assert!(limit >= after && after >= before + open.len() as u64 - 10, "{before} {after}");
    }
}
