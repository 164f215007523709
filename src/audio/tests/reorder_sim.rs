//! A worker's ring and a listener with a bad network between them, in virtual
//! time: each batch is heard once, in order, bit-exact, or declared missing.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use bytes::{Bytes, BytesMut};

use super::super::{
    Batch, Delivery, GapReason, Reorder, ReorderConfig, ReorderStats, Resend, Ring, resent,
};
use super::batch;
use crate::id::SubscriberId;

const TICK: Duration = Duration::from_millis(20);
/// From the beginning of one epoch to that of the next, in samples.
const EPOCH_SAMPLES: u64 = 1_000_000;

struct Network {
    rng: fastrand::Rng,
    loss: f64,
    flight: VecDeque<(Instant, Bytes)>,
}

impl Network {
    /// Sends a copy, late, twice or not at all.
    fn send(&mut self, payload: &Bytes, now: Instant) {
        while self.rng.f64() >= self.loss {
            let delay = Duration::from_millis(self.rng.u64(0..120));
            self.flight.push_back((now + delay, payload.clone()));
            if self.rng.f64() < 0.9 {
                return;
            }
        }
    }

    fn arrived(&mut self, now: Instant) -> Vec<Bytes> {
        let (here, still): (VecDeque<_>, _) = self.flight.drain(..).partition(|(at, _)| *at <= now);
        self.flight = still;
        here.into_iter().map(|(_, payload)| payload).collect()
    }
}

/// What became of one run.
struct Outcome {
    heard: Vec<(u64, u64)>,
    gaps: u64,
    stats: ReorderStats,
}

/// Two epochs of `count` batches over a network that loses `loss` of the live
/// ones and `resend_loss` of those sent again.
fn run(seed: u64, count: u64, loss: f64, resend_loss: f64) -> Outcome {
    let start = Instant::now();
    let rng = fastrand::Rng::with_seed(seed);
    let mut live = Network { rng: rng.clone(), loss, flight: VecDeque::new() };
    let mut again = Network { rng, loss: resend_loss, flight: VecDeque::new() };
    let mut reorder =
        Reorder::new(ReorderConfig { joined_within: u64::MAX, ..ReorderConfig::default() });
    let subscriber = SubscriberId::parse("asr-7").unwrap();
    let (mut out, mut ring) = (BytesMut::new(), Ring::new(1));
    let mut outcome = Outcome { heard: Vec::new(), gaps: 0, stats: ReorderStats::default() };
    // The tail of an epoch waits for the heartbeats behind it.
    let ticks_an_epoch = count * 10 + 800;
    for tick in 0..2 * ticks_an_epoch {
        let now = start + TICK * tick as u32;
        let epoch = 1 + tick / ticks_an_epoch;
        if ring.epoch() != epoch {
            ring = Ring::new(epoch);
        }
        if tick % 10 == 0 {
            let seq = tick % ticks_an_epoch / 10;
            let pos = (epoch - 1) * EPOCH_SAMPLES + seq * 3_200;
            let payload = Batch { pos, ..batch(epoch, seq, 10) }.encode(&mut out);
            ring.push(seq, payload.clone(), now);
            ring.expire(now);
            live.send(&payload, now);
        }
        let mut deliveries = reorder.tick(now);
        for payload in live.arrived(now).into_iter().chain(again.arrived(now)) {
            deliveries.extend(reorder.insert(Batch::decode(&payload).unwrap(), now));
        }
        for (first, asked) in reorder.missing(reorder.epoch().unwrap_or(epoch), now) {
            for seq in first..first + asked {
                let asked_epoch = reorder.epoch().unwrap_or(epoch);
                if asked_epoch != epoch {
                    let gone = GapReason::EpochChange;
                    deliveries.extend(reorder.unavailable(asked_epoch, seq, 1, gone));
                    continue;
                }
                let gone = match ring.resend(&subscriber, seq, now) {
                    Resend::Now(payload) => {
                        again.send(&resent(payload, &mut out).unwrap(), now);
                        continue;
                    }
                    Resend::Hold | Resend::Spent => continue,
                    Resend::Evicted => GapReason::Evicted,
                    Resend::Unknown => GapReason::Unknown,
                };
                deliveries.extend(reorder.unavailable(epoch, seq, 1, gone));
            }
        }
        outcome.take(deliveries, count);
    }
    outcome.take(reorder.finish(), count);
    outcome.stats = reorder.stats();
    outcome
}

impl Outcome {
    fn take(&mut self, deliveries: Vec<Delivery>, count: u64) {
        for delivery in deliveries {
            match delivery {
                Delivery::Batch(delivered) => {
                    let heard = delivered.batch;
                    assert_eq!(heard.pcm, batch(1, heard.seq, 10).pcm, "bit-exact");
                    if heard.seq < count {
                        self.heard.push((heard.epoch, heard.seq));
                    }
                }
                Delivery::Gap(gap) => {
                    for seq in (gap.from_seq..gap.from_seq + gap.count).filter(|seq| *seq < count) {
                        self.heard.push((gap.epoch, seq));
                        self.gaps += 1;
                    }
                }
            }
        }
    }
}

fn all(count: u64) -> Vec<(u64, u64)> {
    (1..=2).flat_map(|epoch| (0..count).map(move |seq| (epoch, seq))).collect()
}

#[test]
fn a_fifth_lost_is_recovered_whole() {
    for seed in 0..40 {
        let outcome = run(seed, 30, 0.2, 0.0);
        assert_eq!(outcome.heard, all(30), "seed {seed}");
        assert_eq!(outcome.gaps, 0, "seed {seed}");
        assert!(outcome.stats.recovered > 5, "seed {seed}: {:?}", outcome.stats);
    }
}

#[test]
fn where_resends_are_lost_too_every_batch_is_heard_or_declared() {
    let mut gaps = 0;
    for seed in 0..40 {
        let outcome = run(seed, 30, 0.3, 0.5);
        assert_eq!(outcome.heard, all(30), "seed {seed}");
        gaps += outcome.gaps;
    }
    assert!(gaps > 0, "three answers of which half are lost do not always suffice");
}
