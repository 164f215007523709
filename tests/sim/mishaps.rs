//! What faults do.

use audio_gateway::dispatch::{
    io::{Input, Shelf},
    lease::LeaseInput,
};

use super::{
    client::{self, Call},
    faults::Fault,
    node::{Message, Node},
    world::{Event, MS, World},
};

impl World {
    pub fn fault(&mut self, fault: Fault) {
        let now = self.now;
        if let Fault::KillWorker(worker, span)
        | Fault::PauseWorker(worker, span)
        | Fault::CutWorker(worker, span) = fault
        {
            // A while longer, until what was decided in that time is written.
            let until = &mut self.machines[worker].troubled_until;
            *until = (*until).max(now + span + 8_000 * MS);
        }
        self.write_late(fault);
        match fault {
            Fault::KillLeader(span)
            | Fault::PauseLeader(span)
            | Fault::CutLeader(span)
            | Fault::StopLeader(span) => {
                let Some(at) = self.nodes.iter().position(|node| node.lease.leads()) else {
                    return;
                };
                self.fault(match fault {
                    Fault::KillLeader(_) => Fault::KillDispatcher(at, span),
                    Fault::PauseLeader(_) => Fault::PauseDispatcher(at, span),
                    Fault::CutLeader(_) => Fault::CutDispatcher(at, span),
                    _ => Fault::StopDispatcher(at, span),
                });
            }
            Fault::KillDispatcher(at, span) => self.kill_node(at, span),
            Fault::PauseDispatcher(at, span) => {
                self.checker.gone(now);
                self.nodes[at].port.paused_until = Some(now + span);
                self.after(span, Event::ResumeNode { at });
            }
            Fault::CutDispatcher(at, span) => {
                self.checker.gone(now);
                let cut = now + span;
                self.nodes[at].port.cut_until = Some(cut);
                let notice = self.rng.u64(0..4_000) * MS;
                self.after(notice, Event::NoticeNode { at, cut });
                self.after(span, Event::HealNode { at });
            }
            Fault::StopDispatcher(at, span) => {
                self.lease(at, LeaseInput::Resign);
                self.after(200 * MS, Event::Fault(Fault::KillDispatcher(at, span)));
            }
            Fault::StepDown => {
                if let Some(at) = self.nodes.iter().position(|node| node.lease.leads()) {
                    self.lease(at, LeaseInput::StepDown);
                }
            }
            Fault::DeleteBucket(shelf, span) => self.lose_bucket(shelf, Some(span)),
            Fault::EmptyBucket(shelf) => self.lose_bucket(shelf, None),
            Fault::ForceLeader(at, span) => {
                let node = &mut self.nodes[at];
                node.forced_until = Some(now + span);
                if !node.lease.leads() {
                    let life = node.life;
                    self.hand_to(at, life, Message::Core(Input::Elected));
                }
                self.after(span, Event::EndForce { at });
            }
            Fault::StepClock(at, step) => self.nodes[at].skew_ms += step,
            Fault::BreakWatch(at) => self.watch_anew(at),
            Fault::KillWorker(worker, span) => {
                self.machines[worker].alive = false;
                self.machines[worker].serves.clear();
                self.machines[worker].backlog.clear();
                self.after(span, Event::StartWorker { worker });
            }
            Fault::PauseWorker(worker, span) => {
                self.machines[worker].port.paused_until = Some(now + span);
                self.after(span, Event::ResumeWorker { worker });
            }
            Fault::CutWorker(worker, span) => {
                let cut = now + span;
                self.machines[worker].port.cut_until = Some(cut);
                let notice = self.rng.u64(0..4_000) * MS;
                self.after(notice, Event::NoticeWorker { worker, cut });
                self.after(span, Event::HealWorker { worker });
            }
            Fault::SpoilWorker(worker, span) => {
                let how = self.rng.u8(0..3);
                self.machines[worker].worker.spoil(now + span, how);
            }
            Fault::Burst(tasks) => {
                for number in 0..tasks {
                    let request = client::passer_by(now, number, &mut self.rng);
                    let delay = self.rng.u64(0..500) * MS;
                    self.after(delay, Event::Call(Call { request, tries: 0 }));
                }
            }
            Fault::DrainWorker(worker, span) => {
                let machine = &mut self.machines[worker];
                if machine.alive && machine.port.paused_until.is_none() {
                    machine.worker.drain(false, now, &mut self.rng);
                    self.collect(worker);
                    self.after(span, Event::Undrain { worker });
                }
            }
            Fault::RetireWorker(worker, patience, span) => {
                self.machines[worker].away = span;
                self.retire(worker, patience);
            }
            Fault::ServerAway(span) => {
                self.weather.away_until = Some(now + span);
                for at in 0..self.nodes.len() {
                    let (delay, life) = (self.rng.u64(0..50) * MS, self.nodes[at].life);
                    let message = Message::Core(Input::BusDown);
                    self.after(delay, Event::Node { at, life, message });
                }
                self.after(span, Event::ServerBack);
            }
        }
    }

    /// What a dispatcher wrote while it could not reach the server comes when it
    /// can: a worker that was in trouble then may be so until that time.
    fn write_late(&mut self, fault: Fault) {
        let now = self.now;
        let cut = self.nodes.iter().filter_map(|node| node.port.cut_until).max();
        let cut = match fault {
            Fault::CutDispatcher(_, span) => cut.max(Some(now + span)),
            _ => cut,
        };
        let Some(cut) = cut.filter(|until| *until > now) else { return };
        for machine in self.machines.iter_mut().filter(|it| it.troubled_until > now) {
            machine.troubled_until = machine.troubled_until.max(cut + 8_000 * MS);
        }
    }

    /// A dispatcher that led whoever has the lease does so no more.
    pub fn end_force(&mut self, at: usize) {
        let node = &mut self.nodes[at];
        if let Some(paused) = node.port.paused_until {
            // It comes to itself first, and may have been elected then.
            self.at(paused.max(self.now + 1), Event::EndForce { at });
        } else if node.forced_until.is_some_and(|until| until <= self.now) {
            node.forced_until = None;
            if !node.lease.leads() {
                let life = node.life;
                self.hand_to(at, life, Message::Core(Input::Deposed));
            }
        }
    }

    /// All in a bucket is lost, and the bucket itself for so long.
    fn lose_bucket(&mut self, shelf: Shelf, gone: Option<u64>) {
        self.store.lose(shelf, gone.is_some());
        let back = self.now + gone.unwrap_or_default();
        let away =
            |node: &Node| !node.alive || node.port.is_cut() || node.port.paused_until.is_some();
        self.checker.lost(back + 5_000 * MS, !self.nodes.iter().any(away));
        self.weather.gone.extend(gone.map(|_| (shelf, back)));
        for at in 0..self.nodes.len() {
            let node = &mut self.nodes[at];
            node.lost.push(shelf);
            if gone.is_some() {
                // What the watch has told already is on its way.
                node.unwatched.push(shelf);
            }
            let life = node.life;
            let looks = back + self.rng.u64(0..1_500) * MS;
            self.at(looks, Event::FindsLost { at, life, shelf });
        }
    }

    /// A dispatcher looks at a bucket, and finds that it is another one, or
    /// empty.
    pub fn finds_lost(&mut self, at: usize, life: u32, shelf: Shelf) {
        let node = &mut self.nodes[at];
        if !node.alive || node.life != life || !node.lost.contains(&shelf) {
            return;
        }
        let away = [node.port.cut_until, node.port.paused_until, self.weather.away_until];
        if away.iter().any(Option::is_some) || !self.weather.has(shelf, self.now) {
            return self.after(500 * MS, Event::FindsLost { at, life, shelf });
        }
        self.watch_shelf(at, shelf);
    }

    pub fn heal_node(&mut self, at: usize) {
        let node = &mut self.nodes[at];
        if node.port.cut_until.is_some_and(|until| until <= self.now) {
            node.port.cut_until = None;
            // Where the server is away, all hear of its return together.
            if std::mem::take(&mut node.port.noticed) && self.weather.away_until.is_none() {
                let life = node.life;
                self.hand_to(at, life, Message::Core(Input::BusUp));
            }
        }
    }
}
