//! What dispatchers want of a worker: rooms it takes, gives away and leaves.

use std::time::Instant;

use super::{Core, Output, SessionKey, Unfit, session::Session};
use crate::{
    bus::messages::{Assign, Revoke, UpdateSession, Verdict, WorkerPhase},
    id::{RoomId, TaskId},
    limits,
    task::{Epoch, Handover},
};

impl Core {
    pub(super) fn assign(
        &mut self,
        assign: Assign,
        fit: Result<(), Unfit>,
        now: Instant,
        out: &mut Vec<Output>,
    ) -> Verdict {
        if let Some(session) = self.sessions.get(&assign.task)
            && session.is_live()
            && session.assign.epoch == assign.epoch
        {
            // The answer to the first one was lost.
            return accepted();
        }
        if self.phase == WorkerPhase::LameDuck {
            return refused("this worker is a lame duck: it takes no more rooms", false);
        }
        if let Err(unfit) = fit {
            return refused(unfit.reason, unfit.fatal);
        }
        if let Some((known, _)) = self.epochs.get(&assign.room)
            && *known >= assign.epoch
        {
            let text = format!("epoch {} of the room is over: {known} is known", assign.epoch);
            return refused(text, false);
        }
        if self.revoked.get(&assign.task).is_some_and(|(known, _)| *known >= assign.epoch) {
            return refused(format!("epoch {} was taken away again", assign.epoch), false);
        }
        let before = self.in_room(&assign.room).or_else(|| {
            let same = self.sessions.get(&assign.task)?;
            Some(same.assign.task.clone())
        });
        let replaces = before.as_ref().is_some_and(|task| self.sessions[task].is_live());
        if self.live() >= self.about.sessions_max && !replaces {
            return refused("this worker is full", false);
        }
        if let Some(task) = before {
            self.end(&task, out);
        }
        self.epochs.insert(assign.room.clone(), (assign.epoch, now));
        let (task, key) = (assign.task.clone(), SessionKey(self.key()));
        out.push(Output::Open(key, task.clone()));
        self.sessions.insert(task.clone(), Session::new(key, assign));
        self.start(&task, now, out);
        self.news = true;
        accepted()
    }

    /// What a session does is changed, unless it has taken that in already.
    pub(super) fn update(&mut self, update: UpdateSession, out: &mut Vec<Output>) -> Verdict {
        let UpdateSession { task, epoch, revision, pull } = update;
        let meant = |session: &&mut Session| session.is_live() && session.assign.epoch == epoch;
        let Some(session) = self.sessions.get_mut(&task).filter(meant) else {
            let text = format!("this worker does not serve task {task} under epoch {epoch}");
            return refused(text, false);
        };
        let assign = &mut session.assign;
        if assign.revision < revision {
            assign.revision = revision;
            // Which way its audio goes was settled when it began.
            if assign.pull.is_some() && pull.is_some() && assign.pull != pull {
                assign.pull = pull;
                out.push(Output::Update(session.key, task));
            }
            self.news = true;
        }
        accepted()
    }

    pub(super) fn revoke(&mut self, revoke: &Revoke, now: Instant, out: &mut Vec<Output>) {
        if self.revoked.len() < limits::QUEUE_MAX {
            let known = self.revoked.entry(revoke.task.clone()).or_insert((revoke.epoch, now));
            *known = (known.0.max(revoke.epoch), now);
        }
        let Some(session) = self.sessions.get(&revoke.task) else { return };
        if session.assign.epoch <= revoke.epoch {
            self.end(&revoke.task, out);
        }
    }

    /// Somebody looked whose a room is. Under a later claim than ours it is
    /// left, unless that one names us as who serves it meanwhile.
    pub(super) fn claimed(
        &mut self,
        room: &RoomId,
        epoch: Epoch,
        from: Option<&Handover>,
        now: Instant,
        out: &mut Vec<Output>,
    ) {
        let Some(task) = self.in_room(room) else { return };
        let Some(session) = self.sessions.get_mut(&task) else { return };
        let own = session.assign.epoch;
        if own < epoch {
            let ours = Handover { worker: self.about.worker.clone(), epoch: own };
            if from != Some(&ours) {
                self.epochs.insert(room.clone(), (epoch, now));
                self.end(&task, out);
            }
        } else if own == epoch && from.is_none() && std::mem::take(&mut session.held) {
            out.push(Output::Play(session.key));
        }
    }

    /// From now on nobody can keep the worker: it takes no more rooms and waits
    /// until others have those it serves.
    pub(super) fn retire(&mut self) {
        (self.phase, self.leaves, self.news) = (WorkerPhase::LameDuck, true, true);
    }

    pub(super) fn drain(&mut self, undrain: bool) -> Verdict {
        if undrain && self.leaves {
            return refused("it is on its way out", false);
        }
        self.phase = if undrain { WorkerPhase::Running } else { WorkerPhase::LameDuck };
        self.news = true;
        accepted()
    }

    pub(super) fn leave(&mut self, out: &mut Vec<Output>) {
        self.phase = WorkerPhase::LameDuck;
        self.leaves = true;
        let all: Vec<TaskId> = self.sessions.keys().cloned().collect();
        for task in all {
            self.end(&task, out);
        }
        self.last_beat = None;
    }

    /// The live session in a room.
    fn in_room(&self, room: &RoomId) -> Option<TaskId> {
        let mut live = self.sessions.values().filter(|session| session.is_live());
        live.find(|session| session.assign.room == *room).map(|it| it.assign.task.clone())
    }

    /// Forgets a session, and stops what runs of it.
    pub(super) fn end(&mut self, task: &TaskId, out: &mut Vec<Output>) {
        let Some(session) = self.sessions.remove(task) else { return };
        self.news = true;
        if session.is_live() {
            if let Some(child) = session.adapter.child() {
                out.push(Output::Leave(child, session.key));
            }
            out.push(Output::Close(session.key));
        }
    }
}

pub(super) fn accepted() -> Verdict {
    Verdict { accepted: true, reason: String::new(), fatal: false }
}

fn refused(reason: impl Into<String>, fatal: bool) -> Verdict {
    Verdict { accepted: false, reason: reason.into(), fatal }
}
