//! A subscriber that counts what it hears and throws it away.

use std::{
    io::Read,
    net::{Shutdown, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    thread::JoinHandle,
    time::Duration,
};

use super::{nats, pace};

/// See the module.
pub(crate) struct Sink {
    stream: TcpStream,
    heard: Arc<AtomicU64>,
    thread: JoinHandle<()>,
}

impl Sink {
    /// Listens to all tracks.
    pub(crate) fn start(server: &str) -> anyhow::Result<Self> {
        let stream = nats::connect(server, "SUB audio.live.*.* 1\r\n")?;
        let heard = Arc::new(AtomicU64::new(0));
        let (reading, count) = (stream.try_clone()?, Arc::clone(&heard));
        let thread = std::thread::Builder::new()
            .name("sink".to_owned())
            .spawn(move || listen(reading, &count))?;
        Ok(Self { stream, heard, thread })
    }

    /// Messages so far.
    pub(crate) fn heard(&self) -> u64 {
        self.heard.load(Relaxed)
    }

    /// Waits up to a second for so many messages and says how many there were.
    pub(crate) fn stop(self, wanted: u64) -> u64 {
        for _ in 0..100 {
            if self.heard.load(Relaxed) < wanted {
                pace::pause(Duration::from_millis(10));
            }
        }
        let _ = self.stream.shutdown(Shutdown::Both);
        let _ = self.thread.join();
        self.heard.load(Relaxed)
    }
}

fn listen(mut stream: TcpStream, count: &AtomicU64) {
    let mut buffer = vec![0; 1 << 20];
    let mut held = 0;
    loop {
        held += match stream.read(&mut buffer[held..]) {
            Ok(0) | Err(_) => return,
            Ok(bytes) => bytes,
        };
        let mut at = 0;
        while let Some(length) = whole(&buffer[at..held]) {
            if buffer[at..].starts_with(b"MSG ") {
                count.fetch_add(1, Relaxed);
            } else if buffer[at..].starts_with(b"PING") {
                let _ = rustix::io::write(&stream, b"PONG\r\n");
            }
            at += length;
        }
        buffer.copy_within(at..held, 0);
        held -= at;
    }
}

/// The length of the first message where all of it is there.
fn whole(bytes: &[u8]) -> Option<usize> {
    let line = bytes.iter().position(|byte| *byte == b'\n')? + 1;
    if !bytes.starts_with(b"MSG ") {
        return Some(line);
    }
    let size = std::str::from_utf8(&bytes[..line]).ok()?.trim_end().rsplit(' ').next()?;
    let length = line + size.parse::<usize>().ok()? + 2;
    (bytes.len() >= length).then_some(length)
}
