//! One listener to all rooms. Each sends an index ramp, so that a hole, a repeat
//! or a shift shows in the samples themselves.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use anyhow::{Context, bail};
use audio_gateway::{
    audio::{Batch, SlotState},
    bus::BusOptions,
    client::{Gateway, Heard, ListenOptions, ListenStats, Sounds},
};
use tokio::{sync::watch, task::AbortHandle};

/// Samples of a slot.
const SLOT: u64 = 320;

/// What is known of a room.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Room {
    /// The epoch heard, and when its first batch came.
    pub(crate) epoch: u64,
    pub(crate) since: Instant,
    /// When the last batch came.
    pub(crate) last: Instant,
    /// Slots of audio.
    pub(crate) frames: u64,
    /// Breaks of the ramp, jumps of the position, and batches that were lost.
    pub(crate) broken: u64,
    /// Batches of a lower epoch than one heard before.
    pub(crate) fell: u64,
    /// Slots missing, and slots doubled, where an epoch followed another.
    pub(crate) hole: u64,
    pub(crate) doubled: u64,
    next_pos: Option<u64>,
    next_sample: Option<i16>,
}

/// All rooms at one moment.
pub(crate) type Rooms = HashMap<String, Room>;

/// See the module. Dropping it ends it.
pub(crate) struct Ears {
    rooms: Arc<Mutex<Rooms>>,
    stats: watch::Receiver<ListenStats>,
    news: watch::Receiver<u64>,
    hears: AbortHandle,
}

impl Drop for Ears {
    fn drop(&mut self) {
        self.hears.abort();
    }
}

fn lock(rooms: &Mutex<Rooms>) -> MutexGuard<'_, Rooms> {
    rooms.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Ears {
    /// Listens to everything, over the servers of `url`.
    pub(crate) async fn start(url: &str) -> anyhow::Result<Self> {
        Self::listen(url, false).await
    }

    /// The same of rooms whose samples are numbered by the clock on the wall, so
    /// that they run on from one epoch to the next.
    pub(crate) async fn by_clock(url: &str) -> anyhow::Result<Self> {
        Self::listen(url, true).await
    }

    async fn listen(url: &str, by_clock: bool) -> anyhow::Result<Self> {
        let gateway = Gateway::connect(&BusOptions::plain(url)).await?;
        let mut listener = gateway.listen_everywhere(ListenOptions::default()).await?;
        let rooms: Arc<Mutex<Rooms>> = Arc::default();
        let (count, stats) = watch::channel(ListenStats::default());
        let (tell, news) = watch::channel(0);
        let known = rooms.clone();
        let hears = tokio::spawn(async move {
            // The listener ends with the connection that it keeps here.
            let _gateway = gateway;
            while let Some(heard) = listener.next().await {
                take(&mut lock(&known), heard, by_clock, Instant::now());
                count.send_replace(listener.stats());
                tell.send_modify(|news| *news += 1);
            }
        });
        Ok(Self { rooms, stats, news, hears: hears.abort_handle() })
    }

    /// What is known now.
    pub(crate) fn rooms(&self) -> Rooms {
        lock(&self.rooms).clone()
    }

    /// Forgets every room.
    pub(crate) fn forget(&self) {
        lock(&self.rooms).clear();
    }

    pub(crate) fn stats(&self) -> ListenStats {
        *self.stats.borrow()
    }

    /// Waits until something holds of the rooms.
    pub(crate) async fn until(
        &self,
        what: &str,
        within: Duration,
        mut holds: impl FnMut(&Rooms) -> bool,
    ) -> anyhow::Result<()> {
        let mut news = self.news.clone();
        let wait = async {
            while !holds(&lock(&self.rooms)) {
                if news.changed().await.is_err() {
                    bail!("the listener ended");
                }
            }
            Ok(())
        };
        tokio::time::timeout(within, wait)
            .await
            .with_context(|| format!("within {within:?} not heard: {what}"))?
    }
}

fn take(rooms: &mut Rooms, heard: Heard, by_clock: bool, now: Instant) {
    let key = heard.room.to_string();
    match heard.what {
        Sounds::Batch(delivered) => {
            let epoch = delivered.batch.epoch;
            let room = rooms.entry(key).or_insert_with(|| Room::new(epoch, now));
            room.batch(&delivered.batch, by_clock, now);
        }
        Sounds::Gap(gap) => {
            if let Some(room) = rooms.get_mut(&key) {
                room.broken += gap.count;
                (room.next_pos, room.next_sample) = (None, None);
            }
        }
        Sounds::Opened { .. } | Sounds::Epoch { .. } | Sounds::Closed(_) => (),
    }
}

impl Room {
    fn new(epoch: u64, now: Instant) -> Self {
        Self {
            epoch,
            since: now,
            last: now,
            frames: 0,
            broken: 0,
            fell: 0,
            hole: 0,
            doubled: 0,
            next_pos: None,
            next_sample: None,
        }
    }

    fn batch(&mut self, batch: &Batch, by_clock: bool, now: Instant) {
        if batch.epoch < self.epoch {
            self.fell += 1;
            return;
        }
        if batch.epoch > self.epoch {
            if let Some(next) = self.next_pos {
                self.hole += batch.pos.saturating_sub(next).div_ceil(SLOT);
                self.doubled += next.saturating_sub(batch.pos).div_ceil(SLOT);
            }
            (self.epoch, self.since) = (batch.epoch, now);
            let seamless = by_clock && self.next_pos == Some(batch.pos);
            self.next_sample = self.next_sample.filter(|_| seamless);
            self.next_pos = None;
        }
        self.last = now;
        self.broken += u64::from(self.next_pos.is_some_and(|next| next != batch.pos));
        self.next_pos = Some(batch.end());
        for slot in batch.slots() {
            let Some(pcm) = slot.pcm.filter(|_| slot.state == SlotState::Audio) else { continue };
            self.frames += 1;
            for sample in pcm.chunks_exact(2) {
                let sample = i16::from_le_bytes([sample[0], sample[1]]);
                self.broken += u64::from(self.next_sample.is_some_and(|next| next != sample));
                self.next_sample = Some(sample.wrapping_add(1));
            }
        }
    }
}
