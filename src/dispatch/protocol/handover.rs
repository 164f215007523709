//! A worker leaves, and what it serves goes to another first.

use std::sync::Arc;

use super::stage::*;
use crate::{
    bus::messages::*,
    dispatch::io::*,
    limits,
    task::{Epoch, Handover, RoomRecord, TaskRecord, TaskState},
};

fn leaving(name: &str, seq: u64, sessions: &[(&str, u64, SessionState)]) -> Input {
    Input::Heartbeat(Box::new(Heartbeat {
        phase: WorkerPhase::LameDuck,
        ..beat(name, seq, sessions)
    }))
}

/// As [`alive`], and all that runs is heard.
fn heard(name: &str, seq: u64, sessions: &[(&str, u64, SessionState)]) -> Input {
    let mut beat = beat(name, seq, sessions);
    beat.sessions.iter_mut().for_each(|session| session.heard = true);
    Input::Heartbeat(Box::new(beat))
}

fn w1() -> Handover {
    Handover { worker: worker("w1"), epoch: Epoch(1) }
}

/// An assignment that takes over what `w1` serves under epoch 1.
fn take_over(to: &str, epoch: u64) -> Output {
    let assign = Assign { from: Some(w1()), ..*order("t1", "42", epoch) };
    Output::Assign { worker: worker(to), assign: Box::new(assign) }
}

const T1: &[(&str, u64, SessionState)] = &[("t1", 1, SessionState::Running)];
const NEXT: &[(&str, u64, SessionState)] = &[("t1", 2, SessionState::Running)];

/// `t1` runs at `w1`, which leaves, and `w2` was asked to take it over.
fn handing_over() -> Stage {
    let mut stage = Stage::serving();
    stage.handle(alive("w2", 0, &[]), 5_020);
    assert_eq!(stage.handle(leaving("w1", 2, T1), 5_030), [take_over("w2", 2)]);
    assert_eq!(stage.state("t1"), (TaskState::Draining, Epoch(2)));
    assert_eq!(stage.task("t1").from, Some(w1()));
    assert_eq!(stage.room("42").from, Some(w1()));
    stage.handle(accepted("w2", "t1", 2), 5_031);
    stage
}

#[test]
fn the_next_one_is_heard_before_the_first_one_leaves() {
    let mut stage = handing_over();
    let starts = alive("w2", 1, &[("t1", 2, SessionState::Starting)]);
    assert_eq!(stage.handle(starts, 5_040), []);
    assert_eq!(stage.handle(alive("w2", 2, NEXT), 5_300), [], "it has joined, and nobody hears it");
    let out = stage.handle(heard("w2", 3, NEXT), 5_400);
    assert_eq!(out, [revoke("w1", "t1", 1, "epoch 1 is over: 2 has begun")]);
    assert_eq!(stage.state("t1"), (TaskState::Running, Epoch(2)));
    assert_eq!(stage.task("t1").from, None);
}

#[test]
fn who_plays_is_the_first_one_until_it_has_left() {
    let mut stage = handing_over();
    stage.handle(heard("w2", 1, NEXT), 5_400);
    stage.handle(leaving("w1", 3, T1), 5_450);
    assert_eq!(stage.room("42").from, Some(w1()));
    assert_eq!(stage.handle(leaving("w1", 4, &[]), 5_480), []);
    assert_eq!((stage.room("42").from, stage.room("42").epoch), (None, Epoch(2)));
}

#[test]
fn a_room_without_a_track_is_handed_over_after_a_while() {
    let mut stage = handing_over();
    let within = u64::try_from(limits::HEARD_WITHIN.as_millis()).unwrap();
    for (seq, ms) in (1..).zip((5_100..5_100 + within).step_by(500)) {
        assert_eq!(stage.handle(alive("w2", seq, NEXT), ms), []);
        assert_eq!(stage.handle(leaving("w1", seq + 10, T1), ms), []);
    }
    // It may be gone since it was last told of; that its worker lives says nothing of it.
    assert_eq!(stage.run_to(5_100 + within), []);
    assert_eq!(stage.handle(Input::Renewed(worker("w2")), 5_150 + within), []);
    let over = revoke("w1", "t1", 1, "epoch 1 is over: 2 has begun");
    assert!(!stage.run_to(5_700 + within).contains(&over));
    let mut out = stage.handle(alive("w2", 90, NEXT), 5_800 + within);
    out.extend(stage.run_to(6_300 + within));
    assert!(out.contains(&over), "{out:?}");
}

#[test]
fn who_refuses_to_take_over_is_followed_by_the_next() {
    let mut stage = Stage::serving();
    stage.handle(alive("w2", 0, &[]), 5_020);
    stage.handle(alive("w3", 0, &[]), 5_020);
    assert_eq!(stage.handle(leaving("w1", 2, T1), 5_030), [take_over("w2", 2)]);
    assert_eq!(stage.handle(refused("w2", "t1", 2, false), 5_040), [take_over("w3", 3)]);
    assert_eq!(stage.task("t1").reason, "worker w2 refused: no");
    // Nobody is left. It rests, twice as long each time, and stays where it is.
    assert_eq!(stage.handle(refused("w3", "t1", 3, true), 5_050), []);
    assert_eq!(stage.state("t1"), (TaskState::Draining, Epoch(3)));
    stage.handle(leaving("w1", 3, T1), 5_500);
    assert_eq!(stage.run_to(5_549), []);
    assert_eq!(stage.run_to(5_550), [take_over("w2", 4)]);
}

#[test]
fn a_room_that_finds_no_successor_says_why_until_it_may_stay() {
    let mut stage = Stage::serving();
    stage.handle(leaving("w1", 2, T1), 5_030);
    assert_eq!(stage.task("t1").reason, "");
    let written = stage.written();
    for (seq, ms) in (3..).zip((5_530..9_000).step_by(500)) {
        assert_eq!(stage.handle(leaving("w1", seq, T1), ms), []);
    }
    let reason = stage.task("t1").reason;
    assert_eq!(reason, "worker w1 is leaving; every worker that could take it is draining");
    assert_eq!(stage.state("t1"), (TaskState::Running, Epoch(1)));
    assert_eq!(stage.written(), written + 1, "once, and not with every heartbeat");
    // It is to stay after all.
    stage.handle(alive("w1", 30, T1), 9_100);
    assert_eq!(stage.task("t1").reason, "");
    // And the next time it goes to somebody who is there.
    stage.handle(leaving("w1", 31, T1), 9_200);
    assert_eq!(stage.handle(alive("w2", 0, &[]), 9_300), [take_over("w2", 2)]);
    assert_eq!(stage.task("t1").reason, "worker w1 is leaving");
}

#[test]
fn a_successor_that_fails_or_goes_ends_nothing() {
    for fails in [true, false] {
        let mut stage = handing_over();
        stage.handle(alive("w3", 0, &[]), 5_100);
        let out = if fails {
            let failed = alive("w2", 1, &[("t1", 2, SessionState::Failed)]);
            stage.handle(failed, 5_200)
        } else {
            stage.handle(alive("w2", 1, &[]), 5_600);
            stage.handle(leaving("w1", 3, T1), 6_000);
            stage.handle(alive("w3", 1, &[]), 6_000);
            stage.handle(alive("w2", 2, &[]), 6_100)
        };
        assert_eq!(out.first(), Some(&take_over("w3", 3)), "{out:?}");
        assert_eq!(stage.state("t1"), (TaskState::Draining, Epoch(3)));
    }
}

#[test]
fn a_successor_that_goes_while_the_first_one_is_silent_is_followed_by_another() {
    let mut stage = handing_over();
    stage.handle(leaving("w1", 3, T1), 6_500);
    for (seq, ms) in (0..).zip((6_000..=8_500).step_by(500)) {
        stage.handle(alive("w3", seq, &[]), ms.max(6_500));
    }
    assert_eq!(stage.task("t1").worker, Some(worker("w2")), "who is silent gives nothing away");
    // It is back in time, and says what it always said.
    stage.handle(leaving("w1", 4, T1), 8_600);
    stage.handle(alive("w3", 9, &[]), 8_700);
    assert_eq!(stage.run_to(9_200), [take_over("w3", 3)]);
}

#[test]
fn a_place_for_a_successor_that_comes_late_is_taken() {
    let mut stage = handing_over();
    for (seq, ms) in (3..).zip((5_500..=13_000).step_by(500)) {
        // Its worker is silent for a moment when nobody else is there.
        if !(9_000..11_000).contains(&ms) {
            stage.handle(leaving("w1", seq, T1), ms);
        }
        let mut other = beat("w4", seq, &[]);
        other.adapters.clear();
        stage.handle(Input::Heartbeat(Box::new(other)), ms);
    }
    assert_eq!(stage.task("t1").worker, Some(worker("w2")));
    let out = stage.handle(alive("w3", 0, &[]), 13_100);
    assert!([out, stage.run_to(13_700)].concat().contains(&take_over("w3", 3)));
}

#[test]
fn where_the_first_one_is_gone_the_next_one_goes_on_alone() {
    let mut stage = handing_over();
    // It has restarted: its session is no more.
    stage.handle(alive("w2", 1, &[("t1", 2, SessionState::Starting)]), 5_100);
    let mut reborn = beat("w1", 0, &[]);
    reborn.boot = "b2".into();
    assert_eq!(stage.handle(Input::Heartbeat(Box::new(reborn)), 5_200), []);
    let record = stage.task("t1");
    assert_eq!((record.state, record.from), (TaskState::Draining, None));
    // It need not be heard: there is nothing to wait for.
    assert_eq!(stage.handle(alive("w2", 2, NEXT), 5_300), []);
    assert_eq!(stage.state("t1"), (TaskState::Running, Epoch(2)));
    assert_eq!(stage.room("42").from, None);
}

#[test]
fn where_both_are_gone_it_waits_for_a_third() {
    let mut stage = handing_over();
    stage.handle(alive("w3", 0, &[]), 6_500);
    stage.handle(alive("w3", 1, &[]), 7_500);
    let out = stage.run_to(8_100);
    assert!(out.contains(&assign("w3", "t1", "42", 3)), "{out:?}");
    assert_eq!(stage.task("t1").from, None);
}

#[test]
fn the_end_of_the_room_is_the_end_of_the_task() {
    let mut stage = handing_over();
    stage.handle(alive("w2", 1, &[("t1", 2, SessionState::Starting)]), 5_100);
    let done = leaving("w1", 3, &[("t1", 1, SessionState::Done)]);
    let out = stage.handle(done, 5_200);
    assert_eq!(stage.state("t1").0, TaskState::Done);
    assert!(out.contains(&revoke("w2", "t1", 2, "the task is done")), "{out:?}");
}

/// `w1` leaves and its session fails before that of `w2` is in the room.
fn failed_before_the_next_one_came(fault: Fault) -> Stage {
    let mut stage = handing_over();
    stage.handle(alive("w2", 1, &[("t1", 2, SessionState::Starting)]), 5_100);
    for (seq, ms) in [(3, 5_200), (4, 5_700)] {
        let mut failed = beat("w1", seq, &[("t1", 1, SessionState::Failed)]);
        failed.phase = WorkerPhase::LameDuck;
        failed.sessions[0].fault = fault;
        stage.handle(Input::Heartbeat(Box::new(failed)), ms);
    }
    assert_eq!(stage.state("t1"), (TaskState::Draining, Epoch(2)));
    stage
}

#[test]
fn who_fails_before_the_next_one_came_is_followed_by_it() {
    for fault in [Fault::Task, Fault::Worker] {
        let mut stage = failed_before_the_next_one_came(fault);
        let goes_on_alone = stage.task("t1").from.is_none();
        assert_eq!(goes_on_alone, fault.may_go_elsewhere());
        stage.handle(alive("w2", 2, NEXT), 5_800);
        assert_eq!(stage.state("t1"), (TaskState::Running, Epoch(2)));
        assert_eq!(stage.task("t1").from, None);
    }
}

#[test]
fn where_both_fail_the_task_does_and_where_it_may_go_elsewhere_it_does_that() {
    let fails = || alive("w2", 2, &[("t1", 2, SessionState::Failed)]);
    let mut stage = failed_before_the_next_one_came(Fault::Task);
    stage.handle(fails(), 5_800);
    assert_eq!(stage.state("t1").0, TaskState::Failed);
    let mut stage = failed_before_the_next_one_came(Fault::Worker);
    stage.handle(alive("w3", 0, &[]), 5_710);
    // It is the next one's that counts by now, and that one is not told of whose.
    stage.handle(alive("w2", 2, &[]), 6_000);
    stage.handle(alive("w2", 3, &[]), 6_600);
    let out = stage.handle(alive("w2", 4, &[]), 7_100);
    assert_eq!(stage.state("t1"), (TaskState::Assigned, Epoch(3)), "{out:?}");
}

#[test]
fn who_is_put_out_by_its_successor_is_followed_by_it() {
    let mut stage = handing_over();
    stage.handle(alive("w2", 1, NEXT), 5_100);
    // Two of one name are too many for some vendors.
    let out = stage.handle(leaving("w1", 3, &[("t1", 1, SessionState::Failed)]), 5_200);
    assert_eq!(stage.state("t1"), (TaskState::Running, Epoch(2)), "{out:?}");
}

#[test]
fn a_cancel_ends_both() {
    let mut stage = handing_over();
    let out = stage.handle(cancel("t1"), 5_100);
    for (name, epoch) in [("w1", 1), ("w2", 2)] {
        let ends = |it: &Output| {
            matches!(it, Output::Revoke { worker, revoke }
                if worker.as_str() == name && revoke.epoch >= Epoch(epoch))
        };
        assert!(out.iter().any(ends), "{name}: {out:?}");
    }
}

#[test]
fn a_claim_whose_leader_died_is_outbid_and_the_room_stays_where_it_is() {
    let mut stage = Stage::serving();
    stage.handle(alive("w2", 0, &[]), 5_020);
    let room = RoomRecord {
        worker: Some(worker("w9")),
        from: Some(w1()),
        epoch: Epoch(7),
        ..stage.room("42")
    };
    assert_eq!(stage.write(Record::Room(Arc::new(room)), 5_100), []);
    assert_eq!(stage.state("t1"), (TaskState::Running, Epoch(1)));
    assert_eq!(stage.handle(leaving("w1", 2, T1), 5_200), [take_over("w2", 8)]);
}

#[test]
fn what_a_predecessor_began_to_hand_over_is_gone_on_with() {
    let mut stage = Stage::new();
    stage.handle(leaving("w1", 0, T1), 0);
    stage.handle(alive("w2", 0, &[]), 0);
    let room = RoomRecord { from: Some(w1()), ..claim("t1", "w2", 2) };
    let draining = TaskRecord {
        state: TaskState::Draining,
        epoch: Epoch(2),
        worker: Some(worker("w2")),
        from: Some(w1()),
        ..pending("t1")
    };
    stage.write(Record::Room(Arc::new(room)), 1);
    stage.write(Record::Task(Arc::new(draining)), 2);
    assert_eq!(stage.handle(Input::Elected, 10), []);
    // The successor may never have heard of it.
    stage.handle(leaving("w1", 1, T1), 500);
    assert_eq!(stage.handle(alive("w2", 1, &[]), 510), []);
    stage.handle(leaving("w1", 2, T1), 1_000);
    let out = stage.handle(alive("w2", 2, &[]), 1_010);
    assert_eq!(out, [], "there is no other, so it rests first");
    assert_eq!(stage.run_to(1_510), [take_over("w2", 3)]);
}

#[test]
fn who_is_to_stay_after_all_gives_nothing_away() {
    let mut stage = Stage::serving();
    assert_eq!(stage.handle(leaving("w1", 2, T1), 5_030), [], "there is no other");
    stage.handle(alive("w1", 3, T1), 5_100);
    assert_eq!(stage.handle(alive("w2", 0, &[]), 5_200), []);
    assert_eq!(stage.run_to(5_600), []);
    assert_eq!(stage.state("t1"), (TaskState::Running, Epoch(1)));
}

#[test]
fn no_more_are_handed_over_at_a_time_than_may_start_however_slow_the_store_is() {
    let more = 16;
    let tasks: Vec<String> =
        (0..limits::HANDOVERS_MAX + more).map(|number| format!("t{number}")).collect();
    let mut stage = Stage::leader();
    stage.handle(alive("w1", 0, &[]), 5_000);
    for task in &tasks {
        stage.handle(submit(task, task), 5_000);
    }
    let epoch = |task: &String| stage.state(task).1.0;
    let run: Vec<_> =
        tasks.iter().map(|it| (it.as_str(), epoch(it), SessionState::Running)).collect();
    stage.handle(alive("w1", 1, &run), 5_010);
    stage.handle(alive("w2", 0, &[]), 5_020);
    stage.hold_rooms();
    stage.handle(leaving("w1", 2, &run), 5_030);
    assert_eq!(stage.held(), limits::HANDOVERS_MAX);
    // Some claims are granted, and the next look sees them and the others.
    stage.let_go(more, 5_040);
    stage.handle(leaving("w1", 3, &run), 5_500);
    let draining = tasks.iter().filter(|it| stage.state(it).0 == TaskState::Draining).count();
    assert_eq!((draining, stage.held()), (more, limits::HANDOVERS_MAX - more));
}
