//! Who leads, and having another lead.

use serde_json::json;

use crate::rig::Rig;

#[tokio::test]
async fn a_leader_steps_down_and_no_task_notices() {
    let rig = Rig::start(&["d1", "d2", "w1"]).await;
    rig.runs("call", "r").await;
    let before = &rig.json(&["get", "call"]).await[0];
    let was = rig.leader().await;
    let said = &rig.json(&["stepdown", "--reason", "a new kernel"]).await[0];
    let other = if was == "d1" { "d2" } else { "d1" };
    assert_eq!((&said["was"], &said["leader"]), (&json!(was), &json!(other)));
    rig.programs[&was].says("a new kernel", crate::rig::SOON).await;
    // It is a standby then, and a task is served all the same.
    rig.runs("next", "r2").await;
    let after = &rig.json(&["get", "call"]).await[0];
    assert_eq!((&before["epoch"], &before["state"]), (&after["epoch"], &after["state"]));
    // Back again: the first stands once its time is over.
    let said = rig.run(&["stepdown"]).await;
    assert_eq!(said.code, 0, "{}", said.err);
    assert!(said.out.starts_with(&format!("{other}\t")), "{}", said.out);
    rig.assert_no_errors();
}

#[tokio::test]
async fn who_is_alone_leads_again_and_that_is_told() {
    let rig = Rig::start(&["d1"]).await;
    rig.leader().await;
    let said = rig.run(&["stepdown", "--timeout=50ms"]).await;
    assert_eq!(said.code, 7, "{}", said.err);
    assert!(said.err.contains("d1 has stepped down and nobody leads after 50ms"), "{}", said.err);
    assert_eq!(rig.leader().await, "d1");
    rig.assert_no_errors();
}

#[tokio::test]
async fn a_leader_is_asked_with_nothing_but_nats() {
    let rig = Rig::start(&["d1", "d2"]).await;
    let was = rig.leader().await;
    let answer = rig.ask("gateway.admin.stepdown", "").await;
    assert_eq!(answer["was"], json!(was));
    assert!(answer["term"].as_u64() > Some(0));
}
