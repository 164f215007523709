//! What goes wrong in a run, by its seed.

use audio_gateway::sdk::pipe::MediaClock;
use fastrand::Rng;

use super::{
    adapter::Faults,
    truth::{Manners, Person},
    wire::Weather,
    world::{Plan, S, Turn, World},
};

/// Times of a run, in µs.
fn some(most: usize, seconds: i64, rng: &mut Rng) -> Vec<i64> {
    (0..rng.usize(1..=most)).map(|_| rng.i64(2 * S..(seconds - 1) * S)).collect()
}

fn spans(most: usize, longest: i64, seconds: i64, rng: &mut Rng) -> Vec<(i64, i64)> {
    let from = some(most, seconds, rng);
    // Whole slots of the room's time.
    from.into_iter()
        .map(|at| at / 20_000 * 20_000)
        .map(|at| (at, at + rng.i64(1..=longest / 20_000) * 20_000))
        .collect()
}

fn weather(rng: &mut Rng) -> Weather {
    if rng.u8(0..6) == 0 {
        return Weather { slow: 2_000, ..Weather::default() };
    }
    let mut share = |most: u32| if rng.bool() { rng.u32(0..=most) } else { 0 };
    let (live, twice, damaged) = (10 + share(290), share(100), share(100));
    let bad = rng.bool();
    let mut worse = |most: u32| if bad { rng.u32(0..=most) } else { 0 };
    Weather {
        live,
        again: worse(300),
        nacks: worse(200),
        twice,
        damaged,
        slow: [1, 5, 30, 150][rng.usize(0..4)] * 1_000,
    }
}

/// The run of a seed.
pub fn storm(seed: u64) -> World {
    let mut rng = Rng::with_seed(seed);
    let seconds = rng.i64(8..16);
    let clock = if rng.bool() { MediaClock::Unix } else { MediaClock::Own };
    let manners = match rng.u8(0..3) {
        // Ten come or go in a second.
        0 => Manners { people: rng.usize(3..7), away: 4, muted: 1, longest: 60 },
        1 => Manners { people: rng.usize(1..4), away: 1, muted: 2, longest: 100 },
        _ => Manners { people: rng.usize(1..4), away: 0, muted: 1, longest: 300 },
    };
    let weather = weather(&mut rng);
    let mut faults = Faults { ppm: rng.i64(-200..=200), ..Faults::default() };
    let (mut turns, mut whole) = (Vec::new(), weather.again == 0 && weather.nacks == 0);
    for _ in 0..rng.usize(0..3) {
        match rng.u8(0..8) {
            0 | 1 => {
                faults.stalls = spans(2, 3 * S + 500_000, seconds, &mut rng);
                whole = false;
            }
            2 => faults.lost = spans(3, S, seconds, &mut rng),
            3 => faults.holes = spans(3, S, seconds, &mut rng),
            4 => {
                faults.garbage = some(5, seconds, &mut rng);
                whole = false;
            }
            5 if clock == MediaClock::Own && manners.away == 0 => {
                let steps = some(2, seconds, &mut rng).into_iter();
                let by = [-20 * S, -3 * S, -S, S / 2, 2 * S, 3_600 * S];
                faults.steps = steps.map(|at| (at, by[rng.usize(0..by.len())])).collect();
            }
            6 => {
                for at in some(3, seconds, &mut rng) {
                    turns.push((at, Turn::Pause(rng.i64(20..900) * 1_000)));
                }
                whole = false;
            }
            _ => {
                let after = rng.i64(100..4_000) * 1_000;
                let turn = match rng.u8(0..4) {
                    0 => Turn::Crash(after),
                    1 => Turn::Kill(after),
                    2 => Turn::CutOff(after),
                    _ => Turn::HandOver(after / 4),
                };
                whole &= matches!(turn, Turn::HandOver(_)) && clock == MediaClock::Unix;
                turns.push((rng.i64(2 * S..(seconds - 1) * S), turn));
            }
        }
    }
    if !faults.steps.is_empty() {
        // A step back within a hole is a shorter hole, as far as can be told.
        faults.holes.clear();
        faults.stalls.clear();
        // One forward is a hole, where its frames wait for longer in the pipe; one
        // back while an adapter joins is not seen.
        turns.clear();
        // Two that undo each other are two clocks.
        faults.steps.sort_unstable();
        faults.steps.dedup_by_key(|(at, _)| *at / (4 * S));
        if faults.steps.windows(2).any(|two| two[1].0 - two[0].0 < 2 * S) {
            faults.steps.truncate(1);
        }
    }
    // Who has just come is heard by one worker before the other.
    whole &= manners.away == 0 || turns.is_empty();
    // A worker that answers no more takes what it was asked with it.
    whole &= turns.is_empty() || weather.live < 10;
    let batch_frames = [1, 2, 3, 5, 10, 10, 10, 10, 25, 50][rng.usize(0..10)];
    let listeners = 1 + usize::from(rng.u8(0..4) == 0);
    let slots = seconds * 50 + 100;
    let people = (0..manners.people).map(|at| Person::new(at, manners, slots, &mut rng));
    let people = people.collect();
    // Where a clock steps while nobody is heard, nothing says by how much.
    let off = if faults.steps.is_empty() { 1_600 } else { 4_800 };
    let plan = Plan { clock, faults, weather, turns, listeners, batch_frames, seconds, whole, off };
    World::new(plan, people, rng)
}
