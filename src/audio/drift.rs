//! How far an adapter's clock has run away from the wall, from readings that
//! are late by an unknown time each, and when that is to be made good. Where the
//! clock stands on the time line is `timeline`'s.

use crate::limits::{DRIFT_SLOTS, DRIFT_TOLD_AFTER, SKEW_WINDOW};

/// The least of what was read within one to two windows: what is late, stalled
/// or in a burst reads higher and leaves no trace. Each with when it was read.
#[derive(Debug, Clone)]
struct Least {
    now: Option<(i64, i64)>,
    before: Option<(i64, i64)>,
    begin: i64,
}

impl Least {
    fn new(wall: i64) -> Self {
        Self { now: None, before: None, begin: wall }
    }

    /// Takes a reading in. True where a window has ended.
    fn read(&mut self, value: i64, wall: i64, window: i64) -> bool {
        let over = wall.saturating_sub(self.begin) >= window;
        if over {
            self.begin = wall;
            self.before = self.now.take();
        }
        let reading = (value, wall);
        self.now = Some(self.now.map_or(reading, |now| now.min(reading)));
        over
    }

    fn get(&self) -> Option<(i64, i64)> {
        self.now.into_iter().chain(self.before).min()
    }

    fn shift(&mut self, by: i64) {
        for value in [&mut self.now, &mut self.before].into_iter().flatten() {
            value.0 = value.0.saturating_add(by);
        }
    }
}

/// One way to read the clock: the least now, and what it was at first.
#[derive(Debug, Clone)]
struct Source {
    least: Least,
    /// The least of the first window.
    base: Option<(i64, i64)>,
}

impl Source {
    fn new(wall: i64) -> Self {
        Self { least: Least::new(wall), base: None }
    }

    fn read(&mut self, value: i64, wall: i64, window: i64) {
        let over = self.least.read(value, wall, window);
        if over && self.base.is_none() {
            self.base = self.least.before;
        }
    }

    /// How much higher it reads than at first, and the time between.
    fn moved(&self) -> Option<(i64, i64)> {
        let ((now, at), (base, since)) = (self.least.get()?, self.base?);
        Some((now.saturating_sub(base), at.saturating_sub(since)))
    }
}

/// See the module. All values are samples on the time line.
///
/// Two things tell of the clock. What the adapter says that it reads, when it is
/// asked, is late by nothing but the way there and back. Where it says nothing,
/// how late its audio comes has to do; a change of the SDK's own delay then
/// looks like drift.
#[derive(Debug, Clone)]
pub struct Drift {
    rate: u32,
    /// How far the clock, when asked, was ahead of the wall as the question was
    /// sent.
    asked: Source,
    /// How far what it says was behind the wall as it came.
    heard: Source,
    /// Samples added to the time line, less those left out, so far.
    corrected: i64,
    corrected_at: i64,
}

impl Drift {
    /// A clock that is read from here on.
    #[must_use]
    pub fn new(rate: u32, wall: i64) -> Self {
        Self {
            rate,
            asked: Source::new(wall),
            heard: Source::new(wall),
            corrected: 0,
            corrected_at: wall,
        }
    }

    /// The clock read so much when it was asked at `wall`.
    pub fn asked(&mut self, position: i64, wall: i64) {
        let window = self.window();
        self.asked.read(position.saturating_sub(wall), wall, window);
    }

    /// What belongs at `position` came at `wall`.
    pub fn heard(&mut self, position: i64, wall: i64) {
        let window = self.window();
        self.heard.read(wall.saturating_sub(position), wall, window);
    }

    /// How late what is said comes at best: the usual delay.
    #[must_use]
    pub fn delay(&self) -> Option<i64> {
        self.heard.least.get().map(|(delay, _)| delay)
    }

    /// The clock stepped and was followed: what was read last may be from
    /// before or after.
    pub(super) fn stepped(&mut self, wall: i64) {
        self.asked.least = Least::new(wall);
    }

    /// How far the clock has come ahead of the wall since it was first read, and
    /// how long that took.
    fn ahead(&self) -> Option<(i64, i64)> {
        match self.asked.base {
            Some(_) => self.asked.moved(),
            None => self.heard.moved().map(|(later, span)| (-later, span)),
        }
    }

    /// Samples to add to the time line of all tracks, or to leave out: a slot,
    /// once the clock is further off than that, and not again before it was
    /// read for a while.
    #[must_use]
    pub fn due(&self, wall: i64) -> i64 {
        let slot = i64::from(self.rate / super::SLOTS_PER_S);
        if wall.saturating_sub(self.corrected_at) < self.window() {
            return 0;
        }
        match self.ahead() {
            Some((ahead, _)) if ahead.abs() as f64 >= DRIFT_SLOTS * slot as f64 => {
                -ahead.signum() * slot
            }
            _ => 0,
        }
    }

    /// That was done.
    pub fn correct(&mut self, by: i64, wall: i64) {
        self.asked.least.shift(by);
        self.heard.least.shift(-by);
        self.corrected += by;
        self.corrected_at = wall;
    }

    /// Samples added so far, less those left out.
    #[must_use]
    pub fn corrected(&self) -> i64 {
        self.corrected
    }

    /// How much faster than the wall the clock runs, in parts per million; none
    /// where it was not read for long enough to say.
    #[must_use]
    pub fn ppm(&self) -> Option<f64> {
        let (ahead, span) = self.ahead()?;
        if span < samples(DRIFT_TOLD_AFTER, self.rate) {
            return None;
        }
        let ahead = ahead.saturating_sub(self.corrected);
        Some((ahead as f64 * 1e7 / span as f64).round() / 10.0)
    }

    fn window(&self) -> i64 {
        samples(SKEW_WINDOW, self.rate)
    }
}

/// Limits are seconds, rates below 100 kHz.
fn samples(time: std::time::Duration, rate: u32) -> i64 {
    (time.as_millis() * u128::from(rate) / 1_000) as i64
}
