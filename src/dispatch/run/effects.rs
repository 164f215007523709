//! What the core and the lease have done: each effect a loop of its own with a
//! time-out, at most [`limits::DISPATCH_OPS`] at a time, its end an input.

use std::{
    future::Future,
    hash::{DefaultHasher, Hash, Hasher},
    sync::Arc,
    time::{Duration, Instant},
};

use futures_util::{StreamExt, stream::FuturesUnordered};
use tokio::sync::{Mutex, Semaphore, mpsc};

use super::{
    Message,
    feeds::{Buckets, Kept},
};
use crate::{
    bus::{
        AskError, Link,
        kv::{Bucket, Store, StoreError, WriteError},
        messages::{Drain, DrainWorker, Ping, Refusal, RefusalCode, TaskEvent, Verdict},
        service::Request,
        subjects::{LEADER_KEY, WorkerAssign, WorkerDrain, WorkerPing, WorkerRevoke, WorkerUpdate},
    },
    dispatch::{
        io::{Input, Key, NoAnswer, Outcome, Output, Record},
        lease::{LeaseInput, LeaseOutput},
    },
    limits,
};

/// How long the store may take for the lease: less than what it is worth.
const LEASE_OP: Duration = Duration::from_millis(1_000);
/// Loops that keep events. One task's events go through one of them, so they
/// stay in order.
const EVENT_LOOPS: usize = 8;
/// How often at most the events' stream is looked for where one is not kept.
const EVENTS_LOOK: Duration = Duration::from_secs(1);

/// What the loop has hands on.
#[derive(Debug)]
pub(super) struct Hands {
    pub(super) link: Link,
    pub(super) buckets: Buckets,
    pub(super) messages: mpsc::Sender<Message>,
    pub(super) events: Vec<mpsc::Sender<TaskEvent>>,
    pub(super) slots: Arc<Semaphore>,
}

impl Hands {
    /// Does what the core wants.
    pub(super) fn apply(&self, output: Output) {
        let link = self.link.clone();
        match output {
            Output::Put { record: Record::Task(record), expected } => {
                self.put(&self.buckets.tasks, Key::Task(record.task.clone()), record, expected);
            }
            Output::Put { record: Record::Room(record), expected } => {
                self.put(&self.buckets.rooms, Key::Room(record.room.clone()), record, expected);
            }
            Output::Drop { key: Key::Task(task), expected } => {
                self.delete(&self.buckets.tasks, Key::Task(task), expected);
            }
            Output::Drop { key: Key::Room(room), expected } => {
                self.delete(&self.buckets.rooms, Key::Room(room), expected);
            }
            Output::Read(Key::Task(task)) => self.read(&self.buckets.tasks, Key::Task(task)),
            Output::Read(Key::Room(room)) => self.read(&self.buckets.rooms, Key::Room(room)),
            Output::Assign { worker, assign } => self.spawn(async move {
                let topic = WorkerAssign(worker.clone());
                let answer = link.ask(&topic, &assign, limits::ACCEPT_TIMEOUT).await;
                Input::Assigned { worker, assign, answer: verdict(answer) }
            }),
            Output::Revoke { worker, revoke } => self.spawn(async move {
                let topic = WorkerRevoke(worker.clone());
                if let Err(error) = link.ask(&topic, &revoke, limits::REQUEST_TIMEOUT).await {
                    tracing::debug!(%worker, task = %revoke.task, %error, "not revoked");
                }
                Input::Revoked { worker, task: revoke.task }
            }),
            Output::Update { worker, update } => self.spawn(async move {
                let topic = WorkerUpdate(worker.clone());
                match link.ask(&topic, &update, limits::ACCEPT_TIMEOUT).await {
                    Ok(verdict) if verdict.accepted => (),
                    // It is told again as long as its session does not show it.
                    answer => {
                        tracing::debug!(%worker, task = %update.task, ?answer, "not updated");
                    }
                }
                Input::Tick
            }),
            Output::Ping(worker) => self.spawn(async move {
                let topic = WorkerPing(worker.clone());
                let answer = match link.ask(&topic, &Ping {}, limits::PING_TIMEOUT).await {
                    Ok(beat) if beat.worker == worker => Ok(Box::new(beat)),
                    Ok(_) => Err(NoAnswer::TimedOut),
                    Err(error) => Err(no_answer(&error)),
                };
                Input::Ponged { worker, answer }
            }),
            Output::Event(event) => self.keep(event),
            // The shell answers callers itself.
            Output::Answer { .. } => (),
        }
    }

    /// Does what the lease wants, without queueing behind anything.
    pub(super) fn apply_lease(&self, output: LeaseOutput) {
        let leases = self.buckets.leases.clone();
        let messages = self.messages.clone();
        let job = async move {
            match output {
                LeaseOutput::Read => match leases.get(LEADER_KEY).await {
                    Ok(entry) => LeaseInput::Seen(entry.map(|e| (e.value, e.revision))),
                    Err(_) => LeaseInput::Unknown,
                },
                LeaseOutput::Create(record) => leased(&leases.create(LEADER_KEY, &record).await),
                LeaseOutput::Renew(record, revision) => {
                    leased(&leases.update(LEADER_KEY, &record, revision).await)
                }
                LeaseOutput::Release(revision) => {
                    // Whatever became of it, the lease runs out by itself.
                    let _ = leases.delete(LEADER_KEY, revision).await;
                    LeaseInput::NotWritten
                }
                LeaseOutput::Elected | LeaseOutput::Deposed => LeaseInput::Tick,
            }
        };
        tokio::spawn(async move {
            let ended = tokio::time::timeout(LEASE_OP, job).await;
            let input = ended.unwrap_or(LeaseInput::Unknown);
            let _ = messages.send(Message::Lease(input)).await;
        });
    }

    /// Passes an operator's wish on to the worker.
    pub(super) fn drain(&self, request: Request, drain: DrainWorker) {
        let link = self.link.clone();
        let DrainWorker { worker, reason, undrain } = drain;
        tokio::spawn(async move {
            let topic = WorkerDrain(worker.clone());
            match link.ask(&topic, &Drain { reason, undrain }, limits::ACCEPT_TIMEOUT).await {
                Ok(verdict) => request.answer(&verdict).await,
                Err(AskError::Refused(refusal)) => request.refuse(&refusal).await,
                Err(AskError::NoResponder(_)) => {
                    let why = format!("there is no worker {worker}");
                    request.refuse(&Refusal::new(RefusalCode::NotFound, why)).await;
                }
                Err(error) => {
                    let refusal = Refusal::new(RefusalCode::Unavailable, error.to_string());
                    request.refuse(&refusal).await;
                }
            }
        });
    }

    fn put<V: Kept>(&self, bucket: &Bucket<V>, key: Key, value: Arc<V>, expected: u64) {
        let (bucket, name) = (bucket.clone(), name(&key));
        self.spawn_op(key, move || {
            let (bucket, name, value) = (bucket.clone(), name.clone(), value.clone());
            async move {
                let written = match expected {
                    0 => bucket.create(&name, &value).await,
                    revision => bucket.update(&name, &value, revision).await,
                };
                match written {
                    Ok(revision) => Outcome::Written(revision),
                    // Also where an earlier try took place after all: it is read.
                    Err(WriteError::Conflict(_)) => Outcome::Conflict,
                    Err(WriteError::Unavailable(error)) => unknown(&error),
                }
            }
        });
    }

    fn delete<V: Kept>(&self, bucket: &Bucket<V>, key: Key, expected: u64) {
        let (bucket, name) = (bucket.clone(), name(&key));
        self.spawn_op(key, move || {
            let (bucket, name) = (bucket.clone(), name.clone());
            async move {
                match bucket.delete(&name, expected).await {
                    Ok(()) => Outcome::Dropped,
                    Err(error) => unknown(&error),
                }
            }
        });
    }

    fn read<V: Kept>(&self, bucket: &Bucket<V>, key: Key) {
        let (bucket, name, wanted) = (bucket.clone(), name(&key), key.clone());
        self.spawn_op(key, move || {
            let (bucket, name, wanted) = (bucket.clone(), name.clone(), wanted.clone());
            async move {
                match bucket.get(&name).await {
                    Ok(None) => Outcome::Found(None),
                    Ok(Some(entry)) => {
                        let record = entry.value.record();
                        if record.key() == wanted {
                            return Outcome::Found(Some((record, entry.revision)));
                        }
                        tracing::warn!(key = name, "a record under another's key");
                        Outcome::Unknown
                    }
                    Err(error) => unknown(&error),
                }
            }
        });
    }

    fn spawn_op<F>(&self, key: Key, job: impl FnMut() -> F + Send + 'static)
    where
        F: Future<Output = Outcome> + Send + 'static,
    {
        self.spawn(async move {
            let ended = tokio::time::timeout(limits::STORE_TIMEOUT, insist(job)).await;
            Input::Finished { key, outcome: ended.unwrap_or(Outcome::Unknown) }
        });
    }

    fn spawn(&self, job: impl Future<Output = Input> + Send + 'static) {
        let (slots, messages) = (self.slots.clone(), self.messages.clone());
        tokio::spawn(async move {
            // The semaphore is never closed.
            let _slot = slots.acquire_owned().await;
            let input = job.await;
            let _ = messages.send(Message::Core(input)).await;
        });
    }

    fn keep(&self, event: TaskEvent) {
        let mut hasher = DefaultHasher::new();
        event.task.hash(&mut hasher);
        let at = (hasher.finish() % EVENT_LOOPS as u64) as usize;
        if let Err(error) = self.events[at].try_send(event) {
            tracing::warn!(%error, "an event is lost: too many wait for the store");
        }
    }
}

/// Does something anew every [`limits::STORE_AGAIN`] until there is an answer, to
/// whichever try: what went to a server that stands still, or to a leader that is
/// none any more, is lost without a word. Writes name the revision they replace,
/// so of several tries one takes place at most.
async fn insist<F: Future<Output = Outcome>>(mut job: impl FnMut() -> F) -> Outcome {
    let mut again = tokio::time::interval(limits::STORE_AGAIN);
    let mut tries = FuturesUnordered::new();
    loop {
        tokio::select! {
            _ = again.tick() => tries.push(job()),
            Some(outcome) = tries.next() => return outcome,
        }
    }
}

fn name(key: &Key) -> String {
    match key {
        Key::Task(task) => task.to_string(),
        Key::Room(room) => room.to_string(),
    }
}

fn unknown(error: &StoreError) -> Outcome {
    tracing::debug!(%error, "the store gave no answer");
    Outcome::Unknown
}

fn leased(written: &Result<u64, WriteError>) -> LeaseInput {
    match written {
        Ok(revision) => LeaseInput::Written(*revision),
        Err(WriteError::Conflict(_)) => LeaseInput::NotWritten,
        Err(WriteError::Unavailable(_)) => LeaseInput::Unknown,
    }
}

fn verdict(answer: Result<Verdict, AskError>) -> Result<Verdict, NoAnswer> {
    match answer {
        Ok(verdict) => Ok(verdict),
        Err(AskError::Refused(refusal)) => {
            Ok(Verdict { accepted: false, reason: refusal.message, fatal: false })
        }
        Err(error) => Err(no_answer(&error)),
    }
}

fn no_answer(error: &AskError) -> NoAnswer {
    match error {
        AskError::NoResponder(_) => NoAnswer::NoResponder,
        _ => NoAnswer::TimedOut,
    }
}

/// Makes the events' stream anew where it is gone. Whoever comes meanwhile waits
/// for that.
async fn look_for_events(store: &Store, looked: &Mutex<Option<Instant>>) {
    let mut looked = looked.lock().await;
    if looked.is_some_and(|at| at.elapsed() < EVENTS_LOOK) {
        return;
    }
    if let Err(error) = store.ensure_events().await {
        tracing::warn!(%error, "events are not kept");
    }
    *looked = Some(Instant::now());
}

/// Starts the loops that keep events; they end with the senders.
pub(super) fn keep_events(store: &Store) -> Vec<mpsc::Sender<TaskEvent>> {
    let looked = Arc::new(Mutex::new(None));
    let start = |_| {
        let looked = looked.clone();
        let (events, mut queue) = mpsc::channel::<TaskEvent>(limits::CONTROL_CAPACITY);
        let store = store.clone();
        tokio::spawn(async move {
            while let Some(event) = queue.recv().await {
                // The same change told twice, by us or a successor, is kept once.
                let TaskEvent { task, epoch, state, time_ms, .. } = &event;
                let once = format!("{task}.{epoch}.{state}.{time_ms}");
                let mut kept = store.append(&event, &once).await;
                if kept.is_err() {
                    look_for_events(&store, &looked).await;
                    kept = store.append(&event, &once).await;
                }
                if let Err(error) = kept {
                    tracing::warn!(%error, "an event is lost");
                }
            }
        });
        events
    };
    (0..EVENT_LOOPS).map(start).collect()
}

#[cfg(test)]
mod tests {
    use std::future::pending;

    use tokio::time::{Instant, sleep_until};

    use super::*;

    /// In virtual time.
    async fn after(time: Duration) {
        sleep_until(Instant::now() + time).await;
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_lost_on_the_way_is_sent_once_more_and_the_first_answer_counts() {
        let (begin, mut tries) = (Instant::now(), 0);
        let outcome = insist(|| {
            tries += 1;
            let lost = tries == 1;
            async move {
                // The first is lost, the second slower than the third.
                match lost {
                    true => pending().await,
                    false => after(Duration::from_millis(300)).await,
                }
                Outcome::Written(7)
            }
        });
        assert!(matches!(outcome.await, Outcome::Written(7)));
        assert_eq!(begin.elapsed(), limits::STORE_AGAIN + Duration::from_millis(300));
        assert_eq!(tries, 3);
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_answered_in_time_is_done_once() {
        let mut tries = 0;
        let outcome = insist(|| {
            tries += 1;
            async {
                after(limits::STORE_AGAIN - Duration::from_millis(1)).await;
                Outcome::Conflict
            }
        });
        assert!(matches!(outcome.await, Outcome::Conflict));
        assert_eq!(tries, 1);
    }
}
