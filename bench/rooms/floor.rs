//! The smallest relays there can be, run after the worker on the same machine
//! with as many rooms: what the worker is measured by.

use std::{
    path::Path,
    process::{Command, Stdio},
};

use anyhow::{Context, ensure};

use crate::{Adapters, Options};

/// How long it is measured at most, in seconds: it does the same all the time.
const SECONDS_MAX: u64 = 60;

/// What it used in a room-second.
#[derive(Debug, Clone, serde::Serialize)]
pub(crate) struct Floor {
    /// CPU in µs.
    pub(crate) cpu_us: f64,
    /// All that it says of itself.
    pub(crate) report: serde_json::Value,
}

/// Runs it, reading as `wake` says: at each `frame`, by epoll, or once a batch, in a
/// `sweep`.
pub(crate) fn run(options: &Options, wake: &str) -> anyhow::Result<Floor> {
    let bin = match &options.bin {
        Some(bin) => bin.clone(),
        None => std::env::current_exe()?.parent().map(Path::to_owned).context("no folder above")?,
    };
    let adapters = match options.adapters {
        Adapters::Fed => "fed",
        Adapters::Sim => "sim",
    };
    let output = Command::new(bin.join("bench-floor"))
        .args(["--rooms", &options.rooms.to_string()])
        .args(["--seconds", &options.seconds.min(SECONDS_MAX).to_string()])
        .args(["--frames", &options.frames.to_string(), "--adapters", adapters])
        .args(["--wake", wake, "--json"])
        .arg("--nats-server")
        .arg(&options.nats_server)
        .arg("--bin")
        .arg(&bin)
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .output()
        .with_context(|| format!("cannot start bench-floor of {}", bin.display()))?;
    ensure!(output.status.success(), "bench-floor has failed");
    let report: serde_json::Value = serde_json::from_slice(&output.stdout)?;
    let number = |path: &str| report.pointer(path).and_then(serde_json::Value::as_f64);
    let used = number("/relay/cpu_us").zip(number("/relay/seconds"));
    let (cpu, seconds) = used.context("bench-floor says nothing of its relay")?;
    Ok(Floor { cpu_us: cpu / (options.rooms as f64 * seconds), report })
}
