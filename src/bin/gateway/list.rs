//! `gateway list`: tasks.

use audio_gateway::{bus::messages::List, client::Gateway, id::RoomId, task::TaskState};

use crate::{exit::Exit, show::Show, wait::state};

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Only tasks in this state; may be given again
    #[arg(long, value_parser = state)]
    state: Vec<TaskState>,
    /// Also tasks that have ended, as long as they are kept
    #[arg(long, conflicts_with = "state")]
    all: bool,
    /// Only tasks of this room
    #[arg(long)]
    room: Option<RoomId>,
    /// At most this many
    #[arg(long, default_value_t = 0, hide_default_value = true)]
    limit: usize,
}

pub(crate) async fn run(args: Args, gateway: &Gateway, show: &Show) -> anyhow::Result<Exit> {
    use TaskState::{
        Assigned, Cancelled, Done, Draining, Expired, Failed, Pending, Running, Starting,
    };
    let states = if args.all {
        vec![Pending, Assigned, Starting, Running, Draining, Done, Failed, Cancelled, Expired]
    } else {
        args.state
    };
    let filter = List { states, room: args.room, limit: args.limit };
    let listed = gateway.list(&filter).await?;
    show.tasks(&listed.tasks)?;
    if listed.truncated && args.limit == 0 {
        eprintln!("gateway: there are more; narrow it down with --room or --state");
    }
    Ok(Exit::Done)
}
