//! `gateway-demo` as people start it: it proves what it says, and leaves
//! nothing behind, whichever way it ends.

mod support;

use std::{process::Command, time::Duration};

use rustix::process::Signal;
use support::{Program, Running, eventually};

/// It ends within a minute of being built; a busy machine may take longer.
const WHOLE: Duration = Duration::from_secs(150);
const READY: Duration = Duration::from_secs(60);
/// How long what it started may outlive it.
const GONE: Duration = Duration::from_secs(10);

struct Demo {
    running: Running,
    out: tempfile::TempDir,
}

fn start() -> Demo {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/scripts/nats-server.sh");
    let server = Command::new(script).output().expect("sh is there");
    assert!(server.status.success(), "{}", String::from_utf8_lossy(&server.stderr));
    let server = String::from_utf8_lossy(&server.stdout).trim().to_owned();
    let out = tempfile::tempdir().expect("a folder for temporary files");
    // One that was fetched bears its version in its name.
    let named = out.path().join("nats-server-fetched");
    std::os::unix::fs::symlink(server, &named).expect("a link in an empty folder");
    let running = Program::new(env!("CARGO_BIN_EXE_gateway-demo"))
        .arg("--nats-server")
        .arg(named)
        .args(["--seconds", "16", "--out"])
        .arg(out.path())
        // What it leaves there when it is killed goes with the test.
        .env("TMPDIR", out.path())
        .start();
    Demo { running, out }
}

/// Waits until nothing that it started lives any more.
async fn gone(demo: &Demo) {
    eventually("end of what the demo started", GONE, async || {
        demo.running.children().is_empty().then_some(())
    })
    .await;
}

#[tokio::test]
async fn it_passes_and_keeps_what_it_heard() {
    let mut demo = start();
    let status = demo.running.ended(WHOLE).await;
    assert!(status.success(), "{status}\n{}", demo.running.stdout());
    demo.running.prints("PASSED", READY).await;
    assert_eq!(demo.running.children(), [], "{}", demo.running.stdout());
    for name in ["call-ann.wav", "call-ben.wav"] {
        let wav = hound::WavReader::open(demo.out.path().join(name)).unwrap();
        assert!(wav.duration() > 10 * 16_000, "{name}: {}", wav.duration());
    }
}

#[tokio::test]
async fn interrupted_it_takes_everything_with_it() {
    let mut demo = start();
    demo.running.prints("the call runs", READY).await;
    assert!(demo.running.children().len() >= 4, "{:?}", demo.running.children());
    demo.running.signal(Signal::INT);
    let status = demo.running.ended(WHOLE).await;
    assert_eq!(status.code(), Some(130), "{}", demo.running.stdout());
    gone(&demo).await;
}

#[tokio::test]
async fn killed_it_takes_everything_with_it() {
    let mut demo = start();
    demo.running.prints("the call runs", READY).await;
    demo.running.kill();
    gone(&demo).await;
}

#[tokio::test]
async fn what_is_missing_is_said_in_one_line() {
    let out = tempfile::tempdir().unwrap();
    let mut demo = Program::new(env!("CARGO_BIN_EXE_gateway-demo"))
        .args(["--nats-server", "/no/such/server", "--out"])
        .arg(out.path())
        .start();
    demo.says("cannot start /no/such/server", READY).await;
    assert_eq!(demo.ended(WHOLE).await.code(), Some(1));
    assert_eq!(demo.stderr().lines().count(), 1, "{}", demo.stderr());
}
