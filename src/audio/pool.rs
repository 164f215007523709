//! Where batches are encoded: chunks that are used again once nobody keeps what
//! was written into them. A worker keeps each batch for ten seconds and lets go
//! of the oldest first, so the chunk that was filled first is free first, and
//! after ten seconds nothing is allocated any more.

use std::collections::VecDeque;

use bytes::BytesMut;

use super::wire::HEAD_BYTES;

/// Bytes of a chunk: nine batches of ten frames. A larger one is freed later,
/// by the batch that is kept longest.
const CHUNK: usize = 64 * 1024;
/// Free chunks that are kept although fewer would do: rooms breathe.
const SPARE: usize = 8;
/// The share of all chunks that may be free beside those, as a divisor: what is
/// kept is let go of in lumps, and a chunk that went back to the heap for the time
/// until the next comes is soon not whole there any more.
const SPARE_OF: usize = 8;
/// The share of all chunks that are made although none is needed yet, as a
/// divisor. Where a wake came late, what was written at once is let go of at once
/// ten seconds later, and until then others are written into: a third of a second's
/// worth is there from the beginning, so that memory does not grow with each wake
/// that is later than any before.
const SLACK_OF: usize = 32;

/// See the module.
#[derive(Debug, Default)]
pub struct Pool {
    /// What is written into.
    current: BytesMut,
    /// The ends of full chunks, in the order they were filled.
    full: VecDeque<BytesMut>,
    /// Chunks allocated so far.
    made: u64,
    /// Full chunks there shall be: those that were needed at most, and the slack.
    wanted: usize,
}

impl Pool {
    /// An empty buffer with room for a batch of so many bytes of samples and
    /// text.
    pub fn buffer(&mut self, bytes: usize) -> &mut BytesMut {
        let needed = bytes + HEAD_BYTES;
        if self.current.capacity() < needed {
            self.turn(needed.max(CHUNK));
        }
        &mut self.current
    }

    /// Chunks that are held: each has 64 KiB, unless a batch is larger.
    #[must_use]
    pub fn chunks(&self) -> usize {
        self.full.len() + usize::from(self.made > 0)
    }

    /// Takes the oldest chunk if it is free, else a new one.
    fn turn(&mut self, needed: usize) {
        let old = std::mem::take(&mut self.current);
        if self.made > 0 {
            self.full.push_back(old);
        }
        let mut short = true;
        while let Some(oldest) = self.full.front_mut() {
            if oldest.try_reclaim(needed) {
                short = false;
                break;
            }
            if !oldest.try_reclaim(CHUNK) {
                break;
            }
            // Free, and too small.
            self.full.pop_front();
        }
        if short {
            self.wanted = self.full.len() + self.full.len() / SLACK_OF;
        }
        let oldest =
            if short || self.full.len() < self.wanted { None } else { self.full.pop_front() };
        self.current = oldest.unwrap_or_else(|| {
            self.made += 1;
            BytesMut::with_capacity(needed)
        });
        // Where there are more than it takes, one goes.
        let spare = SPARE + self.full.len() / SPARE_OF;
        if self.full.get_mut(spare).is_some_and(|chunk| chunk.try_reclaim(CHUNK)) {
            self.full.pop_front();
            self.wanted = 0;
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::{BufMut, Bytes};

    use super::*;

    fn batch(pool: &mut Pool, bytes: usize) -> Bytes {
        let out = pool.buffer(bytes);
        assert!(out.is_empty() && out.capacity() >= bytes);
        out.put_bytes(1, bytes);
        out.split().freeze()
    }

    #[test]
    fn what_is_kept_for_a_while_is_written_into_the_same_chunks_again() {
        let (mut pool, mut kept) = (Pool::default(), VecDeque::new());
        for _ in 0..10_000 {
            kept.push_back(batch(&mut pool, 6_700));
            if kept.len() > 500 {
                kept.pop_front();
            }
        }
        let (bytes, held) = (500 * 6_700, pool.made * CHUNK as u64);
        assert!(held < 2 * bytes, "{held} bytes allocated for {bytes} that are kept");
        let before = pool.made;
        for _ in 0..10_000 {
            kept.push_back(batch(&mut pool, 6_700));
            kept.pop_front();
        }
        assert_eq!(pool.made, before);
        assert!(kept.iter().all(|batch| batch.iter().all(|byte| *byte == 1)));
    }

    #[test]
    fn what_is_let_go_of_in_lumps_is_written_into_the_same_chunks_too() {
        let (mut pool, mut kept) = (Pool::default(), VecDeque::new());
        let mut lump = |pool: &mut Pool| {
            kept.extend((0..200).map(|_| batch(pool, 6_700)));
            kept.drain(..kept.len().saturating_sub(2_000));
        };
        (0..40).for_each(|_| lump(&mut pool));
        let before = pool.made;
        (0..400).for_each(|_| lump(&mut pool));
        assert_eq!(pool.made, before);
    }

    #[test]
    fn a_late_wake_needs_no_memory_ten_seconds_later() {
        let (mut pool, mut kept) = (Pool::default(), VecDeque::new());
        let mut made = Vec::new();
        for tick in 0..1_500 {
            // Nothing happens in the eight ticks before the 800th.
            if (792..800).contains(&tick) {
                continue;
            }
            while kept.front().is_some_and(|(at, _)| at + 320 < tick) {
                kept.pop_front();
            }
            for _ in 0..if tick == 800 { 9 * 9 } else { 9 } {
                kept.push_back((tick, batch(&mut pool, 6_700)));
            }
            made.push(pool.made);
        }
        assert_eq!(made[700], made[made.len() - 1]);
    }

    #[test]
    fn chunks_that_nobody_needs_any_more_are_freed() {
        let mut pool = Pool::default();
        let kept: Vec<_> = (0..1_000).map(|_| batch(&mut pool, 6_700)).collect();
        assert!(pool.full.len() > 90);
        drop(kept);
        for _ in 0..1_000 {
            batch(&mut pool, 6_700);
        }
        assert!(pool.full.len() <= SPARE + 1, "{}", pool.full.len());
    }

    #[test]
    fn one_batch_of_the_largest_kind_does_not_stand_in_the_way() {
        let (mut pool, mut kept) = (Pool::default(), VecDeque::new());
        for round in 0..3_000 {
            kept.push_back(batch(&mut pool, if round % 3 == 0 { 192_000 } else { 6_700 }));
            if kept.len() > 30 {
                kept.pop_front();
            }
        }
        assert!(pool.full.len() < 60, "{}", pool.full.len());
    }
}
