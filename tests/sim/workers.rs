//! What workers do, and what reaches them.

use audio_gateway::{
    dispatch::io::{Input, NoAnswer},
    id::WorkerId,
};

use super::{
    node::{Asked, Message},
    world::{Event, Order, World},
};

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
            Order::Revoke(revoke) => {
                let current = self.store.task(&revoke.task).is_some_and(|record| {
                    !record.state.is_terminal()
                        && record.worker.as_ref() == Some(&id)
                        && record.epoch <= revoke.epoch
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
                machine.worker.claimed(room, record.epoch, self.now, &mut self.rng);
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
        machine.wake += 1;
        let wake = machine.wake;
        let due = machine.worker.deadline().max(self.now);
        self.at(due, Event::WorkerWakes { worker, wake });
    }
}
