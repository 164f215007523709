//! How the demo looks: a board that is drawn again in its place on a terminal,
//! plain lines anywhere else. What happened scrolls by above the board.

use std::{
    io::{self, IsTerminal, Write},
    time::Duration,
};

use audio_gateway::bus::messages::{WorkerPhase, WorkerView};

use crate::{
    board::{Board, LEVELS, Track},
    verify::Counts,
};

/// Columns the board needs.
const WIDTH: u16 = 80;
/// Lines it needs, with some to scroll by above it.
const HEIGHT: u16 = 20;
/// How often plain lines say how far it is.
const PLAIN: Duration = Duration::from_secs(5);
/// A block for each level, from nothing to full scale.
const BLOCKS: [char; 9] = [' ', '▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
/// Loudness below which nothing shows, and from which all of a block does.
const QUIET_DB: f32 = -50.0;
/// See [`QUIET_DB`]: as loud as speech gets.
const LOUD_DB: f32 = -8.0;

/// See the module. Dropping it leaves the terminal as it was.
#[derive(Debug)]
pub(crate) struct View {
    live: bool,
    color: bool,
    /// Lines of the board that stand on the terminal.
    drawn: usize,
    /// When the next plain line is due.
    plain_due: Duration,
}

impl View {
    /// A board where stdout is a terminal large enough and not told otherwise.
    pub(crate) fn new(plain: bool) -> Self {
        let stdout = io::stdout();
        let size = rustix::termios::tcgetwinsize(&stdout);
        let fits = size.is_ok_and(|size| size.ws_col >= WIDTH && size.ws_row >= HEIGHT);
        let dumb = std::env::var("TERM").map_or(true, |term| term == "dumb");
        let live = !plain && stdout.is_terminal() && fits && !dumb;
        let color = stdout.is_terminal() && !dumb && std::env::var_os("NO_COLOR").is_none();
        Self { live, color, drawn: 0, plain_due: PLAIN }
    }

    /// Whether there are colours.
    pub(crate) fn color(&self) -> bool {
        self.color
    }

    /// Shows what is new on the board.
    pub(crate) fn show(&mut self, board: &mut Board, now: Duration) {
        let mut text = String::new();
        if self.live {
            text.push_str("\x1b[?25l");
            text.push_str(&self.up());
        }
        while let Some((at, note)) = board.notes.pop_front() {
            text.push_str(&format!("{}  {note}{}\n", self.dim(&clock(at)), self.end()));
        }
        if self.live {
            let lines = self.lines(board);
            self.drawn = lines.len();
            for line in lines {
                text.push_str(&format!("{line}{}\n", self.end()));
            }
        } else if now >= self.plain_due && !board.tracks.is_empty() {
            self.plain_due = now + PLAIN;
            let tracks: Vec<String> = board.tracks.iter().map(plain).collect();
            text.push_str(&format!("{}  {}\n", clock(now), tracks.join(" · ")));
        }
        put(&text);
    }

    /// Takes the board away; the lines that scrolled by stay.
    pub(crate) fn close(&mut self) {
        if self.live {
            put(&format!("{}\x1b[J\x1b[?25h", self.up()));
            self.drawn = 0;
            self.live = false;
        }
    }

    fn lines(&self, board: &Board) -> Vec<String> {
        let head = format!(
            " {:<13} {:<LEVELS$} {:>7} {:>6} {:>6} {:>8} {:>6}",
            "TRACK", "LEVEL", "FRAMES", "LOST", "BACK", "MISSING", "EXACT"
        );
        let mut lines = vec![String::new(), self.dim(&head)];
        lines.extend(board.tracks.iter().map(|track| self.track(track)));
        lines.push(String::new());
        lines.push(self.dim(&format!(" {:<13} {:<14} {:>5}   HEARD", "WORKER", "STATE", "ROOMS")));
        for worker in &board.workers {
            lines.push(self.worker(worker, board.killed.contains(&worker.worker)));
        }
        lines
    }

    fn worker(&self, worker: &WorkerView, killed: bool) -> String {
        let (color, state) = match worker.phase {
            _ if killed => ("31", "● killed"),
            WorkerPhase::Running => ("32", "● running"),
            WorkerPhase::LameDuck => ("33", "● lame duck"),
            WorkerPhase::Other => ("33", "● other"),
        };
        let state = self.paint(color, &format!("{state:<14}"));
        let name = worker.worker.as_str();
        if killed {
            return format!(" {name:<13} {state} {:>5}", "–");
        }
        let heard = worker.heard_ms as f64 / 1_000.0;
        format!(" {name:<13} {state} {:>5}   {heard:.1} s ago", worker.sessions)
    }

    fn track(&self, track: &Track) -> String {
        let name = format!("{}/{}", track.room, track.track);
        let meter: String = track.levels.iter().map(|&level| block(level)).collect();
        let meter = self.paint(if track.closed { "2" } else { "32" }, &format!("{meter:>LEVELS$}"));
        let missing = format!("{:>8}", track.missing);
        let missing = if track.missing > 0 { self.paint("31", &missing) } else { missing };
        let exact = match track.checked {
            Counts { wrong: 0, exact: 0 } => format!("{:>6}", "–"),
            Counts { wrong: 0, .. } => self.paint("32", &format!("{:>6}", "yes")),
            _ => self.paint("31", &format!("{:>6}", "NO")),
        };
        let frames = track.live + track.recovered;
        let (lost, back) = (track.thrown_away, track.batches_back);
        format!(" {name:<13} {meter} {frames:>7} {lost:>6} {back:>6} {missing} {exact}")
    }

    /// Back to the first line of the board.
    fn up(&self) -> String {
        if self.drawn > 0 { format!("\r\x1b[{}A", self.drawn) } else { String::new() }
    }

    /// The end of a line: what was longer before is wiped off.
    fn end(&self) -> &'static str {
        if self.live { "\x1b[K" } else { "" }
    }

    fn dim(&self, text: &str) -> String {
        self.paint("2", text)
    }

    /// The text in a colour where there are any.
    pub(crate) fn paint(&self, code: &str, text: &str) -> String {
        if self.color { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }
}

impl Drop for View {
    fn drop(&mut self) {
        self.close();
    }
}

/// Writes to stdout; nobody there is no reason to stop.
fn put(text: &str) {
    let mut stdout = io::stdout().lock();
    let _ = stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush());
}

/// A time since the start.
fn clock(at: Duration) -> String {
    format!("{:>5.1} s", at.as_secs_f64())
}

fn plain(track: &Track) -> String {
    let mut text =
        format!("{}/{} {} frames", track.room, track.track, track.live + track.recovered);
    if track.thrown_away > 0 {
        let (lost, back) = (track.thrown_away, track.batches_back);
        text.push_str(&format!(" ({lost} batches lost, {back} back)"));
    }
    if track.missing > 0 {
        text.push_str(&format!(", {} MISSING", track.missing));
    }
    if track.checked.wrong > 0 {
        text.push_str(&format!(", {} WRONG", track.checked.wrong));
    }
    text
}

/// The block of a loudness, from full scale down to nothing.
fn block(loudness: f32) -> char {
    let db = 20.0 * loudness.max(1e-6).log10();
    let step = ((db - QUIET_DB) / (LOUD_DB - QUIET_DB) * 8.0).ceil().clamp(0.0, 8.0);
    BLOCKS[step as usize]
}

#[cfg(test)]
mod tests {
    use audio_gateway::id::{RoomId, TrackId};

    use super::*;

    fn view() -> View {
        View { live: false, color: false, drawn: 0, plain_due: PLAIN }
    }

    fn track() -> Track {
        let mut track =
            Track::new(RoomId::parse("radio").unwrap(), TrackId::parse("a").unwrap(), 1);
        track.live = 1_234_567;
        (0..40).for_each(|step| track.level(step as f32 / 40.0));
        track
    }

    #[test]
    fn no_line_is_wider_than_a_terminal() {
        let mut board = Board::default();
        board.apply(crate::board::Input::Track(track()), Duration::ZERO);
        for line in view().lines(&board) {
            assert!(line.chars().count() < usize::from(WIDTH), "{line:?}");
        }
    }

    #[test]
    fn levels_rise_from_silence_to_full_scale() {
        assert_eq!([0.0, 0.001, 1.0].map(block), [' ', ' ', '█']);
        let blocks: Vec<char> = [0.003, 0.01, 0.04, 0.15].map(block).into();
        assert!(blocks.is_sorted_by(|a, b| a < b), "{blocks:?}");
    }

    #[test]
    fn plain_lines_name_what_is_wrong() {
        let mut track = track();
        track.missing = 3;
        assert_eq!(plain(&track), "radio/a 1234567 frames, 3 MISSING");
    }
}
