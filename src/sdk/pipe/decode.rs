//! Frames out of a stream of bytes that may hold anything.
//!
//! An SDK that prints to stdout must not cost more than the bytes it printed,
//! so the decoder looks for the next plausible header and goes on. It keeps
//! only the part of a frame that the reads so far have brought; whole frames
//! are lent out of the caller's buffer without a copy.

use serde::de::IgnoredAny;

use super::{
    AUDIO_STEP,
    header::{Frame, HEADER_BYTES, Header, Kind, MAGIC, MUST_UNDERSTAND},
    sounds::Sounds,
};
use crate::limits::{PIPE_AUDIO_MAX, PIPE_CONTROL_MAX};

/// What a decoder has seen since it was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counters {
    /// Frames that were whole, also those skipped.
    pub frames: u64,
    /// Bytes that belong to no frame.
    pub garbage_bytes: u64,
    /// How often such bytes began.
    pub garbage_runs: u64,
    /// Frames the sender counted and nobody got: holes in `seq`.
    pub lost: u64,
    /// Frames of an unknown kind that were skipped, as they allow.
    pub unknown: u64,
}

/// Cuts a pipe's bytes into frames.
#[derive(Debug)]
pub struct Decoder {
    /// Whether a kind is expected on this pipe.
    expects: fn(Kind) -> bool,
    /// The start of a frame whose rest is still to come.
    held: Vec<u8>,
    /// What of `held` is done with.
    start: usize,
    /// Whether the last byte looked at ended a frame (or nothing came yet).
    in_step: bool,
    next_seq: Option<u32>,
    counters: Counters,
}

/// What the head of some bytes is.
enum Head {
    /// A frame of this length, header included.
    Frame(Header, usize),
    /// Too early to say: this many bytes are needed.
    Short(usize),
    /// These many bytes are no frame.
    Garbage(usize),
}

impl Decoder {
    /// For what an adapter writes.
    #[must_use]
    pub fn from_adapter() -> Self {
        Self::new(Kind::is_from_adapter)
    }

    /// For what a worker writes.
    #[must_use]
    pub fn to_adapter() -> Self {
        Self::new(Kind::is_to_adapter)
    }

    fn new(expects: fn(Kind) -> bool) -> Self {
        Self {
            expects,
            held: Vec::new(),
            start: 0,
            in_step: true,
            next_seq: None,
            counters: Counters::default(),
        }
    }

    /// The next frame of `input`, which moves on past what was used.
    ///
    /// Call it until it answers `None`: then `input` is empty, and what it
    /// began is kept. Unknown kinds that may be skipped are; an unknown kind
    /// that must be understood comes out, and its `parse` refuses it.
    pub fn next<'s, 'i: 's>(&'s mut self, input: &mut &'i [u8]) -> Option<Frame<'s>> {
        loop {
            let from_held = self.start < self.held.len();
            let bytes = if from_held { &self.held[self.start..] } else { *input };
            match self.head(bytes) {
                Head::Garbage(count) => {
                    self.garbage(count);
                    self.consume(from_held, count, input);
                }
                Head::Short(needed) => {
                    if !self.hold(needed, input) {
                        return None;
                    }
                }
                Head::Frame(header, len) => {
                    let at = self.start;
                    let whole = *input;
                    self.consume(from_held, len, input);
                    if !self.accept(&header) {
                        continue;
                    }
                    let frame = if from_held { &self.held[at..at + len] } else { &whole[..len] };
                    return Some(Frame { header, payload: &frame[HEADER_BYTES..] });
                }
            }
        }
    }

    /// The whole frames at the beginning of `input` that go on where a frame of
    /// sound ended, which came out just before: they differ from it in what was
    /// counted and in their time alone. `input` moves on past them.
    #[inline]
    pub fn sounds<'i>(&mut self, before: &Header, input: &mut &'i [u8]) -> Sounds<'i> {
        // What is held comes first.
        let from = if self.held() > 0 { &[] } else { *input };
        let sounds = Sounds::after(before, from);
        let count = sounds.len();
        *input = &input[sounds.bytes()..];
        self.counters.frames += count as u64;
        if count > 0 {
            self.next_seq = self.next_seq.map(|next| next.wrapping_add(count as u32));
        }
        sounds
    }

    /// The pipe has ended: what is held will never be a frame.
    pub fn end(&mut self) {
        if self.held() > 0 {
            self.garbage(self.held());
        }
        self.held = Vec::new();
        self.start = 0;
    }

    /// What was seen so far.
    #[must_use]
    pub fn counters(&self) -> Counters {
        self.counters
    }

    /// Bytes kept for a frame that is not yet whole.
    #[must_use]
    pub fn held(&self) -> usize {
        self.held.len() - self.start
    }

    fn head(&self, bytes: &[u8]) -> Head {
        let [first, second] = MAGIC.to_le_bytes();
        match bytes {
            [] => return Head::Short(HEADER_BYTES),
            [a] if *a == first => return Head::Short(HEADER_BYTES),
            [a, b, ..] if *a == first && *b == second => (),
            _ => {
                let next = bytes.windows(2).position(|pair| pair == [first, second]);
                let tail = usize::from(bytes.ends_with(&[first]));
                return Head::Garbage(next.unwrap_or(bytes.len() - tail));
            }
        }
        let Some(head) = bytes.first_chunk::<HEADER_BYTES>() else {
            return Head::Short(HEADER_BYTES);
        };
        let plausible = Header::read(head).filter(|header| self.plausible(header));
        let Some(header) = plausible else {
            return Head::Garbage(2);
        };
        let len = HEADER_BYTES + header.length as usize;
        if !self.in_step && !self.confirmed(&header, bytes, len) {
            return Head::Garbage(2);
        }
        if bytes.len() < len { Head::Short(len) } else { Head::Frame(header, len) }
    }

    /// Whether a frame may begin so. While frames follow each other without a
    /// break only the length must be sane; after garbage all must fit.
    fn plausible(&self, header: &Header) -> bool {
        let length = header.length as usize;
        if header.kind == 0 || length > PIPE_CONTROL_MAX {
            return false;
        }
        match Kind::of(header.kind) {
            _ if self.in_step => true,
            Some(Kind::Audio) => {
                length > 0 && length <= PIPE_AUDIO_MAX && length.is_multiple_of(AUDIO_STEP)
            }
            Some(kind) => (self.expects)(kind),
            None => false,
        }
    }

    /// Whether the payload fits, as far as it is here. Magic, version, kind and
    /// length occur by chance, a JSON object after them does not.
    fn confirmed(&self, header: &Header, bytes: &[u8], len: usize) -> bool {
        if header.kind == Kind::Audio as u8 || header.length == 0 || bytes.len() == HEADER_BYTES {
            return true;
        }
        bytes[HEADER_BYTES] == b'{'
            && bytes
                .get(HEADER_BYTES..len)
                .is_none_or(|payload| serde_json::from_slice::<IgnoredAny>(payload).is_ok())
    }

    fn garbage(&mut self, count: usize) {
        self.counters.garbage_runs += u64::from(self.in_step);
        self.counters.garbage_bytes += count as u64;
        self.in_step = false;
    }

    /// Counts a frame; says whether it is for the caller.
    fn accept(&mut self, header: &Header) -> bool {
        self.in_step = true;
        self.counters.frames += 1;
        let ahead = header.seq.wrapping_sub(self.next_seq.unwrap_or(header.seq));
        // A number that runs backwards is a sender that does not count.
        if ahead < u32::MAX / 2 {
            self.counters.lost += u64::from(ahead);
        }
        self.next_seq = Some(header.seq.wrapping_add(1));
        let known = Kind::of(header.kind).is_some_and(self.expects);
        let wanted = known || header.flags & MUST_UNDERSTAND != 0;
        self.counters.unknown += u64::from(!wanted);
        wanted
    }

    fn consume(&mut self, from_held: bool, count: usize, input: &mut &[u8]) {
        if from_held {
            self.start += count;
        } else {
            *input = &input[count..];
        }
    }

    /// Moves bytes from `input` to `held` until it has `needed`. False where
    /// `input` has no more.
    fn hold(&mut self, needed: usize, input: &mut &[u8]) -> bool {
        if self.start == self.held.len() && self.held.capacity() > 2 * PIPE_AUDIO_MAX {
            self.held = Vec::new(); // a large control frame has passed
            self.start = 0;
        } else if self.start * 2 >= self.held.len() {
            // Not sooner, so that garbage full of false headers moves no byte
            // more than twice.
            self.held.drain(..self.start);
            self.start = 0;
        }
        let count = (needed - self.held()).min(input.len());
        self.held.extend_from_slice(&input[..count]);
        *input = &input[count..];
        count > 0
    }
}
