//! `gateway update`: change a task that waits or runs.

use std::time::{Duration, Instant};

use audio_gateway::{
    client::Gateway,
    id::TaskId,
    limits,
    task::{PullUpdate, Update},
};
use serde_json::{Value, json};

use crate::{
    exit::{Exit, Usage},
    show::Show,
    submit::pair,
};

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The task's id
    task: TaskId,
    /// Pull only participants of these roles, from now on
    #[arg(long, value_delimiter = ',', value_name = "ROLE,ROLE")]
    roles: Vec<String>,
    /// Pull participants of all roles
    #[arg(long, conflicts_with = "roles")]
    all_roles: bool,
    /// Whether each participant has a track
    #[arg(long, value_name = "BOOL")]
    participants: Option<bool>,
    /// Mixed tracks by name, or as a JSON list; an empty text: none
    #[arg(long, value_name = "NAME,NAME")]
    mix: Option<String>,
    /// 0 to 9; a higher one is placed first
    #[arg(long)]
    priority: Option<u8>,
    /// The task ends done so long after it first ran; 0s: no limit
    #[arg(long, value_parser = humantime::parse_duration, value_name = "TIME")]
    max_duration: Option<Duration>,
    /// A label that its next worker must carry, instead of those before; may be
    /// given again
    #[arg(long, value_name = "KEY=VALUE")]
    label: Vec<String>,
    /// Wait until its worker has taken it in
    #[arg(long)]
    wait: bool,
    /// Wait no longer than this
    #[arg(long, value_parser = humantime::parse_duration, default_value = "30s",
          value_name = "TIME")]
    within: Duration,
}

impl Args {
    /// The change that is meant.
    pub(crate) fn update(&self) -> anyhow::Result<Update> {
        let roles = (self.all_roles || !self.roles.is_empty()).then(|| self.roles.clone());
        let mix = self.mix.as_deref().map(mix).transpose()?;
        let pull = PullUpdate { participants: self.participants, roles, mix };
        let labels: Vec<_> =
            self.label.iter().map(|label| pair("--label", label)).collect::<Result<_, _>>()?;
        let owned = |(key, value): (&str, &str)| (key.to_owned(), value.to_owned());
        let update = Update {
            task: self.task.clone(),
            pull: (pull != PullUpdate::default()).then_some(pull),
            priority: self.priority,
            max_duration_s: self.max_duration.map(|time| time.as_secs()),
            labels: (!labels.is_empty()).then(|| labels.into_iter().map(owned).collect()),
        };
        if update == Update::of(self.task.clone()) {
            let why = "nothing would change: name something, such as --roles host";
            return Err(Usage(why.to_owned()).into());
        }
        Ok(update)
    }
}

fn mix(text: &str) -> anyhow::Result<Value> {
    if text.trim_start().starts_with('[') {
        return serde_json::from_str(text).map_err(|error| Usage(format!("--mix: {error}")).into());
    }
    Ok(json!(text.split(',').filter(|name| !name.is_empty()).collect::<Vec<_>>()))
}

pub(crate) async fn run(
    args: &Args,
    update: &Update,
    gateway: &Gateway,
    show: &Show,
) -> anyhow::Result<Exit> {
    let mut view = gateway.update(update).await?;
    let until = Instant::now() + args.within;
    while args.wait && view.updating {
        if Instant::now() >= until {
            let worker = view.worker.map(|it| it.to_string()).unwrap_or_default();
            eprintln!(
                "gateway: worker {worker} has not taken it in: one of the version before never \
                 does, and whoever has the room next begins with it"
            );
            return Ok(Exit::TimedOut);
        }
        tokio::time::sleep(limits::HEARTBEAT_NEWS).await;
        view = gateway.get(&args.task).await?;
    }
    show.tasks(&[view])?;
    Ok(Exit::Done)
}
