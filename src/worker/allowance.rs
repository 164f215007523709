//! How many bytes are sent again: a share of what the worker publishes, saved up
//! over a while, so that whoever asks without end costs little and whoever was
//! cut off for a moment has all of it at once.

use std::{collections::VecDeque, time::Duration};

use crate::limits;

/// How often the past is noted, in µs.
const NOTE_US: i64 = 1_000_000;

/// What a worker has published: in all, and over the last
/// [`limits::RESEND_CREDIT`].
#[derive(Debug, Default)]
pub(super) struct Egress {
    bytes: u64,
    notes: VecDeque<(i64, u64)>,
}

impl Egress {
    /// So many bytes were published.
    pub(super) fn add(&mut self, bytes: u64, now_us: i64) {
        if self.notes.back().is_none_or(|(at, _)| now_us - at >= NOTE_US) {
            self.notes.push_back((now_us, self.bytes));
            let keep = limits::RESEND_CREDIT.as_micros() as i64;
            while self.notes.front().is_some_and(|(at, _)| now_us - at > keep) {
                self.notes.pop_front();
            }
        }
        self.bytes += bytes;
    }

    fn lately(&self) -> u64 {
        self.bytes - self.notes.front().map_or(self.bytes, |(_, bytes)| *bytes)
    }
}

/// What somebody may have of it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Terms {
    /// In percent.
    pub(super) share: u64,
    /// Bytes a second in any case.
    pub(super) per_s: u64,
    /// Bytes saved up in any case.
    pub(super) credit: u64,
}

/// Of one subscriber.
pub(super) const ONE: Terms = Terms {
    share: limits::RESEND_SHARE,
    per_s: limits::RESEND_BYTES_PER_S,
    credit: limits::RESEND_CREDIT_MIN,
};
/// Of all together.
pub(super) const ALL: Terms = Terms {
    share: limits::RESEND_ALL_SHARE,
    per_s: limits::RESEND_ALL_BYTES_PER_S,
    credit: limits::RESEND_ALL_CREDIT_MIN,
};

/// See the module.
#[derive(Debug)]
pub(super) struct Allowance {
    terms: Terms,
    /// Hundredths of bytes; below zero by what the last batch was too large.
    level: i64,
    seen: u64,
    at_us: i64,
}

impl Allowance {
    /// As if it had been saved up for as long as counts.
    pub(super) fn new(terms: Terms, egress: &Egress, now_us: i64) -> Self {
        let mut new = Self { terms, level: 0, seen: egress.bytes, at_us: now_us };
        new.level = new.most(egress);
        new
    }

    fn most(&self, egress: &Egress) -> i64 {
        let earned = egress.lately() * self.terms.share;
        i64::try_from(earned.max(self.terms.credit * 100)).unwrap_or(i64::MAX)
    }

    /// Adds what was earned since, and says whether something may be sent.
    pub(super) fn allows(&mut self, egress: &Egress, now_us: i64) -> bool {
        let passed = u64::try_from(now_us - self.at_us).unwrap_or(0);
        let by_time = passed.saturating_mul(self.terms.per_s) / 10_000;
        let earned = (egress.bytes - self.seen) * self.terms.share;
        let gain = i64::try_from(earned.max(by_time)).unwrap_or(i64::MAX);
        self.level = self.level.saturating_add(gain).min(self.most(egress));
        (self.seen, self.at_us) = (egress.bytes, now_us.max(self.at_us));
        self.level > 0
    }

    /// So many bytes were sent.
    pub(super) fn spend(&mut self, bytes: usize) {
        self.level = self.level.saturating_sub(i64::try_from(bytes * 100).unwrap_or(i64::MAX));
    }

    /// How long until something may be sent again, in ms, as it earns now.
    pub(super) fn wait_ms(&self, egress: &Egress) -> u64 {
        let over = limits::RESEND_CREDIT.max(Duration::from_secs(1)).as_secs();
        let per_s = (egress.lately() * self.terms.share / over).max(self.terms.per_s * 100);
        let missing = u64::try_from(1 - self.level).unwrap_or(0);
        (missing * 1_000).div_ceil(per_s)
    }

    /// When it was asked last.
    pub(super) fn asked_us(&self) -> i64 {
        self.at_us
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: i64 = 1_000_000;
    const BATCH: usize = 6_600;

    /// A worker of so many tracks, from second to second, and one that takes all
    /// it may; returns what it published and what was taken.
    fn play(tracks: u64, seconds: i64, from: i64) -> (u64, u64) {
        let (mut egress, mut greedy) = (Egress::default(), None);
        let (mut taken, mut now) = (0, 0);
        while now < seconds * S {
            egress.add(tracks * BATCH as u64, now);
            now += S / 5;
            if now < from * S {
                continue;
            }
            let greedy = greedy.get_or_insert_with(|| Allowance::new(ONE, &egress, now));
            while greedy.allows(&egress, now) {
                greedy.spend(BATCH);
                taken += BATCH as u64;
            }
        }
        (egress.bytes, taken)
    }

    #[test]
    fn one_without_end_has_its_share_and_no_more() {
        for (tracks, seconds, from) in [(100, 120, 0), (1_000, 300, 60), (100, 300, 60)] {
            let (sent, taken) = play(tracks, seconds, from);
            let percent = taken as f64 * 100.0 / sent as f64;
            assert!(percent < 10.0 && percent > 7.0, "{tracks} tracks: {percent} %");
        }
        // A small worker can spare one more track.
        let (sent, taken) = play(1, 120, 0);
        assert!(taken < sent + limits::RESEND_CREDIT_MIN + BATCH as u64);
    }

    #[test]
    fn one_that_was_cut_off_has_all_of_it_at_once() {
        let mut egress = Egress::default();
        (0..60).for_each(|second| egress.add(1_000 * 33_000, second * S));
        let mut one = Allowance::new(ONE, &egress, 60 * S);
        let mut taken = 0;
        while one.allows(&egress, 60 * S) {
            one.spend(BATCH);
            taken += BATCH;
        }
        // 4.8 s of a thousand tracks.
        assert!(taken > 4 * 33_000_000, "{taken}");
        let wait = one.wait_ms(&egress);
        assert!((1..=5).contains(&wait), "{wait} ms");
        egress.add(33_000_000, 61 * S);
        assert!(one.allows(&egress, 61 * S));
    }
}
