//! Whom a room pulls is changed while it runs, with the real programs: by the
//! command line, while the leader is killed, and before the room is handed over.

#![allow(clippy::unwrap_used, reason = "in a test a panic is the answer")]

mod support;

use std::{collections::BTreeMap, time::Duration};

use audio_gateway::{
    audio::SlotState,
    bus::{BusOptions, messages::TaskView},
    client::{Gateway, ListenOptions, Listener, Sounds},
    id::{RoomId, TaskId},
    task::{PullUpdate, TaskSpec, Update},
};
use rustix::process::Signal;
use support::{NatsServer, Program, Running, eventually, within};

const READY: Duration = Duration::from_secs(30);
const PATIENCE: Duration = Duration::from_secs(90);
/// One host and two guests.
const TASK: &str = r#"{"id":"call","room":"42","sdk":"sim","pull":{"roles":["host"]},
    "params":{"participants":3,"source":"ramp","clock":"unix"}}"#;

/// What was heard of a track.
#[derive(Debug, Default, Clone)]
struct Track {
    /// Batches with audio.
    batches: u64,
    epoch: u64,
    /// The state of the last slot.
    last: Option<SlotState>,
}

struct Ears {
    listener: Listener,
    tracks: BTreeMap<String, Track>,
}

impl Ears {
    /// Listens until something holds of the tracks.
    async fn until(&mut self, what: &str, holds: impl Fn(&BTreeMap<String, Track>) -> bool) {
        within(what, PATIENCE, async {
            while !holds(&self.tracks) {
                let heard = self.listener.next().await.expect("the listener goes on");
                let Sounds::Batch(delivered) = heard.what else { continue };
                let batch = delivered.batch;
                let track = self.tracks.entry(heard.track.to_string()).or_default();
                track.batches += u64::from(batch.runs.audio_slots() > 0);
                track.epoch = batch.epoch;
                track.last = batch.runs.iter().last().map(|run| run.state);
            }
        })
        .await;
    }

    /// Listens until these have said more and everybody else has ended, then
    /// on: nobody else says anything.
    async fn only(&mut self, wanted: &[&str]) {
        let wants = |user: &str| wanted.contains(&user);
        let quiet =
            |user: &str, track: &Track| wants(user) || track.last == Some(SlotState::Absent);
        let before = self.tracks.clone();
        let more = |tracks: &BTreeMap<String, Track>, from: &BTreeMap<String, Track>| {
            wanted.iter().all(|user| {
                let count = |of: &BTreeMap<String, Track>| of.get(*user).map_or(0, |it| it.batches);
                count(tracks) >= count(from) + 5
            })
        };
        self.until(&format!("{wanted:?} alone"), |tracks| {
            more(tracks, &before) && tracks.iter().all(|(user, track)| quiet(user, track))
        })
        .await;
        let then = self.tracks.clone();
        self.until(&format!("more of {wanted:?}"), |tracks| more(tracks, &then)).await;
        for (user, track) in self.tracks.iter().filter(|(user, _)| !wants(user)) {
            assert_eq!(track.batches, then[user].batches, "{user} is heard still");
        }
    }
}

fn roles(role: &str) -> Update {
    let pull = PullUpdate { roles: Some(vec![role.to_owned()]), ..PullUpdate::default() };
    Update { pull: Some(pull), ..Update::of(TaskId::parse("call").unwrap()) }
}

async fn taken_in(gateway: &Gateway) -> TaskView {
    let task = TaskId::parse("call").unwrap();
    eventually("an update that is taken in", PATIENCE, async || {
        gateway.get(&task).await.ok().filter(|view| !view.updating)
    })
    .await
}

async fn start(program: Program) -> Running {
    let running = program.start();
    running.says("ready", READY).await;
    running
}

#[tokio::test(flavor = "multi_thread")]
async fn a_room_pulls_whom_it_is_told_to_whatever_goes_wrong() {
    let server = NatsServer::start().await;
    let program = |path: &str| Program::new(path).env("NATS_URL", server.url());
    let dispatcher =
        |id: &'static str| start(program(env!("CARGO_BIN_EXE_dispatcher")).args(["--id", id]));
    let worker = |id: &'static str| {
        let worker = program(env!("CARGO_BIN_EXE_worker"));
        start(worker.args(["--id", id, "--cores", "1000", "--drain-timeout", "60"]))
    };
    let mut dispatchers = BTreeMap::from([
        ("d1".to_owned(), dispatcher("d1").await),
        ("d2".to_owned(), dispatcher("d2").await),
    ]);
    let mut first = worker("w1").await;
    let gateway = Gateway::connect(&BusOptions::plain(&server.url())).await.unwrap();
    let room: RoomId = "42".parse().unwrap();
    let listener = gateway.listen(&room, ListenOptions::default()).await.unwrap();
    let mut ears = Ears { listener, tracks: BTreeMap::new() };
    let spec = TaskSpec::from_json(TASK.as_bytes()).unwrap();
    gateway.submit(&spec).await.unwrap();
    ears.only(&["user-0"]).await;

    let mut command = tokio::process::Command::new(env!("CARGO_BIN_EXE_gateway"));
    command.args(["update", "call", "--roles", "guest", "--wait", "--json"]);
    let output = command.env("NATS_URL", server.url()).kill_on_drop(true).output();
    let output = within("the command", PATIENCE, output).await.unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let view: TaskView = serde_json::from_slice(&output.stdout).unwrap();
    assert!(view.revision > 0 && !view.updating, "{view:?}");
    assert_eq!(view.pull.unwrap().roles, ["guest"]);
    ears.only(&["user-1", "user-2"]).await;

    // The leader is gone before it can tell anybody.
    let leads = || async { gateway.leader().await.ok()?.leader };
    let leader = eventually("a leader", PATIENCE, leads).await.to_string();
    dispatchers.remove(&leader).unwrap().kill();
    let update = roles("host");
    eventually("an update", PATIENCE, async || gateway.update(&update).await.ok()).await;
    let view = taken_in(&gateway).await;
    ears.only(&["user-0"]).await;
    let epoch = ears.tracks["user-0"].epoch;
    assert_eq!(view.epoch.0, epoch, "the session is the first one still");

    // Whoever takes the room over begins with what is wanted now.
    let second = worker("w2").await;
    first.signal(Signal::TERM);
    ears.until("the next worker", |tracks| tracks["user-0"].epoch > epoch).await;
    assert!(first.ended(PATIENCE).await.success(), "{}", first.stderr());
    ears.only(&["user-0"]).await;
    let view = taken_in(&gateway).await;
    assert_eq!(view.worker.unwrap().as_str(), "w2");
    assert!(ears.tracks.values().all(|it| it.epoch == epoch || it.batches > 0));

    // What was submitted is the same task still.
    let again = gateway.submit(&spec).await.unwrap();
    assert!(again.duplicate, "{again:?}");
    for program in dispatchers.values().chain([&first, &second]) {
        assert_eq!(program.errors(), Vec::<String>::new());
    }
}
