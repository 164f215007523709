//! What waits to be written to an adapter's stdin: control is never dropped,
//! media is, the oldest first, and never in the middle of a frame.

use std::collections::VecDeque;

use rustix::io::Errno;

use crate::{limits, sdk::process::Pipe};

/// Bytes that are kept room for while nothing waits.
const KEEP: usize = 16 * 1024;

/// One frame, or a few of control.
#[derive(Debug)]
struct Item {
    bytes: usize,
    media: bool,
}

/// See the module. All bytes stand in one buffer, so that a frame of media
/// allocates nothing and what waits leaves in one write.
#[derive(Debug, Default)]
pub(super) struct Outlet {
    pipe: Option<Pipe>,
    items: VecDeque<Item>,
    bytes: VecDeque<u8>,
    /// Bytes of the first item that are written, and gone from `bytes`.
    written: usize,
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

    /// Queues control frames; returns how many frames of media had to go for
    /// them.
    pub(super) fn control(&mut self, bytes: &[u8]) -> Result<u64, Stuck> {
        if self.pipe.is_none() || bytes.is_empty() {
            return Ok(0);
        }
        let dropped = self.make_room(bytes.len());
        if self.bytes.len() + bytes.len() > limits::STDIN_QUEUE_BYTES {
            return Err(Stuck);
        }
        self.push(bytes, false);
        Ok(dropped)
    }

    /// Queues a frame of media; returns how many had to go for it.
    pub(super) fn media(&mut self, bytes: &[u8]) -> u64 {
        if self.pipe.is_none() || self.closing {
            return 1;
        }
        let dropped = self.make_room(bytes.len());
        if self.bytes.len() + bytes.len() > limits::STDIN_QUEUE_BYTES {
            return dropped + 1;
        }
        self.push(bytes, true);
        dropped
    }

    fn push(&mut self, bytes: &[u8], media: bool) {
        self.bytes.extend(bytes);
        self.items.push_back(Item { bytes: bytes.len(), media });
    }

    /// Drops the oldest media until so many bytes more fit; returns how many
    /// frames went.
    fn make_room(&mut self, bytes: usize) -> u64 {
        let (mut dropped, mut at, mut begin) = (0, 0, 0);
        while self.bytes.len() + bytes > limits::STDIN_QUEUE_BYTES && at < self.items.len() {
            let item = &self.items[at];
            // The first item may be half written.
            let waits = item.bytes - if at == 0 { self.written } else { 0 };
            if item.media && waits == item.bytes {
                self.bytes.drain(begin..begin + waits);
                self.items.remove(at);
                dropped += 1;
            } else {
                (at, begin) = (at + 1, begin + waits);
            }
        }
        dropped
    }

    /// Writes what the pipe takes.
    pub(super) fn flush(&mut self) {
        let Some(pipe) = &self.pipe else { return };
        while !self.bytes.is_empty() {
            match rustix::io::write(&pipe.fd, self.bytes.as_slices().0) {
                Ok(count) => {
                    self.bytes.drain(..count);
                    self.written += count;
                    while let Some(item) = self.items.front()
                        && self.written >= item.bytes
                    {
                        self.written -= item.bytes;
                        self.items.pop_front();
                    }
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
        if self.bytes.capacity() > KEEP {
            self.bytes.shrink_to(KEEP);
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

#[cfg(test)]
mod tests {
    use std::{fs::File, io::Read};

    use rustix::pipe::{PipeFlags, pipe_with};

    use super::*;

    /// An outlet into a pipe that nobody reads yet.
    fn outlet() -> (Outlet, File) {
        let (read, write) = pipe_with(PipeFlags::NONBLOCK).unwrap();
        (Outlet::open(Some(Pipe { fd: write, capacity: 65_536 })), File::from(read))
    }

    fn read(pipe: &mut File) -> Vec<u8> {
        let (mut bytes, mut buffer) = (Vec::new(), vec![0; 1 << 20]);
        while let Ok(count @ 1..) = pipe.read(&mut buffer) {
            bytes.extend_from_slice(&buffer[..count]);
        }
        bytes
    }

    #[test]
    fn what_the_pipe_takes_goes_out_in_order() {
        let (mut outlet, mut pipe) = outlet();
        assert_eq!(outlet.control(b"hello"), Ok(0));
        assert_eq!(outlet.media(b"media"), 0);
        outlet.flush();
        assert_eq!(read(&mut pipe), b"hellomedia");
        outlet.close();
        assert_eq!(outlet.media(b"late"), 1);
        assert_eq!(read(&mut pipe), b"");
    }

    #[test]
    fn the_oldest_media_goes_for_what_is_new_and_never_half_a_frame_or_control() {
        let (mut outlet, mut pipe) = outlet();
        let frame = |number: u32| number.to_le_bytes().repeat(166);
        let mut dropped = 0;
        for number in 0..2_000 {
            dropped += outlet.media(&frame(number));
            if number % 100 == 0 {
                dropped += outlet.control(&u32::MAX.to_le_bytes().repeat(166)).unwrap();
                outlet.flush();
            }
        }
        let mut all = Vec::new();
        loop {
            outlet.flush();
            match read(&mut pipe) {
                bytes if bytes.is_empty() => break,
                bytes => all.extend(bytes),
            }
        }
        assert_eq!(all.len() % 664, 0);
        let mut numbers = Vec::new();
        for frame in all.chunks(664) {
            assert!(frame.chunks(4).all(|number| number == &frame[..4]), "a frame in one piece");
            numbers.push(u32::from_le_bytes([frame[0], frame[1], frame[2], frame[3]]));
        }
        assert_eq!(numbers.iter().filter(|number| **number == u32::MAX).count(), 20);
        numbers.retain(|number| *number != u32::MAX);
        assert!(numbers.is_sorted() && numbers.last() == Some(&1_999));
        assert_eq!(numbers.len() as u64 + dropped, 2_000);
    }

    #[test]
    fn an_adapter_that_reads_nothing_is_told_no_more_control_than_fits() {
        let (mut outlet, _pipe) = outlet();
        let mut told = 0;
        while outlet.control(&[7; 1_000]).is_ok() {
            told += 1;
        }
        assert_eq!(told, limits::STDIN_QUEUE_BYTES / 1_000);
        assert_eq!(outlet.media(&[8; 664]), 1, "media does not drive it out");
    }
}
