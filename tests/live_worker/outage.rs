//! The server goes away and comes back.

use std::{collections::BTreeMap, time::Duration};

use audio_gateway::{
    bus::BusOptions,
    client::{Gateway, Heard, ListenOptions, Sounds},
};
use serde_json::json;

use crate::{
    rig::{Ear, Rig, SOON},
    support::{lasting, within},
};

const ROOMS: usize = 5;

/// The server is killed for so long; nothing is lost, and nothing starts anew.
async fn survives(away: Duration) {
    let mut rig = Rig::start().await;
    let gateway = Gateway::connect(&BusOptions::plain(&rig.server.url())).await.unwrap();
    let mut listener = gateway.listen_everywhere(ListenOptions::default()).await.unwrap();
    for index in 0..ROOMS {
        rig.assign(&format!("out-{index}"), 1, json!({"source": "ramp"})).await;
    }
    let mut ears: BTreeMap<String, Ear> = BTreeMap::new();
    let mut hear = async |until: u64| {
        while ears.len() < ROOMS || ears.values().any(|ear| ear.audio() < until) {
            let heard: Heard = within("batch", SOON, listener.next()).await.unwrap();
            match heard.what {
                Sounds::Batch(delivered) => {
                    let ear = ears.entry(heard.room.to_string()).or_default();
                    ear.hear(&delivered.batch);
                    assert_eq!(delivered.batch.epoch, 1);
                }
                Sounds::Gap(gap) => panic!("a gap: {gap:?}"),
                _ => (),
            }
        }
    };
    hear(50).await;
    let adapters = rig.pids();

    let mut health = rig.media.health();
    rig.server.kill();
    within("loss of the server", SOON, health.wait_for(|there| !there)).await.unwrap();
    lasting(away).await;
    rig.server.restart().await;
    let slots = away.as_millis() as u64 / 20;
    hear(50 + slots + 200).await;
    assert_eq!(rig.pids(), adapters, "no adapter was started again");
    for index in 0..ROOMS {
        let report = rig.report(&format!("out-{index}")).await.unwrap();
        assert_eq!(report.epoch.0, 1);
    }
    assert_eq!(rig.worker.errors(), Vec::<String>::new());
}

#[tokio::test]
async fn one_second_without_the_server_loses_nothing() {
    survives(Duration::from_secs(1)).await;
}

#[tokio::test]
async fn eight_seconds_without_the_server_lose_nothing() {
    survives(Duration::from_secs(8)).await;
}
