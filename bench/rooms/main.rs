//! The whole gateway under load on one machine, every sample checked.
//!
//! Starts the programs that stand beside it in the target directory, submits
//! rooms of the simulator that send an index ramp, listens to all of them, plays
//! one fault where asked to, and prints what became of the audio and what it
//! cost. It knows the gateway only through `audio_gateway::client`.

mod fleet;
mod ramp;
mod report;

use std::{
    path::PathBuf,
    time::{Duration, Instant},
};

use anyhow::{Context, ensure};
use audio_gateway::{
    bus::BusOptions,
    client::{DropOnPurpose, Gateway, ListenOptions, Sounds},
    task::TaskSpec,
};
use clap::Parser;

use crate::{fleet::Fleet, ramp::Ramps, report::Report};

/// The whole gateway under load on one machine.
#[derive(Debug, Clone, Parser)]
struct Options {
    /// Rooms
    #[arg(long, default_value_t = 100)]
    rooms: usize,
    /// Participants in each room
    #[arg(long, default_value_t = 1)]
    participants: usize,
    /// Seconds that are measured, from when all rooms are heard
    #[arg(long, default_value_t = 20)]
    seconds: u64,
    /// Frames in a batch
    #[arg(long, default_value_t = 10)]
    batch_frames: u8,
    /// Workers
    #[arg(long, default_value_t = 1)]
    workers: usize,
    /// Rooms submitted in a second
    #[arg(long, default_value_t = 50)]
    submits: u32,
    /// Share of batches thrown away at the listener
    #[arg(long, default_value_t = 0.0)]
    drop: f64,
    /// Seed of what is thrown away
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Kill the server midway and start it again after so many seconds
    #[arg(long)]
    kill_server: Option<f64>,
    /// Kill the first worker midway
    #[arg(long)]
    kill_worker: bool,
    /// Where dispatcher, worker and sdk-sim are
    #[arg(long)]
    bin: Option<PathBuf>,
    /// nats-server
    #[arg(long, env = "NATS_SERVER", default_value = "nats-server")]
    nats_server: PathBuf,
    /// One JSON object instead of a table
    #[arg(long)]
    json: bool,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    audio_gateway::telemetry::init();
    let options = Options::parse();
    let report = run(&options).await?;
    report.print(options.json);
    ensure!(report.is_clean(options.kill_worker), "audio was lost or altered");
    Ok(())
}

async fn run(options: &Options) -> anyhow::Result<Report> {
    let mut fleet = Fleet::start(options).await?;
    let gateway = Gateway::connect(&BusOptions::plain(&fleet.url)).await?;
    let drop = (options.drop > 0.0)
        .then_some(DropOnPurpose { fraction: options.drop, seed: options.seed });
    let mut listener =
        gateway.listen_everywhere(ListenOptions { drop, ..ListenOptions::default() }).await?;
    let mut ramps = Ramps::default();
    let expected = options.rooms * options.participants;

    let submitting = tokio::spawn(submit(gateway.clone(), options.clone()));
    let patience = Duration::from_secs(60) + Duration::from_secs(options.rooms as u64 / 10);
    let all_heard = tokio::time::timeout(patience, async {
        while ramps.audible() < expected {
            let heard = listener.next().await.context("the listener ended")?;
            ramps.take(heard, Instant::now());
        }
        anyhow::Ok(())
    });
    all_heard.await.with_context(|| {
        format!("only {} of {expected} tracks were heard in {patience:?}", ramps.audible())
    })??;
    let slowest = submitting.await.context("submitting panicked")??;

    ramps.restart();
    let begin = fleet.usage();
    let start = Instant::now();
    let end = start + Duration::from_secs(options.seconds);
    let mut fault = options.kill_worker || options.kill_server.is_some();
    let mut restart_at: Option<Instant> = None;
    let mut memory = Vec::new();
    let mut next_look = start;
    while Instant::now() < end {
        let now = Instant::now();
        if fault && now >= start + Duration::from_secs(options.seconds) / 3 {
            fault = false;
            if options.kill_worker {
                fleet.kill_worker();
                ramps.fault(now);
            }
            if let Some(down) = options.kill_server {
                fleet.kill_server();
                restart_at = Some(now + Duration::from_secs_f64(down));
            }
        }
        if restart_at.is_some_and(|at| now >= at) {
            restart_at = None;
            fleet.start_server()?;
        }
        if now >= next_look {
            next_look = now + Duration::from_secs(1);
            memory.push(fleet.worker_memory());
        }
        let heard = tokio::time::timeout(Duration::from_millis(50), listener.next()).await;
        if let Ok(heard) = heard {
            ramps.take(heard.context("the listener ended")?, Instant::now());
        }
    }
    let cost = fleet.usage().since(&begin);
    let seconds = start.elapsed().as_secs_f64();
    // What is still on its way is waited for: a batch that is missing at the end
    // may come within the ring's age.
    let settle = Instant::now() + Duration::from_secs(if options.drop > 0.0 { 3 } else { 1 });
    while let Some(left) = settle.checked_duration_since(Instant::now()) {
        match tokio::time::timeout(left, listener.next()).await {
            Ok(Some(heard)) if !matches!(heard.what, Sounds::Closed(_)) => {
                ramps.take(heard, Instant::now());
            }
            _ => (),
        }
    }
    let heard = ramps.summary(Instant::now());
    let restarts = fleet.restarts(&gateway).await?;
    fleet.stop().await;
    Ok(Report {
        rooms: options.rooms,
        tracks: expected,
        seconds,
        slowest_submit: slowest,
        heard,
        listener: listener.stats(),
        cost,
        memory,
        restarts,
    })
}

/// Submits every room; returns the longest a submit took.
async fn submit(gateway: Gateway, options: Options) -> anyhow::Result<Duration> {
    let mut beat = tokio::time::interval(Duration::from_secs(1) / options.submits.max(1));
    let mut slowest = Duration::ZERO;
    for room in 0..options.rooms {
        beat.tick().await;
        let spec = serde_json::json!({
            "id": format!("bench-{room}"),
            "room": format!("bench-{room}"),
            "sdk": "sim",
            "params": {"source": "ramp", "participants": options.participants},
            "pull": {"batch_frames": options.batch_frames},
            "start_within_s": 300,
        });
        let spec = TaskSpec::from_json(spec.to_string().as_bytes())?;
        let asked = Instant::now();
        gateway.submit(&spec).await.with_context(|| format!("cannot submit room {room}"))?;
        slowest = slowest.max(asked.elapsed());
    }
    Ok(slowest)
}
