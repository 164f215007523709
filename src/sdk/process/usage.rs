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

/// The process ids in use. A process is taken out before it is reaped, so an
/// id found here is never another process's.
#[derive(Debug, Default)]
pub(super) struct Pids(Mutex<BTreeMap<ChildKey, i32>>);

impl Pids {
    pub(super) fn insert(&self, key: ChildKey, pid: i32) {
        self.lock().insert(key, pid);
    }

    pub(super) fn remove(&self, key: ChildKey) {
        self.lock().remove(&key);
    }

    pub(super) fn len(&self) -> usize {
        self.lock().len()
    }

    pub(super) fn cpu_times(&self) -> Vec<Usage> {
        let pids = self.lock();
        pids.iter().filter_map(|(&key, &pid)| Some(Usage { key, cpu: cpu_time(pid)? })).collect()
    }

    pub(super) fn resident(&self, keys: &[ChildKey]) -> Vec<(ChildKey, u64)> {
        let page = u64::try_from(rustix::param::page_size()).unwrap_or(4096);
        // Read outside the lock: an id that is reused meanwhile gives one wrong
        // number, while a slow /proc would hold up the supervisor.
        let pids: Vec<_> = {
            let pids = self.lock();
            keys.iter().filter_map(|key| Some((*key, *pids.get(key)?))).collect()
        };
        pids.into_iter().filter_map(|(key, pid)| Some((key, resident_pages(pid)? * page))).collect()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<ChildKey, i32>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The CPU clock of a process.
fn cpu_time(pid: i32) -> Option<Duration> {
    let mut clock = 0;
    // SAFETY: both calls write only to the values they are given.
    let now = unsafe {
        let mut now = std::mem::zeroed::<libc::timespec>();
        if libc::clock_getcpuclockid(pid, &raw mut clock) != 0
            || libc::clock_gettime(clock, &raw mut now) != 0
        {
            return None;
        }
        now
    };
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
        gone.wait().unwrap();
        let pids = Pids::default();
        pids.insert(ChildKey(1), pid);
        assert!(pids.cpu_times().is_empty() && pids.resident(&[ChildKey(1)]).is_empty());
    }
}
