//! The command line as programs and people use it: exit codes, the shape of
//! what is printed, and what is left behind. A dispatcher and a worker are
//! played by the test.

#![allow(clippy::unwrap_used, reason = "in a test a panic is the answer")]

#[path = "../support/mod.rs"]
mod support;
#[path = "../live_client/worker.rs"]
#[allow(dead_code, reason = "it plays more than is watched here")]
mod worker;

mod control;
mod dispatcher;
mod listening;

use std::{process::Output, time::Duration};

use tokio::process::Command;

use support::within;

/// How long a command may take on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// The program, told where the server is.
fn gateway(url: &str, args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_gateway"));
    command.args(args).env("NATS_URL", url).env_remove("RUST_LOG").kill_on_drop(true);
    command.stdin(std::process::Stdio::null());
    command
}

/// What it said and how it ended.
async fn run(url: &str, args: &[&str]) -> Said {
    within("end of the program", PATIENCE, gateway(url, args).output()).await.unwrap().into()
}

/// See [`run`].
#[derive(Debug)]
struct Said {
    code: i32,
    out: String,
    err: String,
}

impl From<Output> for Said {
    fn from(output: Output) -> Self {
        Self {
            code: output.status.code().expect("it was not killed"),
            out: String::from_utf8_lossy(&output.stdout).into_owned(),
            err: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }
}

impl Said {
    /// Its output as JSON, a value a line.
    fn json(&self) -> Vec<serde_json::Value> {
        self.out.lines().map(|line| serde_json::from_str(line).expect(line)).collect()
    }
}
