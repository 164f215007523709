//! What a worker tells its adapter.

use std::fmt;

use serde::Deserialize;
use serde_json::json;

use super::{
    encode::{EncodeError, Message, Writer},
    header::{Frame, Kind},
    payload::{Audio, Join, Refusal, Welcome, cut},
};

/// A message to an adapter.
#[derive(Clone, PartialEq)]
pub enum ToAdapter<'a> {
    /// The answer to HELLO.
    Welcome(Welcome),
    /// Join this room.
    Join(Join),
    /// Start or stop the audio of a track.
    Subscribe {
        /// The track.
        stream: u16,
        /// True: start.
        on: bool,
    },
    /// Samples to play into the room, on stream 0. `pts` counts µs of what was
    /// pushed, from 0.
    Audio(Audio<'a>),
    /// Say when playback has come to this place.
    Mark {
        /// What to say.
        name: String,
    },
    /// Forget what was not played yet.
    Clear,
    /// Hold playback.
    Pause,
    /// Go on with playback.
    Resume,
    /// Loudness of what is played.
    Gain {
        /// 0 is as it comes.
        db: f32,
    },
    /// Asks for STATS.
    Ping,
    /// A fresh token for the SDK, before the old one runs out.
    Token {
        /// Never shown.
        token: String,
    },
    /// Leave the room and exit.
    Leave {
        /// Why, for the log.
        reason: String,
    },
}

/// By hand, since a token must not reach a log.
impl fmt::Debug for ToAdapter<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Welcome(welcome) => welcome.fmt(f),
            Self::Join(join) => join.fmt(f),
            Self::Subscribe { stream, on } => write!(f, "Subscribe {{ {stream}, {on} }}"),
            Self::Audio(audio) => audio.fmt(f),
            Self::Mark { name } => write!(f, "Mark {{ {name:?} }}"),
            Self::Clear => f.write_str("Clear"),
            Self::Pause => f.write_str("Pause"),
            Self::Resume => f.write_str("Resume"),
            Self::Gain { db } => write!(f, "Gain {{ {db} }}"),
            Self::Ping => f.write_str("Ping"),
            Self::Token { .. } => f.write_str("Token"),
            Self::Leave { reason } => write!(f, "Leave {{ {reason:?} }}"),
        }
    }
}

#[derive(Deserialize)]
struct On {
    on: bool,
}
#[derive(Deserialize)]
struct Name {
    name: String,
}
#[derive(Deserialize)]
struct Gain {
    db: f32,
}
#[derive(Deserialize)]
struct Token {
    token: String,
}
#[derive(Deserialize)]
struct Leave {
    #[serde(default)]
    reason: String,
}

impl<'a> ToAdapter<'a> {
    /// Reads the message of a frame.
    ///
    /// # Errors
    /// [`Refusal`] where it breaks the protocol.
    pub fn parse(frame: Frame<'a>) -> Result<Self, Refusal> {
        let Some(kind) = Kind::of(frame.header.kind) else {
            return Err(Refusal::unexpected(&frame.header));
        };
        Ok(match kind {
            Kind::Audio => match frame.audio()? {
                audio @ Audio { stream: 0, .. } => Self::Audio(audio),
                _ => return Err(Refusal::malformed(&frame.header, "is played on stream 0")),
            },
            Kind::Welcome => Self::Welcome(frame.json()?),
            Kind::Join => Self::Join(frame.json()?),
            Kind::Subscribe => {
                let On { on } = frame.json()?;
                Self::Subscribe { stream: frame.track()?, on }
            }
            Kind::Mark => {
                let Name { name } = frame.json()?;
                frame.bounded_mark(&name)?;
                Self::Mark { name }
            }
            Kind::Clear => Self::Clear,
            Kind::Pause => Self::Pause,
            Kind::Resume => Self::Resume,
            Kind::Gain => {
                let Gain { db } = frame.json()?;
                if !db.is_finite() {
                    return Err(Refusal::malformed(&frame.header, "db is no number"));
                }
                Self::Gain { db }
            }
            Kind::Ping => Self::Ping,
            Kind::Token => {
                let Token { token } = frame.json()?;
                Self::Token { token }
            }
            Kind::Leave => {
                let Leave { reason } = frame.json()?;
                Self::Leave { reason: cut(reason) }
            }
            _ => return Err(Refusal::unexpected(&frame.header)),
        })
    }
}

impl Message for ToAdapter<'_> {
    fn encode(&self, out: &mut Writer<'_>) -> Result<(), EncodeError> {
        match self {
            Self::Audio(audio) => out.audio(audio),
            Self::Welcome(welcome) => out.json(Kind::Welcome, 0, 0, welcome),
            Self::Join(join) => out.json(Kind::Join, 0, 0, join),
            Self::Subscribe { stream, on } => {
                out.json(Kind::Subscribe, *stream, 0, &json!({"on": on}))
            }
            Self::Mark { name } => out.json(Kind::Mark, 0, 0, &json!({"name": name})),
            Self::Clear => out.bare(Kind::Clear, 0, 0),
            Self::Pause => out.bare(Kind::Pause, 0, 0),
            Self::Resume => out.bare(Kind::Resume, 0, 0),
            Self::Gain { db } => out.json(Kind::Gain, 0, 0, &json!({"db": db})),
            Self::Ping => out.bare(Kind::Ping, 0, 0),
            Self::Token { token } => out.json(Kind::Token, 0, 0, &json!({"token": token})),
            Self::Leave { reason } => out.json(Kind::Leave, 0, 0, &json!({"reason": reason})),
        }
    }
}
