//! A dispatcher's core on a stage: the buckets answer every write at once, so
//! that what is left to look at are questions to workers and answers. And short
//! words for what comes and goes.

use std::{
    collections::{BTreeMap, VecDeque},
    time::{Duration, Instant},
};

use super::super::{core::Core, io::*};
use crate::{
    bus::messages::*,
    id::{AdapterName, DispatcherId, RoomId, TaskId, WorkerId},
    task::{Epoch, RoomRecord, TaskRecord, TaskSpec, TaskState},
};

/// A dispatcher with buckets that answer at once.
pub(super) struct Stage {
    core: Core,
    start: Instant,
    store: BTreeMap<Key, (Record, u64)>,
    revision: u64,
    ms: u64,
    unix_ms: u64,
    hears: bool,
    /// Writes of rooms that the store has not answered yet, where it holds them.
    held: Option<VecDeque<Output>>,
    /// Whether writes are lost on their way.
    loses: bool,
}

impl Stage {
    pub(super) fn new() -> Self {
        let start = Instant::now();
        let now = Now { at: start, unix_ms: 0 };
        let core = Core::new(DispatcherId::parse("d1").unwrap(), now);
        let mut stage = Self {
            core,
            start,
            store: BTreeMap::new(),
            revision: 0,
            ms: 0,
            unix_ms: 0,
            hears: true,
            held: None,
            loses: false,
        };
        for shelf in [Shelf::Tasks, Shelf::Rooms] {
            stage.handle(Input::Watching(shelf), 0);
            stage.handle(Input::Current(shelf), 0);
        }
        stage
    }

    /// A leader that has been well for long.
    pub(super) fn leader() -> Self {
        let mut stage = Self::new();
        stage.handle(Input::Elected, 0);
        stage.run_to(5_000);
        stage
    }

    /// What goes out to workers and callers until a time in ms, when an input
    /// comes.
    pub(super) fn handle(&mut self, input: Input, ms: u64) -> Vec<Output> {
        let mut out = self.run_to(ms);
        out.extend(self.hand(input, ms));
        out
    }

    /// Hands in an input after a pause.
    pub(super) fn hand(&mut self, input: Input, ms: u64) -> Vec<Output> {
        // Epochs count from the clock; a clock at 0 keeps them small.
        let now = Now { at: self.start + Duration::from_millis(ms), unix_ms: self.unix_ms };
        self.ms = self.ms.max(ms);
        match input {
            Input::BusUp => self.hears = true,
            Input::BusDown => self.hears = false,
            _ => (),
        }
        let mut out = Vec::new();
        let mut todo = self.core.handle(input, now);
        while !todo.is_empty() {
            let mut next = Vec::new();
            for output in todo {
                if let (Some(held), Output::Put { record: Record::Room(_), .. }) =
                    (&mut self.held, &output)
                {
                    held.push_back(output);
                    continue;
                }
                match self.answer(&output) {
                    Some(input) => next.extend(self.core.handle(input, now)),
                    None => out.push(output),
                }
            }
            todo = next;
        }
        out.retain(|output| !matches!(output, Output::Event(_)));
        out
    }

    /// Whether writes are lost on their way from now on.
    pub(super) fn lose_writes(&mut self, loses: bool) {
        self.loses = loses;
    }

    /// From now on the store answers writes of rooms when it is told to.
    pub(super) fn hold_rooms(&mut self) {
        self.held = Some(VecDeque::new());
    }

    /// Writes of rooms that wait for their answer.
    pub(super) fn held(&self) -> usize {
        self.held.as_ref().map_or(0, VecDeque::len)
    }

    /// The store answers the first of them.
    pub(super) fn let_go(&mut self, count: usize, ms: u64) {
        for _ in 0..count {
            let write = self.held.as_mut().and_then(VecDeque::pop_front).unwrap();
            let answer = self.answer(&write).unwrap();
            self.handle(answer, ms);
        }
    }

    /// Entries of what is to be told of writes.
    pub(super) fn untold(&self) -> usize {
        self.core.events.len()
    }

    fn answer(&mut self, output: &Output) -> Option<Input> {
        let found = |key: &Key| self.store.get(key).map_or(0, |(_, revision)| *revision);
        let (key, outcome) = match output {
            Output::Put { record, .. } if self.loses => (record.key(), Outcome::Unknown),
            Output::Put { record, expected } => {
                let key = record.key();
                if found(&key) == *expected {
                    self.revision += 1;
                    self.store.insert(key.clone(), (record.clone(), self.revision));
                    (key, Outcome::Written(self.revision))
                } else {
                    (key, Outcome::Conflict)
                }
            }
            Output::Drop { key, expected } if found(key) == *expected => {
                self.store.remove(key);
                (key.clone(), Outcome::Dropped)
            }
            Output::Drop { key, .. } => (key.clone(), Outcome::Conflict),
            Output::Read(key) => (key.clone(), Outcome::Found(self.store.get(key).cloned())),
            _ => return None,
        };
        Some(Input::Finished { key, outcome })
    }

    /// Lets time pass until `ms`. While the connection is there, the answers
    /// about the lease come twice a second.
    pub(super) fn run_to(&mut self, ms: u64) -> Vec<Output> {
        let mut out = Vec::new();
        loop {
            let due = self.core.deadline().map_or(u64::MAX, |at| {
                let due = at.saturating_duration_since(self.start);
                assert!(due.subsec_nanos().is_multiple_of(1_000_000), "no rounding");
                u64::try_from(due.as_millis()).unwrap()
            });
            let heard = (self.ms / 500 + 1) * 500;
            if due.min(heard) > ms {
                self.ms = self.ms.max(ms);
                return out;
            }
            let input = if heard <= due && self.hears { Input::Heard } else { Input::Tick };
            out.extend(self.hand(input, due.min(heard)));
        }
    }

    /// The clock on the wall shows this from now on.
    pub(super) fn set_clock(&mut self, unix_ms: u64) {
        self.unix_ms = unix_ms;
    }

    /// Tasks looked at for a place since the beginning.
    pub(super) fn looks(&self) -> u64 {
        self.core.looks()
    }

    /// Writes that the buckets took since the beginning.
    pub(super) fn written(&self) -> u64 {
        self.revision
    }

    pub(super) fn task(&self, task: &str) -> TaskRecord {
        match &self.store[&Key::Task(id(task))].0 {
            Record::Task(record) => TaskRecord::clone(record),
            Record::Room(_) => panic!("a task's key holds a room"),
        }
    }

    pub(super) fn room(&self, room: &str) -> RoomRecord {
        match &self.store[&Key::Room(RoomId::parse(room).unwrap())].0 {
            Record::Room(record) => RoomRecord::clone(record),
            Record::Task(_) => panic!("a room's key holds a task"),
        }
    }

    pub(super) fn state(&self, task: &str) -> (TaskState, Epoch) {
        let record = self.task(task);
        (record.state, record.epoch)
    }

    /// Somebody else writes.
    pub(super) fn write(&mut self, record: Record, ms: u64) -> Vec<Output> {
        self.revision += 1;
        let (key, revision) = (record.key(), self.revision);
        self.store.insert(key.clone(), (record.clone(), revision));
        self.handle(Input::Changed { key, revision, record: Some(record) }, ms)
    }

    /// Somebody else writes, and the watch does not tell of it yet.
    pub(super) fn write_unseen(&mut self, record: Record) {
        self.revision += 1;
        self.store.insert(record.key(), (record, self.revision));
    }

    /// `t1` in room `42` runs at `w1` under epoch 1.
    pub(super) fn serving() -> Self {
        let mut stage = Self::leader();
        stage.handle(alive("w1", 0, &[]), 5_000);
        stage.handle(submit("t1", "42"), 5_001);
        stage.handle(accepted("w1", "t1", 1), 5_002);
        stage.handle(alive("w1", 1, &[("t1", 1, SessionState::Running)]), 5_010);
        assert_eq!(stage.state("t1"), (TaskState::Running, Epoch(1)));
        stage
    }
}

pub(super) fn id(task: &str) -> TaskId {
    TaskId::parse(task).unwrap()
}

pub(super) fn worker(worker: &str) -> WorkerId {
    WorkerId::parse(worker).unwrap()
}

pub(super) fn spec(task: &str, room: &str) -> TaskSpec {
    let json = format!(r#"{{"id":"{task}","room":"{room}","sdk":"sim"}}"#);
    TaskSpec::from_json(json.as_bytes()).unwrap()
}

pub(super) fn submit(task: &str, room: &str) -> Input {
    Input::Call { call: CallId(1), request: Request::Submit(Box::new(spec(task, room))) }
}

pub(super) fn cancel(task: &str) -> Input {
    let request = Request::Cancel(Cancel { task: id(task), reason: "enough".into() });
    Input::Call { call: CallId(2), request }
}

pub(super) fn beat(name: &str, seq: u64, sessions: &[(&str, u64, SessionState)]) -> Heartbeat {
    let report = |(task, epoch, state): &(&str, u64, SessionState)| SessionReport {
        task: id(task),
        room: RoomId::parse("42").unwrap(),
        epoch: Epoch(*epoch),
        state: *state,
        heard: false,
        reason: String::new(),
        fault: Fault::Task,
        revision: 0,
    };
    Heartbeat {
        worker: worker(name),
        boot: "b1".into(),
        seq,
        phase: WorkerPhase::Running,
        version: "1".into(),
        load: Load { cores: 4.0, sessions_max: 100, session_cost: 0.01, ..Load::default() },
        adapters: vec![AdapterName::parse("sim").unwrap()],
        labels: BTreeMap::new(),
        sessions: sessions.iter().map(report).collect(),
        time_ms: 0,
    }
}

pub(super) fn alive(name: &str, seq: u64, sessions: &[(&str, u64, SessionState)]) -> Input {
    Input::Heartbeat(Box::new(beat(name, seq, sessions)))
}

pub(super) fn order(task: &str, room: &str, epoch: u64) -> Box<Assign> {
    let spec = spec(task, room);
    Box::new(Assign {
        task: id(task),
        epoch: Epoch(epoch),
        pull: spec.pull_or_default(),
        room: spec.room,
        sdk: spec.sdk,
        params: spec.params,
        push: None,
        origin_us: 0,
        from: None,
        revision: 0,
    })
}

pub(super) fn assign(to: &str, task: &str, room: &str, epoch: u64) -> Output {
    Output::Assign { worker: worker(to), assign: order(task, room, epoch) }
}

pub(super) fn said(by: &str, task: &str, epoch: u64, answer: Result<Verdict, NoAnswer>) -> Input {
    Input::Assigned { worker: worker(by), assign: order(task, "42", epoch), answer }
}

pub(super) fn accepted(by: &str, task: &str, epoch: u64) -> Input {
    let verdict = Verdict { accepted: true, reason: String::new(), fatal: false };
    said(by, task, epoch, Ok(verdict))
}

pub(super) fn refused(by: &str, task: &str, epoch: u64, fatal: bool) -> Input {
    said(by, task, epoch, Ok(Verdict { accepted: false, reason: "no".into(), fatal }))
}

pub(super) fn revoke(from: &str, task: &str, epoch: u64, reason: &str) -> Output {
    let revoke = Revoke { task: id(task), epoch: Epoch(epoch), reason: reason.into() };
    Output::Revoke { worker: worker(from), revoke }
}

pub(super) fn submitted(task: &str, state: TaskState, epoch: u64, duplicate: bool) -> Output {
    let answer = Submitted { task: id(task), state, epoch: Epoch(epoch), duplicate };
    Output::Answer { call: CallId(1), answer: Ok(Answer::Submitted(answer)) }
}

pub(super) fn refusal(out: &[Output]) -> &Refusal {
    match out {
        [Output::Answer { answer: Err(refusal), .. }] => refusal,
        other => panic!("no refusal: {other:?}"),
    }
}

/// What room `42` says where it is claimed for a task.
pub(super) fn claim(task: &str, by: &str, epoch: u64) -> RoomRecord {
    RoomRecord {
        room: RoomId::parse("42").unwrap(),
        task: Some(id(task)),
        worker: Some(worker(by)),
        from: None,
        epoch: Epoch(epoch),
        origin_us: 0,
        fixed_crc: spec(task, "42").fixed_crc(),
    }
}

/// A task of room `42` that is with a worker.
pub(super) fn given(task: &str, state: TaskState, by: &str, epoch: u64) -> TaskRecord {
    TaskRecord { state, epoch: Epoch(epoch), worker: Some(worker(by)), ..pending(task) }
}

pub(super) fn pending(task: &str) -> TaskRecord {
    TaskRecord {
        task: id(task),
        spec: spec(task, "42"),
        state: TaskState::Pending,
        epoch: Epoch(0),
        worker: None,
        from: None,
        reason: String::new(),
        created_ms: 0,
        changed_ms: 0,
        pending_ms: 0,
        started_ms: None,
        cancel: false,
        revision: 0,
        submitted: None,
    }
}
