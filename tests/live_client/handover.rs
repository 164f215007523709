//! A room goes from one worker to another, and nothing of it is missing or comes
//! twice.

use std::{collections::BTreeMap, thread};

use audio_gateway::{
    audio::{Batch, FLAG_LAST},
    bus::subjects::{self, Lane},
    client::{DropOnPurpose, ListenOptions, Listener, Sounds},
    id::RoomId,
    worker::room::Outgoing,
};
use serde_json::json;
use tokio::sync::{mpsc, watch};

use crate::{
    PATIENCE, gateway, hear,
    served::{Served, unix_us},
    support::{ErrorLog, NatsServer, within},
    worker::{FakeWorker, batch, room, track},
};

/// A worker's room, played on a thread of its own until it is told to end.
struct Publisher {
    batches: mpsc::Receiver<Outgoing>,
    end: watch::Sender<bool>,
    epoch: u64,
}

impl Publisher {
    fn start(epoch: u64, origin: i64) -> Self {
        let (say, batches) = mpsc::channel(64);
        let (end, ended) = watch::channel(false);
        let params = json!({"participants": 2, "source": "ramp", "clock": "unix"});
        thread::spawn(move || {
            let mut served = Served::start(epoch, origin, &params, 0);
            while !*ended.borrow() {
                for out in served.next() {
                    if say.blocking_send(out).is_err() {
                        return;
                    }
                }
            }
            // Nobody need be there any more to hear the end.
            served.close().into_iter().for_each(|out| drop(say.blocking_send(out)));
        });
        Self { batches, end, epoch }
    }

    /// Publishes the next batch; none after the last.
    async fn publish(&mut self, worker: &FakeWorker, room: &RoomId) -> Option<()> {
        let out = self.batches.recv().await?;
        worker.say(room, &out.track, self.epoch, out.batch.seq, out.batch.payload).await;
        Some(())
    }
}

/// What must come next of a track.
struct Next {
    epoch: u64,
    sample: u16,
    samples: u64,
    by_epoch: [u64; 2],
}

/// Listens until every track has so many samples under the second epoch.
async fn follow(listener: &mut Listener, samples: u64) -> BTreeMap<String, Next> {
    let mut tracks: BTreeMap<String, Next> = BTreeMap::new();
    while tracks.len() < 2 || tracks.values().any(|it| it.by_epoch[1] < samples) {
        let heard = listener.next().await.unwrap();
        let name = heard.track.to_string();
        match heard.what {
            Sounds::Opened { epoch, .. } => assert_eq!(epoch, 1, "{name}"),
            Sounds::Epoch { from, to } => {
                assert_eq!((from, to), (1, 2), "{name}");
                tracks.get_mut(&name).unwrap().epoch = 2;
            }
            Sounds::Batch(delivered) => {
                let batch = &delivered.batch;
                let mut heard =
                    batch.pcm.chunks_exact(2).map(|two| u16::from_le_bytes([two[0], two[1]]));
                let next = tracks.entry(name.clone()).or_insert_with(|| Next {
                    epoch: 1,
                    sample: heard.clone().next().unwrap(),
                    samples: 0,
                    by_epoch: [0, 0],
                });
                assert_eq!((delivered.jump, batch.epoch), (0, next.epoch), "{name}");
                assert!(batch.runs.all_audio() && !batch.has(FLAG_LAST), "{name}: {batch:?}");
                assert!(
                    heard.all(|sample| {
                        let right = sample == next.sample;
                        (next.sample, next.samples) =
                            (next.sample.wrapping_add(1), next.samples + 1);
                        right
                    }),
                    "{name} after {} samples under epoch {}",
                    next.samples,
                    next.epoch
                );
                next.by_epoch[next.epoch as usize - 1] += u64::from(batch.runs.slots()) * 320;
            }
            Sounds::Gap(_) | Sounds::Closed(_) => panic!("{name}: {:?}", heard.what),
        }
    }
    tracks
}

#[tokio::test]
async fn one_worker_hands_its_room_to_another_and_every_sample_is_heard_once() {
    let errors = ErrorLog::start();
    let server = NatsServer::start().await;
    let gateway = gateway(&server.url()).await;
    let r = room("r");
    for seed in 0..3 {
        let (first, second) =
            (FakeWorker::start(&server.url()).await, FakeWorker::start(&server.url()).await);
        let drop = Some(DropOnPurpose { fraction: 0.1, seed, again: false });
        let options = ListenOptions { drop, ..ListenOptions::default() };
        let mut listener = gateway.listen(&r, options).await.unwrap();
        let origin = unix_us() - 3_000_000;
        let hand_over = async {
            let mut old = Publisher::start(1, origin);
            // Two tracks, five batches a second of each.
            for _ in 0..10 {
                old.publish(&first, &r).await.unwrap();
            }
            let (mut new, mut published) = (Publisher::start(2, origin), 0);
            loop {
                tokio::select! {
                    said = old.publish(&first, &r) => if said.is_none() { break },
                    said = new.publish(&second, &r) => {
                        said.unwrap();
                        published += 1;
                        if published == 10 {
                            old.end.send_replace(true);
                        }
                    }
                }
            }
            while new.publish(&second, &r).await.is_some() {}
        };
        let tracks = tokio::select! {
            tracks = within("the second epoch", PATIENCE, follow(&mut listener, 32_000)) => tracks,
            () = hand_over => unreachable!("the second goes on for ever"),
        };
        assert!(tracks.values().all(|it| it.by_epoch[0] > 8_000), "seed {seed}");
        let stats = listener.stats();
        assert!(stats.thrown_away > 0 && stats.stale_epochs > 0, "seed {seed}: {stats:?}");
        assert_eq!((stats.lost, stats.gaps), (0, 0), "seed {seed}: {stats:?}");
    }
    errors.assert_clean();
}

#[tokio::test]
async fn a_new_epoch_is_heard_whole_and_the_old_one_is_left() {
    let server = NatsServer::start().await;
    let old = FakeWorker::start(&server.url()).await;
    let new = FakeWorker::start(&server.url()).await;
    let gateway = gateway(&server.url()).await;
    let mut listener = gateway.listen(&room("r"), ListenOptions::default()).await.unwrap();
    let (r, ann) = (room("r"), track("ann"));
    let of = |epoch: u64, seq: u64| {
        // Epoch 2 begins where batch 5 of epoch 1 would.
        let first = if epoch == 1 { seq } else { seq + 5 };
        let whole = Batch::decode(&batch(epoch, first, 0)).unwrap();
        Batch { seq, ..whole }.encode(&mut bytes::BytesMut::new())
    };
    for seq in 0..5 {
        old.say(&r, &ann, 1, seq, of(1, seq)).await;
    }
    hear(&mut listener, 5).await.are_whole(0, 5);
    // The first batch under the new epoch is lost, and the old worker still speaks.
    new.keep(&r, &ann, 2, 0, of(2, 0));
    for seq in 1..5 {
        new.say(&r, &ann, 2, seq, of(2, seq)).await;
        let subject = subjects::track(Lane::Live, &r, &ann);
        old.link.publish_bytes(subject, of(1, 4 + seq)).await.unwrap();
    }
    let notes = hear(&mut listener, 5).await;
    let heard = &notes.batches["r.ann"];
    assert!(heard.iter().map(|heard| heard.batch.pos).eq((5..10).map(|at| at * 3_200)));
    assert!(heard.iter().all(|heard| heard.jump == 0) && notes.gaps().is_empty());
    assert!(heard.iter().map(|heard| heard.batch.epoch).is_sorted());
    assert_eq!(heard.last().unwrap().batch.epoch, 2);
    assert_eq!(notes.others[0].what, Sounds::Epoch { from: 1, to: 2 });
}
