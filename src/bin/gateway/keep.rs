//! `gateway keep`: have a room pulled for as long as this runs, and longer.

use audio_gateway::{
    bus::messages::TaskView,
    client::{Gateway, KeepOptions},
    limits,
    task::TaskSpec,
};

use crate::{
    exit::Exit,
    show::{Show, clean},
    submit::Task,
};

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    pub(crate) task: Task,
    /// Give up after so many tasks in a row that did not run for a minute; 0:
    /// never
    #[arg(long, value_name = "N", default_value_t = limits::KEEP_TRIES)]
    tries: u32,
}

pub(crate) async fn run(
    args: &Args,
    spec: &TaskSpec,
    gateway: &Gateway,
    show: &Show,
) -> anyhow::Result<Exit> {
    let options = KeepOptions { tries: Some(args.tries).filter(|tries| *tries > 0) };
    let mut told = Ok(());
    let kept = gateway.keep(spec, options, |view| {
        if told.is_ok() {
            told = tell(view, show);
        }
    });
    tokio::select! {
        kept = kept => {
            kept?;
        }
        signal = tokio::signal::ctrl_c() => {
            signal?;
            eprintln!("gateway: no longer kept; its task goes on until it ends: gateway list --room {}",
                      spec.room);
            return Ok(Exit::Interrupted);
        }
    }
    told?;
    Ok(Exit::Done)
}

fn tell(view: &TaskView, show: &Show) -> std::io::Result<()> {
    if show.json {
        return show.value(view);
    }
    let worker = view.worker.as_ref().map(ToString::to_string).unwrap_or_default();
    let cells = [
        show.moment(view.changed_ms),
        view.task.to_string(),
        view.room.to_string(),
        view.state.to_string(),
        worker,
        clean(&view.reason),
    ];
    show.line(&cells.join(if show.people { "  " } else { "\t" }))
}
