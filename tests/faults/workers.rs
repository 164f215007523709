//! Workers and their adapters stand still or are cut off, and come back.

use std::collections::BTreeSet;

use audio_gateway::limits;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::json;

use crate::{
    ears::{Ears, Rooms},
    rig::{Rig, SETTLED, SOON},
    support::{NatsServer, Proxy, eventually, lasting},
};

/// Whether rooms are heard under other epochs than before.
fn moved<'a>(before: &'a Rooms, rooms: &'a BTreeSet<String>) -> impl Fn(&Rooms) -> bool + 'a {
    |now: &Rooms| rooms.iter().all(|room| now[room].epoch > before[room].epoch)
}

async fn rooms_of(rig: &Rig, worker: &str) -> BTreeSet<String> {
    let sessions = rig.inventory(worker).await.sessions;
    sessions.into_iter().map(|session| session.room.to_string()).collect()
}

#[tokio::test]
async fn a_worker_that_stood_still_finds_its_rooms_elsewhere_and_leaves_them() {
    let server = NatsServer::start().await;
    let mut rig = Rig::start(&server.url(), &["d1"], &["w1"]).await;
    let ears = Ears::start(&server.url()).await;
    rig.ramps(0..4).await;
    ears.hear(4).await;
    rig.worker("w2", &server.url()).await;
    rig.knows(2).await;
    let (before, theirs) = (ears.rooms(), rooms_of(&rig, "w1").await);

    rig.workers["w1"].signal(Signal::STOP);
    ears.until("the rooms elsewhere", moved(&before, &theirs)).await;
    rig.workers["w1"].signal(Signal::CONT);
    // What it had in hand comes now, under an epoch that is over.
    eventually("refused batches", SOON, async || (ears.stale() > 0).then_some(())).await;
    eventually("a worker without rooms", SOON, async || {
        rooms_of(&rig, "w1").await.is_empty().then_some(())
    })
    .await;
    ears.go_on(10).await;
    ears.assert_clean();
    assert_eq!(rooms_of(&rig, "w2").await, theirs);
    // It is as good as any other again, and has its turn: which of two has the most room
    // just now is a matter of what else the machine does.
    for next in 4..20 {
        rig.ramps(next..next + 1).await;
        ears.hear(next + 1).await;
        if !rooms_of(&rig, "w1").await.is_empty() {
            break;
        }
    }
    assert!(!rooms_of(&rig, "w1").await.is_empty());
    rig.assert_no_errors();
}

#[tokio::test]
async fn a_worker_that_is_cut_off_is_mute_and_comes_back_clean() {
    let server = NatsServer::start().await;
    let proxy = Proxy::to(server.addr()).await;
    let mut rig = Rig::start(&server.url(), &["d1", "d2"], &[]).await;
    rig.worker("w1", &proxy.url()).await;
    let ears = Ears::start(&server.url()).await;
    rig.ramps(0..4).await;
    ears.hear(4).await;
    rig.worker("w2", &server.url()).await;
    rig.knows(2).await;
    let (before, theirs) = (ears.rooms(), rooms_of(&rig, "w1").await);
    assert_eq!(theirs.len(), 4);

    // Half open: nothing is closed, and no byte passes.
    proxy.freeze();
    let mute = "the lease has run out";
    rig.workers["w1"].says(mute, SOON).await;
    ears.until("the rooms elsewhere", moved(&before, &theirs)).await;
    // Its adapters are in the rooms still: it cannot know.
    let adapters = |rig: &Rig| {
        let children = rig.workers["w1"].children();
        children.iter().filter(|one| one.command.contains("sdk-sim")).count()
    };
    assert_eq!(adapters(&rig), 4);
    proxy.pass();
    eventually("rooms that are left", SOON, async || (adapters(&rig) == 0).then_some(())).await;
    ears.go_on(10).await;
    ears.assert_clean();
    assert!(rooms_of(&rig, "w1").await.is_empty());
    rig.knows(2).await;
    rig.assert_no_errors();
}

#[tokio::test]
async fn an_adapter_that_stands_still_is_heard_again_when_it_goes_on() {
    let server = NatsServer::start().await;
    let rig = Rig::start(&server.url(), &["d1"], &["w1"]).await;
    let ears = Ears::start(&server.url()).await;
    rig.submit("r0", &json!({"source": "tone"})).await;
    rig.runs("r0").await;
    ears.hear(1).await;
    let before = ears.rooms();
    let children = rig.workers["w1"].children();
    let adapter = children.iter().find(|one| one.command.contains("sdk-sim")).unwrap();
    let adapter = Pid::from_raw(adapter.pid).unwrap();
    kill_process(adapter, Signal::STOP).unwrap();
    // The track goes on and says that it has nothing.
    ears.go_on(5).await;
    lasting(limits::WORKER_SUSPECT).await;
    kill_process(adapter, Signal::CONT).unwrap();
    ears.go_on(5).await;
    let after = ears.rooms();
    assert_eq!(after["r0"].epoch, before["r0"].epoch);
    assert_eq!(rig.runs("r0").await.epoch.0, before["r0"].epoch);
    rig.assert_no_errors();
}

#[tokio::test]
async fn a_worker_that_is_heard_late_is_not_given_up() {
    let server = NatsServer::start().await;
    let proxy = Proxy::to(server.addr()).await;
    let mut rig = Rig::start(&server.url(), &["d1"], &["w2"]).await;
    rig.worker("w1", &proxy.url()).await;
    let ears = Ears::start(&server.url()).await;
    rig.ramps(0..4).await;
    ears.hear(4).await;
    let before = ears.rooms();
    proxy.delay(limits::HEARTBEAT);
    lasting(SETTLED).await;
    ears.go_on(5).await;
    ears.assert_untouched(&before);
    rig.assert_no_errors();
}
