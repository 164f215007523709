//! Ten times as many submits as are let in: each is answered, those beyond the
//! limit with when to come back, and nobody else notices.

use std::time::Instant;

use audio_gateway::{
    bus::messages::{Refusal, RefusalCode},
    limits,
    task::TaskState,
};

use super::{
    raw::Raw,
    rig::{FakeWorker, Rig},
};

const FLOOD: u32 = 3_000;

#[tokio::test]
async fn a_flood_from_one_connection_is_refused_and_others_are_served() {
    let rig = Rig::start(&["d1"]).await;
    let _worker = FakeWorker::start(&rig.server, "w1").await;
    rig.submit(r#"{"id":"before","room":"before","sdk":"sim"}"#).await;
    let before = rig.becomes("before", TaskState::Running).await;

    let mut hog = Raw::connect(&rig.server).await;
    hog.subscribe("_INBOX.hog.*").await;
    hog.barrier().await;
    let begun = Instant::now();
    for number in 0..FLOOD {
        let task = format!(r#"{{"id":"f{number}","room":"f{number}","sdk":"none"}}"#);
        hog.publish("gateway.task.submit", &format!("_INBOX.hog.{number}"), &task).await;
    }
    // In the middle of it somebody else is taken in at once, and served.
    rig.submit(r#"{"id":"polite","room":"polite","sdk":"sim"}"#).await;
    rig.becomes("polite", TaskState::Running).await;

    let (mut taken, mut refused) = (0, 0);
    for _ in 0..FLOOD {
        let message = hog.next().await;
        match serde_json::from_str::<Refusal>(&message.payload) {
            Ok(refusal) => {
                assert_eq!(refusal.error, RefusalCode::RateLimited, "{refusal}");
                assert!(message.headers.contains("Nats-Service-Error-Code: 429"), "{message:?}");
                assert!((1..=1_000).contains(&refusal.retry_after_ms), "{refusal:?}");
                refused += 1;
            }
            Err(_) => taken += 1,
        }
    }
    let seconds = u32::try_from(begun.elapsed().as_secs()).unwrap() + 1;
    let most = limits::SUBMITS_PER_CALLER_BURST + seconds * limits::SUBMITS_PER_CALLER_S;
    assert!(taken > 0 && taken <= most, "{taken} taken in {seconds} s");
    // A slow machine may send more slowly than the limit.
    assert!(refused > 0 || seconds > 10, "{refused} refused in {seconds} s");

    let after = rig.becomes("before", TaskState::Running).await;
    assert_eq!((after.epoch, after.changed_ms), (before.epoch, before.changed_ms));
}
