//! Who leads: the lease on the key `leader`, as a state machine.
//!
//! The bucket forgets the key [`limits::LEASE_TTL`] after it was last written.
//! Whoever creates it leads, and goes on for as long as it renews it by
//! compare-and-set. A holder counts its lease from when the renewal was *sent*,
//! so it stops before the bucket lets anybody else in. Two leaders would do no
//! harm, only waste: safety lies in the claims, not here.

#[cfg(test)]
mod tests;

use std::time::Instant;

use super::io::Now;
use crate::{bus::messages::LeaseRecord, id::DispatcherId, limits};

/// What became of a write or a read of the key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LeaseInput {
    /// The key holds this, or nothing, as a read or a watch says.
    Seen(Option<(LeaseRecord, u64)>),
    /// Our write took place and made this revision.
    Written(u64),
    /// Our write was not the first, or the delete is done.
    NotWritten,
    /// No answer: it may have taken place or not.
    Unknown,
    /// Time has passed.
    Tick,
    /// An operator wants another to lead: let go, and do not stand again for as
    /// long as a lease lasts.
    StepDown,
    /// The process ends: let go.
    Resign,
}

/// What is to be done. Each but the last two is answered by one input.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LeaseOutput {
    /// Read the key: [`LeaseInput::Seen`] or [`LeaseInput::Unknown`].
    Read,
    /// Write the key where it holds nothing.
    Create(LeaseRecord),
    /// Write the key where its revision is still this.
    Renew(LeaseRecord, u64),
    /// Delete the key where its revision is still this.
    Release(u64),
    /// We lead from now on.
    Elected,
    /// We lead no more.
    Deposed,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Under {
    Nothing,
    Read,
    Create { sent: Instant, record: LeaseRecord },
    Renew { sent: Instant },
    Release,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Held {
    record: LeaseRecord,
    revision: u64,
    until: Instant,
}

/// The lease.
#[derive(Debug)]
pub struct Lease {
    me: DispatcherId,
    boot: String,
    held: Option<Held>,
    /// A create of ours that went unanswered: it may have taken place.
    maybe: Option<(LeaseRecord, Instant)>,
    holder: Option<LeaseRecord>,
    term: u64,
    under: Under,
    next: Option<Instant>,
    /// A renewal failed: the key is read before anything else.
    doubt: bool,
    /// Until when others come first.
    stands_back: Option<Instant>,
    resigned: bool,
}

impl Lease {
    /// A dispatcher that follows; `boot` tells its lives apart.
    #[must_use]
    pub fn new(me: DispatcherId, boot: String) -> Self {
        Self {
            me,
            boot,
            held: None,
            maybe: None,
            holder: None,
            term: 0,
            under: Under::Nothing,
            next: None,
            doubt: false,
            stands_back: None,
            resigned: false,
        }
    }

    /// Who leads, as far as is known.
    #[must_use]
    pub fn leader(&self) -> Option<DispatcherId> {
        let holder = self.holder.as_ref()?;
        DispatcherId::parse(&holder.holder).ok()
    }

    /// The last term known.
    #[must_use]
    pub fn term(&self) -> u64 {
        self.term
    }

    /// Whether we lead.
    #[must_use]
    pub fn leads(&self) -> bool {
        self.held.is_some()
    }

    /// When [`LeaseInput::Tick`] is due; none before the first one, and none
    /// where only an answer that is under way helps.
    #[must_use]
    pub fn deadline(&self) -> Option<Instant> {
        let until = self.held.as_ref().map(|held| held.until);
        let next = self.next.filter(|_| self.under == Under::Nothing && !self.resigned);
        [next, until].into_iter().flatten().min()
    }

    /// Takes in what happened and says what to do.
    pub fn handle(&mut self, input: LeaseInput, now: Now) -> Vec<LeaseOutput> {
        let mut out = Vec::new();
        // First of all: whoever comes back from a long pause leads no more.
        if self.held.as_ref().is_some_and(|held| held.until <= now.at) {
            self.depose(&mut out);
        }
        match input {
            LeaseInput::Seen(entry) => self.seen(entry, now, &mut out),
            LeaseInput::Written(revision) => self.written(revision, now, &mut out),
            LeaseInput::NotWritten => {
                self.under = Under::Nothing;
                self.doubt = true;
                self.next = Some(now.at);
            }
            LeaseInput::Unknown => {
                if let Under::Create { sent, record } = &self.under {
                    self.maybe = Some((record.clone(), *sent));
                }
                self.under = Under::Nothing;
                self.doubt = true;
                self.next = Some(now.at + limits::WRITE_RETRY);
            }
            LeaseInput::Tick => (),
            LeaseInput::StepDown if self.held.is_some() => {
                self.stands_back = Some(now.at + limits::LEASE_TTL);
                self.let_go(&mut out);
            }
            LeaseInput::StepDown => (),
            LeaseInput::Resign => {
                self.resigned = true;
                self.let_go(&mut out);
            }
        }
        self.go_on(now, &mut out);
        out
    }

    fn go_on(&mut self, now: Now, out: &mut Vec<LeaseOutput>) {
        let due = self.next.is_none_or(|next| next <= now.at);
        if self.under != Under::Nothing || self.resigned || !due {
            return;
        }
        self.next = Some(now.at + limits::LEASE_RENEW);
        match &self.held {
            Some(held) if !self.doubt => {
                self.under = Under::Renew { sent: now.at };
                out.push(LeaseOutput::Renew(held.record.clone(), held.revision));
            }
            _ => {
                self.under = Under::Read;
                out.push(LeaseOutput::Read);
            }
        }
    }

    fn seen(&mut self, entry: Option<(LeaseRecord, u64)>, now: Now, out: &mut Vec<LeaseOutput>) {
        let asked = self.under == Under::Read;
        if asked {
            self.under = Under::Nothing;
            self.doubt = false;
        }
        let Some((record, revision)) = entry else {
            if self.held.is_some() {
                // Only a read tells this of a lease of ours: it was removed.
                // A watch may lag behind our own create.
                if asked {
                    self.depose(out);
                    self.next = Some(now.at);
                }
                return;
            }
            self.holder = None;
            if self.under == Under::Nothing && self.may_lead(now) {
                self.create(now, out);
            }
            return;
        };
        self.term = self.term.max(record.term);
        let ours = record.holder == self.me.as_str() && record.boot == self.boot;
        match &mut self.held {
            Some(held) if ours && record.term == held.record.term => {
                // A renewal that went unanswered took place after all. When it
                // was sent is not known, so it prolongs nothing.
                held.revision = held.revision.max(revision);
                if asked {
                    self.next = Some(now.at);
                }
            }
            Some(held) if revision > held.revision => {
                self.depose(out);
                self.holder = Some(record);
            }
            Some(_) => (),
            None => {
                let may_lead = self.may_lead(now);
                if ours
                    && let Some((maybe, sent)) = self.maybe.take()
                    && maybe == record
                    && sent + limits::LEASE_TTL > now.at
                    && may_lead
                {
                    self.hold(record, revision, sent, out);
                } else if ours && !may_lead && self.under == Under::Nothing {
                    // The renewal that was under way when we let go.
                    self.release(revision, out);
                } else {
                    self.holder = Some(record);
                }
            }
        }
    }

    fn create(&mut self, now: Now, out: &mut Vec<LeaseOutput>) {
        // The bucket forgets terms, so the clock helps to make them rise.
        self.term = (self.term + 1).max(now.unix_ms / 1_000);
        let record = LeaseRecord {
            holder: self.me.as_str().to_owned(),
            boot: self.boot.clone(),
            term: self.term,
        };
        self.maybe = None;
        self.under = Under::Create { sent: now.at, record: record.clone() };
        out.push(LeaseOutput::Create(record));
    }

    fn written(&mut self, revision: u64, now: Now, out: &mut Vec<LeaseOutput>) {
        match std::mem::replace(&mut self.under, Under::Nothing) {
            Under::Create { .. } | Under::Renew { .. } if !self.may_lead(now) => {
                self.release(revision, out);
            }
            Under::Create { sent, record } if sent + limits::LEASE_TTL > now.at => {
                self.hold(record, revision, sent, out);
            }
            Under::Renew { sent } => {
                if let Some(held) = &mut self.held {
                    held.revision = held.revision.max(revision);
                    held.until = held.until.max(sent + limits::LEASE_TTL);
                    self.next = Some(sent + limits::LEASE_RENEW);
                }
            }
            _ => (),
        }
    }

    fn hold(
        &mut self,
        record: LeaseRecord,
        revision: u64,
        sent: Instant,
        out: &mut Vec<LeaseOutput>,
    ) {
        self.holder = Some(record.clone());
        self.held = Some(Held { record, revision, until: sent + limits::LEASE_TTL });
        self.next = Some(sent + limits::LEASE_RENEW);
        out.push(LeaseOutput::Elected);
    }

    fn depose(&mut self, out: &mut Vec<LeaseOutput>) {
        if self.held.take().is_some() {
            self.holder = None;
            out.push(LeaseOutput::Deposed);
        }
    }

    fn let_go(&mut self, out: &mut Vec<LeaseOutput>) {
        let Some(revision) = self.held.as_ref().map(|held| held.revision) else { return };
        self.depose(out);
        // A renewal under way changes the revision; its answer releases.
        if self.under == Under::Nothing {
            self.release(revision, out);
        }
    }

    /// Whether we may hold the lease, were it ours.
    fn may_lead(&self, now: Now) -> bool {
        !self.resigned && self.stands_back.is_none_or(|until| until <= now.at)
    }

    fn release(&mut self, revision: u64, out: &mut Vec<LeaseOutput>) {
        self.under = Under::Release;
        out.push(LeaseOutput::Release(revision));
    }

    /// Whether nothing is under way any more: a process that resigned may end.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.under == Under::Nothing
    }
}
