//! The roles of `nats/permissions.conf` on a real server: what each may say and
//! hear, and that everything else in the tables is denied.
//!
//! The tables are the contract; what the file allows is not read. Each role is
//! a letter: **D**ispatcher, **W**orker, **R**ecorder, **S**ervice, **C**onsumer
//! of room 42, re**V**iewer of what was recorded of it, **O**perator.

mod support;

use std::{collections::BTreeMap, sync::atomic::Ordering, time::Duration};

use async_nats::jetstream;
use audio_gateway::{
    bus::{
        BusOptions, Link, Purpose,
        kv::{Change, Store},
        messages::{LeaseRecord, Nack, NackReply, NackStatus},
        recording::{Bounds, Past, Since},
        service::{About, Endpoint, Service},
        subjects::{self, Lane, TrackNack},
    },
    id::{RoomId, SubscriberId, TrackId},
    task::Epoch,
};
use futures_util::StreamExt;
use support::{NatsServer, within};
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader},
    net::TcpStream,
};

const SOON: Duration = Duration::from_secs(20);

const ROLES: [(char, &str); 7] = [
    ('D', "dispatcher"),
    ('W', "worker"),
    ('R', "recorder"),
    ('S', "service"),
    ('C', "consumer-42"),
    ('V', "reviewer-42"),
    ('O', "operator"),
];

/// Who may publish where.
const SAY: &[(&str, &str)] = &[
    ("gateway.task.submit", "S"),
    ("gateway.task.get", "SO"),
    ("gateway.task.list", "SO"),
    ("gateway.task.update", "SO"),
    ("gateway.task.cancel", "SO"),
    ("gateway.task.event.t1", "DW"),
    ("gateway.admin.drain", "O"),
    ("gateway.admin.stepdown", "O"),
    ("gateway.admin.workers", "O"),
    ("gateway.admin.leader", "WO"),
    ("gateway.worker.w1.heartbeat", "W"),
    ("gateway.worker.w1.assign", "D"),
    ("gateway.worker.w1.update", "D"),
    ("gateway.worker.w1.revoke", "D"),
    ("gateway.worker.w1.drain", "DO"),
    ("gateway.worker.w1.ping", "DWO"),
    ("gateway.worker.w1.inventory", "DO"),
    ("audio.live.42.user-0", "W"),
    ("audio.live.43.user-0", "W"),
    ("audio.rec.42.user-0", "W"),
    ("audio.nack.42.user-0", "CV"),
    ("audio.nack.43.user-0", ""),
    ("audio.resend.42.user-0.asr", "W"),
    ("audio.event.42", "W"),
    ("audio.push.42.tts", "S"),
    ("audio.control.42.tts", "S"),
    // inboxes: one's own, and those who answer
    ("_INBOX.dispatcher.x", "DW"),
    ("_INBOX.worker.x", "DW"),
    ("_INBOX.recorder.x", "DWR"),
    ("_INBOX.service.x", "DWS"),
    ("_INBOX.consumer-42.x", "DWC"),
    ("_INBOX.consumer-43.x", "DW"),
    ("_INBOX.reviewer-42.x", "DWV"),
    ("_INBOX.operator.x", "DWO"),
    // micro services
    ("$SRV.PING", "O"),
    ("$SRV.PING.dispatcher.d1", "DO"),
    ("$SRV.PING.worker.w1", "WO"),
    ("$SRV.INFO.dispatcher", "O"),
    ("$SRV.STATS.worker.w1", "O"),
    // buckets
    ("$KV.gateway_tasks.t1", "D"),
    ("$KV.gateway_rooms.42", "D"),
    ("$KV.gateway_leases.leader", "D"),
    ("$KV.gateway_leases.worker.w1", "DW"),
    ("$KV.other.key", ""),
    // JetStream: what makes, reads and watches
    ("$JS.API.STREAM.CREATE.KV_gateway_tasks", "D"),
    ("$JS.API.STREAM.CREATE.GATEWAY_EVENTS", "D"),
    ("$JS.API.STREAM.CREATE.AUDIO", "DR"),
    ("$JS.API.STREAM.CREATE.ANOTHER", ""),
    ("$JS.API.STREAM.INFO.KV_gateway_tasks", "DO"),
    ("$JS.API.STREAM.INFO.KV_gateway_rooms", "DWRO"),
    ("$JS.API.STREAM.INFO.KV_gateway_leases", "DWO"),
    ("$JS.API.STREAM.INFO.GATEWAY_EVENTS", "DO"),
    ("$JS.API.STREAM.INFO.AUDIO", "DRO"),
    ("$JS.API.STREAM.NAMES", "O"),
    ("$JS.API.STREAM.LIST", "O"),
    ("$JS.API.INFO", "DO"),
    ("$JS.API.DIRECT.GET.KV_gateway_tasks.$KV.gateway_tasks.t1", "DO"),
    ("$JS.API.DIRECT.GET.KV_gateway_rooms.$KV.gateway_rooms.42", "DWRO"),
    ("$JS.API.DIRECT.GET.KV_gateway_leases.$KV.gateway_leases.leader", "DO"),
    ("$JS.API.DIRECT.GET.KV_gateway_leases.$KV.gateway_leases.worker.w1", "DWO"),
    ("$JS.API.DIRECT.GET.AUDIO.audio.rec.42.user-0", ""),
    ("$JS.API.STREAM.MSG.GET.AUDIO", ""),
    ("$JS.API.STREAM.MSG.GET.KV_gateway_tasks", ""),
    ("$JS.API.CONSUMER.CREATE.KV_gateway_tasks.x.$KV.gateway_tasks.>", "DO"),
    ("$JS.API.CONSUMER.CREATE.KV_gateway_tasks", "DO"),
    ("$JS.API.CONSUMER.CREATE.GATEWAY_EVENTS.x", "O"),
    ("$JS.API.CONSUMER.CREATE.AUDIO.x", "R"),
    ("$JS.API.CONSUMER.CREATE.AUDIO.x.audio.rec.42.user-0", "RV"),
    ("$JS.API.CONSUMER.CREATE.AUDIO.x.audio.rec.42.*", "RV"),
    ("$JS.API.CONSUMER.CREATE.AUDIO.x.audio.rec.43.*", "R"),
    ("$JS.API.CONSUMER.CREATE.AUDIO.x.audio.rec.*.*", "R"),
    ("$JS.API.CONSUMER.CREATE.AUDIO.x.audio.rec.*.user-0", "R"),
    ("$JS.API.CONSUMER.CREATE.AUDIO.x.>", "R"),
    ("$JS.API.DIRECT.GET.AUDIO", ""),
    ("$JS.API.CONSUMER.CREATE.AUDIO", ""),
    ("$JS.API.CONSUMER.DURABLE.CREATE.AUDIO.x", ""),
    ("$JS.API.CONSUMER.INFO.AUDIO.x", "RO"),
    ("$JS.API.CONSUMER.MSG.NEXT.AUDIO.x", "R"),
    ("$JS.API.CONSUMER.MSG.NEXT.GATEWAY_EVENTS.x", "O"),
    ("$JS.ACK.AUDIO.x.1.1.1.1.0", "R"),
    ("$JS.ACK.GATEWAY_EVENTS.x.1.1.1.1.0", ""),
    ("$JS.FC.KV_gateway_tasks.x.y", "DO"),
    ("$JS.FC.AUDIO.x.y", "V"),
    // JetStream: what changes or destroys
    ("$JS.API.STREAM.UPDATE.KV_gateway_tasks", ""),
    ("$JS.API.STREAM.UPDATE.AUDIO", ""),
    ("$JS.API.STREAM.DELETE.KV_gateway_tasks", ""),
    ("$JS.API.STREAM.DELETE.AUDIO", ""),
    ("$JS.API.STREAM.PURGE.AUDIO", ""),
    ("$JS.API.STREAM.MSG.DELETE.AUDIO", ""),
    ("$JS.API.STREAM.SNAPSHOT.AUDIO", ""),
    ("$JS.API.STREAM.RESTORE.AUDIO", ""),
    ("$JS.API.CONSUMER.DELETE.AUDIO.x", ""),
    ("$JS.API.CONSUMER.DELETE.KV_gateway_tasks.x", "DO"),
    ("$JS.API.CONSUMER.PAUSE.AUDIO.x", ""),
    ("$JS.API.ACCOUNT.PURGE.AUDIO", ""),
    ("$JS.API.SERVER.REMOVE", ""),
    // the server itself, and anything else
    ("$SYS.REQ.USER.INFO", ""),
    ("$SYS.REQ.SERVER.PING", ""),
    ("anything", ""),
];

/// Who may subscribe to what.
const HEAR: &[(&str, &str)] = &[
    (">", ""),
    ("*", ""),
    ("audio.>", ""),
    ("gateway.>", ""),
    ("$JS.>", ""),
    ("$KV.>", ""),
    ("$KV.gateway_tasks.>", ""),
    ("$SYS.>", ""),
    ("_INBOX.>", ""),
    ("_INBOX.*.>", ""),
    ("_INBOX.dispatcher.>", "D"),
    ("_INBOX.worker.>", "W"),
    ("_INBOX.recorder.>", "R"),
    ("_INBOX.service.>", "S"),
    ("_INBOX.consumer-42.>", "C"),
    ("_INBOX.consumer-42.x.y", "C"),
    ("_INBOX.reviewer-42.>", "V"),
    ("_INBOX.operator.>", "O"),
    ("gateway.task.submit", "D"),
    ("gateway.task.get", "D"),
    ("gateway.task.list", "D"),
    ("gateway.task.update", "D"),
    ("gateway.task.cancel", "D"),
    ("gateway.task.*", ""),
    ("gateway.task.event.*", "DSO"),
    ("gateway.admin.drain", "D"),
    ("gateway.admin.stepdown", "D"),
    ("gateway.admin.workers", "D"),
    ("gateway.admin.leader", "D"),
    ("gateway.worker.*.heartbeat", "DO"),
    ("gateway.worker.w1.assign", "W"),
    ("gateway.worker.w1.update", "W"),
    ("gateway.worker.w1.revoke", "W"),
    ("gateway.worker.w1.drain", "W"),
    ("gateway.worker.w1.ping", "W"),
    ("gateway.worker.w1.inventory", "W"),
    ("audio.live.42.*", "WCV"),
    ("audio.live.43.*", "W"),
    ("audio.live.*.*", "W"),
    ("audio.rec.42.*", "WCV"),
    ("audio.rec.43.*", "W"),
    ("audio.event.42", "WRCVO"),
    ("audio.event.43", "WRO"),
    ("audio.event.*", "WRO"),
    ("audio.resend.42.*.asr", "WCV"),
    ("audio.resend.43.*.asr", "W"),
    ("audio.nack.*.*", "W"),
    ("audio.nack.42.user-0", "W"),
    ("audio.push.*.*", "W"),
    ("audio.push.42.tts", "W"),
    ("audio.control.42.tts", "W"),
    ("$SRV.PING", "DW"),
    ("$SRV.INFO.dispatcher", "D"),
    ("$SRV.STATS.dispatcher.d1", "D"),
    ("$SRV.STATS.worker.w1", "W"),
    ("$SRV.>", ""),
    ("anything", ""),
];

#[tokio::test]
async fn each_role_says_and_hears_what_it_must_and_nothing_else() {
    let server = server().await;
    let mut wrong = Vec::new();
    for (letter, role) in ROLES {
        let mut wire = Wire::connect(&server, role, &password(role)).await;
        for (verb, table) in [("PUB", SAY), ("SUB", HEAR)] {
            for (subject, allowed) in table {
                let allowed = allowed.contains(letter);
                if wire.may(verb, subject).await != allowed {
                    let is = if allowed { "is denied but needed" } else { "is allowed" };
                    wrong.push(format!("{role}: {verb} {subject} {is}"));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[tokio::test]
async fn nobody_gets_in_without_a_name_and_its_password() {
    let server = server().await;
    for (user, password) in [("worker", "wrong"), ("nobody", "x"), ("", "")] {
        let greeting = Wire::try_connect(&server, user, password).await;
        assert!(greeting.is_err_and(|error| error.contains("Authorization")), "{user:?}");
    }
}

#[tokio::test]
async fn the_dispatcher_keeps_its_buckets_and_serves_services_and_operators() {
    let server = server().await;
    let dispatcher = link(&server, "dispatcher").await;
    let store = Store::new(&dispatcher, None);
    for name in [subjects::TASKS_BUCKET, subjects::ROOMS_BUCKET, subjects::LEASES_BUCKET] {
        let bucket = store.bucket::<LeaseRecord>(name, None).await.expect("a bucket");
        let mut watch = bucket.watch().await.expect("a watch");
        assert_eq!(within("start", SOON, watch.next()).await, Change::Current);
        let made = bucket.create("key", &lease("a")).await.expect("created");
        let changed = bucket.update("key", &lease("b"), made).await.expect("updated");
        let read = bucket.get("key").await.expect("read").expect("a value");
        assert_eq!((read.value, read.revision), (lease("b"), changed));
        bucket.delete("key", changed).await.expect("deleted");
        while !matches!(within("change", SOON, watch.next()).await, Change::Deleted { .. }) {}
    }
    store.ensure_events().await.expect("a stream of events");

    let about = About {
        name: subjects::DISPATCHER_SERVICE,
        id: "d1".into(),
        description: "",
        metadata: BTreeMap::new(),
    };
    let subject = "gateway.task.get".to_owned();
    let endpoint = Endpoint { name: "get", subject: subject.clone(), shared: true };
    let (_service, mut requests) =
        Service::start(&dispatcher, about, vec![endpoint]).await.expect("a service");
    dispatcher.barrier().await.expect("subscribed");
    for (role, subject) in [("service", subject.as_str()), ("operator", &subject)] {
        let asker = link(&server, role).await;
        let asked = asker.ask_bytes(subject, "{}".into(), SOON);
        let served = async { requests.recv().await.expect("a request").answer(&"served").await };
        let (answer, ()) = tokio::join!(asked, served);
        assert_eq!(answer.expect("answered"), "\"served\"");
        assert_clean(&asker);
    }
    let operator = link(&server, "operator").await;
    let pong = operator.ask_bytes("$SRV.PING.dispatcher", "".into(), SOON).await.expect("a pong");
    assert!(String::from_utf8_lossy(&pong).contains("d1"));
    let store = Store::new(&operator, None);
    let tasks = store.existing::<LeaseRecord>(subjects::TASKS_BUCKET).await.expect("a bucket");
    assert!(tasks.get("key").await.expect("read").is_none());
    tasks.watch().await.expect("watched");
    assert_clean(&operator);
    assert_clean(&dispatcher);
    assert!(!server.log().contains("Violation"), "{}", server.log());
}

#[tokio::test]
async fn a_consumer_hears_its_room_and_gets_again_what_it_missed() {
    let server = server().await;
    let room = RoomId::parse("42").expect("a token");
    let track = TrackId::parse("user-0").expect("a token");
    let asr = SubscriberId::parse("asr").expect("a token");
    let worker = link(&server, "worker").await;
    let consumer = link(&server, "consumer-42").await;
    let mut nacks = worker.subscribe(TrackNack::ALL).await.expect("subscribed");
    let mut heard = Vec::new();
    for subject in [
        subjects::room_tracks(Lane::Live, &room),
        subjects::room_tracks(Lane::Rec, &room),
        subjects::room_resends(&room, &asr),
        "audio.event.42".to_owned(),
    ] {
        heard.push(consumer.subscribe(&subject).await.expect("subscribed"));
    }
    worker.barrier().await.expect("subscribed");
    consumer.barrier().await.expect("subscribed");
    for (subject, heard) in [
        subjects::track(Lane::Live, &room, &track),
        subjects::track(Lane::Rec, &room, &track),
        subjects::resend(&room, &track, &asr),
        "audio.event.42".to_owned(),
    ]
    .into_iter()
    .zip(&mut heard)
    {
        worker.publish_bytes(subject.clone(), "batch".into()).await.expect("sent");
        let message = within("batch", SOON, heard.next()).await.expect("a message");
        assert_eq!(message.subject(), subject);
    }
    let nack = Nack { subscriber: asr, epoch: Epoch(1), ranges: vec![(0, 1)], deadline_ms: 400 };
    let reply = NackReply {
        status: NackStatus::Ok,
        epoch: Epoch(1),
        held: None,
        missing: Vec::new(),
        retry_after_ms: 0,
        spread_ms: 0,
        message: String::new(),
    };
    let topic = TrackNack(room, track);
    let asked = consumer.ask(&topic, &nack, SOON);
    let served = async {
        let nack = nacks.next().await.expect("a NACK");
        worker.answer(&nack.reply().expect("an inbox"), &reply).await.expect("answered");
    };
    let (answer, ()) = tokio::join!(asked, served);
    assert_eq!(answer.expect("answered"), reply);
    assert_clean(&consumer);
    assert_clean(&worker);
    assert!(!server.log().contains("Violation"), "{}", server.log());
}

#[tokio::test]
async fn the_recorder_reads_what_workers_record() {
    let server = server().await;
    let worker = link(&server, "worker").await;
    let recorder =
        async_nats::ConnectOptions::with_user_and_password("recorder".into(), password("recorder"))
            .custom_inbox_prefix("_INBOX.recorder")
            .connect(server.url())
            .await
            .expect("connected");
    let config = jetstream::stream::Config {
        name: "AUDIO".into(),
        subjects: vec!["audio.rec.*.*".into()],
        ..Default::default()
    };
    let js = jetstream::new(recorder);
    let stream = js.get_or_create_stream(config).await.expect("a stream");
    let config = jetstream::consumer::pull::Config {
        durable_name: Some("recorder".into()),
        ack_policy: jetstream::consumer::AckPolicy::Explicit,
        ..Default::default()
    };
    let consumer = stream.get_or_create_consumer("recorder", config).await.expect("a consumer");
    // Whoever records asks for the stream's acknowledgement.
    let acked = worker.ask_bytes("audio.rec.42.user-0", "batch".into(), SOON).await;
    assert!(String::from_utf8_lossy(&acked.expect("kept")).contains("AUDIO"));
    let mut batches = consumer.messages().await.expect("messages");
    let batch = within("batch", SOON, batches.next()).await.expect("one").expect("a batch");
    assert_eq!(batch.payload, "batch");
    batch.double_ack().await.expect("acknowledged");
}

#[tokio::test]
async fn a_reviewer_reads_its_room_and_no_other() {
    let server = server().await;
    let dispatcher = link(&server, "dispatcher").await;
    let made = Store::new(&dispatcher, None).ensure_recording(Bounds::default()).await;
    assert!(made.expect("made").is_some());
    let worker = link(&server, "worker").await;
    for room in ["42", "43"] {
        let subject = format!("audio.rec.{room}.user-0");
        worker.ask_bytes(&subject, room.to_owned().into(), SOON).await.expect("kept");
    }
    let reviewer = link(&server, "reviewer-42").await;
    let mut past = Past::open(&reviewer, "audio.rec.42.*", Since::Beginning).await.expect("opened");
    let read = within("what is recorded", SOON, past.next()).await.expect("a batch");
    assert_eq!((read.payload.as_ref(), past.is_told()), (&b"42"[..], true));
    assert_clean(&reviewer);
    assert!(Past::open(&reviewer, "audio.rec.43.*", Since::Beginning).await.is_err());
    // Nor where the filter of its own room stands in the subject alone.
    let ask = "$JS.API.CONSUMER.CREATE.AUDIO.x.audio.rec.42.*";
    for more in
        [r#""filter_subject":"audio.rec.43.*""#, r#""filter_subjects":["audio.rec.43.*"]"#, ""]
    {
        let comma = if more.is_empty() { "" } else { "," };
        let config = format!(
            r#"{{"stream_name":"AUDIO","config":{{"name":"x","ack_policy":"none","deliver_subject":"_INBOX.reviewer-42.y"{comma}{more}}}}}"#
        );
        let answer = reviewer.ask_bytes(ask, config.into(), SOON).await.expect("an answer");
        assert!(String::from_utf8_lossy(&answer).contains("error"), "{answer:?}");
    }
}

fn lease(holder: &str) -> LeaseRecord {
    LeaseRecord { holder: holder.to_owned(), boot: "boot".to_owned(), term: 1 }
}

async fn link(server: &NatsServer, role: &str) -> Link {
    let options = BusOptions {
        user: Some(role.to_owned()),
        password: Some(password(role)),
        inbox_prefix: format!("_INBOX.{role}"),
        ..BusOptions::plain(&server.url())
    };
    Link::connect(&options, role, Purpose::Control).await.expect("connected")
}

/// The server had nothing to say against what this connection did.
fn assert_clean(link: &Link) {
    assert_eq!(link.counters().server_errors.load(Ordering::Relaxed), 0);
}

/// A server with the project's own configuration.
async fn server() -> NatsServer {
    NatsServer::build().config("nats/server.conf").env_file("nats/dev.env").start().await
}

/// As `nats/dev.env` has it.
fn password(role: &str) -> String {
    format!("dev-{role}")
}

/// A connection that speaks the protocol itself: it learns at once, and for
/// each operation, whether the server took it.
struct Wire {
    stream: BufReader<TcpStream>,
    subscriptions: u32,
}

impl Wire {
    async fn connect(server: &NatsServer, user: &str, password: &str) -> Self {
        Self::try_connect(server, user, password).await.expect("a user of permissions.conf")
    }

    async fn try_connect(server: &NatsServer, user: &str, pass: &str) -> Result<Self, String> {
        let stream = TcpStream::connect(server.addr()).await.map_err(|error| error.to_string())?;
        let mut wire = Self { stream: BufReader::new(stream), subscriptions: 0 };
        let connect =
            serde_json::json!({"user": user, "pass": pass, "verbose": false, "pedantic": false});
        match wire.ask(&format!("CONNECT {connect}\r\n")).await {
            Some(error) => Err(error),
            None => Ok(wire),
        }
    }

    /// Whether the server lets us publish or subscribe.
    async fn may(&mut self, verb: &str, subject: &str) -> bool {
        self.subscriptions += 1;
        let id = self.subscriptions;
        let refusal = match verb {
            "PUB" => self.ask(&format!("PUB {subject} 0\r\n\r\n")).await,
            _ => self.ask(&format!("SUB {subject} {id}\r\n")).await,
        };
        if verb == "SUB" && refusal.is_none() {
            self.ask(&format!("UNSUB {id}\r\n")).await;
        }
        if let Some(text) = &refusal {
            assert!(text.contains("Permissions Violation"), "{verb} {subject}: {text}");
        }
        refusal.is_none()
    }

    /// Sends operations; returns the first error the server answers with.
    async fn ask(&mut self, operations: &str) -> Option<String> {
        let sent = format!("{operations}PING\r\n");
        self.stream.write_all(sent.as_bytes()).await.expect("the server reads");
        let mut error = None;
        loop {
            let mut line = String::new();
            let read = within("answer", SOON, self.stream.read_line(&mut line)).await;
            match line.split_ascii_whitespace().next() {
                Some("PONG") => return error,
                Some("PING") => {
                    self.stream.write_all(b"PONG\r\n").await.expect("the server reads");
                }
                Some("-ERR") => error = error.or(Some(line)),
                // It closes behind a refusal to let us in.
                None => return error.or(Some(format!("closed: {read:?}"))),
                Some(_) => (),
            }
        }
    }
}
