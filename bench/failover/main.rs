//! What a fault costs: plays each many times on real programs and says how long
//! it took until all was well again, and what became of the audio meanwhile.
//!
//! It starts the programs that stand beside it in the target directory and knows
//! the gateway only through `audio_gateway::client` and `audio_gateway::bus`.

mod cases;
mod ears;
mod figures;
mod fleet;
mod scene;

use std::path::PathBuf;

use anyhow::ensure;
use clap::{Parser, ValueEnum};

use crate::{cases::*, figures::Row};

/// What a fault costs.
#[derive(Debug, Clone, Parser)]
struct Options {
    /// Cases to run; all of them unless named
    #[arg(value_enum)]
    cases: Vec<Case>,
    /// How often each fault is played
    #[arg(long, default_value_t = 20)]
    repeats: usize,
    /// Rooms that run meanwhile
    #[arg(long, default_value_t = 12)]
    rooms: usize,
    /// Rooms of the worker that is drained
    #[arg(long, default_value_t = 100)]
    drain_rooms: usize,
    /// Rooms to which ten consumers listen, one of which stands still
    #[arg(long, default_value_t = 50)]
    consumer_rooms: usize,
    /// Be a consumer of everything at this server, and nothing else
    #[arg(long, hide = true)]
    hear: Option<String>,
    /// Tasks submitted in a second where starting them is measured
    #[arg(long, default_value_t = 100)]
    rate: u32,
    /// Where dispatcher, worker and sdk-sim are
    #[arg(long)]
    bin: Option<PathBuf>,
    /// nats-server
    #[arg(long, env = "NATS_SERVER", default_value = "nats-server")]
    nats_server: PathBuf,
    /// JSON objects instead of a table
    #[arg(long)]
    json: bool,
}

/// One fault, or one load.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Case {
    LeaderKilled,
    LeaderStopped,
    WorkerKilled,
    WorkerHung,
    #[value(name = "server-0.2")]
    ServerBlink,
    #[value(name = "server-5")]
    ServerAway,
    #[value(name = "server-30")]
    ServerLongAway,
    Drain,
    Submits,
    Pending,
    Flood,
    NodeKilled,
    NodeStopped,
    NodeHung,
    NodeLameDuck,
    StoreAway,
    ConsumerStopped,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    audio_gateway::telemetry::init(audio_gateway::bus::LOG_FILTER);
    let options = Options::parse();
    if let Some(url) = &options.hear {
        return consumer::hear(url).await;
    }
    let cases: Vec<Case> = match options.cases.is_empty() {
        true => Case::value_variants().to_vec(),
        false => options.cases.clone(),
    };
    if !options.json {
        Row::head();
    }
    let mut met = true;
    for case in cases {
        // A case that cannot be played to its end does not keep the others.
        match play(case, &options).await {
            Ok(rows) => {
                for row in rows {
                    row.print(options.json);
                    met &= row.is_met();
                }
            }
            Err(error) => {
                eprintln!("{case:?}: {error:#}");
                met = false;
            }
        }
    }
    ensure!(met, "not everything is as it is wanted");
    Ok(())
}

async fn play(case: Case, options: &Options) -> anyhow::Result<Vec<Row>> {
    match case {
        Case::LeaderKilled => leader::killed(options).await,
        Case::LeaderStopped => leader::stopped(options).await,
        Case::WorkerKilled => worker::lost(options, worker::Loss::Killed).await,
        Case::WorkerHung => worker::lost(options, worker::Loss::Hung).await,
        Case::ServerBlink => server::away(options, 0.2).await,
        Case::ServerAway => server::away(options, 5.0).await,
        Case::ServerLongAway => server::away(options, 30.0).await,
        Case::Drain => drain::drained(options).await,
        Case::Submits => submits::started(options).await,
        Case::Pending => submits::pending(options).await,
        Case::Flood => submits::flooded(options).await,
        Case::NodeKilled => cluster::lost(options, cluster::Loss::Killed).await,
        Case::NodeStopped => cluster::lost(options, cluster::Loss::Stopped).await,
        Case::NodeHung => cluster::lost(options, cluster::Loss::Hung).await,
        Case::NodeLameDuck => cluster::lost(options, cluster::Loss::LameDuck).await,
        Case::StoreAway => store::away(options).await,
        Case::ConsumerStopped => consumer::stopped(options).await,
    }
}
