//! What `gateway top` draws: a model in, a frame out.

use std::time::{Duration, UNIX_EPOCH};

use audio_gateway::{
    bus::messages::{TaskView, WorkerPhase, WorkerView},
    limits,
    task::TaskState,
};
use ratatui::{
    Frame,
    layout::Rect,
    style::{Color, Modifier, Style},
    text::{Line, Span},
    widgets::{Block, Clear, Paragraph, Wrap},
};

use super::{
    grid::{Column, Grid, fit},
    model::{Front, Model, Pane, phase, share},
};

const fn column(title: &'static str, width: usize, rank: u8, right: bool) -> Column {
    Column { title, width, rank, right }
}

const WORKERS: [Column; 8] = [
    column("WORKER", 16, 0, false),
    column("STATE", 11, 0, false),
    column("ROOMS", 11, 1, true),
    column("CPU", 15, 2, true),
    column("MEMORY", 6, 5, true),
    column("HEARD", 6, 1, true),
    column("VERSION", 8, 6, false),
    column("ADAPTERS", 12, 7, false),
];
const TASKS: [Column; 7] = [
    column("TASK", 16, 0, false),
    column("ROOM", 8, 4, false),
    column("STATE", 9, 0, false),
    column("WORKER", 10, 2, false),
    column("EPOCH", 13, 6, true),
    column("AGE", 4, 3, true),
    column("REASON", 10, 1, false),
];

const GOOD: Style = Style::new();
const QUIET: Style = Style::new().add_modifier(Modifier::DIM);
const WARN: Style = Style::new().fg(Color::Yellow);
const BAD: Style = Style::new().fg(Color::Red).add_modifier(Modifier::BOLD);

const HELP: &str = "\
  ↑ ↓ k j     a row up, a row down; Page up and down, Home and End
  Tab         from the workers to the tasks and back
  s           the next order of the half you are in
  /           show only what has this text anywhere; Esc: all
  d           drain the chosen worker: it gives its rooms away
  u           have it take rooms again; both ask first
  q Ctrl-C    leave

  Tasks stand with what needs a look first: what failed or expired in
  the last hour, what waits, what moves, what runs. AGE is since the
  last change. A worker is HEARD twice a second; a silent one is taken
  for gone after three seconds, and its rooms go to others. Placed in
  3/42 ms: half of the tasks waited for a worker no longer than 3 ms,
  99 of 100 no longer than 42.";

/// A row's cells, each in its style.
type Row = Vec<(String, Style)>;

/// Draws everything.
pub(crate) fn draw(frame: &mut Frame<'_>, model: &Model) {
    let area = frame.area();
    let mut rest = area;
    let mut cut = |height: u16, from_top: bool| {
        let height = height.min(rest.height);
        let y = if from_top { rest.y } else { rest.y + rest.height - height };
        let part = Rect { y, height, ..rest };
        rest.height -= height;
        rest.y += if from_top { height } else { 0 };
        part
    };
    let head = cut(3, true);
    let foot = cut(1, false);
    let detail = cut(if area.height >= 20 { 2 } else { 0 }, false);
    frame.render_widget(Paragraph::new(header(model, head.width.into())), head);
    frame.render_widget(Paragraph::new(footer(model, foot.width.into())), foot);
    let text = Paragraph::new(details(model)).style(QUIET).wrap(Wrap { trim: true });
    frame.render_widget(text, detail);
    let workers = model.picture.workers.len().max(1).saturating_add(2);
    let share = (rest.height * 2 / 5).max(3);
    let upper = u16::try_from(workers).unwrap_or(share).min(share).min(rest.height);
    let (top, bottom) = (
        Rect { height: upper, ..rest },
        Rect { y: rest.y + upper, height: rest.height - upper, ..rest },
    );
    pane(frame, model, Pane::Workers, top);
    pane(frame, model, Pane::Tasks, bottom);
    front(frame, model, area);
}

fn header(model: &Model, width: usize) -> Vec<Line<'static>> {
    let picture = &model.picture;
    let clock = UNIX_EPOCH + Duration::from_millis(model.now_ms);
    let clock = humantime::format_rfc3339_seconds(clock).to_string();
    let clock = clock.get(11..).unwrap_or_default().to_owned();
    let leader = match picture.leader.as_ref().map(|said| said.leader.as_ref()) {
        Some(Some(leader)) => {
            let term = picture.leader.as_ref().map_or(0, |said| said.term);
            Span::styled(format!("leader {leader}, term {term}"), GOOD)
        }
        Some(None) => Span::styled("NO LEADER", BAD),
        None => Span::styled("leader unknown", WARN),
    };
    let right = leader.content.chars().count() + 2 + clock.chars().count();
    let name = fit(&format!("gateway top  {}", model.server), width.saturating_sub(right + 2));
    let gap = width.saturating_sub(name.chars().count() + right);
    let first = Line::from(vec![
        Span::styled(name, Style::new().add_modifier(Modifier::BOLD)),
        Span::raw(" ".repeat(gap)),
        leader,
        Span::raw(format!("  {clock}")),
    ]);
    vec![first, counts(model), third(model, width)]
}

fn counts(model: &Model) -> Line<'static> {
    let picture = &model.picture;
    let of = |states: &[TaskState]| {
        picture.tasks.iter().filter(|task| states.contains(&task.state)).count()
    };
    let draining =
        picture.workers.iter().filter(|worker| worker.phase == WorkerPhase::LameDuck).count();
    let mut spans = vec![Span::raw(format!("workers {}", picture.workers.len()))];
    if draining > 0 {
        spans.push(Span::styled(format!(" ({draining} draining)"), WARN));
    }
    let more = if picture.truncated { "+" } else { "" };
    let mut count = |name: &str, number: usize, style: Style| {
        let style = if number > 0 { style } else { GOOD };
        spans.push(Span::styled(format!("  {name} {number}{more}"), style));
    };
    count("running", of(&[TaskState::Running]), GOOD);
    count("starting", of(&[TaskState::Assigned, TaskState::Starting]), GOOD);
    count("moving", of(&[TaskState::Draining]), WARN);
    count("waiting", of(&[TaskState::Pending]), WARN);
    count("failed", of(&[TaskState::Failed, TaskState::Expired]), BAD);
    Line::from(spans)
}

fn third(model: &Model, width: usize) -> Line<'static> {
    if let Some((why, since)) = &model.fault {
        let old = age(model.now_ms.saturating_sub(*since));
        return Line::styled(fit(&format!("OLD BY {old}: {why}"), width), BAD);
    }
    let rate = |name: &str, rate: Option<f64>| match rate {
        Some(rate) if rate >= 100.0 => format!("{name} {rate:.0}/s"),
        Some(rate) => format!("{name} {rate:.1}/s"),
        None => format!("{name} ?"),
    };
    let rates = &model.picture.rates;
    let mut texts = vec![
        rate("events", rates.events),
        rate("submits", rates.submits),
        rate("refused", rates.refusals),
        rate("batches", rates.batches),
    ];
    if let Some((p50, p99)) = model.picture.place_ms {
        texts.push(format!("placed in {p50}/{p99} ms"));
    }
    Line::styled(fit(&texts.join("  "), width), QUIET)
}

fn footer(model: &Model, width: usize) -> Line<'static> {
    let text = match &model.front {
        Front::Filter => format!("filter: {}_   Enter: keep it  Esc: drop it", model.filter),
        _ if !model.notice.is_empty() => model.notice.clone(),
        _ => {
            let filter = match model.filter.as_str() {
                "" => String::new(),
                filter => format!("[{filter}]  "),
            };
            let other = if model.pane == Pane::Workers { "tasks" } else { "workers" };
            format!("{filter}q quit  ? help  Tab {other}  s sort  / filter  d drain  u undrain")
        }
    };
    Line::styled(fit(&text, width), Style::new().add_modifier(Modifier::REVERSED))
}

fn pane(frame: &mut Frame<'_>, model: &Model, pane: Pane, area: Rect) {
    let width = usize::from(area.width);
    let (name, columns, none, rows): (_, &[Column], _, Vec<Row>) = match pane {
        Pane::Workers => {
            let rows = model.workers().into_iter().map(worker_row).collect();
            ("WORKERS", &WORKERS, "no worker is there: start one", rows)
        }
        Pane::Tasks => {
            let rows = model.tasks().into_iter().map(|task| task_row(task, model.now_ms)).collect();
            ("TASKS", &TASKS, "no task waits, runs or failed", rows)
        }
    };
    let height = usize::from(area.height).saturating_sub(2);
    let chosen = model.chosen(pane);
    let first = (chosen + 1).saturating_sub(height);
    let last = (first + height).min(rows.len());
    let seen = if last - first.min(last) < rows.len() {
        format!(", {}–{last} of {}", first + 1, rows.len())
    } else {
        String::new()
    };
    let title = format!("── {name} by {}{seen} ", model.order(pane));
    let line = "─".repeat(width.saturating_sub(title.chars().count()));
    let focus = if model.pane == pane { Modifier::BOLD } else { Modifier::DIM };
    let grid = Grid::new(columns, width);
    let title = Line::styled(fit(&(title + &line), width), Style::new().add_modifier(focus));
    let mut lines = vec![title, grid.head()];
    if rows.is_empty() {
        let text = match (&model.fault, model.filter.as_str()) {
            (Some(_), _) => "not known",
            (None, "") => none,
            _ => "nothing has the text of the filter",
        };
        lines.push(Line::styled(fit(text, width), QUIET));
    }
    for (at, cells) in rows.iter().enumerate().take(last).skip(first) {
        let row = grid.row(cells);
        let is_chosen = at == chosen && model.pane == pane;
        lines.push(if is_chosen {
            row.style(Style::new().add_modifier(Modifier::REVERSED))
        } else {
            row
        });
    }
    frame.render_widget(Paragraph::new(lines), area);
}

fn worker_row(worker: &WorkerView) -> Row {
    let load = &worker.load;
    let heard = Duration::from_millis(worker.heard_ms);
    let (state, style) = if heard >= limits::WORKER_GONE {
        ("silent", BAD)
    } else if worker.phase == WorkerPhase::LameDuck {
        (phase(worker.phase), WARN)
    } else if worker.quarantined.is_empty() {
        (phase(worker.phase), GOOD)
    } else {
        ("quarantine", BAD)
    };
    let used = share(worker);
    let full = worker.sessions >= load.sessions_max;
    let heard_style = match heard {
        heard if heard >= limits::WORKER_GONE => BAD,
        heard if heard >= limits::WORKER_SUSPECT => WARN,
        _ => GOOD,
    };
    let percent = |part: f64| format!("{:.0} %", part * 100.0);
    let memory = if load.memory > 0 { load.memory_used as f64 / load.memory as f64 } else { 0.0 };
    let adapters: Vec<_> = worker.adapters.iter().map(ToString::to_string).collect();
    let is_full = |full: bool| if full { WARN } else { GOOD };
    vec![
        (worker.worker.to_string(), GOOD),
        (state.to_owned(), style),
        (format!("{}/{}", worker.sessions, load.sessions_max), is_full(full)),
        (
            format!("{:.1}/{:.0} {:>5}", load.cores_used, load.cores, percent(used)),
            is_full(used >= limits::FULL),
        ),
        (percent(memory), is_full(memory >= limits::FULL)),
        (format!("{:.1}s", heard.as_secs_f64()), heard_style),
        (worker.version.clone(), GOOD),
        (adapters.join(","), GOOD),
    ]
}

fn task_row(task: &TaskView, now_ms: u64) -> Row {
    let style = match task.state {
        TaskState::Failed | TaskState::Expired => BAD,
        TaskState::Pending | TaskState::Draining => WARN,
        _ => GOOD,
    };
    let worker = task.worker.as_ref().map(ToString::to_string).unwrap_or_default();
    let epoch = if task.epoch.0 == 0 { String::new() } else { task.epoch.to_string() };
    vec![
        (task.task.to_string(), GOOD),
        (task.room.to_string(), GOOD),
        (task.state.to_string(), style),
        (worker, GOOD),
        (epoch, QUIET),
        (age(now_ms.saturating_sub(task.changed_ms)), GOOD),
        (task.reason.clone(), style),
    ]
}

/// A span in one number.
pub(crate) fn age(ms: u64) -> String {
    match ms / 1_000 {
        seconds @ 0..=119 => format!("{seconds}s"),
        seconds @ 120..=7_199 => format!("{}m", seconds / 60),
        seconds @ 7_200..=172_799 => format!("{}h", seconds / 3_600),
        seconds => format!("{}d", seconds / 86_400),
    }
}

/// All that is known of what is chosen.
fn details(model: &Model) -> String {
    let text = match model.pane {
        Pane::Workers => model.worker().map(|worker| {
            const GIB: f64 = 1024.0 * 1024.0 * 1024.0;
            let load = &worker.load;
            let mut text = format!(
                "{} {}: {:.1} of {:.1} GiB, {:.3} cores a room",
                worker.worker,
                worker.version,
                load.memory_used as f64 / GIB,
                load.memory as f64 / GIB,
                load.session_cost,
            );
            for (key, value) in &worker.labels {
                text += &format!(", {key}={value}");
            }
            for it in &worker.quarantined {
                let left = age(it.for_ms);
                text += &format!("; no {} for {left}: {}", it.adapter, it.reason);
            }
            text
        }),
        Pane::Tasks => model.tasks().get(model.chosen(Pane::Tasks)).map(|task| {
            let on = task.worker.as_ref().map(|worker| format!(" on {worker}")).unwrap_or_default();
            let reason = if task.reason.is_empty() { "" } else { ": " };
            let (task, room, sdk, state, epoch, why) =
                (&task.task, &task.room, &task.sdk, task.state, task.epoch, &task.reason);
            format!("{task} room {room} by {sdk} is {state}{on}, epoch {epoch}{reason}{why}")
        }),
    };
    crate::show::clean(&text.unwrap_or_default())
}

fn front(frame: &mut Frame<'_>, model: &Model, area: Rect) {
    let (title, text) = match &model.front {
        Front::Nothing | Front::Filter => return,
        Front::Help => (" any key goes back ", HELP.to_owned()),
        Front::Drain(worker) => {
            let rooms = model.picture.workers.iter().find(|it| it.worker == *worker);
            let rooms = rooms.map_or(0, |worker| worker.sessions);
            let text = format!(
                "Drain {worker}? It takes no more rooms and gives its {rooms} to other workers.\n\n\
                 y: drain it    any other key: leave it as it is"
            );
            (" drain ", text)
        }
        Front::Undrain(worker) => {
            let text = format!(
                "Have {worker} take rooms again?\n\ny: yes    any other key: leave it as it is"
            );
            (" undrain ", text)
        }
    };
    let width = area.width.min(76);
    let inner = usize::from(width.saturating_sub(2)).max(1);
    let lines: usize = text.lines().map(|line| line.chars().count().div_ceil(inner).max(1)).sum();
    let height = u16::try_from(lines + 2).unwrap_or(u16::MAX).min(area.height);
    let place = Rect {
        x: area.x + (area.width - width) / 2,
        y: area.y + (area.height - height) / 2,
        width,
        height,
    };
    frame.render_widget(Clear, place);
    let text =
        Paragraph::new(text).wrap(Wrap { trim: false }).block(Block::bordered().title(title));
    frame.render_widget(text, place);
}
