//! A listener's side of one track: brings batches into order, says which to ask
//! for again and when to give up. Asking, and what a consumer hears in place of
//! a gap, is left to others.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use super::{
    batch::Batch,
    gaps::{Gap, GapReason, Holes},
};
use crate::limits::{
    NACK_MAX_BATCHES, NACK_MAX_RANGES, NACK_RETRY, REORDER_DEADLINE, REORDER_MAX_SLOTS,
};

/// How patient a listener is.
#[derive(Debug, Clone, Copy)]
pub struct ReorderConfig {
    /// How long a missing batch is waited for.
    pub deadline: Duration,
    /// How long the answer to a NACK is waited for.
    pub retry: Duration,
    /// Slots held back while something before them is missing; also the number
    /// of batches a hole may span before its beginning is given up.
    pub max_slots: usize,
    /// A first batch with at most this number belongs to a track that began
    /// while we listened: what came before it is missing, not missed.
    pub joined_within: u64,
}

impl Default for ReorderConfig {
    fn default() -> Self {
        Self {
            deadline: REORDER_DEADLINE,
            retry: NACK_RETRY,
            max_slots: REORDER_MAX_SLOTS,
            joined_within: 0,
        }
    }
}

/// What happened so far, in batches.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ReorderStats {
    /// Taken in, without duplicates and old epochs.
    pub received: u64,
    /// Had been delivered, given up or received already.
    pub duplicates: u64,
    /// From an epoch that was replaced.
    pub stale_epoch: u64,
    /// Arrived after having been seen to be missing.
    pub recovered: u64,
    /// Given up.
    pub lost: u64,
    /// Asked for, counting each time.
    pub nacked: u64,
}

/// What comes next on the track.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Delivery {
    /// A batch.
    Batch(Delivered),
    /// Batches that will not come.
    Gap(Gap),
}

/// A batch in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Delivered {
    /// The batch.
    pub batch: Batch,
    /// Samples between the end of the batch delivered before and this one: 0
    /// where the positions run on, also for the first. Behind a gap this is
    /// its length.
    pub jump: i64,
}

/// See the module. Each method that may complete something returns it, in
/// order.
#[derive(Debug)]
pub struct Reorder {
    config: ReorderConfig,
    epoch: Option<u64>,
    /// The batch to deliver next.
    next: u64,
    /// One after the highest batch seen.
    top: u64,
    held: BTreeMap<u64, Batch>,
    held_slots: usize,
    holes: Holes,
    /// Position after the last delivered batch.
    end: Option<u64>,
    stats: ReorderStats,
}

impl Reorder {
    /// A track of which nothing was heard yet.
    #[must_use]
    pub fn new(config: ReorderConfig) -> Self {
        Self {
            config,
            epoch: None,
            next: 0,
            top: 0,
            held: BTreeMap::new(),
            held_slots: 0,
            holes: Holes::default(),
            end: None,
            stats: ReorderStats::default(),
        }
    }

    /// Takes in a batch, live or sent again.
    pub fn insert(&mut self, batch: Batch, now: Instant) -> Vec<Delivery> {
        let mut out = Vec::new();
        match self.epoch {
            Some(epoch) if batch.epoch < epoch => {
                self.stats.stale_epoch += 1;
                return out;
            }
            Some(epoch) if batch.epoch == epoch => (),
            known => self.begin(&batch, known.is_none(), &mut out),
        }
        let seq = batch.seq;
        if seq < self.next || self.held.contains_key(&seq) {
            self.stats.duplicates += 1;
            return out;
        }
        self.stats.received += 1;
        if seq >= self.top {
            self.holes.open(self.top, seq, now);
            self.top = seq + 1;
        } else if self.holes.fill(seq) {
            self.stats.recovered += 1;
        }
        self.held_slots += usize::from(batch.runs.slots());
        self.held.insert(seq, batch);
        self.bound(&mut out);
        out
    }

    /// The worker said that batches of `epoch` will not be sent again.
    pub fn unavailable(
        &mut self,
        epoch: u64,
        seq: u64,
        count: u64,
        reason: GapReason,
    ) -> Vec<Delivery> {
        let mut out = Vec::new();
        if self.epoch == Some(epoch) {
            self.holes.give_up(seq, seq.saturating_add(count).min(self.top), reason);
            self.advance(&mut out);
        }
        out
    }

    /// Gives up what was waited for long enough. Due at [`Reorder::deadline`].
    pub fn tick(&mut self, now: Instant) -> Vec<Delivery> {
        let mut out = Vec::new();
        self.holes.expire(now, self.config.deadline);
        self.advance(&mut out);
        out
    }

    /// Delivers what is held and gives up what is missing: nothing more is
    /// waited for.
    pub fn finish(&mut self) -> Vec<Delivery> {
        let mut out = Vec::new();
        self.flush(GapReason::Closed, &mut out);
        out
    }

    /// Ranges `(seq, count)` of [`Reorder::epoch`] to ask for now, as many as
    /// one NACK takes; they count as asked for. To be called until it is empty.
    pub fn missing(&mut self, now: Instant) -> Vec<(u64, u64)> {
        let ranges = self.holes.ask(now, self.config.retry, NACK_MAX_RANGES, NACK_MAX_BATCHES);
        self.stats.nacked += ranges.iter().map(|range| range.1).sum::<u64>();
        ranges
    }

    /// When [`Reorder::missing`] or [`Reorder::tick`] has something to do next,
    /// `now` where it has already.
    #[must_use]
    pub fn deadline(&self, now: Instant) -> Option<Instant> {
        self.holes.deadline(now, self.config.retry, self.config.deadline)
    }

    /// The epoch listened to.
    #[must_use]
    pub fn epoch(&self) -> Option<u64> {
        self.epoch
    }

    /// What happened so far.
    #[must_use]
    pub fn stats(&self) -> ReorderStats {
        self.stats
    }

    /// Turns to a new epoch.
    fn begin(&mut self, batch: &Batch, joining: bool, out: &mut Vec<Delivery>) {
        self.flush(GapReason::EpochChange, out);
        self.epoch = Some(batch.epoch);
        let first = if joining && batch.seq > self.config.joined_within { batch.seq } else { 0 };
        self.next = first;
        self.top = first;
    }

    /// Delivers all that is held, with gaps between.
    fn flush(&mut self, reason: GapReason, out: &mut Vec<Delivery>) {
        self.holes.give_up(self.next, self.top, reason);
        self.advance(out);
    }

    /// Delivers, and gives up the beginning where too much is missing or waits.
    fn bound(&mut self, out: &mut Vec<Delivery>) {
        let oldest = self.top.saturating_sub(self.config.max_slots as u64);
        self.holes.give_up(0, oldest, GapReason::Overflow);
        self.advance(out);
        while self.held_slots > self.config.max_slots
            && let Some((from, to)) = self.holes.first()
        {
            self.holes.give_up(from, to, GapReason::Overflow);
            self.advance(out);
        }
    }

    /// Delivers as far as the sequence is known.
    fn advance(&mut self, out: &mut Vec<Delivery>) {
        loop {
            if let Some(batch) = self.held.remove(&self.next) {
                self.next += 1;
                self.held_slots -= usize::from(batch.runs.slots());
                let jump = self.end.map_or(0, |end| batch.pos as i64 - end as i64);
                self.end = Some(batch.end());
                out.push(Delivery::Batch(Delivered { batch, jump }));
            } else if let Some((to, reason)) = self.holes.take_given_up(self.next) {
                self.declare(to, reason, out);
            } else {
                return;
            }
        }
    }

    /// Declares `next..to` a gap, one with the gap before it where they meet.
    fn declare(&mut self, to: u64, reason: GapReason, out: &mut Vec<Delivery>) {
        let (from, epoch) = (self.next, self.epoch.unwrap_or_default());
        self.next = to;
        self.stats.lost += to - from;
        let after = self.held.get(&to).map(|batch| batch.pos);
        let positions = self.end.zip(after);
        match out.last_mut() {
            Some(Delivery::Gap(gap))
                if gap.epoch == epoch
                    && gap.reason == reason
                    && gap.from_seq + gap.count == from =>
            {
                gap.count += to - from;
                gap.positions = positions;
            }
            _ => out.push(Delivery::Gap(Gap {
                epoch,
                from_seq: from,
                count: to - from,
                reason,
                positions,
            })),
        }
    }
}
