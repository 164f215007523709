//! A worker process: the real decisions, with adapters that are played.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    time::{Duration, Instant},
};

use audio_gateway::{
    bus::messages::{
        Assign, Cost, Heartbeat, Load, Revoke, SessionReport, SessionState, UpdateSession, Verdict,
    },
    id::{AdapterName, RoomId, TaskId, WorkerId},
    sdk::process::ChildKey,
    task::{Epoch, Pull, RoomRecord},
    worker::core::{About, Core, Ended, Input, Output, SessionKey, Ticket, Unfit},
};
use fastrand::Rng;

const MS: u64 = 1_000;
/// What a session costs, in cores.
pub const COST: f64 = 0.01;
/// Why it takes no more of its adapter's sessions.
const CAPPED: &str = "it runs as many of these as it may";
/// How late a load shows.
const LAG: u64 = 2_500 * MS;

/// What an adapter does next.
#[derive(Debug, Clone, Copy)]
enum Step {
    Spawned,
    Joined,
    Heard,
    Bye,
    Exited { clean: bool, hopeless: bool },
    Drained,
}

/// The worker.
pub struct Worker {
    pub id: WorkerId,
    core: Core,
    start: Instant,
    sessions_max: usize,
    /// Sessions of its adapter that it takes.
    pub cap: Option<usize>,
    /// Cores it says it has.
    cores: f64,
    /// Its adapters, as they were at each time: the load shows them late.
    seen: VecDeque<(u64, usize)>,
    /// Adapters it was made to start.
    pub begun: usize,
    /// The most adapters it ever had at once.
    pub most: usize,
    /// It is of the version before, which knows no updates.
    pub old: bool,
    /// Refuses at times, and its adapters end by themselves.
    moods: bool,
    /// Until when its starts fail, and how.
    spoilt: (u64, u8),
    steps: BTreeMap<(u64, u64), (ChildKey, Step)>,
    count: u64,
    alive: BTreeMap<ChildKey, SessionKey>,
    /// Sessions by what they are opened as.
    keys: BTreeMap<TaskId, SessionKey>,
    /// Its process was asked to end.
    pub retired: bool,
    /// It gave its rooms back, whoever has them next.
    pub gave_up: bool,
    /// Heartbeats to be sent.
    pub beats: Vec<Heartbeat>,
    /// Sessions that were opened.
    pub opened: Vec<(RoomId, Epoch)>,
    /// Times it refused because it was full.
    pub was_full: u32,
}

impl Worker {
    pub fn new(
        id: &WorkerId,
        boot: u32,
        max: usize,
        moods: bool,
        start: Instant,
        now: u64,
    ) -> Self {
        let about = About {
            worker: id.clone(),
            boot: format!("b{boot}"),
            version: "1".into(),
            adapters: vec![AdapterName::parse("sim").unwrap()],
            raw: BTreeSet::new(),
            labels: BTreeMap::new(),
            sessions_max: max,
        };
        Self {
            id: id.clone(),
            core: Core::new(about, start + Duration::from_micros(now)),
            start,
            sessions_max: max,
            cap: None,
            old: false,
            cores: 4.0,
            seen: VecDeque::new(),
            begun: 0,
            most: 0,
            moods,
            spoilt: (0, 0),
            steps: BTreeMap::new(),
            count: 0,
            alive: BTreeMap::new(),
            keys: BTreeMap::new(),
            retired: false,
            gave_up: false,
            beats: Vec::new(),
            opened: Vec::new(),
            was_full: 0,
        }
    }

    /// The same worker after it was started again.
    pub fn restarted(&self, boot: u32, now: u64) -> Self {
        let mut next = Self::new(&self.id, boot, self.sessions_max, self.moods, self.start, now);
        next.was_full = self.was_full;
        next.spoilt = self.spoilt;
        next.cores = self.cores;
        next.cap = self.cap;
        next.old = self.old;
        next
    }

    /// It has no more than this.
    pub fn squeeze(&mut self, cores: f64) {
        self.cores = cores;
    }

    /// Its starts fail until then.
    pub fn spoil(&mut self, until: u64, how: u8) {
        self.spoilt = (until, how);
    }

    pub fn reports(&self) -> Vec<SessionReport> {
        self.core.inventory().sessions
    }

    /// Adapters that run.
    pub fn adapters(&self) -> usize {
        self.alive.len()
    }

    pub fn rooms(&self) -> Vec<RoomId> {
        self.core.rooms()
    }

    /// Rooms that wait to be played to.
    pub fn held(&self) -> Vec<RoomId> {
        self.core.held()
    }

    /// Sessions whose adapter is in the room, and whether they play into it.
    pub fn running(&self) -> BTreeMap<(RoomId, Epoch), (TaskId, bool)> {
        let held = self.core.held();
        let runs = |report: &SessionReport| report.state == SessionState::Running;
        (self.reports().into_iter().filter(runs))
            .map(|report| {
                let assign = self.core.assigned(&report.task);
                let pushes = assign.is_some_and(|assign| assign.push.is_some());
                let plays = pushes && !held.contains(&report.room);
                ((report.room, report.epoch), (report.task, plays))
            })
            .collect()
    }

    /// Whether a process that was asked to end has nothing left to do.
    pub fn is_done(&self) -> bool {
        self.retired && self.core.is_empty()
    }

    pub fn drain(&mut self, undrain: bool, now: u64, rng: &mut Rng) -> Verdict {
        self.hand(Input::Drain { ticket: Ticket(0), undrain }, now, rng)
    }

    pub fn retire(&mut self, now: u64, rng: &mut Rng) {
        self.retired = true;
        self.hand(Input::Retire, now, rng);
    }

    /// The time it has for that is over.
    pub fn leave(&mut self, now: u64, rng: &mut Rng) {
        self.gave_up = true;
        self.hand(Input::Leave, now, rng);
    }

    pub fn beat(&mut self, now: u64) -> Heartbeat {
        self.core.heartbeat(now / MS)
    }

    pub fn assign(&mut self, assign: &Assign, now: u64, rng: &mut Rng) -> Verdict {
        let unfit = |fatal| Err(Unfit { reason: "not today".into(), fatal });
        let capped = self.cap.is_some_and(|most| self.core.live_of(&assign.sdk) >= most);
        let fit = match rng.u8(..) {
            _ if capped => Err(Unfit { reason: CAPPED.into(), fatal: false }),
            0..8 if self.moods => unfit(false),
            8 if self.moods => unfit(true),
            _ => Ok(()),
        };
        let assign = Box::new(assign.clone());
        let verdict = self.hand(Input::Assign { ticket: Ticket(0), assign, fit }, now, rng);
        let full = ["this worker is full", CAPPED];
        self.was_full += u32::from(full.contains(&verdict.reason.as_str()));
        verdict
    }

    pub fn revoke(&mut self, revoke: &Revoke, now: u64, rng: &mut Rng) {
        self.hand(Input::Revoke { ticket: Ticket(0), revoke: revoke.clone() }, now, rng);
    }

    pub fn update(&mut self, update: UpdateSession, now: u64, rng: &mut Rng) {
        if !self.old {
            let update = Box::new(update);
            self.hand(Input::Update { ticket: Ticket(0), update }, now, rng);
        }
    }

    /// What it pulls out of a task's room, where it knows of updates.
    pub fn pulls(&self, task: &TaskId) -> Option<Pull> {
        self.core.assigned(task).filter(|_| !self.old).and_then(|assign| assign.pull.clone())
    }

    /// The room's record says this.
    pub fn claimed(&mut self, record: RoomRecord, now: u64, rng: &mut Rng) {
        let RoomRecord { room, epoch, from, .. } = record;
        self.hand(Input::Claimed { room, epoch, from }, now, rng);
    }

    /// Lets time pass until `now`.
    pub fn run(&mut self, now: u64, rng: &mut Rng) {
        while let Some(entry) = self.steps.first_entry().filter(|entry| entry.key().0 <= now) {
            let (child, step) = entry.remove();
            // That it was spawned is told of one that has ended already, too.
            let told = matches!(step, Step::Spawned | Step::Drained);
            if !told && !self.alive.contains_key(&child) {
                continue;
            }
            let input = match step {
                Step::Spawned => Input::Spawned(child),
                Step::Joined => Input::Joined(child),
                Step::Heard => Input::Heard(self.alive[&child]),
                Step::Bye => Input::Bye { child, reason: "over".into() },
                Step::Drained => Input::Drained(child),
                Step::Exited { clean, hopeless } => {
                    self.alive.remove(&child);
                    let text = "it ended".into();
                    Input::Exited { child, ended: Ended { clean, hopeless, text } }
                }
            };
            self.hand(input, now, rng);
        }
        self.most = self.most.max(self.alive.len());
        self.seen.push_back((now, self.alive.len()));
        while self.seen.get(1).is_some_and(|(at, _)| at + LAG <= now) {
            self.seen.pop_front();
        }
        let shown = self.seen.front().map_or(0, |(_, alive)| *alive);
        let load = Load {
            cores: self.cores,
            cores_used: COST * shown as f64,
            session_cost: COST,
            costs: self.cap.map(|most| self.capped_cost(most)).into_iter().collect(),
            ..Load::default()
        };
        self.hand(Input::Load(load), now, rng);
        self.hand(Input::Tick, now, rng);
    }

    fn capped_cost(&self, most: usize) -> Cost {
        let adapter = AdapterName::parse("sim").unwrap();
        Cost { adapter, kind: None, cores: COST, memory: 0, sessions_max: Some(most) }
    }

    /// When it wants to go on.
    pub fn deadline(&self) -> u64 {
        let core = self.core.deadline().saturating_duration_since(self.start);
        let core = u64::try_from(core.as_nanos().div_ceil(1_000)).unwrap();
        self.steps.first_key_value().map_or(core, |((at, _), _)| core.min(*at))
    }

    fn hand(&mut self, input: Input, now: u64, rng: &mut Rng) -> Verdict {
        let at = self.start + Duration::from_micros(now);
        let mut verdict = Verdict { accepted: false, reason: String::new(), fatal: false };
        for output in self.core.handle(input, at) {
            match output {
                Output::Answer(_, answer) => verdict = answer,
                Output::Open(key, task) => {
                    self.keys.insert(task.clone(), key);
                    if let Some(assign) = self.core.assigned(&task) {
                        self.opened.push((assign.room.clone(), assign.epoch));
                    }
                }
                Output::Start(child, task) => {
                    self.alive.insert(child, self.keys[&task]);
                    self.begin(child, now, rng);
                }
                Output::Leave(child, _) => {
                    let at = now + rng.u64(1..2_000) * MS;
                    self.step(at, child, Step::Exited { clean: true, hopeless: false });
                }
                Output::Terminate(child) => {
                    let at = now + rng.u64(1..200) * MS;
                    self.step(at, child, Step::Exited { clean: false, hopeless: false });
                }
                Output::Drain(child, _) => self.step(now + MS, child, Step::Drained),
                Output::Beat => {
                    let beat = self.core.heartbeat(now / MS);
                    self.beats.push(beat);
                }
                Output::Attach(..)
                | Output::Close(_)
                | Output::Mute(_)
                | Output::Play(_)
                | Output::Update(..) => (),
            }
        }
        verdict
    }

    /// An adapter begins its life, whatever that will be.
    fn begin(&mut self, child: ChildKey, now: u64, rng: &mut Rng) {
        self.begun += 1;
        let spawned = now + rng.u64(1..50) * MS;
        let joined = spawned + rng.u64(1..1_500) * MS;
        self.step(spawned, child, Step::Spawned);
        let exited = |clean, hopeless| Step::Exited { clean, hopeless };
        match self.spoilt {
            (until, _) if until <= now => (),
            (_, 0) => return self.step(spawned + MS, child, exited(false, true)),
            (_, 1) => return self.step(joined, child, exited(false, false)),
            // It hangs until it is made to end.
            _ => return,
        }
        match if self.moods { rng.u8(..) } else { 255 } {
            0..4 => return self.step(spawned + MS, child, exited(false, true)),
            4..10 => self.step(joined, child, exited(false, false)),
            10..20 => self.step(joined + rng.u64(1..5_000) * MS, child, exited(false, false)),
            20..35 => {
                let over = joined + rng.u64(1..20_000) * MS;
                self.step(over, child, Step::Bye);
                self.step(over + MS, child, exited(true, false));
            }
            _ => (),
        }
        self.step(joined, child, Step::Joined);
        // Now and then nobody has a track in the room.
        if !self.moods || rng.u8(0..16) > 0 {
            self.step(joined + rng.u64(1..600) * MS, child, Step::Heard);
        }
    }

    fn step(&mut self, at: u64, child: ChildKey, step: Step) {
        self.count += 1;
        self.steps.insert((at, self.count), (child, step));
    }
}
