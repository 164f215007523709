//! The relay's way out by a client library instead of bytes written to a socket:
//! what every program pays that reconnects, speaks TLS and has other things to
//! say. It runs on a thread of its own, or on the one that reads the pipes, while
//! that rests.

use std::{collections::VecDeque, thread::JoinHandle, time::Duration};

use anyhow::Context;
use async_nats::Subject;
use audio_gateway::audio::Pool;
use bytes::{BufMut, Bytes};
use tokio::{runtime::Runtime, sync::mpsc};

use crate::rig::pace;

/// Slots handed over that are not out yet: a second and more.
const QUEUE: usize = 256;

type Slot = Vec<(Subject, Bytes)>;

/// Where the library runs.
enum Place {
    Thread(mpsc::Sender<Slot>, JoinHandle<anyhow::Result<()>>),
    Here(Runtime, async_nats::Client),
}

/// See the module.
pub(crate) struct Client {
    place: Place,
    gathered: Slot,
    pool: Pool,
    /// Messages of the last ten seconds, where they are kept for who asks again.
    kept: VecDeque<Bytes>,
    keep: usize,
}

impl Client {
    /// Connects, and keeps so many messages.
    pub(crate) fn start(server: &str, keep: usize, here: bool) -> anyhow::Result<Self> {
        let runtime = || tokio::runtime::Builder::new_current_thread().enable_all().build();
        let server = server.to_owned();
        let place = if here {
            let runtime = runtime()?;
            let client = runtime.block_on(async_nats::connect(server))?;
            Place::Here(runtime, client)
        } else {
            let (queue, slots) = mpsc::channel(QUEUE);
            let thread = std::thread::Builder::new().name("client".to_owned());
            let thread = thread.spawn(move || runtime()?.block_on(publish(server, slots)))?;
            Place::Thread(queue, thread)
        };
        let (gathered, kept) = (Slot::new(), VecDeque::with_capacity(keep));
        Ok(Self { place, gathered, pool: Pool::default(), kept, keep })
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

    /// Hands over what was gathered, to a thread of its own.
    pub(crate) fn send(&mut self) -> anyhow::Result<()> {
        let Place::Thread(queue, _) = &self.place else { return Ok(()) };
        if self.gathered.is_empty() {
            return Ok(());
        }
        let next = Slot::with_capacity(self.gathered.len() + self.gathered.len() / 2);
        let slot = std::mem::replace(&mut self.gathered, next);
        queue.try_send(slot).context("the client does not come after")
    }

    /// Rests until the monotonic clock shows so many µs, and publishes meanwhile
    /// where that is done here.
    pub(crate) fn rest(&mut self, until: i64) -> anyhow::Result<()> {
        let Place::Here(runtime, client) = &self.place else {
            pace::sleep_until(until);
            return Ok(());
        };
        let wait = Duration::from_micros((until - pace::now_us()).try_into().unwrap_or(0));
        runtime.block_on(async {
            let due = tokio::time::Instant::now() + wait;
            for (subject, payload) in self.gathered.drain(..) {
                client.publish(subject, payload).await?;
            }
            tokio::time::sleep_until(due).await;
            Ok(())
        })
    }

    /// Waits until all is out.
    pub(crate) fn stop(self) -> anyhow::Result<()> {
        match self.place {
            Place::Thread(queue, thread) => {
                drop(queue);
                thread.join().map_err(|_| anyhow::anyhow!("the client's thread has failed"))?
            }
            Place::Here(runtime, client) => runtime.block_on(async {
                for (subject, payload) in self.gathered {
                    client.publish(subject, payload).await?;
                }
                Ok(client.flush().await?)
            }),
        }
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
