//! The one server goes and comes back.

use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

use anyhow::ensure;
use audio_gateway::{
    bus::{
        BusOptions, Link, Purpose,
        messages::Heartbeat,
        subjects::{Topic, WorkerHeartbeat},
    },
    id::WorkerId,
    limits,
};

use crate::{
    Options,
    figures::{Row, Wanted},
    scene::{PATIENCE, Scene, ramp, touched},
};

/// Killed, and started again after so many seconds.
pub(crate) async fn away(options: &Options, seconds: f64) -> anyhow::Result<Vec<Row>> {
    let mut scene = Scene::start(options, 1, 2, 2).await?;
    scene.rooms(options.rooms, &ramp()).await?;
    let before = scene.all_running(options.rooms).await?;
    let plain = BusOptions::plain(&scene.fleet.url());
    let link = Link::connect(&plain, "bench", Purpose::Control).await?;
    let mut beats = link.subscribe(WorkerHeartbeat::ALL).await?;
    let workers: BTreeSet<String> = scene.fleet.workers.iter().map(|(id, _)| id.clone()).collect();
    let subjects: BTreeSet<String> = workers
        .iter()
        .map(|id| Ok(WorkerHeartbeat(WorkerId::parse(id)?).subject()))
        .collect::<anyhow::Result<_>>()?;
    let (mut times, mut moved, mut broken) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..options.repeats {
        let heard = scene.ears.rooms();
        scene.fleet.node(0)?.kill();
        // Heartbeats from before it went.
        while tokio::time::timeout(Duration::ZERO, beats.next()).await.is_ok() {}
        tokio::time::sleep(Duration::from_secs_f64(seconds)).await;
        scene.fleet.start_node(0)?;
        let back = scene.fleet.node_answers(0).await?;
        let mut missing = subjects.clone();
        let all = async {
            while !missing.is_empty() {
                let Some(beat) = beats.next().await else { break };
                if beat.read::<Heartbeat>().is_ok() {
                    missing.remove(beat.subject());
                }
            }
        };
        tokio::time::timeout(PATIENCE, all).await?;
        times.push(back.elapsed());
        // As long as it takes a dispatcher to lose patience with a worker.
        let settled = Instant::now() + limits::WORKER_GONE + limits::LEASE_TTL;
        scene.leader(None).await?;
        while Instant::now() < settled {
            // Nobody's heartbeats pile up meanwhile.
            let _ = tokio::time::timeout(Duration::from_millis(100), beats.next()).await;
        }
        let fresh = |rooms: &crate::ears::Rooms| rooms.values().all(|room| room.last > back);
        scene.ears.until("all rooms after the outage", PATIENCE, fresh).await?;
        let after = scene.all_running(options.rooms).await?;
        moved
            .push(before.iter().filter(|(task, was)| after.get(*task) != Some(was)).count() as u64);
        let (epochs, frames) = touched(&heard, &scene.ears.rooms());
        broken.push(frames);
        ensure!(epochs == 0 || moved.last() > Some(&0), "an epoch changed that no record has");
    }
    // Beyond what a worker keeps, frames are lost by design.
    let wanted = seconds < limits::RING_AGE.as_secs_f64();
    let name = format!("server away for {seconds} s");
    let mut rows = vec![
        Row::times(
            &format!("{name}: heartbeats of all workers"),
            &times,
            Wanted::Worst(1_000.0),
            String::new(),
        ),
        Row::none("… tasks restarted or epochs changed", &moved, String::new()),
    ];
    if wanted {
        rows.push(Row::none("… batches lost", &broken, String::new()));
    }
    Ok(rows)
}
