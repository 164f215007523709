//! A session that is told what to pull from now on.

use super::*;
use crate::{bus::messages::UpdateSession, task::Pull};

fn roles(roles: &[&str]) -> Pull {
    Pull { roles: roles.iter().map(ToString::to_string).collect(), ..Pull::default() }
}

fn update(epoch: u64, revision: u64, pull: Option<Pull>) -> Input {
    let update = UpdateSession { task: task("t1"), epoch: Epoch(epoch), revision, pull };
    Input::Update { ticket: Ticket(9), update: Box::new(update) }
}

/// A worker that pulls everybody in room `a`, for `t1` under epoch 1.
fn pulling(now: Instant) -> Core {
    let mut core = core(now);
    let Input::Assign { ticket, mut assign, fit } = assign("t1", "a", 1) else { unreachable!() };
    assign.pull = Some(Pull::default());
    core.handle(Input::Assign { ticket, assign, fit }, now);
    core
}

fn shown(core: &Core) -> u64 {
    core.inventory().sessions[0].revision
}

#[test]
fn an_update_is_taken_in_once_and_shown() {
    let now = Instant::now();
    let mut core = pulling(now);
    assert_eq!(shown(&core), 0);
    let session = SessionKey(1);
    let first = core.handle(update(1, 7, Some(roles(&["host"]))), now);
    assert_eq!(first, [Output::Update(session, task("t1")), yes()]);
    assert_eq!(core.assigned(&task("t1")).unwrap().pull, Some(roles(&["host"])));
    assert_eq!(shown(&core), 7);
    // Told twice, and an old one that comes late.
    assert_eq!(core.handle(update(1, 7, Some(roles(&["host"]))), now), [yes()]);
    assert_eq!(core.handle(update(1, 6, Some(roles(&["guest"]))), now), [yes()]);
    assert_eq!(core.assigned(&task("t1")).unwrap().pull, Some(roles(&["host"])));
    // One that is about something else than what is pulled.
    assert_eq!(core.handle(update(1, 8, Some(roles(&["host"]))), now), [yes()]);
    assert_eq!(shown(&core), 8);
    // It is told soon.
    let soon = core.handle(Input::Tick, now + limits::HEARTBEAT_NEWS);
    assert_eq!(soon, [Output::Beat]);
}

#[test]
fn an_update_begins_nothing_and_is_for_its_epoch_alone() {
    let now = Instant::now();
    let mut core = core(now);
    let (why, fatal) = no(&core.handle(update(1, 7, Some(Pull::default())), now));
    assert!(why.contains("does not serve task t1") && !fatal, "{why}");
    let mut core = pulling(now);
    for epoch in [0, 2] {
        no(&core.handle(update(epoch, 7, Some(roles(&["host"]))), now));
    }
    assert_eq!(shown(&core), 0);
    core.handle(revoke("t1", 1), now);
    no(&core.handle(update(1, 7, Some(roles(&["host"]))), now));
    assert!(core.inventory().sessions.is_empty());
}

#[test]
fn what_only_plays_is_not_made_to_pull() {
    let now = Instant::now();
    let mut core = core(now);
    core.handle(assign("t1", "a", 1), now);
    assert_eq!(core.handle(update(1, 7, Some(Pull::default())), now), [yes()]);
    assert_eq!((core.assigned(&task("t1")).unwrap().pull.clone(), shown(&core)), (None, 7));
}
