//! Rooms whose claim and whose task's record do not say the same: a leader died
//! between the two writes, another is about to make the second, or a bucket was
//! lost.

use std::sync::Arc;

use super::stage::*;
use crate::{
    bus::messages::*,
    dispatch::io::*,
    limits,
    task::{Epoch, Pull, RoomRecord, TaskRecord, TaskSpec, TaskState, Update},
};

/// A leader that was elected a moment ago, of a room whose task was forgotten with a
/// bucket; its worker `w1` has not been heard yet, and a task for it has come.
fn of_a_forgotten_room() -> Stage {
    let mut stage = Stage::new();
    let room = claim("t1", "w1", 1);
    stage.write(Record::Room(Arc::new(room)), 10);
    stage.handle(Input::Elected, 20);
    stage.handle(alive("w2", 0, &[]), 30);
    let out = stage.handle(submit("t2", "42"), 40);
    assert_eq!(out, [submitted("t2", TaskState::Pending, 0, false)]);
    stage
}

#[test]
fn a_new_leader_leaves_a_room_alone_of_whose_worker_it_has_not_heard() {
    let mut stage = of_a_forgotten_room();
    stage.run_to(400);
    stage.handle(alive("w1", 7, &[("t1", 1, SessionState::Running)]), 450);
    stage.run_to(1_500);
    assert_eq!(stage.state("t2"), (TaskState::Pending, Epoch(0)));
}

#[test]
fn a_room_whose_worker_is_not_heard_in_time_is_given_to_another() {
    let mut stage = of_a_forgotten_room();
    let mut out = Vec::new();
    for seq in 1..=10 {
        out.extend(stage.handle(alive("w2", seq, &[]), 500 * seq));
    }
    assert!(out.contains(&assign("w2", "t2", "42", 2)), "{out:?}");
}

#[test]
fn a_task_that_runs_is_not_given_away_on_an_old_record_of_it() {
    let mut stage = Stage::new();
    stage.handle(alive("w1", 0, &[]), 0);
    stage.write(Record::Task(Arc::new(pending("t1"))), 1);
    let runs = given("t1", TaskState::Running, "w9", 7);
    stage.write_unseen(Record::Task(Arc::new(runs)));
    let room = claim("t1", "w9", 7);
    stage.write(Record::Room(Arc::new(room)), 2);
    assert_eq!(stage.handle(Input::Elected, 10), []);
    assert_eq!(stage.run_to(1_000), []);
    assert_eq!(stage.state("t1"), (TaskState::Running, Epoch(7)));
    assert_eq!(stage.room("42").epoch, Epoch(7));
}

/// A leader that was elected at 3 s and has heard of all workers; another has claimed
/// the room for `t1` under epoch 7, and not yet written that into the task.
fn of_a_claim_without_its_task() -> Stage {
    let mut stage = Stage::new();
    stage.handle(alive("w1", 0, &[]), 2_900);
    let room = claim("t1", "w9", 7);
    stage.write(Record::Room(Arc::new(room)), 2_901);
    stage.write(Record::Task(Arc::new(pending("t1"))), 2_902);
    assert_eq!(stage.handle(Input::Elected, 3_000), []);
    stage
}

#[test]
fn a_claim_without_its_task_is_made_again_once_nobody_can_be_writing_that() {
    let mut stage = of_a_claim_without_its_task();
    let over = 3_000 + u64::try_from(limits::STORE_TIMEOUT.as_millis()).unwrap();
    assert_eq!(stage.run_to(over - 1), []);
    stage.handle(alive("w1", 1, &[]), over - 1);
    assert_eq!(stage.run_to(over), [assign("w1", "t1", "42", 8)]);
}

#[test]
fn a_claim_whose_task_another_leader_writes_in_time_is_not_outbid() {
    let mut stage = of_a_claim_without_its_task();
    let given = given("t1", TaskState::Assigned, "w9", 7);
    stage.write(Record::Task(Arc::new(given)), 3_300);
    stage.run_to(4_400);
    assert_eq!(stage.room("42").epoch, Epoch(7));
}

/// The room's record says what it did before `t1` was given away, or nothing, as
/// where buckets were lost; `t1` runs at `w1` under epoch 7.
fn of_a_claim_that_was_lost(room: Option<RoomRecord>) -> Stage {
    let mut stage = Stage::new();
    stage.handle(alive("w1", 0, &[("t1", 7, SessionState::Running)]), 0);
    stage.handle(alive("w2", 0, &[]), 0);
    let runs = given("t1", TaskState::Running, "w1", 7);
    if let Some(room) = room {
        stage.write(Record::Room(Arc::new(room)), 1);
    }
    stage.write(Record::Task(Arc::new(runs)), 2);
    stage
}

#[test]
fn a_claim_that_was_lost_is_made_again_as_the_task_has_it() {
    let lost = RoomRecord { origin_us: 5, ..claim("t1", "w1", 7) };
    let old = RoomRecord { epoch: Epoch(3), worker: Some(worker("w2")), ..lost.clone() };
    let mut stage = of_a_claim_that_was_lost(Some(old));
    assert_eq!(stage.handle(Input::Elected, 10), []);
    assert_eq!(stage.room("42"), lost);
    let mut stage = of_a_claim_that_was_lost(None);
    assert_eq!(stage.handle(Input::Elected, 10), []);
    let origin_us = stage.room("42").origin_us;
    assert_eq!(stage.room("42"), RoomRecord { origin_us, ..lost });
    assert_eq!(stage.state("t1"), (TaskState::Running, Epoch(7)));
}

#[test]
fn a_room_whose_claim_was_lost_is_not_given_away_while_a_task_has_it() {
    let mut stage = of_a_claim_that_was_lost(None);
    let late = TaskRecord { task: id("t0"), spec: spec("t0", "42"), ..pending("t0") };
    stage.write(Record::Task(Arc::new(late)), 3);
    // What becomes of a write of the one that has it is not known for a while.
    stage.lose_writes(true);
    let urgent = Box::new(Update { priority: Some(9), ..Update::of(id("t1")) });
    stage.handle(Input::Call { call: CallId(7), request: Request::Update(urgent) }, 4);
    stage.lose_writes(false);
    assert_eq!(stage.handle(Input::Elected, 10), []);
    stage.run_to(900);
    assert_eq!(stage.room("42").task, Some(id("t1")));
    assert_eq!(stage.state("t0"), (TaskState::Pending, Epoch(0)));
}

#[test]
fn a_task_that_was_forgotten_and_comes_again_stays_where_it_runs() {
    let mut stage = Stage::new();
    stage.write(Record::Room(Arc::new(claim("t1", "w1", 7))), 2_901);
    stage.handle(Input::Elected, 3_000);
    stage.handle(alive("w2", 0, &[]), 3_100);
    stage.handle(alive("w1", 0, &[("t1", 7, SessionState::Running)]), 3_200);
    let out = stage.handle(submit("t1", "42"), 3_300);
    assert!(out.contains(&submitted("t1", TaskState::Pending, 0, false)), "{out:?}");
    stage.handle(alive("w1", 1, &[("t1", 7, SessionState::Running)]), 3_700);
    assert_eq!(stage.state("t1"), (TaskState::Running, Epoch(7)));
    stage.run_to(6_000);
    assert_eq!(stage.room("42").epoch, Epoch(7));
}

/// Hands in `t1` again, which `w1` has by a claim that is not of what is handed in.
fn comes_again_as_another(claim: RoomRecord, spec: TaskSpec) {
    let mut stage = Stage::new();
    stage.write(Record::Room(Arc::new(claim)), 2_901);
    stage.handle(Input::Elected, 3_000);
    stage.handle(alive("w1", 0, &[("t1", 7, SessionState::Running)]), 3_200);
    let submit = Request::Submit(Box::new(spec));
    let out = stage.handle(Input::Call { call: CallId(1), request: submit }, 3_300);
    let reason = "its task was forgotten, and submitted again as another";
    assert!(out.contains(&revoke("w1", "t1", 7, reason)), "{out:?}");
    assert_eq!(stage.state("t1"), (TaskState::Pending, Epoch(0)));
    stage.run_to(3_800);
    assert_eq!(stage.room("42").epoch, Epoch(7));
    stage.handle(alive("w1", 1, &[]), 3_900);
    stage.run_to(4_300);
    assert_eq!(stage.state("t1"), (TaskState::Assigned, Epoch(8)));
}

#[test]
fn where_it_comes_again_as_another_its_worker_leaves_first() {
    let pull = Some(Pull { batch_frames: 2, ..Pull::default() });
    let other = TaskSpec { pull, ..spec("t1", "42") };
    comes_again_as_another(claim("t1", "w1", 7), other);
    // One that does not say what was given may be of anything.
    let old = RoomRecord { fixed_crc: None, ..claim("t1", "w1", 7) };
    comes_again_as_another(old, spec("t1", "42"));
}

#[test]
fn what_it_was_told_in_an_update_that_was_forgotten_is_told_anew() {
    let mut stage = Stage::new();
    stage.write(Record::Room(Arc::new(claim("t1", "w1", 7))), 2_901);
    stage.handle(Input::Elected, 3_000);
    let beat = |seq| {
        let mut beat = beat("w1", seq, &[("t1", 7, SessionState::Running)]);
        beat.sessions[0].revision = 5;
        Input::Heartbeat(Box::new(beat))
    };
    stage.handle(beat(0), 3_200);
    let out = stage.handle(submit("t1", "42"), 3_300);
    let told =
        |output: &Output| matches!(output, Output::Update { update, .. } if update.revision == 6);
    assert!(out.iter().any(told), "{out:?}");
    assert_eq!(stage.task("t1").revision, 6);
    // A repeat of that submit is a duplicate still.
    let out = stage.handle(submit("t1", "42"), 3_400);
    assert!(matches!(&out[..], [Output::Answer { answer: Ok(_), .. }]), "{out:?}");
}

#[test]
fn a_task_that_ended_does_not_come_back_from_somebody_who_had_not_heard_of_it() {
    let mut stage = Stage::serving();
    stage.handle(cancel("t1"), 5_100);
    let ended = stage.task("t1");
    assert_eq!(ended.state, TaskState::Cancelled);
    let old =
        TaskRecord { created_ms: ended.created_ms, ..given("t1", TaskState::Running, "w1", 1) };
    stage.write(Record::Task(Arc::new(old)), 5_200);
    assert_eq!(stage.task("t1"), ended);
    // One of that name that was handed in since is another.
    let other = TaskRecord { created_ms: ended.created_ms + 1, ..pending("t1") };
    stage.write(Record::Task(Arc::new(other)), 5_300);
    assert_ne!(stage.task("t1").state, TaskState::Cancelled);
}

#[test]
fn a_session_is_not_ended_for_a_task_that_no_watch_has_told_of() {
    let mut stage = Stage::leader();
    let runs = given("t9", TaskState::Running, "w1", 3);
    stage.write_unseen(Record::Task(Arc::new(runs)));
    stage.write_unseen(Record::Room(Arc::new(claim("t9", "w1", 3))));
    for seq in 0..8 {
        let beat = alive("w1", seq, &[("t9", 3, SessionState::Running)]);
        assert_eq!(stage.handle(beat, 5_000 + 500 * seq), []);
    }
    assert_eq!(stage.state("t9"), (TaskState::Running, Epoch(3)));
}

#[test]
fn a_creation_is_told_of_though_the_task_has_gone_on_when_that_is_known() {
    let mut stage = Stage::leader();
    stage.lose_writes(true);
    stage.set_clock(1_000);
    stage.handle(submit("t1", "42"), 5_000);
    // It took place all the same, and others went on with the task.
    let expired = TaskRecord {
        state: TaskState::Expired,
        created_ms: 1_000,
        changed_ms: 1_100,
        ..pending("t1")
    };
    stage.lose_writes(false);
    stage.write_unseen(Record::Task(Arc::new(expired)));
    assert_eq!(stage.untold(), 1);
    let out = stage.run_to(5_400);
    assert_eq!(out, [submitted("t1", TaskState::Expired, 0, true)]);
    assert_eq!(stage.untold(), 0);
}

#[test]
fn a_creation_that_is_tried_again_is_the_same_creation() {
    let mut stage = Stage::leader();
    stage.lose_writes(true);
    stage.set_clock(1_000);
    assert_eq!(stage.handle(submit("t1", "42"), 5_000), []);
    stage.lose_writes(false);
    stage.set_clock(1_200);
    stage.run_to(5_400);
    let record = stage.task("t1");
    assert_eq!((record.created_ms, record.pending_ms), (1_000, 1_000));
}
