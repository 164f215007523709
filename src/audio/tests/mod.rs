//! Tests of the audio values, one file a module.

mod batch;
mod fill;
mod handover;
mod handover_sim;
mod hostile;
mod mix;
mod mix_clicks;
mod mix_sim;
mod placing;
mod reorder;
mod reorder_sim;
mod ring;
mod timeline;
mod writer;

use bytes::{Bytes, BytesMut};

use super::{Batch, Encoded, Format, Origin, Runs, SlotState, Track, TrackWriter};

/// The samples of an index ramp: `first`, `first` + 1, …
fn ramp(first: u64, samples: usize) -> Vec<u8> {
    (first..first + samples as u64).flat_map(|index| (index as u16).to_le_bytes()).collect()
}

/// `slots` slots of a ramp that tells its position on the time line.
fn batch(epoch: u64, seq: u64, slots: u8) -> Batch {
    let pos = seq * u64::from(slots) * 320;
    Batch {
        epoch,
        seq,
        pos,
        time: 1_767_225_600_000_000,
        format: Format::default(),
        runs: Runs::of(SlotState::Audio, slots),
        user: "ann".to_owned(),
        role: String::new(),
        flags: 0,
        pcm: Bytes::from(ramp(pos, usize::from(slots) * 320)),
    }
}

/// A track whose batches hold `slots` slots, opened at position 0.
fn track(slots: u8) -> TrackWriter {
    let origin = Origin { unix_us: 0, rate: 16_000 };
    TrackWriter::new(Track { batch_slots: slots, ..Track::new(3, "ann", "host", origin, 0) })
}

/// All batches that are ready.
fn take(writer: &mut TrackWriter, force: bool) -> Vec<Encoded> {
    let mut out = BytesMut::new();
    std::iter::from_fn(|| writer.next_batch(force, &mut out)).collect()
}

/// The slots of encoded batches: position, state and samples.
fn slots(encoded: &[Encoded]) -> Vec<(u64, SlotState, Vec<u8>)> {
    let batches = encoded.iter().map(|encoded| Batch::decode(&encoded.payload).unwrap());
    batches
        .flat_map(|batch| {
            batch
                .slots()
                .map(|slot| (slot.pos, slot.state, slot.pcm.unwrap_or_default().to_vec()))
                .collect::<Vec<_>>()
        })
        .collect()
}

/// The states of encoded batches with the number of slots in a row.
fn states(encoded: &[Encoded]) -> Vec<(SlotState, usize)> {
    let mut runs: Vec<(SlotState, usize)> = Vec::new();
    for (_, state, _) in slots(encoded) {
        match runs.last_mut() {
            Some(run) if run.0 == state => run.1 += 1,
            _ => runs.push((state, 1)),
        }
    }
    runs
}
