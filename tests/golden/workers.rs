//! What dispatchers, workers and operators say to each other.

use audio_gateway::{
    bus::messages::{
        Assign, Cost, Drain, DrainWorker, Fault, Heartbeat, Inventory, Leader, LeaseRecord, Load,
        Ping, Quarantined, Revoke, SessionReport, SessionState, StepDown, SteppedDown,
        UpdateSession, Verdict, WorkerPhase, WorkerView, Workers,
    },
    id::DispatcherId,
    task::{Epoch, Kind, Params, Pull},
};

use crate::{document, from_w1, golden, read_as, room, sim, task, worker};

const EPOCH: Epoch = Epoch(1_767_225_600_000);

fn load() -> Load {
    Load {
        cores: 2.0,
        cores_used: 0.25,
        memory: 8_589_934_592,
        memory_used: 104_857_600,
        sessions_max: 1_500,
        session_cost: 0.005,
        ..Load::default()
    }
}

fn report() -> SessionReport {
    SessionReport {
        task: task(),
        room: room(),
        epoch: EPOCH,
        state: SessionState::Running,
        heard: true,
        reason: String::new(),
        fault: Fault::Task,
        revision: 0,
    }
}

#[test]
fn heartbeat() {
    golden(
        &Heartbeat {
            worker: worker(),
            boot: "019b7629-1c00-7000-8000-000000000001".into(),
            seq: 120,
            phase: WorkerPhase::Running,
            version: "0.1.0".into(),
            load: load(),
            adapters: vec![sim()],
            labels: [("zone".into(), "a".into())].into(),
            sessions: vec![report()],
            time_ms: 1_767_225_660_000,
        },
        concat!(
            r#"{"worker":"w1","boot":"019b7629-1c00-7000-8000-000000000001","seq":120,"#,
            r#""phase":"running","version":"0.1.0","#,
            r#""load":{"cores":2.0,"cores_used":0.25,"memory":8589934592,"#,
            r#""memory_used":104857600,"sessions_max":1500,"session_cost":0.005},"#,
            r#""adapters":["sim"],"labels":{"zone":"a"},"#,
            r#""sessions":[{"task":"call-42","room":"42","epoch":1767225600000,"state":"running","heard":true}],"#,
            r#""time_ms":1767225660000}"#
        ),
    );
}

#[test]
fn load_in_full() {
    let cost = |kind, cores, memory, sessions_max| Cost {
        adapter: sim(),
        kind,
        cores,
        memory,
        sessions_max,
    };
    golden(
        &Load {
            fds: 524_288,
            fds_used: 240,
            costs: vec![
                cost(None, 0.005, 0, Some(100)),
                cost(Some(Kind::Pull), 0.0042, 4_194_304, None),
            ],
            ..load()
        },
        concat!(
            r#"{"cores":2.0,"cores_used":0.25,"memory":8589934592,"memory_used":104857600,"#,
            r#""sessions_max":1500,"session_cost":0.005,"fds":524288,"fds_used":240,"#,
            r#""costs":[{"adapter":"sim","cores":0.005,"sessions_max":100},"#,
            r#"{"adapter":"sim","kind":"pull","cores":0.0042,"memory":4194304}]}"#
        ),
    );
    for (kind, word) in [(Kind::Pull, "pull"), (Kind::Push, "push"), (Kind::Both, "both")] {
        assert_eq!(serde_json::to_value(kind).unwrap(), word);
        document::says(&format!("`{word}`"));
    }
}

#[test]
fn worker_phases() {
    for (phase, word) in [(WorkerPhase::Running, "running"), (WorkerPhase::LameDuck, "lame_duck")] {
        assert_eq!(serde_json::to_value(phase).unwrap(), word);
        document::says(&format!("`{word}`"));
    }
}

#[test]
fn session_states() {
    for (state, word) in [
        (SessionState::Starting, "starting"),
        (SessionState::Running, "running"),
        (SessionState::Done, "done"),
        (SessionState::Failed, "failed"),
    ] {
        assert_eq!(serde_json::to_value(state).unwrap(), word);
        document::says(&format!("`{word}`"));
    }
}

#[test]
fn assign() {
    let first = Assign {
        task: task(),
        room: room(),
        epoch: EPOCH,
        sdk: sim(),
        params: Params(serde_json::from_str(r#"{"participants":2}"#).unwrap()),
        pull: Some(Pull::default()),
        push: None,
        origin_us: 1_767_225_599_950_000,
        from: None,
        revision: 0,
    };
    golden(
        &first,
        concat!(
            r#"{"task":"call-42","room":"42","epoch":1767225600000,"sdk":"sim","#,
            r#""params":{"participants":2},"#,
            r#""pull":{"participants":true,"roles":[],"mix":[],"batch_frames":10,"record":false},"#,
            r#""origin_us":1767225599950000}"#
        ),
    );
    golden(
        &Assign { epoch: Epoch(1_767_225_660_000), from: Some(from_w1()), ..first },
        concat!(
            r#"{"task":"call-42","room":"42","epoch":1767225660000,"sdk":"sim","#,
            r#""params":{"participants":2},"#,
            r#""pull":{"participants":true,"roles":[],"mix":[],"batch_frames":10,"record":false},"#,
            r#""origin_us":1767225599950000,"from":{"worker":"w1","epoch":1767225600000}}"#
        ),
    );
}

#[test]
fn update_of_a_session() {
    let update = UpdateSession {
        task: task(),
        epoch: EPOCH,
        revision: 1_767_225_660_000,
        pull: Some(Pull { roles: vec!["host".into()], ..Pull::default() }),
    };
    golden(
        &update,
        concat!(
            r#"{"task":"call-42","epoch":1767225600000,"revision":1767225660000,"#,
            r#""pull":{"participants":true,"roles":["host"],"mix":[],"batch_frames":10,"record":false}}"#
        ),
    );
    golden(
        &SessionReport { revision: 1_767_225_660_000, ..report() },
        concat!(
            r#"{"task":"call-42","room":"42","epoch":1767225600000,"state":"running","#,
            r#""heard":true,"revision":1767225660000}"#
        ),
    );
}

#[test]
fn verdict() {
    golden(
        &Verdict { accepted: true, reason: String::new(), fatal: false },
        r#"{"accepted":true,"fatal":false}"#,
    );
    golden(
        &Verdict { accepted: false, reason: "it is leaving".into(), fatal: false },
        r#"{"accepted":false,"reason":"it is leaving","fatal":false}"#,
    );
}

#[test]
fn revoke() {
    golden(
        &Revoke { task: task(), epoch: EPOCH, reason: "cancelled".into() },
        r#"{"task":"call-42","epoch":1767225600000,"reason":"cancelled"}"#,
    );
}

#[test]
fn drain() {
    let drain = Drain { reason: "a new kernel".into(), undrain: false };
    golden(&drain, r#"{"reason":"a new kernel"}"#);
    golden(
        &Drain { reason: "it stays".into(), undrain: true },
        r#"{"reason":"it stays","undrain":true}"#,
    );
    read_as("{}", &Drain::default());
    read_as(r#"{"undrain":false}"#, &Drain::default());
}

#[test]
fn drain_worker() {
    let drain =
        |reason: &str, undrain| DrainWorker { worker: worker(), reason: reason.into(), undrain };
    golden(&drain("a new kernel", false), r#"{"worker":"w1","reason":"a new kernel"}"#);
    golden(&drain("it stays", true), r#"{"worker":"w1","reason":"it stays","undrain":true}"#);
    read_as(r#"{"worker":"w1"}"#, &drain("", false));
}

#[test]
fn ping() {
    golden(&Ping {}, "{}");
}

#[test]
fn inventory() {
    golden(
        &Inventory { worker: worker(), sessions: vec![report()] },
        concat!(
            r#"{"worker":"w1","sessions":[{"task":"call-42","room":"42","#,
            r#""epoch":1767225600000,"state":"running","heard":true}]}"#
        ),
    );
}

#[test]
fn session_that_ended() {
    let failed = SessionReport {
        state: SessionState::Failed,
        heard: false,
        reason: "the adapter left: token expired".into(),
        ..report()
    };
    golden(
        &failed,
        concat!(
            r#"{"task":"call-42","room":"42","epoch":1767225600000,"state":"failed","#,
            r#""reason":"the adapter left: token expired"}"#
        ),
    );
}

#[test]
fn session_that_failed_to_start() {
    let failed = SessionReport {
        state: SessionState::Failed,
        heard: false,
        reason: "adapter program not found: ffmpeg".into(),
        fault: Fault::Worker,
        ..report()
    };
    golden(
        &failed,
        concat!(
            r#"{"task":"call-42","room":"42","epoch":1767225600000,"state":"failed","#,
            r#""reason":"adapter program not found: ffmpeg","fault":"worker"}"#
        ),
    );
    for (fault, word) in
        [(Fault::Worker, "worker"), (Fault::Unjoined, "unjoined"), (Fault::Crashed, "crashed")]
    {
        assert_eq!(serde_json::to_value(fault).unwrap(), word);
        document::says(&format!("`{word}`"));
    }
}

#[test]
fn quarantined() {
    golden(
        &Quarantined {
            adapter: sim(),
            for_ms: 21_000,
            reason: "adapter program not found: ffmpeg".into(),
        },
        r#"{"adapter":"sim","for_ms":21000,"reason":"adapter program not found: ffmpeg"}"#,
    );
}

#[test]
fn workers() {
    golden(
        &Workers {
            workers: vec![WorkerView {
                worker: worker(),
                phase: WorkerPhase::Running,
                version: "0.1.0".into(),
                load: load(),
                adapters: vec![sim()],
                labels: [("zone".into(), "a".into())].into(),
                sessions: 1,
                heard_ms: 180,
                quarantined: Vec::new(),
            }],
        },
        concat!(
            r#"{"workers":[{"worker":"w1","phase":"running","version":"0.1.0","#,
            r#""load":{"cores":2.0,"cores_used":0.25,"memory":8589934592,"#,
            r#""memory_used":104857600,"sessions_max":1500,"session_cost":0.005},"#,
            r#""adapters":["sim"],"labels":{"zone":"a"},"sessions":1,"heard_ms":180}]}"#
        ),
    );
}

#[test]
fn leader() {
    let d1 = DispatcherId::parse("d1").unwrap();
    golden(
        &Leader { leader: Some(d1.clone()), answered_by: d1, term: 3 },
        r#"{"leader":"d1","answered_by":"d1","term":3}"#,
    );
}

#[test]
fn step_down() {
    golden(&StepDown { reason: "a new kernel".into() }, r#"{"reason":"a new kernel"}"#);
    read_as("{}", &StepDown::default());
    golden(
        &SteppedDown { was: DispatcherId::parse("d1").unwrap(), term: 3 },
        r#"{"was":"d1","term":3}"#,
    );
}

#[test]
fn lease_record() {
    golden(
        &LeaseRecord {
            holder: "d1".into(),
            boot: "019b7629-1c00-7000-8000-000000000002".into(),
            term: 3,
        },
        r#"{"holder":"d1","boot":"019b7629-1c00-7000-8000-000000000002","term":3}"#,
    );
}
