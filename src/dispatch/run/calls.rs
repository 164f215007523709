//! The micro service `dispatcher`: its endpoints, and what is read from a
//! request before the core hears of it.

use serde::de::DeserializeOwned;
use tokio::sync::mpsc;

use super::gate::Gate;
use crate::{
    bus::{
        Link, PublishError,
        messages::{Cancel, DrainWorker, Get, List, Refusal, RefusalCode, StepDown},
        service::{About, Endpoint, Request, Service},
        subjects,
    },
    dispatch::io,
    id::{DispatcherId, TaskId},
    json, limits,
    task::{TaskSpec, Update},
};

/// What a request asks for.
#[derive(Debug)]
pub(super) enum Read {
    Core(io::Request),
    Leader,
    Drain(DrainWorker),
    StepDown(StepDown),
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
        endpoint("update", subjects::Update::SUBJECT),
        endpoint("cancel", subjects::Cancel::SUBJECT),
        endpoint("workers", subjects::AdminWorkers::SUBJECT),
        endpoint("leader", subjects::AdminLeader::SUBJECT),
        endpoint("drain", subjects::AdminDrain::SUBJECT),
        // Each hears it; who leads answers.
        Endpoint { shared: false, ..endpoint("stepdown", subjects::AdminStepDown::SUBJECT) },
    ];
    Service::start(link, about, endpoints).await
}

/// Reads a request, or says why it is refused.
pub(super) fn read(request: &Request, gate: &mut Gate) -> Result<Read, Refusal> {
    let payload = request.payload();
    Ok(match request.endpoint {
        "submit" => {
            gate.pass(request.incoming().caller())?;
            let mut spec = TaskSpec::from_json(payload).map_err(|error| bad(error.to_string()))?;
            spec.id.get_or_insert_with(TaskId::fresh);
            Read::Core(io::Request::Submit(Box::new(spec)))
        }
        "get" => Read::Core(io::Request::Get(parse::<Get>(payload)?)),
        "list" if payload.is_empty() => Read::Core(io::Request::List(List::default())),
        "list" => Read::Core(io::Request::List(parse(payload)?)),
        "update" => {
            let update = Update::from_json(payload).map_err(|error| bad(error.to_string()))?;
            Read::Core(io::Request::Update(Box::new(update)))
        }
        "cancel" => Read::Core(io::Request::Cancel(parse::<Cancel>(payload)?)),
        "workers" => Read::Core(io::Request::Workers),
        "leader" => Read::Leader,
        "drain" => Read::Drain(parse(payload)?),
        "stepdown" if payload.is_empty() => Read::StepDown(StepDown::default()),
        "stepdown" => Read::StepDown(parse(payload)?),
        other => return Err(bad(format!("there is no endpoint {other}"))),
    })
}

fn parse<M: DeserializeOwned>(payload: &[u8]) -> Result<M, Refusal> {
    json::object(payload, limits::CONTROL_MAX_BYTES).map(|(read, _)| read).map_err(bad)
}

fn bad(why: String) -> Refusal {
    Refusal::new(RefusalCode::BadRequest, why)
}
