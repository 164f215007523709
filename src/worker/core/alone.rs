//! A worker of which nobody hears: its rooms may have been given to another one,
//! and it cannot know.

use std::time::Instant;

use super::{Core, Output};
use crate::{id::TaskId, limits};

/// What has become of the worker's lease.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lease {
    /// It is renewed, and our rooms are ours.
    Held,
    /// It has run out: somebody else may play in our rooms.
    Lapsed,
    /// Nobody has heard of us for longer than any outage lasts.
    Lost,
}

impl Core {
    /// A room in which two play is worse than one in which nobody does, so what
    /// is pushed is muted at once. What is pulled harms nobody under an epoch
    /// that is over, so the rooms are kept until there is no hope.
    pub(super) fn leased(&mut self, lease: Lease, out: &mut Vec<Output>) {
        match lease {
            Lease::Held => out.push(Output::Mute(false)),
            Lease::Lapsed => out.push(Output::Mute(true)),
            Lease::Lost => {
                let all: Vec<TaskId> = self.sessions.keys().cloned().collect();
                all.iter().for_each(|task| self.end(task, out));
            }
        }
    }
}

/// Who still hears of a worker: the store, which acknowledges its lease, or a
/// dispatcher that answers it.
///
/// Where the store is away for all, nobody can claim a room, and rooms go on.
/// A dispatcher that answers hears the heartbeats too: it takes nobody for gone
/// who beats, and says so where a room is another's. So a worker is alone only
/// where neither of them answers.
#[derive(Debug, Default)]
pub struct Contact {
    /// When the last renewal was sent that was acknowledged; none: there was no
    /// first one, and nobody counts on it.
    renewed: Option<Instant>,
    /// When the last question was sent that a dispatcher answered.
    heard: Option<Instant>,
    /// When the next one is due.
    ask: Option<Instant>,
    lost: bool,
}

impl Contact {
    /// A renewal was acknowledged.
    pub fn renewed(&mut self, sent: Instant) {
        *self = Self { renewed: Some(sent), ..Self::default() };
    }

    /// A dispatcher answered a question.
    pub fn answered(&mut self, asked: Instant) {
        self.heard = self.heard.max(Some(asked));
    }

    /// What has become of the lease. One that is lost stays so until it is
    /// renewed.
    pub fn lease(&mut self, now: Instant) -> Lease {
        let Some(renewed) = self.renewed else { return Lease::Held };
        let heard = self.heard.map_or(renewed, |heard| heard.max(renewed));
        self.lost |= heard + limits::WORKER_ALONE <= now;
        match self.lost {
            true => Lease::Lost,
            false if renewed + limits::LEASE_TTL <= now => Lease::Lapsed,
            false => Lease::Held,
        }
    }

    /// Whether a dispatcher is to be asked now whether it hears us. The next
    /// question is due a while later.
    pub fn asks(&mut self, now: Instant) -> bool {
        let due = self.ask.is_none_or(|due| due <= now);
        let asks = due && self.lease(now) == Lease::Lapsed;
        if asks {
            self.ask = Some(now + limits::ALONE_ASK);
        }
        asks
    }

    /// When it is to be looked at again, where nothing comes before.
    #[must_use]
    pub fn deadline(&self) -> Option<Instant> {
        let renewed = self.renewed.filter(|_| !self.lost)?;
        let heard = self.heard.map_or(renewed, |heard| heard.max(renewed));
        let next = self.ask.unwrap_or(renewed + limits::LEASE_TTL);
        Some(next.min(heard + limits::WORKER_ALONE))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_lease_lapses_and_is_lost_where_nobody_answers() {
        let (mut contact, begin) = (Contact::default(), Instant::now());
        assert_eq!(contact.lease(begin + limits::WORKER_ALONE * 9), Lease::Held);
        assert_eq!(contact.deadline(), None, "nobody counts on a lease that never was");
        contact.renewed(begin);
        assert_eq!(contact.deadline(), Some(begin + limits::LEASE_TTL));
        let lapsed = begin + limits::LEASE_TTL;
        assert_eq!(contact.lease(lapsed), Lease::Lapsed);
        assert!(contact.asks(lapsed) && !contact.asks(lapsed));
        assert_eq!(contact.deadline(), Some(lapsed + limits::ALONE_ASK));
        let end = begin + limits::WORKER_ALONE;
        assert_eq!(contact.lease(end - Duration::from_millis(1)), Lease::Lapsed);
        assert_eq!(contact.lease(end), Lease::Lost);
        assert!(!contact.asks(end) && contact.deadline().is_none());
        // Whoever hears it then comes too late: its rooms are left.
        contact.answered(end);
        assert_eq!(contact.lease(end), Lease::Lost);
        contact.renewed(end);
        assert_eq!(contact.lease(end), Lease::Held);
    }

    #[test]
    fn it_is_not_lost_as_long_as_a_dispatcher_answers() {
        let (mut contact, begin) = (Contact::default(), Instant::now());
        contact.renewed(begin);
        let (mut now, mut asked) = (begin, 0);
        // An outage of ten minutes; every fifth answer is lost.
        while now < begin + 10 * limits::WORKER_ALONE {
            now = contact.deadline().unwrap();
            assert_eq!(contact.lease(now), Lease::Lapsed);
            if contact.asks(now) {
                asked += 1;
                if asked % 5 != 0 {
                    contact.answered(now);
                }
            }
        }
        assert!((110..=130).contains(&asked), "{asked}");
        // Then they are gone as well.
        let silent = now + limits::WORKER_ALONE;
        while contact.lease(now) != Lease::Lost {
            now = contact.deadline().unwrap();
            contact.asks(now);
        }
        assert!(now <= silent, "{:?}", now - begin);
    }
}
