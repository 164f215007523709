//! One room with the pipes of its adapter, and when it is swept next.

use std::time::Instant;

use bytes::Bytes;
use rustix::io::Errno;

use super::{
    outlet::{Outlet, Stuck},
    rhythm::Rhythm,
    time::Us,
};
use crate::{
    limits,
    sdk::process::{ChildKey, Pipe},
    worker::{
        playout::{Played, Playout},
        room::{Effects, Room},
    },
};

/// How often a room is swept whose adapter has not joined, in µs: the moment it
/// joins anchors its clock.
const STARTING_US: i64 = 20_000;
/// How often at most a pipe is read before it is due, as a power of two.
const HALVINGS_MAX: u32 = 4;
/// How often a room is played to, in µs.
const PLAY_US: i64 = limits::FRAME.as_micros() as i64;
/// A sweep this late, in µs, says nothing about the adapter.
pub(super) const LATE_US: i64 = 50_000;

/// See the module.
#[derive(Debug)]
pub(super) struct Seat {
    pub(super) room: Room,
    pub(super) child: Option<ChildKey>,
    pub(super) closed: bool,
    /// What is pushed passes unplayed.
    pub(super) muted: bool,
    /// Its audio is on the bus.
    pub(super) heard: bool,
    /// What is pushed passes unplayed: another worker plays it.
    pub(super) held: bool,
    stdout: Option<Pipe>,
    pub(super) stdin: Outlet,
    /// Unix time less the thread's, in µs: fixed while the room is served, so
    /// that a clock that is set moves no audio.
    offset: i64,
    /// The next sweep.
    pub(super) due: Us,
    /// The next time the pipe is read.
    read_due: Us,
    /// When it is looked at for the next batch.
    rhythm: Rhythm,
    /// The next time something is played.
    play_due: Us,
    /// What is played to the room, where a task says so.
    playout: Option<Box<Playout>>,
    /// Slots handed to the adapter, those it had no room for, and both as told.
    played: u64,
    unplayed: u64,
    told: (u64, u64),
    /// Where in a period it begins to be looked at.
    pub(super) phase: Us,
    was_joined: bool,
    /// How often the pipe is read within a period, as a power of two.
    halvings: u32,
}

impl Seat {
    pub(super) fn new(room: Room, phase: Us, unix_us: i64, now: Us) -> Self {
        let playout = room.spec().push.is_some().then(|| Box::new(Playout::new()));
        let rhythm = Rhythm::new(room.period().as_micros() as Us, phase, now);
        Self {
            phase,
            child: None,
            closed: false,
            muted: false,
            heard: false,
            held: room.spec().held,
            stdout: None,
            stdin: Outlet::default(),
            offset: unix_us - now,
            due: now,
            read_due: now,
            rhythm,
            play_due: now,
            playout,
            played: 0,
            unplayed: 0,
            told: (0, 0),
            was_joined: false,
            halvings: 0,
            room,
        }
    }

    /// The Unix time of a time of the thread.
    pub(super) fn unix(&self, now: Us) -> i64 {
        now + self.offset
    }

    /// A process serves the room from now on.
    pub(super) fn attach(
        &mut self,
        child: ChildKey,
        stdin: Option<Pipe>,
        stdout: Option<Pipe>,
        now: Us,
        fx: &mut Effects,
    ) {
        self.child = Some(child);
        self.stdout = stdout;
        self.stdin = Outlet::open(stdin);
        self.was_joined = false;
        self.halvings = 0;
        self.room.attach(self.unix(now), fx);
    }

    /// Plays, reads and publishes what is due.
    pub(super) fn sweep(&mut self, at: Instant, buffer: &mut [u8], now: Us, fx: &mut Effects) {
        let late = now - self.due;
        if self.playout.is_some() && now >= self.play_due {
            self.play(at, now, &mut fx.frame);
        }
        self.stdin.flush();
        if now >= self.read_due {
            self.read(buffer, now, fx);
        }
        if !self.room.is_joined() {
            self.room.settle(self.unix(now), late < LATE_US, fx);
        } else if now >= self.rhythm.due() && self.rhythm.looked(self.room.found(), now) {
            self.room.settle(self.unix(now), late < LATE_US, fx);
            self.rhythm.settled(self.room.rest(), now);
            if !self.room.has_tracks() {
                self.rhythm.park(now);
            }
        }
    }

    /// Takes a payload of the subject from which the room is played to.
    pub(super) fn push(&mut self, payload: &Bytes, at: Instant, now: Us) {
        if let Some(playout) = &mut self.playout {
            playout.take(payload, at, now);
        }
    }

    /// Plays what is due; `frame` is used for each in turn.
    fn play(&mut self, at: Instant, now: Us, frame: &mut Vec<u8>) {
        let Some(playout) = &mut self.playout else { return };
        if !self.room.hears() {
            return playout.hold(now);
        }
        let mut silent = true;
        while let Some(slot) = playout.due(at, now) {
            if self.muted || self.held {
                continue;
            }
            silent = false;
            let pcm = match &slot {
                Played::Audio(pcm) => Some(&pcm[..]),
                Played::Quiet => None,
            };
            if self.room.play(pcm, frame) {
                self.unplayed += self.stdin.media(frame);
                self.played += 1;
            }
        }
        if silent && self.room.is_raw() && self.room.play(None, frame) {
            self.stdin.media(frame);
        }
    }

    /// Queues what the adapter is told.
    pub(super) fn tell(&mut self, bytes: &[u8]) -> Result<(), Stuck> {
        self.unplayed += self.stdin.control(bytes)?;
        Ok(())
    }

    /// Slots played and left out since it was asked last.
    pub(super) fn take_played(&mut self) -> (u64, u64) {
        let stats = self.playout.as_ref().map(|playout| playout.stats()).unwrap_or_default();
        let unplayed = self.unplayed + stats.dropped + stats.refused;
        let new = (self.played - self.told.0, unplayed - self.told.1);
        self.told = (self.played, unplayed);
        new
    }

    /// When to come back, after a sweep.
    pub(super) fn plan(&mut self, now: Us) {
        if !self.room.is_joined() {
            self.was_joined = false;
            self.due = now + STARTING_US;
            (self.read_due, self.play_due) = (self.due, self.due);
            return;
        }
        let period = self.room.period().as_micros() as Us;
        if !self.was_joined {
            self.was_joined = true;
            self.rhythm = Rhythm::new(period, self.phase, now);
            self.play_due = now - now % PLAY_US + self.phase % PLAY_US;
        }
        // The reads between divide the period evenly and end on its end.
        let look = self.rhythm.due();
        let step = period >> self.halvings;
        self.read_due = look - (look - now - 1).max(0) / step * step;
        self.due = self.read_due;
        if self.playout.is_some() {
            while self.play_due <= now {
                self.play_due += PLAY_US;
            }
            self.due = self.due.min(self.play_due);
        }
    }

    /// Reads what the pipe holds, at most twice as much.
    pub(super) fn read(&mut self, buffer: &mut [u8], now: Us, fx: &mut Effects) {
        let unix = self.unix(now);
        let mut most = self.room.appetite(unix).min(buffer.len());
        let Some(pipe) = &self.stdout else { return };
        let capacity = pipe.capacity;
        let mut total = 0;
        while most > 0 {
            match rustix::io::read(&pipe.fd, &mut buffer[..most]) {
                Ok(0) => {
                    self.stdout = None;
                    self.room.closed(fx);
                    break;
                }
                Ok(count) => {
                    self.room.take(&buffer[..count], unix, fx);
                    total += count;
                    most -= count;
                    // Less than it could hold: it is empty now.
                    if count + limits::PIPE_AUDIO_MAX < capacity || total > 2 * capacity {
                        break;
                    }
                }
                Err(Errno::INTR) => (),
                Err(_) => break,
            }
        }
        // A pipe is to be half empty at least when it is read.
        if total > capacity / 2 {
            self.halvings = (self.halvings + 1).min(HALVINGS_MAX);
        } else if total < capacity / 8 {
            self.halvings = self.halvings.saturating_sub(1);
        }
    }

    /// The process is gone: reads what it left, until nothing comes.
    pub(super) fn drain(&mut self, buffer: &mut [u8], now: Us, fx: &mut Effects) {
        let unix = self.unix(now);
        // What another process that holds the pipe may add is not waited for.
        let mut left = 16 * buffer.len();
        if let Some(pipe) = self.stdout.take() {
            while let Ok(count @ 1..) = rustix::io::read(&pipe.fd, &mut *buffer) {
                self.room.take(&buffer[..count], unix, fx);
                left = left.saturating_sub(count);
                if left == 0 {
                    break;
                }
            }
        }
        self.stdin = Outlet::default();
        self.room.detach(unix);
    }
}
