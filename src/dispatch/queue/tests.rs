//! Order, ageing and the cost of a look.

use super::*;
use crate::{
    id::RoomId,
    task::{Epoch, TaskSpec, TaskState},
};

fn record(task: &str, sdk: &str, priority: u8, pending_ms: u64) -> TaskRecord {
    let json = format!(r#"{{"id":"{task}","room":"r","sdk":"{sdk}","priority":{priority}}}"#);
    let spec = TaskSpec::from_json(json.as_bytes()).unwrap();
    TaskRecord {
        task: TaskId::parse(task).unwrap(),
        spec: TaskSpec { room: RoomId::parse(task).unwrap(), ..spec },
        state: TaskState::Pending,
        epoch: Epoch::default(),
        worker: None,
        from: None,
        reason: String::new(),
        created_ms: pending_ms,
        changed_ms: pending_ms,
        pending_ms,
        started_ms: None,
        cancel: false,
        revision: 0,
        submitted: None,
    }
}

#[test]
fn a_higher_priority_comes_first_and_among_equals_who_waits_longer() {
    let order = [
        record("urgent", "sim", 9, 5_000),
        record("early", "sim", 5, 1_000),
        record("late", "sim", 5, 2_000),
        record("low", "sim", 0, 0),
    ];
    let turns: Vec<Turn> = order.iter().map(Turn::of).collect();
    assert!(turns.is_sorted(), "{turns:?}");
}

#[test]
fn the_lowest_priority_is_overtaken_for_nine_steps_and_no_longer() {
    let low = Turn::of(&record("low", "sim", 0, 0));
    let most = 9 * u64::try_from(limits::AGE_STEP.as_millis()).unwrap();
    assert!(Turn::of(&record("high", "sim", 9, most - 1)) < low);
    assert!(Turn::of(&record("high", "sim", 9, most + 1)) > low);
    // And that is before it expires by default.
    assert!(Duration::from_millis(most) < limits::TASK_START_WITHIN);
}

#[test]
fn the_last_places_are_kept_for_higher_priorities() {
    assert_eq!(places_for(9), limits::QUEUE_MAX);
    let all: Vec<usize> = (0..=9).map(places_for).collect();
    assert!(all.windows(2).all(|pair| pair[1] - pair[0] == limits::QUEUE_STEP), "{all:?}");
    assert!(all[0] > limits::QUEUE_MAX / 2);
}

/// Goes on until nothing is worth a look; everything finds no place.
fn look(places: &mut Places, records: &BTreeMap<TaskId, TaskRecord>) -> Vec<String> {
    let mut tried = Vec::new();
    while let Some(task) = places.next() {
        let record = &records[&task];
        let class = Class::of(record);
        let must_wait = places.must_wait(&class);
        if !must_wait {
            tried.push(task.to_string());
        }
        places.park(record, class, (!must_wait).then_some("full"));
    }
    tried
}

fn queue(tasks: &[TaskRecord]) -> (Places, BTreeMap<TaskId, TaskRecord>) {
    let mut places = Places::default();
    tasks.iter().for_each(|task| places.again(task));
    (places, tasks.iter().map(|task| (task.task.clone(), task.clone())).collect())
}

#[test]
fn where_one_found_no_place_the_others_of_its_class_are_not_tried() {
    let tasks = [
        record("a1", "a", 5, 1),
        record("a2", "a", 5, 2),
        record("b1", "b", 5, 3),
        record("a3", "a", 5, 4),
    ];
    let (mut places, mut records) = queue(&tasks);
    assert_eq!(look(&mut places, &records), ["a1", "b1"]);
    assert_eq!(places.why(&tasks[3]), Some("full"));
    // What comes meanwhile does not overtake those that wait …
    let before = places.looks;
    places.again(&tasks[3]);
    assert!(places.is_idle(), "it waits already");
    let late = record("a0", "a", 9, 0);
    records.insert(late.task.clone(), late.clone());
    places.again(&late);
    assert!(look(&mut places, &records).is_empty() && places.looks == before + 2);
    places.left(&late);
    // … and a look takes up the first of each.
    places.look_through();
    assert_eq!(look(&mut places, &records), ["a1", "b1"]);
}

#[test]
fn who_found_a_place_is_followed_by_the_next_of_its_class() {
    let tasks = [record("a1", "a", 5, 1), record("a2", "a", 5, 2), record("a3", "a", 5, 3)];
    let (mut places, records) = queue(&tasks);
    look(&mut places, &records);
    places.look_through();
    assert_eq!(places.next().unwrap().as_str(), "a1");
    places.left(&tasks[0]);
    assert_eq!(look(&mut places, &records), ["a2"]);
    assert!(places.is_idle());
}

#[test]
fn one_that_comes_during_a_look_and_is_more_urgent_is_tried_first() {
    let tasks = [record("a1", "a", 5, 1), record("a2", "a", 5, 2)];
    let (mut places, mut records) = queue(&tasks);
    look(&mut places, &records);
    places.look_through();
    let urgent = record("a0", "a", 9, 3);
    places.again(&urgent);
    records.insert(urgent.task.clone(), urgent);
    assert_eq!(look(&mut places, &records), ["a0"]);
}

#[test]
fn who_left_is_not_looked_at() {
    let tasks = [record("a1", "a", 5, 1), record("a2", "a", 5, 2)];
    let (mut places, records) = queue(&tasks);
    look(&mut places, &records);
    places.look_through();
    places.left(&tasks[0]);
    assert_eq!(look(&mut places, &records), ["a2"]);
    places.left(&tasks[1]);
    places.look_through();
    assert!(places.is_idle() && places.waiting.is_empty() && places.heads.is_empty());
}

#[test]
fn a_look_through_ten_thousand_tasks_takes_a_step_for_each_class() {
    let classes = ["a", "b", "c", "d"];
    let tasks: Vec<TaskRecord> = (0..limits::QUEUE_MAX)
        .map(|at| record(&format!("t{at}"), classes[at % 4], (at % 10) as u8, at as u64))
        .collect();
    let (mut places, records) = queue(&tasks);
    assert_eq!(look(&mut places, &records).len(), classes.len());
    for _ in 0..100 {
        let before = places.looks;
        places.look_through();
        assert_eq!(look(&mut places, &records).len(), classes.len());
        assert!(places.looks - before <= 1 + classes.len() as u64);
    }
    for task in &tasks {
        places.left(task);
    }
    assert!(places.waiting.is_empty() && places.heads.is_empty() && places.fresh.is_empty());
}

#[test]
fn reasons_are_written_at_a_bounded_rate() {
    let (mut places, start) = (Places::default(), Instant::now());
    let told = |places: &mut Places, at| (0..1_000).filter(|_| places.may_tell(at)).count();
    assert_eq!(told(&mut places, start), limits::REASONS_PER_S as usize);
    assert_eq!(told(&mut places, start + Duration::from_millis(999)), 0);
    assert_eq!(told(&mut places, start + Duration::from_secs(1)), limits::REASONS_PER_S as usize);
}
