//! Where programs that know no bus send their audio: a TCP port that counts
//! bytes and throws them away. One thread looks at all connections in turn, so
//! that it takes little from what is measured.

use std::{
    io::{ErrorKind, Read},
    net::{TcpListener, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    thread::JoinHandle,
    time::Duration,
};

use crate::rig::pace;

/// How often it looks.
const LOOK: Duration = Duration::from_millis(50);

/// See the module. Dropping it closes all.
pub(crate) struct Socket {
    /// Where it listens.
    pub(crate) port: u16,
    count: Arc<Count>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct Count {
    bytes: AtomicU64,
    heard: AtomicU64,
    stop: AtomicBool,
}

impl Socket {
    /// Listens.
    pub(crate) fn open() -> anyhow::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        listener.set_nonblocking(true)?;
        let port = listener.local_addr()?.port();
        let count = Arc::new(Count::default());
        let counted = Arc::clone(&count);
        let thread = std::thread::Builder::new()
            .name("socket".to_owned())
            .spawn(move || listen(&listener, &counted))?;
        Ok(Self { port, count, thread: Some(thread) })
    }

    /// Bytes so far.
    pub(crate) fn bytes(&self) -> u64 {
        self.count.bytes.load(Relaxed)
    }

    /// Connections that have sent something.
    pub(crate) fn heard(&self) -> u64 {
        self.count.heard.load(Relaxed)
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        self.count.stop.store(true, Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn listen(listener: &TcpListener, count: &Count) {
    let mut connections: Vec<(TcpStream, bool)> = Vec::new();
    let mut buffer = vec![0; 1 << 20];
    while !count.stop.load(Relaxed) {
        pace::pause(LOOK);
        while let Ok((stream, _)) = listener.accept() {
            if stream.set_nonblocking(true).is_ok() {
                connections.push((stream, false));
            }
        }
        connections.retain_mut(|(stream, heard)| match stream.read(&mut buffer) {
            Ok(0) => false,
            Ok(bytes) => {
                count.bytes.fetch_add(bytes as u64, Relaxed);
                count.heard.fetch_add(u64::from(!*heard), Relaxed);
                *heard = true;
                true
            }
            Err(error) => error.kind() == ErrorKind::WouldBlock,
        });
    }
}
