//! What was measured, as a row of a table: the median and the worst beside what
//! is wanted.

use std::time::Duration;

/// One row.
#[derive(Debug, serde::Serialize)]
pub(crate) struct Row {
    /// What was measured.
    what: String,
    /// How often.
    repeats: usize,
    /// Median, 99th percentile and worst.
    median: f64,
    p99: f64,
    worst: f64,
    unit: &'static str,
    /// What is wanted, in words, and whether it is so.
    wanted: String,
    met: bool,
    /// What else was seen.
    note: String,
    /// The machine's load average of the last minute.
    load: f64,
}

/// What is wanted of a series.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Wanted {
    /// No value above this.
    Worst(f64),
    /// The median and the worst at most these.
    Both(f64, f64),
    /// Of a hundred, 99 at most this.
    P99(f64),
    /// Told only.
    Nothing,
}

impl Row {
    /// A row of times, in ms.
    pub(crate) fn times(what: &str, times: &[Duration], wanted: Wanted, note: String) -> Self {
        let ms: Vec<f64> = times.iter().map(|time| time.as_secs_f64() * 1e3).collect();
        Self::new(what, ms, "ms", wanted, note)
    }

    /// A row of numbers that should all be 0.
    pub(crate) fn none(what: &str, counts: &[u64], note: String) -> Self {
        let counts = counts.iter().map(|count| *count as f64).collect();
        Self::new(what, counts, "", Wanted::Worst(0.0), note)
    }

    pub(crate) fn new(
        what: &str,
        mut values: Vec<f64>,
        unit: &'static str,
        wanted: Wanted,
        note: String,
    ) -> Self {
        values.sort_by(f64::total_cmp);
        let last = values.len().saturating_sub(1);
        let at = |share: f64| values.get((last as f64 * share).round() as usize).copied();
        let (median, p99) = (at(0.5).unwrap_or(f64::NAN), at(0.99).unwrap_or(f64::NAN));
        let worst = at(1.0).unwrap_or(f64::NAN);
        let (wanted, met) = match wanted {
            Wanted::Worst(most) => (format!("≤ {}", most), worst <= most),
            Wanted::Both(half, most) => {
                (format!("median ≤ {half}, worst ≤ {most}"), median <= half && worst <= most)
            }
            Wanted::P99(most) => (format!("p99 ≤ {most}"), p99 <= most),
            Wanted::Nothing => ("–".to_owned(), true),
        };
        let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
        let load = load.split(' ').next().and_then(|load| load.parse().ok()).unwrap_or(f64::NAN);
        let what = what.to_owned();
        Self { what, repeats: values.len(), median, p99, worst, unit, wanted, met, note, load }
    }

    /// Whether what is wanted is so.
    pub(crate) fn is_met(&self) -> bool {
        self.met
    }

    /// The head of the table.
    pub(crate) fn head() {
        println!("| what | n | median | p99 | worst | wanted | met | load | what else |");
        println!("|---|---:|---:|---:|---:|---|---|---:|---|");
    }

    /// Prints it, as a row of that table or as JSON.
    pub(crate) fn print(&self, json: bool) {
        if json {
            // Plain numbers and names: nothing in it can fail to be JSON.
            return println!("{}", serde_json::to_string(self).unwrap_or_default());
        }
        let figure = |value: f64| {
            let digits = usize::from(value.abs() < 100.0 && value.fract() != 0.0);
            let unit = if self.unit.is_empty() { "" } else { " " };
            format!("{value:.digits$}{unit}{}", self.unit)
        };
        let Self { what, repeats, wanted, note, load, .. } = self;
        let (median, p99, worst) = (figure(self.median), figure(self.p99), figure(self.worst));
        let met = if self.met { "yes" } else { "no" };
        println!(
            "| {what} | {repeats} | {median} | {p99} | {worst} | {wanted} | {met} | {load:.1} | {note} |"
        );
    }
}
