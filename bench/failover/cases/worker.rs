//! A worker goes, or stands still.

use std::time::{Duration, Instant};

use anyhow::Context;
use rustix::process::Signal;

use crate::{
    Options,
    figures::{Row, Wanted},
    scene::{PATIENCE, Scene, ramp},
};

/// How it is lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Loss {
    Killed,
    /// It goes on once its rooms are elsewhere.
    Hung,
}

/// How long until each of its rooms is heard from another worker.
pub(crate) async fn lost(options: &Options, loss: Loss) -> anyhow::Result<Vec<Row>> {
    let mut scene = Scene::start(options, 1, 2, 3).await?;
    scene.rooms(options.rooms, &ramp()).await?;
    let (mut times, mut worst, mut fell) = (Vec::new(), Vec::new(), Vec::new());
    let stale = scene.ears.stats().stale_epochs;
    for _ in 0..options.repeats {
        let running = scene.all_running(options.rooms).await?;
        let busiest = |worker: &&String| running.values().filter(|(_, on)| on == *worker).count();
        let victim = scene.fleet.workers.iter().map(|(id, _)| id).max_by_key(busiest);
        let victim = victim.context("there are workers")?.clone();
        let theirs: Vec<String> = running
            .iter()
            .filter(|(_, (_, on))| *on == victim)
            .map(|(task, _)| task.to_string())
            .collect();
        let before = scene.ears.rooms();
        match loss {
            Loss::Killed => scene.fleet.worker(&victim)?.kill(),
            Loss::Hung => scene.fleet.worker(&victim)?.signal(Signal::STOP),
        }
        let at = Instant::now();
        let moved = |rooms: &crate::ears::Rooms| {
            theirs.iter().all(|room| rooms[room].epoch > before[room].epoch)
        };
        scene.ears.until("the rooms elsewhere", PATIENCE, moved).await?;
        let after = scene.ears.rooms();
        let took: Vec<Duration> = theirs.iter().map(|room| after[room].since - at).collect();
        worst.extend(took.iter().max().copied());
        times.extend(took);
        if loss == Loss::Hung {
            scene.fleet.worker(&victim)?.signal(Signal::CONT);
            // Everything it had in hand comes now, and must be refused.
            tokio::time::sleep(Duration::from_secs(2)).await;
            let now = scene.ears.rooms();
            fell.push(
                theirs
                    .iter()
                    .map(|room| now[room].fell + now[room].epoch - after[room].epoch)
                    .sum(),
            );
        } else {
            scene.fleet.workers.retain(|(id, _)| *id != victim);
            scene.fleet.add_worker()?;
        }
    }
    let rooms = format!("{} rooms in all", times.len());
    let stale = scene.ears.stats().stale_epochs - stale;
    Ok(match loss {
        Loss::Killed => vec![Row::times(
            "worker killed: a room of its is heard again",
            &times,
            Wanted::Both(2_000.0, 4_000.0),
            rooms,
        )],
        Loss::Hung => vec![
            Row::times(
                "worker hung: a room of its is heard again",
                &times,
                Wanted::Worst(6_000.0),
                rooms,
            ),
            Row::none(
                "… batches of the old epoch accepted once it goes on",
                &fell,
                format!("{stale} came and were refused"),
            ),
        ],
    })
}
