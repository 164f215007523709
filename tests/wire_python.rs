//! A consumer written from `docs/wire.md` alone, in another language, against
//! the real programs: what the document promises is what it hears.

mod support;

use std::{env, path::PathBuf, process::Command, time::Duration};

use support::{Direction, Loss, NatsServer, Program, Proxy, Running};

/// How long programs may take to be ready.
const READY: Duration = Duration::from_secs(30);
/// What the consumer may take on top of what it listens.
const SLACK: Duration = Duration::from_secs(90);

/// Where `scripts/python-env.sh` has installed what the consumer needs.
fn python_path() -> String {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/scripts/python-env.sh");
    let output = Command::new(script).output().expect("sh is there");
    assert!(
        output.status.success(),
        "the consumer needs nats-py and msgpack; run scripts/python-env.sh\n{}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

/// Seconds to listen: 5, or what `WIRE_SECONDS` says.
fn seconds() -> u64 {
    env::var("WIRE_SECONDS").map_or(5, |text| text.parse().expect("WIRE_SECONDS is a number"))
}

/// A server, a dispatcher and a worker that takes what it is given.
struct Rig {
    _folder: tempfile::TempDir,
    _dispatcher: Running,
    _worker: Running,
    // Last, so that what uses it ends before it.
    server: NatsServer,
}

async fn rig() -> Rig {
    let server = NatsServer::start().await;
    let folder = tempfile::tempdir().expect("a folder for temporary files");
    let config = folder.path().join("worker.toml");
    // Whatever else this machine does: one room fits.
    std::fs::write(&config, "[worker]\ncores = 64.0\n").expect("the folder can be written");
    let dispatcher =
        Program::new(env!("CARGO_BIN_EXE_dispatcher")).env("NATS_URL", server.url()).start();
    let worker = Program::new(env!("CARGO_BIN_EXE_worker"))
        .env("NATS_URL", server.url())
        .env("WORKER_CONFIG", &config)
        .start();
    dispatcher.says("ready", READY).await;
    worker.says("ready", READY).await;
    Rig { _folder: folder, _dispatcher: dispatcher, _worker: worker, server }
}

/// Lets the consumer listen for so long; what it says at its end.
async fn consume(url: &str, seconds: u64, sample: u64) -> serde_json::Value {
    let script = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/wire_consumer.py");
    let mut consumer = Program::new("python3")
        .arg(script)
        .args(["--url", url, "--participants", "5"])
        .args(["--seconds", &seconds.to_string(), "--sample", &sample.to_string()])
        .env("PYTHONPATH", python_path())
        .start();
    let status = consumer.ended(Duration::from_secs(seconds) + SLACK).await;
    assert!(status.success(), "{status}: {}", consumer.stderr());
    let line = consumer.prints("{", READY).await;
    let said: serde_json::Value = serde_json::from_str(&line).expect("it prints a line of JSON");
    assert!(said["slots"].as_u64() >= Some(seconds * 50 * 5), "{said}");
    println!("{said}");
    said
}

#[tokio::test]
async fn a_consumer_written_from_the_document_hears_every_sample() {
    let rig = rig().await;
    let said = consume(&rig.server.url(), seconds(), 5).await;
    assert!(said["asked_again"].as_u64() > Some(0), "{said}");
    assert_eq!(said["asked_again"], said["came_again"], "{said}");
}

#[tokio::test]
async fn it_gets_back_what_is_lost_on_the_way() {
    let rig = rig().await;
    let proxy = Proxy::to(rig.server.addr()).await;
    let share = Loss::Share { share: 0.2, seed: 3 };
    proxy.lose(Direction::Down, "audio.live.>", share.clone());
    proxy.lose(Direction::Down, "audio.resend.>", share);
    let said = consume(&proxy.url(), 5, 0).await;
    assert!(said["lost_and_recovered"].as_u64() > Some(10), "{said}");
}
