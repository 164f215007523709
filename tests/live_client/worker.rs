//! A worker as far as a listener can tell: publishes batches of a ramp and
//! answers NACKs from a ring, as `docs/wire.md` has it.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use audio_gateway::{
    audio::{BatchView, Format, Resend, Ring, Runs, SlotState, resent},
    bus::{
        BusOptions, Incoming, Link, Purpose,
        messages::{MissingReason, Nack, NackReply, NackStatus, RoomEvent, RoomNews},
        subjects::{self, Lane, RoomEvents, TrackNack},
    },
    id::{RoomId, TrackId},
    task::Epoch,
};
use bytes::{Bytes, BytesMut};
use tokio::task::AbortHandle;

type Rings = Arc<Mutex<BTreeMap<(RoomId, TrackId), Ring>>>;

/// Samples in a batch of ten slots.
pub(crate) const SAMPLES: usize = 3_200;

pub(crate) fn room(name: &str) -> RoomId {
    RoomId::parse(name).unwrap()
}

pub(crate) fn track(name: &str) -> TrackId {
    TrackId::parse(name).unwrap()
}

/// The samples of a batch: each is the one before plus one.
pub(crate) fn ramp(seq: u64) -> Vec<u8> {
    let first = seq as usize * SAMPLES;
    (first..first + SAMPLES).flat_map(|sample| (sample as u16).to_le_bytes()).collect()
}

/// An encoded batch of a ramp.
pub(crate) fn batch(epoch: u64, seq: u64, flags: u32) -> Bytes {
    let runs = Runs::of(SlotState::Audio, 10);
    let pcm = ramp(seq);
    let pos = seq * SAMPLES as u64;
    encode(epoch, seq, pos, &runs, flags, &pcm)
}

/// An encoded batch of one silent slot.
pub(crate) fn quiet(epoch: u64, seq: u64) -> Bytes {
    encode(epoch, seq, seq * 320, &Runs::of(SlotState::Silence, 1), 0, &[])
}

fn encode(epoch: u64, seq: u64, pos: u64, runs: &Runs, flags: u32, pcm: &[u8]) -> Bytes {
    BatchView {
        epoch,
        seq,
        pos,
        time: 0,
        format: Format::default(),
        runs,
        user: "ann",
        role: "host",
        flags,
        pcm,
    }
    .encode(&mut BytesMut::new())
}

/// See the module. It ends when it is dropped.
pub(crate) struct FakeWorker {
    pub(crate) link: Link,
    rings: Rings,
    answers: AbortHandle,
}

impl FakeWorker {
    pub(crate) async fn start(url: &str) -> Self {
        let options = BusOptions::plain(url);
        let link = Link::connect(&options, "fake-worker", Purpose::Media).await.unwrap();
        let rings = Rings::default();
        let mut nacks = link.subscribe(TrackNack::ALL).await.unwrap();
        link.barrier().await.unwrap();
        let (to, held) = (link.clone(), rings.clone());
        let answers = tokio::spawn(async move {
            while let Some(nack) = nacks.next().await {
                answer(&to, &held, &nack).await;
            }
        });
        Self { link, rings, answers: answers.abort_handle() }
    }

    /// Keeps a batch, and publishes it where the server is there.
    pub(crate) async fn say(
        &self,
        room: &RoomId,
        track: &TrackId,
        epoch: u64,
        seq: u64,
        batch: Bytes,
    ) {
        self.keep(room, track, epoch, seq, batch.clone());
        if *self.link.health().borrow() {
            let subject = subjects::track(Lane::Live, room, track);
            self.link.publish_bytes(subject, batch).await.unwrap();
        }
    }

    /// Keeps a batch and has it recorded, which reaches live subscribers too.
    pub(crate) async fn record(
        &self,
        room: &RoomId,
        track: &TrackId,
        epoch: u64,
        seq: u64,
        batch: Bytes,
    ) {
        self.keep(room, track, epoch, seq, batch.clone());
        let subject = subjects::track(Lane::Rec, room, track);
        let kept = self.link.ask_bytes(&subject, batch, Duration::from_secs(60)).await.unwrap();
        assert!(!String::from_utf8_lossy(&kept).contains("error"), "{kept:?}");
    }

    /// Forgets all it has kept, as one that is gone.
    pub(crate) fn forget(&self) {
        self.rings.lock().unwrap().clear();
    }

    /// Keeps a batch without publishing it: it is lost on its way.
    pub(crate) fn keep(&self, room: &RoomId, track: &TrackId, epoch: u64, seq: u64, batch: Bytes) {
        let mut rings = self.rings.lock().unwrap();
        let ring = rings.entry((room.clone(), track.clone())).or_insert_with(|| Ring::new(epoch));
        if ring.epoch() != epoch {
            *ring = Ring::new(epoch);
        }
        ring.push(seq, batch, Instant::now());
    }

    pub(crate) async fn news(&self, room: &RoomId, epoch: u64, what: RoomNews) {
        let event = RoomEvent { room: room.clone(), epoch: Epoch(epoch), pos: 0, time: 0, what };
        self.link.publish(&RoomEvents(room.clone()), &event).await.unwrap();
    }

    /// Publishes ramps ten times as fast as people speak, `tracks` in turn:
    /// slow enough that a listener holds back what comes while it asks again.
    pub(crate) async fn ramps(
        &self,
        room: &RoomId,
        tracks: &[TrackId],
        seqs: std::ops::Range<u64>,
    ) {
        let mut pace = tokio::time::interval(std::time::Duration::from_millis(20));
        for seq in seqs {
            pace.tick().await;
            for track in tracks {
                self.say(room, track, 1, seq, batch(1, seq, 0)).await;
            }
        }
    }
}

impl Drop for FakeWorker {
    fn drop(&mut self) {
        self.answers.abort();
    }
}

async fn answer(link: &Link, rings: &Rings, nack: &Incoming) {
    let (Some(TrackNack(room, track)), Ok(asked)) =
        (TrackNack::parse(nack.subject()), nack.read::<Nack>())
    else {
        return;
    };
    let Some((again, reply)) = look_up(rings, &room, &track, &asked) else { return };
    let subject = subjects::resend(&room, &track, &asked.subscriber);
    for payload in again {
        link.publish_bytes(subject.clone(), payload).await.unwrap();
    }
    if let Some(inbox) = nack.reply() {
        link.answer(&inbox, &reply).await.unwrap();
    }
}

/// What is sent again and what is said; none where the track is another's.
fn look_up(
    rings: &Rings,
    room: &RoomId,
    track: &TrackId,
    asked: &Nack,
) -> Option<(Vec<Bytes>, NackReply)> {
    let mut rings = rings.lock().unwrap();
    let ring = rings.get_mut(&(room.clone(), track.clone()))?;
    let now = Instant::now();
    ring.expire(now);
    let mut reply = NackReply {
        status: NackStatus::Ok,
        epoch: Epoch(ring.epoch()),
        held: ring.held(),
        missing: Vec::new(),
        retry_after_ms: 0,
        spread_ms: 0,
        message: String::new(),
    };
    if asked.epoch != reply.epoch {
        reply.status = NackStatus::Epoch;
        return Some((Vec::new(), reply));
    }
    let mut again = Vec::new();
    for seq in asked.ranges.iter().flat_map(|&(first, count)| first..first + count) {
        let reason = match ring.resend(&asked.subscriber, seq, now) {
            Resend::Now(payload) => {
                again.push(resent(payload, &mut BytesMut::new()).unwrap());
                continue;
            }
            Resend::Hold => MissingReason::Held,
            Resend::Spent => MissingReason::Spent,
            Resend::Evicted => MissingReason::Evicted,
            Resend::Unknown => MissingReason::Unknown,
        };
        reply.status = NackStatus::Partial;
        reply.missing.push((seq, 1, reason));
    }
    Some((again, reply))
}
