//! What a run came to, as a table or as JSON.

use std::time::Duration;

use audio_gateway::client::ListenStats;

use crate::{
    fleet::{Restarts, Usage},
    ramp::Summary,
};

/// See the module.
#[derive(Debug, Clone, serde::Serialize)]
pub(crate) struct Report {
    /// Rooms.
    pub(crate) rooms: usize,
    /// Tracks expected.
    pub(crate) tracks: usize,
    /// Seconds measured.
    pub(crate) seconds: f64,
    /// The longest a submit took.
    pub(crate) slowest_submit: Duration,
    /// What was heard.
    pub(crate) heard: Summary,
    /// What the listener counted.
    pub(crate) listener: ListenStats,
    /// CPU seconds.
    pub(crate) cost: Usage,
    /// Resident memory of the workers in MiB, each second.
    pub(crate) memory: Vec<f64>,
    /// What the dispatcher says at the end.
    pub(crate) restarts: Restarts,
}

impl Report {
    /// Whether nothing is missing, except what a killed worker took with it.
    pub(crate) fn is_clean(&self, worker_killed: bool) -> bool {
        let tally = &self.heard.tally;
        let whole = tally.breaks == 0 && tally.jumps == 0 && self.heard.alive == self.tracks;
        let kept = tally.lost == 0 && tally.epochs == 0 && tally.other_slots == 0;
        whole && (kept || worker_killed)
    }

    /// Prints it.
    pub(crate) fn print(&self, json: bool) {
        if json {
            // Plain numbers and names: nothing in it can fail to be JSON.
            println!("{}", serde_json::to_string(self).unwrap_or_default());
            return;
        }
        let tally = &self.heard.tally;
        let row = |name: &str, value: String| println!("{name:<26}{value}");
        row(
            "rooms, tracks, seconds",
            format!("{}, {}, {:.1}", self.rooms, self.tracks, self.seconds),
        );
        row("tracks alive at the end", format!("{} of {}", self.heard.alive, self.tracks));
        row("batches, audio frames", format!("{}, {}", tally.batches, tally.audio_slots));
        row("frames without audio", tally.other_slots.to_string());
        row("ramp breaks, jumps", format!("{}, {}", tally.breaks, tally.jumps));
        row("gaps, batches in them", format!("{}, {}", tally.gaps, tally.lost));
        row("new epochs", tally.epochs.to_string());
        row(
            "thrown away, recovered",
            format!("{}, {}", self.listener.thrown_away, self.listener.recovered),
        );
        row(
            "duplicates, stale, bad",
            format!(
                "{}, {}, {}",
                self.listener.duplicates, self.listener.stale_epochs, self.listener.bad
            ),
        );
        let [p50, p99, p999, max] = self.heard.delay_ms;
        row(
            "delay of a batch's end",
            format!("p50 {p50:.1} ms, p99 {p99:.1}, p99.9 {p999:.1}, max {max:.1}"),
        );
        if let Some((moved, fault, last)) = self.heard.fail_over {
            row("tracks that moved", moved.to_string());
            row("from the fault", format!("median {:.0} ms, worst {:.0} ms", fault[0], fault[1]));
            row(
                "from the last batch",
                format!("median {:.0} ms, worst {:.0} ms", last[0], last[1]),
            );
        }
        row("slowest submit", format!("{:.1} ms", self.slowest_submit.as_secs_f64() * 1e3));
        row(
            "tasks listed, running",
            format!("{}, {}", self.restarts.listed, self.restarts.running),
        );
        let per = |cpu: f64| format!("{:.0} µs", cpu * 1e6 / (self.rooms as f64 * self.seconds));
        row(
            "CPU a room-second",
            format!(
                "worker {}, adapter {}, server {}, listener {}, dispatcher {}",
                per(self.cost.workers),
                per(self.cost.adapters),
                per(self.cost.server),
                per(self.cost.listener),
                per(self.cost.dispatcher)
            ),
        );
        let memory = |index: usize| self.memory.get(index).copied().unwrap_or(0.0);
        row(
            "worker memory",
            format!(
                "{:.1} MiB at first, {:.1} after a third, {:.1} at the end",
                memory(0),
                memory(self.memory.len() / 3),
                memory(self.memory.len().saturating_sub(1))
            ),
        );
    }
}
