//! The relay's way out by a client library instead of bytes written to a socket:
//! what every program pays that reconnects, speaks TLS and has other things to
//! say. A thread of its own runs it, as nothing that reads pipes may wait for a
//! network.

use std::{collections::VecDeque, thread::JoinHandle};

use anyhow::Context;
use async_nats::Subject;
use audio_gateway::audio::Pool;
use bytes::{BufMut, Bytes};
use tokio::sync::mpsc;

/// Slots handed over that are not out yet: a second and more.
const QUEUE: usize = 256;

type Slot = Vec<(Subject, Bytes)>;

/// See the module.
pub(crate) struct Client {
    queue: mpsc::Sender<Slot>,
    gathered: Slot,
    pool: Pool,
    /// Messages of the last ten seconds, where they are kept for who asks again.
    kept: VecDeque<Bytes>,
    keep: usize,
    thread: JoinHandle<anyhow::Result<()>>,
}

impl Client {
    /// Connects, and keeps so many messages.
    pub(crate) fn start(server: &str, keep: usize) -> anyhow::Result<Self> {
        let (queue, slots) = mpsc::channel(QUEUE);
        let server = server.to_owned();
        let thread = std::thread::Builder::new().name("client".to_owned()).spawn(move || {
            tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()?
                .block_on(publish(server, slots))
        })?;
        let (gathered, kept) = (Slot::new(), VecDeque::with_capacity(keep));
        Ok(Self { queue, gathered, pool: Pool::default(), kept, keep, thread })
    }

    /// Adds a message: pieces, and what fills it up.
    pub(crate) fn put<'a>(
        &mut self,
        subject: &Subject,
        size: usize,
        pieces: impl Iterator<Item = &'a [u8]>,
        tail: &[u8],
    ) {
        let out = self.pool.buffer(size);
        pieces.for_each(|piece| out.put_slice(piece));
        out.put_slice(&tail[out.len()..size]);
        let payload = out.split().freeze();
        if self.keep > 0 {
            if self.kept.len() == self.keep {
                self.kept.pop_front();
            }
            self.kept.push_back(payload.clone());
        }
        self.gathered.push((subject.clone(), payload));
    }

    /// Hands over what was gathered.
    pub(crate) fn send(&mut self) -> anyhow::Result<()> {
        if self.gathered.is_empty() {
            return Ok(());
        }
        let next = Slot::with_capacity(self.gathered.len() + self.gathered.len() / 2);
        let slot = std::mem::replace(&mut self.gathered, next);
        self.queue.try_send(slot).context("the client does not come after")
    }

    /// Waits until all is out.
    pub(crate) fn stop(self) -> anyhow::Result<()> {
        drop(self.queue);
        let ended = self.thread.join();
        ended.map_err(|_| anyhow::anyhow!("the client's thread has failed"))?
    }
}

async fn publish(server: String, mut slots: mpsc::Receiver<Slot>) -> anyhow::Result<()> {
    let client = async_nats::connect(server).await?;
    while let Some(slot) = slots.recv().await {
        for (subject, payload) in slot {
            client.publish(subject, payload).await?;
        }
    }
    client.flush().await?;
    Ok(())
}
