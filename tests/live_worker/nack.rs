//! Batches that are asked for again.

use std::{collections::HashMap, time::Duration};

use audio_gateway::{
    audio::FLAG_RESENT,
    bus::{
        messages::{MissingReason, Nack, NackReply, NackStatus},
        subjects::{self, Topic, TrackNack},
    },
    id::SubscriberId,
    task::Epoch,
};
use serde_json::json;

use crate::rig::{Rig, SOON, next, room, user};

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
