//! The worker's decisions, read as the protocol.

mod handover;
mod updates;

use super::*;
use crate::bus::messages::{Fault, SessionState};

fn core(at: Instant) -> Core {
    let about = About {
        worker: WorkerId::parse("w1").unwrap(),
        boot: "boot".into(),
        version: "0".into(),
        adapters: vec![AdapterName::parse("sim").unwrap()],
        raw: BTreeSet::from([AdapterName::parse("ffmpeg").unwrap()]),
        labels: BTreeMap::new(),
        sessions_max: 2,
    };
    let mut core = Core::new(about, at);
    assert_eq!(core.handle(Input::Tick, at), [Output::Beat], "the first heartbeat goes at once");
    core
}

fn task(id: &str) -> TaskId {
    TaskId::parse(id).unwrap()
}

fn assign(id: &str, room: &str, epoch: u64) -> Input {
    let assign = Assign {
        task: task(id),
        room: RoomId::parse(room).unwrap(),
        epoch: Epoch(epoch),
        sdk: AdapterName::parse("sim").unwrap(),
        params: crate::task::Params::default(),
        pull: None,
        push: None,
        origin_us: 0,
        from: None,
        revision: 0,
    };
    Input::Assign { ticket: Ticket(9), assign: Box::new(assign), fit: Ok(()) }
}

fn revoke(id: &str, epoch: u64) -> Input {
    let revoke = Revoke { task: task(id), epoch: Epoch(epoch), reason: String::new() };
    Input::Revoke { ticket: Ticket(9), revoke }
}

fn yes() -> Output {
    Output::Answer(Ticket(9), accepted())
}

fn no(outputs: &[Output]) -> (String, bool) {
    match outputs {
        [Output::Answer(_, verdict)] if !verdict.accepted => {
            (verdict.reason.clone(), verdict.fatal)
        }
        other => panic!("{other:?}"),
    }
}

fn exited(child: ChildKey, code: i32) -> Input {
    let ended = Ended { clean: code == 0, hopeless: false, text: format!("exit code {code}") };
    Input::Exited { child, ended }
}

#[test]
fn a_heartbeat_stays_readable_however_many_adapters_fail_and_whatever_they_write() {
    let now = Instant::now();
    let mut core = core(now);
    core.about.sessions_max = 1_500;
    for at in 0..1_500 {
        let name = format!("{at:0>64}");
        core.handle(assign(&name, &name, 1), now);
        let child = ChildKey(2 * at + 2);
        core.handle(Input::Spawned(child), now);
        let text = "\u{1b}[31m\"".repeat(200);
        let ended = Ended { clean: false, hopeless: true, text };
        core.handle(Input::Exited { child, ended }, now);
        core.handle(Input::Drained(child), now);
    }
    let beat = core.heartbeat(0);
    assert!(beat.sessions.iter().all(|session| session.state == SessionState::Failed));
    assert!(beat.sessions.iter().all(|session| session.reason.starts_with("\u{1b}[31m\"")));
    let bytes = serde_json::to_vec(&beat).unwrap().len();
    assert!(bytes <= limits::CONTROL_MAX_BYTES, "{bytes}");
    // One alone has all of it.
    let mut alone = Core::new(core.about.clone(), now);
    let (_, child) = (SessionKey(1), ChildKey(2));
    alone.handle(assign("t", "r", 1), now);
    alone.handle(Input::Spawned(child), now);
    let ended = Ended { clean: false, hopeless: true, text: "x".repeat(limits::REASON_MAX_BYTES) };
    alone.handle(Input::Exited { child, ended }, now);
    alone.handle(Input::Drained(child), now);
    assert_eq!(alone.heartbeat(0).sessions[0].reason.len(), limits::REASON_MAX_BYTES);
}

fn states(core: &Core) -> Vec<(String, u64, SessionState)> {
    let reports = core.inventory().sessions;
    reports.iter().map(|it| (it.task.to_string(), it.epoch.0, it.state)).collect()
}

/// Assigns `t1` in room `a` under epoch 1; its session has key 1, its process 2.
fn running(core: &mut Core, now: Instant) -> (SessionKey, ChildKey) {
    let (session, child) = (SessionKey(1), ChildKey(2));
    assert_eq!(
        core.handle(assign("t1", "a", 1), now),
        [Output::Open(session, task("t1")), Output::Start(child, task("t1")), yes()]
    );
    assert_eq!(core.handle(Input::Spawned(child), now), [Output::Attach(child, session)]);
    assert_eq!(core.handle(Input::Joined(child), now), []);
    assert_eq!(states(core), [("t1".into(), 1, SessionState::Running)]);
    (session, child)
}

/// Takes the process through its end.
fn end(core: &mut Core, child: ChildKey, code: i32, now: Instant) -> Vec<Output> {
    let mut out = core.handle(exited(child, code), now);
    assert!(matches!(out[..], [Output::Drain(it, _), ..] if it == child), "{out:?}");
    out.remove(0);
    out.extend(core.handle(Input::Drained(child), now));
    out
}

#[test]
fn changes_are_told_soon_and_together() {
    let now = Instant::now();
    let mut core = core(now);
    running(&mut core, now);
    assert_eq!(core.deadline(), now + limits::HEARTBEAT_NEWS);
    let soon = now + limits::HEARTBEAT_NEWS;
    assert_eq!(core.handle(Input::Tick, soon), [Output::Beat]);
    assert_eq!(core.deadline(), soon + limits::HEARTBEAT);
    let beat = core.heartbeat(7);
    assert_eq!((beat.seq, beat.time_ms, beat.sessions.len()), (0, 7, 1));
}

#[test]
fn an_assignment_repeated_is_accepted_and_an_old_one_refused() {
    let now = Instant::now();
    let mut core = core(now);
    running(&mut core, now);
    assert_eq!(core.handle(assign("t1", "a", 1), now), [yes()]);
    assert!(no(&core.handle(assign("t2", "a", 1), now)).0.contains("is known"));
    let (reason, fatal) = no(&core.handle(assign("t1", "a", 0), now));
    assert!(reason.contains("is known") && !fatal, "{reason}");
}

#[test]
fn a_higher_epoch_replaces_the_session_of_its_room() {
    let now = Instant::now();
    let mut core = core(now);
    let (session, child) = running(&mut core, now);
    assert_eq!(
        core.handle(assign("t1", "a", 5), now),
        [
            Output::Leave(child, session),
            Output::Close(session),
            Output::Open(SessionKey(3), task("t1")),
            Output::Start(ChildKey(4), task("t1")),
            yes()
        ]
    );
    assert_eq!(end(&mut core, child, 0, now), [], "the old process means nothing any more");
    assert_eq!(states(&core), [("t1".into(), 5, SessionState::Starting)]);
}

#[test]
fn what_cannot_run_here_is_refused_with_the_reason() {
    let now = Instant::now();
    let mut core = core(now);
    let Input::Assign { ticket, assign: wrong, .. } = assign("t1", "a", 1) else { panic!() };
    let unfit = Unfit { reason: "params.url: no".into(), fatal: true };
    let input = Input::Assign { ticket, assign: wrong, fit: Err(unfit) };
    assert_eq!(no(&core.handle(input, now)), ("params.url: no".into(), true));

    core.handle(assign("t1", "a", 1), now);
    core.handle(assign("t2", "b", 1), now);
    assert_eq!(no(&core.handle(assign("t3", "c", 1), now)), ("this worker is full".into(), false));
    core.handle(Input::Drain { ticket: Ticket(1), undrain: false }, now);
    assert!(no(&core.handle(assign("t3", "c", 1), now)).0.contains("lame duck"));
    assert_eq!(core.heartbeat(0).phase, WorkerPhase::LameDuck);
    assert_eq!(core.live(), 2, "a lame duck goes on with what it has");
}

#[test]
fn a_revoked_session_leaves_and_is_told_of_no_more() {
    let now = Instant::now();
    let mut core = core(now);
    let (session, child) = running(&mut core, now);
    assert_eq!(core.handle(revoke("t1", 0), now), [yes()], "of an epoch that is over");
    assert_eq!(
        core.handle(revoke("t1", 1), now),
        [Output::Leave(child, session), Output::Close(session), yes()]
    );
    assert_eq!(core.handle(revoke("t1", 1), now), [yes()]);
    assert_eq!(states(&core), []);
    assert_eq!(end(&mut core, child, 0, now), []);
    assert!(no(&core.handle(assign("t1", "a", 1), now)).0.contains("is known"), "it came late");
}

#[test]
fn an_assignment_that_its_revocation_overtook_is_refused() {
    let now = Instant::now();
    let mut core = core(now);
    assert_eq!(core.handle(revoke("t1", 3), now), [yes()]);
    assert!(no(&core.handle(assign("t1", "a", 3), now)).0.contains("taken away"));
    assert!(core.handle(assign("t1", "a", 4), now).contains(&yes()));
}

#[test]
fn a_room_claimed_by_another_is_left() {
    let now = Instant::now();
    let mut core = core(now);
    let (session, child) = running(&mut core, now);
    let claimed = |epoch| Input::Claimed { room: RoomId::parse("a").unwrap(), epoch, from: None };
    assert_eq!(core.handle(claimed(Epoch(1)), now), []);
    assert_eq!(
        core.handle(claimed(Epoch(2)), now),
        [Output::Leave(child, session), Output::Close(session)]
    );
}

#[test]
fn a_crash_starts_the_adapter_again_under_the_same_epoch_until_it_is_one_too_many() {
    let start = Instant::now();
    let mut core = core(start);
    let (session, mut child) = running(&mut core, start);
    let mut now = start;
    for crash in 1..=limits::CRASHES_MAX as u64 {
        assert_eq!(end(&mut core, child, 3, now), []);
        assert_eq!(states(&core), [("t1".into(), 1, SessionState::Running)]);
        now += limits::RESTART_DELAY * 2_u32.pow(crash as u32 - 1);
        child = ChildKey(2 + crash);
        let out = core.handle(Input::Tick, now);
        assert!(out.contains(&Output::Start(child, task("t1"))), "{out:?}");
        core.handle(Input::Spawned(child), now);
        core.handle(Input::Joined(child), now);
    }
    let out = end(&mut core, child, 3, now);
    assert!(out.contains(&Output::Close(session)), "{out:?}");
    let report = core.inventory().sessions.remove(0);
    // It had been in the room: that says nothing about its start.
    assert_eq!((report.state, report.fault), (SessionState::Failed, Fault::Task));
    assert!(report.reason.contains("keeps failing: exit code 3"), "{}", report.reason);
}

#[test]
fn who_says_farewell_is_done() {
    for bye in [true, false] {
        let now = Instant::now();
        let mut core = core(now);
        let (session, child) = running(&mut core, now);
        if bye {
            let input = Input::Bye { child, reason: "the room has closed".into() };
            assert_eq!(core.handle(input, now), [Output::Leave(child, session)]);
        } else {
            assert_eq!(core.handle(Input::Closed(child), now), [Output::Leave(child, session)]);
        }
        let code = if bye { 1 } else { 0 };
        assert!(end(&mut core, child, code, now).contains(&Output::Close(session)));
        assert_eq!(states(&core), [("t1".into(), 1, SessionState::Done)]);
        // Told until somebody takes note, or nobody ever does.
        let late = now + limits::TASK_KEEP;
        core.handle(Input::Tick, late);
        assert_eq!(states(&core), []);
    }
}

#[test]
fn a_fatal_error_fails_at_once_with_the_adapter_s_own_words() {
    let now = Instant::now();
    let mut core = core(now);
    let (_, child) = running(&mut core, now);
    core.handle(Input::Fatal { child, why: "the token has expired".into() }, now);
    end(&mut core, child, 1, now);
    let report = core.inventory().sessions.remove(0);
    assert_eq!((report.state, &*report.reason), (SessionState::Failed, "the token has expired"));
}

#[test]
fn who_does_not_join_in_time_is_terminated_and_left_to_another_worker() {
    let now = Instant::now();
    let mut core = core(now);
    core.handle(assign("t1", "a", 1), now);
    let child = ChildKey(2);
    core.handle(Input::Spawned(child), now);
    let late = now + limits::JOIN_TIMEOUT;
    assert!(core.handle(Input::Tick, late).contains(&Output::Terminate(child)));
    assert!(end(&mut core, child, 0, late).contains(&Output::Close(SessionKey(1))));
    let report = core.inventory().sessions.remove(0);
    assert_eq!((report.state, report.fault), (SessionState::Failed, Fault::Unjoined));
    assert_eq!(report.reason, "it did not join within 10s; exit code 0");
}

#[test]
fn who_had_been_in_the_room_and_does_not_join_again_is_counted_as_a_crash() {
    let now = Instant::now();
    let mut core = core(now);
    let (_, child) = running(&mut core, now);
    assert_eq!(end(&mut core, child, 3, now), []);
    let now = now + limits::RESTART_DELAY;
    core.handle(Input::Tick, now);
    core.handle(Input::Spawned(ChildKey(3)), now);
    let late = now + limits::JOIN_TIMEOUT;
    assert!(core.handle(Input::Tick, late).contains(&Output::Terminate(ChildKey(3))));
    assert_eq!(end(&mut core, ChildKey(3), 0, late), []);
    assert_eq!(states(&core), [("t1".into(), 1, SessionState::Running)]);
}

#[test]
fn a_raw_adapter_has_until_its_first_sample() {
    let now = Instant::now();
    let mut core = core(now);
    let Input::Assign { ticket, mut assign, fit } = assign("t1", "a", 1) else { panic!() };
    assign.sdk = AdapterName::parse("ffmpeg").unwrap();
    core.handle(Input::Assign { ticket, assign, fit }, now);
    let child = ChildKey(2);
    core.handle(Input::Spawned(child), now);
    let out = core.handle(Input::Tick, now + limits::JOIN_TIMEOUT);
    assert!(!out.contains(&Output::Terminate(child)), "{out:?}");
    let late = now + limits::FIRST_FRAME_TIMEOUT;
    assert!(core.handle(Input::Tick, late).contains(&Output::Terminate(child)));
}

#[test]
fn an_adapter_that_never_comes_into_the_room_is_tried_six_times() {
    let mut now = Instant::now();
    let mut core = core(now);
    core.handle(assign("t1", "a", 1), now);
    let mut starts = 1;
    loop {
        let child = ChildKey(1 + starts);
        core.handle(Input::Spawned(child), now);
        // Just before it would be too late: all of it lies within the window.
        now += limits::JOIN_TIMEOUT - Duration::from_millis(1);
        end(&mut core, child, 3, now);
        if states(&core)[0].2 == SessionState::Failed {
            break;
        }
        now += limits::RESTART_DELAY * 2_u32.pow(starts as u32 - 1);
        core.handle(Input::Tick, now);
        starts += 1;
    }
    assert_eq!(starts, 1 + limits::CRASHES_MAX as u64);
    assert_eq!(core.inventory().sessions[0].fault, Fault::Crashed);
}

#[test]
fn a_system_that_has_no_room_for_a_process_is_asked_again_and_then_to_blame() {
    let mut now = Instant::now();
    let mut core = core(now);
    core.handle(assign("t1", "a", 1), now);
    for child in 2.. {
        let reason = "the system refused a pipe: too many open files".to_owned();
        let child = ChildKey(child);
        core.handle(Input::NotSpawned { child, reason, hopeless: false }, now);
        if states(&core)[0].2 == SessionState::Failed {
            break;
        }
        assert!(child.0 < 9, "endless");
        now += limits::RESTART_DELAY * 64;
        core.handle(Input::Tick, now);
    }
    let report = core.inventory().sessions.remove(0);
    assert_eq!(report.fault, Fault::Worker);
    assert!(report.reason.contains("too many open files"), "{}", report.reason);
}

#[test]
fn a_program_that_is_not_there_fails_at_once() {
    let now = Instant::now();
    let mut core = core(now);
    core.handle(assign("t1", "a", 1), now);
    let reason = "adapter program not found".to_owned();
    let out = core.handle(Input::NotSpawned { child: ChildKey(2), reason, hopeless: true }, now);
    assert_eq!(out, [Output::Close(SessionKey(1))]);
    let report = core.inventory().sessions.remove(0);
    assert_eq!((report.state, report.fault), (SessionState::Failed, Fault::Worker));
    assert_eq!(report.reason, "adapter program not found");
}

#[test]
fn an_end_may_overtake_the_news_of_the_start() {
    let now = Instant::now();
    let mut core = core(now);
    core.handle(assign("t1", "a", 1), now);
    let (session, child) = (SessionKey(1), ChildKey(2));
    assert_eq!(core.handle(exited(child, 3), now), []);
    assert_eq!(
        core.handle(Input::Spawned(child), now),
        [Output::Attach(child, session), Output::Drain(child, session)]
    );
}

#[test]
fn a_process_that_starts_after_its_session_ended_leaves_again() {
    let now = Instant::now();
    let mut core = core(now);
    core.handle(assign("t1", "a", 1), now);
    let (session, child) = (SessionKey(1), ChildKey(2));
    assert_eq!(
        core.handle(revoke("t1", 1), now),
        [Output::Leave(child, session), Output::Close(session), yes()]
    );
    assert_eq!(
        core.handle(Input::Spawned(child), now),
        [Output::Attach(child, session), Output::Leave(child, session)]
    );
}

#[test]
fn who_is_drained_takes_rooms_again_when_told_so_unless_it_leaves() {
    let now = Instant::now();
    let mut core = core(now);
    let drain = |undrain| Input::Drain { ticket: Ticket(9), undrain };
    core.handle(drain(false), now);
    assert_eq!(core.handle(drain(true), now), [yes()]);
    assert_eq!(core.heartbeat(0).phase, WorkerPhase::Running);
    assert!(core.handle(assign("t1", "a", 1), now).contains(&yes()));
    core.handle(Input::Leave, now);
    assert_eq!(no(&core.handle(drain(true), now)).0, "it is on its way out");
}

#[test]
fn leaving_gives_every_room_back_at_once() {
    let now = Instant::now();
    let mut core = core(now);
    let (session, child) = running(&mut core, now);
    assert_eq!(
        core.handle(Input::Leave, now),
        [Output::Leave(child, session), Output::Close(session), Output::Beat]
    );
    let beat = core.heartbeat(0);
    assert_eq!((beat.phase, beat.sessions), (WorkerPhase::LameDuck, vec![]));
}

#[test]
fn a_worker_that_nobody_hears_is_mute_and_then_leaves_its_rooms() {
    let at = Instant::now();
    let mut core = core(at);
    core.handle(assign("t1", "42", 7), at);
    let tick = |out: Vec<Output>| -> Vec<Output> {
        out.into_iter().filter(|output| *output != Output::Beat).collect()
    };
    assert_eq!(tick(core.handle(Input::Lease(Lease::Lapsed), at)), [Output::Mute(true)]);
    assert_eq!(core.live(), 1);
    assert_eq!(tick(core.handle(Input::Lease(Lease::Held), at)), [Output::Mute(false)]);
    core.handle(Input::Lease(Lease::Lapsed), at);
    let out = tick(core.handle(Input::Lease(Lease::Lost), at));
    assert!(matches!(out[..], [Output::Leave(..), Output::Close(_)]), "{out:?}");
    assert_eq!(core.live(), 0);
    // It takes rooms again once somebody finds it.
    core.handle(Input::Lease(Lease::Held), at);
    assert!(core.handle(assign("t1", "42", 8), at).contains(&yes()));
}

#[test]
fn an_epoch_is_remembered_while_its_room_is_served_and_for_a_while_after() {
    let mut now = Instant::now();
    let mut core = core(now);
    running(&mut core, now);
    let mut pass = |core: &mut Core, time: Duration| {
        for _ in 0..time.as_millis() / limits::HEARTBEAT.as_millis() {
            now += limits::HEARTBEAT;
            core.handle(Input::Tick, now);
        }
        core.epochs.len()
    };
    assert_eq!(pass(&mut core, 3 * limits::EPOCH_KEEP), 1);
    core.sessions.clear();
    assert_eq!(pass(&mut core, limits::EPOCH_KEEP * 5 / 6), 1);
    assert_eq!(pass(&mut core, limits::EPOCH_KEEP / 3), 0);
}

#[test]
fn the_load_is_told_with_the_next_heartbeat() {
    let now = Instant::now();
    let mut core = core(now);
    let due = core.deadline();
    let load = Load { cores: 3.0, ..Load::default() };
    assert_eq!(core.handle(Input::Load(load), due), []);
    assert_eq!(core.deadline(), due);
    assert_eq!(core.handle(Input::Tick, due), [Output::Beat]);
    let beat = core.heartbeat(0);
    assert_eq!((beat.load.cores, beat.load.sessions_max), (3.0, 2));
}
