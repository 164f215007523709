//! The worker's side of the SDK pipe, for tests of adapters as processes.

// Every test binary compiles its own copy and uses only a part of it.
#![allow(dead_code, unreachable_pub)]
// A test is the place to panic; clippy sees that only inside `#[test]` itself.
#![allow(clippy::unwrap_used)]

use std::{
    io::{Read, Write},
    process::{Child, ChildStdin, Command, ExitStatus, Stdio},
    sync::mpsc::{Receiver, sync_channel},
    thread,
    time::Duration,
};

use audio_gateway::{
    sdk::pipe::{
        Counters, Decoder, Encoder, Frame, FromAdapter, Header, Join, PROTOCOL, ToAdapter, Welcome,
    },
    task::Params,
};
use serde_json::Value;

/// How long anything may take.
const DEADLINE: Duration = Duration::from_secs(20);

enum Read1 {
    Frame(Header, Vec<u8>),
    End(Counters),
}

/// An adapter that runs.
pub struct Adapter {
    child: Child,
    stdin: Option<ChildStdin>,
    frames: Receiver<Read1>,
    encoder: Encoder,
    stderr: Option<thread::JoinHandle<String>>,
    /// What the decoder counted, once stdout has ended.
    pub counters: Option<Counters>,
}

impl Adapter {
    /// Starts a program.
    pub fn start(command: &mut Command) -> Self {
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap_or_else(|e| panic!("cannot start {command:?}: {e}"));
        let stdin = child.stdin.take();
        let mut stdout = child.stdout.take().unwrap();
        let mut stderr = child.stderr.take().unwrap();
        let (send, frames) = sync_channel(4_096);
        thread::spawn(move || {
            let mut decoder = Decoder::from_adapter();
            let mut buffer = [0; 4_096];
            while let Ok(count @ 1..) = stdout.read(&mut buffer) {
                let mut input = &buffer[..count];
                while let Some(frame) = decoder.next(&mut input) {
                    let _ = send.send(Read1::Frame(frame.header, frame.payload.to_vec()));
                }
            }
            decoder.end();
            let _ = send.send(Read1::End(decoder.counters()));
        });
        let stderr = thread::spawn(move || {
            let mut text = Vec::new();
            let _ = stderr.read_to_end(&mut text);
            String::from_utf8_lossy(&text).into_owned()
        });
        let (encoder, stderr) = (Encoder::default(), Some(stderr));
        Self { child, stdin, frames, encoder, stderr, counters: None }
    }

    /// Its process.
    pub fn pid(&self) -> rustix::process::Pid {
        rustix::process::Pid::from_child(&self.child)
    }

    /// Says something to it.
    pub fn tell(&mut self, message: &ToAdapter<'_>) {
        let mut bytes = Vec::new();
        self.encoder.write(message, &mut bytes).unwrap();
        self.stdin.as_mut().unwrap().write_all(&bytes).unwrap();
    }

    /// WELCOME and JOIN, after HELLO.
    pub fn join(&mut self, params: &Value, push: bool) {
        self.until("HELLO", |message| matches!(message, FromAdapter::Hello(_)));
        self.tell(&ToAdapter::Welcome(Welcome {
            protocol: PROTOCOL,
            worker: "w1".parse().unwrap(),
            rate: 16_000,
            channels: 1,
        }));
        self.tell(&ToAdapter::Join(Join {
            room: "r1".parse().unwrap(),
            task: "t1".parse().unwrap(),
            params: Params(params.as_object().unwrap().clone()),
            pull: true,
            push,
        }));
    }

    /// The end of its stdin.
    pub fn close(&mut self) {
        self.stdin = None;
    }

    /// Hands every message to `take` until stdout ends. A track is subscribed
    /// when it opens.
    pub fn finish(&mut self, mut take: impl FnMut(&FromAdapter<'_>)) {
        while self.next(&mut take) {}
    }

    /// Hands every message to `is_it` until it says so.
    pub fn until(&mut self, what: &str, mut is_it: impl FnMut(&FromAdapter<'_>) -> bool) {
        let mut found = false;
        while !found {
            let more = self.next(&mut |message| found = is_it(message));
            assert!(more, "the adapter ended without {what}");
        }
    }

    fn next(&mut self, take: &mut dyn FnMut(&FromAdapter<'_>)) -> bool {
        match self.frames.recv_timeout(DEADLINE).expect("the adapter says something in time") {
            Read1::Frame(header, payload) => {
                let frame = Frame { header, payload: &payload };
                let message = FromAdapter::parse(frame).expect("the adapter keeps the protocol");
                if let FromAdapter::TrackOpened { stream, .. } = message
                    && self.stdin.is_some()
                {
                    self.tell(&ToAdapter::Subscribe { stream, on: true });
                }
                take(&message);
                true
            }
            Read1::End(counters) => {
                self.counters = Some(counters);
                false
            }
        }
    }

    /// Its end: the exit status, and what it wrote to stderr.
    pub fn wait(mut self) -> (ExitStatus, String) {
        if self.counters.is_none() {
            self.finish(|_| ());
        }
        let status = self.child.wait().unwrap();
        (status, self.stderr.take().unwrap().join().unwrap())
    }
}

impl Drop for Adapter {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
