//! Workers that hand a room over and a listener with a bad network between, in
//! virtual time: every slot is heard once, in order, or declared missing; none
//! from a lower epoch after a higher one.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use bytes::{Bytes, BytesMut};
use proptest::prelude::*;

use super::super::{
    Batch, BatchView, Delivery, FLAG_LAST, Format, Reorder, ReorderConfig, Resend, Ring, Runs,
    SlotState, resent,
};
use super::ramp;
use crate::{
    id::SubscriberId,
    limits::{HANDOVER_SILENT, HEARTBEAT_TRACK},
};

const SLOT: u64 = 320;
const TICK: Duration = Duration::from_millis(20);
/// How long a missing batch is waited for.
const PATIENCE: Duration = Duration::from_secs(3);

/// How a worker leaves.
#[derive(Debug, Clone, Copy, PartialEq)]
enum End {
    /// It says its last, and answers no more.
    Last,
    /// It is killed.
    Killed,
    /// It does not know that it was replaced.
    Never,
}

/// A worker's part of the time line, in slots of 20 ms.
#[derive(Debug, Clone)]
struct Part {
    from: u64,
    to: u64,
    /// Slots in a batch, up to 200 ms.
    batch: u64,
    end: End,
}

/// How bad the network is.
#[derive(Debug, Clone)]
struct Weather {
    seed: u64,
    live: f64,
    resends: f64,
    delay_ms: u64,
    /// Whether two batches of an epoch in a row may be lost.
    rows: bool,
}

struct Worker {
    epoch: u64,
    part: Part,
    seq: u64,
    at: u64,
    ring: Ring,
    lost: bool,
}

impl Worker {
    fn new(epoch: u64, part: Part) -> Self {
        Self { epoch, seq: 0, at: part.from, ring: Ring::new(epoch), part, lost: false }
    }

    fn is_there(&self, slot: u64) -> bool {
        slot >= self.part.from && (self.part.end == End::Never || slot < self.part.to)
    }

    /// The batch that is published when slot `slot` has ended, if any.
    fn publish(&mut self, slot: u64) -> Option<Bytes> {
        let last = self.part.end == End::Last && slot + 1 == self.part.to;
        if !self.is_there(slot) || (slot + 1 < self.at + self.part.batch && !last) {
            return None;
        }
        let slots = slot + 1 - self.at;
        let (pos, runs) = (self.at * SLOT, Runs::of(SlotState::Audio, slots as u8));
        let pcm = ramp(pos, (slots * SLOT) as usize);
        let (flags, format) = (if last { FLAG_LAST } else { 0 }, Format::default());
        let view = BatchView {
            epoch: self.epoch,
            seq: self.seq,
            pos,
            time: 0,
            format,
            runs: &runs,
            user: "ann",
            role: "",
            flags,
            pcm: &pcm,
        };
        self.at = slot + 1;
        self.seq += 1;
        Some(view.encode(&mut BytesMut::new()))
    }
}

struct Outcome {
    /// First slot, slots and epoch of what was heard.
    heard: Vec<(u64, u64, u64)>,
    /// Slots between what was heard.
    missing: u64,
    /// When the first slot of each epoch was heard, and when it could have been.
    turns: Vec<(u64, Duration)>,
}

impl Outcome {
    fn take(&mut self, deliveries: Vec<Delivery>, now: Duration) {
        for delivery in deliveries {
            let Delivery::Batch(heard) = delivery else { continue };
            let batch = heard.batch;
            let (slot, slots) = (batch.pos / SLOT, u64::from(batch.runs.slots()));
            assert_eq!(batch.pcm, ramp(batch.pos, (slots * SLOT) as usize), "bit-exact");
            if let Some(&(first, count, epoch)) = self.heard.last() {
                assert!(slot >= first + count, "slot {slot} after {}", first + count);
                assert_eq!(heard.jump, ((slot - first - count) * SLOT) as i64, "declared");
                assert!(batch.epoch >= epoch, "epoch {} after {epoch}", batch.epoch);
                self.missing += slot - first - count;
            }
            if self.heard.last().is_none_or(|it| it.2 != batch.epoch) {
                self.turns.push((batch.epoch, now));
            }
            self.heard.push((slot, slots, batch.epoch));
        }
    }
}

/// Plays the parts, under epochs 1, 2, …, for `slots` slots.
fn run(parts: &[Part], weather: &Weather, slots: u64) -> Outcome {
    let start = Instant::now();
    let mut rng = fastrand::Rng::with_seed(weather.seed);
    let mut flight: VecDeque<(Instant, Bytes)> = VecDeque::new();
    let mut workers: Vec<_> =
        (1..).zip(parts).map(|(epoch, part)| Worker::new(epoch, part.clone())).collect();
    let config =
        ReorderConfig { deadline: PATIENCE, joined_within: u64::MAX, ..ReorderConfig::default() };
    let mut reorder = Reorder::new(config);
    let me = SubscriberId::parse("me").unwrap();
    let mut outcome = Outcome { heard: Vec::new(), missing: 0, turns: Vec::new() };
    // One after the highest number seen, by epoch; when its end was asked for.
    let mut tops = vec![0; parts.len() + 1];
    let mut probed = start;
    // Long enough that what was waited for is given up at the end.
    let rest = (PATIENCE.as_millis() / TICK.as_millis()) as u64 + 50;
    for slot in 0..slots + rest {
        let now = start + TICK * (slot + 1) as u32;
        let mut send = |payload: Bytes, loss: f64, rng: &mut fastrand::Rng| {
            let lost = rng.f64() < loss;
            let copies = if lost { 0 } else { 1 + usize::from(rng.f64() < 0.1) };
            for _ in 0..copies {
                let delay = Duration::from_millis(rng.u64(0..=weather.delay_ms));
                flight.push_back((now + delay, payload.clone()));
            }
            lost
        };
        for worker in workers.iter_mut() {
            if let Some(payload) = worker.publish(slot) {
                worker.ring.push(worker.seq - 1, payload.clone(), now);
                let spared = worker.lost && !weather.rows;
                let loss = if spared || slot >= slots { 0.0 } else { weather.live };
                worker.lost = send(payload, loss, &mut rng);
            }
        }
        let mut deliveries = reorder.tick(now);
        let mut asked: Vec<(u64, u64, u64)> = Vec::new();
        let epochs = [reorder.epoch(), reorder.successor()];
        for epoch in epochs.into_iter().flatten() {
            let ranges = reorder.missing(epoch, now);
            asked.extend(ranges.iter().map(|&(first, count)| (epoch, first, count)));
        }
        if let (Some(epoch), Some(_)) = (reorder.epoch(), reorder.successor())
            && now >= probed + HEARTBEAT_TRACK
        {
            probed = now;
            asked.push((epoch, tops[epoch as usize], 4));
        }
        for (epoch, first, count) in asked {
            let worker = &mut workers[epoch as usize - 1];
            let count = if worker.is_there(slot) { count } else { 0 };
            for seq in first..first + count {
                if let Resend::Now(payload) = worker.ring.resend(&me, seq, now) {
                    let payload = resent(payload, &mut BytesMut::new()).unwrap();
                    send(payload, weather.resends, &mut rng);
                }
            }
        }
        let (here, still): (VecDeque<_>, _) = flight.drain(..).partition(|(at, _)| *at <= now);
        flight = still;
        for (_, payload) in here {
            let batch = Batch::decode(&payload).unwrap();
            let top = &mut tops[batch.epoch as usize];
            *top = (*top).max(batch.seq + 1);
            deliveries.extend(reorder.insert(batch, now));
        }
        outcome.take(deliveries, now - start);
    }
    // Nothing that is under way still is lost.
    flight.make_contiguous().sort_by_key(|(at, _)| *at);
    for (at, payload) in flight {
        outcome.take(reorder.insert(Batch::decode(&payload).unwrap(), at), at - start);
    }
    outcome.take(reorder.finish(), TICK * (slots + rest) as u32);
    outcome
}

fn end() -> impl Strategy<Value = End> {
    prop_oneof![Just(End::Last), Just(End::Killed), Just(End::Never)]
}

fn weather(live: f64, resends: f64, rows: bool) -> impl Strategy<Value = Weather> {
    (any::<u64>(), 0.0..=live, 0.0..=resends, 0..=100_u64).prop_map(
        move |(seed, live, resends, delay_ms)| Weather { seed, live, resends, delay_ms, rows },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Where both workers speak for 600 ms and more, nothing is missing: with
    /// loss, reorder and duplicates, batches of any length and phase, and
    /// however the old worker ends.
    #[test]
    fn a_hand_over_costs_nothing(
        weather in weather(0.3, 0.0, false),
        from in 40..80_u64,
        both in 30..70_u64,
        (first, second) in (3..=10_u64, 3..=10_u64),
        end in end(),
    ) {
        let to = from + both;
        let parts = [
            Part { from: 0, to, batch: first, end },
            Part { from, to: u64::MAX, batch: second, end: End::Never },
        ];
        let outcome = run(&parts, &weather, 220);
        prop_assert_eq!(outcome.missing, 0, "{:?}", outcome.heard);
        prop_assert!(outcome.heard[0].0 == 0 && outcome.heard.last().unwrap().0 > 210);
        prop_assert!(outcome.turns.iter().map(|turn| turn.0).eq(1..=2));
    }

    /// Whatever is lost and whoever dies, with a third epoch while two are held:
    /// what is heard is in order, once, and what is missing is declared. Those
    /// are held in `Outcome::take`.
    #[test]
    fn whatever_happens_no_slot_is_heard_twice(
        weather in weather(0.4, 0.6, true),
        (from, third) in (20..120_u64, 0..40_u64),
        lives in prop::collection::vec((1..100_u64, 1..=10_u64, end()), 3),
    ) {
        let starts = [0, from, from + third];
        let parts: Vec<_> = starts
            .iter()
            .zip(&lives)
            .map(|(&start, &(long, batch, end))| Part { from: start, to: start + long, batch, end })
            .collect();
        run(&parts, &weather, 220);
    }

    /// A worker that was killed is waited for by nobody.
    #[test]
    fn a_fail_over_takes_no_longer_than_its_first_batch(
        weather in weather(0.0, 0.0, false),
        (from, dead) in (40..80_u64, 20..100_u64),
        (first, second) in (1..=10_u64, 1..=10_u64),
    ) {
        let again = from + dead + weather.delay_ms / 20 + first;
        let parts = [
            Part { from: 0, to: from, batch: first, end: End::Killed },
            Part { from: again, to: u64::MAX, batch: second, end: End::Never },
        ];
        assert!(HANDOVER_SILENT <= TICK * 20, "20 slots are longer than a silence");
        let outcome = run(&parts, &weather, 220);
        let heard = outcome.turns.iter().find(|turn| turn.0 == 2).unwrap().1;
        // Published with its last slot, on its way, and seen with a tick.
        let soonest = TICK * (again + second) as u32 + Duration::from_millis(weather.delay_ms);
        prop_assert!(heard <= soonest + TICK, "{heard:?} {soonest:?}");
    }
}
