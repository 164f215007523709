//! A server, dispatchers as processes, and workers that run nothing.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use audio_gateway::{
    bus::{
        AskError, BusOptions, Link, Purpose,
        incoming::read_json,
        messages::{
            Assign, Fault, Get, Heartbeat, Leader, Load, Ping, Revoke, SessionReport, SessionState,
            Submitted, TaskView, Verdict, WorkerPhase,
        },
        service::{About, Endpoint, Service},
        subjects::{
            self, AdminLeader, Submit, Topic, WorkerAssign, WorkerHeartbeat, WorkerPing,
            WorkerRevoke,
        },
    },
    id::{AdapterName, TaskId, WorkerId},
    limits,
    task::{Epoch, TaskSpec, TaskState},
};
use tokio::{task::JoinHandle, time::interval};

use super::support::{NatsServer, Program, Running, eventually};

pub const SOON: Duration = Duration::from_secs(30);

/// When a request is made again.
const SHORTLY: Duration = Duration::from_millis(300);

/// Server, dispatchers and a service's connection.
pub struct Rig {
    pub dispatchers: BTreeMap<String, Running>,
    pub link: Link,
    // Last, so that what uses it ends before it.
    pub server: NatsServer,
}

impl Rig {
    pub async fn start(dispatchers: &[&str]) -> Self {
        let server = NatsServer::start().await;
        let link = link(&server, "service").await;
        let mut rig = Self { dispatchers: BTreeMap::new(), link, server };
        for id in dispatchers {
            rig.dispatcher(id).await;
        }
        rig
    }

    /// Starts a dispatcher and waits until it is ready.
    pub async fn dispatcher(&mut self, id: &str) {
        let dispatcher = Program::new(env!("CARGO_BIN_EXE_dispatcher"))
            .args(["--id", id])
            .env("NATS_URL", self.server.url())
            .start();
        dispatcher.says("ready", SOON).await;
        self.dispatchers.insert(id.to_owned(), dispatcher);
    }

    pub async fn submit(&self, json: &str) -> Submitted {
        let spec: TaskSpec = serde_json::from_str(json).unwrap();
        eventually("answer to a submit", SOON, async || {
            match self.link.ask(&Submit, &spec, limits::REQUEST_TIMEOUT).await {
                Ok(answer) => Some(answer),
                // The server may have given it to one that was just killed.
                Err(AskError::TimedOut(_)) => None,
                Err(error) => panic!("{error}"),
            }
        })
        .await
    }

    pub async fn get(&self, task: &str) -> TaskView {
        let task = TaskId::parse(task).unwrap();
        self.link.ask(&subjects::Get, &Get { task }, SOON).await.unwrap()
    }

    /// Waits until a task is in a state.
    pub async fn becomes(&self, task: &str, state: TaskState) -> TaskView {
        eventually(&format!("task {task} that is {state}"), SOON, async || {
            // While the server or the leader changes, a request may be in vain.
            let task = TaskId::parse(task).unwrap();
            let view = self.link.ask(&subjects::Get, &Get { task }, limits::REQUEST_TIMEOUT).await;
            view.ok().filter(|view| view.state == state)
        })
        .await
    }

    /// Waits until somebody leads that is not `but`.
    pub async fn leader(&self, but: Option<&str>) -> String {
        eventually("leader", SOON, async || {
            // One that ends just then may not have taken the request in.
            let leader: Leader = self.link.ask(&AdminLeader, &Ping {}, SHORTLY).await.ok()?;
            let leader = leader.leader?.to_string();
            (Some(leader.as_str()) != but).then_some(leader)
        })
        .await
    }
}

pub async fn link(server: &NatsServer, name: &str) -> Link {
    Link::connect(&BusOptions::plain(&server.url()), name, Purpose::Control).await.unwrap()
}

type Sessions = Arc<Mutex<BTreeMap<(TaskId, Epoch), SessionReport>>>;

/// A worker that says yes to everything and runs nothing.
pub struct FakeWorker {
    pub sessions: Sessions,
    run: JoinHandle<()>,
}

impl Drop for FakeWorker {
    fn drop(&mut self) {
        // Its connection goes with its loop, as that of a killed process.
        self.run.abort();
    }
}

impl FakeWorker {
    pub async fn start(server: &NatsServer, id: &str) -> Self {
        let sessions = Sessions::default();
        let link = link(server, id).await;
        let run = tokio::spawn(work(link, WorkerId::parse(id).unwrap(), sessions.clone()));
        Self { sessions, run }
    }

    pub fn epochs(&self) -> Vec<Epoch> {
        self.sessions.lock().unwrap().keys().map(|(_, epoch)| *epoch).collect()
    }
}

async fn work(link: Link, id: WorkerId, sessions: Sessions) {
    let about = About {
        name: subjects::WORKER_SERVICE,
        id: id.to_string(),
        description: "runs nothing",
        metadata: BTreeMap::new(),
    };
    let endpoint = |name, subject| Endpoint { name, subject, shared: false };
    let endpoints = vec![
        endpoint("assign", WorkerAssign(id.clone()).subject()),
        endpoint("revoke", WorkerRevoke(id.clone()).subject()),
        endpoint("ping", WorkerPing(id.clone()).subject()),
    ];
    let (_service, mut requests) = Service::start(&link, about, endpoints).await.unwrap();
    let mut beats = interval(limits::HEARTBEAT);
    let mut beat = Heartbeat {
        worker: id.clone(),
        boot: TaskId::fresh().to_string(),
        seq: 0,
        phase: WorkerPhase::Running,
        version: "1".into(),
        load: Load { cores: 8.0, sessions_max: 1_000, session_cost: 0.001, ..Load::default() },
        adapters: vec![AdapterName::parse("sim").unwrap()],
        labels: BTreeMap::new(),
        sessions: Vec::new(),
        time_ms: 0,
    };
    let accepted = Verdict { accepted: true, reason: String::new(), fatal: false };
    loop {
        tokio::select! {
            _ = beats.tick() => (),
            Some(request) = requests.recv() => match request.endpoint {
                "assign" => {
                    let assign: Assign = read_json(request.payload()).unwrap();
                    let report = SessionReport {
                        task: assign.task.clone(),
                        room: assign.room,
                        epoch: assign.epoch,
                        state: SessionState::Running,
                        heard: true,
                        reason: String::new(),
                        fault: Fault::Task,
                        revision: assign.revision,
                    };
                    sessions.lock().unwrap().insert((assign.task, assign.epoch), report);
                    request.answer(&accepted).await;
                }
                "revoke" => {
                    let revoke: Revoke = read_json(request.payload()).unwrap();
                    let stays = |(task, epoch): &(TaskId, Epoch)| {
                        *task != revoke.task || *epoch > revoke.epoch
                    };
                    sessions.lock().unwrap().retain(|key, _| stays(key));
                    request.answer(&accepted).await;
                }
                _ => request.answer(&beat).await,
            },
        }
        beat.seq += 1;
        beat.sessions = sessions.lock().unwrap().values().cloned().collect();
        link.publish(&WorkerHeartbeat(id.clone()), &beat).await.unwrap();
    }
}
