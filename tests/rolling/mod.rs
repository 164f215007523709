//! One dispatcher and workers that come and go.

use std::time::Duration;

use super::support::{NatsServer, Program, Running};

const READY: Duration = Duration::from_secs(30);

/// A dispatcher that is ready.
pub(crate) async fn dispatcher(server: &NatsServer) -> Running {
    let program = Program::new(env!("CARGO_BIN_EXE_dispatcher")).env("NATS_URL", server.url());
    let program = program.start();
    program.says("ready", READY).await;
    program
}

/// A worker that is ready, and waits for a minute until others have its rooms.
pub(crate) async fn worker(server: &NatsServer, name: &str) -> Running {
    let program = Program::new(env!("CARGO_BIN_EXE_worker"))
        .args(["--id", name, "--cores", "1000", "--drain-timeout", "60"])
        .env("NATS_URL", server.url())
        .start();
    program.says("ready", READY).await;
    program
}
