//! The adapter's side of the conversation: HELLO, WELCOME, JOIN, and then the
//! room. It is handed frames and the time, and answers into an [`Outbox`].

use std::{
    path::PathBuf,
    time::{Duration, Instant},
};

use audio_gateway::sdk::pipe::{
    Frame, FromAdapter, Hello, Join, MediaClock, PROTOCOL, Refusal, ToAdapter,
};

use crate::{
    outbox::Outbox,
    params::{self, Fate, Plan},
    room::Room,
};

/// How the process ends.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// BYE with this reason, exit 0.
    Bye(String),
    /// A fatal ERROR with this message, and this exit code.
    Error(String, u8),
    /// What the plan wants: no word.
    Fate(Fate),
}

enum Stage {
    /// For JOIN.
    Waiting,
    /// For the moment of JOINED.
    Joining(Instant, Box<Room>),
    /// In the room, since then.
    Inside(Instant, Box<Room>),
}

/// A moment on both clocks: a room is played by the first, and the second is
/// read only then.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Began {
    pub(crate) at: Instant,
    /// µs since the Unix epoch.
    pub(crate) unix_us: i64,
}

/// One adapter.
pub(crate) struct Sim {
    media_dirs: Vec<PathBuf>,
    began: Began,
    stage: Stage,
    pub(crate) ignore_sigterm: bool,
}

impl Sim {
    /// Begins the conversation.
    pub(crate) fn new(media_dirs: Vec<PathBuf>, began: Began, out: &mut Outbox) -> Self {
        out.send(&FromAdapter::Hello(Hello {
            protocol: PROTOCOL,
            name: "sdk-sim".to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            // A task may ask for another, so this is said in JOINED.
            clock: MediaClock::Own,
        }));
        Self { media_dirs, began, stage: Stage::Waiting, ignore_sigterm: false }
    }

    /// When [`Sim::act`] is due, if anything waits on time.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        match &self.stage {
            Stage::Waiting => None,
            Stage::Joining(at, _) => Some(*at),
            Stage::Inside(since, room) => Some(*since + Duration::from_micros(room.due() as u64)),
        }
    }

    /// Takes a frame from the worker.
    pub(crate) fn hear(&mut self, frame: Frame<'_>, now: Instant, out: &mut Outbox) -> Option<End> {
        let message = match ToAdapter::parse(frame) {
            Ok(message) => message,
            Err(refusal @ Refusal::NotUnderstood { .. }) => {
                return Some(End::Error(refusal.to_string(), 2));
            }
            Err(refusal) => {
                let message = refusal.to_string();
                out.send(&FromAdapter::Error { message, fatal: false });
                return None;
            }
        };
        match (message, &mut self.stage) {
            (ToAdapter::Leave { reason }, _) => Some(End::Bye(format!("told to leave: {reason}"))),
            (ToAdapter::Welcome(welcome), Stage::Waiting) if welcome.protocol != PROTOCOL => {
                let theirs = welcome.protocol;
                Some(End::Error(format!("protocol {theirs}: this adapter speaks {PROTOCOL}"), 2))
            }
            (ToAdapter::Join(join), Stage::Waiting) => {
                self.join(&join, now, out).err().map(|message| End::Error(message, 2))
            }
            (message, Stage::Inside(since, room)) => {
                room.hear(message, (now - *since).as_micros() as i64, out);
                None
            }
            // Nothing else has a meaning before JOINED.
            (_, Stage::Waiting | Stage::Joining(..)) => None,
        }
    }

    fn join(&mut self, join: &Join, now: Instant, out: &mut Outbox) -> Result<(), String> {
        let plan: Plan = params::parse(&join.params)?;
        let people = plan.people.len();
        out.say(&format!("task {} joins room {} of {people} participants", join.task, join.room));
        self.ignore_sigterm = plan.ignore_sigterm;
        let at = now + Duration::from_millis(plan.join_delay_ms.into());
        let room = Room::new(plan, &self.media_dirs)?;
        self.stage = Stage::Joining(at, Box::new(room));
        Ok(())
    }

    /// Does what is due at `now`.
    pub(crate) fn act(&mut self, now: Instant, out: &mut Outbox) -> Option<End> {
        match std::mem::replace(&mut self.stage, Stage::Waiting) {
            Stage::Joining(at, mut room) if at <= now => {
                if let Some(message) = room.refuses() {
                    return Some(End::Error(message, 1));
                }
                let since = now.saturating_duration_since(self.began.at);
                room.open(self.began.unix_us + since.as_micros() as i64, out);
                self.stage = Stage::Inside(now, room);
                None
            }
            Stage::Inside(since, mut room) => {
                let real = (now - since).as_micros() as i64;
                let fate = if room.due() <= real { room.play(real, out) } else { None };
                self.stage = Stage::Inside(since, room);
                fate.map(|fate| match fate {
                    Fate::Ended => End::Bye("the room has ended".to_owned()),
                    fate => End::Fate(fate),
                })
            }
            stage => {
                self.stage = stage;
                None
            }
        }
    }
}
