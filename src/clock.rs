//! The time by the wall, for what is written down. It may be set: whoever
//! measures takes `Instant`, and pure modules are handed both.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Since the Unix epoch; zero where the clock stands before it.
#[must_use]
pub fn unix() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

/// The same in ms.
#[must_use]
pub fn unix_ms() -> u64 {
    u64::try_from(unix().as_millis()).unwrap_or(u64::MAX)
}

/// The same in µs.
#[must_use]
pub fn unix_us() -> u64 {
    u64::try_from(unix().as_micros()).unwrap_or(u64::MAX)
}
