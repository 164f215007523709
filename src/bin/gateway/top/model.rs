//! What `gateway top` knows and what keys do to it: plain values, no terminal.

use audio_gateway::{
    bus::messages::{Leader, TaskView, WorkerPhase, WorkerView},
    id::WorkerId,
    task::TaskState,
};

/// What was last heard of the whole.
#[derive(Debug, Clone, Default)]
pub(crate) struct Picture {
    pub(crate) workers: Vec<WorkerView>,
    pub(crate) tasks: Vec<TaskView>,
    /// Whether there are more tasks than were told.
    pub(crate) truncated: bool,
    pub(crate) leader: Option<Leader>,
    pub(crate) rates: Rates,
    /// How long tasks wait to be placed: the half, and 99 of 100.
    pub(crate) place_ms: Option<(u64, u64)>,
}

/// A second's worth of what happens; none where it is not known.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Rates {
    pub(crate) events: Option<f64>,
    pub(crate) submits: Option<f64>,
    pub(crate) batches: Option<f64>,
    pub(crate) refusals: Option<f64>,
}

/// The half of the screen that keys act upon.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Pane {
    #[default]
    Workers,
    Tasks,
}

/// What is in front of both halves.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) enum Front {
    #[default]
    Nothing,
    Help,
    /// The filter is being typed.
    Filter,
    /// A worker is to be drained, if the operator means it.
    Drain(WorkerId),
    /// It is to take rooms again.
    Undrain(WorkerId),
}

/// A key, as far as it matters here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Key {
    Char(char),
    Up,
    Down,
    PageUp,
    PageDown,
    Home,
    End,
    Tab,
    Enter,
    Esc,
    Backspace,
    Interrupt,
}

/// What a key asks of the world.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Wish {
    Quit,
    Drain(WorkerId),
    Undrain(WorkerId),
}

/// Orders that `s` goes through, by pane.
const WORKER_ORDERS: [&str; 3] = ["name", "rooms", "cpu"];
const TASK_ORDERS: [&str; 4] = ["trouble", "age", "room", "worker"];
/// Rows that a page key goes.
const PAGE: usize = 10;
/// Characters of a filter.
const FILTER_MAX: usize = 64;

/// See the module.
#[derive(Debug, Clone, Default)]
pub(crate) struct Model {
    pub(crate) server: String,
    pub(crate) picture: Picture,
    pub(crate) now_ms: u64,
    /// Why the picture is old, and since when.
    pub(crate) fault: Option<(String, u64)>,
    pub(crate) pane: Pane,
    pub(crate) front: Front,
    pub(crate) filter: String,
    /// What was last done, or not.
    pub(crate) notice: String,
    worker_order: usize,
    task_order: usize,
    /// By name, so that it stays where rows come and go.
    worker: Option<String>,
    task: Option<String>,
}

impl Model {
    pub(crate) fn new(server: &str) -> Self {
        Self { server: server.to_owned(), ..Self::default() }
    }

    pub(crate) fn heard(&mut self, picture: Picture) {
        self.picture = picture;
        self.fault = None;
    }

    pub(crate) fn failed(&mut self, why: String) {
        let since = self.fault.as_ref().map_or(self.now_ms, |(_, since)| *since);
        self.fault = Some((why, since));
    }

    pub(crate) fn order(&self, pane: Pane) -> &'static str {
        match pane {
            Pane::Workers => WORKER_ORDERS[self.worker_order],
            Pane::Tasks => TASK_ORDERS[self.task_order],
        }
    }

    /// The workers that pass the filter, in order.
    pub(crate) fn workers(&self) -> Vec<&WorkerView> {
        let mut rows: Vec<_> =
            self.picture.workers.iter().filter(|worker| self.shows_worker(worker)).collect();
        match self.order(Pane::Workers) {
            "rooms" => rows.sort_by_key(|worker| std::cmp::Reverse(worker.sessions)),
            "cpu" => rows.sort_by(|a, b| share(b).total_cmp(&share(a))),
            _ => rows.sort_by(|a, b| a.worker.cmp(&b.worker)),
        }
        rows
    }

    /// The tasks that pass the filter, in order.
    pub(crate) fn tasks(&self) -> Vec<&TaskView> {
        let mut rows: Vec<_> =
            self.picture.tasks.iter().filter(|task| self.shows_task(task)).collect();
        match self.order(Pane::Tasks) {
            "age" => rows.sort_by_key(|task| task.changed_ms),
            "room" => rows.sort_by(|a, b| a.room.cmp(&b.room)),
            "worker" => rows.sort_by(|a, b| (&a.worker, &a.room).cmp(&(&b.worker, &b.room))),
            _ => rows.sort_by_key(|task| (rank(task.state), std::cmp::Reverse(task.changed_ms))),
        }
        rows
    }

    fn shows_worker(&self, worker: &WorkerView) -> bool {
        let adapters = worker.adapters.iter().map(ToString::to_string);
        let labels = worker.labels.iter().map(|(key, value)| format!("{key}={value}"));
        let words = [worker.worker.to_string(), phase(worker.phase).to_owned()];
        self.matches(words.into_iter().chain(adapters).chain(labels))
    }

    fn shows_task(&self, task: &TaskView) -> bool {
        self.matches(
            [
                task.task.to_string(),
                task.room.to_string(),
                task.state.to_string(),
                task.sdk.to_string(),
                task.worker.as_ref().map(ToString::to_string).unwrap_or_default(),
                task.reason.clone(),
            ]
            .into_iter(),
        )
    }

    fn matches(&self, mut words: impl Iterator<Item = String>) -> bool {
        let wanted = self.filter.to_lowercase();
        wanted.is_empty() || words.any(|word| word.to_lowercase().contains(&wanted))
    }

    /// Which row of a pane is chosen: the first where it is gone.
    pub(crate) fn chosen(&self, pane: Pane) -> usize {
        let (names, chosen) = (self.names(pane), self.choice(pane));
        chosen.and_then(|chosen| names.iter().position(|name| name == chosen)).unwrap_or(0)
    }

    fn choice(&self, pane: Pane) -> Option<&String> {
        match pane {
            Pane::Workers => self.worker.as_ref(),
            Pane::Tasks => self.task.as_ref(),
        }
    }

    fn names(&self, pane: Pane) -> Vec<String> {
        match pane {
            Pane::Workers => self.workers().iter().map(|row| row.worker.to_string()).collect(),
            Pane::Tasks => self.tasks().iter().map(|row| row.task.to_string()).collect(),
        }
    }

    /// The worker that is chosen.
    pub(crate) fn worker(&self) -> Option<&WorkerView> {
        self.workers().get(self.chosen(Pane::Workers)).copied()
    }

    fn go(&mut self, to: impl FnOnce(usize, usize) -> usize) {
        let names = self.names(self.pane);
        let last = names.len().saturating_sub(1);
        let at = to(self.chosen(self.pane), last).min(last);
        let chosen = names.get(at).cloned();
        match self.pane {
            Pane::Workers => self.worker = chosen,
            Pane::Tasks => self.task = chosen,
        }
    }

    /// Does what a key means.
    pub(crate) fn press(&mut self, key: Key) -> Option<Wish> {
        if key == Key::Interrupt {
            return Some(Wish::Quit);
        }
        self.notice.clear();
        match std::mem::take(&mut self.front) {
            Front::Nothing => return self.command(key),
            Front::Help => (),
            Front::Filter => self.type_filter(key),
            Front::Drain(worker) if key == Key::Char('y') => return Some(Wish::Drain(worker)),
            Front::Undrain(worker) if key == Key::Char('y') => return Some(Wish::Undrain(worker)),
            Front::Drain(_) | Front::Undrain(_) => "nothing was done".clone_into(&mut self.notice),
        }
        None
    }

    fn type_filter(&mut self, key: Key) {
        match key {
            Key::Enter => return,
            Key::Esc => return self.filter.clear(),
            Key::Backspace => {
                self.filter.pop();
            }
            Key::Char(letter) if self.filter.len() < FILTER_MAX => self.filter.push(letter),
            _ => (),
        }
        self.front = Front::Filter;
    }

    fn command(&mut self, key: Key) -> Option<Wish> {
        match key {
            Key::Char('q') => return Some(Wish::Quit),
            Key::Char('?' | 'h') => self.front = Front::Help,
            Key::Char('/') => self.front = Front::Filter,
            Key::Esc => self.filter.clear(),
            Key::Tab => {
                self.pane = match self.pane {
                    Pane::Workers => Pane::Tasks,
                    Pane::Tasks => Pane::Workers,
                }
            }
            Key::Up | Key::Char('k') => self.go(|at, _| at.saturating_sub(1)),
            Key::Down | Key::Char('j') => self.go(|at, _| at + 1),
            Key::PageUp => self.go(|at, _| at.saturating_sub(PAGE)),
            Key::PageDown => self.go(|at, _| at + PAGE),
            Key::Home | Key::Char('g') => self.go(|_, _| 0),
            Key::End | Key::Char('G') => self.go(|_, last| last),
            Key::Char('s') => match self.pane {
                Pane::Workers => self.worker_order = (self.worker_order + 1) % WORKER_ORDERS.len(),
                Pane::Tasks => self.task_order = (self.task_order + 1) % TASK_ORDERS.len(),
            },
            Key::Char(order @ ('d' | 'u')) => self.ask(order == 'd'),
            _ => (),
        }
        None
    }

    fn ask(&mut self, drain: bool) {
        let leaving = |worker: &WorkerView| worker.phase == WorkerPhase::LameDuck;
        let chosen = self.worker().map(|worker| (worker.worker.clone(), leaving(worker)));
        self.notice = match chosen {
            _ if self.pane != Pane::Workers => "choose a worker first: Tab goes there".to_owned(),
            None => "there is no worker".to_owned(),
            Some((worker, true)) if drain => format!("{worker} drains already"),
            Some((worker, false)) if !drain => format!("{worker} takes rooms as it is"),
            Some((worker, _)) => {
                self.front = if drain { Front::Drain(worker) } else { Front::Undrain(worker) };
                return;
            }
        };
    }
}

/// A phase in words.
pub(crate) fn phase(phase: WorkerPhase) -> &'static str {
    match phase {
        WorkerPhase::Running => "running",
        WorkerPhase::LameDuck => "draining",
        WorkerPhase::Other => "other",
    }
}

/// The share of its cores that a worker uses.
pub(crate) fn share(worker: &WorkerView) -> f64 {
    let load = &worker.load;
    if load.cores > 0.0 { load.cores_used / load.cores } else { 0.0 }
}

/// What an operator looks at first has the lowest rank.
fn rank(state: TaskState) -> u8 {
    match state {
        TaskState::Failed | TaskState::Expired => 0,
        TaskState::Pending => 1,
        TaskState::Draining => 2,
        TaskState::Assigned | TaskState::Starting => 3,
        TaskState::Running => 4,
        TaskState::Done | TaskState::Cancelled | TaskState::Other => 5,
    }
}
