//! What dispatchers do: their shell, the store that answers them, their watches.

use std::time::Duration;

use audio_gateway::{
    dispatch::{
        io::{Input, Key, NoAnswer, Outcome, Output, Record, Shelf},
        lease::{LeaseInput, LeaseOutput},
    },
    limits,
    task::TaskState,
};

use super::{
    node::{Asked, Message, Node, Told, told},
    store::{Written, shelf_of},
    world::{CIRCLES, Event, MS, Op, Order, S, World},
};

fn micros(span: Duration) -> u64 {
    u64::try_from(span.as_micros()).unwrap()
}

impl World {
    /// A dispatcher begins its life.
    pub fn begin(&mut self, at: usize) {
        self.watch_anew(at);
        self.lease(at, LeaseInput::Tick);
        self.set_wake(at);
    }

    pub fn start_node(&mut self, at: usize) {
        if let Some(back) = self.weather.away_until {
            return self.at(back + MS, Event::StartNode { at });
        }
        let old = &self.nodes[at];
        let (name, life, skew) = (old.id.clone(), old.life + 1, old.skew_ms);
        self.tell(|| format!("{name} starts"));
        self.nodes[at] = Node::new(name.as_str(), life, self.start, self.now, skew);
        self.begin(at);
    }

    pub fn kill_node(&mut self, at: usize, back_after: u64) {
        let node = &mut self.nodes[at];
        if node.alive {
            node.alive = false;
            node.asked.clear();
            node.backlog.clear();
            self.checker.gone(self.now);
            self.after(back_after, Event::StartNode { at });
        }
    }

    pub fn hand_to(&mut self, at: usize, life: u32, message: Message) {
        let node = &mut self.nodes[at];
        if !node.alive || node.life != life {
            return;
        }
        if node.port.paused_until.is_some() {
            node.backlog.push(message);
            return;
        }
        if matches!(message, Message::Wake(wake) if wake != node.wake) {
            return;
        }
        self.inputs =
            if self.inputs.0 == self.now { (self.now, self.inputs.1 + 1) } else { (self.now, 0) };
        if self.inputs.1 > CIRCLES {
            let what = format!(
                "{message:?} runs in circles, {:?} {:?}",
                self.nodes[at].now(self.now),
                self.nodes[at].core
            );
            return self.checker.breaks(what);
        }
        self.take(at, message);
        self.set_wake(at);
    }

    fn take(&mut self, at: usize, message: Message) {
        let node = &mut self.nodes[at];
        match message {
            Message::Wake(_) => {
                self.lease(at, LeaseInput::Tick);
                self.core(at, Input::Tick);
            }
            Message::Answer(ask, message) => {
                if !node.port.is_cut() && node.asked.remove(&ask).is_some() {
                    self.take(at, *message);
                }
            }
            Message::TimedOut(ask) => {
                if let Some(asked) = node.asked.remove(&ask) {
                    self.take(at, asked.unanswered(NoAnswer::TimedOut));
                }
            }
            Message::Core(input) => {
                self.lease_first(at);
                self.core(at, input);
            }
            Message::Lease(input) => {
                self.lease_first(at);
                if input != LeaseInput::Unknown {
                    self.core(at, Input::Heard);
                }
                self.lease(at, input);
            }
        }
    }

    /// Whoever was paused stops leading before it does anything else.
    fn lease_first(&mut self, at: usize) {
        let node = &self.nodes[at];
        if node.lease.deadline().is_some_and(|due| due <= node.now(self.now).at) {
            self.lease(at, LeaseInput::Tick);
        }
    }

    fn set_wake(&mut self, at: usize) {
        let node = &mut self.nodes[at];
        node.wake += 1;
        if let Some(due) = node.deadline().filter(|_| node.alive) {
            let (life, message) = (node.life, Message::Wake(node.wake));
            let due = due.max(self.now);
            self.at(due, Event::Node { at, life, message });
        }
    }

    pub fn core(&mut self, at: usize, input: Input) {
        let node = &mut self.nodes[at];
        if !node.alive {
            return;
        }
        let (now, life) = (node.now(self.now), node.life);
        let told = self.tell.then(|| format!("{} <- {input:?}", node.id));
        let outputs = node.core.handle(input, now);
        if let Some(told) = told.filter(|told| !outputs.is_empty() || !told.contains("Heard")) {
            self.tell(|| told);
        }
        for output in outputs {
            let node = &self.nodes[at];
            if !node.alive || node.life != life {
                return;
            }
            if self.rng.u32(0..1_000) < self.weather.step_crash && self.rng.u8(0..8) == 0 {
                self.tell(|| "!! dies between two steps".into());
                let back = self.rng.u64(50..4_000) * MS;
                return self.kill_node(at, back);
            }
            if self.dies_here(at, &output) {
                self.tell(|| "!! dies between two steps".into());
                return self.kill_node(at, 5 * S);
            }
            let id = self.nodes[at].id.clone();
            self.tell(|| format!("{id} -> {output:?}"));
            self.apply(at, output);
        }
    }

    /// Whether the leader was to die before this step.
    fn dies_here(&mut self, at: usize, output: &Output) -> bool {
        let counts =
            matches!(output, Output::Put { .. } | Output::Assign { .. } | Output::Revoke { .. });
        let Some((from, steps)) = &mut self.weather.dies_after else { return false };
        if !counts || *from > self.now || !self.nodes[at].lease.leads() {
            return false;
        }
        if *steps > 0 {
            *steps -= 1;
            return false;
        }
        self.weather.dies_after = None;
        true
    }

    pub fn lease(&mut self, at: usize, input: LeaseInput) {
        let node = &mut self.nodes[at];
        if !node.alive {
            return;
        }
        let now = node.now(self.now);
        for output in node.lease.handle(input, now) {
            let node = &self.nodes[at];
            let id = node.id.clone();
            match output {
                LeaseOutput::Elected => {
                    let others = |other: &&Node| {
                        other.id != id && other.alive && other.port.paused_until.is_none()
                    };
                    if self.nodes.iter().filter(others).any(|other| other.lease.leads()) {
                        self.checker.breaks("two hold the lease".into());
                    }
                    self.tell(|| format!("{id} leads"));
                    self.core(at, Input::Elected);
                }
                LeaseOutput::Deposed if node.forced_until.is_some() => (),
                LeaseOutput::Deposed => {
                    self.tell(|| format!("{id} leads no more"));
                    self.core(at, Input::Deposed);
                }
                output => self.ask_store(at, Asked::Lease, 1_000 * MS, Op::Lease(output)),
            }
        }
    }

    fn apply(&mut self, at: usize, output: Output) {
        let patience = micros(limits::REQUEST_TIMEOUT);
        match output {
            Output::Put { record, expected } => {
                let asked = Asked::Store(record.key());
                self.ask_store(at, asked, patience, Op::Put(record, expected));
            }
            Output::Drop { key, expected } => {
                let asked = Asked::Store(key.clone());
                self.ask_store(at, asked, patience, Op::Delete(key, expected));
            }
            Output::Read(key) => {
                self.ask_store(at, Asked::Store(key.clone()), patience, Op::Read(key));
            }
            Output::Assign { worker, assign } => {
                let asked = Asked::Assign(worker.clone(), assign.clone());
                let within = micros(limits::ACCEPT_TIMEOUT);
                self.ask_worker(at, asked, within, &worker, Order::Assign(assign));
            }
            Output::Revoke { worker, revoke } => {
                let asked = Asked::Revoke(worker.clone(), revoke.clone());
                self.ask_worker(at, asked, patience, &worker, Order::Revoke(revoke));
            }
            Output::Update { worker, update } => {
                let within = micros(limits::ACCEPT_TIMEOUT);
                self.ask_worker(at, Asked::Update, within, &worker, Order::Update(update));
            }
            Output::Ping(worker) => {
                let asked = Asked::Ping(worker.clone());
                let within = micros(limits::PING_TIMEOUT);
                self.ask_worker(at, asked, within, &worker, Order::Ping);
            }
            Output::Event(event) => self.checker.event(&event),
            Output::Answer { call, answer } => self.answered(call, answer),
        }
    }

    /// Notes a request; returns its number.
    pub fn asks(&mut self, at: usize, asked: Asked, patience: u64) -> u64 {
        self.count += 1;
        let ask = self.count;
        let node = &mut self.nodes[at];
        node.asked.insert(ask, asked);
        let (life, message) = (node.life, Message::TimedOut(ask));
        self.after(patience, Event::Node { at, life, message });
        ask
    }

    fn ask_store(&mut self, at: usize, asked: Asked, patience: u64, op: Op) {
        let ask = self.asks(at, asked, patience);
        let life = self.nodes[at].life;
        let delay = self.weather.delay(&mut self.rng);
        let event = Event::Store { at, life, ask, op };
        match self.nodes[at].port.cut_until {
            // It stays in a buffer until the connection is there again, or not.
            Some(until) if self.rng.bool() => self.at(until + delay, event),
            Some(_) => (),
            None if self.weather.store_loses(&mut self.rng) => (),
            None => self.after(delay, event),
        }
    }

    /// A request reaches the store, whatever has become of who sent it.
    pub fn store_op(&mut self, at: usize, life: u32, ask: u64, op: Op) {
        if self.weather.away_until.is_some() {
            return;
        }
        let shelf = match &op {
            Op::Put(record, _) => Some(shelf_of(&record.key())),
            Op::Delete(key, _) | Op::Read(key) => Some(shelf_of(key)),
            Op::Lease(_) => None,
        };
        if shelf.is_some_and(|shelf| !self.weather.has(shelf, self.now)) {
            return;
        }
        let message = match op {
            Op::Put(record, expected) => {
                let key = record.key();
                let (outcome, written) = self.store.put(record, expected);
                self.wrote(written);
                Message::Core(Input::Finished { key, outcome })
            }
            Op::Delete(key, expected) => {
                let (outcome, written) = self.store.delete(&key, expected);
                self.wrote(written);
                Message::Core(Input::Finished { key, outcome })
            }
            Op::Read(key) => self.found(key),
            Op::Lease(op) => Message::Lease(self.lease_op(op)),
        };
        if !self.weather.store_loses(&mut self.rng) {
            let delay = self.weather.delay(&mut self.rng);
            let message = Message::Answer(ask, Box::new(message));
            self.after(delay, Event::Node { at, life, message });
        }
    }

    fn found(&self, key: Key) -> Message {
        let outcome = Outcome::Found(self.store.get(&key));
        Message::Core(Input::Finished { key, outcome })
    }

    fn lease_op(&mut self, op: LeaseOutput) -> LeaseInput {
        let now = self.now;
        let written = match op {
            LeaseOutput::Create(record) => self.store.write_lease(record, 0, now),
            LeaseOutput::Renew(record, revision) => self.store.write_lease(record, revision, now),
            LeaseOutput::Release(revision) => {
                if self.store.release_lease(revision, now) {
                    self.lease_gone();
                }
                None
            }
            _ => return LeaseInput::Seen(self.store.lease(now)),
        };
        match written {
            Some(revision) => {
                self.after(micros(limits::LEASE_TTL), Event::LeaseEnds { revision });
                LeaseInput::Written(revision)
            }
            None => LeaseInput::NotWritten,
        }
    }

    /// The watches tell that there is no lease.
    pub fn lease_gone(&mut self) {
        for at in 0..self.nodes.len() {
            if !self.nodes[at].port.is_cut() && self.weather.away_until.is_none() {
                let delay = self.weather.watch_delay(&mut self.rng);
                let (life, message) = (self.nodes[at].life, Message::Lease(LeaseInput::Seen(None)));
                self.after(delay, Event::Node { at, life, message });
            }
        }
    }

    fn wrote(&mut self, written: Option<Written>) {
        let Some(written) = written else { return };
        self.checker.wrote(&written, &self.store);
        self.taken_back(&written);
        for at in 0..self.nodes.len() {
            let node = &mut self.nodes[at];
            if node.alive && !node.unwatched.contains(&shelf_of(&written.key)) {
                node.watch.push_back(told(&written));
                let life = node.life;
                let delay = self.weather.watch_delay(&mut self.rng);
                self.after(delay, Event::Watch { at, life });
            }
        }
    }

    /// A task that ran was taken from its worker: was anything wrong with that?
    fn taken_back(&mut self, written: &Written) {
        let (Some(Record::Task(before)), Some(Record::Task(after))) =
            (&written.before, &written.after)
        else {
            return;
        };
        let ran =
            matches!(before.state, TaskState::Starting | TaskState::Running | TaskState::Draining);
        if !self.checker.strict || !ran || after.state != TaskState::Pending {
            return;
        }
        let Some(holder) = before.holder() else { return };
        let machine = self.machines.iter().find(|machine| machine.worker.id == holder.worker);
        let Some(machine) = machine else { return };
        let serves = machine.worker.reports().into_iter().any(|report| {
            report.task == before.task && report.epoch == holder.epoch && !report.state.is_ended()
        });
        if serves && machine.troubled_until < self.now {
            let (task, reason) = (&after.task, &after.reason);
            self.checker.breaks(format!("task {task} was taken from a sound worker: {reason}"));
        }
    }

    /// Both watches begin anew; one of a bucket that is gone waits for it.
    pub fn watch_anew(&mut self, at: usize) {
        for shelf in [Shelf::Tasks, Shelf::Rooms] {
            let waits = self.nodes[at].lost.contains(&shelf);
            if !waits || self.weather.has(shelf, self.now) {
                self.watch_shelf(at, shelf);
            }
        }
    }

    /// A watch begins anew, and looks first whether its bucket is the same.
    pub fn watch_shelf(&mut self, at: usize, shelf: Shelf) {
        let node = &mut self.nodes[at];
        let (before, life) = (node.lost.len(), node.life);
        node.lost.retain(|lost| *lost != shelf);
        let lost = node.lost.len() < before;
        self.hand_to(at, life, Message::Core(Input::Watching(shelf)));
        if lost {
            self.hand_to(at, life, Message::Core(Input::Wiped(shelf)));
        }
        let (all, node) = (self.store.all(), &mut self.nodes[at]);
        for _ in 0..node.watch_anew(shelf, &all) {
            let delay = self.weather.delay(&mut self.rng);
            self.after(delay, Event::Watch { at, life });
        }
    }

    /// A watch tells the next thing.
    pub fn watch(&mut self, at: usize, life: u32) {
        let node = &mut self.nodes[at];
        if !node.alive || node.life != life {
            return;
        }
        let blocks = [node.port.cut_until, node.port.paused_until, self.weather.away_until];
        if let Some(until) = blocks.into_iter().flatten().max() {
            let delay = self.weather.delay(&mut self.rng);
            return self.at(until.max(self.now) + delay, Event::Watch { at, life });
        }
        let input = match node.watch.pop_front() {
            Some(Told::Current(shelf)) => Input::Current(shelf),
            Some(Told::Change { key, revision, record }) => {
                Input::Changed { key, revision, record }
            }
            None => return,
        };
        self.hand_to(at, life, Message::Core(input));
    }
}
