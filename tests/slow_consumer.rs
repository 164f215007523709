//! The server as `nats/server.conf` sets it up: a consumer that stops reading
//! is cut off, and the others hear the room as if it were not there.

mod support;

use std::time::{Duration, Instant};

use audio_gateway::bus::{BusOptions, Link, Purpose};
use bytes::Bytes;
use support::{NatsServer, eventually, within};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    sync::mpsc,
};

const SOON: Duration = Duration::from_secs(60);
/// A batch of ten frames.
const BATCH: usize = 6_600;
/// More than the server keeps for one client (64 MB) and what two sockets hold.
const BATCHES: usize = 16_000;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_consumer_that_stops_reading_is_cut_off_and_slows_nobody_down() {
    let server =
        NatsServer::build().config("nats/server.conf").env_file("nats/dev.env").start().await;
    let worker = link(&server, "worker").await;
    let listener = link(&server, "consumer-42").await;
    let began = Instant::now();
    publish_and_hear(&worker, &listener).await;
    let alone = began.elapsed();

    let mut stuck = TcpStream::connect(server.addr()).await.expect("connected");
    let user = serde_json::json!({
        "user": "consumer-42", "pass": "dev-consumer-42", "verbose": false, "pedantic": false,
    });
    let subscribe = format!("CONNECT {user}\r\nSUB audio.live.42.* 1\r\nPING\r\n");
    stuck.write_all(subscribe.as_bytes()).await.expect("sent");
    let mut greeting = Vec::new();
    while !greeting.ends_with(b"PONG\r\n") {
        within("greeting", SOON, stuck.read_buf(&mut greeting)).await.expect("read");
    }

    let in_its_way = Instant::now();
    within("all batches", 4 * alone + SOON / 20, publish_and_hear(&worker, &listener)).await;
    println!("{alone:?} alone, {:?} beside a stuck consumer", in_its_way.elapsed());
    eventually("end of the stuck consumer", SOON, async || {
        server.log().contains("Slow Consumer").then_some(())
    })
    .await;
    drop(stuck);
}

/// Publishes batches as fast as the listener takes them.
async fn publish_and_hear(worker: &Link, listener: &Link) {
    let mut heard = listener.subscribe("audio.live.42.*").await.expect("subscribed");
    listener.barrier().await.expect("subscribed");
    let (window, mut room) = mpsc::channel(64);
    let listening = tokio::spawn(async move {
        for _ in 0..BATCHES {
            within("batch", SOON, heard.next()).await.expect("a batch");
            room.recv().await;
        }
    });
    let batch = Bytes::from(vec![7; BATCH]);
    for _ in 0..BATCHES {
        window.send(()).await.expect("it listens");
        let subject = "audio.live.42.user-0".to_owned();
        worker.publish_bytes(subject, batch.clone()).await.expect("sent");
    }
    within("every batch", SOON, listening).await.expect("it heard all");
}

async fn link(server: &NatsServer, role: &str) -> Link {
    let options = BusOptions {
        user: Some(role.to_owned()),
        password: Some(format!("dev-{role}")),
        inbox_prefix: format!("_INBOX.{role}"),
        ..BusOptions::plain(&server.url())
    };
    Link::connect(&options, role, Purpose::Media).await.expect("connected")
}
