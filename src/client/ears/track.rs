//! One track as a listener follows it: its order, what was asked for, and
//! whether it still speaks. While its room is handed over it has two epochs, and
//! both are asked.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use super::{
    HOLD,
    heard::{Ending, Heard, ListenStats, Sounds},
    inquiry::{Inquiry, Question},
    pace::Trips,
};
use crate::{
    audio::{Batch, Delivery, FLAG_LAST, FLAG_RESENT, GapReason, Reorder, ReorderConfig},
    bus::messages::{MissingReason, NackReply, NackStatus},
    id::{RoomId, TrackId},
    limits,
};

/// What is wanted of a track.
#[derive(Debug, Clone, Copy)]
pub(super) struct Wish {
    /// How long what is missing is waited for.
    pub(super) deadline: Duration,
    /// A first batch with at most this number is not the first.
    pub(super) joined_within: u64,
    /// So much of what came before it is wanted.
    pub(super) preroll: Duration,
}

/// Batches to look for in a recording: `from..to` of an epoch.
#[derive(Debug, Clone, PartialEq)]
pub struct Search {
    /// The epoch.
    pub epoch: u64,
    /// The first that is wanted.
    pub from: u64,
    /// One after the last.
    pub to: u64,
    /// When the first of them was captured at the earliest, µs since the Unix
    /// epoch.
    pub since_us: i64,
}

/// What became of a NACK.
#[derive(Debug)]
pub enum Answer {
    /// The worker that has the room says.
    Reply(NackReply),
    /// No worker is there.
    Nobody,
    /// It did not come in time, or cannot be read.
    Late,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Track {
    pub(super) room: RoomId,
    pub(super) track: TrackId,
    reorder: Reorder,
    user: String,
    role: String,
    /// Whether the program was told that it opened.
    open: bool,
    /// The epoch of what was passed on last.
    epoch: Option<u64>,
    /// What is asked, by epoch: the one listened to and the one to follow.
    inquiries: BTreeMap<u64, Inquiry>,
    /// When it was heard last.
    last: Instant,
    /// How long it may be silent before it is asked for more.
    patience: Duration,
    /// It has said its last, and is closed then unless it goes on under another
    /// epoch.
    ends_at: Option<Instant>,
    /// Whether it is recorded, as far as its last batch shows it.
    recorded: bool,
    /// The program did not follow; it goes on with the next live batch.
    pub(super) behind: bool,
    /// When what was passed on last ends, or what came first begins.
    time_us: i64,
    pub(super) bad: u64,
    /// Where it stands in the queue of what is due.
    pub(super) due: Option<Instant>,
}

impl Track {
    /// A track of which nothing was heard yet.
    pub(super) fn new(room: RoomId, track: TrackId, wish: Wish, now: Instant) -> Self {
        let config = ReorderConfig {
            deadline: wish.deadline,
            joined_within: wish.joined_within,
            preroll: wish.preroll,
            ..ReorderConfig::default()
        };
        Self {
            room,
            track,
            reorder: Reorder::new(config),
            user: String::new(),
            role: String::new(),
            open: false,
            epoch: None,
            inquiries: BTreeMap::new(),
            last: now,
            patience: limits::LISTEN_PROBE,
            ends_at: None,
            recorded: false,
            behind: false,
            time_us: 0,
            bad: 0,
            due: None,
        }
    }

    /// Whether it may be forgotten to make room for another, and since when.
    pub(super) fn idle(&self) -> Option<Instant> {
        (!self.open).then_some(self.last)
    }

    /// Takes in a batch; `recorded` where that shows whether the track is.
    pub(super) fn batch(
        &mut self,
        batch: Batch,
        recorded: Option<bool>,
        now: Instant,
        out: &mut Out<'_>,
    ) {
        let (epoch, seq) = (batch.epoch, batch.seq);
        self.recorded = recorded.unwrap_or(self.recorded);
        if self.reorder.epoch().is_none() {
            self.time_us = batch.time;
        }
        let lives = !batch.has(FLAG_RESENT);
        let newest = self.reorder.successor().max(self.reorder.epoch());
        let follows = newest.is_some_and(|newest| epoch > newest);
        if follows || newest.is_none() {
            self.user.clone_from(&batch.user);
            self.role.clone_from(&batch.role);
            self.ends_at = None;
        }
        if newest.is_none_or(|_| self.reorder.epoch().is_some_and(|known| epoch >= known)) {
            self.patience = limits::LISTEN_PROBE.max(3 * slots_time(batch.runs.slots()));
            self.last = now;
        }
        let deliveries = self.reorder.insert(batch, now);
        self.pass(deliveries, now, out);
        if self.follows(epoch) {
            let patience = self.patience_of(epoch);
            let inquiry = self.inquiries.entry(epoch).or_insert_with(|| Inquiry::new(now));
            inquiry.saw(seq, now, || out.random.f64());
            inquiry.spoke(now, patience);
        }
        if lives && std::mem::take(&mut self.behind) {
            let deliveries = self.reorder.catch_up(epoch, seq);
            self.pass(deliveries, now, out);
        }
        if follows && let Some(before) = self.reorder.epoch().filter(|it| *it != epoch) {
            // What the epoch before has said last, and nobody heard.
            self.inquiries.entry(before).and_modify(|inquiry| inquiry.probe_by(now));
        }
    }

    fn follows(&self, epoch: u64) -> bool {
        [self.reorder.epoch(), self.reorder.successor()].contains(&Some(epoch))
    }

    /// How long an epoch may be silent before it is asked for more. One that is
    /// about to end has no time to lose.
    fn patience_of(&self, epoch: u64) -> Duration {
        let leaves = self.reorder.successor().is_some_and(|successor| successor != epoch);
        if leaves { limits::HEARTBEAT_TRACK } else { self.patience }
    }

    /// Something of it was heard, or it could not be heard: the silence begins
    /// anew.
    pub(super) fn spoke(&mut self, now: Instant) {
        self.last = now;
        for inquiry in self.inquiries.values_mut() {
            inquiry.spoke(now, self.patience);
        }
    }

    /// Somebody says that it ends: whether all of it came is asked soon.
    pub(super) fn closing(&mut self, now: Instant) {
        for inquiry in self.inquiries.values_mut() {
            inquiry.probe_by(now + limits::HEARTBEAT_TRACK);
        }
    }

    /// Takes the answer to a question.
    pub(super) fn answer(
        &mut self,
        asked: &Question,
        answer: &Answer,
        now: Instant,
        out: &mut Out<'_>,
    ) {
        // An epoch that was left has nothing to say any more.
        let Some(inquiry) = self.inquiries.get_mut(&asked.epoch) else { return };
        match answer {
            Answer::Reply(reply) => {
                inquiry.answered(reply, out.trips.pace(), now);
                if !asked.probe {
                    self.reply(asked, reply, now, out);
                } else if let Some((_, last)) = reply.held
                    && reply.epoch.0 == asked.epoch
                {
                    inquiry.has_up_to(last, now);
                }
            }
            Answer::Late => inquiry.late(),
            Answer::Nobody => {
                inquiry.unanswered(now);
                // What the worker has taken with it may be recorded.
                if self.recorded && out.recording && !asked.probe {
                    for &range in &asked.ranges {
                        let said = self.reorder.look_elsewhere(asked.epoch, range, None);
                        self.pass(said, now, out);
                    }
                }
            }
        }
    }

    fn reply(&mut self, asked: &Question, reply: &NackReply, now: Instant, out: &mut Out<'_>) {
        // While a room is handed over two workers hear what is asked, and the
        // one that has it not may be the first to answer.
        let alone = now >= self.last + limits::HANDOVER_SILENT;
        let all = match reply.status {
            // A worker that was replaced and does not know it yet says nothing
            // about what its successor has.
            NackStatus::Epoch if reply.epoch.0 > asked.epoch => Some(GapReason::EpochChange),
            NackStatus::Unknown => Some(GapReason::Unknown),
            _ => None,
        };
        if let Some(reason) = all.filter(|_| alone) {
            for &(first, count) in &asked.ranges {
                self.give_up(asked.epoch, first, count, reason, now, out);
            }
        }
        for (first, count, reason) in refused(&asked.ranges, &reply.missing) {
            match reason {
                MissingReason::Evicted => {
                    self.give_up(asked.epoch, first, count, GapReason::Evicted, now, out);
                }
                MissingReason::Unknown => {
                    self.give_up(asked.epoch, first, count, GapReason::Unknown, now, out);
                }
                MissingReason::Spent => {
                    self.give_up(asked.epoch, first, count, GapReason::Spent, now, out);
                }
                MissingReason::Throttled => {
                    self.reorder.excuse(asked.epoch, first, count, GapReason::Throttled);
                }
                MissingReason::Held | MissingReason::Other => (),
            }
        }
    }

    fn give_up(
        &mut self,
        epoch: u64,
        seq: u64,
        count: u64,
        reason: GapReason,
        now: Instant,
        out: &mut Out<'_>,
    ) {
        let deliveries = if self.recorded && out.recording {
            self.reorder.look_elsewhere(epoch, (seq, count), Some(reason))
        } else if reason == GapReason::Spent {
            // The last of those that were sent may be on its way.
            let at = now + out.trips.pace().retry;
            self.reorder.unavailable_at(epoch, (seq, count), reason, at);
            Vec::new()
        } else {
            self.reorder.unavailable(epoch, seq, count, reason)
        };
        self.pass(deliveries, now, out);
    }

    /// What to look for in a recording now, if anything. To be called until there
    /// is nothing.
    pub(super) fn search(&mut self) -> Option<Search> {
        let epochs = [self.reorder.epoch(), self.reorder.successor()];
        epochs.into_iter().flatten().find_map(|epoch| {
            let (from, to) = self.reorder.seek(epoch)?;
            let second = 1_000_000;
            // A batch is a second at most; clocks may differ.
            let before = if self.epoch.is_some() { 0 } else { (to - from) as i64 * second };
            let since_us = self.time_us.saturating_sub(before).saturating_sub(10 * second).max(0);
            Some(Search { epoch, from, to, since_us })
        })
    }

    /// It was looked for, and what was found has been taken in.
    pub(super) fn searched(&mut self, search: &Search, now: Instant, out: &mut Out<'_>) {
        let deliveries = self.reorder.sought(search.epoch, (search.from, search.to));
        self.pass(deliveries, now, out);
    }

    /// Asks at this pace from now on.
    pub(super) fn pace(&mut self, trips: &mut Trips) {
        if let Some(trip) = self.reorder.take_trip() {
            trips.measure(trip);
        }
        self.reorder.set_pace(trips.pace());
    }

    /// How long what is asked for is of use.
    pub(super) fn useful_for(&self, asked: &Question, now: Instant) -> Duration {
        let until = self.reorder.useful_until(asked.epoch, &asked.ranges);
        until.map_or(Duration::ZERO, |until| until.saturating_duration_since(now))
    }

    /// Gives up what was waited for long enough, and notices that the track
    /// has ended or fell silent.
    pub(super) fn tick(&mut self, now: Instant, listening: bool, out: &mut Out<'_>) {
        let deliveries = self.reorder.tick(now);
        self.pass(deliveries, now, out);
        if listening && self.ends_at.is_some_and(|at| at <= now) {
            self.close(Ending::Last, now, out);
        } else if listening && self.open && now >= self.last + limits::LISTEN_SILENT {
            self.close(Ending::Silent, now, out);
        }
    }

    /// Passes on what is held and says that this is all.
    pub(super) fn close(&mut self, ending: Ending, now: Instant, out: &mut Out<'_>) {
        let deliveries = self.reorder.finish();
        self.pass(deliveries, now, out);
        let last = self.ends_at.take().is_some();
        if self.open {
            self.open = false;
            out.say(self.heard(Sounds::Closed(if last { Ending::Last } else { ending })));
        }
    }

    /// What to ask for now, if anything. To be called until there is nothing.
    pub(super) fn question(&mut self, now: Instant) -> Option<Question> {
        let epochs = [self.reorder.epoch(), self.reorder.successor()];
        epochs.into_iter().flatten().find_map(|epoch| self.question_of(epoch, now))
    }

    fn question_of(&mut self, epoch: u64, now: Instant) -> Option<Question> {
        let patience = self.patience_of(epoch);
        let inquiry = self.inquiries.get_mut(&epoch).filter(|inquiry| inquiry.may_ask(now))?;
        let mut ranges = self.reorder.missing(epoch, now);
        let probe = ranges.is_empty();
        if probe {
            let speaks = self.open && self.ends_at.is_none();
            ranges.extend(inquiry.probe(now, patience).filter(|_| speaks));
        }
        inquiry.asking = !ranges.is_empty();
        inquiry.asking.then_some(Question { epoch, ranges, probe })
    }

    /// When [`Track::tick`] or [`Track::question`] has something to do.
    pub(super) fn deadline(&self, now: Instant, may_ask: bool, listening: bool) -> Option<Instant> {
        let held_off = now + if may_ask { Duration::ZERO } else { HOLD };
        let asks = self.inquiries.values().map(|inquiry| inquiry.due(now));
        let asks_from = asks.clone().map(|(_, from)| from).fold(held_off, Instant::max);
        let order = self.reorder.deadline(now).map(|at| at.max(asks_from));
        let probe = asks.map(|(at, _)| at).min();
        let silence = (self.open && listening && self.ends_at.is_none()).then(|| {
            let silent = self.last + limits::LISTEN_SILENT;
            probe.map_or(silent, |at| at.max(asks_from).min(silent))
        });
        let ends_at = self.ends_at.filter(|_| listening);
        order.into_iter().chain(silence).chain(ends_at).min()
    }

    fn pass(&mut self, deliveries: Vec<Delivery>, now: Instant, out: &mut Out<'_>) {
        for delivery in deliveries {
            let epoch = match &delivery {
                Delivery::Batch(delivered) => delivered.batch.epoch,
                Delivery::Gap(gap) => gap.epoch,
            };
            match self.epoch.replace(epoch) {
                Some(from) if self.open && from != epoch => {
                    out.say(self.heard(Sounds::Epoch { from, to: epoch }));
                }
                _ => (),
            }
            if !self.open {
                self.open = true;
                let (user, role) = (self.user.clone(), self.role.clone());
                out.say(self.heard(Sounds::Opened { epoch, user, role }));
            }
            match delivery {
                Delivery::Batch(delivered) => {
                    out.stats.batches += 1;
                    let slots = delivered.batch.runs.slots();
                    out.stats.frames += u64::from(slots);
                    self.time_us = delivered.batch.time + slots_time(slots).as_micros() as i64;
                    let last = delivered.batch.has(FLAG_LAST);
                    out.say(self.heard(Sounds::Batch(delivered)));
                    let goes_on = self.reorder.epoch() != Some(epoch);
                    self.ends_at = (last && !goes_on).then(|| now + limits::LISTEN_ENDED);
                }
                Delivery::Gap(gap) => {
                    out.stats.gaps += 1;
                    out.say(self.heard(Sounds::Gap(gap)));
                }
            }
        }
        let (known, next) = (self.reorder.epoch(), self.reorder.successor());
        self.inquiries.retain(|epoch, _| known == Some(*epoch) || next == Some(*epoch));
    }

    fn heard(&self, what: Sounds) -> Heard {
        Heard { room: self.room.clone(), track: self.track.clone(), what }
    }

    /// What its order has counted.
    pub(super) fn counted(&self) -> crate::audio::ReorderStats {
        self.reorder.stats()
    }
}

/// Where a track says what its program is to hear.
pub(super) struct Out<'a> {
    pub(super) outputs: &'a mut Vec<super::Output>,
    pub(super) stats: &'a mut ListenStats,
    /// How long the way to the worker is.
    pub(super) trips: &'a Trips,
    /// Whether a recording may be looked into.
    pub(super) recording: bool,
    pub(super) random: &'a mut fastrand::Rng,
}

impl Out<'_> {
    fn say(&mut self, heard: Heard) {
        self.outputs.push(super::Output::Heard(heard));
    }
}

fn slots_time(slots: u8) -> Duration {
    limits::FRAME * u32::from(slots)
}

/// What a worker does not send, as far as it was asked for: nothing else is
/// believed of a stranger's word. What adjoins is one.
fn refused(
    asked: &[(u64, u64)],
    missing: &[(u64, u64, MissingReason)],
) -> Vec<(u64, u64, MissingReason)> {
    let mut refused: Vec<(u64, u64, MissingReason)> = Vec::new();
    for &(first, count, reason) in missing.iter().take(limits::NACK_MAX_BATCHES as usize) {
        let end = first.saturating_add(count);
        for &(from, many) in asked {
            let (from, to) = (from.max(first), (from + many).min(end));
            match refused.last_mut() {
                _ if from >= to => (),
                Some((start, length, why)) if *why == reason && *start + *length == from => {
                    *length += to - from;
                }
                _ => refused.push((from, to - from, reason)),
            }
        }
    }
    refused
}
