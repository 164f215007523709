//! What a mix is of what its sources say: sums, edges, who is late, what is too
//! loud.

use super::*;
use crate::{
    audio::{Mixed, Mixer, SourceKey},
    limits::{FRAME_SAMPLES, MIX_RAMP_SAMPLES, MIX_SLOTS_MAX},
};

pub(super) const SLOT: u64 = FRAME_SAMPLES as u64;
const RAMP: usize = MIX_RAMP_SAMPLES;

/// Noise between `-peak` and `peak`, another for each seed.
pub(super) fn noise(seed: u64, peak: i16, samples: usize) -> Vec<i16> {
    let mut rng = fastrand::Rng::with_seed(seed);
    (0..samples).map(|_| rng.i16(-peak..=peak)).collect()
}

pub(super) fn bytes(samples: &[i16]) -> Vec<u8> {
    samples.iter().flat_map(|sample| sample.to_le_bytes()).collect()
}

/// The first sample that is not what it should be.
#[track_caller]
pub(super) fn same(heard: &[i16], said: &[i16]) {
    assert_eq!(heard.len(), said.len());
    let other = heard.iter().zip(said).position(|(heard, said)| heard != said);
    let shown = |at: usize| (at, &heard[at..heard.len().min(at + 8)], &said[at..][..1]);
    assert_eq!(other.map(shown), None, "index, heard, said");
}

/// What a mixer made: where it begins, its states, and all of its samples.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Made {
    pub(super) first: Option<u64>,
    pub(super) states: Vec<SlotState>,
    pub(super) samples: Vec<i16>,
}

impl Made {
    /// All that can be made by a deadline.
    pub(super) fn take(&mut self, mixer: &mut Mixer, deadline: i64) {
        let bytes = mixer.format().slot_bytes();
        while let Some(slot) = mixer.next(deadline) {
            self.slot(slot, bytes);
        }
    }

    /// All that is left.
    pub(super) fn finish(&mut self, mixer: &mut Mixer) {
        let bytes = mixer.format().slot_bytes();
        while let Some(slot) = mixer.finish() {
            self.slot(slot, bytes);
        }
    }

    fn slot(&mut self, Mixed { pos, state, pcm }: Mixed<'_>, bytes: usize) {
        let first = *self.first.get_or_insert(pos);
        let before = self.states.len() as u64;
        assert_eq!(pos, first + before * SLOT, "slots follow each other");
        assert_eq!(pcm.is_empty(), !state.is_audio());
        self.states.push(state);
        let zeros = vec![0; bytes];
        let pcm = if pcm.is_empty() { &zeros[..] } else { pcm };
        self.samples.extend(pcm.chunks(2).map(|two| i16::from_le_bytes([two[0], two[1]])));
    }

    /// A channel of two.
    fn channel(&self, channel: usize) -> Vec<i16> {
        self.samples.iter().skip(channel).step_by(2).copied().collect()
    }
}

/// One that was silent before and speaks from a position on: exactly.
fn steady(mixer: &mut Mixer, channels: u8, pos: u64) -> SourceKey {
    let key = mixer.join(channels, pos - SLOT);
    mixer.quiet(key, pos - SLOT, SLOT, SlotState::Silence);
    key
}

#[test]
fn ten_speakers_are_their_sum_bit_for_bit() {
    const SAMPLES: usize = 50 * FRAME_SAMPLES;
    let mut mixer = Mixer::new(1);
    let begin = 10 * SLOT;
    let mut sums = vec![0i32; SAMPLES + FRAME_SAMPLES];
    for speaker in 0..10 {
        // Each has a grid of its own.
        let offset = speaker * 31;
        let key = steady(&mut mixer, 1, begin + offset);
        let samples = noise(speaker, 3_200, SAMPLES);
        mixer.audio(key, begin + offset, &bytes(&samples));
        for (sum, sample) in sums[offset as usize..].iter_mut().zip(&samples) {
            *sum += i32::from(*sample);
        }
    }
    let mut made = Made::default();
    made.take(&mut mixer, 0);
    assert_eq!(made.first, Some(9 * SLOT));
    assert_eq!(made.states.len(), 50, "as far as all have spoken, but for what is looked ahead");
    assert!(made.states[1..].iter().all(|state| state.is_audio()));
    let sums: Vec<_> = sums.iter().map(|sum| *sum as i16).collect();
    let count = made.samples.len() - FRAME_SAMPLES;
    same(&made.samples[FRAME_SAMPLES..], &sums[..count]);
    assert_eq!(mixer.stats(), Default::default());
}

#[test]
fn who_comes_and_goes_in_the_middle_of_sound_is_ramped_and_exact_between() {
    let mut mixer = Mixer::new(1);
    let samples = noise(1, 20_000, 4 * FRAME_SAMPLES);
    let key = mixer.join(1, 0);
    mixer.audio(key, 0, &bytes(&samples));
    mixer.quiet(key, 4 * SLOT, SLOT, SlotState::Muted);
    let mut made = Made::default();
    made.take(&mut mixer, 0);
    use SlotState::Audio;
    assert_eq!(made.states, [Audio; 4]);
    let all = samples.len();
    same(&made.samples[RAMP..all - RAMP], &samples[RAMP..all - RAMP]);
    for at in 0..RAMP {
        let t = (at + 1) as f64 / (RAMP + 1) as f64;
        let volume = 3.0 * t * t - 2.0 * t * t * t;
        for (mixed, said) in
            [(made.samples[at], samples[at]), (made.samples[all - 1 - at], samples[all - 1 - at])]
        {
            let off = f64::from(mixed) - f64::from(said) * volume;
            assert!(off.abs() < 2.0, "sample {at}: {said} at {volume} is {mixed}");
        }
    }
}

#[test]
fn exact_zeros_are_part_of_the_sound() {
    let mut mixer = Mixer::new(1);
    let key = steady(&mut mixer, 1, SLOT);
    let samples = noise(1, 20_000, 2 * FRAME_SAMPLES);
    mixer.audio(key, SLOT, &bytes(&samples));
    mixer.quiet(key, 3 * SLOT, 2 * SLOT, SlotState::Silence);
    mixer.audio(key, 5 * SLOT, &bytes(&samples));
    let mut made = Made::default();
    made.finish(&mut mixer);
    let two = 2 * FRAME_SAMPLES;
    same(&made.samples[FRAME_SAMPLES..3 * FRAME_SAMPLES], &samples);
    let last = made.samples.len() - RAMP;
    same(&made.samples[5 * FRAME_SAMPLES..last], &samples[..two - RAMP]);
}

#[test]
fn who_is_late_is_left_out_and_counted_and_nobody_waits() {
    let mut mixer = Mixer::new(1);
    let (one, other) = (steady(&mut mixer, 1, SLOT), steady(&mut mixer, 1, SLOT));
    let samples = noise(1, 10_000, 10 * FRAME_SAMPLES);
    mixer.audio(one, SLOT, &bytes(&samples));
    mixer.audio(other, SLOT, &bytes(&samples[..2 * FRAME_SAMPLES]));
    let mut made = Made::default();
    made.take(&mut mixer, 0);
    assert_eq!(made.states.len(), 2, "up to what both have said");
    // The deadline is where the look ahead of the slot from 5 on ends.
    made.take(&mut mixer, (6 * SLOT) as i64 + 80);
    assert_eq!(made.states.len(), 6);
    assert_eq!(mixer.stats().left_out, 4);
    // What it says now counts from behind that.
    mixer.audio(other, 3 * SLOT, &bytes(&samples[2 * FRAME_SAMPLES..]));
    made.take(&mut mixer, 0);
    let late = 3 * SLOT + 80;
    assert_eq!(mixer.stats().late_samples, late);
    let alone = (3 * SLOT as usize, (6 * SLOT) as usize + 80);
    same(&made.samples[alone.0..alone.1], &samples[alone.0 - 320..alone.1 - 320]);
    let both = alone.1 + RAMP;
    let twice: Vec<_> = samples[both - 320..].iter().map(|sample| sample * 2).collect();
    let count = made.samples.len() - both;
    assert!(count > FRAME_SAMPLES, "both again");
    same(&made.samples[both..], &twice[..count]);
}

#[test]
fn what_a_slot_is_follows_from_what_all_are() {
    use SlotState::{Absent, Audio, Dropped, Lost, Muted, Redacted, Silence, Stalled};
    for (said, mixed) in [
        ([Audio, Stalled], Audio),
        ([Silence, Lost], Silence),
        ([Muted, Muted], Silence),
        ([Absent, Muted], Silence),
        ([Redacted, Stalled], Redacted),
        ([Stalled, Dropped], Dropped),
        ([Stalled, Lost], Lost),
        ([Stalled, Stalled], Stalled),
        ([Absent, Stalled], Stalled),
        ([Absent, Absent], Absent),
    ] {
        let mut mixer = Mixer::new(1);
        for state in said {
            let key = mixer.join(1, 0);
            match state {
                Audio => mixer.audio(key, 0, &bytes(&noise(1, 9, 2 * FRAME_SAMPLES))),
                _ => mixer.quiet(key, 0, 2 * SLOT, state),
            }
        }
        assert_eq!(mixer.next(0).unwrap().state, mixed, "{said:?}");
    }
    // Nobody is there.
    let mut mixer = Mixer::new(1);
    assert_eq!(mixer.next(0), None);
    let slot = mixer.next(1_000).unwrap();
    assert_eq!((slot.pos, slot.state), (320, Absent));
    assert_eq!(mixer.next(1_000), None);
}

#[test]
fn who_is_muted_is_not_late() {
    let mut mixer = Mixer::new(1);
    let (one, other) = (steady(&mut mixer, 1, SLOT), steady(&mut mixer, 1, SLOT));
    mixer.quiet(one, SLOT, SLOT, SlotState::Muted);
    mixer.quiet(other, SLOT, 5 * SLOT, SlotState::Silence);
    let mut made = Made::default();
    made.take(&mut mixer, (5 * SLOT) as i64);
    assert_eq!(made.states, [SlotState::Silence; 4]);
    assert_eq!(mixer.stats().left_out, 0);
}

#[test]
fn what_is_too_loud_is_turned_down_smoothly_and_back_to_the_bit() {
    for channels in [1u8, 2] {
        let mut mixer = Mixer::new(channels);
        let all = if channels == 1 { 1 } else { 3 };
        let keys: Vec<_> = (0..10).map(|_| steady(&mut mixer, all, SLOT)).collect();
        let loud = 20 * FRAME_SAMPLES;
        let mut sums = vec![0i32; 60 * FRAME_SAMPLES];
        for (seed, key) in (0..).zip(keys) {
            let mut samples = noise(seed, i16::MAX, loud);
            samples.extend(noise(seed, 3_000, 40 * FRAME_SAMPLES));
            // The loudest there is.
            samples[1_000..1_010].fill(i16::MIN);
            mixer.audio(key, SLOT, &bytes(&samples));
            for (sum, sample) in sums.iter_mut().zip(&samples) {
                *sum += i32::from(*sample);
            }
        }
        let mut made = Made::default();
        made.take(&mut mixer, 0);
        let made = if channels == 1 { made.samples } else { made.channel(0) };
        let made = &made[FRAME_SAMPLES..];
        let mut volume: Option<(usize, f64)> = None;
        for (at, (mixed, sum)) in made.iter().zip(&sums).enumerate() {
            assert!(i32::from(*mixed).abs() <= sum.abs(), "louder than the sum at {at}");
            assert!(i32::from(mixed.signum()) * sum.signum() >= 0, "wrapped round at {at}");
            if sum.abs() > 20_000 {
                let now = (at, f64::from(*mixed) / f64::from(*sum));
                let last = volume.replace(now).unwrap_or(now);
                let steps = (at - last.0).max(1) as f64;
                // Over the look ahead from one to zero, and what rounding takes.
                let step = (now.1 - last.1).abs() / steps;
                assert!(step < 1.0 / 79.0, "a step of {step} at {at}");
            }
        }
        assert!(made[1_000..1_010].iter().all(|sample| *sample < -32_760), "full scale is used");
        // 200 ms after the last loud sample it is the sum again.
        let after = loud + 3_300;
        let sums: Vec<_> = sums[after..made.len()].iter().map(|sum| *sum as i16).collect();
        same(&made[after..], &sums);
        assert!((20..=31).contains(&mixer.stats().limited), "{:?}", mixer.stats());
    }
}

#[test]
fn two_channels_keep_to_their_sides_and_share_their_volume() {
    let mut mixer = Mixer::new(2);
    let (left, right) = (steady(&mut mixer, 1, SLOT), steady(&mut mixer, 2, SLOT));
    let both = steady(&mut mixer, 3, SLOT);
    let [a, b, c] = [1, 2, 3].map(|seed| noise(seed, 9_000, 20 * FRAME_SAMPLES));
    for (key, samples) in [(left, &a), (right, &b), (both, &c)] {
        mixer.audio(key, SLOT, &bytes(samples));
    }
    let mut made = Made::default();
    made.take(&mut mixer, 0);
    for (channel, own) in [(0, &a), (1, &b)] {
        let heard = &made.channel(channel)[FRAME_SAMPLES..];
        let sums: Vec<_> = own.iter().zip(&c).map(|(own, both)| own + both).collect();
        same(heard, &sums[..heard.len()]);
    }
    // One side is too loud: the other goes down with it.
    let loud = vec![i16::MAX; 10 * FRAME_SAMPLES];
    for key in [left, both] {
        mixer.audio(key, 21 * SLOT, &bytes(&loud));
    }
    mixer.audio(right, 21 * SLOT, &bytes(&vec![0; 10 * FRAME_SAMPLES]));
    let mut made = Made::default();
    made.take(&mut mixer, 0);
    let (left, right) = (made.channel(0), made.channel(1));
    assert_eq!((left[1_000], right[1_000]), (i16::MAX, i16::MAX / 2));
}

#[test]
fn a_mix_begins_with_the_first_and_holds_no_more_than_it_may() {
    let mut mixer = Mixer::new(1);
    let (one, other) = (mixer.join(1, 0), mixer.join(1, 0));
    let second = bytes(&noise(1, 9_000, 16_000));
    mixer.audio(one, 100_000, &second);
    // It begins earlier than was thought.
    mixer.audio(other, 90_007, &second);
    let mut made = Made::default();
    made.take(&mut mixer, 0);
    assert_eq!(made.first, Some(89_920));
    let room = mixer.room(0);
    assert_eq!(room - made.first.unwrap(), (made.states.len() + MIX_SLOTS_MAX) as u64 * SLOT);
    let far = vec![0; 2 * (room as usize)];
    mixer.audio(one, 116_000, &far);
    mixer.quiet(other, 106_007, room, SlotState::Lost);
    made.take(&mut mixer, 0);
    made.finish(&mut mixer);
    assert!(made.first.unwrap() + made.states.len() as u64 * SLOT <= mixer.room(0));
    // Where the room is far ahead, what was is over.
    let slot = mixer.next(16_000_000).unwrap();
    assert!(slot.pos > 15_999_000, "{slot:?}");
}
