//! A NATS micro service: endpoints with statistics that `nats micro` reads.
//!
//! The protocol is NATS ADR-32. It is spoken here rather than by the client
//! library because that answers to any reply subject, and ours answers to
//! inboxes alone (see [`Incoming::reply`]).

use std::{
    collections::BTreeMap,
    convert::Infallible,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant, SystemTime},
};

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use tokio::{
    sync::{mpsc, watch},
    task::JoinSet,
};

use super::{
    connection::Link,
    error::{AskError, PublishError},
    incoming::{Incoming, Subscription, read_json},
    messages::{Refusal, RefusalCode},
};
use crate::limits;

/// The queue group in which the replicas of a service share an endpoint.
pub const QUEUE_GROUP: &str = "q";

/// Asks the replica `id` of the service `name` for a sign of life, or any
/// replica, and returns who answered.
///
/// # Errors
/// As [`Link::ask`].
pub async fn ping(
    link: &Link,
    name: &str,
    id: Option<&str>,
    within: Duration,
) -> Result<Pong, AskError> {
    let replica = id.map(|id| format!(".{id}")).unwrap_or_default();
    let subject = format!("$SRV.PING.{name}{replica}");
    let answer = link.ask_bytes(&subject, Bytes::new(), within).await?;
    read_json(&answer).map_err(|cause| AskError::Unreadable { subject, cause })
}

/// A replica's sign of life.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pong {
    /// The service.
    pub name: String,
    /// The replica.
    pub id: String,
    /// Its version.
    pub version: String,
}

/// What a service is.
#[derive(Debug, Clone)]
pub struct About {
    /// Its name.
    pub name: &'static str,
    /// This replica's id.
    pub id: String,
    /// In one sentence.
    pub description: &'static str,
    /// Anything else about this replica.
    pub metadata: BTreeMap<String, String>,
}

/// One endpoint.
#[derive(Debug, Clone)]
pub struct Endpoint {
    /// Its name: what [`Request::endpoint`] says.
    pub name: &'static str,
    /// Where it is asked.
    pub subject: String,
    /// Whether one replica answers (true), or each that is asked.
    pub shared: bool,
}

#[derive(Debug, Clone, Default)]
struct Tally {
    requests: u64,
    errors: u64,
    last_error: String,
    nanos: u64,
}

#[derive(Debug, Default)]
struct Board {
    tallies: Vec<Tally>,
    refusals: BTreeMap<RefusalCode, u64>,
    data: serde_json::Value,
}

/// A running service; dropping it ends it.
#[derive(Debug)]
pub struct Service {
    board: Arc<Mutex<Board>>,
    closing: watch::Sender<bool>,
    /// Ends once nobody is left who might answer: see [`Request`].
    under_way: mpsc::Receiver<Infallible>,
    _loops: JoinSet<()>,
}

/// A request that came in. It is answered or refused once.
#[derive(Debug)]
pub struct Request {
    /// The endpoint that was asked.
    pub endpoint: &'static str,
    incoming: Incoming,
    index: usize,
    came: Instant,
    link: Link,
    board: Arc<Mutex<Board>>,
    _under_way: mpsc::Sender<Infallible>,
}

fn lock(board: &Mutex<Board>) -> MutexGuard<'_, Board> {
    // A tally is whole whatever happened to the thread that held it.
    board.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Service {
    /// Serves `endpoints`; requests come out of the returned queue.
    ///
    /// # Errors
    /// Where a subscription is refused.
    pub async fn start(
        link: &Link,
        about: About,
        endpoints: Vec<Endpoint>,
    ) -> Result<(Self, mpsc::Receiver<Request>), PublishError> {
        let board = Arc::new(Mutex::new(Board {
            tallies: vec![Tally::default(); endpoints.len()],
            refusals: BTreeMap::new(),
            data: serde_json::Value::Null,
        }));
        let (requests, queue) = mpsc::channel(limits::CONTROL_CAPACITY);
        let (held, under_way) = mpsc::channel(1);
        let (closing, closed) = watch::channel(false);
        let mut loops = JoinSet::new();
        for (index, endpoint) in endpoints.iter().enumerate() {
            let subscription = if endpoint.shared {
                link.subscribe_group(&endpoint.subject, QUEUE_GROUP).await?
            } else {
                link.subscribe(&endpoint.subject).await?
            };
            let maker = Maker {
                endpoint: endpoint.name,
                index,
                link: link.clone(),
                board: board.clone(),
                under_way: held.clone(),
            };
            loops.spawn(serve(subscription, maker, requests.clone(), closed.clone()));
        }
        let started = humantime::format_rfc3339_seconds(SystemTime::now()).to_string();
        let about = Arc::new((about, endpoints, started));
        for verb in ["PING", "INFO", "STATS"] {
            let (name, id) = (about.0.name, &about.0.id);
            for subject in [
                format!("$SRV.{verb}"),
                format!("$SRV.{verb}.{name}"),
                format!("$SRV.{verb}.{name}.{id}"),
            ] {
                let subscription = link.subscribe(&subject).await?;
                loops.spawn(describe(
                    subscription,
                    verb,
                    about.clone(),
                    link.clone(),
                    board.clone(),
                ));
            }
        }
        Ok((Self { board, closing, under_way, _loops: loops }, queue))
    }

    /// Sets what `nats micro stats` shows beside each endpoint's numbers.
    pub fn set_data(&self, data: serde_json::Value) {
        lock(&self.board).data = data;
    }

    /// Takes no more requests, and waits until those that came were answered: they
    /// go on coming out of the queue.
    pub async fn drain(mut self) {
        self.closing.send_replace(true);
        while self.under_way.recv().await.is_some() {}
    }

    /// Requests that were refused so far, by reason.
    #[must_use]
    pub fn refusals(&self) -> BTreeMap<RefusalCode, u64> {
        lock(&self.board).refusals.clone()
    }
}

/// Makes the requests of an endpoint.
struct Maker {
    endpoint: &'static str,
    index: usize,
    link: Link,
    board: Arc<Mutex<Board>>,
    under_way: mpsc::Sender<Infallible>,
}

impl Maker {
    fn request(&self, incoming: Incoming) -> Request {
        Request {
            endpoint: self.endpoint,
            incoming,
            index: self.index,
            came: Instant::now(),
            link: self.link.clone(),
            board: self.board.clone(),
            _under_way: self.under_way.clone(),
        }
    }
}

async fn is_set(closed: &mut watch::Receiver<bool>) {
    let _ = closed.wait_for(|closed| *closed).await;
}

async fn serve(
    mut subscription: Subscription,
    maker: Maker,
    requests: mpsc::Sender<Request>,
    mut closed: watch::Receiver<bool>,
) {
    let mut open = true;
    loop {
        let incoming = tokio::select! {
            incoming = subscription.next() => incoming,
            () = is_set(&mut closed), if open => {
                open = false;
                subscription.drain().await;
                continue;
            }
        };
        let Some(incoming) = incoming else { return };
        // A full queue makes the subscription wait; that one is bounded too.
        if requests.send(maker.request(incoming)).await.is_err() {
            return;
        }
    }
}

impl Request {
    /// What was sent.
    #[must_use]
    pub fn payload(&self) -> &[u8] {
        self.incoming.payload()
    }

    /// The message as it came.
    #[must_use]
    pub fn incoming(&self) -> &Incoming {
        &self.incoming
    }

    /// Answers, where somebody waits for it.
    pub async fn answer<M: Serialize>(self, message: &M) {
        self.count(None);
        if let Some(inbox) = self.incoming.reply() {
            report(self.endpoint, self.link.answer(&inbox, message).await);
        }
    }

    /// Refuses, where somebody waits for it.
    pub async fn refuse(self, refusal: &Refusal) {
        self.count(Some(refusal));
        if let Some(inbox) = self.incoming.reply() {
            report(self.endpoint, self.link.refuse(&inbox, refusal).await);
        }
    }

    fn count(&self, refusal: Option<&Refusal>) {
        let mut board = lock(&self.board);
        let tally = &mut board.tallies[self.index];
        tally.requests += 1;
        tally.nanos += u64::try_from(self.came.elapsed().as_nanos()).unwrap_or(u64::MAX);
        if let Some(refusal) = refusal {
            tally.errors += 1;
            tally.last_error = format!("{}:{}", refusal.error.number(), refusal.message);
            *board.refusals.entry(refusal.error).or_default() += 1;
        }
    }
}

fn report(endpoint: &'static str, sent: Result<(), PublishError>) {
    if let Err(error) = sent {
        tracing::warn!(endpoint, %error, "an answer was lost");
    }
}

async fn describe(
    mut subscription: Subscription,
    verb: &'static str,
    about: Arc<(About, Vec<Endpoint>, String)>,
    link: Link,
    board: Arc<Mutex<Board>>,
) {
    while let Some(incoming) = subscription.next().await {
        if let Some(inbox) = incoming.reply() {
            let answer = description(verb, &about.0, &about.1, &about.2, &board);
            report(verb, link.answer(&inbox, &answer).await);
        }
    }
}

fn description(
    verb: &str,
    about: &About,
    endpoints: &[Endpoint],
    started: &str,
    board: &Mutex<Board>,
) -> serde_json::Value {
    let mut answer = serde_json::json!({
        "name": about.name,
        "id": about.id,
        "version": env!("CARGO_PKG_VERSION"),
        "metadata": about.metadata,
        "type": format!("io.nats.micro.v1.{}_response", verb.to_lowercase()),
    });
    let group = |endpoint: &Endpoint| if endpoint.shared { QUEUE_GROUP } else { "" };
    match verb {
        "INFO" => {
            answer["description"] = about.description.into();
            answer["endpoints"] = endpoints
                .iter()
                .map(|endpoint| {
                    serde_json::json!({
                        "name": endpoint.name,
                        "subject": endpoint.subject,
                        "queue_group": group(endpoint),
                        "metadata": {},
                    })
                })
                .collect();
        }
        "STATS" => {
            let board = lock(board);
            answer["started"] = started.into();
            answer["endpoints"] = endpoints
                .iter()
                .zip(&board.tallies)
                .map(|(endpoint, tally)| {
                    serde_json::json!({
                        "name": endpoint.name,
                        "subject": endpoint.subject,
                        "queue_group": group(endpoint),
                        "num_requests": tally.requests,
                        "num_errors": tally.errors,
                        "last_error": tally.last_error,
                        "processing_time": tally.nanos,
                        "average_processing_time": tally.nanos / tally.requests.max(1),
                        "data": board.data,
                    })
                })
                .collect();
        }
        _ => (),
    }
    answer
}
