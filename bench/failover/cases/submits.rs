//! Many submits: those that run, those that wait, and those that are too many.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use anyhow::{Context, ensure};
use audio_gateway::{
    bus::{AskError, messages::RefusalCode, subjects::Submit},
    limits,
};
use tokio::task::JoinSet;

use crate::{
    Options,
    figures::{Row, Wanted},
    scene::{PATIENCE, Scene, ramp, spec, touched},
};

/// Tasks come at a rate: how long until each is accepted, and until it is heard.
pub(crate) async fn started(options: &Options) -> anyhow::Result<Vec<Row>> {
    let scene = Scene::start(options, 1, 2, 2).await?;
    let params = serde_json::json!({"source": "ramp", "seconds": 3});
    let (mut accepted, mut heard) = (Vec::new(), Vec::new());
    let seconds = 3;
    for repeat in 0..options.repeats {
        let count = options.rate * seconds;
        let mut beat = tokio::time::interval(Duration::from_secs(1) / options.rate.max(1));
        let mut asks = JoinSet::new();
        for number in 0..count {
            beat.tick().await;
            let id = format!("s{repeat}-{number}");
            let spec = spec(&id, &params, 60)?;
            let gateway = scene.gateway.clone();
            asks.spawn(async move {
                let asked = Instant::now();
                let answer = gateway.submit(&spec).await;
                (id, asked, asked.elapsed(), answer)
            });
        }
        let mut submitted = HashMap::new();
        while let Some(ended) = asks.join_next().await {
            let (id, asked, took, answer) = ended?;
            answer.with_context(|| format!("submit of {id}"))?;
            accepted.push(took);
            submitted.insert(id, asked);
        }
        let all = |rooms: &crate::ears::Rooms| submitted.keys().all(|id| rooms.contains_key(id));
        scene.ears.until("every room submitted", PATIENCE, all).await?;
        let rooms = scene.ears.rooms();
        heard.extend(submitted.iter().map(|(id, asked)| rooms[id].since - *asked));
        scene.ears.forget();
    }
    let rate = options.rate;
    Ok(vec![
        Row::times(
            &format!("{rate} tasks a second: submit to accepted"),
            &accepted,
            Wanted::P99(50.0),
            String::new(),
        ),
        Row::times(
            &format!("{rate} tasks a second: submit to first frame"),
            &heard,
            Wanted::P99(1_000.0),
            String::new(),
        ),
    ])
}

/// A full queue: what it costs, and that it stays so.
pub(crate) async fn pending(options: &Options) -> anyhow::Result<Vec<Row>> {
    let scene = Scene::start(options, 1, 1, 0).await?;
    let memory = || scene.fleet.dispatchers[0].1.memory();
    let empty = memory();
    let params = serde_json::json!({});
    let mut asks = JoinSet::new();
    let mut beat = tokio::time::interval(Duration::from_secs(1) / 400);
    let (mut waits, mut full, mut highest) = (0, 0, 0.0_f64);
    for number in 0..limits::QUEUE_MAX + 100 {
        beat.tick().await;
        let spec = spec(&format!("p{number}"), &params, 3_600)?;
        let gateway = scene.gateway.clone();
        asks.spawn(async move {
            loop {
                match gateway.submit(&spec).await {
                    Err(AskError::Refused(refusal))
                        if refusal.error == RefusalCode::RateLimited =>
                    {
                        let wait = Duration::from_millis(refusal.retry_after_ms.max(10));
                        tokio::time::sleep(wait).await;
                    }
                    answer => return answer,
                }
            }
        });
        while let Some(ended) = asks.try_join_next() {
            count(ended?, &mut waits, &mut full)?;
        }
        highest = highest.max(memory());
    }
    while let Some(ended) = asks.join_next().await {
        count(ended?, &mut waits, &mut full)?;
    }
    let filled = memory();
    let mut later = Vec::new();
    for _ in 0..options.repeats {
        tokio::time::sleep(Duration::from_secs(1)).await;
        later.push(memory() - filled);
    }
    let each = (filled - empty) * 1_024.0 / f64::from(waits);
    Ok(vec![Row::new(
        &format!("{waits} tasks wait: the dispatcher's memory grows in each second after"),
        later,
        "MiB",
        Wanted::Worst(8.0),
        format!(
            "{empty:.0} MiB empty, {filled:.0} full ({each:.1} kB a task), {highest:.0} at most; \
             {full} more were refused: the queue is full"
        ),
    )])
}

fn count<T>(answer: Result<T, AskError>, waits: &mut u32, full: &mut u32) -> anyhow::Result<()> {
    match answer {
        Ok(_) => *waits += 1,
        Err(AskError::Refused(refusal)) if refusal.error == RefusalCode::QueueFull => *full += 1,
        Err(error) => return Err(error.into()),
    }
    Ok(())
}

/// Far more submits than are let in: each is answered, and rooms do not notice.
pub(crate) async fn flooded(options: &Options) -> anyhow::Result<Vec<Row>> {
    const SECONDS: u32 = 3;
    let scene = Scene::start(options, 1, 2, 2).await?;
    scene.rooms(options.rooms, &ramp()).await?;
    let running = scene.all_running(options.rooms).await?;
    let again = spec("room-0", &ramp(), 300)?;
    let a_second = 2 * limits::SUBMITS_PER_S + 1_000;
    let (mut late, mut unanswered, mut broken, mut times) = (0, vec![], vec![], vec![]);
    let (mut let_in, mut refused) = (0_u64, 0_u64);
    for _ in 0..options.repeats {
        let before = scene.ears.rooms();
        let mut beat = tokio::time::interval(Duration::from_millis(10));
        let (mut asks, mut nothing) = (JoinSet::new(), 0);
        for _ in 0..SECONDS * 100 {
            beat.tick().await;
            for _ in 0..a_second / 100 {
                let (gateway, spec) = (scene.gateway.clone(), again.clone());
                asks.spawn(async move {
                    let asked = Instant::now();
                    let control = gateway.control();
                    (control.ask(&Submit, &spec, limits::REQUEST_TIMEOUT).await, asked.elapsed())
                });
            }
        }
        while let Some(ended) = asks.join_next().await {
            let (answer, took) = ended?;
            match answer {
                Ok(answer) => {
                    ensure!(answer.duplicate, "a room was submitted twice");
                    let_in += 1;
                }
                Err(AskError::Refused(refusal)) => {
                    refused += 1;
                    late += u64::from(refusal.retry_after_ms == 0);
                }
                Err(_) => nothing += 1,
            }
            times.push(took);
        }
        unanswered.push(nothing);
        let (moved, frames) = touched(&before, &scene.ears.rooms());
        broken.push(moved + frames);
    }
    ensure!(scene.all_running(options.rooms).await? == running, "a task was restarted");
    Ok(vec![
        Row::times(
            &format!("{a_second} submits a second: answered"),
            &times,
            Wanted::Nothing,
            format!(
                "{let_in} let in, {refused} refused, {late} of them without saying when to come back"
            ),
        ),
        Row::none("… without an answer", &unanswered, String::new()),
        Row::none("… rooms touched meanwhile", &broken, String::new()),
    ])
}
