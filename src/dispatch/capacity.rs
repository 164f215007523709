//! What a worker has to give and what a session takes of it: CPU, memory, file
//! descriptors and a place among its sessions. Pure arithmetic over what its
//! heartbeat says and what does not show there yet.

use std::collections::BTreeMap;

use crate::{
    bus::messages::{Cost, Load},
    id::AdapterName,
    limits,
    task::Kind,
};

/// What sessions take, or are about to.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Need {
    /// Of the CPU, in cores.
    pub cores: f64,
    /// Bytes of memory.
    pub memory: u64,
    /// File descriptors.
    pub fds: u64,
}

impl Need {
    /// What one session of an adapter takes at a worker with this load: as it
    /// was measured there; where it was not, as configured; where nothing is
    /// said of it, as its sessions take on average.
    #[must_use]
    pub fn of(load: &Load, adapter: &AdapterName, kind: Kind) -> Self {
        let of_adapter = || load.costs.iter().filter(|cost| cost.adapter == *adapter);
        let measured = of_adapter().find(|cost| cost.kind == Some(kind));
        let configured = || of_adapter().find(|cost| cost.kind.is_none());
        let known: Option<&Cost> = measured.or_else(configured);
        let cores = known.map_or(0.0, |cost| sane(cost.cores));
        let average = match sane(load.session_cost) {
            0.0 => limits::SESSION_COST,
            cost => cost,
        };
        Self {
            cores: if cores > 0.0 { cores } else { average },
            memory: match known.map_or(0, |cost| cost.memory) {
                0 => limits::SESSION_MEMORY,
                memory => memory,
            },
            fds: limits::SESSION_FDS,
        }
    }

    /// The average session of a worker.
    #[must_use]
    pub fn average(load: &Load) -> Self {
        let cores = match sane(load.session_cost) {
            0.0 => limits::SESSION_COST,
            cost => cost,
        };
        Self { cores, memory: limits::SESSION_MEMORY, fds: limits::SESSION_FDS }
    }

    /// Both together.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        Self {
            cores: self.cores + other.cores,
            memory: self.memory.saturating_add(other.memory),
            fds: self.fds.saturating_add(other.fds),
        }
    }
}

/// What comes from outside may be any number.
fn sane(number: f64) -> f64 {
    if number.is_finite() && number > 0.0 { number } else { 0.0 }
}

/// What is left of a worker.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Budget {
    cores: f64,
    /// None: it does not say how much it has.
    memory: Option<u64>,
    fds: Option<u64>,
    sessions: usize,
    /// The largest share of any of them that is in use.
    share: f64,
}

impl Budget {
    /// What is left beside `sessions` and what does not show in the load yet,
    /// up to [`limits::FULL`] of each.
    #[must_use]
    pub fn of(load: &Load, hidden: Need, sessions: usize) -> Self {
        let part = |total: u64, used: u64, hidden: u64| {
            let full = (limits::FULL * total as f64) as u64;
            (total > 0).then(|| full.saturating_sub(used).saturating_sub(hidden))
        };
        let share = |total: f64, used: f64| if total > 0.0 { used / total } else { 0.0 };
        let used = sane(load.cores_used) + hidden.cores;
        let memory_used = load.memory_used.saturating_add(hidden.memory);
        let fds_used = load.fds_used.saturating_add(hidden.fds);
        let shares = [
            share(sane(load.cores), used),
            share(load.memory as f64, memory_used as f64),
            share(load.fds as f64, fds_used as f64),
        ];
        Self {
            cores: limits::FULL * sane(load.cores) - used,
            memory: part(load.memory, load.memory_used, hidden.memory),
            fds: part(load.fds, load.fds_used, hidden.fds),
            sessions: load.sessions_max.saturating_sub(sessions),
            share: shares.into_iter().fold(0.0, f64::max),
        }
    }

    /// Nothing is left.
    #[must_use]
    pub fn closed(self) -> Self {
        Self { sessions: 0, ..self }
    }

    /// How many sessions of this need still fit.
    #[must_use]
    pub fn count(&self, need: &Need) -> usize {
        self.sessions.min(self.resources(need))
    }

    fn resources(&self, need: &Need) -> usize {
        let parts = |left: Option<u64>, each: u64| {
            let left = left.filter(|_| each > 0);
            left.map_or(usize::MAX, |left| usize::try_from(left / each).unwrap_or(usize::MAX))
        };
        // A cast from a float saturates; a negative one is 0.
        let by_cpu = (self.cores / need.cores.max(f64::MIN_POSITIVE) + 1e-9).floor() as usize;
        by_cpu.min(parts(self.memory, need.memory)).min(parts(self.fds, need.fds))
    }

    /// One more session is given to it.
    pub fn take(&mut self, need: &Need) {
        self.cores -= need.cores;
        self.memory = self.memory.map(|left| left.saturating_sub(need.memory));
        self.fds = self.fds.map(|left| left.saturating_sub(need.fds));
        self.sessions = self.sessions.saturating_sub(1);
    }

    /// Whether a worker counts as full: once not even an average session fits,
    /// and then until less than [`limits::OPEN_AGAIN`] is in use, so that it
    /// does not open and close with every breath of its load.
    #[must_use]
    pub fn is_full(&self, was_full: bool, average: &Need) -> bool {
        match was_full {
            true => self.share >= limits::OPEN_AGAIN,
            false => self.share >= limits::OPEN_AGAIN && self.resources(average) == 0,
        }
    }
}

/// What is left of a worker, and of what it may run of each adapter.
#[derive(Debug, Clone, PartialEq)]
pub struct Left {
    budget: Budget,
    /// Of the adapters that may have only so many sessions there.
    places: BTreeMap<AdapterName, usize>,
}

impl Left {
    /// This, with the places that each adapter has as configured, less those of
    /// the sessions that are there or on their way.
    #[must_use]
    pub fn of<'a>(
        budget: Budget,
        load: &Load,
        sessions: impl Iterator<Item = &'a AdapterName>,
    ) -> Self {
        let capped = |cost: &Cost| Some((cost.adapter.clone(), cost.sessions_max?));
        let mut left = Self { budget, places: load.costs.iter().filter_map(capped).collect() };
        if !left.places.is_empty() {
            sessions.for_each(|adapter| left.occupy(adapter));
        }
        left
    }

    fn occupy(&mut self, adapter: &AdapterName) {
        if let Some(places) = self.places.get_mut(adapter) {
            *places = places.saturating_sub(1);
        }
    }

    /// Whether one more session of the adapter may run, were there room for it.
    #[must_use]
    pub fn may_run(&self, adapter: &AdapterName) -> bool {
        self.places.get(adapter) != Some(&0)
    }

    /// How many sessions of an adapter with this need still fit.
    #[must_use]
    pub fn count(&self, need: &Need, adapter: &AdapterName) -> usize {
        let places = self.places.get(adapter).copied().unwrap_or(usize::MAX);
        self.budget.count(need).min(places)
    }

    /// One more session is given to it.
    pub fn take(&mut self, need: &Need, adapter: &AdapterName) {
        self.budget.take(need);
        self.occupy(adapter);
    }
}

#[cfg(test)]
mod tests;
