//! The programs of the demo, as people would start them: a server, a
//! dispatcher, two workers, each with its log beside what was heard.

use std::{
    ffi::OsStr,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use audio_gateway::{
    bus::{AskError, BusOptions, messages::RefusalCode},
    client::Gateway,
    id::WorkerId,
    sdk::launch,
};
use tokio::time::sleep;

use crate::children::Program;

/// How long a program may take to be ready, on a busy machine.
const READY: Duration = Duration::from_secs(20);
/// How often it is looked whether something is ready: it is asked, and tells
/// nothing by itself.
const LOOK: Duration = Duration::from_millis(25);

/// Everything that runs. Dropping it kills it.
#[derive(Debug)]
pub(crate) struct Stage {
    work: PathBuf,
    logs: PathBuf,
    url: String,
    server: Program,
    dispatcher: Program,
    workers: Vec<(WorkerId, Program)>,
}

impl Stage {
    /// Starts a server on a port of its choice and a dispatcher. `work` holds
    /// what goes away with the demo, `logs` what stays.
    pub(crate) async fn start(nats_server: &Path, work: &Path, logs: &Path) -> Result<Self> {
        let store = work.join("jetstream");
        let args: [&OsStr; 9] = [
            "--addr".as_ref(),
            "127.0.0.1".as_ref(),
            "--port".as_ref(),
            "-1".as_ref(),
            "--jetstream".as_ref(),
            "--store_dir".as_ref(),
            store.as_ref(),
            "--ports_file_dir".as_ref(),
            work.as_ref(),
        ];
        let mut server =
            Program::start("nats-server", nats_server, &args, &[], logs.join("nats-server.log"))?;
        let url = address(&mut server, nats_server, work).await?;
        let dispatcher = Program::start(
            "dispatcher",
            &launch::find_own("dispatcher")?,
            &["--id".as_ref(), "d1".as_ref()],
            &[("NATS_URL", &url)],
            logs.join("dispatcher.log"),
        )?;
        let (work, logs) = (work.to_owned(), logs.to_owned());
        Ok(Self { work, logs, url, server, dispatcher, workers: Vec::new() })
    }

    /// A client's connection to it, once the dispatcher answers.
    pub(crate) async fn gateway(&mut self) -> Result<Gateway> {
        let gateway = Gateway::connect(&BusOptions::plain(&self.url)).await?;
        let until = Instant::now() + READY;
        loop {
            match gateway.leader().await {
                Ok(leader) if leader.leader.is_some() => return Ok(gateway),
                Ok(_) | Err(AskError::NoResponder(_) | AskError::TimedOut(_)) => (),
                Err(AskError::Refused(refusal)) if refusal.error == RefusalCode::Unavailable => (),
                Err(error) => return Err(error.into()),
            }
            self.dispatcher.check()?;
            ensure!(Instant::now() < until, "the dispatcher does not lead after {READY:?}");
            sleep(LOOK).await;
        }
    }

    /// Starts a worker whose adapters may play the files in `media`, and waits
    /// until the dispatcher knows it.
    pub(crate) async fn add_worker(
        &mut self,
        name: &str,
        media: &Path,
        gateway: &Gateway,
    ) -> Result<WorkerId> {
        let id = WorkerId::parse(name)?;
        let config = self.work.join(format!("worker-{name}.toml"));
        std::fs::write(&config, configuration(name, media)?)
            .with_context(|| format!("cannot write {}", config.display()))?;
        let worker = Program::start(
            &format!("worker {name}"),
            &launch::find_own("worker")?,
            &["--id".as_ref(), name.as_ref(), "--config".as_ref(), config.as_ref()],
            // At the end of the demo nobody is left to take rooms over.
            &[("NATS_URL", &self.url), ("WORKER_DRAIN_TIMEOUT", "0")],
            self.logs.join(format!("worker-{name}.log")),
        )?;
        self.workers.push((id.clone(), worker));
        let until = Instant::now() + READY;
        while !gateway.workers().await?.workers.iter().any(|view| view.worker == id) {
            if let Some((_, worker)) = self.workers.last_mut() {
                worker.check()?;
            }
            ensure!(Instant::now() < until, "worker {name} is not known after {READY:?}");
            sleep(LOOK).await;
        }
        Ok(id)
    }

    /// The process of a worker.
    pub(crate) fn worker(&mut self, id: &WorkerId) -> Result<&mut Program> {
        let found = self.workers.iter_mut().find(|(known, _)| known == id);
        Ok(&mut found.with_context(|| format!("no worker {id} was started"))?.1)
    }

    /// Fails where one of the programs that should run does not.
    pub(crate) fn check(&mut self, killed: Option<&WorkerId>) -> Result<()> {
        self.server.check()?;
        self.dispatcher.check()?;
        let mut running = self.workers.iter_mut().filter(|(id, _)| Some(id) != killed);
        running.try_for_each(|(_, worker)| worker.check())
    }

    /// All programs in the order in which they leave.
    pub(crate) fn into_programs(self) -> Vec<Program> {
        let workers = self.workers.into_iter().map(|(_, worker)| worker);
        workers.chain([self.dispatcher, self.server]).collect()
    }
}

/// Where the server listens, which it writes to a file once it does. The file
/// bears the name the program was started under.
async fn address(server: &mut Program, program: &Path, folder: &Path) -> Result<String> {
    let name = program.file_name().unwrap_or_default().to_string_lossy();
    let file = folder.join(format!("{name}_{}.ports", server.pid()));
    let until = Instant::now() + READY;
    loop {
        if let Ok(text) = std::fs::read_to_string(&file)
            && let Ok(ports) = serde_json::from_str::<serde_json::Value>(&text)
        {
            match ports["nats"][0].as_str() {
                Some(url) => return Ok(url.to_owned()),
                None => bail!("nats-server does not say where it listens: {text}"),
            }
        }
        server.check()?;
        ensure!(Instant::now() < until, "nats-server does not listen after {READY:?}");
        sleep(LOOK).await;
    }
}

/// What lets a worker's adapters read the folder, and labels it.
fn configuration(name: &str, media: &Path) -> Result<String> {
    let media = media.to_str().context("the folder for temporary files is not named in UTF-8")?;
    let table = |entries: &[(&str, toml::Value)]| -> toml::Table {
        entries.iter().map(|(key, value)| ((*key).to_owned(), value.clone())).collect()
    };
    let labels = table(&[("demo", name.into())]);
    let config = table(&[
        // Whatever else this machine does: two rooms fit.
        ("worker", table(&[("cores", 64.0.into()), ("labels", labels.into())]).into()),
        ("media", table(&[("folders", vec![media].into())]).into()),
    ]);
    Ok(config.to_string())
}
