//! One of ten consumers stands still while it is spoken to. It costs the others
//! and the worker nothing, and when it goes on it is told what it missed.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use audio_gateway::{
    audio::FLAG_LAST,
    client::{Gateway, ListenOptions, Listener, Sounds},
};
use rustix::process::Signal;
use serde_json::Value;
use tokio::{sync::Semaphore, task::JoinSet};

use crate::{
    PATIENCE, gateway,
    support::{NatsServer, Program, Running, within},
    worker::{FakeWorker, batch, ramp, room, track},
};

/// Consumers that do not stand still.
const OTHERS: usize = 9;
/// Batches that a consumer may be behind the worker.
const WINDOW: usize = 32;
/// Far more than the server keeps for one client, and its sockets hold.
const MOST: u64 = 20_000;

/// `nats/server.conf` without its users and with the limits of a client lowered,
/// so that one that stands still runs into them soon.
fn config(folder: &Path) -> PathBuf {
    let original = Path::new(env!("CARGO_MANIFEST_DIR")).join("nats/server.conf");
    let mut text = std::fs::read_to_string(original).unwrap();
    text.truncate(text.find("# --- accounts").unwrap());
    for (was, is) in [
        ("max_pending: 64MB", "max_pending: 1MB"),
        ("write_deadline: \"5s\"", "write_deadline: \"500ms\""),
    ] {
        assert!(text.contains(was), "nats/server.conf has no {was}");
        text = text.replace(was, is);
    }
    let file = folder.join("server.conf");
    std::fs::write(&file, text).unwrap();
    file
}

/// A worker that goes on as fast as all but one of its consumers.
struct Stage {
    worker: FakeWorker,
    windows: Vec<Arc<Semaphore>>,
    next: u64,
}

impl Stage {
    async fn say(&mut self, flags: u32) {
        for window in &self.windows {
            let place = within("a consumer that keeps up", PATIENCE, window.acquire()).await;
            place.unwrap().forget();
        }
        let said = batch(1, self.next, flags);
        self.worker.say(&room("r"), &track("ann"), 1, self.next, said).await;
        self.next += 1;
    }
}

/// Hears every sample, in order, to the end.
async fn hears(_gateway: Gateway, mut listener: Listener, window: Arc<Semaphore>) -> Listener {
    for seq in 0.. {
        let delivered = loop {
            let heard = within("batch", PATIENCE, listener.next()).await.unwrap();
            match heard.what {
                Sounds::Batch(delivered) => break delivered,
                Sounds::Gap(gap) => panic!("{gap:?}"),
                _ => (),
            }
        };
        assert_eq!(delivered.batch.seq, seq);
        assert!(delivered.batch.pcm[..] == ramp(seq)[..], "{seq}: samples");
        window.add_permits(1);
        if delivered.batch.has(FLAG_LAST) {
            break;
        }
    }
    listener
}

/// What a consumer was told: each batch, and each gap with its length.
fn told(consumer: &Running) -> Vec<(u64, u64)> {
    let text = consumer.stdout();
    let lines = text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    lines
        .filter_map(|line| match line["event"].as_str()? {
            "batch" => Some((line["seq"].as_u64()?, 1)),
            "gap" => Some((line["seq"].as_u64()?, line["count"].as_u64()?)),
            _ => None,
        })
        .collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_consumer_that_stands_still_is_noticed_by_nobody_else() {
    let folder = tempfile::tempdir().unwrap();
    let server = NatsServer::build().config(config(folder.path())).start().await;
    let worker = FakeWorker::start(&server.url()).await;
    let mut stage = Stage { worker, windows: Vec::new(), next: 0 };
    let mut others = JoinSet::new();
    for _ in 0..OTHERS {
        let gateway = gateway(&server.url()).await;
        let listener = gateway.listen(&room("r"), ListenOptions::default()).await.unwrap();
        let window = Arc::new(Semaphore::new(WINDOW));
        stage.windows.push(window.clone());
        others.spawn(hears(gateway, listener, window));
    }
    let program = Program::new(env!("CARGO_BIN_EXE_gateway")).args(["listen", "r", "--json"]);
    let mut still = program.env("NATS_URL", server.url()).start();
    still.prints("\"listening\"", PATIENCE).await;
    for _ in 0..20 {
        stage.say(0).await;
    }
    still.prints("\"seq\":19", PATIENCE).await;

    still.signal(Signal::STOP);
    while !server.log().contains("Slow Consumer") {
        assert!(stage.next < MOST, "it is not cut off");
        for _ in 0..64 {
            stage.say(0).await;
        }
    }
    println!("cut off after {} batches", stage.next - 20);
    still.signal(Signal::CONT);
    let back = stage.next;
    while told(&still).last().is_none_or(|(seq, _)| *seq <= back) {
        assert!(stage.next < back + MOST, "it does not come back: {}", still.stderr());
        for _ in 0..16 {
            stage.say(0).await;
        }
    }
    stage.say(FLAG_LAST).await;
    while let Some(listener) = others.join_next().await {
        let stats = listener.unwrap().stats();
        let (asked, lost, doubled) = (stats.asked, stats.lost, stats.duplicates);
        assert_eq!((asked, lost, doubled, stats.too_slow), (0, 0, 0, 0), "{stats:?}");
        assert_eq!(stats.batches, stage.next);
    }
    // Whatever it missed has a name: nothing is left out and nothing comes twice.
    let mut next = 0;
    for (seq, count) in told(&still) {
        assert_eq!(seq, next, "{}", still.stderr());
        next = seq + count;
    }
    assert!(next > back, "{next}");
    still.signal(Signal::INT);
    within("its end", PATIENCE, still.ended(PATIENCE)).await;
}
