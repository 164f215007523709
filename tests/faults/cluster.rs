//! Three servers: one is killed, one stands still, and all are restarted in turn.

use std::time::Duration;

use audio_gateway::id::TaskId;

use crate::{
    ears::Ears,
    rig::{Rig, SOON},
    support::{Cluster, eventually},
};

const TASKS: &str = "KV_gateway_tasks";
const STREAMS: [&str; 4] = [TASKS, "KV_gateway_rooms", "KV_gateway_leases", "GATEWAY_EVENTS"];

/// Dispatchers, workers and rooms around a cluster.
struct Scene {
    rig: Rig,
    rooms: usize,
    // Last, so that what uses it ends before it.
    cluster: Cluster,
}

impl Scene {
    async fn start() -> Self {
        let cluster = Cluster::start().await;
        let rig = Rig::start(&cluster.url(), &["d1", "d2"], &["w1", "w2", "w3"]).await;
        let mut scene = Self { rig, rooms: 0, cluster };
        scene.more().await;
        scene.whole().await;
        scene
    }

    /// Each stream has three copies, nobody said how many.
    async fn whole(&self) {
        for stream in STREAMS {
            self.cluster.whole(stream).await;
        }
    }

    async fn more(&mut self) {
        self.rig.ramps(self.rooms..self.rooms + 3).await;
        self.rooms += 3;
    }

    /// Every task that was ever acknowledged is known.
    async fn remembers_all(&self) {
        for room in 0..self.rooms {
            let task = TaskId::parse(&format!("r{room}")).unwrap();
            eventually(&format!("word of {task}"), SOON, async || {
                self.rig.gateway.get(&task).await.ok()
            })
            .await;
        }
    }
}

#[tokio::test]
async fn a_server_of_three_that_is_killed_costs_nothing_that_was_acknowledged() {
    let mut scene = Scene::start().await;
    let victim = scene.cluster.leader(TASKS, None).await;
    let ears = Ears::start(&scene.cluster.url_but(victim)).await;
    ears.hear(scene.rooms).await;
    let before = ears.rooms();
    scene.cluster.node(victim).kill();
    scene.cluster.leader(TASKS, Some(victim)).await;
    scene.more().await;
    ears.hear(scene.rooms).await;
    scene.remembers_all().await;
    ears.go_on(5).await;
    ears.assert_untouched(&before);
    scene.cluster.start_again(victim).await;
    scene.whole().await;
    scene.rig.assert_no_errors();
}

#[tokio::test]
async fn a_server_of_three_that_stands_still_is_left_for_another() {
    let mut scene = Scene::start().await;
    let victim = scene.cluster.leader(TASKS, None).await;
    let ears = Ears::start(&scene.cluster.url_but(victim)).await;
    ears.hear(scene.rooms).await;
    scene.cluster.node(victim).stop().await;
    scene.cluster.leader(TASKS, Some(victim)).await;
    scene.more().await;
    ears.hear(scene.rooms).await;
    scene.remembers_all().await;
    ears.go_on(5).await;
    scene.cluster.node(victim).cont();
    scene.whole().await;
    scene.more().await;
    ears.hear(scene.rooms).await;
    // Rooms of workers that were behind it may have moved; none is heard twice.
    ears.assert_clean();
    scene.rig.assert_no_errors();
}

#[tokio::test]
async fn servers_that_are_restarted_in_turn_cost_no_room() {
    let mut scene = Scene::start().await;
    let ears = Ears::start(&scene.cluster.url()).await;
    ears.hear(scene.rooms).await;
    let before = ears.rooms();
    for node in 0..3 {
        scene.cluster.node(node).lame_duck();
        scene.cluster.start_again(node).await;
        scene.whole().await;
        tokio::time::timeout(Duration::from_secs(30), scene.more()).await.unwrap();
    }
    ears.hear(scene.rooms).await;
    scene.remembers_all().await;
    ears.go_on(5).await;
    ears.assert_untouched(&before);
    scene.rig.assert_no_errors();
}
