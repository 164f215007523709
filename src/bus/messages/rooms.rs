//! What subscribers of a room and its worker say to each other, beside audio.

use serde::{Deserialize, Deserializer, Serialize, de::Error};
use serde_json::{Map, Value};

use crate::{
    id::{RoomId, SubscriberId, TrackId},
    task::Epoch,
};

/// A subscriber asks for batches again.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Nack {
    /// Names the resend subject.
    pub subscriber: SubscriberId,
    /// The epoch the sequence numbers belong to.
    pub epoch: Epoch,
    /// `[first sequence number, count]`, at most 16 and 64 batches in all.
    pub ranges: Vec<(u64, u64)>,
    /// What comes later than this is of no use, and is not sent; 0: whenever.
    #[serde(default)]
    pub deadline_ms: u64,
}

/// What became of a NACK.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NackStatus {
    /// All was sent.
    Ok,
    /// Some was sent; the rest is in `missing`.
    Partial,
    /// Too many; ask again after `retry_after_ms`.
    Throttled,
    /// The track runs under another epoch.
    Epoch,
    /// The room is ours, the track is not known.
    Unknown,
    /// The request itself cannot be read or breaks a bound.
    BadRequest,
    /// One of a later version: what is missing is asked for again.
    #[serde(other)]
    Other,
}

/// Why a batch cannot be sent again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MissingReason {
    /// It is older than the ring.
    Evicted,
    /// It is on its way already.
    Held,
    /// It was sent again as often as it may be.
    Spent,
    /// It was never sent.
    Unknown,
    /// The rate is spent.
    Throttled,
    /// One of a later version: it is asked for again.
    #[serde(other)]
    Other,
}

/// The answer to a NACK.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct NackReply {
    /// What became of it.
    pub status: NackStatus,
    /// The epoch the track runs under.
    pub epoch: Epoch,
    /// First and last sequence number that the worker holds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub held: Option<(u64, u64)>,
    /// `[first, count, reason]` of what was not sent.
    #[serde(default)]
    pub missing: Vec<(u64, u64, MissingReason)>,
    /// When to ask again; 0: at once, or never for what is missing.
    #[serde(default)]
    pub retry_after_ms: u64,
    /// Over how many ms whoever lost a batch is to spread its first NACK for it:
    /// many ask at once. 0: ask at once.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub spread_ms: u64,
    /// What was wrong with the request.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub message: String,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde hands it so")]
fn is_zero(number: &u64) -> bool {
    *number == 0
}

/// Something that happened in a room, on `audio.event.<room>`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RoomEvent {
    /// The room.
    pub room: RoomId,
    /// The epoch of the worker that says so.
    pub epoch: Epoch,
    /// Where on the room's time line, in samples.
    pub pos: u64,
    /// When, µs since the Unix epoch.
    pub time: i64,
    /// What.
    #[serde(flatten)]
    pub what: RoomNews,
}

/// What can happen in a room.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
#[expect(missing_docs, reason = "the fields repeat across variants; docs/wire.md has them")]
pub enum RoomNews {
    /// A participant came.
    ParticipantJoined { user: String, name: String, role: String },
    /// A participant went.
    ParticipantLeft { user: String },
    /// A track begins.
    TrackOpened { track: TrackId, user: String, role: String },
    /// A track ends.
    TrackClosed { track: TrackId, user: String },
    /// A participant muted the track.
    Muted { track: TrackId },
    /// A participant unmuted the track.
    Unmuted { track: TrackId },
    /// Audio is missing before us: `slots` of 20 ms.
    Gap { track: TrackId, slots: u64, state: u8 },
    /// The position jumped, the adapter's clock stepped, or its drift was made
    /// good.
    Discontinuity {
        track: TrackId,
        by_samples: i64,
        #[serde(default, skip_serializing_if = "Cause::is_untold")]
        cause: Cause,
    },
    /// The adapter reports a fault that it survives.
    AdapterError { message: String },
    /// A playback mark was reached.
    MarkReached { source: String, name: String },
    /// What time it is, and what the adapter's clock makes of it.
    Clock(Clock),
    /// Something a later version tells, as it came.
    #[serde(untagged)]
    Other(Other),
}

/// What a discontinuity is about.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Cause {
    /// The position jumped.
    Jump,
    /// The adapter's clock stepped, and positions run on.
    Step,
    /// A slot of silence was added or left out because the clock had drifted.
    Drift,
    /// Not said, or not known to this version.
    #[default]
    #[serde(other)]
    Untold,
}

impl Cause {
    fn is_untold(&self) -> bool {
        *self == Self::Untold
    }
}

/// A room's clock, told every five seconds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Clock {
    /// What the adapter's media clock reads now; none where it has none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub adapter_us: Option<i64>,
    /// How much faster than the worker's that clock runs; none until it was
    /// followed for a minute.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub drift_ppm: Option<f64>,
    /// How late audio comes at best.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub delay_ms: Option<i64>,
    /// Samples of silence added so far because of drift, less those left out.
    pub corrected_samples: i64,
}

/// News that this version does not know: the fields of the event but those that
/// all have.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(transparent)]
pub struct Other(pub Map<String, Value>);

/// The events that are known; one of them that cannot be read is none.
const KNOWN: [&str; 11] = [
    "participant_joined",
    "participant_left",
    "track_opened",
    "track_closed",
    "muted",
    "unmuted",
    "gap",
    "discontinuity",
    "adapter_error",
    "mark_reached",
    "clock",
];

impl<'de> Deserialize<'de> for Other {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let fields = Map::deserialize(deserializer)?;
        match fields.get("event") {
            Some(Value::String(event)) if !KNOWN.contains(&event.as_str()) => Ok(Self(fields)),
            Some(Value::String(event)) => {
                Err(D::Error::custom(format!("{event} lacks a field, or has one of another type")))
            }
            _ => Err(D::Error::missing_field("event")),
        }
    }
}
