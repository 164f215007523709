//! The micro service `dispatcher`: its endpoints, and what is read from a
//! request before the core hears of it.

use governor::{
    DefaultDirectRateLimiter, Quota,
    clock::{Clock, DefaultClock},
};
use serde::de::DeserializeOwned;
use tokio::sync::mpsc;

use crate::{
    bus::{
        Link, PublishError,
        incoming::read_json,
        messages::{Cancel, DrainWorker, Get, List, Refusal, RefusalCode},
        service::{About, Endpoint, Request, Service},
        subjects,
    },
    dispatch::io,
    id::{DispatcherId, TaskId},
    limits,
    task::TaskSpec,
};

/// What a request asks for.
#[derive(Debug)]
pub(super) enum Read {
    Core(io::Request),
    Leader,
    Drain(DrainWorker),
}

/// How many submits are let in.
#[derive(Debug)]
pub(super) struct Gate(DefaultDirectRateLimiter);

impl Gate {
    pub(super) fn new() -> Self {
        let at_least_one =
            |number| std::num::NonZeroU32::new(number).unwrap_or(std::num::NonZeroU32::MIN);
        let quota = Quota::per_second(at_least_one(limits::SUBMITS_PER_S))
            .allow_burst(at_least_one(limits::SUBMITS_BURST));
        Self(DefaultDirectRateLimiter::direct(quota))
    }

    fn pass(&self) -> Result<(), Refusal> {
        self.0.check().map_err(|early| {
            let wait = early.wait_time_from(DefaultClock::default().now());
            Refusal {
                retry_after_ms: u64::try_from(wait.as_millis()).unwrap_or(u64::MAX).max(1),
                ..Refusal::new(
                    RefusalCode::RateLimited,
                    format!("more than {} submits a second: come back", limits::SUBMITS_PER_S),
                )
            }
        })
    }
}

/// Starts the service.
pub(super) async fn serve(
    link: &Link,
    id: &DispatcherId,
) -> Result<(Service, mpsc::Receiver<Request>), PublishError> {
    let about = About {
        name: subjects::DISPATCHER_SERVICE,
        id: id.to_string(),
        description: "Takes tasks and gives them to workers",
        metadata: [("dispatcher".to_owned(), id.to_string())].into(),
    };
    let endpoint =
        |name, subject: &str| Endpoint { name, subject: subject.to_owned(), shared: true };
    let endpoints = vec![
        endpoint("submit", subjects::Submit::SUBJECT),
        endpoint("get", subjects::Get::SUBJECT),
        endpoint("list", subjects::List::SUBJECT),
        endpoint("cancel", subjects::Cancel::SUBJECT),
        endpoint("workers", subjects::AdminWorkers::SUBJECT),
        endpoint("leader", subjects::AdminLeader::SUBJECT),
        endpoint("drain", subjects::AdminDrain::SUBJECT),
    ];
    Service::start(link, about, endpoints).await
}

/// Reads a request, or says why it is refused.
pub(super) fn read(request: &Request, gate: &Gate) -> Result<Read, Refusal> {
    let payload = request.payload();
    Ok(match request.endpoint {
        "submit" => {
            gate.pass()?;
            let mut spec = TaskSpec::from_json(payload).map_err(|error| bad(error.to_string()))?;
            spec.id.get_or_insert_with(TaskId::fresh);
            Read::Core(io::Request::Submit(Box::new(spec)))
        }
        "get" => Read::Core(io::Request::Get(parse::<Get>(payload)?)),
        "list" if payload.is_empty() => Read::Core(io::Request::List(List::default())),
        "list" => Read::Core(io::Request::List(parse(payload)?)),
        "cancel" => Read::Core(io::Request::Cancel(parse::<Cancel>(payload)?)),
        "workers" => Read::Core(io::Request::Workers),
        "leader" => Read::Leader,
        "drain" => Read::Drain(parse(payload)?),
        other => return Err(bad(format!("there is no endpoint {other}"))),
    })
}

fn parse<M: DeserializeOwned>(payload: &[u8]) -> Result<M, Refusal> {
    read_json(payload).map_err(bad)
}

fn bad(why: String) -> Refusal {
    Refusal::new(RefusalCode::BadRequest, why)
}
