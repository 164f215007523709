//! What comes to the dispatcher by itself: the three buckets' changes, the
//! heartbeats, and the health of the connection.

use std::{str::FromStr, sync::Arc, time::Instant};

use serde::{Serialize, de::DeserializeOwned};
use tokio::{
    sync::{mpsc, watch},
    task::JoinSet,
};

use super::{
    Message,
    pulse::{self, Judgement, Progress, Pulses},
};
use crate::{
    bus::{
        Link, PublishError,
        kv::{Bucket, Change, Pulse, Store, StoreError},
        messages::{Heartbeat, LeaseRecord},
        subjects::{self, Topic, WorkerHeartbeat},
    },
    dispatch::{
        io::{Input, Key, Record, Shelf},
        lease::LeaseInput,
    },
    id::{RoomId, TaskId},
    limits,
    task::{RoomRecord, TaskRecord},
};

type Messages = mpsc::Sender<Message>;

/// A value that is kept under its own name.
pub(super) trait Kept: Serialize + DeserializeOwned + Send + Sync + 'static {
    /// Where it is kept.
    const SHELF: Shelf;
    /// The key a text names, where it names one.
    fn key(text: &str) -> Option<Key>;
    /// As the core takes it.
    fn record(self) -> Record;
}

impl Kept for TaskRecord {
    const SHELF: Shelf = Shelf::Tasks;

    fn key(text: &str) -> Option<Key> {
        TaskId::from_str(text).ok().map(Key::Task)
    }

    fn record(self) -> Record {
        Record::Task(Arc::new(self))
    }
}

impl Kept for RoomRecord {
    const SHELF: Shelf = Shelf::Rooms;

    fn key(text: &str) -> Option<Key> {
        RoomId::from_str(text).ok().map(Key::Room)
    }

    fn record(self) -> Record {
        Record::Room(Arc::new(self))
    }
}

/// The three buckets.
#[derive(Debug, Clone)]
pub(super) struct Buckets {
    pub(super) tasks: Bucket<TaskRecord>,
    pub(super) rooms: Bucket<RoomRecord>,
    pub(super) leases: Bucket<LeaseRecord>,
}

impl Buckets {
    /// Opens them, and makes what is missing, as soon as the servers can.
    pub(super) async fn open(store: &Store) -> Result<Self, StoreError> {
        let end = Instant::now() + store.patience();
        loop {
            match Self::try_open(store).await {
                Err(error) if Instant::now() < end => {
                    tracing::warn!(%error, "trying again");
                    tokio::time::sleep(limits::WRITE_RETRY).await;
                }
                opened => return opened,
            }
        }
    }

    async fn try_open(store: &Store) -> Result<Self, StoreError> {
        let buckets = Self {
            tasks: store.bucket(subjects::TASKS_BUCKET, None).await?,
            rooms: store.bucket(subjects::ROOMS_BUCKET, None).await?,
            leases: store.bucket(subjects::LEASES_BUCKET, Some(limits::LEASE_TTL)).await?,
        };
        store.ensure_events().await?;
        Ok(buckets)
    }
}

/// Starts everything; dropping the result ends it.
pub(super) async fn start(
    link: &Link,
    store: &Store,
    buckets: &Buckets,
    messages: &Messages,
) -> Result<JoinSet<()>, PublishError> {
    let Buckets { tasks, rooms, leases } = buckets.clone();
    let mut loops = JoinSet::new();
    loops.spawn(heartbeats(link.subscribe(WorkerHeartbeat::ALL).await?, messages.clone()));
    loops.spawn(health(link.clone(), messages.clone()));
    let (tell, pulses) = watch::channel(None);
    loops.spawn(pulse::keep(store.clone(), tasks.clone(), subjects::TASKS_BUCKET, None, tell));
    loops.spawn(follow(tasks, pulses, messages.clone()));
    let (tell, pulses) = watch::channel(None);
    loops.spawn(pulse::keep(store.clone(), rooms.clone(), subjects::ROOMS_BUCKET, None, tell));
    loops.spawn(follow(rooms, pulses, messages.clone()));
    let (tell, pulses) = watch::channel(None);
    let (name, ttl) = (subjects::LEASES_BUCKET, Some(limits::LEASE_TTL));
    loops.spawn(pulse::keep(store.clone(), leases.clone(), name, ttl, tell));
    loops.spawn(follow_leases(leases, pulses, messages.clone()));
    Ok(loops)
}

async fn heartbeats(mut beats: crate::bus::Subscription, messages: Messages) {
    while let Some(incoming) = beats.next().await {
        match incoming.read::<Heartbeat>() {
            Ok(beat) if WorkerHeartbeat(beat.worker.clone()).subject() == incoming.subject() => {
                let _ = messages.send(Message::Core(Input::Heartbeat(Box::new(beat)))).await;
            }
            Ok(beat) => {
                let subject = incoming.subject();
                tracing::warn!(subject, worker = %beat.worker, "a heartbeat in another's name");
            }
            Err(error) => {
                tracing::warn!(subject = incoming.subject(), error, "no heartbeat of ours");
            }
        }
    }
    let _ = messages.send(Message::Closed).await;
}

async fn health(link: Link, messages: Messages) {
    let mut health = link.health();
    loop {
        let up = *health.borrow_and_update();
        let input = if up { Input::BusUp } else { Input::BusDown };
        if messages.send(Message::Core(input)).await.is_err() || health.changed().await.is_err() {
            return;
        }
    }
}

/// Follows a bucket, from its beginning again where the watch breaks.
async fn follow<V: Kept>(bucket: Bucket<V>, mut pulses: Pulses, messages: Messages) {
    let mut told = false;
    let mut progress = Progress::default();
    loop {
        let mut before = *pulses.borrow();
        // Before the watch is made: what is written from here on is there, though
        // the watch may say that it has told all before it tells of that.
        if messages.send(Message::Core(Input::Watching(V::SHELF))).await.is_err() {
            return;
        }
        match watch_the_same(&bucket, &mut progress).await {
            Ok((mut watch, wiped)) => {
                // What a new bucket does not tell of is not gone: it was lost.
                if let Some(pulse) = wiped {
                    tracing::warn!(bucket = ?V::SHELF, "the bucket is another one");
                    let wiped = Message::Core(Input::Wiped(V::SHELF));
                    if messages.send(wiped).await.is_err() {
                        return;
                    }
                    before = Some(pulse);
                }
                loop {
                    let next = tokio::select! {
                        next = change(&mut watch) => next,
                        judged = judged(&mut pulses, &mut progress) => {
                            let wiped = Message::Core(Input::Wiped(V::SHELF));
                            if judged == Judgement::Wiped && messages.send(wiped).await.is_err() {
                                return;
                            }
                            tracing::warn!(bucket = ?V::SHELF, ?judged, "making a new watch");
                            None
                        }
                    };
                    let Some(input) = next else { break };
                    let all_told = input == Input::Current(V::SHELF);
                    if let Input::Changed { revision, .. } = &input {
                        progress.told(*revision);
                    }
                    if messages.send(Message::Core(input)).await.is_err() {
                        return;
                    }
                    if all_told {
                        progress.begin(before);
                        if !std::mem::replace(&mut told, true) {
                            let _ = messages.send(Message::Told).await;
                        }
                    }
                }
            }
            Err(error) => tracing::warn!(%error, bucket = ?V::SHELF, "cannot watch; trying again"),
        }
        tokio::time::sleep(limits::WRITE_RETRY).await;
    }
}

/// A watch, and how the bucket is where it is not the one that was watched
/// before: looked at after the watch was made, so that nothing comes between.
async fn watch_the_same<V: Kept>(
    bucket: &Bucket<V>,
    progress: &mut Progress,
) -> Result<(crate::bus::kv::Watch<V>, Option<Pulse>), StoreError> {
    let watch = bucket.watch().await?;
    let pulse = bucket.pulse().await?;
    let wiped = pulse.filter(|pulse| progress.judge(*pulse) == Judgement::Wiped);
    Ok((watch, wiped))
}

/// Returns once the bucket shows that its watch is of no use any more.
async fn judged(pulses: &mut Pulses, progress: &mut Progress) -> Judgement {
    loop {
        if pulses.changed().await.is_err() {
            return std::future::pending().await;
        }
        let pulse = *pulses.borrow_and_update();
        match pulse.map(|pulse| progress.judge(pulse)) {
            None | Some(Judgement::Fine) => (),
            Some(judged) => return judged,
        }
    }
}

/// The next change of a bucket as an input; none once the watch is broken.
async fn change<V: Kept>(watch: &mut crate::bus::kv::Watch<V>) -> Option<Input> {
    loop {
        match watch.next().await {
            Change::Put { key, entry } => {
                let record = entry.value.record();
                match V::key(&key).filter(|key| *key == record.key()) {
                    Some(key) => {
                        let revision = entry.revision;
                        return Some(Input::Changed { key, revision, record: Some(record) });
                    }
                    None => tracing::warn!(key, "a record under another's key"),
                }
            }
            Change::Deleted { key, revision } => match V::key(&key) {
                Some(key) => return Some(Input::Changed { key, revision, record: None }),
                None => tracing::warn!(key, "a key that is none of ours"),
            },
            Change::Unreadable { key, cause } => {
                tracing::warn!(key, cause, "a value that is no record of ours");
            }
            Change::Current => return Some(Input::Current(V::SHELF)),
            Change::Broken(cause) => {
                tracing::warn!(bucket = ?V::SHELF, cause, "a watch broke; making a new one");
                return None;
            }
        }
    }
}

/// Follows the leases: the leader's, which is polled as well, since an expiry can
/// be told late, and the workers', which are signs of life.
async fn follow_leases(leases: Bucket<LeaseRecord>, mut pulses: Pulses, messages: Messages) {
    let mut progress = Progress::default();
    loop {
        if let Ok(mut watch) = leases.watch().await {
            progress.begin(*pulses.borrow());
            // What was written before is no sign of anything now.
            let mut current = false;
            loop {
                let change = tokio::select! {
                    change = watch.next() => change,
                    _ = judged(&mut pulses, &mut progress) => break,
                };
                let seen = match change {
                    Change::Put { key, entry } => {
                        progress.told(entry.revision);
                        if let Some(worker) = subjects::worker_of_lease(&key).filter(|_| current)
                            && messages.send(Message::Core(Input::Renewed(worker))).await.is_err()
                        {
                            return;
                        }
                        (key == subjects::LEADER_KEY).then_some(Some((entry.value, entry.revision)))
                    }
                    Change::Deleted { key, revision } => {
                        progress.told(revision);
                        (key == subjects::LEADER_KEY).then_some(None)
                    }
                    Change::Current => {
                        current = true;
                        None
                    }
                    Change::Broken(_) => break,
                    Change::Unreadable { .. } => None,
                };
                let Some(seen) = seen else { continue };
                if messages.send(Message::Lease(LeaseInput::Seen(seen))).await.is_err() {
                    return;
                }
            }
        }
        tokio::time::sleep(limits::WRITE_RETRY).await;
    }
}
