//! `gateway ping`: whether a dispatcher or a worker answers; what a health
//! check runs.

use audio_gateway::{
    bus::{service, subjects},
    client::Gateway,
    id::WorkerId,
    limits,
};

use crate::{exit::Exit, show::Show};

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Which program
    #[arg(value_parser = [subjects::DISPATCHER_SERVICE, subjects::WORKER_SERVICE])]
    program: String,
    /// Its id; any one answers where it is absent
    // Dispatchers' ids and workers' are tokens alike.
    id: Option<WorkerId>,
}

pub(crate) async fn run(args: &Args, gateway: &Gateway, show: &Show) -> anyhow::Result<Exit> {
    let id = args.id.as_ref().map(WorkerId::as_str);
    let asked = service::ping(gateway.control(), &args.program, id, limits::REQUEST_TIMEOUT);
    let pong = asked.await?;
    if show.json {
        show.value(&pong)?;
    } else {
        show.rows(&["program", "id", "version"], &[vec![pong.name, pong.id, pong.version]])?;
    }
    Ok(Exit::Done)
}
