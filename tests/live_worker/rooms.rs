//! Rooms as they are heard, one and many.

use std::collections::{BTreeMap, HashMap};

use audio_gateway::{
    audio::{FLAG_LAST, FLAG_RESENT, Origin, Track, TrackWriter},
    bus::{
        messages::{RoomEvent, RoomNews, SessionState},
        subjects::{self, Lane, RoomEvents, Topic},
    },
    id::{SourceId, TrackId},
    task::{Epoch, Push},
};
use serde_json::json;

use crate::{
    rig::{Ear, Rig, SOON, assignment, next, room, unix_us},
    support::{eventually, within},
};

#[tokio::test]
async fn a_ramp_room_is_heard_without_a_hole() {
    let rig = Rig::start().await;
    let mut heard = rig.listen("ramp").await;
    let params = json!({"source": "ramp", "participants": 3});
    let verdict = rig.assign("ramp", 7, params).await;
    assert!(verdict.accepted, "{}", verdict.reason);

    let mut ears: BTreeMap<String, Ear> = BTreeMap::new();
    while ears.len() < 3 || ears.values().any(|ear| ear.audio() < 150) {
        let (subject, batch) = next(&mut heard).await;
        assert_eq!((batch.epoch, batch.flags & FLAG_RESENT), (7, 0));
        assert!(subject.ends_with(&batch.user));
        ears.entry(subject).or_default().hear(&batch);
    }
    for (subject, ear) in &ears {
        assert_eq!(ear.slots.len(), 1, "{subject}: only audio: {:?}", ear.slots);
    }
    assert_eq!(rig.report("ramp").await.unwrap().state, SessionState::Running);

    // Revoked, the tracks say that they end, and the adapter is gone.
    assert!(rig.revoke("ramp", 7).await.accepted);
    let mut last = 0;
    while last < 3 {
        let (subject, batch) = next(&mut heard).await;
        last += u32::from(batch.has(FLAG_LAST));
        ears.entry(subject).or_default().hear(&batch);
    }
    eventually("end of the adapter", SOON, async || (rig.adapters() == 0).then_some(())).await;
    assert_eq!(rig.report("ramp").await, None);
    assert_eq!(rig.worker.errors(), Vec::<String>::new());
}

#[tokio::test]
async fn the_room_s_events_tell_who_is_there() {
    let rig = Rig::start().await;
    let mut events = rig.control.subscribe(&RoomEvents(room("who")).subject()).await.unwrap();
    rig.control.barrier().await.unwrap();
    rig.assign("who", 1, json!({"source": "tone", "users": ["a b", "c"]})).await;
    let mut opened = Vec::new();
    while opened.len() < 2 {
        let event = within("event", SOON, events.next()).await.unwrap();
        let event: RoomEvent = event.read().unwrap();
        assert_eq!((event.room, event.epoch), (room("who"), Epoch(1)));
        if let RoomNews::TrackOpened { track, user, .. } = event.what {
            assert_eq!(track, TrackId::of_user(&user));
            opened.push(user);
        }
    }
    opened.sort();
    assert_eq!(opened, ["a b", "c"]);
}

#[tokio::test]
async fn fifty_rooms_at_once_lose_nothing() {
    const ROOMS: usize = 50;
    let rig = Rig::start().await;
    let all = subjects::all_tracks(Lane::Live);
    let mut heard = rig.media.subscribe(&all).await.unwrap();
    rig.media.barrier().await.unwrap();
    for index in 0..ROOMS {
        let verdict = rig.assign(&format!("many-{index}"), 1, json!({"source": "ramp"})).await;
        assert!(verdict.accepted, "{}", verdict.reason);
    }
    let mut ears: HashMap<String, Ear> = HashMap::new();
    while ears.len() < ROOMS || ears.values().any(|ear| ear.audio() < 150) {
        let (subject, batch) = next(&mut heard).await;
        ears.entry(subject).or_default().hear(&batch);
    }
}

#[tokio::test]
async fn what_is_pushed_is_played_into_the_room_in_order() {
    let rig = Rig::start().await;
    let mut heard = rig.listen("push").await;
    let mut assign = assignment("push", 1, json!({"source": "tone", "echo": true}));
    let from = subjects::push(&room("push"), &SourceId::parse("tts").unwrap());
    assign.push = Some(Push { from: from.clone() });
    assert!(rig.give(&assign).await.accepted);
    rig.state("push", SessionState::Running).await;
    // Two seconds at once; one batch takes the wrong place.
    let ramp: Vec<u8> = (1..=32_000_u16).flat_map(u16::to_le_bytes).collect();
    let origin = Origin { unix_us: unix_us(), rate: 16_000 };
    let mut writer = TrackWriter::new(Track::new(1, "tts", "", origin, 0));
    writer.audio(Some(0), &ramp);
    let mut pool = bytes::BytesMut::new();
    let mut batches: Vec<_> =
        std::iter::from_fn(|| writer.next_batch(true, &mut pool)).map(|it| it.payload).collect();
    batches.swap(3, 4);
    for batch in batches {
        rig.media.publish_bytes(from.clone(), batch).await.unwrap();
    }
    let mut echo = Vec::new();
    while echo.len() < ramp.len() {
        let (_, batch) = next(&mut heard).await;
        if batch.user == "echo" {
            echo.extend_from_slice(&batch.pcm);
        }
        let silent = echo.chunks(2).take_while(|pair| **pair == [0, 0]).count();
        echo.drain(..2 * silent);
    }
    let differs = echo.iter().zip(&ramp).position(|(got, want)| got != want);
    assert_eq!(differs, None, "what comes back is what was pushed");
}
