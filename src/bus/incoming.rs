//! What comes in from the bus: subscriptions, messages, and the only places an
//! answer may go.

use std::{
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll},
};

use bytes::Bytes;
use futures_util::{Stream, StreamExt};
use serde::{Serialize, de::DeserializeOwned};

use crate::limits;

/// What happened to a connection since it was made.
#[derive(Debug, Default)]
pub struct Counters {
    /// Times the server was lost.
    pub disconnects: AtomicU64,
    /// Times a subscription of ours overflowed and dropped a message.
    pub slow_consumer: AtomicU64,
    /// Errors the server reported: permissions above all.
    pub server_errors: AtomicU64,
    /// Requests left unanswered because their reply subject is no inbox.
    pub foreign_replies: AtomicU64,
}

/// A subscription. Dropping it unsubscribes.
#[derive(Debug)]
pub struct Subscription {
    pub(super) inner: async_nats::Subscriber,
    pub(super) counters: Arc<Counters>,
}

impl Subscription {
    /// The next message; none once the connection is closed.
    pub async fn next(&mut self) -> Option<Incoming> {
        let message = self.inner.next().await?;
        Some(Incoming { message, counters: self.counters.clone() })
    }

    /// Asks for no more: what the server has sent by then comes still, and behind it
    /// none.
    pub(super) async fn drain(&mut self) {
        // It fails where the connection is closed, and then nothing comes either.
        let _ = self.inner.drain().await;
    }
}

/// The same as [`Subscription::next`], for whoever reads many at once.
impl Stream for Subscription {
    type Item = Incoming;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Incoming>> {
        let message = std::task::ready!(self.inner.poll_next_unpin(cx));
        let counters = self.counters.clone();
        Poll::Ready(message.map(|message| Incoming { message, counters }))
    }
}

/// A message that came in.
#[derive(Debug)]
pub struct Incoming {
    message: async_nats::Message,
    counters: Arc<Counters>,
}

impl Incoming {
    /// Its subject.
    #[must_use]
    pub fn subject(&self) -> &str {
        self.message.subject.as_str()
    }

    /// Its payload. Whoever keeps it long copies it: it pins the whole buffer
    /// that was read from the socket.
    #[must_use]
    pub fn payload(&self) -> &Bytes {
        &self.message.payload
    }

    /// Reads the payload as JSON.
    ///
    /// # Errors
    /// Where it is too large or no such message.
    pub fn read<M: DeserializeOwned>(&self) -> Result<M, String> {
        read_json(&self.message.payload)
    }

    /// Who asks, as far as a message shows it: its reply subject without the last
    /// token. Client libraries make an inbox a connection and end it with a
    /// token a request; those that make one a request share a name.
    #[must_use]
    pub fn caller(&self) -> &str {
        let reply = self.message.reply.as_ref().map_or("", |reply| reply.as_str());
        reply.rsplit_once('.').map_or("", |(inbox, _)| inbox)
    }

    /// Where an answer may go: none where nobody waits for one, or where the
    /// reply subject is no inbox. A stranger could otherwise have us publish
    /// wherever we may and he may not.
    #[must_use]
    pub fn reply(&self) -> Option<Inbox> {
        let reply = self.message.reply.as_ref()?.as_str();
        if reply.starts_with("_INBOX") && !reply.contains(['*', '>', ' ']) {
            return Some(Inbox(reply.to_owned()));
        }
        self.counters.foreign_replies.fetch_add(1, Ordering::Relaxed);
        None
    }
}

/// A subject that much is published to: made once, cheap to clone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Address(pub(super) async_nats::Subject);

impl Address {
    /// The address of a subject.
    #[must_use]
    pub fn new(subject: String) -> Self {
        Self(subject.into())
    }
}

impl std::fmt::Display for Address {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

/// A reply subject that is an inbox.
#[derive(Debug, Clone)]
pub struct Inbox(pub(super) String);

/// Reads a control message.
///
/// # Errors
/// Where it is too large or no such message.
pub fn read_json<M: DeserializeOwned>(payload: &[u8]) -> Result<M, String> {
    if payload.len() > limits::CONTROL_MAX_BYTES {
        return Err(format!(
            "{} bytes; at most {} are read",
            payload.len(),
            limits::CONTROL_MAX_BYTES
        ));
    }
    serde_json::from_slice(payload).map_err(|error| error.to_string())
}

pub(super) fn json<M: Serialize>(message: &M) -> Bytes {
    // Our messages hold no map with keys that are not strings and no type that
    // refuses to be written, the two ways JSON can fail.
    Bytes::from(serde_json::to_vec(message).expect("a message of the contract is JSON"))
}
