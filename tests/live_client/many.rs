//! Many rooms, and a program that does not keep up.

use audio_gateway::{client::ListenOptions, id::RoomId, limits};

use crate::{
    gateway, hear,
    support::NatsServer,
    worker::{FakeWorker, batch, quiet, room, track},
};

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
async fn a_program_that_slept_gets_what_it_missed() {
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
    let total = 20 * batches as usize;
    let mut notes = hear(&mut listener, limits::LISTEN_QUEUE).await;
    let (rest, ()) = tokio::join!(hear(&mut listener, total + 20 - notes.count()), async {
        for track in &tracks {
            worker.say(&r, track, 1, batches, quiet(1, batches)).await;
        }
    });
    for (track, heard) in rest.batches {
        notes.batches.entry(track).or_default().extend(heard);
    }
    notes.others.extend(rest.others);
    assert!(notes.gaps().is_empty(), "{:?}", listener.stats());
    for (track, heard) in &notes.batches {
        assert!(heard.iter().map(|heard| heard.batch.seq).eq(0..=batches), "{track}");
    }
    assert!(listener.stats().too_slow > 0, "{:?}", listener.stats());
}
