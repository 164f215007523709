//! A batch: up to a second of one track, as it travels on the bus. Encodes into
//! a buffer that is used again and decodes without copying the samples. What
//! comes from outside is bounded before and while it is read.

use bytes::{Bytes, BytesMut};
use crc_fast::crc32_iscsi;

use super::{
    frame::{Format, SlotState},
    runs::Runs,
    wire::{Wire, is_map},
};
use crate::limits::{BATCH_MAX_BYTES, BATCH_MAX_SLOTS, FRAME, USER_MAX_BYTES};

/// The version written in `v`.
const VERSION: u64 = 1;
/// Sequence numbers, epochs and positions stay below this, so that adding to
/// one never overflows.
const NUMBER_MAX: u64 = 1 << 62;

/// A batch that was checked: `runs` has 1 to 50 slots, and `pcm` exactly the
/// samples of its audio slots.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Batch {
    /// The assignment of the task it was made under.
    pub epoch: u64,
    /// Counts the batches of a track within an epoch.
    pub seq: u64,
    /// Position of the first slot on the room's time line, in samples.
    pub pos: u64,
    /// Capture time of the first slot, µs since the Unix epoch.
    pub time: i64,
    /// Rate and channels.
    pub format: Format,
    /// What each slot is.
    pub runs: Runs,
    /// The participant as the SDK names it.
    pub user: String,
    /// Its role as the SDK names it.
    pub role: String,
    /// `FLAG_…` bits.
    pub flags: u32,
    /// s16le samples of the audio slots, joined.
    pub pcm: Bytes,
}

/// A batch about to be encoded, with everything large borrowed.
#[derive(Debug, Clone, Copy)]
#[allow(missing_docs, reason = "the fields are those of `Batch`")]
pub struct BatchView<'a> {
    pub epoch: u64,
    pub seq: u64,
    pub pos: u64,
    pub time: i64,
    pub format: Format,
    pub runs: &'a Runs,
    pub user: &'a str,
    pub role: &'a str,
    pub flags: u32,
    pub pcm: &'a [u8],
}

/// One slot of a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Slot<'a> {
    /// Its position on the room's time line, in samples.
    pub pos: u64,
    /// What it is.
    pub state: SlotState,
    /// Its samples where it is audio.
    pub pcm: Option<&'a [u8]>,
}

/// Why a payload is no batch. The receiver drops it and counts it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BatchError {
    /// Larger than any batch may be.
    #[error("a batch of {0} bytes is over {BATCH_MAX_BYTES}: send fewer slots in each")]
    TooLarge(usize),
    /// Not a msgpack map with the keys a batch needs, each of its type.
    #[error("the payload is no batch: {0}; send a msgpack map with the keys of version 1")]
    Malformed(String),
    /// A version this library does not read.
    #[error("batch version {0} is not 1: update this program, or send version 1")]
    Version(u64),
    /// A rate or channel count that is not spoken here.
    #[error(
        "{rate} Hz with {ch} channels is no format of a batch: use 8,000 to 48,000 Hz in steps of 50, and 1 or 2 channels"
    )]
    Format {
        /// `rate` of the batch.
        rate: u32,
        /// `ch` of the batch.
        ch: u8,
    },
    /// `n` is outside 1 to 50 or is not what the runs add up to.
    #[error("n is {n} and the runs have {runs} slots: both must agree on 1 to {BATCH_MAX_SLOTS}")]
    Slots {
        /// `n` of the batch.
        n: u64,
        /// The sum of its runs.
        runs: u8,
    },
    /// `pcm` has not the length the audio slots call for.
    #[error("pcm has {got} bytes where its audio slots have {want}: send whole slots of 20 ms")]
    Length {
        /// Bytes in `pcm`.
        got: usize,
        /// Bytes of the audio slots.
        want: usize,
    },
    /// `pcm` was damaged on its way.
    #[error("pcm has CRC-32C {got:08x} where the batch says {want:08x}: ask for it again")]
    Crc {
        /// Of the bytes received.
        got: u32,
        /// As stated in the batch.
        want: u32,
    },
    /// Something beside `pcm` was damaged on its way.
    #[error("its fields have CRC-32C {got:08x} where the batch says {want:08x}: ask for it again")]
    Sum {
        /// Of the fields received.
        got: u32,
        /// As stated in the batch.
        want: u32,
    },
    /// A `user` or `role` beyond its bound.
    #[error("{key} has {bytes} bytes: shorten it to {USER_MAX_BYTES}")]
    Text {
        /// `user` or `role`.
        key: &'static str,
        /// Its length.
        bytes: usize,
    },
    /// A number so large that counting on from it would overflow.
    #[error("{key} is {number}: it must stay below 2^62")]
    Number {
        /// `epoch`, `seq` or `pos`.
        key: &'static str,
        /// Its value.
        number: u64,
    },
}

impl Batch {
    /// Reads a batch. The samples stay in `payload`.
    ///
    /// # Errors
    /// [`BatchError`] names what is wrong.
    pub fn decode(payload: &Bytes) -> Result<Self, BatchError> {
        if payload.len() > BATCH_MAX_BYTES {
            return Err(BatchError::TooLarge(payload.len()));
        }
        if !is_map(payload) {
            return Err(BatchError::Malformed("it is no msgpack map".to_owned()));
        }
        let wire = Wire::decode(payload).map_err(|error| malformed(&error))?;
        let pcm = wire.pcm.unwrap_or_default();
        let runs = checked(&wire, pcm)?;
        Ok(Self {
            epoch: wire.epoch,
            seq: wire.seq,
            pos: wire.pos,
            time: wire.time,
            format: Format { rate: wire.rate, channels: wire.ch },
            runs,
            user: wire.user.unwrap_or_default().to_owned(),
            role: wire.role.unwrap_or_default().to_owned(),
            flags: wire.flags,
            pcm: payload.slice_ref(pcm),
        })
    }

    /// Writes the batch into `out`, which is empty, and splits it off.
    pub fn encode(&self, out: &mut BytesMut) -> Bytes {
        BatchView {
            epoch: self.epoch,
            seq: self.seq,
            pos: self.pos,
            time: self.time,
            format: self.format,
            runs: &self.runs,
            user: &self.user,
            role: &self.role,
            flags: self.flags,
            pcm: &self.pcm,
        }
        .encode(out)
    }

    /// The position after the last slot.
    #[must_use]
    pub fn end(&self) -> u64 {
        self.pos + u64::from(self.runs.slots()) * self.format.slot_samples()
    }

    /// Leaves out the first `slots` slots, fewer than it has.
    pub(super) fn skip(&mut self, slots: u8) {
        if slots == 0 {
            return;
        }
        debug_assert!(slots < self.runs.slots());
        let audio = self.runs.skip(slots);
        self.pos += u64::from(slots) * self.format.slot_samples();
        self.time += (FRAME.as_micros() as i64) * i64::from(slots);
        self.pcm = self.pcm.slice(usize::from(audio) * self.format.slot_bytes()..);
    }

    /// Whether a `FLAG_…` bit is set.
    #[must_use]
    pub fn has(&self, flag: u32) -> bool {
        self.flags & flag != 0
    }

    /// The slots in order, without copying.
    pub fn slots(&self) -> impl Iterator<Item = Slot<'_>> {
        let mut audio = self.pcm.chunks_exact(self.format.slot_bytes());
        let mut pos = self.pos;
        self.runs.iter().flat_map(|run| (0..run.count).map(move |_| run.state)).map(move |state| {
            let at = pos;
            pos += self.format.slot_samples();
            Slot { pos: at, state, pcm: if state.is_audio() { audio.next() } else { None } }
        })
    }
}

impl BatchView<'_> {
    /// Writes the batch into `out`, which is empty, and splits it off.
    ///
    /// The caller sees to what [`Batch`] promises of its fields; `decode`
    /// refuses anything else.
    pub fn encode(&self, out: &mut BytesMut) -> Bytes {
        let pcm = (!self.pcm.is_empty()).then_some(self.pcm);
        let mut wire = Wire {
            v: VERSION,
            flags: self.flags,
            epoch: self.epoch,
            seq: self.seq,
            pos: self.pos,
            time: self.time,
            sum: None,
            rate: self.format.rate,
            ch: self.format.channels,
            n: u64::from(self.runs.slots()),
            runs: (!self.runs.all_audio()).then_some(*self.runs),
            user: (!self.user.is_empty()).then_some(self.user),
            role: (!self.role.is_empty()).then_some(self.role),
            crc: pcm.map(crc32_iscsi),
            pcm,
        };
        wire.sum = Some(wire.sum_of_fields());
        wire.encode(out)
    }
}

/// Holds what was read against the bounds and against itself.
fn checked(wire: &Wire<'_>, pcm: &[u8]) -> Result<Runs, BatchError> {
    if wire.v != VERSION {
        return Err(BatchError::Version(wire.v));
    }
    for (key, number) in [("epoch", wire.epoch), ("seq", wire.seq), ("pos", wire.pos)] {
        if number >= NUMBER_MAX {
            return Err(BatchError::Number { key, number });
        }
    }
    for (key, text) in [("user", wire.user), ("role", wire.role)] {
        let bytes = text.map_or(0, str::len);
        if bytes > USER_MAX_BYTES {
            return Err(BatchError::Text { key, bytes });
        }
    }
    let format = Format { rate: wire.rate, channels: wire.ch };
    if !format.is_valid() {
        return Err(BatchError::Format { rate: wire.rate, ch: wire.ch });
    }
    let runs = match wire.runs {
        Some(runs) => runs,
        None => Runs::of(SlotState::Audio, wire.n.min(BATCH_MAX_SLOTS as u64) as u8),
    };
    if runs.slots() == 0 || u64::from(runs.slots()) != wire.n {
        return Err(BatchError::Slots { n: wire.n, runs: runs.slots() });
    }
    if let Some(want) = wire.sum {
        let got = wire.sum_of_fields();
        if got != want {
            return Err(BatchError::Sum { got, want });
        }
    }
    let want = usize::from(runs.audio_slots()) * format.slot_bytes();
    if pcm.len() != want {
        return Err(BatchError::Length { got: pcm.len(), want });
    }
    if let Some(want) = wire.crc {
        let got = crc32_iscsi(pcm);
        if got != want {
            return Err(BatchError::Crc { got, want });
        }
    }
    Ok(runs)
}

/// The decoder's text, which may quote what it was given, cut short.
fn malformed(error: &rmp_serde::decode::Error) -> BatchError {
    let mut text = error.to_string();
    if let Some((end, _)) = text.char_indices().nth(200) {
        text.truncate(end);
    }
    BatchError::Malformed(text)
}
