//! Today's code reads what 0.1.0 wrote, and what a later version may write.

use std::collections::BTreeSet;

use audio_gateway::{
    bus::messages::{
        Assign, Cancel, Drain, DrainWorker, Fault, Get, Heartbeat, Inventory, Leader, LeaseRecord,
        List, Listed, MissingReason, NackReply, NackStatus, Ping, Refusal, RefusalCode, Revoke,
        SessionState, Submitted, TaskEvent, TaskView, Verdict, WorkerPhase, Workers,
    },
    dispatch::capacity::Need,
    task::{Kind, RoomRecord, TaskRecord, TaskSpec, TaskState, Update},
};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Value, json};

use crate::{
    old,
    story::{STORY, kind},
};

/// Reads a message as today's code does, and writes it again.
fn today(kind: &str, data: &str) -> Result<Value, String> {
    match kind {
        "gateway.task.submit" => TaskSpec::from_json(data.as_bytes())
            .map(|spec| serde_json::to_value(spec).unwrap())
            .map_err(|error| error.to_string()),
        "gateway.task.get" => again::<Get>(data),
        "gateway.task.list" if data.is_empty() => again::<List>("{}"),
        "gateway.task.list" => again::<List>(data),
        "gateway.task.cancel" => again::<Cancel>(data),
        "gateway.admin.drain" => again::<DrainWorker>(data),
        "gateway.admin.workers" | "gateway.admin.leader" if data.is_empty() => again::<Ping>("{}"),
        "gateway.admin.workers" | "gateway.admin.leader" => again::<Ping>(data),
        "gateway.task.event.*" => again::<TaskEvent>(data),
        "gateway.worker.*.heartbeat" => again::<Heartbeat>(data),
        "gateway.worker.*.assign" => again::<Assign>(data),
        "gateway.worker.*.revoke" => again::<Revoke>(data),
        "gateway.worker.*.drain" => again::<Drain>(data),
        "gateway.worker.*.ping" | "gateway.worker.*.inventory" => again::<Ping>(data),
        "$KV.gateway_tasks" => again::<TaskRecord>(data),
        "$KV.gateway_rooms" => again::<RoomRecord>(data),
        "$KV.gateway_leases" => again::<LeaseRecord>(data),
        "answer to refusal" => again::<Refusal>(data),
        "answer to gateway.task.submit" => again::<Submitted>(data),
        "answer to gateway.task.get" | "answer to gateway.task.cancel" => again::<TaskView>(data),
        "answer to gateway.task.list" => again::<Listed>(data),
        "answer to gateway.admin.workers" => again::<Workers>(data),
        "answer to gateway.admin.leader" => again::<Leader>(data),
        "answer to gateway.worker.*.ping" => again::<Heartbeat>(data),
        "answer to gateway.worker.*.inventory" => again::<Inventory>(data),
        "answer to gateway.admin.drain"
        | "answer to gateway.worker.*.drain"
        | "answer to gateway.worker.*.assign"
        | "answer to gateway.worker.*.revoke" => again::<Verdict>(data),
        other => panic!("what is {other}?"),
    }
}

fn again<M: DeserializeOwned + Serialize>(data: &str) -> Result<Value, String> {
    let message: M = serde_json::from_str(data).map_err(|error| error.to_string())?;
    Ok(serde_json::to_value(message).unwrap())
}

/// Whether all that `was` says is said by `is`.
fn says_all(was: &Value, is: &Value) -> bool {
    match (was, is) {
        (Value::Object(was), Value::Object(is)) => {
            was.iter().all(|(key, value)| is.get(key).is_some_and(|now| says_all(value, now)))
        }
        (Value::Array(was), Value::Array(is)) => {
            was.len() == is.len() && was.iter().zip(is).all(|(was, is)| says_all(was, is))
        }
        _ => was == is,
    }
}

/// The same with a field in each object that nobody knows.
fn of_a_later_version(value: &Value) -> Value {
    match value {
        Value::Object(fields) => {
            let later = |(key, value): (&String, &Value)| {
                // Their keys are the caller's, not the contract's.
                let open = ["params", "labels"].contains(&key.as_str());
                (key.clone(), if open { value.clone() } else { of_a_later_version(value) })
            };
            let unknown = ("from_a_later_version".to_owned(), json!({"a": [1, null]}));
            Value::Object(fields.iter().map(later).chain([unknown]).collect())
        }
        Value::Array(values) => Value::Array(values.iter().map(of_a_later_version).collect()),
        other => other.clone(),
    }
}

#[test]
fn all_of_it_is_read_and_nothing_of_it_lost() {
    let mut kinds = BTreeSet::new();
    for said in STORY.iter() {
        let Some(kind) = kind(said) else { continue };
        if kind == "gateway.task.submit" && said.data.contains("typo") {
            assert!(today(&kind, &said.data).unwrap_err().contains("typo"));
            continue;
        }
        let is = today(&kind, &said.data).unwrap_or_else(|why| panic!("{kind}: {why}\n{said:?}"));
        let asked_nothing = said.data.is_empty();
        assert!(asked_nothing || says_all(&said.json(), &is), "{kind}: {is} of\n{}", said.data);
        kinds.insert(kind);
    }
    // Every message there is was there.
    assert_eq!(kinds.len(), 30, "{kinds:#?}");
}

#[test]
fn what_a_later_version_adds_is_read_over_but_in_a_submit() {
    for said in STORY.iter().filter(|said| !said.data.is_empty()) {
        let Some(kind) = kind(said) else { continue };
        let later = of_a_later_version(&said.json()).to_string();
        match today(&kind, &later) {
            Ok(is) => {
                assert_ne!(kind, "gateway.task.submit", "{later}");
                assert!(says_all(&said.json(), &is), "{kind}: {is} of\n{later}");
            }
            // Most likely it is a typo: whoever hands it in is told.
            Err(why) if kind == "gateway.task.submit" => {
                assert!(why.contains("unknown field"), "{why}");
            }
            Err(why) => panic!("{kind}: {why}\n{later}"),
        }
    }
}

/// The same with words of a later version where there is one of a few.
fn in_later_words(value: &Value) -> Value {
    const WORDS: [&str; 4] = ["state", "phase", "error", "fault"];
    match value {
        Value::Object(fields) => {
            let later = |(key, value): (&String, &Value)| match value {
                Value::String(_) if WORDS.contains(&key.as_str()) => (key.clone(), json!("later")),
                Value::Array(states) if key == "states" && !states.is_empty() => {
                    (key.clone(), json!(["later"]))
                }
                value => (key.clone(), in_later_words(value)),
            };
            Value::Object(fields.iter().map(later).collect())
        }
        Value::Array(values) => Value::Array(values.iter().map(in_later_words).collect()),
        other => other.clone(),
    }
}

/// What is only shown may say what nobody knows; what something follows from
/// may not.
#[test]
fn a_word_of_a_later_version_hides_nothing_else_of_a_message() {
    let (mut read, mut refused) = (BTreeSet::new(), BTreeSet::new());
    for said in STORY.iter().filter(|said| !said.data.is_empty()) {
        let Some(kind) = kind(said) else { continue };
        let (was, later) = (said.json(), in_later_words(&said.json()));
        if was == later || kind == "gateway.task.submit" {
            continue;
        }
        match today(&kind, &later.to_string()) {
            Ok(is) => {
                let (mut was, mut is) = (was, is);
                without_words(&mut was);
                without_words(&mut is);
                assert!(says_all(&was, &is), "{kind}: {is} of\n{later}");
                read.insert(kind);
            }
            Err(why) => {
                assert!(why.contains("unknown variant `later`, expected one of"), "{kind}: {why}");
                refused.insert(kind);
            }
        }
    }
    assert_eq!(refused.iter().collect::<Vec<_>>(), ["$KV.gateway_tasks", "gateway.task.list"]);
    let shown = [
        "answer to gateway.admin.workers",
        "answer to gateway.task.cancel",
        "answer to gateway.task.get",
        "answer to gateway.task.list",
        "answer to gateway.task.submit",
        "answer to gateway.worker.*.inventory",
        "answer to gateway.worker.*.ping",
        "answer to refusal",
        "gateway.task.event.*",
        "gateway.worker.*.heartbeat",
    ];
    assert_eq!(read.iter().collect::<Vec<_>>(), shown);
}

fn without_words(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            ["state", "phase", "error", "fault"].iter().for_each(|word| {
                fields.remove(*word);
            });
            fields.values_mut().for_each(without_words);
        }
        Value::Array(values) => values.iter_mut().for_each(without_words),
        _ => (),
    }
}

#[test]
fn what_is_of_a_later_version_is_taken_for_what_does_least() {
    let beat = json!({
        "worker":"w1","boot":"b","seq":1,"phase":"later","version":"9","adapters":["sim"],
        "load":{"cores":1.0,"cores_used":0.0,"memory":0,"memory_used":0,"sessions_max":9,
                "session_cost":0.1,"costs":[
                    {"adapter":"sim","kind":"later","cores":0.9},
                    {"adapter":"sim","kind":"pull","cores":0.2}]},
        "sessions":[{"task":"t","room":"r","epoch":1,"state":"later"},
                    {"task":"u","room":"s","epoch":1,"state":"failed","fault":"later"}],
        "time_ms":1});
    let beat: Heartbeat = serde_json::from_value(beat).unwrap();
    assert_eq!(beat.phase, WorkerPhase::Other);
    assert_eq!(beat.sessions[0].state, SessionState::Other);
    assert!(!beat.sessions[0].state.is_ended());
    assert_eq!(beat.sessions[1].fault, Fault::Task);
    // A cost of another kind is no cost of this one.
    assert_eq!(beat.load.costs.len(), 1);
    let sim = &beat.adapters[0];
    let need = Need::of(&beat.load, sim, Kind::Pull);
    assert!((need.cores - 0.2).abs() < 1e-9, "{need:?}");
    let reply = json!({"status":"later","epoch":1,"missing":[[1,1,"later"]]});
    let reply: NackReply = serde_json::from_value(reply).unwrap();
    assert_eq!((reply.status, reply.missing[0].2), (NackStatus::Other, MissingReason::Other));
    let refusal: Refusal =
        serde_json::from_value(json!({"error":"later","message":"because"})).unwrap();
    assert_eq!((refusal.error, refusal.error.number()), (RefusalCode::Other, 500));
    assert_eq!(refusal.to_string(), "because");
    assert!(!TaskState::Other.is_terminal() && !TaskState::Other.may_become(TaskState::Cancelled));
    assert!(!TaskState::Pending.may_become(TaskState::Other));
}

/// What an update leaves in the bucket, and what a worker is given then, is read
/// by the version before: it has the task as it is wanted now.
#[test]
fn a_task_that_was_updated_is_read_by_the_version_before() {
    let record = STORY.iter().find(|said| kind(said).as_deref() == Some("$KV.gateway_tasks"));
    let record: TaskRecord = serde_json::from_str(&record.unwrap().data).unwrap();
    let update = json!({"task": record.task, "pull": {"roles": ["guest"]}, "priority": 3});
    let update = Update::from_json(update.to_string().as_bytes()).unwrap();
    let updated = record.updated(update.apply(&record.spec).unwrap(), 0, 1_767_225_660_000);
    old::reads::<old::TaskRecord>(&updated);
    // It writes the record without what it does not know, and keeps what is wanted.
    let mut written = serde_json::to_value(&updated).unwrap();
    for unknown in ["revision", "submitted"] {
        written.as_object_mut().unwrap().remove(unknown).unwrap();
    }
    let back: TaskRecord = serde_json::from_value(written).unwrap();
    assert_eq!((back.revision, &back.spec), (0, &updated.spec));
    assert_eq!(back.differs_from(&record.spec), Some("pull"), "what was submitted is forgotten");
    let next = back.updated(record.spec.clone(), updated.revision, 0);
    assert!(next.revision > updated.revision, "what its worker shows is known");
}
