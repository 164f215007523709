//! The test support itself, held against a real server: a test that trusts a
//! proxy which loses nothing proves nothing.

mod support;

use std::{collections::HashSet, time::Duration};

use bytes::{Buf, BytesMut};
use futures_util::StreamExt;
use support::{
    Direction, ErrorLog, Loss, NatsServer, Program, Proxy, eventually, matches, protocol, within,
};

const SOON: Duration = Duration::from_secs(10);

/// A client that comes back at once.
async fn connect(url: &str) -> async_nats::Client {
    let options = async_nats::ConnectOptions::new()
        .reconnect_delay_callback(|_| Duration::from_millis(20))
        .retry_on_initial_connect();
    let client = within("connection", SOON, options.connect(url)).await.expect("connected");
    connected(&client).await;
    client
}

async fn connected(client: &async_nats::Client) {
    eventually("connected client", SOON, async || {
        (client.connection_state() == async_nats::connection::State::Connected).then_some(())
    })
    .await;
}

#[test]
fn operations_are_taken_whole() {
    let wire = b"INFO {}\r\nMSG a.b 1 5\r\nhe\r\no\r\nHMSG c 2 _INBOX.x 4 6\r\nhhhhpp\r\nPING\r\n";
    for cut in 0..wire.len() {
        let mut buffer = BytesMut::from(&wire[..cut]);
        let mut seen = Vec::new();
        while let Some(operation) = protocol::take(&mut buffer) {
            seen.push(operation);
        }
        buffer.extend_from_slice(&wire[cut..]);
        while let Some(operation) = protocol::take(&mut buffer) {
            seen.push(operation);
        }
        assert!(!buffer.has_remaining(), "cut at {cut}");
        let subjects: Vec<_> = seen.iter().map(|one| one.subject.as_deref()).collect();
        assert_eq!(subjects, [None, Some("a.b"), Some("c"), None], "cut at {cut}");
        let joined: Vec<u8> = seen.iter().flat_map(|one| one.bytes.to_vec()).collect();
        assert_eq!(joined, wire);
    }
}

#[test]
fn filters_match_as_the_server_matches() {
    for (filter, subject) in [("a.*", "a.b"), ("a.>", "a.b.c"), (">", "a"), ("a.b", "a.b")] {
        assert!(matches(filter, subject), "{filter} {subject}");
    }
    for (filter, subject) in [("a.*", "a"), ("a.*", "a.b.c"), ("a.>", "a"), ("a", "b")] {
        assert!(!matches(filter, subject), "{filter} {subject}");
    }
}

#[tokio::test]
async fn a_server_comes_back_with_its_port_and_its_store() {
    let mut server = NatsServer::start().await;
    let client = connect(&server.url()).await;
    let js = async_nats::jetstream::new(client.clone());
    let bucket = js
        .create_key_value(async_nats::jetstream::kv::Config {
            bucket: "kept".into(),
            ..Default::default()
        })
        .await
        .expect("a bucket");
    bucket.put("key", "value".into()).await.expect("stored");
    let url = server.url();
    server.kill();
    assert!(!server.is_running());
    server.restart().await;
    assert_eq!(server.url(), url);
    connected(&client).await;
    let value = eventually("value after the restart", SOON, async || {
        bucket.get("key").await.ok().flatten()
    });
    assert_eq!(value.await, "value");
}

#[tokio::test]
async fn a_stopped_server_answers_again_when_it_goes_on() {
    let server = NatsServer::start().await;
    let client = connect(&server.url()).await;
    server.stop().await;
    let asked = tokio::time::timeout(Duration::from_millis(300), client.request("x", "".into()));
    assert!(asked.await.is_err(), "a stopped server answered");
    server.cont();
    barrier(&client).await;
}

#[tokio::test]
async fn a_lame_duck_tells_its_clients() {
    let (told, mut tell) = tokio::sync::mpsc::channel(16);
    let server = NatsServer::start().await;
    let client = async_nats::ConnectOptions::new()
        .event_callback(move |event| {
            let told = told.clone();
            async move {
                let _ = told.try_send(event);
            }
        })
        .connect(server.url())
        .await
        .expect("connected");
    server.lame_duck();
    within("lame duck event", SOON, async {
        while tell.recv().await.expect("events") != async_nats::Event::LameDuckMode {}
    })
    .await;
    drop(client);
}

#[tokio::test]
async fn the_proxy_loses_what_it_is_told_and_nothing_else() {
    let server = NatsServer::start().await;
    let proxy = Proxy::to(server.addr()).await;
    proxy.lose(Direction::Down, "audio.live.>", Loss::Nth(HashSet::from([0, 3])));
    let behind = connect(&proxy.url()).await;
    let direct = connect(&server.url()).await;
    let mut heard = behind.subscribe("audio.>").await.expect("subscribed");
    barrier(&behind).await;
    for index in 0..5 {
        direct.publish("audio.live.1.a", format!("live {index}").into()).await.expect("sent");
        direct.publish("audio.event.1", format!("event {index}").into()).await.expect("sent");
    }
    let mut seen = Vec::new();
    while seen.last().is_none_or(|last| last != "event 4") {
        let message = within("message", SOON, heard.next()).await.expect("a message");
        seen.push(String::from_utf8(message.payload.to_vec()).expect("text"));
    }
    let live: Vec<_> = seen.iter().filter(|text| text.starts_with("live")).collect();
    assert_eq!(live, ["live 1", "live 2", "live 4"]);
    assert_eq!(seen.iter().filter(|text| text.starts_with("event")).count(), 5);
    assert_eq!(proxy.counts().lost["audio.live.1.a"], 2);
}

#[tokio::test]
async fn a_share_is_lost_the_same_way_for_the_same_seed() {
    let server = NatsServer::start().await;
    let mut runs = Vec::new();
    for _ in 0..2 {
        let proxy = Proxy::to(server.addr()).await;
        proxy.lose(Direction::Up, "up.*", Loss::Share { share: 0.2, seed: 7 });
        let mut heard = connect(&server.url()).await.subscribe("up.*").await.expect("subscribed");
        let behind = connect(&proxy.url()).await;
        barrier(&behind).await;
        for index in 0..1_000 {
            behind.publish(format!("up.{index}"), "".into()).await.expect("sent");
        }
        barrier(&behind).await;
        let lost = proxy.counts().lost;
        for _ in lost.len()..1_000 {
            within("message", SOON, heard.next()).await.expect("a message");
        }
        runs.push(lost.into_keys().collect::<Vec<_>>());
    }
    assert!((150..250).contains(&runs[0].len()), "{} of 1,000 lost", runs[0].len());
    assert_eq!(runs[0], runs[1]);
}

#[tokio::test]
async fn a_frozen_proxy_is_half_open_and_a_cut_one_is_not() {
    let server = NatsServer::start().await;
    let proxy = Proxy::to(server.addr()).await;
    let client = connect(&proxy.url()).await;
    proxy.freeze();
    let asked = tokio::time::timeout(Duration::from_millis(200), client.request("x", "".into()));
    assert!(asked.await.is_err(), "a frozen network carried an answer");
    proxy.pass();
    barrier(&client).await;
    let before = proxy.counts().connections;
    proxy.refuse();
    eventually("lost connection", SOON, async || {
        (client.connection_state() != async_nats::connection::State::Connected).then_some(())
    })
    .await;
    proxy.pass();
    connected(&client).await;
    barrier(&client).await;
    assert!(proxy.counts().connections > before);
}

#[tokio::test]
async fn a_delay_holds_each_message_and_keeps_the_order() {
    let server = NatsServer::start().await;
    let proxy = Proxy::to(server.addr()).await;
    let client = connect(&proxy.url()).await;
    barrier(&client).await;
    proxy.delay(Duration::from_millis(150));
    let asked = std::time::Instant::now();
    barrier(&client).await;
    assert!(asked.elapsed() >= Duration::from_millis(300), "{:?}", asked.elapsed());
}

#[tokio::test]
async fn a_program_takes_its_children_with_it() {
    let script = "sh -c 'exec sleep 1000' & setsid_is_not_used=1; echo ready >&2; wait";
    let program = Program::new("sh").arg("-c").arg(script).start();
    program.says("ready", SOON).await;
    let child = eventually("child", SOON, async || {
        program.children().into_iter().find(|one| one.command == "sleep 1000")
    })
    .await;
    drop(program);
    eventually("end of the child", SOON, async || {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", child.pid));
        stat.map_or(true, |stat| stat.contains(") Z ")).then_some(())
    })
    .await;
}

#[test]
fn errors_are_kept_and_those_expected_forgiven() {
    let log = ErrorLog::start();
    tracing::warn!("a warning is no error");
    log.assert_clean();
    tracing::error!(room = "42", "expected trouble");
    assert_eq!(log.unexpected().len(), 1);
    log.expect("expected trouble");
    log.assert_clean();
}

/// What was sent before has reached the server, and its answers us: a request
/// to a subject nobody serves comes back at once.
async fn barrier(client: &async_nats::Client) {
    let answer = within("barrier", SOON, client.request("barrier", "".into())).await;
    let error = answer.expect_err("nobody serves this");
    assert_eq!(error.kind(), async_nats::client::RequestErrorKind::NoResponders);
}
