//! The run of one seed: the queue of events in virtual time and what each does.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Instant,
};

use audio_gateway::{
    bus::messages::{Assign, Heartbeat, Revoke, UpdateSession},
    dispatch::{
        io::{CallId, Input, Key, Record, Request, Shelf},
        lease::LeaseOutput,
    },
    id::{RoomId, TaskId, WorkerId},
    task::Epoch,
};
use fastrand::Rng;

use super::{
    check::Checker,
    client::{self, Call},
    faults::{self, Fault},
    node::{Message, Node},
    store::Store,
    wire::{Port, Weather},
    worker::Worker,
};

pub const MS: u64 = 1_000;
pub const S: u64 = 1_000 * MS;
/// Faults and submits come within this time …
pub const STORMY: u64 = 40 * S;
/// … and this long after it everything must be in order.
const CALM: u64 = 75 * S;
/// Inputs at one moment above which something runs in circles.
pub const CIRCLES: u32 = 20_000;

/// What is asked of a worker.
#[derive(Debug, Clone)]
pub enum Order {
    Assign(Box<Assign>),
    Revoke(Revoke),
    Update(Box<UpdateSession>),
    Ping,
}

/// What is asked of the store.
#[derive(Debug, Clone)]
pub enum Op {
    Put(Record, u64),
    Delete(Key, u64),
    Read(Key),
    Lease(LeaseOutput),
}

#[derive(Debug)]
pub enum Event {
    Node {
        at: usize,
        life: u32,
        message: Message,
    },
    Watch {
        at: usize,
        life: u32,
    },
    Store {
        at: usize,
        life: u32,
        ask: u64,
        op: Op,
    },
    LeaseEnds {
        revision: u64,
    },
    Order {
        worker: usize,
        at: usize,
        life: u32,
        ask: u64,
        order: Order,
    },
    WorkerWakes {
        worker: usize,
        wake: u64,
    },
    Beat {
        at: usize,
        life: u32,
        beat: Box<Heartbeat>,
    },
    Call(Call),
    CallTimedOut(CallId),
    Fault(Fault),
    HealNode {
        at: usize,
    },
    HealWorker {
        worker: usize,
    },
    ResumeNode {
        at: usize,
    },
    ResumeWorker {
        worker: usize,
    },
    NoticeNode {
        at: usize,
        cut: u64,
    },
    NoticeWorker {
        worker: usize,
        cut: u64,
    },
    StartNode {
        at: usize,
    },
    StartWorker {
        worker: usize,
    },
    ServerBack,
    /// A dispatcher looks at a bucket that was lost.
    FindsLost {
        at: usize,
        life: u32,
        shelf: Shelf,
    },
    EndForce {
        at: usize,
    },
    /// A worker looks whether it may play.
    LooksAtHeld {
        worker: usize,
    },
    /// A worker takes rooms again.
    Undrain {
        worker: usize,
    },
    /// A worker's time to give its rooms away is over.
    Leaves {
        worker: usize,
        life: u32,
    },
    /// The process of a worker ends that has nothing left.
    Ends {
        worker: usize,
    },
    Calm,
}

/// A worker process.
pub struct Machine {
    pub worker: Worker,
    pub life: u32,
    pub alive: bool,
    pub port: Port,
    pub wake: u64,
    pub backlog: Vec<Event>,
    /// Until when somebody may rightly take it for gone.
    pub troubled_until: u64,
    /// What it serves, as last looked at.
    pub serves: BTreeMap<(RoomId, Epoch), (TaskId, bool)>,
    /// It will look whether it may play.
    pub looks: bool,
    /// How long it stays away after its end.
    pub away: u64,
}

/// The world.
pub struct World {
    pub checker: Checker,
    pub rng: Rng,
    pub now: u64,
    pub start: Instant,
    pub queue: BTreeMap<(u64, u64), Event>,
    pub count: u64,
    pub store: Store,
    pub nodes: Vec<Node>,
    pub machines: Vec<Machine>,
    pub weather: Weather,
    pub calls: BTreeMap<CallId, Call>,
    pub inputs: (u64, u32),
    pub answered: BTreeSet<CallId>,
    ends: u64,
    pub tell: bool,
}

/// What a run is made of.
pub struct Scenario {
    pub dispatchers: usize,
    /// The most sessions of each worker.
    pub workers: Vec<usize>,
    /// It is their adapter that takes no more, not they.
    pub capped: bool,
    /// The first of them is of the version before.
    pub mixed: bool,
    pub weather: Weather,
    pub calls: Vec<(u64, Request)>,
    pub faults: Vec<(u64, Fault)>,
    /// The clocks of the dispatchers differ.
    pub skewed: bool,
    /// Workers refuse at times, and sessions end by themselves.
    pub moods: bool,
    /// When it ends and everything must be in order.
    pub ends: u64,
}

impl Scenario {
    /// Anything that can happen.
    pub fn storm(rng: &mut Rng) -> Self {
        let dispatchers = rng.usize(1..4);
        let workers = rng.usize(1..5);
        let rooms = rng.u32(1..14);
        Self {
            dispatchers,
            // Together they have room for everything, so that all is served at last.
            workers: (0..workers).map(|_| 20 / workers + rng.usize(1..9)).collect(),
            capped: rng.u8(0..3) == 0,
            mixed: rng.u8(0..6) == 0,
            weather: Weather::of(rng),
            calls: client::plan(rng, STORMY, rooms),
            faults: faults::plan(rng, STORMY, dispatchers, workers),
            skewed: rng.bool(),
            moods: true,
            ends: STORMY + CALM,
        }
    }
}

impl World {
    pub fn new(scenario: Scenario, mut rng: Rng, tell: bool) -> Self {
        let start = Instant::now();
        let mut skew = || if scenario.skewed { rng.i64(-3_000..3_000) } else { 0 };
        let nodes = (0..scenario.dispatchers)
            .map(|at| Node::new(&format!("d{at}"), 0, start, 0, skew()))
            .collect();
        let machine = |(at, max): (usize, &usize)| Machine {
            worker: {
                let id = WorkerId::parse(&format!("w{at}")).unwrap();
                let most = if scenario.capped { max + 50 } else { *max };
                let mut worker = Worker::new(&id, 0, most, scenario.moods, start, 0);
                worker.cap = scenario.capped.then_some(*max);
                worker.old = scenario.mixed && at == 0;
                worker
            },
            life: 0,
            alive: true,
            port: Port::default(),
            wake: 0,
            backlog: Vec::new(),
            troubled_until: 0,
            serves: BTreeMap::new(),
            looks: false,
            away: 0,
        };
        let machines = scenario.workers.iter().enumerate().map(machine).collect();
        let mut checker = Checker::default();
        checker.strict = scenario.weather.is_fair();
        checker.untouched = scenario.faults.is_empty() && scenario.weather.is_fair();
        let deaths = scenario.weather.step_crash > 0 || scenario.weather.dies_after.is_some();
        let loud = |fault: &Fault| !fault.ends_a_dispatcher() && !fault.wipes();
        checker.no_deaths = !deaths && scenario.faults.iter().all(|(_, fault)| loud(fault));
        let mut world = Self {
            checker,
            rng,
            now: 0,
            start,
            queue: BTreeMap::new(),
            count: 0,
            store: Store::default(),
            nodes,
            machines,
            weather: scenario.weather,
            calls: BTreeMap::new(),
            inputs: (0, 0),
            answered: BTreeSet::new(),
            ends: scenario.ends,
            tell,
        };
        for (at, request) in scenario.calls {
            world.at(at, Event::Call(Call { request, tries: 0 }));
        }
        for (at, fault) in scenario.faults {
            world.at(at, Event::Fault(fault));
        }
        world.at(STORMY, Event::Calm);
        for at in 0..world.nodes.len() {
            world.begin(at);
        }
        for worker in 0..world.machines.len() {
            world.collect(worker);
        }
        world
    }

    /// Runs to the end.
    pub fn run(&mut self) -> Result<(), String> {
        while let Some(((time, _), event)) = self.queue.pop_first() {
            if time > self.ends {
                break;
            }
            self.now = time;
            self.happens(event);
            if let Some(broken) = self.checker.broken.take() {
                return Err(format!("at {:.6} s: {broken}", time as f64 / S as f64));
            }
        }
        let mut live = Vec::new();
        let sound = |machine: &&Machine| machine.alive && machine.port.paused_until.is_none();
        for machine in self.machines.iter().filter(sound) {
            let id = &machine.worker.id;
            let reports = machine.worker.reports();
            if machine.worker.adapters() != reports.len() {
                let (adapters, sessions) = (machine.worker.adapters(), reports.len());
                self.checker.breaks(format!("{id}: {adapters} adapters for {sessions} sessions"));
            }
            for report in &reports {
                let pull = machine.worker.pulls(&report.task);
                self.checker.pulled(&self.store, report, pull.as_ref());
            }
            live.extend(reports.into_iter().map(|report| (id.clone(), report)));
        }
        self.checker.calm(&self.store, &live);
        let full: u32 = self.machines.iter().map(|machine| machine.worker.was_full).sum();
        if self.checker.untouched && full > 0 {
            self.checker.breaks("a worker was given more than it said it takes".into());
        }
        if let Some(call) = self.calls.values().find(|call| call.tries > 10) {
            self.checker.breaks(format!("never answered: {call:?}"));
        }
        self.checker.broken.take().map_or(Ok(()), Err)
    }

    pub fn at(&mut self, time: u64, event: Event) {
        self.count += 1;
        self.queue.insert((time, self.count), event);
    }

    pub fn after(&mut self, delay: u64, event: Event) {
        self.at(self.now + delay, event);
    }

    pub fn tell(&self, what: impl FnOnce() -> String) {
        if self.tell {
            println!("{:>10.6} {}", self.now as f64 / S as f64, what());
        }
    }

    fn happens(&mut self, event: Event) {
        match event {
            Event::Node { at, life, message } => self.hand_to(at, life, message),
            Event::Watch { at, life } => self.watch(at, life),
            Event::Store { at, life, ask, op } => self.store_op(at, life, ask, op),
            Event::LeaseEnds { revision } => {
                if self.store.lease(self.now).is_none_or(|(_, known)| known > revision) {
                    self.lease_gone();
                }
            }
            Event::Order { worker, at, life, ask, order } => {
                self.order(worker, at, life, ask, order);
            }
            Event::WorkerWakes { worker, wake } => {
                if self.machines[worker].wake == wake {
                    self.worker_wakes(worker);
                }
            }
            Event::Beat { at, life, beat } => {
                if !self.nodes[at].port.is_cut() {
                    self.hand_to(at, life, Message::Core(Input::Heartbeat(beat)));
                }
            }
            Event::Call(call) => self.call(call),
            Event::CallTimedOut(id) => {
                if let Some(call) = self.calls.remove(&id) {
                    self.again(call);
                }
            }
            Event::Fault(fault) => {
                self.tell(|| format!("!! {fault:?}"));
                self.fault(fault);
            }
            Event::HealNode { at } => self.heal_node(at),
            Event::HealWorker { worker } => {
                let port = &mut self.machines[worker].port;
                if port.cut_until.is_some_and(|until| until <= self.now) {
                    port.cut_until = None;
                    port.noticed = false;
                    self.looks_at_claims(worker);
                }
            }
            Event::ResumeNode { at } => {
                let node = &mut self.nodes[at];
                if node.port.paused_until.is_some_and(|until| until <= self.now) {
                    node.port.paused_until = None;
                    let (life, backlog) = (node.life, std::mem::take(&mut node.backlog));
                    for message in backlog {
                        self.after(0, Event::Node { at, life, message });
                    }
                }
            }
            Event::ResumeWorker { worker } => {
                let machine = &mut self.machines[worker];
                if machine.port.paused_until.is_some_and(|until| until <= self.now) {
                    machine.port.paused_until = None;
                    for event in std::mem::take(&mut machine.backlog) {
                        self.after(0, event);
                    }
                    self.collect(worker);
                }
            }
            Event::NoticeNode { at, cut } => {
                let node = &mut self.nodes[at];
                if node.port.cut_until == Some(cut) {
                    node.port.noticed = true;
                    let life = node.life;
                    self.hand_to(at, life, Message::Core(Input::BusDown));
                }
            }
            Event::NoticeWorker { worker, cut } => {
                let port = &mut self.machines[worker].port;
                port.noticed |= port.cut_until == Some(cut);
            }
            Event::StartNode { at } => {
                if !self.nodes[at].alive {
                    self.start_node(at);
                }
            }
            Event::StartWorker { worker } => {
                let machine = &mut self.machines[worker];
                if !machine.alive {
                    machine.alive = true;
                    machine.life += 1;
                    machine.worker = machine.worker.restarted(machine.life, self.now);
                    machine.port = Port::default();
                    self.collect(worker);
                }
            }
            Event::ServerBack => {
                if self.weather.away_until.is_some_and(|until| until <= self.now) {
                    self.weather.away_until = None;
                    for worker in 0..self.machines.len() {
                        // It takes its time to find the server again.
                        let span = self.rng.u64(0..2_500) * MS;
                        let port = &mut self.machines[worker].port;
                        port.cut_until = port.cut_until.max(Some(self.now + span));
                        port.noticed = true;
                        self.after(span, Event::HealWorker { worker });
                    }
                    for at in 0..self.nodes.len() {
                        // One connection tells of its end before it tells of its return.
                        let (delay, life) = (self.rng.u64(50..400) * MS, self.nodes[at].life);
                        let message = Message::Core(Input::BusUp);
                        self.after(delay, Event::Node { at, life, message });
                    }
                }
            }
            Event::FindsLost { at, life, shelf } => self.finds_lost(at, life, shelf),
            Event::EndForce { at } => self.end_force(at),
            Event::LooksAtHeld { worker } => self.looks_at_held(worker),
            Event::Undrain { worker } => {
                let machine = &mut self.machines[worker];
                if machine.alive {
                    machine.worker.drain(true, self.now, &mut self.rng);
                    self.collect(worker);
                }
            }
            Event::Leaves { worker, life } => {
                let machine = &mut self.machines[worker];
                if machine.alive && machine.life == life {
                    machine.worker.leave(self.now, &mut self.rng);
                    self.collect(worker);
                }
            }
            Event::Ends { worker } => {
                let machine = &mut self.machines[worker];
                if machine.alive && machine.worker.is_done() {
                    machine.alive = false;
                    machine.serves.clear();
                    let away = machine.away;
                    self.tell(|| format!("w{worker} has ended"));
                    self.after(away, Event::StartWorker { worker });
                }
            }
            Event::Calm => {
                self.tell(|| "-- calm --".into());
                self.weather.calm();
            }
        }
    }
}
