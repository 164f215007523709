//! Workers, their adapters, the wire and those who listen, from one moment of
//! virtual time to the next.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use audio_gateway::{
    bus::messages::{RoomEvent, RoomNews},
    client::{
        ListenOptions,
        ears::{Answer, Asked, Ears, Output},
    },
    id::{RoomId, SubscriberId, TrackId},
    sdk::pipe::MediaClock,
    task::{Epoch, Pull},
};
use bytes::Bytes;
use fastrand::Rng;

use super::{
    ORIGIN,
    adapter::{Adapter, Faults},
    check::{Checker, Rules},
    truth::{Act, Person, SLOT_US},
    wire::{Parcel, Weather, Wire},
    worker::{Told, Worker},
};

pub const S: i64 = 1_000_000;
/// Listeners are there so long before the room is.
const BEFORE: i64 = 3 * S;
/// After the end of the room all that is missing is waited for.
const AFTER: i64 = 13 * S;

/// What happens to workers, at a time in µs.
#[derive(Debug, Clone)]
pub enum Turn {
    /// The adapter dies and is started again after a while.
    Crash(i64),
    /// The worker is killed; another serves the room after a while.
    Kill(i64),
    /// It is cut off, goes on, and another serves the room after a while.
    CutOff(i64),
    /// Another joins; this one leaves so long after that one is heard.
    HandOver(i64),
    /// It stands still for a while.
    Pause(i64),
}

/// A run.
#[derive(Debug, Clone)]
pub struct Plan {
    pub clock: MediaClock,
    pub faults: Faults,
    pub weather: Weather,
    pub turns: Vec<(i64, Turn)>,
    pub listeners: usize,
    pub batch_frames: u8,
    pub seconds: i64,
    /// Everything that was said must be heard.
    pub whole: bool,
    pub off: i64,
}

struct Listener {
    ears: Ears,
    name: SubscriberId,
    checker: Checker,
    asks: BTreeMap<u64, (Asked, TrackId, Vec<u8>)>,
}

pub struct World {
    plan: Plan,
    people: Vec<Person>,
    rng: Rng,
    start: Instant,
    now: i64,
    workers: Vec<Worker>,
    /// The worker that is to leave once its successor is heard, and then.
    leaving: Option<(usize, i64, Option<i64>)>,
    restart: Option<(i64, bool)>,
    paused: Option<i64>,
    listeners: Vec<Listener>,
    wire: Wire,
    asked: u64,
    /// Batches published, by worker and track.
    published: BTreeMap<(usize, TrackId), u64>,
    wrote: Vec<(usize, i64)>,
    pub told: Vec<Told>,
    turns: Vec<(i64, Turn)>,
}

impl World {
    pub fn new(plan: Plan, people: Vec<Person>, mut rng: Rng) -> Self {
        let start = Instant::now();
        let anew = plan.turns.iter().any(|(_, turn)| !matches!(turn, Turn::Pause(_)));
        let unix = plan.clock == MediaClock::Unix;
        let rules = Rules {
            unix,
            anew: anew && !unix,
            late: !plan.faults.stalls.is_empty() || anew || !plan.turns.is_empty(),
            ppm: plan.faults.ppm,
            off: plan.off,
        };
        let listeners = (0..plan.listeners).map(|at| {
            let name = SubscriberId::parse(&format!("me-{at}")).unwrap();
            let options = ListenOptions { subscriber: name.clone(), ..ListenOptions::default() };
            let (ears, checker) = (Ears::new(&options, start), Checker::new(rules));
            Listener { ears, name, checker, asks: BTreeMap::new() }
        });
        let mut turns = plan.turns.clone();
        turns.sort_by_key(|(at, _)| std::cmp::Reverse(*at));
        let mut world = Self {
            listeners: listeners.collect(),
            wire: Wire::new(plan.weather),
            rng: rng.fork(),
            start,
            now: 0,
            workers: Vec::new(),
            leaving: None,
            restart: None,
            paused: None,
            asked: 0,
            published: BTreeMap::new(),
            wrote: Vec::new(),
            told: Vec::new(),
            turns,
            people,
            plan,
        };
        world.serve();
        world
    }

    fn at(&self) -> Instant {
        self.start + Duration::from_micros((self.now + BEFORE) as u64)
    }

    /// Another worker serves the room, under the next epoch.
    fn serve(&mut self) {
        let pull = Pull { batch_frames: self.plan.batch_frames, ..Pull::default() };
        let phase = self.rng.i64(0..40) * 5_000;
        let epoch = self.workers.len() as u64 + 1;
        self.workers.push(Worker::new(epoch, pull, phase, self.now));
        self.start_adapter();
    }

    fn start_adapter(&mut self) {
        let mut faults = self.plan.faults.clone();
        faults.join_us = self.rng.i64(0..300_000);
        let (clock, people) = (self.plan.clock, self.people.len());
        let adapter = Adapter::new(clock, faults, people, self.now, &mut self.rng);
        let worker = self.workers.last_mut().unwrap();
        worker.attach(adapter, self.now);
        worker.due = self.now;
    }

    pub fn run(&mut self) -> Result<(), String> {
        let end = self.plan.seconds * S;
        while self.now < end {
            self.step(end)?;
        }
        self.wire.weather = Weather { slow: 1_000, ..Weather::default() };
        for at in 0..self.workers.len() {
            let worker = &mut self.workers[at];
            if !worker.gone && !worker.closed {
                worker.sweep(&self.people, false, self.now, &mut self.rng);
                worker.close(self.now);
                self.publish(at)?;
            }
        }
        while self.now < end + AFTER {
            self.step(end + AFTER)?;
        }
        self.finish()
    }

    fn step(&mut self, until: i64) -> Result<(), String> {
        let mut next = until;
        for worker in self.workers.iter().filter(|it| !it.gone && !it.closed) {
            next = next.min(worker.due.max(self.paused.unwrap_or(0)));
        }
        next = next.min(self.wire.next().unwrap_or(until));
        next = next.min(self.turns.last().map_or(until, |(at, _)| *at));
        next = next.min(self.restart.map_or(until, |(at, _)| at));
        next = next.min(self.leaving.and_then(|it| it.2).unwrap_or(until));
        for listener in &self.listeners {
            if let Some(due) = listener.ears.deadline() {
                let since = due.saturating_duration_since(self.start).as_nanos().div_ceil(1_000);
                next = next.min(since as i64 - BEFORE);
            }
        }
        self.now = self.now.max(next);
        self.turns()?;
        self.sweeps()?;
        while let Some(parcel) = self.wire.take(self.now) {
            self.arrive(parcel)?;
        }
        let at = self.at();
        for index in 0..self.listeners.len() {
            let ears = &mut self.listeners[index].ears;
            if ears.deadline().is_some_and(|due| due <= at) {
                self.ears(index, |ears, out| ears.wake(at, out))?;
            }
        }
        Ok(())
    }

    fn turns(&mut self) -> Result<(), String> {
        let now = self.now;
        if let Some((at, anew)) = self.restart
            && at <= now
        {
            self.restart = None;
            if anew { self.serve() } else { self.start_adapter() }
        }
        if let Some((old, _, Some(at))) = self.leaving
            && at <= now
        {
            self.leaving = None;
            self.workers[old].sweep(&self.people, false, now, &mut self.rng);
            self.workers[old].close(now);
            self.publish(old)?;
        }
        while let Some((at, _)) = self.turns.last()
            && *at <= now
        {
            let Some((_, turn)) = self.turns.pop() else { break };
            let last = self.workers.len() - 1;
            match turn {
                // One thing at a time.
                _ if self.restart.is_some() || self.leaving.is_some() => (),
                Turn::Crash(after) => {
                    self.note_wrote();
                    self.workers[last].crash(&self.people, now, &mut self.rng);
                    self.restart = Some((now + after, false));
                }
                Turn::Kill(after) => {
                    self.note_wrote();
                    self.workers[last].gone = true;
                    self.restart = Some((now + after, true));
                }
                Turn::CutOff(after) => self.restart = Some((now + after, true)),
                Turn::HandOver(after) => {
                    self.serve();
                    self.leaving = Some((last, after, None));
                }
                Turn::Pause(span) => self.paused = Some(now + span),
            }
        }
        Ok(())
    }

    fn note_wrote(&mut self) {
        for adapter in self.workers.iter_mut().filter_map(|it| it.adapter.as_mut()) {
            self.wrote.append(&mut adapter.wrote);
        }
    }

    fn sweeps(&mut self) -> Result<(), String> {
        if self.paused.is_some_and(|until| self.now < until) {
            return Ok(());
        }
        self.paused = None;
        for at in 0..self.workers.len() {
            let worker = &mut self.workers[at];
            if worker.gone || worker.closed || worker.due > self.now {
                continue;
            }
            let late = self.now - worker.due >= 50_000;
            worker.sweep(&self.people, late, self.now, &mut self.rng);
            self.publish(at)?;
        }
        if let Some((_, after, at @ None)) = &mut self.leaving
            && self.workers.last().is_some_and(|it| it.room.is_heard())
        {
            *at = Some(self.now + *after);
        }
        Ok(())
    }

    fn publish(&mut self, worker: usize) -> Result<(), String> {
        let at = self.at();
        let (batches, told) = self.workers[worker].collect(at, self.now);
        let last = worker + 1 == self.workers.len();
        for batch in batches {
            let count = self.published.entry((worker, batch.track.clone())).or_default();
            if *count != batch.seq {
                return Err(format!("{}: {} published after {count}", batch.track, batch.seq));
            }
            *count += 1;
            for to in 0..self.listeners.len() {
                let (wire, rng) = (&mut self.wire, &mut self.rng);
                wire.batch(to, &batch.subject, &batch.payload, false, self.now, rng);
            }
        }
        for (pos, time, what) in told {
            let epoch = Epoch(self.workers[worker].epoch);
            let room = RoomId::parse("r").unwrap();
            let event = RoomEvent { room, epoch, pos, time, what: what.clone() };
            let payload = Bytes::from(serde_json::to_vec(&event).unwrap());
            for to in 0..self.listeners.len() {
                let parcel = Parcel::News { to, payload: payload.clone() };
                self.wire.control(parcel, self.now, &mut self.rng);
            }
            if last {
                self.told.push((pos, time, what));
            }
        }
        Ok(())
    }

    fn arrive(&mut self, parcel: Parcel) -> Result<(), String> {
        let at = self.at();
        match parcel {
            Parcel::Batch { to, subject, payload } => {
                self.ears(to, |ears, out| ears.message(&subject, &payload, at, out))
            }
            Parcel::News { to, payload } => {
                self.ears(to, |ears, out| ears.message("audio.event.r", &payload, at, out))
            }
            Parcel::Nack { from, ask } => {
                let listener = &self.listeners[from];
                let Some((_, track, nack)) = listener.asks.get(&ask) else { return Ok(()) };
                let subject = format!("audio.resend.r.{track}.{}", listener.name);
                let (track, nack) = (track.clone(), nack.clone());
                for worker in self.workers.iter_mut().filter(|it| !it.gone) {
                    let Some(answer) = worker.answer(&track, &nack, at, self.now) else {
                        continue;
                    };
                    for batch in &answer.batches {
                        self.wire.batch(from, &subject, batch, true, self.now, &mut self.rng);
                    }
                    let reply = Some(Box::new(answer.reply));
                    let parcel = Parcel::Reply { to: from, ask, reply };
                    self.wire.control(parcel, self.now, &mut self.rng);
                }
                Ok(())
            }
            Parcel::Reply { to, ask, reply } => {
                let Some((asked, ..)) = self.listeners[to].asks.remove(&ask) else {
                    return Ok(());
                };
                let answer = reply.map_or(Answer::Late, |reply| Answer::Reply(*reply));
                self.ears(to, |ears, out| ears.answer(&asked, &answer, at, out))
            }
        }
    }

    /// Lets somebody listen, judges what is heard, and sends what is asked.
    fn ears(
        &mut self,
        index: usize,
        act: impl FnOnce(&mut Ears, &mut Vec<Output>),
    ) -> Result<(), String> {
        let mut out = Vec::new();
        let listener = &mut self.listeners[index];
        act(&mut listener.ears, &mut out);
        for output in out {
            match output {
                Output::Heard(heard) => {
                    let verdict = listener.checker.heard(&heard, &self.people);
                    let ms = self.now / 1_000;
                    verdict.map_err(|why| format!("{} at {ms} ms: {why}", listener.name))?;
                }
                Output::Ask(ask) => {
                    self.asked += 1;
                    let nack = serde_json::to_vec(&ask.nack).unwrap();
                    listener.asks.insert(self.asked, (ask.asked, ask.track, nack));
                    let parcel = Parcel::Nack { from: index, ask: self.asked };
                    self.wire.control(parcel, self.now, &mut self.rng);
                    let late = self.now + ask.within.as_micros() as i64;
                    self.wire.at(late, Parcel::Reply { to: index, ask: self.asked, reply: None });
                }
                Output::Look(look) => return Err(format!("nothing is recorded here: {look:?}")),
            }
        }
        Ok(())
    }

    fn finish(&mut self) -> Result<(), String> {
        let at = self.at();
        for index in 0..self.listeners.len() {
            self.ears(index, |ears, out| ears.finish(at, out))?;
        }
        self.note_wrote();
        let last = self.workers.len() - 1;
        for listener in &self.listeners {
            let checker = &listener.checker;
            for ((worker, track), batches) in &self.published {
                if *worker == last {
                    checker.all_of(self.workers[last].epoch, track, *batches)?;
                }
            }
            let missing = self.wrote.iter().find(|slot| !checker.heard.contains(slot));
            if let Some((who, slot)) = missing
                && self.plan.whole
            {
                let user = &self.people[*who].user;
                let ms = slot * SLOT_US / 1_000;
                return Err(format!("{}: what {user} said at {ms} ms is missing", listener.name));
            }
            if checker.gaps > 0 && self.plan.whole {
                return Err(format!("{}: {} batches given up", listener.name, checker.gaps));
            }
            let clock = checker.flags > 0 && self.plan.clock == MediaClock::Unix;
            if clock {
                return Err("a clock of Unix time was corrected".to_owned());
            }
        }
        self.events()
    }

    /// Who comes and goes is told in turn.
    fn events(&self) -> Result<(), String> {
        let mut open: BTreeMap<String, bool> = BTreeMap::new();
        let alone = self.workers.len() == 1;
        for (_, time, what) in self.told.iter().filter(|_| alone) {
            let (who, comes) = match what {
                RoomNews::TrackOpened { track, .. } => (format!("track {track}"), true),
                RoomNews::TrackClosed { track, .. } => (format!("track {track}"), false),
                RoomNews::ParticipantLeft { user } => (user.clone(), false),
                RoomNews::ParticipantJoined { user, .. } => (user.clone(), true),
                _ => continue,
            };
            let crashed = self.plan.turns.iter().any(|it| matches!(it.1, Turn::Crash(_)));
            if open.insert(who.clone(), comes) == Some(comes) && !crashed {
                let ms = (time - ORIGIN) / 1_000;
                return Err(format!("{who} at {ms} ms: comes: {comes}, twice in a row"));
            }
        }
        Ok(())
    }

    pub fn plan(&self) -> &Plan {
        &self.plan
    }

    /// Times that the clock was told.
    pub fn clocks(&self) -> usize {
        self.told.iter().filter(|it| matches!(it.2, RoomNews::Clock(_))).count()
    }

    /// Times that somebody came or went.
    pub fn moves(&self) -> usize {
        let slots = 0..self.plan.seconds * 50;
        let away = |it: &Person, slot| it.at(slot) == Act::Away;
        let moves =
            |it: &Person| slots.clone().filter(|at| away(it, *at) != away(it, at + 1)).count();
        self.people.iter().map(moves).sum()
    }

    /// What was heard by all, for whoever asks whether anything happened.
    pub fn tally(&self) -> Tally {
        let mut tally = Tally { damaged: self.wire.damaged, ..Tally::default() };
        for listener in &self.listeners {
            let stats = listener.ears.stats();
            tally.slots += listener.checker.states[0];
            tally.declared += listener.checker.states[3..].iter().sum::<u64>();
            tally.recovered += stats.recovered;
            tally.gaps += listener.checker.gaps;
            tally.flags += listener.checker.flags;
            tally.off = tally.off.max(listener.checker.off);
        }
        tally
    }
}

/// Figures of runs.
#[derive(Debug, Default, Clone, Copy)]
pub struct Tally {
    pub slots: u64,
    pub declared: u64,
    pub recovered: u64,
    pub gaps: u64,
    pub damaged: u64,
    pub flags: u64,
    pub off: i64,
}

impl std::ops::AddAssign for Tally {
    fn add_assign(&mut self, other: Self) {
        self.slots += other.slots;
        self.declared += other.declared;
        self.recovered += other.recovered;
        self.gaps += other.gaps;
        self.damaged += other.damaged;
        self.flags += other.flags;
        self.off = self.off.max(other.off);
    }
}
