//! What a worker has yet to see recorded: batches that wait, those on their way
//! to the stream, and when each is sent again. Pure; the loop around it is
//! `record_lane`'s.
//!
//! A batch that is published once reaches live subscribers and the stream. So it
//! is not held back for long where the stream is slow to answer: only those that
//! were sent just now fill the window. Each has a name by which the stream tells
//! one that is sent again.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    time::{Duration, Instant},
};

use bytes::Bytes;

use crate::{
    bus::{Address, recording::Kept},
    id::{RoomId, TrackId},
    limits,
    task::Epoch,
};

/// A batch that is answered later than this is not waited for any more by those
/// behind it.
const FRESH: Duration = Duration::from_millis(250);

/// A batch to be recorded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Keep {
    /// Where it is published.
    pub to: Address,
    /// What the stream tells it by.
    pub name: String,
    /// The batch.
    pub payload: Bytes,
}

impl Keep {
    /// A batch of a track.
    #[must_use]
    pub fn new(
        to: Address,
        payload: Bytes,
        (room, track): (&RoomId, &TrackId),
        epoch: Epoch,
        seq: u64,
    ) -> Self {
        Self { to, name: format!("{room}.{track}.{epoch}.{seq}"), payload }
    }
}

/// What became of what was to be recorded, in batches.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize)]
pub struct LaneStats {
    /// On disk, acknowledged.
    pub kept: u64,
    /// Of these, were there when they were sent again.
    pub already: u64,
    /// Sent again.
    pub again: u64,
    /// Left out for want of room: the stream was away for too long.
    pub dropped: u64,
    /// The stream did not take them as they are.
    pub refused: u64,
    /// Sent, and nobody knows whether they are kept: sending them again so late
    /// could keep them twice.
    pub unsure: u64,
    /// Waiting or on their way now.
    pub waiting: u64,
}

#[derive(Debug)]
struct Sent {
    keep: Keep,
    /// When it may have been kept first.
    first: Instant,
    last: Instant,
    times: u32,
    fresh: bool,
    due: Option<Instant>,
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Window {
    waiting: VecDeque<Keep>,
    sent: BTreeMap<u64, Sent>,
    /// When each is sent again.
    due: BTreeSet<(Instant, u64)>,
    /// Those sent lately, in order.
    lately: VecDeque<(Instant, u64)>,
    fresh: usize,
    /// Those for which there was no stream, or none that answers.
    parked: BTreeSet<u64>,
    /// When the stream answered last.
    answered_at: Option<Instant>,
    /// When one of those that are parked asks whether there is a stream.
    probe_at: Option<Instant>,
    /// The one that asks now. No other does beside it.
    probing: Option<u64>,
    bytes: usize,
    next: u64,
    stats: LaneStats,
}

impl Window {
    /// Takes a batch in; the oldest that is not on its way goes where there are
    /// too many.
    pub(super) fn offer(&mut self, keep: Keep) {
        self.bytes += keep.payload.len();
        self.waiting.push_back(keep);
        while self.bytes > limits::RECORD_BYTES {
            let oldest = match self.parked.pop_first() {
                Some(number) => self.sent.remove(&number).map(|sent| sent.keep),
                None => self.waiting.pop_front(),
            };
            let Some(oldest) = oldest else { return };
            self.bytes -= oldest.payload.len();
            self.stats.dropped += 1;
        }
    }

    /// The next to send now, and its number. To be called until there is none.
    pub(super) fn next(&mut self, now: Instant) -> Option<(u64, Keep)> {
        self.age(now);
        if self.fresh >= limits::RECORD_WINDOW {
            return None;
        }
        while let Some(&(_, number)) = self.due.first().filter(|(at, _)| *at <= now) {
            if self.gives_up(number, now) {
                continue;
            }
            // A stream that answers nothing is asked by one at a time.
            if self.answered_at.is_none_or(|at| now >= at + limits::RECORD_RETRY) {
                self.park(number, now);
                continue;
            }
            self.stats.again += 1;
            return self.send(number, now);
        }
        // What is new finds out whether there is a stream; where nothing is, what
        // waits for one does.
        if let Some(keep) = self.waiting.pop_front() {
            let number = self.next;
            self.next += 1;
            let sent = Sent { keep, first: now, last: now, times: 0, fresh: false, due: None };
            self.sent.insert(number, sent);
            return self.send(number, now);
        }
        if self.probe_at.is_some_and(|at| at <= now) {
            self.probe_at = None;
            while let Some(number) = self.parked.pop_first() {
                if self.gives_up(number, now) {
                    continue;
                }
                self.probing = Some(number);
                self.stats.again += 1;
                return self.send(number, now);
            }
        }
        None
    }

    /// Forgets one that may have been kept too long ago to be sent again.
    fn gives_up(&mut self, number: u64, now: Instant) -> bool {
        let late = self.sent.get(&number).is_some_and(|sent| {
            sent.times > 0 && now.saturating_duration_since(sent.first) > limits::RECORD_SURE
        });
        if late {
            self.stats.unsure += u64::from(self.forget(number, now));
        }
        late
    }

    fn send(&mut self, number: u64, now: Instant) -> Option<(u64, Keep)> {
        let sent = self.sent.get_mut(&number)?;
        if sent.times == 0 {
            sent.first = now;
        }
        if let Some(due) = sent.due.replace(now + limits::RECORD_RETRY) {
            self.due.remove(&(due, number));
        }
        self.due.insert((now + limits::RECORD_RETRY, number));
        (sent.last, sent.times) = (now, sent.times + 1);
        if !std::mem::replace(&mut sent.fresh, true) {
            self.fresh += 1;
        }
        self.lately.push_back((now, number));
        Some((number, sent.keep.clone()))
    }

    /// Those sent a while ago fill the window no more.
    fn age(&mut self, now: Instant) {
        while let Some(&(at, number)) = self.lately.front() {
            let answered = self.sent.get(&number).is_none_or(|sent| !sent.fresh || sent.last != at);
            if !answered && now < at + FRESH {
                return;
            }
            self.lately.pop_front();
            if !answered && let Some(sent) = self.sent.get_mut(&number) {
                sent.fresh = false;
                self.fresh -= 1;
            }
        }
    }

    /// Takes the stream's answer; says why a batch was refused.
    pub(super) fn answered(&mut self, number: u64, kept: &Kept, now: Instant) -> Option<String> {
        match kept {
            Kept::Yes | Kept::Already => {
                self.answered_at = Some(now);
                if self.forget(number, now) {
                    self.stats.kept += 1;
                    self.stats.already += u64::from(*kept == Kept::Already);
                }
                self.unpark(now);
                None
            }
            Kept::NoStream => {
                if let Some(sent) = self.sent.get_mut(&number).filter(|sent| sent.times == 1) {
                    // It was not kept, for sure: its time begins anew.
                    sent.times = 0;
                }
                self.park(number, now + limits::RECORD_RETRY);
                None
            }
            Kept::Refused(why) => {
                self.stats.refused += u64::from(self.forget(number, now));
                Some(why.clone())
            }
        }
    }

    /// The server is there again: what it has not answered was lost, or its
    /// answer was.
    pub(super) fn reconnected(&mut self, now: Instant) {
        self.answered_at = Some(now);
        self.unpark(now);
        let unanswered: Vec<_> = self.due.iter().map(|(_, number)| *number).collect();
        for number in unanswered {
            self.at(number, now);
        }
    }

    /// Whether nothing waits, and nothing is on its way.
    pub(super) fn is_empty(&self) -> bool {
        self.waiting.is_empty() && self.sent.is_empty()
    }

    /// Whether batches find no stream.
    pub(super) fn lacks_stream(&self) -> bool {
        !self.parked.is_empty() || self.probing.is_some()
    }

    /// When [`Window::next`] may have something.
    pub(super) fn deadline(&self) -> Option<Instant> {
        let due = self.due.first().map(|(at, _)| *at);
        if self.fresh >= limits::RECORD_WINDOW {
            return self.lately.front().map(|(at, _)| *at + FRESH);
        }
        due.into_iter().chain(self.probe_at).min()
    }

    /// What became of it all so far.
    pub(super) fn stats(&self) -> LaneStats {
        LaneStats { waiting: (self.waiting.len() + self.sent.len()) as u64, ..self.stats }
    }

    fn forget(&mut self, number: u64, now: Instant) -> bool {
        self.parked.remove(&number);
        if self.probing.take_if(|probing| *probing == number).is_some() && !self.parked.is_empty() {
            self.probe_at.get_or_insert(now);
        }
        let Some(sent) = self.sent.remove(&number) else { return false };
        if let Some(due) = sent.due {
            self.due.remove(&(due, number));
        }
        self.fresh -= usize::from(sent.fresh);
        self.bytes -= sent.keep.payload.len();
        true
    }

    /// Waits until the stream is there; one of those that wait asks at this time,
    /// unless one asks already.
    fn park(&mut self, number: u64, probe_at: Instant) {
        let Some(sent) = self.sent.get_mut(&number) else { return };
        if let Some(due) = sent.due.take() {
            self.due.remove(&(due, number));
        }
        if std::mem::replace(&mut sent.fresh, false) {
            self.fresh -= 1;
        }
        self.parked.insert(number);
        self.probing.take_if(|probing| *probing == number);
        if self.probing.is_none() {
            self.probe_at.get_or_insert(probe_at);
        }
    }

    fn unpark(&mut self, now: Instant) {
        (self.probe_at, self.probing) = (None, None);
        for number in std::mem::take(&mut self.parked) {
            self.at(number, now);
        }
    }

    fn at(&mut self, number: u64, at: Instant) {
        let Some(sent) = self.sent.get_mut(&number) else { return };
        if sent.times == 0 {
            sent.first = at;
        }
        if let Some(due) = sent.due.replace(at) {
            self.due.remove(&(due, number));
        }
        self.due.insert((at, number));
    }
}

#[cfg(test)]
mod tests;
