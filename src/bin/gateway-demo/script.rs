//! What happens when: two rooms on two workers, one worker killed midway, and
//! everything heard to its end.

use std::{
    collections::BTreeSet,
    path::PathBuf,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use audio_gateway::{
    bus::messages::TaskEvent,
    client::{DropOnPurpose, Gateway, ListenOptions, Listener},
    id::{RoomId, TaskId, WorkerId},
    limits::SAMPLE_RATE,
    task::{TaskSpec, TaskState},
};
use serde_json::json;
use tokio::{
    sync::{mpsc, oneshot, watch},
    task::JoinHandle,
    time::{sleep, timeout},
};

use crate::{
    board::{Input, Track},
    children::{descendants, is_alive},
    ears::{self, Kept, Played},
    speech::Media,
    stage::Stage,
    verify::Source,
};

/// How long the file is heard before the worker is killed, at most a third of
/// it.
const BEFORE: Duration = Duration::from_secs(8);
/// How long it is heard from the other worker before that is believed.
const AFTER: Duration = Duration::from_secs(3);
/// How long a task may take to run.
const RUN: Duration = Duration::from_secs(15);
/// How long anything else may take, on a busy machine.
const SOON: Duration = Duration::from_secs(20);
/// How long adapters may outlive their worker before they are counted as left.
const ADAPTERS: Duration = Duration::from_secs(2);
/// How often it is looked whether they live.
const LOOK: Duration = Duration::from_millis(1);
/// How often the workers are asked for.
const WORKERS: Duration = Duration::from_millis(500);

/// What is played and how.
#[derive(Debug)]
pub(crate) struct Plan {
    pub(crate) media: Media,
    pub(crate) media_dir: PathBuf,
    /// Where the files go that were heard.
    pub(crate) out: PathBuf,
    /// Whether ffmpeg plays the file; else the simulated room does.
    pub(crate) ffmpeg: bool,
    /// Share of the file's batches that is thrown away at the listener.
    pub(crate) loss: f64,
    pub(crate) seed: u64,
}

/// How far each track is, as the board has it.
pub(crate) type Progress = Vec<Track>;

/// What came of it.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) kept: Vec<Kept>,
    pub(crate) killed: WorkerId,
    /// From the kill to the first frame from the other worker.
    pub(crate) back_after: Option<Duration>,
    /// From the kill to the end of the worker's last adapter.
    pub(crate) adapters_gone: Option<Duration>,
}

/// The room of two people.
pub(crate) const CALL: &str = "call";
/// The room that plays a file.
pub(crate) const RADIO: &str = "radio";

/// The task of a room.
fn task_of(room: &str) -> Result<TaskId> {
    Ok(TaskId::parse(&format!("demo-{room}"))?)
}

/// Somebody listens to a room.
struct Ear {
    stop: oneshot::Sender<()>,
    kept: JoinHandle<Result<Vec<Kept>>>,
}

/// The demo itself.
pub(crate) struct Script<'a> {
    pub(crate) plan: &'a Plan,
    pub(crate) stage: &'a mut Stage,
    pub(crate) gateway: Gateway,
    pub(crate) board: mpsc::Sender<Input>,
    pub(crate) progress: watch::Receiver<Progress>,
    /// The worker that was killed.
    pub(crate) killed: Option<WorkerId>,
}

impl Script<'_> {
    /// Plays it from the first worker to the last frame.
    ///
    /// # Errors
    /// What did not happen in time, or a program that ended.
    pub(crate) async fn play(mut self) -> Result<Outcome> {
        let watching = [self.watch_tasks().await?, self.watch_workers()];
        let outcome = self.acts().await;
        watching.iter().for_each(JoinHandle::abort);
        outcome
    }

    async fn acts(&mut self) -> Result<Outcome> {
        let first = self.stage.add_worker("a", &self.plan.media_dir, &self.gateway).await?;
        let (call_ear, call) = self.call().await?;
        let second = self.stage.add_worker("b", &self.plan.media_dir, &self.gateway).await?;
        let (radio_ear, _) = self.radio(&second).await?;

        self.heard(RADIO, BEFORE.min(self.file_length() / 3)).await?;
        let (at, adapters_gone) = self.kill(&first).await?;
        self.moved(CALL, at).await?;
        self.stage.check(Some(&first))?;

        self.closed(RADIO).await?;
        self.gateway.cancel(&call, "the demo is over").await?;
        self.gateway.wait_for(&call, TaskState::Cancelled, SOON, |_| ()).await?;
        self.stage.check(Some(&first))?;

        let mut kept = Vec::new();
        for ear in [call_ear, radio_ear] {
            // A listener that is gone has ended already; its result says why.
            let _ = ear.stop.send(());
            kept.extend(timeout(SOON, ear.kept).await.context("a listener does not end")???);
        }
        let back = kept.iter().filter_map(|kept| kept.back).min();
        let back_after = back.map(|back| back.saturating_duration_since(at));
        Ok(Outcome { kept, killed: first, back_after, adapters_gone })
    }

    /// The room of two people, on whichever worker there is.
    async fn call(&self) -> Result<(Ear, TaskId)> {
        let [ann, ben] = &self.plan.media.people;
        let played = Played {
            users: [("ann", ann), ("ben", ben)]
                .map(|(user, speech)| (user.to_owned(), Source::new(speech.pcm.clone(), true)))
                .into(),
            other: None,
            room: RoomId::parse(CALL)?,
        };
        let task = json!({
            "id": task_of(CALL)?, "room": CALL, "sdk": "sim",
            "params": {
                "users": ["ann", "ben"], "roles": ["host", "guest"],
                "source": [{"wav": ann.file}, {"wav": ben.file}],
            },
        });
        self.room(played, None, task).await
    }

    /// The room that plays the file, on the second worker alone.
    async fn radio(&self, worker: &WorkerId) -> Result<(Ear, TaskId)> {
        let narrator = &self.plan.media.narrator;
        let played = Played {
            users: [].into(),
            other: Some(Source::new(narrator.pcm.clone(), false)),
            room: RoomId::parse(RADIO)?,
        };
        let (sdk, params) = if self.plan.ffmpeg {
            ("ffmpeg", json!({"file": narrator.file}))
        } else {
            ("sim", json!({"users": ["file"], "source": {"wav": narrator.file}, "loop": false}))
        };
        let task = json!({
            "id": task_of(RADIO)?, "room": RADIO, "sdk": sdk, "params": params,
            "pull": {"batch_frames": 5},
            "labels": {"demo": worker},
        });
        let drop = DropOnPurpose { fraction: self.plan.loss, seed: self.plan.seed, again: false };
        self.room(played, Some(drop), task).await
    }

    /// Listens to a room, then hands in its task and waits until it runs.
    async fn room(
        &self,
        played: Played,
        drop: Option<DropOnPurpose>,
        task: serde_json::Value,
    ) -> Result<(Ear, TaskId)> {
        let options = ListenOptions { drop, ..ListenOptions::default() };
        let listener: Listener = self.gateway.listen(&played.room, options).await?;
        let (stop, stopped) = oneshot::channel();
        let ear =
            ears::listen(listener, played, self.plan.out.clone(), stopped, self.board.clone());
        let ear = Ear { stop, kept: tokio::spawn(ear) };
        let spec = TaskSpec::from_json(task.to_string().as_bytes())?;
        let task = self.gateway.submit(&spec).await?.task;
        self.gateway.wait_for(&task, TaskState::Running, RUN, |_| ()).await?;
        Ok((ear, task))
    }

    /// Kills a worker without warning and sees its adapters die.
    async fn kill(&mut self, id: &WorkerId) -> Result<(Instant, Option<Duration>)> {
        let worker = self.stage.worker(id)?;
        let adapters = descendants(worker.pid());
        ensure!(!adapters.is_empty(), "worker {id} runs no adapter to be killed with it");
        let at = Instant::now();
        worker.kill();
        while adapters.iter().any(|&pid| is_alive(pid)) && at.elapsed() < ADAPTERS {
            sleep(LOOK).await;
        }
        let left = adapters.iter().filter(|&&pid| is_alive(pid)).count();
        let gone = (left == 0).then(|| at.elapsed());
        self.killed = Some(id.clone());
        self.tell(Input::Killed(id.clone())).await;
        self.note(&format!(
            "SIGKILL → worker {id}, which serves the call; its adapters die with it"
        ))
        .await;
        Ok((at, gone))
    }

    /// Waits until each track of a room was heard for so long.
    async fn heard(&mut self, room: &str, long: Duration) -> Result<()> {
        let what = format!("the {room} is not heard for {long:?}");
        self.until(room, &what, SOON + long, |track| track.heard() >= long).await
    }

    /// Waits until a room is heard from another worker, and for a while.
    async fn moved(&mut self, room: &str, killed: Instant) -> Result<()> {
        let what = format!("the {room} is not heard from another worker");
        self.until(room, &what, SOON, |track| track.moves > 0).await?;
        let after = killed.elapsed().as_secs_f64();
        self.note(&format!("the {room} is heard again, {after:.1} s after the kill")).await;
        let before: Duration = {
            let tracks = self.progress.borrow();
            let of_room = tracks.iter().filter(|track| track.room.as_str() == room);
            of_room.map(Track::heard).max().unwrap_or_default()
        };
        self.heard(room, before + AFTER).await
    }

    /// Waits until the file was heard to its end.
    async fn closed(&mut self, room: &str) -> Result<()> {
        let long = self.file_length() + SOON;
        self.until(room, "the file does not end", long, |track| track.closed).await
    }

    fn file_length(&self) -> Duration {
        let samples = self.plan.media.narrator.pcm.len() / 2;
        Duration::from_secs_f64(samples as f64 / f64::from(SAMPLE_RATE))
    }

    /// Waits until all tracks of a room are as wanted, and there is one.
    async fn until(
        &mut self,
        room: &str,
        what: &str,
        within: Duration,
        wanted: impl Fn(&Track) -> bool,
    ) -> Result<()> {
        let reached = self.progress.wait_for(|tracks| {
            let mut of_room = tracks.iter().filter(|track| track.room.as_str() == room).peekable();
            of_room.peek().is_some() && of_room.all(&wanted)
        });
        if let Ok(seen) = timeout(within, reached).await {
            return seen.map(drop).context("nobody counts any more");
        }
        let killed = self.killed.clone();
        self.stage.check(killed.as_ref())?;
        let task = self.gateway.get(&task_of(room)?).await?;
        let why = if task.reason.is_empty() { String::new() } else { format!(": {}", task.reason) };
        let logs = self.plan.out.join("logs");
        bail!("{what} within {within:?}; its task is {}{why}; see {}", task.state, logs.display())
    }

    /// Says what becomes of the tasks, as far as it is news.
    async fn watch_tasks(&self) -> Result<JoinHandle<()>> {
        let mut events = self.gateway.task_events(None).await?;
        let board = self.board.clone();
        Ok(tokio::spawn(async move {
            let mut ran = BTreeSet::new();
            while let Some(TaskEvent { room, state, worker, reason, .. }) = events.next().await {
                let worker = worker.map(|worker| worker.to_string()).unwrap_or_default();
                let text = match state {
                    TaskState::Running if ran.insert(room.clone()) => {
                        format!("the {room} runs on worker {worker}")
                    }
                    TaskState::Running => {
                        format!("the {room} runs on worker {worker}, under a higher epoch")
                    }
                    TaskState::Pending if reason.is_empty() => {
                        format!("the {room} is submitted, and on disk")
                    }
                    TaskState::Pending => format!("the {room} waits for a worker: {reason}"),
                    TaskState::Done => format!("the {room} has ended: {reason}"),
                    TaskState::Failed | TaskState::Expired => {
                        format!("the {room} is {state}: {reason}")
                    }
                    _ => continue,
                };
                if board.send(Input::Note(text)).await.is_err() {
                    return;
                }
            }
        }))
    }

    /// Shows the workers as the dispatcher knows them.
    fn watch_workers(&self) -> JoinHandle<()> {
        let (gateway, board) = (self.gateway.clone(), self.board.clone());
        tokio::spawn(async move {
            let mut tick = tokio::time::interval(WORKERS);
            tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
            loop {
                tick.tick().await;
                // A dispatcher that does not answer now is asked again.
                if let Ok(workers) = gateway.workers().await
                    && board.send(Input::Workers(workers.workers)).await.is_err()
                {
                    return;
                }
            }
        })
    }

    async fn note(&self, text: &str) {
        self.tell(Input::Note(text.to_owned())).await;
    }

    /// The board is there as long as the script.
    async fn tell(&self, input: Input) {
        let _ = self.board.send(input).await;
    }
}
