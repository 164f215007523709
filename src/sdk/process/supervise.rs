//! The loop of the supervisor's thread: one epoll over every stderr and every
//! pidfd, the guard and the inbox.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    io,
    os::fd::OwnedFd,
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};

use rustix::{
    buffer::spare_capacity,
    event::{
        Timespec,
        epoll::{self, CreateFlags, Event, EventData, EventFlags},
    },
    io::Errno,
    process::Signal,
};
use tokio::sync::mpsc::{self, error::TrySendError};

use super::{
    ChildKey, Exited, Patience, SpawnError, Stop,
    child::{self, Child},
    guard::Guard,
    inbox::{Inbox, Order},
    usage::Pids,
};
use crate::limits;

/// Names a child within the loop; never used again, so that an event of one
/// that has ended means nobody.
type Serial = u64;

/// What an epoll event is about. Children take the numbers from [`FIRST`] on,
/// two each: stderr and pidfd.
const BELL: u64 = 0;
const GUARD: u64 = 1;
const FIRST: Serial = 1;
/// Events taken in at once.
const EVENTS: usize = 256;
/// Wait before the report of an end is offered again to a full queue.
const OFFER_AGAIN: Duration = Duration::from_millis(20);
/// How often a first process looks for orphans that have ended.
const ORPHANS: Duration = Duration::from_secs(1);
/// Reads of what a process left in its stderr: more than the pipe holds.
const LAST_READS: usize = 2;

/// The state of the supervisor's thread, which owns all of it.
pub(super) struct Loop {
    launcher: PathBuf,
    marker: String,
    patience: Patience,
    inbox: Arc<Inbox>,
    pids: Arc<Pids>,
    exits: mpsc::Sender<Exited>,
    /// Ends that found the queue full, oldest first.
    unreported: VecDeque<Exited>,
    epoll: OwnedFd,
    children: BTreeMap<Serial, Child>,
    serials: BTreeMap<ChildKey, Serial>,
    due: BTreeSet<(Instant, Serial)>,
    next: Serial,
    guard: Option<Guard>,
    /// When a dead guard was last replaced: not again at once.
    guard_replaced: Option<Instant>,
    shut_down: Option<Stop>,
    /// Whether this is the first process of a container, which gets the orphans.
    first: bool,
    buffer: Vec<u8>,
}

impl Loop {
    pub(super) fn new(
        launcher: PathBuf,
        patience: Patience,
        inbox: Arc<Inbox>,
        pids: Arc<Pids>,
        exits: mpsc::Sender<Exited>,
    ) -> io::Result<Self> {
        let epoll = epoll::create(CreateFlags::CLOEXEC)?;
        epoll::add(&epoll, inbox.bell(), EventData::new_u64(BELL), EventFlags::IN)?;
        Ok(Self {
            launcher: std::path::absolute(launcher)?,
            marker: uuid::Uuid::new_v4().simple().to_string(),
            patience,
            inbox,
            pids,
            exits,
            unreported: VecDeque::new(),
            epoll,
            children: BTreeMap::new(),
            serials: BTreeMap::new(),
            due: BTreeSet::new(),
            next: FIRST,
            guard: None,
            guard_replaced: None,
            shut_down: None,
            first: std::process::id() == 1,
            buffer: vec![0; limits::STDERR_READ],
        })
    }

    /// Starts the guard, on the thread that calls.
    pub(super) fn start_guard(&mut self) -> Result<(), SpawnError> {
        let groups = self.children.values().map(|child| child.pid);
        let guard = Guard::start(&self.launcher, &self.marker, groups)
            .map_err(|source| SpawnError::Launcher { launcher: self.launcher.clone(), source })?;
        epoll::add(&self.epoll, &guard.pidfd, EventData::new_u64(GUARD), EventFlags::IN)
            .map_err(|error| SpawnError::System { what: "an epoll", source: error.into() })?;
        self.guard = Some(guard);
        Ok(())
    }

    /// Runs until everything was stopped and every process reaped.
    pub(super) fn run(mut self) {
        let mut events: Vec<Event> = Vec::with_capacity(EVENTS);
        while self.shut_down.is_none() || !self.children.is_empty() {
            let timeout = self.timeout(Instant::now());
            let timeout = timeout.and_then(|wait| Timespec::try_from(wait).ok());
            match epoll::wait(&self.epoll, spare_capacity(&mut events), timeout.as_ref()) {
                Ok(_) | Err(Errno::INTR) => (),
                Err(error) => {
                    unreachable!("an epoll of our own fails only if interrupted: {error}")
                }
            }
            let now = Instant::now();
            // First what was asked: who says stop and then closes a stdin finds
            // the stop in the report, however late this thread wakes.
            self.take_in(now);
            for event in events.drain(..) {
                match event.data.u64() {
                    BELL => (),
                    GUARD => self.guard_ended(),
                    data if data % 2 == 0 => self.stderr_ready(data / 2, now),
                    data => self.ended(data / 2, now),
                }
            }
            self.replace_guard(now);
            self.expire(now);
            self.report();
            if self.first {
                let guard = self.guard.as_ref().map(|guard| guard.pid);
                let ours = |pid| self.children.values().any(|child| child.pid == pid);
                child::reap_orphans(|pid| guard == Some(pid) || ours(pid));
            }
        }
        if !self.unreported.is_empty() {
            tracing::warn!(ends = self.unreported.len(), "nobody took the reports of these ends");
        }
        if let Some(guard) = self.guard.take() {
            guard.leave(limits::GUARD_LEAVE);
        }
    }

    /// How long nothing happens unless a descriptor says so.
    fn timeout(&self, now: Instant) -> Option<Duration> {
        let due = self.due.first().map(|&(due, _)| due);
        let guard = self.guard.is_none().then(|| self.guard_due(now));
        let offer = (!self.unreported.is_empty()).then(|| now + OFFER_AGAIN);
        let orphans = self.first.then(|| now + ORPHANS);
        let first = [due, guard, offer, orphans].into_iter().flatten().min();
        first.map(|at| at.saturating_duration_since(now))
    }

    fn take_in(&mut self, now: Instant) {
        let (stops, order, shut_down) = self.inbox.take();
        for (key, how) in stops {
            if let Some(&serial) = self.serials.get(&key) {
                self.stop(serial, how, now);
            }
        }
        if let Some(order) = order {
            self.start(order, now);
        }
        if let Some(how) = shut_down.filter(|_| shut_down > self.shut_down) {
            self.shut_down = shut_down;
            let all: Vec<_> = self.children.keys().copied().collect();
            for serial in all {
                self.stop(serial, how, now);
            }
        }
    }

    fn start(&mut self, order: Order, now: Instant) {
        let Order { request, reply } = order;
        if reply.is_closed() {
            return;
        }
        let started = if self.serials.contains_key(&request.key) {
            Err(SpawnError::Duplicate(request.key))
        } else if self.unreported.len() >= limits::CHILD_EXITS {
            Err(SpawnError::Busy)
        } else {
            child::start(&self.launcher, &self.marker, &request, now)
        };
        let (child, spawned) = match started {
            Ok(started) => started,
            Err(error) => {
                // The caller logs it; one that is gone has no use for it.
                let _ = reply.send(Err(error));
                return;
            }
        };
        let serial = self.next;
        self.next += 1;
        if let Some(guard) = &self.guard {
            guard.add(child.pid);
        }
        let watched = child.stderr.iter().try_for_each(|fd| {
            epoll::add(&self.epoll, fd, EventData::new_u64(serial * 2), EventFlags::IN)
        });
        let watched = watched.and_then(|()| {
            epoll::add(
                &self.epoll,
                &child.pidfd,
                EventData::new_u64(serial * 2 + 1),
                EventFlags::IN,
            )
        });
        self.pids.insert(child.key, child.pid.as_raw_nonzero().get());
        self.serials.insert(child.key, serial);
        self.children.insert(serial, child);
        if let Err(error) = watched {
            // It could end unnoticed, so it does not begin.
            self.stop(serial, Stop::Kill, now);
            self.ended(serial, now);
            let source = error.into();
            let _ = reply.send(Err(SpawnError::System { what: "to watch a process", source }));
        } else if reply.send(Ok(spawned)).is_err() {
            // Whoever asked went away meanwhile.
            self.stop(serial, Stop::Kill, now);
        }
    }

    /// Raises the level of a process to at least `how`.
    fn stop(&mut self, serial: Serial, how: Stop, now: Instant) {
        let Some(child) = self.children.get_mut(&serial) else { return };
        // One without a stdin cannot be told in any gentler way.
        let how = if how == Stop::Leave && !child.hears { Stop::Terminate } else { how };
        if child.stopped >= Some(how) {
            return;
        }
        child.stopped = Some(how);
        if let Some(due) = child.due.take() {
            self.due.remove(&(due, serial));
        }
        child.due = match how {
            Stop::Leave => Some(now + self.patience.leave),
            Stop::Terminate => {
                child.signal(Signal::TERM);
                Some(now + self.patience.terminate)
            }
            Stop::Kill => {
                child.signal(Signal::KILL);
                None
            }
        };
        self.due.extend(child.due.map(|due| (due, serial)));
    }

    /// Raises the level of those that did not end in time.
    fn expire(&mut self, now: Instant) {
        while let Some(&(due, serial)) = self.due.first() {
            if due > now {
                break;
            }
            self.due.pop_first();
            let Some(child) = self.children.get_mut(&serial) else { continue };
            child.due = None;
            let (task, pid) = (&child.task, child.pid.as_raw_nonzero().get());
            let next = match child.stopped {
                Some(Stop::Leave) => {
                    tracing::debug!(%task, pid, "the adapter did not leave in time; terminating it");
                    Stop::Terminate
                }
                _ => {
                    tracing::warn!(%task, pid, "the adapter ignores SIGTERM; killing it");
                    Stop::Kill
                }
            };
            self.stop(serial, next, now);
        }
    }

    fn stderr_ready(&mut self, serial: Serial, now: Instant) {
        if let Some(child) = self.children.get_mut(&serial) {
            child.drain_stderr(&mut self.buffer, now);
        }
    }

    /// A process has ended: its descendants are killed while the group is still
    /// its own, then it is reaped and reported.
    fn ended(&mut self, serial: Serial, now: Instant) {
        let Some(mut child) = self.children.remove(&serial) else { return };
        child.signal(Signal::KILL);
        self.serials.remove(&child.key);
        if let Some(due) = child.due {
            self.due.remove(&(due, serial));
        }
        self.pids.remove(child.key);
        let reaped = child::reap(child.pid);
        if let Some(guard) = &self.guard {
            guard.remove(child.pid);
        }
        for _ in 0..LAST_READS {
            child.drain_stderr(&mut self.buffer, now);
        }
        let stderr_tail = child.finish_stderr(now);
        self.unreported.push_back(Exited {
            key: child.key,
            pid: child.pid.as_raw_nonzero().get().unsigned_abs(),
            end: reaped.end(&stderr_tail),
            stopped: child.stopped,
            stderr_tail,
            cpu: reaped.cpu,
            task: child.task,
        });
    }

    /// Offers the ends to whoever listens; those that find no room wait.
    fn report(&mut self) {
        while let Some(exited) = self.unreported.pop_front() {
            match self.exits.try_send(exited) {
                Ok(()) | Err(TrySendError::Closed(_)) => (),
                Err(TrySendError::Full(exited)) => {
                    self.unreported.push_front(exited);
                    break;
                }
            }
        }
    }

    /// The guard is gone, by accident or because it took no more lines.
    fn guard_ended(&mut self) {
        if let Some(guard) = self.guard.take() {
            let _ = epoll::delete(&self.epoll, &guard.pidfd);
            guard.reap();
            tracing::warn!("the guard of the adapters has died; starting another");
        }
    }

    /// When a guard that is missing may be replaced.
    fn guard_due(&self, now: Instant) -> Instant {
        self.guard_replaced.map_or(now, |at| at + limits::GUARD_RETRY)
    }

    fn replace_guard(&mut self, now: Instant) {
        if self.guard.is_some() || now < self.guard_due(now) {
            return;
        }
        self.guard_replaced = Some(now);
        if let Err(error) = self.start_guard() {
            tracing::error!(
                %error,
                "cannot start the guard: adapters would outlive a killed worker; trying again"
            );
        }
    }
}
