//! Starts that fail, with the real programs: what became of them is told in
//! full, and a worker that cannot start an adapter costs nobody a room.

#![allow(clippy::unwrap_used, reason = "in a test a panic is the answer")]

mod support;

use std::{path::Path, time::Duration};

use audio_gateway::{
    bus::{BusOptions, Link, Purpose, messages::TaskEvent, messages::WorkerView},
    client::Gateway,
    id::TaskId,
    task::{TaskSpec, TaskState},
};
use support::{NatsServer, Program, Running, eventually, within};

const SOON: Duration = Duration::from_secs(60);

fn dispatcher(server: &NatsServer) -> Running {
    Program::new(env!("CARGO_BIN_EXE_dispatcher")).env("NATS_URL", server.url()).start()
}

/// A worker whose adapter `odd` is this program.
fn worker(server: &NatsServer, id: &str, folder: &Path, program: &Path) -> Running {
    let file = folder.join(format!("{id}.toml"));
    let program = program.display();
    let text = format!(
        "[worker]\ncores = 1000.0\n[adapter.odd]\nmode = \"framed\"\ncommand = [\"{program}\"]\n"
    );
    std::fs::write(&file, text).unwrap();
    let worker = Program::new(env!("CARGO_BIN_EXE_worker")).args(["--id", id]);
    worker.arg("--config").arg(&file).env("NATS_URL", server.url()).start()
}

fn script(folder: &Path, name: &str, text: &str) -> std::path::PathBuf {
    use std::os::unix::fs::PermissionsExt;
    let file = folder.join(name);
    std::fs::write(&file, format!("#!/bin/sh\n{text}\n")).unwrap();
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o755)).unwrap();
    file
}

async fn gateway(server: &NatsServer) -> Gateway {
    Gateway::connect(&BusOptions::plain(&server.url())).await.unwrap()
}

async fn submit(gateway: &Gateway, id: &str) {
    let spec = format!(r#"{{"id":"{id}","room":"{id}","sdk":"odd","start_within_s":120}}"#);
    gateway.submit(&TaskSpec::from_json(spec.as_bytes()).unwrap()).await.unwrap();
}

#[tokio::test]
async fn an_adapter_that_keeps_crashing_ends_its_task_with_its_last_words() {
    let server = NatsServer::start().await;
    let folder = tempfile::tempdir().unwrap();
    // More than is kept: the end is what matters.
    let text = "i=0; while [ $i -lt 80 ]; do echo \"trace $i of a great many lines\" >&2; i=$((i+1)); done\n\
                echo 'libvendor.so.7: no such file: giving up' >&2; exit 3";
    let program = script(folder.path(), "crash", text);
    let worker = worker(&server, "w1", folder.path(), &program);
    let dispatcher = dispatcher(&server);
    worker.says("ready", SOON).await;
    dispatcher.says("ready", SOON).await;
    let link =
        Link::connect(&BusOptions::plain(&server.url()), "test", Purpose::Control).await.unwrap();
    let mut events = link.subscribe("gateway.task.event.t1").await.unwrap();
    link.barrier().await.unwrap();
    let gateway = gateway(&server).await;
    submit(&gateway, "t1").await;
    let last = within("the last event", SOON, async {
        loop {
            let event: TaskEvent = events.next().await.unwrap().read().unwrap();
            if event.state.is_terminal() {
                return event;
            }
        }
    })
    .await;
    let end = "libvendor.so.7: no such file: giving up";
    assert_eq!(last.state, TaskState::Failed);
    assert!(last.reason.starts_with("the adapter keeps failing: exit code 3; it wrote: trace"));
    assert!(last.reason.ends_with(end), "{}", last.reason);
    let shown = Program::new(env!("CARGO_BIN_EXE_gateway"))
        .args(["get", "t1"])
        .env("NATS_URL", server.url())
        .start();
    shown.prints(end, SOON).await;
    // Six starts, no more.
    let starts = worker.stderr().matches(end).count();
    assert_eq!(starts, 6, "{}", worker.stderr());
    assert_eq!(worker.errors(), Vec::<String>::new());
    assert_eq!(dispatcher.errors(), Vec::<String>::new());
}

async fn put_away(gateway: &Gateway) -> WorkerView {
    eventually("a worker in quarantine", SOON, async || {
        let workers = gateway.workers().await.ok()?.workers;
        workers.into_iter().find(|worker| !worker.quarantined.is_empty())
    })
    .await
}

#[tokio::test]
async fn a_worker_that_lost_the_program_is_put_away_and_the_rooms_go_elsewhere() {
    let server = NatsServer::start().await;
    let folder = tempfile::tempdir().unwrap();
    let gone = script(folder.path(), "gone", "exec sdk-sim");
    let sim = Path::new(env!("CARGO_BIN_EXE_sdk-sim"));
    // The first by name among equals: it is asked first.
    let broken = worker(&server, "a", folder.path(), &gone);
    let dispatcher = dispatcher(&server);
    broken.says("ready", SOON).await;
    dispatcher.says("ready", SOON).await;
    std::fs::remove_file(&gone).unwrap();
    let gateway = gateway(&server).await;
    for task in ["t1", "t2", "t3"] {
        submit(&gateway, task).await;
    }
    let view = put_away(&gateway).await;
    assert_eq!(view.worker.as_str(), "a");
    let ill = &view.quarantined[0];
    assert_eq!(ill.adapter.as_str(), "odd");
    assert!(ill.reason.contains("gone"), "{}", ill.reason);
    assert!(ill.for_ms > 0);
    let shown = Program::new(env!("CARGO_BIN_EXE_gateway"))
        .arg("workers")
        .env("NATS_URL", server.url())
        .start();
    shown.prints("no odd for", SOON).await;
    dispatcher.says("in quarantine", SOON).await;
    let sound = worker(&server, "b", folder.path(), sim);
    sound.says("ready", SOON).await;
    for task in ["t1", "t2", "t3"] {
        let task = TaskId::parse(task).unwrap();
        let view = gateway.wait_for(&task, TaskState::Running, SOON, |_| ()).await.unwrap();
        assert_eq!(view.worker.unwrap().as_str(), "b");
    }
    assert_eq!(broken.errors(), Vec::<String>::new());
    assert_eq!(dispatcher.errors(), Vec::<String>::new());
}
