//! What is played into the room, as its adapter takes it.

use super::{Room, Stage};
use crate::{
    limits,
    sdk::{
        adapter::Mode,
        pipe::{Audio, ToAdapter},
    },
};

impl Room {
    /// Whether the adapter wants to be played to now.
    #[must_use]
    pub fn hears(&self) -> bool {
        self.spec.push.is_some() && self.stage == Stage::Joined && self.flowing && !self.deaf
    }

    /// Writes the bytes that play a slot; false where it is quiet and needs none.
    pub fn play(&mut self, pcm: Option<&[u8]>, frame: &mut Vec<u8>) -> bool {
        frame.clear();
        let pts = self.pushed;
        self.pushed += limits::FRAME.as_micros() as i64;
        match (&self.spec.mode, pcm) {
            (Mode::Raw { .. }, Some(pcm)) => frame.extend_from_slice(pcm),
            (Mode::Raw { .. }, None) => frame.resize(limits::FRAME_BYTES, 0),
            (Mode::Framed, None) => return false,
            (Mode::Framed, Some(pcm)) => {
                let audio = ToAdapter::Audio(Audio { stream: 0, pts, pcm });
                // A slot is 20 ms: within every bound of the pipe.
                return self.encoder.write(&audio, frame).is_ok();
            }
        }
        true
    }

    /// Whether silence too must be written: a raw adapter knows no time.
    #[must_use]
    pub fn is_raw(&self) -> bool {
        self.spec.mode != Mode::Framed
    }
}
