//! The answer to a NACK: what is sent again, and to whom how much. Strangers
//! write these requests, so everything about them is bounded before it costs.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use bytes::{Bytes, BytesMut};

use super::{
    allowance::{ALL, Allowance, Egress, ONE},
    bucket::Bucket,
    shelf::Shelf,
};
use crate::{
    audio::{Resend, resent},
    bus::messages::{MissingReason, Nack, NackReply, NackStatus},
    id::{RoomId, SubscriberId, TrackId},
    json, limits,
    task::Epoch,
};

/// Bytes of an answer, and of each range in it.
const REPLY_BYTES: usize = 128;
const RANGE_BYTES: usize = 24;

/// Watches over how much is sent again.
#[derive(Debug)]
pub struct Desk {
    egress: Egress,
    all: Rate,
    subscribers: HashMap<SubscriberId, Rate>,
    pool: BytesMut,
    stats: DeskStats,
}

/// What was not even answered.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct DeskStats {
    /// NACKs that came to their turn after their deadline.
    pub late: u64,
    /// NACKs of those who had just been told that it is too much.
    pub ignored: u64,
}

/// How much may be sent again: batches and bytes.
#[derive(Debug)]
struct Rate {
    batches: Bucket,
    bytes: Allowance,
    /// When it was said last that it is too much.
    told_us: i64,
}

/// A NACK as it came.
#[derive(Debug, Clone, Copy)]
pub struct Asking<'a> {
    /// The room of its subject.
    pub room: &'a RoomId,
    /// The track of its subject.
    pub track: &'a TrackId,
    /// The request.
    pub payload: &'a [u8],
    /// When it came.
    pub came: Instant,
}

/// What is done about a NACK.
#[derive(Debug, PartialEq)]
pub struct Answered {
    /// Who asked, where the request could be read.
    pub subscriber: Option<SubscriberId>,
    /// Batches to send to the subscriber …
    pub batches: Vec<Bytes>,
    /// … until then, if at all.
    pub until: Option<Instant>,
    /// The reply, sent after them.
    pub reply: NackReply,
}

impl Desk {
    /// A desk at which nobody has asked yet.
    #[must_use]
    pub fn new(now_us: i64) -> Self {
        let egress = Egress::default();
        let rate = limits::RESEND_BATCHES_PER_S;
        let all = Rate {
            batches: Bucket::new(rate, rate, now_us),
            bytes: Allowance::new(ALL, &egress, now_us),
            told_us: i64::MIN / 2,
        };
        Self {
            egress,
            all,
            subscribers: HashMap::new(),
            pool: BytesMut::new(),
            stats: DeskStats::default(),
        }
    }

    /// So many bytes were published: what is sent again is a share of that.
    pub fn published(&mut self, bytes: usize, now_us: i64) {
        self.egress.add(bytes as u64, now_us);
    }

    /// What was not answered so far.
    #[must_use]
    pub fn stats(&self) -> DeskStats {
        self.stats
    }

    /// Answers a NACK about a track; `None` where there is nothing to say: the
    /// room is not ours, it came too late, or its sender has just been told.
    pub fn answer(
        &mut self,
        shelf: &mut Shelf,
        asking: Asking<'_>,
        now: Instant,
        now_us: i64,
    ) -> Option<Answered> {
        if !shelf.knows(asking.room) {
            return None;
        }
        let only = |subscriber, reply| {
            Some(Answered { subscriber, batches: Vec::new(), until: None, reply })
        };
        let nack = match read(asking.payload) {
            Ok(nack) => nack,
            Err(message) => {
                let bad = status(NackStatus::BadRequest, Epoch(0));
                return only(None, NackReply { message, ..bad });
            }
        };
        let deadline = Duration::from_millis(nack.deadline_ms);
        let until = asking.came.checked_add(deadline).filter(|_| nack.deadline_ms > 0);
        if until.is_some_and(|until| until < now) {
            self.stats.late += 1;
            return None;
        }
        let subscriber = Some(nack.subscriber.clone());
        let Some(ring) = shelf.ring(asking.room, asking.track) else {
            return only(subscriber, status(NackStatus::Unknown, nack.epoch));
        };
        let (epoch, held) = (Epoch(ring.epoch()), ring.held());
        if epoch < nack.epoch {
            // Whoever has the room now heard it too; ours is over.
            return None;
        }
        if epoch > nack.epoch {
            return only(subscriber, NackReply { held, ..status(NackStatus::Epoch, epoch) });
        }
        let Self { egress, all, subscribers, pool, stats } = self;
        let Some(own) = rate_of(subscribers, egress, &nack.subscriber, now_us) else {
            let all =
                nack.ranges.iter().map(|&(first, count)| (first, count, MissingReason::Throttled));
            let (missing, reply) = (all.collect(), status(NackStatus::Throttled, epoch));
            return only(subscriber, NackReply { held, missing, retry_after_ms: 1_000, ..reply });
        };
        let asked: u64 = nack.ranges.iter().map(|range| range.1).sum();
        let granted = own.batches.take(asked, now_us);
        let mut left = all.batches.take(granted, now_us);
        let rest = asked - left;
        let mut missing = Missing::default();
        let (mut batches, mut crowd) = (Vec::new(), 0);
        for seq in nack.ranges.iter().flat_map(|&(first, count)| first..first + count) {
            let bytes = own.bytes.allows(egress, now_us) && all.bytes.allows(egress, now_us);
            if left == 0 || !bytes {
                missing.add(seq, MissingReason::Throttled);
                continue;
            }
            left -= 1;
            let reason = match ring.resend(&nack.subscriber, seq, now) {
                Resend::Now(payload) => match resent(payload, pool) {
                    Some(copy) => {
                        own.bytes.spend(copy.len());
                        all.bytes.spend(copy.len());
                        batches.push(copy);
                        crowd = crowd.max(ring.askers(seq));
                        continue;
                    }
                    None => MissingReason::Unknown,
                },
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
        let mut retry_after_ms = 0;
        if throttled {
            let again = limits::THROTTLED_AGAIN.as_micros() as i64;
            if batches.is_empty() && now_us - own.told_us < again {
                stats.ignored += 1;
                return None;
            }
            own.told_us = now_us;
            retry_after_ms = own.wait_ms(egress, rest).max(all.wait_ms(egress, rest)).max(1);
        }
        let answer = REPLY_BYTES + RANGE_BYTES * missing.0.len();
        own.bytes.spend(answer);
        all.bytes.spend(answer);
        let spread = if crowd < limits::NACK_CROWD {
            Duration::ZERO
        } else {
            (limits::NACK_SPREAD * crowd as u32).min(limits::NACK_SPREAD_MAX)
        };
        let spread_ms = spread.as_millis() as u64;
        let missing = missing.0;
        let reply = NackReply { held, missing, retry_after_ms, spread_ms, ..status(word, epoch) };
        Some(Answered { subscriber, batches, until, reply })
    }
}

impl Rate {
    /// When more may be had, where batches or bytes were too many.
    fn wait_ms(&self, egress: &Egress, batches: u64) -> u64 {
        let most = u64::from(limits::RESEND_BATCHES_PER_SUBSCRIBER_S);
        self.batches.wait_ms(batches.min(most)).max(self.bytes.wait_ms(egress))
    }
}

/// The rate of a subscriber; none where too many are watched.
fn rate_of<'a>(
    subscribers: &'a mut HashMap<SubscriberId, Rate>,
    egress: &Egress,
    subscriber: &SubscriberId,
    now_us: i64,
) -> Option<&'a mut Rate> {
    if !subscribers.contains_key(subscriber) && subscribers.len() >= limits::RESEND_BUCKETS {
        // So many names are nobody's need: what they have in all is bounded.
        subscribers.retain(|_, rate| now_us - rate.bytes.asked_us() < 1_000_000);
        if subscribers.len() >= limits::RESEND_BUCKETS {
            return None;
        }
    }
    Some(subscribers.entry(subscriber.clone()).or_insert_with(|| {
        let rate = limits::RESEND_BATCHES_PER_SUBSCRIBER_S;
        Rate {
            batches: Bucket::new(rate, rate, now_us),
            bytes: Allowance::new(ONE, egress, now_us),
            told_us: i64::MIN / 2,
        }
    }))
}

/// Reads a request within its bounds.
fn read(payload: &[u8]) -> Result<Nack, String> {
    let (nack, _): (Nack, _) = json::object(payload, limits::NACK_MAX_BYTES)?;
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
        spread_ms: 0,
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
