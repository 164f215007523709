//! What an open track publishes, word by word.

use bytes::BytesMut;
use proptest::prelude::*;

use super::super::{
    Batch, Break, Encoded, FLAG_DISCONTINUITY, FLAG_LAST, FLAG_TALK_SPURT, SlotState::*,
};
use super::{ramp, slots, states, take, track};

fn flags(encoded: &[Encoded]) -> Vec<u32> {
    encoded.iter().map(|encoded| encoded.flags).collect()
}

#[test]
fn ten_frames_make_a_batch() {
    let mut writer = track(10);
    for frame in 0..9 {
        writer.audio(Some(frame * 320), &ramp(frame as u64 * 320, 320));
        assert_eq!(take(&mut writer, false), []);
    }
    writer.audio(Some(9 * 320), &ramp(9 * 320, 320));
    let batch = Batch::decode(&take(&mut writer, false)[0].payload).unwrap();
    assert_eq!((batch.epoch, batch.seq, batch.pos, batch.time), (3, 0, 0, 0));
    assert_eq!((batch.user.as_str(), batch.role.as_str()), ("ann", "host"));
    assert_eq!((batch.flags, &batch.pcm[..]), (FLAG_TALK_SPURT, &ramp(0, 3_200)[..]));

    writer.audio(Some(3_200), &ramp(3_200, 320));
    let forced = Batch::decode(&take(&mut writer, true)[0].payload).unwrap();
    assert_eq!((forced.seq, forced.pos, forced.time, forced.flags), (1, 3_200, 200_000, 0));
}

#[test]
fn a_large_backlog_makes_several_batches() {
    let mut writer = track(10);
    writer.audio(Some(0), &ramp(0, 320 * 25));
    let ready = take(&mut writer, false);
    assert_eq!(
        ready.iter().map(|batch| (batch.seq, batch.slots)).collect::<Vec<_>>(),
        [(0, 10), (1, 10)]
    );
    assert_eq!(take(&mut writer, true)[0].slots, 5);
    let mut writer = track(200);
    writer.audio(Some(0), &ramp(0, 320 * 60));
    assert_eq!(take(&mut writer, false)[0].slots, 50);
}

#[test]
fn the_last_frames_can_be_kept_back() {
    let mut writer = track(10);
    writer.audio(Some(0), &ramp(0, 320 * 4));
    let mut out = BytesMut::new();
    assert_eq!(writer.next_part(0, &mut out), None);
    assert_eq!(writer.next_part(3, &mut out).unwrap().slots, 3);
    assert_eq!((writer.pending_slots(), writer.end()), (1, 1_280));
}

#[test]
fn zeros_are_silence_and_a_spurt_begins_behind_them() {
    let mut writer = track(2);
    writer.audio(Some(0), &[0; 1_280]);
    writer.audio(Some(640), &ramp(1, 640));
    writer.audio(Some(1_280), &ramp(1, 640));
    writer.audio(Some(1_920), &[0; 640]);
    writer.audio(Some(2_240), &ramp(1, 320));
    let batches = take(&mut writer, false);
    assert_eq!(states(&batches), [(Silence, 2), (Audio, 4), (Silence, 1), (Audio, 1)]);
    assert_eq!(flags(&batches), [0, FLAG_TALK_SPURT, 0, FLAG_TALK_SPURT]);
    assert!(batches[0].payload.len() < 100);
    let stats = writer.stats();
    assert_eq!((stats.batches, stats.slots), (4, [5, 3, 0, 0, 0, 0, 0, 0]));
}

#[test]
fn idle_is_silence_and_muted_is_muted() {
    let mut writer = track(50);
    writer.audio(Some(0), &ramp(1, 320));
    writer.idle(320 * 6);
    writer.mute(Some(320 * 6));
    // What was said before the mute does not wait for a full batch.
    assert_eq!(states(&take(&mut writer, false)), [(Audio, 1), (Silence, 5)]);
    // Neither words nor the lack of them can be heard now.
    writer.audio(Some(320 * 6), &ramp(1, 480));
    writer.audio(Some(320 * 6 + 480), &ramp(1, 160));
    writer.idle(320 * 10);
    writer.heartbeat(320 * 12);
    writer.unmute(Some(320 * 14));
    writer.audio(Some(320 * 14), &ramp(1, 320));
    let batches = take(&mut writer, true);
    assert_eq!(states(&batches), [(Muted, 8), (Audio, 1)]);
    assert_eq!(writer.stats().late_samples, 0);
}

#[test]
fn what_is_lost_absent_or_dropped_says_so() {
    let mut writer = track(50);
    writer.audio(Some(0), &ramp(1, 320));
    writer.lost(320 * 2, 320 * 4);
    writer.dropped(3);
    writer.absent(Some(320 * 7));
    writer.audio(Some(320 * 9), &ramp(1, 320));
    writer.audio(Some(320 * 11), &ramp(1, 320));
    assert_eq!(
        states(&take(&mut writer, true)),
        [
            (Audio, 1),
            (Stalled, 1),
            (Lost, 2),
            (Dropped, 3),
            (Absent, 2),
            (Audio, 1),
            (Stalled, 1),
            (Audio, 1)
        ]
    );
}

#[test]
fn an_open_track_that_says_nothing_has_a_heartbeat() {
    let mut writer = track(10);
    writer.heartbeat(-5);
    let batches = take(&mut writer, false);
    assert_eq!((batches[0].pos, states(&batches)), (0, vec![(Stalled, 1)]));
    writer.heartbeat(320 * 8 + 100);
    assert_eq!(states(&take(&mut writer, false)), [(Stalled, 7)]);
    // Half a slot of audio is not held back for ever.
    writer.audio(Some(320 * 8), &ramp(1, 160));
    assert_eq!(take(&mut writer, true), []);
    writer.heartbeat(320 * 8);
    let half = slots(&take(&mut writer, false));
    assert_eq!(half, [(320 * 8, Audio, [ramp(1, 160), vec![0; 320]].concat())]);
    // What comes after a heartbeat waits for a full batch again.
    writer.audio(Some(320 * 9), &ramp(1, 320));
    assert_eq!(take(&mut writer, false), []);
}

#[test]
fn a_worker_that_slept_jumps() {
    let mut writer = track(10);
    writer.audio(Some(0), &ramp(1, 320));
    writer.heartbeat(320 * 50 * 60);
    let batches = take(&mut writer, false);
    assert_eq!(flags(&batches), [FLAG_TALK_SPURT, FLAG_DISCONTINUITY]);
    assert_eq!((batches[1].pos, batches[1].slots), (320 * (50 * 60 - 1), 1));
}

#[test]
fn the_last_batch_says_that_it_is() {
    let mut writer = track(10);
    writer.audio(Some(0), &ramp(1, 320 * 12 + 160));
    writer.close();
    let batches = take(&mut writer, false);
    assert_eq!(flags(&batches), [FLAG_TALK_SPURT, FLAG_LAST]);
    assert_eq!(slots(&batches).len(), 13);
    writer.audio(Some(320 * 13), &ramp(1, 3_200));
    assert_eq!(take(&mut writer, true), []);

    let mut silent = track(10);
    silent.close();
    let batches = take(&mut silent, false);
    assert_eq!((flags(&batches), states(&batches)), (vec![FLAG_LAST], vec![(Absent, 1)]));
}

#[test]
fn a_backlog_without_end_loses_its_beginning_and_says_so() {
    let mut writer = track(50);
    for chunk in 0..30 {
        writer.audio(Some(chunk * 16_000), &ramp(chunk as u64 * 16_000 + 1, 16_000));
    }
    let batches = take(&mut writer, true);
    assert_eq!(states(&batches), [(Dropped, 500), (Audio, 1_000)]);
    assert_eq!(writer.stats().slots[7], 500);
    // What is left is where it belongs.
    for (pos, _, pcm) in slots(&batches).iter().skip(500) {
        assert!(*pcm == ramp(pos + 1, 320), "at {pos}");
    }
    assert!(batches.windows(2).all(|two| two[0].pos + 16_000 == two[1].pos));
    // It is in order again afterwards.
    writer.audio(Some(480_000), &ramp(7, 320));
    assert_eq!(slots(&take(&mut writer, true)), [(480_000, Audio, ramp(7, 320))]);
}

#[test]
fn a_slot_more_or_less_moves_all_that_follows_and_touches_no_sample() {
    for by in [320, -320] {
        let mut writer = track(50);
        writer.audio(Some(0), &ramp(1, 640));
        writer.idle(320 * 6);
        writer.audio(Some(320 * 6), &ramp(9, 480));
        assert!(writer.is_quiet(320 * 3) && !writer.is_quiet(320) && !writer.is_quiet(320 * 6));
        assert_eq!(writer.quiet().collect::<Vec<_>>(), [640, 960, 1_280, 1_600]);
        writer.correct(320 * 3, by);
        // All positions are that much further on from now on.
        writer.audio(Some(320 * 6 + 480 + by), &ramp(9 + 480, 160));
        let batches = take(&mut writer, true);
        let quiet = (4 + by / 320) as usize;
        assert_eq!(states(&batches), [(Audio, 2), (Silence, quiet), (Audio, 2)]);
        assert_eq!(flags(&batches), [FLAG_TALK_SPURT, FLAG_TALK_SPURT | FLAG_DISCONTINUITY]);
        assert_eq!(batches.iter().map(|it| it.pos).collect::<Vec<_>>(), [0, 960]);
        let slots = slots(&batches);
        let places: Vec<_> = slots.iter().map(|slot| slot.0).collect();
        assert!(places.iter().zip(0..).all(|(pos, at)| *pos == at * 320), "{places:?}");
        let pcm: Vec<u8> = slots.into_iter().flat_map(|slot| slot.2).collect();
        assert_eq!(pcm, [ramp(1, 640), ramp(9, 640)].concat());
        assert_eq!(writer.take_break(), Some(Break::Drift(by)));
        assert_eq!((writer.stats().late_samples, writer.stats().discontinuities), (0, 1));
    }
}

#[test]
fn batches_behind_a_slot_more_or_less_stand_where_it_has_moved_them() {
    for by in [320, -320] {
        let mut writer = track(2);
        writer.audio(Some(0), &[0; 640 * 4]);
        writer.audio(Some(320 * 4), &ramp(9, 320 * 3));
        writer.correct(320, by);
        let places: Vec<_> = slots(&take(&mut writer, true)).iter().map(|slot| slot.0).collect();
        let all = (7 + by / 320) as u64;
        assert_eq!(places, (0..all).map(|at| at * 320).collect::<Vec<_>>());
    }
}

#[test]
fn the_only_quiet_slot_can_be_left_out() {
    let mut writer = track(50);
    writer.audio(Some(0), &[0; 640]);
    writer.correct(0, -320);
    assert_eq!((writer.pending_slots(), writer.end()), (0, 0));
    writer.audio(Some(0), &ramp(1, 320));
    let batches = take(&mut writer, true);
    assert_eq!((flags(&batches)[0] & FLAG_DISCONTINUITY, batches[0].pos), (8, 0));
}

#[test]
fn steady_audio_needs_no_allocation() {
    let mut writer = track(10);
    let mut out = BytesMut::with_capacity(64 * 1024);
    let frame = ramp(1, 320);
    let buffer = out.as_ptr()..out.as_ptr().wrapping_add(out.capacity());
    for at in 0..2_000 {
        writer.audio(Some(at * 320), &frame);
        while let Some(batch) = writer.next_batch(false, &mut out) {
            drop(batch);
            assert!(out.try_reclaim(32 * 1024));
        }
    }
    assert!(buffer.contains(&out.as_ptr()), "the same buffer served all along");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn however_it_is_chopped_nothing_is_missing(
        chunks in prop::collection::vec(1..12usize, 1..60),
        batch_slots in 1..=50u8,
        sweep in 1..7usize,
        first in 0..100_000_i64,
        jitter in prop::collection::vec(-150..150_i64, 60),
    ) {
        let mut writer = track(batch_slots);
        let (mut at, mut encoded) = (0, Vec::new());
        for (turn, chunk) in chunks.iter().enumerate() {
            let samples = chunk * 160;
            let jitter = if turn == 0 { 0 } else { jitter[turn] };
            writer.audio(Some(first + at as i64 + jitter), &ramp(at, samples));
            at += samples as u64;
            encoded.extend(take(&mut writer, turn % sweep == 0));
        }
        writer.close();
        encoded.extend(take(&mut writer, true));

        let slots = slots(&encoded);
        for (index, (pos, ..)) in slots.iter().enumerate() {
            prop_assert_eq!(*pos, first as u64 + index as u64 * 320);
        }
        for (seq, batch) in encoded.iter().enumerate() {
            prop_assert_eq!(batch.seq, seq as u64);
        }
        let mut pcm: Vec<u8> = slots.into_iter().flat_map(|(_, _, pcm)| pcm).collect();
        prop_assert!(pcm.len() < at as usize * 2 + 640);
        pcm.truncate(at as usize * 2);
        prop_assert!(pcm == ramp(0, at as usize));
        prop_assert_eq!(writer.stats().late_samples, 0);
    }

    #[test]
    fn without_timestamps_every_byte_is_kept(
        chunks in prop::collection::vec(1..3_000usize, 1..30),
        beats in prop::collection::vec(any::<bool>(), 30),
    ) {
        let (mut writer, mut encoded, mut done) = (track(10), Vec::new(), 0);
        let source = ramp(1, 45_000);
        for (chunk, beat) in chunks.iter().zip(beats) {
            writer.audio(None, &source[done..done + chunk]);
            done += chunk;
            encoded.extend(take(&mut writer, true));
            if beat && done % 640 == 0 {
                writer.heartbeat(writer.end() + 640);
            }
        }
        writer.close();
        encoded.extend(take(&mut writer, true));
        let mut pcm: Vec<u8> = slots(&encoded).into_iter().flat_map(|(_, _, pcm)| pcm).collect();
        prop_assert!(pcm.len() >= done && pcm.len() < done + 640);
        pcm.truncate(done);
        prop_assert!(pcm == source[..done]);
    }
}
