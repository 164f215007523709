//! A stream of one kind of JSON message: what cannot be read is counted and
//! left out.

use std::marker::PhantomData;

use serde::de::DeserializeOwned;

use super::ListenError;
use crate::bus::{Link, Subscription};

/// Messages of one kind as they come.
#[derive(Debug)]
pub struct Events<M> {
    subscription: Subscription,
    bad: u64,
    kind: PhantomData<fn() -> M>,
}

impl<M: DeserializeOwned> Events<M> {
    /// Returns once the server sends everything that is published from now on.
    pub(super) async fn subscribe(link: &Link, subject: &str) -> Result<Self, ListenError> {
        let subscription = link.subscribe(subject).await?;
        link.barrier().await?;
        Ok(Self { subscription, bad: 0, kind: PhantomData })
    }

    /// The next message; none once the connection is closed.
    pub async fn next(&mut self) -> Option<M> {
        loop {
            let incoming = self.subscription.next().await?;
            match incoming.read() {
                Ok(message) => return Some(message),
                Err(error) => {
                    self.bad += 1;
                    if self.bad == 1 {
                        let subject = incoming.subject();
                        tracing::warn!(subject, error, "an event cannot be read; it is left out");
                    }
                }
            }
        }
    }

    /// Messages left out because they could not be read.
    #[must_use]
    pub fn bad(&self) -> u64 {
        self.bad
    }
}
