//! The whole gateway under load on one machine, every sample checked.
//!
//! Starts the programs that stand beside it in the target directory, submits
//! rooms of the simulator that send an index ramp, listens to all of them, plays
//! one fault where asked to, and prints what became of the audio and what it
//! cost. It knows the gateway only through `audio_gateway::client`.

mod fleet;
mod floor;
mod greedy;
mod meter;
mod ramp;
mod report;
#[path = "../rig/mod.rs"]
#[allow(dead_code, reason = "each bench takes the part it needs")]
mod rig;

use std::{
    path::PathBuf,
    time::{Duration, Instant},
};

use anyhow::{Context, bail, ensure};
use audio_gateway::{
    bus::BusOptions,
    client::{DropOnPurpose, Gateway, ListenOptions, Listener, Sounds},
    task::TaskSpec,
};
use clap::{Parser, ValueEnum};
use tokio::time::MissedTickBehavior;

use crate::{
    fleet::Fleet,
    meter::{Calls, Costs},
    ramp::Ramps,
    report::Report,
    rig::feed::Feeder,
};

/// The whole gateway under load on one machine.
#[derive(Debug, Clone, Parser)]
struct Options {
    /// Rooms
    #[arg(long, default_value_t = 100)]
    rooms: usize,
    /// Participants in each room
    #[arg(long, default_value_t = 1)]
    participants: usize,
    /// Seconds that are measured, once all rooms are heard and warm
    #[arg(long, default_value_t = 20)]
    seconds: u64,
    /// Seconds before that: a worker's rings are full after ten
    #[arg(long, default_value_t = 12)]
    warm_up: u64,
    /// Frames in a batch
    #[arg(long, default_value_t = 10, alias = "batch-frames")]
    frames: u8,
    /// What writes the audio
    #[arg(long, value_enum, default_value = "fed")]
    adapters: Adapters,
    /// Workers
    #[arg(long, default_value_t = 1)]
    workers: usize,
    /// Rooms submitted in a second
    #[arg(long, default_value_t = 50)]
    submits: u32,
    /// Share of batches thrown away at the listener
    #[arg(long, default_value_t = 0.0)]
    drop: f64,
    /// Throw away as large a share of what is sent again
    #[arg(long)]
    drop_again: bool,
    /// Seed of what is thrown away
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Beside the listener, one that asks for everything again without end
    #[arg(long)]
    greedy: bool,
    /// Kill the server midway and start it again after so many seconds
    #[arg(long)]
    kill_server: Option<f64>,
    /// Kill the first worker midway
    #[arg(long)]
    kill_worker: bool,
    /// Count system calls as well, for some seconds more: needs `perf` and root
    #[arg(long)]
    calls: bool,
    /// Run the smallest relays there can be afterwards, and say the ratios
    #[arg(long)]
    floor: bool,
    /// Where dispatcher, worker and the adapters are
    #[arg(long)]
    bin: Option<PathBuf>,
    /// nats-server
    #[arg(long, env = "NATS_SERVER", default_value = "nats-server")]
    nats_server: PathBuf,
    /// One JSON object instead of a table
    #[arg(long)]
    json: bool,
}

/// What writes the audio.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Adapters {
    /// One thread, for all of them
    Fed,
    /// The simulator, a process a room
    Sim,
}

/// Seconds in which system calls are counted.
const COUNTING_S: f64 = 5.0;

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    audio_gateway::telemetry::init(audio_gateway::bus::LOG_FILTER);
    let options = Options::parse();
    ensure!(
        options.participants == 1 || options.adapters == Adapters::Sim,
        "fed rooms have one participant: add --adapters sim"
    );
    let mut report = run(&options).await?;
    if options.floor {
        report.floor = Some(floor::run(&options, "sweep")?);
        report.epoll = Some(floor::run(&options, "frame")?);
    }
    report.print(options.json);
    ensure!(report.is_clean(options.kill_worker), "audio was lost or altered");
    Ok(())
}

async fn run(options: &Options) -> anyhow::Result<Report> {
    let socket = std::env::temp_dir().join(format!("rooms-bench-{}.sock", std::process::id()));
    let fed = options.adapters == Adapters::Fed;
    let feeder = Feeder::start(options.rooms, fed.then_some(socket.as_path()))?;
    let fleet = Fleet::start(options, fed.then_some(socket.as_path())).await?;
    measure(options, fleet, &feeder).await
}

async fn measure(options: &Options, mut fleet: Fleet, feeder: &Feeder) -> anyhow::Result<Report> {
    let gateway = Gateway::connect(&BusOptions::plain(&fleet.url)).await?;
    let drop = (options.drop > 0.0).then_some(DropOnPurpose {
        fraction: options.drop,
        seed: options.seed,
        again: options.drop_again,
    });
    let mut listener =
        gateway.listen_everywhere(ListenOptions { drop, ..ListenOptions::default() }).await?;
    let mut ramps = Ramps::new(feeder.moments());
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
    listen(&mut listener, &mut ramps, Duration::from_secs(options.warm_up)).await?;

    let greedy = options.greedy.then(|| greedy::start(&gateway, options));
    let sent = greedy::sent(&gateway).await?;
    // What came while nobody listened is not late.
    listen(&mut listener, &mut ramps, Duration::from_secs(1)).await?;
    let begin = Costs::read(&fleet.programs(), feeder.cpu_us());
    let dropped = feeder.frames().1;
    ramps.restart();
    let start = Instant::now();
    let end = start + Duration::from_secs(options.seconds);
    let mut fault = options.kill_worker || options.kill_server.is_some();
    let mut restart_at: Option<Instant> = None;
    let mut memory = Vec::new();
    let mut look = tokio::time::interval(Duration::from_millis(50));
    look.set_missed_tick_behavior(MissedTickBehavior::Delay);
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
        tokio::select! {
            biased;
            heard = listener.next() => {
                ramps.take(heard.context("the listener ended")?, Instant::now());
            }
            _ = look.tick() => (),
        }
    }
    let seconds = start.elapsed().as_secs_f64();
    let (_, dropped_by_end, latest) = feeder.frames();
    let cost = Costs::read(&fleet.programs(), feeder.cpu_us()).since(&begin);
    ramps.measured();
    let [resent, live] = greedy::sent(&gateway).await?;
    let resent = Some((resent.saturating_sub(sent[0]), live.saturating_sub(sent[1])));
    if let Some(greedy) = greedy {
        greedy.abort();
    }
    // What is still on its way is waited for: a batch that is missing at the end
    // may come within the ring's age.
    let settle = Duration::from_secs(if options.drop > 0.0 { 3 } else { 1 });
    listen(&mut listener, &mut ramps, settle).await?;
    let heard = ramps.summary(Instant::now());
    let calls = match options.calls {
        true => count_calls(&fleet, &mut listener, &mut ramps).await?,
        false => Vec::new(),
    };
    let proportional = fleet.proportional();
    let restarts = fleet.restarts(&gateway).await?;
    fleet.stop().await;
    Ok(Report {
        rooms: options.rooms,
        tracks: expected,
        frames: options.frames,
        seconds,
        slowest_submit: slowest,
        heard,
        listener: listener.stats(),
        cost,
        calls,
        memory,
        proportional,
        resent,
        restarts,
        unfed: dropped_by_end - dropped,
        latest_feed_us: if options.adapters == Adapters::Fed { latest } else { 0 },
        floor: None,
        epoll: None,
    })
}

/// Listens for so long.
async fn listen(listener: &mut Listener, ramps: &mut Ramps, time: Duration) -> anyhow::Result<()> {
    let end = Instant::now() + time;
    while let Some(left) = end.checked_duration_since(Instant::now()) {
        match tokio::time::timeout(left, listener.next()).await {
            Ok(Some(heard)) if !matches!(heard.what, Sounds::Closed(_)) => {
                ramps.take(heard, Instant::now());
            }
            Ok(None) => bail!("the listener ended"),
            _ => (),
        }
    }
    Ok(())
}

/// System calls a second of each program, one program after the other, so that
/// each is slowed alone.
async fn count_calls(
    fleet: &Fleet,
    listener: &mut Listener,
    ramps: &mut Ramps,
) -> anyhow::Result<Vec<(&'static str, f64)>> {
    let programs = fleet.programs();
    let own = vec![std::process::id()];
    let mut calls = Vec::new();
    for (name, pids) in
        [("worker", programs.workers), ("server", vec![programs.server]), ("listener", own)]
    {
        let Some(mut counting) = Calls::start(&pids, COUNTING_S) else { continue };
        while !counting.is_over() {
            listen(listener, ramps, Duration::from_millis(100)).await?;
        }
        calls.extend(counting.count().map(|count| (name, count / COUNTING_S)));
    }
    Ok(calls)
}

/// Submits every room; returns the longest a submit took.
async fn submit(gateway: Gateway, options: Options) -> anyhow::Result<Duration> {
    let mut beat = tokio::time::interval(Duration::from_secs(1) / options.submits.max(1));
    let mut slowest = Duration::ZERO;
    let (sdk, params) = match options.adapters {
        Adapters::Fed => ("bench", serde_json::json!({})),
        Adapters::Sim => {
            let participants = options.participants;
            (
                "sim",
                serde_json::json!({"source": "ramp", "clock": "unix", "participants": participants}),
            )
        }
    };
    for room in 0..options.rooms {
        beat.tick().await;
        let spec = serde_json::json!({
            "id": format!("bench-{room}"),
            "room": format!("bench-{room}"),
            "sdk": sdk,
            "params": params,
            "pull": {"batch_frames": options.frames},
            "start_within_s": 300,
        });
        let spec = TaskSpec::from_json(spec.to_string().as_bytes())?;
        let asked = Instant::now();
        gateway.submit(&spec).await.with_context(|| format!("cannot submit room {room}"))?;
        slowest = slowest.max(asked.elapsed());
    }
    Ok(slowest)
}
