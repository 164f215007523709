//! Adapters that write nothing but samples.

use super::*;
use crate::sdk::adapter::Direction;

fn raw(realtime: bool) -> Play {
    let participant = "stream".to_owned();
    let mode = Mode::Raw { direction: Direction::Pull, participant, realtime };
    let mut play = Play::new(mode, Pull::default());
    play.room.attach(ORIGIN, &mut play.fx);
    play
}

#[test]
fn a_raw_adapter_is_one_track_from_its_first_sample_on() {
    let mut play = raw(true);
    play.sweep(200_000);
    assert_eq!(play.words, []);
    let pcm = play.pcm(3_200);
    play.bytes(500_000, &pcm[..4_001]); // a sample cut in two
    play.bytes(500_000, &pcm[4_001..]);
    assert_eq!(play.words, [Word::Joined]);
    play.sweep(500_000);
    let batches = play.batches("stream");
    assert_eq!(batches.iter().map(|batch| batch.runs.slots()).sum::<u8>(), 10);
    // 2,000 samples had come when it was first read.
    assert_eq!(batches[0].pos, 8_000 - 2_000);
    let joined: Vec<u8> = batches.iter().flat_map(|batch| batch.pcm.to_vec()).collect();
    assert_eq!(joined, pcm);
}

#[test]
fn a_sample_that_a_stall_cuts_in_two_is_whole_again() {
    let mut play = raw(true);
    let pcm = play.pcm(3_200);
    let (first, next) = pcm.split_at(4_001);
    play.bytes(200_000, first);
    for sweep in 1..=5 {
        play.sweep(sweep * SWEEP);
    }
    play.bytes(1_000_000, &next[..1]);
    play.bytes(1_100_000, &next[1..]);
    play.sweep(1_200_000);
    let heard: Vec<u8> = play.batches("stream").iter().flat_map(|it| it.pcm.to_vec()).collect();
    let samples = |bytes: &[u8]| bytes.as_chunks::<2>().0.to_vec();
    // Some of it may be cut off or padded with zeros, and none is put together
    // of halves that do not belong together.
    let said = samples(&pcm);
    let wrong = samples(&heard).iter().filter(|it| **it != [0, 0] && !said.contains(it)).count();
    assert_eq!(wrong, 0);
    assert!(heard.len() > pcm.len() / 2);
}

#[test]
fn a_raw_adapter_that_was_held_up_goes_on_where_time_is() {
    let mut play = raw(true);
    let first = play.pcm(3_200);
    play.bytes(200_000, &first);
    for sweep in 1..=5 {
        play.sweep(sweep * SWEEP);
    }
    let next = play.pcm(3_200);
    play.bytes(2_000_000, &next);
    play.sweep(2_000_000);
    let batches = play.batches("stream");
    let end = batches.last().unwrap().end();
    assert_eq!(end, 32_000, "the last sample is heard when it came");
    let audio: u8 = batches.iter().map(|batch| batch.runs.audio_slots()).sum();
    assert_eq!(audio, 20, "and nothing of it is cut");
}

#[test]
fn a_raw_adapter_faster_than_time_is_made_to_wait() {
    let mut play = raw(false);
    assert_eq!(play.room.appetite(ORIGIN), 32_000, "one second");
    let pcm = play.pcm(8_000);
    play.bytes(0, &pcm);
    assert_eq!(play.room.appetite(ORIGIN), 16_000, "half a second more");
    play.bytes(0, &pcm);
    assert_eq!(play.room.appetite(ORIGIN), 0);
    assert_eq!(play.room.appetite(ORIGIN + 500_000), 16_000);
}

#[test]
fn a_raw_adapter_that_runs_fast_or_slow_stays_with_the_wall() {
    for ppm in [2_000, -2_000] {
        let (mut play, mut sent, mut said) = (raw(true), 0_i64, Vec::new());
        for at in (SWEEP..=120_000_000).step_by(SWEEP as usize) {
            let due = (at + at * ppm / 1_000_000) * 16 / 1_000;
            let mut bytes = Vec::new();
            while sent < due {
                // It speaks for 4 s and is quiet for one.
                let samples = (due - sent).min(320 - sent % 320) as u16;
                let quiet = sent / 320 % 250 >= 200;
                let pcm = if quiet { vec![0; 2 * usize::from(samples)] } else { play.pcm(samples) };
                if !quiet {
                    said.extend(&pcm);
                }
                bytes.extend(pcm);
                sent += i64::from(samples);
            }
            play.bytes(at, &bytes);
            play.sweep(at);
        }
        let batches = play.batches("stream");
        let ahead = (batches.last().unwrap().end() as i64 - 120 * 16_000) / 16;
        // Left alone it would be 240 ms.
        assert!((-100..=100).contains(&ahead), "{ppm} ppm: {ahead} ms");
        let heard: Vec<u8> = batches.iter().flat_map(|batch| batch.pcm.to_vec()).collect();
        assert!(said.starts_with(&heard) && said.len() - heard.len() < 6_400, "{ppm} ppm");
        assert!(batches.iter().any(|batch| batch.has(FLAG_DISCONTINUITY)));
    }
}
