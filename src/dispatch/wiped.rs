//! A bucket that has lost all it held: what this dispatcher knows is written
//! again, so that rooms go on as they were.
//!
//! Every dispatcher does so, whoever leads: a key is made only where there is
//! none, so the first has it and the others learn of it. Where they knew
//! different things the older one may have come first; what workers report and
//! the next claim set that right, as they do after any crash.

use super::{
    core::Core,
    io::{Output, Record, Shelf},
};

impl Core {
    pub(super) fn wiped(&mut self, shelf: Shelf) {
        let lost: Vec<Record> = match shelf {
            Shelf::Tasks => self.tasks.wiped().into_iter().map(Record::Task).collect(),
            Shelf::Rooms => self.rooms.wiped().into_iter().map(Record::Room).collect(),
        };
        tracing::warn!(bucket = ?shelf, records = lost.len(), "a bucket was lost; writing it again");
        lost.into_iter().for_each(|record| self.restore(record));
    }

    pub(super) fn restore(&mut self, record: Record) {
        self.out.push(Output::Put { record, expected: 0 });
    }
}
