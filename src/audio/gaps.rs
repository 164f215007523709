//! What a listener is missing of a track: holes in the sequence, when they were
//! seen, when and where they were asked for, and what was given up. What was
//! received is `reorder`'s.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use crate::limits::NACK_RETRY_MAX;

/// Batches that will not come, declared in their place in the sequence.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Gap {
    /// The epoch they belong to.
    pub epoch: u64,
    /// The first of them.
    pub from_seq: u64,
    /// How many.
    pub count: u64,
    /// Why they will not come.
    pub reason: GapReason,
    /// Positions before and after the gap in samples, where both are known.
    pub positions: Option<(u64, u64)>,
}

/// Why batches were given up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum GapReason {
    /// Nobody sent them in time.
    Deadline,
    /// The worker sends no more in a second, and so not in time.
    Throttled,
    /// The worker no longer has them.
    Evicted,
    /// The worker sent them as often as it may.
    Spent,
    /// The worker that had them was replaced.
    EpochChange,
    /// The worker does not know them.
    Unknown,
    /// More was missing or waiting than a listener holds back.
    Overflow,
    /// The program did not take what was there, and goes on with what is new.
    TooSlow,
    /// The listener stopped waiting.
    Closed,
}

impl GapReason {
    /// The word for it in messages and tables.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Deadline => "deadline",
            Self::Throttled => "throttled",
            Self::Evicted => "evicted",
            Self::Spent => "spent",
            Self::EpochChange => "epoch",
            Self::Unknown => "unknown",
            Self::Overflow => "overflow",
            Self::TooSlow => "too_slow",
            Self::Closed => "closed",
        }
    }
}

impl std::fmt::Display for GapReason {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

/// How fast a worker is asked: what a listener has measured of the way there
/// and back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pace {
    /// How long an answer is waited for; doubled each time.
    pub retry: Duration,
    /// How long it takes at the least: what cannot come in time is not asked for.
    pub trip: Duration,
}

/// Where a missing batch may come from yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Source {
    /// The worker's ring.
    Ring,
    /// What is kept on disk, where it is to be looked for …
    Stream(Option<GapReason>),
    /// … and is. The reason is the ring's; none: the ring may have it still.
    Sought(Option<GapReason>),
}

/// Missing batches in a row that share a fate.
#[derive(Debug, Clone, Copy)]
struct Hole {
    /// One after the last.
    to: u64,
    since: Instant,
    asked: Option<Instant>,
    /// How often it was asked for.
    times: u32,
    source: Source,
    /// Whether it was looked for on disk.
    sought: bool,
    /// Why it would be given up.
    why: Option<GapReason>,
    /// When it is given up, where that is before patience ends.
    ends: Option<Instant>,
    given_up: Option<GapReason>,
}

/// A missing batch that came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Filled {
    /// Since when it was missing.
    pub(super) since: Instant,
    /// When it was asked for, where that was once: more often, and nobody knows
    /// which of them was answered.
    pub(super) asked: Option<Instant>,
}

/// The holes of a track in order, by their first sequence number.
#[derive(Debug, Default)]
pub(super) struct Holes(BTreeMap<u64, Hole>);

impl Holes {
    /// Notes that `from..to` is missing.
    pub(super) fn open(&mut self, from: u64, to: u64, since: Instant) {
        if from < to {
            let hole = Hole {
                to,
                since,
                asked: None,
                times: 0,
                source: Source::Ring,
                sought: false,
                why: None,
                ends: None,
                given_up: None,
            };
            self.0.insert(from, hole);
        }
    }

    /// Takes a batch out of the hole it is in, where there is one.
    pub(super) fn fill(&mut self, seq: u64) -> Option<Filled> {
        self.split(seq);
        self.split(seq + 1);
        let hole = self.0.remove(&seq)?;
        Some(Filled { since: hole.since, asked: hole.asked.filter(|_| hole.times == 1) })
    }

    /// Does something to what is missing within `from..to` and was not given up.
    fn each(&mut self, from: u64, to: u64, mut act: impl FnMut(&mut Hole)) {
        self.split(from);
        self.split(to);
        let holes = self.0.range_mut(from..to.max(from)).map(|(_, hole)| hole);
        holes.filter(|hole| hole.given_up.is_none()).for_each(&mut act);
    }

    /// Gives up what is missing within `from..to`.
    pub(super) fn give_up(&mut self, from: u64, to: u64, reason: GapReason) {
        self.each(from, to, |hole| hole.given_up = Some(reason));
    }

    /// Gives it up at a later time: it may be on its way.
    pub(super) fn give_up_at(&mut self, from: u64, to: u64, reason: GapReason, at: Instant) {
        self.each(from, to, |hole| {
            hole.why = Some(reason);
            hole.ends.get_or_insert(at);
        });
    }

    /// Notes why it does not come.
    pub(super) fn excuse(&mut self, from: u64, to: u64, reason: GapReason) {
        self.each(from, to, |hole| hole.why = Some(reason));
    }

    /// Has it looked for on disk, once. `reason` says why the ring will not send
    /// it; none: it is asked again where the disk has not got it.
    pub(super) fn look_elsewhere(&mut self, from: u64, to: u64, reason: Option<GapReason>) {
        self.each(from, to, |hole| match hole.source {
            Source::Sought(None) => hole.source = Source::Sought(reason),
            Source::Ring | Source::Stream(None) if !hole.sought => {
                hole.source = Source::Stream(reason);
            }
            Source::Ring if hole.sought => hole.given_up = reason,
            _ => (),
        });
    }

    /// What is to be looked for on disk now, from its first batch to one after
    /// its last; it counts as being looked for.
    pub(super) fn seek(&mut self) -> Option<(u64, u64)> {
        let open =
            |hole: &Hole| hole.given_up.is_none() && matches!(hole.source, Source::Stream(_));
        let mut found: Option<(u64, u64)> = None;
        for (&from, hole) in self.0.iter_mut().filter(|(_, hole)| open(hole)) {
            let Source::Stream(reason) = hole.source else { continue };
            (hole.source, hole.sought) = (Source::Sought(reason), true);
            found = Some((found.map_or(from, |(first, _)| first), hole.to));
        }
        found
    }

    /// It was looked for: what did not come is not there.
    pub(super) fn sought(&mut self, from: u64, to: u64) {
        self.each(from, to, |hole| {
            if let Source::Sought(reason) = hole.source {
                (hole.source, hole.given_up) = (Source::Ring, reason);
            }
        });
    }

    /// Gives up what has been missing for `patience`.
    pub(super) fn expire(&mut self, now: Instant, patience: Duration) {
        for hole in self.0.values_mut().filter(|hole| hole.ends_at(patience) <= now) {
            hole.given_up.get_or_insert(hole.why.unwrap_or(GapReason::Deadline));
        }
    }

    /// Wants nothing any more from before `seq`.
    pub(super) fn forget(&mut self, seq: u64) {
        self.split(seq);
        self.0 = self.0.split_off(&seq);
    }

    /// Takes the hole that begins at `seq` out, where it was given up.
    pub(super) fn take_given_up(&mut self, seq: u64) -> Option<(u64, GapReason)> {
        let hole = self.0.get(&seq)?;
        let reason = hole.given_up?;
        let to = hole.to;
        self.0.remove(&seq);
        Some((to, reason))
    }

    /// The first hole, from its first batch to one after its last.
    pub(super) fn first(&self) -> Option<(u64, u64)> {
        self.0.first_key_value().map(|(&from, hole)| (from, hole.to))
    }

    /// Until when what is missing within `from..to` is of use.
    pub(super) fn useful_until(&self, from: u64, to: u64, patience: Duration) -> Option<Instant> {
        let holes = self.0.range(..to.max(from)).map(|(_, hole)| hole);
        holes.filter(|hole| hole.to > from).map(|hole| hole.since + patience).max()
    }

    /// Ranges to ask for now: never asked for, or not answered in time.
    pub(super) fn ask(
        &mut self,
        now: Instant,
        pace: Pace,
        patience: Duration,
        (max_ranges, max_batches): (usize, u64),
    ) -> Vec<(u64, u64)> {
        let mut ranges: Vec<(u64, u64)> = Vec::new();
        let mut left = max_batches;
        let due: Vec<u64> = self
            .0
            .iter()
            .filter(|(_, hole)| hole.ask_at(now, pace, patience).is_some_and(|at| at <= now))
            .map(|(&from, _)| from)
            .take(max_batches as usize)
            .collect();
        for from in due {
            let joins = ranges.last().is_some_and(|&(start, count)| start + count == from);
            if left == 0 || (!joins && ranges.len() == max_ranges) {
                break;
            }
            let count = (self.0[&from].to - from).min(left);
            self.split(from + count);
            if let Some(hole) = self.0.get_mut(&from) {
                hole.asked = Some(now);
                hole.times += 1;
            }
            left -= count;
            match ranges.last_mut() {
                Some(range) if joins => range.1 += count,
                _ => ranges.push((from, count)),
            }
        }
        ranges
    }

    /// When the next hole is to be asked for or given up, and whether one is to
    /// be looked for on disk, which is at once.
    pub(super) fn deadline(&self, now: Instant, pace: Pace, patience: Duration) -> Option<Instant> {
        let open = self.0.values().filter(|hole| hole.given_up.is_none());
        open.map(|hole| match hole.source {
            Source::Stream(_) => now,
            _ => {
                let ends = hole.ends_at(patience);
                hole.ask_at(now, pace, patience).map_or(ends, |at| at.min(ends))
            }
        })
        .min()
    }

    /// Cuts the hole around `at` in two, so that one begins there.
    fn split(&mut self, at: u64) {
        let Some((&from, hole)) = self.0.range_mut(..at).next_back() else { return };
        debug_assert!(from < at);
        if hole.to > at {
            let rest = *hole;
            hole.to = at;
            self.0.insert(at, rest);
        }
    }
}

impl Hole {
    /// When it is to be asked for: never where it could not come in time.
    fn ask_at(&self, now: Instant, pace: Pace, patience: Duration) -> Option<Instant> {
        if self.given_up.is_some() || self.ends.is_some() || self.source != Source::Ring {
            return None;
        }
        let again = pace.retry * 2_u32.pow(self.times.saturating_sub(1).min(8));
        let again = again.min(NACK_RETRY_MAX.max(pace.retry));
        let at = self.asked.map_or(now, |asked| asked + again);
        (at.max(now) + pace.trip < self.since + patience).then_some(at)
    }

    /// When it is given up.
    fn ends_at(&self, patience: Duration) -> Instant {
        let end = self.since + patience;
        self.ends.map_or(end, |ends| ends.min(end))
    }
}
