//! The samples of one participant, as a pure function of where it is: what is
//! not sent is skipped, so a hole shows.

use std::path::PathBuf;

use audio_gateway::limits::SAMPLE_RATE;

use crate::{
    params::{self, Made},
    speech::Speech,
    wav::Wav,
};

/// Where the samples come from.
pub(crate) enum Source {
    Speech(Box<Speech>),
    /// The next sample's number in its second, and the frequency in Hz.
    Tone(u32, u32),
    /// The next sample.
    Ramp(u16),
    Wav(Box<Wav>),
}

impl Source {
    /// The source of the participant with this index.
    ///
    /// # Errors
    /// Where a file cannot be played: a line that says why and the mend.
    pub(crate) fn open(
        source: &params::Source,
        index: usize,
        repeat: bool,
        media_dirs: &[PathBuf],
    ) -> Result<Self, String> {
        Ok(match source {
            params::Source::Made(Made::Speech) => Self::Speech(Box::new(Speech::new(index as u32))),
            params::Source::Made(Made::Tone) => Self::Tone(0, 220 + 20 * index as u32),
            params::Source::Made(Made::Ramp) => Self::Ramp(9_973_u16.wrapping_mul(index as u16)),
            params::Source::File { wav } => {
                Self::Wav(Box::new(Wav::open(wav, media_dirs, repeat)?))
            }
        })
    }

    /// The next samples. What a file no longer has is silence.
    pub(crate) fn fill(&mut self, out: &mut [i16]) {
        match self {
            Self::Speech(speech) => speech.fill(out),
            Self::Tone(at, hz) => {
                for sample in out {
                    // Whole turns within a second, so no rounding adds up.
                    let turn = (*at * *hz % SAMPLE_RATE) as f32 / SAMPLE_RATE as f32;
                    *sample = ((turn * std::f32::consts::TAU).sin() * 8_000.0) as i16;
                    *at = (*at + 1) % SAMPLE_RATE;
                }
            }
            Self::Ramp(next) => {
                for sample in out {
                    *sample = *next as i16;
                    *next = next.wrapping_add(1);
                }
            }
            Self::Wav(wav) => wav.fill(out),
        }
    }

    /// Passes over samples.
    pub(crate) fn skip(&mut self, count: u64) {
        match self {
            Self::Ramp(next) => *next = next.wrapping_add(count as u16),
            Self::Tone(at, _) => {
                *at = ((u64::from(*at) + count) % u64::from(SAMPLE_RATE)) as u32;
            }
            Self::Speech(_) | Self::Wav(_) => {
                let mut scratch = [0; 320];
                let mut left = count;
                while left > 0 && !self.has_ended() {
                    let n = left.min(320);
                    self.fill(&mut scratch[..n as usize]);
                    left -= n;
                }
            }
        }
    }

    /// Whether its samples follow from their numbers, however high these are.
    pub(crate) fn counts(&self) -> bool {
        matches!(self, Self::Ramp(_) | Self::Tone(..))
    }

    /// A file that is not repeated, at its end.
    pub(crate) fn has_ended(&self) -> bool {
        matches!(self, Self::Wav(wav) if wav.has_ended())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn made(made: Made, index: usize) -> Source {
        Source::open(&params::Source::Made(made), index, true, &[]).unwrap()
    }

    #[test]
    fn a_ramp_tells_its_own_position() {
        let mut ramp = made(Made::Ramp, 7);
        let mut out = [0; 320];
        ramp.fill(&mut out);
        assert_eq!(out[0] as u16, 69_811_u32 as u16);
        ramp.skip(70_000);
        ramp.fill(&mut out[..1]);
        assert_eq!(out[0] as u16, (69_811_u32 + 320 + 70_000) as u16);
    }

    #[test]
    fn skipping_is_as_good_as_listening() {
        for kind in [Made::Speech, Made::Ramp, Made::Tone] {
            let (mut heard, mut skipped) = (made(kind, 3), made(kind, 3));
            let (mut a, mut b) = ([0; 1_600], [0; 1_600]);
            for _ in 0..17 {
                heard.fill(&mut a);
            }
            skipped.skip(16 * 1_600);
            skipped.fill(&mut b);
            assert_eq!(a, b, "{kind:?}");
        }
    }

    #[test]
    fn a_tone_goes_on_where_it_was() {
        let mut tone = made(Made::Tone, 0);
        let mut out = [0; 16_000];
        tone.fill(&mut out);
        let crossings = out.windows(2).filter(|w| w[0] < 0 && w[1] >= 0).count();
        assert!((219..=221).contains(&crossings), "{crossings}");
        assert!(out.iter().all(|s| s.abs() <= 8_000));
    }
}
