//! Messages to bytes: the header, the running number, the payload.

use serde::Serialize;

use super::{
    AUDIO_STEP, Audio,
    header::{HEADER_BYTES, Header, Kind},
};
use crate::limits::{PIPE_AUDIO_MAX, PIPE_CONTROL_MAX};

/// Why a message cannot be written.
#[derive(Debug, thiserror::Error)]
pub enum EncodeError {
    /// The payload is beyond what the other side reads.
    #[error("{kind} of {bytes} bytes: at most {max} fit into a frame")]
    TooLong {
        /// The kind of message.
        kind: Kind,
        /// Its payload.
        bytes: usize,
        /// The bound.
        max: usize,
    },
    /// Audio that is no multiple of 10 ms.
    #[error("AUDIO of {0} bytes: send multiples of {AUDIO_STEP} bytes (10 ms)")]
    AudioLength(usize),
    /// The payload has no JSON.
    #[error("no JSON can be made of the message")]
    Json(#[from] serde_json::Error),
}

/// What can be put on the pipe.
pub trait Message {
    /// Writes the frame through `out`.
    ///
    /// # Errors
    /// Where the message breaks a bound of the protocol.
    fn encode(&self, out: &mut Writer<'_>) -> Result<(), EncodeError>;
}

/// Numbers and writes the frames of one side of a pipe.
#[derive(Debug, Default)]
pub struct Encoder {
    seq: u32,
}

impl Encoder {
    /// Appends the frame of `message` to `out`. On an error `out` is as before
    /// and no number is used.
    ///
    /// # Errors
    /// Where the message breaks a bound of the protocol.
    pub fn write(&mut self, message: &impl Message, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        let start = out.len();
        let wrote = message.encode(&mut Writer { seq: self.seq, out: &mut *out });
        match wrote {
            Ok(()) => self.seq = self.seq.wrapping_add(1),
            Err(_) => out.truncate(start),
        }
        wrote
    }
}

/// Where a [`Message`] puts its one frame.
#[derive(Debug)]
pub struct Writer<'a> {
    seq: u32,
    out: &'a mut Vec<u8>,
}

impl Writer<'_> {
    fn header(&mut self, kind: Kind, stream: u16, pts: i64, length: usize) {
        let header = Header {
            kind: kind as u8,
            flags: 0,
            stream,
            seq: self.seq,
            length: length as u32,
            pts,
        };
        self.out.extend_from_slice(&header.to_bytes());
    }

    /// A frame that is all header.
    pub(super) fn bare(&mut self, kind: Kind, stream: u16, pts: i64) -> Result<(), EncodeError> {
        self.header(kind, stream, pts, 0);
        Ok(())
    }

    /// A frame with a JSON payload.
    pub(super) fn json(
        &mut self,
        kind: Kind,
        stream: u16,
        pts: i64,
        payload: &impl Serialize,
    ) -> Result<(), EncodeError> {
        let start = self.out.len();
        self.header(kind, stream, pts, 0);
        serde_json::to_writer(&mut *self.out, payload)?;
        let bytes = self.out.len() - start - HEADER_BYTES;
        if bytes > PIPE_CONTROL_MAX {
            return Err(EncodeError::TooLong { kind, bytes, max: PIPE_CONTROL_MAX });
        }
        self.out[start + 12..start + 16].copy_from_slice(&(bytes as u32).to_le_bytes());
        Ok(())
    }

    /// A frame of samples.
    pub(super) fn audio(&mut self, audio: &Audio<'_>) -> Result<(), EncodeError> {
        let bytes = audio.pcm.len();
        if bytes > PIPE_AUDIO_MAX {
            return Err(EncodeError::TooLong { kind: Kind::Audio, bytes, max: PIPE_AUDIO_MAX });
        }
        if bytes == 0 || !bytes.is_multiple_of(AUDIO_STEP) {
            return Err(EncodeError::AudioLength(bytes));
        }
        self.header(Kind::Audio, audio.stream, audio.pts, bytes);
        self.out.extend_from_slice(audio.pcm);
        Ok(())
    }
}
