//! Payloads from strangers: refused by name, quickly, without memory or panic.

use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use proptest::prelude::*;
use serde::Serialize;
use serde_bytes::ByteBuf;

use super::super::{Batch, BatchError};
use super::batch;
use crate::limits::{BATCH_MAX_BYTES, USER_MAX_BYTES};

/// A batch as another program might write it.
#[derive(Serialize, Clone)]
struct Foreign {
    v: u64,
    epoch: u64,
    seq: u64,
    pos: u64,
    time: i64,
    rate: u32,
    ch: u8,
    n: u64,
    runs: Vec<(u8, u8)>,
    pcm: ByteBuf,
    #[serde(skip_serializing_if = "Option::is_none")]
    crc: Option<u32>,
    user: String,
    later: (u8, Vec<Vec<String>>),
}

fn foreign() -> Foreign {
    Foreign {
        v: 1,
        epoch: 1,
        seq: 0,
        pos: 0,
        time: 0,
        rate: 16_000,
        ch: 1,
        n: 1,
        runs: vec![(1, 1)],
        pcm: ByteBuf::new(),
        crc: None,
        user: String::new(),
        later: (1, vec![vec!["unknown".to_owned()]]),
    }
}

fn decode(foreign: &Foreign) -> Result<Batch, BatchError> {
    Batch::decode(&rmp_serde::to_vec_named(foreign).unwrap().into())
}

#[test]
fn unknown_keys_and_an_empty_pcm_are_read() {
    let batch = decode(&foreign()).unwrap();
    assert_eq!((batch.flags, batch.runs.slots(), batch.pcm.len()), (0, 1, 0));
}

#[test]
fn what_is_wrong_is_named() {
    let with = |change: fn(&mut Foreign)| {
        let mut foreign = foreign();
        change(&mut foreign);
        decode(&foreign).unwrap_err()
    };
    assert_eq!(with(|f| f.v = 2), BatchError::Version(2));
    assert_eq!(with(|f| f.n = 0), BatchError::Slots { n: 0, runs: 1 });
    assert_eq!(with(|f| f.n = u64::MAX), BatchError::Slots { n: u64::MAX, runs: 1 });
    assert_eq!(with(|f| f.runs.clear()), BatchError::Slots { n: 1, runs: 0 });
    assert_eq!(with(|f| f.runs = vec![(0, 1)]), BatchError::Length { got: 0, want: 640 });
    assert_eq!(with(|f| f.pcm.push(0)), BatchError::Length { got: 1, want: 0 });
    assert_eq!(with(|f| f.rate = 11_025), BatchError::Format { rate: 11_025, ch: 1 });
    assert_eq!(with(|f| f.rate = 0), BatchError::Format { rate: 0, ch: 1 });
    assert_eq!(with(|f| f.ch = 0), BatchError::Format { rate: 16_000, ch: 0 });
    assert_eq!(with(|f| f.ch = 3), BatchError::Format { rate: 16_000, ch: 3 });
    assert_eq!(with(|f| f.seq = 1 << 62), BatchError::Number { key: "seq", number: 1 << 62 });
    assert_eq!(with(|f| f.pos = u64::MAX), BatchError::Number { key: "pos", number: u64::MAX });
    assert_eq!(
        with(|f| f.user = "u".repeat(USER_MAX_BYTES + 1)),
        BatchError::Text { key: "user", bytes: USER_MAX_BYTES + 1 }
    );
    assert!(matches!(with(|f| f.crc = Some(7)), BatchError::Crc { got: 0, want: 7 }));
    for runs in [vec![(1, 0)], vec![(1, 51)], vec![(1, 50), (2, 1)], vec![(1, 1); 60]] {
        let error = decode(&Foreign { runs, ..foreign() }).unwrap_err();
        assert!(matches!(error, BatchError::Malformed(_)), "{error}");
    }
}

#[test]
fn damage_is_seen() {
    let bytes = batch(1, 0, 1).encode(&mut BytesMut::new());
    let mut damaged = bytes.to_vec();
    *damaged.last_mut().unwrap() ^= 1;
    assert!(matches!(Batch::decode(&damaged.into()), Err(BatchError::Crc { .. })));
}

/// A map with one key, `x`, whose value is `value`.
fn with_value(value: &[u8]) -> Bytes {
    [b"\x81\xa1x".as_slice(), value].concat().into()
}

#[test]
fn bombs_are_refused_at_once() {
    let room = BATCH_MAX_BYTES - 16;
    let bombs = [
        ("nested arrays", with_value(&vec![0x91; 100_000])),
        ("nested maps", with_value(&b"\x81\xa1x".repeat(80_000))),
        ("nested wide arrays", with_value(&b"\xdd\xff\xff\xff\xff".repeat(50_000))),
        ("nested extensions", with_value(&b"\xc7\xff\x01".repeat(80_000))),
        ("4 GB of bin", with_value(b"\xc6\xff\xff\xff\xff")),
        ("4 GB of text", with_value(b"\xdb\xff\xff\xff\xff")),
        ("4 G of elements", with_value(b"\xdd\xff\xff\xff\xff")),
        ("4 G of keys", Bytes::from_static(b"\xdf\xff\xff\xff\xff")),
        ("4 G of runs", Bytes::from_static(b"\x81\xa4runs\xdd\xff\xff\xff\xff")),
        (
            "runs without end",
            [b"\x81\xa4runs\xdd\xff\xff\xff\xff", vec![1; room].as_slice()].concat().into(),
        ),
        ("pcm of 4 GB", Bytes::from_static(b"\x81\xa3pcm\xc6\xff\xff\xff\xff")),
        (
            "a flat array",
            with_value(&[b"\xdd\x00\x03\xff\x00".as_slice(), &vec![0xc0; room]].concat()),
        ),
        ("an array for a map", Bytes::from_static(b"\x9e\x01\x00\x01")),
        ("text for a map", Bytes::from_static(b"{\"v\":1}")),
        ("nothing", Bytes::new()),
    ];
    let start = Instant::now();
    for (name, bomb) in bombs {
        let error = Batch::decode(&bomb).unwrap_err();
        assert!(matches!(error, BatchError::Malformed(_)), "{name}: {error}");
        assert!(error.to_string().len() < 400, "{name}: {error}");
    }
    assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
    let large = Bytes::from(vec![0x80; BATCH_MAX_BYTES + 1]);
    assert_eq!(Batch::decode(&large).unwrap_err(), BatchError::TooLarge(BATCH_MAX_BYTES + 1));
}

#[test]
fn every_truncation_is_refused() {
    let bytes = batch(1, 0, 1).encode(&mut BytesMut::new());
    for len in 0..bytes.len() {
        assert!(Batch::decode(&bytes.slice(..len)).is_err(), "{len}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = Batch::decode(&bytes.clone().into());
        let _ = Batch::decode(&with_value(&bytes));
    }

    #[test]
    fn no_change_of_a_batch_panics(
        changes in prop::collection::vec((0..200usize, any::<u8>()), 1..6),
    ) {
        let mut bytes = batch(1, 5, 1).encode(&mut BytesMut::new()).to_vec();
        for (at, byte) in changes {
            bytes[at] = byte;
        }
        if let Ok(batch) = Batch::decode(&bytes.into()) {
            prop_assert_eq!(batch.slots().count(), usize::from(batch.runs.slots()));
        }
    }
}
