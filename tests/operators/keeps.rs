//! Keeping a room pulled.

use std::process::Stdio;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tokio::{
    io::{AsyncBufReadExt, BufReader, Lines},
    process::{Child, ChildStdout, Command},
};

use crate::{
    rig::{Rig, SOON},
    support::within,
};

/// A `gateway keep` that runs.
struct Keeper {
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Keeper {
    fn start(rig: &Rig, args: &[&str]) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_gateway"))
            .args(["keep", "--room=r", "--sdk=sim", "--json"])
            .args(args)
            .env("NATS_URL", rig.server.url())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        Self { child, lines }
    }

    /// Waits until it tells of this.
    async fn tells(&mut self, task: &str, state: &str) -> Value {
        within(&format!("{task} {state}"), SOON, async {
            loop {
                let line = self.lines.next_line().await.unwrap().expect("it goes on");
                let view: Value = serde_json::from_str(&line).unwrap();
                if view["task"] == task && view["state"] == state {
                    return view;
                }
            }
        })
        .await
    }

    async fn ends(&mut self) -> i32 {
        let ended = within("end", SOON, self.child.wait()).await.unwrap();
        ended.code().expect("it was not killed")
    }
}

#[tokio::test]
async fn a_room_whose_task_ends_gets_the_next_one_from_whoever_leads() {
    let mut rig = Rig::start(&["d1", "d2", "w1"]).await;
    // Each task lasts longer than either keeper waits before the next.
    let lasting = ["--param=seconds=6"];
    let mut keeper = Keeper::start(&rig, &lasting);
    keeper.tells("keep-r", "running").await;
    // A second one of the same kind does no harm, and neither does a new leader.
    let mut twin = Keeper::start(&rig, &lasting);
    twin.tells("keep-r", "running").await;
    let leader = rig.leader().await;
    rig.programs.get_mut(&leader).unwrap().kill();
    keeper.tells("keep-r", "done").await;
    for keeper in [&mut keeper, &mut twin] {
        keeper.tells("keep-r-2", "running").await;
    }
    // Whoever cancels it means it: nobody begins it again.
    let cancelled = rig.run(&["cancel", "keep-r-2"]).await;
    assert_eq!(cancelled.code, 0, "{}", cancelled.err);
    assert_eq!((keeper.ends().await, twin.ends().await), (0, 0));
    assert!(rig.json(&["list", "--room=r"]).await.is_empty());
    rig.assert_no_errors();
}

#[tokio::test]
async fn a_room_that_cannot_be_had_is_given_up_with_the_reason() {
    let rig = Rig::start(&["d1", "w1"]).await;
    let refusing = ["--param=fail_join=the token has expired", "--tries=2"];
    let mut keeper = Keeper::start(&rig, &refusing);
    keeper.tells("keep-r-2", "failed").await;
    assert_eq!(keeper.ends().await, 1);
    let said = rig.run(&["keep", "--room=r", "--sdk=sim", "--priority=11"]).await;
    assert_eq!(said.code, 2, "{}", said.err);
}

#[tokio::test]
async fn a_room_of_somebody_else_is_left_to_him() {
    let rig = Rig::start(&["d1", "w1"]).await;
    rig.runs("call", "r").await;
    let said = rig.run(&["keep", "--room=r", "--sdk=sim"]).await;
    assert_eq!(said.code, 4, "{}", said.err);
    assert!(said.err.contains("room r is served by task call"), "{}", said.err);
    // By its own name it is kept, and goes on without whoever kept it.
    let mut keeper = Keeper::start(&rig, &["--id=call"]);
    keeper.tells("call", "running").await;
    let pid = Pid::from_raw(keeper.child.id().unwrap().cast_signed()).unwrap();
    kill_process(pid, Signal::INT).unwrap();
    assert_eq!(keeper.ends().await, 130);
    assert_eq!(rig.json(&["get", "call"]).await[0]["state"], "running");
    // Another task by that name is another matter.
    let said = rig.run(&["keep", "--id=call", "--room=r", "--sdk=sim", "--priority=9"]).await;
    assert_eq!(said.code, 4, "{}", said.err);
    assert!(said.err.contains("another `priority`"), "{}", said.err);
}
