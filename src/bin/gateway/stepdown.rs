//! `gateway stepdown`: have another dispatcher lead.

use std::time::{Duration, Instant};

use audio_gateway::{
    bus::messages::{Leader, SteppedDown},
    client::Gateway,
};
use serde_json::json;
use tokio::time::{MissedTickBehavior, interval};

use crate::{
    exit::{Exit, TooLate},
    show::Show,
};

/// How often it is asked who leads.
const LOOK: Duration = Duration::from_millis(20);

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Why, for the log of the one that leads
    #[arg(long, default_value = "asked for on the command line")]
    reason: String,
    /// Wait no longer than this until one leads again
    #[arg(long, value_parser = humantime::parse_duration, default_value = "10s",
          value_name = "TIME")]
    timeout: Duration,
}

pub(crate) async fn run(args: &Args, gateway: &Gateway, show: &Show) -> anyhow::Result<Exit> {
    let began = Instant::now();
    let was = gateway.step_down(&args.reason).await?;
    let next =
        tokio::time::timeout(args.timeout, successor(gateway, &was)).await.map_err(|_| {
            let within = humantime::format_duration(args.timeout);
            TooLate(format!("{} has stepped down and nobody leads after {within}", was.was))
        })?;
    let took = began.elapsed().as_millis();
    let leader = next.leader.map(|leader| leader.to_string()).unwrap_or_default();
    if show.json {
        let took = u64::try_from(took).unwrap_or(u64::MAX);
        show.value(&json!({"was": was.was, "leader": leader, "term": next.term, "took_ms": took}))?;
    } else {
        let row = vec![was.was.to_string(), leader, next.term.to_string(), format!("{took} ms")];
        show.rows(&["was", "leader", "term", "took"], &[row])?;
    }
    Ok(Exit::Done)
}

/// Who leads next: a dispatcher that has not heard of the change yet still names
/// the old one, under its old term.
async fn successor(gateway: &Gateway, was: &SteppedDown) -> Leader {
    let mut look = interval(LOOK);
    look.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        look.tick().await;
        // One that does not answer may be asked again.
        if let Ok(next) = gateway.leader().await
            && next.leader.is_some()
            && next.term > was.term
        {
            return next;
        }
    }
}
