//! What the frames carry, and why a frame is refused.

use std::fmt;

use serde::{Deserialize, Serialize, de::DeserializeOwned};

use super::{
    AUDIO_STEP,
    header::{Frame, Header, Kind},
};
use crate::{
    id::{RoomId, TaskId, WorkerId},
    limits::{PIPE_AUDIO_MAX, REASON_MAX_BYTES, TASK_MAX_STRING, TRACKS_MAX, USER_MAX_BYTES},
    task::Params,
};

/// A whole frame that is no message.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The frame breaks the protocol; the ones after it may be fine.
    #[error("{kind} (frame {seq}): {why}")]
    Malformed {
        /// What it claims to be.
        kind: String,
        /// Its running number.
        seq: u32,
        /// What is wrong with it.
        why: String,
    },
    /// An unknown kind that its sender forbids to skip: the two cannot work
    /// together.
    #[error("kind {kind} (frame {seq}) must be understood and is not known to protocol 1")]
    NotUnderstood {
        /// The number of the kind.
        kind: u8,
        /// Its running number.
        seq: u32,
    },
}

impl Refusal {
    pub(super) fn malformed(header: &Header, why: impl Into<String>) -> Self {
        Self::Malformed { kind: header.kind_name(), seq: header.seq, why: why.into() }
    }

    /// Of a kind this side does not take.
    pub(super) fn unexpected(header: &Header) -> Self {
        if header.flags & super::MUST_UNDERSTAND != 0 {
            return Self::NotUnderstood { kind: header.kind, seq: header.seq };
        }
        Self::malformed(header, "is not sent in this direction")
    }
}

/// Samples of a stream.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Audio<'a> {
    /// The track; 0 for what is pushed into the room.
    pub stream: u16,
    /// Capture time of the first sample on the adapter's media clock in µs.
    pub pts: i64,
    /// s16le samples, mono, 16 kHz: a multiple of 10 ms.
    pub pcm: &'a [u8],
}

/// Whether so many bytes are samples that one frame may have.
const fn is_sound(bytes: usize) -> bool {
    bytes > 0 && bytes <= PIPE_AUDIO_MAX && bytes.is_multiple_of(AUDIO_STEP)
}

impl fmt::Debug for Audio<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { stream, pts, pcm } = self;
        write!(f, "Audio {{ stream: {stream}, pts: {pts}, pcm: {} bytes }}", pcm.len())
    }
}

/// Who the adapter is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello {
    /// The protocol it speaks; see [`super::PROTOCOL`].
    pub protocol: u32,
    /// Its name, for logs.
    pub name: String,
    /// Its version, for logs.
    #[serde(default)]
    pub version: String,
    /// What its media clock counts from, where it knows before it joins.
    #[serde(default, skip_serializing_if = "MediaClock::is_own")]
    pub clock: MediaClock,
}

/// What an adapter's media clock counts from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum MediaClock {
    /// The Unix epoch: two adapters in one room have the same time for the same
    /// sound.
    Unix,
    /// Something of its own, as does a clock of which we know nothing.
    #[default]
    #[serde(other)]
    Own,
}

impl MediaClock {
    /// Whether its time means nothing outside its process.
    #[must_use]
    pub fn is_own(&self) -> bool {
        *self == Self::Own
    }
}

/// Who the worker is and what audio it wants.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Welcome {
    /// The protocol it speaks; see [`super::PROTOCOL`].
    pub protocol: u32,
    /// Its id.
    pub worker: WorkerId,
    /// Sample rate of all audio on the pipe in Hz.
    pub rate: u32,
    /// Channels of all audio on the pipe.
    pub channels: u16,
}

/// The room to join.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Join {
    /// The room.
    pub room: RoomId,
    /// The task that asks for it.
    pub task: TaskId,
    /// What the task hands to the SDK.
    #[serde(default)]
    pub params: Params,
    /// Whether audio is taken from the room.
    pub pull: bool,
    /// Whether audio will be played into the room.
    pub push: bool,
}

/// Somebody in the room.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Participant {
    /// The SDK's id; any string.
    pub user: String,
    /// The name people see.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// The role, where the SDK knows roles.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub role: Option<String>,
}

/// Whose audio a stream is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Track {
    /// The participant's id in the SDK; any string.
    pub user: String,
    /// The participant's role.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub role: Option<String>,
}

/// Figures of an adapter since it joined.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Stats {
    /// Samples of the room that the adapter had to throw away.
    pub dropped: u64,
    /// Pushed samples that it holds and has not played.
    pub queued: u64,
    /// Round trip to the SDK's servers in ms.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rtt_ms: Option<f64>,
    /// Share of packets the SDK lost on its way here, 0 to 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub loss: Option<f64>,
}

impl<'a> Frame<'a> {
    /// The JSON payload; none at all is an empty object.
    pub(super) fn json<T: DeserializeOwned>(&self) -> Result<T, Refusal> {
        let payload = if self.payload.is_empty() { b"{}" } else { self.payload };
        serde_json::from_slice(payload).map_err(|e| Refusal::malformed(&self.header, e.to_string()))
    }

    /// The stream of a frame that is about a track of the room.
    pub(super) fn track(&self) -> Result<u16, Refusal> {
        match self.header.stream {
            0 => Err(Refusal::malformed(&self.header, "stream 0 is no track: number them from 1")),
            stream if usize::from(stream) > TRACKS_MAX => Err(Refusal::malformed(
                &self.header,
                format!("stream {stream}: at most {TRACKS_MAX}; use closed numbers again"),
            )),
            stream => Ok(stream),
        }
    }

    /// The samples of a track where that is all there is to the frame: what comes
    /// fifty times a second has no message made of it.
    #[inline]
    #[must_use]
    pub fn sound(&self) -> Option<Audio<'a>> {
        let Header { kind, stream, pts, .. } = self.header;
        let fits = kind == Kind::Audio as u8
            && (1..=TRACKS_MAX).contains(&usize::from(stream))
            && is_sound(self.payload.len());
        fits.then_some(Audio { stream, pts, pcm: self.payload })
    }

    /// The samples, of whatever stream.
    pub(super) fn audio(&self) -> Result<Audio<'a>, Refusal> {
        let pcm = self.payload;
        if !is_sound(pcm.len()) {
            return Err(Refusal::malformed(
                &self.header,
                format!(
                    "{} bytes of audio: send multiples of {AUDIO_STEP} bytes (10 ms), \
                     at most {PIPE_AUDIO_MAX}",
                    pcm.len()
                ),
            ));
        }
        Ok(Audio { stream: self.header.stream, pts: self.header.pts, pcm })
    }

    /// Refuses a name that is too long to be carried on.
    pub(super) fn bounded(&self, what: &str, text: Option<&str>) -> Result<(), Refusal> {
        self.at_most(what, text, USER_MAX_BYTES)
    }

    /// Refuses a mark whose name is too long.
    pub(super) fn bounded_mark(&self, name: &str) -> Result<(), Refusal> {
        self.at_most("name", Some(name), TASK_MAX_STRING)
    }

    fn at_most(&self, what: &str, text: Option<&str>, max: usize) -> Result<(), Refusal> {
        match text.map_or(0, str::len) {
            len if len > max => Err(Refusal::malformed(
                &self.header,
                format!("{what} of {len} bytes: at most {max}"),
            )),
            _ => Ok(()),
        }
    }
}

/// Cuts a text for people to what an event carries.
pub(super) fn cut(mut text: String) -> String {
    text.truncate(text.floor_char_boundary(REASON_MAX_BYTES));
    text
}
