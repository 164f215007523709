//! How loud a batch is, as a number and as a bar.

use audio_gateway::audio::Batch;

/// The quietest level that is shown, in dB below full scale.
const FLOOR: f32 = -60.0;
/// Characters of a bar.
const CELLS: usize = 16;

/// The level of a batch's audio in dBFS, where it has any: 0 is a square wave
/// of full scale.
pub(super) fn dbfs(batch: &Batch) -> Option<f32> {
    let samples = batch.pcm.len() / 2;
    if samples == 0 {
        return None;
    }
    let power: f64 = batch
        .pcm
        .chunks_exact(2)
        .map(|sample| f64::from(i16::from_le_bytes([sample[0], sample[1]])).powi(2))
        .sum();
    let rms = (power / samples as f64).sqrt() / 32_768.0;
    Some((20.0 * rms.max(1e-5).log10()) as f32)
}

/// A bar of fixed width.
pub(super) fn bar(level: Option<f32>) -> String {
    let share = level.map_or(0.0, |level| (1.0 - level / FLOOR).clamp(0.0, 1.0));
    let full = (share * CELLS as f32).round() as usize;
    "█".repeat(full) + &"·".repeat(CELLS - full)
}

#[cfg(test)]
mod tests {
    use audio_gateway::audio::{Format, Runs, SlotState};

    use super::*;

    fn batch(pcm: Vec<u8>) -> Batch {
        Batch {
            epoch: 1,
            seq: 0,
            pos: 0,
            time: 0,
            format: Format::default(),
            runs: Runs::of(SlotState::Audio, 1),
            user: String::new(),
            role: String::new(),
            flags: 0,
            pcm: pcm.into(),
        }
    }

    #[test]
    fn full_scale_is_zero_and_half_is_six_less() {
        let of = |value: i16| dbfs(&batch(value.to_le_bytes().repeat(320))).unwrap();
        assert!(of(i16::MIN).abs() < 0.01);
        assert!((of(16_384) + 6.02).abs() < 0.01);
        assert!(of(0) <= -99.0);
        assert_eq!(dbfs(&batch(Vec::new())), None);
    }

    #[test]
    fn a_bar_is_as_wide_at_every_level() {
        for level in [None, Some(-99.0), Some(-30.0), Some(0.0), Some(3.0)] {
            assert_eq!(bar(level).chars().count(), CELLS);
        }
        assert!(bar(Some(-30.0)).starts_with("████████·"));
    }
}
