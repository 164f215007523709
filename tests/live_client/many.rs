//! Many rooms, and a program that does not keep up.

use std::time::Duration;

use audio_gateway::{
    client::{ListenOptions, Sounds},
    id::RoomId,
    limits,
};

use crate::{
    PATIENCE, gateway, hear,
    support::{NatsServer, eventually},
    worker::{FakeWorker, batch, quiet, room, track},
};

/// How long a listener that says nothing has nothing to say.
const PACE: Duration = Duration::from_millis(50);

#[tokio::test]
async fn one_loop_hears_five_hundred_rooms() {
    let server = NatsServer::start().await;
    let worker = FakeWorker::start(&server.url()).await;
    let gateway = gateway(&server.url()).await;
    let rooms: Vec<RoomId> = (0..500).map(|number| room(&format!("r{number}"))).collect();
    let mut everywhere = gateway.listen_everywhere(ListenOptions::default()).await.unwrap();
    let mut some = gateway.listen_all(&rooms[..100], ListenOptions::default()).await.unwrap();
    let ann = track("ann");
    let speak = async {
        for seq in 0..5 {
            for room in &rooms {
                worker.say(room, &ann, 1, seq, batch(1, seq, 0)).await;
            }
        }
    };
    let (all, few, ()) = tokio::join!(hear(&mut everywhere, 2_500), hear(&mut some, 500), speak);
    all.are_whole(0, 5);
    few.are_whole(0, 5);
    assert_eq!((all.batches.len(), few.batches.len()), (500, 100));
    assert_eq!((everywhere.stats().lost, some.stats().lost), (0, 0));
}

#[tokio::test]
async fn a_program_that_slept_goes_on_with_what_is_new_and_asks_for_nothing() {
    let server = NatsServer::start().await;
    let worker = FakeWorker::start(&server.url()).await;
    let gateway = gateway(&server.url()).await;
    let mut listener = gateway.listen(&room("r"), ListenOptions::default()).await.unwrap();
    let r = room("r");
    let tracks: Vec<_> = (0..20).map(|number| track(&format!("t{number}"))).collect();
    // More than the listener keeps for it.
    let batches = limits::LISTEN_QUEUE as u64 / 20 + 100;
    for seq in 0..batches {
        for track in &tracks {
            worker.say(&r, track, 1, seq, quiet(1, seq)).await;
        }
    }
    let mut notes = hear(&mut listener, limits::LISTEN_QUEUE).await;
    eventually("too many of them", PATIENCE, async || {
        (listener.stats().too_slow > 0).then_some(())
    })
    .await;
    // From now on it keeps up.
    let mut next = batches;
    while notes.gaps().len() < tracks.len() {
        for track in &tracks {
            worker.say(&r, track, 1, next, quiet(1, next)).await;
        }
        next += 1;
        while let Ok(heard) = tokio::time::timeout(PACE, listener.next()).await {
            notes.take(heard.unwrap());
        }
    }
    for heard in notes.gaps() {
        let Sounds::Gap(gap) = &heard.what else { continue };
        assert_eq!(gap.reason.as_str(), "too_slow", "{heard:?}");
    }
    for (track, heard) in &notes.batches {
        let seqs: Vec<_> = heard.iter().map(|heard| heard.batch.seq).collect();
        assert!(seqs.is_sorted_by(|one, next| one < next), "{track}: {seqs:?}");
        assert_eq!(seqs.last(), Some(&(next - 1)), "{track}");
    }
    let stats = listener.stats();
    assert_eq!((stats.asked, stats.recovered), (0, 0), "{stats:?}");
    assert_eq!(stats.lost, stats.too_slow, "{stats:?}");
}
