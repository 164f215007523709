//! Listening in a room's past: what the worker keeps, what is recorded, and how
//! both join what is live.

use std::time::Duration;

use audio_gateway::{
    bus::{kv::Store, recording::Bounds},
    client::{From, ListenOptions, Sounds},
};

use crate::{
    PATIENCE, gateway, hear,
    support::{Direction, ErrorLog, Loss, NatsServer, Proxy, within},
    worker::{FakeWorker, batch, room, track},
};

fn from(from: From) -> ListenOptions {
    ListenOptions { from, ..ListenOptions::default() }
}

async fn recording(worker: &FakeWorker) {
    let made = Store::new(&worker.link, None).ensure_recording(Bounds::default()).await;
    assert!(made.unwrap().is_some());
}

#[tokio::test]
async fn who_comes_late_hears_what_the_worker_keeps_and_then_what_is_live() {
    let errors = ErrorLog::start();
    let server = NatsServer::start().await;
    let proxy = Proxy::to(server.addr()).await;
    let worker = FakeWorker::start(&server.url()).await;
    let (r, tracks) = (room("r"), [track("ann"), track("bob")]);
    for seq in 0..200 {
        for track in &tracks {
            worker.keep(&r, track, 1, seq, batch(1, seq, 0));
        }
    }
    // A fifth is lost on the way, live and again.
    let gateway = gateway(&proxy.url()).await;
    let options = from(From::Ago(Duration::from_secs(4)));
    let mut listener = gateway.listen(&r, options).await.unwrap();
    let share = Loss::Share { share: 0.2, seed: 3 };
    proxy.lose(Direction::Down, "audio.live.>", Loss::Nth((4..40).step_by(7).collect()));
    proxy.lose(Direction::Down, "audio.resend.>", share);
    // Four seconds are twenty batches: 180 to 199.
    let (notes, ()) = tokio::join!(hear(&mut listener, 120), worker.ramps(&r, &tracks, 200..240));
    let heard: usize = notes.batches.values().map(|heard| heard.len()).sum();
    for heard in notes.batches.values() {
        assert!([180, 181].contains(&heard[0].batch.seq), "{}", heard[0].batch.seq);
        for (one, next) in heard.iter().zip(&heard[1..]) {
            assert_eq!((next.batch.seq, next.jump), (one.batch.seq + 1, 0));
        }
        for heard in heard {
            let ramp = crate::worker::ramp(heard.batch.seq);
            assert!(ramp.ends_with(&heard.batch.pcm), "{}", heard.batch.seq);
        }
    }
    assert!(heard >= 118 && notes.gaps().is_empty(), "{:?}", listener.stats());
    assert_eq!(listener.stats().lost, 0);
    errors.assert_clean();
}

#[tokio::test]
async fn a_recorded_room_is_heard_from_its_start_and_on() {
    let errors = ErrorLog::start();
    let server = NatsServer::start().await;
    let worker = FakeWorker::start(&server.url()).await;
    recording(&worker).await;
    let (r, ann, bob) = (room("r"), track("ann"), track("bob"));
    let elsewhere = room("s");
    for seq in 0..300 {
        // Kept out of order here and there, as what was sent again is.
        let seq = if seq % 50 < 2 { seq ^ 1 } else { seq };
        worker.record(&r, &ann, 1, seq, batch(1, seq, 0)).await;
        worker.record(&r, &bob, 1, seq, batch(1, seq, 0)).await;
        worker.record(&elsewhere, &ann, 1, seq, batch(1, seq, 0)).await;
    }
    // What it kept is past its ring.
    worker.forget();
    let gateway = gateway(&server.url()).await;
    let mut listener = gateway.listen(&r, from(From::RoomStart)).await.unwrap();
    let speak = async {
        for seq in 300..400 {
            for track in [&ann, &bob] {
                worker.record(&r, track, 1, seq, batch(1, seq, 0)).await;
            }
        }
    };
    let (notes, ()) = tokio::join!(hear(&mut listener, 800), speak);
    notes.are_whole(0, 400);
    assert!(notes.gaps().is_empty());
    assert_eq!(listener.stats().lost, 0, "{:?}", listener.stats());
    errors.assert_clean();
}

#[tokio::test]
async fn a_recorded_room_is_whole_from_one_worker_to_the_next() {
    let server = NatsServer::start().await;
    let old = FakeWorker::start(&server.url()).await;
    let new = FakeWorker::start(&server.url()).await;
    recording(&old).await;
    let (r, ann) = (room("r"), track("ann"));
    for seq in 0..50 {
        old.record(&r, &ann, 1, seq, batch(1, seq, 0)).await;
    }
    // The other one goes on where the first one stopped.
    let anew = |at: u64| {
        let whole = audio_gateway::audio::Batch::decode(&batch(2, at, 0)).unwrap();
        let moved = audio_gateway::audio::Batch { seq: at - 50, ..whole };
        moved.encode(&mut bytes::BytesMut::new())
    };
    for at in 50..100 {
        new.record(&r, &ann, 2, at - 50, anew(at)).await;
    }
    let gateway = gateway(&server.url()).await;
    let mut listener = gateway.listen(&r, from(From::RoomStart)).await.unwrap();
    let speak = async {
        for at in 100..110 {
            new.record(&r, &ann, 2, at - 50, anew(at)).await;
        }
    };
    let (notes, ()) = tokio::join!(hear(&mut listener, 110), speak);
    let heard = &notes.batches["r.ann"];
    assert!(heard.iter().map(|heard| heard.batch.pos).eq((0..110).map(|at| at * 3_200)));
    assert!(heard.iter().all(|heard| heard.jump == 0) && notes.gaps().is_empty());
    let epochs: Vec<_> = notes.others.iter().map(|heard| heard.what.clone()).collect();
    assert_eq!(epochs[1..], [Sounds::Epoch { from: 1, to: 2 }]);
}

#[tokio::test]
async fn what_the_worker_has_no_more_comes_from_the_recording() {
    let server = NatsServer::start().await;
    let proxy = Proxy::to(server.addr()).await;
    let worker = FakeWorker::start(&server.url()).await;
    recording(&worker).await;
    let (r, ann) = (room("r"), track("ann"));
    let gateway = gateway(&proxy.url()).await;
    let mut listener = gateway.listen(&r, ListenOptions::default()).await.unwrap();
    worker.record(&r, &ann, 1, 0, batch(1, 0, 0)).await;
    hear(&mut listener, 1).await.are_whole(0, 1);
    proxy.lose(Direction::Down, "audio.rec.>", Loss::Nth((0..70).collect()));
    for seq in 1..100 {
        if seq == 71 {
            // Its ring begins anew: it says `evicted` of all before.
            worker.forget();
        }
        worker.record(&r, &ann, 1, seq, batch(1, seq, 0)).await;
    }
    let notes = hear(&mut listener, 99).await;
    notes.are_whole(1, 99);
    assert!(notes.gaps().is_empty());
    let stats = listener.stats();
    assert!(stats.searched > 0 && stats.lost == 0 && stats.recovered == 70, "{stats:?}");

    // It is gone altogether, with what nobody heard.
    proxy.lose(Direction::Down, "audio.rec.>", Loss::Nth([0].into()));
    worker.record(&r, &ann, 1, 100, batch(1, 100, 0)).await;
    worker.record(&r, &ann, 1, 101, batch(1, 101, 0)).await;
    worker.forget();
    drop(worker);
    hear(&mut listener, 2).await.are_whole(100, 2);
    assert_eq!(listener.stats().lost, 0);
}

#[tokio::test]
async fn without_a_recording_it_begins_with_what_the_worker_keeps() {
    let server = NatsServer::start().await;
    let worker = FakeWorker::start(&server.url()).await;
    let (r, ann) = (room("r"), track("ann"));
    let gateway = gateway(&server.url()).await;
    assert!(gateway.listen(&r, from(From::RoomStart)).await.is_err(), "there is none");
    for seq in 0..20 {
        worker.keep(&r, &ann, 1, seq, batch(1, seq, 0));
    }
    let ago = from(From::Ago(Duration::from_secs(30)));
    let mut listener = gateway.listen(&r, ago).await.unwrap();
    worker.say(&r, &ann, 1, 20, batch(1, 20, 0)).await;
    hear(&mut listener, 21).await.are_whole(0, 21);
    // A recording of other rooms changes nothing.
    recording(&worker).await;
    worker.record(&room("s"), &ann, 1, 0, batch(1, 0, 0)).await;
    let mut listener = gateway.listen(&r, from(From::RoomStart)).await.unwrap();
    worker.say(&r, &ann, 1, 21, batch(1, 21, 0)).await;
    let heard = within("all of it", PATIENCE, hear(&mut listener, 22)).await;
    heard.are_whole(0, 22);
}
