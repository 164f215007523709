//! A worker in a hand-over: as the one that leaves and as the one that comes.

use super::*;
use crate::task::{Handover, Pull, Push};

fn claimed(epoch: u64, from: Option<(&str, u64)>) -> Input {
    let from = from.map(|(worker, epoch)| Handover {
        worker: WorkerId::parse(worker).unwrap(),
        epoch: Epoch(epoch),
    });
    Input::Claimed { room: RoomId::parse("a").unwrap(), epoch: Epoch(epoch), from }
}

/// `t1` in room `a` under epoch 2, which `w0` serves under epoch 1 meanwhile.
fn take_over(pull: bool, push: bool) -> Input {
    let Input::Assign { ticket, mut assign, fit } = assign("t1", "a", 2) else { panic!() };
    assign.pull = pull.then(Pull::default);
    assign.push = push.then(|| Push { from: "audio.push.a.tts".into() });
    assign.from = Some(Handover { worker: WorkerId::parse("w0").unwrap(), epoch: Epoch(1) });
    Input::Assign { ticket, assign, fit }
}

fn is_heard(core: &Core) -> bool {
    core.inventory().sessions.iter().all(|report| report.heard)
}

#[test]
fn a_room_claimed_for_a_successor_is_served_until_it_is_taken_away() {
    let now = Instant::now();
    let mut core = core(now);
    let (session, child) = running(&mut core, now);
    assert_eq!(core.handle(claimed(2, Some(("w1", 1))), now), []);
    // Nor does another successor in its place end it.
    assert_eq!(core.handle(claimed(3, Some(("w1", 1))), now), []);
    assert_eq!(
        core.handle(revoke("t1", 1), now),
        [Output::Leave(child, session), Output::Close(session), yes()]
    );
}

#[test]
fn a_claim_that_names_somebody_else_or_an_older_session_ends_it() {
    for from in [("w2", 1), ("w1", 0)] {
        let now = Instant::now();
        let mut core = core(now);
        let (session, child) = running(&mut core, now);
        let out = core.handle(claimed(2, Some(from)), now);
        assert_eq!(out, [Output::Leave(child, session), Output::Close(session)], "{from:?}");
    }
}

#[test]
fn who_comes_plays_once_who_leaves_is_gone() {
    let now = Instant::now();
    let mut core = core(now);
    core.handle(take_over(true, true), now);
    let room = RoomId::parse("a").unwrap();
    assert_eq!(core.held(), [room]);
    assert_eq!(core.handle(claimed(2, Some(("w0", 1))), now), []);
    // What is about an earlier claim says nothing about this one.
    assert_eq!(core.handle(claimed(1, None), now), []);
    assert_eq!(core.handle(claimed(2, None), now), [Output::Play(SessionKey(1))]);
    assert_eq!((core.held(), core.handle(claimed(2, None), now)), (vec![], vec![]));
}

#[test]
fn who_plays_nothing_waits_for_nobody() {
    let now = Instant::now();
    let mut core = core(now);
    core.handle(take_over(true, false), now);
    assert_eq!(core.held(), []);
    assert_eq!(core.handle(claimed(2, None), now), []);
}

#[test]
fn a_session_is_heard_once_its_room_says_so_or_where_there_is_nothing_to_hear() {
    let now = Instant::now();
    for (pull, joined_is_heard) in [(true, false), (false, true)] {
        let mut core = core(now);
        core.handle(take_over(pull, true), now);
        core.handle(Input::Spawned(ChildKey(2)), now);
        assert!(!is_heard(&core));
        core.handle(Input::Joined(ChildKey(2)), now);
        assert_eq!(is_heard(&core), joined_is_heard);
        core.handle(Input::Heard(SessionKey(1)), now);
        assert!(is_heard(&core));
    }
}
