//! `gateway submit`: hand in a task, from a file or from flags.

use std::{
    io::Read,
    path::{Path, PathBuf},
    time::Duration,
};

use audio_gateway::{
    client::Gateway,
    limits,
    task::{TaskSpec, TaskState},
};
use serde_json::{Map, Value, json};

use crate::{
    exit::{Exit, Usage},
    show::Show,
    wait,
};

/// A task from a file, flags, or both.
#[derive(Debug, clap::Args)]
pub(crate) struct Task {
    /// The task as JSON; - reads it from stdin. Flags override what it says
    file: Option<PathBuf>,
    /// The room to join
    #[arg(long, required_unless_present = "file")]
    room: Option<String>,
    /// The adapter that joins it, as the workers' configuration names it
    #[arg(long, required_unless_present = "file")]
    sdk: Option<String>,
    /// The task's id, which makes a repeated submit one task [default: made]
    #[arg(long)]
    id: Option<String>,
    /// For the adapter: a value of JSON, or text where it is none. Others on
    /// this machine can see it: secrets belong into --params
    #[arg(long = "param", value_name = "KEY=VALUE")]
    param: Vec<String>,
    /// For the adapter: a JSON object from a file; - reads stdin
    #[arg(long, value_name = "FILE")]
    params: Option<PathBuf>,
    /// Frames of 20 ms in a batch, 1 to 50
    #[arg(long, value_name = "N")]
    batch_frames: Option<u8>,
    /// Pull only participants of this role; may be given again
    #[arg(long)]
    role: Vec<String>,
    /// Keep what is heard in a stream as well, to be heard again
    #[arg(long)]
    record: bool,
    /// Pull a mix of everybody as a track of this name, or as an object of JSON
    /// says; may be given again
    #[arg(long, value_name = "NAME")]
    mix: Vec<String>,
    /// Pull the mixes alone, and no track of any participant
    #[arg(long, requires = "mix")]
    only_mix: bool,
    /// Play this track's subject into the room
    #[arg(long, value_name = "SUBJECT")]
    push: Option<String>,
    /// 0 to 9; a higher one is placed first
    #[arg(long)]
    priority: Option<u8>,
    /// The task ends done after this long
    #[arg(long, value_parser = humantime::parse_duration, value_name = "TIME")]
    max_duration: Option<Duration>,
    /// The task ends expired where no worker has it after this long
    #[arg(long, value_parser = humantime::parse_duration, value_name = "TIME")]
    start_within: Option<Duration>,
    /// A label that the worker must carry; may be given again
    #[arg(long, value_name = "KEY=VALUE")]
    label: Vec<String>,
}

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    pub(crate) task: Task,
    /// Wait until the task is in this state
    #[arg(long, value_parser = wait::state, num_args = 0..=1, require_equals = true,
          default_missing_value = "running", value_name = "STATE")]
    wait: Option<TaskState>,
    /// Wait no longer than this
    #[arg(long, value_parser = humantime::parse_duration, default_value = "60s",
          value_name = "TIME")]
    within: Duration,
}

impl Task {
    /// The task that is meant, checked as a dispatcher checks it.
    pub(crate) fn spec(&self) -> anyhow::Result<TaskSpec> {
        let mut task = match &self.file {
            Some(path) => object(path, "the task")?,
            None => Map::new(),
        };
        let texts = [("room", &self.room), ("sdk", &self.sdk), ("id", &self.id)];
        for (key, text) in texts {
            if let Some(text) = text {
                task.insert(key.to_owned(), json!(text));
            }
        }
        if let Some(path) = &self.params {
            let params = object(path, "params")?;
            within(&mut task, "params")?.extend(params);
        }
        for param in &self.param {
            let (key, value) = pair("--param", param)?;
            let value = serde_json::from_str(value).unwrap_or_else(|_| json!(value));
            within(&mut task, "params")?.insert(key.to_owned(), value);
        }
        for label in &self.label {
            let (key, value) = pair("--label", label)?;
            within(&mut task, "labels")?.insert(key.to_owned(), json!(value));
        }
        if let Some(frames) = self.batch_frames {
            within(&mut task, "pull")?.insert("batch_frames".to_owned(), json!(frames));
        }
        if !self.role.is_empty() {
            within(&mut task, "pull")?.insert("roles".to_owned(), json!(self.role));
        }
        if self.record {
            within(&mut task, "pull")?.insert("record".to_owned(), json!(true));
        }
        if !self.mix.is_empty() {
            let mixes = self.mix.iter().map(|mix| match mix.starts_with('{') {
                true => serde_json::from_str(mix)
                    .map_err(|error| Usage(format!("--mix {mix}: {error}")).into()),
                false => Ok(json!(mix)),
            });
            let mixes = mixes.collect::<anyhow::Result<Vec<Value>>>()?;
            within(&mut task, "pull")?.insert("mix".to_owned(), json!(mixes));
        }
        if self.only_mix {
            within(&mut task, "pull")?.insert("participants".to_owned(), json!(false));
        }
        if let Some(subject) = &self.push {
            task.insert("push".to_owned(), json!({ "from": subject }));
        }
        if let Some(priority) = self.priority {
            task.insert("priority".to_owned(), json!(priority));
        }
        let times = [("max_duration_s", self.max_duration), ("start_within_s", self.start_within)];
        for (key, time) in times {
            if let Some(time) = time {
                task.insert(key.to_owned(), json!(time.as_secs()));
            }
        }
        let text = serde_json::to_vec(&task)?;
        TaskSpec::from_json(&text).map_err(|error| Usage(error.to_string()).into())
    }
}

/// A part of the task that is an object, made where it is not there.
fn within<'a>(
    task: &'a mut Map<String, Value>,
    key: &str,
) -> anyhow::Result<&'a mut Map<String, Value>> {
    let value = task.entry(key).or_insert_with(|| json!({}));
    value.as_object_mut().ok_or_else(|| Usage(format!("{key} of the task is no object")).into())
}

pub(crate) fn pair<'a>(flag: &str, text: &'a str) -> anyhow::Result<(&'a str, &'a str)> {
    text.split_once('=').ok_or_else(|| Usage(format!("{flag} {text}: write KEY=VALUE")).into())
}

/// Reads a JSON object, no larger than a task may be.
fn object(path: &Path, what: &str) -> anyhow::Result<Map<String, Value>> {
    let most = limits::TASK_MAX_BYTES as u64 + 1;
    let mut text = Vec::new();
    let read = if path == Path::new("-") {
        std::io::stdin().lock().take(most).read_to_end(&mut text)
    } else {
        std::fs::File::open(path).and_then(|file| file.take(most).read_to_end(&mut text))
    };
    read.map_err(|error| Usage(format!("cannot read {what} from {}: {error}", path.display())))?;
    if text.len() > limits::TASK_MAX_BYTES {
        let most = limits::TASK_MAX_BYTES;
        return Err(Usage(format!("{}: at most {most} bytes are taken", path.display())).into());
    }
    serde_json::from_slice(&text)
        .map_err(|error| Usage(format!("{}: {what}: {error}", path.display())).into())
}

pub(crate) async fn run(
    args: &Args,
    spec: &TaskSpec,
    gateway: &Gateway,
    show: &Show,
) -> anyhow::Result<Exit> {
    let submitted = gateway.submit(spec).await?;
    if let Some(until) = args.wait {
        if show.people && spec.id.is_none() {
            eprintln!("task {}", submitted.task);
        }
        return wait::run(gateway, &submitted.task, until, args.within, show).await;
    }
    if show.json {
        show.value(&submitted)?;
    } else {
        let known = if submitted.duplicate { "known already" } else { "new" };
        let row = vec![
            submitted.task.to_string(),
            submitted.state.to_string(),
            submitted.epoch.to_string(),
            known.to_owned(),
        ];
        show.rows(&["task", "state", "epoch", ""], &[row])?;
    }
    Ok(Exit::Done)
}
