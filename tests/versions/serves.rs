//! Today's worker does what the dispatcher of the recording asks, and 0.1.0
//! could read every word of its.

use std::time::{Duration, Instant};

use audio_gateway::{
    bus::messages::{Assign, Revoke, SessionState},
    id::{AdapterName, WorkerId},
    worker::core::{About, Core, Ended, Input, Output, Ticket},
};

use crate::{
    old,
    story::{STORY, kind},
};

#[test]
fn a_worker_of_today_serves_a_dispatcher_of_before() {
    let start = Instant::now();
    let about = About {
        worker: WorkerId::parse("w1").unwrap(),
        boot: "b1".into(),
        version: env!("CARGO_PKG_VERSION").into(),
        adapters: vec![AdapterName::parse("sim").unwrap()],
        labels: [("zone".to_owned(), "a".to_owned())].into(),
        sessions_max: 100,
        raw: Default::default(),
    };
    let mut core = Core::new(about, start);
    let (mut taken, mut ended) = (0, 0);
    for said in STORY.iter().filter(|said| said.subject.starts_with("gateway.worker.w1.")) {
        let at = start + Duration::from_millis(said.ms);
        let ticket = Ticket(said.ms);
        let input = match kind(said).as_deref() {
            Some("gateway.worker.*.assign") => {
                let assign: Assign = serde_json::from_str(&said.data).unwrap();
                Input::Assign { ticket, assign: Box::new(assign), fit: Ok(()) }
            }
            Some("gateway.worker.*.revoke") => {
                let revoke: Revoke = serde_json::from_str(&said.data).unwrap();
                Input::Revoke { ticket, revoke }
            }
            _ => continue,
        };
        let mut todo = core.handle(input, at);
        // Its adapters start, join, and leave when they are told to.
        while !todo.is_empty() {
            let mut next = Vec::new();
            for output in todo {
                match output {
                    Output::Answer(_, verdict) => {
                        assert!(verdict.accepted, "{verdict:?}");
                        old::reads::<old::Verdict>(&verdict);
                    }
                    Output::Start(child, _) => {
                        taken += 1;
                        next.extend(core.handle(Input::Spawned(child), at));
                        next.extend(core.handle(Input::Joined(child), at));
                    }
                    Output::Leave(child, _) => {
                        ended += 1;
                        let exit =
                            Ended { clean: true, hopeless: false, text: "exit code 0".into() };
                        next.extend(core.handle(Input::Exited { child, ended: exit }, at));
                    }
                    Output::Drain(child, _) => {
                        next.extend(core.handle(Input::Drained(child), at));
                    }
                    _ => (),
                }
            }
            todo = next;
        }
        let beat = core.heartbeat(said.ms);
        assert!(beat.sessions.iter().all(|session| session.state == SessionState::Running));
        old::reads::<old::Heartbeat>(&beat);
        old::reads::<old::Inventory>(&core.inventory());
    }
    assert_eq!((taken, ended), (4, 2));
}
