//! The dispatcher: takes tasks from services and gives them to workers.
//!
//! Wiring alone; what it does is in `audio_gateway::dispatch`.

use std::{process::ExitCode, sync::Arc, time::Duration};

use audio_gateway::{
    bus::{self, BusOptions, recording::Bounds},
    dispatch::run::{Settings, run},
    id::DispatcherId,
    limits,
    shutdown::Shutdown,
    telemetry,
};
use clap::Parser;

/// Takes tasks from services and gives them to workers.
///
/// Start as many as you like: each answers services, one of them leads.
#[derive(Debug, Parser)]
#[command(version)]
struct Arguments {
    #[command(flatten)]
    bus: BusOptions,
    /// This dispatcher's name; made anew at each start where absent
    #[arg(long, env = "DISPATCHER_ID")]
    id: Option<DispatcherId>,
    /// Copies of each bucket it makes; 3 in a cluster and 1 elsewhere, unless set
    #[arg(long, env = "NATS_REPLICAS", value_parser = clap::value_parser!(u8).range(1..=5))]
    replicas: Option<u8>,
    /// How long the stream AUDIO keeps what is recorded, when it makes it
    #[arg(long, env = "RECORD_KEEP", value_parser = humantime::parse_duration,
          default_value = "72h", value_name = "TIME")]
    record_keep: Duration,
    /// GiB it holds at most; less where the server has not so much
    #[arg(long, env = "RECORD_GIB", value_parser = clap::value_parser!(u32).range(1..),
          default_value_t = (limits::RECORD_STREAM_BYTES >> 30) as u32, value_name = "N")]
    record_gib: u32,
}

#[tokio::main]
async fn main() -> ExitCode {
    let arguments = Arguments::parse();
    telemetry::init(bus::LOG_FILTER);
    match serve(arguments).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn serve(arguments: Arguments) -> anyhow::Result<()> {
    let shutdown = Arc::new(Shutdown::new());
    let phases = shutdown.phases();
    shutdown.on_signals()?;
    let settings = Settings {
        id: arguments.id.unwrap_or_else(fresh_id),
        replicas: arguments.replicas.map(usize::from),
        record: Bounds { age: arguments.record_keep, bytes: i64::from(arguments.record_gib) << 30 },
    };
    Ok(run(&arguments.bus, settings, phases).await?)
}

fn fresh_id() -> DispatcherId {
    let id = format!("dispatcher-{}", uuid::Uuid::new_v4().simple());
    DispatcherId::parse(&id[..24]).expect("hexadecimal digits are a token's")
}
