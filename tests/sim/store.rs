//! The two buckets and the lease as JetStream keeps them: one revision for each
//! write, compare-and-set, a lease that vanishes two seconds after its last
//! write. A bucket that is made anew counts on.

use std::collections::BTreeMap;

use audio_gateway::{
    bus::messages::LeaseRecord,
    dispatch::io::{Key, Outcome, Record, Shelf},
    id::{RoomId, TaskId},
    limits,
    task::{RoomRecord, TaskRecord},
};

/// A change, as watches tell it.
#[derive(Debug, Clone)]
pub struct Written {
    pub key: Key,
    pub revision: u64,
    pub before: Option<Record>,
    pub after: Option<Record>,
}

/// The store.
#[derive(Debug, Default)]
pub struct Store {
    entries: BTreeMap<Key, (Record, u64)>,
    tasks: u64,
    rooms: u64,
    leases: u64,
    lease: Option<(LeaseRecord, u64, u64)>,
}

impl Store {
    /// The next revision of the bucket in which a key is.
    fn next(&mut self, key: &Key) -> u64 {
        let last = match key {
            Key::Task(_) => &mut self.tasks,
            Key::Room(_) => &mut self.rooms,
        };
        *last += 1;
        *last
    }

    /// Loses all that is in a bucket. One that is made anew counts on from a
    /// later time.
    pub fn lose(&mut self, shelf: Shelf, bucket: bool) {
        self.entries.retain(|key, _| shelf_of(key) != shelf);
        if bucket {
            match shelf {
                Shelf::Tasks => self.tasks += 1_000_000,
                Shelf::Rooms => self.rooms += 1_000_000,
            }
        }
    }

    /// Writes where the last revision is `expected`.
    pub fn put(&mut self, record: Record, expected: u64) -> (Outcome, Option<Written>) {
        let key = record.key();
        let known = self.entries.get(&key).map_or(0, |(_, revision)| *revision);
        if known != expected {
            return (Outcome::Conflict, None);
        }
        let revision = self.next(&key);
        let before = self.entries.insert(key.clone(), (record.clone(), revision));
        let before = before.map(|(record, _)| record);
        let written = Written { key, revision, before, after: Some(record) };
        (Outcome::Written(revision), Some(written))
    }

    /// Deletes likewise. The real one does not tell a conflict from no answer.
    pub fn delete(&mut self, key: &Key, expected: u64) -> (Outcome, Option<Written>) {
        if self.entries.get(key).is_none_or(|(_, revision)| *revision != expected) {
            return (Outcome::Unknown, None);
        }
        let revision = self.next(key);
        let before = self.entries.remove(key).map(|(record, _)| record);
        let written = Written { key: key.clone(), revision, before, after: None };
        (Outcome::Dropped, Some(written))
    }

    pub fn get(&self, key: &Key) -> Option<(Record, u64)> {
        self.entries.get(key).cloned()
    }

    /// Everything, oldest write first.
    pub fn all(&self) -> Vec<Written> {
        let mut all: Vec<Written> = self
            .entries
            .iter()
            .map(|(key, (record, revision))| Written {
                key: key.clone(),
                revision: *revision,
                before: None,
                after: Some(record.clone()),
            })
            .collect();
        all.sort_by_key(|written| written.revision);
        all
    }

    pub fn task(&self, task: &TaskId) -> Option<&TaskRecord> {
        match self.entries.get(&Key::Task(task.clone())) {
            Some((Record::Task(record), _)) => Some(record),
            _ => None,
        }
    }

    pub fn room(&self, room: &RoomId) -> Option<&RoomRecord> {
        match self.entries.get(&Key::Room(room.clone())) {
            Some((Record::Room(record), _)) => Some(record),
            _ => None,
        }
    }

    pub fn tasks(&self) -> impl Iterator<Item = &TaskRecord> {
        self.entries.values().filter_map(|(record, _)| match record {
            Record::Task(record) => Some(&**record),
            Record::Room(_) => None,
        })
    }

    // ---- the lease ----

    /// What the lease's key holds at `now`, in µs.
    pub fn lease(&self, now: u64) -> Option<(LeaseRecord, u64)> {
        let (record, revision, written) = self.lease.as_ref()?;
        let ttl = u64::try_from(limits::LEASE_TTL.as_micros()).unwrap();
        (written + ttl > now).then(|| (record.clone(), *revision))
    }

    /// Writes the lease where its revision is `expected` (0: there is none).
    pub fn write_lease(&mut self, record: LeaseRecord, expected: u64, now: u64) -> Option<u64> {
        if self.lease(now).map_or(0, |(_, revision)| revision) != expected {
            return None;
        }
        self.leases += 1;
        self.lease = Some((record, self.leases, now));
        Some(self.leases)
    }

    /// Deletes the lease where its revision is `expected`.
    pub fn release_lease(&mut self, expected: u64, now: u64) -> bool {
        let held = self.lease(now).is_some_and(|(_, revision)| revision == expected);
        if held {
            self.lease = None;
        }
        held
    }
}

/// The bucket in which a key is.
pub fn shelf_of(key: &Key) -> Shelf {
    match key {
        Key::Task(_) => Shelf::Tasks,
        Key::Room(_) => Shelf::Rooms,
    }
}
