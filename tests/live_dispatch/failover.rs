//! What services notice when a leader, a worker or the server goes.

use std::time::{Duration, Instant};

use audio_gateway::{
    bus::{
        messages::{self, Ping},
        subjects::{AdminWorkers, Cancel},
    },
    task::TaskState,
};
use rustix::process::Signal;

use super::{
    rig::{FakeWorker, Rig, SOON},
    support::{eventually, lasting},
};

#[tokio::test]
async fn a_killed_leader_costs_three_seconds_and_no_task() {
    let mut rig = Rig::start(&["d1", "d2"]).await;
    let _worker = FakeWorker::start(&rig.server, "w1").await;
    rig.submit(r#"{"id":"old","room":"1","sdk":"sim"}"#).await;
    let before = rig.becomes("old", TaskState::Running).await;

    let leader = rig.leader(None).await;
    rig.dispatchers.get_mut(&leader).unwrap().kill();
    let killed = Instant::now();
    // The other one takes it in at once, and gives it away once it leads.
    rig.submit(r#"{"id":"new","room":"2","sdk":"sim"}"#).await;
    rig.becomes("new", TaskState::Running).await;
    let took = killed.elapsed();
    println!("leader killed: scheduling again after {took:?}");
    assert!(took < Duration::from_secs(5), "{took:?}");
    assert_ne!(rig.leader(Some(&leader)).await, leader);

    let after = rig.get("old").await;
    assert_eq!((after.state, after.epoch), (before.state, before.epoch));
}

#[tokio::test]
async fn a_leader_that_is_told_to_end_hands_over_at_once() {
    let mut rig = Rig::start(&["d1", "d2"]).await;
    let _worker = FakeWorker::start(&rig.server, "w1").await;
    let leader = rig.leader(None).await;
    let mut old = rig.dispatchers.remove(&leader).unwrap();
    let told = Instant::now();
    old.signal(Signal::TERM);
    assert_ne!(rig.leader(Some(&leader)).await, leader);
    println!("leader stopped: another leads after {:?}", told.elapsed());
    assert!(old.ended(SOON).await.success());
    rig.submit(r#"{"id":"t","room":"1","sdk":"sim"}"#).await;
    rig.becomes("t", TaskState::Running).await;
    let took = told.elapsed();
    assert!(took < Duration::from_millis(1_900), "no quicker than by expiry: {took:?}");
}

#[tokio::test]
async fn the_rooms_of_a_killed_worker_go_to_another_under_a_higher_epoch() {
    let rig = Rig::start(&["d1", "d2"]).await;
    let first = FakeWorker::start(&rig.server, "w1").await;
    for room in 0..10 {
        rig.submit(&format!(r#"{{"id":"t{room}","room":"r{room}","sdk":"sim"}}"#)).await;
    }
    let before = rig.becomes("t9", TaskState::Running).await;
    rig.becomes("t0", TaskState::Running).await;
    let second = FakeWorker::start(&rig.server, "w2").await;
    eventually("second worker", SOON, async || {
        let workers = rig.link.ask(&AdminWorkers, &Ping {}, SOON).await.ok()?;
        (workers.workers.len() == 2).then_some(())
    })
    .await;
    drop(first);
    let killed = Instant::now();
    eventually("ten sessions at the other worker", SOON, async || {
        (second.epochs().len() == 10).then_some(())
    })
    .await;
    let took = killed.elapsed();
    println!("worker killed: ten rooms elsewhere after {took:?}");
    assert!(took < Duration::from_secs(6), "{took:?}");
    let after = rig.becomes("t9", TaskState::Running).await;
    assert!(after.epoch > before.epoch);
    assert_eq!(after.worker.unwrap().as_str(), "w2");
}

#[tokio::test]
async fn a_server_that_was_killed_costs_no_task_its_epoch() {
    let mut rig = Rig::start(&["d1", "d2"]).await;
    let worker = FakeWorker::start(&rig.server, "w1").await;
    for room in 0..5 {
        rig.submit(&format!(r#"{{"id":"t{room}","room":"r{room}","sdk":"sim"}}"#)).await;
    }
    for room in 0..5 {
        rig.becomes(&format!("t{room}"), TaskState::Running).await;
    }
    let before = worker.epochs();
    for away in [Duration::from_millis(200), Duration::from_secs(4)] {
        rig.server.kill();
        lasting(away).await;
        rig.server.restart().await;
        rig.leader(None).await;
        // As long as it takes a dispatcher to lose patience with a worker.
        lasting(Duration::from_secs(6)).await;
        assert_eq!(worker.epochs(), before);
        for room in 0..5 {
            let view = rig.becomes(&format!("t{room}"), TaskState::Running).await;
            assert!(before.contains(&view.epoch));
        }
        rig.submit(&format!(r#"{{"id":"n{0}","room":"n{0}","sdk":"sim"}}"#, away.as_millis()))
            .await;
        let new = rig.becomes(&format!("n{}", away.as_millis()), TaskState::Running).await;
        worker.sessions.lock().unwrap().retain(|(_, epoch), _| *epoch != new.epoch);
        let cancel = messages::Cancel { task: new.task, reason: String::new() };
        rig.link.ask(&Cancel, &cancel, SOON).await.unwrap();
    }
    for dispatcher in rig.dispatchers.values() {
        assert!(dispatcher.errors().is_empty(), "{:?}", dispatcher.errors());
    }
}
