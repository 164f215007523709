//! Sleeping until moments that follow each other evenly: absolute, so that
//! nothing drifts, and what was missed is caught up with.

use std::time::Duration;

use rustix::{
    thread::clock_nanosleep_absolute,
    time::{ClockId, Timespec, clock_gettime},
};

/// µs of the monotonic clock.
pub(crate) fn now_us() -> i64 {
    micros(clock_gettime(ClockId::Monotonic))
}

/// µs of a clock of CPU time.
pub(crate) fn cpu_us(clock: ClockId) -> i64 {
    micros(clock_gettime(clock))
}

fn micros(at: Timespec) -> i64 {
    at.tv_sec * 1_000_000 + at.tv_nsec / 1_000
}

/// Sleeps until the monotonic clock shows so many µs.
pub(crate) fn sleep_until(us: i64) {
    let at = Timespec { tv_sec: us / 1_000_000, tv_nsec: us % 1_000_000 * 1_000 };
    // Woken by a signal: what follows is early once, by less than a step.
    let _ = clock_nanosleep_absolute(ClockId::Monotonic, &at);
}

/// Sleeps for so long.
pub(crate) fn pause(time: Duration) {
    sleep_until(now_us() + time.as_micros() as i64);
}
