//! What a click is: energy where the voices have none, in the moment when one
//! of them comes or goes.

use std::f64::consts::TAU;

use super::{
    mix::{Made, SLOT, bytes},
    *,
};
use crate::audio::Mixer;

/// Samples looked at at once, and what is the lowest frequency of a click in
/// them: 2 kHz, where the tones below have nothing.
const WINDOW: usize = 512;
const LOWEST: usize = WINDOW / 8;
/// Energy there may be above it, of all there is: 60 dB less. What is cut off
/// at its peak has 25 dB more.
const LEAST: f64 = 1e-6;

fn tone(hz: f64, samples: u64) -> Vec<i16> {
    let at = |index: u64| (index as f64 * hz / 16_000.0 * TAU + TAU / 4.0).sin() * 8_000.0;
    (0..samples).map(|index| at(index) as i16).collect()
}

/// The largest share of its energy that any stretch of a sound has above the
/// lowest frequency of a click.
fn click(samples: &[i16]) -> f64 {
    let windows = samples.windows(WINDOW).step_by(WINDOW / 8);
    windows.map(|samples| above(samples) / energy(samples).max(1.0)).fold(0.0, f64::max)
}

/// A window without edges of its own: Blackman and Harris'.
fn shaped(samples: &[i16]) -> Vec<f64> {
    let shape = |at: usize| {
        let t = at as f64 / WINDOW as f64 * TAU;
        0.35875 - 0.48829 * t.cos() + 0.14128 * (2.0 * t).cos() - 0.01168 * (3.0 * t).cos()
    };
    samples.iter().enumerate().map(|(at, sample)| f64::from(*sample) * shape(at)).collect()
}

fn energy(samples: &[i16]) -> f64 {
    shaped(samples).iter().map(|sample| sample * sample).sum()
}

/// The energy of all bins from the lowest of a click up.
fn above(samples: &[i16]) -> f64 {
    let samples = shaped(samples);
    let bin = |bin: usize| {
        let parts = samples.iter().enumerate().map(|(at, sample)| {
            let (sin, cos) = ((bin * at % WINDOW) as f64 / WINDOW as f64 * TAU).sin_cos();
            (sample * cos, sample * sin)
        });
        let (re, im) = parts.fold((0.0, 0.0), |sum, it| (sum.0 + it.0, sum.1 + it.1));
        (re * re + im * im) * 2.0 / WINDOW as f64
    };
    (LOWEST..WINDOW / 2).map(bin).sum()
}

/// A steady voice, and another that comes in at its peak and goes again.
fn mixed(edge: SlotState) -> Vec<i16> {
    let mut mixer = Mixer::new(1);
    let (one, other) = (mixer.join(1, 0), mixer.join(1, 0));
    mixer.quiet(one, 0, SLOT, SlotState::Silence);
    mixer.audio(one, SLOT, &bytes(&tone(300.0, 29 * SLOT)));
    mixer.quiet(other, 0, 10 * SLOT, edge);
    mixer.audio(other, 10 * SLOT, &bytes(&tone(420.0, 10 * SLOT)));
    mixer.quiet(other, 20 * SLOT, 10 * SLOT, edge);
    let mut made = Made::default();
    made.take(&mut mixer, 0);
    // The steady one's own beginning and end are none of the other's edges.
    made.samples[3 * SLOT as usize..27 * SLOT as usize].to_vec()
}

#[test]
fn nobody_clicks_who_comes_or_goes() {
    for edge in [SlotState::Absent, SlotState::Muted, SlotState::Stalled, SlotState::Lost] {
        let share = click(&mixed(edge));
        assert!(share < LEAST, "{edge:?}: {share:e} of the energy is a click");
    }
}

#[test]
fn a_click_would_be_seen() {
    // Exact zeros are taken for part of the sound: that is the same, unramped.
    let share = click(&mixed(SlotState::Silence));
    assert!(share > 100.0 * LEAST, "{share:e}");
}
