//! Dispatchers stand still, are cut off, or lead two at a time.

use std::{collections::BTreeMap, time::Duration};

use audio_gateway::{
    bus::{AskError, messages::RefusalCode, subjects::Submit},
    limits,
    task::TaskSpec,
};
use rustix::process::Signal;
use tokio::task::JoinSet;

use crate::{
    ears::Ears,
    rig::{Rig, SETTLED, SOON},
    support::{NatsServer, Proxy, eventually, lasting},
};

#[tokio::test]
async fn a_leader_that_stood_still_and_one_that_leads_meanwhile_do_no_harm() {
    let server = NatsServer::start().await;
    let rig = Rig::start(&server.url(), &["d1", "d2"], &["w1", "w2"]).await;
    let ears = Ears::start(&server.url()).await;
    rig.ramps(0..4).await;
    ears.hear(4).await;
    let before = ears.rooms();
    let first = rig.leader(None).await;
    rig.dispatchers[&first].signal(Signal::STOP);
    rig.leader(Some(&first)).await;
    rig.ramps(4..6).await;
    rig.dispatchers[&first].signal(Signal::CONT);
    rig.ramps(6..8).await;
    ears.hear(8).await;
    lasting(SETTLED).await;
    ears.assert_untouched(&before);
    // And one that only follows is missed by nobody.
    let leader = rig.leader(None).await;
    let follower = rig.dispatchers.keys().find(|id| **id != leader).unwrap();
    rig.dispatchers[follower].signal(Signal::STOP);
    rig.ramps(8..9).await;
    rig.dispatchers[follower].signal(Signal::CONT);
    ears.go_on(5).await;
    ears.assert_untouched(&before);
    rig.assert_no_errors();
}

/// The leader's key is removed under it: it goes on to lead until its next
/// renewal, and another one that looks for the key before that begins at once.
#[tokio::test]
async fn two_leaders_at_a_time_never_give_a_room_to_two() {
    const ROUNDS: usize = 10;
    const PAIRS: usize = 3;
    let server = NatsServer::start().await;
    let rig = Rig::start(&server.url(), &["d1", "d2", "d3"], &["w1", "w2", "w3"]).await;
    let ears = Ears::start(&server.url()).await;
    let mut rounds = 0;
    while rounds < ROUNDS || led_at_once(&rig) < PAIRS {
        assert!(rounds < 10 * ROUNDS, "too few led beside another: {}", led_at_once(&rig));
        rig.leader(None).await;
        let purge = r#"{"filter":"$KV.gateway_leases.leader"}"#;
        let subject = "$JS.API.STREAM.PURGE.KV_gateway_leases";
        rig.gateway.control().ask_bytes(subject, purge.into(), SOON).await.unwrap();
        for room in 2 * rounds..2 * rounds + 2 {
            rig.submit(&format!("r{room}"), &serde_json::json!({"source": "ramp"})).await;
        }
        rounds += 1;
        // A removed key is no news: it shows in who renews and who looks for it.
        let led = rounds;
        eventually("another term", SOON, async || (terms(&rig).len() > led).then_some(())).await;
    }
    for room in 0..2 * rounds {
        rig.runs(&format!("r{room}")).await;
    }
    ears.hear(2 * rounds).await;
    ears.go_on(5).await;
    ears.assert_clean();
    let mut served: BTreeMap<String, Vec<String>> = BTreeMap::new();
    eventually("each room at one worker", SOON, async || {
        served.clear();
        for worker in rig.workers.keys() {
            for session in rig.inventory(worker).await.sessions {
                served.entry(session.room.to_string()).or_default().push(worker.clone());
            }
        }
        served.values().all(|workers| workers.len() == 1).then_some(())
    })
    .await;
    assert_eq!(served.len(), 2 * rounds);
    rig.assert_no_errors();
}

/// When somebody began to lead, and when he stopped.
type Term = (String, Option<String>);

/// Who led from when to when, by what the dispatchers logged.
fn terms(rig: &Rig) -> Vec<Term> {
    let mut terms: Vec<Term> = Vec::new();
    for dispatcher in rig.dispatchers.values() {
        let mut since = None;
        for line in dispatcher.stderr().lines().filter(|line| line.contains(" leading ")) {
            let time = line.split_whitespace().next().unwrap().to_owned();
            match since.take() {
                Some(begun) if line.contains("leading no more") => terms.push((begun, Some(time))),
                _ => since = Some(time),
            }
        }
        terms.extend(since.map(|begun| (begun, None)));
    }
    terms
}

/// Pairs of terms that overlap: two led at the same time.
fn led_at_once(rig: &Rig) -> usize {
    let terms = terms(rig);
    // Times of one width: what comes later is greater.
    let before = |end: &Option<String>, begin: &String| end.as_ref().is_some_and(|end| end < begin);
    let beside = |(at, (begin, end)): (usize, &Term)| {
        let others = terms[..at].iter();
        others.filter(|(from, to)| !before(to, begin) && !before(end, from)).count()
    };
    terms.iter().enumerate().map(beside).sum()
}

#[tokio::test]
async fn a_dispatcher_that_is_cut_off_moves_no_room() {
    let server = NatsServer::start().await;
    let proxy = Proxy::to(server.addr()).await;
    let mut rig = Rig::start(&server.url(), &[], &[]).await;
    rig.dispatcher("d1", &proxy.url()).await;
    rig.worker("w1", &server.url()).await;
    rig.worker("w2", &server.url()).await;
    assert_eq!(rig.leader(None).await, "d1");
    let ears = Ears::start(&server.url()).await;
    rig.ramps(0..4).await;
    ears.hear(4).await;
    let (before, tasks) = (ears.rooms(), rig.tasks().await);
    // Nothing is closed, and no byte passes: it hears nobody, for longer than
    // it has patience with anybody.
    proxy.freeze();
    lasting(SETTLED).await;
    proxy.pass();
    rig.leader(None).await;
    lasting(SETTLED).await;
    ears.go_on(5).await;
    ears.assert_untouched(&before);
    // Not even to take it back a moment later.
    assert_eq!(rig.tasks().await, tasks);
    // Nor does one that is refused meanwhile.
    proxy.refuse();
    lasting(limits::WORKER_GONE).await;
    proxy.pass();
    rig.ramps(4..5).await;
    ears.assert_untouched(&before);
    rig.assert_no_errors();
}

/// The server is away for both, and the worker finds it later: it is silent, and
/// nobody answers for it when the dispatcher asks. What keeps its rooms is that
/// whoever was cut off judges nobody for a while.
#[tokio::test]
async fn a_worker_that_finds_the_server_later_than_its_dispatcher_keeps_its_rooms() {
    /// Longer than it takes to be silent and twice not to be there, and less
    /// than the others are given.
    const LATER: Duration = Duration::from_millis(3_400);
    let server = NatsServer::start().await;
    let (near, far) = (Proxy::to(server.addr()).await, Proxy::to(server.addr()).await);
    let mut rig = Rig::start(&server.url(), &[], &[]).await;
    rig.dispatcher("d1", &near.url()).await;
    rig.worker("w1", &far.url()).await;
    let ears = Ears::start(&server.url()).await;
    rig.ramps(0..4).await;
    ears.hear(4).await;
    rig.worker("w2", &server.url()).await;
    rig.knows(2).await;
    let before = ears.rooms();
    near.refuse();
    far.refuse();
    lasting(limits::HEARTBEAT).await;
    near.pass();
    rig.leader(None).await;
    lasting(LATER).await;
    far.pass();
    lasting(SETTLED).await;
    ears.go_on(5).await;
    ears.assert_untouched(&before);
    rig.assert_no_errors();
}

#[tokio::test]
async fn ten_times_more_submits_than_are_let_in_disturb_no_room() {
    let server = NatsServer::start().await;
    let rig = Rig::start(&server.url(), &["d1"], &["w1"]).await;
    let ears = Ears::start(&server.url()).await;
    rig.ramps(0..4).await;
    ears.hear(4).await;
    let before = ears.rooms();
    let again = r#"{"id":"r0","room":"r0","sdk":"sim","params":{"source":"ramp"}}"#;
    let again = TaskSpec::from_json(again.as_bytes()).unwrap();
    let mut asks = JoinSet::new();
    for _ in 0..10 * limits::SUBMITS_PER_S {
        let (gateway, again) = (rig.gateway.clone(), again.clone());
        asks.spawn(async move { gateway.control().ask(&Submit, &again, SOON).await });
        // As fast as they go, and no faster than they are taken off the wire.
        if asks.len() >= 512 {
            asks.join_next().await;
        }
    }
    while let Some(answer) = asks.join_next().await {
        match answer.unwrap() {
            Ok(answer) => assert!(answer.duplicate),
            Err(AskError::Refused(refusal)) => {
                assert_eq!(refusal.error, RefusalCode::RateLimited, "{refusal:?}");
                assert!(refusal.retry_after_ms > 0, "{refusal:?}");
            }
            Err(error) => panic!("without an answer: {error}"),
        }
    }
    ears.go_on(5).await;
    ears.assert_untouched(&before);
    rig.assert_no_errors();
}
