//! A worker with one room: the shell around the room, its shelf and its desk, as
//! the audio thread is, in virtual time.

use std::time::Instant;

use audio_gateway::{
    bus::messages::RoomNews,
    id::{RoomId, TaskId, TrackId, WorkerId},
    limits,
    sdk::adapter::Mode,
    task::{Epoch, Params, Pull},
    worker::{
        core::SessionKey,
        nack::{Answered, Asking, Desk},
        room::{Effects, Notice, Room, Spec, Word},
        shelf::Shelf,
    },
};
use bytes::Bytes;
use fastrand::Rng;

use super::{ORIGIN, adapter::Adapter, truth::Person};

/// A batch on its way to the bus.
#[derive(Debug)]
pub struct Published {
    pub track: TrackId,
    pub seq: u64,
    pub subject: String,
    pub payload: Bytes,
}

/// News of the room, with the position and time told.
pub type Told = (u64, i64, RoomNews);

#[derive(Debug)]
pub struct Worker {
    pub epoch: u64,
    pub room: Room,
    fx: Effects,
    shelf: Shelf,
    desk: Desk,
    pub adapter: Option<Adapter>,
    pipe: Vec<u8>,
    /// When it is swept next, and how often.
    pub due: i64,
    period: i64,
    phase: i64,
    /// It no longer runs.
    pub gone: bool,
    /// The room is closed: it only answers.
    pub closed: bool,
    pub crashed: bool,
}

impl Worker {
    pub fn new(epoch: u64, pull: Pull, phase: i64, now: i64) -> Self {
        let spec = Spec {
            room: RoomId::parse("r").unwrap(),
            task: TaskId::parse("t").unwrap(),
            epoch: Epoch(epoch),
            origin_us: ORIGIN,
            worker: WorkerId::parse("w").unwrap(),
            mode: Mode::Framed,
            params: Params::default(),
            pull: Some(pull),
            push: None,
            held: false,
            taken_over: false,
        };
        let room = Room::new(spec, ORIGIN + now);
        Self {
            epoch,
            period: room.period().as_micros() as i64,
            room,
            fx: Effects::default(),
            shelf: Shelf::new(limits::RING_BYTES),
            desk: Desk::new(now),
            adapter: None,
            pipe: Vec::new(),
            due: now,
            phase,
            gone: false,
            closed: false,
            crashed: false,
        }
    }

    /// A process serves the room.
    pub fn attach(&mut self, adapter: Adapter, now: i64) {
        self.adapter = Some(adapter);
        self.crashed = false;
        self.room.attach(ORIGIN + now, &mut self.fx);
    }

    /// The process has died; what it had written is read.
    pub fn crash(&mut self, people: &[Person], now: i64, rng: &mut Rng) {
        self.read(people, now, rng);
        self.adapter = None;
        self.crashed = true;
        self.room.detach(ORIGIN + now);
    }

    fn read(&mut self, people: &[Person], now: i64, rng: &mut Rng) {
        let Some(adapter) = &mut self.adapter else { return };
        adapter.write(people, now, &mut self.pipe);
        // In pieces, as a pipe gives them.
        let mut rest = &self.pipe[..];
        while !rest.is_empty() {
            let cut = if rng.bool() { rest.len() } else { rng.usize(1..=rest.len()) };
            self.room.take(&rest[..cut], ORIGIN + now, &mut self.fx);
            rest = &rest[cut..];
        }
        self.pipe.clear();
        self.talk(now, rng);
    }

    fn talk(&mut self, now: i64, rng: &mut Rng) {
        let stdin = std::mem::take(&mut self.fx.stdin);
        if let Some(adapter) = &mut self.adapter {
            adapter.hear(&stdin, now, rng);
        }
    }

    /// Reads and publishes; `late` where it should have been earlier.
    pub fn sweep(&mut self, people: &[Person], late: bool, now: i64, rng: &mut Rng) {
        if !self.closed {
            self.read(people, now, rng);
            self.room.settle(ORIGIN + now, !late, &mut self.fx);
            self.talk(now, rng);
        }
        self.due = if self.room.is_joined() {
            now - (now - self.phase).rem_euclid(self.period) + self.period
        } else {
            now + 20_000
        };
    }

    /// The room is no longer served.
    pub fn close(&mut self, now: i64) {
        self.closed = true;
        self.room.close(ORIGIN + now, &mut self.fx);
    }

    /// What was made since it was asked last.
    pub fn collect(&mut self, at: Instant, now: i64) -> (Vec<Published>, Vec<Told>) {
        let spec = self.room.spec();
        let mut published = Vec::new();
        for out in self.fx.batches.drain(..) {
            self.desk.published(out.batch.payload.len(), now);
            let batch = (out.batch.seq, out.batch.payload.clone());
            let (session, number) = (SessionKey(1), out.number);
            self.shelf.keep(session, number, &spec.room, &out.track, spec.epoch, batch, at);
            published.push(Published {
                track: out.track,
                seq: out.batch.seq,
                subject: out.address.to_string(),
                payload: out.batch.payload,
            });
        }
        self.shelf.expire(at);
        let mut told = Vec::new();
        for notice in self.fx.notices.drain(..) {
            match notice {
                Notice::News { pos, time, what } => told.push((pos, time, what)),
                Notice::Word(Word::Broken(why) | Word::Fatal(why)) => panic!("{why}"),
                Notice::Word(_) => (),
            }
        }
        (published, told)
    }

    pub fn answer(
        &mut self,
        track: &TrackId,
        nack: &[u8],
        at: Instant,
        now: i64,
    ) -> Option<Answered> {
        let room = RoomId::parse("r").unwrap();
        let asking = Asking { room: &room, track, payload: nack, came: at };
        self.desk.answer(&mut self.shelf, asking, at, now)
    }
}
