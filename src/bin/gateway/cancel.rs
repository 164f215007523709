//! `gateway cancel`: end a task.

use std::time::Duration;

use audio_gateway::{client::Gateway, id::TaskId, task::TaskState};

use crate::{exit::Exit, show::Show, wait};

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The task's id
    task: TaskId,
    /// Why, for whoever looks at it later
    #[arg(long, default_value = "cancelled on the command line")]
    reason: String,
    /// Wait until it has ended
    #[arg(long)]
    wait: bool,
    /// Wait no longer than this
    #[arg(long, value_parser = humantime::parse_duration, default_value = "30s")]
    within: Duration,
}

pub(crate) async fn run(args: &Args, gateway: &Gateway, show: &Show) -> anyhow::Result<Exit> {
    let view = gateway.cancel(&args.task, &args.reason).await?;
    if !args.wait || view.state.is_terminal() {
        show.tasks(&[view])?;
        return Ok(Exit::Done);
    }
    wait::run(gateway, &args.task, TaskState::Cancelled, args.within, show).await
}
