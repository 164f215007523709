//! The server goes away and comes back.

use std::time::Duration;

use audio_gateway::client::ListenOptions;

use crate::{
    PATIENCE, gateway, hear,
    support::{NatsServer, Proxy, lasting, within},
    worker::{FakeWorker, batch, room, track},
};

/// Five batches a second, as in a real room.
const PACE: Duration = Duration::from_millis(200);

/// The server is killed for so long while batches are made; each is heard.
async fn survives(away: Duration) {
    let mut server = NatsServer::start().await;
    let worker = FakeWorker::start(&server.url()).await;
    let gateway = gateway(&server.url()).await;
    let mut listener = gateway.listen(&room("r"), ListenOptions::default()).await.unwrap();
    let (r, ann) = (room("r"), track("ann"));
    let batches = away.as_millis() as u64 / 200 + 15;
    worker.say(&r, &ann, 1, 0, batch(1, 0, 0)).await;
    hear(&mut listener, 1).await.are_whole(0, 1);
    let speak = async {
        let mut pace = tokio::time::interval(PACE);
        for seq in 1..batches {
            pace.tick().await;
            worker.say(&r, &ann, 1, seq, batch(1, seq, 0)).await;
        }
    };
    let break_it = async {
        let mut health = worker.link.health();
        server.kill();
        let gone = health.wait_for(|there| !there);
        within("loss of the connection", PATIENCE, gone).await.unwrap();
        lasting(away).await;
        server.restart().await;
    };
    let (notes, (), ()) = tokio::join!(hear(&mut listener, batches as usize - 1), speak, break_it);
    notes.are_whole(1, batches as usize - 1);
    assert!(notes.gaps().is_empty());
    assert!(listener.stats().recovered > 0, "{:?}", listener.stats());
}

#[tokio::test]
async fn one_second_without_the_server_loses_nothing() {
    survives(Duration::from_secs(1)).await;
}

#[tokio::test]
async fn eight_seconds_without_the_server_lose_nothing() {
    survives(Duration::from_secs(8)).await;
}

#[tokio::test]
async fn a_listener_cut_off_alone_catches_up() {
    let server = NatsServer::start().await;
    let proxy = Proxy::to(server.addr()).await;
    let worker = FakeWorker::start(&server.url()).await;
    let gateway = gateway(&proxy.url()).await;
    let mut listener = gateway.listen(&room("r"), ListenOptions::default()).await.unwrap();
    let tracks: Vec<_> = (0..20).map(|number| track(&format!("t{number}"))).collect();
    let (r, mut health) = (room("r"), gateway.media().await.unwrap().health());
    worker.ramps(&r, &tracks, 0..5).await;
    let before = hear(&mut listener, 100).await;
    before.are_whole(0, 5);
    proxy.refuse();
    within("loss of the connection", PATIENCE, health.wait_for(|there| !there)).await.unwrap();
    // More than one NACK can ask for.
    worker.ramps(&r, &tracks, 5..85).await;
    proxy.pass();
    within("the connection", PATIENCE, health.wait_for(|there| *there)).await.unwrap();
    gateway.media().await.unwrap().barrier().await.unwrap();
    let (notes, ()) = tokio::join!(hear(&mut listener, 1_700), worker.ramps(&r, &tracks, 85..90));
    notes.are_whole(5, 85);
    assert!(notes.gaps().is_empty(), "{:?}", listener.stats());
}
