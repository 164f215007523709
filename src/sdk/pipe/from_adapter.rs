//! What an adapter tells its worker.

use serde::{Deserialize, Serialize};
use serde_json::json;

use super::{
    encode::{EncodeError, Message, Writer},
    header::{Frame, Kind},
    payload::{Audio, Hello, MediaClock, Participant, Refusal, Stats, Track, cut},
};

/// A message from an adapter. `pts` is µs on its media clock.
#[derive(Debug, Clone, PartialEq)]
pub enum FromAdapter<'a> {
    /// It runs and speaks this protocol.
    Hello(Hello),
    /// It is in the room.
    Joined {
        /// Its media clock at this moment.
        now: i64,
        /// What that counts from, where HELLO did not say it.
        clock: MediaClock,
    },
    /// Somebody came.
    ParticipantJoined(Participant),
    /// Somebody left.
    ParticipantLeft {
        /// The SDK's id.
        user: String,
    },
    /// Audio can be subscribed.
    TrackOpened {
        /// The number this track has from now on.
        stream: u16,
        /// When.
        pts: i64,
        /// Whose it is.
        track: Track,
    },
    /// A track has ended; its number is free again.
    TrackClosed {
        /// The track.
        stream: u16,
        /// When.
        pts: i64,
    },
    /// From here on the participant is muted.
    Muted {
        /// The track.
        stream: u16,
        /// When.
        pts: i64,
    },
    /// From here on no longer.
    Unmuted {
        /// The track.
        stream: u16,
        /// When.
        pts: i64,
    },
    /// Samples of a track.
    Audio(Audio<'a>),
    /// There is no audio between what came before and `pts`.
    Idle {
        /// The track.
        stream: u16,
        /// Where silence has reached.
        pts: i64,
    },
    /// There was audio here, which the SDK or the adapter has lost.
    Lost {
        /// The track.
        stream: u16,
        /// Its begin.
        from: i64,
        /// Its end.
        to: i64,
    },
    /// How far playback of pushed audio has come.
    Played {
        /// Samples since the adapter joined.
        samples: u64,
        /// When that was true.
        pts: i64,
    },
    /// Playback is past a mark.
    MarkReached {
        /// The mark.
        name: String,
        /// It was not played but cleared.
        cleared: bool,
    },
    /// Whether more pushed audio is welcome.
    Flow {
        /// True: send on.
        go: bool,
    },
    /// The answer to a ping.
    Stats {
        /// Its media clock at this moment.
        now: i64,
        /// The figures.
        stats: Stats,
    },
    /// Something went wrong.
    Error {
        /// What, and what would mend it.
        message: String,
        /// The room is lost; the adapter exits.
        fatal: bool,
    },
    /// The last message.
    Bye {
        /// Why it leaves.
        reason: String,
    },
}

#[derive(Serialize, Deserialize)]
struct Inside {
    #[serde(default)]
    clock: MediaClock,
}
#[derive(Serialize, Deserialize)]
struct Left {
    user: String,
}
#[derive(Serialize, Deserialize)]
struct To {
    to: i64,
}
#[derive(Serialize, Deserialize)]
struct Played {
    samples: u64,
}
#[derive(Deserialize)]
struct Reached {
    name: String,
    #[serde(default)]
    cleared: bool,
}
#[derive(Serialize, Deserialize)]
struct Flow {
    go: bool,
}
#[derive(Serialize, Deserialize)]
struct Wrong {
    message: String,
    #[serde(default)]
    fatal: bool,
}
#[derive(Serialize, Deserialize)]
struct Bye {
    #[serde(default)]
    reason: String,
}

impl<'a> FromAdapter<'a> {
    /// Reads the message of a frame.
    ///
    /// # Errors
    /// [`Refusal`] where it breaks the protocol.
    pub fn parse(frame: Frame<'a>) -> Result<Self, Refusal> {
        let pts = frame.header.pts;
        let Some(kind) = Kind::of(frame.header.kind) else {
            return Err(Refusal::unexpected(&frame.header));
        };
        Ok(match kind {
            Kind::Audio => {
                frame.track()?;
                Self::Audio(frame.audio()?)
            }
            Kind::Idle => Self::Idle { stream: frame.track()?, pts },
            Kind::Lost => {
                let To { to } = frame.json()?;
                if to < pts {
                    return Err(Refusal::malformed(&frame.header, "ends before it begins"));
                }
                Self::Lost { stream: frame.track()?, from: pts, to }
            }
            Kind::Muted => Self::Muted { stream: frame.track()?, pts },
            Kind::Unmuted => Self::Unmuted { stream: frame.track()?, pts },
            Kind::Played => {
                let Played { samples } = frame.json()?;
                Self::Played { samples, pts }
            }
            Kind::Hello => {
                let hello: Hello = frame.json()?;
                frame.bounded("name", Some(&hello.name))?;
                frame.bounded("version", Some(&hello.version))?;
                Self::Hello(hello)
            }
            Kind::Joined => {
                let Inside { clock } = frame.json()?;
                Self::Joined { now: pts, clock }
            }
            Kind::ParticipantJoined => {
                let who: Participant = frame.json()?;
                frame.bounded("user", Some(&who.user))?;
                frame.bounded("name", who.name.as_deref())?;
                frame.bounded("role", who.role.as_deref())?;
                Self::ParticipantJoined(who)
            }
            Kind::ParticipantLeft => {
                let Left { user } = frame.json()?;
                frame.bounded("user", Some(&user))?;
                Self::ParticipantLeft { user }
            }
            Kind::TrackOpened => {
                let track: Track = frame.json()?;
                frame.bounded("user", Some(&track.user))?;
                frame.bounded("role", track.role.as_deref())?;
                Self::TrackOpened { stream: frame.track()?, pts, track }
            }
            Kind::TrackClosed => Self::TrackClosed { stream: frame.track()?, pts },
            Kind::MarkReached => {
                let Reached { name, cleared } = frame.json()?;
                frame.bounded_mark(&name)?;
                Self::MarkReached { name, cleared }
            }
            Kind::Flow => {
                let Flow { go } = frame.json()?;
                Self::Flow { go }
            }
            Kind::Stats => Self::Stats { now: pts, stats: frame.json()? },
            Kind::Error => {
                let Wrong { message, fatal } = frame.json()?;
                Self::Error { message: cut(message), fatal }
            }
            Kind::Bye => {
                let Bye { reason } = frame.json()?;
                Self::Bye { reason: cut(reason) }
            }
            _ => return Err(Refusal::unexpected(&frame.header)),
        })
    }
}

impl Message for FromAdapter<'_> {
    fn encode(&self, out: &mut Writer<'_>) -> Result<(), EncodeError> {
        match self {
            Self::Audio(audio) => out.audio(audio),
            Self::Idle { stream, pts } => out.bare(Kind::Idle, *stream, *pts),
            Self::Lost { stream, from, to } => {
                out.json(Kind::Lost, *stream, *from, &To { to: *to })
            }
            Self::Muted { stream, pts } => out.bare(Kind::Muted, *stream, *pts),
            Self::Unmuted { stream, pts } => out.bare(Kind::Unmuted, *stream, *pts),
            Self::Played { samples, pts } => {
                out.json(Kind::Played, 0, *pts, &Played { samples: *samples })
            }
            Self::Hello(hello) => out.json(Kind::Hello, 0, 0, hello),
            Self::Joined { now, clock: MediaClock::Own } => out.bare(Kind::Joined, 0, *now),
            Self::Joined { now, clock } => {
                out.json(Kind::Joined, 0, *now, &Inside { clock: *clock })
            }
            Self::ParticipantJoined(who) => out.json(Kind::ParticipantJoined, 0, 0, who),
            Self::ParticipantLeft { user } => {
                out.json(Kind::ParticipantLeft, 0, 0, &json!({"user": user}))
            }
            Self::TrackOpened { stream, pts, track } => {
                out.json(Kind::TrackOpened, *stream, *pts, track)
            }
            Self::TrackClosed { stream, pts } => out.bare(Kind::TrackClosed, *stream, *pts),
            Self::MarkReached { name, cleared: false } => {
                out.json(Kind::MarkReached, 0, 0, &json!({"name": name}))
            }
            Self::MarkReached { name, cleared: true } => {
                out.json(Kind::MarkReached, 0, 0, &json!({"name": name, "cleared": true}))
            }
            Self::Flow { go } => out.json(Kind::Flow, 0, 0, &Flow { go: *go }),
            Self::Stats { now, stats } => out.json(Kind::Stats, 0, *now, stats),
            Self::Error { message, fatal } => {
                out.json(Kind::Error, 0, 0, &json!({"message": message, "fatal": fatal}))
            }
            Self::Bye { reason } => out.json(Kind::Bye, 0, 0, &json!({"reason": reason})),
        }
    }
}
