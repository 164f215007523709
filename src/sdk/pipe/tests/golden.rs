//! The bytes of every kind, held still.

use serde_json::json;

use super::{super::*, PCM, audio, bytes_of, frame, hex_header};
use crate::task::Params;

fn hello(clock: MediaClock) -> FromAdapter<'static> {
    FromAdapter::Hello(Hello { protocol: 1, name: "x".into(), version: "2".into(), clock })
}

#[test]
fn golden_bytes_from_the_adapter() {
    let user = "a".to_owned();
    let track = Track { user: user.clone(), role: Some("host".into()) };
    let who = Participant { user: user.clone(), name: Some("Ann".into()), role: None };
    let all: [(FromAdapter<'_>, u8, u16, i64, &str); 18] = [
        (hello(MediaClock::Own), 1, 0, 0, r#"{"protocol":1,"name":"x","version":"2"}"#),
        (
            hello(MediaClock::Unix),
            1,
            0,
            0,
            r#"{"protocol":1,"name":"x","version":"2","clock":"unix"}"#,
        ),
        (FromAdapter::Joined { now: -5, clock: MediaClock::Own }, 2, 0, -5, ""),
        (FromAdapter::Joined { now: 9, clock: MediaClock::Unix }, 2, 0, 9, r#"{"clock":"unix"}"#),
        (FromAdapter::ParticipantJoined(who), 3, 0, 0, r#"{"user":"a","name":"Ann"}"#),
        (FromAdapter::ParticipantLeft { user }, 4, 0, 0, r#"{"user":"a"}"#),
        (
            FromAdapter::TrackOpened { stream: 1, pts: 9, track },
            5,
            1,
            9,
            r#"{"user":"a","role":"host"}"#,
        ),
        (FromAdapter::TrackClosed { stream: 256, pts: 9 }, 6, 256, 9, ""),
        (FromAdapter::Muted { stream: 2, pts: 9 }, 7, 2, 9, ""),
        (FromAdapter::Unmuted { stream: 2, pts: 9 }, 8, 2, 9, ""),
        (FromAdapter::Idle { stream: 2, pts: i64::MAX }, 10, 2, i64::MAX, ""),
        (FromAdapter::Lost { stream: 2, from: 20, to: 40 }, 11, 2, 20, r#"{"to":40}"#),
        (FromAdapter::Played { samples: 320, pts: 7 }, 12, 0, 7, r#"{"samples":320}"#),
        (
            FromAdapter::MarkReached { name: "m".into(), cleared: false },
            13,
            0,
            0,
            r#"{"name":"m"}"#,
        ),
        (FromAdapter::Flow { go: false }, 14, 0, 0, r#"{"go":false}"#),
        (
            FromAdapter::Stats { now: 3, stats: Stats { dropped: 1, ..Stats::default() } },
            15,
            0,
            3,
            r#"{"dropped":1,"queued":0}"#,
        ),
        (
            FromAdapter::Error { message: "no".into(), fatal: true },
            16,
            0,
            0,
            r#"{"fatal":true,"message":"no"}"#,
        ),
        (FromAdapter::Bye { reason: "left".into() }, 17, 0, 0, r#"{"reason":"left"}"#),
    ];
    let mut encoder = Encoder::default();
    for (seq, (message, kind, stream, pts, payload)) in all.iter().enumerate() {
        let mut bytes = Vec::new();
        encoder.write(message, &mut bytes).unwrap();
        let mut golden = hex_header(*kind, *stream, seq as u32, payload.len(), *pts);
        golden.extend_from_slice(payload.as_bytes());
        assert_eq!(bytes, golden, "{message:?}");
        let mut input = bytes.as_slice();
        let mut decoder = Decoder::from_adapter();
        assert_eq!(FromAdapter::parse(decoder.next(&mut input).unwrap()).unwrap(), *message);
    }
}

#[test]
fn golden_bytes_to_the_adapter() {
    let welcome = Welcome { protocol: 1, worker: "w1".parse().unwrap(), rate: 16_000, channels: 1 };
    let join = Join {
        room: "42".parse().unwrap(),
        task: "t".parse().unwrap(),
        params: Params(json!({"token": "s3cret"}).as_object().unwrap().clone()),
        pull: true,
        push: false,
    };
    assert!(!format!("{join:?}").contains("s3cret"));
    let all: [(ToAdapter<'_>, u8, u16, &str); 11] = [
        (
            ToAdapter::Welcome(welcome),
            65,
            0,
            r#"{"protocol":1,"worker":"w1","rate":16000,"channels":1}"#,
        ),
        (
            ToAdapter::Join(join),
            66,
            0,
            r#"{"room":"42","task":"t","params":{"token":"s3cret"},"pull":true,"push":false}"#,
        ),
        (ToAdapter::Subscribe { stream: 3, on: true }, 67, 3, r#"{"on":true}"#),
        (ToAdapter::Mark { name: "m".into() }, 68, 0, r#"{"name":"m"}"#),
        (ToAdapter::Clear, 69, 0, ""),
        (ToAdapter::Pause, 70, 0, ""),
        (ToAdapter::Resume, 71, 0, ""),
        (ToAdapter::Gain { db: -6.5 }, 72, 0, r#"{"db":-6.5}"#),
        (ToAdapter::Ping, 73, 0, ""),
        (ToAdapter::Token { token: "s3cret".into() }, 74, 0, r#"{"token":"s3cret"}"#),
        (ToAdapter::Leave { reason: String::new() }, 75, 0, r#"{"reason":""}"#),
    ];
    let mut encoder = Encoder::default();
    for (seq, (message, kind, stream, payload)) in all.iter().enumerate() {
        let mut bytes = Vec::new();
        encoder.write(message, &mut bytes).unwrap();
        let mut golden = hex_header(*kind, *stream, seq as u32, payload.len(), 0);
        golden.extend_from_slice(payload.as_bytes());
        assert_eq!(bytes, golden, "{message:?}");
        assert!(!format!("{message:?}").contains("s3cret"), "{message:?}");
        let mut input = bytes.as_slice();
        let mut decoder = Decoder::to_adapter();
        assert_eq!(ToAdapter::parse(decoder.next(&mut input).unwrap()).unwrap(), *message);
    }
}

#[test]
fn golden_bytes_of_audio_in_both_directions() {
    let mut golden = hex_header(9, 1, 0, 640, 1_234_567);
    golden.extend_from_slice(&PCM);
    assert_eq!(bytes_of(&[audio(1, 1_234_567)]), golden);

    let pushed = ToAdapter::Audio(Audio { stream: 0, pts: 0, pcm: &PCM });
    let mut bytes = Vec::new();
    Encoder::default().write(&pushed, &mut bytes).unwrap();
    let mut input = bytes.as_slice();
    let mut decoder = Decoder::to_adapter();
    let frame = decoder.next(&mut input).unwrap();
    assert_eq!(frame.payload.as_ptr(), bytes[HEADER_BYTES..].as_ptr(), "lent, not copied");
    assert_eq!(ToAdapter::parse(frame).unwrap(), pushed);
}

#[test]
fn every_kind_is_in_the_golden_tests() {
    let numbers: Vec<u8> = Kind::ALL.iter().map(|kind| *kind as u8).collect();
    assert_eq!(numbers, (1..=17).chain(65..=75).collect::<Vec<_>>());
    for kind in Kind::ALL {
        assert!(kind.is_from_adapter() || kind.is_to_adapter());
        assert_eq!(kind.is_from_adapter() && kind.is_to_adapter(), *kind == Kind::Audio);
    }
}

#[test]
fn the_documentation_has_the_same_numbers_and_bytes() {
    let doc = include_str!("../../../../docs/sdk-pipe.md");
    for kind in Kind::ALL {
        let row = format!("| {} | {kind} |", *kind as u8);
        assert!(doc.contains(&row), "no row {row}");
    }
    let (_, dump) = doc.split_once("```hexdump\n").unwrap();
    let (dump, _) = dump.split_once("```").unwrap();
    let bytes: Vec<u8> =
        dump.split_whitespace().map(|byte| u8::from_str_radix(byte, 16).unwrap()).collect();
    let tone =
        |i: i32| (8_000.0 * (f64::from(i) * 440.0 / 16_000.0 * std::f64::consts::TAU).sin()) as i16;
    let mut shown = hex_header(9, 1, 7, 640, 7_060_000);
    shown.extend((0..12).flat_map(|i| tone(i).to_le_bytes()));
    assert_eq!(bytes, shown);
}

#[test]
fn a_clock_nobody_knows_is_its_own() {
    for payload in [&b""[..], b"{}", br#"{"clock":"gps"}"#] {
        let bytes = frame(Kind::Joined as u8, 0, 0, payload);
        let mut decoder = Decoder::from_adapter();
        let joined = FromAdapter::parse(decoder.next(&mut &bytes[..]).unwrap());
        assert_eq!(joined, Ok(FromAdapter::Joined { now: 0, clock: MediaClock::Own }));
    }
}
