//! A listener's side of one track: brings batches into order, says which to ask
//! for again and when to give up. Asking, and what a consumer hears in place of
//! a gap, is left to others.
//!
//! Where a room is handed over, both workers publish the same time line under
//! two epochs for a moment. Then the old epoch is delivered until the new one
//! has what comes next, and the new one goes on from there: no slot twice, and
//! none left out that either of them has. An epoch whose worker is gone is not
//! waited for.

use std::time::{Duration, Instant};

use super::{
    batch::Batch,
    frame::FLAG_LAST,
    gaps::{Gap, GapReason, Pace},
    order::{Next, Order, ReorderConfig, ReorderStats},
};
use crate::limits::{FRAME, GAP_MAX, HANDOVER_MAX, HANDOVER_SILENT, PREROLL_WAIT};

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
    /// The batch; under a new epoch without the slots that the old one had.
    pub batch: Batch,
    /// Samples between the end of the batch delivered before and this one: 0
    /// where the positions run on, also for the first. Behind a gap this is
    /// its length.
    pub jump: i64,
    /// How long it was missing, where it was.
    pub missing: Option<Duration>,
}

/// An epoch that is to follow.
#[derive(Debug)]
struct Successor {
    order: Order,
    since: Instant,
    /// Whether it has more to say than that it hears nothing yet.
    begun: bool,
}

/// See the module. Each method that may complete something returns it, in
/// order.
#[derive(Debug)]
pub struct Reorder {
    config: ReorderConfig,
    /// The epoch listened to.
    current: Option<Order>,
    successor: Option<Successor>,
    /// The epoch listened to has said its last.
    over: bool,
    /// Position after the last delivered batch.
    end: Option<u64>,
    /// What lies before this was delivered under the epoch before.
    floor: Option<u64>,
    /// Where what is wanted begins, until something was delivered.
    begin: Option<u64>,
    stats: ReorderStats,
}

impl Reorder {
    /// A track of which nothing was heard yet.
    #[must_use]
    pub fn new(config: ReorderConfig) -> Self {
        Self {
            config,
            current: None,
            successor: None,
            over: false,
            end: None,
            floor: None,
            begin: None,
            stats: ReorderStats::default(),
        }
    }

    /// Takes in a batch, live or sent again.
    pub fn insert(&mut self, batch: Batch, now: Instant) -> Vec<Delivery> {
        let mut out = Vec::new();
        match self.epoch() {
            None => self.begin(&batch, now),
            Some(epoch) if batch.epoch > epoch => self.follow(&batch, now, &mut out),
            Some(_) => (),
        }
        let Self { current, successor, stats, .. } = self;
        let successor = successor.as_mut().map(|successor| &mut successor.order);
        if let Some(order) = successor.filter(|order| order.epoch == batch.epoch) {
            order.insert(batch, now, stats);
        } else if let Some(order) = current.as_mut().filter(|order| order.epoch == batch.epoch) {
            order.insert(batch, now, stats);
        } else {
            stats.stale_epoch += 1;
        }
        self.settle(now, &mut out);
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
        if let Some(order) = self.order(epoch) {
            order.give_up(seq, count, reason);
            self.advance(&mut out);
        }
        out
    }

    /// The worker said so, and what it sent before may be on its way until then.
    pub fn unavailable_at(
        &mut self,
        epoch: u64,
        (seq, count): (u64, u64),
        reason: GapReason,
        at: Instant,
    ) {
        if let Some(order) = self.order(epoch) {
            order.give_up_at(seq, count, reason, at);
        }
    }

    /// Notes why batches do not come, to be told if they never do.
    pub fn excuse(&mut self, epoch: u64, seq: u64, count: u64, reason: GapReason) {
        if let Some(order) = self.order(epoch) {
            order.excuse(seq, count, reason);
        }
    }

    /// Has batches looked for where they are recorded, once each, instead of
    /// giving them up for this reason; without one they are asked for again where
    /// they are not there. [`Reorder::seek`] says which.
    pub fn look_elsewhere(
        &mut self,
        epoch: u64,
        (seq, count): (u64, u64),
        reason: Option<GapReason>,
    ) -> Vec<Delivery> {
        let mut out = Vec::new();
        if let Some(order) = self.order(epoch) {
            order.look_elsewhere(seq, count, reason);
            self.advance(&mut out);
        }
        out
    }

    /// Batches of an epoch to look for in a recording now, as `(from, to)`.
    pub fn seek(&mut self, epoch: u64) -> Option<(u64, u64)> {
        self.order(epoch)?.seek()
    }

    /// They were looked for, and those that were there have been taken in.
    pub fn sought(&mut self, epoch: u64, (from, to): (u64, u64)) -> Vec<Delivery> {
        let mut out = Vec::new();
        if let Some(order) = self.order(epoch) {
            order.sought(from, to);
            self.advance(&mut out);
        }
        out
    }

    /// Leaves out what is missing before a batch that was taken in: the program
    /// could not follow, and goes on from there.
    pub fn catch_up(&mut self, epoch: u64, seq: u64) -> Vec<Delivery> {
        let mut out = Vec::new();
        for order in self.orders() {
            let to = if order.epoch < epoch { u64::MAX } else { seq };
            order.give_up(0, to, GapReason::TooSlow);
        }
        self.advance(&mut out);
        out
    }

    /// Gives up what was waited for long enough. Due at [`Reorder::deadline`].
    pub fn tick(&mut self, now: Instant) -> Vec<Delivery> {
        let mut out = Vec::new();
        let config = self.config;
        self.orders().for_each(|order| order.expire(now, &config));
        self.settle(now, &mut out);
        out
    }

    /// Delivers what is held and gives up what is missing: nothing more is
    /// waited for.
    pub fn finish(&mut self) -> Vec<Delivery> {
        let mut out = Vec::new();
        if self.successor.is_some() {
            self.cut(&mut out);
        }
        self.flush(GapReason::Closed, &mut out);
        out
    }

    /// Ranges `(seq, count)` of an epoch to ask for now, as many as one NACK
    /// takes; they count as asked for. To be called until it is empty.
    pub fn missing(&mut self, epoch: u64, now: Instant) -> Vec<(u64, u64)> {
        let config = self.config;
        let ranges = self.order(epoch).map_or_else(Vec::new, |order| order.ask(now, &config));
        self.stats.nacked += ranges.iter().map(|range| range.1).sum::<u64>();
        ranges
    }

    /// Until when any of these is of use.
    #[must_use]
    pub fn useful_until(&self, epoch: u64, ranges: &[(u64, u64)]) -> Option<Instant> {
        let successor = self.successor.as_ref().map(|successor| &successor.order);
        let mut orders = self.current.iter().chain(successor);
        orders.find(|order| order.epoch == epoch)?.useful_until(ranges, &self.config)
    }

    /// Asks at this pace from now on.
    pub fn set_pace(&mut self, pace: Pace) {
        self.config.pace = pace;
    }

    /// How long what was asked for took to come, as last measured.
    pub fn take_trip(&mut self) -> Option<Duration> {
        self.orders().filter_map(Order::take_trip).last()
    }

    /// When [`Reorder::missing`] or [`Reorder::tick`] has something to do next,
    /// `now` where it has already.
    #[must_use]
    pub fn deadline(&self, now: Instant) -> Option<Instant> {
        let successor = self.successor.as_ref().map(|successor| &successor.order);
        let orders = self.current.iter().chain(successor);
        let asks = orders.filter_map(|order| order.deadline(now, &self.config));
        asks.chain(self.cut_at()).min()
    }

    /// The epoch listened to.
    #[must_use]
    pub fn epoch(&self) -> Option<u64> {
        self.current.as_ref().map(|order| order.epoch)
    }

    /// The epoch that is to follow it, while both are held.
    #[must_use]
    pub fn successor(&self) -> Option<u64> {
        self.successor.as_ref().map(|successor| successor.order.epoch)
    }

    /// What happened so far.
    #[must_use]
    pub fn stats(&self) -> ReorderStats {
        self.stats
    }

    fn orders(&mut self) -> impl Iterator<Item = &mut Order> {
        let successor = self.successor.as_mut().map(|successor| &mut successor.order);
        self.current.iter_mut().chain(successor)
    }

    fn order(&mut self, epoch: u64) -> Option<&mut Order> {
        self.orders().find(|order| order.epoch == epoch)
    }

    /// Turns to the first epoch that is heard.
    fn begin(&mut self, batch: &Batch, now: Instant) {
        let first = if batch.seq > self.config.joined_within { batch.seq } else { 0 };
        if self.config.preroll.is_zero() || first < batch.seq {
            self.current = Some(Order::new(batch.epoch, first, now));
            return;
        }
        // How many batches that is, this one tells by its length alone: what is
        // too many lies before the beginning and is left out.
        let slots = (self.config.preroll.as_millis() / FRAME.as_millis()) as u64;
        let batches = slots.div_ceil(u64::from(batch.runs.slots())) * 9 / 8 + 1;
        let mut order = Order::new(batch.epoch, first.saturating_sub(batches), now);
        let waited = self.config.deadline.saturating_sub(PREROLL_WAIT);
        order.want_before(batch.seq, now.checked_sub(waited).unwrap_or(now));
        self.current = Some(order);
        self.begin = Some(batch.pos.saturating_sub(batch.format.samples(self.config.preroll)));
    }

    /// An epoch above the one listened to is heard, perhaps for the first time.
    fn follow(&mut self, batch: &Batch, now: Instant, out: &mut Vec<Delivery>) {
        match self.successor() {
            Some(known) if batch.epoch <= known => return,
            // Whoever was to follow was replaced before it came to that.
            Some(_) => self.drop_successor(),
            None => (),
        }
        let order = Order::new(batch.epoch, 0, now);
        let successor = Successor { order, since: now, begun: false };
        if self.lives(batch, now) {
            self.successor = Some(successor);
        } else {
            self.flush(GapReason::EpochChange, out);
            self.successor = Some(successor);
            self.turn();
        }
    }

    /// Whether the epoch listened to may still have something that the one of
    /// this batch has not. Who was heard just before this on the time line
    /// lives, even where we were held up and heard neither. Its silence counts
    /// from here: a batch that is missing just now must not make it seem gone.
    fn lives(&mut self, batch: &Batch, now: Instant) -> bool {
        let may = self.config.one_line && !self.over;
        let Some(current) = self.current.as_mut().filter(|_| may) else { return false };
        let heard = now < current.heard + HANDOVER_SILENT;
        let near = batch.pos <= current.reach + batch.format.samples(HANDOVER_SILENT)
            && current.reach <= batch.pos + batch.format.samples(GAP_MAX);
        if heard || near {
            current.heard = now;
        }
        heard || near
    }

    /// When the successor takes over, come what may.
    fn cut_at(&self) -> Option<Instant> {
        let longest = self.successor.as_ref()?.since + HANDOVER_MAX;
        Some(longest.min(self.current.as_ref()?.heard + HANDOVER_SILENT))
    }

    /// Brings everything in order after something has happened.
    fn settle(&mut self, now: Instant, out: &mut Vec<Delivery>) {
        let config = self.config;
        self.orders().for_each(|order| order.bound_span(&config));
        self.advance(out);
        let full = self.successor.as_ref().is_some_and(|it| it.order.is_full(&config));
        if full || self.cut_at().is_some_and(|at| at <= now) {
            self.cut(out);
            self.advance(out);
        }
        while let Some(current) = &mut self.current
            && current.is_full(&config)
            && current.give_up_first()
        {
            self.advance(out);
        }
    }

    /// Delivers as far as the sequence is known, and turns to the successor as
    /// soon as that has what comes next.
    fn advance(&mut self, out: &mut Vec<Delivery>) {
        loop {
            if self.successor.is_some() && (self.over || self.is_reached()) {
                self.cut(out);
            }
            match self.current.as_mut().and_then(Order::take) {
                Some(Next::Batch(batch, missing)) => self.deliver(batch, missing, out),
                Some(Next::Lost(to, reason)) => self.declare(to, reason, out),
                None => return,
            }
        }
    }

    /// Whether the successor has what comes next. What it has from before that
    /// is left out, and what it lacks from before that is not asked for.
    fn is_reached(&mut self) -> bool {
        let (Some(end), Some(successor)) = (self.end, &mut self.successor) else { return false };
        while let Some(first) = successor.order.first() {
            let slots = first.runs.slots();
            let silent = if successor.begun { 0 } else { first.runs.unknown_slots() };
            if silent.max(slots_before(first, end)) == slots {
                successor.order.skip(slots);
                continue;
            }
            let slot = first.format.slot_samples();
            let reached = first.pos + u64::from(silent) * slot <= end + slot / 2;
            successor.begun = true;
            if reached || silent > 0 {
                successor.order.skip(silent);
            }
            return reached;
        }
        false
    }

    /// Turns to the successor now. What the epoch before still has is delivered
    /// up to where the successor begins.
    fn cut(&mut self, out: &mut Vec<Delivery>) {
        if let Some(current) = &mut self.current {
            current.give_up_all(GapReason::EpochChange);
        }
        while !self.is_reached() && !self.is_passed() {
            match self.current.as_mut().and_then(Order::take) {
                Some(Next::Batch(batch, missing)) => self.deliver(batch, missing, out),
                Some(Next::Lost(to, reason)) => self.declare(to, reason, out),
                None => break,
            }
        }
        self.turn();
    }

    /// Whether all that the current epoch holds lies behind the successor's
    /// beginning.
    fn is_passed(&self) -> bool {
        let begin = self.successor.as_ref().and_then(|successor| successor.order.first());
        let first = self.current.as_ref().and_then(Order::first);
        begin.zip(first).is_some_and(|(begin, first)| first.pos >= begin.pos)
    }

    /// Leaves the epoch listened to for its successor.
    fn turn(&mut self) {
        let Some(Successor { order, .. }) = self.successor.take() else { return };
        if let Some(before) = self.current.replace(order) {
            self.stats.stale_epoch += before.held();
        }
        self.over = false;
        self.floor = self.end.filter(|_| self.config.one_line);
    }

    fn drop_successor(&mut self) {
        if let Some(successor) = self.successor.take() {
            self.stats.stale_epoch += successor.order.held();
        }
    }

    /// Delivers all that is held, with gaps between.
    fn flush(&mut self, reason: GapReason, out: &mut Vec<Delivery>) {
        if let Some(current) = &mut self.current {
            current.give_up_all(reason);
        }
        self.advance(out);
    }

    /// Delivers a batch, without what was delivered under the epoch before.
    fn deliver(&mut self, mut batch: Batch, missing: Option<Duration>, out: &mut Vec<Delivery>) {
        self.over |= batch.has(FLAG_LAST);
        if let Some(begin) = self.begin {
            let early = slots_before(&batch, begin);
            if early >= batch.runs.slots() {
                return;
            }
            self.begin = None;
            batch.skip(early);
        }
        if let Some(floor) = self.floor {
            let passed = slots_before(&batch, floor);
            // So far back it is another time line.
            let same = floor.saturating_sub(batch.pos) <= batch.format.samples(GAP_MAX);
            if same && passed >= batch.runs.slots() {
                return;
            }
            self.floor = None;
            if same {
                batch.skip(passed);
            }
        }
        let jump = self.end.map_or(0, |end| batch.pos as i64 - end as i64);
        self.end = Some(batch.end());
        out.push(Delivery::Batch(Delivered { batch, jump, missing }));
    }

    /// Declares what is missing up to `to` a gap, one with the gap before it
    /// where they meet.
    fn declare(&mut self, to: u64, reason: GapReason, out: &mut Vec<Delivery>) {
        let Some(current) = &mut self.current else { return };
        let (from, epoch) = (std::mem::replace(&mut current.next, to), current.epoch);
        if self.begin.is_some() && self.end.is_none() {
            // Nobody has what came so long before: the beginning is here.
            return;
        }
        let positions = self.end.zip(current.position(to));
        self.stats.lost += to - from;
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

/// Slots of a batch of which more than half lies before a position.
fn slots_before(batch: &Batch, position: u64) -> u8 {
    let slot = batch.format.slot_samples();
    let before = position.saturating_sub(batch.pos + slot / 2).div_ceil(slot);
    before.min(batch.runs.slots().into()) as u8
}
