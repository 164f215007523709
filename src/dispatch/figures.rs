//! What a dispatcher tells of itself in numbers, as `nats micro stats` shows it.

use std::{collections::BTreeMap, time::Duration};

use serde::Serialize;

use super::{core::Core, waits::PlaceMs};
use crate::{
    bus::messages::{RefusalCode, WorkerPhase},
    id::DispatcherId,
    task::TaskState,
};

/// Workers by phase.
#[derive(Debug, Default, PartialEq, Eq, Serialize)]
pub(super) struct Fleet {
    running: usize,
    lame_duck: usize,
    /// Named by a task and not heard yet, or taken for gone.
    silent: usize,
}

/// See the module.
#[derive(Debug, Serialize)]
pub(super) struct Figures {
    pub(super) is_leader: bool,
    pub(super) leader: Option<DispatcherId>,
    pub(super) term: u64,
    /// Tasks that wait for a worker.
    pub(super) queue: usize,
    /// Tasks in each state that is not empty.
    pub(super) tasks: BTreeMap<TaskState, usize>,
    pub(super) workers: Fleet,
    pub(super) place_ms: PlaceMs,
    /// Requests that this dispatcher refused, by reason.
    pub(super) refusals: BTreeMap<RefusalCode, u64>,
}

impl Core {
    /// What there is to tell; who leads and who was refused is not known here.
    pub(super) fn figures(&self) -> Figures {
        let mut workers = Fleet::default();
        for worker in self.workers.values() {
            match worker.beat.as_ref().filter(|_| self.is_lively(worker)) {
                None => workers.silent += 1,
                Some(beat) if beat.phase == WorkerPhase::Running => workers.running += 1,
                Some(_) => workers.lame_duck += 1,
            }
        }
        Figures {
            is_leader: false,
            leader: None,
            term: 0,
            queue: self.index.queue().len(),
            tasks: self.index.states().clone(),
            workers,
            place_ms: self.placed.spread(),
            refusals: BTreeMap::new(),
        }
    }
}

/// Between two times these figures are told.
pub(super) const EVERY: Duration = Duration::from_secs(1);
