//! Key-value buckets: compare-and-set and watching, nothing else.

use std::{marker::PhantomData, pin::Pin, time::Duration};

use async_nats::jetstream::{
    self, ErrorCode,
    kv::{self, CreateErrorKind, Operation, UpdateErrorKind},
    stream::{self, DiscardPolicy, StorageType},
};
use futures_util::StreamExt;
use serde::{Serialize, de::DeserializeOwned};

use super::{
    connection::{Link, with_source},
    incoming::{json, read_json},
    messages::TaskEvent,
    subjects::{self, TaskEvents, Topic},
};
use crate::{clock, limits};

/// JetStream cannot be reached, or refuses.
#[derive(Debug, thiserror::Error)]
#[error("{what}: {cause}")]
pub struct StoreError {
    what: String,
    cause: String,
}

impl StoreError {
    pub(super) fn new(what: impl Into<String>, error: &dyn std::error::Error) -> Self {
        Self { what: what.into(), cause: with_source(error) }
    }
}

/// Why a write did not take place.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    /// Somebody wrote first: read again and decide anew.
    #[error("{0} was changed by somebody else")]
    Conflict(String),
    /// Whether it took place is not known: read again.
    #[error(transparent)]
    Unavailable(#[from] StoreError),
}

/// The JetStream side of a connection.
#[derive(Debug, Clone)]
pub struct Store {
    context: jetstream::Context,
    replicas: usize,
    patience: Duration,
}

impl Store {
    /// JetStream over this connection. What is made here has `replicas` copies;
    /// unless that is said, three in a cluster and one elsewhere.
    #[must_use]
    pub fn new(link: &Link, replicas: Option<usize>) -> Self {
        let clustered = link.client().server_info().cluster.is_some();
        let replicas = replicas.unwrap_or(if clustered { limits::REPLICAS } else { 1 });
        let patience = if clustered { limits::CLUSTER_GATHERS } else { Duration::ZERO };
        let context = jetstream::ContextBuilder::new()
            .timeout(limits::REQUEST_TIMEOUT)
            .ack_timeout(limits::REQUEST_TIMEOUT)
            .build(link.client().clone());
        Self { context, replicas, patience }
    }

    /// How long the servers may take before they can make anything: those of a
    /// cluster have to agree first.
    #[must_use]
    pub fn patience(&self) -> Duration {
        self.patience
    }

    pub(super) fn replicas(&self) -> usize {
        self.replicas
    }

    pub(super) fn context(&self) -> &jetstream::Context {
        &self.context
    }

    /// Opens a bucket, and makes it where it is missing. Entries of a bucket
    /// with a `max_age` vanish that long after they were written.
    ///
    /// # Errors
    /// Where JetStream is off, cannot be reached, or denies us the bucket.
    pub async fn bucket<V>(
        &self,
        name: &str,
        max_age: Option<Duration>,
    ) -> Result<Bucket<V>, StoreError> {
        if let Ok(store) = self.context.get_key_value(name).await {
            return Ok(Bucket { store, value: PhantomData });
        }
        let config = bucket_config(name, max_age, self.replicas, clock::unix_us());
        let made = self.context.create_stream(config).await.map(drop);
        // Another may have made it just now.
        match (self.context.get_key_value(name).await, made) {
            (Ok(store), _) => Ok(Bucket { store, value: PhantomData }),
            (Err(error), Ok(())) => {
                Err(StoreError::new(format!("cannot open the bucket {name}"), &error))
            }
            (Err(_), Err(error)) => Err(StoreError::new(
                format!(
                    "cannot open the bucket {name} with {} copies (is JetStream enabled in \
                     nats-server? is every server of a cluster up? else see --replicas)",
                    self.replicas
                ),
                &error,
            )),
        }
    }

    /// Opens a bucket that somebody else makes.
    ///
    /// # Errors
    /// Where it is not there.
    pub async fn existing<V>(&self, name: &str) -> Result<Bucket<V>, StoreError> {
        let store = self.context.get_key_value(name).await.map_err(|error| {
            StoreError::new(
                format!("cannot open the bucket {name} (is a dispatcher running?)"),
                &error,
            )
        })?;
        Ok(Bucket { store, value: PhantomData })
    }

    /// Makes the stream of task events where it is missing.
    ///
    /// # Errors
    /// As [`Store::bucket`].
    pub async fn ensure_events(&self) -> Result<(), StoreError> {
        let config = stream::Config {
            name: subjects::EVENTS_STREAM.to_owned(),
            subjects: vec![TaskEvents::ALL.to_owned()],
            max_age: limits::EVENTS_KEEP,
            max_bytes: limits::EVENTS_BYTES,
            max_message_size: i32::try_from(limits::CONTROL_MAX_BYTES).unwrap_or(i32::MAX),
            storage: StorageType::File,
            num_replicas: self.replicas,
            ..stream::Config::default()
        };
        self.context.get_or_create_stream(config).await.map(drop).map_err(|error| {
            StoreError::new(format!("cannot open the stream {}", subjects::EVENTS_STREAM), &error)
        })
    }

    /// Appends a task's event to its stream and waits until it is kept. A
    /// repeated `once` within the stream's window is kept once.
    ///
    /// # Errors
    /// Where it was not acknowledged.
    pub async fn append(&self, event: &TaskEvent, once: &str) -> Result<(), StoreError> {
        let topic = TaskEvents(event.task.clone());
        let mut headers = async_nats::HeaderMap::new();
        headers.insert(async_nats::header::NATS_MESSAGE_ID, once);
        let what = || format!("cannot keep an event of task {}", event.task);
        let sent = self.context.publish_with_headers(topic.subject(), headers, json(event)).await;
        let acked = sent.map_err(|error| StoreError::new(what(), &error))?.await;
        acked.map(drop).map_err(|error| StoreError::new(what(), &error))
    }
}

/// A bucket as [ADR-8] has it, which the library makes as well, but for where its
/// revisions begin: at the time in µs at which it is made. Unless clocks were set
/// back meanwhile, that is higher than any of a bucket of that name that was there
/// before, so that a write meant for that one is never taken for one of this.
///
/// [ADR-8]: https://github.com/nats-io/nats-architecture-and-design/blob/main/adr/ADR-8.md
fn bucket_config(
    name: &str,
    max_age: Option<Duration>,
    replicas: usize,
    unix_us: u64,
) -> stream::Config {
    stream::Config {
        name: format!("KV_{name}"),
        subjects: vec![format!("$KV.{name}.>")],
        max_messages_per_subject: 1,
        max_age: max_age.unwrap_or_default(),
        max_message_size: i32::try_from(limits::CONTROL_MAX_BYTES).unwrap_or(i32::MAX),
        storage: StorageType::File,
        num_replicas: replicas,
        discard: DiscardPolicy::New,
        allow_rollup: true,
        deny_delete: true,
        allow_direct: true,
        first_sequence: Some(unix_us),
        ..stream::Config::default()
    }
}

/// Whether another write of the key was under way: the server then refuses with
/// an error of its own, which the library takes for any other.
fn is_overtaken(error: &(dyn std::error::Error + 'static)) -> bool {
    let mut cause = Some(error);
    while let Some(error) = cause {
        if let Some(refusal) = error.downcast_ref::<jetstream::Error>()
            && refusal.error_code() == ErrorCode::STREAM_WRONG_LAST_SEQUENCE_CONSTANT
        {
            return true;
        }
        cause = error.source();
    }
    false
}

/// Whether the server says that there is no such stream.
fn is_missing(error: &(dyn std::error::Error + 'static)) -> bool {
    let mut cause = Some(error);
    while let Some(error) = cause {
        if let Some(refusal) = error.downcast_ref::<jetstream::Error>()
            && refusal.error_code() == ErrorCode::STREAM_NOT_FOUND
        {
            return true;
        }
        cause = error.source();
    }
    false
}

/// A bucket whose values are JSON of one type.
#[derive(Debug)]
pub struct Bucket<V> {
    store: kv::Store,
    value: PhantomData<fn() -> V>,
}

impl<V> Clone for Bucket<V> {
    fn clone(&self) -> Self {
        Self { store: self.store.clone(), value: PhantomData }
    }
}

/// A bucket at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pulse {
    /// When it was made, ns since the Unix epoch: tells it from one of the same
    /// name that was there before.
    pub made: i128,
    /// The revision of its last write.
    pub last: u64,
    /// Whether it holds nothing at all, not even what was deleted.
    pub empty: bool,
}

/// A value and the revision that a later write must name.
#[derive(Debug, Clone, PartialEq)]
pub struct Versioned<V> {
    /// The value.
    pub value: V,
    /// Its revision.
    pub revision: u64,
}

impl<V: Serialize + DeserializeOwned> Bucket<V> {
    /// Reads a key.
    ///
    /// # Errors
    /// Where the store cannot be reached or holds something else.
    pub async fn get(&self, key: &str) -> Result<Option<Versioned<V>>, StoreError> {
        let entry = self.store.entry(key).await;
        let entry = entry.map_err(|error| StoreError::new(format!("cannot read {key}"), &error))?;
        let Some(entry) = entry.filter(|entry| entry.operation == Operation::Put) else {
            return Ok(None);
        };
        match read_json(&entry.value) {
            Ok(value) => Ok(Some(Versioned { value, revision: entry.revision })),
            Err(cause) => {
                Err(StoreError { what: format!("the value of {key} is no record of ours"), cause })
            }
        }
    }

    /// Writes a key that is not there; returns its revision.
    ///
    /// # Errors
    /// [`WriteError::Conflict`] where it is.
    pub async fn create(&self, key: &str, value: &V) -> Result<u64, WriteError> {
        self.store.create(key, json(value)).await.map_err(|error| match error.kind() {
            CreateErrorKind::AlreadyExists => WriteError::Conflict(key.to_owned()),
            _ if is_overtaken(&error) => WriteError::Conflict(key.to_owned()),
            _ => StoreError::new(format!("cannot write {key}"), &error).into(),
        })
    }

    /// Writes a key whose last revision is `revision` (0: never written);
    /// returns the new one.
    ///
    /// # Errors
    /// [`WriteError::Conflict`] where it is another.
    pub async fn update(&self, key: &str, value: &V, revision: u64) -> Result<u64, WriteError> {
        self.store.update(key, json(value), revision).await.map_err(|error| match error.kind() {
            UpdateErrorKind::WrongLastRevision => WriteError::Conflict(key.to_owned()),
            _ if is_overtaken(&error) => WriteError::Conflict(key.to_owned()),
            _ => StoreError::new(format!("cannot write {key}"), &error).into(),
        })
    }

    /// Deletes a key whose last revision is `revision`.
    ///
    /// # Errors
    /// Where it is another or the store cannot be reached; the library does not
    /// tell the two apart.
    pub async fn delete(&self, key: &str, revision: u64) -> Result<(), StoreError> {
        let deleted = self.store.delete_expect_revision(key, Some(revision)).await;
        deleted.map_err(|error| StoreError::new(format!("cannot delete {key}"), &error))
    }

    /// How the bucket is; none where there is no such bucket.
    ///
    /// # Errors
    /// Where the store cannot be reached.
    pub async fn pulse(&self) -> Result<Option<Pulse>, StoreError> {
        let info = match self.store.stream.get_info().await {
            Ok(info) => info,
            Err(error) if is_missing(&error) => return Ok(None),
            Err(error) => return Err(StoreError::new("cannot look at a bucket", &error)),
        };
        Ok(Some(Pulse {
            made: info.created.unix_timestamp_nanos(),
            last: info.state.last_sequence,
            empty: info.state.messages == 0,
        }))
    }

    /// Follows all keys: first what is there, then [`Change::Current`], then
    /// what changes. It outlives the server's restarts.
    ///
    /// # Errors
    /// Where the store cannot be reached.
    pub async fn watch(&self) -> Result<Watch<V>, StoreError> {
        let failed =
            |error: &dyn std::error::Error| StoreError::new("cannot watch a bucket", error);
        let empty = self.pulse().await?.is_some_and(|pulse| pulse.empty);
        let inner = self.store.watch_with_history(">").await.map_err(|error| failed(&error))?;
        Ok(Watch { inner: Box::pin(inner), current: false, say_current: empty, value: PhantomData })
    }
}

/// What a watch reports.
#[derive(Debug, Clone, PartialEq)]
pub enum Change<V> {
    /// A key has this value now.
    Put {
        /// The key.
        key: String,
        /// Its value and revision.
        entry: Versioned<V>,
    },
    /// A key was deleted.
    Deleted {
        /// The key.
        key: String,
        /// The revision of the marker: what the next write must name.
        revision: u64,
    },
    /// A key holds something that is no record of ours.
    Unreadable {
        /// The key.
        key: String,
        /// Why.
        cause: String,
    },
    /// Everything that was there has been reported.
    Current,
    /// The watch broke: make a new one.
    Broken(String),
}

/// A watch on a bucket.
pub struct Watch<V> {
    inner: Pin<Box<kv::Watch>>,
    current: bool,
    say_current: bool,
    value: PhantomData<fn() -> V>,
}

impl<V: DeserializeOwned> Watch<V> {
    /// The next change. After [`Change::Broken`] nothing more comes.
    pub async fn next(&mut self) -> Change<V> {
        if self.say_current {
            self.say_current = false;
            self.current = true;
            return Change::Current;
        }
        let entry = match self.inner.next().await {
            Some(Ok(entry)) => entry,
            Some(Err(error)) => return Change::Broken(with_source(&error)),
            None => return Change::Broken("the connection is closed".to_owned()),
        };
        self.say_current = entry.seen_current && !self.current;
        match entry.operation {
            Operation::Delete | Operation::Purge => {
                Change::Deleted { key: entry.key, revision: entry.revision }
            }
            Operation::Put => match read_json(&entry.value) {
                Ok(value) => Change::Put {
                    key: entry.key,
                    entry: Versioned { value, revision: entry.revision },
                },
                Err(cause) => Change::Unreadable { key: entry.key, cause },
            },
        }
    }
}
