//! When each slot of the room begins on its media clock, and when the process
//! writes it. All in µs since JOINED, from absolute sums, so nothing drifts.
//!
//! A clock of Unix time makes all rooms alike: their slots end together, and a
//! sample has the same number in each.

use crate::params::{Plan, Stall, Step};

/// What a media clock of its own reads at JOINED. Any number would do; it is not
/// 0 so that nobody takes it for a time since something.
pub(crate) const ZERO: i64 = 7_000_000;

/// The time of one room.
#[derive(Debug)]
pub(crate) struct Clock {
    frame_us: i64,
    unix: bool,
    /// What the media clock reads when slot 0 begins.
    zero: i64,
    /// From JOINED to then.
    lead: i64,
    /// Real time per media time.
    pace: f64,
    steps: Vec<Step>,
    bursts: Vec<Stall>,
    /// Slots that are written together.
    bundle: i64,
    jitter_us: i64,
    random: fastrand::Rng,
    last_due: i64,
}

impl Clock {
    pub(crate) fn new(plan: &Plan) -> Self {
        Self {
            frame_us: plan.frame_us,
            unix: plan.unix,
            zero: ZERO,
            lead: 0,
            pace: 1.0 / (1.0 + plan.skew_ppm / 1e6),
            steps: plan.steps.clone(),
            bursts: plan.stalls.iter().filter(|stall| stall.burst).cloned().collect(),
            bundle: plan.bundle,
            jitter_us: plan.jitter_us,
            random: fastrand::Rng::with_seed(0x51),
            last_due: 0,
        }
    }

    /// The room is joined, at this time by the wall.
    pub(crate) fn start(&mut self, unix_us: i64) {
        if self.unix {
            self.lead = (-unix_us).rem_euclid(self.frame_us);
            self.zero = unix_us + self.lead;
        }
    }

    /// The slot that began at the Unix epoch, where the clock counts from there.
    pub(crate) fn epoch(&self) -> Option<i64> {
        self.unix.then_some(-self.zero / self.frame_us)
    }

    /// When slot `slot` begins, steps aside: what `at_s` is compared with. It is
    /// since slot 0, which begins with JOINED or up to a slot later.
    pub(crate) fn begin(&self, slot: i64) -> i64 {
        slot * self.frame_us
    }

    /// What the media clock reads when slot `slot` begins.
    pub(crate) fn pts(&self, slot: i64) -> i64 {
        let begin = self.begin(slot);
        let steps = self.steps.iter().filter(|step| step.at_s.0 <= begin);
        self.zero + begin + steps.map(|step| i64::from(step.by_ms) * 1_000).sum::<i64>()
    }

    /// What the media clock reads after this much real time.
    pub(crate) fn now(&self, real: i64) -> i64 {
        let media = ((real - self.lead) as f64 / self.pace) as i64;
        let slot = media.div_euclid(self.frame_us);
        self.pts(slot) + media - self.begin(slot)
    }

    /// The real time at which slot `slot` is written: when its bundle has
    /// ended, later where the room stalls. Asked once for each slot, in order.
    pub(crate) fn due(&mut self, slot: i64) -> i64 {
        let begin = self.begin(slot);
        let mut media = self.begin((slot / self.bundle + 1) * self.bundle);
        for stall in self.bursts.iter().filter(|stall| stall.covers(begin)) {
            media = media.max(stall.end());
        }
        let mut due = self.lead + (media as f64 * self.pace) as i64;
        if self.jitter_us > 0 {
            due += self.random.i64(0..=self.jitter_us);
        }
        self.last_due = self.last_due.max(due);
        self.last_due
    }
}

#[cfg(test)]
mod tests {
    use audio_gateway::task::Params;
    use serde_json::{Value, json};

    use super::*;

    fn clock(params: &Value) -> Clock {
        let params = Params(params.as_object().unwrap().clone());
        Clock::new(&crate::params::parse(&params).unwrap())
    }

    fn dues(mut clock: Clock, slots: i64) -> Vec<i64> {
        (0..slots).map(|slot| clock.due(slot)).collect()
    }

    #[test]
    fn a_slot_is_written_when_it_has_ended() {
        assert_eq!(dues(clock(&json!({})), 3), [20_000, 40_000, 60_000]);
        assert_eq!(clock(&json!({})).pts(3), ZERO + 60_000);
        assert_eq!(clock(&json!({"frame_ms": 60})).pts(3), ZERO + 180_000);
    }

    #[test]
    fn a_bundle_is_written_when_its_last_slot_has_ended() {
        assert_eq!(dues(clock(&json!({"bundle": 3})), 4), [60_000, 60_000, 60_000, 120_000]);
    }

    #[test]
    fn a_stall_holds_back_and_then_bursts() {
        let stalled = clock(&json!({"stall": {"at_s": 0.04, "for_s": 0.06}}));
        assert_eq!(dues(stalled, 6), [20_000, 40_000, 100_000, 100_000, 100_000, 120_000]);
    }

    #[test]
    fn a_fast_clock_runs_fast_and_a_step_jumps() {
        assert_eq!(dues(clock(&json!({"clock_skew_ppm": 1_000})), 1_001)[1_000], 20_000_000);
        let step = clock(&json!({"clock_step": {"at_s": 0.04, "by_ms": -5_000}}));
        assert_eq!([step.pts(1), step.pts(2)], [ZERO + 20_000, ZERO + 40_000 - 5_000_000]);
        assert_eq!(step.now(45_000), ZERO + 45_000 - 5_000_000);
    }

    #[test]
    fn slots_of_unix_time_end_on_its_multiples() {
        let mut unix = clock(&json!({"clock": "unix"}));
        unix.start(1_767_225_600_007_001);
        assert_eq!(unix.now(0), 1_767_225_600_007_001);
        assert_eq!([unix.pts(0), unix.pts(1)], [1_767_225_600_020_000, 1_767_225_600_040_000]);
        assert_eq!([unix.due(0), unix.due(1)], [32_999, 52_999]);
        assert_eq!(unix.epoch(), Some(-1_767_225_600_020_000 / 20_000));
        // On the dot: nothing is waited for.
        unix.start(1_767_225_600_000_000);
        assert_eq!((unix.pts(0), unix.lead), (1_767_225_600_000_000, 0));
        // What goes wrong with a clock goes wrong with this one.
        let faults = json!({"clock": "unix", "clock_skew_ppm": 1_000, "clock_step": {"at_s": 1, "by_ms": -500}});
        let mut wrong = clock(&faults);
        wrong.start(1_767_225_600_010_000);
        assert_eq!(wrong.pts(49), 1_767_225_600_020_000 + 49 * 20_000);
        assert_eq!(wrong.pts(50), 1_767_225_600_020_000 + 1_000_000 - 500_000);
        assert_eq!(dues(wrong, 1_001)[1_000], 10_000 + 20_000_000);
        let mut own = clock(&json!({"clock": "own"}));
        own.start(1_767_225_600_007_001);
        assert_eq!((own.pts(0), own.epoch()), (ZERO, None));
    }

    #[test]
    fn jitter_delays_and_never_reorders() {
        let dues = dues(clock(&json!({"jitter_ms": 50})), 1_000);
        assert!(dues.is_sorted());
        let late = |(slot, due): (usize, &i64)| *due - (slot as i64 + 1) * 20_000;
        assert!(dues.iter().enumerate().all(|slot| (0..=50_000).contains(&late(slot))));
    }
}
