//! `gateway workers`: who can take rooms, and how much is free.

use audio_gateway::{
    bus::messages::{WorkerPhase, WorkerView},
    client::Gateway,
};

use crate::{
    exit::Exit,
    show::{Show, clean},
};

pub(crate) async fn run(gateway: &Gateway, show: &Show) -> anyhow::Result<Exit> {
    let workers = gateway.workers().await?.workers;
    if show.json {
        workers.iter().try_for_each(|worker| show.value(worker))?;
    } else if show.people && workers.is_empty() {
        show.line("no workers")?;
    } else {
        let head = [
            "worker", "phase", "sessions", "cores", "MiB", "adapters", "labels", "heard", "version",
        ];
        let rows: Vec<_> = workers.iter().map(row).collect();
        show.rows(&head, &rows)?;
    }
    Ok(Exit::Done)
}

fn row(worker: &WorkerView) -> Vec<String> {
    const MIB: u64 = 1024 * 1024;
    let load = &worker.load;
    let phase = match worker.phase {
        WorkerPhase::Running => "running",
        WorkerPhase::LameDuck => "lame duck",
        WorkerPhase::Other => "other",
    };
    let ill = worker.quarantined.iter().map(|ill| {
        let reason = clean(ill.reason.lines().next().unwrap_or_default());
        format!("no {} for {} s: {reason}", ill.adapter, ill.for_ms.div_ceil(1_000))
    });
    let adapters: Vec<_> = worker.adapters.iter().map(ToString::to_string).collect();
    let labels: Vec<_> =
        worker.labels.iter().map(|(key, value)| format!("{key}={value}")).collect();
    vec![
        worker.worker.to_string(),
        std::iter::once(phase.to_owned()).chain(ill).collect::<Vec<_>>().join("; "),
        format!("{}/{}", worker.sessions, load.sessions_max),
        format!("{:.1}/{:.1}", load.cores_used, load.cores),
        format!("{}/{}", load.memory_used / MIB, load.memory / MIB),
        adapters.join(","),
        labels.join(","),
        format!("{} ms ago", worker.heard_ms),
        worker.version.clone(),
    ]
}
