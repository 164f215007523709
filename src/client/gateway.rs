//! The control side of a program: one connection to the dispatchers, and a
//! second for audio that is opened when it is first needed.

use std::{sync::Arc, time::Duration};

use tokio::sync::OnceCell;

use super::{Events, ListenError, ListenOptions, Listener};
use crate::{
    bus::{
        AskError, BusOptions, ConnectError, Link, Purpose,
        history::History,
        kv::StoreError,
        messages::{
            Cancel, DrainWorker, Get, Leader, List, Listed, Ping, RefusalCode, RoomEvent, StepDown,
            SteppedDown, Submitted, TaskEvent, TaskView, Verdict, Workers,
        },
        subjects::{self, Ask, RoomEvents, TaskEvents, Topic},
    },
    id::{RoomId, TaskId, WorkerId},
    limits,
    task::{TaskSpec, Update},
};

/// A program's way to the gateway. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Gateway(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    options: BusOptions,
    control: Link,
    media: OnceCell<Link>,
}

impl Gateway {
    /// Connects to the server.
    ///
    /// # Errors
    /// [`ConnectError`] says what to look at.
    pub async fn connect(options: &BusOptions) -> Result<Self, ConnectError> {
        let control = Link::connect(options, "client", Purpose::Control).await?;
        let options = options.clone();
        Ok(Self(Arc::new(Inner { options, control, media: OnceCell::new() })))
    }

    /// The connection that control goes over.
    #[must_use]
    pub fn control(&self) -> &Link {
        &self.0.control
    }

    /// The connection that audio comes over, opened by the first call.
    ///
    /// # Errors
    /// As [`Gateway::connect`].
    pub async fn media(&self) -> Result<&Link, ConnectError> {
        let connect = || Link::connect(&self.0.options, "client-media", Purpose::Media);
        self.0.media.get_or_try_init(connect).await
    }

    /// Hands in a task. Where no answer comes it is handed in again under the
    /// same id, which is made here where the task has none: it starts once.
    ///
    /// # Errors
    /// [`AskError::Refused`] where it is not taken as it stands.
    pub async fn submit(&self, spec: &TaskSpec) -> Result<Submitted, AskError> {
        let mut spec = spec.clone();
        spec.id.get_or_insert_with(TaskId::fresh);
        for _ in 1..limits::SUBMIT_TRIES {
            match self.ask(&subjects::Submit, &spec).await {
                Err(AskError::TimedOut(_)) => (),
                Err(AskError::Refused(refusal))
                    if matches!(
                        refusal.error,
                        RefusalCode::Internal | RefusalCode::Unavailable
                    ) =>
                {
                    tokio::time::sleep(limits::RECONNECT_DELAY).await;
                }
                answer => return answer,
            }
        }
        self.ask(&subjects::Submit, &spec).await
    }

    /// Where a task stands.
    ///
    /// # Errors
    /// [`AskError::Refused`] with `not_found` where nobody knows it.
    pub async fn get(&self, task: &TaskId) -> Result<TaskView, AskError> {
        self.ask(&subjects::Get, &Get { task: task.clone() }).await
    }

    /// Tasks, newest first.
    ///
    /// # Errors
    /// As [`Link::ask`].
    pub async fn list(&self, filter: &List) -> Result<Listed, AskError> {
        self.ask(&subjects::List, filter).await
    }

    /// Changes a task that waits or runs; what the update does not name stays
    /// as it is. The answer comes when the change is on disk, and says by
    /// `updating` whether the worker has yet to take it in.
    ///
    /// # Errors
    /// [`AskError::Refused`] with `bad_request` where it breaks a bound, with
    /// `conflict` where the task has ended, else as [`Gateway::get`].
    pub async fn update(&self, update: &Update) -> Result<TaskView, AskError> {
        self.ask(&subjects::Update, update).await
    }

    /// Ends a task.
    ///
    /// # Errors
    /// As [`Gateway::get`].
    pub async fn cancel(&self, task: &TaskId, reason: &str) -> Result<TaskView, AskError> {
        let request = Cancel { task: task.clone(), reason: reason.to_owned() };
        self.ask(&subjects::Cancel, &request).await
    }

    /// The workers that the dispatchers know.
    ///
    /// # Errors
    /// As [`Link::ask`].
    pub async fn workers(&self) -> Result<Workers, AskError> {
        self.ask(&subjects::AdminWorkers, &Ping {}).await
    }

    /// Who leads the dispatchers.
    ///
    /// # Errors
    /// As [`Link::ask`].
    pub async fn leader(&self) -> Result<Leader, AskError> {
        self.ask(&subjects::AdminLeader, &Ping {}).await
    }

    /// Has a worker give its rooms away. It says whether it does.
    ///
    /// # Errors
    /// [`AskError::Refused`] with `not_found` where there is no such worker.
    pub async fn drain(&self, worker: &WorkerId, reason: &str) -> Result<Verdict, AskError> {
        self.drain_or_not(worker, reason, false).await
    }

    /// Has a worker that was drained take rooms again.
    ///
    /// # Errors
    /// As [`Gateway::drain`].
    pub async fn undrain(&self, worker: &WorkerId, reason: &str) -> Result<Verdict, AskError> {
        self.drain_or_not(worker, reason, true).await
    }

    async fn drain_or_not(
        &self,
        worker: &WorkerId,
        reason: &str,
        undrain: bool,
    ) -> Result<Verdict, AskError> {
        let (worker, reason) = (worker.clone(), reason.to_owned());
        self.ask(&subjects::AdminDrain, &DrainWorker { worker, reason, undrain }).await
    }

    /// Has the leader of the dispatchers let another lead.
    ///
    /// # Errors
    /// As [`Link::ask`]; nobody answers in time while nobody leads.
    pub async fn step_down(&self, reason: &str) -> Result<SteppedDown, AskError> {
        let wish = StepDown { reason: reason.to_owned() };
        self.ask(&subjects::AdminStepDown, &wish).await
    }

    /// The changes of one task, or of all, from now on.
    ///
    /// # Errors
    /// Where the server does not take the subscription.
    pub async fn task_events(
        &self,
        task: Option<&TaskId>,
    ) -> Result<Events<TaskEvent>, ListenError> {
        let subject = match task {
            Some(task) => TaskEvents(task.clone()).subject(),
            None => TaskEvents::ALL.to_owned(),
        };
        Events::subscribe(self.control(), &subject).await
    }

    /// The changes of one task, or of all, that were kept in the last `ago`, and
    /// then those to come. For operators: services may not read the stream.
    ///
    /// # Errors
    /// Where there is no stream of events, or it may not be read.
    pub async fn past_events(
        &self,
        task: Option<&TaskId>,
        ago: Duration,
    ) -> Result<History, StoreError> {
        History::open(self.control(), task, ago).await
    }

    /// What happens in a room, from now on.
    ///
    /// # Errors
    /// As [`Gateway::task_events`].
    pub async fn room_events(&self, room: &RoomId) -> Result<Events<RoomEvent>, ListenError> {
        let subject = RoomEvents(room.clone()).subject();
        Events::subscribe(self.control(), &subject).await
    }

    /// Listens to a room. When this returns nothing that is said from then on
    /// is missed.
    ///
    /// # Errors
    /// Where the server cannot be reached or does not take the subscriptions.
    pub async fn listen(
        &self,
        room: &RoomId,
        options: ListenOptions,
    ) -> Result<Listener, ListenError> {
        self.listen_all(std::slice::from_ref(room), options).await
    }

    /// Listens to many rooms in one loop.
    ///
    /// # Errors
    /// As [`Gateway::listen`].
    pub async fn listen_all(
        &self,
        rooms: &[RoomId],
        options: ListenOptions,
    ) -> Result<Listener, ListenError> {
        Listener::start(self.media().await?, Some(rooms), options).await
    }

    /// Listens to every room there is, in one loop with four subscriptions,
    /// as far as the server's permissions allow it.
    ///
    /// # Errors
    /// As [`Gateway::listen`].
    pub async fn listen_everywhere(&self, options: ListenOptions) -> Result<Listener, ListenError> {
        Listener::start(self.media().await?, None, options).await
    }

    async fn ask<T: Ask>(&self, topic: &T, message: &T::Message) -> Result<T::Reply, AskError>
    where
        T::Message: serde::Serialize,
        T::Reply: serde::de::DeserializeOwned,
    {
        self.control().ask(topic, message, limits::REQUEST_TIMEOUT).await
    }
}
