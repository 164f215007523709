//! The leader of the dispatchers goes.

use std::time::{Duration, Instant};

use anyhow::Context;
use audio_gateway::{
    bus::{
        AskError, BusOptions, Link, Purpose,
        kv::{Change, Store},
        messages::LeaseRecord,
        subjects::{LEADER_KEY, LEASES_BUCKET, Submit},
    },
    limits,
    task::TaskState,
};
use rustix::process::Signal;

use crate::{
    Options,
    figures::{Row, Wanted},
    scene::{PATIENCE, Scene, ramp, spec, touched},
};

/// A room that is gone soon.
fn brief() -> serde_json::Value {
    serde_json::json!({"source": "ramp", "seconds": 1})
}

/// Killed: how long until a task that is submitted at once runs.
pub(crate) async fn killed(options: &Options) -> anyhow::Result<Vec<Row>> {
    let mut scene = Scene::start(options, 1, 2, 2).await?;
    scene.rooms(options.rooms, &ramp()).await?;
    let (mut times, mut slowest) = (Vec::new(), Vec::new());
    let (mut refused, mut moved, mut broken) = (Vec::new(), Vec::new(), Vec::new());
    for repeat in 0..options.repeats {
        let leader = scene.leader(None).await?;
        let before = scene.ears.rooms();
        scene.fleet.dispatcher(&leader)?.kill();
        let at = Instant::now();
        let (id, mut no, mut longest) = (format!("probe-{repeat}"), 0, Duration::ZERO);
        let spec = spec(&id, &brief(), 60)?;
        // The first one is what is waited for; the others find out whether any
        // is refused while nobody leads.
        scene.gateway.submit(&spec).await?;
        let task = spec.id.clone().context("a task with an id")?;
        let running = scene.gateway.wait_for(&task, TaskState::Running, PATIENCE, |_| ());
        tokio::pin!(running);
        loop {
            let asked = Instant::now();
            tokio::select! {
                view = &mut running => { view?; break }
                answer = scene.gateway.control().ask(&Submit, &spec, limits::REQUEST_TIMEOUT) => {
                    longest = longest.max(asked.elapsed());
                    no += u64::from(matches!(answer, Err(AskError::Refused(_))));
                }
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        times.push(at.elapsed());
        let (rooms, frames) = touched(&before, &scene.ears.rooms());
        refused.push(no);
        moved.push(rooms);
        broken.push(frames);
        slowest.push(longest);
        scene.fleet.dispatchers.retain(|(id, _)| *id != leader);
        scene.fleet.add_dispatcher().await?;
        // The new one is a standby that knows everything.
        scene.leader(Some(&leader)).await?;
    }
    let worst = slowest.iter().max().copied().unwrap_or_default();
    Ok(vec![
        Row::times(
            "leader killed: a task submitted then runs",
            &times,
            Wanted::Worst(3_000.0),
            format!("slowest submit {:.0} ms", worst.as_secs_f64() * 1e3),
        ),
        Row::none("… submits refused", &refused, String::new()),
        Row::none("… rooms given away anew", &moved, String::new()),
        Row::none("… frames lost or altered", &broken, String::new()),
    ])
}

/// Told to end: how long until another one has the lease.
pub(crate) async fn stopped(options: &Options) -> anyhow::Result<Vec<Row>> {
    let mut scene = Scene::start(options, 1, 2, 1).await?;
    let plain = BusOptions::plain(&scene.fleet.url());
    let link = Link::connect(&plain, "bench", Purpose::Control).await?;
    let leases = Store::new(&link, None).existing::<LeaseRecord>(LEASES_BUCKET).await?;
    let mut watch = leases.watch().await?;
    let mut times = Vec::new();
    for _ in 0..options.repeats {
        let leader = scene.leader(None).await?;
        scene.fleet.dispatcher(&leader)?.signal(Signal::TERM);
        let at = Instant::now();
        let handed = async {
            loop {
                match watch.next().await {
                    Change::Put { key, entry }
                        if key == LEADER_KEY && entry.value.holder != leader =>
                    {
                        return Ok(Instant::now());
                    }
                    Change::Broken(why) => anyhow::bail!("the watch broke: {why}"),
                    _ => (),
                }
            }
        };
        times.push(tokio::time::timeout(PATIENCE, handed).await?? - at);
        scene.fleet.dispatcher(&leader)?.ended(PATIENCE).await?;
        scene.fleet.dispatchers.retain(|(id, _)| *id != leader);
        scene.fleet.add_dispatcher().await?;
    }
    let what = "leader told to end: another has the lease";
    Ok(vec![Row::times(what, &times, Wanted::Worst(100.0), String::new())])
}
