//! What services get from the dispatcher, and what strangers do not.

use std::{collections::BTreeSet, time::Duration};

use audio_gateway::{
    bus::{
        AskError,
        messages::{Cancel, Listed, RefusalCode, Submitted, TaskEvent, TaskView},
        subjects::{self, Submit},
    },
    id::TaskId,
    limits,
    task::{TaskSpec, TaskState},
};
use rustix::process::Signal;

use super::{
    raw::Raw,
    rig::{FakeWorker, Rig, SOON},
    support::{NatsServer, Program, eventually, within},
};

fn spec(json: &str) -> TaskSpec {
    serde_json::from_str(json).unwrap()
}

#[tokio::test]
async fn a_task_is_taken_in_once_shown_listed_and_ended() {
    let rig = Rig::start(&["d1"]).await;
    let json = r#"{"id":"call","room":"42","sdk":"sim","params":{"token":"s3cret"}}"#;
    let first = rig.submit(json).await;
    assert_eq!((first.state, first.epoch.0, first.duplicate), (TaskState::Pending, 0, false));
    assert!(rig.submit(json).await.duplicate);

    let mut raw = Raw::connect(&rig.server).await;
    raw.subscribe("_INBOX.raw.1").await;
    let other = raw.ask("gateway.task.submit", r#"{"id":"call","room":"43","sdk":"sim"}"#).await;
    assert!(other.headers.contains("Nats-Service-Error-Code: 409\r\n"), "{other:?}");
    assert!(other.headers.contains("Nats-Service-Error: task call exists"), "{other:?}");
    assert!(other.payload.contains(r#""error":"conflict""#), "{other:?}");
    let taken = raw.ask("gateway.task.submit", r#"{"room":"42","sdk":"sim"}"#).await;
    assert!(taken.payload.contains("room 42 is served by task call"), "{taken:?}");
    // Nothing but room and sdk is needed, and a fresh id is made.
    let fresh = raw.ask("gateway.task.submit", r#"{"room":"44","sdk":"sim"}"#).await;
    let fresh: Submitted = serde_json::from_str(&fresh.payload).unwrap();
    assert_eq!(fresh.task.as_str().len(), 36);

    let shown = raw.ask("gateway.task.get", r#"{"task":"call"}"#).await;
    assert!(!shown.payload.contains("s3cret"), "{shown:?}");
    let unknown = raw.ask("gateway.task.get", r#"{"task":"other"}"#).await;
    assert!(unknown.headers.contains("Nats-Service-Error-Code: 404"), "{unknown:?}");
    let listed = raw.ask("gateway.task.list", "").await;
    let listed: Listed = serde_json::from_str(&listed.payload).unwrap();
    let ids: BTreeSet<_> = listed.tasks.iter().map(|view| view.task.clone()).collect();
    assert_eq!(ids, BTreeSet::from([first.task, fresh.task]));
    assert!(!listed.truncated);

    let cancel = Cancel { task: TaskId::parse("call").unwrap(), reason: "enough".into() };
    for _ in 0..2 {
        let view: TaskView = rig.link.ask(&subjects::Cancel, &cancel, SOON).await.unwrap();
        assert_eq!((view.state, view.reason.as_str()), (TaskState::Cancelled, "enough"));
    }
    let gone = raw.ask("gateway.task.cancel", r#"{"task":"other"}"#).await;
    assert!(gone.headers.contains("Nats-Service-Error-Code: 404"), "{gone:?}");
}

#[tokio::test]
async fn what_cannot_be_read_is_refused_and_disturbs_nobody() {
    let rig = Rig::start(&["d1"]).await;
    let mut raw = Raw::connect(&rig.server).await;
    raw.subscribe("_INBOX.raw.1").await;
    let long = "x".repeat(5_000);
    for id in ["", ".", "..", "*", ">", "a b", "a.b", &long, "\u{1f600}", "\\u0000", "$JS.API"] {
        for (subject, json) in [
            ("submit", format!(r#"{{"room":"{id}","sdk":"sim"}}"#)),
            ("submit", format!(r#"{{"id":"{id}","room":"42","sdk":"sim"}}"#)),
            ("submit", format!(r#"{{"room":"42","sdk":"{id}"}}"#)),
            ("get", format!(r#"{{"task":"{id}"}}"#)),
            ("cancel", format!(r#"{{"task":"{id}"}}"#)),
            ("list", format!(r#"{{"room":"{id}"}}"#)),
        ] {
            let answer = raw.ask(&format!("gateway.task.{subject}"), &json).await;
            assert!(answer.headers.contains("Error-Code: 400\r\n"), "{subject} {json}: {answer:?}");
            assert!(answer.payload.len() < 1_000, "{answer:?}");
        }
    }
    let deep = "[".repeat(60_000);
    let many = format!(r#"{{"room":"42","sdk":"sim","params":{{"x":"{}"}}}}"#, "y".repeat(70_000));
    for json in ["", "{", "null", "[]", "\"\"", &deep, &many, r#"{"room":"42","sdk":"sim","x":1}"#]
    {
        let answer = raw.ask("gateway.task.submit", json).await;
        assert!(answer.headers.contains("Error-Code: 400\r\n"), "{answer:?}");
    }
    assert_eq!(rig.submit(r#"{"room":"42","sdk":"sim"}"#).await.state, TaskState::Pending);
}

#[tokio::test]
async fn nothing_is_published_where_a_stranger_points() {
    let rig = Rig::start(&["d1"]).await;
    let mut raw = Raw::connect(&rig.server).await;
    raw.subscribe("audio.>").await;
    for subject in ["gateway.task.list", "gateway.task.get", "gateway.admin.leader", "$SRV.PING"] {
        raw.publish(subject, "audio.live.42.user-0", "").await;
    }
    // An answer behind them shows that they were dealt with.
    raw.subscribe("_INBOX.raw.1").await;
    let answer = raw.ask("gateway.admin.workers", "{}").await;
    assert_eq!(answer.subject, "_INBOX.raw.1");
    raw.barrier().await;
}

#[tokio::test]
async fn of_64_submits_at_two_dispatchers_one_creates_the_task() {
    let rig = Rig::start(&["d1", "d2"]).await;
    let spec = spec(r#"{"id":"call","room":"42","sdk":"sim"}"#);
    let asks = (0..64).map(|_| {
        let (link, spec) = (rig.link.clone(), spec.clone());
        tokio::spawn(async move { link.ask(&Submit, &spec, SOON).await.unwrap() })
    });
    let mut created = 0;
    for ask in asks.collect::<Vec<_>>() {
        created += usize::from(!ask.await.unwrap().duplicate);
    }
    assert_eq!(created, 1);
}

#[tokio::test]
async fn too_many_submits_are_told_when_to_come_back() {
    let rig = Rig::start(&["d1"]).await;
    let bad = spec(r#"{"room":"42","sdk":"sim","priority":10}"#);
    let mut limited = None;
    for _ in 0..20 * limits::SUBMITS_BURST {
        match rig.link.ask(&Submit, &bad, SOON).await {
            Err(AskError::Refused(refusal)) if refusal.error == RefusalCode::RateLimited => {
                limited = Some(refusal);
                break;
            }
            Err(AskError::Refused(refusal)) => assert_eq!(refusal.error, RefusalCode::BadRequest),
            other => panic!("{other:?}"),
        }
    }
    // A slow machine may never be too fast.
    if let Some(refusal) = limited {
        assert!((1..=1_000).contains(&refusal.retry_after_ms), "{refusal:?}");
    }
}

#[tokio::test]
async fn a_task_runs_and_its_story_is_told() {
    let rig = Rig::start(&["d1"]).await;
    let mut events = rig.link.subscribe(subjects::TaskEvents::ALL).await.unwrap();
    rig.link.barrier().await.unwrap();
    let worker = FakeWorker::start(&rig.server, "w1").await;
    rig.submit(r#"{"id":"call","room":"42","sdk":"sim"}"#).await;
    rig.becomes("call", TaskState::Running).await;
    let cancel = Cancel { task: TaskId::parse("call").unwrap(), reason: String::new() };
    let _: TaskView = rig.link.ask(&subjects::Cancel, &cancel, SOON).await.unwrap();
    eventually("session that ended", SOON, async || worker.epochs().is_empty().then_some(())).await;
    let mut story = Vec::new();
    while story.last() != Some(&TaskState::Cancelled) {
        let event = within("event", SOON, events.next()).await.unwrap();
        story.push(event.read::<TaskEvent>().unwrap().state);
    }
    use TaskState::*;
    assert_eq!(story, [Pending, Assigned, Running, Cancelled]);
}

#[tokio::test]
async fn it_says_in_one_line_why_it_cannot_work() {
    // A port where just now somebody was and nobody is.
    let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let nobody = Program::new(env!("CARGO_BIN_EXE_dispatcher"))
        .env("NATS_URL", format!("nats://{closed}"))
        .start();
    let server = NatsServer::start().await;
    let bad_id = Program::new(env!("CARGO_BIN_EXE_dispatcher"))
        .args(["--id", "a.b"])
        .env("NATS_URL", server.url())
        .start();
    for (mut program, text) in [(nobody, "is nats-server running there"), (bad_id, "1 to 64")] {
        let status = program.ended(SOON).await;
        assert!(!status.success());
        program.says(text, SOON).await;
    }
}

#[tokio::test]
async fn it_ends_when_it_is_told() {
    let mut rig = Rig::start(&["d1"]).await;
    let mut dispatcher = rig.dispatchers.remove("d1").unwrap();
    dispatcher.signal(Signal::TERM);
    assert!(dispatcher.ended(Duration::from_secs(5)).await.success());
    assert!(dispatcher.errors().is_empty(), "{:?}", dispatcher.errors());
}
