//! The 24 bytes before every payload, and the numbers of the kinds.

use std::fmt;

/// The first two bytes of a frame, as a little-endian number: `SG`.
pub const MAGIC: u16 = 0x4753;
/// The version of the header's layout.
pub const VERSION: u8 = 1;
/// Bytes in a header.
pub const HEADER_BYTES: usize = 24;
/// Flag: whoever does not know this kind must not skip it.
pub const MUST_UNDERSTAND: u16 = 1 << 15;

macro_rules! kinds {
    ($($(#[$doc:meta])* $name:ident = $number:literal $shown:literal,)*) => {
        /// What a frame is.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        #[repr(u8)]
        pub enum Kind {
            $($(#[$doc])* $name = $number,)*
        }

        impl Kind {
            /// Every kind.
            pub const ALL: &[Self] = &[$(Self::$name,)*];

            /// The kind of a number on the pipe.
            #[must_use]
            pub const fn of(number: u8) -> Option<Self> {
                match number {
                    $($number => Some(Self::$name),)*
                    _ => None,
                }
            }
        }

        impl fmt::Display for Kind {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(match self { $(Self::$name => $shown,)* })
            }
        }
    };
}

kinds! {
    /// The adapter's first frame.
    Hello = 1 "HELLO",
    /// The adapter is in the room.
    Joined = 2 "JOINED",
    /// Somebody came.
    ParticipantJoined = 3 "PARTICIPANT_JOINED",
    /// Somebody left.
    ParticipantLeft = 4 "PARTICIPANT_LEFT",
    /// A participant's audio can be subscribed.
    TrackOpened = 5 "TRACK_OPENED",
    /// No more audio of this stream.
    TrackClosed = 6 "TRACK_CLOSED",
    /// Muted from here on.
    Muted = 7 "MUTED",
    /// No longer muted.
    Unmuted = 8 "UNMUTED",
    /// Samples, in either direction.
    Audio = 9 "AUDIO",
    /// There is no audio up to here.
    Idle = 10 "IDLE",
    /// There was audio, and it is lost.
    Lost = 11 "LOST",
    /// How much pushed audio was played.
    Played = 12 "PLAYED",
    /// Playback passed a mark.
    MarkReached = 13 "MARK_REACHED",
    /// Whether the adapter takes more pushed audio.
    Flow = 14 "FLOW",
    /// The answer to PING.
    Stats = 15 "STATS",
    /// Something went wrong.
    Error = 16 "ERROR",
    /// The adapter's last frame.
    Bye = 17 "BYE",
    /// The worker's first frame.
    Welcome = 65 "WELCOME",
    /// Join this room.
    Join = 66 "JOIN",
    /// Start or stop the audio of a stream.
    Subscribe = 67 "SUBSCRIBE",
    /// A place in the pushed audio.
    Mark = 68 "MARK",
    /// Forget the pushed audio that was not played.
    Clear = 69 "CLEAR",
    /// Hold playback.
    Pause = 70 "PAUSE",
    /// Go on with playback.
    Resume = 71 "RESUME",
    /// Loudness of the pushed audio.
    Gain = 72 "GAIN",
    /// Asks for STATS.
    Ping = 73 "PING",
    /// A fresh token for the SDK.
    Token = 74 "TOKEN",
    /// Leave the room and exit.
    Leave = 75 "LEAVE",
}

impl Kind {
    /// Whether an adapter sends this kind.
    #[must_use]
    pub const fn is_from_adapter(self) -> bool {
        (self as u8) < 64
    }

    /// Whether a worker sends this kind.
    #[must_use]
    pub const fn is_to_adapter(self) -> bool {
        (self as u8) > 64 || matches!(self, Self::Audio)
    }
}

/// The header of a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// The number of the kind; see [`Kind::of`].
    pub kind: u8,
    /// [`MUST_UNDERSTAND`]; the other bits are 0 and ignored.
    pub flags: u16,
    /// The track, from 1; 0 where the frame is about no track.
    pub stream: u16,
    /// Counts the frames this side wrote, from 0, wrapping.
    pub seq: u32,
    /// Bytes of payload.
    pub length: u32,
    /// µs on the adapter's media clock, where the kind has a time; else 0.
    pub pts: i64,
}

impl Header {
    /// The header as it is written.
    #[must_use]
    pub fn to_bytes(&self) -> [u8; HEADER_BYTES] {
        let mut out = [0; HEADER_BYTES];
        out[0..2].copy_from_slice(&MAGIC.to_le_bytes());
        out[2] = VERSION;
        out[3] = self.kind;
        out[4..6].copy_from_slice(&self.flags.to_le_bytes());
        out[6..8].copy_from_slice(&self.stream.to_le_bytes());
        out[8..12].copy_from_slice(&self.seq.to_le_bytes());
        out[12..16].copy_from_slice(&self.length.to_le_bytes());
        out[16..24].copy_from_slice(&self.pts.to_le_bytes());
        out
    }

    /// Reads a header, or `None` where magic or version are not ours.
    #[must_use]
    pub fn read(b: &[u8; HEADER_BYTES]) -> Option<Self> {
        if u16::from_le_bytes([b[0], b[1]]) != MAGIC || b[2] != VERSION {
            return None;
        }
        Some(Self {
            kind: b[3],
            flags: u16::from_le_bytes([b[4], b[5]]),
            stream: u16::from_le_bytes([b[6], b[7]]),
            seq: u32::from_le_bytes([b[8], b[9], b[10], b[11]]),
            length: u32::from_le_bytes([b[12], b[13], b[14], b[15]]),
            pts: i64::from_le_bytes([b[16], b[17], b[18], b[19], b[20], b[21], b[22], b[23]]),
        })
    }

    /// The kind by name where it is known, else by number.
    pub(super) fn kind_name(&self) -> String {
        Kind::of(self.kind).map_or_else(|| format!("kind {}", self.kind), |kind| kind.to_string())
    }
}

/// A whole frame, borrowed from the decoder or from what was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Frame<'a> {
    /// What it is.
    pub header: Header,
    /// `header.length` bytes.
    pub payload: &'a [u8],
}
