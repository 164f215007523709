//! When something is due: at most one moment for each thing that waits.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Instant,
};

/// Moments by what waits for them.
#[derive(Debug)]
pub(super) struct Timers<K> {
    by_time: BTreeSet<(Instant, K)>,
    by_key: BTreeMap<K, Instant>,
}

impl<K> Default for Timers<K> {
    fn default() -> Self {
        Self { by_time: BTreeSet::new(), by_key: BTreeMap::new() }
    }
}

impl<K: Ord + Clone> Timers<K> {
    /// Has `key` wait for `at` and for nothing else; none: for nothing.
    pub(super) fn set(&mut self, key: K, at: Option<Instant>) {
        if let Some(old) = self.by_key.remove(&key) {
            self.by_time.remove(&(old, key.clone()));
        }
        if let Some(at) = at {
            self.by_key.insert(key.clone(), at);
            self.by_time.insert((at, key));
        }
    }

    /// The next moment.
    pub(super) fn earliest(&self) -> Option<Instant> {
        self.by_time.first().map(|(at, _)| *at)
    }

    /// Takes out one whose moment has come.
    pub(super) fn due(&mut self, now: Instant) -> Option<K> {
        if self.earliest()? > now {
            return None;
        }
        let (_, key) = self.by_time.pop_first()?;
        self.by_key.remove(&key);
        Some(key)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_thing_waits_for_one_moment() {
        let start = Instant::now();
        let after = |s| start + Duration::from_secs(s);
        let mut timers = Timers::default();
        timers.set("a", Some(after(1)));
        timers.set("b", Some(after(2)));
        timers.set("a", Some(after(3)));
        assert_eq!(timers.earliest(), Some(after(2)));
        timers.set("c", Some(after(9)));
        timers.set("c", None);
        assert_eq!(timers.due(after(1)), None);
        assert_eq!([timers.due(after(5)), timers.due(after(5))], [Some("b"), Some("a")]);
        assert_eq!((timers.due(after(50)), timers.earliest()), (None, None));
    }
}
