//! Where audio goes when the adapter's timestamps are not what one wishes.

use proptest::prelude::*;

use super::super::{Encoded, FLAG_DISCONTINUITY, SlotState::*};
use super::{ramp, slots, states, take, track};

/// Holds that the slots follow on each other and that each sample of audio
/// stands at the position it tells, but for zeros behind half a slot.
fn in_place(encoded: &[Encoded]) -> Result<(), TestCaseError> {
    let mut next = None;
    for (pos, state, pcm) in slots(encoded) {
        prop_assert_eq!(pos, next.unwrap_or(pos));
        next = Some(pos + 320);
        if state == Audio {
            let full = ramp(pos, 320);
            let padded = [&full[..320], &[0; 320]].concat();
            prop_assert!(pcm == full || pcm == padded, "at {}: {:?}", pos, &pcm[..8]);
        }
    }
    Ok(())
}

#[test]
fn a_stall_and_its_burst_take_no_more_time_than_they_took() {
    let mut writer = track(10);
    writer.audio(Some(0), &ramp(0, 3_200));
    // 3 s pass without a word.
    for sweep in 1..=15 {
        writer.heartbeat(3_200 + sweep * 3_200);
    }
    let mut batches = take(&mut writer, false);
    assert_eq!(states(&batches), [(Audio, 10), (Stalled, 150)]);
    // They come at once, and half a second more.
    for frame in 10..185 {
        writer.audio(Some(frame * 320), &ramp(frame as u64 * 320, 320));
    }
    batches.extend(take(&mut writer, true));
    assert_eq!(states(&batches), [(Audio, 10), (Stalled, 150), (Audio, 25)]);
    assert_eq!(writer.stats().late_samples, 150 * 320);
    in_place(&batches).unwrap();
}

#[test]
fn gaps_become_slots_up_to_ten_seconds() {
    let mut writer = track(50);
    writer.audio(Some(0), &ramp(0, 320));
    writer.audio(Some(160_320), &ramp(1, 320));
    assert_eq!(states(&take(&mut writer, true)), [(Audio, 1), (Stalled, 500), (Audio, 1)]);
    writer.audio(Some(1_000_000), &ramp(1, 320));
    let batch = &take(&mut writer, true)[0];
    assert_eq!((batch.pos, batch.flags & FLAG_DISCONTINUITY), (1_000_000, FLAG_DISCONTINUITY));
    assert_eq!(writer.stats().discontinuities, 1);
}

#[test]
fn an_overlap_is_cut_and_a_clock_that_steps_back_is_followed() {
    let mut writer = track(50);
    writer.audio(Some(0), &ramp(0, 3_200));
    writer.audio(Some(2_560), &ramp(2_560, 3_200));
    let overlap = take(&mut writer, true);
    in_place(&overlap).unwrap();
    assert_eq!((slots(&overlap).len(), writer.stats().late_samples), (18, 640));

    // An hour back: what follows runs on where it was, and says so.
    writer.audio(Some(5_760 - 57_600_000), &ramp(1, 640));
    writer.audio(Some(6_400 - 57_600_000), &ramp(1, 640));
    writer.idle(7_680 - 57_600_000);
    let batches = take(&mut writer, true);
    assert_eq!((batches[0].pos, batches[0].flags & FLAG_DISCONTINUITY), (5_760, 8));
    assert_eq!(states(&batches), [(Audio, 4), (Silence, 2)]);
}

#[test]
fn a_clock_at_odds_with_its_samples_is_followed() {
    // 0.2 % more samples than the timestamps allow, then 0.2 % less.
    for (samples, cut) in [(641_usize, 1_500 - 160..=1_500), (639, 0..=0)] {
        let mut writer = track(10);
        for chunk in 0..1_500_i64 {
            writer.audio(Some(chunk * 640), &ramp(1, samples));
            take(&mut writer, false);
            let off = writer.end() - (chunk + 1) * 640;
            assert!(off.abs() <= 161, "chunk {chunk}: {off}");
        }
        assert!(cut.contains(&writer.stats().late_samples), "{:?}", writer.stats());
    }
}

#[test]
fn words_before_the_origin_are_late() {
    let mut writer = track(10);
    writer.audio(Some(-640), &ramp(0, 3_200));
    let batches = take(&mut writer, true);
    assert_eq!((batches[0].pos, batches[0].slots), (0, 8));
    assert_eq!(slots(&batches)[0].2, ramp(640, 320));
}

#[test]
fn positions_at_the_ends_of_time_do_no_harm() {
    for far in [i64::MAX, i64::MIN, i64::MAX / 2, -1] {
        let mut writer = track(10);
        for at in [0, far, 320, -far.max(-i64::MAX), far] {
            writer.audio(Some(at), &ramp(1, 480));
            writer.idle(at);
            writer.lost(far, at);
            writer.mute(Some(at));
            writer.heartbeat(at);
            writer.unmute(Some(far));
            writer.dropped(u64::MAX);
            assert!(take(&mut writer, true).len() < 1_000);
        }
        writer.close();
        slots(&take(&mut writer, true));
    }
}

/// One thing that happens in a room.
#[derive(Debug, Clone)]
enum Turn {
    /// The adapter speaks on, this many times 10 ms.
    Speak(usize),
    /// It says nothing for this many sweeps while the wall goes on.
    Stall(i64),
    /// It skipped this many slots and says nothing about it.
    Skip(u64),
    /// It says that it lost this many slots.
    Lose(u64),
    /// It says that there is nothing to hear for this many slots.
    Idle(u64),
}

fn turn() -> impl Strategy<Value = Turn> {
    prop_oneof![
        6 => (1..20usize).prop_map(Turn::Speak),
        2 => (1..20i64).prop_map(Turn::Stall),
        1 => (1..40u64).prop_map(Turn::Skip),
        1 => (1..40u64).prop_map(Turn::Lose),
        1 => (1..40u64).prop_map(Turn::Idle),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    /// In whatever order stalls, bursts, gaps and losses come: each sample is
    /// published where its timestamp says or is counted as late, and the time
    /// line is never longer than the later of adapter and wall.
    #[test]
    fn samples_stay_where_their_timestamps_put_them(
        turns in prop::collection::vec(turn(), 1..40),
        batch_slots in 1..=50u8,
    ) {
        let mut writer = track(batch_slots);
        let (mut media, mut wall, mut spoken) = (0_u64, 0_i64, 0_u64);
        let mut encoded = Vec::new();
        for turn in turns {
            match turn {
                Turn::Speak(tens) => {
                    writer.audio(Some(media as i64), &ramp(media, tens * 160));
                    media += tens as u64 * 160;
                    spoken += tens as u64 * 160;
                }
                Turn::Stall(sweeps) => {
                    wall = wall.max(media as i64);
                    for _ in 0..sweeps {
                        wall += 3_200;
                        writer.heartbeat(wall);
                        encoded.extend(take(&mut writer, false));
                    }
                }
                // The adapter's own statements are in whole slots here, so that
                // nothing is rounded and each sample can be held to its place.
                Turn::Skip(slots) => media = media.next_multiple_of(320) + slots * 320,
                Turn::Lose(slots) => {
                    let from = media.next_multiple_of(320);
                    media = from + slots * 320;
                    writer.lost(from as i64, media as i64);
                }
                Turn::Idle(slots) => {
                    media = media.next_multiple_of(320) + slots * 320;
                    writer.idle(media as i64);
                }
            }
            encoded.extend(take(&mut writer, false));
            let latest = (wall.max(media as i64) as u64).next_multiple_of(320) as i64;
            prop_assert!(writer.end() <= latest, "{} > {}", writer.end(), latest);
        }
        writer.close();
        encoded.extend(take(&mut writer, true));
        in_place(&encoded)?;
        let stats = writer.stats();
        let published = stats.slots[0] * 320;
        // Half slots were filled up with zeros, at most one a turn.
        prop_assert!(published + stats.late_samples >= spoken);
        prop_assert!(published + stats.late_samples <= spoken + 40 * 160);
    }
}
