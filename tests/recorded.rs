//! A recorded room through the real programs: its worker is replaced and the next
//! one killed, and whoever comes later hears all of it from its start, sample for
//! sample what was heard live.

#![allow(clippy::unwrap_used, reason = "in a test a panic is the answer")]

mod rolling;
mod support;

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use audio_gateway::{
    audio::Batch,
    bus::{
        BusOptions,
        recording::{Past, Since},
        subjects::{self, Lane},
    },
    client::{From, Gateway, ListenOptions, Listener, Sounds},
    id::{RoomId, TaskId},
    task::TaskSpec,
};
use rolling::{dispatcher, worker};
use rustix::process::Signal;
use support::{NatsServer, within};

const READY: Duration = Duration::from_secs(30);
const PATIENCE: Duration = Duration::from_secs(120);

/// What was heard of the room's one track: batches in order.
#[derive(Default)]
struct Heard {
    batches: Vec<Batch>,
    /// Positions at which something is missing.
    jumps: BTreeSet<u64>,
}

impl Heard {
    /// Listens until the track is this far under its newest epoch, and that is
    /// the `epochs`-th.
    async fn follow(&mut self, listener: &mut Listener, epochs: usize, pos: u64) {
        within("the room", PATIENCE, async {
            loop {
                let last = self.batches.last();
                let far = last.is_some_and(|batch| batch.end() >= pos);
                if far && self.epochs().len() == epochs {
                    return;
                }
                match listener.next().await.unwrap().what {
                    Sounds::Batch(delivered) => {
                        assert!(delivered.jump >= 0, "never back: {delivered:?}");
                        if delivered.jump > 0 {
                            self.jumps.insert(delivered.batch.pos);
                        }
                        self.batches.push(delivered.batch);
                    }
                    Sounds::Gap(gap) => panic!("{gap:?}"),
                    Sounds::Closed(why) => panic!("{why:?}"),
                    Sounds::Opened { .. } | Sounds::Epoch { .. } => (),
                }
            }
        })
        .await;
    }

    fn epochs(&self) -> BTreeSet<u64> {
        self.batches.iter().map(|batch| batch.epoch).collect()
    }

    /// Its samples by position: each once.
    fn samples(&self) -> BTreeMap<u64, Vec<u8>> {
        let mut samples = BTreeMap::new();
        for slot in self.batches.iter().flat_map(Batch::slots) {
            if let Some(pcm) = slot.pcm {
                assert!(samples.insert(slot.pos, pcm.to_vec()).is_none(), "{} twice", slot.pos);
            }
        }
        samples
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_room_is_heard_from_its_start_through_all_its_workers() {
    let server = NatsServer::start().await;
    let dispatcher = dispatcher(&server).await;
    let mut first = worker(&server, "a").await;
    let gateway = Gateway::connect(&BusOptions::plain(&server.url())).await.unwrap();
    let room = RoomId::parse("r").unwrap();
    let mut live = gateway.listen(&room, ListenOptions::default()).await.unwrap();
    let spec = r#"{"id":"call","room":"r","sdk":"sim","pull":{"record":true},
                   "params":{"source":"ramp","clock":"unix"}}"#;
    gateway.submit(&TaskSpec::from_json(spec.as_bytes()).unwrap()).await.unwrap();
    dispatcher.says("made the stream AUDIO", READY).await;
    let mut heard = Heard::default();
    heard.follow(&mut live, 1, 0).await;
    let start = heard.batches[0].pos;
    heard.follow(&mut live, 1, start + 32_000).await;

    // It goes to another worker, which is killed.
    let mut second = worker(&server, "b").await;
    first.signal(Signal::TERM);
    heard.follow(&mut live, 2, 0).await;
    assert!(first.ended(PATIENCE).await.success(), "{}", first.stderr());
    assert!(heard.jumps.is_empty(), "a hand-over loses nothing: {:?}", heard.jumps);
    let far = heard.batches.last().unwrap().end() + 32_000;
    heard.follow(&mut live, 2, far).await;
    let third = worker(&server, "c").await;
    second.signal(Signal::KILL);
    second.ended(PATIENCE).await;
    heard.follow(&mut live, 3, 0).await;
    let far = heard.batches.last().unwrap().end() + 32_000;
    heard.follow(&mut live, 3, far).await;

    // Who comes now hears the same, and on.
    let options = ListenOptions { from: From::RoomStart, ..ListenOptions::default() };
    let mut late = gateway.listen(&room, options).await.unwrap();
    let far = far + 48_000;
    let (mut again, mut on) = (Heard::default(), Heard::default());
    tokio::join!(again.follow(&mut late, 3, far), on.follow(&mut live, 1, far));
    heard.batches.extend(on.batches);
    let (want, got) = (heard.samples(), again.samples());
    let both: Vec<_> = want.keys().filter(|pos| **pos < far - 320).collect();
    assert!(both.len() > 200);
    for pos in both {
        assert_eq!(got.get(pos), want.get(pos), "the slot at {pos}");
    }
    assert_eq!(again.batches[0].seq, 0);
    assert_eq!(late.stats().lost, 0, "{:?}", late.stats());

    // Nothing is kept twice.
    let subject = subjects::room_tracks(Lane::Rec, &room);
    let link = gateway.media().await.unwrap();
    let mut past = Past::open(link, &subject, Since::Beginning).await.unwrap();
    let mut kept = BTreeSet::new();
    while !past.is_told() {
        let recorded = within("what is kept", PATIENCE, past.next()).await.unwrap();
        let batch = Batch::decode(&recorded.payload).unwrap();
        assert!(kept.insert((batch.epoch, batch.seq)), "{} {} twice", batch.epoch, batch.seq);
    }
    gateway.cancel(&TaskId::parse("call").unwrap(), "heard").await.unwrap();
    for program in [&dispatcher, &third] {
        assert_eq!(program.errors(), Vec::<String>::new());
    }
}

#[tokio::test]
async fn where_nothing_was_recorded_there_is_no_start() {
    let server = NatsServer::start().await;
    let _dispatcher = dispatcher(&server).await;
    let gateway = Gateway::connect(&BusOptions::plain(&server.url())).await.unwrap();
    let room = RoomId::parse("r").unwrap();
    // No task records: there is no stream, and who wants its beginning is told so.
    let options = ListenOptions { from: From::RoomStart, ..ListenOptions::default() };
    let error = gateway.listen(&room, options).await.unwrap_err();
    assert!(error.to_string().contains("is it recorded"), "{error}");
}
