//! What a consumer hears of a track: turns batches in order into pieces of
//! sound, with zeros in place of what is no audio where the consumer wants
//! them.

use std::time::Duration;

use bytes::Bytes;

use super::{
    frame::{Format, SlotState},
    reorder::Delivered,
};
use crate::limits::{FILL_MAX, GAP_MAX, SKIP_PAUSE};

/// What takes the place of slots and gaps without audio.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fill {
    /// Zeros, so that the sound is as long as the time line: for files and
    /// whoever counts time in samples.
    Zeros,
    /// Nothing, except for pauses in speech: silence is passed on up to 300 ms
    /// at a stretch.
    Skip,
    /// As [`Fill::Skip`], and a slot of zeros whenever nothing was passed on
    /// for this long on the time line: for recognisers that hang up on quiet.
    KeepAlive(Duration),
}

/// A stretch of one track's sound.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Piece {
    /// Its position on the room's time line, in samples.
    pub pos: u64,
    /// Rate and channels.
    pub format: Format,
    /// What it is; for the zeros of a gap [`SlotState::Lost`].
    pub state: SlotState,
    /// The samples.
    pub sound: Sound,
}

/// s16le samples.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Sound {
    /// As received, not copied.
    Audio(Bytes),
    /// This many bytes of zeros.
    Zeros(usize),
}

impl Sound {
    /// Length in bytes.
    #[must_use]
    pub fn len(&self) -> usize {
        match self {
            Self::Audio(bytes) => bytes.len(),
            Self::Zeros(bytes) => *bytes,
        }
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Writes the samples.
    ///
    /// # Errors
    /// Those of the writer.
    pub fn write_to(&self, out: &mut impl std::io::Write) -> std::io::Result<()> {
        match self {
            Self::Audio(bytes) => out.write_all(bytes),
            Self::Zeros(bytes) => {
                let mut left = *bytes;
                while left > 0 {
                    let part = left.min(ZEROS.len());
                    out.write_all(&ZEROS[..part])?;
                    left -= part;
                }
                Ok(())
            }
        }
    }
}

static ZEROS: [u8; 8192] = [0; 8192];

/// See the module. Gaps need not be handed in: the position of the batch
/// behind one says how long it is.
#[derive(Debug)]
pub struct Filler {
    fill: Fill,
    /// Position up to which everything was passed on or left out.
    end: Option<u64>,
    /// Position after the last piece passed on.
    heard: u64,
    /// Silence in a row that was passed on, in samples.
    silence: u64,
    /// Samples that could not be filled: jumps backwards and beyond the bound.
    discontinuities: u64,
}

impl Filler {
    /// A consumer that has heard nothing yet.
    #[must_use]
    pub fn new(fill: Fill) -> Self {
        Self { fill, end: None, heard: 0, silence: 0, discontinuities: 0 }
    }

    /// Appends the pieces a batch adds.
    pub fn push(&mut self, delivered: &Delivered, out: &mut Vec<Piece>) {
        let batch = &delivered.batch;
        let format = batch.format;
        self.join(batch.pos, format, out);
        let mut pos = batch.pos;
        let mut at = 0;
        for run in batch.runs.iter() {
            let samples = u64::from(run.count) * format.slot_samples();
            let bytes = usize::from(run.count) * format.slot_bytes();
            let sound = if run.state.is_audio() {
                at += bytes;
                Sound::Audio(batch.pcm.slice(at - bytes..at))
            } else {
                Sound::Zeros(bytes)
            };
            self.add(Piece { pos, format, state: run.state, sound }, out);
            pos += samples;
        }
    }

    /// Positions that jumped too far, or backwards, to be filled.
    #[must_use]
    pub fn discontinuities(&self) -> u64 {
        self.discontinuities
    }

    /// Fills what is missing before a batch, or moves to it.
    fn join(&mut self, pos: u64, format: Format, out: &mut Vec<Piece>) {
        let end = *self.end.get_or_insert_with(|| {
            self.heard = pos;
            pos
        });
        if pos > end && pos - end <= format.samples(FILL_MAX) {
            let sound = Sound::Zeros((pos - end) as usize * format.sample_bytes());
            self.add(Piece { pos: end, format, state: SlotState::Lost, sound }, out);
        } else if pos > end || end - pos > format.samples(GAP_MAX) {
            self.discontinuities += 1;
            self.end = Some(pos);
            self.heard = pos;
        }
        // A batch that overlaps what was passed on is cut in `add`.
    }

    /// Passes on a piece, without what lies before the end.
    fn add(&mut self, mut piece: Piece, out: &mut Vec<Piece>) {
        let bytes = piece.format.sample_bytes();
        let samples = (piece.sound.len() / bytes) as u64;
        let end = self.end.unwrap_or(piece.pos);
        let overlap = end.saturating_sub(piece.pos).min(samples);
        if overlap == samples {
            return;
        }
        let cut = overlap as usize * bytes;
        piece.pos += overlap;
        match &mut piece.sound {
            Sound::Audio(pcm) => *pcm = pcm.slice(cut..),
            Sound::Zeros(len) => *len -= cut,
        }
        self.end = Some(piece.pos + samples - overlap);
        if self.fill == Fill::Zeros || piece.state.is_audio() {
            self.silence = 0;
            self.pass(piece, out);
        } else {
            self.skip(piece, out);
        }
    }

    /// Leaves a piece without audio out, but for what a pause or a recogniser
    /// that must be kept awake needs.
    fn skip(&mut self, mut piece: Piece, out: &mut Vec<Piece>) {
        let bytes = piece.format.sample_bytes();
        let samples = (piece.sound.len() / bytes) as u64;
        let (start, end) = (piece.pos, piece.pos + samples);
        let mut done = start;
        if piece.state == SlotState::Silence {
            let pause = piece.format.samples(SKIP_PAUSE).saturating_sub(self.silence).min(samples);
            self.silence += pause;
            if pause > 0 {
                done += pause;
                piece.sound = Sound::Zeros(pause as usize * bytes);
                self.pass(piece.clone(), out);
            }
        } else {
            self.silence = 0;
        }
        let Fill::KeepAlive(every) = self.fill else { return };
        let slot = piece.format.slot_samples();
        let every = piece.format.samples(every.min(FILL_MAX)).max(slot);
        // One slot of zeros at the end of each interval, within this piece.
        loop {
            let at = (self.heard + every - slot).max(done);
            if at + slot > end {
                return;
            }
            piece.pos = at;
            piece.sound = Sound::Zeros(piece.format.slot_bytes());
            self.pass(piece.clone(), out);
            done = at + slot;
        }
    }

    fn pass(&mut self, piece: Piece, out: &mut Vec<Piece>) {
        self.heard = piece.pos + (piece.sound.len() / piece.format.sample_bytes()) as u64;
        out.push(piece);
    }
}
