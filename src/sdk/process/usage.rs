//! What the living processes use: CPU clocks and resident memory, read by
//! whoever asks and not by the supervisor's thread.

use std::{
    collections::BTreeMap,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use super::ChildKey;

/// The CPU time of one living process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Usage {
    /// The process.
    pub key: ChildKey,
    /// CPU time it has used since it was started, without its own children.
    pub cpu: Duration,
}

/// A process, and its CPU clock, where it has one.
#[derive(Debug)]
struct Process {
    pid: i32,
    clock: Option<libc::clockid_t>,
}

/// The process ids in use. A process is taken out before it is reaped, so an
/// id found here is never another process's.
#[derive(Debug, Default)]
pub(super) struct Pids(Mutex<BTreeMap<ChildKey, Process>>);

impl Pids {
    pub(super) fn insert(&self, key: ChildKey, pid: i32) {
        self.lock().insert(key, Process { pid, clock: cpu_clock(pid) });
    }

    pub(super) fn remove(&self, key: ChildKey) {
        self.lock().remove(&key);
    }

    pub(super) fn len(&self) -> usize {
        self.lock().len()
    }

    pub(super) fn cpu_times(&self) -> Vec<Usage> {
        let usage = |(&key, process): (&ChildKey, &Process)| {
            Some(Usage { key, cpu: cpu_time(process.clock?)? })
        };
        self.lock().iter().filter_map(usage).collect()
    }

    pub(super) fn resident(&self, keys: &[ChildKey]) -> Vec<(ChildKey, u64)> {
        let page = u64::try_from(rustix::param::page_size()).unwrap_or(4096);
        // Read outside the lock: an id that is reused meanwhile gives one wrong
        // number, while a slow /proc would hold up the supervisor.
        let pids: Vec<_> = {
            let pids = self.lock();
            keys.iter().filter_map(|key| Some((*key, pids.get(key)?.pid))).collect()
        };
        pids.into_iter().filter_map(|(key, pid)| Some((key, resident_pages(pid)? * page))).collect()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<ChildKey, Process>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The CPU clock of a process: as good as its id, so it is looked up once.
fn cpu_clock(pid: i32) -> Option<libc::clockid_t> {
    let mut clock = 0;
    // SAFETY: it writes only to the value it is given.
    let found = unsafe { libc::clock_getcpuclockid(pid, &raw mut clock) };
    (found == 0).then_some(clock)
}

/// What a CPU clock shows; none where its process is gone.
fn cpu_time(clock: libc::clockid_t) -> Option<Duration> {
    // SAFETY: all zeros is a value of this type.
    let mut now = unsafe { std::mem::zeroed::<libc::timespec>() };
    // SAFETY: it writes only to the value it is given.
    if unsafe { libc::clock_gettime(clock, &raw mut now) } != 0 {
        return None;
    }
    Some(Duration::new(u64::try_from(now.tv_sec).ok()?, u32::try_from(now.tv_nsec).ok()?))
}

/// The second number of `/proc/PID/statm`.
fn resident_pages(pid: i32) -> Option<u64> {
    let statm = std::fs::read_to_string(format!("/proc/{pid}/statm")).ok()?;
    statm.split(' ').nth(1)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn own_clock_and_memory() {
        let pids = Pids::default();
        let own = i32::try_from(std::process::id()).unwrap();
        pids.insert(ChildKey(1), own);
        let before = pids.cpu_times()[0].cpu;
        let sum = (0..3_000_000u64).map(std::hint::black_box).sum::<u64>();
        assert!(sum > 0 && pids.cpu_times()[0].cpu > before);
        assert!(pids.resident(&[ChildKey(1)])[0].1 > 100 * 1024);

        pids.remove(ChildKey(1));
        assert!(pids.cpu_times().is_empty() && pids.len() == 0);
    }

    #[test]
    fn a_process_that_is_gone_is_left_out() {
        let mut gone = std::process::Command::new("true").spawn().unwrap();
        let pid = i32::try_from(gone.id()).unwrap();
        let pids = Pids::default();
        pids.insert(ChildKey(2), pid);
        gone.wait().unwrap();
        pids.insert(ChildKey(1), pid);
        assert!(
            pids.cpu_times().is_empty() && pids.resident(&[ChildKey(1), ChildKey(2)]).is_empty()
        );
    }
}
