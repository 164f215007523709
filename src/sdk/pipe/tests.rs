//! What comes out of a pipe that carries more than frames.

mod golden;

use proptest::prelude::*;

use super::*;
use crate::limits::{
    PIPE_AUDIO_MAX, PIPE_CONTROL_MAX, REASON_MAX_BYTES, TRACKS_MAX, USER_MAX_BYTES,
};

const PCM: [u8; 640] = {
    let mut pcm = [0; 640];
    let mut i = 0;
    while i < 640 {
        pcm[i] = i as u8;
        i += 1;
    }
    pcm
};

fn bytes_of(messages: &[FromAdapter<'_>]) -> Vec<u8> {
    let mut encoder = Encoder::default();
    let mut out = Vec::new();
    for message in messages {
        encoder.write(message, &mut out).unwrap();
    }
    out
}

/// Every frame of `bytes`, read in pieces of `step`, as text; and the counters.
fn heard(bytes: &[u8], step: usize) -> (Vec<String>, Counters) {
    let mut decoder = Decoder::from_adapter();
    let mut out = Vec::new();
    for mut input in bytes.chunks(step) {
        while let Some(frame) = decoder.next(&mut input) {
            assert_eq!(frame.header.length as usize, frame.payload.len());
            out.push(format!("{:?}", FromAdapter::parse(frame)));
        }
        assert!(input.is_empty());
        assert!(decoder.held() <= HEADER_BYTES + PIPE_CONTROL_MAX);
    }
    decoder.end();
    (out, decoder.counters())
}

fn shown(messages: &[FromAdapter<'_>]) -> Vec<String> {
    messages.iter().map(|message| format!("{:?}", Ok::<_, Refusal>(message))).collect()
}

fn audio(stream: u16, pts: i64) -> FromAdapter<'static> {
    FromAdapter::Audio(Audio { stream, pts, pcm: &PCM })
}

fn frame(kind: u8, flags: u16, stream: u16, payload: &[u8]) -> Vec<u8> {
    let length = payload.len() as u32;
    let mut out = Header { kind, flags, stream, seq: 0, length, pts: 0 }.to_bytes().to_vec();
    out.extend_from_slice(payload);
    out
}

fn refused(kind: Kind, stream: u16, payload: &[u8]) -> String {
    let bytes = frame(kind as u8, 0, stream, payload);
    let mut input = bytes.as_slice();
    if kind.is_from_adapter() {
        FromAdapter::parse(Decoder::from_adapter().next(&mut input).unwrap())
            .unwrap_err()
            .to_string()
    } else {
        ToAdapter::parse(Decoder::to_adapter().next(&mut input).unwrap()).unwrap_err().to_string()
    }
}

/// `SG` version kind flags stream | seq | length | pts, as one line of hex.
fn hex_header(kind: u8, stream: u16, seq: u32, length: usize, pts: i64) -> Vec<u8> {
    let [s, q, l] = [
        stream.to_le_bytes().to_vec(),
        seq.to_le_bytes().to_vec(),
        (length as u32).to_le_bytes().to_vec(),
    ];
    [vec![0x53, 0x47, 1, kind, 0, 0], s, q, l, pts.to_le_bytes().to_vec()].concat()
}

#[test]
fn any_cut_of_the_reads_gives_the_same_messages() {
    let messages = [
        FromAdapter::Joined { now: 0, clock: MediaClock::Unix },
        audio(1, 0),
        FromAdapter::Idle { stream: 1, pts: 40_000 },
        FromAdapter::Error { message: "x".repeat(1_000), fatal: false },
        audio(1, 40_000),
    ];
    let bytes = bytes_of(&messages);
    for step in [1, 2, 3, 23, 24, 25, 663, 664, 665, 5_000] {
        let (out, counters) = heard(&bytes, step);
        assert_eq!(out, shown(&messages), "in steps of {step}");
        assert_eq!(counters, Counters { frames: 5, ..Counters::default() });
    }
}

#[test]
fn frames_in_a_row_are_what_they_are_one_by_one() {
    let short = |pts| FromAdapter::Audio(Audio { stream: 1, pts, pcm: &PCM[..320] });
    let messages = [
        audio(1, 0),
        audio(1, 20_000),
        audio(1, 40_000),
        audio(2, 60_000), // another's
        audio(2, 80_000),
        audio(2, 99_999), // not when the one before it was over
        audio(2, 119_999),
        short(0), // shorter
        short(10_000),
        short(20_000),
        FromAdapter::Idle { stream: 1, pts: 40_000 },
        audio(1, i64::MAX - 1),
        audio(1, i64::MAX),
        audio(1, i64::MAX),
    ];
    let mut bytes = bytes_of(&messages);
    // One is lost on the way.
    bytes.drain(664..2 * 664);
    let rest: Vec<_> = messages[..1].iter().chain(&messages[2..]).cloned().collect();
    for step in [1, 663, 664, 665, 2_000, 5_000, 100_000] {
        let (mut decoder, mut out, mut rows) = (Decoder::from_adapter(), Vec::new(), 0);
        for mut input in bytes.chunks(step) {
            while let Some(frame) = decoder.next(&mut input) {
                let (header, sound) = (frame.header, frame.sound().is_some());
                out.push(format!("{:?}", FromAdapter::parse(frame)));
                if sound {
                    let row = decoder.sounds(&header, &mut input);
                    rows += row.len();
                    assert_eq!(
                        row.last_pts(),
                        row.each().last().map_or(row.last_pts(), |it| it.pts)
                    );
                    out.extend(
                        row.each()
                            .map(|it| format!("{:?}", Ok::<_, Refusal>(FromAdapter::Audio(it)))),
                    );
                }
            }
        }
        assert_eq!(out, shown(&rest), "in steps of {step}");
        assert_eq!(decoder.counters(), Counters { frames: 13, lost: 1, ..Counters::default() });
        // Of each but the first of a row.
        if step == 100_000 {
            assert_eq!(rows, 1 + 1 + 2 + 2);
        }
    }
}

#[test]
fn garbage_between_frames_costs_only_itself() {
    let noise: [&[u8]; 5] =
        [b"[sdk] connected to edge 17\n", b"S", b"SGSGSG", b"SG\x01", &[0; 5_000]];
    let messages = [audio(1, 0), FromAdapter::Flow { go: true }, audio(1, 20_000)];
    for noise in noise {
        let mut bytes = Vec::new();
        let mut encoder = Encoder::default();
        for message in &messages {
            encoder.write(message, &mut bytes).unwrap();
            bytes.extend_from_slice(noise);
        }
        for step in [1, 7, 100, 100_000] {
            let (out, counters) = heard(&bytes, step);
            assert_eq!(out, shown(&messages), "{noise:?} in steps of {step}");
            assert_eq!(counters.garbage_bytes, 3 * noise.len() as u64);
            assert_eq!((counters.garbage_runs, counters.lost), (3, 0));
        }
    }
}

#[test]
fn a_length_of_four_gigabytes_is_garbage_and_reserves_nothing() {
    let mut bytes = hex_header(9, 1, 0, u32::MAX as usize, 0);
    bytes.extend(bytes_of(&[audio(1, 0)]));
    for step in [1, 10_000] {
        let (out, counters) = heard(&bytes, step);
        assert_eq!(out, shown(&[audio(1, 0)]));
        assert_eq!(counters.garbage_bytes, 24);
    }
}

#[test]
fn the_longest_control_frame_is_read_and_one_byte_more_is_garbage() {
    let mut payload = br#"{"go":true}"#.to_vec();
    payload.resize(PIPE_CONTROL_MAX, b' ');
    let longest = frame(Kind::Flow as u8, 0, 0, &payload);
    assert_eq!(heard(&longest, 65_536).0, shown(&[FromAdapter::Flow { go: true }]));
    payload.push(b' ');
    let longer = frame(Kind::Flow as u8, 0, 0, &payload);
    let (out, counters) = heard(&longer, 65_536);
    assert_eq!((out.len(), counters.garbage_bytes), (0, longer.len() as u64));
}

#[test]
fn a_flood_of_false_headers_costs_only_time() {
    let mut flood = b"x".to_vec();
    flood.extend(frame(16, 0, 0, b"{").repeat(20_000));
    for false_header in flood[1..].chunks_mut(25) {
        false_header[12..16].copy_from_slice(&(PIPE_CONTROL_MAX as u32).to_le_bytes());
    }
    let flooded = flood.len() as u64;
    flood.extend(bytes_of(&[audio(1, 0), audio(1, 20_000)]));
    flood.resize(flood.len() + PIPE_CONTROL_MAX, b' '); // the last one waits for its payload
    let (out, counters) = heard(&flood, 65_536);
    assert_eq!(out, shown(&[audio(1, 0), audio(1, 20_000)]));
    assert_eq!(counters.garbage_bytes, flooded + PIPE_CONTROL_MAX as u64);
}

#[test]
fn audio_may_hold_the_magic() {
    let inner = bytes_of(&[FromAdapter::Idle { stream: 1, pts: 0 }]);
    let mut pcm = inner.repeat(14);
    pcm.resize(640, 0);
    let message = FromAdapter::Audio(Audio { stream: 1, pts: 0, pcm: &pcm });
    let bytes = bytes_of(&[message.clone(), message.clone()]);
    for step in [1, 30, 10_000] {
        let (out, counters) = heard(&bytes, step);
        assert_eq!(out, shown(&[message.clone(), message.clone()]));
        assert_eq!(counters.garbage_bytes, 0);
    }
}

#[test]
fn a_false_header_in_garbage_does_not_swallow_what_follows() {
    let mut bytes = b"noise ".to_vec();
    bytes.extend(hex_header(16, 0, 7, 600, 0)); // ERROR, but no JSON comes
    bytes.extend(bytes_of(&[audio(1, 0), audio(1, 20_000)]));
    for step in [1, 50, 10_000] {
        let (out, counters) = heard(&bytes, step);
        assert_eq!(out, shown(&[audio(1, 0), audio(1, 20_000)]), "in steps of {step}");
        assert_eq!(
            counters,
            Counters { frames: 2, garbage_bytes: 30, garbage_runs: 1, ..counters }
        );
    }
}

#[test]
fn a_frame_cut_short_takes_the_next_one_with_it_and_no_more() {
    let whole = bytes_of(&[audio(1, 0), audio(1, 20_000), audio(1, 40_000), audio(1, 60_000)]);
    let bytes = [&whole[..300], &whole[664..]].concat();
    let (out, counters) = heard(&bytes, 1_000);
    assert_eq!(out.len(), 3, "one mangled, one swallowed by it, two whole");
    assert_eq!(out[1..], shown(&[audio(1, 40_000), audio(1, 60_000)]));
    assert_eq!((counters.lost, counters.garbage_bytes), (1, 300));
}

#[test]
fn holes_in_seq_are_counted_and_a_sender_that_does_not_count_is_not() {
    let whole = bytes_of(&[audio(1, 0), audio(1, 20_000), audio(1, 40_000), audio(1, 60_000)]);
    let (_, counters) = heard(&[&whole[..664], &whole[3 * 664..]].concat(), 10_000);
    assert_eq!(counters.lost, 2);
    let (_, counters) = heard(&whole[..664].repeat(4), 10_000);
    assert_eq!(counters.lost, 0);
}

#[test]
fn unknown_kinds_are_skipped_unless_they_must_be_understood() {
    let mut bytes = frame(40, 0, 0, b"\x01\x02");
    bytes.extend(frame(66, 0, 0, b"{}")); // a kind of the other direction
    bytes.extend(bytes_of(&[audio(1, 0)]));
    let (out, counters) = heard(&bytes, 10_000);
    assert_eq!(out, shown(&[audio(1, 0)]));
    assert_eq!((counters.unknown, counters.garbage_bytes), (2, 0));

    let bytes = frame(40, MUST_UNDERSTAND, 0, b"");
    let mut input = bytes.as_slice();
    let mut decoder = Decoder::from_adapter();
    let refusal = FromAdapter::parse(decoder.next(&mut input).unwrap()).unwrap_err();
    assert_eq!(refusal, Refusal::NotUnderstood { kind: 40, seq: 0 });
}

#[test]
fn what_breaks_the_protocol_is_refused_with_the_mend() {
    let long = format!(r#"{{"user":"{}"}}"#, "u".repeat(USER_MAX_BYTES + 1));
    let cases = [
        (refused(Kind::Audio, 1, &[0; 321]), "multiples of 320"),
        (refused(Kind::Audio, 1, &[]), "multiples of 320"),
        (refused(Kind::Audio, 1, &[0; PIPE_AUDIO_MAX + 64]), "at most 4096"),
        (refused(Kind::Audio, 0, &PCM), "number them from 1"),
        (refused(Kind::Idle, TRACKS_MAX as u16 + 1, b""), "at most 256"),
        (refused(Kind::ParticipantLeft, 0, long.as_bytes()), "at most 8192"),
        (refused(Kind::TrackOpened, 1, b"{\"user\":7}"), "expected a string"),
        (refused(Kind::Lost, 1, b"{\"to\":-1}"), "before it begins"),
        (refused(Kind::Hello, 0, b"\xff\xfe"), "HELLO (frame 0)"),
        (refused(Kind::Hello, 0, &b"[".repeat(100_000)), "HELLO"),
        (refused(Kind::Gain, 0, b"{\"db\":1e99}"), "db"),
        (refused(Kind::Join, 0, b"{\"room\":\"a.b\"}"), "not a token"),
    ];
    for (refusal, mend) in cases {
        assert!(refusal.contains(mend) && refusal.len() < 300, "{refusal}");
    }
}

#[test]
fn texts_for_people_are_cut_and_ids_are_kept_as_they_are() {
    let user = "..\0😀 *".to_owned();
    let message = FromAdapter::ParticipantLeft { user };
    assert_eq!(heard(&bytes_of(std::slice::from_ref(&message)), 9).0, shown(&[message]));

    let long = FromAdapter::Bye { reason: "é".repeat(REASON_MAX_BYTES) };
    let cut = FromAdapter::Bye { reason: "é".repeat(REASON_MAX_BYTES / 2) };
    assert_eq!(heard(&bytes_of(&[long]), 100_000).0, shown(&[cut]));
}

#[test]
fn what_cannot_be_sent_leaves_no_trace() {
    let mut encoder = Encoder::default();
    let mut out = b"before".to_vec();
    let long = FromAdapter::Bye { reason: "x".repeat(PIPE_CONTROL_MAX) };
    assert!(matches!(encoder.write(&long, &mut out), Err(EncodeError::TooLong { .. })));
    for pcm in [&PCM[..0], &PCM[..100], &[0; PIPE_AUDIO_MAX + 64]] {
        let message = FromAdapter::Audio(Audio { stream: 1, pts: 0, pcm });
        assert!(encoder.write(&message, &mut out).is_err());
    }
    assert_eq!(out, b"before");
    encoder.write(&audio(1, 0), &mut out).unwrap();
    assert_eq!(out[6..], bytes_of(&[audio(1, 0)]));
}

fn any_message() -> impl Strategy<Value = FromAdapter<'static>> {
    let (stream, pts) = (1..=TRACKS_MAX as u16, any::<i64>());
    prop_oneof![
        (stream.clone(), pts).prop_map(|(stream, pts)| audio(stream, pts)),
        (stream.clone(), pts).prop_map(|(stream, pts)| FromAdapter::Idle { stream, pts }),
        (stream, pts, ".{0,40}", proptest::option::of(".{0,9}")).prop_map(
            |(stream, pts, user, role)| FromAdapter::TrackOpened {
                stream,
                pts,
                track: Track { user, role }
            }
        ),
        (".{0,40}", any::<bool>())
            .prop_map(|(message, fatal)| FromAdapter::Error { message, fatal }),
        any::<(u64, i64)>().prop_map(|(samples, pts)| FromAdapter::Played { samples, pts }),
    ]
}

proptest! {
    #[test]
    fn what_goes_in_comes_out(
        messages in proptest::collection::vec(any_message(), 0..20),
        step in 1..2_000_usize,
    ) {
        let (out, counters) = heard(&bytes_of(&messages), step);
        prop_assert_eq!(out, shown(&messages));
        prop_assert_eq!(counters.garbage_bytes, 0);
    }

    #[test]
    fn no_bytes_upset_the_decoder(
        noise in proptest::collection::vec(any::<u8>(), 0..3_000),
        cut in any::<proptest::sample::Index>(),
        step in 1..500_usize,
    ) {
        let mut bytes = bytes_of(&[audio(1, 0), FromAdapter::Flow { go: true }, audio(1, 20_000)]);
        let at = cut.index(bytes.len());
        bytes.splice(at..at, noise);
        let before = bytes.len();
        bytes.extend(bytes_of(&[audio(7, 7), audio(7, 8)]));
        let (out, counters) = heard(&bytes, step);
        // At worst a mangled frame takes the first good one with it.
        prop_assert_eq!(out.last().unwrap(), &shown(&[audio(7, 8)])[0]);
        prop_assert!(counters.garbage_bytes <= before as u64 + 664);
    }

    #[test]
    fn no_frame_upsets_the_parsers(
        kind in 1..80_u8,
        flags in any::<u16>(),
        stream in any::<u16>(),
        payload in prop_oneof![
            proptest::collection::vec(any::<u8>(), 0..700),
            "\\{\"(user|to|name|db|on|room|samples)\":(\"[^\"]{0,9}\"|-?[0-9]{1,30}|true)\\}"
                .prop_map(String::into_bytes),
        ],
    ) {
        let bytes = frame(kind, flags, stream, &payload);
        for mut decoder in [Decoder::from_adapter(), Decoder::to_adapter()] {
            let mut input = bytes.as_slice();
            if let Some(frame) = decoder.next(&mut input) {
                let _ = FromAdapter::parse(frame);
                let _ = ToAdapter::parse(frame);
            }
        }
    }
}
