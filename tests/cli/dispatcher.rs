//! A dispatcher whose answers follow from the ids it is asked about.

use std::{collections::BTreeMap, sync::Arc};

use audio_gateway::{
    bus::{
        BusOptions, Link, Purpose,
        messages::{
            Cancel, Get, Leader, Listed, Refusal, RefusalCode, Submitted, TaskEvent, TaskView,
            Workers,
        },
        service::{About, Endpoint, Request, Service},
        subjects::{self, TaskEvents, Topic},
    },
    id::{AdapterName, DispatcherId, RoomId, TaskId},
    task::{Epoch, TaskSpec, TaskState},
};
use tokio::{sync::watch, task::AbortHandle};

/// See the module. It ends when it is dropped.
pub(crate) struct FakeDispatcher {
    pub(crate) link: Link,
    /// The task that was submitted last.
    pub(crate) submitted: watch::Receiver<Option<TaskSpec>>,
    /// Tasks that were asked for.
    pub(crate) asked: watch::Receiver<u64>,
    _service: Arc<Service>,
    answers: AbortHandle,
}

impl FakeDispatcher {
    pub(crate) async fn start(url: &str) -> Self {
        let options = BusOptions::plain(url);
        let link = Link::connect(&options, "fake-dispatcher", Purpose::Control).await.unwrap();
        let about = About {
            name: "dispatcher",
            id: "d1".to_owned(),
            description: "answers by id",
            metadata: BTreeMap::new(),
        };
        let endpoint = |name, subject: String| Endpoint { name, subject, shared: true };
        let endpoints = vec![
            endpoint("submit", subjects::Submit.subject()),
            endpoint("get", subjects::Get.subject()),
            endpoint("list", subjects::List.subject()),
            endpoint("cancel", subjects::Cancel.subject()),
            endpoint("workers", subjects::AdminWorkers.subject()),
            endpoint("leader", subjects::AdminLeader.subject()),
        ];
        let (service, mut requests) = Service::start(&link, about, endpoints).await.unwrap();
        link.barrier().await.unwrap();
        let (tell, submitted) = watch::channel(None);
        let (count, asked) = watch::channel(0);
        let answers = tokio::spawn(async move {
            while let Some(request) = requests.recv().await {
                answer(request, &tell, &count).await;
            }
        });
        let answers = answers.abort_handle();
        Self { link, submitted, asked, _service: Arc::new(service), answers }
    }

    pub(crate) async fn event(&self, state: TaskState, epoch: u64, reason: &str) {
        let task = TaskId::parse("slow").unwrap();
        let event = TaskEvent {
            task: task.clone(),
            room: RoomId::parse("r").unwrap(),
            state,
            epoch: Epoch(epoch),
            worker: Some("w1".parse().unwrap()),
            reason: reason.to_owned(),
            by: "dispatcher:d1".to_owned(),
            time_ms: u64::MAX / 2,
        };
        self.link.publish(&TaskEvents(task), &event).await.unwrap();
    }
}

impl Drop for FakeDispatcher {
    fn drop(&mut self) {
        self.answers.abort();
    }
}

fn view(task: &str, state: TaskState) -> TaskView {
    TaskView {
        task: TaskId::parse(task).unwrap(),
        room: RoomId::parse("r").unwrap(),
        sdk: AdapterName::parse("sim").unwrap(),
        state,
        epoch: Epoch(7),
        worker: Some("w1".parse().unwrap()),
        reason: "a reason\twith a tab\nand \x1b[31mcolour".to_owned(),
        priority: 5,
        created_ms: 1_000,
        changed_ms: 2_000,
        started_ms: None,
        revision: 0,
        pull: None,
        updating: false,
    }
}

/// The refusal that an id stands for.
fn refusal(id: &str) -> Option<Refusal> {
    let code = match id {
        "missing" => RefusalCode::NotFound,
        "taken" => RefusalCode::Conflict,
        "full" => RefusalCode::QueueFull,
        "busy" => {
            let mut refusal = Refusal::new(RefusalCode::RateLimited, "too many tasks a second");
            refusal.retry_after_ms = 250;
            return Some(refusal);
        }
        _ => return None,
    };
    Some(Refusal::new(code, format!("{id}: as the test wants it")))
}

async fn answer(
    request: Request,
    tell: &watch::Sender<Option<TaskSpec>>,
    count: &watch::Sender<u64>,
) {
    let payload = request.payload().to_vec();
    let id = match request.endpoint {
        "submit" => {
            let spec = TaskSpec::from_json(&payload).unwrap();
            let id = spec.id.clone().unwrap();
            tell.send_replace(Some(spec));
            id
        }
        "get" => serde_json::from_slice::<Get>(&payload).unwrap().task,
        "cancel" => serde_json::from_slice::<Cancel>(&payload).unwrap().task,
        _ => TaskId::parse("any").unwrap(),
    };
    if id.as_str() == "silent" {
        return;
    }
    if let Some(refusal) = refusal(id.as_str()) {
        return request.refuse(&refusal).await;
    }
    match request.endpoint {
        "submit" => {
            let state = TaskState::Pending;
            let submitted = Submitted { task: id, state, epoch: Epoch(0), duplicate: false };
            request.answer(&submitted).await;
        }
        "list" => {
            let tasks = (0..300).map(|n| view(&format!("t{n}"), TaskState::Running)).collect();
            request.answer(&Listed { tasks, truncated: true }).await;
        }
        "workers" => request.answer(&Workers { workers: Vec::new() }).await,
        "leader" => {
            let answered_by = DispatcherId::parse("d1").unwrap();
            request.answer(&Leader { leader: None, answered_by, term: 3 }).await;
        }
        _ => {
            let state = if id.as_str() == "slow" { TaskState::Pending } else { TaskState::Running };
            request.answer(&view(id.as_str(), state)).await;
            count.send_modify(|count| *count += 1);
        }
    }
}
