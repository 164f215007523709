//! A gateway at work: the programs, a service's connection, rooms that run, and
//! an ear that hears them all.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use anyhow::Context;
use audio_gateway::{
    bus::messages::{List, Submitted},
    client::Gateway,
    id::TaskId,
    task::{Epoch, TaskSpec, TaskState},
};

use crate::{
    Options,
    ears::{Ears, Rooms},
    fleet::Fleet,
};

/// How long anything may take before the run is given up.
pub(crate) const PATIENCE: Duration = Duration::from_secs(90);

/// See the module.
pub(crate) struct Scene {
    pub(crate) ears: Ears,
    pub(crate) gateway: Gateway,
    pub(crate) fleet: Fleet,
}

impl Scene {
    pub(crate) async fn start(
        options: &Options,
        nodes: usize,
        dispatchers: usize,
        workers: usize,
    ) -> anyhow::Result<Self> {
        let fleet = Fleet::full(options, nodes, dispatchers, workers).await?;
        let gateway = fleet.gateway().await?;
        let ears = Ears::start(&fleet.url()).await?;
        Ok(Self { ears, gateway, fleet })
    }

    /// Has so many rooms run, and waits until each is heard.
    pub(crate) async fn rooms(
        &self,
        count: usize,
        params: &serde_json::Value,
    ) -> anyhow::Result<()> {
        for room in 0..count {
            self.submit(&format!("room-{room}"), params).await?;
        }
        self.ears.until("all rooms", PATIENCE, |rooms| rooms.len() >= count).await
    }

    pub(crate) async fn submit(
        &self,
        id: &str,
        params: &serde_json::Value,
    ) -> anyhow::Result<Submitted> {
        let spec = spec(id, params, 300)?;
        self.gateway.submit(&spec).await.with_context(|| format!("cannot submit {id}"))
    }

    /// The id of the dispatcher that leads, once it is not `but`.
    pub(crate) async fn leader(&self, but: Option<&str>) -> anyhow::Result<String> {
        let end = Instant::now() + PATIENCE;
        loop {
            if let Ok(answer) = self.gateway.leader().await
                && let Some(leader) = answer.leader
                && Some(leader.as_str()) != but
            {
                return Ok(leader.to_string());
            }
            anyhow::ensure!(Instant::now() < end, "nobody leads");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// The tasks that run, by id.
    pub(crate) async fn running(&self) -> anyhow::Result<BTreeMap<TaskId, (Epoch, String)>> {
        let end = Instant::now() + PATIENCE;
        let tasks = loop {
            match self.gateway.list(&List::default()).await {
                Ok(listed) => break listed.tasks,
                Err(error) if Instant::now() > end => return Err(error.into()),
                Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
            }
        };
        let running = tasks.into_iter().filter(|task| task.state == TaskState::Running);
        Ok(running
            .map(|task| {
                let worker = task.worker.map(|worker| worker.to_string()).unwrap_or_default();
                (task.task, (task.epoch, worker))
            })
            .collect())
    }

    /// Waits until so many tasks run; returns them.
    pub(crate) async fn all_running(
        &self,
        count: usize,
    ) -> anyhow::Result<BTreeMap<TaskId, (Epoch, String)>> {
        let end = Instant::now() + PATIENCE;
        loop {
            let running = self.running().await?;
            if running.len() >= count {
                return Ok(running);
            }
            anyhow::ensure!(Instant::now() < end, "only {} of {count} run", running.len());
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}

/// A room that sends an index ramp for good.
pub(crate) fn ramp() -> serde_json::Value {
    serde_json::json!({"source": "ramp"})
}

/// A task of the simulated room.
pub(crate) fn spec(
    id: &str,
    params: &serde_json::Value,
    start_within_s: u64,
) -> anyhow::Result<TaskSpec> {
    let spec = serde_json::json!({
        "id": id, "room": id, "sdk": "sim", "params": params, "start_within_s": start_within_s,
    });
    Ok(TaskSpec::from_json(spec.to_string().as_bytes())?)
}

/// What became of the audio between two looks: rooms whose epoch changed, and
/// frames that are missing, doubled or altered.
pub(crate) fn touched(before: &Rooms, after: &Rooms) -> (u64, u64) {
    let pairs = before.iter().filter_map(|(room, old)| Some((old, after.get(room)?)));
    let (mut moved, mut broken) = (0, 0);
    for (old, new) in pairs {
        moved += u64::from(new.epoch != old.epoch);
        broken += (new.broken - old.broken) + (new.fell - old.fell);
    }
    (moved, broken)
}
