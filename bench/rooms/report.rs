//! What a run came to, as a table or as JSON.

use std::time::Duration;

use audio_gateway::client::ListenStats;

use crate::{fleet::Restarts, floor::Floor, meter::Costs, ramp::Summary};

/// See the module.
#[derive(Debug, Clone, serde::Serialize)]
pub(crate) struct Report {
    /// Rooms.
    pub(crate) rooms: usize,
    /// Tracks expected.
    pub(crate) tracks: usize,
    /// Frames in a batch.
    pub(crate) frames: u8,
    /// Seconds measured.
    pub(crate) seconds: f64,
    /// The longest a submit took.
    pub(crate) slowest_submit: Duration,
    /// What was heard.
    pub(crate) heard: Summary,
    /// What the listener counted.
    pub(crate) listener: ListenStats,
    /// What each program used.
    pub(crate) cost: Costs,
    /// System calls a second, by program.
    pub(crate) calls: Vec<(&'static str, f64)>,
    /// Resident memory of the workers in MiB, each second.
    pub(crate) memory: Vec<f64>,
    /// The same at the end, with what is shared counted in parts.
    pub(crate) proportional: f64,
    /// Bytes that the workers sent again and said meanwhile.
    pub(crate) resent: Option<(u64, u64)>,
    /// What the dispatcher says at the end.
    pub(crate) restarts: Restarts,
    /// Frames for which a pipe had no room: its reader was too late.
    pub(crate) unfed: u64,
    /// The latest that one was written after it was due, in µs.
    pub(crate) latest_feed_us: i64,
    /// What the smallest relay used in the same run, which reads once a batch.
    pub(crate) floor: Option<Floor>,
    /// What the smallest relay used that reads whenever a pipe has something.
    pub(crate) epoll: Option<Floor>,
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
            "added latency",
            format!("p50 {p50:.1} ms, p99 {p99:.1}, p99.9 {p999:.1}, max {max:.1}"),
        );
        row(
            "… from the pipe to next()",
            format!(
                "{} batches of {} frames; a frame at most {:.1} ms late into its pipe, {} not at all",
                self.heard.delays,
                self.frames,
                self.latest_feed_us as f64 / 1e3,
                self.unfed
            ),
        );
        let [p50, p99, p999, max] = self.heard.recovery_ms;
        if max > 0.0 {
            row(
                "from a loss to its batch",
                format!("p50 {p50:.1} ms, p99 {p99:.1}, p99.9 {p999:.1}, max {max:.1}"),
            );
        }
        if let Some((resent, live)) = self.resent {
            let percent = resent as f64 * 100.0 / live.max(1) as f64;
            let mb = |bytes: u64| bytes as f64 / 1e6;
            row(
                "sent again, of what said",
                format!("{percent:.2} % ({:.1} of {:.1} MB)", mb(resent), mb(live)),
            );
        }
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
        self.print_costs();
        self.print_memory();
        let relays = [("the smallest relay", &self.floor), ("… by epoll", &self.epoll)];
        for (name, floor) in relays.into_iter().filter_map(|(name, it)| Some((name, it.as_ref()?)))
        {
            let worker = self.per(self.cost.worker.cpu_us);
            row(
                name,
                format!(
                    "{:.1} µs a room-second, the worker {:.2} × that (its audio threads {:.2} ×)",
                    floor.cpu_us,
                    worker / floor.cpu_us,
                    self.per(self.audio_us()) / floor.cpu_us
                ),
            );
        }
    }

    /// A room-second's share.
    fn per(&self, count: f64) -> f64 {
        count / (self.rooms as f64 * self.seconds)
    }

    /// CPU of the threads that do what happens fifty times a second.
    fn audio_us(&self) -> f64 {
        let audio = self.cost.threads.iter().filter(|(name, _)| name.starts_with("audio"));
        audio.map(|(_, usage)| usage.cpu_us).sum()
    }

    fn print_costs(&self) {
        println!(
            "{:<26}{:>10}{:>12}{:>12}{:>12}",
            "a room-second", "CPU µs", "voluntary", "involuntary", "calls"
        );
        for (name, usage) in self.cost.programs() {
            let calls = self.calls.iter().find(|(program, _)| *program == name);
            let calls = match calls {
                Some((_, calls)) => format!("{:.2}", calls / self.rooms as f64),
                None => String::new(),
            };
            println!(
                "  {name:<24}{:>10.1}{:>12.2}{:>12.2}{calls:>12}",
                self.per(usage.cpu_us),
                self.per(usage.voluntary as f64),
                self.per(usage.involuntary as f64)
            );
            if name == "worker" {
                for (thread, usage) in &self.cost.threads {
                    println!(
                        "    {thread:<22}{:>10.1}{:>12.2}{:>12.2}",
                        self.per(usage.cpu_us),
                        self.per(usage.voluntary as f64),
                        self.per(usage.involuntary as f64)
                    );
                }
            }
        }
    }

    fn print_memory(&self) {
        let third = self.memory.len() / 3;
        let mean = |part: &[f64]| part.iter().sum::<f64>() / part.len().max(1) as f64;
        let first = mean(&self.memory[..third.max(1).min(self.memory.len())]);
        let last = mean(&self.memory[self.memory.len() - third.min(self.memory.len())..]);
        let growth = if first > 0.0 { (last / first - 1.0) * 100.0 } else { 0.0 };
        println!(
            "{:<26}{last:.1} MiB resident, {:.1} proportional, {:.0} kB a room; {growth:+.2} % from the first third to the last",
            "worker memory",
            self.proportional,
            self.proportional * 1024.0 / self.rooms as f64
        );
    }
}
