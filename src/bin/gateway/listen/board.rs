//! What is shown of a room: a meter on a terminal, lines elsewhere, JSON for
//! programs.

use std::{
    collections::BTreeMap,
    io::{self, IsTerminal, Write},
    time::{Duration, Instant},
};

use audio_gateway::{
    audio::{FLAG_RESENT, SlotState},
    client::{Ending, Heard, ListenStats, Sounds, WavReport},
    id::{RoomId, TrackId},
};
use serde_json::json;

use super::level::{bar, dbfs};
use crate::show::{Show, clean};

/// How often the tracks are told where there is no terminal.
const TELL: Duration = Duration::from_secs(5);
/// Tracks shown on a terminal.
const SHOWN: usize = 16;
/// Characters of a name on a terminal.
const NAME: usize = 16;

enum Face {
    /// Drawn over and over, this many lines high now.
    Meter {
        height: usize,
    },
    /// A line for each news, and one a track now and then.
    Lines {
        told: Instant,
    },
    Json(Show),
}

#[derive(Default)]
struct Line {
    open: bool,
    epoch: u64,
    seq: u64,
    level: Option<f32>,
    /// What it is while there is no audio.
    state: Option<SlotState>,
    frames: u64,
    recovered: u64,
    lost: u64,
    changed: bool,
}

/// See the module.
pub(super) struct Board {
    room: RoomId,
    face: Face,
    /// Whether stdout is taken by audio.
    aside: bool,
    tracks: BTreeMap<TrackId, Line>,
}

impl Board {
    pub(super) fn new(room: &RoomId, show: Show, aside: bool) -> Self {
        let people = if aside { io::stderr().is_terminal() } else { show.people };
        let face = if show.json {
            Face::Json(show)
        } else if people {
            Face::Meter { height: 0 }
        } else {
            Face::Lines { told: Instant::now() }
        };
        Self { room: room.clone(), face, aside, tracks: BTreeMap::new() }
    }

    /// From now on nothing is missed: whoever waits for that may go on.
    pub(super) fn listening(&mut self) -> io::Result<()> {
        let room = self.room.clone();
        match self.face {
            Face::Json(show) => show.value(&json!({"event": "listening", "room": room})),
            _ => self.word(&format!("listening to room {room}")),
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.tracks.is_empty()
    }

    /// Whether something was heard, and nothing more can be.
    pub(super) fn all_closed(&self) -> bool {
        !self.tracks.is_empty() && self.tracks.values().all(|line| !line.open)
    }

    pub(super) fn heard(&mut self, heard: &Heard) -> io::Result<()> {
        let line = self.tracks.entry(heard.track.clone()).or_default();
        line.changed = true;
        match &heard.what {
            Sounds::Opened { epoch, .. } => (line.open, line.epoch) = (true, *epoch),
            Sounds::Batch(delivered) => {
                let batch = &delivered.batch;
                (line.epoch, line.seq) = (batch.epoch, batch.seq);
                line.level = dbfs(batch);
                line.state = batch.runs.iter().last().map(|run| run.state);
                line.frames += u64::from(batch.runs.slots());
                line.recovered += u64::from(batch.has(FLAG_RESENT));
            }
            Sounds::Gap(gap) => line.lost += gap.count,
            Sounds::Epoch { to, .. } => line.epoch = *to,
            Sounds::Closed(_) => line.open = false,
        }
        if let Face::Json(show) = self.face {
            return show.value(&object(heard));
        }
        match news(heard) {
            Some(news) => self.word(&news),
            None => Ok(()),
        }
    }

    /// A word that stays. Programs are told only what was heard.
    pub(super) fn word(&mut self, word: &str) -> io::Result<()> {
        match self.face {
            Face::Json(_) => {
                eprintln!("gateway: {}", clean(word));
                Ok(())
            }
            Face::Lines { .. } => self.write(&format!("{}\n", clean(word))),
            Face::Meter { ref mut height } => {
                let up = up(std::mem::take(height));
                self.write(&format!("{up}{}\n", clean(word)))
            }
        }
    }

    /// Shows where the tracks stand. Called ten times a second.
    pub(super) fn draw(&mut self, stats: &ListenStats) -> io::Result<()> {
        match &mut self.face {
            Face::Json(_) => Ok(()),
            Face::Lines { told } => {
                // Beside audio only news are told.
                if self.aside || told.elapsed() < TELL {
                    return Ok(());
                }
                *told = Instant::now();
                let mut text = String::new();
                for (track, line) in self.tracks.iter_mut().filter(|(_, line)| line.changed) {
                    line.changed = false;
                    text += &format!("{track}  {}\n", line.text());
                }
                self.write(&text)
            }
            Face::Meter { height } => {
                let mut text = up(*height);
                for (track, line) in self.tracks.iter().take(SHOWN) {
                    let name: String = track.as_str().chars().take(NAME).collect();
                    text += &format!("{name:NAME$} {} {}\n", bar(line.level), line.text());
                }
                let more = self.tracks.len().saturating_sub(SHOWN);
                let room = &self.room;
                text += &match more {
                    0 => format!("room {room}: {}\n", totals(stats)),
                    more => format!("room {room}, {more} more: {}\n", totals(stats)),
                };
                *height = self.tracks.len().min(SHOWN) + 1;
                self.write(&text)
            }
        }
    }

    /// Says what came of it.
    pub(super) fn end(&mut self, stats: &ListenStats, files: &[WavReport]) -> io::Result<()> {
        if let Face::Json(show) = self.face {
            let room = &self.room;
            return show.value(&json!({
                "event": "end", "room": room, "stats": stats, "files": files,
            }));
        }
        if let Face::Meter { .. } = self.face {
            self.draw(stats)?;
        }
        let mut text = String::new();
        if let Face::Lines { .. } = self.face {
            text = format!("room {}: {}\n", self.room, totals(stats));
        }
        for file in files {
            let seconds = file.samples as f64 / f64::from(file.rate);
            let gaps = file.gaps.len() as u64 + file.more_gaps;
            text += &format!("{}: {seconds:.1} s, {gaps} gaps\n", file.file.display());
        }
        self.write(&text)
    }

    fn write(&self, text: &str) -> io::Result<()> {
        if self.aside {
            io::stderr().write_all(text.as_bytes())
        } else {
            let mut out = io::stdout().lock();
            out.write_all(text.as_bytes())?;
            out.flush()
        }
    }
}

/// Goes back to the beginning of what was drawn and wipes it.
fn up(height: usize) -> String {
    if height == 0 { String::new() } else { format!("\x1b[{height}A\x1b[J") }
}

impl Line {
    fn text(&self) -> String {
        let level = match (self.open, self.level, self.state) {
            (false, ..) => "closed".to_owned(),
            (_, Some(level), _) => format!("{level:.0} dB"),
            (_, None, Some(SlotState::Muted)) => "muted".to_owned(),
            (_, None, Some(SlotState::Absent)) => "absent".to_owned(),
            (_, None, Some(SlotState::Stalled)) => "stalled".to_owned(),
            (_, None, _) => "silent".to_owned(),
        };
        let seconds = self.frames as f64 / 50.0;
        let (seq, recovered, lost) = (self.seq, self.recovered, self.lost);
        format!("{level:>7} {seconds:8.1} s  seq {seq}  recovered {recovered}  lost {lost}")
    }
}

fn totals(stats: &ListenStats) -> String {
    let ListenStats { tracks, frames, batches, recovered, lost, gaps, .. } = stats;
    let mut text = format!(
        "{tracks} tracks, {frames} frames in {batches} batches, {recovered} recovered, \
         {lost} lost in {gaps} gaps"
    );
    for (count, what) in [
        (stats.thrown_away, "thrown away"),
        (stats.stale_epochs, "of old epochs"),
        (stats.bad, "unreadable"),
        (stats.too_slow, "too fast for us"),
        (stats.refused, "beyond the bound"),
    ] {
        if count > 0 {
            text += &format!(", {count} {what}");
        }
    }
    text
}

/// What is worth a line of its own.
fn news(heard: &Heard) -> Option<String> {
    let track = &heard.track;
    match &heard.what {
        Sounds::Opened { user, role, .. } => {
            let role = if role.is_empty() { String::new() } else { format!(" ({role})") };
            Some(format!("{track}: {user:?}{role} is heard"))
        }
        Sounds::Batch(_) => None,
        Sounds::Gap(gap) => {
            let (count, seq, reason) = (gap.count, gap.from_seq, gap.reason);
            Some(format!("{track}: {count} batches from {seq} on are lost ({reason})"))
        }
        Sounds::Epoch { from, to } => Some(format!("{track}: epoch {from} gives way to {to}")),
        // We stopped ourselves, and know it.
        Sounds::Closed(Ending::Stopped) => None,
        Sounds::Closed(ending) => Some(format!("{track}: closed ({})", ending.as_str())),
    }
}

fn object(heard: &Heard) -> serde_json::Value {
    let mut object = match &heard.what {
        Sounds::Opened { epoch, user, role } => {
            json!({"event": "opened", "epoch": epoch, "user": user, "role": role})
        }
        Sounds::Batch(delivered) => {
            let batch = &delivered.batch;
            let runs: Vec<_> =
                batch.runs.iter().map(|run| (run.state.to_wire(), run.count)).collect();
            json!({
                "event": "batch", "epoch": batch.epoch, "seq": batch.seq, "pos": batch.pos,
                "time": batch.time, "rate": batch.format.rate, "ch": batch.format.channels,
                "runs": runs, "jump": delivered.jump, "flags": batch.flags,
                "level_db": dbfs(batch),
            })
        }
        Sounds::Gap(gap) => json!({
            "event": "gap", "epoch": gap.epoch, "seq": gap.from_seq, "count": gap.count,
            "reason": gap.reason.as_str(), "positions": gap.positions,
        }),
        Sounds::Epoch { from, to } => json!({"event": "epoch", "from": from, "to": to}),
        Sounds::Closed(ending) => json!({"event": "closed", "ending": ending.as_str()}),
    };
    object["room"] = json!(heard.room);
    object["track"] = json!(heard.track);
    object
}
