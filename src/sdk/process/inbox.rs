//! What callers ask of the supervisor's thread: orders to start, levels of
//! stopping, the end of everything. Bounded: a queue of orders, and one level
//! for each process that is alive.

use std::{
    collections::{BTreeMap, VecDeque},
    io,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    sync::{Mutex, MutexGuard, PoisonError},
};

use rustix::event::{EventfdFlags, eventfd};
use tokio::sync::oneshot;

use super::{ChildKey, SpawnError, SpawnRequest, Spawned, Stop};
use crate::limits::SPAWN_QUEUE;

/// A process to be started, and where the answer goes.
#[derive(Debug)]
pub(super) struct Order {
    pub(super) request: SpawnRequest,
    pub(super) reply: oneshot::Sender<Result<Spawned, SpawnError>>,
}

/// All that was asked since the thread last looked.
#[derive(Debug, Default)]
pub(super) struct Asked {
    pub(super) orders: VecDeque<Order>,
    pub(super) stops: BTreeMap<ChildKey, Stop>,
    pub(super) shut_down: Option<Stop>,
}

/// The mailbox of the supervisor's thread.
#[derive(Debug)]
pub(super) struct Inbox {
    asked: Mutex<Asked>,
    bell: OwnedFd,
}

impl Inbox {
    pub(super) fn new() -> io::Result<Self> {
        let bell = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        Ok(Self { asked: Mutex::default(), bell })
    }

    /// Queues an order, unless too many wait or nothing is started any more.
    pub(super) fn order(&self, order: Order) -> Result<(), SpawnError> {
        let mut asked = self.lock();
        if asked.shut_down.is_some() {
            return Err(SpawnError::Stopped);
        }
        if asked.orders.len() >= SPAWN_QUEUE {
            return Err(SpawnError::Busy);
        }
        asked.orders.push_back(order);
        drop(asked);
        self.ring();
        Ok(())
    }

    /// Takes a waiting order back, or raises the level of a process.
    pub(super) fn stop(&self, key: ChildKey, how: Stop) {
        let mut asked = self.lock();
        if let Some(at) = asked.orders.iter().position(|order| order.request.key == key) {
            let order = asked.orders.remove(at);
            drop(asked);
            // Whoever asked to start it may be gone; then nobody wants to know.
            let _ = order.map(|order| order.reply.send(Err(SpawnError::Stopped)));
            return;
        }
        let level = asked.stops.entry(key).or_insert(how);
        *level = how.max(*level);
        drop(asked);
        self.ring();
    }

    /// Ends everything.
    pub(super) fn shut_down(&self, how: Stop) {
        let mut asked = self.lock();
        asked.shut_down = asked.shut_down.max(Some(how));
        drop(asked);
        self.ring();
    }

    /// Takes the stops and at most one order: a start takes a millisecond, and
    /// what processes write must not wait for all of them.
    pub(super) fn take(&self) -> (BTreeMap<ChildKey, Stop>, Option<Order>, Option<Stop>) {
        // An empty bell is not an error, only early.
        let _ = rustix::io::read(&self.bell, &mut [0u8; 8]);
        let mut asked = self.lock();
        let stops = std::mem::take(&mut asked.stops);
        if asked.shut_down.is_some() {
            let refused = std::mem::take(&mut asked.orders);
            for order in refused {
                let _ = order.reply.send(Err(SpawnError::Stopped));
            }
        }
        let order = asked.orders.pop_front();
        let more = !asked.orders.is_empty();
        let shut_down = asked.shut_down;
        drop(asked);
        if more {
            self.ring();
        }
        (stops, order, shut_down)
    }

    /// What epoll watches.
    pub(super) fn bell(&self) -> BorrowedFd<'_> {
        self.bell.as_fd()
    }

    fn ring(&self) {
        // A counter that is full has rung already.
        let _ = rustix::io::write(&self.bell, &1u64.to_ne_bytes());
    }

    fn lock(&self) -> MutexGuard<'_, Asked> {
        self.asked.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
