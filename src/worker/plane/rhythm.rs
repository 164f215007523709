//! When a room is looked at: just behind the moment its next batch is full. An
//! adapter writes a frame every 20 ms, and who looks at any odd moment finds the
//! last one 10 ms old on average and now and then one frame too few. So each
//! look creeps a little towards the frame it waits for, until it comes too
//! early, looks again a moment later and stays behind that: the phase of the
//! adapter's clock, found without a wake for each of its frames.

use super::{time::Us, wheel::SLOT_US};
use crate::{limits, worker::room::Found};

/// Looks of rooms with batches of 100 ms and more come at multiples of this, so
/// that one wake serves many: at a thousand rooms 50 of them. It is what a look
/// adds to the delay at most, and half of it on average.
const GRID_US: Us = 10_000;
/// How soon those of them are looked at again that were too early.
const AGAIN_US: Us = 5_000;
/// Of the others: they are there for their delay.
const FINE_US: Us = SLOT_US;
/// Batches from which on the first of the two holds.
const LONG_US: Us = 100_000;
/// Least and most that a look comes earlier than the one before it. The least is
/// more than two clocks that differ by 100 ppm drift apart in 200 ms; where they
/// differ by more, it grows until it is again. One that comes too early costs a read
/// for nothing: of a step four times as long, one look in ten did.
const STEPS: std::ops::RangeInclusive<Us> = 25..=4_000;
/// Looks in a row that find a full batch before the next comes twice as much
/// earlier.
const HITS: u32 = 32;
/// How often a room without a track is looked at.
const PARKED_US: Us = limits::HEARTBEAT_TRACK.as_micros() as Us;
const FRAME_US: Us = limits::FRAME.as_micros() as Us;

/// See the module.
#[derive(Debug)]
pub(super) struct Rhythm {
    period: Us,
    grid: Us,
    /// After how long it is looked at again that came too early.
    again: Us,
    /// When the next batch should be full.
    beat: Us,
    /// When the room is looked at.
    look: Us,
    /// Looks at this batch so far.
    tries: u32,
    step: Us,
    hits: u32,
    /// The last batch was not full in the end: nothing is waited for.
    lost: bool,
}

impl Rhythm {
    /// Batches of `frames` frames, the first of them looked for at a moment of
    /// the room's own within the next period.
    pub(super) fn new(period: Us, phase: Us, now: Us) -> Self {
        let beat = now - now.rem_euclid(period) + phase.rem_euclid(period);
        let beat = if beat <= now { beat + period } else { beat };
        let (grid, again) =
            if period >= LONG_US { (GRID_US, AGAIN_US) } else { (FINE_US, FINE_US) };
        let step = *STEPS.end();
        Self { period, grid, again, beat, look: beat, tries: 0, step, hits: 0, lost: false }
    }

    /// When the room is to be looked at.
    pub(super) fn due(&self) -> Us {
        // One that came too early is waited for no longer than it must be.
        let grid = if self.tries > 0 { self.again } else { self.grid };
        (self.look + grid - 1).div_euclid(grid) * grid
    }

    /// The room was looked at: whether what it has goes out. If not it is looked
    /// at again soon.
    pub(super) fn looked(&mut self, found: Found, now: Us) -> bool {
        let whole = found.full && !found.soon;
        // Longer than a frame nothing is waited for, and not into the next batch.
        let patience = FRAME_US.min(self.period - self.grid);
        if !whole && !self.lost && now - self.beat < patience && (found.full || found.soon) {
            self.tries += 1;
            self.look = now.max(self.look) + self.again;
            return false;
        }
        if found.full {
            if self.tries > 0 {
                self.beat = now;
                self.step = (self.step / 2).max(*STEPS.start());
                self.hits = 0;
            } else if now - self.due() < self.grid {
                self.beat -= self.step;
                self.hits += 1;
                if self.hits.is_multiple_of(HITS) {
                    self.step = (self.step * 2).min(*STEPS.end());
                }
            }
        } else {
            // Whoever comes back comes at any moment.
            (self.step, self.hits) = (*STEPS.end(), 0);
        }
        self.lost = !found.full;
        true
    }

    /// What could go out is out, and the fullest track has `rest` frames left
    /// over: plans the next look.
    pub(super) fn settled(&mut self, rest: u64, now: Us) {
        self.tries = 0;
        let rest = Us::try_from(rest).unwrap_or(0) * FRAME_US;
        self.beat += self.period - rest.clamp(0, self.period - self.grid);
        if self.beat <= now {
            self.beat += (now - self.beat) / self.period * self.period + self.period;
        }
        self.look = self.beat;
    }

    /// There is nobody to be heard: looks are there for who comes.
    pub(super) fn park(&mut self, now: Us) {
        self.beat = self.beat.max(now + PARKED_US);
        self.look = self.beat;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An adapter whose frames come at `phase`, and each up to `jitter` later,
    /// read in so many batches of `most`. Returns the age of the last
    /// frame of each batch and how often it was looked at.
    fn play(
        most: usize,
        phase: Us,
        jitter: Us,
        ppm: i64,
        batches: usize,
        random: &mut fastrand::Rng,
    ) -> (Vec<Us>, usize) {
        let mut frames = Vec::new();
        for number in 1..(batches as i64 + 40) * most as i64 {
            let on_time = number * FRAME_US * 1_000_000 / (1_000_000 + ppm) + phase;
            frames.push(on_time + random.i64(0..=jitter));
        }
        let mut rhythm = Rhythm::new(most as Us * FRAME_US, 77_000, 0);
        let (mut out, mut come, mut ages, mut looks) = (0, 0, Vec::new(), 0);
        while ages.len() < batches {
            let now = rhythm.due();
            looks += 1;
            // A pipe keeps the order.
            come += frames[come..].iter().take_while(|at| **at <= now).count();
            let pending = come - out;
            let found = Found { full: pending >= most, soon: pending + 1 == most };
            if rhythm.looked(found, now) {
                let sent = pending.min(most);
                out += sent;
                if sent > 0 {
                    ages.push(now - frames[out - 1]);
                }
                rhythm.settled((pending - sent) as u64, now);
            }
        }
        (ages, looks)
    }

    fn percentile(ages: &[Us], share: f64) -> Us {
        let mut ages = ages.to_vec();
        ages.sort_unstable();
        ages[((ages.len() - 1) as f64 * share) as usize]
    }

    #[test]
    fn whatever_the_phase_a_batch_goes_out_when_it_is_full() {
        let mut random = fastrand::Rng::with_seed(1);
        for phase in (0..FRAME_US).step_by(1_700) {
            for (frames, most) in [(10, GRID_US + AGAIN_US), (1, 2 * FINE_US)] {
                let (ages, looks) = play(frames, phase, 0, 0, 800, &mut random);
                let late = percentile(&ages[300..], 0.99);
                assert!(late <= most, "{frames} frames, phase {phase}: {late}");
                assert!(looks <= 800 * 11 / 10, "{looks} looks for 800 batches");
            }
        }
    }

    #[test]
    fn clocks_that_drift_and_frames_that_jitter_are_followed() {
        let mut random = fastrand::Rng::with_seed(2);
        for ppm in [-400, -200, 200, 400] {
            let (ages, looks) = play(10, 3_000, 0, ppm, 2_000, &mut random);
            let late = percentile(&ages[100..], 0.99);
            assert!(late <= GRID_US + AGAIN_US, "{ppm} ppm: {late}");
            assert!(looks <= 2_000 * 5 / 4, "{ppm} ppm: {looks}");
        }
        for (frames, most) in [(10, GRID_US + AGAIN_US), (1, 3 * FINE_US)] {
            for jitter in [2_000, 5_000, 12_000] {
                let (ages, looks) = play(frames, 3_000, jitter, 0, 3_000, &mut random);
                let late = percentile(&ages[300..], 0.99);
                assert!(late <= jitter + most, "{frames} frames, jitter {jitter}: {late}");
                assert!(looks <= 3_000 * 3 / 2, "{frames} frames, jitter {jitter}: {looks}");
            }
        }
    }

    #[test]
    fn an_adapter_that_says_nothing_is_looked_at_once_a_period() {
        let mut rhythm = Rhythm::new(200_000, 0, 0);
        let nothing = Found { full: false, soon: false };
        for _ in 0..20 {
            let now = rhythm.due();
            assert!(rhythm.looked(nothing, now));
            rhythm.settled(0, now);
            assert_eq!(rhythm.due(), now + 200_000);
        }
    }

    #[test]
    fn a_room_without_a_track_is_looked_at_five_times_a_second() {
        let mut rhythm = Rhythm::new(FRAME_US, 0, 0);
        let nothing = Found { full: false, soon: false };
        for _ in 0..20 {
            let now = rhythm.due();
            assert!(rhythm.looked(nothing, now));
            rhythm.settled(0, now);
            rhythm.park(now);
            assert_eq!(rhythm.due(), now + PARKED_US);
        }
    }

    #[test]
    fn a_batch_that_does_not_fill_up_is_waited_for_once_and_for_a_frame() {
        let mut rhythm = Rhythm::new(200_000, 0, 0);
        let some = Found { full: false, soon: true };
        let (begin, mut looks) = (rhythm.due(), 1);
        while !rhythm.looked(some, rhythm.due()) {
            looks += 1;
        }
        assert_eq!((rhythm.due() - begin, looks), (FRAME_US, 5));
        let now = rhythm.due();
        rhythm.settled(0, now);
        assert_eq!(rhythm.due(), begin + 200_000);
        assert!(rhythm.looked(some, rhythm.due()), "not again before one was full");
    }

    #[test]
    fn a_thread_that_was_away_goes_on_with_the_next_batch() {
        let mut rhythm = Rhythm::new(200_000, 0, 0);
        let full = Found { full: true, soon: false };
        let (beat, late) = (rhythm.due(), rhythm.due() + 950_000);
        assert!(rhythm.looked(full, late));
        rhythm.settled(0, late);
        assert_eq!(rhythm.due(), beat + 1_000_000);
    }
}
