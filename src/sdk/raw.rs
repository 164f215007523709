//! Raw mode, as values: an endless stream of s16le samples cut into frames.
//!
//! Who reads the stream and where a frame belongs on the time line is decided
//! elsewhere.

use crate::limits::FRAME_BYTES;

/// Cuts a stream into frames of [`FRAME_BYTES`], and keeps what is over for
/// the next piece. A sample cut in two by a read is joined again.
#[derive(Debug)]
pub struct RawCutter {
    rest: [u8; FRAME_BYTES],
    held: usize,
}

impl Default for RawCutter {
    fn default() -> Self {
        Self { rest: [0; FRAME_BYTES], held: 0 }
    }
}

impl RawCutter {
    /// Takes a piece of the stream and hands out every frame it completes.
    /// Nothing is copied but the frame that lies across two pieces.
    pub fn push(&mut self, mut piece: &[u8], mut frame: impl FnMut(&[u8; FRAME_BYTES])) {
        if self.held > 0 {
            let taken = piece.len().min(FRAME_BYTES - self.held);
            let (head, tail) = piece.split_at(taken);
            self.rest[self.held..self.held + taken].copy_from_slice(head);
            self.held += taken;
            piece = tail;
            if self.held < FRAME_BYTES {
                return;
            }
            frame(&self.rest);
            self.held = 0;
        }
        let (frames, rest) = piece.as_chunks::<FRAME_BYTES>();
        frames.iter().for_each(frame);
        self.rest[..rest.len()].copy_from_slice(rest);
        self.held = rest.len();
    }

    /// Bytes that wait for the rest of their frame.
    #[must_use]
    pub fn held(&self) -> usize {
        self.held
    }

    /// The end of the stream: the last frame filled up with silence, where a
    /// part of one was held.
    pub fn finish(&mut self) -> Option<[u8; FRAME_BYTES]> {
        // Half a sample at the very end is not audible, and noise if kept.
        let whole = std::mem::take(&mut self.held) / 2 * 2;
        self.rest[whole..].fill(0);
        (whole > 0).then_some(self.rest)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn however_the_stream_is_cut_the_frames_are_the_same(
            stream in proptest::collection::vec(any::<u8>(), 0..4_000),
            cuts in proptest::collection::vec(0usize..700, 1..40),
        ) {
            let mut cutter = RawCutter::default();
            let mut joined = Vec::new();
            let mut rest = stream.as_slice();
            for &cut in cuts.iter().cycle() {
                if rest.is_empty() { break }
                let (piece, after) = rest.split_at(cut.max(1).min(rest.len()));
                cutter.push(piece, |frame| joined.extend_from_slice(frame));
                rest = after;
            }
            prop_assert_eq!(joined.len() + cutter.held(), stream.len());
            prop_assert_eq!(&joined[..], &stream[..joined.len()]);
            let whole = stream.len() / 2 * 2;
            joined.extend(cutter.finish().into_iter().flatten());
            prop_assert_eq!(&joined[..whole], &stream[..whole]);
            prop_assert!(joined[whole..].iter().all(|&byte| byte == 0));
            prop_assert_eq!(joined.len() % FRAME_BYTES, 0);
        }
    }
}
