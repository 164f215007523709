//! The programs that faults are played on: one server or three, dispatchers and
//! workers, each a process of its own that can be killed, stopped and started.

use std::{
    fs,
    io::{BufRead, BufReader},
    net::{SocketAddr, TcpListener},
    path::PathBuf,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context, bail, ensure};
use audio_gateway::{bus::BusOptions, client::Gateway};
use rustix::process::{Pid, Signal, kill_process};
use tokio::{
    io::{AsyncBufReadExt, BufReader as AsyncReader},
    net::TcpStream,
};

use crate::Options;

/// Sessions a worker may have: whatever else the machine does, it takes them.
const CORES: &str = "64";

/// What nats/server.conf says too: who stands still is dropped after six
/// seconds, by the other servers of a cluster as by clients, and slows nobody
/// down meanwhile. And the shortest lame duck there is.
const NATS_CONFIG: &str = r#"
ping_interval: "2s"
ping_max: 2
max_pending: 64MB
write_deadline: "5s"
no_fast_producer_stall: true
lame_duck_grace_period: "1s"
lame_duck_duration: "30s"
"#;

/// A program that runs.
pub(crate) struct Program {
    child: Child,
}

impl Program {
    fn start(mut command: Command) -> anyhow::Result<Self> {
        let name = command.get_program().to_string_lossy().into_owned();
        let name = name.rsplit('/').next().unwrap_or_default().to_owned();
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .with_context(|| format!("cannot start {command:?}"))?;
        let log = child.stderr.take().context("stderr is piped")?;
        wait_ready(&name, BufReader::new(log))?;
        Ok(Self { child })
    }

    pub(crate) fn signal(&self, signal: Signal) {
        // One that is gone gets none.
        let _ = kill_process(Pid::from_child(&self.child), signal);
    }

    pub(crate) fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Waits until it has ended.
    pub(crate) async fn ended(&mut self, within: Duration) -> anyhow::Result<()> {
        let end = Instant::now() + within;
        let mut look = tokio::time::interval(Duration::from_millis(5));
        while Instant::now() < end {
            look.tick().await;
            if self.child.try_wait()?.is_some() {
                return Ok(());
            }
        }
        bail!("a program did not end within {within:?}")
    }

    /// Its resident memory in MiB.
    pub(crate) fn memory(&self) -> f64 {
        let path = format!("/proc/{}/statm", self.child.id());
        let statm = fs::read_to_string(path).unwrap_or_default();
        let pages = statm.split(' ').nth(1).and_then(|pages| pages.parse().ok());
        pages.unwrap_or(0.0) * rustix::param::page_size() as f64 / (1024.0 * 1024.0)
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        self.kill();
    }
}

/// One nats-server.
pub(crate) struct Node {
    pub(crate) name: String,
    pub(crate) port: u16,
    args: Vec<String>,
    program: Option<Program>,
}

/// See the module.
pub(crate) struct Fleet {
    bin: PathBuf,
    nats: PathBuf,
    folder: PathBuf,
    // In this order they end: none misses another.
    pub(crate) workers: Vec<(String, Program)>,
    pub(crate) dispatchers: Vec<(String, Program)>,
    pub(crate) nodes: Vec<Node>,
    started: usize,
}

impl Fleet {
    /// Servers alone: one, or a cluster.
    pub(crate) async fn start(options: &Options, nodes: usize) -> anyhow::Result<Self> {
        let bin = match &options.bin {
            Some(bin) => bin.clone(),
            None => std::env::current_exe()?.parent().context("no folder above")?.to_owned(),
        };
        let folder = std::env::temp_dir().join(format!(
            "failover-bench-{}-{}",
            std::process::id(),
            fastrand::u32(..)
        ));
        fs::create_dir_all(&folder)?;
        let config = folder.join("nats.conf");
        fs::write(&config, NATS_CONFIG)?;
        let ports: Vec<u16> = free_ports(2 * nodes)?;
        let routes: Vec<String> =
            ports[nodes..].iter().map(|port| format!("nats://127.0.0.1:{port}")).collect();
        let node = |index: usize| {
            let name = format!("n{}", index + 1);
            let store = folder.join(&name).to_string_lossy().into_owned();
            let mut args: Vec<String> =
                ["-a", "127.0.0.1", "-p"].iter().map(|&arg| arg.to_owned()).collect();
            args.extend([ports[index].to_string(), "-js".to_owned(), "-sd".to_owned(), store]);
            args.extend(["-c".to_owned(), config.to_string_lossy().into_owned()]);
            args.extend(["-n".to_owned(), name.clone()]);
            if nodes > 1 {
                args.extend(["--cluster_name".to_owned(), "bench".to_owned(), "--cluster".into()]);
                args.push(routes[index].clone());
                args.extend(["--routes".to_owned(), routes.join(",")]);
            }
            Node { name, port: ports[index], args, program: None }
        };
        let nodes: Vec<Node> = (0..nodes).map(node).collect();
        let count = nodes.len();
        let mut fleet = Self {
            bin,
            nats: options.nats_server.clone(),
            folder,
            workers: Vec::new(),
            dispatchers: Vec::new(),
            nodes,
            started: 0,
        };
        for index in 0..count {
            fleet.start_node(index)?;
        }
        Ok(fleet)
    }

    /// Servers, dispatchers and workers, all ready.
    pub(crate) async fn full(
        options: &Options,
        nodes: usize,
        dispatchers: usize,
        workers: usize,
    ) -> anyhow::Result<Self> {
        let mut fleet = Self::start(options, nodes).await?;
        for _ in 0..dispatchers {
            fleet.add_dispatcher().await?;
        }
        for _ in 0..workers {
            fleet.add_worker()?;
        }
        Ok(fleet)
    }

    /// All the servers.
    pub(crate) fn url(&self) -> String {
        self.url_without(usize::MAX)
    }

    /// All the servers but one.
    pub(crate) fn url_without(&self, but: usize) -> String {
        let others = self.nodes.iter().enumerate().filter(|(index, _)| *index != but);
        let urls: Vec<_> =
            others.map(|(_, node)| format!("nats://127.0.0.1:{}", node.port)).collect();
        urls.join(",")
    }

    /// A program's connection.
    pub(crate) async fn gateway(&self) -> anyhow::Result<Gateway> {
        Ok(Gateway::connect(&BusOptions::plain(&self.url())).await?)
    }

    fn ours(&self, program: &str, id: &str, url: &str) -> Command {
        let mut command = Command::new(self.bin.join(program));
        // The line that says it is ready is logged at this level.
        command.args(["--id", id]).env("NATS_URL", url).env("RUST_LOG", "info");
        if self.nodes.len() > 1 && program == "dispatcher" {
            command.args(["--replicas", "3"]);
        }
        command
    }

    fn next_id(&mut self, kind: char) -> String {
        self.started += 1;
        format!("{kind}{}", self.started)
    }

    /// Starts a dispatcher; tried again while a cluster still gathers.
    pub(crate) async fn add_dispatcher(&mut self) -> anyhow::Result<String> {
        let id = self.next_id('d');
        let url = self.url();
        let mut tries = 0;
        let program = loop {
            tries += 1;
            match Program::start(self.ours("dispatcher", &id, &url)) {
                Ok(program) => break program,
                Err(error) if tries >= 30 => return Err(error),
                Err(_) => tokio::time::sleep(Duration::from_secs(1)).await,
            }
        };
        self.dispatchers.push((id.clone(), program));
        Ok(id)
    }

    /// Starts a worker.
    pub(crate) fn add_worker(&mut self) -> anyhow::Result<String> {
        let id = self.next_id('w');
        let mut command = self.ours("worker", &id, &self.url());
        command.args(["--cores", CORES]);
        let program = Program::start(command)?;
        self.workers.push((id.clone(), program));
        Ok(id)
    }

    pub(crate) fn dispatcher(&mut self, id: &str) -> anyhow::Result<&mut Program> {
        let found = self.dispatchers.iter_mut().find(|(known, _)| known == id);
        Ok(&mut found.with_context(|| format!("there is no dispatcher {id}"))?.1)
    }

    pub(crate) fn worker(&mut self, id: &str) -> anyhow::Result<&mut Program> {
        let found = self.workers.iter_mut().find(|(known, _)| known == id);
        Ok(&mut found.with_context(|| format!("there is no worker {id}"))?.1)
    }

    /// Starts a server on its port and store.
    pub(crate) fn start_node(&mut self, index: usize) -> anyhow::Result<()> {
        let node = &mut self.nodes[index];
        let mut command = Command::new(&self.nats);
        command.args(&node.args);
        node.program = Some(Program::start(command)?);
        Ok(())
    }

    pub(crate) fn node(&mut self, index: usize) -> anyhow::Result<&mut Program> {
        self.nodes[index].program.as_mut().context("the server was not started")
    }

    /// Waits until a server greets clients.
    pub(crate) async fn node_answers(&self, index: usize) -> anyhow::Result<Instant> {
        let address: SocketAddr = ([127, 0, 0, 1], self.nodes[index].port).into();
        let end = Instant::now() + Duration::from_secs(60);
        while Instant::now() < end {
            if let Ok(Ok(())) =
                tokio::time::timeout(Duration::from_secs(1), greeting(address)).await
            {
                return Ok(Instant::now());
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        bail!("the server did not come back")
    }
}

impl Drop for Fleet {
    fn drop(&mut self) {
        self.workers.clear();
        self.dispatchers.clear();
        self.nodes.clear();
        let _ = fs::remove_dir_all(&self.folder);
    }
}

async fn greeting(address: SocketAddr) -> anyhow::Result<()> {
    let mut line = String::new();
    AsyncReader::new(TcpStream::connect(address).await?).read_line(&mut line).await?;
    ensure!(line.starts_with("INFO "), "no greeting");
    Ok(())
}

/// Ports that are free now, below those the kernel gives to clients: one that
/// tries to reach a server that is away could else be given that very port.
fn free_ports(count: usize) -> anyhow::Result<Vec<u16>> {
    let mut held = Vec::new();
    while held.len() < count {
        let port = fastrand::u16(18_000..32_000);
        if let Ok(listener) = TcpListener::bind(("127.0.0.1", port)) {
            held.push(listener);
        }
    }
    held.iter().map(|listener| Ok(listener.local_addr()?.port())).collect()
}

/// Waits for the line that says a program is ready, then reads on.
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
    let told = std::env::var_os("BENCH_LOGS").is_some();
    std::thread::spawn(move || {
        for line in lines.map_while(Result::ok) {
            if line.contains("ERROR") || line.contains("panicked") || told {
                eprintln!("{name}: {line}");
            }
        }
    });
    Ok(())
}
