//! One of ten consumers stands still for half a minute.

use std::{
    process::{Child, Command, Stdio},
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use anyhow::Context;
use audio_gateway::{
    bus::BusOptions,
    client::{Gateway, ListenOptions, Listener, Sounds},
    limits,
};
use rustix::process::{Pid, Signal, kill_process};
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    process::ChildStdout,
    task::JoinSet,
};

use crate::{
    Options,
    figures::{Row, Wanted},
    scene::{PATIENCE, Scene, ramp, touched},
};

/// Consumers that do not stand still, beside the one that checks every sample.
const OTHERS: usize = 8;
/// How long the one stands still, and how long all are heard before.
const STILL: Duration = Duration::from_secs(30);
/// From so little delay on it is live.
const LIVE_US: i64 = 1_000_000;

fn now_us() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_micros() as i64
}

/// How late a batch is: from the end of what is in it to now.
fn delay_us(time: i64, slots: u8) -> i64 {
    now_us() - time - i64::from(slots) * limits::FRAME.as_micros() as i64
}

async fn everywhere(url: &str) -> anyhow::Result<(Gateway, Listener)> {
    let gateway = Gateway::connect(&BusOptions::plain(url)).await?;
    let listener = gateway.listen_everywhere(ListenOptions::default()).await?;
    Ok((gateway, listener))
}

/// What the process does that is stopped: hears everything, and says five times
/// a second how late the last batch was, and what was lost and recovered.
pub(crate) async fn hear(url: &str) -> anyhow::Result<()> {
    let (_gateway, mut listener) = everywhere(url).await?;
    let mut last = Instant::now();
    while let Some(heard) = listener.next().await {
        let Sounds::Batch(delivered) = heard.what else { continue };
        if last.elapsed() >= limits::HEARTBEAT_TRACK {
            last = Instant::now();
            let (batch, stats) = (&delivered.batch, listener.stats());
            let delay = delay_us(batch.time, batch.runs.slots());
            println!("{} {delay} {} {}", now_us(), stats.lost, stats.recovered);
        }
    }
    Ok(())
}

/// The consumer that is stopped. It ends with this.
struct Still(Child);

impl Still {
    fn start(url: &str) -> anyhow::Result<(Self, tokio::io::Lines<BufReader<ChildStdout>>)> {
        let mut command = Command::new(std::env::current_exe()?);
        command.args(["--hear", url]).stdin(Stdio::null()).stdout(Stdio::piped());
        let mut child = command.spawn().context("cannot start a consumer")?;
        let out = child.stdout.take().context("stdout is piped")?;
        let out = ChildStdout::from_std(out)?;
        Ok((Self(child), BufReader::new(out).lines()))
    }

    fn signal(&self, signal: Signal) {
        let _ = kill_process(Pid::from_child(&self.0), signal);
    }
}

impl Drop for Still {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Reads what it says from a moment on until it is live: what it has lost and
/// recovered so far.
async fn live(
    said: &mut tokio::io::Lines<BufReader<ChildStdout>>,
    from_us: i64,
) -> anyhow::Result<(u64, u64)> {
    loop {
        let line = tokio::time::timeout(PATIENCE, said.next_line()).await??;
        let line = line.context("the consumer ended")?;
        let numbers: Vec<i64> = line.split(' ').filter_map(|it| it.parse().ok()).collect();
        if let [said_us, delay, lost, recovered] = numbers[..]
            && said_us > from_us
            && delay < LIVE_US
        {
            return Ok((lost.unsigned_abs(), recovered.unsigned_abs()));
        }
    }
}

/// What the others notice, how the worker and the server fare meanwhile, and how
/// long the one takes to be live again.
pub(crate) async fn stopped(options: &Options) -> anyhow::Result<Vec<Row>> {
    let scene = Scene::start(options, 1, 1, 1).await?;
    let rooms = options.consumer_rooms;
    scene.rooms(rooms, &ramp()).await?;
    let url = scene.fleet.url();
    let delays: Arc<Mutex<Vec<i64>>> = Arc::default();
    let asked: Arc<AtomicU64> = Arc::default();
    let mut others = JoinSet::new();
    for _ in 0..OTHERS {
        let (gateway, mut listener) = everywhere(&url).await?;
        let (delays, asked) = (delays.clone(), asked.clone());
        others.spawn(async move {
            let (_gateway, mut before) = (gateway, 0);
            while let Some(heard) = listener.next().await {
                if let Sounds::Batch(delivered) = heard.what
                    && let Ok(mut delays) = delays.lock()
                {
                    let batch = &delivered.batch;
                    delays.push(delay_us(batch.time, batch.runs.slots()));
                }
                let stats = listener.stats();
                let now = stats.asked + stats.lost;
                asked.fetch_add(now - before, Ordering::Relaxed);
                before = now;
            }
        });
    }
    let (mut alone, mut beside, mut back) = (Vec::new(), Vec::new(), Vec::new());
    let (mut noticed, mut broken, mut lost, mut recovered) = (vec![], vec![], vec![], vec![]);
    for _ in 0..options.repeats {
        let (still, mut said) = Still::start(&url)?;
        let (lost_before, recovered_before) = live(&mut said, now_us()).await?;
        let take = || delays.lock().map(|mut all| std::mem::take(&mut *all)).unwrap_or_default();
        take();
        tokio::time::sleep(STILL / 3).await;
        alone.extend(take());
        let (heard, asks) = (scene.ears.rooms(), asked.load(Ordering::Relaxed));
        still.signal(Signal::STOP);
        tokio::time::sleep(STILL).await;
        beside.extend(take());
        still.signal(Signal::CONT);
        let at = Instant::now();
        live(&mut said, now_us()).await?;
        back.push(at.elapsed());
        // What it asks for again comes meanwhile.
        tokio::time::sleep(STILL / 3).await;
        let (lost_after, recovered_after) = live(&mut said, now_us()).await?;
        noticed.push(asked.load(Ordering::Relaxed) - asks);
        broken.push(touched(&heard, &scene.ears.rooms()).1);
        lost.push((lost_after - lost_before) as f64);
        recovered.push((recovered_after - recovered_before) as f64);
    }
    others.shutdown().await;
    let delay = |what: &str, us: &[i64]| {
        let ms: Vec<f64> = us.iter().map(|us| *us as f64 / 1e3).collect();
        let note = format!("{rooms} rooms, {OTHERS} consumers");
        Row::new(what, ms, "ms", Wanted::Nothing, note)
    };
    Ok(vec![
        delay("batches at the others: delay of its end, all well", &alone),
        delay("… while one consumer stands still for 30 s", &beside),
        Row::none("… batches the others asked for again or lost", &noticed, String::new()),
        Row::none("… frames lost or altered at the one that checks", &broken, String::new()),
        Row::times("… it goes on: live again", &back, Wanted::Nothing, String::new()),
        Row::new("… batches it then had recovered", recovered, "", Wanted::Nothing, String::new()),
        Row::new("… batches it had lost", lost, "", Wanted::Nothing, String::new()),
    ])
}
