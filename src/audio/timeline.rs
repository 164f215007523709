//! The time line of a room in samples: where a wall clock time and where an
//! adapter's timestamp stand on it. What is placed there is `writer`'s.

use super::drift::Drift;
use crate::limits::{FRAME, GAP_MAX, PTS_BACKSTEP, STALL_GRACE, STEP_AGAIN, STEP_AHEAD};

/// `value` × `numerator` ÷ `denominator`, to the nearest, halves upwards.
fn scale(value: i64, numerator: i64, denominator: i64) -> i64 {
    // Some years of either fit into 64 bits, whose division is ten times as fast.
    let narrow = value.checked_mul(numerator * 2).and_then(|it| it.checked_add(denominator));
    if let Some(doubled) = narrow {
        return doubled.div_euclid(denominator * 2);
    }
    let (numerator, denominator) = (i128::from(numerator), i128::from(denominator));
    let scaled = (i128::from(value) * numerator * 2 + denominator).div_euclid(denominator * 2);
    i64::try_from(scaled).unwrap_or(if scaled < 0 { i64::MIN } else { i64::MAX })
}

/// Where a room's time line begins: position 0 is this moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Origin {
    /// µs since the Unix epoch.
    pub unix_us: i64,
    /// Samples in a second.
    pub rate: u32,
}

impl Origin {
    /// The position of a moment, negative before the origin.
    #[must_use]
    pub fn position(self, unix_us: i64) -> i64 {
        scale(unix_us.saturating_sub(self.unix_us), i64::from(self.rate), 1_000_000)
    }

    /// The moment of a position, in µs since the Unix epoch.
    #[must_use]
    pub fn time(self, position: u64) -> i64 {
        let position = i64::try_from(position).unwrap_or(i64::MAX);
        self.unix_us.saturating_add(scale(position, 1_000_000, i64::from(self.rate)))
    }
}

/// An adapter's clock on the room's time line.
///
/// All tracks of an adapter share one clock, so there is one anchor. Each
/// position is computed from the anchor, so rounding never adds up. The clock
/// may run a little faster or slower than the wall; how far it is behind at its
/// best is followed, so that a slow clock is not taken for a stall.
///
/// The anchor of a clock of its own moves where the clock steps
/// ([`Timeline::step`]) and, by whole slots of silence, where it drifts
/// ([`Timeline::correct`]). A clock of Unix time is the time line: two workers
/// must make the same of it, so it is followed wherever it goes.
#[derive(Debug, Clone)]
pub struct Timeline {
    rate: u32,
    /// The room's origin, where the clock shows Unix time.
    unix: Option<Origin>,
    /// Whether it is anchored there, and not where it was heard.
    anchored: bool,
    anchor_pts: i64,
    anchor_position: i64,
    /// The highest timestamp so far.
    latest_pts: i64,
    /// Where the room was when something was last heard.
    heard_at: i64,
    drift: Drift,
    /// When the clock last stepped, and by how much it was followed.
    stepped: Option<(i64, i64)>,
}

impl Timeline {
    /// A clock that shows `pts` µs when the room is at `position`.
    #[must_use]
    pub fn new(rate: u32, pts: i64, position: i64) -> Self {
        Self {
            rate,
            unix: None,
            anchored: false,
            anchor_pts: pts,
            anchor_position: position,
            latest_pts: pts,
            heard_at: position,
            drift: Drift::new(rate, position),
            stepped: None,
        }
    }

    /// A clock of Unix time, which shows `pts` µs when the room is at `wall`: the
    /// room's origin is its anchor, so that every worker places the same sound
    /// at the same sample. One that is more than 10 s off shows something else,
    /// and is anchored where it is heard.
    #[must_use]
    pub fn unix(origin: Origin, pts: i64, wall: i64) -> Self {
        let mut line = Self { unix: Some(origin), ..Self::new(origin.rate, pts, wall) };
        let off = origin.position(pts).saturating_sub(wall);
        if off.saturating_abs() <= line.samples(GAP_MAX) {
            line.anchored = true;
            (line.anchor_pts, line.anchor_position) = (origin.unix_us, 0);
        }
        line
    }

    /// Whether it shows Unix time as it says, or has not said so.
    #[must_use]
    pub fn keeps_its_word(&self) -> bool {
        self.anchored || self.unix.is_none()
    }

    /// The position of a timestamp, negative before the room's origin.
    #[must_use]
    pub fn position(&self, pts: i64) -> i64 {
        let since = pts.saturating_sub(self.anchor_pts);
        self.anchor_position.saturating_add(scale(since, i64::from(self.rate), 1_000_000))
    }

    /// Takes note that the adapter said something about `pts` when the room was
    /// at `wall`, and returns the position of `pts`.
    ///
    /// A timestamp more than 10 s ahead of the wall, or behind the latest one, is
    /// a step of the adapter's clock, which gets a new anchor here: nothing is
    /// captured in the future, and one pipe does not bring tracks so far apart.
    pub fn observe(&mut self, pts: i64, wall: i64) -> i64 {
        let mut position = self.position(pts);
        let ahead = self.is_ahead(position, wall);
        let back = self.latest_pts.saturating_sub(pts) > GAP_MAX.as_micros() as i64;
        if ahead || back {
            *self = match self.unix {
                Some(origin) => Self::unix(origin, pts, wall),
                None => Self::new(self.rate, pts, wall),
            };
            position = self.position(pts);
        }
        self.latest_pts = self.latest_pts.max(pts);
        self.heard_at = wall;
        self.drift.heard(position, wall);
        position
    }

    /// Whether a position is so far ahead of the wall that the clock must have
    /// stepped, whatever came before.
    #[must_use]
    pub fn is_ahead(&self, position: i64, wall: i64) -> bool {
        position.saturating_sub(wall) > self.samples(GAP_MAX)
    }

    /// Whether a timestamp shows that the clock has stepped: `due` is where the
    /// track it belongs to goes on, where it has begun. It does where it is more
    /// than 200 ms behind that, or where it leaves as large a hole and is ahead
    /// of the wall, which nothing captured can be.
    #[must_use]
    pub fn has_stepped(&self, pts: i64, wall: i64, due: Option<i64>) -> bool {
        if self.unix.is_some() {
            return false;
        }
        let position = self.position(pts);
        let most = self.samples(PTS_BACKSTEP);
        let usual = self.drift.delay().map_or(0, |delay| (-delay).max(0));
        let ahead = position.saturating_sub(wall).saturating_sub(usual);
        match due {
            Some(due) => {
                let by = position.saturating_sub(due);
                by < -most || (by > most && ahead > self.samples(STEP_AHEAD))
            }
            // One that begins may tell of what was before others came so far.
            None => {
                let back = self.latest_pts.saturating_sub(pts) > GAP_MAX.as_micros() as i64;
                ahead > most || back
            }
        }
    }

    /// Follows such a step, before [`Timeline::observe`] is told of the timestamp
    /// that shows it. `due` is as above, and `newest` how far any track has come:
    /// one that has not accounted for its time goes on where the others do. The
    /// timestamp lies `span` samples behind that. Returns the samples by which all
    /// positions moved.
    ///
    /// Two steps that undo each other within a second are of tracks that do not
    /// share a clock as they should: the second is left to its track.
    pub fn step(
        &mut self,
        pts: i64,
        wall: i64,
        due: Option<i64>,
        newest: Option<i64>,
        span: i64,
    ) -> Option<i64> {
        let frame = self.samples(FRAME);
        let latest = self.position(self.latest_pts).saturating_add(frame);
        let newest = newest.unwrap_or(latest);
        let goes_on = due.filter(|due| *due >= newest - 2 * frame).unwrap_or(newest);
        // Who said nothing for longer than a sweep or two has left that out.
        let silent = wall.saturating_sub(self.heard_at);
        let silent =
            if silent > 2 * self.samples(STALL_GRACE) { silent / frame * frame } else { 0 };
        let goes_on = goes_on.saturating_add(span).saturating_add(silent);
        let by = goes_on.saturating_sub(self.position(pts));
        let undone = self.stepped.is_some_and(|(at, before)| {
            wall.saturating_sub(at) < self.samples(STEP_AGAIN)
                && by.saturating_add(before).saturating_abs() <= self.samples(PTS_BACKSTEP)
        });
        if undone || by == 0 {
            return None;
        }
        self.anchor_position = self.anchor_position.saturating_add(by);
        self.latest_pts = pts;
        self.stepped = Some((wall, by));
        self.drift.stepped(wall);
        Some(by)
    }

    /// The clock read `pts` when it was asked while the room was at `wall`.
    pub fn read(&mut self, pts: i64, wall: i64) {
        self.drift.asked(self.position(pts), wall);
    }

    /// How far the clock has drifted.
    #[must_use]
    pub fn drift(&self) -> &Drift {
        &self.drift
    }

    /// Samples to add to the time line, or to leave out: see [`Drift::due`].
    #[must_use]
    pub fn correction(&self, wall: i64) -> i64 {
        if self.unix.is_some() { 0 } else { self.drift.due(wall) }
    }

    /// That was done to all tracks.
    pub fn correct(&mut self, by: i64, wall: i64) {
        self.anchor_position = self.anchor_position.saturating_add(by);
        self.drift.correct(by, wall);
    }

    /// How far the adapter must have come when the room is at `wall`: what is
    /// missing up to here is stalled. Its usual delay is granted, and 200 ms.
    #[must_use]
    pub fn expected(&self, wall: i64) -> i64 {
        let delay = self.drift.delay().unwrap_or(0);
        wall.saturating_sub(delay).saturating_sub(self.samples(STALL_GRACE))
    }

    fn samples(&self, time: std::time::Duration) -> i64 {
        // Limits are seconds, rates below 100 kHz.
        (time.as_secs() * u64::from(self.rate)) as i64
            + i64::from(time.subsec_millis()) * i64::from(self.rate) / 1_000
    }
}
