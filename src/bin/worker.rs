//! The program `worker`: configuration and signals around
//! [`audio_gateway::worker`].

use std::{path::PathBuf, process::ExitCode, sync::Arc, time::Duration};

use audio_gateway::{
    bus::{self, BusOptions},
    id::WorkerId,
    limits,
    sdk::adapter::WorkerFile,
    shutdown::Shutdown,
    telemetry,
    worker::{self, Options},
};
use clap::Parser;
use mimalloc::MiMalloc;

/// What the audio thread makes, the thread of the connections frees; this allocator
/// is built for that. What it saves is in `docs/performance.md`.
#[global_allocator]
static HEAP: MiMalloc = MiMalloc;

/// Runs adapters for live rooms and puts their audio on the bus
#[derive(Debug, Parser)]
#[command(version)]
struct Arguments {
    /// Its id; made of the host's name where absent
    #[arg(long, env = "WORKER_ID")]
    id: Option<WorkerId>,
    /// Configuration file
    #[arg(long, env = "WORKER_CONFIG")]
    config: Option<PathBuf>,
    /// Sessions it runs at most
    #[arg(long, env = "WORKER_MAX_SESSIONS")]
    max_sessions: Option<usize>,
    /// Cores it may fill; what its cgroup or host has, unless set
    #[arg(long, env = "WORKER_CORES", value_parser = cores)]
    cores: Option<f64>,
    /// Seconds others have to take its rooms over when it is asked to end
    #[arg(long, env = "WORKER_DRAIN_TIMEOUT", value_parser = seconds,
          default_value_t = limits::DRAIN_TIMEOUT.as_secs_f64())]
    drain_timeout: f64,
    #[command(flatten)]
    bus: BusOptions,
}

fn cores(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(cores) if cores > 0.0 && cores <= 10_000.0 => Ok(cores),
        _ => Err("use a number of cores above 0, as 2 or 1.5".to_owned()),
    }
}

fn seconds(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(seconds) if (0.0..=86_400.0).contains(&seconds) => Ok(seconds),
        _ => Err("use seconds from 0 to 86400".to_owned()),
    }
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    telemetry::init(bus::LOG_FILTER);
    match run(arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("worker: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: Arguments) -> anyhow::Result<()> {
    let mut file = WorkerFile::load(arguments.config.as_deref())?;
    file.worker.cores = arguments.cores.or(file.worker.cores);
    let worker = arguments.id.or(file.worker.id.clone()).unwrap_or_else(made_up);
    let sessions_max =
        arguments.max_sessions.or(file.worker.max_sessions).unwrap_or(limits::SESSIONS_MAX);
    let drain_timeout = Duration::from_secs_f64(arguments.drain_timeout);
    let options = Options { worker, bus: arguments.bus, file, sessions_max, drain_timeout };
    // One thread: what it does is short, and the audio has its own.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let shutdown = Arc::new(Shutdown::new());
        let phases = shutdown.phases();
        shutdown.on_signals()?;
        worker::run(options, phases).await?;
        Ok(())
    })
}

/// The host's name, as far as a token takes it, and something random.
fn made_up() -> WorkerId {
    let host = sysinfo::System::host_name().unwrap_or_default();
    let fits = |c: &char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
    let host: String = host.chars().filter(fits).take(40).collect();
    let text = format!("{host}-{:06x}", fastrand::u32(..) & 0xff_ffff);
    WorkerId::parse(&text).expect("at most 47 characters of the alphabet")
}
