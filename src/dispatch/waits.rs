//! How long tasks waited for a worker, as figures.

use std::collections::VecDeque;

use serde::Serialize;

use crate::{
    limits,
    task::{TaskRecord, TaskState},
};

/// How long the last tasks waited for a worker, each time they were placed.
#[derive(Debug, Default)]
pub(super) struct PlaceTimes(VecDeque<u64>);

impl PlaceTimes {
    /// Takes in that a task's record changed.
    pub(super) fn changed(&mut self, before: Option<&TaskRecord>, after: Option<&TaskRecord>) {
        let (Some(before), Some(after)) = (before, after) else { return };
        if (before.state, after.state) == (TaskState::Pending, TaskState::Assigned) {
            if self.0.len() >= limits::PLACE_TIMES {
                self.0.pop_front();
            }
            self.0.push_back(after.changed_ms.saturating_sub(before.pending_ms));
        }
    }

    pub(super) fn spread(&self) -> PlaceMs {
        let mut sorted: Vec<u64> = self.0.iter().copied().collect();
        sorted.sort_unstable();
        // The smallest one that at least so many hundredths do not exceed.
        let at = |share: usize| {
            sorted.get((sorted.len() * share).div_ceil(100).saturating_sub(1)).copied()
        };
        PlaceMs { p50: at(50), p99: at(99), of: sorted.len() }
    }
}

/// What a part of the last place times did not exceed, in ms.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub(super) struct PlaceMs {
    p50: Option<u64>,
    p99: Option<u64>,
    /// How many times these are of.
    of: usize,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::task::{Epoch, TaskSpec};

    fn record(state: TaskState, pending_ms: u64, changed_ms: u64) -> TaskRecord {
        TaskRecord {
            state,
            epoch: Epoch(1),
            pending_ms,
            changed_ms,
            ..serde_json::from_value(serde_json::json!({
                "task": "t", "spec": TaskSpec::from_json(br#"{"room":"r","sdk":"s"}"#).unwrap(),
                "state": state, "epoch": 0, "created_ms": 0, "changed_ms": 0, "pending_ms": 0,
            }))
            .unwrap()
        }
    }

    fn placed(times: &mut PlaceTimes, took: u64) {
        let (before, after) =
            (record(TaskState::Pending, 100, 100), record(TaskState::Assigned, 100, 100 + took));
        times.changed(Some(&before), Some(&after));
    }

    #[test]
    fn only_being_placed_counts() {
        let mut times = PlaceTimes::default();
        assert_eq!(times.spread(), PlaceMs { p50: None, p99: None, of: 0 });
        let assigned = record(TaskState::Assigned, 0, 50);
        let running = record(TaskState::Running, 0, 90);
        times.changed(None, Some(&assigned));
        times.changed(Some(&assigned), Some(&running));
        times.changed(Some(&assigned), None);
        assert_eq!(times.spread().of, 0);
        placed(&mut times, 7);
        assert_eq!(times.spread(), PlaceMs { p50: Some(7), p99: Some(7), of: 1 });
    }

    #[test]
    fn the_last_ones_count_and_no_more_are_kept() {
        let mut times = PlaceTimes::default();
        (0..limits::PLACE_TIMES).for_each(|_| placed(&mut times, 9_999));
        (1..=limits::PLACE_TIMES as u64).for_each(|took| placed(&mut times, took));
        let spread = times.spread();
        assert_eq!(spread.of, limits::PLACE_TIMES);
        assert_eq!((spread.p50, spread.p99), (Some(512), Some(1_014)));
    }

    #[test]
    fn a_clock_that_steps_back_makes_no_giant() {
        let mut times = PlaceTimes::default();
        let (before, after) =
            (record(TaskState::Pending, 500, 500), record(TaskState::Assigned, 500, 400));
        times.changed(Some(&before), Some(&after));
        assert_eq!(times.spread().p99, Some(0));
    }
}
