//! The buckets are deleted or emptied under rooms that run.

use std::time::Duration;

use audio_gateway::task::TaskState;

use super::{
    rig::{FakeWorker, Rig, SOON},
    support::{eventually, lasting},
};

/// Longer than a session that nobody knows is let go on.
const SETTLED: Duration = Duration::from_secs(4);

const STREAMS: [&str; 4] =
    ["KV_gateway_tasks", "KV_gateway_rooms", "KV_gateway_leases", "GATEWAY_EVENTS"];

/// Asks JetStream to do something to a stream.
async fn order(rig: &Rig, verb: &str, stream: &str) {
    let subject = format!("$JS.API.STREAM.{verb}.{stream}");
    let answer = rig.link.ask_bytes(&subject, "".into(), SOON).await.unwrap();
    let answer = String::from_utf8(answer.to_vec()).unwrap();
    assert!(answer.contains(r#""success":true"#), "{verb} {stream}: {answer}");
}

async fn rooms_go_on_after(verb: &str, streams: &[&str]) {
    let rig = Rig::start(&["d1", "d2"]).await;
    let worker = FakeWorker::start(&rig.server, "w1").await;
    for room in 0..5 {
        rig.submit(&format!(r#"{{"id":"t{room}","room":"r{room}","sdk":"sim"}}"#)).await;
    }
    for room in 0..5 {
        rig.becomes(&format!("t{room}"), TaskState::Running).await;
    }
    let before = worker.epochs();
    for stream in streams {
        order(&rig, verb, stream).await;
    }
    eventually("buckets that are made anew", SOON, async || {
        for stream in streams {
            let subject = format!("$JS.API.STREAM.INFO.{stream}");
            let info = rig.link.ask_bytes(&subject, "".into(), SOON).await.ok()?;
            let info: serde_json::Value = serde_json::from_slice(&info).ok()?;
            let least = if stream.starts_with("KV_gateway_t") { 5 } else { 0 };
            (info["state"]["messages"].as_u64()? >= least).then_some(())?;
        }
        Some(())
    })
    .await;
    lasting(SETTLED).await;
    assert_eq!(worker.epochs(), before, "no room was touched");
    for room in 0..5 {
        let view = rig.becomes(&format!("t{room}"), TaskState::Running).await;
        assert!(before.contains(&view.epoch), "{view:?}");
    }
    // And all goes on as ever, under epochs that rise.
    rig.submit(r#"{"id":"new","room":"new","sdk":"sim"}"#).await;
    let new = rig.becomes("new", TaskState::Running).await;
    assert!(before.iter().all(|epoch| *epoch < new.epoch));
    for dispatcher in rig.dispatchers.values() {
        assert!(dispatcher.errors().is_empty(), "{:?}", dispatcher.errors());
    }
}

#[tokio::test]
async fn rooms_outlive_the_store_that_knows_of_them() {
    rooms_go_on_after("DELETE", &STREAMS).await;
}

#[tokio::test]
async fn rooms_outlive_buckets_that_are_emptied() {
    rooms_go_on_after("PURGE", &STREAMS[..2]).await;
}

#[tokio::test]
async fn events_are_kept_again_after_their_stream_was_deleted() {
    let rig = Rig::start(&["d1"]).await;
    order(&rig, "DELETE", "GATEWAY_EVENTS").await;
    rig.submit(r#"{"id":"t","room":"r","sdk":"sim"}"#).await;
    eventually("an event that is kept", SOON, async || {
        let subject = "$JS.API.STREAM.INFO.GATEWAY_EVENTS";
        let info = rig.link.ask_bytes(subject, "".into(), SOON).await.ok()?;
        let info: serde_json::Value = serde_json::from_slice(&info).ok()?;
        (info["state"]["messages"].as_u64()? >= 1).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_task_that_was_forgotten_and_comes_again_stays_where_it_runs() {
    let mut rig = Rig::start(&["d1"]).await;
    let worker = FakeWorker::start(&rig.server, "w1").await;
    let same = r#"{"id":"same","room":"r1","sdk":"sim"}"#;
    rig.submit(same).await;
    rig.submit(r#"{"id":"other","room":"r2","sdk":"sim"}"#).await;
    let was = rig.becomes("same", TaskState::Running).await;
    let other = rig.becomes("other", TaskState::Running).await;
    // Nobody who knows of them is there while their bucket is lost.
    rig.dispatchers.get_mut("d1").unwrap().kill();
    order(&rig, "DELETE", STREAMS[0]).await;
    // The next one answers before it leads: the lease of the last still stands.
    rig.dispatcher("d2").await;
    rig.submit(same).await;
    rig.submit(r#"{"id":"other","room":"r2","sdk":"sim","pull":{"batch_frames":2}}"#).await;
    let now = rig.becomes("same", TaskState::Running).await;
    assert_eq!((now.epoch, now.worker), (was.epoch, was.worker));
    let now = rig.becomes("other", TaskState::Running).await;
    assert!(now.epoch > other.epoch, "it began anew as what it is now: {now:?}");
    lasting(SETTLED).await;
    let epochs = worker.epochs();
    assert_eq!(epochs.len(), 2, "{epochs:?}");
    assert!(epochs.contains(&was.epoch) && epochs.contains(&now.epoch), "{epochs:?}");
    assert_eq!(rig.dispatchers["d2"].errors(), Vec::<String>::new());
}
