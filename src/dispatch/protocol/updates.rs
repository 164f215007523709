//! Tasks that are changed while they wait or run.

use super::stage::*;
use crate::{
    bus::messages::*,
    dispatch::io::*,
    id::TaskId,
    limits,
    task::{Epoch, Handover, Pull, PullUpdate, TaskState, Update},
};

fn change(update: Update) -> Input {
    Input::Call { call: CallId(7), request: Request::Update(Box::new(update)) }
}

fn roles(roles: &[&str]) -> Update {
    let roles = Some(roles.iter().map(ToString::to_string).collect());
    let pull = PullUpdate { roles, ..PullUpdate::default() };
    Update { pull: Some(pull), ..Update::of(id("t1")) }
}

fn pull(roles: &[&str]) -> Pull {
    Pull { roles: roles.iter().map(ToString::to_string).collect(), ..Pull::default() }
}

/// The worker is told of an update of what it serves under an epoch.
fn told(name: &str, epoch: u64, revision: u64, wanted: &[&str]) -> Output {
    let update =
        UpdateSession { task: id("t1"), epoch: Epoch(epoch), revision, pull: Some(pull(wanted)) };
    Output::Update { worker: worker(name), update: Box::new(update) }
}

/// A heartbeat whose only session shows a revision.
fn shows(name: &str, seq: u64, (epoch, revision): (u64, u64)) -> Input {
    let mut beat = beat(name, seq, &[("t1", epoch, SessionState::Running)]);
    beat.sessions[0].revision = revision;
    beat.sessions[0].heard = true;
    Input::Heartbeat(Box::new(beat))
}

/// What was answered, and what else is to be done.
fn answered(out: Vec<Output>) -> (Result<TaskView, Refusal>, Vec<Output>) {
    let (mut answer, mut rest) = (None, Vec::new());
    for output in out {
        match output {
            Output::Answer { answer: Ok(Answer::Task(view)), .. } => answer = Some(Ok(view)),
            Output::Answer { answer: Err(refusal), .. } => answer = Some(Err(refusal)),
            other => rest.push(other),
        }
    }
    (answer.unwrap(), rest)
}

#[test]
fn who_serves_a_task_is_told_until_it_shows_it() {
    let mut stage = Stage::serving();
    let (answer, out) = answered(stage.handle(change(roles(&["host"])), 5_100));
    let view = answer.unwrap();
    assert_eq!((view.revision, view.updating), (1, true));
    assert_eq!(view.pull, Some(pull(&["host"])));
    assert_eq!(out, [told("w1", 1, 1, &["host"])]);
    // Each heartbeat that does not show it is a reason to tell it again, though
    // not at once.
    let mut again = Vec::new();
    for (seq, ms) in (2..).zip((5_500..40_000).step_by(500)) {
        again.extend(stage.handle(shows("w1", seq, (1, 0)), ms).into_iter().map(|it| (ms, it)));
    }
    assert!(again.iter().all(|(_, it)| *it == told("w1", 1, 1, &["host"])), "{again:?}");
    let times: Vec<u64> = again.iter().map(|(ms, _)| *ms).collect();
    assert_eq!(times, [6_500, 8_500, 12_500, 20_500, 36_500]);
    assert_eq!(stage.handle(shows("w1", 99, (1, 1)), 40_000), []);
    assert_eq!(stage.handle(shows("w1", 100, (1, 1)), 40_500), []);
    assert_eq!(stage.state("t1"), (TaskState::Running, Epoch(1)));
}

#[test]
fn the_same_again_changes_nothing_and_another_one_is_told_at_once() {
    let mut stage = Stage::serving();
    stage.handle(change(roles(&["host"])), 5_100);
    let written = stage.written();
    let (again, out) = answered(stage.handle(change(roles(&["host"])), 5_110));
    assert_eq!((again.unwrap().revision, out, stage.written()), (1, vec![], written));
    let (_, out) = answered(stage.handle(change(roles(&["guest"])), 5_120));
    assert_eq!(out, [told("w1", 1, 2, &["guest"])]);
    // It shows the first of them, which is not what is wanted now.
    assert_eq!(stage.handle(shows("w1", 3, (1, 1)), 6_200), [told("w1", 1, 2, &["guest"])]);
    assert_eq!(stage.handle(shows("w1", 4, (1, 2)), 6_300), []);
}

#[test]
fn a_submit_may_be_repeated_whatever_was_updated() {
    let mut stage = Stage::serving();
    let mut longer = roles(&["host"]);
    longer.max_duration_s = Some(9_000);
    stage.handle(change(longer.clone()), 5_100);
    let repeated = stage.handle(submit("t1", "42"), 5_200);
    assert_eq!(repeated, [submitted("t1", TaskState::Running, 1, true)]);
    // So may what it has become …
    let now = stage.task("t1").spec;
    let request = Request::Submit(Box::new(now.clone()));
    let again = stage.handle(Input::Call { call: CallId(1), request }, 5_210);
    assert_eq!(again, [submitted("t1", TaskState::Running, 1, true)]);
    // … and nothing else.
    let other = crate::task::TaskSpec { max_duration_s: 1, ..now };
    let request = Request::Submit(Box::new(other));
    let out = stage.handle(Input::Call { call: CallId(1), request }, 5_220);
    assert_eq!(refusal(&out).error, RefusalCode::Conflict);
    stage.handle(change(roles(&["guest"])), 5_300);
    let repeated = stage.handle(submit("t1", "42"), 5_310);
    assert_eq!(repeated, [submitted("t1", TaskState::Running, 1, true)]);
}

#[test]
fn a_new_leader_tells_what_its_predecessor_has_not() {
    let mut stage = Stage::serving();
    stage.handle(Input::Deposed, 5_050);
    // Any dispatcher writes it; who leads tells it.
    let (_, out) = answered(stage.handle(change(roles(&["host"])), 5_100));
    assert_eq!(out, []);
    let out = stage.handle(Input::Elected, 5_300);
    assert_eq!(out, [told("w1", 1, 1, &["host"])]);
}

#[test]
fn a_task_that_waits_begins_with_what_is_wanted() {
    let mut stage = Stage::leader();
    stage.handle(submit("t1", "42"), 5_001);
    let (answer, _) = answered(stage.handle(change(roles(&["host"])), 5_100));
    assert!(!answer.unwrap().updating, "nobody has it");
    let out = stage.handle(alive("w1", 0, &[]), 5_300);
    let wanted = Assign { pull: Some(pull(&["host"])), revision: 1, ..*order("t1", "42", 1) };
    assert_eq!(out, [Output::Assign { worker: worker("w1"), assign: Box::new(wanted) }]);
}

#[test]
fn both_sides_of_a_hand_over_are_told() {
    let mut stage = Stage::serving();
    stage.handle(alive("w2", 0, &[]), 5_020);
    let mut leaving = beat("w1", 2, &[("t1", 1, SessionState::Running)]);
    leaving.phase = WorkerPhase::LameDuck;
    stage.handle(Input::Heartbeat(Box::new(leaving)), 5_030);
    let from = Handover { worker: worker("w1"), epoch: Epoch(1) };
    assert_eq!(stage.task("t1").from, Some(from));
    // The successor was asked before, and its session is not there yet.
    let (_, out) = answered(stage.handle(change(roles(&["host"])), 5_040));
    assert_eq!(out, [told("w1", 1, 1, &["host"])]);
    let out = stage.handle(alive("w2", 1, &[("t1", 2, SessionState::Starting)]), 5_100);
    assert_eq!(out, [told("w2", 2, 1, &["host"])]);
}

#[test]
fn what_cannot_be_is_refused_by_name() {
    let mut stage = Stage::serving();
    let refused = |stage: &mut Stage, update| {
        let (answer, out) = answered(stage.handle(change(update), 5_100));
        assert_eq!(out, []);
        answer.unwrap_err()
    };
    let mut update = Update::of(id("t1"));
    update.priority = Some(10);
    let refusal = refused(&mut stage, update);
    assert_eq!(refusal.error, RefusalCode::BadRequest);
    assert!(refusal.message.starts_with("priority: "), "{refusal}");
    let nobody = Update::of(TaskId::parse("t9").unwrap());
    assert_eq!(refused(&mut stage, nobody).error, RefusalCode::NotFound);
    stage.handle(cancel("t1"), 5_110);
    let refusal = refused(&mut stage, roles(&["host"]));
    assert_eq!(refusal.error, RefusalCode::Conflict);
    assert!(refusal.message.contains("is cancelled"), "{refusal}");
}

#[test]
fn a_shorter_time_ends_a_task_that_has_had_it() {
    let mut stage = Stage::serving();
    stage.set_clock(0);
    let mut update = Update::of(id("t1"));
    update.max_duration_s = Some(2);
    stage.handle(change(update), 5_100);
    for (seq, ms) in (2..).zip((5_500..8_000).step_by(500)) {
        stage.handle(shows("w1", seq, (1, 1)), ms);
    }
    assert_eq!(stage.state("t1").0, TaskState::Done);
    assert!(limits::UPDATE_AGAIN_MAX > limits::ACCEPT_TIMEOUT);
}

#[test]
fn a_revision_is_above_all_that_were_shown() {
    let mut stage = Stage::serving();
    // A version that knows no revisions wrote the record meanwhile.
    stage.handle(shows("w1", 2, (1, 1_767_225_600_000)), 5_050);
    let (answer, out) = answered(stage.handle(change(roles(&["host"])), 5_100));
    assert_eq!(answer.unwrap().revision, 1_767_225_600_001);
    assert_eq!(out, [told("w1", 1, 1_767_225_600_001, &["host"])]);
}
