//! The time line of a room in samples: where a wall clock time and where an
//! adapter's timestamp stand on it. What is placed there is `writer`'s.

use crate::limits::{GAP_MAX, SKEW_WINDOW, STALL_GRACE};

/// `value` × `numerator` ÷ `denominator`, to the nearest, halves upwards.
fn scale(value: i64, numerator: i64, denominator: i64) -> i64 {
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
    /// Most that the adapter was ahead of the wall (mostly negative), in this
    /// window and the one before.
    lead: Option<i64>,
    lead_before: Option<i64>,
    window_start: i64,
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
            lead: None,
            lead_before: None,
            window_start: position,
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
        let ahead = position.saturating_sub(wall) > self.samples(GAP_MAX);
        let back = self.latest_pts.saturating_sub(pts) > GAP_MAX.as_micros() as i64;
        if ahead || back {
            *self = match self.unix {
                Some(origin) => Self::unix(origin, pts, wall),
                None => Self::new(self.rate, pts, wall),
            };
            position = self.position(pts);
        }
        self.latest_pts = self.latest_pts.max(pts);
        let lead = position.saturating_sub(wall);
        if wall.saturating_sub(self.window_start) >= self.samples(SKEW_WINDOW) {
            self.window_start = wall;
            self.lead_before = self.lead.take();
        }
        self.lead = self.lead.max(Some(lead));
        position
    }

    /// How far the adapter must have come when the room is at `wall`: what is
    /// missing up to here is stalled. Its usual delay is granted, and 200 ms.
    #[must_use]
    pub fn expected(&self, wall: i64) -> i64 {
        let lead = self.lead.max(self.lead_before).unwrap_or(0);
        wall.saturating_add(lead).saturating_sub(self.samples(STALL_GRACE))
    }

    fn samples(&self, time: std::time::Duration) -> i64 {
        // Limits are seconds, rates below 100 kHz.
        (time.as_millis() * u128::from(self.rate) / 1_000) as i64
    }
}
