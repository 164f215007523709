//! Waiting for a task with the way there shown, for `submit` and `cancel`.

use std::{
    io::{self, IsTerminal, Write},
    time::{Duration, Instant},
};

use audio_gateway::{
    bus::messages::TaskView,
    client::Gateway,
    id::TaskId,
    task::{TaskState, known_state},
};
use tokio::time::{MissedTickBehavior, interval};

use crate::{
    exit::Exit,
    show::{Show, clean},
};

/// Reads a state's name.
pub(crate) fn state(text: &str) -> Result<TaskState, String> {
    known_state(serde_json::Value::from(text)).map_err(|_| {
        "use pending, assigned, starting, running, draining, done, failed, cancelled or expired"
            .to_owned()
    })
}

/// How often the time that passes is shown on a terminal.
const REDRAW: Duration = Duration::from_millis(200);

pub(crate) async fn run(
    gateway: &Gateway,
    task: &TaskId,
    until: TaskState,
    within: Duration,
    show: &Show,
) -> anyhow::Result<Exit> {
    let progress = Progress { began: Instant::now(), people: io::stderr().is_terminal() };
    let (seen, mut last) = tokio::sync::watch::channel(None::<TaskView>);
    let waiting = gateway.wait_for(task, until, within, |view| {
        seen.send_replace(Some(view.clone()));
        progress.changed(view);
    });
    tokio::pin!(waiting);
    let mut tick = interval(REDRAW);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let ended = loop {
        tokio::select! {
            ended = &mut waiting => break ended,
            _ = tick.tick() => progress.passes(last.borrow_and_update().as_ref()),
            signal = tokio::signal::ctrl_c() => {
                signal?;
                progress.clear();
                eprintln!("gateway: no longer waiting; the task goes on: gateway get {task}");
                return Ok(Exit::Interrupted);
            }
        }
    };
    progress.clear();
    show.tasks(&[ended?])?;
    Ok(Exit::Done)
}

struct Progress {
    began: Instant,
    people: bool,
}

impl Progress {
    /// A line that stays, one for each change.
    fn changed(&self, view: &TaskView) {
        self.clear();
        eprintln!("{}", self.text(view));
    }

    /// The line that is being waited in.
    fn passes(&self, view: Option<&TaskView>) {
        if let (true, Some(view)) = (self.people, view) {
            eprint!("\r\x1b[2K{} …", self.text(view));
            // It is only decoration.
            let _ = io::stderr().flush();
        }
    }

    fn clear(&self) {
        if self.people {
            eprint!("\r\x1b[2K");
        }
    }

    fn text(&self, view: &TaskView) -> String {
        let mut text = format!("{:6.1} s  {}", self.began.elapsed().as_secs_f64(), view.state);
        if let Some(worker) = &view.worker {
            text += &format!(" on {worker}");
        }
        if !view.reason.is_empty() {
            text += &format!(" ({})", clean(&view.reason));
        }
        text
    }
}
