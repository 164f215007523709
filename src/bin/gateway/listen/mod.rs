//! `gateway listen`: a room in the terminal, in WAV files, in a pipe, or as
//! JSON. What is shown is `board`'s, what is kept `keep`'s, what is piped
//! `pipe`'s.

mod board;
mod keep;
mod level;
mod pipe;

use std::{path::PathBuf, time::Duration};

use audio_gateway::{
    audio::Fill,
    client::{DropOnPurpose, From, Gateway, Heard, ListenOptions, Listener, Sounds, Tracks},
    id::{RoomId, SubscriberId, TrackId},
    limits,
};
use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    time::{Instant, MissedTickBehavior, interval, sleep_until},
};

use crate::{
    exit::{Exit, TooLate, Usage},
    show::Show,
};
use board::Board;
use keep::Keep;
use pipe::Pipe;

/// How often a terminal is drawn anew.
const REDRAW: Duration = Duration::from_millis(100);
/// After this long without a sound a word about why.
const HINT: Duration = Duration::from_secs(5);

/// Nothing is kept or piped unless --wav or --raw says so.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The room
    room: RoomId,
    /// Only this track; may be given again
    #[arg(long)]
    track: Vec<TrackId>,
    /// Keep what is heard: one track in a FILE, or each in a file of its own in
    /// a FOLDER (with / at its end, or that is there). Beside each a .json says
    /// what is missing
    #[arg(long, value_name = "FILE|FOLDER/")]
    wav: Option<PathBuf>,
    /// Write one track's samples to stdout, s16le, as they come in order
    #[arg(long, conflicts_with = "json")]
    raw: bool,
    /// What --raw writes where there is no audio: zeros, skip (nothing but
    /// pauses in speech), or keep-alive[=TIME] (as skip, with a frame of zeros
    /// now and then)
    #[arg(long, value_parser = fill, default_value = "zeros", requires = "raw")]
    fill: Fill,
    /// End after so many seconds
    #[arg(long, value_name = "N")]
    seconds: Option<f64>,
    /// End when every track that was heard is closed
    #[arg(long)]
    until_closed: bool,
    /// Where to begin: -30s for so long ago, or room_start. A worker keeps ten
    /// seconds; of a room that is recorded there is more
    #[arg(long, value_parser = from, default_value = "now", value_name = "TIME",
          allow_hyphen_values = true)]
    from: From,
    /// How long a missing batch is waited for; less bounds the delay
    #[arg(long, value_parser = humantime::parse_duration, default_value = "10s",
          value_name = "TIME")]
    deadline: Duration,
    /// Throw this share of the batches away as they come, to see them recovered
    #[arg(long, value_name = "SHARE")]
    drop: Option<f64>,
    /// Which ones --drop throws away
    #[arg(long, default_value_t = 1, requires = "drop")]
    seed: u64,
    /// The name under which missing batches are asked for [default: made]
    #[arg(long)]
    subscriber: Option<SubscriberId>,
}

fn fill(text: &str) -> Result<Fill, String> {
    match text.split_once('=') {
        None if text == "zeros" => Ok(Fill::Zeros),
        None if text == "skip" => Ok(Fill::Skip),
        None if text == "keep-alive" => Ok(Fill::KeepAlive(Duration::from_secs(5))),
        Some(("keep-alive", time)) => humantime::parse_duration(time)
            .map(Fill::KeepAlive)
            .map_err(|error| format!("{time}: {error}")),
        _ => Err("use zeros, skip, keep-alive or keep-alive=5s".to_owned()),
    }
}

fn from(text: &str) -> Result<From, String> {
    match (text, text.strip_prefix('-')) {
        ("now", _) => Ok(From::Now),
        ("room_start", _) => Ok(From::RoomStart),
        (_, Some(ago)) => {
            humantime::parse_duration(ago).map(From::Ago).map_err(|error| format!("{ago}: {error}"))
        }
        _ => Err("use a time ago as -30s, room_start or now".to_owned()),
    }
}

/// What was asked for, checked.
pub(crate) struct Plan {
    args: Args,
    options: ListenOptions,
    keep: Option<Keep>,
}

impl Args {
    pub(crate) fn plan(self) -> anyhow::Result<Plan> {
        let share = |share: f64| (0.0..=1.0).contains(&share);
        if !self.drop.is_none_or(share) {
            return Err(Usage("--drop: use a share from 0.0 to 1.0".to_owned()).into());
        }
        let most = limits::TASK_MAX_DURATION.as_secs_f64();
        if !self.seconds.is_none_or(|seconds| (0.0..=most).contains(&seconds)) {
            return Err(Usage(format!("--seconds: use 0 to {most}")).into());
        }
        if self.raw && self.track.len() > 1 {
            return Err(Usage("--raw writes one track: name one with --track".to_owned()).into());
        }
        let options = ListenOptions {
            tracks: if self.track.is_empty() {
                Tracks::All
            } else {
                Tracks::Some(self.track.clone())
            },
            subscriber: self.subscriber.clone().unwrap_or_else(SubscriberId::fresh),
            deadline: self.deadline,
            from: self.from,
            recorded: true,
            drop: self.drop.map(|fraction| DropOnPurpose {
                fraction,
                seed: self.seed,
                again: false,
            }),
        };
        let keep = self.wav.as_ref().map(|path| Keep::to(path, &self.track)).transpose()?;
        Ok(Plan { args: self, options, keep })
    }
}

/// Why listening ended.
enum End {
    Time,
    Closed,
    Interrupted,
    Disconnected,
}

pub(crate) async fn run(plan: Plan, gateway: &Gateway, show: Show) -> anyhow::Result<Exit> {
    let Plan { args, options, keep } = plan;
    let mut listener = gateway.listen(&args.room, options).await?;
    let mut session = Session {
        pipe: args.raw.then(|| Pipe::new(args.fill)),
        board: Board::new(&args.room, show, args.raw),
        keep,
    };
    session.board.listening()?;
    let ended = session.follow(&mut listener, &args).await;
    // Whatever the end, what was heard is kept whole.
    session.pipe = None;
    listener.stop();
    let mut kept = Ok(());
    while let Some(heard) = listener.next().await {
        kept = kept.and(session.heard(heard).await);
    }
    let files = session.keep.map(Keep::finish).transpose();
    let stats = listener.stats();
    let (ended, files) = (ended?, files?.unwrap_or_default());
    kept?;
    session.board.end(&stats, &files)?;
    match ended {
        End::Time if stats.batches == 0 => {
            let room = &args.room;
            Err(TooLate(format!("nothing was heard of room {room}; {}", hint(room))).into())
        }
        End::Time | End::Closed => Ok(Exit::Done),
        End::Interrupted if args.seconds.is_some() || args.until_closed => Ok(Exit::Interrupted),
        End::Interrupted => Ok(Exit::Done),
        End::Disconnected => anyhow::bail!("the connection was closed"),
    }
}

fn hint(room: &RoomId) -> String {
    format!("is a task running? gateway list --room {room}")
}

struct Session {
    board: Board,
    keep: Option<Keep>,
    pipe: Option<Pipe>,
}

impl Session {
    async fn follow(&mut self, listener: &mut Listener, args: &Args) -> anyhow::Result<End> {
        let mut signals = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
        let began = Instant::now();
        let until = args.seconds.map(|seconds| began + Duration::from_secs_f64(seconds));
        let mut tick = interval(REDRAW);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut hinted = false;
        loop {
            tokio::select! {
                heard = listener.next() => {
                    let Some(heard) = heard else { return Ok(End::Disconnected) };
                    // A reader of ours that stalls must not keep us from leaving.
                    tokio::select! {
                        told = self.heard(heard) => told?,
                        () = signalled(&mut signals) => return Ok(End::Interrupted),
                        () = reached(until) => return Ok(End::Time),
                    }
                    if args.until_closed && self.board.all_closed() {
                        return Ok(End::Closed);
                    }
                }
                _ = tick.tick() => {
                    if !hinted && self.board.is_empty() && began.elapsed() > HINT {
                        hinted = true;
                        self.board.word(&format!("nothing yet; {}", hint(&args.room)))?;
                    }
                    self.board.draw(&listener.stats())?;
                }
                () = signalled(&mut signals) => return Ok(End::Interrupted),
                () = reached(until) => return Ok(End::Time),
            }
        }
    }

    async fn heard(&mut self, heard: Heard) -> anyhow::Result<()> {
        self.board.heard(&heard)?;
        if let Some(keep) = &mut self.keep
            && let Some(word) = keep.heard(&heard)?
        {
            self.board.word(&word)?;
        }
        if let Some(pipe) = &mut self.pipe
            && let Sounds::Batch(delivered) = &heard.what
            && let Some(word) = pipe.heard(&heard.track, delivered).await?
        {
            self.board.word(&word)?;
        }
        Ok(())
    }
}

async fn signalled(signals: &mut (Signal, Signal)) {
    tokio::select! {
        _ = signals.0.recv() => (),
        _ = signals.1.recv() => (),
    }
}

async fn reached(until: Option<Instant>) {
    match until {
        Some(until) => sleep_until(until).await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn beginnings_are_read_by_name() {
        assert_eq!(from("-30s"), Ok(From::Ago(Duration::from_secs(30))));
        assert_eq!((from("room_start"), from("now")), (Ok(From::RoomStart), Ok(From::Now)));
        assert!(from("30s").is_err() && from("-x").is_err());
    }

    #[test]
    fn fills_are_read_by_name() {
        assert_eq!(fill("zeros"), Ok(Fill::Zeros));
        assert_eq!(fill("keep-alive=300ms"), Ok(Fill::KeepAlive(Duration::from_millis(300))));
        assert!(fill("keep-alive=x").is_err() && fill("noise").is_err());
    }
}
