//! What a room's worker and its subscribers say to each other, beside audio.

use audio_gateway::{
    bus::messages::{
        Cause, Clock, MissingReason, Nack, NackReply, NackStatus, RoomEvent, RoomNews,
    },
    id::{SubscriberId, TrackId},
    task::Epoch,
};

use crate::{ann, document, golden, read_as, room};

#[test]
fn nack() {
    let nack = Nack {
        subscriber: SubscriberId::parse("asr-7").unwrap(),
        epoch: Epoch(3),
        ranges: vec![(120, 3)],
        deadline_ms: 400,
    };
    golden(&nack, r#"{"subscriber":"asr-7","epoch":3,"ranges":[[120,3]],"deadline_ms":400}"#);
    read_as(
        r#"{"subscriber":"asr-7","epoch":3,"ranges":[[120,3]]}"#,
        &Nack { deadline_ms: 0, ..nack },
    );
}

fn answer(status: NackStatus) -> NackReply {
    NackReply {
        status,
        epoch: Epoch(3),
        held: Some((75, 124)),
        missing: Vec::new(),
        retry_after_ms: 0,
        spread_ms: 0,
        message: String::new(),
    }
}

#[test]
fn nack_reply_ok() {
    golden(
        &answer(NackStatus::Ok),
        r#"{"status":"ok","epoch":3,"held":[75,124],"missing":[],"retry_after_ms":0}"#,
    );
}

#[test]
fn nack_reply_partial() {
    let partial = NackReply {
        missing: vec![(120, 1, MissingReason::Evicted)],
        held: Some((121, 170)),
        ..answer(NackStatus::Partial)
    };
    golden(
        &partial,
        concat!(
            r#"{"status":"partial","epoch":3,"held":[121,170],"#,
            r#""missing":[[120,1,"evicted"]],"retry_after_ms":0}"#
        ),
    );
}

#[test]
fn nack_reply_throttled() {
    let throttled = NackReply {
        missing: vec![(120, 3, MissingReason::Throttled)],
        retry_after_ms: 100,
        ..answer(NackStatus::Throttled)
    };
    golden(
        &throttled,
        concat!(
            r#"{"status":"throttled","epoch":3,"held":[75,124],"#,
            r#""missing":[[120,3,"throttled"]],"retry_after_ms":100}"#
        ),
    );
}

#[test]
fn nack_reply_epoch() {
    let crowd = NackReply { spread_ms: 20, ..answer(NackStatus::Ok) };
    golden(
        &crowd,
        concat!(
            r#"{"status":"ok","epoch":3,"held":[75,124],"missing":[],"#,
            r#""retry_after_ms":0,"spread_ms":20}"#
        ),
    );
    let later = NackReply { epoch: Epoch(4), held: Some((0, 12)), ..answer(NackStatus::Epoch) };
    golden(&later, r#"{"status":"epoch","epoch":4,"held":[0,12],"missing":[],"retry_after_ms":0}"#);
}

#[test]
fn nack_reply_unknown() {
    golden(
        &NackReply { held: None, ..answer(NackStatus::Unknown) },
        r#"{"status":"unknown","epoch":3,"missing":[],"retry_after_ms":0}"#,
    );
}

#[test]
fn nack_reply_bad_request() {
    let bad = NackReply {
        held: None,
        message: "use 1 to 16 ranges".into(),
        epoch: Epoch(0),
        ..answer(NackStatus::BadRequest)
    };
    golden(
        &bad,
        concat!(
            r#"{"status":"bad_request","epoch":0,"missing":[],"retry_after_ms":0,"#,
            r#""message":"use 1 to 16 ranges"}"#
        ),
    );
}

#[test]
fn missing_reasons() {
    for (reason, word) in [
        (MissingReason::Evicted, "evicted"),
        (MissingReason::Held, "held"),
        (MissingReason::Spent, "spent"),
        (MissingReason::Unknown, "unknown"),
        (MissingReason::Throttled, "throttled"),
    ] {
        assert_eq!(serde_json::to_value(reason).unwrap(), word);
        document::says(&format!("`{word}`"));
    }
}

/// Every event begins with the same four fields.
#[track_caller]
fn event(what: RoomNews, rest: &str) {
    let event =
        RoomEvent { room: room(), epoch: Epoch(3), pos: 32_000, time: 1_767_225_601_950_000, what };
    let json = format!(r#"{{"room":"42","epoch":3,"pos":32000,"time":1767225601950000,{rest}}}"#);
    golden(&event, &json);
}

fn track() -> TrackId {
    ann()
}

fn user() -> String {
    "ann".to_owned()
}

#[test]
fn event_participant_joined() {
    event(
        RoomNews::ParticipantJoined { user: user(), name: "Ann".into(), role: "host".into() },
        r#""event":"participant_joined","user":"ann","name":"Ann","role":"host""#,
    );
}

#[test]
fn event_participant_left() {
    event(RoomNews::ParticipantLeft { user: user() }, r#""event":"participant_left","user":"ann""#);
}

#[test]
fn event_track_opened() {
    event(
        RoomNews::TrackOpened { track: track(), user: user(), role: "host".into() },
        r#""event":"track_opened","track":"ann","user":"ann","role":"host""#,
    );
}

#[test]
fn event_track_closed() {
    event(
        RoomNews::TrackClosed { track: track(), user: user() },
        r#""event":"track_closed","track":"ann","user":"ann""#,
    );
}

#[test]
fn event_muted() {
    event(RoomNews::Muted { track: track() }, r#""event":"muted","track":"ann""#);
}

#[test]
fn event_unmuted() {
    event(RoomNews::Unmuted { track: track() }, r#""event":"unmuted","track":"ann""#);
}

#[test]
fn event_gap() {
    event(
        RoomNews::Gap { track: track(), slots: 15, state: 5 },
        r#""event":"gap","track":"ann","slots":15,"state":5"#,
    );
}

#[test]
fn event_discontinuity() {
    event(
        RoomNews::Discontinuity { track: track(), by_samples: -4_800, cause: Cause::Step },
        r#""event":"discontinuity","track":"ann","by_samples":-4800,"cause":"step""#,
    );
    for (cause, word) in [(Cause::Jump, "jump"), (Cause::Step, "step"), (Cause::Drift, "drift")] {
        assert_eq!(serde_json::to_value(cause).unwrap(), word);
        document::says(&format!("`{word}`"));
    }
}

#[test]
fn event_adapter_error() {
    event(
        RoomNews::AdapterError { message: "the token runs out in 60 s".into() },
        r#""event":"adapter_error","message":"the token runs out in 60 s""#,
    );
}

#[test]
fn event_mark_reached() {
    event(
        RoomNews::MarkReached { source: "tts".into(), name: "end of greeting".into() },
        r#""event":"mark_reached","source":"tts","name":"end of greeting""#,
    );
}

#[test]
fn event_clock() {
    let clock = Clock {
        adapter_us: Some(93_123_456),
        drift_ppm: Some(-41.5),
        delay_ms: Some(38),
        corrected_samples: 320,
    };
    event(
        RoomNews::Clock(clock),
        concat!(
            r#""event":"clock","adapter_us":93123456,"drift_ppm":-41.5,"delay_ms":38,"#,
            r#""corrected_samples":320"#
        ),
    );
}

#[test]
fn an_event_of_a_later_version_is_kept_as_it_came() {
    let json = concat!(
        r#"{"room":"42","epoch":3,"pos":32000,"time":1767225601950000,"#,
        r#""event":"reaction","what":{"kind":"applause"}}"#
    );
    let event: RoomEvent = serde_json::from_str(json).unwrap();
    assert!(matches!(&event.what, RoomNews::Other(_)), "{event:?}");
    let again: serde_json::Value = serde_json::to_value(&event).unwrap();
    assert_eq!(again, serde_json::from_str::<serde_json::Value>(json).unwrap());
    // One that is known must be whole, and what is no event is none.
    for rest in [r#""event":"muted""#, r#""event":7"#, r#""what":1"#] {
        let json = format!(r#"{{"room":"42","epoch":3,"pos":0,"time":0,{rest}}}"#);
        assert!(serde_json::from_str::<RoomEvent>(&json).is_err(), "{json}");
    }
    let old = r#"{"room":"42","epoch":3,"pos":0,"time":0,"event":"discontinuity","track":"ann","by_samples":1}"#;
    let old: RoomEvent = serde_json::from_str(old).unwrap();
    assert!(matches!(old.what, RoomNews::Discontinuity { cause: Cause::Untold, .. }));
}
