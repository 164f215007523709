//! A listener to every room. The rooms send index ramps: within an epoch each
//! sample is the one before plus one.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
};

use audio_gateway::{
    bus::BusOptions,
    client::{Gateway, Heard, ListenOptions, ListenStats, Sounds},
};
use tokio::{sync::watch, task::AbortHandle};

use crate::{rig::SOON, support::within};

/// What was heard of a room.
#[derive(Debug, Clone, Default)]
pub struct Room {
    pub epoch: u64,
    /// Batches, of all epochs.
    pub batches: u64,
    /// What must not be: a lower epoch, a gap, a break of the ramp.
    pub faults: Vec<String>,
    next: Option<u16>,
}

pub type Rooms = BTreeMap<String, Room>;

/// See the module. It ends when it is dropped.
pub struct Ears {
    rooms: Arc<Mutex<Rooms>>,
    stats: watch::Receiver<ListenStats>,
    hears: AbortHandle,
}

impl Drop for Ears {
    fn drop(&mut self) {
        self.hears.abort();
    }
}

impl Ears {
    pub async fn start(url: &str) -> Self {
        let gateway = Gateway::connect(&BusOptions::plain(url)).await.unwrap();
        let mut listener = gateway.listen_everywhere(ListenOptions::default()).await.unwrap();
        let rooms: Arc<Mutex<Rooms>> = Arc::default();
        let (tell, stats) = watch::channel(ListenStats::default());
        let known = rooms.clone();
        let hears = tokio::spawn(async move {
            let _gateway = gateway;
            while let Some(heard) = listener.next().await {
                take(&mut known.lock().unwrap(), &heard);
                tell.send_replace(listener.stats());
            }
        });
        Self { rooms, stats, hears: hears.abort_handle() }
    }

    pub fn rooms(&self) -> Rooms {
        self.rooms.lock().unwrap().clone()
    }

    /// Batches of epochs that are over, and that were refused therefore.
    pub fn stale(&self) -> u64 {
        self.stats.borrow().stale_epochs
    }

    /// Waits until something holds of the rooms.
    pub async fn until(&self, what: &str, holds: impl Fn(&Rooms) -> bool) {
        let mut stats = self.stats.clone();
        within(what, SOON, async {
            while !holds(&self.rooms.lock().unwrap()) {
                stats.changed().await.unwrap();
            }
        })
        .await;
    }

    /// Waits until so many rooms are heard.
    pub async fn hear(&self, count: usize) {
        self.until("every room", |rooms| rooms.len() >= count).await;
    }

    /// Waits until every room was heard for another `batches`.
    pub async fn go_on(&self, batches: u64) {
        let goal: Vec<_> =
            self.rooms().into_iter().map(|(room, it)| (room, it.batches + batches)).collect();
        let reached = |rooms: &Rooms| goal.iter().all(|(room, goal)| rooms[room].batches >= *goal);
        self.until("more of every room", reached).await;
    }

    /// Nothing was heard that must not be.
    #[track_caller]
    pub fn assert_clean(&self) {
        let faults: Vec<_> = self.rooms().into_values().flat_map(|room| room.faults).collect();
        assert!(faults.is_empty(), "{faults:#?}");
    }

    /// Nothing was lost, and no room has another epoch than `before`.
    #[track_caller]
    pub fn assert_untouched(&self, before: &Rooms) {
        self.assert_clean();
        let after = self.rooms();
        for (room, old) in before {
            assert_eq!(after[room].epoch, old.epoch, "{room} was given away anew");
        }
    }
}

fn take(rooms: &mut Rooms, heard: &Heard) {
    let room = rooms.entry(heard.room.to_string());
    match &heard.what {
        Sounds::Batch(delivered) => {
            let (room, batch) = (room.or_default(), &delivered.batch);
            if batch.epoch < room.epoch {
                room.faults.push(format!("epoch {} after {}", batch.epoch, room.epoch));
            }
            if batch.epoch != room.epoch {
                (room.epoch, room.next) = (batch.epoch, None);
            }
            room.batches += 1;
            for two in batch.pcm.chunks_exact(2) {
                let sample = u16::from_le_bytes([two[0], two[1]]);
                let at = room.batches;
                if room.next.is_some_and(|next| next != sample) {
                    room.faults.push(format!("{}: a break in batch {at}", heard.room));
                }
                room.next = Some(sample.wrapping_add(1));
            }
        }
        // What a killed worker had in hand is gone, and said to be.
        Sounds::Gap(gap) if gap.epoch == room.or_default().epoch => {
            let room = rooms.get_mut(heard.room.as_str()).unwrap();
            room.faults.push(format!("{}: {gap:?}", heard.room));
            room.next = None;
        }
        _ => (),
    }
}
