//! Rooms go from worker to worker with the real programs, and whoever listens
//! hears every sample of them once.

#![allow(clippy::unwrap_used, reason = "in a test a panic is the answer")]

mod rolling;
mod support;

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use audio_gateway::{
    bus::{
        BusOptions,
        messages::{List, TaskEvent},
    },
    client::{Gateway, ListenOptions, Listener, Sounds},
    id::RoomId,
    task::{Epoch, TaskSpec, TaskState},
};
use rolling::{dispatcher, worker};
use rustix::process::Signal;
use support::{NatsServer, within};

const PATIENCE: Duration = Duration::from_secs(120);
const ROOMS: usize = 10;

/// The sample a track must have next, and how many it had, by room and track.
#[derive(Default)]
struct Ramps(BTreeMap<(String, String), (u16, u64)>);

impl Ramps {
    /// Takes in what is heard until every track has so many seconds more, and
    /// `done` besides.
    async fn hear(&mut self, listener: &mut Listener, seconds: u64, done: impl Fn() -> bool) {
        let more = seconds * 16_000;
        let goals: BTreeMap<_, _> = self.0.iter().map(|(k, it)| (k.clone(), it.1 + more)).collect();
        within("more of the rooms", PATIENCE, async {
            while self.0.len() < ROOMS
                || goals.iter().any(|(key, goal)| self.0[key].1 < *goal)
                || !done()
            {
                let heard = listener.next().await.expect("the listener goes on");
                let key = (heard.room.to_string(), heard.track.to_string());
                match heard.what {
                    Sounds::Batch(delivered) => {
                        let pcm = &delivered.batch.pcm;
                        let samples =
                            pcm.chunks_exact(2).map(|two| u16::from_le_bytes([two[0], two[1]]));
                        for sample in samples {
                            let (next, count) = self.0.entry(key.clone()).or_insert((sample, 0));
                            assert_eq!(sample, *next, "{key:?} after {count} samples");
                            *next = next.wrapping_add(1);
                            *count += 1;
                        }
                    }
                    Sounds::Gap(gap) => panic!("a gap in {key:?}: {gap:?}"),
                    Sounds::Closed(why) => panic!("{key:?} was closed: {why:?}"),
                    Sounds::Opened { .. } | Sounds::Epoch { .. } => (),
                }
            }
        })
        .await;
    }
}

/// Which worker has each room, and under which epoch.
async fn served(gateway: &Gateway) -> BTreeMap<String, (String, Epoch, TaskState)> {
    let listed = within("list", PATIENCE, gateway.list(&List::default())).await.unwrap();
    let has = |view: audio_gateway::bus::messages::TaskView| {
        let worker = view.worker.map(|worker| worker.to_string()).unwrap_or_default();
        (view.room.to_string(), (worker, view.epoch, view.state))
    };
    listed.tasks.into_iter().map(has).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_worker_is_replaced_and_no_sample_is_lost_or_doubled() {
    let server = NatsServer::start().await;
    let dispatchers = [dispatcher(&server).await, dispatcher(&server).await];
    let mut first = worker(&server, "a").await;
    let gateway = Gateway::connect(&BusOptions::plain(&server.url())).await.unwrap();
    let rooms: Vec<RoomId> = (0..ROOMS).map(|at| format!("r{at}").parse().unwrap()).collect();
    let mut listener = gateway.listen_all(&rooms, ListenOptions::default()).await.unwrap();
    for room in &rooms {
        let spec = format!(
            r#"{{"id":"{room}","room":"{room}","sdk":"sim",
                "params":{{"source":"ramp","clock":"unix"}}}}"#
        );
        gateway.submit(&TaskSpec::from_json(spec.as_bytes()).unwrap()).await.unwrap();
    }
    let mut ramps = Ramps::default();
    ramps.hear(&mut listener, 1, || true).await;
    let mut before = served(&gateway).await;
    let mut events = gateway.task_events(None).await.unwrap();
    // One after the other: a by b, and b by a new a.
    for name in ["b", "a"] {
        let second = worker(&server, name).await;
        first.signal(Signal::TERM);
        let taken = std::sync::Mutex::new(BTreeSet::new());
        let all = || taken.lock().unwrap().len() == ROOMS;
        let watch = async {
            while !all() {
                let event: TaskEvent = events.next().await.unwrap();
                let (room, state) = (event.room.to_string(), event.state);
                assert!(
                    matches!(state, TaskState::Draining | TaskState::Running),
                    "{room} became {state}: {}",
                    event.reason
                );
                if state == TaskState::Running {
                    assert_eq!(event.worker.unwrap().as_str(), name);
                    taken.lock().unwrap().insert(room);
                }
            }
        };
        let hear = ramps.hear(&mut listener, 3, all);
        within("hand-over", PATIENCE, async { tokio::join!(watch, hear) }).await;
        assert!(first.ended(PATIENCE).await.success(), "{}", first.stderr());
        assert_eq!(first.errors(), Vec::<String>::new());
        let after = served(&gateway).await;
        for (room, (worker, epoch, state)) in &after {
            assert_eq!((worker.as_str(), *state), (name, TaskState::Running), "{room}");
            assert!(*epoch > before[room].1, "{room}");
        }
        (before, first) = (after, second);
    }
    ramps.hear(&mut listener, 2, || true).await;
    let stats = listener.stats();
    assert_eq!(stats.lost, 0, "{stats:?}");
    for dispatcher in &dispatchers {
        assert_eq!(dispatcher.errors(), Vec::<String>::new());
    }
    assert_eq!(first.errors(), Vec::<String>::new());
}

/// Samples by position, of each track.
#[derive(Default)]
struct Lines(BTreeMap<String, BTreeMap<u64, i16>>);

impl Lines {
    /// Takes in what is heard until each of three tracks goes on for so many
    /// seconds under an epoch later than the given one; returns that epoch.
    async fn hear(&mut self, listener: &mut Listener, seconds: u64, after: u64) -> u64 {
        let mut counts: BTreeMap<String, u64> = BTreeMap::new();
        let mut epoch = after;
        within("more of the room", PATIENCE, async {
            while counts.len() < 3 || counts.values().any(|count| *count < seconds * 50) {
                let heard = listener.next().await.expect("the listener goes on");
                let Sounds::Batch(delivered) = heard.what else {
                    assert!(!matches!(heard.what, Sounds::Gap(_) | Sounds::Closed(_)), "{heard:?}");
                    continue;
                };
                let batch = &delivered.batch;
                epoch = epoch.max(batch.epoch);
                if batch.epoch > after {
                    *counts.entry(heard.track.to_string()).or_default() +=
                        u64::from(batch.runs.audio_slots());
                }
                let line = self.0.entry(heard.track.to_string()).or_default();
                for slot in batch.slots().filter(|slot| slot.pcm.is_some()) {
                    let pcm = slot.pcm.unwrap_or_default().chunks(2);
                    let samples = pcm.map(|two| i16::from_le_bytes([two[0], two[1]]));
                    line.extend((slot.pos..).zip(samples));
                }
            }
        })
        .await;
        epoch
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mix_goes_from_worker_to_worker_as_the_sum_that_it_is() {
    let server = NatsServer::start().await;
    let dispatcher = dispatcher(&server).await;
    let mut first = worker(&server, "a").await;
    let gateway = Gateway::connect(&BusOptions::plain(&server.url())).await.unwrap();
    let room: RoomId = "r".parse().unwrap();
    let mut listener = gateway.listen(&room, ListenOptions::default()).await.unwrap();
    let spec = br#"{"room":"r","sdk":"sim","pull":{"mix":["all"]},
        "params":{"participants":2,"source":"tone","clock":"unix"}}"#;
    gateway.submit(&TaskSpec::from_json(spec).unwrap()).await.unwrap();
    let mut lines = Lines::default();
    let epoch = lines.hear(&mut listener, 2, 0).await;
    let second = worker(&server, "b").await;
    first.signal(Signal::TERM);
    lines.hear(&mut listener, 3, epoch).await;
    assert!(first.ended(PATIENCE).await.success(), "{}", first.stderr());
    let [mix, one, two] = ["all", "user-0", "user-1"].map(|track| &lines.0[track]);
    let begin = one.keys().next().max(two.keys().next()).unwrap() + 80;
    let end = *one.keys().last().min(two.keys().last()).min(mix.keys().last()).unwrap();
    assert!(end - begin > 4 * 16_000, "{begin} to {end}");
    for pos in begin..end {
        let sum = one.get(&pos).zip(two.get(&pos)).map(|(one, two)| one + two);
        assert!(sum.is_some(), "a speaker is missing at {pos} of {begin} to {end}");
        assert_eq!(mix.get(&pos).copied(), sum, "at {pos} of {begin} to {end}");
    }
    for program in [&dispatcher, &first, &second] {
        assert_eq!(program.errors(), Vec::<String>::new());
    }
}
