//! How sessions, adapters and the worker itself come and go.

use std::time::Duration;

use audio_gateway::{
    audio::SlotState,
    bus::{
        messages::{Heartbeat, SessionState},
        subjects::{Topic, WorkerHeartbeat},
    },
    id::AdapterName,
    task::Epoch,
};
use rustix::process::Signal;
use serde_json::json;

use crate::{
    rig::{Ear, Rig, SOON, assignment, next},
    support::{Program, eventually, within},
};

#[tokio::test]
async fn a_worker_that_is_killed_leaves_no_adapter() {
    let mut rig = Rig::start().await;
    let params = json!({"source": "tone", "ignore_sigterm": true});
    for index in 0..5 {
        rig.assign(&format!("kill-{index}"), 1, params.clone()).await;
    }
    for index in 0..5 {
        rig.state(&format!("kill-{index}"), SessionState::Running).await;
    }
    assert_eq!(rig.adapters(), 5);
    rig.worker.kill();
    eventually("end of all adapters", Duration::from_secs(1), async || {
        (rig.adapters() == 0).then_some(())
    })
    .await;
}

#[tokio::test]
async fn an_adapter_that_crashes_is_started_again_and_its_tracks_go_on() {
    let rig = Rig::start().await;
    let mut heard = rig.listen("crash").await;
    let params = json!({"source": "ramp", "crash_after_s": 1.0});
    rig.assign("crash", 4, params).await;
    let mut ear = Ear::default();
    while ear.audio() < 90 {
        let (_, batch) = next(&mut heard).await;
        assert_eq!(batch.epoch, 4);
        ear.hear(&batch);
    }
    assert!(ear.slots[&SlotState::Absent] > 0, "{:?}", ear.slots);
    assert_eq!(rig.report("crash").await.unwrap().state, SessionState::Running);

    // It goes on crashing until it is too often.
    let report = rig.state("crash", SessionState::Failed).await;
    assert!(report.reason.contains("keeps failing"), "{}", report.reason);
    assert_eq!(report.epoch, Epoch(4));
}

#[tokio::test]
async fn a_room_that_ends_is_done() {
    let rig = Rig::start().await;
    rig.assign("short", 1, json!({"source": "tone", "seconds": 0.5})).await;
    let report = rig.state("short", SessionState::Done).await;
    assert!(!report.reason.is_empty());
    // It is told until the dispatcher has taken note.
    rig.revoke("short", 1).await;
    assert_eq!(rig.report("short").await, None);
}

#[tokio::test]
async fn what_cannot_be_served_is_refused_or_fails_with_the_reason() {
    let rig = Rig::start().await;
    let mut unknown = assignment("bad", 1, json!({}));
    unknown.sdk = AdapterName::parse("zoom").unwrap();
    let verdict = rig.give(&unknown).await;
    assert!(!verdict.accepted && !verdict.fatal && verdict.reason.contains("zoom"));
    // The simulated room reads its params itself.
    assert!(rig.assign("bad", 1, json!({"participants": "many"})).await.accepted);
    let report = rig.state("bad", SessionState::Failed).await;
    assert!(report.reason.contains("participants"), "{}", report.reason);
    let again = rig.assign("bad", 1, json!({})).await;
    assert!(!again.accepted && again.reason.contains("is known"), "{}", again.reason);
}

#[tokio::test]
async fn heartbeats_tell_of_load_and_sessions_and_a_leaving_worker_gives_its_rooms_back() {
    let mut rig = Rig::start().await;
    let beats = WorkerHeartbeat(rig.id.clone()).subject();
    let mut beats = rig.control.subscribe(&beats).await.unwrap();
    rig.control.barrier().await.unwrap();
    rig.assign("beat", 2, json!({"source": "tone"})).await;
    let mut beat = async |what: &str, want: fn(&Heartbeat) -> bool| {
        loop {
            let message = within(what, SOON, beats.next()).await.unwrap();
            let beat: Heartbeat = message.read().unwrap();
            if want(&beat) {
                return beat;
            }
        }
    };
    let running = |beat: &Heartbeat| {
        beat.sessions.first().is_some_and(|session| session.state == SessionState::Running)
    };
    let first = beat("running session", running).await;
    assert_eq!(first.worker, rig.id);
    assert!(first.adapters.iter().any(|name| name.as_str() == "sim"));
    assert!(first.load.cores > 0.0 && first.load.memory > 0 && first.load.sessions_max > 0);
    let next = beat("next heartbeat", |_| true).await;
    assert_eq!((next.boot, next.seq > first.seq), (first.boot, true));

    rig.worker.signal(Signal::TERM);
    beat("heartbeat without sessions", |beat| beat.sessions.is_empty()).await;
    let status = rig.worker.ended(SOON).await;
    assert!(status.success(), "{status}");
    assert_eq!(rig.adapters(), 0);
}

#[tokio::test]
async fn a_second_worker_of_the_same_name_does_not_start() {
    let rig = Rig::start().await;
    let mut twin = Program::new(env!("CARGO_BIN_EXE_worker"))
        .args(["--id", "w1"])
        .env("NATS_URL", rig.server.url())
        .start();
    twin.says("runs already", SOON).await;
    assert!(!twin.ended(SOON).await.success());
}
