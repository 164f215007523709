//! Whatever strangers send disturbs nobody.

use audio_gateway::{client::ListenOptions, limits};
use bytes::Bytes;

use crate::{
    gateway, hear,
    support::{ErrorLog, NatsServer},
    worker::{FakeWorker, batch, room, track},
};

/// Things that are no batch: nothing, noise, bombs, and what is too large.
fn garbage() -> Vec<Bytes> {
    let nested = vec![0x91_u8; 100_000];
    let array = [&b"\x81\xa3pcm"[..], &[0xdd, 0xff, 0xff, 0xff, 0xff]].concat();
    let map = [&[0xdf, 0xff, 0xff, 0xff, 0xff][..], &[0xa1, b'v', 1]].concat();
    let mut cut = batch(1, 1, 0).to_vec();
    cut.truncate(3_000);
    let mut flipped = batch(1, 1, 0).to_vec();
    *flipped.last_mut().unwrap() ^= 1;
    // 2^62 at the place of the sequence number, which is below it.
    let mut huge_seq = batch(1, 200, 0).to_vec();
    let at = huge_seq.windows(4).position(|key| key == b"\xa3seq").unwrap() + 4;
    huge_seq.splice(at..at + 2, [0xcf, 0x40, 0, 0, 0, 0, 0, 0, 0]);
    [
        Vec::new(),
        b"not msgpack".to_vec(),
        b"{\"room\":\"r\"}".to_vec(),
        nested,
        array,
        map,
        cut,
        flipped,
        huge_seq,
        vec![0x8f; limits::BATCH_MAX_BYTES + 1],
    ]
    .into_iter()
    .map(Bytes::from)
    .collect()
}

#[tokio::test]
async fn garbage_everywhere_disturbs_nobody() {
    let errors = ErrorLog::start();
    let server = NatsServer::start().await;
    let worker = FakeWorker::start(&server.url()).await;
    let gateway = gateway(&server.url()).await;
    let subscriber = "me".parse().unwrap();
    let options = ListenOptions { subscriber, ..ListenOptions::default() };
    let mut listener = gateway.listen(&room("r"), options).await.unwrap();
    let (r, ann) = (room("r"), track("ann"));
    let subjects = [
        "audio.live.r.ann",
        "audio.rec.r.ann",
        "audio.resend.r.ann.me",
        "audio.live.r.bob",
        "audio.live.r.a%b",
        "audio.event.r",
    ];
    let mut sent = 0;
    for (seq, bad) in (0..).zip(garbage()) {
        for subject in subjects {
            worker.link.publish_bytes(subject.to_owned(), bad.clone()).await.unwrap();
            sent += 1;
        }
        worker.say(&r, &ann, 1, seq, batch(1, seq, 0)).await;
    }
    let batches = garbage().len();
    let notes = hear(&mut listener, batches).await;
    notes.are_whole(0, batches);
    let stats = listener.stats();
    assert_eq!((stats.bad, stats.tracks, stats.lost), (sent, 1, 0), "{stats:?}");
    errors.assert_clean();
}

#[tokio::test]
async fn a_name_that_is_no_track_is_left_out() {
    let server = NatsServer::start().await;
    let worker = FakeWorker::start(&server.url()).await;
    let gateway = gateway(&server.url()).await;
    let mut listener = gateway.listen(&room("r"), ListenOptions::default()).await.unwrap();
    let long = format!("audio.live.r.{}", "x".repeat(65));
    for subject in ["audio.live.r.a%b", "audio.live.r.😀", &long] {
        worker.link.publish_bytes(subject.to_owned(), batch(1, 0, 0)).await.unwrap();
    }
    worker.say(&room("r"), &track("ann"), 1, 0, batch(1, 0, 0)).await;
    hear(&mut listener, 1).await.are_whole(0, 1);
    assert_eq!((listener.stats().bad, listener.stats().tracks), (3, 1));
}
