//! A consumer that asks for all of every track again and again and waits for
//! nothing, and what the workers sent because of it.

use std::time::Duration;

use anyhow::Context;
use audio_gateway::{
    bus::{
        messages::Nack,
        subjects::{Topic, TrackNack},
    },
    client::Gateway,
    id::{RoomId, SubscriberId, TrackId},
    task::Epoch,
};
use tokio::task::JoinHandle;

use crate::Options;

/// NACKs it sends in a second, each for 64 batches: twenty times what all rooms
/// of a bench say.
const NACKS_PER_S: u32 = 2_000;

/// Asks until it is aborted.
pub(crate) fn start(gateway: &Gateway, options: &Options) -> JoinHandle<anyhow::Result<()>> {
    let (gateway, rooms, users) = (gateway.clone(), options.rooms, options.participants);
    tokio::spawn(async move {
        let media = gateway.media().await?.clone();
        let mut topics = Vec::new();
        for room in 0..rooms {
            let room = RoomId::parse(&format!("bench-{room}"))?;
            for user in 0..users {
                topics.push(TrackNack(room.clone(), TrackId::of_user(&format!("user-{user}"))));
            }
        }
        let mut places: Vec<(u64, u64)> = vec![(1, 0); topics.len()];
        let subscriber = SubscriberId::parse("greedy")?;
        let mut pace = tokio::time::interval(Duration::from_secs(1) / NACKS_PER_S);
        for at in (0..topics.len()).cycle() {
            pace.tick().await;
            let (topic, (epoch, last)) = (&topics[at], places[at]);
            let nack = Nack {
                subscriber: subscriber.clone(),
                epoch: Epoch(epoch),
                ranges: vec![(last.saturating_sub(50), 64)],
                deadline_ms: 0,
            };
            let body = serde_json::to_vec(&nack)?.into();
            // Where it stands it hears now and then; else it waits for no answer.
            let within = Duration::from_millis(if at % 50 == 0 || epoch == 1 { 50 } else { 0 });
            let answer = media.ask_bytes(&topic.subject(), body, within).await;
            let Ok(answer) = answer else { continue };
            let answer: serde_json::Value = serde_json::from_slice(&answer)?;
            if let (Some(epoch), Some(last)) =
                (answer["epoch"].as_u64(), answer["held"][1].as_u64())
            {
                places[at] = (epoch, last);
            }
        }
        Ok(())
    })
}

/// Bytes that all workers have sent again, and said.
pub(crate) async fn sent(gateway: &Gateway) -> anyhow::Result<[u64; 2]> {
    let within = Duration::from_millis(200);
    let answers = gateway.control().ask_all("$SRV.STATS.worker", "".into(), within).await?;
    let mut sent = [0, 0];
    for answer in answers {
        let stats: serde_json::Value = serde_json::from_slice(&answer).context("no figures")?;
        let data = &stats["endpoints"][0]["data"];
        sent[0] += data["resent_bytes"].as_u64().unwrap_or(0);
        sent[1] += data["bytes"].as_u64().unwrap_or(0);
    }
    Ok(sent)
}
