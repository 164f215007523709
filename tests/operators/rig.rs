//! A server, dispatchers and workers as processes, and the command line.

use std::{collections::BTreeMap, time::Duration};

use audio_gateway::bus::{BusOptions, Link, Purpose};
use serde_json::Value;

use crate::support::{NatsServer, Program, Running, eventually, within};

/// How long anything may take on a busy machine.
pub(crate) const SOON: Duration = Duration::from_secs(60);

/// See the module.
pub(crate) struct Rig {
    pub(crate) programs: BTreeMap<String, Running>,
    pub(crate) link: Link,
    config: tempfile::TempDir,
    // Last, so that what uses it ends before it.
    pub(crate) server: NatsServer,
}

/// What a command printed and how it ended.
#[derive(Debug)]
pub(crate) struct Said {
    pub(crate) code: i32,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Said {
    /// Its output as JSON, a value a line.
    pub(crate) fn json(&self) -> Vec<Value> {
        self.out.lines().map(|line| serde_json::from_str(line).expect(line)).collect()
    }
}

impl Rig {
    /// Starts programs by name: `d…` are dispatchers, `w…` are workers.
    pub(crate) async fn start(names: &[&str]) -> Self {
        let server = NatsServer::start().await;
        let options = BusOptions::plain(&server.url());
        let link = Link::connect(&options, "test", Purpose::Control).await.unwrap();
        let config = tempfile::tempdir().unwrap();
        // Whatever else the host does, the workers take rooms.
        std::fs::write(config.path().join("worker.toml"), "[worker]\ncores = 1000.0\n").unwrap();
        let mut rig = Self { programs: BTreeMap::new(), link, config, server };
        for name in names {
            rig.program(name).await;
        }
        rig
    }

    /// Starts one more and waits until it is ready.
    pub(crate) async fn program(&mut self, name: &str) {
        let program = if name.starts_with('d') {
            Program::new(env!("CARGO_BIN_EXE_dispatcher"))
        } else {
            let config = self.config.path().join("worker.toml");
            Program::new(env!("CARGO_BIN_EXE_worker")).arg("--config").arg(config)
        };
        let running = program.args(["--id", name]).env("NATS_URL", self.server.url()).start();
        running.says("ready", SOON).await;
        self.programs.insert(name.to_owned(), running);
    }

    /// Runs the command line to its end.
    pub(crate) async fn run(&self, args: &[&str]) -> Said {
        let mut command = tokio::process::Command::new(env!("CARGO_BIN_EXE_gateway"));
        command.args(args).env("NATS_URL", self.server.url()).env_remove("RUST_LOG");
        command.stdin(std::process::Stdio::null()).kill_on_drop(true);
        let output = within("end of the command", SOON, command.output()).await.unwrap();
        Said {
            code: output.status.code().expect("it was not killed"),
            out: String::from_utf8_lossy(&output.stdout).into_owned(),
            err: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }

    /// The same with `--json`, where it must succeed.
    pub(crate) async fn json(&self, args: &[&str]) -> Vec<Value> {
        let said = self.run(&[args, &["--json"]].concat()).await;
        assert_eq!(said.code, 0, "{args:?}: {}", said.err);
        said.json()
    }

    /// What any NATS client is answered.
    pub(crate) async fn ask(&self, subject: &str, payload: &'static str) -> Value {
        let answer = self.link.ask_bytes(subject, payload.into(), SOON).await.unwrap();
        serde_json::from_slice(&answer).unwrap()
    }

    /// Waits until a command's JSON holds.
    pub(crate) async fn until(
        &self,
        what: &str,
        args: &[&str],
        mut holds: impl FnMut(&[Value]) -> bool,
    ) -> Vec<Value> {
        eventually(what, SOON, async || {
            let said = self.run(&[args, &["--json"]].concat()).await;
            (said.code == 0).then(|| said.json()).filter(|values| holds(values))
        })
        .await
    }

    /// Who leads.
    pub(crate) async fn leader(&self) -> String {
        let leaders = self.until("leader", &["leader"], |said| said[0].get("leader").is_some());
        leaders.await[0]["leader"].as_str().unwrap().to_owned()
    }

    /// Hands in a task of the simulated room and waits until it runs.
    pub(crate) async fn runs(&self, task: &str, room: &str) {
        let args = ["submit", "--id", task, "--room", room, "--sdk", "sim", "--wait=running"];
        let said = self.run(&args).await;
        assert_eq!(said.code, 0, "{}", said.err);
    }

    pub(crate) fn assert_no_errors(&self) {
        for (name, program) in &self.programs {
            assert_eq!(program.errors(), Vec::<String>::new(), "{name}");
        }
    }
}
