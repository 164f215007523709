//! Asks the dispatchers and workers, a picture a second.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use audio_gateway::{
    bus::{
        AskError,
        messages::List,
        subjects,
        survey::{self, Stats},
    },
    client::Gateway,
    clock,
    task::TaskState,
};
use tokio::{
    sync::mpsc,
    time::{MissedTickBehavior, interval},
};

use super::{
    model::{Picture, Rates},
    rates::Rate,
};

/// Between two pictures.
const EVERY: Duration = Duration::from_secs(1);
/// How long replicas may take to tell their figures.
const SURVEY: Duration = Duration::from_millis(300);
/// Tasks that failed or expired which are shown.
const FAILED: usize = 200;

/// A picture, or why there is none.
pub(crate) type Gathered = Result<Box<Picture>, String>;

/// Gathers until nobody takes it any more.
pub(crate) async fn run(gateway: Gateway, pictures: mpsc::Sender<Gathered>) {
    let mut meter = Meter::default();
    let seen = meter.seen.clone();
    let mut pace = interval(EVERY);
    pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let events = tokio::spawn(count_events(gateway.clone(), seen));
    loop {
        pace.tick().await;
        let gathered = picture(&gateway, &mut meter).await.map(Box::new);
        if pictures.send(gathered.map_err(|error| error.to_string())).await.is_err() {
            events.abort();
            return;
        }
    }
}

#[derive(Default)]
struct Meter {
    submits: Rate,
    refusals: Rate,
    batches: Rate,
    events: Rate,
    /// Events so far.
    seen: Arc<AtomicU64>,
}

async fn count_events(gateway: Gateway, count: Arc<AtomicU64>) {
    let Ok(mut events) = gateway.task_events(None).await else { return };
    while events.next().await.is_some() {
        count.fetch_add(1, Ordering::Relaxed);
    }
}

async fn picture(gateway: &Gateway, meter: &mut Meter) -> Result<Picture, AskError> {
    let failed = List {
        states: vec![TaskState::Failed, TaskState::Expired],
        limit: FAILED,
        ..List::default()
    };
    let active = List::default();
    let survey = |service| survey::stats(gateway.control(), service, SURVEY);
    let (workers, active, failed, leader, dispatchers, told) = tokio::join!(
        gateway.workers(),
        gateway.list(&active),
        gateway.list(&failed),
        gateway.leader(),
        survey(subjects::DISPATCHER_SERVICE),
        survey(subjects::WORKER_SERVICE),
    );
    // Figures are a luxury: without them the rest is shown.
    let (dispatchers, told) = (dispatchers.unwrap_or_default(), told.unwrap_or_default());
    let now = clock::unix_ms();
    let count = |all: &[Stats], number: &dyn Fn(&Stats) -> u64| -> BTreeMap<String, u64> {
        all.iter().map(|one| (one.id.clone(), number(one))).collect()
    };
    let refused = |one: &Stats| one.endpoints.iter().map(|it| it.num_errors).sum();
    let events = meter.seen.load(Ordering::Relaxed);
    let rates = Rates {
        events: meter.events.look(now, [(String::new(), events)].into()),
        submits: meter.submits.look(now, count(&dispatchers, &|one| one.requests("submit"))),
        refusals: meter.refusals.look(now, count(&dispatchers, &refused)),
        batches: meter
            .batches
            .look(now, count(&told, &|one| one.number("batches").unwrap_or_default())),
    };
    let place = |one: &Stats| {
        let data = &one.endpoints.first()?.data;
        data.get("is_leader")?.as_bool()?.then_some(())?;
        let times = data.get("place_ms")?;
        Some((times.get("p50")?.as_u64()?, times.get("p99")?.as_u64()?))
    };
    let (active, failed) = (active?, failed?);
    let truncated = active.truncated;
    let mut tasks = active.tasks;
    tasks.extend(failed.tasks);
    Ok(Picture {
        workers: workers?.workers,
        tasks,
        truncated,
        leader: leader.ok(),
        rates,
        place_ms: dispatchers.iter().find_map(place),
    })
}
