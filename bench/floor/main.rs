//! The smallest relay there can be, as a yardstick for the worker: one thread
//! that reads the same pipes of the same adapters in the same rhythm, and writes
//! fixed `PUB` bytes of the same size to a real server. It knows no protocol, no
//! time line, no ring and no batch: what the worker costs above it is what these
//! cost.
//!
//! This process starts the server, the feeder and a subscriber that throws away
//! what it hears; the relay is a process of its own, and measured alone.

mod adapters;
mod client;
mod relay;
#[path = "../rig/mod.rs"]
#[allow(dead_code, reason = "each bench takes the part it needs")]
mod rig;

use std::{
    io::{BufRead, BufReader},
    path::PathBuf,
    process::{Command, Stdio},
};

use anyhow::{Context, ensure};
use clap::{Parser, ValueEnum};
use rig::{
    feed::Feeder,
    nats::Server,
    sink::Sink,
    usage::{self, Usage},
};
use serde::{Deserialize, Serialize};

/// The smallest relay from adapters' pipes to the bus
#[derive(Debug, Clone, Parser)]
struct Options {
    /// Rooms
    #[arg(long, default_value_t = 100)]
    rooms: usize,
    /// Seconds that are measured, from when all rooms are heard
    #[arg(long, default_value_t = 20)]
    seconds: u64,
    /// Frames in a message
    #[arg(long, default_value_t = 10)]
    frames: usize,
    /// When it reads
    #[arg(long, value_enum, default_value = "sweep")]
    wake: Wake,
    /// Milliseconds between two sweeps: the rooms of one share a wake and a write
    #[arg(long, default_value_t = 10)]
    slot_ms: i64,
    /// How messages go out
    #[arg(long, value_enum, default_value = "socket")]
    publish: Publish,
    /// What writes the audio
    #[arg(long, value_enum, default_value = "fed")]
    adapters: Adapters,
    /// Where the adapters are
    #[arg(long)]
    bin: Option<PathBuf>,
    /// nats-server
    #[arg(long, env = "NATS_SERVER", default_value = "nats-server")]
    nats_server: PathBuf,
    /// One JSON object instead of a table
    #[arg(long)]
    json: bool,
    /// The server: be the relay
    #[arg(long, hide = true)]
    relay: Option<String>,
    /// The feeder's socket
    #[arg(long, hide = true)]
    feeder: Option<PathBuf>,
}

/// When the relay reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Wake {
    /// Each room once a message, in staggered slots
    Sweep,
    /// Whenever a pipe has something
    Frame,
}

/// How messages go out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Publish {
    /// All of a slot in one write to a socket
    Socket,
    /// The same, and each is kept for ten seconds
    SocketKept,
    /// By async-nats, on a thread of its own
    Client,
    /// The same, and each is kept for ten seconds
    Kept,
    /// By async-nats, on the thread that reads
    Here,
    /// The same, and each is kept for ten seconds
    HereKept,
}

/// What writes the audio.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Adapters {
    /// One thread, for all of them
    Fed,
    /// The simulator, a process a room
    Sim,
}

/// What the relay counted, of itself, while it was measured.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
struct Relayed {
    seconds: f64,
    cpu_us: i64,
    voluntary: u64,
    involuntary: u64,
    sleeps: u64,
    reads: u64,
    writes: u64,
    /// Frames read and messages written.
    frames: u64,
    messages: u64,
    /// Messages written since it began.
    written: u64,
}

/// What a run came to.
#[derive(Debug, Clone, Serialize)]
struct Report {
    rooms: usize,
    relay: Relayed,
    server: Usage,
    feeder_us: i64,
    /// Messages that the subscriber did not get, and frames no pipe had room for.
    lost: u64,
    dropped: u64,
}

fn main() -> anyhow::Result<()> {
    let options = Options::parse();
    ensure!(
        options.publish == Publish::Socket || options.wake == Wake::Sweep,
        "--wake frame writes to a socket only: leave --publish out"
    );
    if let Some(server) = &options.relay {
        return relay::run(&options, server);
    }
    let report = run(&options)?;
    report.print(options.json);
    ensure!(report.lost == 0 && report.dropped == 0, "audio was lost");
    Ok(())
}

fn run(options: &Options) -> anyhow::Result<Report> {
    let server = Server::start(&options.nats_server)?;
    let socket = std::env::temp_dir().join(format!("floor-{}.sock", std::process::id()));
    let feeder = Feeder::start(options.rooms, Some(&socket))?;
    let sink = Sink::start(&server.address)?;
    let mut relay = Command::new(std::env::current_exe()?)
        .args(std::env::args_os().skip(1))
        .args(["--relay", &server.address, "--feeder"])
        .arg(&socket)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()?;
    let mut lines = BufReader::new(relay.stdout.take().context("stdout is piped")?).lines();
    let mut line = || lines.next().context("the relay has ended")?.context("cannot hear the relay");
    line()?; // it begins to measure
    let begin = (usage::of(server.pid()), feeder.cpu_us());
    feeder.frames();
    let relayed: Relayed = serde_json::from_str(&line()?)?;
    let end = (usage::of(server.pid()), feeder.cpu_us());
    ensure!(relay.wait()?.success(), "the relay has failed");
    let got = sink.stop(relayed.written);
    Ok(Report {
        rooms: options.rooms,
        relay: relayed,
        server: end.0.since(begin.0),
        feeder_us: end.1 - begin.1,
        lost: relayed.written - got,
        dropped: feeder.frames().1,
    })
}

impl Report {
    fn print(&self, json: bool) {
        if json {
            // Plain numbers and names: nothing in it can fail to be JSON.
            println!("{}", serde_json::to_string(self).unwrap_or_default());
            return;
        }
        let relay = &self.relay;
        let per = |count: f64| count / (self.rooms as f64 * relay.seconds);
        let row = |name: &str, value: String| println!("{name:<26}{value}");
        row("rooms, seconds", format!("{}, {:.1}", self.rooms, relay.seconds));
        row("frames, messages", format!("{}, {}", relay.frames, relay.messages));
        row("messages lost", self.lost.to_string());
        row("frames no pipe took", self.dropped.to_string());
        row(
            "CPU a room-second",
            format!(
                "relay {:.1} µs, server {:.1}, feeder {:.1}",
                per(relay.cpu_us as f64),
                per(self.server.cpu_us),
                per(self.feeder_us as f64)
            ),
        );
        row(
            "system calls a room-second",
            format!(
                "{:.2} reads, {:.2} writes, {:.2} sleeps",
                per(relay.reads as f64),
                per(relay.writes as f64),
                per(relay.sleeps as f64)
            ),
        );
        row(
            "switches a room-second",
            format!(
                "{:.2} voluntary, {:.2} involuntary",
                per(relay.voluntary as f64),
                per(relay.involuntary as f64)
            ),
        );
    }
}
