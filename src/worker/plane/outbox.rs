//! Batches on their way to the bus: gathered while rooms are swept, and handed
//! over in one piece a wake, so that whoever publishes them is woken once.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use bytes::Bytes;
use tokio::sync::mpsc::{self, error::TrySendError};

use crate::{bus::Address, limits};

/// A batch, and where it is published.
pub type Ready = (Address, Bytes);

/// Batches for the bus, and how many of those handed over are not out yet.
#[derive(Debug)]
pub struct Parcels {
    queue: mpsc::Receiver<Vec<Ready>>,
    waiting: Arc<AtomicUsize>,
}

impl Parcels {
    /// The next batches; none once the audio thread has ended.
    pub async fn next(&mut self) -> Option<Vec<Ready>> {
        self.queue.recv().await
    }

    /// So many of them are out.
    pub fn done(&self, batches: usize) {
        self.waiting.fetch_sub(batches, Ordering::Relaxed);
    }
}

/// See the module.
#[derive(Debug)]
pub struct Outbox {
    queue: mpsc::Sender<Vec<Ready>>,
    waiting: Arc<AtomicUsize>,
    gathered: Vec<Ready>,
}

/// An outbox that holds at most [`limits::PUBLISH_QUEUE`] batches, and its end.
#[must_use]
pub fn outbox() -> (Outbox, Parcels) {
    // Each parcel has a batch at least, so this is never what is full first.
    let (sender, queue) = mpsc::channel(limits::PUBLISH_QUEUE);
    let waiting = Arc::new(AtomicUsize::new(0));
    let outbox = Outbox { queue: sender, waiting: waiting.clone(), gathered: Vec::new() };
    (outbox, Parcels { queue, waiting })
}

impl Outbox {
    /// Adds a batch; says whether there was room for it.
    pub(super) fn put(&mut self, to: Address, payload: Bytes) -> bool {
        let waiting = self.waiting.load(Ordering::Relaxed) + self.gathered.len();
        if waiting >= limits::PUBLISH_QUEUE {
            return false;
        }
        self.gathered.push((to, payload));
        true
    }

    /// Hands over what was gathered; returns how many found nobody to take them.
    pub(super) fn send(&mut self) -> usize {
        let batches = self.gathered.len();
        if batches == 0 {
            return 0;
        }
        // Of one size, whoever frees it: the heap finds it again.
        let next = Vec::with_capacity((batches + batches / 2).next_power_of_two());
        let parcel = std::mem::replace(&mut self.gathered, next);
        self.waiting.fetch_add(batches, Ordering::Relaxed);
        match self.queue.try_send(parcel) {
            Ok(()) => 0,
            Err(TrySendError::Full(_) | TrySendError::Closed(_)) => {
                self.waiting.fetch_sub(batches, Ordering::Relaxed);
                batches
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_is_gathered_comes_in_one_piece() {
        let (mut outbox, mut parcels) = outbox();
        let to = Address::new("audio.live.r.u".to_owned());
        assert_eq!(outbox.send(), 0);
        for _ in 0..3 {
            assert!(outbox.put(to.clone(), Bytes::from_static(b"x")));
        }
        assert_eq!(outbox.send(), 0);
        assert_eq!(parcels.next().await.map(|parcel| parcel.len()), Some(3));
        drop(outbox);
        assert_eq!(parcels.next().await, None);
    }

    #[tokio::test]
    async fn a_full_one_takes_more_once_something_is_out() {
        let (mut outbox, mut parcels) = outbox();
        let to = Address::new("audio.live.r.u".to_owned());
        let full = |outbox: &mut Outbox| {
            let mut taken = 0;
            while outbox.put(to.clone(), Bytes::from_static(b"x")) {
                taken += 1;
                if taken % 100 == 0 {
                    assert_eq!(outbox.send(), 0);
                }
            }
            assert_eq!(outbox.send(), 0);
            taken
        };
        assert_eq!(full(&mut outbox), limits::PUBLISH_QUEUE);
        let first = parcels.next().await.unwrap();
        assert_eq!(full(&mut outbox), 0);
        parcels.done(first.len());
        assert_eq!(full(&mut outbox), first.len());
        drop(parcels);
        assert_eq!(outbox.send(), 0, "nothing was gathered");
    }
}
