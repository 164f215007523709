//! How a participant comes into a mix and goes: a short smooth ramp.

use crate::limits::MIX_RAMP_SAMPLES;

/// Full volume.
const ONE: i32 = 1 << 15;

/// The volume of each sample of a ramp upwards: 3t² − 2t³, which begins and
/// ends without a kink.
const UP: [i32; MIX_RAMP_SAMPLES] = {
    let mut up = [0; MIX_RAMP_SAMPLES];
    let all = MIX_RAMP_SAMPLES as i64 + 1;
    let mut at = 0;
    while at < MIX_RAMP_SAMPLES {
        let t = at as i64 + 1;
        up[at] = ((3 * t * t * all - 2 * t * t * t) * ONE as i64 / (all * all * all)) as i32;
        at += 1;
    }
    up
};

/// Samples of a ramp, one behind the other.
pub(super) type Ramp = [i32; MIX_RAMP_SAMPLES];

/// Turns samples up, from step `from` of the ramp on.
pub(super) fn up(samples: &mut [i32], from: usize) {
    for (sample, volume) in samples.iter_mut().zip(&UP[from..]) {
        *sample = scaled(*sample, *volume);
    }
}

/// Turns samples down, so that behind the last of them there can be nothing.
/// Fewer than a ramp has are turned down faster.
pub(super) fn down(samples: &mut [i32]) {
    let count = samples.len();
    for (at, sample) in samples.iter_mut().enumerate() {
        let step = (count - 1 - at) * MIX_RAMP_SAMPLES / count;
        *sample = scaled(*sample, UP[step]);
    }
}

fn scaled(sample: i32, volume: i32) -> i32 {
    (sample * volume + ONE / 2) >> 15
}
