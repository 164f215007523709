//! Programs as processes: a server, dispatchers, workers, and a service.

use std::{collections::BTreeMap, time::Duration};

use audio_gateway::{
    bus::{
        BusOptions,
        messages::{Inventory, List, Ping, TaskView},
        subjects::WorkerInventory,
    },
    client::Gateway,
    id::{TaskId, WorkerId},
    limits,
    task::{TaskSpec, TaskState},
};

use crate::support::{Program, Running, eventually};

pub const SOON: Duration = Duration::from_secs(45);
/// As long as it takes a dispatcher to lose patience with a worker.
pub const SETTLED: Duration = limits::WORKER_GONE.saturating_add(limits::LEASE_TTL);

/// The programs around one server, or a cluster.
pub struct Rig {
    pub workers: BTreeMap<String, Running>,
    pub dispatchers: BTreeMap<String, Running>,
    pub gateway: Gateway,
    config: tempfile::TempDir,
}

impl Rig {
    /// `dispatchers` and `workers` behind the servers of `url`.
    pub async fn start(url: &str, dispatchers: &[&str], workers: &[&str]) -> Self {
        // Whatever else the host does, the workers take rooms.
        let config = tempfile::tempdir().unwrap();
        std::fs::write(config.path().join("worker.toml"), "[worker]\ncores = 1000.0\n").unwrap();
        let gateway = Gateway::connect(&BusOptions::plain(url)).await.unwrap();
        let mut rig =
            Self { workers: BTreeMap::new(), dispatchers: BTreeMap::new(), gateway, config };
        for id in dispatchers {
            rig.dispatcher(id, url).await;
        }
        for id in workers {
            rig.worker(id, url).await;
        }
        rig
    }

    pub async fn dispatcher(&mut self, id: &str, url: &str) {
        let program = Program::new(env!("CARGO_BIN_EXE_dispatcher")).args(["--id", id]);
        let running = program.env("NATS_URL", url).start();
        running.says("ready", SOON).await;
        self.dispatchers.insert(id.to_owned(), running);
    }

    pub async fn worker(&mut self, id: &str, url: &str) {
        let program = Program::new(env!("CARGO_BIN_EXE_worker")).args(["--id", id, "--config"]);
        let program = program.arg(self.config.path().join("worker.toml"));
        let running = program.env("NATS_URL", url).start();
        running.says("ready", SOON).await;
        self.workers.insert(id.to_owned(), running);
    }

    /// Has rooms run that send ramps, and returns once each does.
    pub async fn ramps(&self, rooms: std::ops::Range<usize>) {
        for room in rooms.clone() {
            let params = serde_json::json!({"source": "ramp"});
            self.submit(&format!("r{room}"), &params).await;
        }
        for room in rooms {
            self.runs(&format!("r{room}")).await;
        }
    }

    pub async fn submit(&self, id: &str, params: &serde_json::Value) {
        let spec = serde_json::json!({"id": id, "room": id, "sdk": "sim", "params": params});
        let spec = TaskSpec::from_json(spec.to_string().as_bytes()).unwrap();
        eventually(&format!("answer to the submit of {id}"), SOON, async || {
            // While servers and leaders change, a request may be in vain.
            self.gateway.submit(&spec).await.ok()
        })
        .await;
    }

    /// Waits until a task runs.
    pub async fn runs(&self, id: &str) -> TaskView {
        let task = TaskId::parse(id).unwrap();
        eventually(&format!("task {id} that runs"), SOON, async || {
            let view = self.gateway.get(&task).await.ok()?;
            (view.state == TaskState::Running).then_some(view)
        })
        .await
    }

    /// All tasks that have not ended, as they stand.
    pub async fn tasks(&self) -> Vec<TaskView> {
        eventually("list of tasks", SOON, async || {
            Some(self.gateway.list(&List::default()).await.ok()?.tasks)
        })
        .await
    }

    /// Waits until somebody leads that is not `but`.
    pub async fn leader(&self, but: Option<&str>) -> String {
        eventually("leader", SOON, async || {
            let leader = self.gateway.leader().await.ok()?.leader?.to_string();
            (Some(leader.as_str()) != but).then_some(leader)
        })
        .await
    }

    /// Waits until the dispatchers know so many workers.
    pub async fn knows(&self, workers: usize) {
        eventually("all workers", SOON, async || {
            let known = self.gateway.workers().await.ok()?.workers.len();
            (known == workers).then_some(())
        })
        .await;
    }

    /// What a worker has in hand, as it says itself.
    pub async fn inventory(&self, worker: &str) -> Inventory {
        let ask = WorkerInventory(WorkerId::parse(worker).unwrap());
        eventually(&format!("word of {worker}"), SOON, async || {
            self.gateway.control().ask(&ask, &Ping {}, limits::REQUEST_TIMEOUT).await.ok()
        })
        .await
    }

    /// Nothing was logged as an error.
    #[track_caller]
    pub fn assert_no_errors(&self) {
        for (id, program) in self.dispatchers.iter().chain(&self.workers) {
            assert_eq!(program.errors(), Vec::<String>::new(), "{id}");
        }
    }
}
