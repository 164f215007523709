//! A batch's bytes: what is written must not change by accident.

use bytes::{Bytes, BytesMut};
use proptest::prelude::*;

use super::super::{
    Batch, FLAG_LAST, FLAG_RESENT, FLAG_TALK_SPURT, Format, Runs, SlotState, resent,
};
use super::batch;

fn hex(bytes: &[u8]) -> String {
    data_encoding::HEXLOWER.encode(bytes)
}

/// A batch of 8 kHz, whose slots are short enough to read.
fn small(states: &[(SlotState, u8)]) -> Batch {
    let mut runs = Runs::default();
    for &(state, count) in states {
        runs.push(state, count);
    }
    let format = Format { rate: 8_000, channels: 1 };
    Batch {
        epoch: 3,
        seq: 121,
        pos: 419_200,
        time: 1_767_225_626_150_000,
        format,
        runs,
        user: "ann".to_owned(),
        role: "host".to_owned(),
        flags: FLAG_TALK_SPURT,
        pcm: vec![0xab; usize::from(runs.audio_slots()) * format.slot_bytes()].into(),
    }
}

#[test]
fn golden_all_audio() {
    let batch = small(&[(SlotState::Audio, 1)]);
    let bytes = batch.encode(&mut BytesMut::new());
    assert_eq!(
        hex(&bytes),
        format!(
            "8ea17601a5666c61677301a565706f636803a373657179a3706f73ce00066580a474696d65cf0006474847af\
             4470a373756dcef0533bc4a472617465cd1f40a2636801a16e01a475736572a3616e6ea4726f6c65a4686f\
             7374a3637263ce{:08x}\
             a370636dc50140{}",
            crc_fast::crc32_iscsi(&batch.pcm),
            "ab".repeat(320)
        )
    );
    assert_eq!(Batch::decode(&bytes).unwrap(), batch);
}

#[test]
fn golden_runs() {
    let batch =
        small(&[(SlotState::Stalled, 9), (SlotState::Audio, 1), (SlotState::Unknown(9), 2)]);
    let bytes = batch.encode(&mut BytesMut::new());
    assert!(
        hex(&bytes).contains("a16e0ca472756e739392050992000192090 2".replace(' ', "").as_str())
    );
    assert_eq!(Batch::decode(&bytes).unwrap(), batch);
}

#[test]
fn golden_heartbeat() {
    let batch = Batch {
        user: String::new(),
        role: String::new(),
        flags: FLAG_LAST,
        ..small(&[(SlotState::Muted, 1)])
    };
    let bytes = batch.encode(&mut BytesMut::new());
    assert_eq!(
        hex(&bytes),
        "8ba17601a5666c61677304a565706f636803a373657179a3706f73ce00066580a474696d65cf0006474847af44\
         70a373756dce7678665aa472617465cd1f40a2636801a16e01a472756e7391920201"
    );
    assert_eq!(Batch::decode(&bytes).unwrap(), batch);
}

#[test]
fn the_check_value_of_crc_32c() {
    assert_eq!(crc_fast::crc32_iscsi(b"123456789"), 0xe306_9283);
}

#[test]
fn samples_are_not_copied() {
    let bytes = batch(1, 0, 10).encode(&mut BytesMut::new());
    let pcm = Batch::decode(&bytes).unwrap().pcm;
    assert!(bytes.as_ptr_range().contains(&pcm.as_ptr()));
}

#[test]
fn a_used_buffer_serves_again() {
    let mut out = BytesMut::with_capacity(64 * 1024);
    let start = out.as_ptr();
    for seq in 0..100 {
        let payload = batch(1, seq, 10).encode(&mut out);
        assert_eq!(Batch::decode(&payload).unwrap(), batch(1, seq, 10));
        drop(payload);
        assert!(out.try_reclaim(60 * 1024), "nobody holds the payload");
    }
    assert_eq!(out.as_ptr(), start);
}

#[test]
fn sent_again_differs_in_one_bit() {
    let mut out = BytesMut::new();
    let bytes = Batch { flags: FLAG_TALK_SPURT, ..batch(3, 7, 10) }.encode(&mut out);
    let again = resent(&bytes, &mut out).unwrap();
    let differing: u32 = bytes.iter().zip(&again).map(|(a, b)| (a ^ b).count_ones()).sum();
    assert_eq!((again.len(), differing), (bytes.len(), 1));
    let batch = Batch::decode(&again).unwrap();
    assert_eq!(batch.flags, FLAG_TALK_SPURT | FLAG_RESENT);
    assert_eq!(resent(&again, &mut out).unwrap(), again);
    assert_eq!(resent(b"\x81\xa1v\x01", &mut out), None);
    assert_eq!(resent(b"", &mut out), None);
}

#[test]
fn slots_stand_where_they_belong() {
    let batch = small(&[(SlotState::Silence, 2), (SlotState::Audio, 1), (SlotState::Lost, 1)]);
    let slots: Vec<_> =
        batch.slots().map(|slot| (slot.pos - batch.pos, slot.state, slot.pcm.is_some())).collect();
    assert_eq!(
        slots,
        [
            (0, SlotState::Silence, false),
            (160, SlotState::Silence, false),
            (320, SlotState::Audio, true),
            (480, SlotState::Lost, false)
        ]
    );
    assert_eq!(batch.end(), batch.pos + 640);
}

fn any_batch() -> impl Strategy<Value = Batch> {
    let format = (prop::sample::select(vec![8_000, 16_000, 22_050, 48_000]), 1..=2u8)
        .prop_map(|(rate, channels)| Format { rate, channels });
    let runs = prop::collection::vec((any::<u8>(), 1..=50u8), 1..8).prop_map(|list| {
        let mut runs = Runs::default();
        for (state, count) in list {
            runs.push(SlotState::from_wire(state % 10), count);
        }
        runs
    });
    let numbers = (0..1u64 << 62, 0..1u64 << 62, 0..1u64 << 62, any::<i64>(), any::<u32>());
    (format, runs, numbers, ".{0,20}", ".{0,20}", any::<u8>()).prop_map(
        |(format, runs, (epoch, seq, pos, time, flags), user, role, sample)| Batch {
            epoch,
            seq,
            pos,
            time,
            format,
            runs,
            user,
            role,
            flags,
            pcm: Bytes::from(vec![sample; usize::from(runs.audio_slots()) * format.slot_bytes()]),
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn what_is_written_is_read(batch in any_batch()) {
        let bytes = batch.encode(&mut BytesMut::new());
        prop_assert_eq!(Batch::decode(&bytes).unwrap(), batch);
    }
}
