//! What is recorded: the stream `AUDIO`, putting batches into it so that each is
//! acknowledged, and reading them back.

use std::{pin::Pin, time::Duration};

use async_nats::{
    HeaderMap, StatusCode, datetime,
    header::NATS_MESSAGE_ID,
    jetstream::{
        self, ErrorCode,
        consumer::{DeliverPolicy, push},
        context::{CreateStreamErrorKind, GetStreamErrorKind},
        stream::{DiscardPolicy, StorageType},
    },
};
use bytes::Bytes;
use futures_util::StreamExt;

use super::{
    connection::Link,
    error::PublishError,
    incoming::{Address, Subscription},
    kv::{Store, StoreError},
    subjects::{self, Lane},
};
use crate::limits;

/// How much the stream keeps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds {
    /// What is older goes.
    pub age: Duration,
    /// Where there is more, the oldest goes.
    pub bytes: i64,
}

impl Default for Bounds {
    fn default() -> Self {
        Self { age: limits::RECORD_KEEP, bytes: limits::RECORD_STREAM_BYTES }
    }
}

impl Store {
    /// Makes the stream `AUDIO` where it is missing, as large as the server has
    /// room for; returns how many bytes it may hold where it was made.
    ///
    /// # Errors
    /// Where JetStream is off, cannot be reached, has no room, or denies it.
    pub async fn ensure_recording(&self, bounds: Bounds) -> Result<Option<i64>, StoreError> {
        let name = subjects::AUDIO_STREAM;
        let failed = |error: &dyn std::error::Error| {
            StoreError::new(format!("cannot make the stream {name}"), error)
        };
        match self.context().get_stream(name).await {
            Ok(_) => return Ok(None),
            Err(error) => match error.kind() {
                GetStreamErrorKind::JetStream(it)
                    if it.error_code() == ErrorCode::STREAM_NOT_FOUND => {}
                _ => return Err(failed(&error)),
            },
        }
        let mut bytes = bounds.bytes;
        loop {
            let config = jetstream::stream::Config {
                name: name.to_owned(),
                subjects: vec![subjects::all_tracks(Lane::Rec)],
                max_age: bounds.age,
                max_bytes: bytes,
                // A batch and the header with its name.
                max_message_size: limits::BATCH_MAX_BYTES as i32 + 4_096,
                duplicate_window: limits::RECORD_DEDUP.min(bounds.age),
                discard: DiscardPolicy::Old,
                storage: StorageType::File,
                num_replicas: self.replicas(),
                allow_direct: true,
                ..jetstream::stream::Config::default()
            };
            match self.context().create_stream(config).await {
                Ok(_) => return Ok(Some(bytes)),
                Err(error) => match error.kind() {
                    CreateStreamErrorKind::JetStream(it)
                        if it.error_code() == ErrorCode::STREAM_NAME_EXIST =>
                    {
                        return Ok(None);
                    }
                    CreateStreamErrorKind::JetStream(it)
                        if LACKS_ROOM.contains(&it.error_code())
                            && bytes / 2 >= limits::RECORD_STREAM_MIN =>
                    {
                        bytes /= 2;
                    }
                    _ => return Err(failed(&error)),
                },
            }
        }
    }
}

/// What a server says that has no room for a stream of that size.
const LACKS_ROOM: [ErrorCode; 2] =
    [ErrorCode::STORAGE_RESOURCES_EXCEEDED, ErrorCode::INSUFFICIENT_RESOURCES];

/// What the stream says to a batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kept {
    /// It is on disk.
    Yes,
    /// It was there already.
    Already,
    /// There is no such stream, or nobody to keep it now: it was not kept.
    NoStream,
    /// It is not taken as it stands.
    Refused(String),
}

/// Puts batches into the stream, and hears what it says to each.
#[derive(Debug)]
pub struct Keeper {
    link: Link,
    inbox: String,
    answers: Subscription,
}

impl Keeper {
    /// With an inbox of its own for the answers.
    ///
    /// # Errors
    /// As [`Link::subscribe`].
    pub async fn open(link: &Link) -> Result<Self, PublishError> {
        let inbox = link.client().new_inbox();
        let answers = link.subscribe(&format!("{inbox}.*")).await?;
        Ok(Self { link: link.clone(), inbox, answers })
    }

    /// Publishes a batch, for live subscribers and the stream in one. The stream
    /// keeps one of those with the same name, and answers under this number.
    ///
    /// # Errors
    /// As [`Link::publish`].
    pub async fn publish(
        &self,
        to: &Address,
        payload: Bytes,
        name: &str,
        number: u64,
    ) -> Result<(), PublishError> {
        let mut headers = HeaderMap::new();
        headers.insert(NATS_MESSAGE_ID, name);
        let reply = format!("{}.{number}", self.inbox);
        let client = self.link.client();
        let sent =
            client.publish_with_reply_and_headers(to.0.clone(), reply, headers, payload).await;
        sent.map_err(|error| PublishError { subject: to.to_string(), cause: error.to_string() })
    }

    /// The next answer and its number; none once the connection is closed.
    pub async fn answer(&mut self) -> Option<(u64, Kept)> {
        loop {
            let message = self.answers.inner.next().await?;
            let number = message.subject.rsplit('.').next().and_then(|last| last.parse().ok());
            if let Some((number, kept)) = number.zip(read(&message)) {
                return Some((number, kept));
            }
        }
    }
}

/// What the server's answer means; none where it says nothing yet.
fn read(message: &async_nats::Message) -> Option<Kept> {
    #[derive(serde::Deserialize)]
    struct Answer {
        error: Option<jetstream::Error>,
        #[serde(default)]
        duplicate: bool,
    }
    if message.status == Some(StatusCode::NO_RESPONDERS) {
        return Some(Kept::NoStream);
    }
    let error = match serde_json::from_slice::<Answer>(&message.payload) {
        Ok(Answer { error: Some(error), .. }) => error,
        Ok(Answer { duplicate: true, .. }) => return Some(Kept::Already),
        Ok(_) => return Some(Kept::Yes),
        Err(error) => {
            return Some(Kept::Refused(format!("an answer that cannot be read: {error}")));
        }
    };
    match (error.code(), error.error_code()) {
        // More wait for its disk than it lets in.
        (503, _) | (_, ErrorCode::STREAM_TOO_MANY_REQUESTS) => Some(Kept::NoStream),
        // The servers still agree on the same batch, which was sent before.
        (_, ErrorCode::STREAM_DUPLICATE_MESSAGE_CONFLICT) => None,
        _ => Some(Kept::Refused(error.to_string())),
    }
}

/// Where reading begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Since {
    /// With the first that is kept.
    Beginning,
    /// With what was kept from this moment on, µs since the Unix epoch.
    Time(i64),
}

/// Reads what was recorded on a subject in the order in which it was kept, and
/// then what comes. It asks the server for one consumer bound to that subject
/// and for nothing else, so that a role can be given one room.
pub struct Past {
    messages: Pin<Box<push::Ordered>>,
    left: u64,
}

/// A batch as it was kept.
#[derive(Debug)]
pub struct Recorded {
    /// Its subject.
    pub subject: String,
    /// The batch.
    pub payload: Bytes,
}

impl Past {
    /// Opens it.
    ///
    /// # Errors
    /// Where there is no such stream, or we may not read it.
    pub async fn open(link: &Link, subject: &str, since: Since) -> Result<Self, StoreError> {
        let time = |us: i64| datetime::from_nanos(i128::from(us.max(0)) * 1_000);
        let deliver_policy = match since {
            Since::Time(us) => time(us)
                .map_or(DeliverPolicy::All, |start_time| DeliverPolicy::ByStartTime { start_time }),
            Since::Beginning => DeliverPolicy::All,
        };
        let config = push::OrderedConfig {
            // With a name the subject stands in the request's own, where the
            // server's permissions see it.
            name: Some(uuid::Uuid::new_v4().simple().to_string()),
            deliver_subject: link.client().new_inbox(),
            filter_subject: subject.to_owned(),
            deliver_policy,
            ..push::OrderedConfig::default()
        };
        let name = subjects::AUDIO_STREAM;
        let failed = |error: &dyn std::error::Error| {
            let what = format!(
                "cannot read {subject} in the stream {name} (is it recorded, may we read it?)"
            );
            StoreError::new(what, error)
        };
        let store = Store::new(link, None);
        let consumer = store.context().create_consumer_on_stream(config, name).await;
        let consumer = consumer.map_err(|error| failed(&error))?;
        let left = consumer.cached_info().num_pending;
        let messages = consumer.messages().await.map_err(|error| failed(&error))?;
        Ok(Self { messages: Box::pin(messages), left })
    }

    /// Whether all that was kept when it was opened has been handed out.
    #[must_use]
    pub fn is_told(&self) -> bool {
        self.left == 0
    }

    /// The next batch; none where the stream cannot be read any more.
    pub async fn next(&mut self) -> Option<Recorded> {
        loop {
            match self.messages.next().await? {
                Ok(message) => {
                    // As the server counts: what was dropped meanwhile is not
                    // waited for.
                    self.left = message.info().map_or(0, |info| info.pending);
                    let (subject, payload) = (message.subject.to_string(), message.payload.clone());
                    return Some(Recorded { subject, payload });
                }
                // It makes itself anew where it stopped.
                Err(error) => tracing::debug!(%error, "the recording is read on"),
            }
        }
    }
}

impl std::fmt::Debug for Past {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Past").field("left", &self.left).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(status: Option<StatusCode>, text: &'static str) -> Option<Kept> {
        read(&async_nats::Message {
            subject: "inbox.1".into(),
            reply: None,
            payload: Bytes::from_static(text.as_bytes()),
            headers: None,
            status,
            description: None,
            length: text.len(),
        })
    }

    #[test]
    fn what_is_kept_is_told_from_what_was_there() {
        assert_eq!(answer(None, r#"{"stream":"AUDIO","seq":7}"#), Some(Kept::Yes));
        let text = r#"{"stream":"AUDIO","seq":7,"duplicate":true}"#;
        assert_eq!(answer(None, text), Some(Kept::Already));
    }

    #[test]
    fn a_stream_that_takes_nothing_now_is_asked_again() {
        assert_eq!(answer(Some(StatusCode::NO_RESPONDERS), ""), Some(Kept::NoStream));
        for text in [
            r#"{"error":{"code":503,"err_code":10008,"description":"unavailable"}}"#,
            r#"{"error":{"code":429,"err_code":10167,"description":"too many requests"}}"#,
        ] {
            assert_eq!(answer(None, text), Some(Kept::NoStream), "{text}");
        }
    }

    #[test]
    fn a_batch_that_is_being_kept_is_not_answered_yet() {
        let text = r#"{"error":{"code":409,"err_code":10158,"description":"in process"}}"#;
        assert_eq!(answer(None, text), None);
    }

    #[test]
    fn what_is_wrong_with_a_batch_is_final() {
        let text = r#"{"error":{"code":400,"err_code":10054,"description":"too large"}}"#;
        for text in [text, "?"] {
            assert!(matches!(answer(None, text), Some(Kept::Refused(_))), "{text}");
        }
    }
}
