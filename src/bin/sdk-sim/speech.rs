//! Babble: syllables of a voice that nobody has, with pauses of exact zero, so
//! that a room sounds like one without a file. A glottal saw tooth goes through
//! three resonances (the formants of the vowels below), noise through one.
//! Each seed is another voice, and always the same one.

use std::f32::consts::{PI, TAU};

use audio_gateway::limits::SAMPLE_RATE;

const RATE: f32 = SAMPLE_RATE as f32;

/// First three formants in Hz: i, e, a, o, u and a neutral vowel.
const VOWELS: [[f32; 3]; 6] = [
    [300.0, 2_250.0, 2_950.0],
    [480.0, 1_900.0, 2_550.0],
    [730.0, 1_250.0, 2_500.0],
    [500.0, 900.0, 2_450.0],
    [330.0, 850.0, 2_300.0],
    [520.0, 1_450.0, 2_450.0],
];
/// Their bandwidths in Hz.
const WIDTHS: [f32; 3] = [70.0, 100.0, 140.0];

/// A two-pole filter that rings at a frequency, with a gain of one at 0 Hz.
#[derive(Debug, Clone, Copy, Default)]
struct Resonance {
    a: f32,
    b: f32,
    c: f32,
    y1: f32,
    y2: f32,
}

impl Resonance {
    fn tune(&mut self, hz: f32, width: f32) {
        self.c = -(-TAU * width / RATE).exp();
        self.b = 2.0 * (-PI * width / RATE).exp() * (TAU * hz / RATE).cos();
        self.a = 1.0 - self.b - self.c;
    }

    fn next(&mut self, x: f32) -> f32 {
        let y = self.a * x + self.b * self.y1 + self.c * self.y2;
        (self.y2, self.y1) = (self.y1, y);
        y
    }

    fn rest(&mut self) {
        (self.y1, self.y2) = (0.0, 0.0);
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sound {
    Vowel,
    Hiss,
    Pause,
}

/// One voice.
#[derive(Debug)]
pub(crate) struct Speech {
    random: u32,
    /// Pitch at rest in Hz, and the size of the mouth.
    pitch: f32,
    mouth: f32,
    sound: Sound,
    /// Samples of this sound that were made and that it has.
    at: u32,
    len: u32,
    /// Syllables left before a pause.
    syllables: u32,
    phase: f32,
    /// What each sample adds to `phase`, and how that changes.
    turn: f32,
    bend: f32,
    soft: f32,
    throat: [Resonance; 3],
    teeth: Resonance,
}

impl Speech {
    pub(crate) fn new(seed: u32) -> Self {
        let mut speech = Self {
            random: seed.wrapping_mul(0x9E37_79B9) ^ 0x5EED_5EED,
            pitch: 0.0,
            mouth: 0.0,
            sound: Sound::Pause,
            at: 0,
            len: 0,
            syllables: 0,
            phase: 0.0,
            turn: 0.0,
            bend: 0.0,
            soft: 0.0,
            throat: [Resonance::default(); 3],
            teeth: Resonance::default(),
        };
        speech.pitch = speech.between(95.0, 215.0);
        speech.mouth = speech.between(0.92, 1.15);
        speech.len = speech.samples(0.02, 0.4); // rooms do not begin in step
        speech
    }

    /// The next samples.
    pub(crate) fn fill(&mut self, mut out: &mut [i16]) {
        while !out.is_empty() {
            if self.at == self.len {
                self.next_sound();
            }
            let count = out.len().min((self.len - self.at) as usize);
            let (now, rest) = out.split_at_mut(count);
            match self.sound {
                Sound::Pause => {
                    now.fill(0);
                    self.at += count as u32;
                }
                Sound::Vowel => now.iter_mut().for_each(|sample| *sample = self.vowel()),
                Sound::Hiss => now.iter_mut().for_each(|sample| *sample = self.hiss()),
            }
            out = rest;
        }
    }

    fn next_sound(&mut self) {
        self.at = 0;
        let hisses = self.random() % 8 < 3;
        match self.sound {
            Sound::Hiss => self.begin_vowel(),
            Sound::Vowel if self.syllables == 0 => {
                self.sound = Sound::Pause;
                self.len = self.samples(0.15, 0.9);
                self.syllables = 3 + self.random() % 9;
                self.throat.iter_mut().for_each(Resonance::rest);
                self.teeth.rest();
            }
            Sound::Vowel | Sound::Pause if hisses => {
                self.sound = Sound::Hiss;
                self.len = self.samples(0.04, 0.11);
                let hz = self.between(2_800.0, 5_500.0);
                self.teeth.tune(hz, 900.0);
            }
            Sound::Vowel | Sound::Pause => self.begin_vowel(),
        }
    }

    fn begin_vowel(&mut self) {
        self.sound = Sound::Vowel;
        self.len = self.samples(0.09, 0.22);
        self.syllables = self.syllables.saturating_sub(1);
        let formants = VOWELS[(self.random() % 6) as usize];
        for ((filter, hz), width) in self.throat.iter_mut().zip(formants).zip(WIDTHS) {
            filter.tune(hz * self.mouth, width);
        }
        // The pitch starts a little higher or lower and falls within a syllable.
        self.turn = self.pitch * self.between(0.9, 1.2) / RATE;
        self.bend = -self.turn * self.between(0.0, 0.15) / self.len as f32;
    }

    fn vowel(&mut self) -> i16 {
        self.phase += self.turn;
        self.turn += self.bend;
        if self.phase >= 1.0 {
            self.phase -= 1.0;
        }
        let saw = 1.0 - 2.0 * self.phase;
        self.soft += 0.25 * (saw - self.soft);
        let loud = self.swell(0.15, 0.3);
        let voice = self.throat.iter_mut().fold(self.soft, |x, filter| filter.next(x));
        limit(voice * loud * 4_500.0)
    }

    fn hiss(&mut self) -> i16 {
        let noise = self.random() as i32 as f32 * (1.0 / 2_147_483_648.0);
        let loud = self.swell(0.3, 0.3);
        limit(self.teeth.next(noise) * loud * 900.0)
    }

    /// Loudness within a sound, 0 to 1: it rises for one share of it and falls
    /// for another.
    fn swell(&mut self, rise: f32, fall: f32) -> f32 {
        let at = self.at as f32 / self.len as f32;
        self.at += 1;
        (at / rise).min((1.0 - at) / fall).min(1.0)
    }

    fn samples(&mut self, from: f32, to: f32) -> u32 {
        (self.between(from, to) * RATE) as u32
    }

    fn between(&mut self, from: f32, to: f32) -> f32 {
        from + (to - from) * (self.random() >> 8) as f32 / (1 << 24) as f32
    }

    /// xorshift32: four instructions a sample.
    fn random(&mut self) -> u32 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 17;
        self.random ^= self.random << 5;
        self.random
    }
}

fn limit(x: f32) -> i16 {
    x.clamp(-24_000.0, 24_000.0) as i16
}

#[cfg(test)]
mod tests {
    use super::*;

    fn second(seed: u32, skip: usize) -> Vec<i16> {
        let mut speech = Speech::new(seed);
        let mut out = vec![0; (skip + 1) * 16_000];
        speech.fill(&mut out);
        out.split_off(skip * 16_000)
    }

    #[test]
    fn every_voice_is_audible_pauses_and_never_clips() {
        for seed in 0..50 {
            let mut speech = Speech::new(seed);
            let mut out = vec![0; 20 * 16_000];
            speech.fill(&mut out);
            let slots = out.chunks(320);
            let silent = slots.clone().filter(|slot| slot.iter().all(|s| *s == 0)).count();
            let energy: f64 = out.iter().map(|s| f64::from(*s).powi(2)).sum();
            let rms = (energy / ((1_000 - silent) * 320) as f64).sqrt();
            let clipped = out.iter().filter(|s| s.abs() >= 24_000).count();
            assert!((100..500).contains(&silent), "voice {seed}: {silent} silent slots");
            assert!((900.0..5_000.0).contains(&rms), "voice {seed}: rms {rms}");
            assert!(clipped < 320, "voice {seed}: {clipped} clipped samples");
        }
    }

    #[test]
    fn a_seed_is_a_voice() {
        assert_eq!(second(1, 3), second(1, 3));
        assert_ne!(second(1, 3), second(2, 3));
    }
}
