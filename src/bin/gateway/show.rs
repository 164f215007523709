//! How answers are shown: a table on a terminal, lines with tabs in a pipe, JSON
//! for programs.

use std::{
    io::{self, IsTerminal, Write},
    time::{Duration, UNIX_EPOCH},
};

use audio_gateway::{bus::messages::TaskView, clock};
use comfy_table::Table;
use serde::Serialize;

/// Where answers go, and in which shape.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Show {
    pub(crate) json: bool,
    /// Whether people read stdout.
    pub(crate) people: bool,
}

impl Show {
    pub(crate) fn new(json: bool) -> Self {
        Self { json, people: !json && io::stdout().is_terminal() }
    }

    /// Writes bytes as they are.
    pub(crate) fn bytes(self, bytes: &[u8]) -> io::Result<()> {
        let mut out = io::stdout().lock();
        out.write_all(bytes)?;
        out.flush()
    }

    pub(crate) fn line(self, line: &str) -> io::Result<()> {
        self.bytes(format!("{line}\n").as_bytes())
    }

    /// One value as a line of JSON.
    pub(crate) fn value(self, value: &impl Serialize) -> io::Result<()> {
        self.line(&serde_json::to_string(value)?)
    }

    /// Rows under a head, which only people are shown.
    pub(crate) fn rows(self, head: &[&str], rows: &[Vec<String>]) -> io::Result<()> {
        if self.people {
            let mut table = Table::new();
            table.load_style(comfy_table::presets::UTF8_HORIZONTAL_ONLY);
            table.set_header(head.to_vec());
            for row in rows {
                table.add_row(row.iter().map(|cell| clean(cell)).collect::<Vec<_>>());
            }
            return self.line(&table.trim_fmt());
        }
        let mut lines = String::new();
        for row in rows {
            let cells: Vec<_> = row.iter().map(|cell| clean(cell)).collect();
            lines += &cells.join("\t");
            lines.push('\n');
        }
        self.bytes(lines.as_bytes())
    }

    /// Tasks, as JSON one a line.
    pub(crate) fn tasks(self, tasks: &[TaskView]) -> io::Result<()> {
        if self.json {
            return tasks.iter().try_for_each(|task| self.value(task));
        }
        if self.people && tasks.is_empty() {
            return self.line("no tasks");
        }
        let head = ["task", "room", "sdk", "state", "worker", "epoch", "changed", "reason"];
        let rows: Vec<_> = tasks
            .iter()
            .map(|task| {
                vec![
                    task.task.to_string(),
                    task.room.to_string(),
                    task.sdk.to_string(),
                    task.state.to_string(),
                    task.worker.as_ref().map(ToString::to_string).unwrap_or_default(),
                    task.epoch.to_string(),
                    self.time(task.changed_ms),
                    task.reason.clone(),
                ]
            })
            .collect();
        self.rows(&head, &rows)
    }

    /// A moment: how long ago for people, ms since the Unix epoch for programs.
    pub(crate) fn time(self, ms: u64) -> String {
        if !self.people {
            return ms.to_string();
        }
        let ago = clock::unix().saturating_sub(Duration::from_millis(ms));
        format!("{} ago", humantime::format_duration(Duration::from_secs(ago.as_secs())))
    }

    /// A moment as it is written down: ms since the Unix epoch for programs.
    pub(crate) fn moment(self, ms: u64) -> String {
        if !self.people {
            return ms.to_string();
        }
        humantime::format_rfc3339_millis(UNIX_EPOCH + Duration::from_millis(ms)).to_string()
    }
}

/// Text from outside, on one line and without what moves a cursor.
pub(crate) fn clean(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}
