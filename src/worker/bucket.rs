//! A token bucket that is handed the time.

/// Allows a rate, and a burst after a rest.
#[derive(Debug, Clone)]
pub(super) struct Bucket {
    /// Tokens × 1,000,000: what one µs adds at a rate of one a second.
    level: u64,
    rate: u32,
    burst: u32,
    at_us: i64,
}

impl Bucket {
    /// A full bucket.
    pub(super) fn new(rate: u32, burst: u32, now_us: i64) -> Self {
        Self { level: u64::from(burst) * 1_000_000, rate, burst, at_us: now_us }
    }

    /// Takes up to `want` tokens and returns how many there were.
    pub(super) fn take(&mut self, want: u64, now_us: i64) -> u64 {
        let passed = u64::try_from(now_us.saturating_sub(self.at_us)).unwrap_or(0);
        self.at_us = now_us.max(self.at_us);
        let full = u64::from(self.burst) * 1_000_000;
        let gain = passed.saturating_mul(u64::from(self.rate));
        self.level = self.level.saturating_add(gain).min(full);
        let taken = want.min(self.level / 1_000_000);
        self.level -= taken * 1_000_000;
        taken
    }

    /// How long until `want` tokens are there, in ms, rounded up.
    pub(super) fn wait_ms(&self, want: u64) -> u64 {
        let missing = want.saturating_mul(1_000_000).saturating_sub(self.level);
        missing.div_ceil(u64::from(self.rate) * 1_000)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_then_the_rate() {
        let mut bucket = Bucket::new(10, 5, 0);
        assert_eq!(bucket.take(7, 0), 5);
        assert_eq!(bucket.wait_ms(1), 100);
        assert_eq!(bucket.take(1, 99_999), 0);
        assert_eq!(bucket.take(9, 250_000), 2);
        assert_eq!(bucket.take(9, i64::MAX), 5);
        assert_eq!(bucket.take(1, 0), 0, "a clock that runs backwards gives nothing");
    }
}
