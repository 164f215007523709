//! What is played into the room, as its adapter takes it.

use super::{Room, Stage};
use crate::{
    limits,
    sdk::{
        adapter::Mode,
        pipe::{Audio, HEADER_BYTES, ToAdapter},
    },
};

impl Room {
    /// Whether the adapter wants to be played to now.
    #[must_use]
    pub fn hears(&self) -> bool {
        self.spec.push.is_some() && self.stage == Stage::Joined && self.flowing && !self.deaf
    }

    /// The bytes that play a slot; `None` where it is quiet and needs none.
    pub fn play(&mut self, pcm: Option<&[u8]>) -> Option<Vec<u8>> {
        let pts = self.pushed;
        self.pushed += limits::FRAME.as_micros() as i64;
        match (&self.spec.mode, pcm) {
            (Mode::Raw { .. }, _) => {
                Some(pcm.map_or_else(|| vec![0; limits::FRAME_BYTES], <[u8]>::to_vec))
            }
            (Mode::Framed, None) => None,
            (Mode::Framed, Some(pcm)) => {
                let mut frame = Vec::with_capacity(HEADER_BYTES + pcm.len());
                let audio = ToAdapter::Audio(Audio { stream: 0, pts, pcm });
                // A slot is 20 ms: within every bound of the pipe.
                self.encoder.write(&audio, &mut frame).ok()?;
                Some(frame)
            }
        }
    }

    /// Whether silence too must be written: a raw adapter knows no time.
    #[must_use]
    pub fn is_raw(&self) -> bool {
        self.spec.mode != Mode::Framed
    }
}
