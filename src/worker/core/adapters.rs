//! What becomes of a session as its adapter starts, joins, speaks and ends.

use std::time::Instant;

use super::{
    Core, Output,
    session::{Adapter, Child, Ended, LastWord, Session, SessionKey},
};
use crate::{
    bus::messages::{Fault, SessionState},
    id::TaskId,
    limits,
    sdk::process::ChildKey,
};

impl Core {
    pub(super) fn start(&mut self, task: &TaskId, now: Instant, out: &mut Vec<Output>) {
        let child = ChildKey(self.key());
        let Some(session) = self.sessions.get_mut(task) else { return };
        let patience = match self.about.raw.contains(&session.assign.sdk) {
            true => limits::FIRST_FRAME_TIMEOUT,
            false => limits::JOIN_TIMEOUT,
        };
        session.adapter = Adapter::Starting(child, now + patience);
        self.children.insert(child, Child::new(task.clone(), session.key));
        out.push(Output::Start(child, task.clone()));
    }

    /// The session this process serves, unless that has ended or has another.
    fn served(&mut self, child: ChildKey) -> Option<&mut Session> {
        let task = &self.children.get(&child)?.task;
        let session = self.sessions.get_mut(task)?;
        (session.adapter.child() == Some(child)).then_some(session)
    }

    pub(super) fn spawned(&mut self, child: ChildKey, out: &mut Vec<Output>) {
        let Some(it) = self.children.get_mut(&child) else { return };
        it.spawned = true;
        let (session, ended) = (it.session, it.ended.is_some());
        out.push(Output::Attach(child, session));
        if self.served(child).is_none() && !ended {
            out.push(Output::Leave(child, session));
        }
        if ended {
            out.push(Output::Drain(child, session));
        }
    }

    pub(super) fn joined(&mut self, child: ChildKey) {
        let Some(session) = self.served(child) else { return };
        session.adapter = Adapter::Joined(child);
        session.joined = true;
        if session.state == SessionState::Starting {
            session.state = SessionState::Running;
            // Of a room that is only played to nothing will be heard.
            session.heard = session.assign.pull.is_none();
            self.news = true;
        }
        if let Some(it) = self.children.get_mut(&child) {
            it.joined = true;
        }
    }

    pub(super) fn heard(&mut self, key: SessionKey) {
        let live = |session: &&mut Session| session.key == key && session.is_live();
        if let Some(session) = self.sessions.values_mut().find(live)
            && !std::mem::replace(&mut session.heard, true)
        {
            self.news = true;
        }
    }

    pub(super) fn broken(&mut self, child: ChildKey, why: String, out: &mut Vec<Output>) {
        let Some(it) = self.children.get_mut(&child) else { return };
        if it.ended.is_none() {
            out.push(Output::Terminate(child));
        }
        it.last_word.get_or_insert(LastWord::Broken(why));
    }

    /// The adapter has no more to say: its process is given time to end.
    pub(super) fn last_word(
        &mut self,
        child: ChildKey,
        word: Option<LastWord>,
        out: &mut Vec<Output>,
    ) {
        let Some(it) = self.children.get_mut(&child) else { return };
        if it.ended.is_none() {
            out.push(Output::Leave(child, it.session));
        }
        it.last_word = it.last_word.take().or(word);
    }

    pub(super) fn exited(&mut self, child: ChildKey, ended: Ended, out: &mut Vec<Output>) {
        let Some(it) = self.children.get_mut(&child) else { return };
        it.ended = Some(ended);
        if it.spawned {
            // Its last words may still be in the pipe.
            out.push(Output::Drain(child, it.session));
        }
    }

    /// Decides what becomes of a session whose adapter has ended.
    pub(super) fn conclude(
        &mut self,
        child: ChildKey,
        ended: Ended,
        now: Instant,
        out: &mut Vec<Output>,
    ) {
        let serves = self.served(child).is_some();
        let Some(it) = self.children.remove(&child) else { return };
        if !serves {
            return;
        }
        let Some(session) = self.sessions.get_mut(&it.task) else { return };
        let done = (SessionState::Done, Fault::Task);
        let failed = |fault| (SessionState::Failed, fault);
        let (end, reason) = match it.last_word {
            Some(LastWord::Fatal(why)) => (failed(Fault::Task), why),
            Some(LastWord::Bye(reason)) if it.joined => (done, reason),
            None if it.joined && ended.clean => (done, "the adapter left the room".to_owned()),
            _ if ended.hopeless => (failed(Fault::Worker), ended.text),
            // Each try takes long: the next one is better made elsewhere.
            Some(LastWord::Broken(why))
                if !session.joined && session.adapter == Adapter::Stopping(child) =>
            {
                (failed(Fault::Unjoined), format!("{why}; {}", ended.text))
            }
            word => {
                let why = match word {
                    Some(LastWord::Broken(why)) => format!("{why}; {}", ended.text),
                    _ => ended.text,
                };
                if let Some(wait) = session.crashed(now) {
                    session.adapter = Adapter::Waiting(now + wait);
                    return;
                }
                let fault = match (session.joined, it.spawned) {
                    (true, _) => Fault::Task,
                    (false, true) => Fault::Crashed,
                    (false, false) => Fault::Worker,
                };
                (failed(fault), format!("the adapter keeps failing: {why}"))
            }
        };
        session.ended(end, reason, now);
        out.push(Output::Close(session.key));
        self.news = true;
    }
}
