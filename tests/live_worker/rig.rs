//! A server, a worker and what the test says to them; and an ear that follows
//! a track.

use std::{
    collections::HashMap,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use audio_gateway::{
    audio::{Batch, SlotState},
    bus::{
        BusOptions, Link, Purpose, Subscription,
        messages::{Assign, Ping, Revoke, SessionReport, SessionState, Verdict},
        subjects::{self, Lane, WorkerAssign, WorkerInventory, WorkerRevoke},
    },
    id::{AdapterName, RoomId, TaskId, TrackId, WorkerId},
    task::{Epoch, Params, Pull},
};

use crate::support::{NatsServer, Program, Running, eventually, within};

pub(crate) const SOON: Duration = Duration::from_secs(20);
/// Samples of the slots whose positions a batch gives.
pub(crate) const SLOT: u64 = 320;

pub(crate) struct Rig {
    pub(crate) worker: Running,
    pub(crate) id: WorkerId,
    pub(crate) control: Link,
    pub(crate) media: Link,
    // Last, so that what uses it ends before it.
    pub(crate) server: NatsServer,
}

impl Rig {
    pub(crate) async fn start() -> Self {
        Self::start_with(&[]).await
    }

    /// With more arguments for the worker.
    pub(crate) async fn start_with(args: &[&str]) -> Self {
        let server = NatsServer::start().await;
        let id = WorkerId::parse("w1").unwrap();
        let worker = Program::new(env!("CARGO_BIN_EXE_worker"))
            .args(["--id", "w1", "--drain-timeout", "1"])
            .args(args)
            .env("NATS_URL", server.url())
            .start();
        worker.says("ready", SOON).await;
        let options = BusOptions::plain(&server.url());
        let control = Link::connect(&options, "test", Purpose::Control).await.unwrap();
        let media = Link::connect(&options, "test media", Purpose::Media).await.unwrap();
        Self { worker, id, control, media, server }
    }

    pub(crate) async fn assign(
        &self,
        room: &str,
        epoch: u64,
        params: serde_json::Value,
    ) -> Verdict {
        self.give(&assignment(room, epoch, params)).await
    }

    pub(crate) async fn give(&self, assign: &Assign) -> Verdict {
        self.control.ask(&WorkerAssign(self.id.clone()), assign, SOON).await.unwrap()
    }

    pub(crate) async fn revoke(&self, room: &str, epoch: u64) -> Verdict {
        let revoke = Revoke { task: task(room), epoch: Epoch(epoch), reason: "test".into() };
        self.control.ask(&WorkerRevoke(self.id.clone()), &revoke, SOON).await.unwrap()
    }

    pub(crate) async fn report(&self, room: &str) -> Option<SessionReport> {
        let ask = WorkerInventory(self.id.clone());
        let inventory = self.control.ask(&ask, &Ping {}, SOON).await.unwrap();
        inventory.sessions.into_iter().find(|session| session.task == task(room))
    }

    pub(crate) async fn state(&self, room: &str, state: SessionState) -> SessionReport {
        eventually(&format!("{room} {state:?}"), SOON, async || {
            self.report(room).await.filter(|report| report.state == state)
        })
        .await
    }

    /// Hears a room from now on.
    pub(crate) async fn listen(&self, room: &str) -> Subscription {
        let subject = subjects::room_tracks(Lane::Live, &self::room(room));
        let heard = self.media.subscribe(&subject).await.unwrap();
        self.media.barrier().await.unwrap();
        heard
    }

    /// How to reach the server.
    pub(crate) fn options(&self) -> BusOptions {
        BusOptions::plain(&self.server.url())
    }

    /// What the worker's service counts.
    pub(crate) async fn figures(&self) -> serde_json::Value {
        let stats = self.control.ask_bytes("$SRV.STATS.worker.w1", "".into(), SOON).await.unwrap();
        let stats: serde_json::Value = serde_json::from_slice(&stats).unwrap();
        stats["endpoints"][0]["data"].clone()
    }

    /// The adapters that are alive.
    pub(crate) fn pids(&self) -> Vec<i32> {
        let children = self.worker.children();
        let adapters = children.iter().filter(|one| one.command.contains("sdk-sim"));
        adapters.map(|one| one.pid).collect()
    }

    /// How many adapters are alive.
    pub(crate) fn adapters(&self) -> usize {
        self.pids().len()
    }
}

pub(crate) fn room(text: &str) -> RoomId {
    RoomId::parse(text).unwrap()
}

pub(crate) fn task(room: &str) -> TaskId {
    TaskId::parse(&format!("task-{room}")).unwrap()
}

pub(crate) fn user(index: u64) -> TrackId {
    TrackId::of_user(&format!("user-{index}"))
}

pub(crate) fn unix_us() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_micros() as i64
}

pub(crate) fn assignment(room: &str, epoch: u64, params: serde_json::Value) -> Assign {
    let serde_json::Value::Object(params) = params else { panic!("params are an object") };
    Assign {
        task: task(room),
        room: self::room(room),
        epoch: Epoch(epoch),
        sdk: AdapterName::parse("sim").unwrap(),
        params: Params(params),
        pull: Some(Pull::default()),
        push: None,
        origin_us: unix_us(),
        from: None,
        revision: 0,
    }
}

pub(crate) async fn next(heard: &mut Subscription) -> (String, Batch) {
    let message = within("batch", SOON, heard.next()).await.unwrap();
    let batch = Batch::decode(message.payload()).expect("the worker sends batches");
    (message.subject().to_owned(), batch)
}

/// Follows one track: nothing may be missing, doubled or moved.
#[derive(Default)]
pub(crate) struct Ear {
    pub(crate) seq: Option<u64>,
    pub(crate) pos: Option<u64>,
    pub(crate) sample: Option<u16>,
    pub(crate) slots: HashMap<SlotState, u64>,
}

impl Ear {
    /// Takes the next batch in.
    pub(crate) fn hear(&mut self, batch: &Batch) {
        let seq = self.seq.map_or(0, |seq| seq + 1);
        assert_eq!(batch.seq, seq, "sequence numbers run on from 0");
        self.seq = Some(seq);
        for slot in batch.slots() {
            let pos = self.pos.map_or(slot.pos, |pos| pos + SLOT);
            assert_eq!(slot.pos, pos, "positions run on");
            self.pos = Some(pos);
            *self.slots.entry(slot.state).or_default() += 1;
            // Slots without samples take their place in the ramp.
            let expected = self.sample.map(|sample| sample.wrapping_add(SLOT as u16));
            match slot.pcm {
                Some(pcm) => {
                    let ramp: Vec<u16> =
                        pcm.chunks(2).map(|two| u16::from_le_bytes([two[0], two[1]])).collect();
                    let first = expected.unwrap_or(ramp[0]);
                    let want: Vec<u16> =
                        (0..SLOT as u16).map(|at| first.wrapping_add(at)).collect();
                    assert_eq!(ramp, want, "the ramp has a hole at {}", slot.pos);
                    self.sample = Some(first);
                }
                // After an absence it is another adapter's ramp.
                None if slot.state == SlotState::Absent => self.sample = None,
                None => self.sample = expected,
            }
        }
    }

    pub(crate) fn audio(&self) -> u64 {
        self.slots.get(&SlotState::Audio).copied().unwrap_or(0)
    }
}
