//! The batches of one epoch of a track in the order of their numbers: what is
//! held back, what is missing, what comes next. Which epoch is listened to is
//! decided in `reorder`.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use super::{
    batch::Batch,
    frame::FLAG_RESENT,
    gaps::{GapReason, Holes, Pace},
};
use crate::limits::{
    NACK_MAX_BATCHES, NACK_MAX_RANGES, NACK_RETRY, REORDER_DEADLINE, REORDER_MAX_SLOTS,
};

/// How patient a listener is.
#[derive(Debug, Clone, Copy)]
pub struct ReorderConfig {
    /// How long a missing batch is waited for.
    pub deadline: Duration,
    /// How fast a worker is asked.
    pub pace: Pace,
    /// Slots held back while something before them is missing; also the number
    /// of batches a hole may span before its beginning is given up.
    pub max_slots: usize,
    /// A first batch with at most this number belongs to a track that began
    /// while we listened: what came before it is missing, not missed.
    pub joined_within: u64,
    /// So much of what came before the first batch is wanted as well, as far as
    /// somebody has it.
    pub preroll: Duration,
    /// Whether a higher epoch speaks of the same time line. Where a source just
    /// begins anew under it, it is followed at once.
    pub one_line: bool,
}

impl Default for ReorderConfig {
    fn default() -> Self {
        Self {
            deadline: REORDER_DEADLINE,
            pace: Pace { retry: NACK_RETRY, trip: Duration::ZERO },
            max_slots: REORDER_MAX_SLOTS,
            joined_within: 0,
            preroll: Duration::ZERO,
            one_line: true,
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
    /// From an epoch that was replaced, or of one and not needed any more.
    pub stale_epoch: u64,
    /// Arrived after having been seen to be missing.
    pub recovered: u64,
    /// Given up.
    pub lost: u64,
    /// Asked for, counting each time.
    pub nacked: u64,
}

/// What comes next.
#[derive(Debug)]
#[allow(clippy::large_enum_variant, reason = "it is matched where it is made")]
pub(super) enum Next {
    /// A batch, and how long it was missing, where it was.
    Batch(Batch, Option<Duration>),
    /// Everything from the next number up to this one was given up.
    Lost(u64, GapReason),
}

/// A batch that waits for those before it, and how long it was missing.
type Held = (Batch, Option<Duration>);

/// See the module.
#[derive(Debug)]
pub(super) struct Order {
    pub(super) epoch: u64,
    /// The batch to deliver next.
    pub(super) next: u64,
    /// One after the highest batch seen.
    top: u64,
    held: BTreeMap<u64, Held>,
    held_slots: usize,
    holes: Holes,
    /// How long what was asked for took to come, as last measured.
    trip: Option<Duration>,
    /// The highest position up to which something was received …
    pub(super) reach: u64,
    /// … and when that was last.
    pub(super) heard: Instant,
}

impl Order {
    /// An epoch of which the first batch comes now, and that is listened to from
    /// the batch `first` on.
    pub(super) fn new(epoch: u64, first: u64, now: Instant) -> Self {
        Self {
            epoch,
            next: first,
            top: first,
            held: BTreeMap::new(),
            held_slots: 0,
            holes: Holes::default(),
            trip: None,
            reach: 0,
            heard: now,
        }
    }

    /// Wants what lies between its first batch and `seq`, and waits until
    /// `since` and its patience are over.
    pub(super) fn want_before(&mut self, seq: u64, since: Instant) {
        self.holes.open(self.top, seq, since);
        self.top = seq;
    }

    /// Takes in a batch of this epoch.
    pub(super) fn insert(&mut self, batch: Batch, now: Instant, stats: &mut ReorderStats) {
        self.heard = now;
        let seq = batch.seq;
        if seq < self.next || self.held.contains_key(&seq) {
            stats.duplicates += 1;
            return;
        }
        stats.received += 1;
        let mut missing = None;
        if seq >= self.top {
            self.holes.open(self.top, seq, now);
            self.top = seq + 1;
        } else if let Some(filled) = self.holes.fill(seq) {
            stats.recovered += 1;
            missing = Some(now.saturating_duration_since(filled.since));
            if let Some(asked) = filled.asked.filter(|_| batch.has(FLAG_RESENT)) {
                self.trip = Some(now.saturating_duration_since(asked));
            }
        }
        self.reach = self.reach.max(batch.end());
        self.held_slots += usize::from(batch.runs.slots());
        self.held.insert(seq, (batch, missing));
    }

    /// Takes the last measure of the way to the worker and back.
    pub(super) fn take_trip(&mut self) -> Option<Duration> {
        self.trip.take()
    }

    /// Takes the next batch, or what was given up in its place.
    pub(super) fn take(&mut self) -> Option<Next> {
        if let Some((batch, missing)) = self.held.remove(&self.next) {
            self.next += 1;
            self.held_slots -= usize::from(batch.runs.slots());
            return Some(Next::Batch(batch, missing));
        }
        let (to, reason) = self.holes.take_given_up(self.next)?;
        Some(Next::Lost(to, reason))
    }

    /// Leaves out everything before the first batch that is held, and so many
    /// slots of that one.
    pub(super) fn skip(&mut self, slots: u8) {
        let Some(mut first) = self.held.first_entry() else { return };
        let seq = *first.key();
        self.held_slots -= usize::from(slots);
        if slots < first.get().0.runs.slots() {
            first.get_mut().0.skip(slots);
            self.next = seq;
        } else {
            first.remove();
            self.next = seq + 1;
        }
        self.holes.forget(seq);
    }

    /// Position of a batch that is held.
    pub(super) fn position(&self, seq: u64) -> Option<u64> {
        self.held.get(&seq).map(|(batch, _)| batch.pos)
    }

    /// The first batch that is held.
    pub(super) fn first(&self) -> Option<&Batch> {
        self.held.values().next().map(|(batch, _)| batch)
    }

    /// Batches that are held.
    pub(super) fn held(&self) -> u64 {
        self.held.len() as u64
    }

    /// Waits no longer for batches from `seq` on.
    pub(super) fn give_up(&mut self, seq: u64, count: u64, reason: GapReason) {
        self.holes.give_up(seq, seq.saturating_add(count).min(self.top), reason);
    }

    /// Waits no longer for them from some time on.
    pub(super) fn give_up_at(&mut self, seq: u64, count: u64, reason: GapReason, at: Instant) {
        self.holes.give_up_at(seq, seq.saturating_add(count).min(self.top), reason, at);
    }

    /// Notes why they do not come.
    pub(super) fn excuse(&mut self, seq: u64, count: u64, reason: GapReason) {
        self.holes.excuse(seq, seq.saturating_add(count).min(self.top), reason);
    }

    /// Has them looked for on disk.
    pub(super) fn look_elsewhere(&mut self, seq: u64, count: u64, reason: Option<GapReason>) {
        self.holes.look_elsewhere(seq, seq.saturating_add(count).min(self.top), reason);
    }

    /// What is to be looked for on disk now.
    pub(super) fn seek(&mut self) -> Option<(u64, u64)> {
        self.holes.seek()
    }

    /// It was looked for.
    pub(super) fn sought(&mut self, from: u64, to: u64) {
        self.holes.sought(from, to);
    }

    /// Until when any of these is of use.
    pub(super) fn useful_until(
        &self,
        ranges: &[(u64, u64)],
        config: &ReorderConfig,
    ) -> Option<Instant> {
        let until =
            |&(first, count)| self.holes.useful_until(first, first + count, config.deadline);
        ranges.iter().filter_map(until).max()
    }

    /// Waits for nothing any more.
    pub(super) fn give_up_all(&mut self, reason: GapReason) {
        self.holes.give_up(self.next, self.top, reason);
    }

    /// Gives up the beginning of a hole that spans too much.
    pub(super) fn bound_span(&mut self, config: &ReorderConfig) {
        let oldest = self.top.saturating_sub(config.max_slots as u64);
        self.holes.give_up(0, oldest, GapReason::Overflow);
    }

    /// Whether more is held than may be.
    pub(super) fn is_full(&self, config: &ReorderConfig) -> bool {
        self.held_slots > config.max_slots
    }

    /// Gives up the first hole; false where there is none.
    pub(super) fn give_up_first(&mut self) -> bool {
        let Some((from, to)) = self.holes.first() else { return false };
        self.holes.give_up(from, to, GapReason::Overflow);
        true
    }

    /// Gives up what was waited for long enough.
    pub(super) fn expire(&mut self, now: Instant, config: &ReorderConfig) {
        self.holes.expire(now, config.deadline);
    }

    /// Ranges `(seq, count)` to ask for now; they count as asked for.
    pub(super) fn ask(&mut self, now: Instant, config: &ReorderConfig) -> Vec<(u64, u64)> {
        let most = (NACK_MAX_RANGES, NACK_MAX_BATCHES);
        self.holes.ask(now, config.pace, config.deadline, most)
    }

    /// When something is to be asked for or given up.
    pub(super) fn deadline(&self, now: Instant, config: &ReorderConfig) -> Option<Instant> {
        self.holes.deadline(now, config.pace, config.deadline)
    }
}
