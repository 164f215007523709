//! `gateway listen`, with a worker that speaks.

use std::{path::Path, process::Stdio, time::Duration};

use audio_gateway::{
    audio::FLAG_LAST,
    bus::messages::RoomNews,
    id::{RoomId, TrackId},
};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, BufReader, Lines},
    process::{Child, ChildStderr, ChildStdout},
};

use crate::{
    PATIENCE, Said, gateway, run,
    support::{NatsServer, within},
    worker::{FakeWorker, batch, ramp, room, track},
};

/// A listener that is known to listen, and a worker.
struct Scene {
    server: NatsServer,
    worker: FakeWorker,
    room: RoomId,
}

impl Scene {
    async fn new() -> Self {
        let server = NatsServer::start().await;
        let worker = FakeWorker::start(&server.url()).await;
        Self { server, worker, room: room("r") }
    }

    fn start(&self, args: &[&str]) -> Child {
        let args = [&["listen", "r"], args].concat();
        gateway(&self.server.url(), &args)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap()
    }

    /// Speaks on a track until the listener says that it heard it: batch 0 again
    /// and again.
    async fn first<R: AsyncRead + Unpin>(
        &self,
        track: &TrackId,
        lines: &mut Lines<BufReader<R>>,
        sign: &str,
    ) {
        let heard = async {
            while let Some(line) = lines.next_line().await.unwrap() {
                if line.contains(sign) {
                    return;
                }
            }
            panic!("it ended before it heard anything");
        };
        tokio::pin!(heard);
        let speak = async {
            let mut pace = tokio::time::interval(Duration::from_millis(20));
            loop {
                pace.tick().await;
                self.worker.say(&self.room, track, 1, 0, batch(1, 0, 0)).await;
            }
        };
        within("first sound", PATIENCE, async {
            tokio::select! {
                () = &mut heard => (),
                () = speak => (),
            }
        })
        .await;
    }

    async fn rest(&self, track: &TrackId, batches: u64) {
        for seq in 1..batches {
            let flags = if seq + 1 == batches { FLAG_LAST } else { 0 };
            self.worker.say(&self.room, track, 1, seq, batch(1, seq, flags)).await;
        }
    }
}

fn lines_of(child: &mut Child) -> Lines<BufReader<ChildStdout>> {
    BufReader::new(child.stdout.take().unwrap()).lines()
}

fn errors_of(child: &mut Child) -> Lines<BufReader<ChildStderr>> {
    BufReader::new(child.stderr.take().unwrap()).lines()
}

async fn ended(mut child: Child) -> i32 {
    within("end", PATIENCE, child.wait()).await.unwrap().code().expect("it was not killed")
}

fn interrupt(child: &Child) {
    let pid = Pid::from_raw(child.id().unwrap().try_into().unwrap()).unwrap();
    kill_process(pid, Signal::INT).unwrap();
}

fn samples(path: &Path) -> Vec<u8> {
    let reader = hound::WavReader::open(path).unwrap();
    let samples = reader.into_samples::<i16>().map(Result::unwrap);
    samples.flat_map(i16::to_le_bytes).collect()
}

fn ramps(batches: u64) -> Vec<u8> {
    (0..batches).flat_map(ramp).collect()
}

#[tokio::test]
async fn samples_go_down_the_pipe_bit_exact() {
    let scene = Scene::new().await;
    let ann = track("ann");
    let mut child = scene.start(&["--raw", "--until-closed"]);
    let mut errors = errors_of(&mut child);
    scene.first(&ann, &mut errors, "s16le, 16000 Hz").await;
    let mut out = child.stdout.take().unwrap();
    let mut pcm = Vec::new();
    let (read, ()) = tokio::join!(out.read_to_end(&mut pcm), scene.rest(&ann, 40));
    read.unwrap();
    assert_eq!(ended(child).await, 0);
    assert!(pcm == ramps(40), "{} bytes", pcm.len());
}

#[tokio::test]
async fn a_pipe_that_closes_ends_it_quietly() {
    let scene = Scene::new().await;
    let ann = track("ann");
    let mut child = scene.start(&["--raw"]);
    let mut errors = errors_of(&mut child);
    scene.first(&ann, &mut errors, "s16le, 16000 Hz").await;
    drop(child.stdout.take());
    scene.worker.say(&scene.room, &ann, 1, 1, batch(1, 1, 0)).await;
    assert_eq!(ended(child).await, 0);
    while let Some(line) = errors.next_line().await.unwrap() {
        assert!(!line.contains("pipe") && !line.contains("rror"), "{line}");
    }
}

#[tokio::test]
async fn an_interrupt_leaves_a_whole_file() {
    let scene = Scene::new().await;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("ann.wav");
    let ann = track("ann");
    let mut child = scene.start(&["--wav", path.to_str().unwrap(), "--drop=0.3", "--json"]);
    let mut lines = lines_of(&mut child);
    scene.first(&ann, &mut lines, "\"opened\"").await;
    // Not the last one: the track goes on.
    for seq in 1..30 {
        scene.worker.say(&scene.room, &ann, 1, seq, batch(1, seq, 0)).await;
    }
    let mut heard = 0;
    while heard < 30 {
        let line = within("batch", PATIENCE, lines.next_line()).await.unwrap().unwrap();
        heard += u64::from(line.contains("\"event\":\"batch\""));
    }
    assert!(!path.exists() && folder.path().join("ann.wav.part").exists());
    interrupt(&child);
    let mut last = String::new();
    while let Some(line) = lines.next_line().await.unwrap() {
        last = line;
    }
    assert_eq!(ended(child).await, 0);
    assert!(samples(&path) == ramps(30));
    let end: Value = serde_json::from_str(&last).unwrap();
    assert_eq!((&end["event"], &end["stats"]["lost"]), (&json!("end"), &json!(0)));
    assert_eq!(end["stats"]["batches"], json!(30));
    assert!(end["stats"]["recovered"].as_u64().unwrap() > 0, "{end}");
    assert_eq!(end["files"][0]["samples"], json!(30 * 3_200));
    let report = std::fs::read(folder.path().join("ann.wav.json")).unwrap();
    let report: Value = serde_json::from_slice(&report).unwrap();
    assert_eq!((&report["gaps"], &report["epochs"]), (&json!([]), &json!([1])));
}

#[tokio::test]
async fn each_track_has_a_file_of_its_own() {
    let scene = Scene::new().await;
    let folder = tempfile::tempdir().unwrap();
    let to = format!("{}/new/", folder.path().display());
    let (ann, odd) = (track("ann"), TrackId::of_user("../b c"));
    let mut child = scene.start(&["--wav", &to, "--until-closed", "--json"]);
    let mut lines = lines_of(&mut child);
    scene.first(&ann, &mut lines, "\"opened\"").await;
    scene.first(&odd, &mut lines, "\"opened\"").await;
    // Both end together, so that one alone is not the end.
    scene.rest(&ann, 9).await;
    scene.rest(&odd, 9).await;
    while lines.next_line().await.unwrap().is_some() {}
    assert_eq!(ended(child).await, 0);
    for track in [&ann, &odd] {
        assert!(samples(Path::new(&format!("{to}{track}.wav"))) == ramps(9), "{track}");
    }
}

#[tokio::test]
async fn a_file_takes_one_track_and_says_so() {
    let scene = Scene::new().await;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("one.wav");
    let (ann, bob) = (track("ann"), track("bob"));
    let mut child = scene.start(&["--wav", path.to_str().unwrap(), "--until-closed"]);
    let mut lines = lines_of(&mut child);
    scene.first(&ann, &mut lines, "is heard").await;
    scene.first(&bob, &mut lines, "only ann is kept, not bob").await;
    scene.rest(&ann, 5).await;
    scene.rest(&bob, 5).await;
    let mut said = String::new();
    while let Some(line) = lines.next_line().await.unwrap() {
        said += &line;
    }
    assert_eq!(ended(child).await, 0);
    assert!(samples(&path) == ramps(5));
    assert!(said.contains("2 tracks, 100 frames in 10 batches"), "{said}");
}

#[tokio::test]
async fn silence_ends_in_time_and_is_not_taken_for_success() {
    let server = NatsServer::start().await;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("none.wav");
    let args = ["listen", "r", "--seconds=0.5", "--wav", path.to_str().unwrap()];
    let said = run(&server.url(), &args).await;
    assert_eq!(said.code, 7, "{}", said.err);
    assert!(said.err.contains("nothing was heard of room r"), "{}", said.err);
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
}

#[tokio::test]
async fn a_stalled_reader_does_not_keep_it_from_leaving() {
    let scene = Scene::new().await;
    let ann = track("ann");
    let mut child = scene.start(&["--raw", "--until-closed"]);
    let mut errors = errors_of(&mut child);
    scene.first(&ann, &mut errors, "s16le, 16000 Hz").await;
    // Far more than a pipe and the program's own buffers hold; nobody reads.
    for seq in 1..600 {
        scene.worker.say(&scene.room, &ann, 1, seq, batch(1, seq, 0)).await;
    }
    interrupt(&child);
    let stdout = child.stdout.take();
    assert_eq!(ended(child).await, 130);
    drop(stdout);
}

#[tokio::test]
async fn what_happens_in_a_room_is_followed() {
    let scene = Scene::new().await;
    let url = scene.server.url();
    let mut follow = std::pin::pin!(run(&url, &["events", "--room=r", "--count=1"]));
    let mut pace = tokio::time::interval(Duration::from_millis(50));
    let said: Said = loop {
        tokio::select! {
            said = &mut follow => break said,
            _ = pace.tick() => {
                let news = RoomNews::ParticipantLeft { user: "a\tb".to_owned() };
                scene.worker.news(&scene.room, 1, news).await;
            }
        }
    };
    assert_eq!(said.code, 0);
    let cells: Vec<_> = said.out.trim_end().split('\t').collect();
    assert_eq!(cells, ["0", "r", "1", r#"{"event":"participant_left","user":"a\tb"}"#]);
}
