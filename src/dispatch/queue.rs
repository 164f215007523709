//! The tasks that wait for a worker: in which order, how many, and which of
//! them are worth a look.
//!
//! **Ageing.** A task's turn comes by when it began to wait, put off by
//! [`limits::AGE_STEP`] for each step that its priority lies below the highest.
//! The order of two tasks never changes, and the lowest priority is overtaken
//! only by what comes within nine steps after it.
//!
//! **Looks.** Tasks of one [`Class`] fit at the same workers. Where one of them
//! found no place, the others of its class need not be tried: they wait, and a
//! look through the queue takes up the first of each class only. So a look costs
//! as many steps as there are classes and places, however many tasks wait.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::{Duration, Instant},
};

use crate::{
    id::{AdapterName, TaskId},
    limits,
    task::{HIGHEST_PRIORITY, Kind, TaskRecord},
};

/// A task's place in the queue.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Turn {
    due_ms: u64,
    /// The task.
    pub(super) task: TaskId,
}

impl Turn {
    pub(super) fn of(record: &TaskRecord) -> Self {
        let below = HIGHEST_PRIORITY.saturating_sub(record.spec.priority);
        let step = u64::try_from(limits::AGE_STEP.as_millis()).unwrap_or(u64::MAX);
        Self {
            due_ms: record.pending_ms.saturating_add(step.saturating_mul(below.into())),
            task: record.task.clone(),
        }
    }
}

/// Tasks that fit at the same workers.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Class(Arc<(AdapterName, Kind, BTreeMap<String, String>)>);

impl Class {
    pub(super) fn of(record: &TaskRecord) -> Self {
        let spec = &record.spec;
        Self(Arc::new((spec.sdk.clone(), spec.kind(), spec.labels.clone())))
    }
}

/// How many tasks may wait when one of this priority comes: the last places are
/// kept for higher ones, since what was taken in is never thrown out for them.
pub(super) fn places_for(priority: u8) -> usize {
    let below = usize::from(HIGHEST_PRIORITY.saturating_sub(priority));
    limits::QUEUE_MAX.saturating_sub(below * limits::QUEUE_STEP)
}

/// Which tasks of the queue are worth a look.
#[derive(Debug, Default)]
pub(super) struct Places {
    /// Something about them changed.
    fresh: BTreeSet<Turn>,
    /// Those that found no place.
    waiting: BTreeMap<Class, Waiting>,
    /// What a look that is under way takes up next, one of each class.
    heads: BTreeSet<(Turn, Class)>,
    /// When the whole queue may be looked through again.
    pub(super) rest_until: Option<Instant>,
    /// Who waits to hear whether the owner of its room exists.
    pub(super) owners: BTreeMap<TaskId, TaskId>,
    told: Option<(Instant, u32)>,
    /// Tasks looked at since the beginning.
    pub(super) looks: u64,
}

/// The tasks that run and want a successor.
#[derive(Debug, Default)]
pub(super) struct Moving {
    pub(super) turns: BTreeSet<Turn>,
    /// They are worth a look.
    pub(super) due: bool,
}

/// The tasks of a class that wait.
#[derive(Debug, Default)]
struct Waiting {
    turns: BTreeSet<Turn>,
    /// Which of them a look that is under way takes up.
    head: Option<Turn>,
    why: String,
}

impl Places {
    /// Something about a task that waits changed. One that waits with its class
    /// is not tried for that.
    pub(super) fn again(&mut self, record: &TaskRecord) {
        let turn = Turn::of(record);
        let parked = self.waiting.get(&Class::of(record));
        if !parked.is_some_and(|waiting| waiting.turns.contains(&turn)) {
            self.fresh.insert(turn);
        }
    }

    /// A task waits no more.
    pub(super) fn left(&mut self, record: &TaskRecord) {
        let (turn, class) = (Turn::of(record), Class::of(record));
        self.fresh.remove(&turn);
        self.take(&turn, &class);
    }

    /// Takes a task out of its class; where it was the head, the next one is.
    fn take(&mut self, turn: &Turn, class: &Class) {
        let Some(waiting) = self.waiting.get_mut(class) else { return };
        waiting.turns.remove(turn);
        let was_head = waiting.head.as_ref() == Some(turn);
        if was_head {
            self.heads.remove(&(turn.clone(), class.clone()));
            waiting.head = waiting.turns.first().cloned();
            self.heads.extend(waiting.head.clone().map(|next| (next, class.clone())));
        }
        if waiting.turns.is_empty() {
            self.waiting.remove(class);
        }
    }

    /// The first of each class is worth a look again.
    pub(super) fn look_through(&mut self) {
        self.heads.clear();
        for (class, waiting) in &mut self.waiting {
            waiting.head = waiting.turns.first().cloned();
            self.heads.extend(waiting.head.clone().map(|turn| (turn, class.clone())));
        }
    }

    /// Whether no task is worth a look.
    pub(super) fn is_idle(&self) -> bool {
        self.fresh.is_empty() && self.heads.is_empty()
    }

    /// The task whose turn it is.
    pub(super) fn next(&mut self) -> Option<TaskId> {
        self.looks += 1;
        let head = self.heads.first().map(|(turn, _)| turn);
        if self.fresh.first().is_some_and(|fresh| head.is_none_or(|head| fresh <= head)) {
            return Some(self.fresh.pop_first()?.task);
        }
        let (turn, class) = self.heads.first().cloned()?;
        self.take(&turn, &class);
        Some(turn.task)
    }

    /// Whether a task may not be tried, since others of its class wait and none
    /// of them is up for a look.
    pub(super) fn must_wait(&self, class: &Class) -> bool {
        self.waiting.get(class).is_some_and(|waiting| waiting.head.is_none())
    }

    /// A task waits with its class, which needs no further look for now.
    pub(super) fn park(&mut self, record: &TaskRecord, class: Class, why: Option<&str>) {
        let waiting = self.waiting.entry(class.clone()).or_default();
        if let Some(head) = waiting.head.take() {
            self.heads.remove(&(head, class));
        }
        waiting.turns.insert(Turn::of(record));
        if let Some(why) = why.filter(|why| *why != waiting.why) {
            why.clone_into(&mut waiting.why);
        }
    }

    /// Why the class of a task finds no place.
    pub(super) fn why(&self, record: &TaskRecord) -> Option<&str> {
        self.waiting.get(&Class::of(record)).map(|waiting| waiting.why.as_str())
    }

    /// Whether one more reason may be written now: thousands of tasks whose
    /// reason changes together must not flood the store.
    pub(super) fn may_tell(&mut self, now: Instant) -> bool {
        match &mut self.told {
            Some((since, told)) if *since + Duration::from_secs(1) > now => {
                *told += 1;
                *told <= limits::REASONS_PER_S
            }
            told => {
                *told = Some((now, 1));
                true
            }
        }
    }

    pub(super) fn clear(&mut self) {
        *self = Self { looks: self.looks, ..Self::default() };
    }
}

#[cfg(test)]
mod tests;
