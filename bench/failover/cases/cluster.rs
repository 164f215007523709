//! One of three servers goes: the one that leads the stream of the tasks.

use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use audio_gateway::{
    bus::{AskError, BusOptions, Link, Purpose, messages::RefusalCode, subjects::Submit},
    client::Gateway,
    id::TaskId,
    limits,
};
use rustix::process::Signal;
use tokio::task::JoinSet;

use crate::{
    Options,
    ears::Ears,
    figures::{Row, Wanted},
    fleet::Fleet,
    scene::{PATIENCE, Scene, ramp, spec, touched},
};

/// How it is lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Loss {
    Killed,
    /// Told to end.
    Stopped,
    /// It stands still, and every connection to it with it.
    Hung,
    LameDuck,
}

const STREAMS: [&str; 4] =
    ["KV_gateway_tasks", "KV_gateway_rooms", "KV_gateway_leases", "GATEWAY_EVENTS"];

/// A stream's leader, and whether all its copies are there and current.
async fn leader(link: &Link, stream: &str) -> Option<(String, bool)> {
    let subject = format!("$JS.API.STREAM.INFO.{stream}");
    // One that is lost on the way is asked again soon.
    let info = link.ask_bytes(&subject, "".into(), Duration::from_millis(100)).await.ok()?;
    let info: serde_json::Value = serde_json::from_slice(&info).ok()?;
    let cluster = info.get("cluster")?;
    let copies = cluster.get("replicas")?.as_array()?;
    let there = |copy: &serde_json::Value| {
        copy["current"].as_bool() == Some(true) && copy["offline"].as_bool() != Some(true)
    };
    let whole = copies.len() == 2 && copies.iter().all(there);
    Some((cluster.get("leader")?.as_str()?.to_owned(), whole))
}

async fn whole(link: &Link) -> anyhow::Result<()> {
    let end = Instant::now() + PATIENCE;
    let mut beat = tokio::time::interval(Duration::from_millis(200));
    'look: loop {
        beat.tick().await;
        ensure!(Instant::now() < end, "the cluster does not come together");
        for stream in STREAMS {
            if !matches!(leader(link, stream).await, Some((_, true))) {
                continue 'look;
            }
        }
        return Ok(());
    }
}

async fn elsewhere(fleet: &Fleet, but: usize) -> anyhow::Result<Gateway> {
    Ok(Gateway::connect(&BusOptions::plain(&fleet.url_without(but))).await?)
}

/// Whether a task is there, asked until somebody says so.
async fn is_known(gateway: &Gateway, task: &TaskId) -> anyhow::Result<bool> {
    let end = Instant::now() + PATIENCE;
    loop {
        match gateway.get(task).await {
            Ok(_) => return Ok(true),
            Err(AskError::Refused(refusal)) if refusal.error == RefusalCode::NotFound => {
                return Ok(false);
            }
            Err(error) => ensure!(Instant::now() < end, "{error}"),
        }
    }
}

/// When the first of many submits was answered, and which: each of those before
/// may be lost with the server and waits for nothing.
async fn first_answer(gateway: &Gateway, repeat: usize) -> anyhow::Result<(Instant, TaskId)> {
    let mut beat = tokio::time::interval(Duration::from_millis(25));
    let mut asks = JoinSet::new();
    for number in 0.. {
        tokio::select! {
            _ = beat.tick() => {
                let id = format!("f{repeat}-{number}");
                let spec = spec(&id, &serde_json::json!({"none": 1}), 1)?;
                let gateway = gateway.clone();
                asks.spawn(async move {
                    let control = gateway.control();
                    control.ask(&Submit, &spec, limits::REQUEST_TIMEOUT).await
                });
            }
            Some(Ok(Ok(answer))) = asks.join_next(), if !asks.is_empty() => {
                return Ok((Instant::now(), answer.task));
            }
        }
    }
    unreachable!("numbers do not end")
}

/// How long after the stream has a new leader a submit is answered, whether
/// anything acknowledged is lost, and what the rooms notice.
pub(crate) async fn lost(options: &Options, loss: Loss) -> anyhow::Result<Vec<Row>> {
    let mut scene = Scene::start(options, 3, 2, 3).await?;
    scene.rooms(options.rooms, &ramp()).await?;
    let (mut elections, mut answers) = (Vec::new(), Vec::new());
    let (mut forgotten, mut silent, mut moved) = (Vec::new(), Vec::new(), Vec::new());
    for repeat in 0..options.repeats {
        let link = Link::connect(&BusOptions::plain(&scene.fleet.url()), "bench", Purpose::Control)
            .await?;
        whole(&link).await?;
        let (leads, _) = leader(&link, STREAMS[0]).await.context("a leader of the tasks")?;
        let names: Vec<_> = scene.fleet.nodes.iter().map(|node| node.name.clone()).collect();
        let index = names.iter().position(|name| *name == leads).context("one of ours")?;
        // Those who look on are with the other servers.
        let others = BusOptions::plain(&scene.fleet.url_without(index));
        let link = Link::connect(&others, "bench", Purpose::Control).await?;
        let gateway = elsewhere(&scene.fleet, index).await?;
        let ears = Ears::start(&scene.fleet.url_without(index)).await?;
        let count = options.rooms;
        ears.until("every room", PATIENCE, |rooms| {
            rooms.iter().filter(|(room, _)| room.starts_with("room-")).count() >= count
        })
        .await?;
        let before = ears.rooms();
        // State that is acknowledged at the very moment.
        let (mut kept, mut number) = (Vec::new(), 0);
        let mut submit = async |kept: &mut Vec<TaskId>| -> anyhow::Result<bool> {
            number += 1;
            let spec = spec(&format!("c{repeat}-{number}"), &serde_json::json!({"none": 1}), 1)?;
            match gateway.control().ask(&Submit, &spec, limits::REQUEST_TIMEOUT).await {
                Ok(answer) => kept.push(answer.task),
                // What became of it is not known.
                Err(_) => return Ok(false),
            }
            Ok(true)
        };
        for _ in 0..10 {
            submit(&mut kept).await?;
        }
        match loss {
            Loss::Killed => scene.fleet.node(index)?.kill(),
            Loss::Stopped => scene.fleet.node(index)?.signal(Signal::TERM),
            Loss::Hung => scene.fleet.node(index)?.signal(Signal::STOP),
            Loss::LameDuck => scene.fleet.node(index)?.signal(Signal::USR2),
        }
        let at = Instant::now();
        let election = async {
            let mut beat = tokio::time::interval(Duration::from_millis(10));
            loop {
                beat.tick().await;
                match leader(&link, STREAMS[0]).await {
                    Some((now, _)) if now != leads && !now.is_empty() => return Instant::now(),
                    _ => (),
                }
            }
        };
        let answered = first_answer(&gateway, repeat);
        let both = async { tokio::join!(election, answered) };
        let (elected, answered) = tokio::time::timeout(PATIENCE, both).await?;
        elections.push(elected - at);
        let (answered, task) = answered?;
        kept.push(task);
        answers.push(answered.saturating_duration_since(elected));
        // Whatever the loss goes on to do, within this time.
        let look = Instant::now() + Duration::from_secs(8);
        while Instant::now() < look {
            submit(&mut kept).await?;
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        let mut gone = 0;
        for task in &kept {
            gone += u64::from(!is_known(&gateway, task).await?);
        }
        forgotten.push(gone);
        let after = ears.rooms();
        silent.push(touched(&before, &after).1);
        moved.push(touched(&before, &after).0);
        match loss {
            Loss::Hung => scene.fleet.node(index)?.signal(Signal::CONT),
            Loss::Killed => scene.fleet.start_node(index)?,
            Loss::Stopped | Loss::LameDuck => {
                scene.fleet.node(index)?.ended(PATIENCE).await?;
                scene.fleet.start_node(index)?;
            }
        }
        scene.fleet.node_answers(index).await?;
        scene.all_running(options.rooms).await?;
    }
    let name = match loss {
        Loss::Killed => "one of three servers killed",
        Loss::Stopped => "one of three servers told to end",
        Loss::Hung => "one of three servers hung",
        Loss::LameDuck => "one of three servers a lame duck",
    };
    Ok(vec![
        Row::times(
            &format!("{name}: the stream has another leader"),
            &elections,
            Wanted::Nothing,
            String::new(),
        ),
        Row::times("… then a submit is answered", &answers, Wanted::Worst(1_000.0), String::new()),
        Row::none("… acknowledged tasks forgotten", &forgotten, String::new()),
        Row::none("… batches lost to a listener elsewhere", &silent, String::new()),
        Row::new(
            "… rooms given away anew",
            moved.iter().map(|count| *count as f64).collect(),
            "",
            Wanted::Nothing,
            String::new(),
        ),
    ])
}
