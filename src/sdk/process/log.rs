//! What a process writes to stderr, as values: lines within bounds for the
//! log, a count of those left out, and the last bytes for the report of its end.

use std::{collections::VecDeque, time::Instant};

use crate::limits::{STDERR_BURST, STDERR_LINE_MAX, STDERR_LINES_PER_S, STDERR_TAIL};

/// One process's stderr.
#[derive(Debug)]
pub(super) struct StderrLog {
    tail: VecDeque<u8>,
    line: Vec<u8>,
    allowance: f64,
    allowed_at: Instant,
    suppressed: u64,
}

impl StderrLog {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            tail: VecDeque::new(),
            line: Vec::new(),
            allowance: f64::from(STDERR_BURST),
            allowed_at: now,
            suppressed: 0,
        }
    }

    /// Takes what was read and hands out each line that may be logged, with the
    /// number of lines left out before it.
    pub(super) fn push(&mut self, bytes: &[u8], now: Instant, mut log: impl FnMut(&str, u64)) {
        self.keep(bytes);
        for part in bytes.split_inclusive(|&byte| byte == b'\n') {
            let text = part.strip_suffix(b"\n").unwrap_or(part);
            // One byte more than is logged tells that the line was longer.
            let room = (STDERR_LINE_MAX + 1).saturating_sub(self.line.len());
            self.line.extend_from_slice(&text[..text.len().min(room)]);
            if text.len() < part.len() {
                self.end_line(now, &mut log);
            }
        }
    }

    /// Hands out a last line without its end and what was left out after it.
    pub(super) fn finish(&mut self, now: Instant, mut log: impl FnMut(&str, u64)) {
        if !self.line.is_empty() {
            self.end_line(now, &mut log);
        }
        let suppressed = std::mem::take(&mut self.suppressed);
        if suppressed > 0 {
            log("", suppressed);
        }
    }

    /// The last bytes as text: whole lines where they were cut.
    pub(super) fn tail(&self) -> String {
        let (front, back) = self.tail.as_slices();
        let bytes = [front, back].concat();
        let cut = bytes.len() >= STDERR_TAIL;
        let start = if cut {
            bytes.iter().position(|&byte| byte == b'\n').map_or(0, |at| at + 1)
        } else {
            0
        };
        let text =
            String::from_utf8_lossy(if start < bytes.len() { &bytes[start..] } else { &bytes });
        text.trim_end().chars().map(|c| if c == '\n' { c } else { printable(c) }).collect()
    }

    fn keep(&mut self, bytes: &[u8]) {
        let new = &bytes[bytes.len().saturating_sub(STDERR_TAIL)..];
        let over = (self.tail.len() + new.len()).saturating_sub(STDERR_TAIL);
        self.tail.drain(..over);
        self.tail.extend(new);
    }

    fn end_line(&mut self, now: Instant, log: &mut impl FnMut(&str, u64)) {
        let line = std::mem::take(&mut self.line);
        let passed = now.saturating_duration_since(self.allowed_at).as_secs_f64();
        self.allowed_at = now;
        self.allowance =
            (self.allowance + passed * f64::from(STDERR_LINES_PER_S)).min(f64::from(STDERR_BURST));
        if self.allowance < 1.0 {
            self.suppressed += 1;
            return;
        }
        self.allowance -= 1.0;
        let shown = &line[..line.len().min(STDERR_LINE_MAX)];
        let mut text: String = String::from_utf8_lossy(shown).chars().map(printable).collect();
        if line.len() > STDERR_LINE_MAX {
            text.push('…');
        }
        log(&text, std::mem::take(&mut self.suppressed));
    }
}

/// A process cannot move the cursor of the terminal that shows the log, nor
/// write lines of its own into it.
fn printable(c: char) -> char {
    if c.is_control() && c != '\t' { '\u{fffd}' } else { c }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn lines(log: &mut StderrLog, bytes: &[u8], now: Instant) -> Vec<(String, u64)> {
        let mut seen = Vec::new();
        log.push(bytes, now, |line, suppressed| seen.push((line.to_owned(), suppressed)));
        seen
    }

    #[test]
    fn lines_are_joined_across_reads() {
        let now = Instant::now();
        let mut log = StderrLog::new(now);
        assert!(lines(&mut log, b"hel", now).is_empty());
        let seen = lines(&mut log, b"lo\n\nthere", now);
        assert_eq!(seen, [("hello".into(), 0), (String::new(), 0)]);
        let mut last = Vec::new();
        log.finish(now, |line, _| last.push(line.to_owned()));
        assert_eq!(last, ["there"]);
        assert_eq!(log.tail(), "hello\n\nthere");
    }

    #[test]
    fn an_endless_line_takes_no_memory() {
        let now = Instant::now();
        let mut log = StderrLog::new(now);
        for _ in 0..1_000 {
            assert!(lines(&mut log, &[b'x'; 8_192], now).is_empty());
        }
        assert!(log.line.len() <= STDERR_LINE_MAX + 1 && log.tail.len() <= STDERR_TAIL);
        let seen = lines(&mut log, b"\n", now);
        assert_eq!(seen[0].0.len(), STDERR_LINE_MAX + '…'.len_utf8());
    }

    #[test]
    fn a_flood_is_counted_and_the_count_is_said() {
        let now = Instant::now();
        let mut log = StderrLog::new(now);
        let seen = lines(&mut log, &b"again\n".repeat(1_000), now);
        assert_eq!(seen.len(), usize::try_from(STDERR_BURST).unwrap());
        let later = now + Duration::from_secs(1);
        let seen = lines(&mut log, b"later\n", later);
        assert_eq!(seen, [("later".into(), 1_000 - u64::from(STDERR_BURST))]);
    }

    #[test]
    fn no_control_character_gets_through() {
        let now = Instant::now();
        let mut log = StderrLog::new(now);
        let seen = lines(&mut log, b"a\x1b[2J\rb\xff\n", now);
        assert_eq!(seen[0].0, "a\u{fffd}[2J\u{fffd}b\u{fffd}");
        assert!(!log.tail().contains('\x1b'));
    }

    #[test]
    fn the_tail_is_cut_at_a_line() {
        let now = Instant::now();
        let mut log = StderrLog::new(now);
        for n in 0..1_000 {
            log.push(format!("line {n:04}\n").as_bytes(), now, |_, _| ());
        }
        let tail = log.tail();
        assert!(
            tail.starts_with("line ") && tail.ends_with("line 0999") && tail.len() <= STDERR_TAIL
        );
    }
}
