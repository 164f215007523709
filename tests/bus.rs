//! Connections: what is said where there can be none, encryption, and the
//! counts of what happens to one.

// A test is the place to panic; clippy sees that only inside `#[test]` itself.
#![allow(clippy::unwrap_used)]

mod support;

use std::{collections::BTreeMap, path::PathBuf, sync::atomic::Ordering, time::Duration};

use audio_gateway::bus::{
    AskError, BusOptions, ConnectError, Link, Purpose,
    service::{About, Endpoint, Service},
};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use support::{NatsServer, within};
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader},
    net::TcpListener,
    task::JoinSet,
};

const PATIENCE: Duration = Duration::from_secs(30);

/// A server that says it is of this version and answers pings.
async fn server_of_version(version: &'static str) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("nats://{}", listener.local_addr().unwrap());
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let info = format!(
                "INFO {{\"server_id\":\"S\",\"version\":\"{version}\",\"proto\":1,\
                 \"headers\":true,\"max_payload\":1048576}}\r\n"
            );
            tokio::spawn(async move {
                let (read, mut write) = stream.split();
                if write.write_all(info.as_bytes()).await.is_err() {
                    return;
                }
                let mut lines = BufReader::new(read).lines();
                while let Ok(Some(line)) = lines.next_line().await {
                    if line.starts_with("PING") && write.write_all(b"PONG\r\n").await.is_err() {
                        return;
                    }
                }
            });
        }
    });
    url
}

#[tokio::test]
async fn an_old_server_is_refused_by_name_of_the_version_needed() {
    for (version, fine) in [("2.9.25", false), ("2.10.29", false), ("2.11.0", true)] {
        let options = BusOptions::plain(&server_of_version(version).await);
        let link = within("connecting", PATIENCE, Link::connect(&options, "t", Purpose::Control));
        match link.await {
            Ok(_) => assert!(fine, "{version} was taken"),
            Err(error @ ConnectError::TooOld { .. }) => {
                let text = error.to_string();
                assert!(!fine && text.contains(version) && text.contains("2.11.0"), "{text}");
            }
            Err(other) => panic!("{version}: {other}"),
        }
    }
}

#[tokio::test]
async fn nobody_there_is_said_with_where_and_what_to_look_at() {
    // Bound and never listened to again: nobody answers there.
    let port = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().port();
    let options = BusOptions::plain(&format!("nats://user:secret@127.0.0.1:{port}"));
    let error = Link::connect(&options, "t", Purpose::Control).await.unwrap_err().to_string();
    assert!(error.contains(&port.to_string()) && error.contains("NATS_URL"), "{error}");
    assert!(!error.contains("secret"), "{error}");
}

/// Files of an authority and of a server at 127.0.0.1 that it vouches for.
struct Tls {
    folder: tempfile::TempDir,
}

impl Tls {
    fn new() -> Self {
        let mut authority = CertificateParams::new(Vec::new()).unwrap();
        authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let authority = CertifiedIssuer::self_signed(authority, KeyPair::generate().unwrap());
        let authority = authority.unwrap();
        let key = KeyPair::generate().unwrap();
        let server = CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap();
        let server = server.signed_by(&key, &authority).unwrap();
        let this = Self { folder: tempfile::tempdir().unwrap() };
        std::fs::write(this.file("ca.pem"), authority.pem()).unwrap();
        std::fs::write(this.file("server.pem"), server.pem()).unwrap();
        std::fs::write(this.file("server.key"), key.serialize_pem()).unwrap();
        this
    }

    fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }
}

#[tokio::test]
async fn an_encrypted_server_is_trusted_by_its_authority_alone() {
    let tls = Tls::new();
    let server = NatsServer::build()
        .arg("--tls")
        .arg("--tlscert")
        .arg(tls.file("server.pem"))
        .arg("--tlskey")
        .arg(tls.file("server.key"))
        .start()
        .await;
    let mut options = BusOptions::plain(&server.url().replace("nats://", "tls://"));
    let error = Link::connect(&options, "t", Purpose::Control).await.unwrap_err().to_string();
    assert!(error.contains("UnknownIssuer") && error.contains("NATS_CA"), "{error}");

    options.tlsca = Some(tls.file("ca.pem"));
    let link = Link::connect(&options, "t", Purpose::Control).await.unwrap();
    link.barrier().await.unwrap();

    options.tlsca = Some(tls.file("nowhere.pem"));
    assert!(Link::connect(&options, "t", Purpose::Control).await.is_err());
}

#[tokio::test]
async fn what_happens_to_a_connection_is_counted() {
    let mut server = NatsServer::start().await;
    let options = BusOptions::plain(&server.url());
    let link = Link::connect(&options, "t", Purpose::Control).await.unwrap();
    let mut health = link.health();
    server.kill();
    within("the loss", PATIENCE, health.wait_for(|up| !up)).await.unwrap();
    assert_eq!(link.counters().disconnects.load(Ordering::Relaxed), 1);
    // A question while nobody is there ends in time, and not with the server.
    let late = link.ask_bytes("nobody", bytes::Bytes::new(), Duration::from_millis(100)).await;
    assert!(matches!(late, Err(AskError::TimedOut(_))), "{late:?}");
    server.restart().await;
    within("the return", PATIENCE, health.wait_for(|up| *up)).await.unwrap();
    link.barrier().await.unwrap();
}

#[tokio::test]
async fn a_service_that_drains_answers_whoever_has_asked() {
    let server = NatsServer::start().await;
    let options = BusOptions::plain(&server.url());
    let [serving, asking] = ["serving", "asking"].map(|name| {
        let options = options.clone();
        async move { Link::connect(&options, name, Purpose::Control).await.unwrap() }
    });
    let (serving, asking) = (serving.await, asking.await);
    let mut overheard = serving.subscribe("t.e").await.unwrap();
    let metadata = BTreeMap::new();
    let about = About { name: "t", id: "1".into(), description: "", metadata };
    let endpoint = Endpoint { name: "e", subject: "t.e".into(), shared: true };
    let (service, mut requests) = Service::start(&serving, about, vec![endpoint]).await.unwrap();
    serving.barrier().await.unwrap();

    let mut askers = JoinSet::new();
    for _ in 0..20 {
        let asking = asking.clone();
        askers.spawn(async move { asking.ask_bytes("t.e", "".into(), PATIENCE).await });
    }
    for _ in 0..20 {
        within("a request", PATIENCE, overheard.next()).await.unwrap();
    }
    // They have come, and nobody has looked at one.
    serving.barrier().await.unwrap();
    let answers = async {
        let mut answered = 0;
        while let Some(request) = requests.recv().await {
            request.answer(&"served").await;
            answered += 1;
        }
        answered
    };
    let (answered, ()) =
        within("the end", PATIENCE, async { tokio::join!(answers, service.drain()) }).await;
    assert_eq!(answered, 20);
    while let Some(asker) = askers.join_next().await {
        assert_eq!(asker.unwrap().unwrap(), r#""served""#);
    }
    // Nobody is left who would be asked.
    drop(overheard);
    serving.barrier().await.unwrap();
    let late = asking.ask_bytes("t.e", "".into(), PATIENCE).await;
    assert!(matches!(late, Err(AskError::NoResponder(_))), "{late:?}");
}
