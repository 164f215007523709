//! One connection to the server: typed publishing, asking and subscribing, and
//! what happened to the connection, counted.
//!
//! A process holds two: one for control and one for media, so that a flood of
//! batches never delays a lease.

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use async_nats::{Client, Event, HeaderMap, client::RequestErrorKind};
use bytes::Bytes;
use serde::{Serialize, de::DeserializeOwned};
use tokio::sync::watch;

use super::{
    error::{AskError, ConnectError, PublishError},
    incoming::{Address, Counters, Inbox, Subscription, json},
    messages::{Refusal, RefusalCode},
    options::BusOptions,
    subjects::{Ask, Topic},
};
use crate::limits;

/// Header that carries the number of a refusal.
pub const ERROR_CODE: &str = "Nats-Service-Error-Code";
/// Header that carries the text of a refusal.
pub const ERROR_TEXT: &str = "Nats-Service-Error";

/// What a connection is for; it chooses how much a subscription may hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// Requests, leases, heartbeats, events.
    Control,
    /// Batches and NACKs.
    Media,
}

/// One connection. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Link {
    client: Client,
    url: Arc<str>,
    healthy: watch::Receiver<bool>,
    counters: Arc<Counters>,
}

impl Link {
    /// Connects, and checks that the server is new enough.
    ///
    /// # Errors
    /// [`ConnectError`] says what to look at.
    pub async fn connect(
        options: &BusOptions,
        name: &str,
        purpose: Purpose,
    ) -> Result<Self, ConnectError> {
        let url = options.shown();
        let (health, healthy) = watch::channel(true);
        let counters = Arc::new(Counters::default());
        let unreachable = |cause: String| ConnectError::Unreachable { url: url.clone(), cause };
        let addresses = options
            .url
            .split(',')
            .map(|url| url.trim().parse::<async_nats::ServerAddr>())
            .collect::<Result<Vec<_>, _>>()
            .map_err(|error| unreachable(error.to_string()))?;
        let seen = counters.clone();
        let who = name.to_owned();
        let client = options
            .client_options()
            .await?
            .name(name)
            .subscription_capacity(match purpose {
                Purpose::Control => limits::CONTROL_CAPACITY,
                Purpose::Media => limits::MEDIA_CAPACITY,
            })
            .event_callback(move |event| {
                note(&who, &event, &health, &seen);
                std::future::ready(())
            })
            .connect(addresses)
            .await
            .map_err(|error| unreachable(with_source(&error)))?;
        let found = client.server_info().version;
        if !is_new_enough(&found) {
            let (major, minor, patch) = limits::SERVER_MIN;
            return Err(ConnectError::TooOld {
                url,
                found,
                needed: format!("{major}.{minor}.{patch}"),
            });
        }
        Ok(Self { client, url: url.into(), healthy, counters })
    }

    /// Where this connection goes, without secrets.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Whether the server is there, as it changes.
    #[must_use]
    pub fn health(&self) -> watch::Receiver<bool> {
        self.healthy.clone()
    }

    /// What happened since the connection was made.
    #[must_use]
    pub fn counters(&self) -> &Counters {
        &self.counters
    }

    /// Publishes a message as JSON.
    ///
    /// Waits while the server is away and the queue to it is full: never await
    /// this where a pipe is read.
    ///
    /// # Errors
    /// Where the connection is closed or the message too large.
    pub async fn publish<T>(&self, topic: &T, message: &T::Message) -> Result<(), PublishError>
    where
        T: Topic,
        T::Message: Serialize,
    {
        self.publish_bytes(topic.subject(), json(message)).await
    }

    /// Publishes bytes as they are.
    ///
    /// # Errors
    /// As [`Link::publish`].
    pub async fn publish_bytes(&self, subject: String, payload: Bytes) -> Result<(), PublishError> {
        self.publish_at(&Address::new(subject), payload).await
    }

    /// Publishes bytes to a subject made before, without copying it.
    ///
    /// # Errors
    /// As [`Link::publish`].
    pub async fn publish_at(&self, to: &Address, payload: Bytes) -> Result<(), PublishError> {
        let result = self.client.publish(to.0.clone(), payload).await;
        result.map_err(|error| PublishError { subject: to.to_string(), cause: error.to_string() })
    }

    /// Asks and waits for the answer.
    ///
    /// # Errors
    /// [`AskError`] tells nobody, too late and a refusal apart.
    pub async fn ask<T>(
        &self,
        topic: &T,
        message: &T::Message,
        within: Duration,
    ) -> Result<T::Reply, AskError>
    where
        T: Ask,
        T::Message: Serialize,
        T::Reply: DeserializeOwned,
    {
        let subject = topic.subject();
        let answer = self.ask_bytes(&subject, json(message), within).await?;
        serde_json::from_slice(&answer)
            .map_err(|error| AskError::Unreadable { subject, cause: error.to_string() })
    }

    /// Asks with bytes as they are and returns the answer's.
    ///
    /// # Errors
    /// As [`Link::ask`].
    pub async fn ask_bytes(
        &self,
        subject: &str,
        payload: Bytes,
        within: Duration,
    ) -> Result<Bytes, AskError> {
        // An inbox of its own: a shared one keeps an entry for each request
        // that is never answered.
        let request = async_nats::Request::new()
            .payload(payload)
            .inbox(self.client.new_inbox())
            .timeout(Some(within));
        let asked = self.client.send_request(subject.to_owned(), request);
        // The library's own time-out begins when the request has left; while
        // the server is away that may be never.
        let answer = match tokio::time::timeout(within, asked).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(error)) => {
                let subject = subject.to_owned();
                return Err(match error.kind() {
                    RequestErrorKind::NoResponders => AskError::NoResponder(subject),
                    RequestErrorKind::TimedOut => AskError::TimedOut(subject),
                    _ => AskError::Failed { subject, cause: with_source(&error) },
                });
            }
            Err(_) => return Err(AskError::TimedOut(subject.to_owned())),
        };
        match refusal(&answer) {
            Some(refusal) => Err(AskError::Refused(refusal)),
            None => Ok(answer.payload),
        }
    }

    /// Asks all who serve a subject, and returns what was answered within a
    /// while: nobody knows how many there are.
    ///
    /// # Errors
    /// As [`Link::publish`].
    pub async fn ask_all(
        &self,
        subject: &str,
        payload: Bytes,
        within: Duration,
    ) -> Result<Vec<Bytes>, PublishError> {
        let inbox = self.client.new_inbox();
        let mut answers = self.subscribe(&inbox).await?;
        let asked = self.client.publish_with_reply(subject.to_owned(), inbox, payload).await;
        asked.map_err(|error| PublishError {
            subject: subject.to_owned(),
            cause: error.to_string(),
        })?;
        let until = tokio::time::Instant::now() + within;
        let mut found = Vec::new();
        while let Ok(Some(answer)) = tokio::time::timeout_at(until, answers.next()).await {
            // An empty one is the server's: nobody is there.
            if answer.payload().is_empty() {
                break;
            }
            found.push(Bytes::copy_from_slice(answer.payload()));
        }
        Ok(found)
    }

    /// Subscribes.
    ///
    /// # Errors
    /// Where the connection is closed or the subject is none.
    pub async fn subscribe(&self, subject: &str) -> Result<Subscription, PublishError> {
        let result = self.client.subscribe(subject.to_owned()).await;
        self.subscription(subject, result)
    }

    /// Subscribes as one of a group of which each message reaches one member.
    ///
    /// # Errors
    /// As [`Link::subscribe`].
    pub async fn subscribe_group(
        &self,
        subject: &str,
        group: &str,
    ) -> Result<Subscription, PublishError> {
        let result = self.client.queue_subscribe(subject.to_owned(), group.to_owned()).await;
        self.subscription(subject, result)
    }

    fn subscription<E: std::fmt::Display>(
        &self,
        subject: &str,
        result: Result<async_nats::Subscriber, E>,
    ) -> Result<Subscription, PublishError> {
        match result {
            Ok(inner) => Ok(Subscription { inner, counters: self.counters.clone() }),
            Err(error) => {
                Err(PublishError { subject: subject.to_owned(), cause: error.to_string() })
            }
        }
    }

    /// Returns once the server has taken in every subscription made before.
    ///
    /// A question to a subject nobody serves comes back from the server itself,
    /// behind all that was sent before it; a flush does not wait for that.
    ///
    /// # Errors
    /// Where the server does not answer in time.
    pub async fn barrier(&self) -> Result<(), AskError> {
        let nowhere = self.client.new_inbox();
        match self.ask_bytes(&nowhere, Bytes::new(), limits::REQUEST_TIMEOUT).await {
            Err(AskError::NoResponder(_)) | Ok(_) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Answers a request.
    ///
    /// # Errors
    /// As [`Link::publish`].
    pub async fn answer<M: Serialize>(&self, to: &Inbox, message: &M) -> Result<(), PublishError> {
        self.publish_bytes(to.0.clone(), json(message)).await
    }

    /// Refuses a request: the two headers of a micro service and a JSON body.
    ///
    /// # Errors
    /// As [`Link::publish`].
    pub async fn refuse(&self, to: &Inbox, refusal: &Refusal) -> Result<(), PublishError> {
        let mut headers = HeaderMap::new();
        headers.insert(ERROR_CODE, refusal.error.number().to_string().as_str());
        // A header is one line.
        let text: String = refusal.message.chars().filter(|c| !c.is_control()).collect();
        headers.insert(ERROR_TEXT, text.as_str());
        let sent = self.client.publish_with_headers(to.0.clone(), headers, json(refusal)).await;
        sent.map_err(|error| PublishError { subject: to.0.clone(), cause: error.to_string() })
    }

    /// Waits, for at most [`limits::FLUSH_TIMEOUT`], until what was published
    /// has left.
    pub async fn flush(&self) {
        if tokio::time::timeout(limits::FLUSH_TIMEOUT, self.barrier()).await.is_err() {
            tracing::warn!(url = %self.url, "left before everything was sent");
        }
    }

    pub(super) fn client(&self) -> &Client {
        &self.client
    }
}

fn refusal(answer: &async_nats::Message) -> Option<Refusal> {
    let headers = answer.headers.as_ref()?;
    let code = headers.get(ERROR_CODE)?;
    let text = headers.get(ERROR_TEXT).map_or("", |text| text.as_str());
    Some(serde_json::from_slice(&answer.payload).unwrap_or_else(|_| {
        Refusal::new(RefusalCode::Internal, format!("{} {text}", code.as_str()))
    }))
}

fn note(who: &str, event: &Event, health: &watch::Sender<bool>, counters: &Counters) {
    match event {
        Event::Connected => {
            health.send_replace(true);
            tracing::info!(connection = who, "connected");
        }
        Event::Disconnected => {
            counters.disconnects.fetch_add(1, Ordering::Relaxed);
            health.send_replace(false);
            tracing::warn!(connection = who, "the server is gone; reconnecting");
        }
        Event::SlowConsumer(id) => {
            // The first of a burst is logged, the rest counted.
            if counters.slow_consumer.fetch_add(1, Ordering::Relaxed).is_multiple_of(1_000) {
                tracing::warn!(connection = who, subscription = id, "too slow: messages dropped");
            }
        }
        Event::ServerError(error) => {
            counters.server_errors.fetch_add(1, Ordering::Relaxed);
            tracing::warn!(connection = who, %error, "the server refuses");
        }
        other => tracing::info!(connection = who, event = %other, "connection event"),
    }
}

fn is_new_enough(version: &str) -> bool {
    let number = |part: Option<&str>| -> u64 {
        let digits = part.unwrap_or("0").split(|c: char| !c.is_ascii_digit()).next();
        digits.and_then(|digits| digits.parse().ok()).unwrap_or(0)
    };
    let mut parts = version.trim_start_matches('v').split('.');
    let found = (number(parts.next()), number(parts.next()), number(parts.next()));
    found >= limits::SERVER_MIN
}

pub(super) fn with_source(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        let inner_text = inner.to_string();
        if !text.contains(&inner_text) {
            text = format!("{text}: {inner_text}");
        }
        cause = inner.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_compare_as_numbers() {
        for (version, fine) in [
            ("2.9.25", false),
            ("2.10.99", false),
            ("2.11.0", true),
            ("2.11.0-RC.1", true),
            ("v2.15.1", true),
            ("3.0", true),
            ("", false),
        ] {
            assert_eq!(is_new_enough(version), fine, "{version}");
        }
    }
}
