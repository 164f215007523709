//! What is counted of the audio path: fixed pieces of work, each a batch of ten
//! frames, on data that is the same in every run. Whoever counts calls a step
//! again and again: the micro benches its time, `valgrind` its instructions, a
//! test its allocations.

use std::{
    collections::VecDeque,
    hint::black_box,
    time::{Duration, Instant},
};

use audio_gateway::{
    audio::{
        Batch, BatchView, Format, Origin, Pool, Reorder, ReorderConfig, Ring, Runs, SlotState,
        Track, TrackWriter,
    },
    id::{RoomId, SubscriberId, TaskId, WorkerId},
    sdk::{
        adapter::Mode,
        pipe::{
            Audio, Decoder, Encoder, FromAdapter, Hello, MediaClock, PROTOCOL, Track as Opened,
        },
    },
    task::{Epoch, Mix, Params, Pull},
    worker::room::{Effects, Room, Spec},
};
use bytes::{Bytes, BytesMut};

/// Frames in a batch.
pub(crate) const FRAMES: usize = 10;
/// Bytes of its samples.
const PCM: usize = FRAMES * 640;
/// Batches that a worker keeps of a track: ten seconds.
const KEPT: usize = 50;
/// µs of a batch.
const BATCH_US: i64 = 200_000;
/// Where the room's time line begins.
const ORIGIN: i64 = 1_700_000_000_000_000;

/// A piece of work, made ready.
pub(crate) type Step = Box<dyn FnMut()>;

/// One piece of work.
pub(crate) struct Workload {
    /// Its name.
    pub(crate) name: &'static str,
    /// What a step of it does.
    pub(crate) what: &'static str,
    /// Makes it ready.
    pub(crate) make: fn() -> Step,
}

/// All of them, in the order in which a batch meets them.
pub(crate) const ALL: &[Workload] = &[
    Workload { name: "pipe", what: "cut 10 frames out of a read of the pipe", make: pipe },
    Workload { name: "writer", what: "place 10 frames, cut and encode a batch", make: writer },
    Workload { name: "encode", what: "encode a batch of 10 audio slots", make: encode },
    Workload { name: "heartbeat", what: "encode a batch without audio", make: heartbeat },
    Workload { name: "ring", what: "keep a batch, let go of the oldest", make: ring },
    Workload { name: "resend", what: "find a batch that is asked for again", make: resend },
    Workload {
        name: "room",
        what: "all of a worker's way: a read of the pipe to a batch that is kept",
        make: || room(Pull::default()),
    },
    Workload {
        name: "mix",
        what: "the same where the track is also mixed: two batches",
        make: || {
            room(Pull {
                mix: vec![Mix::of_all("all".parse().expect("a token"))],
                ..Pull::default()
            })
        },
    },
    Workload { name: "decode", what: "decode a batch", make: decode },
    Workload { name: "in-order", what: "a listener takes in a batch in order", make: in_order },
    Workload { name: "holes", what: "the same, every tenth batch coming three later", make: holes },
];

/// The one of this name.
pub(crate) fn named(name: &str) -> Option<&'static Workload> {
    ALL.iter().find(|workload| workload.name == name)
}

/// Samples that no two batches share, and none of them zero for long.
fn samples() -> Vec<u8> {
    (0..PCM as i32 / 2)
        .flat_map(|at| ((at * 7_919 % 20_011 - 10_005) as i16).to_le_bytes())
        .collect()
}

fn batch(seq: u64, pcm: &[u8], out: &mut BytesMut) -> Bytes {
    let runs = Runs::of(SlotState::Audio, FRAMES as u8);
    view(seq, &runs, pcm).encode(out)
}

fn view<'a>(seq: u64, runs: &'a Runs, pcm: &'a [u8]) -> BatchView<'a> {
    BatchView {
        epoch: 1_700_000_000_000,
        seq,
        pos: seq * 3_200,
        time: ORIGIN + seq as i64 * BATCH_US,
        format: Format::default(),
        runs,
        user: "user-0",
        role: "",
        flags: 0,
        pcm,
    }
}

/// Ten frames as an adapter writes them, the first captured at `pts`.
fn frames(encoder: &mut Encoder, pts: i64, pcm: &[u8], out: &mut Vec<u8>) {
    for (index, pcm) in pcm.chunks_exact(640).enumerate() {
        let pts = pts + index as i64 * 20_000;
        let audio = FromAdapter::Audio(Audio { stream: 1, pts, pcm });
        encoder.write(&audio, out).expect("20 ms are within every bound");
    }
}

fn pipe() -> Step {
    let mut read = Vec::new();
    frames(&mut Encoder::default(), ORIGIN, &samples(), &mut read);
    let mut decoder = Decoder::from_adapter();
    Box::new(move || {
        let mut input = &read[..];
        while let Some(frame) = decoder.next(&mut input) {
            black_box(FromAdapter::parse(frame).expect("it was written by the encoder"));
        }
    })
}

fn writer() -> Step {
    let pcm = samples();
    let origin = Origin { unix_us: ORIGIN, rate: 16_000 };
    let mut writer = TrackWriter::new(Track::new(1_700_000_000_000, "user-0", "", origin, 0));
    let (mut pool, mut kept, mut at) = (Pool::default(), VecDeque::with_capacity(KEPT + 1), 0);
    Box::new(move || {
        for frame in pcm.chunks_exact(640) {
            writer.audio(Some(at), frame);
            at += 320;
        }
        while let Some(batch) = writer.next_batch(false, pool.buffer(PCM + 6)) {
            keep(&mut kept, batch.payload);
        }
    })
}

fn keep(kept: &mut VecDeque<Bytes>, payload: Bytes) {
    if kept.len() == KEPT {
        kept.pop_front();
    }
    kept.push_back(payload);
}

fn encode() -> Step {
    let (pcm, runs) = (samples(), Runs::of(SlotState::Audio, FRAMES as u8));
    let (mut pool, mut seq) = (Pool::default(), 0);
    Box::new(move || {
        black_box(view(seq, &runs, &pcm).encode(pool.buffer(PCM + 6)));
        seq += 1;
    })
}

fn heartbeat() -> Step {
    let runs = Runs::of(SlotState::Silence, FRAMES as u8);
    let (mut pool, mut seq) = (Pool::default(), 0);
    Box::new(move || {
        black_box(view(seq, &runs, &[]).encode(pool.buffer(6)));
        seq += 1;
    })
}

fn ring() -> Step {
    let payload = batch(0, &samples(), &mut BytesMut::new());
    let (mut ring, begin, mut seq) = (Ring::new(1), Instant::now(), 0_u64);
    Box::new(move || {
        let now = begin + Duration::from_micros(BATCH_US as u64 * seq);
        ring.push(seq, payload.clone(), now);
        black_box(ring.expire(now));
        seq += 1;
    })
}

fn resend() -> Step {
    let payload = batch(0, &samples(), &mut BytesMut::new());
    let (mut ring, begin, mut seq) = (Ring::new(1), Instant::now(), 0_u64);
    let asker = SubscriberId::parse("asr-7").expect("a token");
    Box::new(move || {
        let now = begin + Duration::from_micros(BATCH_US as u64 * seq);
        ring.push(seq, payload.clone(), now);
        ring.expire(now);
        black_box(ring.resend(&asker, seq, now));
        seq += 1;
    })
}

fn room(pull: Pull) -> Step {
    let spec = Spec {
        room: RoomId::parse("room").expect("a token"),
        task: TaskId::parse("task").expect("a token"),
        epoch: Epoch(1_700_000_000_000),
        origin_us: ORIGIN,
        worker: WorkerId::parse("worker").expect("a token"),
        mode: Mode::Framed,
        params: Params::default(),
        pull: Some(pull),
        push: None,
        held: false,
        taken_over: false,
    };
    let (mut room, mut fx, mut encoder) =
        (Room::new(spec, ORIGIN), Effects::default(), Encoder::default());
    room.attach(ORIGIN, &mut fx);
    let hello = Hello {
        protocol: PROTOCOL,
        name: "bench".to_owned(),
        version: String::new(),
        clock: MediaClock::Unix,
    };
    let track = Opened { user: "user-0".to_owned(), role: None };
    let mut read = Vec::new();
    for message in [
        FromAdapter::Hello(hello),
        FromAdapter::Joined { now: ORIGIN, clock: MediaClock::Unix },
        FromAdapter::TrackOpened { stream: 1, pts: ORIGIN, track },
    ] {
        encoder.write(&message, &mut read).expect("within every bound");
    }
    room.take(&read, ORIGIN, &mut fx);
    // What an adapter writes is not counted: it is made beforehand, and its
    // headers are brought up to date.
    read.clear();
    let pcm = samples();
    frames(&mut encoder, ORIGIN, &pcm, &mut read);
    let (mut now, mut seq) = (ORIGIN, 0_u32);
    let mut kept = VecDeque::with_capacity(KEPT + 1);
    Box::new(move || {
        for (index, frame) in read.chunks_exact_mut(664).enumerate() {
            let pts = now + index as i64 * 20_000;
            frame[8..12].copy_from_slice(&seq.to_le_bytes());
            frame[16..24].copy_from_slice(&pts.to_le_bytes());
            seq = seq.wrapping_add(1);
        }
        now += BATCH_US;
        room.take(&read, now, &mut fx);
        room.settle(now, true, &mut fx);
        for out in fx.batches.drain(..) {
            keep(&mut kept, out.batch.payload);
        }
        fx.notices.clear();
    })
}

fn decode() -> Step {
    let payload = batch(0, &samples(), &mut BytesMut::new());
    Box::new(move || {
        black_box(Batch::decode(&payload).expect("it was just encoded"));
    })
}

fn in_order() -> Step {
    let mut first = decoded();
    let (mut reorder, begin, mut seq) = (Reorder::new(ReorderConfig::default()), Instant::now(), 0);
    Box::new(move || {
        let now = begin + Duration::from_micros(BATCH_US as u64 * seq);
        at(&mut first, seq);
        black_box(reorder.insert(first.clone(), now));
        seq += 1;
    })
}

fn holes() -> Step {
    let mut first = decoded();
    let (mut reorder, begin, mut seq) =
        (Reorder::new(ReorderConfig::default()), Instant::now(), 0_u64);
    Box::new(move || {
        let now = begin + Duration::from_micros(BATCH_US as u64 * seq);
        // 10, 20, … are left out and come after 13, 23, …
        if seq % 10 != 0 || seq == 0 {
            at(&mut first, seq);
            black_box(reorder.insert(first.clone(), now));
        }
        if seq % 10 == 3 && seq > 10 {
            at(&mut first, seq - 3);
            black_box(reorder.insert(first.clone(), now));
        }
        black_box(reorder.tick(now));
        seq += 1;
    })
}

fn decoded() -> Batch {
    Batch::decode(&batch(0, &samples(), &mut BytesMut::new())).expect("it was just encoded")
}

fn at(batch: &mut Batch, seq: u64) {
    (batch.seq, batch.pos) = (seq, seq * 3_200);
    batch.time = ORIGIN + seq as i64 * BATCH_US;
}
