//! The worker's job as people do it today, beside the worker, in one run: as many
//! rooms, whose audio comes through the same kind of pipes at the same pace.
//!
//! A Python service with asyncio and nats-py that does what a consumer sees of the
//! worker, one that only puts ten frames into a msgpack batch, and one that is given
//! bare samples for it; an `ffmpeg` a room and a GStreamer pipeline a room, each from
//! its pipe to a socket. Each does less than the worker does, and none of them starts
//! or watches an adapter.

#[path = "../rig/mod.rs"]
#[allow(dead_code, reason = "each bench takes the part it needs")]
mod rig;
mod socket;

use std::{
    os::fd::{AsRawFd, OwnedFd},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use anyhow::{Context, bail, ensure};
use clap::{Parser, ValueEnum};
use rig::{
    feed::{Feeder, Shape},
    nats::Server,
    pace,
    sink::Sink,
    usage,
};
use rustix::{
    io::{FdFlags, fcntl_setfd},
    pipe::{PipeFlags, pipe_with},
};
use serde::Serialize;
use socket::Socket;

/// Bytes of a room-second.
const BYTES: f64 = 32_000.0;
/// How long all rooms may take to be heard, and what is left out after that.
const PATIENCE: Duration = Duration::from_secs(60);
const WARM_UP: Duration = Duration::from_secs(3);
/// As much where what was said is kept for ten seconds: until that is full and its
/// memory is used again, it is taken from the system.
const FULL: Duration = Duration::from_secs(12);

/// The worker's job as people do it today
#[derive(Debug, Clone, Parser)]
struct Options {
    /// Who does it; all of them unless named
    #[arg(value_enum)]
    peers: Vec<Peer>,
    /// Rooms
    #[arg(long, default_value_t = 100)]
    rooms: usize,
    /// Seconds that are measured
    #[arg(long, default_value_t = 10)]
    seconds: u64,
    /// Where the gateway's programs are
    #[arg(long)]
    bin: Option<PathBuf>,
    /// nats-server
    #[arg(long, env = "NATS_SERVER", default_value = "nats-server")]
    nats_server: PathBuf,
    /// A folder with nats-py, msgpack and crc32c: `scripts/python-env.sh` prints one
    #[arg(long, env = "PYTHONPATH", default_value = "")]
    python_path: String,
    /// JSON objects instead of a table
    #[arg(long)]
    json: bool,
}

/// Who does the job.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "kebab-case")]
enum Peer {
    /// The gateway's worker
    Worker,
    /// One asyncio loop with nats-py that does what a consumer sees of the worker
    Python,
    /// Batches alone, from the pipes that the worker has
    PythonLight,
    /// The same from bare samples: the least it can do
    PythonRaw,
    /// A process a room
    Ffmpeg,
    /// A pipeline a room
    Gstreamer,
}

/// What it cost.
#[derive(Debug, Clone, Serialize)]
struct Row {
    peer: Peer,
    /// CPU of a room-second in µs.
    cpu_us: f64,
    /// Memory of a room in MiB, what is shared counted in parts.
    mib: f64,
    /// The share of the audio that arrived.
    heard: f64,
}

/// Where the audio of a peer arrives.
enum Ear {
    Bus(Server, Sink),
    Socket(Socket),
}

fn main() -> anyhow::Result<()> {
    let mut options = Options::parse();
    if options.peers.is_empty() {
        options.peers = Peer::value_variants().to_vec();
    }
    let mut worker = None;
    if !options.json {
        println!(
            "{} rooms, {} s each\n{:<12}{:>16}{:>14}{:>12}{:>14}",
            options.rooms, options.seconds, "", "CPU µs", "MiB a room", "heard", "the worker's"
        );
    }
    for &peer in &options.peers {
        let row = match peer {
            Peer::Worker => gateway(&options)?,
            peer => measure(&options, peer)?,
        };
        if peer == Peer::Worker {
            worker = Some(row.cpu_us);
        }
        if options.json {
            println!("{}", serde_json::to_string(&row)?);
            continue;
        }
        let name = peer.to_possible_value().map(|name| name.get_name().to_owned());
        let times = worker.map_or(String::new(), |worker| format!("{:.1} ×", row.cpu_us / worker));
        println!(
            "{:<12}{:>16.1}{:>14.2}{:>10.1} %{times:>14}",
            name.unwrap_or_default(),
            row.cpu_us,
            row.mib,
            row.heard * 100.0
        );
    }
    Ok(())
}

/// The worker, as `bench-rooms` measures it.
fn gateway(options: &Options) -> anyhow::Result<Row> {
    let bin = match &options.bin {
        Some(bin) => bin.clone(),
        None => std::env::current_exe()?.parent().map(Path::to_owned).context("no folder above")?,
    };
    let output = Command::new(bin.join("bench-rooms"))
        .args(["--rooms", &options.rooms.to_string(), "--seconds", &options.seconds.to_string()])
        .args(["--warm-up", &FULL.as_secs().to_string(), "--json", "--nats-server"])
        .arg(&options.nats_server)
        .env("RUST_LOG", "error")
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("cannot start bench-rooms of {}", bin.display()))?;
    let report: serde_json::Value = serde_json::from_slice(&output.stdout)
        .with_context(|| String::from_utf8_lossy(&output.stderr).into_owned())?;
    let number = |path: &str| {
        let number = report.pointer(path).and_then(serde_json::Value::as_f64);
        number.with_context(|| format!("bench-rooms does not say {path}"))
    };
    let room_seconds = options.rooms as f64 * number("/seconds")?;
    Ok(Row {
        peer: Peer::Worker,
        cpu_us: number("/cost/worker/cpu_us")? / room_seconds,
        mib: number("/proportional")? / options.rooms as f64,
        heard: number("/heard/delays")? * number("/frames")? * 640.0 / (room_seconds * BYTES),
    })
}

/// Another one.
fn measure(options: &Options, peer: Peer) -> anyhow::Result<Row> {
    let ear = match peer {
        Peer::Python | Peer::PythonLight | Peer::PythonRaw => {
            let server = Server::start(&options.nats_server)?;
            let sink = Sink::start(&server.address)?;
            Ear::Bus(server, sink)
        }
        _ => Ear::Socket(Socket::open()?),
    };
    let feeder = Feeder::start(options.rooms, None)?;
    let (mut readers, mut writers) = (Vec::new(), Vec::new());
    for _ in 0..options.rooms {
        let (reader, writer) = pipe_with(PipeFlags::CLOEXEC)?;
        readers.push(reader);
        writers.push(writer);
    }
    let mut children = Running(start(options, peer, &ear, readers)?);
    let framed = matches!(peer, Peer::Python | Peer::PythonLight);
    let shape = if framed { Shape::Framed } else { Shape::Raw };
    for (room, writer) in writers.into_iter().enumerate() {
        feeder.add(room, writer, shape)?;
    }
    let deadline = pace::now_us() + PATIENCE.as_micros() as i64;
    while !ear.hears_all(options.rooms as u64) {
        ensure!(pace::now_us() < deadline, "{peer:?} is not heard within {PATIENCE:?}");
        if let Some(status) = children.ended() {
            bail!("{peer:?} ended: {status}");
        }
        pace::pause(Duration::from_millis(100));
    }
    // Who keeps what it said is measured once it keeps as much as it ever will.
    pace::pause(if peer == Peer::Python { FULL } else { WARM_UP });
    let begin = (pace::now_us(), children.cpu_us(), ear.bytes());
    pace::pause(Duration::from_secs(options.seconds));
    let end = (pace::now_us(), children.cpu_us(), ear.bytes());
    let room_seconds = options.rooms as f64 * (end.0 - begin.0) as f64 / 1e6;
    Ok(Row {
        peer,
        cpu_us: (end.1 - begin.1) / room_seconds,
        mib: children.mib() / options.rooms as f64,
        heard: (end.2 - begin.2) as f64 / (room_seconds * BYTES),
    })
}

impl Ear {
    fn hears_all(&self, rooms: u64) -> bool {
        match self {
            // A room sends one in five of a second.
            Self::Bus(_, sink) => sink.heard() >= 3 * rooms,
            Self::Socket(socket) => socket.heard() == rooms,
        }
    }

    /// Bytes of samples so far.
    fn bytes(&self) -> u64 {
        match self {
            Self::Bus(_, sink) => sink.heard() * 6_400,
            Self::Socket(socket) => socket.bytes(),
        }
    }
}

/// Starts the programs of a peer, which read these pipes.
fn start(
    options: &Options,
    peer: Peer,
    ear: &Ear,
    readers: Vec<OwnedFd>,
) -> anyhow::Result<Vec<Child>> {
    let spawn = |command: &mut Command| {
        command.stdout(Stdio::null()).stderr(Stdio::inherit());
        command.spawn().with_context(|| format!("cannot start {:?}", command.get_program()))
    };
    let mut children = Vec::new();
    match ear {
        Ear::Bus(server, _) => {
            let mut command = Command::new("python3");
            command.arg(concat!(env!("CARGO_MANIFEST_DIR"), "/bench/peers/worker.py"));
            command.arg(match peer {
                Peer::Python => "job",
                Peer::PythonLight => "framed",
                _ => "raw",
            });
            command.arg(format!("nats://{}", server.address)).stdin(Stdio::null());
            command.env("PYTHONPATH", &options.python_path);
            for reader in &readers {
                fcntl_setfd(reader, FdFlags::empty())?;
                command.arg(reader.as_raw_fd().to_string());
            }
            children.push(spawn(&mut command)?);
        }
        Ear::Socket(socket) => {
            for reader in readers {
                let mut command = program(peer, socket.port);
                children.push(spawn(command.stdin(Stdio::from(reader)))?);
            }
        }
    }
    Ok(children)
}

/// From standard input to a port.
fn program(peer: Peer, port: u16) -> Command {
    if peer == Peer::Gstreamer {
        let mut command = Command::new("gst-launch-1.0");
        command.args(["-q", "fdsrc", "fd=0", "blocksize=640", "do-timestamp=true", "!"]);
        command.arg("audio/x-raw,format=S16LE,rate=16000,channels=1,layout=interleaved");
        command.args(["!", "tcpclientsink", "host=127.0.0.1", &format!("port={port}")]);
        return command;
    }
    let mut command = Command::new("ffmpeg");
    command.args(["-nostdin", "-hide_banner", "-loglevel", "error", "-fflags", "nobuffer"]);
    command.args(["-probesize", "32", "-f", "s16le", "-ar", "16000", "-ac", "1", "-i", "pipe:0"]);
    command.args(["-f", "s16le", "-flush_packets", "1", &format!("tcp://127.0.0.1:{port}")]);
    command
}

/// Programs that are killed in the end.
struct Running(Vec<Child>);

impl Running {
    fn cpu_us(&self) -> f64 {
        self.0.iter().map(|child| usage::cpu_of(child.id()).cpu_us).sum()
    }

    fn mib(&self) -> f64 {
        self.0.iter().map(|child| usage::proportional(child.id())).sum()
    }

    fn ended(&mut self) -> Option<std::process::ExitStatus> {
        self.0.iter_mut().find_map(|child| child.try_wait().ok().flatten())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        for child in &mut self.0 {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}
