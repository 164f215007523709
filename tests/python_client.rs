//! The Python client against a worker and a network that lose batches: what it
//! pipes on is the room's audio, sample for sample.

#![allow(clippy::unwrap_used, reason = "in a test a panic is the answer")]

#[path = "support/mod.rs"]
mod support;
#[path = "live_client/worker.rs"]
#[allow(dead_code, reason = "it plays more than is watched here")]
mod worker;

use std::{
    process::{Command, Stdio},
    time::Duration,
};

use audio_gateway::audio::FLAG_LAST;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader};

use support::{Direction, Loss, NatsServer, Proxy, within};
use worker::{FakeWorker, batch, ramp, room, track};

const PATIENCE: Duration = Duration::from_secs(120);

/// What Python needs, installed where it is not.
fn python_path() -> String {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/scripts/python-env.sh");
    let found = Command::new(script).stderr(Stdio::inherit()).output().unwrap();
    assert!(found.status.success(), "scripts/python-env.sh says why");
    String::from_utf8(found.stdout).unwrap().trim().to_owned()
}

#[tokio::test]
async fn a_recogniser_behind_it_hears_the_room_sample_for_sample() {
    const BATCHES: u64 = 150;
    let server = NatsServer::start().await;
    let proxy = Proxy::to(server.addr()).await;
    let worker = FakeWorker::start(&server.url()).await;
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/clients/python/examples/asr_feed.py");
    let mut feed = tokio::process::Command::new("python3")
        .args([script, "r", "--track", "ann", "--server", &proxy.url()])
        .env("PYTHONPATH", python_path())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let mut out = feed.stdout.take().unwrap();
    let mut errors = BufReader::new(feed.stderr.take().unwrap()).lines();
    let (r, ann) = (room("r"), track("ann"));
    // Batch 0 again and again, until it is heard.
    let mut pcm = vec![0; ramp(0).len()];
    within("first sound", PATIENCE, async {
        let mut pace = tokio::time::interval(Duration::from_millis(20));
        let heard = out.read_exact(&mut pcm);
        tokio::pin!(heard);
        loop {
            tokio::select! {
                read = &mut heard => break read.unwrap(),
                _ = pace.tick() => worker.say(&r, &ann, 1, 0, batch(1, 0, 0)).await,
            }
        }
    })
    .await;
    proxy.lose(Direction::Down, "audio.live.>", Loss::Share { share: 0.2, seed: 5 });
    proxy.lose(Direction::Down, "audio.resend.>", Loss::Nth([0, 1, 2].into()));
    let speak = async {
        worker.ramps(&r, &[ann.clone(), track("bob")], 1..BATCHES).await;
        let last = BATCHES;
        proxy.lose_nothing();
        worker
            .link
            .publish_bytes("audio.live.r.ann".to_owned(), b"garbage".as_slice().into())
            .await
            .unwrap();
        worker.say(&r, &ann, 1, last, batch(1, last, FLAG_LAST)).await;
    };
    let listen = within("end of the track", PATIENCE, out.read_to_end(&mut pcm));
    let (read, ()) = tokio::join!(listen, speak);
    read.unwrap();
    let status = within("end", PATIENCE, feed.wait()).await.unwrap();
    let said = within("its words", PATIENCE, errors.next_line()).await.unwrap();
    assert!(status.success() && said.is_none(), "{status} {said:?}");
    let want: Vec<u8> = (0..=BATCHES).flat_map(ramp).collect();
    assert_eq!(pcm.len(), want.len());
    assert!(pcm == want, "samples differ");
}
