//! Which adapters of which workers get no tasks for a while, because their
//! starts failed there: who is to blame for a start that fails.
//!
//! A start that the worker itself could not make (no program, no process)
//! speaks against the worker: [`limits::QUARANTINE_STARTS`] of them are enough.
//! Where the adapter ran and did not join, or the worker gave no answer, it may
//! be the task's fault, the vendor's, the worker's or the wire's. Then it takes
//!
//! - as many *different* tasks, none of which failed elsewhere too: a task that
//!   fails at two workers is at fault itself, and is struck from the lists;
//! - no start of that adapter that succeeded there since the first of them;
//! - one that succeeded since then at another worker, which is not in
//!   quarantine itself.
//!
//! So the last worker is never put away on suspicion, and a task that harms
//! every worker it comes to closes none of them for others that succeed there.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    time::Instant,
};

use crate::{
    bus::messages::Quarantined,
    id::{AdapterName, TaskId, WorkerId},
    limits,
};

/// A start that failed.
#[derive(Debug, Clone)]
pub(super) struct Failure {
    /// The task that was to begin.
    pub(super) task: TaskId,
    /// Whether it is the worker's fault beyond doubt.
    pub(super) sure: bool,
    /// Why it failed.
    pub(super) reason: String,
}

/// One adapter at one worker.
#[derive(Debug, Default)]
struct Ward {
    failures: VecDeque<(Instant, Failure)>,
    worked: Option<Instant>,
    until: Option<(Instant, String)>,
}

impl Ward {
    fn age(&mut self, now: Instant) {
        let old = |at: Instant| now.saturating_duration_since(at) >= limits::QUARANTINE_WINDOW;
        self.failures.retain(|(at, _)| !old(*at));
        self.worked = self.worked.filter(|at| !old(*at));
        self.until = self.until.take().filter(|(until, _)| *until > now);
    }

    fn is_closed(&self, now: Instant) -> bool {
        self.until.as_ref().is_some_and(|(until, _)| *until > now)
    }

    /// Since when too many starts have failed that may be the worker's fault.
    fn suspected_since(&self) -> Option<Instant> {
        let after = |at: &Instant| self.worked.is_none_or(|worked| worked < *at);
        let open = self.failures.iter().filter(|(at, failure)| failure.sure || after(at));
        let tasks: BTreeSet<&TaskId> = open.clone().map(|(_, failure)| &failure.task).collect();
        let first = open.map(|(at, _)| *at).next()?;
        (tasks.len() >= limits::QUARANTINE_STARTS).then_some(first)
    }

    fn is_at_fault(&self) -> bool {
        let sure = self.failures.iter().filter(|(_, failure)| failure.sure);
        sure.count() >= limits::QUARANTINE_STARTS
    }
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Quarantine(BTreeMap<AdapterName, BTreeMap<WorkerId, Ward>>);

impl Quarantine {
    /// A start failed. Returns whether that puts the adapter away there.
    pub(super) fn failed(
        &mut self,
        worker: &WorkerId,
        adapter: &AdapterName,
        failure: Failure,
        now: Instant,
    ) -> bool {
        let wards = self.0.entry(adapter.clone()).or_default();
        if !failure.sure {
            let mut elsewhere = false;
            for (_, ward) in wards.iter_mut().filter(|(other, _)| *other != worker) {
                let before = ward.failures.len();
                ward.failures.retain(|(_, known)| known.sure || known.task != failure.task);
                elsewhere |= ward.failures.len() < before;
            }
            if elsewhere {
                return false;
            }
        }
        let ward = wards.entry(worker.clone()).or_default();
        ward.age(now);
        if ward.failures.len() >= limits::QUARANTINE_MEMORY {
            ward.failures.pop_front();
        }
        ward.failures.push_back((now, failure));
        Self::judge(wards, worker, now)
    }

    /// A start succeeded. Returns the workers that this puts away: what fails
    /// there works here.
    pub(super) fn worked(
        &mut self,
        worker: &WorkerId,
        adapter: &AdapterName,
        now: Instant,
    ) -> Vec<WorkerId> {
        let wards = self.0.entry(adapter.clone()).or_default();
        wards.entry(worker.clone()).or_default().worked = Some(now);
        let suspects = wards.iter().filter(|(_, ward)| ward.suspected_since().is_some());
        let mut suspects: Vec<WorkerId> = suspects.map(|(id, _)| id.clone()).collect();
        suspects.retain(|id| Self::judge(wards, id, now));
        suspects
    }

    /// Puts an adapter away at a worker where the rule says so.
    fn judge(wards: &mut BTreeMap<WorkerId, Ward>, worker: &WorkerId, now: Instant) -> bool {
        let Some(ward) = wards.get_mut(worker) else { return false };
        ward.age(now);
        let suspected = ward.suspected_since();
        let at_fault = ward.is_at_fault();
        let elsewhere = |since: Instant| {
            wards.iter().any(|(other, ward)| {
                other != worker
                    && !ward.is_closed(now)
                    && ward.worked.is_some_and(|worked| worked >= since)
            })
        };
        if !at_fault && !suspected.is_some_and(elsewhere) {
            return false;
        }
        let Some(ward) = wards.get_mut(worker) else { return false };
        let last = ward.failures.back().map_or_else(String::new, |(_, last)| last.reason.clone());
        ward.until = Some((now + limits::QUARANTINE, last));
        ward.failures.clear();
        true
    }

    /// Why an adapter gets no tasks at a worker, where that is so.
    pub(super) fn closed(
        &self,
        worker: &WorkerId,
        adapter: &AdapterName,
        now: Instant,
    ) -> Option<&str> {
        let ward = self.0.get(adapter)?.get(worker)?;
        let (until, reason) = ward.until.as_ref()?;
        (*until > now).then_some(reason)
    }

    /// A worker was started anew, or is gone: what was held against it was its
    /// former life's.
    pub(super) fn forget(&mut self, worker: &WorkerId) {
        self.0.retain(|_, wards| {
            wards.remove(worker);
            !wards.is_empty()
        });
    }

    /// What is put away at a worker, for operators.
    pub(super) fn view(&self, worker: &WorkerId, now: Instant) -> Vec<Quarantined> {
        let closed = |(adapter, wards): (&AdapterName, &BTreeMap<WorkerId, Ward>)| {
            let (until, reason) = wards.get(worker)?.until.as_ref()?;
            let left = until.checked_duration_since(now).filter(|left| !left.is_zero())?;
            Some(Quarantined {
                adapter: adapter.clone(),
                for_ms: u64::try_from(left.as_millis()).unwrap_or(u64::MAX),
                reason: reason.clone(),
            })
        };
        self.0.iter().filter_map(closed).collect()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    struct Bench(Quarantine, Instant);

    impl Bench {
        fn new() -> Self {
            Self(Quarantine::default(), Instant::now())
        }

        fn at(&self, s: u64) -> Instant {
            self.1 + Duration::from_secs(s)
        }

        fn fails(&mut self, worker: &str, task: &str, sure: bool, s: u64) -> bool {
            let failure =
                Failure { task: TaskId::parse(task).unwrap(), sure, reason: task.to_owned() };
            let at = self.at(s);
            self.0.failed(&id(worker), &sim(), failure, at)
        }

        fn works(&mut self, worker: &str, s: u64) -> Vec<WorkerId> {
            let at = self.at(s);
            self.0.worked(&id(worker), &sim(), at)
        }

        fn is_closed(&self, worker: &str, s: u64) -> bool {
            self.0.closed(&id(worker), &sim(), self.at(s)).is_some()
        }
    }

    fn id(worker: &str) -> WorkerId {
        WorkerId::parse(worker).unwrap()
    }

    fn sim() -> AdapterName {
        AdapterName::parse("sim").unwrap()
    }

    #[test]
    fn three_starts_the_worker_cannot_make_put_it_away_for_a_while() {
        let mut bench = Bench::new();
        assert!(!bench.fails("w1", "t1", true, 0));
        assert!(!bench.fails("w1", "t1", true, 1));
        assert!(bench.works("w1", 2).is_empty(), "one that succeeds in between excuses nothing");
        assert!(bench.fails("w1", "t2", true, 59));
        assert!(bench.is_closed("w1", 88) && !bench.is_closed("w1", 89));
        assert!(!bench.is_closed("w2", 60));
        let view = bench.0.view(&id("w1"), bench.at(60));
        assert_eq!((view[0].for_ms, view[0].reason.as_str()), (29_000, "t2"));
        assert!(bench.0.view(&id("w1"), bench.at(89)).is_empty());
    }

    #[test]
    fn what_lies_longer_back_than_the_window_counts_no_more() {
        let mut bench = Bench::new();
        assert!(!bench.fails("w1", "t1", true, 0));
        assert!(!bench.fails("w1", "t2", true, 30));
        assert!(!bench.fails("w1", "t3", true, 60));
        assert!(bench.fails("w1", "t4", true, 61));
    }

    #[test]
    fn a_suspicion_needs_three_tasks_and_a_worker_where_the_adapter_works() {
        let mut bench = Bench::new();
        for s in 0..10 {
            assert!(!bench.fails("w1", "t1", false, s), "one task alone proves nothing");
        }
        bench.works("w2", 10);
        assert!(!bench.fails("w1", "t2", false, 11));
        assert!(bench.fails("w1", "t3", false, 12));
        assert!(bench.is_closed("w1", 13) && !bench.is_closed("w2", 13));
    }

    #[test]
    fn where_it_fails_everywhere_nobody_is_put_away() {
        let mut bench = Bench::new();
        for s in 0..20 {
            for worker in ["w1", "w2", "w3"] {
                assert!(!bench.fails(worker, &format!("{worker}-{s}"), false, s));
            }
        }
        // What works here shows whose fault it is there.
        assert_eq!(bench.works("w2", 20), [id("w1"), id("w3")]);
        assert!(!bench.is_closed("w2", 21));
    }

    #[test]
    fn the_last_that_works_is_not_put_away_on_suspicion() {
        let mut bench = Bench::new();
        bench.works("w2", 0);
        for (s, task) in ["a", "b", "c"].into_iter().enumerate() {
            bench.fails("w1", task, false, 1 + s as u64);
        }
        assert!(!bench.is_closed("w1", 3), "it worked elsewhere before the first failure");
        assert_eq!(bench.works("w2", 3), [id("w1")]);
        for (s, task) in ["d", "e", "f", "g"].into_iter().enumerate() {
            assert!(!bench.fails("w2", task, false, 4 + s as u64));
        }
    }

    #[test]
    fn who_is_put_away_is_no_witness_against_others() {
        let mut bench = Bench::new();
        bench.fails("w1", "a", false, 1);
        bench.works("w2", 2);
        assert!((0..3).any(|_| bench.fails("w2", "x", true, 3)));
        bench.fails("w1", "b", false, 4);
        assert!(!bench.fails("w1", "c", false, 5));
    }

    #[test]
    fn a_task_that_fails_at_two_workers_is_struck_from_both() {
        let mut bench = Bench::new();
        for task in ["bad1", "bad2", "bad3"] {
            assert!(!bench.fails("w1", task, false, 1));
            assert!(!bench.fails("w2", task, false, 2));
        }
        assert!(bench.works("w3", 3).is_empty());
        assert!(!bench.fails("w1", "good", false, 4));
        assert!(bench.works("w3", 5).is_empty());
    }

    #[test]
    fn one_that_succeeds_there_clears_a_suspicion() {
        let mut bench = Bench::new();
        bench.fails("w1", "a", false, 0);
        bench.fails("w1", "b", false, 1);
        bench.works("w1", 2);
        bench.works("w2", 2);
        assert!(!bench.fails("w1", "c", false, 3));
        bench.works("w2", 4);
        assert!(!bench.fails("w1", "d", false, 5));
        assert!(bench.fails("w1", "e", false, 6) || !bench.works("w2", 7).is_empty());
    }

    #[test]
    fn a_worker_that_is_started_anew_begins_with_nothing() {
        let mut bench = Bench::new();
        for task in ["a", "b", "c"] {
            bench.fails("w1", task, true, 0);
        }
        assert!(bench.is_closed("w1", 1));
        bench.0.forget(&id("w1"));
        assert!(!bench.is_closed("w1", 1) && bench.0.0.is_empty());
    }

    #[test]
    fn a_flood_of_failures_takes_no_memory() {
        let mut bench = Bench::new();
        for number in 0..10_000 {
            bench.fails("w1", &format!("t{number}"), false, 0);
        }
        assert_eq!(bench.0.0[&sim()][&id("w1")].failures.len(), limits::QUARANTINE_MEMORY);
    }
}
