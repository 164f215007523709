//! A listener on a real server, with a worker that loses what the test wants to
//! be lost: everything within the ring comes back bit-exact, in order, once.

#![allow(clippy::unwrap_used, reason = "in a test a panic is the answer")]

#[path = "../served/mod.rs"]
mod served;
#[path = "../support/mod.rs"]
mod support;

mod handover;
mod hostile;
mod loss;
mod many;
mod outage;
mod past;
mod stuck;
mod worker;

use std::{collections::BTreeMap, time::Duration};

use audio_gateway::{
    audio::Delivered,
    bus::BusOptions,
    client::{Gateway, Heard, Listener, Sounds},
};

use support::within;
use worker::ramp;

/// How long anything may take on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

async fn gateway(url: &str) -> Gateway {
    Gateway::connect(&BusOptions::plain(url)).await.unwrap()
}

/// What was heard, by track.
#[derive(Default)]
struct Notes {
    batches: BTreeMap<String, Vec<Delivered>>,
    others: Vec<Heard>,
}

impl Notes {
    fn take(&mut self, heard: Heard) {
        match heard.what {
            Sounds::Batch(delivered) => {
                let key = format!("{}.{}", heard.room, heard.track);
                self.batches.entry(key).or_default().push(delivered);
            }
            _ => self.others.push(heard),
        }
    }

    fn count(&self) -> usize {
        self.batches.values().map(Vec::len).sum()
    }

    fn gaps(&self) -> Vec<&Heard> {
        self.others.iter().filter(|heard| matches!(heard.what, Sounds::Gap(_))).collect()
    }

    /// Holds that every track has the ramp from `from` on, each batch once, in
    /// order and bit-exact.
    #[track_caller]
    fn are_whole(&self, from: u64, batches: usize) {
        for (track, heard) in &self.batches {
            assert_eq!(heard.len(), batches, "{track}");
            for (delivered, seq) in heard.iter().zip(from..) {
                assert_eq!(delivered.batch.seq, seq, "{track}");
                assert!(delivered.batch.pcm[..] == ramp(seq)[..], "{track} {seq}: samples");
                assert_eq!(delivered.jump, 0, "{track} {seq}");
            }
        }
    }
}

/// Listens until this many batches were heard.
async fn hear(listener: &mut Listener, batches: usize) -> Notes {
    let mut notes = Notes::default();
    let mut last = listener.stats();
    while notes.count() < batches {
        let what = format!("batch {} of {batches}: {last:?}", notes.count());
        let heard = within(&what, PATIENCE, listener.next()).await;
        notes.take(heard.expect("the listener goes on"));
        last = listener.stats();
    }
    notes
}
