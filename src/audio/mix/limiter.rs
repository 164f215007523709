//! Keeps a sum within full scale: turned down before what is too loud comes,
//! and back up when it is over. What fits passes as it is, bit for bit.

use crate::{
    audio::frame::SLOTS_PER_S,
    limits::{FRAME_SAMPLES, MIX_AHEAD_SAMPLES as AHEAD, MIX_RELEASE},
};

/// Full volume.
const ONE: i32 = 1 << 16;
/// The loudest sample at full volume.
const LOUDEST: i32 = i16::MAX as i32 * ONE;
/// Volume that comes back with each sample.
const RELEASE: i32 =
    ONE / (MIX_RELEASE.as_millis() as i32 * (FRAME_SAMPLES as u32 * SLOTS_PER_S) as i32 / 1_000);
/// A slot, and what is looked at behind it.
const SEEN: usize = FRAME_SAMPLES + AHEAD;
/// The largest power of two within the samples that are looked ahead.
const POWER: usize = 1 << AHEAD.ilog2();

/// The volume of a mix, from slot to slot. All channels have the same, so that
/// nobody moves from left to right.
#[derive(Debug)]
pub(super) struct Limiter {
    /// The volume that is held, before it is smoothed.
    held: i32,
    /// The last of them, whose mean the volume is.
    history: [i32; AHEAD],
    oldest: usize,
    total: i32,
    idle: bool,
}

impl Limiter {
    pub(super) fn new() -> Self {
        Self { held: ONE, history: [ONE; AHEAD], oldest: 0, total: ONE * AHEAD as i32, idle: true }
    }

    /// Whether all is at full volume.
    pub(super) fn is_idle(&self) -> bool {
        self.idle
    }

    /// The volume of each sample of a slot, told by the channels' sums in it
    /// and in the one behind it; none: all have full volume.
    pub(super) fn volumes<'a>(
        &mut self,
        channels: impl Iterator<Item = (&'a [i32; FRAME_SAMPLES], &'a [i32; FRAME_SAMPLES])> + Clone,
    ) -> Option<[i32; FRAME_SAMPLES]> {
        let fit = channels.clone().all(|(slot, next)| fits(slot) && fits(&next[..AHEAD]));
        if fit && self.idle {
            return None;
        }
        let mut most = [ONE; SEEN];
        for (slot, next) in channels {
            for (most, sum) in most.iter_mut().zip(slot.iter().chain(&next[..AHEAD])) {
                if !fits(&[*sum]) {
                    *most = (*most).min(LOUDEST / sum.abs());
                }
            }
        }
        lowest_ahead(&mut most);
        let mut volumes = [ONE; FRAME_SAMPLES];
        for (volume, most) in volumes.iter_mut().zip(most) {
            self.held = (self.held + RELEASE).min(most);
            self.total += self.held - self.history[self.oldest];
            self.history[self.oldest] = self.held;
            self.oldest = (self.oldest + 1) % AHEAD;
            *volume = self.total / AHEAD as i32;
        }
        self.idle = self.total == ONE * AHEAD as i32;
        Some(volumes)
    }
}

/// A sum at a volume.
pub(super) fn scaled(sum: i32, volume: i32) -> i16 {
    let scaled = (i64::from(sum) * i64::from(volume)) >> 16;
    // The volume sees to it that it fits.
    scaled.clamp(i64::from(i16::MIN), i64::from(i16::MAX)) as i16
}

/// Whether all are samples as they stand.
fn fits(sums: &[i32]) -> bool {
    sums.iter().fold(0, |over, sum| over | (sum ^ i32::from(*sum as i16))) == 0
}

/// Makes each volume the lowest of those from it up to [`AHEAD`] on, as far as
/// there is a whole slot of them.
fn lowest_ahead(volumes: &mut [i32; SEEN]) {
    let mut span = 1;
    let mut lower = |by: usize, count: usize| {
        for at in 0..count {
            volumes[at] = volumes[at].min(volumes[at + by]);
        }
    };
    let mut left = SEEN;
    while span < POWER {
        left -= span;
        lower(span, left);
        span *= 2;
    }
    lower(AHEAD - POWER, left - (AHEAD - POWER));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lowest_ahead_is_found() {
        let mut volumes = [0; SEEN];
        for (at, volume) in volumes.iter_mut().enumerate() {
            *volume = ((at * 7_919 + 13) % 1_009) as i32;
        }
        let plain: Vec<_> =
            (0..FRAME_SAMPLES).map(|at| volumes[at..at + AHEAD].iter().min().copied()).collect();
        lowest_ahead(&mut volumes);
        let found: Vec<_> = volumes[..FRAME_SAMPLES].iter().copied().map(Some).collect();
        assert_eq!(found, plain);
    }
}
