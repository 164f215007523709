//! The demo: a server, a dispatcher and two workers; two rooms, one killed
//! worker, 5 % loss; and a listener that proves that nothing is missing.
//!
//! `make demo` builds and starts it. It only wires: what happens is in
//! [`script`], what is shown in [`view`], what is judged in [`summary`].

mod board;
mod children;
mod ears;
mod script;
mod speech;
mod stage;
mod summary;
mod verify;
mod view;

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use clap::Parser;
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::{mpsc, watch},
};

use board::{Board, Input};
use script::{Outcome, Plan, Progress, Script};
use stage::Stage;
use view::View;

/// Inputs queued to the board; a full queue makes the listeners wait.
const INPUTS: usize = 1_024;
/// How often the board is drawn.
const DRAW: Duration = Duration::from_millis(100);
/// What a program exits with that was interrupted.
const INTERRUPTED: u8 = 130;

/// Two rooms, one killed worker, 5 % loss: and nothing is missing
#[derive(Debug, Parser)]
#[command(version)]
struct Args {
    /// A recording of speech to play; else it is made with flite
    file: Option<PathBuf>,
    /// The server to start
    #[arg(long, env = "NATS_SERVER", default_value = "nats-server")]
    nats_server: PathBuf,
    /// Where to write what was heard
    #[arg(long, default_value = "demo-out")]
    out: PathBuf,
    /// Most seconds of the recording to play
    #[arg(long, default_value_t = 28, value_parser = clap::value_parser!(u32).range(14..=600))]
    seconds: u32,
    /// Share of the batches to throw away at one listener
    #[arg(long, default_value_t = 0.05, value_parser = share)]
    loss: f64,
    /// Chooses which batches are thrown away
    #[arg(long, default_value_t = 42)]
    seed: u64,
    /// Plain lines, also on a terminal
    #[arg(long)]
    plain: bool,
}

/// A share of batches, of which most must arrive for the others to come again.
fn share(text: &str) -> Result<f64, String> {
    let share: f64 = text.parse().map_err(|error| format!("{error}"))?;
    if (0.0..=0.5).contains(&share) { Ok(share) } else { Err("use 0 to 0.5".to_owned()) }
}

fn main() -> ExitCode {
    let args = Args::parse();
    // One thread: what it starts dies with it, should it be killed.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let result = runtime.context("cannot start").and_then(|runtime| runtime.block_on(run(&args)));
    match result {
        Ok(code) => code,
        Err(error) => {
            eprintln!("demo: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// A folder that goes away with the demo.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Result<Self> {
        let name = format!("gateway-demo-{}-{:08x}", std::process::id(), fastrand::u32(..));
        let path = std::env::temp_dir().join(name);
        std::fs::create_dir(&path).with_context(|| format!("cannot make {}", path.display()))?;
        Ok(Self(path))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_dir_all(&self.0) {
            eprintln!("demo: {} stays behind: {error}", self.0.display());
        }
    }
}

async fn run(args: &Args) -> Result<ExitCode> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let mut hangup = signal(SignalKind::hangup())?;
    let begun = Instant::now();
    let work = Folder::new()?;
    let mut stage = None;
    let mut view = View::new(args.plain);
    let played = tokio::select! {
        played = play(args, &work.0, &mut stage, &mut view, begun) => Some(played),
        _ = interrupt.recv() => None,
        _ = terminate.recv() => None,
        _ = hangup.recv() => None,
    };
    view.close();
    let left = children::stop(stage.map(Stage::into_programs).unwrap_or_default()).await;
    let Some(played) = played else {
        for process in &left {
            eprintln!("demo: left behind: {process}");
        }
        let rest = if left.is_empty() { "everything" } else { "the rest of what" };
        eprintln!("demo: interrupted; {rest} it started is gone");
        return Ok(ExitCode::from(INTERRUPTED));
    };
    let verdict = summary::judge(&played?, &args.out, &left, &view)?;
    println!("\n{}", verdict.text);
    if verdict.faults.is_empty() {
        let took = begun.elapsed().as_secs_f64();
        let text = "Every frame outside the fail-over came, in order and bit-exact.";
        println!("{} {text} ({took:.0} s)", view.paint("1;32", "PASSED"));
        return Ok(ExitCode::SUCCESS);
    }
    println!("{}", view.paint("1;31", "FAILED"));
    for fault in verdict.faults {
        println!("  {fault}");
    }
    Ok(ExitCode::FAILURE)
}

/// Makes speech, starts the programs, and plays the script while the board is
/// drawn.
async fn play(
    args: &Args,
    work: &Path,
    stage: &mut Option<Stage>,
    view: &mut View,
    begun: Instant,
) -> Result<Outcome> {
    let logs = args.out.join("logs");
    std::fs::create_dir_all(&logs).with_context(|| format!("cannot make {}", logs.display()))?;
    let media_dir = work.join("media");
    std::fs::create_dir(&media_dir)?;
    let mut board = Board::default();
    let note = |text: String, board: &mut Board, view: &mut View| {
        board.apply(Input::Note(text), begun.elapsed());
        view.show(board, begun.elapsed());
    };

    let loss = args.loss * 100.0;
    for text in [
        "two rooms: a call of two people, and a radio that plays a file".to_owned(),
        format!("{loss:.0} % of the radio's batches are thrown away before they are heard;"),
        "the worker that serves the call is killed midway".to_owned(),
    ] {
        note(text, &mut board, view);
    }
    let media = speech::prepare(&media_dir, args.file.as_deref(), args.seconds)?;
    let ffmpeg = speech::ffmpeg().is_some();
    note(format!("to be heard: {}", media.origin), &mut board, view);
    if !ffmpeg {
        let text =
            "ffmpeg is not installed (apt-get install ffmpeg): a simulated room plays the file";
        note(text.to_owned(), &mut board, view);
    }
    let stage = stage.insert(Stage::start(&args.nats_server, work, &logs).await?);
    let gateway = stage.gateway().await?;
    note(
        format!("nats-server at {} and a dispatcher are up", gateway.control().url()),
        &mut board,
        view,
    );

    let plan =
        Plan { media, media_dir, out: args.out.clone(), ffmpeg, loss: args.loss, seed: args.seed };
    let (say, mut said) = mpsc::channel(INPUTS);
    let (count, progress) = watch::channel(Progress::new());
    let script = Script { plan: &plan, stage, gateway, board: say, progress, killed: None };
    let mut playing = Box::pin(script.play());
    let mut draw = tokio::time::interval(DRAW);
    draw.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            outcome = &mut playing => {
                while let Ok(input) = said.try_recv() {
                    board.apply(input, begun.elapsed());
                }
                view.show(&mut board, begun.elapsed());
                return outcome;
            }
            Some(input) = said.recv() => {
                board.apply(input, begun.elapsed());
                count.send_replace(board.tracks.clone());
            }
            _ = draw.tick() => view.show(&mut board, begun.elapsed()),
        }
    }
}
