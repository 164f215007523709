//! A simulated room as a worker serves it: the adapter's process, and the
//! worker's own code for what it says. What is published is the test's.

// Every test binary compiles its own copy and uses only a part of it.
#![allow(dead_code, unreachable_pub)]
#![allow(clippy::unwrap_used)]

use std::{
    io::{Read, Write},
    process::{Child, ChildStdin, Command, Stdio},
    sync::mpsc::{Receiver, channel},
    thread,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use audio_gateway::{
    sdk::adapter::Mode,
    task::{Epoch, Params, Pull},
    worker::room::{Effects, Outgoing, Room, Spec},
};
use serde_json::Value;

/// How long anything may take.
const DEADLINE: Duration = Duration::from_secs(30);

pub fn unix_us() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_micros() as i64
}

/// See the module.
pub struct Served {
    room: Room,
    fx: Effects,
    child: Child,
    stdin: ChildStdin,
    stdout: Receiver<Vec<u8>>,
    /// What its host's clock is off, in µs.
    off: i64,
    /// When it is swept next.
    sweep: i64,
}

impl Served {
    /// The room `r` under an epoch.
    pub fn start(epoch: u64, origin_us: i64, params: &Value, off: i64) -> Self {
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
            held: false,
            taken_over: false,
        };
        let now = unix_us() + off;
        let stdin = child.stdin.take().unwrap();
        let (mut room, mut fx) = (Room::new(spec, now), Effects::default());
        room.attach(now, &mut fx);
        Self { room, fx, child, stdin, stdout, off, sweep: now }
    }

    /// Waits for what the adapter says next; what is to be published of it, five
    /// times a second.
    pub fn next(&mut self) -> Vec<Outgoing> {
        let bytes = self.stdout.recv_timeout(DEADLINE).expect("the adapter speaks");
        let now = unix_us() + self.off;
        self.room.take(&bytes, now, &mut self.fx);
        if now >= self.sweep {
            self.sweep = now + 200_000;
            // It may have been held up itself, so it accuses nobody of a stall.
            self.room.settle(now, false, &mut self.fx);
        }
        self.stdin.write_all(&std::mem::take(&mut self.fx.stdin)).unwrap();
        assert!(!format!("{:?}", self.fx.notices).contains("Unix"), "{:?}", self.fx.notices);
        std::mem::take(&mut self.fx.batches)
    }

    /// The end of its epoch.
    pub fn close(mut self) -> Vec<Outgoing> {
        self.room.close(unix_us() + self.off, &mut self.fx);
        std::mem::take(&mut self.fx.batches)
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
