//! Batches that are asked for again.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use audio_gateway::{
    audio::FLAG_RESENT,
    bus::{
        messages::{MissingReason, Nack, NackReply, NackStatus},
        subjects::{self, Topic, TrackNack},
    },
    client::{DropOnPurpose, Gateway, ListenOptions, Sounds},
    id::SubscriberId,
    limits,
    task::Epoch,
};
use serde_json::json;

use crate::{
    rig::{Ear, Rig, SOON, next, room, user},
    support::{eventually, within},
};

#[tokio::test]
async fn what_is_nacked_comes_again_on_the_subscriber_s_own_subject() {
    let rig = Rig::start().await;
    let mut heard = rig.listen("again").await;
    rig.assign("again", 3, json!({"source": "ramp"})).await;
    let asr = SubscriberId::parse("asr-7").unwrap();
    let resends = subjects::room_resends(&room("again"), &asr);
    let mut resends = rig.media.subscribe(&resends).await.unwrap();
    rig.media.barrier().await.unwrap();
    let mut live = HashMap::new();
    while live.len() < 6 {
        let (_, batch) = next(&mut heard).await;
        live.insert(batch.seq, batch);
    }

    let ask = TrackNack(room("again"), user(0));
    let nack = |ranges| Nack { subscriber: asr.clone(), epoch: Epoch(3), ranges, deadline_ms: 0 };
    let reply = rig.control.ask(&ask, &nack(vec![(1, 2), (4, 1)]), SOON).await.unwrap();
    assert_eq!((reply.status, &*reply.missing), (NackStatus::Ok, &[][..]));
    for seq in [1, 2, 4] {
        let (subject, batch) = next(&mut resends).await;
        assert_eq!(subject, "audio.resend.again.user-0.asr-7");
        let mut want = live[&seq].clone();
        want.flags |= FLAG_RESENT;
        assert_eq!(batch, want, "bit for bit but for the flag");
    }

    // What it never sent, another epoch, another track, another room.
    let reply = rig.control.ask(&ask, &nack(vec![(900, 2)]), SOON).await.unwrap();
    assert_eq!(reply.missing, [(900, 2, MissingReason::Unknown)]);
    assert_eq!(reply.status, NackStatus::Partial);
    let old = Nack { epoch: Epoch(2), ..nack(vec![(0, 1)]) };
    let reply = rig.control.ask(&ask, &old, SOON).await.unwrap();
    assert_eq!((reply.status, reply.epoch), (NackStatus::Epoch, Epoch(3)));
    let nobody = TrackNack(room("again"), user(9));
    let reply = rig.control.ask(&nobody, &nack(vec![(0, 1)]), SOON).await.unwrap();
    assert_eq!(reply.status, NackStatus::Unknown);

    // What cannot be read is refused by name, from our rooms alone.
    for bad in [
        &b"\xff"[..],
        br#"{"subscriber":"a.b","epoch":3,"ranges":[[0,1]]}"#,
        br#"{"subscriber":"a","epoch":3,"ranges":[[0,65]]}"#,
        br#"{"subscriber":"a","epoch":3,"ranges":[[18446744073709551615,2]]}"#,
        &[b' '; 5_000],
    ] {
        let subject = ask.subject();
        let answer = rig.control.ask_bytes(&subject, bad.to_vec().into(), SOON).await.unwrap();
        let reply: NackReply = serde_json::from_slice(&answer).unwrap();
        assert_eq!(reply.status, NackStatus::BadRequest, "{}", reply.message);
    }
    let stranger = TrackNack(room("elsewhere"), user(0));
    let silence = Duration::from_millis(300);
    assert!(rig.control.ask(&stranger, &nack(vec![(0, 1)]), silence).await.is_err());
}

#[tokio::test]
async fn nothing_but_the_result_comes_to_a_reply_subject_and_only_to_an_inbox() {
    let rig = Rig::start().await;
    let mut heard = rig.listen("reply").await;
    rig.assign("reply", 1, json!({"source": "ramp"})).await;
    next(&mut heard).await;
    // A stranger names another room's subject as his reply.
    let mut victim = rig.media.subscribe("audio.live.victim.user-0").await.unwrap();
    rig.media.barrier().await.unwrap();
    let client = async_nats::connect(rig.server.url()).await.unwrap();
    let nack = br#"{"subscriber":"asr","epoch":1,"ranges":[[0,1]]}"#;
    let to = "audio.nack.reply.user-0";
    client
        .publish_with_reply(to, "audio.live.victim.user-0", nack.as_slice().into())
        .await
        .unwrap();
    client.flush().await.unwrap();
    // The next one, asked rightly, is answered after it.
    let answer = rig.control.ask_bytes(to, nack.as_slice().to_vec().into(), SOON).await.unwrap();
    assert_eq!(serde_json::from_slice::<NackReply>(&answer).unwrap().status, NackStatus::Ok);
    rig.media.barrier().await.unwrap();
    assert!(tokio::time::timeout(Duration::ZERO, victim.next()).await.is_err());
}

#[tokio::test]
async fn who_asks_without_end_costs_a_share_and_others_are_served() {
    let rig = Rig::start().await;
    let gateway = Gateway::connect(&rig.options()).await.unwrap();
    let drop = Some(DropOnPurpose { fraction: 0.1, seed: 5, again: false });
    let options = ListenOptions { drop, ..ListenOptions::default() };
    let mut normal = gateway.listen_everywhere(options).await.unwrap();
    let _ = rig.listen("much-0").await;
    for index in 0..10 {
        let params = json!({"source": "ramp", "participants": 3});
        rig.assign(&format!("much-{index}"), 1, params).await;
    }
    // Everything of every track, again and again, under one name.
    let greedy = SubscriberId::parse("greedy").unwrap();
    let (link, stop) = (rig.media.clone(), Arc::new(AtomicBool::new(false)));
    let stopped = stop.clone();
    let abuse = tokio::spawn(async move {
        let mut pace = tokio::time::interval(Duration::from_millis(2));
        let mut at = 0_u64;
        while !stopped.load(Ordering::Relaxed) {
            pace.tick().await;
            at += 1;
            let topic = TrackNack(room(&format!("much-{}", at % 10)), user(at / 10 % 3));
            let first = (at / 1_000).saturating_sub(40);
            let nack = Nack {
                subscriber: greedy.clone(),
                epoch: Epoch(1),
                ranges: vec![(first, 64)],
                deadline_ms: 0,
            };
            let body = serde_json::to_vec(&nack).unwrap();
            // Nobody waits for what comes of it.
            let _ = link.ask_bytes(&topic.subject(), body.into(), Duration::ZERO).await;
        }
    });
    let mut ears: HashMap<String, Ear> = HashMap::new();
    while ears.len() < 30 || ears.values().any(|ear| ear.audio() < 500) {
        let heard = within("batch", SOON, normal.next()).await.unwrap();
        match heard.what {
            Sounds::Batch(delivered) => {
                let name = format!("{}.{}", heard.room, heard.track);
                ears.entry(name).or_default().hear(&delivered.batch);
            }
            Sounds::Gap(gap) => panic!("{gap:?}"),
            _ => (),
        }
    }
    stop.store(true, Ordering::Relaxed);
    abuse.await.unwrap();
    assert!(normal.stats().recovered > 50 && normal.stats().lost == 0, "{:?}", normal.stats());
    let figures = eventually("figures", SOON, async || {
        let figures = rig.figures().await;
        (figures["nacks_ignored"].as_u64()? > 0).then_some(figures)
    })
    .await;
    let count = |what: &str| figures[what].as_u64().unwrap();
    // What both may have in any case, and two shares.
    let may = 2 * limits::RESEND_CREDIT_MIN + count("bytes") * 16 / 100 + 100_000;
    assert!(count("resent_bytes") < may, "{figures}");
}
