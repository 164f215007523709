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

use audio_gateway::audio::{Batch, FLAG_LAST};
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, BufReader},
    process::ChildStdout,
};

use support::{Direction, Loss, NatsServer, Proxy, within};
use worker::{FakeWorker, batch, ramp, room, track};

const PATIENCE: Duration = Duration::from_secs(120);

/// asr_feed.py of `r`, track `ann`.
fn feed(url: &str) -> tokio::process::Child {
    feed_with(url, &[])
}

fn feed_with(url: &str, more: &[&str]) -> tokio::process::Child {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/clients/python/examples/asr_feed.py");
    tokio::process::Command::new("python3")
        .args([script, "r", "--track", "ann", "--server", url])
        .args(more)
        .env("PYTHONPATH", python_path())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap()
}

/// Says batch 0 again and again, until it is heard.
async fn first_sound(worker: &FakeWorker, out: &mut ChildStdout) -> Vec<u8> {
    let mut pcm = vec![0; ramp(0).len()];
    within("first sound", PATIENCE, async {
        let mut pace = tokio::time::interval(Duration::from_millis(20));
        let heard = out.read_exact(&mut pcm);
        tokio::pin!(heard);
        loop {
            tokio::select! {
                read = &mut heard => break read.unwrap(),
                _ = pace.tick() => {
                    worker.say(&room("r"), &track("ann"), 1, 0, batch(1, 0, 0)).await;
                }
            }
        }
    })
    .await;
    pcm
}

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
    let mut feed = feed(&proxy.url());
    let mut out = feed.stdout.take().unwrap();
    let mut errors = BufReader::new(feed.stderr.take().unwrap()).lines();
    let (r, ann) = (room("r"), track("ann"));
    let mut pcm = first_sound(&worker, &mut out).await;
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
        // The last batch is lost, and no later one shows it.
        proxy.lose(Direction::Down, "audio.live.r.ann", Loss::Share { share: 1.0, seed: 5 });
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

#[tokio::test]
async fn a_recogniser_hears_no_seam_where_the_room_goes_to_another_worker() {
    let server = NatsServer::start().await;
    let proxy = Proxy::to(server.addr()).await;
    let old = FakeWorker::start(&server.url()).await;
    let new = FakeWorker::start(&server.url()).await;
    let mut feed = feed(&proxy.url());
    let mut out = feed.stdout.take().unwrap();
    let mut errors = BufReader::new(feed.stderr.take().unwrap()).lines();
    let mut pcm = first_sound(&old, &mut out).await;
    // Every fifth is lost, and never two in a row.
    let lost = (0..200).filter(|at| at % 5 == 1).collect();
    proxy.lose(Direction::Down, "audio.live.>", Loss::Nth(lost));
    let (r, ann) = (room("r"), track("ann"));
    let speak = async {
        let mut pace = tokio::time::interval(Duration::from_millis(20));
        for at in 1..=80_u64 {
            pace.tick().await;
            if at <= 50 {
                let flags = if at == 50 { FLAG_LAST } else { 0 };
                old.say(&r, &ann, 1, at, batch(1, at, flags)).await;
            }
            if at >= 30 {
                // The other begins four slots before a batch of the first.
                let flags = if at == 80 { FLAG_LAST } else { 0 };
                let whole = Batch::decode(&batch(2, at, flags)).unwrap();
                let pos = at * 3_200 - 4 * 320;
                let samples = (pos..pos + 3_200).flat_map(|it| (it as u16).to_le_bytes());
                let moved = Batch { seq: at - 30, pos, pcm: samples.collect(), ..whole };
                let payload = moved.encode(&mut bytes::BytesMut::new());
                if at == 80 {
                    proxy.lose_nothing();
                }
                new.say(&r, &ann, 2, at - 30, payload).await;
            }
        }
    };
    let listen = within("end of the track", PATIENCE, out.read_to_end(&mut pcm));
    let (read, ()) = tokio::join!(listen, speak);
    read.unwrap();
    let status = within("end", PATIENCE, feed.wait()).await.unwrap();
    let said = within("its words", PATIENCE, errors.next_line()).await.unwrap();
    assert!(status.success() && said.is_none(), "{status} {said:?}");
    let mut want: Vec<u8> = (0..=80).flat_map(ramp).collect();
    want.truncate(want.len() - 4 * 640);
    assert_eq!(pcm.len(), want.len());
    assert!(pcm == want, "samples differ");
}

#[tokio::test]
async fn a_recogniser_that_comes_late_hears_what_was_said_before() {
    let server = NatsServer::start().await;
    let worker = FakeWorker::start(&server.url()).await;
    let (r, ann) = (room("r"), track("ann"));
    for seq in 0..60 {
        worker.keep(&r, &ann, 1, seq, batch(1, seq, 0));
    }
    // Four seconds and a tenth: half of the first batch of them is not wanted.
    let mut feed = feed_with(&server.url(), &["--from", "4.1"]);
    let mut out = feed.stdout.take().unwrap();
    let mut pcm = vec![0; 2 * 3_200];
    let mut seq = 60;
    within("first sound", PATIENCE, async {
        let mut pace = tokio::time::interval(Duration::from_millis(100));
        let heard = out.read_exact(&mut pcm);
        tokio::pin!(heard);
        loop {
            tokio::select! {
                read = &mut heard => break read.unwrap(),
                _ = pace.tick() => {
                    worker.say(&r, &ann, 1, seq, batch(1, seq, 0)).await;
                    seq += 1;
                }
            }
        }
    })
    .await;
    worker.say(&r, &ann, 1, seq, batch(1, seq, FLAG_LAST)).await;
    within("end of the track", PATIENCE, out.read_to_end(&mut pcm)).await.unwrap();
    assert!(within("end", PATIENCE, feed.wait()).await.unwrap().success());
    let all: Vec<u8> = (0..=seq).flat_map(ramp).collect();
    assert!(all.ends_with(&pcm), "samples differ");
    // Where it came in is not known to the batch.
    let before = pcm.len() / 2 / 320;
    assert!(before >= 205 + 10 && before <= 205 + 10 * (seq as usize - 58), "{before} slots");
}

#[tokio::test]
async fn what_was_damaged_on_its_way_is_asked_for_again() {
    const BATCHES: u64 = 40;
    let server = NatsServer::start().await;
    let worker = FakeWorker::start(&server.url()).await;
    let mut feed = feed(&server.url());
    let mut out = feed.stdout.take().unwrap();
    let (r, ann) = (room("r"), track("ann"));
    let mut pcm = first_sound(&worker, &mut out).await;
    for seq in 1..BATCHES {
        let whole = batch(1, seq, 0);
        worker.keep(&r, &ann, 1, seq, whole.clone());
        // One bit of it, somewhere else in each: in its keys, its numbers, its samples.
        let (mut damaged, at) = (whole.to_vec(), (seq as usize * 7_919) % (whole.len() * 8));
        let at = if seq % 3 == 0 { at } else { at % 800 };
        damaged[at / 8] ^= 1 << (at % 8);
        worker.link.publish_bytes("audio.live.r.ann".to_owned(), damaged.into()).await.unwrap();
    }
    worker.say(&r, &ann, 1, BATCHES, batch(1, BATCHES, FLAG_LAST)).await;
    within("end of the track", PATIENCE, out.read_to_end(&mut pcm)).await.unwrap();
    assert!(within("end", PATIENCE, feed.wait()).await.unwrap().success());
    let want: Vec<u8> = (0..=BATCHES).flat_map(ramp).collect();
    assert_eq!(pcm.len(), want.len());
    assert!(pcm == want, "samples differ");
}
