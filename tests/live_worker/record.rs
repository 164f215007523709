//! Rooms that are recorded: each batch is in the stream once, whatever happens to
//! the server.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    time::Duration,
};

use audio_gateway::{
    audio::{Batch, FLAG_LAST},
    bus::{
        kv::Store,
        messages::Assign,
        recording::{Bounds, Past, Since},
        subjects::{self, Lane},
    },
    client::{Gateway, ListenOptions, Sounds},
    task::Pull,
};
use serde_json::json;

use crate::{
    rig::{Ear, Rig, SOON, assignment, room, user},
    support::{eventually, lasting, within},
};

fn recorded(name: &str, epoch: u64) -> Assign {
    let pull = Pull { record: true, ..Pull::default() };
    let params = json!({"source": "ramp", "participants": 2});
    Assign { pull: Some(pull), ..assignment(name, epoch, params) }
}

/// All that is recorded of a room, by track: `seq` and the batch, as kept.
async fn kept(rig: &Rig, name: &str) -> BTreeMap<String, Vec<Batch>> {
    let subject = subjects::room_tracks(Lane::Rec, &room(name));
    let mut past = Past::open(&rig.media, &subject, Since::Beginning).await.unwrap();
    let mut tracks: BTreeMap<String, Vec<Batch>> = BTreeMap::new();
    while !past.is_told() {
        let recorded = within("what is recorded", SOON, past.next()).await.unwrap();
        let batch = Batch::decode(&recorded.payload).unwrap();
        tracks.entry(recorded.subject).or_default().push(batch);
    }
    tracks
}

/// Whether the last batch is there, and all before it: what was sent again may be
/// behind it.
fn is_over(batches: &[Batch]) -> bool {
    let last = batches.iter().find(|batch| batch.has(FLAG_LAST));
    let seqs: BTreeSet<u64> = batches.iter().map(|batch| batch.seq).collect();
    last.is_some_and(|last| seqs.len() as u64 > last.seq)
}

/// Each batch is there once, whatever the order, and all of the ramp is.
fn are_whole(tracks: &BTreeMap<String, Vec<Batch>>, least: usize) {
    assert_eq!(tracks.len(), 2, "{:?}", tracks.keys());
    for (track, batches) in tracks {
        let mut in_order: Vec<&Batch> = batches.iter().collect();
        in_order.sort_by_key(|batch| (batch.epoch, batch.seq));
        let mut ear = Ear::default();
        // It panics where one is missing or twice.
        in_order.into_iter().for_each(|batch| ear.hear(batch));
        assert!(batches.len() >= least, "{track}: {} batches", batches.len());
    }
}

#[tokio::test]
async fn a_recorded_room_is_heard_live_and_kept() {
    let rig = Rig::start().await;
    let gateway = Gateway::connect(&rig.options()).await.unwrap();
    let mut listener = gateway.listen(&room("rec"), ListenOptions::default()).await.unwrap();
    // There is no stream yet: the room is heard all the same.
    rig.give(&recorded("rec", 5)).await;
    let mut ears: HashMap<_, Ear> = HashMap::new();
    while ears.len() < 2 || ears.values().any(|ear| ear.audio() < 50) {
        let heard = within("batch", SOON, listener.next()).await.unwrap();
        match heard.what {
            Sounds::Batch(delivered) => ears.entry(heard.track).or_default().hear(&delivered.batch),
            Sounds::Gap(gap) => panic!("{gap:?}"),
            _ => (),
        }
    }
    let made = Store::new(&rig.control, None).ensure_recording(Bounds::default()).await;
    assert!(made.unwrap().is_some());
    eventually("the room from its beginning", SOON, async || {
        let tracks = kept(&rig, "rec").await;
        let begun = |batches: &Vec<Batch>| batches.iter().any(|batch| batch.seq == 0);
        (tracks.len() == 2 && tracks.values().all(begun)).then_some(())
    })
    .await;
    // The one lane or the other, never both.
    let mut live = rig.listen("rec").await;
    rig.revoke("rec", 5).await;
    assert!(tokio::time::timeout(Duration::ZERO, live.next()).await.is_err());
    eventually("its last words", SOON, async || {
        let tracks = kept(&rig, "rec").await;
        tracks.values().all(|batches| is_over(batches)).then_some(())
    })
    .await;
    are_whole(&kept(&rig, "rec").await, 10);
    assert_eq!(rig.worker.errors(), Vec::<String>::new());
}

/// The server is killed again and again while rooms are recorded.
#[tokio::test]
async fn nothing_is_lost_or_kept_twice_where_the_server_is_killed() {
    let mut rig = Rig::start().await;
    Store::new(&rig.control, None).ensure_recording(Bounds::default()).await.unwrap();
    for index in 0..5 {
        rig.give(&recorded(&format!("rec-{index}"), 3)).await;
    }
    for away in [0, 300, 2_000] {
        eventually("a while", SOON, async || {
            let tracks = kept(&rig, "rec-4").await;
            let newest = tracks.values().flatten().map(|batch| batch.time).max()?;
            (newest > crate::rig::unix_us() - 500_000).then_some(())
        })
        .await;
        let mut health = rig.media.health();
        rig.server.kill();
        within("loss of the server", SOON, health.wait_for(|there| !there)).await.unwrap();
        lasting(Duration::from_millis(away)).await;
        rig.server.restart().await;
        within("the server", SOON, health.wait_for(|there| *there)).await.unwrap();
    }
    for index in 0..5 {
        let name = format!("rec-{index}");
        eventually("the worker", SOON, async || {
            // Its other connection may not be back yet.
            rig.control.ask_bytes("$SRV.PING.worker.w1", "".into(), SOON).await.ok()
        })
        .await;
        rig.revoke(&name, 3).await;
        eventually("its last words", SOON, async || {
            let tracks = kept(&rig, &name).await;
            let over = |track: u64| {
                let subject = subjects::track(Lane::Rec, &room(&name), &user(track));
                tracks.get(&subject).is_some_and(|batches| is_over(batches))
            };
            (over(0) && over(1)).then_some(())
        })
        .await;
        are_whole(&kept(&rig, &name).await, 10);
    }
    assert_eq!(rig.worker.errors(), Vec::<String>::new());
}
