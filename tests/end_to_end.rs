//! The whole way with the real programs: a task is handed in, a dispatcher gives
//! it to a worker, an adapter speaks a ramp, and a listener has every sample of
//! it, whatever is lost on the way.

#![allow(clippy::unwrap_used, reason = "in a test a panic is the answer")]

mod support;

use std::{collections::BTreeMap, path::Path, time::Duration};

use audio_gateway::{
    bus::BusOptions,
    client::{DropOnPurpose, Gateway, Heard, ListenOptions, Listener, Sounds},
    id::TaskId,
    limits,
    task::{TaskSpec, TaskState},
};
use serde_json::Value;
use support::{NatsServer, Program, Running, lasting, within};

const READY: Duration = Duration::from_secs(30);
const PATIENCE: Duration = Duration::from_secs(90);

/// Server, dispatcher and worker.
struct Rig {
    dispatcher: Running,
    worker: Running,
    _config: tempfile::TempDir,
    // Last, so that what uses it ends before it.
    server: NatsServer,
}

impl Rig {
    async fn start() -> Self {
        let server = NatsServer::start().await;
        // Whatever else the host does, the worker takes rooms.
        let config = tempfile::tempdir().unwrap();
        let file = config.path().join("worker.toml");
        std::fs::write(&file, "[worker]\ncores = 1000.0\n").unwrap();
        let program = |path: &str| Program::new(path).env("NATS_URL", server.url());
        let dispatcher = program(env!("CARGO_BIN_EXE_dispatcher")).start();
        let worker = program(env!("CARGO_BIN_EXE_worker")).arg("--config").arg(&file).start();
        dispatcher.says("ready", READY).await;
        worker.says("ready", READY).await;
        Self { dispatcher, worker, _config: config, server }
    }

    fn gateway(&self, args: &[&str]) -> Running {
        let program = Program::new(env!("CARGO_BIN_EXE_gateway"));
        program.args(args).env("NATS_URL", self.server.url()).start()
    }

    /// Runs a command to its end and returns what it printed.
    async fn run(&self, args: &[&str]) -> String {
        let mut command = tokio::process::Command::new(env!("CARGO_BIN_EXE_gateway"));
        command.args(args).env("NATS_URL", self.server.url()).kill_on_drop(true);
        let output = within("end of the program", PATIENCE, command.output()).await.unwrap();
        let (out, err) = (output.stdout, String::from_utf8_lossy(&output.stderr));
        assert!(output.status.success(), "{args:?}: {}\n{err}", output.status);
        String::from_utf8(out).unwrap()
    }

    fn assert_no_errors(&self) {
        assert_eq!(self.dispatcher.errors(), Vec::<String>::new());
        assert_eq!(self.worker.errors(), Vec::<String>::new());
    }
}

/// Each sample is the one before plus one, from the participant's own start on.
/// A room of four seconds is a little shorter for who came late into it.
#[track_caller]
fn assert_ramp(path: &Path, participant: u16) {
    let reader = hound::WavReader::open(path).unwrap();
    let samples: Vec<u16> =
        reader.into_samples::<i16>().map(|sample| sample.unwrap() as u16).collect();
    assert!((60_000..=64_000).contains(&samples.len()), "{} samples", samples.len());
    let mut want = 9_973_u16.wrapping_mul(participant);
    for (at, sample) in samples.iter().enumerate() {
        assert_eq!(*sample, want, "sample {at} of {}", path.display());
        want = want.wrapping_add(1);
    }
}

#[tokio::test]
async fn a_room_ends_up_in_files_sample_for_sample() {
    let rig = Rig::start().await;
    let folder = tempfile::tempdir().unwrap();
    let to = format!("{}/", folder.path().display());
    let listen = ["listen", "42", "--wav", &to, "--until-closed", "--drop=0.2", "--json"];
    let mut listener = rig.gateway(&listen);
    listener.prints("\"listening\"", PATIENCE).await;
    let submit = [
        "submit",
        "--room=42",
        "--sdk=sim",
        "--id=call",
        "--param=participants=3",
        "--param=source=ramp",
        "--param=seconds=4",
        "--wait",
        "--json",
    ];
    let running: Value = serde_json::from_str(&rig.run(&submit).await).unwrap();
    assert_eq!((&running["task"], &running["state"]), (&"call".into(), &"running".into()));
    let status = listener.ended(PATIENCE).await;
    assert!(status.success(), "{status}\n{}", listener.stderr());
    let end = listener.prints("\"end\"", PATIENCE).await;
    let end: Value = serde_json::from_str(&end).unwrap();
    assert_eq!((&end["event"], &end["stats"]["lost"]), (&"end".into(), &0.into()), "{end}");
    assert!(end["stats"]["thrown_away"].as_u64() > Some(0), "{end}");
    for participant in 0..3 {
        let path = folder.path().join(format!("user-{participant}.wav"));
        assert_ramp(&path, participant);
        let report = std::fs::read(format!("{}.json", path.display())).unwrap();
        let report: Value = serde_json::from_slice(&report).unwrap();
        assert_eq!(report["gaps"], Value::Array(Vec::new()), "{report}");
    }
    let done = rig.run(&["list", "--all", "--room=42", "--json"]).await;
    let done: Value = serde_json::from_str(&done).unwrap();
    assert!(["running", "done"].contains(&done["state"].as_str().unwrap()), "{done}");
    assert!(rig.run(&["workers"]).await.contains("sim"));
    rig.assert_no_errors();
}

/// A file with where on the time line it begins, and its channels.
fn heard_in(folder: &Path, track: &str) -> (usize, Vec<Vec<i16>>) {
    let report = std::fs::read(folder.join(format!("{track}.wav.json"))).unwrap();
    let report: Value = serde_json::from_slice(&report).unwrap();
    let reader = hound::WavReader::open(folder.join(format!("{track}.wav"))).unwrap();
    let channels = usize::from(reader.spec().channels);
    let all: Vec<i16> = reader.into_samples().map(Result::unwrap).collect();
    let each = |channel| all.iter().skip(channel).step_by(channels).copied().collect();
    (report["start"].as_u64().unwrap() as usize, (0..channels).map(each).collect())
}

/// Every sample of a mix is the sum of the tracks' at its position. Where one of
/// them begins or ends it comes in and goes within 80 samples.
#[track_caller]
fn assert_sum(mix: (usize, &[i16]), tracks: &[(usize, &[i16])]) {
    let edge = |pos: usize| {
        tracks.iter().any(|(start, samples)| {
            let end = start + samples.len();
            (*start..start + 80).contains(&pos) || (end - 80..end).contains(&pos)
        })
    };
    let mut summed = 0;
    for (pos, mixed) in (mix.0..).zip(mix.1) {
        let said = tracks.iter().filter_map(|(start, it)| it.get(pos.checked_sub(*start)?));
        if !edge(pos) {
            assert_eq!(*mixed, said.sum::<i16>(), "at {pos}");
            summed += 1;
        }
    }
    assert!(summed > 55_000, "{summed} samples");
}

#[tokio::test]
async fn a_mix_is_the_sum_of_the_tracks_and_left_and_right_are_roles() {
    let rig = Rig::start().await;
    let folder = tempfile::tempdir().unwrap();
    let to = format!("{}/", folder.path().display());
    let listen = ["listen", "42", "--wav", &to, "--until-closed", "--drop=0.2", "--json"];
    let mut listener = rig.gateway(&listen);
    listener.prints("\"listening\"", PATIENCE).await;
    let call = r#"--mix={"name":"call","channels":[{"roles":["host"]},{"roles":["guest"]}]}"#;
    let submit = [
        "submit",
        "--room=42",
        "--sdk=sim",
        "--param=participants=3",
        "--param=source=tone",
        "--param=seconds=4",
        "--mix=all",
        call,
        "--wait",
    ];
    rig.run(&submit).await;
    let status = listener.ended(PATIENCE).await;
    assert!(status.success(), "{status}\n{}", listener.stderr());
    let users = ["user-0", "user-1", "user-2"].map(|user| heard_in(folder.path(), user));
    let users: Vec<_> = users.iter().map(|(start, one)| (*start, &one[0][..])).collect();
    let (start, all) = heard_in(folder.path(), "all");
    assert_eq!(all.len(), 1);
    assert_sum((start, &all[0]), &users);
    let (start, call) = heard_in(folder.path(), "call");
    assert_eq!(call.len(), 2);
    assert_sum((start, &call[0]), &users[..1]);
    assert_sum((start, &call[1]), &users[1..]);
    rig.assert_no_errors();
}

#[tokio::test]
async fn a_room_may_be_its_mix_alone() {
    let rig = Rig::start().await;
    let gateway = Gateway::connect(&BusOptions::plain(&rig.server.url())).await.unwrap();
    let mut listener =
        gateway.listen(&"r".parse().unwrap(), ListenOptions::default()).await.unwrap();
    let submit = [
        "submit",
        "--room=r",
        "--sdk=sim",
        "--param=participants=2",
        "--param=source=tone",
        "--param=seconds=3",
        "--mix=all",
        "--only-mix",
        "--batch-frames=2",
    ];
    rig.run(&submit).await;
    let mut audio = 0;
    within("end of the mix", PATIENCE, async {
        loop {
            let heard = listener.next().await.unwrap();
            assert_eq!(heard.track.as_str(), "all");
            match heard.what {
                Sounds::Batch(delivered) => audio += delivered.batch.pcm.len() / 2,
                Sounds::Closed(_) => break,
                _ => (),
            }
        }
    })
    .await;
    assert!(audio > 40_000, "{audio} samples");
    rig.assert_no_errors();
}

#[tokio::test]
async fn a_cancelled_task_closes_its_tracks() {
    let rig = Rig::start().await;
    let mut listener = rig.gateway(&["listen", "42", "--until-closed"]);
    let submit = ["submit", "--room=42", "--sdk=sim", "--id=call", "--param=source=tone"];
    rig.run(&submit).await;
    listener.prints("is heard", PATIENCE).await;
    let cancelled = rig.run(&["cancel", "call", "--reason=enough", "--wait"]).await;
    assert!(cancelled.contains("cancelled"), "{cancelled}");
    let status = listener.ended(PATIENCE).await;
    assert!(status.success(), "{status}\n{}", listener.stderr());
    listener.prints("closed (last)", PATIENCE).await;
    rig.assert_no_errors();
}

/// A listener's ear for ramps: what each track must say next.
#[derive(Default)]
struct Ramps(BTreeMap<String, (u64, u16)>);

impl Ramps {
    /// Takes in what was heard; all audio must run on.
    fn take(&mut self, heard: &Heard) {
        match &heard.what {
            Sounds::Batch(delivered) => {
                let batch = &delivered.batch;
                let samples =
                    batch.pcm.chunks_exact(2).map(|two| u16::from_le_bytes([two[0], two[1]]));
                let track = self.0.entry(heard.track.to_string());
                let (heard_so_far, next) = track.or_insert((0, samples.clone().next().unwrap()));
                for sample in samples {
                    assert_eq!(sample, *next, "{} after {heard_so_far} samples", heard.track);
                    *next = next.wrapping_add(1);
                    *heard_so_far += 1;
                }
            }
            Sounds::Gap(gap) => panic!("a gap on {}: {gap:?}", heard.track),
            Sounds::Epoch { .. } | Sounds::Closed(_) => panic!("{}: {:?}", heard.track, heard.what),
            Sounds::Opened { .. } => (),
        }
    }

    /// Listens until every track has so many seconds more than now.
    async fn hear(&mut self, listener: &mut Listener, seconds: u64) {
        let goal: Vec<(String, u64)> = self
            .0
            .iter()
            .map(|(track, (heard, _))| (track.clone(), heard + seconds * 16_000))
            .collect();
        within("more of the ramps", PATIENCE, async {
            while goal.iter().any(|(track, goal)| self.0[track].0 < *goal) {
                self.take(&listener.next().await.expect("the listener goes on"));
            }
        })
        .await;
    }
}

/// The server is killed and comes back; the room goes on as if nothing had been.
async fn goes_on_after(away: Duration) {
    let mut rig = Rig::start().await;
    let gateway = Gateway::connect(&BusOptions::plain(&rig.server.url())).await.unwrap();
    let drop = Some(DropOnPurpose { fraction: 0.05, seed: 9, again: false });
    let options = ListenOptions { drop, ..ListenOptions::default() };
    let mut listener = gateway.listen(&"r".parse().unwrap(), options).await.unwrap();
    let spec = br#"{"id":"t","room":"r","sdk":"sim","params":{"participants":3,"source":"ramp"}}"#;
    gateway.submit(&TaskSpec::from_json(spec).unwrap()).await.unwrap();
    let task = TaskId::parse("t").unwrap();
    let before = gateway.wait_for(&task, TaskState::Running, PATIENCE, |_| ()).await.unwrap();
    let mut ramps = Ramps::default();
    within("three tracks", PATIENCE, async {
        while ramps.0.len() < 3 {
            ramps.take(&listener.next().await.unwrap());
        }
    })
    .await;
    ramps.hear(&mut listener, 2).await;
    rig.server.kill();
    lasting(away).await;
    rig.server.restart().await;
    ramps.hear(&mut listener, away.as_secs() + 4).await;
    let after = within("the task", PATIENCE, async {
        loop {
            // The dispatcher finds its way back in its own time.
            if let Ok(view) = gateway.get(&task).await {
                return view;
            }
        }
    })
    .await;
    assert_eq!((after.state, after.epoch), (TaskState::Running, before.epoch));
    let stats = listener.stats();
    assert_eq!((stats.lost, stats.stale_epochs), (0, 0), "{stats:?}");
    // Nearly all: what was thrown away last may still be on its way.
    assert!(stats.recovered > 0 && stats.recovered + 3 >= stats.thrown_away, "{stats:?}");
}

#[tokio::test]
async fn one_second_without_the_server_costs_nothing() {
    goes_on_after(Duration::from_secs(1)).await;
}

#[tokio::test]
async fn eight_seconds_without_the_server_cost_nothing() {
    assert!(Duration::from_secs(8) < limits::RING_AGE);
    goes_on_after(Duration::from_secs(8)).await;
}
