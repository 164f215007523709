//! Starts that fail: who is tried next, for how long a task rests, who is put
//! away.

use super::stage::*;
use crate::{
    bus::messages::*,
    dispatch::{io::*, protocol::stage::worker},
    limits,
    task::{Epoch, TaskState},
};

/// A heartbeat that tells of a start that failed.
fn unlucky(name: &str, seq: u64, task: &str, epoch: u64, fault: Fault) -> Input {
    let mut beat = beat(name, seq, &[(task, epoch, SessionState::Failed)]);
    beat.sessions[0].fault = fault;
    beat.sessions[0].reason = "adapter program not found: ffmpeg".into();
    Input::Heartbeat(Box::new(beat))
}

fn workers(stage: &mut Stage, ms: u64) -> Vec<WorkerView> {
    let ask = Input::Call { call: CallId(3), request: Request::Workers };
    match stage.handle(ask, ms).pop() {
        Some(Output::Answer { answer: Ok(Answer::Workers(workers)), .. }) => workers.workers,
        other => panic!("no workers: {other:?}"),
    }
}

/// A leader with two workers, and `t1` given to the first.
fn given() -> Stage {
    let mut stage = Stage::leader();
    stage.handle(alive("w1", 0, &[]), 5_000);
    stage.handle(alive("w2", 0, &[]), 5_000);
    let out = stage.handle(submit("t1", "42"), 5_001);
    assert!(out.contains(&assign("w1", "t1", "42", 1)), "{out:?}");
    stage.handle(accepted("w1", "t1", 1), 5_002);
    stage
}

#[test]
fn a_start_that_failed_for_the_worker_s_reason_is_made_elsewhere() {
    for fault in [Fault::Worker, Fault::Unjoined] {
        let mut stage = given();
        let out = stage.handle(unlucky("w1", 1, "t1", 1, fault), 5_100);
        assert_eq!(out, [assign("w2", "t1", "42", 2)]);
        // It is told until somebody takes note.
        let out = stage.handle(unlucky("w1", 2, "t1", 1, fault), 5_200);
        assert_eq!(out, [revoke("w1", "t1", 1, "epoch 1 is over: 2 has begun")]);
    }
}

#[test]
fn a_start_that_failed_for_the_task_s_reason_ends_it() {
    for fault in [Fault::Task, Fault::Crashed] {
        let mut stage = given();
        stage.handle(unlucky("w1", 1, "t1", 1, fault), 5_100);
        assert_eq!(stage.state("t1"), (TaskState::Failed, Epoch(1)));
        assert_eq!(stage.task("t1").reason, "adapter program not found: ffmpeg");
    }
}

#[test]
fn a_task_that_is_tried_elsewhere_keeps_its_place_and_its_reason() {
    let mut stage = given();
    let since = stage.task("t1").pending_ms;
    stage.handle(alive("w2", 1, &[]), 6_400);
    let full = { Heartbeat { phase: WorkerPhase::LameDuck, ..beat("w2", 2, &[]) } };
    stage.handle(Input::Heartbeat(Box::new(full)), 6_401);
    stage.set_clock(9);
    stage.handle(unlucky("w1", 1, "t1", 1, Fault::Worker), 6_402);
    let record = stage.task("t1");
    assert_eq!((record.state, record.pending_ms), (TaskState::Pending, since));
    assert_eq!(record.reason, "worker w1: adapter program not found: ffmpeg");
}

#[test]
fn who_was_refused_waits_on_and_who_had_begun_waits_anew() {
    let mut stage = Stage::leader();
    stage.handle(alive("w1", 0, &[]), 5_000);
    stage.handle(submit("t1", "42"), 5_001);
    stage.set_clock(9);
    stage.handle(refused("w1", "t1", 1, false), 5_002);
    let record = stage.task("t1");
    assert_eq!((record.state, record.pending_ms), (TaskState::Pending, 0));

    let mut stage = Stage::serving();
    stage.set_clock(9);
    stage.run_to(8_100);
    let record = stage.task("t1");
    assert_eq!((record.state, record.pending_ms), (TaskState::Pending, 9));
}

/// When `t1` is given to the only worker, who always refuses, in ms.
fn tries(stage: &mut Stage, until: u64) -> Vec<u64> {
    let (mut tries, mut seq) = (Vec::new(), 1);
    let mut ms = 5_000;
    stage.handle(submit("t1", "42"), ms);
    while ms < until {
        ms += 100;
        seq += 1;
        stage.handle(alive("w1", seq, &[]), ms);
        let record = stage.task("t1");
        if record.state == TaskState::Assigned {
            tries.push(ms);
            stage.handle(refused("w1", "t1", record.epoch.0, false), ms);
        }
    }
    tries
}

#[test]
fn a_task_that_nobody_takes_rests_longer_and_longer_within_bounds() {
    let mut stage = Stage::leader();
    stage.handle(alive("w1", 0, &[]), 5_000);
    let tries = tries(&mut stage, 34_000);
    let rests: Vec<u64> = tries.windows(2).map(|pair| pair[1] - pair[0]).collect();
    assert!(rests.is_sorted(), "{rests:?}");
    let most = u64::try_from(limits::REQUEUE_MAX.as_millis()).unwrap();
    assert!(rests[0] <= 800 && rests.iter().all(|rest| *rest <= most + 300), "{rests:?}");
    assert!(rests.iter().any(|rest| *rest >= most), "{rests:?}");
    // The wait went on all the while: it ends in time.
    stage.run_to(36_000);
    assert_eq!(stage.state("t1").0, TaskState::Expired);
    let reason = stage.task("t1").reason;
    assert!(reason.starts_with("no worker took it within 30 s: "), "{reason}");
}

#[test]
fn three_starts_that_fail_put_a_worker_away_visibly_and_for_a_while() {
    let mut stage = Stage::leader();
    let (mut ms, mut seq) = (5_000, 1);
    stage.handle(alive("w1", 0, &[]), ms);
    stage.handle(submit("t1", "42"), ms);
    for _ in 0..limits::QUARANTINE_STARTS {
        while stage.task("t1").state != TaskState::Assigned {
            ms += 100;
            seq += 1;
            stage.handle(alive("w1", seq, &[]), ms);
        }
        seq += 1;
        let epoch = stage.task("t1").epoch.0;
        stage.handle(unlucky("w1", seq, "t1", epoch, Fault::Worker), ms);
    }
    let ill = workers(&mut stage, ms).remove(0).quarantined.remove(0);
    assert_eq!(ill.reason, "adapter program not found: ffmpeg");
    let away = ill.for_ms;
    assert_eq!(u128::from(away), limits::QUARANTINE.as_millis());
    // What waits says why, and gets nothing but that worker's time.
    let closed = ms;
    while ms < closed + away - 100 {
        ms += 100;
        seq += 1;
        let out = stage.handle(alive("w1", seq, &[]), ms);
        assert!(!out.iter().any(|out| matches!(out, Output::Assign { .. })), "{out:?}");
    }
    let reason = stage.task("t1").reason;
    let why = "starts fail at every worker that could take it: worker w1: adapter program not";
    assert!(reason.contains(why), "{reason}");
    // The task has expired meanwhile; another one is served.
    stage.handle(submit("t2", "43"), ms);
    ms += 600;
    let out = stage.handle(alive("w1", seq + 1, &[]), ms);
    let given =
        |out: &Output| matches!(out, Output::Assign { worker: to, .. } if *to == worker("w1"));
    assert!(out.iter().any(given), "{out:?}");
    assert!(workers(&mut stage, ms).remove(0).quarantined.is_empty());
}

#[test]
fn a_standby_knows_who_is_put_away() {
    let mut stage = Stage::new();
    stage.handle(alive("w1", 0, &[]), 0);
    for (number, task) in ["t1", "t2", "t3"].into_iter().enumerate() {
        stage.handle(submit(task, task), 1);
        let seq = 1 + number as u64;
        stage.handle(unlucky("w1", seq, task, 1, Fault::Worker), 10 + seq);
    }
    assert_eq!(workers(&mut stage, 20).remove(0).quarantined.len(), 1);
    // A worker that is started anew is given another chance.
    let reborn = Heartbeat { boot: "b2".into(), ..beat("w1", 0, &[]) };
    stage.handle(Input::Heartbeat(Box::new(reborn)), 30);
    assert!(workers(&mut stage, 40).remove(0).quarantined.is_empty());
}

#[test]
fn a_worker_that_never_answers_is_left_alone_where_another_does() {
    let mut stage = Stage::leader();
    let mut seq = 0;
    // The quiet one has more room, so it is asked first each time.
    let big = |seq| {
        let mut beat = beat("quiet", seq, &[]);
        beat.load.cores = 8.0;
        Input::Heartbeat(Box::new(beat))
    };
    let mut served: Vec<(String, u64, SessionState)> = Vec::new();
    let mut asked = Vec::new();
    for number in 0..8_u64 {
        let ms = 5_000 + number * 2_000;
        seq += 1;
        let reports: Vec<_> = served.iter().map(|(t, e, s)| (t.as_str(), *e, *s)).collect();
        stage.handle(big(seq), ms);
        stage.handle(alive("w1", seq, &reports), ms);
        let task = format!("t{number}");
        let out = stage.handle(submit(&task, &task), ms + 1);
        for out in out {
            let Output::Assign { worker: to, assign } = out else { continue };
            asked.push(to.to_string());
            if to == worker("quiet") {
                let answer = Err(NoAnswer::TimedOut);
                stage.handle(Input::Assigned { worker: to, assign, answer }, ms + 1_002);
            }
        }
        // Whoever has it now serves it.
        let epoch = stage.task(&task).epoch.0;
        let verdict = Verdict { accepted: true, reason: String::new(), fatal: false };
        let assign = order(&task, &task, epoch);
        let answer = Input::Assigned { worker: worker("w1"), assign, answer: Ok(verdict) };
        stage.handle(answer, ms + 1_003);
        served.push((task, epoch, SessionState::Running));
        seq += 1;
        let reports: Vec<_> = served.iter().map(|(t, e, s)| (t.as_str(), *e, *s)).collect();
        stage.handle(alive("w1", seq, &reports), ms + 1_010);
        stage.handle(big(seq), ms + 1_010);
    }
    let quiet = asked.iter().filter(|to| *to == "quiet").count();
    assert_eq!(quiet, limits::QUARANTINE_STARTS, "{asked:?}");
}

#[test]
fn starts_that_fail_at_the_only_worker_may_be_the_tasks_fault() {
    let mut stage = Stage::new();
    stage.handle(alive("w1", 0, &[]), 0);
    for (number, task) in ["t1", "t2", "t3", "t4"].into_iter().enumerate() {
        stage.handle(submit(task, task), 1);
        let seq = 1 + number as u64;
        stage.handle(unlucky("w1", seq, task, 1, Fault::Unjoined), 10 + seq);
    }
    assert!(workers(&mut stage, 20).remove(0).quarantined.is_empty());
}
