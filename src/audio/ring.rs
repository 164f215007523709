//! What a worker keeps of a track for those who lost a batch: the encoded
//! payloads of the last ten seconds. How much all rings hold together, and how
//! much is sent again in a second, the worker watches over.

use std::{collections::VecDeque, time::Instant};

use bytes::Bytes;

use super::ahead::ask_for;
use crate::{
    id::SubscriberId,
    limits::{RESEND_MAX, RESEND_SUBSCRIBERS, RESEND_WINDOW, RING_AGE},
};

/// What a kept batch costs beside its payload, in bytes.
const OVERHEAD: usize = 64;

/// The answer to one NACKed sequence number.
#[derive(Debug, PartialEq, Eq)]
pub enum Resend<'a> {
    /// Send this again.
    Now(&'a Bytes),
    /// It is on its way to this subscriber already: stay silent.
    Hold,
    /// This subscriber had it as often as it may.
    Spent,
    /// It is gone; the subscriber must declare a gap.
    Evicted,
    /// It was not sent yet.
    Unknown,
}

/// How often and when a subscriber had a batch again.
#[derive(Debug)]
struct Asked {
    subscriber: SubscriberId,
    last: Instant,
    times: u8,
}

#[derive(Debug)]
struct Kept {
    payload: Bytes,
    at: Instant,
    asked: Vec<Asked>,
}

/// The last batches of one track within one epoch, in order of their sequence
/// numbers.
#[derive(Debug)]
pub struct Ring {
    epoch: u64,
    first: u64,
    kept: VecDeque<Kept>,
    bytes: usize,
}

impl Ring {
    /// An empty ring whose first batch will be number 0.
    #[must_use]
    pub fn new(epoch: u64) -> Self {
        Self { epoch, first: 0, kept: VecDeque::new(), bytes: 0 }
    }

    /// The epoch of its batches.
    #[must_use]
    pub fn epoch(&self) -> u64 {
        self.epoch
    }

    /// Keeps the next batch. A number that does not follow on the last one
    /// starts the ring anew. Returns the bytes it counts for.
    pub fn push(&mut self, seq: u64, payload: Bytes, now: Instant) -> usize {
        if seq != self.next() {
            self.kept.clear();
            self.bytes = 0;
            self.first = seq;
        }
        let bytes = payload.len() + OVERHEAD;
        self.kept.push_back(Kept { payload, at: now, asked: Vec::new() });
        self.bytes += bytes;
        bytes
    }

    /// Lets go of what is over ten seconds old; returns the bytes freed.
    pub fn expire(&mut self, now: Instant) -> usize {
        let mut freed = 0;
        while self.kept.front().is_some_and(|kept| now.duration_since(kept.at) > RING_AGE) {
            freed += self.evict_oldest();
        }
        freed
    }

    /// Lets go of the oldest batch; returns the bytes freed, 0 where it is
    /// empty.
    pub fn evict_oldest(&mut self) -> usize {
        let Some(kept) = self.kept.pop_front() else { return 0 };
        self.first += 1;
        let freed = kept.payload.len() + OVERHEAD;
        self.bytes -= freed;
        freed
    }

    /// Asks for the memory that keeping the next batch, or letting go of the
    /// oldest, begins with.
    pub fn look_ahead(&self) {
        let (Some(oldest), Some(newest)) = (self.kept.front(), self.kept.back()) else { return };
        ask_for(oldest);
        ask_for(newest);
    }

    /// When the oldest batch was kept.
    #[must_use]
    pub fn oldest(&self) -> Option<Instant> {
        self.kept.front().map(|kept| kept.at)
    }

    /// Bytes that count towards the bound of all rings.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// The first and last sequence number it has.
    #[must_use]
    pub fn held(&self) -> Option<(u64, u64)> {
        (!self.kept.is_empty()).then(|| (self.first, self.next() - 1))
    }

    /// Looks up a batch that `subscriber` asks for, and takes note that it is
    /// sent again where the answer is [`Resend::Now`].
    pub fn resend(&mut self, subscriber: &SubscriberId, seq: u64, now: Instant) -> Resend<'_> {
        if seq >= self.next() {
            return Resend::Unknown;
        }
        let Some(index) = seq.checked_sub(self.first).and_then(|at| usize::try_from(at).ok())
        else {
            return Resend::Evicted;
        };
        let Kept { payload, asked, .. } = &mut self.kept[index];
        let full = asked.len() >= RESEND_SUBSCRIBERS;
        match asked.iter_mut().find(|asked| asked.subscriber == *subscriber) {
            Some(asked) if now.duration_since(asked.last) < RESEND_WINDOW => return Resend::Hold,
            Some(asked) if asked.times >= RESEND_MAX => return Resend::Spent,
            Some(asked) => {
                asked.times += 1;
                asked.last = now;
            }
            None if full => return Resend::Spent,
            None => asked.push(Asked { subscriber: subscriber.clone(), last: now, times: 1 }),
        }
        Resend::Now(payload)
    }

    /// How many subscribers had a batch again.
    #[must_use]
    pub fn askers(&self, seq: u64) -> usize {
        let index = seq.checked_sub(self.first).and_then(|at| usize::try_from(at).ok());
        index.and_then(|at| self.kept.get(at)).map_or(0, |kept| kept.asked.len())
    }

    /// Sequence number of the batch to come.
    fn next(&self) -> u64 {
        self.first + self.kept.len() as u64
    }
}
