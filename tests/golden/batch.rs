//! The bytes of a batch, and of one that is sent again.

use audio_gateway::audio::{Batch, FLAG_RESENT, FLAG_TALK_SPURT, Format, Runs, SlotState, resent};
use bytes::{Bytes, BytesMut};

use crate::document;

/// Ten stalled slots: what a track says that has nothing to say.
fn heartbeat() -> Batch {
    Batch {
        epoch: 3,
        seq: 121,
        pos: 419_200,
        time: 1_767_225_626_150_000,
        format: Format::default(),
        runs: Runs::of(SlotState::Stalled, 10),
        user: "ann".into(),
        role: "host".into(),
        flags: 0,
        pcm: Bytes::new(),
    }
}

/// Nine stalled slots and one with the samples 0, 1, 2, … 319.
fn spurt() -> Batch {
    let mut runs = Runs::of(SlotState::Stalled, 9);
    runs.push(SlotState::Audio, 1);
    Batch {
        seq: 122,
        pos: 422_400,
        time: 1_767_225_626_350_000,
        runs,
        flags: FLAG_TALK_SPURT,
        pcm: (0..320_i16).flat_map(i16::to_le_bytes).collect(),
        ..heartbeat()
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn batch_without_samples() {
    let batch = heartbeat();
    let bytes = batch.encode(&mut BytesMut::new());
    assert_eq!(
        hex(&bytes),
        concat!(
            "8da17601a5666c61677300a565706f636803a373657179a3706f73ce00066580",
            "a474696d65cf0006474847af4470a373756dce4032658ca472617465cd3e80a2636801a16e0a",
            "a472756e739192050aa475736572a3616e6ea4726f6c65a4686f7374"
        )
    );
    document::says(&hex(&bytes));
    assert_eq!(Batch::decode(&bytes).unwrap(), batch);
}

#[test]
fn batch_with_samples() {
    let batch = spurt();
    let bytes = batch.encode(&mut BytesMut::new());
    let (head, samples) = bytes.split_at(bytes.len() - 640);
    assert_eq!(
        hex(head),
        concat!(
            "8fa17601a5666c61677301a565706f636803a37365717aa3706f73ce00067200",
            "a474696d65cf0006474847b251b0a373756dcee1b8cc38a472617465cd3e80a2636801a16e0a",
            "a472756e7392920509920001a475736572a3616e6ea4726f6c65a4686f7374",
            "a3637263ce662ad3a0a370636dc50280"
        )
    );
    document::says(&hex(head));
    assert_eq!(samples, batch.pcm);
    assert_eq!(Batch::decode(&bytes).unwrap(), batch);
}

#[test]
fn batch_sent_again() {
    let bytes = spurt().encode(&mut BytesMut::new());
    let again = resent(&bytes, &mut BytesMut::new()).unwrap();
    let changed: Vec<usize> = (0..bytes.len()).filter(|&at| again[at] != bytes[at]).collect();
    assert_eq!((again.len(), changed), (bytes.len(), vec![10]), "flag 2 and nothing else");
    let batch = Batch::decode(&again).unwrap();
    assert_eq!(batch, Batch { flags: FLAG_TALK_SPURT | FLAG_RESENT, ..spurt() });
}

#[test]
fn slot_states() {
    for (state, number) in [
        (SlotState::Audio, 0),
        (SlotState::Silence, 1),
        (SlotState::Muted, 2),
        (SlotState::Absent, 3),
        (SlotState::Lost, 4),
        (SlotState::Stalled, 5),
        (SlotState::Redacted, 6),
        (SlotState::Dropped, 7),
    ] {
        assert_eq!(state.to_wire(), number);
        assert_eq!(SlotState::from_wire(number), state);
    }
}
