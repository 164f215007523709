//! Two simulated rooms that are one: the adapters of two workers in the same
//! room, as each worker's own code places what they say.

#![allow(clippy::unwrap_used, reason = "in a test a panic is the answer")]

use std::{
    collections::BTreeMap,
    io::{Read, Write},
    process::{Child, ChildStdin, Command, Stdio},
    sync::mpsc::{Receiver, channel},
    thread,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use audio_gateway::{
    audio::Batch,
    sdk::adapter::Mode,
    task::{Epoch, Params, Pull},
    worker::room::{Effects, Room, Spec},
};
use serde_json::{Value, json};

/// How long anything may take.
const DEADLINE: Duration = Duration::from_secs(30);

fn unix_us() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_micros() as i64
}

/// A worker's room with its adapter.
struct Served {
    room: Room,
    fx: Effects,
    child: Child,
    stdin: ChildStdin,
    stdout: Receiver<Vec<u8>>,
    /// What its host's clock is off, in µs.
    off: i64,
    /// Samples by user and position.
    heard: BTreeMap<String, BTreeMap<u64, u16>>,
}

impl Served {
    fn start(epoch: u64, origin_us: i64, params: &Value, off: i64) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_sdk-sim"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut pipe = child.stdout.take().unwrap();
        let (send, stdout) = channel();
        thread::spawn(move || {
            let mut buffer = [0; 4_096];
            while let Ok(count @ 1..) = pipe.read(&mut buffer) {
                let _ = send.send(buffer[..count].to_vec());
            }
        });
        let spec = Spec {
            room: "r".parse().unwrap(),
            task: "t".parse().unwrap(),
            epoch: Epoch(epoch),
            origin_us,
            worker: format!("w{epoch}").parse().unwrap(),
            mode: Mode::Framed,
            params: Params(params.as_object().unwrap().clone()),
            pull: Some(Pull::default()),
            push: None,
        };
        let now = unix_us() + off;
        let stdin = child.stdin.take().unwrap();
        let (mut room, mut fx) = (Room::new(spec, now), Effects::default());
        room.attach(now, &mut fx);
        Self { room, fx, child, stdin, stdout, off, heard: BTreeMap::new() }
    }

    /// Takes what the adapter says until every user has so many samples.
    fn hear(&mut self, users: usize, samples: usize) {
        while self.heard.len() < users || self.heard.values().any(|it| it.len() < samples) {
            let bytes = self.stdout.recv_timeout(DEADLINE).expect("the adapter speaks");
            let now = unix_us() + self.off;
            self.room.take(&bytes, now, &mut self.fx);
            // It may have been held up itself, so it accuses nobody of a stall.
            self.room.settle(now, false, &mut self.fx);
            self.stdin.write_all(&std::mem::take(&mut self.fx.stdin)).unwrap();
            assert!(!format!("{:?}", self.fx.notices).contains("Unix"), "{:?}", self.fx.notices);
            for out in self.fx.batches.drain(..) {
                let batch = Batch::decode(&out.batch.payload).unwrap();
                let heard = self.heard.entry(batch.user.clone()).or_default();
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
}

impl Drop for Served {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn two_workers_place_the_same_sound_at_the_same_sample() {
    let params = json!({
        "participants": 2, "source": "ramp", "clock": "unix", "jitter_ms": 30,
        "idle": {"at_s": 0.5, "for_s": 0.1},
    });
    let origin = unix_us() - 5_000_123;
    let mut first = Served::start(1, origin, &params, 0);
    first.hear(2, 12_000);
    // The other comes later, and its host's clock is 0.15 s fast.
    let mut second = Served::start(2, origin, &params, 150_000);
    second.hear(2, 24_000);
    first.hear(2, 64_000);
    for user in ["user-0", "user-1"] {
        let (a, b) = (&first.heard[user], &second.heard[user]);
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
