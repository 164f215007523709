//! Workers that leave, in fair weather: their rooms go to others one by one,
//! and no room is ever without a session because of that, whatever else happens
//! meanwhile. The world watches over the latter all the time.

use audio_gateway::{
    bus::messages::Cancel,
    dispatch::io::Request,
    id::{TaskId, WorkerId},
    task::TaskSpec,
};
use fastrand::Rng;

use super::{
    faults::Fault,
    wire::Weather,
    world::{MS, S, Scenario, World},
};

/// Runs of each story.
const RUNS: u64 = 6;
/// Longer than a run.
const FOR_GOOD: u64 = 1_000 * S;
/// When the first worker is drained.
const LEAVES: u64 = 10 * S;

fn submit(task: &str, room: u64) -> Request {
    // Every third one is played to as well.
    let push = match room % 3 {
        0 => r#","pull":{},"push":{"from":"audio.push.r.tts"}"#,
        _ => "",
    };
    let json = format!(r#"{{"id":"{task}","room":"{task}","sdk":"sim"{push}}}"#);
    Request::Submit(Box::new(TaskSpec::from_json(json.as_bytes()).unwrap()))
}

/// So many rooms at the first of three workers, which is drained later or what
/// else the faults say.
fn scenario(rooms: u64, rng: &mut Rng, faults: Vec<(u64, Fault)>) -> Scenario {
    let alone = |worker| (50 * MS, Fault::DrainWorker(worker, LEAVES - S));
    Scenario {
        dispatchers: 3,
        workers: vec![200, 200, 200],
        capped: false,
        mixed: false,
        weather: Weather::fair(),
        calls: (0..rooms)
            .map(|room| (S + rng.u64(0..2_000) * MS, submit(&format!("t{room}"), room)))
            .collect(),
        faults: [alone(1), alone(2)].into_iter().chain(faults).collect(),
        skewed: false,
        moods: false,
        ends: 45 * S,
    }
}

fn run(seed: u64, scenario: Scenario, rng: Rng) -> World {
    let mut world = World::new(scenario, rng, std::env::var("SIM_TELL").is_ok());
    if let Err(broken) = world.run() {
        panic!("seed {seed}: {broken}");
    }
    world
}

/// Tells a story of so many rooms, once for each seed.
fn story(rooms: u64, runs: u64, faults: impl Fn(&mut Rng) -> Vec<(u64, Fault)>) -> Vec<World> {
    (0..runs)
        .map(|seed| {
            let mut rng = Rng::with_seed(seed);
            let faults = faults(&mut rng);
            let scenario = scenario(rooms, &mut rng, faults);
            run(seed, scenario, rng)
        })
        .collect()
}

#[test]
fn a_hundred_rooms_are_elsewhere_before_their_worker_has_left_them() {
    for world in story(100, RUNS / 2, |_| vec![(LEAVES, Fault::DrainWorker(0, FOR_GOOD))]) {
        assert_eq!(world.checker.starts.len(), 200, "each began once more, and no more than that");
        assert_eq!(world.checker.requeued, 0);
        assert_eq!(world.machines[0].worker.reports(), []);
        let last = world.checker.left.iter().max().unwrap() - LEAVES;
        assert!(last < 10 * S, "the last left after {} ms", last / MS);
    }
}

#[test]
fn a_worker_that_is_asked_to_end_ends_as_soon_as_it_is_empty() {
    for world in story(30, RUNS, |_| vec![(LEAVES, Fault::RetireWorker(0, 25 * S, FOR_GOOD))]) {
        assert!(!world.machines[0].alive && !world.machines[0].worker.gave_up);
        assert_eq!(world.checker.requeued, 0);
    }
}

#[test]
fn a_rolling_upgrade_touches_no_room() {
    let faults = |_: &mut Rng| {
        let retire = |worker| Fault::RetireWorker(worker, 25 * S, 500 * MS);
        (0..3).map(|worker| (LEAVES + worker as u64 * 8 * S, retire(worker))).collect()
    };
    for world in story(30, RUNS, faults) {
        assert_eq!(world.checker.requeued, 0);
        assert!(world.machines.iter().all(|machine| machine.life == 1));
    }
}

#[test]
fn a_successor_that_dies_takes_no_room_with_it_that_it_had_not_taken_over() {
    let faults = |rng: &mut Rng| {
        let dies = LEAVES + rng.u64(0..2_500) * MS;
        vec![(LEAVES, Fault::DrainWorker(0, FOR_GOOD)), (dies, Fault::KillWorker(1, FOR_GOOD))]
    };
    for world in story(20, 4 * RUNS, faults) {
        assert_eq!(world.machines[2].worker.reports().len(), 20);
    }
}

#[test]
fn a_worker_that_dies_while_it_hands_its_rooms_over_is_followed_at_once() {
    let faults = |rng: &mut Rng| {
        let dies = LEAVES + rng.u64(0..2_500) * MS;
        vec![(LEAVES, Fault::DrainWorker(0, FOR_GOOD)), (dies, Fault::KillWorker(0, FOR_GOOD))]
    };
    for world in story(20, 4 * RUNS, faults) {
        let last = world.checker.starts.iter().max().unwrap() - LEAVES;
        assert!(last < 8 * S, "the last began after {} ms", last / MS);
    }
}

#[test]
fn the_leader_may_die_between_any_two_steps_of_a_hand_over() {
    let mut deaths = 0;
    for steps in 0..60 {
        let mut rng = Rng::with_seed(steps);
        let faults = vec![(LEAVES, Fault::DrainWorker(0, FOR_GOOD))];
        let mut scenario = scenario(3, &mut rng, faults);
        scenario.weather.dies_after = Some((LEAVES, u32::try_from(steps).unwrap()));
        let world = run(steps, scenario, rng);
        deaths += u32::from(world.weather.dies_after.is_none());
        assert_eq!(world.checker.requeued, 0, "after {steps} steps");
        assert_eq!(world.machines[0].worker.reports(), [], "after {steps} steps");
    }
    assert!(deaths >= 15, "only {deaths} died");
}

#[test]
fn a_cancel_in_the_middle_ends_both_sessions() {
    for seed in 0..4 * RUNS {
        let mut rng = Rng::with_seed(seed);
        let faults = vec![(LEAVES, Fault::DrainWorker(0, FOR_GOOD))];
        let mut scenario = scenario(12, &mut rng, faults);
        for room in 0..12 {
            let task = TaskId::parse(&format!("t{room}")).unwrap();
            let at = LEAVES + rng.u64(0..2_500) * MS;
            let cancel = Cancel { task, reason: "enough".into() };
            scenario.calls.push((at, Request::Cancel(cancel)));
        }
        let world = run(seed, scenario, rng);
        assert!(world.machines.iter().all(|machine| machine.worker.reports().is_empty()));
        let last = world.checker.left.iter().max().unwrap() - LEAVES;
        assert!(last < 4 * S, "the last left after {} ms", last / MS);
    }
}

#[test]
fn a_worker_that_is_to_stay_after_all_keeps_what_nobody_has_taken_over() {
    let faults = |rng: &mut Rng| vec![(LEAVES, Fault::DrainWorker(0, rng.u64(1..2_500) * MS))];
    for world in story(20, 4 * RUNS, faults) {
        assert_eq!(world.checker.requeued, 0);
    }
}

#[test]
fn a_worker_nobody_can_follow_keeps_its_rooms_until_somebody_can() {
    for seed in 0..RUNS {
        let mut rng = Rng::with_seed(seed);
        let faults = vec![(LEAVES, Fault::DrainWorker(0, FOR_GOOD))];
        let mut scenario = scenario(20, &mut rng, faults);
        let first = WorkerId::parse("w0").unwrap();
        // The others have room for half of them.
        scenario.workers = vec![200, 5, 5];
        let world = run(seed, scenario, rng);
        assert_eq!(world.checker.requeued, 0);
        assert_eq!(world.machines[0].worker.reports().len(), 10);
        assert_eq!(world.checker.starts.len(), 30, "nothing was tried in vain");
        for task in world.store.tasks().filter(|task| task.worker == Some(first.clone())) {
            let why = "worker w0 is leaving; every worker that could take it is full: add one";
            assert_eq!(task.reason, why);
        }
    }
}
