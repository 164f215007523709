//! The msgpack map of a batch: its keys, written and read in one place. What
//! the values may be is checked in `batch`.

use std::fmt;

use bytes::{BufMut, Bytes, BytesMut};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de, ser::SerializeSeq};

use super::{
    frame::{FLAG_RESENT, SlotState},
    runs::Runs,
};
use crate::limits::{BATCH_MAX_BYTES, BATCH_MAX_DEPTH, BATCH_MAX_RUNS, BATCH_MAX_SLOTS};

/// The map, with text and samples borrowed. `flags` stands right behind `v`,
/// so that [`resent`] finds it; `pcm` is last.
#[derive(Serialize, Deserialize)]
pub(super) struct Wire<'a> {
    pub(super) v: u64,
    #[serde(default)]
    pub(super) flags: u32,
    pub(super) epoch: u64,
    pub(super) seq: u64,
    pub(super) pos: u64,
    pub(super) time: i64,
    /// Stands where a few damaged bytes cannot make a wrong batch of it by
    /// taking it out: `time` is for information, and `rate` must be there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) sum: Option<u32>,
    pub(super) rate: u32,
    pub(super) ch: u8,
    pub(super) n: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) runs: Option<Runs>,
    #[serde(default, borrow, skip_serializing_if = "Option::is_none")]
    pub(super) user: Option<&'a str>,
    #[serde(default, borrow, skip_serializing_if = "Option::is_none")]
    pub(super) role: Option<&'a str>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) crc: Option<u32>,
    #[serde(default, borrow, with = "serde_bytes", skip_serializing_if = "Option::is_none")]
    pub(super) pcm: Option<&'a [u8]>,
}

/// Room for the keys, numbers and runs of a batch, without text and samples: at
/// most 142 bytes, and 5 for each of 50 runs.
pub(super) const HEAD_BYTES: usize = 512;

impl Wire<'_> {
    /// Writes the map into `out`, which is empty, and splits it off.
    pub(super) fn encode(&self, out: &mut BytesMut) -> Bytes {
        const PCM: &[u8] = b"\xa3pcm";
        let text = self.user.map_or(0, str::len) + self.role.map_or(0, str::len);
        let (head_bytes, pcm) = (HEAD_BYTES + text, self.pcm.unwrap_or_default());
        out.reserve(head_bytes + pcm.len());
        // All but the samples goes into a slice: a buffer that may grow asks at
        // each byte whether it has to.
        out.resize(head_bytes, 0);
        let mut rest = &mut out[..];
        let mut serializer = rmp_serde::Serializer::new(&mut rest).with_struct_map();
        let head = Wire { pcm: None, ..*self };
        head.serialize(&mut serializer)
            .expect("the keys, numbers and texts fit into what was kept");
        let unused = rest.len();
        out.truncate(head_bytes - unused);
        if self.pcm.is_some() {
            // A map of up to 15 keys says how many in its first byte, and there
            // are as many.
            out[0] += 1;
            out.extend_from_slice(PCM);
            let mut writer = (&mut *out).writer();
            rmp_serde::Serializer::new(&mut writer)
                .serialize_bytes(pcm)
                .expect("a buffer in memory takes every write");
        }
        out.split().freeze()
    }

    /// CRC-32C of all fields but `pcm`, which has its own, and [`FLAG_RESENT`].
    pub(super) fn sum_of_fields(&self) -> u32 {
        let runs = self.runs.as_ref().map_or(&[][..], Runs::raw);
        let mut head = [0; 4 * 8 + 2 * 4 + 3 + 2 * BATCH_MAX_RUNS];
        let mut at = 0;
        let mut put = |bytes: &[u8]| {
            head[at..at + bytes.len()].copy_from_slice(bytes);
            at += bytes.len();
        };
        for number in [self.epoch, self.seq, self.pos, self.time as u64] {
            put(&number.to_le_bytes());
        }
        put(&(self.flags & !FLAG_RESENT).to_le_bytes());
        put(&self.rate.to_le_bytes());
        put(&[self.ch, self.n as u8, runs.len() as u8]);
        for (state, count) in runs {
            put(&[*state, *count]);
        }
        let mut sum = crc32c::crc32c(&head[..at]);
        for text in [self.user, self.role] {
            let text = text.unwrap_or_default().as_bytes();
            sum = crc32c::crc32c_append(sum, &(text.len() as u32).to_le_bytes());
            sum = crc32c::crc32c_append(sum, text);
        }
        crc32c::crc32c_append(sum, &self.crc.unwrap_or(0).to_le_bytes())
    }

    /// Reads a map from a payload whose size was checked.
    pub(super) fn decode(payload: &[u8]) -> Result<Wire<'_>, rmp_serde::decode::Error> {
        debug_assert!(payload.len() <= BATCH_MAX_BYTES);
        let mut deserializer = rmp_serde::Deserializer::from_read_ref(payload);
        deserializer.set_max_depth(BATCH_MAX_DEPTH);
        Wire::deserialize(&mut deserializer)
    }
}

/// Whether the payload begins as a msgpack map does.
pub(super) fn is_map(payload: &[u8]) -> bool {
    matches!(payload.first(), Some(0x80..=0x8f | 0xde | 0xdf))
}

/// Copies an encoded batch into `out`, which is empty, with [`FLAG_RESENT`] set
/// and nothing else changed, and splits it off. `None` where the payload was
/// not written by this library.
#[must_use]
pub fn resent(payload: &[u8], out: &mut BytesMut) -> Option<Bytes> {
    // one byte of map header, `v` and 1, then `flags` and one small number
    const HEAD: &[u8] = b"\xa1v\x01\xa5flags";
    let at = 1 + HEAD.len();
    if payload.get(1..at)? != HEAD || *payload.get(at)? > 0x7f {
        return None;
    }
    out.extend_from_slice(payload);
    out[at] |= FLAG_RESENT as u8;
    Some(out.split().freeze())
}

impl Serialize for Runs {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut seq = serializer.serialize_seq(Some(self.raw().len()))?;
        for run in self.raw() {
            seq.serialize_element(run)?;
        }
        seq.end()
    }
}

impl<'de> Deserialize<'de> for Runs {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl<'de> de::Visitor<'de> for Visitor {
            type Value = Runs;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "runs of [state, count] with 1 to {BATCH_MAX_SLOTS} slots in all")
            }

            fn visit_seq<A: de::SeqAccess<'de>>(self, mut seq: A) -> Result<Runs, A::Error> {
                let mut runs = Runs::default();
                while let Some((state, count)) = seq.next_element::<(u8, u8)>()? {
                    if count == 0 || runs.push(SlotState::from_wire(state), count) != count {
                        return Err(de::Error::custom(
                            "runs must each have a slot and 50 slots at most in all",
                        ));
                    }
                }
                Ok(runs)
            }
        }
        deserializer.deserialize_seq(Visitor)
    }
}
