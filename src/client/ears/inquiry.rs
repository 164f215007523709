//! What a listener asks about one epoch of a track: what to ask next, and when.

use std::time::{Duration, Instant};

use super::HOLD;
use crate::{audio::Pace, bus::messages::NackReply, limits};

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
pub(super) struct Inquiry {
    /// One after the highest number seen.
    top: u64,
    /// When it is asked for more than is known to be missing.
    probe_at: Instant,
    probes: u32,
    /// Whether a NACK waits for its answer.
    pub(super) asking: bool,
    /// Nothing is asked before.
    ask_from: Instant,
    /// NACKs in a row without an answer.
    unanswered: u32,
    /// Over how long the first NACK for a loss is to be spread: the worker says
    /// that many ask.
    spread: Duration,
}

impl Inquiry {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            top: 0,
            probe_at: now,
            probes: 0,
            asking: false,
            ask_from: now,
            unanswered: 0,
            spread: Duration::ZERO,
        }
    }

    /// This batch came. Where it shows a loss that many others may have seen, a
    /// part of the time goes by first over which they are to spread.
    pub(super) fn saw(&mut self, seq: u64, now: Instant, part: impl FnOnce() -> f64) {
        if seq > self.top && !self.spread.is_zero() {
            self.ask_from = self.ask_from.max(now + self.spread.mul_f64(part()));
        }
        self.top = self.top.max(seq + 1);
    }

    /// The epoch was heard, or could not be: its silence begins anew.
    pub(super) fn spoke(&mut self, now: Instant, patience: Duration) {
        (self.probe_at, self.probes) = (now + patience, 0);
    }

    /// It is to be asked for more at this time, if not sooner.
    pub(super) fn probe_by(&mut self, at: Instant) {
        self.probe_at = self.probe_at.min(at);
    }

    /// Whether something may be asked.
    pub(super) fn may_ask(&self, now: Instant) -> bool {
        !self.asking && now >= self.ask_from
    }

    /// Asks for more than is known to be missing, where that is due.
    pub(super) fn probe(&mut self, now: Instant, patience: Duration) -> Option<(u64, u64)> {
        if now < self.probe_at {
            return None;
        }
        self.probes += 1;
        self.probe_at = now + patience * 2_u32.pow(self.probes.min(8));
        Some((self.top, limits::NACK_MAX_BATCHES))
    }

    /// When [`Inquiry::probe`] is due, and from when on it may be asked.
    pub(super) fn due(&self, now: Instant) -> (Instant, Instant) {
        let free = now + if self.asking { HOLD } else { Duration::ZERO };
        (self.probe_at, free.max(self.ask_from.min(now + HOLD)))
    }

    /// The worker answered, and wants to be left in peace for so long.
    pub(super) fn answered(&mut self, reply: &NackReply, pace: Pace, now: Instant) {
        (self.asking, self.unanswered) = (false, 0);
        self.spread = Duration::from_millis(reply.spread_ms).min(limits::NACK_SPREAD_MAX);
        if reply.retry_after_ms > 0 {
            let wait = Duration::from_millis(reply.retry_after_ms);
            self.ask_from = now + wait.clamp(pace.retry, limits::NACK_RETRY_MAX);
        }
    }

    /// Nobody is there; it may be that the worker is not back yet, as we are.
    pub(super) fn unanswered(&mut self, now: Instant) {
        self.asking = false;
        self.unanswered = (self.unanswered + 1).min(8);
        let wait = limits::NACK_RETRY * 2_u32.pow(self.unanswered - 1);
        self.ask_from = now + wait.min(limits::NACK_RETRY_MAX);
    }

    /// The answer was lost, or is late: what is asked for has its own patience.
    pub(super) fn late(&mut self) {
        self.asking = false;
    }

    /// The worker has batches up to this one: is there more than a NACK takes?
    pub(super) fn has_up_to(&mut self, last: u64, now: Instant) {
        if last >= self.top + limits::NACK_MAX_BATCHES {
            self.probe_at = now + HOLD;
        }
    }
}
