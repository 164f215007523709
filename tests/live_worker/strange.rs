//! What strangers send: nothing of it disturbs anybody else.

use std::collections::BTreeSet;

use audio_gateway::{
    bus::{
        AskError,
        subjects::{self, Lane, Topic, WorkerAssign, WorkerRevoke},
    },
    id::TrackId,
};
use serde_json::json;

use crate::rig::{Ear, Rig, SOON, next};

#[tokio::test]
async fn users_of_any_name_have_tracks_of_their_own() {
    let long = "u".repeat(5_000);
    let users = ["..", "*", ">", "a b", "a.b", "\u{1f600}", "a\0b", "=YSBi", &long];
    let rig = Rig::start().await;
    let mut heard = rig.media.subscribe(&subjects::all_tracks(Lane::Live)).await.unwrap();
    rig.media.barrier().await.unwrap();
    let verdict = rig.assign("odd", 1, json!({"source": "tone", "users": users})).await;
    assert!(verdict.accepted, "{}", verdict.reason);
    let mut seen = BTreeSet::new();
    while seen.len() < users.len() {
        let (subject, batch) = next(&mut heard).await;
        assert!(users.contains(&batch.user.as_str()), "{:?}", batch.user);
        assert_eq!(subject, format!("audio.live.odd.{}", TrackId::of_user(&batch.user)));
        seen.insert(batch.user);
    }
}

#[tokio::test]
async fn requests_that_are_none_are_refused_and_the_room_goes_on() {
    let rig = Rig::start().await;
    let mut heard = rig.listen("calm").await;
    rig.assign("calm", 1, json!({"source": "ramp"})).await;
    let mut ear = Ear::default();
    let bomb = [0xdd, 0xff, 0xff, 0xff, 0xff].repeat(1_000);
    let deep = "[".repeat(100_000);
    let odd = json!({"task": "a.b", "room": "a.b", "epoch": 1, "sdk": "sim", "origin_us": 0});
    let payloads =
        [bomb, deep.into_bytes(), Vec::new(), b"{}".to_vec(), odd.to_string().into_bytes()];
    for subject in [WorkerAssign(rig.id.clone()).subject(), WorkerRevoke(rig.id.clone()).subject()]
    {
        for payload in &payloads {
            let answer = rig.control.ask_bytes(&subject, payload.clone().into(), SOON).await;
            assert!(matches!(answer, Err(AskError::Refused(_))), "{answer:?}");
        }
    }
    for subject in ["audio.nack.calm.user-0", "audio.nack.calm.", "audio.live.calm.user-9"] {
        for payload in &payloads {
            rig.media.publish_bytes(subject.to_owned(), payload.clone().into()).await.unwrap();
        }
    }
    while ear.audio() < 100 {
        let message = heard.next().await.unwrap();
        if message.subject().ends_with("user-0") {
            ear.hear(&audio_gateway::audio::Batch::decode(message.payload()).unwrap());
        }
    }
    assert_eq!(rig.worker.errors(), Vec::<String>::new());
}
