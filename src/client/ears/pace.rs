//! How long the way to a worker and back takes a listener: smoothed, with its
//! variation, as TCP measures it (RFC 6298). From this follow when a batch is
//! asked for again and when asking is no use any more.

use std::time::Duration;

use crate::{audio::Pace, limits};

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Trips {
    smoothed: Option<Duration>,
    varies: Duration,
}

impl Trips {
    /// A batch came so long after it was asked for, once.
    pub(super) fn measure(&mut self, trip: Duration) {
        match &mut self.smoothed {
            None => (self.smoothed, self.varies) = (Some(trip), trip / 2),
            Some(smoothed) => {
                self.varies = (3 * self.varies + smoothed.abs_diff(trip)) / 4;
                *smoothed = (7 * *smoothed + trip) / 8;
            }
        }
    }

    /// What follows from it.
    pub(super) fn pace(&self) -> Pace {
        let Some(smoothed) = self.smoothed else {
            return Pace { retry: limits::NACK_RETRY, trip: Duration::ZERO };
        };
        let retry = smoothed + 4 * self.varies;
        let retry = retry.clamp(limits::NACK_RETRY_MIN, limits::NACK_RETRY_MAX);
        Pace { retry, trip: smoothed }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[test]
    fn it_is_as_patient_as_the_way_is_long() {
        let mut trips = Trips::default();
        assert_eq!(trips.pace(), Pace { retry: limits::NACK_RETRY, trip: ms(0) });
        trips.measure(ms(100));
        assert_eq!(trips.pace(), Pace { retry: ms(300), trip: ms(100) });
        for _ in 0..100 {
            trips.measure(ms(2));
        }
        assert_eq!(trips.pace().retry, limits::NACK_RETRY_MIN);
        assert!(trips.pace().trip < ms(3));
        trips.measure(Duration::from_secs(60));
        assert_eq!(trips.pace().retry, limits::NACK_RETRY_MAX);
    }
}
