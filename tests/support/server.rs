//! A real nats-server of this test's own, which it may kill, freeze and start
//! again on the same port and the same store.

use std::{
    ffi::OsString,
    net::{Ipv4Addr, SocketAddr, TcpListener},
    path::{Path, PathBuf},
    sync::atomic::{AtomicU16, Ordering},
    time::Duration,
};

use rustix::process::Signal;
use tempfile::TempDir;
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    net::TcpStream,
    time::timeout,
};

use super::{engine::Engine, wait::eventually};

/// How long a server may take until it answers, on a busy machine.
const READY: Duration = Duration::from_secs(30);
/// Ports are taken from below the kernel's range for outgoing connections: a
/// client that tries to reach a server that is away could otherwise be given
/// that very port as its own, meet itself, and keep the server out.
const PORTS: std::ops::Range<u16> = 18_000..32_000;
/// Ports tried before a start is given up: tests of other processes take
/// theirs from the same range.
const TRIES: usize = 20;

/// How a server is started.
#[derive(Debug, Default)]
pub struct Builder {
    config: Option<PathBuf>,
    args: Vec<OsString>,
    env: Vec<(OsString, OsString)>,
}

impl Builder {
    /// A configuration file; a relative path is taken from the project's root.
    /// Its ports are replaced; it names its store as `$NATS_STORE_DIR`.
    pub fn config(mut self, path: impl AsRef<Path>) -> Self {
        self.config = Some(Path::new(env!("CARGO_MANIFEST_DIR")).join(path));
        self
    }

    /// One more argument.
    pub fn arg(mut self, arg: impl Into<OsString>) -> Self {
        self.args.push(arg.into());
        self
    }

    /// One more variable, which the configuration may refer to.
    pub fn env(mut self, key: impl Into<OsString>, value: impl Into<OsString>) -> Self {
        self.env.push((key.into(), value.into()));
        self
    }

    /// The variables of a file of `NAME=value` lines.
    pub fn env_file(mut self, path: impl AsRef<Path>) -> Self {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
        let text = std::fs::read_to_string(&path).expect("the file of variables can be read");
        for line in text.lines().filter(|line| !line.starts_with('#')) {
            let (key, value) = line.split_once('=').expect("a line NAME=value");
            self = self.env(key, value);
        }
        self
    }

    /// Starts it, with JetStream in a folder of its own, and waits until it answers.
    pub async fn start(self) -> NatsServer {
        let store =
            tempfile::Builder::new().prefix("nats-").tempdir().expect("a folder for JetStream");
        let mut server =
            NatsServer { engine: Engine::choose(), builder: self, store, port: free_port() };
        for _ in 0..TRIES {
            server.launch().await;
            if server.answers().await {
                return server;
            }
            let log = server.engine.log();
            assert!(log.contains("address already in use"), "nats-server ended at once:\n{log}");
            server.port = free_port();
        }
        panic!("{TRIES} ports from {PORTS:?} were all taken");
    }
}

/// A running nats-server; it is killed when this is dropped.
#[derive(Debug)]
pub struct NatsServer {
    // Dropped before the store it writes to.
    engine: Engine,
    builder: Builder,
    store: TempDir,
    port: u16,
}

impl NatsServer {
    /// A server without accounts and with JetStream.
    pub async fn start() -> Self {
        Self::build().start().await
    }

    /// A server to be configured.
    pub fn build() -> Builder {
        Builder::default()
    }

    /// What a client connects to.
    pub fn url(&self) -> String {
        format!("nats://{}", self.addr())
    }

    /// What a client connects to, with a user of the configuration.
    pub fn url_of(&self, user: &str, password: &str) -> String {
        format!("nats://{user}:{password}@{}", self.addr())
    }

    /// Where it listens.
    pub fn addr(&self) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, self.port).into()
    }

    /// Where JetStream writes.
    pub fn store(&self) -> &Path {
        self.store.path()
    }

    /// All it has logged since it was started last.
    pub fn log(&self) -> String {
        self.engine.log()
    }

    /// Kills it without warning.
    pub fn kill(&mut self) {
        self.engine.kill();
    }

    /// Stops it, and waits until every thread of it stands still: connections
    /// stay open and nothing answers.
    pub async fn stop(&self) {
        self.engine.signal(Signal::STOP);
        let pid = self.engine.pid();
        eventually("standstill", READY, async || stands_still(pid).then_some(())).await;
    }

    /// Goes on after [`Self::stop`].
    pub fn cont(&self) {
        self.engine.signal(Signal::CONT);
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: Signal) {
        self.engine.signal(signal);
    }

    /// Enters lame duck mode: clients are told, then put off, then it ends.
    pub fn lame_duck(&self) {
        self.engine.signal(Signal::USR2);
    }

    /// Whether the process lives.
    pub fn is_running(&mut self) -> bool {
        self.engine.is_running()
    }

    /// Starts it again where it was, with what it had on disk; kills it first
    /// where it still runs.
    pub async fn restart(&mut self) {
        self.kill();
        self.launch().await;
        assert!(self.answers().await, "nats-server did not come back:\n{}", self.log());
    }

    async fn launch(&mut self) {
        let mut args: Vec<OsString> = Vec::new();
        let mut arg = |arg: &str| args.push(arg.into());
        arg("-a");
        arg("127.0.0.1");
        arg("-p");
        arg(&self.port.to_string());
        match &self.builder.config {
            Some(path) => {
                arg("-c");
                arg(path.to_str().expect("the project's path is text"));
                arg("-m");
                arg("-1");
            }
            None => {
                arg("-js");
                arg("-sd");
                arg(self.store.path().to_str().expect("the store's path is text"));
            }
        }
        args.extend(self.builder.args.iter().cloned());
        let folders = [env!("CARGO_MANIFEST_DIR").as_ref(), self.store.path()];
        let mut env = self.builder.env.clone();
        env.push(("NATS_STORE_DIR".into(), self.store.path().into()));
        self.engine.start(&args, &env, &folders).await;
    }

    /// Waits until it greets a client; false where its process ended.
    async fn answers(&mut self) -> bool {
        let addr = self.addr();
        let engine = &mut self.engine;
        eventually("greeting of nats-server", READY, async || {
            if !engine.is_running() {
                return Some(false);
            }
            let greeting = timeout(Duration::from_secs(1), greeting(addr)).await;
            greeting.is_ok_and(|text| text.is_some()).then_some(true)
        })
        .await
    }
}

/// Whether every thread of a process is stopped.
fn stands_still(pid: i32) -> bool {
    let threads = std::fs::read_dir(format!("/proc/{pid}/task")).expect("the process lives");
    threads.flatten().all(|thread| {
        // A thread that ended meanwhile stands still too.
        let stat = std::fs::read_to_string(thread.path().join("stat")).unwrap_or_default();
        stat.rsplit_once(") ").is_none_or(|(_, fields)| fields.starts_with('T'))
    })
}

/// The line with which a server opens a connection.
async fn greeting(addr: SocketAddr) -> Option<String> {
    let mut line = String::new();
    BufReader::new(TcpStream::connect(addr).await.ok()?).read_line(&mut line).await.ok()?;
    line.starts_with("INFO ").then_some(line)
}

/// A port nothing listens on now.
pub(super) fn free_port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    loop {
        // Another process begins elsewhere.
        let start = fastrand::Rng::with_seed(std::process::id().into()).u16(..);
        let step = NEXT.fetch_add(1, Ordering::Relaxed).wrapping_mul(7);
        let port = PORTS.start + start.wrapping_add(step) % (PORTS.end - PORTS.start);
        if TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
            return port;
        }
    }
}
