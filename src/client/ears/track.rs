//! One track as a listener follows it: its order, what was asked for, and
//! whether it still speaks.

use std::time::{Duration, Instant};

use super::heard::{Ending, Heard, ListenStats, Sounds};
use crate::{
    audio::{Batch, Delivery, FLAG_LAST, GapReason, Reorder, ReorderConfig},
    bus::messages::{MissingReason, NackReply, NackStatus},
    id::{RoomId, TrackId},
    limits,
};

/// While nothing may be asked, what is due is looked at this often.
const HOLD: Duration = Duration::from_millis(20);

/// What became of a NACK.
#[derive(Debug)]
pub(in crate::client) enum Answer {
    /// The worker that has the room says.
    Reply(NackReply),
    /// No worker is there.
    Nobody,
    /// It did not come in time, or cannot be read.
    Late,
}

/// Sequence numbers to ask for.
#[derive(Debug, Clone, PartialEq)]
pub(in crate::client) struct Question {
    /// The epoch they belong to.
    pub(in crate::client) epoch: u64,
    /// `(first, count)`.
    pub(in crate::client) ranges: Vec<(u64, u64)>,
    /// Whether they may never have been sent.
    pub(in crate::client) probe: bool,
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
    /// One after the highest number seen in the epoch.
    top: u64,
    /// When it was heard last.
    last: Instant,
    /// How long it may be silent before it is asked for more.
    patience: Duration,
    probe_at: Instant,
    probes: u32,
    asking: bool,
    /// Nothing is asked before.
    ask_from: Instant,
    /// NACKs in a row without an answer.
    unanswered: u32,
    pub(super) bad: u64,
    /// Where it stands in the queue of what is due.
    pub(super) due: Option<Instant>,
}

impl Track {
    /// A track of which nothing was heard yet; `whole` where it cannot have
    /// begun before the listener did.
    pub(super) fn new(
        room: RoomId,
        track: TrackId,
        whole: bool,
        deadline: Duration,
        now: Instant,
    ) -> Self {
        let config = ReorderConfig {
            deadline,
            joined_within: if whole { u64::MAX } else { 0 },
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
            top: 0,
            last: now,
            patience: limits::LISTEN_PROBE,
            probe_at: now,
            probes: 0,
            asking: false,
            ask_from: now,
            unanswered: 0,
            bad: 0,
            due: None,
        }
    }

    /// Whether it may be forgotten to make room for another, and since when.
    pub(super) fn idle(&self) -> Option<Instant> {
        (!self.open).then_some(self.last)
    }

    pub(super) fn batch(&mut self, batch: Batch, now: Instant, out: &mut Out<'_>) {
        let known = self.reorder.epoch();
        if known.is_none_or(|epoch| batch.epoch > epoch) {
            self.top = 0;
            self.user.clone_from(&batch.user);
            self.role.clone_from(&batch.role);
            (self.ask_from, self.unanswered) = (now, 0);
        }
        if known.is_none_or(|epoch| batch.epoch >= epoch) {
            self.top = self.top.max(batch.seq + 1);
            self.patience = limits::LISTEN_PROBE.max(3 * slots_time(batch.runs.slots()));
            self.spoke(now);
        }
        let deliveries = self.reorder.insert(batch, now);
        self.pass(deliveries, out);
    }

    /// Something of it was heard, or it could not be heard: the silence begins
    /// anew.
    pub(super) fn spoke(&mut self, now: Instant) {
        self.last = now;
        self.probe_at = now + self.patience;
        self.probes = 0;
    }

    /// Somebody says that it ends: whether all of it came is asked soon.
    pub(super) fn closing(&mut self, now: Instant) {
        self.probe_at = self.probe_at.min(now + limits::HEARTBEAT_TRACK);
    }

    /// Takes the answer to a question.
    pub(super) fn answer(
        &mut self,
        asked: &Question,
        answer: &Answer,
        now: Instant,
        out: &mut Out<'_>,
    ) {
        self.asking = false;
        match answer {
            Answer::Reply(reply) => {
                self.unanswered = 0;
                self.reply(asked, reply, now, out);
            }
            // Nobody may mean that the worker is not back yet, as we are.
            Answer::Nobody | Answer::Late => {
                self.unanswered = (self.unanswered + 1).min(8);
                let wait = limits::NACK_RETRY * 2_u32.pow(self.unanswered - 1);
                self.ask_from = now + wait.min(limits::NACK_RETRY_MAX);
            }
        }
    }

    fn reply(&mut self, asked: &Question, reply: &NackReply, now: Instant, out: &mut Out<'_>) {
        if reply.retry_after_ms > 0 {
            let wait = Duration::from_millis(reply.retry_after_ms);
            self.ask_from = now + wait.clamp(limits::NACK_RETRY, limits::NACK_RETRY_MAX);
        }
        let all = match reply.status {
            // A worker that was replaced and does not know it yet says nothing
            // about what its successor has.
            NackStatus::Epoch if reply.epoch.0 > asked.epoch => Some(GapReason::EpochChange),
            NackStatus::Unknown => Some(GapReason::Unknown),
            _ => None,
        };
        if asked.probe {
            // There is more than one NACK takes.
            if reply.held.is_some_and(|(_, last)| last >= self.top + limits::NACK_MAX_BATCHES) {
                self.probe_at = now + HOLD;
            }
            return;
        }
        if let Some(reason) = all {
            for &(first, count) in &asked.ranges {
                self.give_up(asked.epoch, first, count, reason, out);
            }
        }
        for (first, count, reason) in gone(&asked.ranges, &reply.missing) {
            self.give_up(asked.epoch, first, count, reason, out);
        }
    }

    fn give_up(&mut self, epoch: u64, seq: u64, count: u64, reason: GapReason, out: &mut Out<'_>) {
        let deliveries = self.reorder.unavailable(epoch, seq, count, reason);
        self.pass(deliveries, out);
    }

    /// Gives up what was waited for long enough, and notices that the track
    /// fell silent.
    pub(super) fn tick(&mut self, now: Instant, listening: bool, out: &mut Out<'_>) {
        let deliveries = self.reorder.tick(now);
        self.pass(deliveries, out);
        if listening && self.open && now >= self.last + limits::LISTEN_SILENT {
            self.close(Ending::Silent, out);
        }
    }

    /// Passes on what is held and says that this is all.
    pub(super) fn close(&mut self, ending: Ending, out: &mut Out<'_>) {
        let deliveries = self.reorder.finish();
        self.pass(deliveries, out);
        if self.open {
            self.open = false;
            out.say(self.heard(Sounds::Closed(ending)));
        }
    }

    /// What to ask for now, if anything.
    pub(super) fn question(&mut self, now: Instant) -> Option<Question> {
        if self.asking || now < self.ask_from {
            return None;
        }
        let epoch = self.reorder.epoch()?;
        let ranges = self.reorder.missing(now);
        let probe = ranges.is_empty();
        let ranges = if !probe {
            ranges
        } else if self.open && now >= self.probe_at {
            self.probes += 1;
            self.probe_at = now + self.patience * 2_u32.pow(self.probes.min(8));
            vec![(self.top, limits::NACK_MAX_BATCHES)]
        } else {
            return None;
        };
        self.asking = true;
        Some(Question { epoch, ranges, probe })
    }

    /// When [`Track::tick`] or [`Track::question`] has something to do.
    pub(super) fn deadline(&self, now: Instant, may_ask: bool, listening: bool) -> Option<Instant> {
        let held_off = now + if may_ask && !self.asking { Duration::ZERO } else { HOLD };
        let asks_from = held_off.max(self.ask_from.min(now + HOLD));
        let order = self.reorder.deadline(now).map(|at| at.max(asks_from));
        let silence = (self.open && listening)
            .then(|| self.probe_at.max(asks_from).min(self.last + limits::LISTEN_SILENT));
        order.into_iter().chain(silence).min()
    }

    fn pass(&mut self, deliveries: Vec<Delivery>, out: &mut Out<'_>) {
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
                    out.stats.frames += u64::from(delivered.batch.runs.slots());
                    let last = delivered.batch.has(FLAG_LAST);
                    out.say(self.heard(Sounds::Batch(delivered)));
                    if last {
                        self.open = false;
                        out.say(self.heard(Sounds::Closed(Ending::Last)));
                    }
                }
                Delivery::Gap(gap) => {
                    out.stats.gaps += 1;
                    out.say(self.heard(Sounds::Gap(gap)));
                }
            }
        }
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
}

impl Out<'_> {
    fn say(&mut self, heard: Heard) {
        self.outputs.push(super::Output::Heard(heard));
    }
}

fn slots_time(slots: u8) -> Duration {
    limits::FRAME * u32::from(slots)
}

/// What a worker will not send again, as far as it was asked for: nothing else
/// is given up on a stranger's word. What adjoins is one.
fn gone(asked: &[(u64, u64)], missing: &[(u64, u64, MissingReason)]) -> Vec<(u64, u64, GapReason)> {
    let mut gone: Vec<(u64, u64, GapReason)> = Vec::new();
    for &(first, count, reason) in missing.iter().take(limits::NACK_MAX_BATCHES as usize) {
        let reason = match reason {
            MissingReason::Evicted => GapReason::Evicted,
            MissingReason::Unknown => GapReason::Unknown,
            MissingReason::Spent => GapReason::Spent,
            MissingReason::Held | MissingReason::Throttled => continue,
        };
        let end = first.saturating_add(count);
        for &(from, many) in asked {
            let (from, to) = (from.max(first), (from + many).min(end));
            match gone.last_mut() {
                _ if from >= to => (),
                Some((start, length, why)) if *why == reason && *start + *length == from => {
                    *length += to - from;
                }
                _ => gone.push((from, to - from, reason)),
            }
        }
    }
    gone
}
