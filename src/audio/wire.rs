//! The msgpack map of a batch: its keys, written and read in one place. What
//! the values may be is checked in `batch`.

use std::fmt;

use bytes::{Bytes, BytesMut};
use crc_fast::{CrcAlgorithm, Digest, crc32_iscsi};
use serde::{Deserialize, Deserializer, de};

use super::{
    frame::{FLAG_RESENT, SlotState},
    pack::Packer,
    runs::Runs,
};
use crate::limits::{BATCH_MAX_BYTES, BATCH_MAX_DEPTH, BATCH_MAX_SLOTS};

/// The map, with text and samples borrowed. `flags` stands right behind `v`,
/// so that [`resent`] finds it; `pcm` is last.
#[derive(Deserialize)]
#[cfg_attr(test, derive(serde::Serialize))]
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

/// Keys of the map where none is left out.
const KEYS: u8 = 15;

/// Room for the keys, numbers and runs of a batch, without text and samples: at
/// most 142 bytes, and 5 for each of 50 runs.
pub(super) const HEAD_BYTES: usize = 512;

impl Wire<'_> {
    /// Writes the map into `out`, which is empty, and splits it off.
    ///
    /// By hand: a serializer that knows nothing of what it is given takes three
    /// times the instructions, for every batch of every room.
    pub(super) fn encode(&self, out: &mut BytesMut) -> Bytes {
        let text = self.user.map_or(0, str::len) + self.role.map_or(0, str::len);
        let (head_bytes, pcm) = (HEAD_BYTES + text, self.pcm.unwrap_or_default());
        out.reserve(head_bytes + pcm.len());
        // All but the samples goes into a slice: a buffer that may grow asks at
        // each byte whether it has to.
        out.resize(head_bytes, 0);
        let mut head = Packer::new(out);
        let absent = [
            self.sum.is_none(),
            self.runs.is_none(),
            self.user.is_none(),
            self.role.is_none(),
            self.crc.is_none(),
            self.pcm.is_none(),
        ];
        head.map(KEYS - absent.iter().map(|absent| u8::from(*absent)).sum::<u8>());
        head.key(b"\xa1v").uint(self.v);
        head.key(b"\xa5flags").uint(self.flags.into());
        head.key(b"\xa5epoch").uint(self.epoch);
        head.key(b"\xa3seq").uint(self.seq);
        head.key(b"\xa3pos").uint(self.pos);
        head.key(b"\xa4time").int(self.time);
        if let Some(sum) = self.sum {
            head.key(b"\xa3sum").uint(sum.into());
        }
        head.key(b"\xa4rate").uint(self.rate.into());
        head.key(b"\xa2ch").uint(self.ch.into());
        head.key(b"\xa1n").uint(self.n);
        if let Some(runs) = &self.runs {
            head.key(b"\xa4runs").pairs(runs.raw());
        }
        if let Some(user) = self.user {
            head.key(b"\xa4user").text(user);
        }
        if let Some(role) = self.role {
            head.key(b"\xa4role").text(role);
        }
        if let Some(crc) = self.crc {
            head.key(b"\xa3crc").uint(crc.into());
        }
        if self.pcm.is_some() {
            head.key(b"\xa3pcm").bytes_of(pcm.len());
        }
        let used = head.len();
        out.truncate(used);
        out.extend_from_slice(pcm);
        out.split().freeze()
    }

    /// CRC-32C of all fields but `pcm`, which has its own, and [`FLAG_RESENT`].
    pub(super) fn sum_of_fields(&self) -> u32 {
        let runs = self.runs.as_ref().map_or(&[][..], Runs::raw);
        let mut sum = Sum::default();
        for number in [self.epoch, self.seq, self.pos, self.time as u64] {
            sum.put(number.to_le_bytes());
        }
        sum.put((self.flags & !FLAG_RESENT).to_le_bytes());
        sum.put(self.rate.to_le_bytes());
        sum.put([self.ch, self.n as u8, runs.len() as u8]);
        for (state, count) in runs {
            sum.put([*state, *count]);
        }
        for text in [self.user, self.role] {
            let text = text.unwrap_or_default().as_bytes();
            sum.put((text.len() as u32).to_le_bytes());
            sum.text(text);
        }
        sum.put(self.crc.unwrap_or(0).to_le_bytes());
        sum.end()
    }

    /// Reads a map from a payload whose size was checked.
    pub(super) fn decode(payload: &[u8]) -> Result<Wire<'_>, rmp_serde::decode::Error> {
        debug_assert!(payload.len() <= BATCH_MAX_BYTES);
        let mut deserializer = rmp_serde::Deserializer::from_read_ref(payload);
        deserializer.set_max_depth(BATCH_MAX_DEPTH);
        Wire::deserialize(&mut deserializer)
    }
}

/// A CRC-32C of many small pieces, which are summed in few larger ones.
#[derive(Debug)]
struct Sum {
    /// Of what did not fit any more.
    before: Option<Digest>,
    gathered: [u8; 128],
    len: usize,
}

impl Default for Sum {
    fn default() -> Self {
        Self { before: None, gathered: [0; 128], len: 0 }
    }
}

impl Sum {
    /// A piece of a length that is known, which copies in a few instructions.
    #[inline]
    fn put<const N: usize>(&mut self, bytes: [u8; N]) {
        match self.gathered.get_mut(self.len..self.len + N) {
            Some(place) => {
                place.copy_from_slice(&bytes);
                self.len += N;
            }
            None => self.append(&bytes),
        }
    }

    fn text(&mut self, text: &[u8]) {
        match self.gathered.get_mut(self.len..self.len + text.len()) {
            Some(place) => {
                place.copy_from_slice(text);
                self.len += text.len();
            }
            None => self.append(text),
        }
    }

    fn append(&mut self, bytes: &[u8]) {
        let mut digest = self.before.unwrap_or_else(|| Digest::new(CrcAlgorithm::Crc32Iscsi));
        digest.update(&self.gathered[..self.len]);
        digest.update(bytes);
        (self.before, self.len) = (Some(digest), 0);
    }

    /// The sum of all that was put in.
    fn end(&self) -> u32 {
        let rest = &self.gathered[..self.len];
        let Some(mut digest) = self.before else { return crc32_iscsi(rest) };
        digest.update(rest);
        digest.finalize() as u32
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

#[cfg(test)]
impl serde::Serialize for Runs {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.raw())
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

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, option, prelude::*};

    use super::*;

    /// Numbers of every length that msgpack knows.
    fn number() -> impl Strategy<Value = u64> {
        (0..64_u32, any::<u64>()).prop_map(|(shift, number)| number >> shift)
    }

    fn runs() -> impl Strategy<Value = Runs> {
        vec((0..8_u8, 1..=50_u8), 1..60).prop_map(|all| {
            let mut runs = Runs::default();
            for (state, count) in all {
                runs.push(SlotState::from_wire(state), count);
            }
            runs
        })
    }

    proptest! {
        /// What is written by hand is what a serializer that knows msgpack writes.
        #[test]
        fn a_map_is_what_a_serializer_makes_of_it(
            numbers in vec(number(), 8),
            time in any::<i64>().prop_flat_map(|time| (0..63_u32).prop_map(move |shift| time >> shift)),
            sum in option::of(any::<u32>()),
            crc in option::of(any::<u32>()),
            runs in option::of(runs()),
            user in option::of(prop_oneof![".{0,40}", ".{200,300}", "x{8192}"]),
            role in option::of(".{0,40}"),
            pcm in option::of(prop_oneof![vec(any::<u8>(), 0..300), Just(vec![7; 6_400]), Just(vec![7; 70_000])]),
        ) {
            let wire = Wire {
                v: numbers[0],
                flags: numbers[1] as u32,
                epoch: numbers[2],
                seq: numbers[3],
                pos: numbers[4],
                time,
                sum,
                rate: numbers[5] as u32,
                ch: numbers[6] as u8,
                n: numbers[7],
                runs,
                user: user.as_deref(),
                role: role.as_deref(),
                crc,
                pcm: pcm.as_deref(),
            };
            let mut want = Vec::new();
            let mut serializer = rmp_serde::Serializer::new(&mut want).with_struct_map();
            serde::Serialize::serialize(&wire, &mut serializer).unwrap();
            prop_assert_eq!(&wire.encode(&mut BytesMut::new())[..], &want[..]);
        }

        /// However the pieces fall, the sum is that of all in a row.
        #[test]
        fn a_sum_of_pieces_is_that_of_the_whole(pieces in vec(vec(any::<u8>(), 0..200), 0..20)) {
            let mut sum = Sum::default();
            let mut whole = Vec::new();
            for piece in &pieces {
                sum.text(piece);
                sum.put([1, 2, 3]);
                whole.extend_from_slice(piece);
                whole.extend_from_slice(&[1, 2, 3]);
            }
            prop_assert_eq!(sum.end(), crc32_iscsi(&whole));
        }
    }
}
