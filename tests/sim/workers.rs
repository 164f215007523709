//! What workers do, and what reaches them.

use audio_gateway::{
    dispatch::io::{Input, NoAnswer},
    id::WorkerId,
    task::{Handover, TaskState},
};

use super::{
    node::{Asked, Message},
    world::{Event, MS, Machine, Order, World},
};

/// How often a worker looks whether it may play.
const HOLD_LOOK: u64 = 100 * MS;

impl World {
    pub fn ask_worker(
        &mut self,
        at: usize,
        asked: Asked,
        patience: u64,
        worker: &WorkerId,
        order: Order,
    ) {
        let ask = self.asks(at, asked, patience);
        let found = self.machines.iter().position(|machine| machine.worker.id == *worker);
        let Some(worker) = found else { return };
        let lost = self.nodes[at].port.is_cut() || self.weather.loses(&mut self.rng);
        if !lost {
            let (life, delay) = (self.nodes[at].life, self.weather.delay(&mut self.rng));
            self.after(delay, Event::Order { worker, at, life, ask, order });
        }
    }

    /// A request reaches the server, and the worker where it is there.
    pub fn order(&mut self, worker: usize, at: usize, life: u32, ask: u64, order: Order) {
        if self.weather.away_until.is_some() {
            return;
        }
        let machine = &mut self.machines[worker];
        let id = machine.worker.id.clone();
        if !machine.alive || machine.port.noticed {
            if let Some(asked) = self.nodes[at].asked.get(&ask).cloned() {
                self.reply(at, life, ask, asked.unanswered(NoAnswer::NoResponder));
            }
            return;
        }
        if machine.port.is_cut() {
            return;
        }
        if machine.port.paused_until.is_some() {
            machine.backlog.push(Event::Order { worker, at, life, ask, order });
            return;
        }
        let input = match order {
            Order::Ping => {
                let beat = machine.worker.beat(self.now);
                Input::Ponged { worker: id, answer: Ok(Box::new(beat)) }
            }
            Order::Assign(assign) => {
                let verdict = machine.worker.assign(&assign, self.now, &mut self.rng);
                Input::Assigned { worker: id, assign, answer: Ok(verdict) }
            }
            Order::Update(update) => {
                machine.worker.update(*update, self.now, &mut self.rng);
                Input::Tick
            }
            Order::Revoke(revoke) => {
                let current = self.store.task(&revoke.task).is_some_and(|record| {
                    let serves = |it: Handover| it.worker == id && it.epoch <= revoke.epoch;
                    let last = record.worker.clone();
                    let last = last.map(|worker| Handover { worker, epoch: record.epoch });
                    let mut holders = last.into_iter().chain(record.from.clone());
                    !record.state.is_terminal() && holders.any(serves)
                });
                if self.checker.strict && current {
                    let task = &revoke.task;
                    self.checker.breaks(format!("task {task}: revoked at {id}, who has it"));
                }
                let machine = &mut self.machines[worker];
                machine.worker.revoke(&revoke, self.now, &mut self.rng);
                Input::Revoked { worker: id, task: revoke.task }
            }
        };
        self.collect(worker);
        self.reply(at, life, ask, Message::Core(input));
    }

    fn reply(&mut self, at: usize, life: u32, ask: u64, message: Message) {
        if !self.weather.loses(&mut self.rng) {
            let delay = self.weather.delay(&mut self.rng);
            let message = Message::Answer(ask, Box::new(message));
            self.after(delay, Event::Node { at, life, message });
        }
    }

    /// A worker that has the server again looks whose its rooms are.
    pub fn looks_at_claims(&mut self, worker: usize) {
        let machine = &mut self.machines[worker];
        if !machine.alive || machine.port.paused_until.is_some() {
            return;
        }
        for room in machine.worker.rooms() {
            if let Some(record) = self.store.room(&room) {
                machine.worker.claimed(record.clone(), self.now, &mut self.rng);
            }
        }
        self.collect(worker);
    }

    pub fn worker_wakes(&mut self, worker: usize) {
        let machine = &mut self.machines[worker];
        if machine.alive && machine.port.paused_until.is_none() {
            machine.worker.run(self.now, &mut self.rng);
            self.collect(worker);
        }
    }

    /// Takes what a worker has to say, and has it woken when it is due again.
    pub fn collect(&mut self, worker: usize) {
        let machine = &mut self.machines[worker];
        let id = machine.worker.id.clone();
        for (room, epoch) in std::mem::take(&mut machine.worker.opened) {
            self.checker.started(room, epoch, &id, machine.life, self.now);
        }
        self.watch_rooms(worker);
        let machine = &mut self.machines[worker];
        if machine.alive && machine.worker.is_done() {
            // Its last words are out already, or never will be.
            self.after(50 * MS, Event::Ends { worker });
        }
        let machine = &mut self.machines[worker];
        let silent = machine.port.is_cut();
        for beat in std::mem::take(&mut machine.worker.beats) {
            for at in 0..self.nodes.len() {
                if self.nodes[at].alive && !silent && !self.weather.loses(&mut self.rng) {
                    let (life, delay) = (self.nodes[at].life, self.weather.delay(&mut self.rng));
                    self.after(delay, Event::Beat { at, life, beat: Box::new(beat.clone()) });
                }
            }
        }
        let machine = &mut self.machines[worker];
        if machine.alive && !machine.looks && !machine.worker.held().is_empty() {
            machine.looks = true;
            self.after(HOLD_LOOK, Event::LooksAtHeld { worker });
        }
        let machine = &mut self.machines[worker];
        machine.wake += 1;
        let wake = machine.wake;
        let due = machine.worker.deadline().max(self.now);
        self.at(due, Event::WorkerWakes { worker, wake });
    }

    /// A worker that holds what it is to play looks whether it may.
    pub fn looks_at_held(&mut self, worker: usize) {
        let machine = &mut self.machines[worker];
        machine.looks = false;
        let reaches = !machine.port.is_cut() && self.weather.away_until.is_none();
        if !machine.alive {
            return;
        }
        for room in machine.worker.held() {
            if let Some(record) = self.store.room(&room).filter(|_| reaches) {
                machine.worker.claimed(record.clone(), self.now, &mut self.rng);
            }
        }
        self.collect(worker);
    }

    /// What a worker does that is asked to go.
    pub fn retire(&mut self, worker: usize, patience: u64) {
        let machine = &mut self.machines[worker];
        if machine.alive && machine.port.paused_until.is_none() && !machine.worker.retired {
            let life = machine.life;
            machine.worker.retire(self.now, &mut self.rng);
            self.after(patience, Event::Leaves { worker, life });
            self.collect(worker);
        }
    }

    /// Notes which sessions have begun and ended.
    fn watch_rooms(&mut self, worker: usize) {
        let machine = &mut self.machines[worker];
        let (id, now) = (machine.worker.id.clone(), machine.worker.running());
        let before = std::mem::replace(&mut machine.serves, now.clone());
        let ended: Vec<_> =
            machine.worker.reports().into_iter().map(|it| (it.room, it.epoch)).collect();
        for report in machine.worker.reports().iter().filter(|report| report.heard) {
            self.checker.heard(&report.room, report.epoch);
        }
        let sound = machine.troubled_until < self.now && !machine.worker.gave_up;
        for ((room, epoch), (task, _)) in before {
            // One that ended by itself is told of still.
            if now.contains_key(&(room.clone(), epoch)) || ended.contains(&(room.clone(), epoch)) {
                continue;
            }
            self.checker.left.push(self.now);
            let Some(record) = self.store.task(&task) else { continue };
            let by = |machine: &&Machine| Some(&machine.worker.id) == record.worker.as_ref();
            let next = self.machines.iter().find(by);
            let next_sound = next.is_some_and(|it| it.alive && it.troubled_until < self.now);
            let served = self.machines.iter().any(|machine| {
                machine.alive && machine.serves.keys().any(|(other, _)| *other == room)
            });
            // What was taken back from a worker is another matter.
            let kept = matches!(record.state, TaskState::Running | TaskState::Draining);
            if self.checker.strict && sound && next_sound && !served && kept {
                let state = record.state;
                self.checker
                    .breaks(format!("room {room}, {state}: left by {id}, with nobody in it"));
            }
        }
        let plays = |machine: &&Machine| {
            machine.alive
                && machine.troubled_until < self.now
                && machine.port.paused_until.is_none()
        };
        for (room, _) in now.iter().filter(|(_, (_, plays))| *plays).map(|(key, _)| key) {
            let players = (self.machines.iter().filter(plays))
                .filter(|it| it.serves.iter().any(|((at, _), (_, plays))| at == room && *plays));
            if self.checker.strict && players.count() > 1 {
                self.checker.breaks(format!("room {room}: two play what is pushed"));
            }
        }
    }
}
