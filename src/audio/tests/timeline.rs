//! Positions of timestamps and moments.

use super::super::{Origin, Timeline};

#[test]
fn a_day_of_frames_does_not_drift() {
    let line = Timeline::new(16_000, 7, 1_000);
    for frame in (0..24 * 3_600 * 50).step_by(997) {
        assert_eq!(line.position(7 + frame * 20_000), 1_000 + frame * 320);
    }
    // A clock in steps of 48 kHz samples: never more than half a sample off.
    for sample in (0..48_000 * 3_600).step_by(4_801) {
        let us = (sample * 1_000_000 + 24_000) / 48_000;
        let exact = (sample as f64) / 3.0;
        assert!((line.position(7 + us) as f64 - 1_000.0 - exact).abs() <= 0.51);
    }
}

#[test]
fn before_the_anchor_and_at_the_ends_of_time() {
    let line = Timeline::new(16_000, 1_000_000, 0);
    assert_eq!(line.position(0), -16_000);
    assert!(line.position(i64::MAX) > 0 && line.position(i64::MIN) < 0);
    let origin = Origin { unix_us: 1_767_225_600_000_000, rate: 16_000 };
    assert_eq!(origin.position(1_767_225_601_000_000), 16_000);
    assert_eq!(origin.time(16_000), 1_767_225_601_000_000);
    assert!(origin.position(i64::MIN) < 0);
    assert!(origin.time(u64::MAX) > 0);
}

#[test]
fn a_slow_clock_is_no_stall() {
    // 500 ppm slow, with 80 ms of delay, for an hour.
    let mut line = Timeline::new(16_000, 0, 0);
    for second in 0..3_600_i64 {
        let wall = second * 16_000;
        let pts = second * 1_000_000 - second * 500 - 80_000;
        let position = line.observe(pts, wall);
        let expected = line.expected(wall);
        assert!(expected <= position, "second {second}: {expected} > {position}");
        assert!(position - expected <= 3_200 + 16_000 / 100, "second {second}");
    }
}

#[test]
fn a_stall_is_seen_and_a_burst_does_not_hide_the_next() {
    let mut line = Timeline::new(16_000, 0, 0);
    line.observe(0, 1_000);
    assert_eq!(line.expected(81_000), 80_000 - 3_200);
    // 5 s of backlog at once, the first part of it late.
    for late in (0..=5).rev() {
        line.observe((5 - late) * 1_000_000, 81_000);
    }
    assert_eq!(line.expected(161_000), 160_000 - 3_200);
}

#[test]
fn nothing_comes_from_the_future() {
    let mut line = Timeline::new(16_000, 0, 0);
    assert_eq!(line.observe(9_000_000, 0), 144_000);
    assert_eq!(line.observe(3_600_000_000, 16_000), 16_000);
    assert_eq!(line.position(3_600_020_000), 16_320);
}

#[test]
fn a_clock_set_back_goes_on_where_the_room_is() {
    let mut line = Timeline::new(16_000, 3_600_000_000, 0);
    line.observe(3_600_000_000 + 20_000_000, 320_000);
    // Backlog of another track, 9 s old, is no step.
    assert_eq!(line.observe(3_600_000_000 + 11_000_000, 320_000), 176_000);
    assert_eq!(line.observe(1_000_000, 336_000), 336_000);
    assert_eq!(line.observe(2_000_000, 352_000), 352_000);
    assert_eq!(line.expected(368_000), 368_000 - 3_200);
}
