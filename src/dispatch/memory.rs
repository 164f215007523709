//! What a dispatcher remembers beside the buckets: of each worker, of each task
//! that is under way, of each caller. All of it may be lost: the buckets and the
//! next heartbeats bring back what matters.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    time::{Duration, Instant},
};

use super::{
    capacity::Need,
    io::{CallId, NoAnswer},
};
use crate::{
    bus::messages::{Heartbeat, SessionReport, Verdict},
    id::{RoomId, TaskId, WorkerId},
    limits,
    task::{Epoch, Handover, TaskSpec, Update},
};

/// What waits for a moment.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Timer {
    /// A worker is to be judged.
    Worker(WorkerId),
    /// A task is to be stepped.
    Task(TaskId),
    /// A room is to be read again.
    Room(RoomId),
    /// An event of a write that never took place is to be forgotten.
    Unsaid(TaskId),
    /// The whole queue is to be looked through.
    Queue,
    /// Finished tasks are to be deleted.
    Sweep,
}

/// What the leader remembers of a task beside its record. It may be forgotten
/// at any time: the record is enough to go on.
#[derive(Debug, Default)]
pub(super) struct Plan {
    /// When it expires, and the `pending_ms` that belongs to.
    pub(super) expires: Option<(u64, Instant)>,
    /// When it has run for long enough, and the `started_ms` and the seconds that
    /// belong to.
    pub(super) ends: Option<((u64, u64), Instant)>,
    /// The question to its worker whether it takes it.
    pub(super) ask: Ask,
    /// Since when its worker does not report it, and in how many heartbeats.
    pub(super) missing: Option<(Instant, u32)>,
    /// Workers that were tried in vain in this round.
    pub(super) tried: Vec<WorkerId>,
    /// Not to be placed before this.
    pub(super) rests_until: Option<Instant>,
    /// How often it rested since it last ran: the rests grow.
    pub(super) rests: u32,
    /// Why the successor of this epoch does not come: another is wanted.
    pub(super) lost: Option<String>,
    /// What is known of the session that its room is taken from.
    pub(super) old: Option<Old>,
    /// When something about a hand-over is due.
    pub(super) look: Option<Instant>,
    /// When its room counts as left by its last task, whatever is reported.
    pub(super) room_left: Option<Instant>,
    /// The owner of its room that turned out not to exist.
    pub(super) no_owner: Option<TaskId>,
    /// The claim on its room that is ahead of its record.
    pub(super) ahead: Option<Ahead>,
    /// Who was told of its last update, until they show it.
    pub(super) told: BTreeMap<WorkerId, Telling>,
    /// Why it waits, and since when that is so.
    pub(super) waits: Option<(String, Instant)>,
    /// When that may be written into it, where not at once.
    pub(super) tell_at: Option<Instant>,
}

/// A claim on a task's room that the task's record does not show yet.
#[derive(Debug, Clone, Copy)]
pub(super) struct Ahead {
    pub(super) epoch: Epoch,
    /// Until when whoever made it may still write the record.
    pub(super) until: Instant,
    /// The record was read since.
    pub(super) read: bool,
}

/// An update that a worker was told of.
#[derive(Debug)]
pub(super) struct Telling {
    pub(super) revision: u64,
    /// When it is told again, and after how long the next time.
    pub(super) again: Instant,
    pub(super) wait: Duration,
}

/// Where the question to a worker stands.
#[derive(Debug, Default)]
pub(super) enum Ask {
    /// Not ours to ask, or answered: what the worker reports counts.
    #[default]
    No,
    /// To be asked.
    Due,
    /// Under way.
    Out,
    /// Answered; not yet acted upon.
    Said(Result<Verdict, NoAnswer>),
}

impl Plan {
    /// No more tries for a while: twice as long as the last time, within bounds.
    pub(super) fn rest(&mut self, now: Instant) {
        let long = limits::REQUEUE_DELAY.saturating_mul(2_u32.saturating_pow(self.rests));
        self.tried.clear();
        self.rests_until = Some(now + long.min(limits::REQUEUE_MAX));
        self.rests = self.rests.saturating_add(1);
    }

    /// It runs: what was tried before counts no more.
    pub(super) fn started(&mut self) {
        self.tried.clear();
        self.rests = 0;
    }

    /// The task was given away, or taken back: what was about its last epoch
    /// counts no more.
    pub(super) fn next_epoch(&mut self) {
        self.ask = Ask::No;
        self.missing = None;
        self.waits = None;
        self.tell_at = None;
        self.lost = None;
        self.look = None;
        self.told.clear();
    }
}

/// A session that a room is taken from, as far as it was looked at.
#[derive(Debug)]
pub(super) struct Old {
    pub(super) of: Handover,
    /// When it was looked for first, and its worker's heartbeats until then.
    pub(super) since: Instant,
    pub(super) beats: u64,
    /// Its worker reported it: once it does so no more, it is gone.
    pub(super) seen: bool,
}

/// A claim on a room that is under way.
#[derive(Debug)]
pub(super) struct Claim {
    pub(super) room: RoomId,
    pub(super) worker: WorkerId,
    pub(super) epoch: Epoch,
    /// Who serves the room meanwhile.
    pub(super) from: Option<Handover>,
    /// Whether the room's record is written.
    pub(super) granted: bool,
}

/// One worker.
#[derive(Debug)]
pub(super) struct Worker {
    /// Its last heartbeat, without the sessions; none: it is only expected,
    /// because a task's record names it.
    pub(super) beat: Option<Heartbeat>,
    /// When it last gave a sign of life, of whatever kind.
    pub(super) heard: Instant,
    /// When it last told what it runs.
    pub(super) told: Instant,
    /// When it is asked for a heartbeat that can be read, though its lease be
    /// renewed.
    pub(super) beat_due: Instant,
    /// Its heartbeats so far.
    pub(super) beats: u64,
    /// Taken for gone, by us as leader.
    pub(super) gone: bool,
    /// What it last reported.
    pub(super) sessions: BTreeMap<(TaskId, Epoch), Session>,
    /// Given to it and not yet in a report.
    pub(super) unseen: BTreeSet<TaskId>,
    /// Its sessions that have not ended.
    pub(super) live: usize,
    /// What those of them take that are too young to show in its load.
    pub(super) young: Need,
    /// Whether it counts as full until it is clearly not.
    pub(super) full: bool,
    pub(super) boots: VecDeque<String>,
    pub(super) asked: bool,
    pub(super) ask_at: Option<Instant>,
    pub(super) nobody: u8,
}

/// A session as its worker reports it.
#[derive(Debug)]
pub(super) struct Session {
    pub(super) report: SessionReport,
    pub(super) since: Instant,
    /// Since when it runs.
    pub(super) runs: Option<Instant>,
    /// Since when it should be left.
    pub(super) over: Option<Instant>,
    /// How its start went was taken note of.
    pub(super) noted: bool,
    /// The store was asked for its task, which nobody seems to know.
    pub(super) sought: bool,
}

impl Worker {
    pub(super) fn expected(now: Instant) -> Self {
        Self {
            beat: None,
            heard: now,
            told: now,
            beat_due: now + limits::WORKER_SUSPECT,
            beats: 0,
            gone: false,
            sessions: BTreeMap::new(),
            unseen: BTreeSet::new(),
            live: 0,
            young: Need::default(),
            full: false,
            boots: VecDeque::new(),
            asked: false,
            ask_at: None,
            nobody: 0,
        }
    }

    /// Drops all suspicion: it was somebody else's, or it spoke.
    pub(super) fn absolve(&mut self) {
        self.gone = false;
        self.ask_at = None;
        self.nobody = 0;
    }

    /// Whether a heartbeat is news: of this life and later than the last.
    pub(super) fn is_news(&self, beat: &Heartbeat) -> bool {
        match &self.beat {
            Some(last) if last.boot == beat.boot => beat.seq > last.seq,
            _ => !self.boots.contains(&beat.boot),
        }
    }
}

/// A caller that waits at a task's key.
#[derive(Debug)]
pub(super) struct Waiting {
    pub(super) call: CallId,
    pub(super) want: Want,
    pub(super) tries: u8,
}

#[derive(Debug)]
pub(super) enum Want {
    Submit { spec: Box<TaskSpec>, created: bool },
    Get,
    Cancel { reason: String, wrote: bool },
    Update(Box<Update>),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rests_grow_and_stay_within_bounds_until_it_runs() {
        let (mut plan, now) = (Plan::default(), Instant::now());
        let rest = |plan: &mut Plan| {
            plan.tried.push(WorkerId::parse("w1").unwrap());
            plan.rest(now);
            assert!(plan.tried.is_empty(), "all are worth another try then");
            plan.rests_until.unwrap() - now
        };
        let rests: Vec<_> = (0..40).map(|_| rest(&mut plan)).collect();
        assert_eq!(rests[..2], [limits::REQUEUE_DELAY, 2 * limits::REQUEUE_DELAY]);
        assert!(rests.is_sorted() && rests[39] == limits::REQUEUE_MAX, "{rests:?}");
        plan.tried.push(WorkerId::parse("w1").unwrap());
        plan.started();
        assert!(plan.tried.is_empty() && rest(&mut plan) == limits::REQUEUE_DELAY);
    }
}
