//! What one run is too short for, or too rarely meets.

use audio_gateway::sdk::pipe::MediaClock;
use fastrand::Rng;

use super::{
    adapter::Faults,
    truth::{Manners, Person},
    wire::Weather,
    world::{Plan, S, Tally, Turn, World},
};

fn plan(clock: MediaClock, seconds: i64) -> Plan {
    Plan {
        clock,
        faults: Faults::default(),
        weather: Weather { slow: 1_000, ..Weather::default() },
        turns: Vec::new(),
        listeners: 1,
        batch_frames: 10,
        seconds,
        whole: true,
        off: 1_600,
    }
}

fn run(plan: Plan, manners: Manners) -> (Tally, World) {
    let mut rng = Rng::with_seed(7);
    let slots = plan.seconds * 51 + 100;
    let people = (0..manners.people).map(|at| Person::new(at, manners, slots, &mut rng));
    let people = people.collect();
    let mut world = World::new(plan, people, rng);
    if let Err(broken) = world.run() {
        panic!("{broken}");
    }
    (world.tally(), world)
}

/// People who talk and pause.
const TALK: Manners = Manners { people: 2, away: 0, muted: 1, longest: 250 };
/// Ten come and ten go in a second.
const CHURN: Manners = Manners { people: 24, away: 5, muted: 0, longest: 50 };

/// Left alone it would be 1,440 ms off at the end.
fn two_hours(ppm: i64) {
    let mut plan = plan(MediaClock::Own, 7_200);
    plan.faults.ppm = ppm;
    plan.weather.live = 10;
    let (tally, world) = run(plan, TALK);
    assert!(tally.off < 16 * 70, "{} samples off", tally.off);
    // A slot in 100 s, in both tracks.
    assert!((110..=150).contains(&tally.flags), "{tally:?}");
    assert!(world.clocks() > 1_400);
}

#[test]
fn two_hours_of_a_clock_that_is_200_ppm_fast_stay_with_the_wall() {
    two_hours(200);
}

#[test]
fn two_hours_of_a_clock_that_is_200_ppm_slow_stay_with_the_wall() {
    two_hours(-200);
}

#[test]
fn a_clock_that_steps_is_flagged_in_all_tracks_and_costs_no_sample() {
    let mut plan = plan(MediaClock::Own, 30);
    plan.faults.steps = vec![(5 * S, -20 * S), (12 * S, 2 * S), (20 * S, 3_600 * S)];
    let (tally, _) = run(plan, Manners { people: 3, away: 0, muted: 1, longest: 100 });
    assert_eq!(tally.flags, 3 * 3, "{tally:?}");
}

#[test]
fn a_clock_of_unix_time_is_the_time_line_whatever_the_wall_says() {
    let mut plan = plan(MediaClock::Unix, 600);
    plan.faults.ppm = 200;
    let (tally, _) = run(plan, TALK);
    assert_eq!(tally.flags, 0);
}

#[test]
fn ten_people_come_and_go_in_a_second_and_nobody_is_misheard() {
    let mut plan = plan(MediaClock::Own, 30);
    plan.weather.live = 50;
    let (tally, world) = run(plan, CHURN);
    let moves = world.moves();
    assert!(moves >= 20 * 30, "{moves} came or went");
    assert!(tally.slots > 5_000, "{tally:?}");
}

#[test]
fn three_seconds_held_up_and_all_at_once_lengthen_nothing() {
    for clock in [MediaClock::Own, MediaClock::Unix] {
        let mut plan = plan(clock, 60);
        plan.whole = false;
        plan.faults.stalls = (1..10).map(|at| (at * 6 * S, at * 6 * S + 3 * S)).collect();
        let (tally, _) = run(plan, TALK);
        assert!(tally.declared > 9 * 50, "{tally:?}");
        assert!(tally.off < 16 * 60, "{tally:?}");
    }
}

#[test]
fn a_room_that_is_handed_over_again_and_again_loses_nothing() {
    let mut plan = plan(MediaClock::Unix, 60);
    plan.turns = (1..10).map(|at| (at * 6 * S, Turn::HandOver(S))).collect();
    plan.weather.slow = 40_000;
    run(plan, TALK);
}

#[test]
fn a_room_whose_workers_die_is_right_again_each_time() {
    for clock in [MediaClock::Own, MediaClock::Unix] {
        let mut plan = plan(clock, 60);
        plan.whole = false;
        plan.weather.live = 50;
        let turns = [Turn::Kill(3 * S), Turn::CutOff(2 * S), Turn::Crash(S)];
        plan.turns = (1..9).map(|at| (at * 6 * S, turns[at as usize % 3].clone())).collect();
        let (tally, _) = run(plan, TALK);
        assert!(tally.slots > 500, "{tally:?}");
    }
}
