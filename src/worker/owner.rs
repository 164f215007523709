//! The owner of a worker's sessions: hands what happens to [`super::core`] and
//! does what that decides. None of it waits for the server or for a process.

use std::{
    collections::{BTreeMap, VecDeque},
    time::{Duration, Instant},
};

use tokio::{
    sync::{
        mpsc::{self, error::TrySendError},
        watch,
    },
    task::{AbortHandle, JoinSet},
};

use super::{
    core::{About, Core, Ended, Input, Output, SessionKey, Ticket, Unfit},
    load::Meter,
    loops::{self, Say},
    plane::{Command, Plane, Report},
    record::LaneStats,
    room::{Spec, Word},
};
use crate::{
    bus::{
        Link,
        messages::{Assign, Drain, Refusal, RefusalCode, Revoke, UpdateSession, WorkerPhase},
        service::{Request, Service},
        subjects::{WorkerAssign, WorkerInventory, WorkerPing, WorkerRevoke, WorkerUpdate},
    },
    clock,
    id::{RoomId, TaskId, WorkerId},
    sdk::{
        adapter::{Adapters, Direction, Mode},
        process::{ChildKey, End, Exited, SpawnError, SpawnRequest, Spawned, Stop, Supervisor},
    },
};

/// A start that is done, well or badly.
pub(super) type Start = (ChildKey, Result<Spawned, NotStarted>);

/// Why an adapter was not started.
#[derive(Debug)]
pub(super) struct NotStarted {
    reason: String,
    /// Another try is no use.
    hopeless: bool,
}

impl From<SpawnError> for NotStarted {
    fn from(error: SpawnError) -> Self {
        let hopeless = matches!(error, SpawnError::NotFound(_));
        Self { reason: error.to_string(), hopeless }
    }
}

/// What an owner acts with.
pub(super) struct Means {
    pub(super) adapters: Adapters,
    pub(super) supervisor: Supervisor,
    pub(super) plane: Plane,
    pub(super) media: Link,
    pub(super) outbox: mpsc::Sender<Say>,
    /// Where starts that are done are told.
    pub(super) started: mpsc::Sender<Start>,
    /// The rooms served, for whom it concerns.
    pub(super) rooms: watch::Sender<Vec<RoomId>>,
    /// Those that wait until they may play.
    pub(super) held: watch::Sender<Vec<RoomId>>,
    /// What became of what is to be recorded.
    pub(super) recorded: watch::Receiver<LaneStats>,
}

/// See the module.
pub(super) struct Owner {
    pub(super) core: Core,
    pub(super) means: Means,
    worker: WorkerId,
    /// Commands the audio thread had no room for.
    pub(super) backlog: VecDeque<Command>,
    /// Messages that found no room in the outbox.
    unsaid: u64,
    tickets: BTreeMap<Ticket, Request>,
    next_ticket: u64,
    /// Processes whose room has not been told yet.
    spawned: BTreeMap<ChildKey, Spawned>,
    starting: JoinSet<()>,
    /// Loops that hear what is pushed.
    ears: JoinSet<()>,
    sources: BTreeMap<SessionKey, AbortHandle>,
    meter: Meter,
    /// Whether its rooms are handed over, as the audio thread was told.
    leaves: bool,
    /// What [`Owner::deadline`] said last.
    due: Option<Instant>,
}

impl Owner {
    pub(super) fn new(about: About, means: Means, meter: Meter) -> Self {
        Self {
            worker: about.worker.clone(),
            core: Core::new(about, Instant::now()),
            means,
            backlog: VecDeque::new(),
            unsaid: 0,
            tickets: BTreeMap::new(),
            next_ticket: 0,
            spawned: BTreeMap::new(),
            starting: JoinSet::new(),
            ears: JoinSet::new(),
            sources: BTreeMap::new(),
            meter,
            leaves: false,
            due: None,
        }
    }

    /// When [`Input::Tick`] is due. Nothing but an input changes it, and the load does not.
    pub(super) fn deadline(&mut self) -> Instant {
        *self.due.get_or_insert_with(|| self.core.deadline())
    }

    pub(super) fn handle(&mut self, input: Input) {
        if !matches!(input, Input::Load(_)) {
            self.due = None;
        }
        for output in self.core.handle(input, Instant::now()) {
            self.apply(output);
        }
        let leaves = self.core.phase() == WorkerPhase::LameDuck;
        if leaves != self.leaves {
            self.leaves = leaves;
            self.tell_plane(Command::KeepBack(leaves));
        }
        self.send_backlog();
        while self.starting.try_join_next().is_some() {}
        while self.ears.try_join_next().is_some() {}
    }

    fn apply(&mut self, output: Output) {
        match output {
            Output::Answer(ticket, verdict) => {
                if let Some(request) = self.tickets.remove(&ticket) {
                    self.say(Say::Verdict(request, verdict));
                }
            }
            Output::Open(session, task) => self.open(session, &task),
            Output::Update(session, task) => self.update(session, &task),
            Output::Start(child, task) => self.start(child, &task),
            Output::Attach(child, session) => {
                if let Some(Spawned { stdin, stdout, .. }) = self.spawned.remove(&child) {
                    self.tell_plane(Command::Attach { session, child, stdin, stdout });
                }
            }
            Output::Drain(child, session) => self.tell_plane(Command::Drain(session, child)),
            Output::Leave(child, session) => {
                self.tell_plane(Command::Leave(session, child));
                self.means.supervisor.stop(child, Stop::Leave);
            }
            Output::Terminate(child) => self.means.supervisor.stop(child, Stop::Terminate),
            Output::Close(session) => {
                if let Some(source) = self.sources.remove(&session) {
                    source.abort();
                }
                self.tell_plane(Command::Close(session));
            }
            Output::Mute(muted) => {
                if muted {
                    tracing::warn!("the lease has run out: what is pushed is not played");
                }
                self.tell_plane(Command::Mute(muted));
            }
            Output::Play(session) => self.tell_plane(Command::Play(session)),
            Output::Beat => {
                self.means.rooms.send_replace(self.core.rooms());
                self.means.held.send_replace(self.core.held());
                let beat = self.core.heartbeat(clock::unix_ms());
                self.say(Say::Beat(Box::new(beat)));
            }
        }
    }

    /// Hands a message on; one for which there is no room is lost, as it would
    /// be on the bus.
    fn say(&mut self, say: Say) {
        if let Err(TrySendError::Full(_)) = self.means.outbox.try_send(say) {
            self.unsaid += 1;
        }
    }

    fn tell_plane(&mut self, command: Command) {
        self.backlog.push_back(command);
        self.send_backlog();
    }

    fn send_backlog(&mut self) {
        while let Some(command) = self.backlog.pop_front() {
            if let Err(command) = self.means.plane.command(command) {
                self.backlog.push_front(command);
                return;
            }
        }
    }

    fn open(&mut self, session: SessionKey, task: &TaskId) {
        let Some(assign) = self.core.assigned(task) else { return };
        let Some(adapter) = self.means.adapters.get(&assign.sdk) else { return };
        let pulls = !matches!(adapter.mode, Mode::Raw { direction: Direction::Push, .. });
        let spec = Spec {
            room: assign.room.clone(),
            task: assign.task.clone(),
            epoch: assign.epoch,
            origin_us: assign.origin_us,
            worker: self.worker.clone(),
            mode: adapter.mode.clone(),
            params: assign.params.clone(),
            pull: assign.pull.clone().filter(|_| pulls),
            push: assign.push.as_ref().map(|push| push.from.clone()),
            held: assign.push.is_some() && assign.from.is_some(),
            taken_over: assign.from.is_some(),
        };
        if let Some(push) = &assign.push {
            let (media, from) = (self.means.media.clone(), push.from.clone());
            let ear = loops::hear_source(media, from, session, self.means.plane.sender());
            self.sources.insert(session, self.ears.spawn(ear));
        }
        self.tell_plane(Command::Open(session, Box::new(spec)));
    }

    fn update(&mut self, session: SessionKey, task: &TaskId) {
        let pull = self.core.assigned(task).and_then(|assign| assign.pull.clone());
        if let Some(pull) = pull {
            self.tell_plane(Command::Update(session, Box::new(pull)));
        }
    }

    fn start(&mut self, child: ChildKey, task: &TaskId) {
        let (supervisor, done) = (self.means.supervisor.clone(), self.means.started.clone());
        let Some(assign) = self.core.assigned(task) else { return };
        let command = match self.means.adapters.get(&assign.sdk) {
            Some(adapter) => adapter.command(&assign.params).map_err(|error| error.to_string()),
            None => Err(format!("no adapter named {}", assign.sdk)),
        };
        let task = task.clone();
        self.starting.spawn(async move {
            let result = match command {
                Ok(command) => {
                    let request = SpawnRequest { key: child, task, command };
                    supervisor.spawn(request).await.map_err(NotStarted::from)
                }
                // It was possible when the task was taken.
                Err(error) => {
                    let reason = format!("the adapter cannot be started any more: {error}");
                    Err(NotStarted { reason, hopeless: true })
                }
            };
            let _ = done.send((child, result)).await;
        });
    }

    pub(super) fn spawned(
        &mut self,
        child: ChildKey,
        result: Result<Spawned, NotStarted>,
    ) -> Input {
        match result {
            Ok(spawned) => {
                self.spawned.insert(child, spawned);
                Input::Spawned(child)
            }
            Err(NotStarted { reason, hopeless }) => {
                tracing::info!(child = child.0, reason, "an adapter was not started");
                Input::NotSpawned { child, reason, hopeless }
            }
        }
    }

    pub(super) fn report(&mut self, report: Report) -> Option<Input> {
        Some(match report {
            Report::Event(event) => {
                self.say(Say::Event(event));
                return None;
            }
            Report::Drained(child) => Input::Drained(child),
            Report::Heard(session) => Input::Heard(session),
            Report::Adapter(child, word) => match word {
                Word::Joined => Input::Joined(child),
                Word::Broken(why) => Input::Broken { child, why },
                Word::Fatal(why) => Input::Fatal { child, why },
                Word::Bye(reason) => Input::Bye { child, reason },
                Word::Closed => Input::Closed(child),
            },
        })
    }

    // ---- requests ----

    pub(super) fn request(&mut self, request: Request) {
        if request.endpoint == WorkerPing::VERB {
            let beat = self.core.heartbeat(clock::unix_ms());
            return self.say(Say::Alive(request, Box::new(beat)));
        }
        if request.endpoint == WorkerInventory::VERB {
            let inventory = self.core.inventory();
            return self.say(Say::Inventory(request, inventory));
        }
        let ticket = Ticket(self.next_ticket);
        match self.read(&request, ticket) {
            Ok(input) => {
                self.next_ticket += 1;
                self.tickets.insert(ticket, request);
                self.handle(input);
            }
            Err(error) => {
                let refusal = Refusal::new(RefusalCode::BadRequest, error);
                self.say(Say::Refuse(request, refusal));
            }
        }
    }

    fn read(&self, request: &Request, ticket: Ticket) -> Result<Input, String> {
        Ok(match request.endpoint {
            WorkerAssign::VERB => {
                let assign: Assign = request.incoming().read()?;
                let fit = self.fit(&assign);
                Input::Assign { ticket, assign: Box::new(assign), fit }
            }
            WorkerUpdate::VERB => {
                let update: UpdateSession = request.incoming().read()?;
                Input::Update { ticket, update: Box::new(update) }
            }
            WorkerRevoke::VERB => {
                let revoke: Revoke = request.incoming().read()?;
                Input::Revoke { ticket, revoke }
            }
            _ => {
                let drain = match request.payload() {
                    [] => Drain::default(),
                    _ => request.incoming().read()?,
                };
                Input::Drain { ticket, undrain: drain.undrain }
            }
        })
    }

    /// What the configuration says of a task.
    fn fit(&self, assign: &Assign) -> Result<(), Unfit> {
        let unfit = |reason: String, fatal| Err(Unfit { reason, fatal });
        let Some(adapter) = self.means.adapters.get(&assign.sdk) else {
            return unfit(format!("this worker has no adapter named {}", assign.sdk), false);
        };
        if let Err(error) = adapter.command(&assign.params) {
            return unfit(error.to_string(), true);
        }
        match adapter.mode {
            Mode::Raw { direction: Direction::Pull, .. } if assign.push.is_some() => {
                return unfit(format!("sdk {} plays nothing into a room", assign.sdk), true);
            }
            Mode::Raw { direction: Direction::Push, .. } if assign.push.is_none() => {
                return unfit(format!("sdk {} needs push.from", assign.sdk), true);
            }
            _ => (),
        }
        match adapter.max_sessions {
            Some(most) if self.core.live_of(&assign.sdk) >= most => {
                unfit(format!("this worker runs {most} sessions of {}", assign.sdk), false)
            }
            _ => Ok(()),
        }
    }

    // ---- figures ----

    pub(super) fn measure(&mut self, service: &Service) -> Input {
        let stats = self.means.plane.stats();
        let load = self.core.load();
        service.set_data(serde_json::json!({
            "phase": self.core.phase(),
            "sessions": self.core.live(),
            "sessions_max": load.sessions_max,
            "cores": load.cores,
            "cores_used": load.cores_used,
            "rooms": stats.rooms,
            "frames": stats.tally.frames,
            "batches": stats.batches,
            "bytes": stats.bytes,
            "unpublished": stats.unpublished,
            "played": stats.played,
            "unplayed": stats.unplayed,
            "resent": stats.resent,
            "resent_bytes": stats.resent_bytes,
            "throttled": stats.throttled,
            "nacks_late": stats.desk.late,
            "nacks_ignored": stats.desk.ignored,
            "unrecorded": stats.unrecorded,
            "recorded": *self.means.recorded.borrow(),
            "late_sweeps": stats.late_sweeps,
            "mix_left_out": stats.tally.mix_left_out,
            "mix_late_samples": stats.tally.mix_late_samples,
            "mix_limited": stats.tally.mix_limited,
            "kept_bytes": stats.kept,
            "kept_chunks": stats.chunks,
            "audio_cpu_us": stats.cpu_us,
        }));
        let own = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
        let own = Duration::try_from(own).unwrap_or_default();
        let (supervisor, core) = (&self.means.supervisor, &self.core);
        let classes = || core.classes();
        let load = self.meter.measure(supervisor, core.processes(), classes, own, Instant::now());
        Input::Load(load)
    }

    pub(super) fn tell_figures(&self) {
        let stats = self.means.plane.stats();
        tracing::info!(
            sessions = self.core.live(),
            frames = stats.tally.frames,
            batches = stats.batches,
            bytes = stats.bytes,
            unpublished = stats.unpublished,
            refused = stats.tally.refused,
            played = stats.played,
            unplayed = stats.unplayed,
            resent = stats.resent,
            throttled = stats.throttled,
            unrecorded = stats.unrecorded,
            recorded = ?*self.means.recorded.borrow(),
            late_sweeps = stats.late_sweeps,
            latest_ms = stats.latest_us / 1_000,
            mix_left_out = stats.tally.mix_left_out,
            mix_late_samples = stats.tally.mix_late_samples,
            mix_limited = stats.tally.mix_limited,
            kept = stats.kept,
            chunks = stats.chunks,
            unsaid = self.unsaid,
            audio_cpu_ms = stats.cpu_us / 1_000,
            "figures"
        );
    }
}

/// What the end of a process means to the core.
pub(super) fn exit_input(exited: Exited) -> Input {
    let Exited { key, end, stderr_tail, .. } = exited;
    let mut text = end.to_string();
    if !stderr_tail.is_empty() && !matches!(end, End::NotStarted(_)) {
        text = format!("{text}; it wrote: {}", stderr_tail.trim_end());
    }
    let ended =
        Ended { clean: end == End::Code(0), hopeless: matches!(end, End::NotStarted(_)), text };
    Input::Exited { child: key, ended }
}
