//! The loop of the audio thread: sweeps that are due, then commands, then rest.

use std::{
    collections::{HashSet, VecDeque},
    sync::mpsc::{Receiver, RecvTimeoutError},
    time::{Duration, Instant},
};

use rustc_hash::FxHashMap;
use tokio::sync::{mpsc::error::TrySendError, watch};

use super::{
    Again, Asked, Command, Outlets, PlaneStats, Report,
    seat::{LATE_US, Seat},
    time::Us,
    wheel::{SLOT_US, Wheel},
};
use crate::{
    audio::{AHEAD, ask_for},
    bus::{
        Address,
        messages::{NackStatus, RoomEvent, RoomNews},
        subjects,
    },
    clock,
    id::RoomId,
    limits,
    sdk::process::ChildKey,
    worker::{
        core::SessionKey,
        nack::{Asking, Desk},
        record::Keep,
        room::{Effects, Notice, Room, Spec, Word},
        shelf::Shelf,
    },
};

/// Phases that rooms are given, of the longest period: what they begin with, so
/// that they do not all have a batch at once.
const PHASES: usize = (limits::HEARTBEAT_TRACK.as_micros() as usize) / (SLOT_US as usize);
/// Commands that are worked off before the sweeps have their turn again.
const COMMANDS_AT_ONCE: usize = 64;
/// How often things are put in order and figures are published.
const TIDY_US: Us = 200_000;

/// See the module.
pub(super) struct Thread {
    commands: Receiver<Command>,
    out: Outlets,
    stats_out: watch::Sender<PlaneStats>,
    rooms_out: watch::Sender<HashSet<RoomId>>,
    begin: Instant,
    seats: FxHashMap<SessionKey, Seat>,
    wheel: Wheel,
    /// Rooms by phase.
    phases: [u32; PHASES],
    shelf: Shelf,
    desk: Desk,
    effects: Effects,
    buffer: Vec<u8>,
    /// Reports that found no room; events of rooms up to a bound.
    unreported: VecDeque<Report>,
    stats: PlaneStats,
    tidy_due: Us,
    /// Rooms the shelf had forgotten when it was looked at last.
    forgotten: u64,
    /// What is pushed passes unplayed.
    muted: bool,
    /// A frame of each track is kept for its last batch.
    keep_back: bool,
    stop: bool,
}

impl Thread {
    pub(super) fn new(
        commands: Receiver<Command>,
        out: Outlets,
        ring_bytes: usize,
        stats_out: watch::Sender<PlaneStats>,
        rooms_out: watch::Sender<HashSet<RoomId>>,
    ) -> Self {
        Self {
            commands,
            out,
            stats_out,
            rooms_out,
            begin: Instant::now(),
            seats: FxHashMap::default(),
            wheel: Wheel::new(),
            phases: [0; PHASES],
            shelf: Shelf::new(ring_bytes),
            desk: Desk::new(0),
            effects: Effects::default(),
            buffer: vec![0; 4 * limits::PIPE_BYTES],
            unreported: VecDeque::new(),
            stats: PlaneStats::default(),
            tidy_due: TIDY_US,
            forgotten: 0,
            muted: false,
            keep_back: false,
            stop: false,
        }
    }

    pub(super) fn run(mut self) {
        while !self.stop {
            self.sweep_due();
            self.tidy();
            self.hand_over();
            self.rest();
        }
        self.hand_over();
        self.flush_reports();
        self.publish_stats();
    }

    fn now(&self) -> Us {
        self.begin.elapsed().as_micros() as Us
    }

    /// Waits for a command or the next sweep, and works off commands.
    fn rest(&mut self) {
        let next = self.wheel.next_due().map_or(self.tidy_due, |due| due.min(self.tidy_due));
        let wait = u64::try_from(next - self.now()).unwrap_or(0);
        match self.commands.recv_timeout(Duration::from_micros(wait)) {
            Ok(first) => self.obey(first),
            Err(RecvTimeoutError::Timeout) => return,
            Err(RecvTimeoutError::Disconnected) => return self.stop = true,
        }
        // Nothing is taken out of the queue that is not obeyed.
        for _ in 1..COMMANDS_AT_ONCE {
            let Ok(next) = self.commands.try_recv() else { break };
            self.obey(next);
        }
    }

    fn obey(&mut self, command: Command) {
        let now = self.now();
        match command {
            Command::Open(session, spec) => self.open(session, *spec, now),
            Command::Attach { session, child, stdin, stdout } => {
                // Dropping the pipes of a room that is gone tells the process so.
                let Some(seat) = self.seats.get_mut(&session) else { return };
                seat.attach(child, stdin, stdout, now, &mut self.effects);
                self.plan(session, now);
                self.apply(session, now);
            }
            Command::Leave(session, child) => self.leave(session, child, now),
            Command::Drain(session, child) => self.drain(session, child, now),
            Command::Update(session, pull) => {
                if let Some(seat) = self.seats.get_mut(&session) {
                    seat.room.update(*pull, seat.unix(now), &mut self.effects);
                    self.apply(session, now);
                }
            }
            Command::Close(session) => self.close(session, now),
            Command::Mute(muted) => self.muted = muted,
            Command::KeepBack(keep) => self.keep_back = keep,
            Command::Play(session) => {
                if let Some(seat) = self.seats.get_mut(&session) {
                    seat.held = false;
                }
            }
            Command::Push(session, payload) => {
                if let Some(seat) = self.seats.get_mut(&session) {
                    seat.push(&payload, Instant::now(), now);
                }
            }
            Command::Nack(asked) => self.answer(&asked, now),
            Command::Stop => self.stop = true,
        }
    }

    fn open(&mut self, session: SessionKey, spec: Spec, now: Us) {
        let fewest = self.phases.iter().enumerate().min_by_key(|(_, rooms)| **rooms);
        let phase = fewest.map_or(0, |(phase, _)| phase);
        self.phases[phase] += 1;
        let unix = i64::try_from(clock::unix_us()).unwrap_or(i64::MAX);
        let phase = phase as Us * SLOT_US;
        self.seats.insert(session, Seat::new(Room::new(spec, unix), phase, unix, now));
    }

    fn leave(&mut self, session: SessionKey, child: ChildKey, now: Us) {
        let Some(seat) = self.seats.get_mut(&session).filter(|it| it.child == Some(child)) else {
            return;
        };
        // What it said before it hears of this still counts.
        seat.read(&mut self.buffer, now, &mut self.effects);
        seat.room.leave("the task has ended", &mut self.effects);
        self.apply(session, now);
        if let Some(seat) = self.seats.get_mut(&session) {
            seat.stdin.close();
        }
    }

    fn drain(&mut self, session: SessionKey, child: ChildKey, now: Us) {
        if let Some(seat) = self.seats.get_mut(&session).filter(|it| it.child == Some(child)) {
            seat.drain(&mut self.buffer, now, &mut self.effects);
            self.plan(session, now);
            // Its last words are its own still.
            self.apply(session, now);
            if let Some(seat) = self.seats.get_mut(&session) {
                seat.child = None;
            }
        }
        self.report(Report::Drained(child));
        self.remove_if_over(session);
    }

    fn close(&mut self, session: SessionKey, now: Us) {
        let Some(seat) = self.seats.get_mut(&session).filter(|it| !it.closed) else { return };
        seat.closed = true;
        self.phases[(seat.phase / SLOT_US) as usize] -= 1;
        let unix = seat.unix(now);
        seat.room.close(unix, &mut self.effects);
        self.apply(session, now);
        self.remove_if_over(session);
    }

    fn plan(&mut self, session: SessionKey, now: Us) {
        if let Some(seat) = self.seats.get_mut(&session) {
            seat.plan(now);
            self.wheel.plan(seat.due, session, now);
        }
    }

    fn remove_if_over(&mut self, session: SessionKey) {
        if let Some(seat) = self.seats.get(&session)
            && seat.closed
            && seat.child.is_none()
        {
            self.seats.remove(&session);
        }
    }

    fn sweep_due(&mut self) {
        // Up to now and no further: commands have their turn even where sweeps
        // take longer than there is time.
        let until = self.now();
        while let Some(due) = self.wheel.take_due(until) {
            for few in due.chunks(AHEAD) {
                self.look_ahead(few);
                for &(due, session) in few {
                    self.sweep(session, due);
                }
            }
            self.wheel.give_back(due);
        }
    }

    /// Brings what the sweeps of a few rooms begin with into the cache, all at
    /// once: a room was last looked at 200 ms and a thousand rooms ago, and one
    /// after the other each would wait for memory a dozen times.
    fn look_ahead(&self, rooms: &[(Us, SessionKey)]) {
        let seats = || rooms.iter().filter_map(|(_, session)| self.seats.get(session));
        seats().for_each(ask_for);
        seats().for_each(|seat| seat.room.look_ahead());
        seats().for_each(|seat| seat.room.look_further_ahead());
        rooms.iter().for_each(|(_, session)| self.shelf.look_ahead(*session));
    }

    fn sweep(&mut self, session: SessionKey, due: Us) {
        let now = self.now();
        // One that was planned anew has its turn then.
        let Some(seat) = self.seats.get_mut(&session).filter(|seat| seat.due == due) else {
            return;
        };
        self.stats.sweeps += 1;
        let late = now - due;
        self.stats.late_sweeps += u64::from(late >= LATE_US);
        self.stats.latest_us = self.stats.latest_us.max(late.unsigned_abs());
        let at = self.begin + Duration::from_micros(now.unsigned_abs());
        seat.muted = self.muted;
        seat.room.keep_back(self.keep_back);
        seat.sweep(at, &mut self.buffer, now, &mut self.effects);
        let (played, unplayed) = seat.take_played();
        self.stats.played += played;
        self.stats.unplayed += unplayed;
        self.plan(session, now);
        self.apply(session, now);
    }

    /// What the sweeps made goes to the bus, in one piece.
    fn hand_over(&mut self) {
        self.stats.unpublished += self.out.publish.send() as u64;
    }

    /// Does what a room wants done.
    fn apply(&mut self, session: SessionKey, now: Us) {
        self.flush_stdin(session);
        let Some(seat) = self.seats.get_mut(&session) else { return };
        let (spec, at) = (seat.room.spec(), self.begin + Duration::from_micros(now.unsigned_abs()));
        let mut published = false;
        for out in self.effects.batches.drain(..) {
            let payload = out.batch.payload;
            self.stats.batches += 1;
            self.stats.bytes += payload.len() as u64;
            let batch = (out.batch.seq, payload.clone());
            let first =
                self.shelf.keep(session, out.number, &spec.room, &out.track, spec.epoch, batch, at);
            if first {
                self.rooms_out.send_if_modified(|rooms| rooms.insert(spec.room.clone()));
            }
            self.desk.published(payload.len(), now);
            if out.recorded {
                let names = (&spec.room, &out.track);
                let keep = Keep::new(out.address, payload, names, spec.epoch, out.batch.seq);
                match self.out.record.try_send(keep) {
                    Ok(()) => published = true,
                    Err(_) => self.stats.unrecorded += 1,
                }
            } else if self.out.publish.put(out.address, payload) {
                published = true;
            } else {
                self.stats.unpublished += 1;
            }
        }
        let mut urgent = false;
        if published && !seat.heard && seat.room.is_heard() {
            seat.heard = true;
            urgent = true;
            self.unreported.push_back(Report::Heard(session));
        }
        let child = seat.child;
        for notice in self.effects.notices.drain(..) {
            urgent |= !matches!(notice, Notice::News { what: RoomNews::Clock(_), .. });
            self.unreported.extend(match notice {
                Notice::Word(word) => child.map(|child| Report::Adapter(child, word)),
                Notice::News { .. } if self.unreported.len() >= limits::PLANE_EVENTS => {
                    self.effects.tally.unsaid += 1;
                    None
                }
                Notice::News { pos, time, what } => Some(Report::Event(Box::new(RoomEvent {
                    room: spec.room.clone(),
                    epoch: spec.epoch,
                    pos,
                    time,
                    what,
                }))),
            });
        }
        // Each report wakes who says it. What a clock shows is true later as well, and
        // goes with those of other rooms.
        if urgent {
            self.flush_reports();
        }
    }

    fn flush_stdin(&mut self, session: SessionKey) {
        if self.effects.stdin.is_empty() {
            return;
        }
        let Some(seat) = self.seats.get_mut(&session) else {
            return self.effects.stdin.clear();
        };
        let told = seat.tell(&self.effects.stdin);
        self.effects.stdin.clear();
        if told.is_err() {
            let text = "it does not read what it is told".to_owned();
            self.effects.notices.push(Notice::Word(Word::Broken(text)));
        }
        seat.stdin.flush();
    }

    fn report(&mut self, report: Report) {
        self.unreported.push_back(report);
        self.flush_reports();
    }

    fn flush_reports(&mut self) {
        while let Some(report) = self.unreported.pop_front() {
            match self.out.reports.try_send(report) {
                Ok(()) | Err(TrySendError::Closed(_)) => (),
                Err(TrySendError::Full(report)) => {
                    self.unreported.push_front(report);
                    return;
                }
            }
        }
    }

    fn answer(&mut self, asked: &Asked, now: Us) {
        let Asked { room, track, payload, came, .. } = asked;
        let asking = Asking { room, track, payload, came: *came };
        let answered = self.desk.answer(&mut self.shelf, asking, Instant::now(), now);
        let Some(answered) = answered else { return };
        if let Some(subscriber) = &answered.subscriber {
            let to = Address::new(subjects::resend(room, track, subscriber));
            for batch in answered.batches {
                let bytes = batch.len() as u64;
                let again = Again::Batch(to.clone(), batch, answered.until);
                if self.out.again.try_send(again).is_ok() {
                    self.stats.resent += 1;
                    self.stats.resent_bytes += bytes;
                }
            }
        }
        self.stats.throttled += u64::from(answered.reply.status == NackStatus::Throttled);
        // One that finds no room is asked again.
        let _ = self.out.again.try_send(Again::Reply(asked.reply.clone(), answered.reply));
    }

    fn tidy(&mut self) {
        // With each wake: in larger pieces, memory would be needed for those.
        self.shelf.expire(Instant::now());
        let now = self.now();
        if now < self.tidy_due {
            return;
        }
        self.tidy_due = now + TIDY_US;
        self.flush_reports();
        let (shelf, forgotten) = (&self.shelf, self.shelf.forgotten());
        if forgotten != self.forgotten {
            self.forgotten = forgotten;
            self.rooms_out.send_if_modified(|rooms| {
                let before = rooms.len();
                rooms.retain(|room| shelf.knows(room));
                rooms.len() != before
            });
        }
        self.publish_stats();
    }

    fn publish_stats(&mut self) {
        let cpu = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
        self.stats.cpu_us = (cpu.tv_sec * 1_000_000 + cpu.tv_nsec / 1_000).unsigned_abs();
        self.stats.tally = self.effects.tally;
        self.stats.desk = self.desk.stats();
        self.stats.rooms = self.seats.len();
        self.stats.kept = self.shelf.bytes();
        self.stats.chunks = self.effects.pool.chunks();
        self.stats_out.send_replace(self.stats);
    }
}

#[cfg(test)]
mod tests;
