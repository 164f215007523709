//! The answer to a NACK: what is sent again, and to whom how much. Strangers
//! write these requests, so everything about them is bounded before it costs.

use std::{collections::HashMap, time::Instant};

use bytes::{Bytes, BytesMut};

use super::{bucket::Bucket, shelf::Shelf};
use crate::{
    audio::{Resend, resent},
    bus::messages::{MissingReason, Nack, NackReply, NackStatus},
    id::{RoomId, SubscriberId, TrackId},
    limits,
    task::Epoch,
};

/// Watches over how much is sent again.
#[derive(Debug)]
pub struct Desk {
    all: Bucket,
    subscribers: HashMap<SubscriberId, Bucket>,
    pool: BytesMut,
}

/// What is done about a NACK.
#[derive(Debug, PartialEq)]
pub struct Answered {
    /// Who asked, where the request could be read.
    pub subscriber: Option<SubscriberId>,
    /// Batches to send to the subscriber.
    pub batches: Vec<Bytes>,
    /// The reply, sent after them.
    pub reply: NackReply,
}

impl Desk {
    /// A desk at which nobody has asked yet.
    #[must_use]
    pub fn new(now_us: i64) -> Self {
        let rate = limits::RESEND_BATCHES_PER_S;
        Self {
            all: Bucket::new(rate, rate, now_us),
            subscribers: HashMap::new(),
            pool: BytesMut::new(),
        }
    }

    /// Answers a NACK about a track; `None` where the room is not ours.
    pub fn answer(
        &mut self,
        shelf: &mut Shelf,
        (room, track): (&RoomId, &TrackId),
        payload: &[u8],
        now: Instant,
        now_us: i64,
    ) -> Option<Answered> {
        if !shelf.knows(room) {
            return None;
        }
        let nack = match read(payload) {
            Ok(nack) => nack,
            Err(message) => {
                let reply = NackReply { message, ..status(NackStatus::BadRequest, Epoch(0)) };
                return Some(Answered { subscriber: None, batches: Vec::new(), reply });
            }
        };
        let subscriber = Some(nack.subscriber.clone());
        let nothing = |reply| Some(Answered { subscriber, batches: Vec::new(), reply });
        let Some(ring) = shelf.ring(room, track) else {
            return nothing(status(NackStatus::Unknown, nack.epoch));
        };
        let (epoch, held) = (Epoch(ring.epoch()), ring.held());
        if epoch != nack.epoch {
            return nothing(NackReply { held, ..status(NackStatus::Epoch, epoch) });
        }
        let asked: u64 = nack.ranges.iter().map(|range| range.1).sum();
        let (mut left, retry_after_ms) = self.allow(&nack.subscriber, asked, now_us);
        let mut missing = Missing::default();
        let mut batches = Vec::new();
        for seq in nack.ranges.iter().flat_map(|&(first, count)| first..first + count) {
            if left == 0 {
                missing.add(seq, MissingReason::Throttled);
                continue;
            }
            left -= 1;
            let reason = match ring.resend(&nack.subscriber, seq, now) {
                Resend::Now(payload) => {
                    match resent(payload, &mut self.pool) {
                        Some(copy) => batches.push(copy),
                        None => missing.add(seq, MissingReason::Unknown),
                    }
                    continue;
                }
                Resend::Hold => MissingReason::Held,
                Resend::Spent => MissingReason::Spent,
                Resend::Evicted => MissingReason::Evicted,
                Resend::Unknown => MissingReason::Unknown,
            };
            missing.add(seq, reason);
        }
        let throttled = missing.has(MissingReason::Throttled);
        let word = match (missing.0.is_empty(), batches.is_empty() && throttled) {
            (true, _) => NackStatus::Ok,
            (false, true) => NackStatus::Throttled,
            (false, false) => NackStatus::Partial,
        };
        let retry_after_ms = if throttled { retry_after_ms.max(1) } else { 0 };
        let reply = NackReply { held, missing: missing.0, retry_after_ms, ..status(word, epoch) };
        nothing(reply).map(|answered| Answered { batches, ..answered })
    }

    /// How many of `asked` batches may be looked up, and when there are more.
    fn allow(&mut self, subscriber: &SubscriberId, asked: u64, now_us: i64) -> (u64, u64) {
        let rate = limits::RESEND_BATCHES_PER_SUBSCRIBER_S;
        if !self.subscribers.contains_key(subscriber)
            && self.subscribers.len() >= limits::RESEND_BUCKETS
        {
            // A bucket at rest for a second is full again: as good as none.
            self.subscribers.retain(|_, bucket| now_us - bucket.asked_us() < 1_000_000);
            if self.subscribers.len() >= limits::RESEND_BUCKETS {
                return (0, 1_000);
            }
        }
        let own = self
            .subscribers
            .entry(subscriber.clone())
            .or_insert_with(|| Bucket::new(rate, rate, now_us));
        let granted = own.take(asked, now_us);
        let taken = self.all.take(granted, now_us);
        let rest = asked - taken;
        (taken, own.wait_ms(rest.min(u64::from(rate))).max(self.all.wait_ms(rest)))
    }
}

/// Reads a request within its bounds.
fn read(payload: &[u8]) -> Result<Nack, String> {
    if payload.len() > limits::NACK_MAX_BYTES {
        let most = limits::NACK_MAX_BYTES;
        return Err(format!("{} bytes; at most {most} are read", payload.len()));
    }
    let nack: Nack = serde_json::from_slice(payload).map_err(|error| error.to_string())?;
    if nack.ranges.is_empty() || nack.ranges.len() > limits::NACK_MAX_RANGES {
        return Err(format!("use 1 to {} ranges", limits::NACK_MAX_RANGES));
    }
    let mut batches = 0u64;
    for &(first, count) in &nack.ranges {
        if count == 0 || first.checked_add(count).is_none() {
            return Err(format!("[{first},{count}] is no range"));
        }
        batches = batches.saturating_add(count);
    }
    if batches > limits::NACK_MAX_BATCHES {
        let most = limits::NACK_MAX_BATCHES;
        return Err(format!("{batches} batches; ask for at most {most} at once"));
    }
    Ok(nack)
}

fn status(status: NackStatus, epoch: Epoch) -> NackReply {
    NackReply {
        status,
        epoch,
        held: None,
        missing: Vec::new(),
        retry_after_ms: 0,
        message: String::new(),
    }
}

/// What is not sent, with neighbours of one fate joined.
#[derive(Default)]
struct Missing(Vec<(u64, u64, MissingReason)>);

impl Missing {
    fn add(&mut self, seq: u64, reason: MissingReason) {
        match self.0.last_mut() {
            Some((first, count, why)) if *why == reason && *first + *count == seq => *count += 1,
            _ => self.0.push((seq, 1, reason)),
        }
    }

    fn has(&self, reason: MissingReason) -> bool {
        self.0.iter().any(|(_, _, why)| *why == reason)
    }
}

#[cfg(test)]
mod tests;
