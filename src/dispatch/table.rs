//! A bucket as this dispatcher knows it: of each key the last revision seen,
//! and at most one write or read under way, so that two compare-and-sets of
//! ours never race each other.

use std::{borrow::Borrow, collections::BTreeMap, time::Instant};

use super::io::Outcome;

/// What is under way for a key.
#[derive(Debug)]
enum Op<V> {
    None,
    Write(V),
    Drop,
    Read {
        overtaken: bool,
    },
    /// It went unanswered; it is to be read then.
    Again(Instant),
}

#[derive(Debug)]
struct Row<V> {
    value: Option<V>,
    revision: u64,
    /// The reading of the bucket that last told of this key.
    reading: u64,
    op: Op<V>,
    /// What is under way was begun before the bucket was lost: what comes of it
    /// may have been lost with it.
    before_loss: bool,
}

/// What there is to do after something for a key came to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    /// Nothing: the key is free.
    Fine,
    /// Read it: somebody else wrote first. It is busy with that already.
    ReadNow,
    /// Read it later; see [`Table::is_due`].
    Later,
    /// Likewise, and it was a read already that went unanswered.
    Unanswered,
    /// Make it anew: the bucket has lost what we know. It is busy with that.
    Restore,
}

/// A change of a key as the table took it in.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Change<V> {
    /// What it held before.
    pub(super) before: Option<V>,
    /// What it holds now.
    pub(super) after: Option<V>,
}

/// The table.
#[derive(Debug)]
pub(super) struct Table<K, V> {
    rows: BTreeMap<K, Row<V>>,
    reading: u64,
    /// The last reading that told of all there is.
    told: u64,
    current: bool,
}

impl<K, V> Default for Table<K, V> {
    fn default() -> Self {
        Self { rows: BTreeMap::new(), reading: 0, told: 0, current: false }
    }
}

impl<K: Ord + Clone, V: Clone> Table<K, V> {
    /// What a key holds.
    pub(super) fn get<Q: Ord + ?Sized>(&self, key: &Q) -> Option<&V>
    where
        K: Borrow<Q>,
    {
        self.rows.get(key)?.value.as_ref()
    }

    /// Every key that holds something.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&K, &V)> {
        self.rows.iter().filter_map(|(key, row)| Some((key, row.value.as_ref()?)))
    }

    /// Whether something is under way for a key.
    pub(super) fn is_busy(&self, key: &K) -> bool {
        self.rows.get(key).is_some_and(|row| !row.is_free())
    }

    /// Whether all that is in the bucket has been told once.
    pub(super) fn is_current(&self) -> bool {
        self.current
    }

    /// The bucket is being read from its beginning.
    pub(super) fn watching(&mut self) {
        self.reading += 1;
    }

    /// All that is in the bucket has been told: what this reading did not tell
    /// of is no longer there. Returns what was lost with it.
    pub(super) fn all_told(&mut self) -> Vec<(K, V)> {
        self.current = true;
        self.told = self.reading;
        let reading = self.reading;
        let mut lost = Vec::new();
        self.rows.retain(|key, row| {
            if row.reading < reading
                && row.is_free()
                && let Some(value) = row.value.take()
            {
                lost.push((key.clone(), value));
            }
            row.value.is_some() || !row.is_free()
        });
        lost
    }

    /// The bucket was made anew and holds nothing of what we know: it is to be
    /// written again, as the returned records where nothing is under way for
    /// their keys, and else once that has ended.
    pub(super) fn wiped(&mut self) -> Vec<V> {
        self.current = false;
        let mut lost = Vec::new();
        for row in self.rows.values_mut() {
            row.revision = 0;
            match (&row.op, &row.value) {
                (Op::None | Op::Again(_), Some(value)) => {
                    lost.push(value.clone());
                    row.op = Op::Write(value.clone());
                }
                (Op::None | Op::Again(_), None) => (),
                (Op::Write(_) | Op::Drop | Op::Read { .. }, _) => row.before_loss = true,
            }
        }
        lost
    }

    /// A key holds this as of `revision`. What is older than what is known
    /// changes nothing.
    pub(super) fn seen(&mut self, key: &K, revision: u64, value: Option<V>) -> Option<Change<V>> {
        let reading = self.reading;
        let row = self.rows.entry(key.clone()).or_insert_with(|| Row::new(reading));
        row.reading = reading;
        let change = row.take(revision, value);
        self.tidy(key);
        change
    }

    /// Begins a write; returns the revision it must name. The key is not busy.
    pub(super) fn write(&mut self, key: &K, value: V) -> u64 {
        self.begin(key, Op::Write(value))
    }

    /// Begins a delete, likewise.
    pub(super) fn delete(&mut self, key: &K) -> u64 {
        self.begin(key, Op::Drop)
    }

    /// Begins a read, likewise.
    pub(super) fn read(&mut self, key: &K) {
        self.begin(key, Op::Read { overtaken: false });
    }

    fn begin(&mut self, key: &K, op: Op<V>) -> u64 {
        let reading = self.reading;
        let row = self.rows.entry(key.clone()).or_insert_with(|| Row::new(reading));
        debug_assert!(matches!(row.op, Op::None | Op::Again(_)), "two operations on one key");
        row.op = op;
        // A key that holds nothing is made anew, whatever was deleted there.
        if row.value.is_some() { row.revision } else { 0 }
    }

    /// Takes in how what was under way ended. Says what changed, and whether
    /// the key is free again, to be read now, or to be read later.
    pub(super) fn finished(
        &mut self,
        key: &K,
        outcome: Outcome<V>,
        retry: Instant,
    ) -> (Option<Change<V>>, End) {
        let (reading, told) = (self.reading, self.told);
        let Some(row) = self.rows.get_mut(key) else { return (None, End::Fine) };
        let op = std::mem::replace(&mut row.op, Op::None);
        let before_loss = std::mem::take(&mut row.before_loss);
        let mut end = End::Fine;
        let change = match (outcome, op) {
            (Outcome::Written(_), Op::Write(value))
            | (Outcome::Found(Some((value, _))), Op::Read { .. })
                if before_loss =>
            {
                row.op = Op::Read { overtaken: false };
                end = End::ReadNow;
                row.know(value)
            }
            (Outcome::Written(revision), Op::Write(value)) => {
                row.reading = reading;
                row.take(revision, Some(value))
            }
            (Outcome::Dropped, Op::Drop) => row.empty_out(),
            (Outcome::Conflict, _) => {
                row.op = Op::Read { overtaken: true };
                end = End::ReadNow;
                None
            }
            (Outcome::Found(Some((value, revision))), Op::Read { overtaken }) => {
                row.reading = reading;
                // A replica that lags does not know yet what overtook us.
                if overtaken && revision <= row.revision {
                    row.op = Op::Again(retry);
                    end = End::Later;
                }
                row.take(revision, Some(value))
            }
            (Outcome::Found(None), Op::Read { .. }) if row.revision == 0 && row.value.is_some() => {
                row.op = row.value.clone().map_or(Op::None, Op::Write);
                end = End::Restore;
                None
            }
            // A whole reading did not tell of it, and it is not there: it is gone.
            (Outcome::Found(None), Op::Read { .. }) if row.reading < told => row.empty_out(),
            (Outcome::Found(None), Op::Read { overtaken }) if overtaken || row.value.is_some() => {
                // It was deleted, which the watch will tell, or a replica lags,
                // or what overtook us is not written yet.
                row.op = Op::Again(retry);
                end = End::Later;
                None
            }
            (Outcome::Found(None), Op::Read { .. }) => None,
            (_, op) => {
                row.op = Op::Again(retry);
                end = if matches!(op, Op::Read { .. }) { End::Unanswered } else { End::Later };
                None
            }
        };
        self.tidy(key);
        (change, end)
    }

    /// Whether the key waits to be read again and its time has come.
    pub(super) fn is_due(&self, key: &K, now: Instant) -> bool {
        matches!(self.rows.get(key), Some(Row { op: Op::Again(at), .. }) if *at <= now)
    }

    fn tidy(&mut self, key: &K) {
        if self.rows.get(key).is_some_and(|row| row.value.is_none() && row.is_free()) {
            self.rows.remove(key);
        }
    }
}

impl<V: Clone> Row<V> {
    fn new(reading: u64) -> Self {
        Self { value: None, revision: 0, reading, op: Op::None, before_loss: false }
    }

    fn is_free(&self) -> bool {
        matches!(self.op, Op::None)
    }

    /// Takes in what is newer than what is known.
    fn take(&mut self, revision: u64, value: Option<V>) -> Option<Change<V>> {
        if revision <= self.revision {
            return None;
        }
        self.revision = revision;
        let before = std::mem::replace(&mut self.value, value);
        Some(Change { before, after: self.value.clone() })
    }

    /// Takes in what was there before the bucket was lost, where nothing was
    /// told of it since.
    fn know(&mut self, value: V) -> Option<Change<V>> {
        if self.revision > 0 {
            return None;
        }
        let before = self.value.replace(value);
        Some(Change { before, after: self.value.clone() })
    }

    fn empty_out(&mut self) -> Option<Change<V>> {
        let before = self.value.take();
        before.is_some().then_some(Change { before, after: None })
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    type T = Table<&'static str, u8>;

    /// A table that was told of all there is.
    fn told(rows: &[(&'static str, u64, u8)]) -> T {
        let mut table = T::default();
        table.watching();
        for (key, revision, value) in rows {
            table.seen(key, *revision, Some(*value));
        }
        assert!(table.all_told().is_empty() && table.is_current());
        table
    }

    fn later() -> Instant {
        Instant::now() + Duration::from_secs(1)
    }

    #[test]
    fn a_write_names_the_revision_it_replaces() {
        let mut table = T::default();
        assert_eq!(table.write(&"k", 1), 0);
        assert!(table.is_busy(&"k"));
        let (change, end) = table.finished(&"k", Outcome::Written(5), later());
        assert_eq!(change, Some(Change { before: None, after: Some(1) }));
        assert_eq!(end, End::Fine);
        assert_eq!(table.write(&"k", 2), 5);
    }

    #[test]
    fn a_watch_may_tell_of_our_write_first_and_of_a_later_one() {
        let mut table = T::default();
        table.write(&"k", 1);
        assert!(table.seen(&"k", 6, Some(9)).is_some());
        assert_eq!(table.finished(&"k", Outcome::Written(5), later()), (None, End::Fine));
        assert_eq!(table.get("k"), Some(&9));
        assert!(table.seen(&"k", 4, Some(0)).is_none());
    }

    #[test]
    fn who_was_overtaken_reads_until_it_knows_by_what() {
        let mut table = T::default();
        table.seen(&"k", 3, Some(1));
        table.write(&"k", 2);
        let at = later();
        assert_eq!(table.finished(&"k", Outcome::Conflict, at), (None, End::ReadNow));
        assert_eq!(table.finished(&"k", Outcome::Found(Some((1, 3))), at), (None, End::Later));
        assert!(table.is_busy(&"k") && table.is_due(&"k", at));
        table.read(&"k");
        let (change, end) = table.finished(&"k", Outcome::Found(Some((7, 4))), at);
        assert_eq!((change.unwrap().after, end), (Some(7), End::Fine));
    }

    #[test]
    fn a_write_without_an_answer_is_read_again() {
        let mut table = T::default();
        table.write(&"k", 2);
        let at = later();
        assert_eq!(table.finished(&"k", Outcome::Unknown, at), (None, End::Later));
        assert!(table.is_busy(&"k") && !table.is_due(&"k", Instant::now()));
        table.read(&"k");
        assert_eq!(table.finished(&"k", Outcome::Unknown, at), (None, End::Unanswered));
        table.read(&"k");
        assert_eq!(table.finished(&"k", Outcome::Found(None), at), (None, End::Fine));
        assert!(!table.is_busy(&"k"));
    }

    #[test]
    fn a_replica_that_lags_deletes_nothing() {
        let mut table = T::default();
        table.seen(&"k", 3, Some(1));
        table.read(&"k");
        assert_eq!(table.finished(&"k", Outcome::Found(None), later()), (None, End::Later));
        assert_eq!(table.get("k"), Some(&1));
        assert_eq!(table.seen(&"k", 4, None).unwrap().before, Some(1));
    }

    #[test]
    fn what_a_bucket_has_lost_is_made_anew() {
        let mut table = told(&[("idle", 7, 1), ("busy", 8, 2)]);
        table.write(&"busy", 3);
        assert_eq!(table.wiped(), [1]);
        assert!(!table.is_current() && table.is_busy(&"idle"));
        // The new bucket counts from 1, and knows nothing of our write's revision.
        let (_, end) = table.finished(&"idle", Outcome::Written(1), later());
        assert_eq!((end, table.is_busy(&"idle")), (End::Fine, false));
        assert_eq!(table.finished(&"busy", Outcome::Conflict, later()).1, End::ReadNow);
        assert_eq!(table.finished(&"busy", Outcome::Found(None), later()).1, End::Restore);
        let (change, end) = table.finished(&"busy", Outcome::Written(2), later());
        assert_eq!((change.unwrap().after, end), (Some(2), End::Fine));
        table.watching();
        table.seen(&"idle", 1, Some(1));
        table.seen(&"busy", 2, Some(2));
        assert!(table.all_told().is_empty() && table.is_current());
    }

    #[test]
    fn what_a_new_reading_does_not_tell_of_is_gone() {
        let mut table = told(&[("old", 1, 1), ("kept", 2, 2)]);
        table.watching();
        table.seen(&"kept", 2, Some(2));
        table.write(&"new", 3);
        assert_eq!(table.all_told(), [("old", 1)]);
        assert!(table.is_busy(&"new"));
    }

    #[test]
    fn what_was_done_before_a_bucket_was_lost_may_be_lost_with_it() {
        let mut table = told(&[("written", 7, 1), ("read", 8, 2)]);
        table.write(&"written", 3);
        table.read(&"read");
        assert!(table.wiped().is_empty());
        let (change, end) = table.finished(&"written", Outcome::Written(9), later());
        assert_eq!((change.unwrap().after, end), (Some(3), End::ReadNow));
        let (_, end) = table.finished(&"read", Outcome::Found(Some((2, 8))), later());
        assert_eq!(end, End::ReadNow);
        for (key, value) in [("written", 3), ("read", 2)] {
            assert_eq!(table.finished(&key, Outcome::Found(None), later()).1, End::Restore);
            let (change, end) = table.finished(&key, Outcome::Written(1), later());
            assert_eq!((change.unwrap().after, end), (Some(value), End::Fine));
        }
    }

    #[test]
    fn what_another_wrote_since_a_bucket_was_lost_counts_before_what_we_had() {
        let mut table = T::default();
        table.seen(&"k", 7, Some(1));
        table.write(&"k", 2);
        table.wiped();
        table.seen(&"k", 3, Some(9));
        assert_eq!(table.finished(&"k", Outcome::Written(8), later()), (None, End::ReadNow));
        let found = Outcome::Found(Some((9, 3)));
        assert_eq!(table.finished(&"k", found, later()), (None, End::Fine));
        assert_eq!(table.get("k"), Some(&9));
        assert_eq!(table.write(&"k", 4), 3);
    }

    #[test]
    fn what_was_busy_while_a_reading_did_not_tell_of_it_is_gone_once_it_is_not_found() {
        let mut table = told(&[("k", 1, 1)]);
        table.read(&"k");
        assert_eq!(table.finished(&"k", Outcome::Unknown, later()).1, End::Unanswered);
        table.watching();
        assert!(table.all_told().is_empty() && table.get("k").is_some());
        table.read(&"k");
        let (change, end) = table.finished(&"k", Outcome::Found(None), later());
        assert_eq!((change.unwrap().after, end), (None, End::Fine));
        assert!(!table.is_busy(&"k"));
    }
}
