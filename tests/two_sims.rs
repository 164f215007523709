//! Two simulated rooms that are one: the adapters of two workers in the same
//! room, as each worker's own code places what they say.

#![allow(clippy::unwrap_used, reason = "in a test a panic is the answer")]

mod served;

use std::collections::BTreeMap;

use audio_gateway::audio::Batch;
use serde_json::json;
use served::{Served, unix_us};

/// Samples by user and position.
type Heard = BTreeMap<String, BTreeMap<u64, u16>>;

/// Listens until every user has so many samples.
fn hear(served: &mut Served, heard: &mut Heard, samples: usize) {
    while heard.len() < 2 || heard.values().any(|it| it.len() < samples) {
        for out in served.next() {
            let batch = Batch::decode(&out.batch.payload).unwrap();
            let heard = heard.entry(batch.user.clone()).or_default();
            for slot in batch.slots() {
                let pcm = slot.pcm.unwrap_or_default().chunks_exact(2);
                let samples = pcm.map(|two| u16::from_le_bytes([two[0], two[1]]));
                for (pos, sample) in (slot.pos..).zip(samples) {
                    assert_eq!(heard.insert(pos, sample), None, "{pos} comes once");
                }
            }
        }
    }
}

#[test]
fn two_workers_place_the_same_sound_at_the_same_sample() {
    let params = json!({
        "participants": 2, "source": "ramp", "clock": "unix", "jitter_ms": 30,
        "idle": {"at_s": 0.5, "for_s": 0.1},
    });
    let origin = unix_us() - 5_000_123;
    let (mut heard_first, mut heard_second) = (Heard::new(), Heard::new());
    let mut first = Served::start(1, origin, &params, 0);
    hear(&mut first, &mut heard_first, 12_000);
    // The other comes later, and its host's clock is 0.15 s fast.
    let mut second = Served::start(2, origin, &params, 150_000);
    hear(&mut second, &mut heard_second, 24_000);
    hear(&mut first, &mut heard_first, 64_000);
    for user in ["user-0", "user-1"] {
        let (a, b) = (&heard_first[user], &heard_second[user]);
        let both = b.iter().filter(|(pos, _)| a.contains_key(pos)).count();
        assert!(both >= 16_000, "{user}: {both} samples of both");
        for (pos, sample) in b {
            assert!(a.get(pos).is_none_or(|other| other == sample), "{user} at {pos}");
        }
        // The number of a sample since the Unix epoch, up to a constant of the origin.
        let ((pos, sample), index) = (a.first_key_value().unwrap(), u16::from(user == "user-1"));
        let number = (origin + (*pos as i64 * 1_000_000 + 8_000) / 16_000) * 16 / 1_000;
        let want = (number as u16).wrapping_add(9_973 * index);
        assert!(sample.wrapping_sub(want).wrapping_add(2) < 5, "{user}: {sample} at {pos}");
    }
}
