//! The dispatcher on the bus: one loop that owns the core and the lease.
//!
//! It hands in what comes and does what comes out. It never waits for an answer:
//! what takes time is a loop of its own, and its end is an input. The only
//! decisions here are about this process: what is read from whom, and how it
//! ends.

mod calls;
mod effects;
mod feeds;
mod gate;
mod pulse;
mod recording;

use std::{collections::HashMap, sync::Arc, time::Instant};

use tokio::sync::{Semaphore, mpsc, watch};

use self::{effects::Hands, feeds::Buckets, gate::Gate};
use super::{
    core::Core,
    figures::{self, Figures},
    io::{Answer, CallId, Input, Now, Output, Record},
    lease::{Lease, LeaseInput, LeaseOutput},
};
use crate::{
    bus::{
        BusOptions, ConnectError, Link, PublishError, Purpose,
        kv::{Store, StoreError},
        messages::{Leader, Refusal, RefusalCode, StepDown, SteppedDown},
        recording::Bounds,
        service::{Request, Service},
    },
    clock,
    id::DispatcherId,
    limits,
    shutdown::{Phase, Phases},
};

/// What a dispatcher is told at its start.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Its name.
    pub id: DispatcherId,
    /// Copies of each bucket it makes; see [`Store::new`].
    pub replicas: Option<usize>,
    /// How much of what is recorded the stream that it makes keeps.
    pub record: Bounds,
}

/// Why a dispatcher cannot work.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "each is what it wraps")]
pub enum RunError {
    #[error(transparent)]
    Connect(#[from] ConnectError),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Subscribe(#[from] PublishError),
    /// The connection was closed for good.
    #[error("the connection to {0} was closed: are the credentials still valid?")]
    Closed(String),
}

/// What comes to the loop.
#[derive(Debug)]
pub(super) enum Message {
    Core(Input),
    Lease(LeaseInput),
    /// A watch has told all that is there.
    Told,
    /// The heartbeats' subscription ended.
    Closed,
}

fn now() -> Now {
    Now { at: Instant::now(), unix_ms: clock::unix_ms() }
}

/// Runs a dispatcher until its process is told to end.
///
/// # Errors
/// [`RunError`] says what is missing.
pub async fn run(
    options: &BusOptions,
    settings: Settings,
    mut phases: Phases,
) -> Result<(), RunError> {
    let name = format!("dispatcher-{}", settings.id);
    let link = Link::connect(options, &name, Purpose::Control).await?;
    let store = Store::new(&link, settings.replicas);
    let buckets = Buckets::open(&store).await?;

    let (messages, inbox) = mpsc::channel(limits::CONTROL_CAPACITY);
    let mut feeds = feeds::start(&link, &store, &buckets, &messages).await?;
    let (records, wanted) = watch::channel(false);
    feeds.spawn(recording::keep(store.clone(), settings.record, wanted));
    let (service, requests) = calls::serve(&link, &settings.id).await?;
    let boot = uuid::Uuid::new_v4().simple().to_string();
    let hands = Hands {
        link: link.clone(),
        buckets,
        messages,
        events: effects::keep_events(&store),
        slots: Arc::new(Semaphore::new(limits::DISPATCH_OPS)),
    };
    let shell = Shell {
        core: Core::new(settings.id.clone(), now()),
        lease: Lease::new(settings.id.clone(), boot),
        hands,
        gate: Gate::new(),
        callers: HashMap::new(),
        next_call: 0,
        told: 0,
        said: None,
        records,
        settings,
    };
    let result = shell.run(service, inbox, requests, &mut phases).await;
    drop(feeds);
    link.flush().await;
    result
}

/// The loop's state.
struct Shell {
    core: Core,
    lease: Lease,
    hands: Hands,
    gate: Gate,
    callers: HashMap<CallId, Request>,
    next_call: u64,
    /// Watches that have told all that is there.
    told: u8,
    /// When the service's data were last set.
    said: Option<Instant>,
    /// Whether a task records.
    records: watch::Sender<bool>,
    settings: Settings,
}

impl Shell {
    async fn run(
        mut self,
        service: Service,
        mut inbox: mpsc::Receiver<Message>,
        mut requests: mpsc::Receiver<Request>,
        phases: &mut Phases,
    ) -> Result<(), RunError> {
        self.lease(LeaseInput::Tick);
        loop {
            let due = [self.core.deadline(), self.lease.deadline()].into_iter().flatten().min();
            let due = due.unwrap_or_else(|| Instant::now() + limits::HEARTBEAT);
            tokio::select! {
                () = phases.reached(Phase::LameDuck) => break,
                // No wait for an event but the event: the next deadline of core or lease.
                () = tokio::time::sleep_until(due.into()) => self.tick(),
                message = inbox.recv() => match message {
                    Some(Message::Closed) | None => {
                        return Err(RunError::Closed(self.hands.link.url().to_owned()));
                    }
                    Some(message) => self.take(message),
                },
                request = requests.recv() => match request {
                    Some(request) => self.call(request),
                    None => return Err(RunError::Closed(self.hands.link.url().to_owned())),
                },
            }
            self.tell(&service);
        }
        self.leave(service, inbox, requests, phases).await;
        Ok(())
    }

    fn take(&mut self, message: Message) {
        let is_due = self.lease.deadline().is_some_and(|due| due <= Instant::now());
        for turn in turns(message, is_due).into_iter().flatten() {
            match turn {
                Turn::Core(input) => self.core(input),
                Turn::Lease(input) => self.lease(input),
                Turn::Told => self.told(),
            }
        }
    }

    /// A watch has told all that is there.
    fn told(&mut self) {
        self.told += 1;
        if self.told == 2 {
            let (id, url) = (&self.settings.id, self.hands.link.url());
            tracing::info!(%id, %url, "ready");
        }
    }

    fn tick(&mut self) {
        self.lease(LeaseInput::Tick);
        self.core(Input::Tick);
    }

    fn core(&mut self, input: Input) {
        if let Input::Changed { record: Some(Record::Task(task)), .. } = &input
            && task.spec.pull.as_ref().is_some_and(|pull| pull.record)
            && !task.state.is_terminal()
        {
            self.records.send_if_modified(|records| !std::mem::replace(records, true));
        }
        for output in self.core.handle(input, now()) {
            match output {
                Output::Answer { call, answer } => self.answer(call, answer),
                output => self.hands.apply(output),
            }
        }
    }

    fn lease(&mut self, input: LeaseInput) {
        for output in self.lease.handle(input, now()) {
            match output {
                LeaseOutput::Elected => {
                    tracing::info!(term = self.lease.term(), "leading");
                    self.core(Input::Elected);
                }
                LeaseOutput::Deposed => {
                    tracing::info!(term = self.lease.term(), "leading no more");
                    self.core(Input::Deposed);
                }
                output => self.hands.apply_lease(output),
            }
        }
    }

    // ---- callers ----

    fn call(&mut self, request: Request) {
        if self.callers.len() >= limits::CALLS_MAX {
            let refusal = Refusal {
                retry_after_ms: 200,
                ..Refusal::new(
                    RefusalCode::RateLimited,
                    format!("{} requests are under way: come back", limits::CALLS_MAX),
                )
            };
            return refuse(request, refusal);
        }
        match calls::read(&request, &mut self.gate) {
            Ok(calls::Read::Core(asked)) => {
                let call = CallId(self.next_call);
                self.next_call += 1;
                self.callers.insert(call, request);
                self.core(Input::Call { call, request: asked });
            }
            Ok(calls::Read::Leader) => {
                let leader = Leader {
                    leader: self.lease.leader(),
                    answered_by: self.settings.id.clone(),
                    term: self.lease.term(),
                };
                tokio::spawn(async move { request.answer(&leader).await });
            }
            Ok(calls::Read::Drain(drain)) => self.hands.drain(request, drain),
            Ok(calls::Read::StepDown(wish)) => self.step_down(request, &wish),
            Err(refusal) => refuse(request, refusal),
        }
    }

    /// Lets another lead, where we do. Who leads answers; a standby says only
    /// that nobody does, as far as it knows.
    fn step_down(&mut self, request: Request, wish: &StepDown) {
        if self.lease.leads() {
            let was = SteppedDown { was: self.settings.id.clone(), term: self.lease.term() };
            tracing::info!(term = was.term, reason = wish.reason, "an operator has us step down");
            self.lease(LeaseInput::StepDown);
            tokio::spawn(async move { request.answer(&was).await });
        } else if self.lease.leader().is_none() {
            let refusal = Refusal {
                retry_after_ms: 500,
                ..Refusal::new(RefusalCode::Unavailable, "no dispatcher leads right now")
            };
            refuse(request, refusal);
        }
    }

    fn answer(&mut self, call: CallId, answer: Result<Answer, Refusal>) {
        let Some(request) = self.callers.remove(&call) else { return };
        // Sending waits while the server is away; the loop does not.
        tokio::spawn(async move {
            match answer {
                Ok(Answer::Submitted(message)) => request.answer(&message).await,
                Ok(Answer::Task(message)) => request.answer(&message).await,
                Ok(Answer::Listed(message)) => request.answer(&message).await,
                Ok(Answer::Workers(message)) => request.answer(&message).await,
                Err(refusal) => request.refuse(&refusal).await,
            }
        });
    }

    /// Sets what `nats micro stats` shows, once a second.
    fn tell(&mut self, service: &Service) {
        if self.said.is_some_and(|said| said.elapsed() < figures::EVERY) {
            return;
        }
        self.said = Some(Instant::now());
        let figures = Figures {
            is_leader: self.lease.leads(),
            leader: self.lease.leader(),
            term: self.lease.term(),
            refusals: service.refusals(),
            ..self.core.figures()
        };
        service.set_data(serde_json::to_value(figures).unwrap_or_default());
    }

    /// Hands the lease over and answers whoever has asked.
    async fn leave(
        mut self,
        service: Service,
        mut inbox: mpsc::Receiver<Message>,
        mut requests: mpsc::Receiver<Request>,
        phases: &mut Phases,
    ) {
        self.lease(LeaseInput::Resign);
        let end = Instant::now() + limits::REQUEST_TIMEOUT;
        let mut drained = std::pin::pin!(service.drain());
        let mut answered = false;
        while !(self.lease.is_idle() && answered) {
            tokio::select! {
                () = phases.reached(Phase::Stop) => return,
                // The bound of waiting for the answers that are still due.
                () = tokio::time::sleep_until(end.into()) => return,
                () = &mut drained, if !answered => answered = true,
                Some(request) = requests.recv() => self.call(request),
                message = inbox.recv() => match message {
                    Some(message) => self.take(message),
                    None => return,
                },
            }
        }
    }
}

/// What is handed in for a message, and to whom.
#[derive(Debug)]
enum Turn {
    Core(Input),
    Lease(LeaseInput),
    Told,
}

/// What is handed in for a message, in this order. Where something about the
/// lease is due, that comes first: whoever was paused stops leading before it
/// does anything else, whatever woke it.
fn turns(message: Message, is_due: bool) -> [Option<Turn>; 3] {
    let first = is_due.then_some(Turn::Lease(LeaseInput::Tick));
    match message {
        Message::Core(input) => [first, Some(Turn::Core(input)), None],
        Message::Lease(input) => {
            let heard = (input != LeaseInput::Unknown).then_some(Turn::Core(Input::Heard));
            [first, heard, Some(Turn::Lease(input))]
        }
        Message::Told => [Some(Turn::Told), None, None],
        Message::Closed => [None, None, None],
    }
}

fn refuse(request: Request, refusal: Refusal) {
    tokio::spawn(async move { request.refuse(&refusal).await });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_was_paused_looks_at_its_lease_before_anything_else() {
        for message in [
            Message::Core(Input::Heard),
            Message::Lease(LeaseInput::Written(1)),
            Message::Lease(LeaseInput::Unknown),
        ] {
            let turns: Vec<_> = turns(message, true).into_iter().flatten().collect();
            assert!(matches!(turns[0], Turn::Lease(LeaseInput::Tick)), "{turns:?}");
            assert!(turns.len() > 1, "{turns:?}");
        }
        let answered = turns(Message::Lease(LeaseInput::Written(1)), false);
        let expected = matches!(
            answered,
            [None, Some(Turn::Core(Input::Heard)), Some(Turn::Lease(LeaseInput::Written(1)))]
        );
        assert!(expected, "{answered:?}");
    }
}
