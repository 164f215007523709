//! The worker's one owner loop: everything that happens becomes an input of
//! [`super::core`], and what that decides is done here. Nothing in the loop
//! waits for the server or for a process.

use std::time::{Duration, Instant};

use tokio::{
    sync::{mpsc, watch},
    task::JoinSet,
};

use super::{
    core::{About, Input},
    lease,
    load::{Caps, Meter},
    loops,
    owner::{Means, Owner, exit_input},
    plane::{self, Outlets, Plane},
    record::LaneStats,
    record_lane,
    retire::{Retirement, Step},
};
use crate::{
    bus::{
        AskError, BusOptions, ConnectError, Link, PublishError, Purpose,
        kv::Store,
        messages::Ping,
        service::{self, Endpoint, Request, Service},
        subjects::{
            self, Topic, TrackNack, WorkerAssign, WorkerDrain, WorkerInventory, WorkerPing,
            WorkerRevoke, WorkerUpdate,
        },
    },
    id::WorkerId,
    limits,
    sdk::{
        adapter::WorkerFile,
        launch::{self, NotFound},
        process::{self, Patience, SpawnError, Stop, Supervisor},
    },
    shutdown::{Phase, Phases},
};

/// How a worker is started.
#[derive(Debug, Clone)]
pub struct Options {
    /// Its id.
    pub worker: WorkerId,
    /// Where the server is.
    pub bus: BusOptions,
    /// Its configuration.
    pub file: WorkerFile,
    /// Sessions it runs at most.
    pub sessions_max: usize,
    /// How long others have to take its rooms over when it is asked to end.
    pub drain_timeout: Duration,
}

/// Why a worker cannot work.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// No connection.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// The server takes no subscription of ours.
    #[error(transparent)]
    Subscribe(#[from] PublishError),
    /// The launcher is not there.
    #[error("cannot start adapters: {0}")]
    Launcher(#[from] NotFound),
    /// The supervisor cannot be started.
    #[error("cannot start adapters: {0}")]
    Supervisor(#[from] SpawnError),
    /// The audio thread cannot be started.
    #[error("cannot start the audio thread: {0}")]
    Thread(#[from] std::io::Error),
    /// A thread has ended that never does.
    #[error("{0} has ended: that is a fault of this program")]
    Ended(&'static str),
    /// There is one already.
    #[error("a worker named {0} runs already: give this one another --id")]
    Twin(WorkerId),
}

/// Runs a worker until it is told to stop and has stopped all it started.
///
/// # Errors
/// [`RunError`] is one line that says what is missing.
pub async fn run(options: Options, mut phases: Phases) -> Result<(), RunError> {
    let Options { worker, bus, file, sessions_max, drain_timeout } = options;
    if let Err(error) = process::raise_open_files() {
        tracing::warn!(%error, "the limit of open files stays as it is");
    }
    let name = format!("worker {worker}");
    let control = Link::connect(&bus, &name, Purpose::Control).await?;
    let media = Link::connect(&bus, &format!("{name} media"), Purpose::Media).await?;
    meet_twin(&control, &worker).await?;
    let launcher = launch::find_launcher(file.worker.launcher.as_deref())?;
    let (supervisor, mut exits) = Supervisor::start(launcher, Patience::default())?;

    let (publish, batches) = plane::outbox();
    let (record, to_record) = mpsc::channel(limits::RECORD_QUEUE);
    let (again, agains) = mpsc::channel(limits::RESEND_QUEUE);
    let (reports_in, mut reports) = mpsc::channel(limits::PLANE_EVENTS);
    let plane =
        Plane::start(Outlets { publish, record, again, reports: reports_in }, limits::RING_BYTES)?;
    let (outbox, said) = mpsc::channel(limits::CONTROL_CAPACITY);
    let nacks = media.subscribe(TrackNack::ALL).await?;
    let mut loops = JoinSet::new();
    loops.spawn(loops::speak(control.clone(), said));
    loops.spawn(loops::publish(media.clone(), batches));
    let (tell_recorded, recorded) = watch::channel(LaneStats::default());
    loops.spawn(record_lane::run(media.clone(), to_record, tell_recorded));
    loops.spawn(loops::send_again(media.clone(), agains));
    let mut ears = JoinSet::new();
    ears.spawn(loops::hear_nacks(nacks, vec![(plane.rooms(), plane.sender())]));

    let about = About {
        worker: worker.clone(),
        boot: uuid::Uuid::now_v7().to_string(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        adapters: file.adapters.names().cloned().collect(),
        raw: file.adapters.raw().cloned().collect(),
        labels: file.worker.labels.clone(),
        sessions_max,
    };
    let (service, mut requests) = serve(&control, &about).await?;
    // Who hears that it is ready may ask it at once.
    if let Err(error) = control.barrier().await {
        tracing::warn!(%error, "ready as far as the server lets us know");
    }
    let store = Store::new(&control, None);
    let (claims_in, mut claims) = mpsc::channel(limits::CONTROL_CAPACITY);
    let (rooms, held) = (watch::Sender::new(Vec::new()), watch::Sender::new(Vec::new()));
    ears.spawn(lease::look_after_outages(
        store.clone(),
        control.health(),
        rooms.subscribe(),
        claims_in.clone(),
    ));
    ears.spawn(lease::look_after_holds(store.clone(), held.subscribe(), claims_in.clone()));
    let (renew, renewed) = watch::channel(None);
    ears.spawn(lease::mind(store.clone(), control.clone(), renewed, rooms.subscribe(), claims_in));
    let mut twin = tokio::spawn(lease::hold(store, worker.clone(), about.boot.clone(), renew));
    let (started, mut spawned) = mpsc::channel(limits::SPAWN_QUEUE);
    let caps = Caps {
        cores: file.worker.cores,
        memory: file.worker.memory_mib.map(|mib| mib.saturating_mul(1024 * 1024)),
        guesses: file.adapters.costs(),
    };
    let means = Means {
        adapters: file.adapters,
        supervisor: supervisor.clone(),
        plane,
        media: media.clone(),
        outbox,
        started,
        rooms,
        held,
        recorded,
    };
    let mut owner = Owner::new(about, means, Meter::new(caps));
    let mut measure = tokio::time::interval(limits::HEARTBEAT);
    let mut chronicle = tokio::time::interval(Duration::from_secs(60));
    chronicle.reset();
    let (mut retirement, mut awaited): (Option<Retirement>, _) = (None, Phase::LameDuck);
    tracing::info!(%worker, url = control.url(), "ready");
    loop {
        let retires = retirement.as_ref().map(Retirement::deadline);
        let due = retires.into_iter().fold(owner.deadline(), Instant::min);
        let input = tokio::select! {
            Some(request) = requests.recv() => { owner.request(request); continue }
            exited = exits.recv() => match exited {
                Some(exited) => exit_input(exited),
                None => return Err(RunError::Ended("the supervisor of the adapters")),
            },
            report = reports.recv() => match report.map(|report| owner.report(report)) {
                Some(Some(input)) => input,
                Some(None) => continue,
                None => return Err(RunError::Ended("the audio thread")),
            },
            Some((child, result)) = spawned.recv() => owner.spawned(child, result),
            _ = measure.tick() => owner.measure(&service),
            _ = chronicle.tick() => { owner.tell_figures(); continue }
            Some(claimed) = claims.recv() => claimed,
            _ = &mut twin => {
                supervisor.shut_down(Stop::Kill).await;
                return Err(RunError::Twin(worker));
            }
            () = phases.reached(awaited) => {
                if awaited == Phase::Stop {
                    owner.handle(Input::Leave);
                    break;
                }
                awaited = Phase::Stop;
                let rooms = owner.core.live();
                retirement = Some(Retirement::new(drain_timeout, rooms, Instant::now()));
                Input::Retire
            }
            // No wait for an event but the event: the core's next deadline, while all
            // else is listened to.
            () = tokio::time::sleep_until(due.into()) => Input::Tick,
        };
        owner.handle(input);
        let Some(retirement) = &mut retirement else { continue };
        match retirement.step(owner.core.is_empty(), Instant::now()) {
            Step::Wait => (),
            Step::Tell => tracing::info!(
                rooms = owner.core.live(),
                "waiting until other workers have its rooms; a second signal ends it at once"
            ),
            Step::GiveUp => {
                let (rooms, within) = (owner.core.live(), drain_timeout);
                tracing::warn!(rooms, ?within, "nobody took these rooms over: giving them back");
                owner.handle(Input::Leave);
            }
            Step::End => break,
        }
    }
    twin.abort();
    supervisor.shut_down(Stop::Kill).await;
    owner.tell_figures();
    let Owner { means: Means { mut plane, outbox, .. }, backlog, .. } = owner;
    // The thread ends quickly, and there is nothing else left to do.
    tokio::task::spawn_blocking(move || plane.stop(backlog)).await.unwrap_or_default();
    drop(outbox);
    // Their queues are closed: they end once all is said.
    let said = async { while loops.join_next().await.is_some() {} };
    if tokio::time::timeout(limits::FLUSH_TIMEOUT, said).await.is_err() {
        tracing::warn!("left before everything was said: the server is away");
    }
    media.flush().await;
    control.flush().await;
    Ok(())
}

/// Somebody who answers to our name is a twin.
async fn meet_twin(control: &Link, worker: &WorkerId) -> Result<(), RunError> {
    let ping = WorkerPing(worker.clone());
    match control.ask(&ping, &Ping {}, limits::REQUEST_TIMEOUT).await {
        Ok(_) | Err(AskError::Refused(_) | AskError::Unreadable { .. }) => {
            Err(RunError::Twin(worker.clone()))
        }
        Err(_) => Ok(()),
    }
}

async fn serve(
    control: &Link,
    about: &About,
) -> Result<(Service, mpsc::Receiver<Request>), PublishError> {
    let worker = &about.worker;
    let endpoint = |name, subject| Endpoint { name, subject, shared: false };
    let adapters: Vec<&str> = about.adapters.iter().map(|name| name.as_str()).collect();
    let metadata = [("worker", worker.to_string()), ("adapters", adapters.join(","))];
    let about = service::About {
        name: subjects::WORKER_SERVICE,
        id: worker.to_string(),
        description: "runs adapters and puts their rooms' audio on the bus",
        metadata: metadata.into_iter().map(|(key, value)| (key.to_owned(), value)).collect(),
    };
    let endpoints = vec![
        endpoint(WorkerAssign::VERB, WorkerAssign(worker.clone()).subject()),
        endpoint(WorkerUpdate::VERB, WorkerUpdate(worker.clone()).subject()),
        endpoint(WorkerRevoke::VERB, WorkerRevoke(worker.clone()).subject()),
        endpoint(WorkerDrain::VERB, WorkerDrain(worker.clone()).subject()),
        endpoint(WorkerPing::VERB, WorkerPing(worker.clone()).subject()),
        endpoint(WorkerInventory::VERB, WorkerInventory(worker.clone()).subject()),
    ];
    Service::start(control, about, endpoints).await
}
