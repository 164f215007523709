//! Everything but `listen`.

use std::process::Stdio;

use audio_gateway::task::TaskState;
use serde_json::json;

use crate::{
    PATIENCE, Said,
    dispatcher::FakeDispatcher,
    gateway, run,
    support::{NatsServer, within},
};

/// No server is there, and none is looked for.
const NOWHERE: &str = "nats://nowhere.invalid";

#[tokio::test]
async fn a_server_that_is_not_there_is_named() {
    // A port that was free a moment ago.
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let url = format!("nats://{port}");
    let said = run(&url, &["list"]).await;
    assert_eq!((said.code, said.out.as_str()), (6, ""));
    assert_eq!(said.err.lines().count(), 1, "{}", said.err);
    for part in [url.as_str(), "is nats-server running", "NATS_URL"] {
        assert!(said.err.contains(part), "{}", said.err);
    }
}

#[tokio::test]
async fn wrong_usage_needs_no_server() {
    for (args, part) in [
        (&["submit"][..], "--room"),
        (&["submit", "--room", "a.b", "--sdk", "sim"], "not a token"),
        (&["submit", "--room", "r", "--sdk", "sim", "--param", "x"], "KEY=VALUE"),
        (&["submit", "--room", "r", "--sdk", "sim", "--batch-frames", "51"], "batch_frames"),
        (&["submit", "/dev/null"], "/dev/null"),
        (&["get", "a.b"], "not a token"),
        (&["listen", "*"], "not a token"),
        (&["listen", "r", "--drop", "2"], "--drop"),
        (&["listen", "r", "--raw", "--json"], "--json"),
        (&["listen", "r", "--track", "a", "--track", "b", "--wav", "x.wav"], "folder"),
        (&["list", "--state", "odd"], "pending"),
        (&["list", "--state", "other"], "pending"),
        (&["update", "t"], "--roles"),
        (&["update", "t", "--mix", "[1"], "--mix"),
        (&["update", "t", "--label", "x"], "KEY=VALUE"),
        (&["frobnicate"], "frobnicate"),
    ] {
        let said = run(NOWHERE, args).await;
        assert_eq!(said.code, 2, "{args:?}: {}", said.err);
        assert!(said.err.contains(part), "{args:?}: {}", said.err);
    }
}

#[tokio::test]
async fn completions_and_help_need_no_server() {
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let said = run(NOWHERE, &["completions", shell]).await;
        assert_eq!(said.code, 0);
        assert!(said.out.contains("until-closed"), "{shell}");
    }
    let said = run(NOWHERE, &["--help"]).await;
    assert!(said.code == 0 && said.out.contains("Exit codes"), "{}", said.out);
}

#[tokio::test]
async fn an_exit_code_says_what_became_of_it() {
    let server = NatsServer::start().await;
    let said = run(&server.url(), &["get", "any"]).await;
    assert_eq!(said.code, 6, "{}", said.err);
    assert!(said.err.contains("nobody answers on gateway.task.get"), "{}", said.err);
    let _dispatcher = FakeDispatcher::start(&server.url()).await;
    for (args, code) in [
        (&["get", "any"][..], 0),
        (&["cancel", "any"], 0),
        (&["workers"], 0),
        (&["leader"], 0),
        (&["ping", "dispatcher"], 0),
        (&["ping", "dispatcher", "d1"], 0),
        (&["ping", "dispatcher", "gone"], 6),
        (&["ping", "worker"], 6),
        (&["get", "missing"], 3),
        (&["cancel", "missing"], 3),
        (&["submit", "--room", "r", "--sdk", "sim", "--id", "taken"], 4),
        (&["submit", "--room", "r", "--sdk", "sim", "--id", "busy"], 5),
        (&["submit", "--room", "r", "--sdk", "sim", "--id", "full"], 5),
        (&["get", "silent"], 7),
    ] {
        let said = run(&server.url(), args).await;
        assert_eq!(said.code, code, "{args:?}: {}", said.err);
        assert_eq!(said.err.lines().count(), usize::from(code != 0), "{args:?}: {}", said.err);
    }
}

#[tokio::test]
async fn a_refusal_is_json_for_programs() {
    let server = NatsServer::start().await;
    let _dispatcher = FakeDispatcher::start(&server.url()).await;
    let args = ["--json", "submit", "--room", "r", "--sdk", "sim", "--id", "busy"];
    let said = run(&server.url(), &args).await;
    let error: serde_json::Value = serde_json::from_str(&said.err).unwrap();
    assert_eq!(
        error,
        json!({"error": "rate_limited", "message": "too many tasks a second", "retry_after_ms": 250})
    );
}

#[tokio::test]
async fn a_task_is_made_of_a_file_and_flags() {
    let server = NatsServer::start().await;
    let dispatcher = FakeDispatcher::start(&server.url()).await;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("task.json");
    let params = folder.path().join("params.json");
    std::fs::write(&file, r#"{"room":"x","sdk":"sim","params":{"a":1},"priority":9}"#).unwrap();
    std::fs::write(&params, r#"{"token":"s3cret"}"#).unwrap();
    let args = [
        "submit",
        file.to_str().unwrap(),
        "--room=42",
        "--id=call",
        "--param=participants=3",
        "--param=source=speech",
        "--param=b={\"c\":[true]}",
        "--params",
        params.to_str().unwrap(),
        "--batch-frames=5",
        "--role=host",
        "--mix=all",
        "--mix={\"name\":\"two\",\"channels\":[{\"roles\":[\"a\"]},{}]}",
        "--only-mix",
        "--label=zone=a",
        "--max-duration=2m",
        "--json",
    ];
    let said = run(&server.url(), &args).await;
    assert_eq!((said.code, said.err.as_str()), (0, ""));
    assert_eq!(
        said.json(),
        [json!({"task": "call", "state": "pending", "epoch": 0, "duplicate": false})]
    );
    let spec = dispatcher.submitted.borrow().clone().unwrap();
    assert_eq!(
        serde_json::to_value(&spec).unwrap(),
        json!({
            "id": "call", "room": "42", "sdk": "sim", "priority": 9,
            "params": {"a": 1, "token": "s3cret", "participants": 3, "source": "speech",
                       "b": {"c": [true]}},
            "pull": {"participants": false, "roles": ["host"], "batch_frames": 5, "record": false,
                     "mix": ["all", {"name": "two", "channels": [{"roles": ["a"]}, {}]}]},
            "max_duration_s": 120, "start_within_s": 30, "labels": {"zone": "a"},
        })
    );
}

#[tokio::test]
async fn rows_are_lines_with_tabs_and_json_is_one_a_line() {
    let server = NatsServer::start().await;
    let _dispatcher = FakeDispatcher::start(&server.url()).await;
    let said = run(&server.url(), &["list"]).await;
    let lines: Vec<_> = said.out.lines().collect();
    assert_eq!(lines.len(), 300);
    let first: Vec<_> = lines[0].split('\t').collect();
    assert_eq!(first[..7], ["t0", "r", "sim", "running", "w1", "7", "2000"]);
    // Text from outside neither splits a row nor reaches the terminal as a command.
    assert_eq!(first[7..], ["a reason with a tab and  [31mcolour"]);
    assert!(said.err.contains("there are more"), "{}", said.err);
    let tasks = run(&server.url(), &["list", "--json"]).await.json();
    assert_eq!((tasks.len(), &tasks[7]["task"]), (300, &json!("t7")));
    let leader = run(&server.url(), &["leader"]).await;
    assert_eq!(leader.out, "none\t3\td1\n");
}

#[tokio::test]
async fn a_reader_that_leaves_is_no_error() {
    let server = NatsServer::start().await;
    let _dispatcher = FakeDispatcher::start(&server.url()).await;
    let mut child = gateway(&server.url(), &["list", "--json"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let said: Said = within("end", PATIENCE, child.wait_with_output()).await.unwrap().into();
    assert_eq!((said.code, said.err.as_str()), (0, ""));
}

#[tokio::test]
async fn waiting_shows_the_way_and_ends_as_the_task_does() {
    let server = NatsServer::start().await;
    let dispatcher = FakeDispatcher::start(&server.url()).await;
    let url = server.url();
    let submit = ["submit", "--room=r", "--sdk=sim", "--id=slow", "--json"];
    for (wait, states, code) in [
        ("--wait", &[TaskState::Assigned, TaskState::Starting, TaskState::Running][..], 0),
        ("--wait", &[TaskState::Assigned, TaskState::Failed], 1),
        ("--wait=done", &[TaskState::Running, TaskState::Done], 0),
    ] {
        let args = [&submit[..], &[wait]].concat();
        let mut asked = dispatcher.asked.clone();
        asked.mark_unchanged();
        let (said, ()) = tokio::join!(run(&url, &args), async {
            // It has subscribed by the time it asks.
            within("question", PATIENCE, asked.changed()).await.unwrap();
            for state in states {
                dispatcher.event(*state, 8, "it was so").await;
            }
        });
        assert_eq!(said.code, code, "{wait}: {}", said.err);
        for state in states {
            assert!(said.err.contains(&state.to_string()), "{wait}: {}", said.err);
        }
        if code == 0 {
            assert_eq!(said.json()[0]["state"], states.last().unwrap().to_string());
        } else {
            assert!(said.err.contains("task slow is failed: it was so"), "{}", said.err);
        }
    }
    let args = [&submit[..], &["--wait", "--within=300ms"]].concat();
    let said = run(&server.url(), &args).await;
    assert_eq!(said.code, 7, "{}", said.err);
    assert!(said.err.contains("still pending after 300ms"), "{}", said.err);
}

#[tokio::test]
async fn events_are_followed_as_they_happen() {
    let server = NatsServer::start().await;
    let dispatcher = FakeDispatcher::start(&server.url()).await;
    let url = server.url();
    let mut follow = std::pin::pin!(run(&url, &["events", "slow", "--count=1", "--json"]));
    let mut pace = tokio::time::interval(std::time::Duration::from_millis(50));
    // Sent until one is heard: nobody says when the program listens.
    let said = loop {
        tokio::select! {
            said = &mut follow => break said,
            _ = pace.tick() => {
                dispatcher.event(TaskState::Running, 9, "").await;
            }
        }
    };
    assert_eq!((said.code, &said.json()[0]["epoch"]), (0, &json!(9)));
}
