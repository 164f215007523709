//! A TCP proxy in front of the server that plays a bad network: it can freeze,
//! cut, refuse, delay, and lose whole messages by subject.
//!
//! It never damages the protocol: what is lost is lost between two operations,
//! as if the server or the client had dropped it.

use std::{
    collections::{BTreeMap, HashSet},
    io,
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::Duration,
};

use bytes::{Bytes, BytesMut};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{
        TcpListener, TcpStream,
        tcp::{ReadHalf, WriteHalf},
    },
    sync::{mpsc, watch},
    task::JoinHandle,
    time::{Instant, sleep_until},
};

use super::protocol::{self, Operation};

/// Chunks that wait in one direction of one connection while it is delayed.
const QUEUE: usize = 8_192;

/// Which way a message goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// From the server to the client.
    Down,
    /// From the client to the server.
    Up,
}

/// Which of the messages that match are lost.
#[derive(Debug, Clone)]
pub enum Loss {
    /// This share of them, chosen by a seed: the same seed, the same choice.
    Share {
        /// 0.0 to 1.0.
        share: f64,
        /// Where the choice begins.
        seed: u64,
    },
    /// The n-th ones, counted from 0 when the rule was set.
    Nth(HashSet<u64>),
    /// All of them.
    All,
}

#[derive(Debug)]
struct Rule {
    direction: Direction,
    filter: String,
    loss: Loss,
    seen: u64,
    random: fastrand::Rng,
}

impl Rule {
    /// Whether this message is lost; counts it where the rule is about it.
    fn loses(&mut self, direction: Direction, subject: &str) -> bool {
        if direction != self.direction || !protocol::matches(&self.filter, subject) {
            return false;
        }
        let index = self.seen;
        self.seen += 1;
        match &self.loss {
            Loss::Share { share, .. } => self.random.f64() < *share,
            Loss::Nth(which) => which.contains(&index),
            Loss::All => true,
        }
    }
}

/// What went through so far.
#[derive(Debug, Clone, Default)]
pub struct Counts {
    /// Connections taken.
    pub connections: u64,
    /// Messages passed to a client.
    pub down: u64,
    /// Messages passed to the server.
    pub up: u64,
    /// Messages lost on purpose, by subject.
    pub lost: BTreeMap<String, u64>,
}

impl Counts {
    /// All messages lost on purpose.
    pub fn lost_total(&self) -> u64 {
        self.lost.values().sum()
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mode {
    Pass,
    Freeze,
    Refuse,
}

#[derive(Debug, Default)]
struct State {
    rules: Vec<Rule>,
    delay: Duration,
    counts: Counts,
}

#[derive(Debug)]
struct Shared {
    target: SocketAddr,
    mode: watch::Sender<Mode>,
    /// Rises by one with each cut; a connection of an older age ends.
    age: watch::Sender<u64>,
    state: Mutex<State>,
}

/// The proxy. Connections end when it is dropped.
#[derive(Debug)]
pub struct Proxy {
    address: SocketAddr,
    shared: Arc<Shared>,
    accept: JoinHandle<()>,
}

impl Proxy {
    /// A proxy on a free loopback port in front of `target`.
    pub async fn to(target: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free loopback port");
        let address = listener.local_addr().expect("a bound socket has an address");
        let shared = Arc::new(Shared {
            target,
            mode: watch::Sender::new(Mode::Pass),
            age: watch::Sender::new(0),
            state: Mutex::default(),
        });
        let accept = tokio::spawn(accept(listener, shared.clone()));
        Self { address, shared, accept }
    }

    /// What a client connects to.
    pub fn url(&self) -> String {
        format!("nats://{}", self.address)
    }

    /// Lets everything through again; connections that were frozen go on.
    pub fn pass(&self) {
        self.shared.mode.send_replace(Mode::Pass);
    }

    /// Passes no byte and closes nothing: a half-open connection.
    pub fn freeze(&self) {
        self.shared.mode.send_replace(Mode::Freeze);
    }

    /// Resets every connection; new ones are served.
    pub fn cut(&self) {
        self.shared.age.send_modify(|age| *age += 1);
    }

    /// Resets every connection, and new ones at once, until [`Self::pass`].
    pub fn refuse(&self) {
        self.shared.mode.send_replace(Mode::Refuse);
        self.cut();
    }

    /// Holds what arrives from now on for so long, both ways.
    pub fn delay(&self, delay: Duration) {
        self.shared.state.lock().unwrap().delay = delay;
    }

    /// Loses messages whose subject falls under `filter`. Rules add up; the
    /// first that loses a message decides.
    pub fn lose(&self, direction: Direction, filter: &str, loss: Loss) {
        let seed = if let Loss::Share { seed, .. } = loss { seed } else { 0 };
        self.shared.state.lock().unwrap().rules.push(Rule {
            direction,
            filter: filter.to_owned(),
            loss,
            seen: 0,
            random: fastrand::Rng::with_seed(seed),
        });
    }

    /// Forgets all rules of loss.
    pub fn lose_nothing(&self) {
        self.shared.state.lock().unwrap().rules.clear();
    }

    /// What went through so far.
    pub fn counts(&self) -> Counts {
        self.shared.state.lock().unwrap().counts.clone()
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.accept.abort();
        self.cut();
    }
}

async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    // Ends with the proxy, which aborts it.
    while let Ok((client, _)) = listener.accept().await {
        shared.state.lock().unwrap().counts.connections += 1;
        tokio::spawn(serve(client, shared.clone()));
    }
}

async fn serve(mut client: TcpStream, shared: Arc<Shared>) {
    let mut age = shared.age.subscribe();
    let mut mode = shared.mode.subscribe();
    let refused = tokio::select! {
        // A frozen network does not even reach the server.
        mode = mode.wait_for(|mode| *mode != Mode::Freeze) => {
            mode.is_ok_and(|mode| *mode == Mode::Refuse)
        }
        _ = age.changed() => true,
    };
    if refused {
        return reset(&client);
    }
    let Ok(mut server) = TcpStream::connect(shared.target).await else { return reset(&client) };
    // Without it a small message waits for the acknowledgement of the last one.
    let _ = (client.set_nodelay(true), server.set_nodelay(true));
    let orderly = {
        let (from_client, to_client) = client.split();
        let (from_server, to_server) = server.split();
        let down = pump(from_server, to_client, Direction::Down, &shared);
        let up = pump(from_client, to_server, Direction::Up, &shared);
        tokio::select! {
            ends = async { tokio::try_join!(down, up) } => ends.is_ok(),
            _ = age.changed() => false,
        }
    };
    if !orderly {
        reset(&client);
        reset(&server);
    }
}

/// Makes closing an RST in place of a FIN, as a crashed peer or a firewall does.
fn reset(socket: &TcpStream) {
    let _ = socket.set_zero_linger();
}

/// Carries one direction until its source ends, or fails.
async fn pump(
    from: ReadHalf<'_>,
    to: WriteHalf<'_>,
    direction: Direction,
    shared: &Shared,
) -> io::Result<()> {
    let (queue, held) = mpsc::channel(QUEUE);
    let read = read(from, direction, shared, queue);
    let write = write(held, to, shared.mode.subscribe());
    tokio::try_join!(read, write).map(|_| ())
}

/// Reads what may pass and queues it with the time it is due.
async fn read(
    mut from: ReadHalf<'_>,
    direction: Direction,
    shared: &Shared,
    queue: mpsc::Sender<(Instant, Bytes)>,
) -> io::Result<()> {
    let mut mode = shared.mode.subscribe();
    let mut buffer = BytesMut::with_capacity(64 * 1024);
    loop {
        mode.wait_for(|mode| *mode == Mode::Pass).await.map_err(io::Error::other)?;
        tokio::select! {
            read = from.read_buf(&mut buffer) => {
                if read? == 0 {
                    return Ok(());
                }
            }
            _ = mode.changed() => continue,
        }
        while let Some(operation) = protocol::take(&mut buffer) {
            if let Some(held) = shared.admit(direction, operation) {
                queue.send(held).await.map_err(io::Error::other)?;
            }
        }
    }
}

/// Writes each chunk when it is due, and nothing while frozen.
async fn write(
    mut held: mpsc::Receiver<(Instant, Bytes)>,
    mut to: WriteHalf<'_>,
    mut mode: watch::Receiver<Mode>,
) -> io::Result<()> {
    while let Some((due, bytes)) = held.recv().await {
        sleep_until(due).await;
        mode.wait_for(|mode| *mode == Mode::Pass).await.map_err(io::Error::other)?;
        to.write_all(&bytes).await?;
    }
    to.shutdown().await
}

impl Shared {
    /// Counts an operation and says when it is due, or loses it.
    fn admit(&self, direction: Direction, operation: Operation) -> Option<(Instant, Bytes)> {
        let mut state = self.state.lock().unwrap();
        let State { rules, delay, counts } = &mut *state;
        if let Some(subject) = operation.subject {
            // Every rule sees every message, so that their counts do not depend on each other.
            let lost =
                rules.iter_mut().fold(false, |lost, rule| rule.loses(direction, &subject) | lost);
            if lost {
                *counts.lost.entry(subject).or_default() += 1;
                return None;
            }
            match direction {
                Direction::Down => counts.down += 1,
                Direction::Up => counts.up += 1,
            }
        }
        Some((Instant::now() + *delay, operation.bytes))
    }
}
