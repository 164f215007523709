//! What a listener is missing of a track: holes in the sequence, when they were
//! seen, when they were asked for, and what was given up. What was received is
//! `reorder`'s.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

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
    /// The listener stopped waiting.
    Closed,
}

impl GapReason {
    /// The word for it in messages and tables.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Deadline => "deadline",
            Self::Evicted => "evicted",
            Self::Spent => "spent",
            Self::EpochChange => "epoch",
            Self::Unknown => "unknown",
            Self::Overflow => "overflow",
            Self::Closed => "closed",
        }
    }
}

impl std::fmt::Display for GapReason {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Missing batches in a row that share a fate.
#[derive(Debug, Clone, Copy)]
struct Hole {
    /// One after the last.
    to: u64,
    since: Instant,
    asked: Option<Instant>,
    given_up: Option<GapReason>,
}

/// The holes of a track in order, by their first sequence number.
#[derive(Debug, Default)]
pub(super) struct Holes(BTreeMap<u64, Hole>);

impl Holes {
    /// Notes that `from..to` is missing.
    pub(super) fn open(&mut self, from: u64, to: u64, now: Instant) {
        if from < to {
            self.0.insert(from, Hole { to, since: now, asked: None, given_up: None });
        }
    }

    /// Takes a batch out of the hole it is in, and says whether there was one.
    pub(super) fn fill(&mut self, seq: u64) -> bool {
        self.split(seq);
        self.split(seq + 1);
        self.0.remove(&seq).is_some()
    }

    /// Gives up what is missing within `from..to`.
    pub(super) fn give_up(&mut self, from: u64, to: u64, reason: GapReason) {
        self.split(from);
        self.split(to);
        for (_, hole) in self.0.range_mut(from..to.max(from)) {
            hole.given_up.get_or_insert(reason);
        }
    }

    /// Gives up what has been missing for `patience`.
    pub(super) fn expire(&mut self, now: Instant, patience: Duration) {
        for hole in self.0.values_mut() {
            if now.saturating_duration_since(hole.since) >= patience {
                hole.given_up.get_or_insert(GapReason::Deadline);
            }
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

    /// Ranges to ask for now: never asked for, or not answered within `retry`.
    pub(super) fn ask(
        &mut self,
        now: Instant,
        retry: Duration,
        max_ranges: usize,
        max_batches: u64,
    ) -> Vec<(u64, u64)> {
        let mut ranges: Vec<(u64, u64)> = Vec::new();
        let mut left = max_batches;
        let due: Vec<u64> = self
            .0
            .iter()
            .filter(|(_, hole)| hole.given_up.is_none() && hole.ask_at(now, retry) <= now)
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
            }
            left -= count;
            match ranges.last_mut() {
                Some(range) if joins => range.1 += count,
                _ => ranges.push((from, count)),
            }
        }
        ranges
    }

    /// When the next hole is to be asked for or given up.
    pub(super) fn deadline(
        &self,
        now: Instant,
        retry: Duration,
        patience: Duration,
    ) -> Option<Instant> {
        let open = self.0.values().filter(|hole| hole.given_up.is_none());
        open.map(|hole| hole.ask_at(now, retry).min(hole.since + patience)).min()
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
    /// When it is to be asked for.
    fn ask_at(&self, now: Instant, retry: Duration) -> Instant {
        self.asked.map_or(now, |asked| asked + retry)
    }
}
