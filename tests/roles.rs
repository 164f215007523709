//! The gateway at work on a server with `nats/server.conf`: each program under
//! its own role, a service and a consumer beside them, and not one operation
//! that the server refuses. What each must not do is tried in `permissions.rs`.

mod support;

use std::{process::ExitStatus, time::Duration};

use rustix::process::Signal;
use serde_json::Value;
use support::{NatsServer, Program, Running, eventually};

const SOON: Duration = Duration::from_secs(60);

/// A program of ours under a role.
fn program(server: &NatsServer, path: &str, role: &str) -> Program {
    Program::new(path)
        // Other tests keep the machine busy; this room is placed all the same.
        .env("WORKER_CORES", "64")
        .env("NATS_URL", server.url())
        .env("NATS_USER", role)
        .env("NATS_PASSWORD", format!("dev-{role}"))
        .env("NATS_INBOX_PREFIX", format!("_INBOX.{role}"))
}

/// Starts a daemon and waits until it is ready.
async fn daemon(server: &NatsServer, path: &str, role: &str, id: &str) -> Running {
    let daemon = program(server, path, role).args(["--id", id]).start();
    daemon.says("ready", SOON).await;
    daemon
}

/// Runs the command line to its end.
async fn gateway(server: &NatsServer, role: &str, args: &[&str]) -> (ExitStatus, String, String) {
    let mut running = program(server, env!("CARGO_BIN_EXE_gateway"), role).args(args).start();
    let status = running.ended(SOON).await;
    (status, running.stdout(), running.stderr())
}

/// As [`gateway`], where it must succeed.
async fn done(server: &NatsServer, role: &str, args: &[&str]) -> String {
    let (status, out, err) = gateway(server, role, args).await;
    assert!(status.success(), "{role}: gateway {args:?}: {status}\n{out}\n{err}");
    out
}

#[tokio::test]
async fn every_role_does_its_work_and_the_server_refuses_nothing() {
    let mut server =
        NatsServer::build().config("nats/server.conf").env_file("nats/dev.env").start().await;
    let dispatcher = daemon(&server, env!("CARGO_BIN_EXE_dispatcher"), "dispatcher", "d1").await;
    let worker = daemon(&server, env!("CARGO_BIN_EXE_worker"), "worker", "w1").await;

    // Each checks its own health, as in docker-compose.yml.
    done(&server, "dispatcher", &["ping", "dispatcher", "d1"]).await;
    done(&server, "worker", &["ping", "worker", "w1"]).await;

    let task = ["--room", "42", "--sdk", "sim", "--id", "call", "--param", "source=ramp"];
    done(&server, "service", &[&["submit"], &task[..], &["--wait"]].concat()).await;
    done(&server, "service", &["get", "call"]).await;
    done(&server, "service", &["list"]).await;

    let hear = ["--json", "listen", "42", "--seconds", "5", "--drop", "0.3"];
    let heard = done(&server, "consumer-42", &hear).await;
    let end: Value = serde_json::from_str(heard.lines().last().expect("an end")).expect("JSON");
    let count = |what: &str| end["stats"][what].as_u64().expect("a number");
    assert!(count("frames") > 100 && count("recovered") > 0, "{end}");
    assert_eq!((count("lost"), count("gaps")), (0, 0), "{end}");

    assert!(done(&server, "operator", &["workers"]).await.contains("w1"));
    assert!(done(&server, "operator", &["leader"]).await.contains("d1"));
    assert!(done(&server, "operator", &["ping", "worker"]).await.contains("w1"));
    done(&server, "operator", &["get", "call"]).await;
    let refused = server.log();
    assert!(!refused.contains("Violation"), "{refused}");

    // What they do when the server was away is allowed as well.
    server.restart().await;
    worker.says("connected", SOON).await;
    eventually("answer after the restart", SOON, async || {
        let (status, ..) = gateway(&server, "operator", &["ping", "worker", "w1"]).await;
        status.success().then_some(())
    })
    .await;
    let heard = done(&server, "consumer-42", &["--json", "listen", "42", "--seconds", "3"]).await;
    assert!(heard.contains("\"frames\""), "{heard}");
    done(&server, "operator", &["cancel", "call"]).await;

    let mut daemons = [dispatcher, worker];
    for daemon in &mut daemons {
        daemon.signal(Signal::TERM);
        assert!(daemon.ended(SOON).await.success(), "{}", daemon.stderr());
        assert!(daemon.errors().is_empty(), "{:?}", daemon.errors());
    }
    let refused = server.log();
    assert!(!refused.contains("Violation"), "{refused}");
}

#[tokio::test]
async fn a_role_that_may_not_is_told_so() {
    let server =
        NatsServer::build().config("nats/server.conf").env_file("nats/dev.env").start().await;
    let _dispatcher = daemon(&server, env!("CARGO_BIN_EXE_dispatcher"), "dispatcher", "d1").await;
    let submit = ["submit", "--room", "42", "--sdk", "sim"];
    for (role, args) in [
        ("consumer-42", &submit[..]),
        ("operator", &submit),
        ("service", &["leader"]),
        ("consumer-42", &["listen", "43", "--seconds", "1"]),
        ("service", &["listen", "42", "--seconds", "1"]),
    ] {
        let (status, _, err) = gateway(&server, role, args).await;
        let told = err.to_lowercase().contains("permissions violation");
        assert!(!status.success() && told, "{role}: gateway {args:?}: {status}\n{err}");
    }
}

#[tokio::test]
async fn a_recorded_room_is_heard_again_by_its_reviewer_and_by_nobody_else() {
    let server =
        NatsServer::build().config("nats/server.conf").env_file("nats/dev.env").start().await;
    let dispatcher = daemon(&server, env!("CARGO_BIN_EXE_dispatcher"), "dispatcher", "d1").await;
    let worker = daemon(&server, env!("CARGO_BIN_EXE_worker"), "worker", "w1").await;
    let task = ["--room", "42", "--sdk", "sim", "--id", "call", "--param", "source=ramp"];
    done(&server, "service", &[&["submit", "--record"], &task[..], &["--wait"]].concat()).await;
    dispatcher.says("made the stream AUDIO", SOON).await;

    let hear = ["--json", "listen", "42", "--from", "room_start", "--seconds", "4"];
    let heard = done(&server, "reviewer-42", &hear).await;
    let lines: Vec<Value> =
        heard.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    let end = lines.last().expect("an end");
    assert!(end["stats"]["frames"].as_u64().expect("a number") > 150, "{end}");
    assert_eq!(end["stats"]["lost"], 0, "{end}");
    let first = lines.iter().find(|line| line["seq"].is_u64()).expect("a batch");
    assert_eq!(first["seq"], 0, "{first}");
    let refused = server.log();
    assert!(!refused.contains("Violation"), "{refused}");

    let (status, _, err) = gateway(&server, "consumer-42", &hear).await;
    assert!(!status.success() && err.contains("may we read it"), "{status}\n{err}");
    for daemon in [dispatcher, worker] {
        assert!(daemon.errors().is_empty(), "{:?}", daemon.errors());
    }
}
