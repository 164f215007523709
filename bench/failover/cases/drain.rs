//! A worker is told to go, and its rooms go on elsewhere.

use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::{
    Options,
    ears::Ears,
    figures::{Row, Wanted},
    scene::{PATIENCE, Scene},
};

/// How long until it has gone, and what its rooms' listeners missed.
pub(crate) async fn drained(options: &Options) -> anyhow::Result<Vec<Row>> {
    let count = options.drain_rooms;
    let mut scene = Scene::start(options, 1, 2, 1).await?;
    scene.ears = Ears::by_clock(&scene.fleet.url()).await?;
    // Placed by the clock on the wall: two workers say the same at the same place.
    let params = serde_json::json!({"source": "ramp", "clock": "unix"});
    scene.rooms(count, &params).await?;
    let (mut times, mut holes, mut doubled, mut broken) = (vec![], vec![], vec![], vec![]);
    for _ in 0..options.repeats {
        scene.all_running(count).await?;
        let leaving = scene.fleet.workers[0].0.clone();
        // Whoever is left takes them all.
        scene.fleet.add_worker()?;
        scene.ears.until("every room", PATIENCE, |rooms| rooms.len() >= count).await?;
        let before = scene.ears.rooms();
        scene.fleet.worker(&leaving)?.signal(Signal::TERM);
        let at = Instant::now();
        scene.fleet.worker(&leaving)?.ended(PATIENCE).await?;
        times.push(at.elapsed());
        let moved = |rooms: &crate::ears::Rooms| {
            before.iter().all(|(room, old)| rooms[room].epoch > old.epoch)
        };
        scene.ears.until("the rooms elsewhere", PATIENCE, moved).await?;
        // What was asked for again has come by then.
        tokio::time::sleep(Duration::from_secs(1)).await;
        let after = scene.ears.rooms();
        let sum = |of: fn(&crate::ears::Room) -> u64| {
            before.iter().map(|(room, old)| of(&after[room]) - of(old)).sum::<u64>()
        };
        holes.push(sum(|room| room.hole));
        doubled.push(sum(|room| room.doubled));
        broken.push(sum(|room| room.broken) + sum(|room| room.fell));
        scene.fleet.workers.retain(|(id, _)| *id != leaving);
    }
    Ok(vec![
        Row::times(
            &format!("worker with {count} rooms drained: it has left"),
            &times,
            Wanted::Worst(30_000.0),
            String::new(),
        ),
        Row::none("… frames missing where the epoch changed", &holes, String::new()),
        Row::none("… frames doubled there", &doubled, String::new()),
        Row::none("… frames lost or altered elsewhere", &broken, String::new()),
    ])
}
