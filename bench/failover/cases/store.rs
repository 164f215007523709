//! The store is away for longer than a worker waits that nobody hears, and the
//! server is there: two of three servers are killed.

use std::time::{Duration, Instant};

use audio_gateway::{bus::BusOptions, limits};

use crate::{
    Options,
    ears::Ears,
    figures::{Row, Wanted},
    scene::{PATIENCE, Scene, ramp, touched},
};

/// How long it is away: longer than a worker stays alone.
const AWAY: Duration = limits::WORKER_ALONE.saturating_add(Duration::from_secs(20));

/// What the rooms notice, and when a task runs again.
pub(crate) async fn away(options: &Options) -> anyhow::Result<Vec<Row>> {
    let mut scene = Scene::start(options, 3, 2, 2).await?;
    scene.rooms(options.rooms, &ramp()).await?;
    let (mut moved, mut broken, mut again) = (Vec::new(), Vec::new(), Vec::new());
    for repeat in 0..options.repeats {
        let before = scene.all_running(options.rooms).await?;
        let stays = format!("nats://127.0.0.1:{}", scene.fleet.nodes[2].port);
        let ears = Ears::start(&stays).await?;
        ears.until("every room", PATIENCE, |rooms| rooms.len() >= options.rooms).await?;
        scene.fleet.node(0)?.kill();
        scene.fleet.node(1)?.kill();
        // Until programs have found the server that is left, nothing is heard of
        // those whose server is gone; what they kept is asked for, and what
        // was lost with the servers is given up after that.
        tokio::time::sleep(limits::RING_AGE + limits::LISTEN_SILENT).await;
        let heard = ears.rooms();
        tokio::time::sleep(AWAY).await;
        let now = Instant::now();
        let fresh = |rooms: &crate::ears::Rooms| rooms.values().all(|room| room.last > now);
        ears.until("all rooms without a store", PATIENCE, fresh).await?;
        let (epochs, frames) = touched(&heard, &ears.rooms());
        scene.fleet.start_node(0)?;
        scene.fleet.start_node(1)?;
        let at = Instant::now();
        scene.fleet.node_answers(0).await?;
        let gateway = audio_gateway::client::Gateway::connect(&BusOptions::plain(&stays)).await?;
        let spec = crate::scene::spec(&format!("after-{repeat}"), &ramp(), 300)?;
        while gateway.submit(&spec).await.is_err() {
            anyhow::ensure!(at.elapsed() < PATIENCE, "no submit is answered");
        }
        again.push(at.elapsed());
        let after = scene.all_running(options.rooms).await?;
        let elsewhere = before.iter().filter(|(task, was)| after.get(*task) != Some(was)).count();
        moved.push(epochs + elsewhere as u64);
        broken.push(frames);
    }
    let what = format!(
        "two of three servers killed for {} s",
        (AWAY + limits::RING_AGE + limits::LISTEN_SILENT).as_secs()
    );
    Ok(vec![
        Row::none(&format!("{what}: rooms given away or left"), &moved, String::new()),
        Row::none("… frames lost or altered", &broken, String::new()),
        Row::times("… all back: a submit is answered", &again, Wanted::Nothing, String::new()),
    ])
}
