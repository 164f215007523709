//! One task's whole story with its reasons, long after it happened.

use std::process::Stdio;

use tokio::io::{AsyncBufReadExt, BufReader};

use crate::{
    rig::{Rig, SOON},
    support::within,
};

#[tokio::test]
async fn a_task_that_moved_and_ended_has_a_story() {
    let mut rig = Rig::start(&["d1", "w1"]).await;
    rig.runs("call", "r").await;
    rig.program("w2").await;
    rig.programs.get_mut("w1").unwrap().kill();
    let moved =
        |said: &[serde_json::Value]| said[0]["worker"] == "w2" && said[0]["state"] == "running";
    rig.until("another worker", &["get", "call"], moved).await;
    let cancelled = rig.run(&["cancel", "call", "--reason", "the call is over"]).await;
    assert_eq!(cancelled.code, 0, "{}", cancelled.err);
    rig.runs("other", "r2").await;

    let told = |said: &[serde_json::Value]| said.last().is_some_and(|e| e["state"] == "cancelled");
    let events = rig.until("the end", &["events", "call", "--since"], told).await;
    let states: Vec<_> = events.iter().map(|event| event["state"].as_str().unwrap()).collect();
    let mut rest = states.iter();
    for state in ["pending", "assigned", "running", "pending", "assigned", "running", "cancelled"] {
        assert!(rest.any(|said| *said == state), "{state} is not in its place: {states:?}");
    }
    assert!(events.iter().all(|event| event["task"] == "call" && event["by"] == "dispatcher:d1"));
    let reasons: Vec<_> = events.iter().filter_map(|event| event["reason"].as_str()).collect();
    assert!(reasons.contains(&"worker w1 is gone"), "{reasons:?}");
    assert_eq!(reasons.last(), Some(&"the call is over"));
    let epochs: Vec<_> = events.iter().map(|event| event["epoch"].as_u64().unwrap()).collect();
    assert!(epochs.is_sorted(), "{epochs:?}");

    // Of all tasks, and of nothing so young; a line each.
    let all = rig.json(&["events", "--since=1h"]).await;
    assert!(all.iter().any(|event| event["task"] == "other") && all.len() > events.len());
    let none = rig.run(&["events", "nobody", "--since"]).await;
    assert_eq!((none.code, none.out.as_str()), (0, ""), "{}", none.err);
}

#[tokio::test]
async fn a_story_goes_on_while_it_is_followed() {
    let rig = Rig::start(&["d1", "w1"]).await;
    rig.runs("call", "r").await;
    let mut follow = tokio::process::Command::new(env!("CARGO_BIN_EXE_gateway"))
        .args(["events", "call", "--since", "--follow", "--json"])
        .env("NATS_URL", rig.server.url())
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(follow.stdout.take().unwrap()).lines();
    let mut until = async |state: &str| {
        within(state, SOON, async {
            loop {
                let line = lines.next_line().await.unwrap().expect("it goes on");
                let event: serde_json::Value = serde_json::from_str(&line).unwrap();
                if event["state"] == state {
                    return;
                }
            }
        })
        .await;
    };
    until("pending").await;
    until("running").await;
    assert_eq!(rig.run(&["cancel", "call"]).await.code, 0);
    until("cancelled").await;
}

#[tokio::test]
async fn where_nothing_is_kept_that_is_said() {
    let rig = Rig::start(&[]).await;
    let said = rig.run(&["events", "--since=1h"]).await;
    assert_eq!((said.code, said.out.as_str()), (6, ""));
    assert!(said.err.contains("GATEWAY_EVENTS"), "{}", said.err);
}
