//! What waits to be written to an adapter's stdin: control is never dropped,
//! media is, the oldest first, and never in the middle of a frame.

use std::collections::VecDeque;

use rustix::io::Errno;

use crate::{limits, sdk::process::Pipe};

#[derive(Debug)]
struct Item {
    bytes: Vec<u8>,
    media: bool,
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Outlet {
    pipe: Option<Pipe>,
    items: VecDeque<Item>,
    /// Bytes of the first item that are written.
    written: usize,
    waiting: usize,
    /// The pipe is closed once all is written.
    closing: bool,
}

/// The adapter does not read what it must.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Stuck;

impl Outlet {
    /// Towards this pipe; whatever waited was for another process.
    pub(super) fn open(pipe: Option<Pipe>) -> Self {
        Self { pipe, ..Self::default() }
    }

    /// Queues control frames.
    pub(super) fn control(&mut self, bytes: Vec<u8>) -> Result<(), Stuck> {
        if self.pipe.is_none() || bytes.is_empty() {
            return Ok(());
        }
        self.make_room(bytes.len());
        if self.waiting + bytes.len() > limits::STDIN_QUEUE_BYTES {
            return Err(Stuck);
        }
        self.push(bytes, false);
        Ok(())
    }

    /// Queues a frame of media; returns how many had to go for it.
    pub(super) fn media(&mut self, bytes: Vec<u8>) -> u64 {
        if self.pipe.is_none() || self.closing {
            return 1;
        }
        let dropped = self.make_room(bytes.len());
        if self.waiting + bytes.len() > limits::STDIN_QUEUE_BYTES {
            return dropped + 1;
        }
        self.push(bytes, true);
        dropped
    }

    fn push(&mut self, bytes: Vec<u8>, media: bool) {
        self.waiting += bytes.len();
        self.items.push_back(Item { bytes, media });
    }

    /// Drops the oldest media until so many bytes more fit; returns how many
    /// frames went.
    fn make_room(&mut self, bytes: usize) -> u64 {
        let mut dropped = 0;
        // The first item may be half written.
        let mut at = usize::from(self.written > 0);
        while self.waiting + bytes > limits::STDIN_QUEUE_BYTES && at < self.items.len() {
            if self.items[at].media {
                if let Some(item) = self.items.remove(at) {
                    self.waiting -= item.bytes.len();
                    dropped += 1;
                }
            } else {
                at += 1;
            }
        }
        dropped
    }

    /// Writes what the pipe takes.
    pub(super) fn flush(&mut self) {
        let Some(pipe) = &self.pipe else { return };
        while let Some(item) = self.items.front() {
            match rustix::io::write(&pipe.fd, &item.bytes[self.written..]) {
                Ok(count) => {
                    self.written += count;
                    if self.written < item.bytes.len() {
                        continue;
                    }
                    self.waiting -= item.bytes.len();
                    self.written = 0;
                    self.items.pop_front();
                }
                Err(Errno::INTR) => (),
                Err(Errno::AGAIN) => return,
                // Nobody reads any more: the end of the process says why.
                Err(_) => {
                    *self = Self::default();
                    return;
                }
            }
        }
        if self.closing {
            self.pipe = None;
        }
    }

    /// Closes the pipe once all is written: that asks the process to leave.
    pub(super) fn close(&mut self) {
        self.closing = true;
        self.flush();
    }
}
