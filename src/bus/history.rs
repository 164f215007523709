//! What happened before: the events that the stream `GATEWAY_EVENTS` keeps.

use std::{pin::Pin, time::Duration};

use async_nats::{
    datetime,
    jetstream::consumer::{self, DeliverPolicy, pull},
};
use futures_util::StreamExt;

use super::{
    connection::Link,
    incoming::read_json,
    kv::{Store, StoreError},
    messages::TaskEvent,
    subjects::{self, TaskEvents, Topic},
};
use crate::id::TaskId;

/// Events in the order in which they were kept, from some moment on, and then
/// those that come.
pub struct History {
    messages: Pin<Box<pull::Ordered>>,
    /// Kept events that were not handed out yet.
    left: u64,
}

impl History {
    /// Opens the events of one task, or of all, that are at most `ago` old.
    ///
    /// # Errors
    /// Where there is no such stream, or we may not read it.
    pub async fn open(
        link: &Link,
        task: Option<&TaskId>,
        ago: Duration,
    ) -> Result<Self, StoreError> {
        let ago = i128::try_from(ago.as_nanos()).unwrap_or(i128::MAX);
        let start = datetime::now().unix_timestamp_nanos().saturating_sub(ago).max(0);
        let deliver_policy = match datetime::from_nanos(start) {
            Ok(start_time) => DeliverPolicy::ByStartTime { start_time },
            Err(_) => DeliverPolicy::All,
        };
        let filter_subject = task
            .map_or_else(|| TaskEvents::ALL.to_owned(), |task| TaskEvents(task.clone()).subject());
        let config = pull::OrderedConfig {
            filter_subject,
            deliver_policy,
            ..pull::OrderedConfig::default()
        };
        let name = subjects::EVENTS_STREAM;
        let failed = |error: &dyn std::error::Error| {
            StoreError::new(
                format!(
                    "cannot read the stream {name} (has a dispatcher made it, may we read it?)"
                ),
                error,
            )
        };
        let stream = Store::new(link, None).context().get_stream(name).await;
        let stream = stream.map_err(|error| failed(&error))?;
        let consumer: consumer::Consumer<pull::OrderedConfig> =
            stream.create_consumer(config).await.map_err(|error| failed(&error))?;
        let left = consumer.cached_info().num_pending;
        let messages = consumer.messages().await.map_err(|error| failed(&error))?;
        Ok(Self { messages: Box::pin(messages), left })
    }

    /// Whether all that was kept has been handed out.
    #[must_use]
    pub fn is_told(&self) -> bool {
        self.left == 0
    }

    /// The next event; none where the stream cannot be read any more.
    pub async fn next(&mut self) -> Option<TaskEvent> {
        loop {
            let message = match self.messages.next().await? {
                Ok(message) => message,
                Err(error) => {
                    tracing::warn!(%error, "the events cannot be read on");
                    return None;
                }
            };
            // As the server counts: what was dropped meanwhile is not waited for.
            self.left = message.info().map_or(0, |info| info.pending);
            match read_json(&message.payload) {
                Ok(event) => return Some(event),
                Err(error) => {
                    tracing::warn!(error, "an event cannot be read; it is left out");
                    if self.left == 0 {
                        return None;
                    }
                }
            }
        }
    }
}

impl std::fmt::Debug for History {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("History").field("left", &self.left).finish_non_exhaustive()
    }
}
