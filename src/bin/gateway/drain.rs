//! `gateway drain` and `undrain`: have a worker give its rooms away, or take
//! some again.

use std::{
    io::IsTerminal,
    time::{Duration, Instant},
};

use audio_gateway::{
    bus::messages::{Refusal, RefusalCode, Verdict, WorkerView},
    client::Gateway,
    id::WorkerId,
    limits,
};
use serde_json::json;
use tokio::time::{MissedTickBehavior, interval};

use crate::{
    exit::{Exit, TooLate},
    show::Show,
};

/// How often the worker is looked at.
const LOOK: Duration = Duration::from_millis(250);

#[derive(Debug, clap::Args)]
pub(crate) struct DrainArgs {
    /// The worker
    worker: WorkerId,
    /// Why, for its log
    #[arg(long, default_value = "drained on the command line")]
    reason: String,
    /// Wait until it serves no room any more, or is gone
    #[arg(long)]
    wait: bool,
    /// Wait no longer than this
    #[arg(long, value_parser = humantime::parse_duration, default_value = "60s",
          value_name = "TIME", requires = "wait")]
    timeout: Duration,
}

#[derive(Debug, clap::Args)]
pub(crate) struct UndrainArgs {
    /// The worker
    worker: WorkerId,
    /// Why, for its log
    #[arg(long, default_value = "undrained on the command line")]
    reason: String,
}

pub(crate) async fn drain(
    args: &DrainArgs,
    gateway: &Gateway,
    show: &Show,
) -> anyhow::Result<Exit> {
    let worker = &args.worker;
    accepted(worker, &gateway.drain(worker, &args.reason).await?)?;
    let began = Instant::now();
    let left = if args.wait {
        let within = args.timeout;
        let mut last = 0;
        let emptied = tokio::time::timeout(within, empty(worker, gateway, &mut last));
        emptied.await.map_err(|_| {
            let after = humantime::format_duration(within);
            TooLate(format!("worker {worker} still serves {last} rooms after {after}"))
        })??;
        Some(0)
    } else {
        find(worker, gateway).await?.map(|view| view.sessions)
    };
    let left = left.unwrap_or_default();
    if show.json {
        let took = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
        show.value(&json!({"worker": worker, "rooms": left, "took_ms": took}))?;
    } else {
        show.rows(
            &["worker", "is", "rooms left"],
            &[vec![worker.to_string(), "draining".to_owned(), left.to_string()]],
        )?;
        if show.people && left > 0 {
            eprintln!("gateway: watch it with gateway top, or wait with --wait");
        }
    }
    Ok(Exit::Done)
}

pub(crate) async fn undrain(
    args: &UndrainArgs,
    gateway: &Gateway,
    show: &Show,
) -> anyhow::Result<Exit> {
    let worker = &args.worker;
    accepted(worker, &gateway.undrain(worker, &args.reason).await?)?;
    if show.json {
        show.value(&json!({"worker": worker}))?;
    } else {
        show.rows(&["worker", "is"], &[vec![worker.to_string(), "running".to_owned()]])?;
    }
    Ok(Exit::Done)
}

/// A worker that will not is a refusal like any other.
fn accepted(worker: &WorkerId, verdict: &Verdict) -> anyhow::Result<()> {
    if verdict.accepted {
        return Ok(());
    }
    let why = format!("worker {worker} refuses: {}", verdict.reason);
    Err(audio_gateway::bus::AskError::from(Refusal::new(RefusalCode::Conflict, why)).into())
}

async fn find(worker: &WorkerId, gateway: &Gateway) -> anyhow::Result<Option<WorkerView>> {
    let workers = gateway.workers().await?.workers;
    Ok(workers.into_iter().find(|view| view.worker == *worker))
}

/// Waits until a worker serves nothing, or is not there any more.
async fn empty(worker: &WorkerId, gateway: &Gateway, left: &mut usize) -> anyhow::Result<()> {
    let mut look = interval(LOOK);
    look.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let people = std::io::stderr().is_terminal();
    let mut missed: Option<Instant> = None;
    loop {
        look.tick().await;
        // Who answers may change meanwhile: what is not answered is asked again, and
        // a dispatcher that has just started knows of no worker yet.
        let Ok(found) = find(worker, gateway).await else { continue };
        let Some(rooms) = found.map(|view| view.sessions) else {
            if missed.get_or_insert_with(Instant::now).elapsed() < limits::WORKER_GONE {
                continue;
            }
            return Ok(());
        };
        missed = None;
        if rooms == 0 {
            return Ok(());
        }
        if people && *left != rooms {
            eprintln!("{worker}: {rooms} rooms left");
        }
        *left = rooms;
    }
}
