//! Losses on the way to the listener.

use audio_gateway::{
    audio::{FLAG_LAST, FLAG_RESENT},
    bus::messages::RoomNews,
    client::{DropOnPurpose, Ending, ListenOptions, Sounds, Tracks},
    id::TrackId,
};

use crate::{
    Notes, PATIENCE, gateway, hear,
    support::{Direction, ErrorLog, Loss, NatsServer, Proxy, within},
    worker::{FakeWorker, batch, room, track},
};

fn three() -> Vec<TrackId> {
    vec![track("ann"), track("bob"), TrackId::of_user("c@d e")]
}

#[tokio::test]
async fn a_fifth_thrown_away_at_the_listener_comes_back() {
    let errors = ErrorLog::start();
    let server = NatsServer::start().await;
    let worker = FakeWorker::start(&server.url()).await;
    let drop = Some(DropOnPurpose { fraction: 0.2, seed: 7, again: false });
    let options = ListenOptions { drop, ..ListenOptions::default() };
    let mut listener = gateway(&server.url()).await.listen(&room("r"), options).await.unwrap();
    for track in three() {
        let news = RoomNews::TrackOpened { track, user: "ann".into(), role: String::new() };
        worker.news(&room("r"), 1, news).await;
    }
    let tracks = three();
    let r = room("r");
    // What is thrown away at the very end is asked for as well.
    let (notes, ()) = tokio::join!(hear(&mut listener, 450), worker.ramps(&r, &tracks, 0..150));
    notes.are_whole(0, 150);
    assert!(notes.gaps().is_empty());
    let stats = listener.stats();
    assert!((60..120).contains(&stats.thrown_away), "{stats:?}");
    assert_eq!((stats.recovered, stats.lost), (again(&notes), 0), "{stats:?}");
    errors.assert_clean();
}

/// Batches that came from the ring.
fn again(notes: &Notes) -> u64 {
    let all = notes.batches.values().flatten();
    all.filter(|delivered| delivered.batch.has(FLAG_RESENT)).count() as u64
}

#[tokio::test]
async fn losses_on_the_way_come_back() {
    let server = NatsServer::start().await;
    let proxy = Proxy::to(server.addr()).await;
    let worker = FakeWorker::start(&server.url()).await;
    let gateway = gateway(&proxy.url()).await;
    let mut listener = gateway.listen(&room("r"), ListenOptions::default()).await.unwrap();
    let (r, tracks) = (room("r"), three());
    worker.ramps(&r, &tracks, 0..1).await;
    let first = hear(&mut listener, 3).await;
    first.are_whole(0, 1);
    let share = Loss::Share { share: 0.2, seed: 11 };
    proxy.lose(Direction::Down, "audio.live.>", share);
    // What is sent again, and what says so, is lost as well: the first of each.
    proxy.lose(Direction::Down, "audio.resend.>", Loss::Nth((0..5).collect()));
    proxy.lose(Direction::Down, "_INBOX.>", Loss::Nth((2..5).collect()));
    proxy.lose(Direction::Up, "audio.nack.>", Loss::Nth([0, 7].into()));
    let (notes, ()) = tokio::join!(hear(&mut listener, 450), worker.ramps(&r, &tracks, 1..151));
    notes.are_whole(1, 150);
    assert!(notes.gaps().is_empty());
    assert!(proxy.counts().lost_total() > 50, "{:?}", proxy.counts());
    assert!(listener.stats().recovered > 50, "{:?}", listener.stats());
}

#[tokio::test]
async fn what_nobody_has_is_a_gap_in_its_place() {
    let server = NatsServer::start().await;
    let worker = FakeWorker::start(&server.url()).await;
    let gateway = gateway(&server.url()).await;
    let mut listener = gateway.listen(&room("r"), ListenOptions::default()).await.unwrap();
    let (r, ann) = (room("r"), track("ann"));
    worker.say(&r, &ann, 1, 0, batch(1, 0, 0)).await;
    // A ring that begins anew at 5 does not have 1 to 4.
    worker.say(&r, &ann, 1, 5, batch(1, 5, 0)).await;
    let notes = hear(&mut listener, 2).await;
    let gaps = notes.gaps();
    let [heard] = gaps[..] else { panic!("{gaps:?}") };
    let Sounds::Gap(gap) = &heard.what else { panic!("{heard:?}") };
    assert_eq!((gap.from_seq, gap.count, gap.reason.as_str()), (1, 4, "evicted"));
    assert_eq!(gap.positions, Some((3_200, 16_000)));
    assert_eq!(notes.batches["r.ann"][1].jump, 4 * 3_200);
}

#[tokio::test]
async fn the_last_batch_is_not_lost_either() {
    let server = NatsServer::start().await;
    let worker = FakeWorker::start(&server.url()).await;
    let options =
        ListenOptions { tracks: Tracks::Some(vec![track("ann")]), ..ListenOptions::default() };
    let mut listener = gateway(&server.url()).await.listen(&room("r"), options).await.unwrap();
    let (r, ann) = (room("r"), track("ann"));
    worker.say(&r, &ann, 1, 0, batch(1, 0, 0)).await;
    worker.keep(&r, &ann, 1, 1, batch(1, 1, 0));
    worker.keep(&r, &ann, 1, 2, batch(1, 2, FLAG_LAST));
    worker.news(&r, 1, RoomNews::TrackClosed { track: ann, user: "ann".into() }).await;
    // Another track of the room is not asked for.
    worker.say(&r, &track("bob"), 1, 0, batch(1, 0, 0)).await;
    let mut notes = hear(&mut listener, 3).await;
    notes.are_whole(0, 3);
    notes.take(within("end of the track", PATIENCE, listener.next()).await.unwrap());
    assert_eq!(notes.others.last().unwrap().what, Sounds::Closed(Ending::Last));
}
