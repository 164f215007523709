//! More tasks than there is room for: who waits, who is refused, and what that
//! costs.

use super::stage::*;
use crate::{
    bus::messages::*,
    dispatch::io::*,
    id::AdapterName,
    limits,
    task::{TaskSpec, TaskState},
};

fn submit_as(task: &str, priority: u8) -> Input {
    let spec = TaskSpec { priority, start_within_s: 3_600, ..spec(task, task) };
    Input::Call { call: CallId(1), request: Request::Submit(Box::new(spec)) }
}

/// A heartbeat with this much of its four cores in use.
fn busy(name: &str, seq: u64, cores_used: f64) -> Input {
    let mut beat = beat(name, seq, &[]);
    beat.load.cores_used = cores_used;
    Input::Heartbeat(Box::new(beat))
}

fn given(out: &[Output]) -> Vec<String> {
    let assigned = |out: &Output| match out {
        Output::Assign { assign, .. } => Some(assign.task.to_string()),
        _ => None,
    };
    out.iter().filter_map(assigned).collect()
}

#[test]
fn ten_thousand_that_wait_cost_a_few_steps_and_a_few_writes() {
    let mut stage = Stage::leader();
    stage.handle(busy("w1", 0, 4.0), 5_000);
    let before = stage.looks();
    for number in 0..limits::QUEUE_MAX {
        stage.hand(submit_as(&format!("t{number}"), 9), 5_000);
    }
    // One step for each, as it came.
    assert!(stage.looks() - before <= 2 * limits::QUEUE_MAX as u64);
    let refused = stage.hand(submit_as("more", 9), 5_000);
    assert_eq!(refusal(&refused).error, RefusalCode::QueueFull);
    assert!(refusal(&refused).retry_after_ms > 0);
    let (before, written) = (stage.looks(), stage.written());
    for beat in 1..=20 {
        stage.handle(busy("w1", beat, 4.0), 5_000 + beat * 500);
    }
    // In ten seconds: at most five looks a second at one class, and reasons at
    // their rate.
    let looks = stage.looks() - before;
    assert!(looks <= 2 * 5 * 11, "{looks} looks");
    let writes = stage.written() - written;
    let most = u64::from(limits::REASONS_PER_S) * 11;
    assert!((1..=most).contains(&writes), "{writes} writes");
    // Room for all but one: each is looked at once, and once more for nothing.
    let before = stage.looks();
    let mut seq = 100;
    let mut ms = 16_000;
    let mut served = 0;
    while served < 1_000 {
        ms += 250;
        seq += 1;
        let out = stage.handle(busy("w2", seq, 0.0), ms);
        served += given(&out).len();
        let more = stage.handle(busy(&format!("x{seq}"), 0, 0.0), ms + 1);
        served += given(&more).len();
    }
    let looks = stage.looks() - before;
    assert!(looks <= 3 * served as u64 + 2 * (seq - 100) + 10, "{looks} looks for {served}");
}

#[test]
fn the_last_places_are_kept_for_what_is_more_urgent() {
    let mut stage = Stage::leader();
    let most = limits::QUEUE_MAX - 9 * limits::QUEUE_STEP;
    for number in 0..most {
        stage.hand(submit_as(&format!("t{number}"), 0), 5_000);
    }
    let refused = stage.hand(submit_as("low", 0), 5_000);
    assert_eq!(refusal(&refused).error, RefusalCode::QueueFull);
    assert!(refusal(&refused).message.contains("priority 0"), "{refused:?}");
    assert_eq!(stage.hand(submit_as("low", 1), 5_000).len(), 1);
    assert_eq!(stage.state("low").0, TaskState::Pending);
    // Who is there already is answered, full or not.
    let again = stage.hand(submit_as("t7", 0), 5_000);
    assert!(matches!(&again[..], [Output::Answer { answer: Ok(_), .. }]), "{again:?}");
}

#[test]
fn a_higher_priority_is_placed_first_and_who_waits_is_not_overtaken_by_who_comes() {
    let mut stage = Stage::leader();
    stage.handle(busy("w1", 0, 4.0), 5_000);
    for (task, priority) in [("low", 1), ("mid", 5), ("high", 9)] {
        stage.handle(submit_as(task, priority), 5_001);
    }
    // Room for one: between two looks nobody who comes gets it first.
    let mut beat = beat("w2", 0, &[]);
    beat.load.sessions_max = 1;
    assert_eq!(given(&stage.handle(Input::Heartbeat(Box::new(beat)), 5_300)), ["high"]);
    let mut roomy = super::stage::beat("w3", 0, &[]);
    roomy.load.sessions_max = 1;
    // It is looked at within a moment …
    let at_once = given(&stage.handle(Input::Heartbeat(Box::new(roomy)), 5_310));
    assert!(at_once.is_empty(), "{at_once:?}");
    // … and what comes meanwhile, however late, waits for its turn.
    assert!(given(&stage.handle(submit_as("then", 5), 5_320)).is_empty());
    assert_eq!(given(&stage.run_to(5_600)), ["mid"]);
}

#[test]
fn a_worker_that_was_full_is_given_nothing_until_it_is_clearly_not() {
    let mut stage = Stage::leader();
    stage.handle(busy("w1", 0, 3.2), 5_000);
    stage.handle(submit_as("t1", 5), 5_001);
    for (seq, used) in [(1, 3.1), (2, 2.81)] {
        assert!(given(&stage.handle(busy("w1", seq, used), 5_001 + seq * 500)).is_empty());
    }
    let reason = stage.task("t1").reason;
    assert_eq!(reason, "every worker that could take it is full: add one");
    assert_eq!(given(&stage.handle(busy("w1", 3, 2.79), 6_600)), ["t1"]);
}

#[test]
fn what_a_session_takes_is_what_was_measured_of_its_adapter() {
    let mut stage = Stage::leader();
    let heavy = |seq, cores| {
        let mut beat = beat("w1", seq, &[]);
        let adapter = AdapterName::parse("sim").unwrap();
        beat.load.costs = vec![Cost { adapter, kind: None, cores, memory: 0, sessions_max: None }];
        Input::Heartbeat(Box::new(beat))
    };
    // 80 % of four cores: three of one core each.
    stage.handle(heavy(0, 1.0), 5_000);
    let mut served = Vec::new();
    for number in 0..6 {
        served.extend(given(&stage.handle(submit_as(&format!("t{number}"), 5), 5_001)));
    }
    assert_eq!(served, ["t0", "t1", "t2"]);
    assert_eq!(stage.state("t3").0, TaskState::Pending);
}

#[test]
fn an_adapter_gets_no_more_sessions_than_its_worker_allows() {
    let mut stage = Stage::leader();
    let capped = |seq, most| {
        let mut beat = beat("w1", seq, &[]);
        let adapter = AdapterName::parse("sim").unwrap();
        let (cores, sessions_max) = (0.01, Some(most));
        beat.load.costs = vec![Cost { adapter, kind: None, cores, memory: 0, sessions_max }];
        Input::Heartbeat(Box::new(beat))
    };
    stage.handle(capped(0, 2), 5_000);
    let mut served = Vec::new();
    for number in 0..4 {
        served.extend(given(&stage.handle(submit_as(&format!("t{number}"), 5), 5_001)));
    }
    assert_eq!(served, ["t0", "t1"]);
    stage.handle(capped(1, 2), 5_500);
    stage.handle(capped(2, 2), 6_000);
    stage.run_to(6_200);
    let reason = stage.task("t2").reason;
    assert!(reason.contains("as its max_sessions allows"), "{reason}");
    // One more is allowed, and one more is given.
    let mut out = stage.handle(capped(3, 3), 6_300);
    out.extend(stage.run_to(6_600));
    assert_eq!(given(&out), ["t2"]);
}

#[test]
fn a_reason_that_changes_is_told_again_but_not_at_once() {
    let mut stage = Stage::leader();
    stage.handle(submit_as("t1", 5), 5_000);
    stage.run_to(6_100);
    assert_eq!(stage.task("t1").reason, "no worker is there: start one");
    let mut seq = 0;
    let mut full = |stage: &mut Stage, ms| {
        seq += 1;
        stage.handle(busy("w1", seq, 4.0), ms)
    };
    for ms in (6_500..15_500).step_by(500) {
        full(&mut stage, ms);
        let reason = stage.task("t1").reason;
        assert!(reason.starts_with("no worker"), "at {ms}: {reason}");
    }
    full(&mut stage, 17_100);
    assert!(stage.task("t1").reason.starts_with("every worker"), "{}", stage.task("t1").reason);
}

#[test]
fn a_session_that_does_not_show_in_the_load_yet_is_counted_all_the_same() {
    let mut stage = Stage::leader();
    let heavy = |seq, sessions: &[(&str, u64, SessionState)]| {
        let mut beat = beat("w1", seq, sessions);
        beat.load.session_cost = 1.0;
        Input::Heartbeat(Box::new(beat))
    };
    stage.handle(heavy(0, &[]), 5_000);
    for task in ["t1", "t2", "t3"] {
        assert_eq!(given(&stage.handle(submit_as(task, 5), 5_001)), [task]);
    }
    let epoch = |stage: &Stage, task: &str| stage.task(task).epoch.0;
    let run = ["t1", "t2", "t3"].map(|task| (task, epoch(&stage, task), SessionState::Running));
    // It reports them, and its load says nothing of them.
    stage.handle(heavy(1, &run), 5_100);
    assert!(given(&stage.handle(submit_as("t4", 5), 5_200)).is_empty());
    assert!(given(&stage.handle(heavy(2, &run), 5_600)).is_empty());
}

#[test]
fn who_gave_up_waiting_is_not_looked_at() {
    let mut stage = Stage::leader();
    stage.handle(busy("w1", 0, 4.0), 5_000);
    let tasks: Vec<String> = (0..100).map(|number| format!("t{number}")).collect();
    for task in &tasks {
        stage.handle(submit_as(task, 5), 5_001);
    }
    for task in &tasks {
        stage.handle(cancel(task), 5_002);
    }
    let before = stage.looks();
    for seq in 1..=4 {
        stage.handle(busy("w1", seq, 4.0), 5_002 + seq * 500);
    }
    assert!(stage.looks() - before <= 4, "{}", stage.looks() - before);
}
