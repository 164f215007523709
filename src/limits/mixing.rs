//! The bounds of mixes.

use std::time::Duration;

/// Samples over which a participant comes into a mix, or goes, where it begins
/// or ends in the middle of sound: 5 ms, too short to be missed and too long to
/// click.
pub const MIX_RAMP_SAMPLES: usize = 80;
/// Samples a mix looks ahead for what is over full scale, so that it is turned
/// down before that comes: 5 ms. With [`MIX_RAMP_SAMPLES`] half a slot.
pub const MIX_AHEAD_SAMPLES: usize = 80;
/// How long a mix that was turned down to nothing takes back to full volume: a
/// syllable, so that the change is not heard as one.
pub const MIX_RELEASE: Duration = Duration::from_millis(200);
/// Slots a mix holds between the one that is next and the newest: 2.56 s, a
/// power of two. What its fastest participant is further ahead waits, at half
/// the price, where it came from.
pub const MIX_SLOTS_MAX: usize = 128;
/// Mixes of one task, each at up to 330 kB: one without each of 16 people.
pub const TASK_MAX_MIXES: usize = 16;
