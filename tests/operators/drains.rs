//! Draining a worker and taking it back.

use serde_json::json;

use crate::rig::Rig;

#[tokio::test]
async fn a_worker_is_drained_and_taken_back() {
    let rig = Rig::start(&["d1", "w1"]).await;
    rig.until("worker", &["workers"], |all| all.len() == 1).await;
    let said = &rig.json(&["drain", "w1", "--wait"]).await[0];
    assert_eq!((&said["worker"], &said["rooms"]), (&json!("w1"), &json!(0)));
    let phase = |phase| move |all: &[serde_json::Value]| all[0]["phase"] == phase;
    rig.until("lame duck", &["workers"], phase("lame_duck")).await;
    // It takes nothing now, and that is why.
    let submit = ["submit", "--id=call", "--room=r", "--sdk=sim"];
    assert_eq!(rig.run(&submit).await.code, 0);
    rig.until("reason", &["get", "call"], |said| {
        said[0]["reason"] == "every worker that could take it is draining"
    })
    .await;
    let said = rig.run(&["undrain", "w1"]).await;
    assert_eq!((said.code, said.out.as_str()), (0, "w1\trunning\n"), "{}", said.err);
    rig.until("running", &["workers"], phase("running")).await;
    rig.until("served", &["get", "call"], |said| said[0]["state"] == "running").await;
    rig.assert_no_errors();
}

#[tokio::test]
async fn who_is_not_there_cannot_be_drained() {
    let rig = Rig::start(&["d1"]).await;
    for verb in ["drain", "undrain"] {
        let said = rig.run(&[verb, "w9"]).await;
        assert_eq!(said.code, 3, "{}", said.err);
        assert!(said.err.contains("there is no worker w9"), "{}", said.err);
    }
    let said = rig.run(&["drain", "w9", "--timeout=1s"]).await;
    assert_eq!(said.code, 2, "a time-out needs --wait: {}", said.err);
}

#[tokio::test]
async fn a_room_that_nobody_else_can_take_is_waited_for_in_vain() {
    let rig = Rig::start(&["d1", "w1"]).await;
    rig.runs("call", "r").await;
    let said = rig.run(&["drain", "w1", "--wait", "--timeout=2s"]).await;
    assert_eq!(said.code, 7, "{}", said.err);
    assert!(said.err.contains("worker w1 still serves 1 rooms after 2s"), "{}", said.err);
    // It goes on serving it all the same.
    assert_eq!(rig.json(&["get", "call"]).await[0]["state"], "running");
}
