//! Frames of sound in a row: what a read of the pipe mostly is. They are looked
//! at together, since all that is to be known of them is known of the first.

use super::{
    AUDIO_STEP,
    header::{HEADER_BYTES, Header},
    payload::Audio,
};

/// µs of [`AUDIO_STEP`] bytes.
const STEP_US: i64 = crate::limits::FRAME.as_micros() as i64 / 2;

/// Frames of sound that go on where one before them ended: of its stream, as long
/// as it, counted on from it, each captured when the one before it was over.
#[derive(Debug, Clone, Copy)]
pub struct Sounds<'i> {
    /// Whole frames.
    frames: &'i [u8],
    /// Bytes of each, header included.
    stride: usize,
    stream: u16,
    /// When the first was captured, µs on the adapter's media clock.
    pts: i64,
    /// µs of each.
    step: i64,
}

impl<'i> Sounds<'i> {
    /// Those at the beginning of some bytes that follow on a frame of sound.
    #[inline]
    pub(super) fn after(before: &Header, bytes: &'i [u8]) -> Self {
        let length = before.length as usize;
        let step = (length / AUDIO_STEP) as i64 * STEP_US;
        let (pts, stride) = (before.pts.saturating_add(step), HEADER_BYTES + length);
        let mut next = Header { seq: before.seq.wrapping_add(1), pts, ..*before };
        let follows = |frame: &&[u8]| {
            let is_next = frame[..HEADER_BYTES] == next.to_bytes();
            (next.seq, next.pts) = (next.seq.wrapping_add(1), next.pts.saturating_add(step));
            is_next
        };
        let count = bytes.chunks_exact(stride).take_while(follows).count();
        Self { frames: &bytes[..count * stride], stride, stream: before.stream, pts, step }
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.frames.len() / self.stride
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.frames.is_empty()
    }

    /// Bytes of all of them, headers included.
    pub(super) fn bytes(&self) -> usize {
        self.frames.len()
    }

    /// Whose they are.
    #[must_use]
    pub fn stream(&self) -> u16 {
        self.stream
    }

    /// When the last was captured.
    #[must_use]
    pub fn last_pts(&self) -> i64 {
        let others = self.len().saturating_sub(1) as i64;
        self.pts.saturating_add(others.saturating_mul(self.step))
    }

    /// The samples of each.
    pub fn pcm(self) -> impl ExactSizeIterator<Item = &'i [u8]> + Clone {
        self.frames.chunks_exact(self.stride).map(|frame| &frame[HEADER_BYTES..])
    }

    /// Each by itself.
    pub fn each(self) -> impl Iterator<Item = Audio<'i>> {
        let at = move |index: usize| self.pts.saturating_add(index as i64 * self.step);
        let stream = self.stream;
        self.pcm().enumerate().map(move |(index, pcm)| Audio { stream, pts: at(index), pcm })
    }
}
