//! What services and dispatchers say to each other, and what is kept of it.

use audio_gateway::{
    bus::messages::{
        Cancel, Get, List, Listed, Refusal, RefusalCode, Submitted, TaskEvent, TaskView,
    },
    id::TrackId,
    task::{
        Epoch, Mix, Pull, PullUpdate, Push, RoomRecord, TaskRecord, TaskSpec, TaskState, Update,
        Voices,
    },
};
use serde_json::json;

use crate::{document, from_w1, golden, read_as, room, sim, task, w2, worker};

const EPOCH: Epoch = Epoch(1_767_225_600_000);

fn spec() -> TaskSpec {
    serde_json::from_value(json!({
        "id": "call-42", "room": "42", "sdk": "sim", "params": {"participants": 2}
    }))
    .unwrap()
}

fn view() -> TaskView {
    TaskView {
        task: task(),
        room: room(),
        sdk: sim(),
        state: TaskState::Running,
        epoch: EPOCH,
        worker: Some(worker()),
        reason: String::new(),
        priority: 5,
        created_ms: 1_767_225_599_900,
        changed_ms: 1_767_225_600_350,
        started_ms: Some(1_767_225_600_350),
        revision: 0,
        pull: None,
        updating: false,
    }
}

#[test]
fn task_as_submitted() {
    let whole = TaskSpec {
        params: serde_json::from_value(json!({"token": "…"})).unwrap(),
        pull: Some(Pull { roles: vec!["host".into()], ..Pull::default() }),
        push: Some(Push { from: "audio.push.42.tts".into() }),
        max_duration_s: 14_400,
        labels: [("zone".into(), "a".into())].into(),
        ..spec()
    };
    golden(
        &whole,
        concat!(
            r#"{"id":"call-42","room":"42","sdk":"sim","params":{"token":"…"},"#,
            r#""pull":{"participants":true,"roles":["host"],"mix":[],"batch_frames":10,"record":false},"#,
            r#""push":{"from":"audio.push.42.tts"},"#,
            r#""priority":5,"max_duration_s":14400,"start_within_s":30,"labels":{"zone":"a"}}"#
        ),
    );
}

#[test]
fn task_with_mixes() {
    let mix = |name: &str, channels| Mix { name: name.parse().unwrap(), channels };
    let of = |role: &str| Voices { roles: vec![role.into()], ..Voices::default() };
    let but = Voices { except_users: vec!["ann".into()], ..Voices::default() };
    let mixes = vec![
        Mix::of_all("all".parse().unwrap()),
        mix("call", vec![of("broker"), of("customer")]),
        mix("without-ann", vec![but]),
    ];
    let pull = Some(Pull { mix: mixes, ..Pull::default() });
    let text = concat!(
        r#"{"room":"42","sdk":"sim","pull":{"mix":["all","#,
        r#"{"name":"call","channels":[{"roles":["broker"]},{"roles":["customer"]}]},"#,
        r#"{"name":"without-ann","channels":[{"except_users":["ann"]}]}]}}"#
    );
    read_as(text, &TaskSpec { id: None, params: Default::default(), pull, ..spec() });
    document::shows(text);
    document::says("the user `all` is on `=YWxs`");
    assert_eq!(TrackId::of_user_apart("all").as_str(), "=YWxs");
}

#[test]
fn task_as_short_as_it_gets() {
    let bare = TaskSpec { id: None, params: Default::default(), ..spec() };
    read_as(r#"{"room":"42","sdk":"sim"}"#, &bare);
    document::shows(r#"{"room":"42","sdk":"sim"}"#);
}

#[test]
fn submitted() {
    golden(
        &Submitted { task: task(), state: TaskState::Pending, epoch: Epoch(0), duplicate: false },
        r#"{"task":"call-42","state":"pending","epoch":0,"duplicate":false}"#,
    );
}

#[test]
fn get() {
    golden(&Get { task: task() }, r#"{"task":"call-42"}"#);
}

#[test]
fn task_view() {
    golden(
        &view(),
        concat!(
            r#"{"task":"call-42","room":"42","sdk":"sim","state":"running","epoch":1767225600000,"#,
            r#""worker":"w1","priority":5,"created_ms":1767225599900,"#,
            r#""changed_ms":1767225600350,"started_ms":1767225600350}"#
        ),
    );
}

#[test]
fn list() {
    golden(
        &List { states: vec![TaskState::Running], room: Some(room()), limit: 20 },
        r#"{"states":["running"],"room":"42","limit":20}"#,
    );
    read_as("{}", &List::default());
}

#[test]
fn listed() {
    let pending = TaskView {
        state: TaskState::Pending,
        epoch: Epoch(0),
        worker: None,
        reason: "no worker has the adapter sim: name it in a worker's configuration".into(),
        changed_ms: 1_767_225_599_900,
        started_ms: None,
        ..view()
    };
    golden(
        &Listed { tasks: vec![pending], truncated: false },
        concat!(
            r#"{"tasks":[{"task":"call-42","room":"42","sdk":"sim","state":"pending","epoch":0,"#,
            r#""reason":"no worker has the adapter sim: name it in a worker's configuration","priority":5,"#,
            r#""created_ms":1767225599900,"changed_ms":1767225599900}],"truncated":false}"#
        ),
    );
}

#[test]
fn update() {
    let hosts = PullUpdate { roles: Some(vec!["host".into()]), ..PullUpdate::default() };
    let hosts = Update { pull: Some(hosts), ..Update::of(task()) };
    golden(&hosts, r#"{"task":"call-42","pull":{"roles":["host"]}}"#);
    let all =
        PullUpdate { participants: Some(true), roles: Some(Vec::new()), mix: Some(json!([])) };
    let all = Update {
        task: task(),
        pull: Some(all),
        priority: Some(7),
        max_duration_s: Some(7_200),
        labels: Some([("zone".into(), "b".into())].into()),
    };
    golden(
        &all,
        concat!(
            r#"{"task":"call-42","pull":{"participants":true,"roles":[],"mix":[]},"#,
            r#""priority":7,"max_duration_s":7200,"labels":{"zone":"b"}}"#
        ),
    );
    golden(
        &TaskView {
            revision: 1_767_225_660_000,
            pull: Some(Pull { roles: vec!["host".into()], ..Pull::default() }),
            updating: true,
            ..view()
        },
        concat!(
            r#"{"task":"call-42","room":"42","sdk":"sim","state":"running","epoch":1767225600000,"#,
            r#""worker":"w1","priority":5,"created_ms":1767225599900,"#,
            r#""changed_ms":1767225600350,"started_ms":1767225600350,"revision":1767225660000,"#,
            r#""pull":{"participants":true,"roles":["host"],"mix":[],"batch_frames":10,"record":false},"#,
            r#""updating":true}"#
        ),
    );
}

#[test]
fn cancel() {
    let cancel = Cancel { task: task(), reason: "the call is over".into() };
    golden(&cancel, r#"{"task":"call-42","reason":"the call is over"}"#);
    read_as(r#"{"task":"call-42"}"#, &Cancel { task: task(), reason: String::new() });
}

#[test]
fn refusal() {
    let refusal = Refusal {
        retry_after_ms: 250,
        ..Refusal::new(RefusalCode::RateLimited, "more than 500 tasks a second")
    };
    golden(
        &refusal,
        r#"{"error":"rate_limited","message":"more than 500 tasks a second","retry_after_ms":250}"#,
    );
}

#[test]
fn refusal_codes() {
    for (code, word, number) in [
        (RefusalCode::BadRequest, "bad_request", 400),
        (RefusalCode::NotFound, "not_found", 404),
        (RefusalCode::Conflict, "conflict", 409),
        (RefusalCode::RateLimited, "rate_limited", 429),
        (RefusalCode::Internal, "internal", 500),
        (RefusalCode::QueueFull, "queue_full", 503),
        (RefusalCode::Unavailable, "unavailable", 503),
    ] {
        assert_eq!(serde_json::to_value(code).unwrap(), word);
        assert_eq!(code.number(), number, "{word}");
        document::says(&format!("| `{word}` | {number} |"));
    }
}

#[test]
fn task_event() {
    golden(
        &TaskEvent {
            task: task(),
            room: room(),
            state: TaskState::Assigned,
            epoch: EPOCH,
            worker: Some(worker()),
            reason: "placed".into(),
            by: "dispatcher:d1".into(),
            time_ms: 1_767_225_600_000,
        },
        concat!(
            r#"{"task":"call-42","room":"42","state":"assigned","epoch":1767225600000,"#,
            r#""worker":"w1","reason":"placed","by":"dispatcher:d1","time_ms":1767225600000}"#
        ),
    );
}

#[test]
fn task_states() {
    use TaskState::{
        Assigned, Cancelled, Done, Draining, Expired, Failed, Pending, Running, Starting,
    };
    for (state, word) in [
        (Pending, "pending"),
        (Assigned, "assigned"),
        (Starting, "starting"),
        (Running, "running"),
        (Draining, "draining"),
        (Done, "done"),
        (Failed, "failed"),
        (Cancelled, "cancelled"),
        (Expired, "expired"),
    ] {
        assert_eq!(serde_json::to_value(state).unwrap(), word);
        assert_eq!(state.to_string(), word);
        document::says(&format!("| `{word}` |"));
    }
}

#[test]
fn task_record() {
    let runs = TaskRecord {
        task: task(),
        spec: spec(),
        state: TaskState::Running,
        epoch: EPOCH,
        worker: Some(worker()),
        from: None,
        reason: String::new(),
        created_ms: 1_767_225_599_900,
        changed_ms: 1_767_225_600_350,
        pending_ms: 1_767_225_599_900,
        started_ms: Some(1_767_225_600_350),
        cancel: false,
        revision: 0,
        submitted: None,
    };
    golden(
        &runs,
        concat!(
            r#"{"task":"call-42","spec":{"id":"call-42","room":"42","sdk":"sim","#,
            r#""params":{"participants":2},"priority":5,"max_duration_s":0,"start_within_s":30},"#,
            r#""state":"running","epoch":1767225600000,"worker":"w1","#,
            r#""created_ms":1767225599900,"changed_ms":1767225600350,"#,
            r#""pending_ms":1767225599900,"started_ms":1767225600350,"cancel":false}"#
        ),
    );
    golden(
        &TaskRecord {
            state: TaskState::Draining,
            epoch: Epoch(1_767_225_660_000),
            worker: Some(w2()),
            from: Some(from_w1()),
            reason: "worker w1 is leaving".into(),
            changed_ms: 1_767_225_660_000,
            ..runs
        },
        concat!(
            r#"{"task":"call-42","spec":{"id":"call-42","room":"42","sdk":"sim","#,
            r#""params":{"participants":2},"priority":5,"max_duration_s":0,"start_within_s":30},"#,
            r#""state":"draining","epoch":1767225660000,"worker":"w2","#,
            r#""from":{"worker":"w1","epoch":1767225600000},"reason":"worker w1 is leaving","#,
            r#""created_ms":1767225599900,"changed_ms":1767225660000,"#,
            r#""pending_ms":1767225599900,"started_ms":1767225600350,"cancel":false}"#
        ),
    );
}

#[test]
fn a_record_that_was_updated() {
    let record: TaskRecord = serde_json::from_str(UPDATED).unwrap();
    assert_eq!(serde_json::to_string(&record).unwrap(), UPDATED);
    document::shows(UPDATED);
    let submitted = TaskSpec { priority: 5, ..spec() };
    assert_eq!(record.differs_from(&submitted), None);
    assert_eq!(record.differs_from(&record.spec), None);
}

const UPDATED: &str = concat!(
    r#"{"task":"call-42","spec":{"id":"call-42","room":"42","sdk":"sim","#,
    r#""params":{"participants":2},"#,
    r#""pull":{"participants":true,"roles":["host"],"mix":[],"batch_frames":10,"record":false},"#,
    r#""priority":7,"max_duration_s":0,"start_within_s":30},"#,
    r#""state":"running","epoch":1767225600000,"worker":"w1","#,
    r#""created_ms":1767225599900,"changed_ms":1767225600350,"#,
    r#""pending_ms":1767225599900,"started_ms":1767225600350,"cancel":false,"#,
    r#""revision":1767225660000,"submitted":{"priority":5,"max_duration_s":0}}"#
);

#[test]
fn room_record() {
    let claimed = RoomRecord {
        room: room(),
        task: Some(task()),
        worker: Some(worker()),
        from: None,
        epoch: EPOCH,
        origin_us: 1_767_225_599_950_000,
        fixed_crc: Some(287_454_020),
    };
    golden(
        &claimed,
        concat!(
            r#"{"room":"42","task":"call-42","worker":"w1","epoch":1767225600000,"#,
            r#""origin_us":1767225599950000,"fixed_crc":287454020}"#
        ),
    );
    golden(
        &RoomRecord {
            worker: Some(w2()),
            from: Some(from_w1()),
            epoch: Epoch(1_767_225_660_000),
            ..claimed
        },
        concat!(
            r#"{"room":"42","task":"call-42","worker":"w2","#,
            r#""from":{"worker":"w1","epoch":1767225600000},"#,
            r#""epoch":1767225660000,"origin_us":1767225599950000,"fixed_crc":287454020}"#
        ),
    );
}
