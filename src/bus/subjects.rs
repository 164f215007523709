//! Every subject of the contract as a type that names its message.
//!
//! Publishing the wrong thing does not compile, and the whole protocol stands
//! here. No subject is built anywhere else.

use crate::{
    bus::messages as m,
    id::{RoomId, SourceId, SubscriberId, TaskId, TrackId, WorkerId},
    task::TaskSpec,
};

/// A subject that carries JSON messages of one type.
pub trait Topic {
    /// What is published here.
    type Message;
    /// The subject.
    fn subject(&self) -> String;
}

/// A subject that is asked and answers.
pub trait Ask: Topic {
    /// What comes back unless it is a [`m::Refusal`].
    type Reply;
}

macro_rules! asks {
    ($($(#[$doc:meta])* $name:ident = $subject:literal : $message:ty => $reply:ty;)*) => {$(
        $(#[$doc])*
        #[derive(Debug, Clone, Copy)]
        pub struct $name;
        impl $name {
            /// The subject.
            pub const SUBJECT: &'static str = $subject;
        }
        impl Topic for $name {
            type Message = $message;
            fn subject(&self) -> String {
                $subject.to_owned()
            }
        }
        impl Ask for $name {
            type Reply = $reply;
        }
    )*};
}

asks! {
    /// Services hand in a task.
    Submit = "gateway.task.submit": TaskSpec => m::Submitted;
    /// Services ask for one task.
    Get = "gateway.task.get": m::Get => m::TaskView;
    /// Services ask for tasks.
    List = "gateway.task.list": m::List => m::Listed;
    /// Services change a task that waits or runs.
    Update = "gateway.task.update": crate::task::Update => m::TaskView;
    /// Services end a task.
    Cancel = "gateway.task.cancel": m::Cancel => m::TaskView;
    /// Operators ask for the workers.
    AdminWorkers = "gateway.admin.workers": m::Ping => m::Workers;
    /// Operators ask for the leader.
    AdminLeader = "gateway.admin.leader": m::Ping => m::Leader;
    /// Operators have another dispatcher lead; who leads answers, nobody else.
    AdminStepDown = "gateway.admin.stepdown": m::StepDown => m::SteppedDown;
    /// Operators empty a worker, through the dispatcher.
    AdminDrain = "gateway.admin.drain": m::DrainWorker => m::Verdict;
}

macro_rules! worker_asks {
    ($($(#[$doc:meta])* $name:ident = $verb:literal : $message:ty => $reply:ty;)*) => {$(
        $(#[$doc])*
        #[derive(Debug, Clone)]
        pub struct $name(pub WorkerId);
        impl $name {
            /// The last token of the subject.
            pub const VERB: &'static str = $verb;
        }
        impl Topic for $name {
            type Message = $message;
            fn subject(&self) -> String {
                format!(concat!("gateway.worker.{}.", $verb), self.0)
            }
        }
        impl Ask for $name {
            type Reply = $reply;
        }
    )*};
}

worker_asks! {
    /// The dispatcher gives a worker a task.
    WorkerAssign = "assign": m::Assign => m::Verdict;
    /// The dispatcher changes what a session does.
    WorkerUpdate = "update": m::UpdateSession => m::Verdict;
    /// The dispatcher takes a task from a worker.
    WorkerRevoke = "revoke": m::Revoke => m::Verdict;
    /// Operators and the dispatcher empty a worker.
    WorkerDrain = "drain": m::Drain => m::Verdict;
    /// Asks for a sign of life.
    WorkerPing = "ping": m::Ping => m::Heartbeat;
    /// Asks what a worker has in hand.
    WorkerInventory = "inventory": m::Ping => m::Inventory;
}

/// A worker's heartbeat.
#[derive(Debug, Clone)]
pub struct WorkerHeartbeat(pub WorkerId);

impl WorkerHeartbeat {
    /// All workers' heartbeats.
    pub const ALL: &'static str = "gateway.worker.*.heartbeat";
}

impl Topic for WorkerHeartbeat {
    type Message = m::Heartbeat;
    fn subject(&self) -> String {
        format!("gateway.worker.{}.heartbeat", self.0)
    }
}

/// The changes of a task's state, kept in the stream [`EVENTS_STREAM`].
#[derive(Debug, Clone)]
pub struct TaskEvents(pub TaskId);

impl TaskEvents {
    /// All tasks' events.
    pub const ALL: &'static str = "gateway.task.event.*";
}

impl Topic for TaskEvents {
    type Message = m::TaskEvent;
    fn subject(&self) -> String {
        format!("gateway.task.event.{}", self.0)
    }
}

/// What happens in a room.
#[derive(Debug, Clone)]
pub struct RoomEvents(pub RoomId);

impl RoomEvents {
    /// All rooms' events.
    pub const ALL: &'static str = "audio.event.*";
}

impl Topic for RoomEvents {
    type Message = m::RoomEvent;
    fn subject(&self) -> String {
        format!("audio.event.{}", self.0)
    }
}

/// Where a track's NACKs go.
#[derive(Debug, Clone)]
pub struct TrackNack(pub RoomId, pub TrackId);

impl TrackNack {
    /// All tracks' NACKs: one subscription a worker.
    pub const ALL: &'static str = "audio.nack.*.*";

    /// The track that a NACK's subject names.
    #[must_use]
    pub fn parse(subject: &str) -> Option<Self> {
        let (room, track) = subject.strip_prefix("audio.nack.")?.split_once('.')?;
        Some(Self(RoomId::parse(room).ok()?, TrackId::parse(track).ok()?))
    }
}

impl Topic for TrackNack {
    type Message = m::Nack;
    fn subject(&self) -> String {
        format!("audio.nack.{}.{}", self.0, self.1)
    }
}

impl Ask for TrackNack {
    type Reply = m::NackReply;
}

/// Which of its two subjects a track is published on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Lane {
    /// Core NATS only.
    Live,
    /// Captured by JetStream as well.
    Rec,
}

/// The subject of a track's batches (msgpack).
#[must_use]
pub fn track(lane: Lane, room: &RoomId, track: &TrackId) -> String {
    format!("audio.{}.{room}.{track}", lane_token(lane))
}

/// All tracks of a room on one lane.
#[must_use]
pub fn room_tracks(lane: Lane, room: &RoomId) -> String {
    format!("audio.{}.{room}.*", lane_token(lane))
}

/// All tracks of all rooms on one lane.
#[must_use]
pub fn all_tracks(lane: Lane) -> String {
    format!("audio.{}.*.*", lane_token(lane))
}

fn lane_token(lane: Lane) -> &'static str {
    match lane {
        Lane::Live => "live",
        Lane::Rec => "rec",
    }
}

/// The track that a batch's subject names, also of a batch that was sent again.
#[must_use]
pub fn parse_track(subject: &str) -> Option<(RoomId, TrackId)> {
    let mut parts = subject.strip_prefix("audio.")?.split('.');
    let lane = parts.next()?;
    let room = RoomId::parse(parts.next()?).ok()?;
    let track = TrackId::parse(parts.next()?).ok()?;
    let subscriber = parts.next();
    let whole = match lane {
        "live" | "rec" | "push" => subscriber.is_none(),
        "resend" => subscriber.is_some() && parts.next().is_none(),
        _ => false,
    };
    whole.then_some((room, track))
}

/// Where batches are sent again, to one subscriber alone.
#[must_use]
pub fn resend(room: &RoomId, track: &TrackId, subscriber: &SubscriberId) -> String {
    format!("audio.resend.{room}.{track}.{subscriber}")
}

/// All batches of a room that are sent again to this subscriber.
#[must_use]
pub fn room_resends(room: &RoomId, subscriber: &SubscriberId) -> String {
    format!("audio.resend.{room}.*.{subscriber}")
}

/// All batches of all rooms that are sent again to this subscriber.
#[must_use]
pub fn all_resends(subscriber: &SubscriberId) -> String {
    format!("audio.resend.*.*.{subscriber}")
}

/// Where a service's audio for a room goes.
#[must_use]
pub fn push(room: &RoomId, source: &SourceId) -> String {
    format!("audio.push.{room}.{source}")
}

/// Where a source's playback is controlled.
#[must_use]
pub fn control(room: &RoomId, source: &SourceId) -> String {
    format!("audio.control.{room}.{source}")
}

/// The bucket of tasks: one key a task.
pub const TASKS_BUCKET: &str = "gateway_tasks";
/// The bucket of rooms: one key a room.
pub const ROOMS_BUCKET: &str = "gateway_rooms";
/// The bucket of leases: `leader` and `worker.<id>`.
pub const LEASES_BUCKET: &str = "gateway_leases";
/// The key of the leader's lease.
pub const LEADER_KEY: &str = "leader";
/// The stream that keeps tasks' events.
pub const EVENTS_STREAM: &str = "GATEWAY_EVENTS";
/// The stream that keeps what is recorded: all of [`Lane::Rec`].
pub const AUDIO_STREAM: &str = "AUDIO";
/// The micro service that dispatchers are.
pub const DISPATCHER_SERVICE: &str = "dispatcher";
/// The micro service that workers are.
pub const WORKER_SERVICE: &str = "worker";

/// The key of a worker's lease.
#[must_use]
pub fn worker_lease_key(worker: &WorkerId) -> String {
    format!("worker.{worker}")
}

/// The worker whose lease a key is.
#[must_use]
pub fn worker_of_lease(key: &str) -> Option<WorkerId> {
    WorkerId::parse(key.strip_prefix("worker.")?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn subjects_read_back() {
        let room = RoomId::parse("42").unwrap();
        let user = TrackId::of_user("a b");
        let asr = SubscriberId::parse("asr-7").unwrap();
        for subject in [
            track(Lane::Live, &room, &user),
            track(Lane::Rec, &room, &user),
            resend(&room, &user, &asr),
        ] {
            assert_eq!(parse_track(&subject), Some((room.clone(), user.clone())), "{subject}");
        }
        let nack = TrackNack(room, user);
        let again = TrackNack::parse(&nack.subject()).unwrap();
        assert_eq!((again.0, again.1), (nack.0, nack.1));
    }

    #[test]
    fn other_subjects_are_no_track() {
        for bad in [
            "audio.live.42",
            "audio.live.42.a.b",
            "audio.resend.42.a",
            "audio.resend.42.a.b.c",
            "audio.event.42.a",
            "audio.live..a",
            "$JS.API.STREAM.DELETE.AUDIO",
        ] {
            assert_eq!(parse_track(bad), None, "{bad}");
        }
        assert!(TrackNack::parse("audio.nack.42.a.b").is_none());
    }
}
