//! Rates out of counters that are looked at now and then.

use std::collections::BTreeMap;

/// Counters of one kind, a replica each: one that is started again begins anew
/// at 0, and one that is gone counts no more.
#[derive(Debug, Default)]
pub(crate) struct Rate {
    last: Option<(u64, BTreeMap<String, u64>)>,
}

impl Rate {
    /// How many a second since the last look; none at the first, and where there
    /// is nothing to count.
    pub(crate) fn look(&mut self, now_ms: u64, counters: BTreeMap<String, u64>) -> Option<f64> {
        let (then_ms, last) = self.last.replace((now_ms, counters))?;
        let (_, now) = self.last.as_ref().filter(|(_, now)| !now.is_empty())?;
        let grown = |(id, count): (&String, &u64)| {
            last.get(id).map(|before| count.checked_sub(*before).unwrap_or(*count))
        };
        let sum: u64 = now.iter().filter_map(grown).sum();
        let ms = now_ms.saturating_sub(then_ms);
        (ms > 0).then(|| sum as f64 * 1_000.0 / ms as f64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_grew_counts_and_nobody_who_just_came() {
        let counters = |all: &[(&str, u64)]| {
            all.iter().map(|(id, count)| ((*id).to_owned(), *count)).collect::<BTreeMap<_, _>>()
        };
        let mut rate = Rate::default();
        assert_eq!(rate.look(0, counters(&[("a", 100), ("b", 50)])), None);
        assert_eq!(rate.look(2_000, counters(&[("a", 110), ("b", 50)])), Some(5.0));
        // One was started again, one is gone, one is new.
        assert_eq!(rate.look(3_000, counters(&[("a", 7), ("c", 900)])), Some(7.0));
        assert_eq!(rate.look(3_000, counters(&[("a", 9)])), None);
        assert_eq!(rate.look(4_000, counters(&[])), None);
    }
}
