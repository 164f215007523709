//! The dispatcher's protocol, told as tests: what comes in, what goes out.

mod claims;
mod handover;
mod overload;
mod stage;
mod starts;
mod updates;

use std::sync::Arc;

use self::stage::*;
use super::io::*;
use crate::{
    bus::messages::*,
    task::{Epoch, TaskRecord, TaskState},
};

#[test]
fn a_submit_is_answered_and_its_task_given_away() {
    let mut stage = Stage::leader();
    stage.handle(alive("w1", 0, &[]), 5_000);
    assert_eq!(
        stage.handle(submit("t1", "42"), 5_001),
        [submitted("t1", TaskState::Pending, 0, false), assign("w1", "t1", "42", 1)]
    );
    assert_eq!(stage.state("t1"), (TaskState::Assigned, Epoch(1)));
}

#[test]
fn the_same_again_is_a_duplicate_and_another_spec_a_conflict() {
    let mut stage = Stage::serving();
    assert_eq!(
        stage.handle(submit("t1", "42"), 5_100),
        [submitted("t1", TaskState::Running, 1, true)]
    );
    let out = stage.handle(submit("t1", "43"), 5_100);
    assert_eq!(refusal(&out).error, RefusalCode::Conflict);
}

#[test]
fn a_room_has_one_task_and_the_refusal_names_it() {
    let mut stage = Stage::serving();
    let out = stage.handle(submit("t2", "42"), 5_100);
    assert_eq!(refusal(&out).message, "room 42 is served by task t1: cancel it first");
}

#[test]
fn of_two_tasks_for_a_room_the_second_waits_for_the_first() {
    let mut stage = Stage::serving();
    let late = TaskRecord { task: id("t2"), spec: spec("t2", "42"), ..pending("t2") };
    assert_eq!(stage.write(Record::Task(Arc::new(late)), 5_100), []);
    stage.run_to(6_150);
    assert_eq!(stage.task("t2").reason, "room 42 is served by task t1");
    // The first has ended, and its worker says so: the room is free.
    let out = stage.handle(alive("w1", 2, &[("t1", 1, SessionState::Done)]), 6_200);
    assert!(out.contains(&assign("w1", "t2", "42", 2)), "{out:?}");
}

#[test]
fn a_silent_worker_is_pinged_and_gone_after_two_that_nobody_answers() {
    let mut stage = Stage::serving();
    stage.handle(alive("w2", 0, &[]), 6_500);
    assert_eq!(stage.run_to(6_509), []);
    assert_eq!(stage.run_to(6_510), [Output::Ping(worker("w1"))]);
    let nobody = || Input::Ponged { worker: worker("w1"), answer: Err(NoAnswer::NoResponder) };
    assert_eq!(stage.handle(nobody(), 6_511), []);
    assert_eq!(stage.run_to(6_661), [Output::Ping(worker("w1"))]);
    assert_eq!(stage.handle(nobody(), 6_662), [assign("w2", "t1", "42", 2)]);
    // It was alive after all: its epoch is over.
    let back = alive("w1", 2, &[("t1", 1, SessionState::Running)]);
    let why = "epoch 1 is over: 2 has begun";
    assert_eq!(stage.handle(back, 6_700), [revoke("w1", "t1", 1, why)]);
}

#[test]
fn a_hung_worker_is_gone_after_three_seconds() {
    let mut stage = Stage::serving();
    let hung = || Input::Ponged { worker: worker("w1"), answer: Err(NoAnswer::TimedOut) };
    stage.handle(alive("w2", 0, &[]), 6_500);
    assert_eq!(stage.run_to(6_510), [Output::Ping(worker("w1"))]);
    assert_eq!(stage.handle(hung(), 7_300), [Output::Ping(worker("w1"))]);
    stage.handle(alive("w2", 1, &[]), 7_900);
    assert_eq!(stage.run_to(8_009), []);
    assert_eq!(stage.run_to(8_010), [assign("w2", "t1", "42", 2)]);
}

#[test]
fn a_worker_whose_lease_is_renewed_is_not_gone_whatever_is_heard_of_it() {
    let mut stage = Stage::serving();
    stage.handle(alive("w2", 0, &[]), 6_400);
    for ms in (5_500..=12_000).step_by(500) {
        let out = stage.handle(Input::Renewed(worker("w1")), ms);
        assert!(out.iter().all(|it| *it == Output::Ping(worker("w1"))), "{out:?}");
        let timed_out = Input::Ponged { worker: worker("w1"), answer: Err(NoAnswer::TimedOut) };
        stage.handle(if out.is_empty() { Input::Heard } else { timed_out }, ms);
        stage.handle(alive("w2", ms, &[]), ms);
    }
    assert_eq!(stage.state("t1"), (TaskState::Running, Epoch(1)));
    // It is from then on that it is silent.
    assert_eq!(stage.run_to(14_999), [Output::Ping(worker("w1")), Output::Ping(worker("w2"))]);
    stage.run_to(15_000);
    assert_eq!(stage.state("t1").0, TaskState::Pending);
}

#[test]
fn who_beats_too_much_to_be_read_is_asked_though_its_lease_is_renewed() {
    let mut stage = Stage::leader();
    stage.handle(alive("w1", 0, &[]), 5_000);
    stage.handle(submit("t1", "42"), 5_001);
    stage.handle(accepted("w1", "t1", 1), 5_002);
    let mut pings = Vec::new();
    for (seq, ms) in (1..).zip((5_500..=11_000).step_by(500)) {
        for output in stage.handle(Input::Renewed(worker("w1")), ms) {
            assert_eq!(output, Output::Ping(worker("w1")));
            pings.push(ms);
            let beat = Box::new(beat("w1", seq, &[("t1", 1, SessionState::Running)]));
            stage.handle(Input::Ponged { worker: worker("w1"), answer: Ok(beat) }, ms);
        }
        if ms >= 6_500 {
            assert_eq!(stage.state("t1"), (TaskState::Running, Epoch(1)));
        }
    }
    assert_eq!(pings, [6_500, 8_000, 9_500, 11_000], "not more often than it must be");
}

#[test]
fn a_create_that_never_took_place_leaves_nothing_to_be_told() {
    let mut stage = Stage::new();
    stage.lose_writes(true);
    stage.hand(submit("t1", "42"), 0);
    assert_eq!(refusal(&stage.run_to(3_000)).error, RefusalCode::Unavailable);
    assert_eq!(stage.untold(), 1, "it may take place yet");
    stage.lose_writes(false);
    stage.run_to(20_000);
    assert_eq!(stage.untold(), 0);
    // The next one of that name is told of.
    let out = stage.handle(submit("t1", "42"), 20_100);
    assert_eq!(out, [submitted("t1", TaskState::Pending, 0, false)]);
    assert_eq!(stage.untold(), 0);
}

#[test]
fn nobody_is_judged_by_a_dispatcher_that_was_cut_off() {
    let mut stage = Stage::serving();
    stage.handle(Input::BusDown, 5_500);
    stage.run_to(13_000);
    stage.handle(Input::BusUp, 13_000);
    assert_eq!(stage.run_to(17_999), []);
    // The worker is back before the grace is over: nothing has happened to it.
    let back = alive("w1", 20, &[("t1", 1, SessionState::Running)]);
    assert_eq!(stage.handle(back, 17_999), []);
    stage.handle(alive("w1", 21, &[("t1", 1, SessionState::Running)]), 18_900);
    assert_eq!(stage.run_to(20_000), []);
    assert_eq!(stage.state("t1"), (TaskState::Running, Epoch(1)));
}

#[test]
fn a_dispatcher_that_was_paused_judges_nobody_at_once() {
    let mut stage = Stage::serving();
    assert_eq!(stage.hand(Input::Tick, 60_000), []);
    let back = alive("w1", 2, &[("t1", 1, SessionState::Running)]);
    assert_eq!(stage.handle(back, 60_001), []);
    assert_eq!(stage.state("t1"), (TaskState::Running, Epoch(1)));
}

#[test]
fn who_refuses_is_followed_by_the_next_under_a_higher_epoch() {
    let mut stage = Stage::leader();
    stage.handle(alive("w1", 0, &[]), 5_000);
    stage.handle(alive("w2", 0, &[]), 5_000);
    stage.handle(submit("t1", "42"), 5_001);
    assert_eq!(stage.handle(refused("w1", "t1", 1, false), 5_002), [assign("w2", "t1", "42", 2)]);
    // Nobody is left: it rests, and begins anew.
    assert_eq!(stage.handle(refused("w2", "t1", 2, false), 5_003), []);
    assert_eq!(stage.run_to(5_502), []);
    assert_eq!(stage.run_to(5_503), [assign("w1", "t1", "42", 3)]);
}

#[test]
fn a_task_that_is_wrong_itself_fails_with_the_reason() {
    let mut stage = Stage::leader();
    stage.handle(alive("w1", 0, &[]), 5_000);
    stage.handle(submit("t1", "42"), 5_001);
    assert_eq!(stage.handle(refused("w1", "t1", 1, true), 5_002), []);
    let record = stage.task("t1");
    assert_eq!((record.state, record.reason.as_str()), (TaskState::Failed, "worker w1: no"));
}

#[test]
fn a_session_that_ended_ends_its_task_and_is_let_go() {
    let mut stage = Stage::serving();
    let failed = alive("w1", 2, &[("t1", 1, SessionState::Failed)]);
    assert_eq!(stage.handle(failed, 5_500), [revoke("w1", "t1", 1, "the task is failed")]);
    assert_eq!(stage.state("t1"), (TaskState::Failed, Epoch(1)));
}

#[test]
fn a_cancel_is_answered_once_and_again_the_same() {
    let mut stage = Stage::serving();
    let out = stage.handle(cancel("t1"), 5_500);
    let view = TaskView::from(&stage.task("t1"));
    assert_eq!((view.state, view.reason.as_str()), (TaskState::Cancelled, "enough"));
    let answer = Output::Answer { call: CallId(2), answer: Ok(Answer::Task(view)) };
    assert_eq!(out, [revoke("w1", "t1", 1, "the task is cancelled"), answer.clone()]);
    assert_eq!(stage.handle(cancel("t1"), 5_600), [answer]);
    assert_eq!(refusal(&stage.handle(cancel("t9"), 5_600)).error, RefusalCode::NotFound);
}

#[test]
fn a_room_that_is_being_left_is_not_given_away_before() {
    let mut stage = Stage::serving();
    stage.handle(cancel("t1"), 5_500);
    stage.handle(Input::Revoked { worker: worker("w1"), task: id("t1") }, 5_501);
    assert_eq!(
        stage.handle(submit("t2", "42"), 5_502),
        [submitted("t2", TaskState::Pending, 0, false)]
    );
    let still = alive("w1", 2, &[("t1", 1, SessionState::Running)]);
    assert_eq!(stage.handle(still, 5_510), [revoke("w1", "t1", 1, "the task is cancelled")]);
    assert_eq!(stage.handle(alive("w1", 3, &[]), 6_010), [assign("w1", "t2", "42", 2)]);
}

#[test]
fn a_worker_that_lost_a_session_loses_the_task() {
    let mut stage = Stage::serving();
    assert_eq!(stage.handle(alive("w1", 2, &[]), 5_500), []);
    assert_eq!(stage.handle(alive("w1", 3, &[]), 6_000), []);
    assert_eq!(stage.handle(alive("w1", 4, &[]), 6_500), [assign("w1", "t1", "42", 2)]);
}

#[test]
fn a_heartbeat_that_comes_late_says_nothing() {
    let mut stage = Stage::serving();
    stage.handle(alive("w1", 5, &[("t1", 1, SessionState::Running)]), 5_500);
    for ms in [5_600, 6_200, 6_800] {
        assert_eq!(stage.handle(alive("w1", 4, &[]), ms), []);
    }
}

#[test]
fn what_a_predecessor_gave_away_is_awaited_and_then_claimed_anew() {
    let mut stage = Stage::new();
    stage.handle(alive("w1", 0, &[]), 0);
    let room = claim("t1", "w1", 7);
    let given = TaskRecord {
        state: TaskState::Assigned,
        epoch: Epoch(7),
        worker: Some(worker("w1")),
        ..pending("t1")
    };
    stage.write(Record::Room(Arc::new(room)), 1);
    assert_eq!(stage.write(Record::Task(Arc::new(given)), 2), []);
    // Its worker may have begun it: under that epoch nobody is asked again.
    assert_eq!(stage.handle(Input::Elected, 10), []);
    assert_eq!(stage.handle(alive("w1", 1, &[]), 510), []);
    assert_eq!(stage.handle(alive("w1", 2, &[]), 1_010), [assign("w1", "t1", "42", 8)]);
}

#[test]
fn a_worker_that_is_back_before_the_next_claim_keeps_its_task() {
    let mut stage = Stage::serving();
    assert_eq!(stage.run_to(6_600), [Output::Ping(worker("w1"))]);
    stage.run_to(8_100);
    assert_eq!(stage.state("t1").0, TaskState::Pending);
    let back = alive("w1", 2, &[("t1", 1, SessionState::Running)]);
    assert_eq!(stage.handle(back, 9_000), []);
    assert_eq!(stage.state("t1"), (TaskState::Running, Epoch(1)));
}

#[test]
fn what_nobody_takes_expires_with_the_reason() {
    let mut stage = Stage::leader();
    stage.handle(submit("t1", "42"), 5_000);
    stage.run_to(6_100);
    assert_eq!(stage.task("t1").reason, "no worker is there: start one");
    stage.run_to(35_000);
    let record = stage.task("t1");
    assert_eq!(record.state, TaskState::Expired);
    assert_eq!(record.reason, "no worker took it within 30 s: no worker is there: start one");
}

#[test]
fn a_session_of_a_task_nobody_knows_is_ended_after_a_while() {
    let mut stage = Stage::leader();
    let stray = |seq| alive("w1", seq, &[("t9", 3, SessionState::Running)]);
    assert_eq!(stage.handle(stray(0), 5_000), []);
    assert_eq!(stage.handle(stray(1), 6_000), []);
    assert_eq!(stage.handle(stray(2), 6_500), [revoke("w1", "t9", 3, "nobody knows this task")]);
}

#[test]
fn a_standby_answers_services_and_gives_nothing_away() {
    let mut stage = Stage::new();
    stage.handle(alive("w1", 0, &[]), 0);
    assert_eq!(
        stage.handle(submit("t1", "42"), 1),
        [submitted("t1", TaskState::Pending, 0, false)]
    );
    assert_eq!(stage.run_to(20_000), []);
    stage.handle(alive("w1", 1, &[]), 20_000);
    assert_eq!(stage.handle(Input::Elected, 20_001), [assign("w1", "t1", "42", 1)]);
}
