//! `gateway get`: one task.

use audio_gateway::{client::Gateway, id::TaskId};

use crate::{exit::Exit, show::Show};

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The task's id
    task: TaskId,
}

pub(crate) async fn run(args: &Args, gateway: &Gateway, show: &Show) -> anyhow::Result<Exit> {
    show.tasks(&[gateway.get(&args.task).await?])?;
    Ok(Exit::Done)
}
