//! `gateway events`: the changes of tasks, or what happens in a room, as it
//! happens; and the changes that were, with their reasons.

use std::time::Duration;

use audio_gateway::{
    bus::messages::{RoomEvent, TaskEvent},
    client::Gateway,
    id::{RoomId, TaskId},
};

use crate::{
    exit::Exit,
    show::{Show, clean},
};

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Only this task
    task: Option<TaskId>,
    /// What happens in this room, in place of tasks
    #[arg(long, conflicts_with = "task")]
    room: Option<RoomId>,
    /// Tell what was, this far back; without a time, all that is kept (a day).
    /// Ends there, unless --follow
    #[arg(long, value_parser = humantime::parse_duration, num_args = 0..=1, value_name = "TIME",
          require_equals = true, default_missing_value = "1day", conflicts_with = "room")]
    since: Option<Duration>,
    /// Go on with what comes: without --since that is so anyway
    #[arg(long, short)]
    follow: bool,
    /// End after so many
    #[arg(long)]
    count: Option<u64>,
}

pub(crate) async fn run(args: &Args, gateway: &Gateway, show: &Show) -> anyhow::Result<Exit> {
    let mut left = args.count.unwrap_or(u64::MAX);
    let follow = async {
        if let Some(room) = &args.room {
            let mut events = gateway.room_events(room).await?;
            while left > 0
                && let Some(event) = events.next().await
            {
                room_event(&event, show)?;
                left -= 1;
            }
        } else if let Some(since) = args.since {
            let mut events = gateway.past_events(args.task.as_ref(), since).await?;
            while left > 0
                && (args.follow || !events.is_told())
                && let Some(event) = events.next().await
            {
                task_event(&event, show)?;
                left -= 1;
            }
        } else {
            let mut events = gateway.task_events(args.task.as_ref()).await?;
            while left > 0
                && let Some(event) = events.next().await
            {
                task_event(&event, show)?;
                left -= 1;
            }
        }
        Ok(Exit::Done)
    };
    tokio::select! {
        ended = follow => ended,
        signal = tokio::signal::ctrl_c() => {
            signal?;
            Ok(if args.count.is_some() { Exit::Interrupted } else { Exit::Done })
        }
    }
}

fn task_event(event: &TaskEvent, show: &Show) -> anyhow::Result<()> {
    if show.json {
        return Ok(show.value(event)?);
    }
    let worker = event.worker.as_ref().map(ToString::to_string).unwrap_or_default();
    let cells = [
        show.moment(event.time_ms),
        event.task.to_string(),
        event.room.to_string(),
        event.state.to_string(),
        event.epoch.to_string(),
        worker,
        event.by.clone(),
        event.reason.clone(),
    ];
    Ok(show.line(&line(&cells, show))?)
}

fn room_event(event: &RoomEvent, show: &Show) -> anyhow::Result<()> {
    if show.json {
        return Ok(show.value(event)?);
    }
    let what = serde_json::to_string(&event.what)?;
    let ms = u64::try_from(event.time / 1_000).unwrap_or(0);
    let cells = [show.moment(ms), event.room.to_string(), event.epoch.to_string(), what];
    Ok(show.line(&line(&cells, show))?)
}

fn line(cells: &[String], show: &Show) -> String {
    let cells: Vec<_> = cells.iter().map(|cell| clean(cell)).collect();
    cells.join(if show.people { "  " } else { "\t" })
}
