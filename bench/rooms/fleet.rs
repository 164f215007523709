//! The programs under load: starts them and plays faults on them. What they cost
//! is `meter`'s.

use std::{
    fs,
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use anyhow::{Context, bail};
use audio_gateway::{bus::messages::List, client::Gateway};

use crate::{Options, meter::Programs, rig::usage};

/// See the module. Dropping it kills everything it started.
pub(crate) struct Fleet {
    /// Where the server is.
    pub(crate) url: String,
    server: PathBuf,
    port: u16,
    store: PathBuf,
    nats: Child,
    dispatcher: Child,
    workers: Vec<Child>,
}

impl Fleet {
    /// Starts everything and waits until it is ready.
    pub(crate) async fn start(options: &Options, feeder: Option<&Path>) -> anyhow::Result<Self> {
        let bin = match &options.bin {
            Some(bin) => bin.clone(),
            None => {
                let own = std::env::current_exe()?;
                let beside = own.parent().context("no folder above")?;
                beside.to_owned()
            }
        };
        // The port is free now and ours a moment later.
        let port = std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let store = std::env::temp_dir().join(format!("rooms-bench-{}", std::process::id()));
        let url = format!("nats://127.0.0.1:{port}");
        let nats = start_nats(&options.nats_server, port, &store)?;
        let program = |name: &str, args: &[&str]| -> anyhow::Result<Child> {
            let mut child = Command::new(bin.join(name))
                .args(args)
                .env("NATS_URL", &url)
                // The line that says it is ready is logged at this level.
                .env("RUST_LOG", "info")
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .stderr(Stdio::piped())
                .spawn()
                .with_context(|| format!("cannot start {}", bin.join(name).display()))?;
            let log = child.stderr.take().context("stderr is piped")?;
            wait_ready(name, BufReader::new(log))?;
            Ok(child)
        };
        let dispatcher = program("dispatcher", &["--id", "bench"])?;
        let mut workers = Vec::new();
        let config = store.with_extension("toml");
        if let Some(feeder) = feeder {
            let adapter = std::path::absolute(bin.join("bench-adapter"))?;
            let text = format!(
                "[adapter.bench]\nmode = \"framed\"\ncommand = [{adapter:?}, {feeder:?}]\n"
            );
            fs::write(&config, text)?;
        } else {
            fs::write(&config, "")?;
        }
        let path = config.display().to_string();
        // Whatever else the machine does, they take what they are given: what a
        // full machine sounds like is what is measured.
        for index in 0..options.workers {
            let id = format!("bench-{index}");
            let args = ["--id", &id, "--cores", "64", "--drain-timeout", "0", "--config", &path];
            workers.push(program("worker", &args)?);
        }
        fs::remove_file(&config)?;
        Ok(Self {
            url: url.clone(),
            server: options.nats_server.clone(),
            port,
            store,
            nats,
            dispatcher,
            workers,
        })
    }

    /// Kills the server.
    pub(crate) fn kill_server(&mut self) {
        let _ = self.nats.kill();
        let _ = self.nats.wait();
    }

    /// Starts it again, on the same port and store.
    pub(crate) fn start_server(&mut self) -> anyhow::Result<()> {
        self.nats = start_nats(&self.server, self.port, &self.store)?;
        Ok(())
    }

    /// Kills the first worker.
    pub(crate) fn kill_worker(&mut self) {
        if !self.workers.is_empty() {
            let mut worker = self.workers.remove(0);
            let _ = worker.kill();
            let _ = worker.wait();
        }
    }

    /// The processes, for whoever measures them.
    pub(crate) fn programs(&self) -> Programs {
        Programs {
            server: self.nats.id(),
            dispatcher: self.dispatcher.id(),
            workers: self.workers.iter().map(Child::id).collect(),
        }
    }

    /// Resident memory of the workers in MiB.
    pub(crate) fn worker_memory(&self) -> f64 {
        self.workers.iter().map(|worker| usage::resident(worker.id())).sum()
    }

    /// The same with what is shared counted in parts.
    pub(crate) fn proportional(&self) -> f64 {
        self.workers.iter().map(|worker| usage::proportional(worker.id())).sum()
    }

    /// Tasks that have been given to a worker more than once: their epoch is
    /// not the one of their first start.
    pub(crate) async fn restarts(&self, gateway: &Gateway) -> anyhow::Result<Restarts> {
        let list = gateway.list(&List::default()).await?;
        let running = list.tasks.iter().filter(|task| task.state.to_string() == "running").count();
        Ok(Restarts { listed: list.tasks.len(), running })
    }

    /// Ends everything as an operator would, and waits.
    pub(crate) async fn stop(mut self) {
        for child in self.workers.iter().chain([&self.dispatcher]) {
            terminate(child.id());
        }
        for worker in &mut self.workers {
            if tokio::time::timeout(Duration::from_secs(15), gone(worker)).await.is_err() {
                eprintln!("a worker did not end within 15 s of SIGTERM");
            }
        }
    }
}

/// What the dispatcher says at the end.
#[derive(Debug, Clone, Copy, serde::Serialize)]
pub(crate) struct Restarts {
    /// Tasks that have not ended.
    pub(crate) listed: usize,
    /// Of these running.
    pub(crate) running: usize,
}

impl Drop for Fleet {
    fn drop(&mut self) {
        for child in self.workers.iter_mut().chain([&mut self.dispatcher, &mut self.nats]) {
            let _ = child.kill();
            let _ = child.wait();
        }
        let _ = fs::remove_dir_all(&self.store);
    }
}

async fn gone(child: &mut Child) {
    let mut look = tokio::time::interval(Duration::from_millis(50));
    while !matches!(child.try_wait(), Ok(Some(_)) | Err(_)) {
        look.tick().await;
    }
}

fn terminate(pid: u32) {
    if let Some(pid) = i32::try_from(pid).ok().and_then(rustix::process::Pid::from_raw) {
        let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
    }
}

fn start_nats(server: &Path, port: u16, store: &Path) -> anyhow::Result<Child> {
    let mut child = Command::new(server)
        .args(["-a", "127.0.0.1", "-p", &port.to_string(), "-js", "-sd"])
        .arg(store)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("cannot start {}", server.display()))?;
    let log = child.stderr.take().context("stderr is piped")?;
    wait_ready("nats-server", BufReader::new(log))?;
    Ok(child)
}

/// Waits for the line that says a program is ready, then passes on warnings.
fn wait_ready(name: &str, log: impl BufRead + Send + 'static) -> anyhow::Result<()> {
    let mut lines = log.lines();
    let mut seen = Vec::new();
    loop {
        match lines.next() {
            Some(Ok(line)) if line.to_lowercase().contains("ready") => break,
            Some(Ok(line)) => seen.push(line),
            _ => bail!("{name} ended before it was ready:\n{}", seen.join("\n")),
        }
    }
    let name = name.to_owned();
    std::thread::spawn(move || {
        for line in lines.map_while(Result::ok) {
            if line.contains("ERROR") || line.contains("WARN") || line.contains("panicked") {
                eprintln!("{name}: {line}");
            }
        }
    });
    Ok(())
}
