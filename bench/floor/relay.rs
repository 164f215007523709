//! The relay itself. All it does with a frame is to copy it.

use std::{
    collections::VecDeque,
    io::{IoSlice, Read},
    net::TcpStream,
    os::fd::AsFd,
};

use anyhow::Context;
use audio_gateway::audio::Pool;
use bytes::{Buf, BufMut, Bytes};
use rustix::{
    event::{PollFd, PollFlags, epoll, poll},
    io::Errno,
    time::ClockId,
};

use crate::{
    Options, Publish, Relayed, Wake, adapters,
    client::Client,
    rig::{nats, pace, usage},
};

/// Bytes of a frame on the pipe, and of its samples.
const FRAME: usize = 664;
const PCM: usize = 640;
/// What a batch of ours has beside its samples.
const BESIDE: usize = 300;
/// µs before it measures, once every room was heard.
const WARM_UP: i64 = 2_000_000;
/// The same where messages are kept: until then, each is written into memory that
/// the system has to find first.
const WARM_UP_KEPT: i64 = 14_000_000;

struct Room {
    pipe: adapters::Adapter,
    heard: bool,
    subject: async_nats::Subject,
    /// `PUB` and its arguments.
    head: Bytes,
    /// Samples that wait for the message to be full, where it reads every frame.
    held: Vec<u8>,
}

/// See the module.
struct Relay {
    rooms: Vec<Room>,
    server: TcpStream,
    /// What publishes instead.
    client: Option<Client>,
    out: Vec<u8>,
    /// What keeps messages and writes them from where they are kept.
    keeper: Option<Keeper>,
    buffer: Vec<u8>,
    /// Bytes of samples in a message.
    most: usize,
    /// What ends it, in whatever length is needed.
    tail: Vec<u8>,
    count: Relayed,
    heard: usize,
}

/// Messages of the last ten seconds, and pieces that are to be written of them.
#[derive(Default)]
struct Keeper {
    pool: Pool,
    kept: VecDeque<Bytes>,
    keep: usize,
    pieces: VecDeque<Bytes>,
}

/// Is the relay: says when it begins to measure and what it came to.
pub(crate) fn run(options: &Options, server: &str) -> anyhow::Result<()> {
    let pipes = adapters::start(options)?;
    // Ten seconds of all rooms.
    let kept = options.rooms * (500 / options.frames.max(1));
    let client = match options.publish {
        Publish::Socket | Publish::SocketKept => None,
        Publish::Client => Some(Client::start(server, 0, false)?),
        Publish::Kept => Some(Client::start(server, kept, false)?),
        Publish::Here => Some(Client::start(server, 0, true)?),
        Publish::HereKept => Some(Client::start(server, kept, true)?),
    };
    let keeper = (options.publish == Publish::SocketKept)
        .then(|| Keeper { keep: kept, ..Keeper::default() });
    let server = nats::connect(server, "")?;
    server.set_nonblocking(true)?;
    let most = options.frames * PCM;
    let size = most + BESIDE;
    let rooms = pipes.into_iter().enumerate().map(|(index, pipe)| {
        let subject = format!("audio.live.bench-{index}.user-0");
        let head = format!("PUB {subject} {size}\r\n").into();
        Room { pipe, heard: false, subject: subject.into(), head, held: Vec::with_capacity(most) }
    });
    let mut tail = vec![b'x'; size];
    tail.extend_from_slice(b"\r\n");
    let mut relay = Relay {
        rooms: rooms.collect(),
        server,
        client,
        out: Vec::with_capacity(1 << 20),
        keeper,
        buffer: vec![0; 64 * 1024],
        most,
        tail,
        count: Relayed::default(),
        heard: 0,
    };
    let mut measure = Measure::new(options);
    match options.wake {
        Wake::Sweep => relay.sweep(options, &mut measure)?,
        Wake::Frame => relay.wait(&mut measure)?,
    }
    relay.client.map_or(Ok(()), Client::stop)
}

impl Relay {
    /// Reads each room once a message.
    fn sweep(&mut self, options: &Options, measure: &mut Measure) -> anyhow::Result<()> {
        let slot = options.slot_ms * 1_000;
        let slots = (options.frames as i64 * 20_000 / slot).max(1);
        let mut due = (pace::now_us() / slot + 1) * slot;
        loop {
            match &mut self.client {
                Some(client) => client.rest(due)?,
                None => pace::sleep_until(due),
            }
            self.count.sleeps += 1;
            let first = (due / slot % slots) as usize;
            for index in (first..self.rooms.len()).step_by(slots as usize) {
                let bytes = self.read(index)?;
                if bytes > 0 {
                    self.relay(index, bytes);
                }
            }
            self.send()?;
            due += slot;
            if measure.is_over(self, due)? {
                return Ok(());
            }
        }
    }

    /// Reads a room whenever it has something.
    fn wait(&mut self, measure: &mut Measure) -> anyhow::Result<()> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        for (index, room) in self.rooms.iter().enumerate() {
            let data = epoll::EventData::new_u64(index as u64);
            epoll::add(&epoll, &room.pipe.stdout, data, epoll::EventFlags::IN)?;
        }
        let mut events = Vec::with_capacity(1_024);
        loop {
            events.clear();
            match epoll::wait(&epoll, rustix::buffer::spare_capacity(&mut events), None) {
                Ok(_) | Err(Errno::INTR) => self.count.sleeps += 1,
                Err(error) => return Err(error.into()),
            }
            for event in &events {
                let index = event.data.u64() as usize;
                let bytes = self.read(index)?;
                self.gather(index, bytes);
            }
            self.send()?;
            if measure.is_over(self, pace::now_us())? {
                return Ok(());
            }
        }
    }

    /// Reads what a pipe holds; says how many bytes.
    fn read(&mut self, index: usize) -> anyhow::Result<usize> {
        let room = &mut self.rooms[index];
        self.count.reads += 1;
        let bytes = match rustix::io::read(&room.pipe.stdout, &mut self.buffer[..]) {
            Ok(0) => anyhow::bail!("an adapter has left"),
            Ok(bytes) => bytes,
            Err(Errno::AGAIN | Errno::INTR) => return Ok(0),
            Err(error) => return Err(error.into()),
        };
        self.count.frames += (bytes / FRAME) as u64;
        self.heard += usize::from(!room.heard);
        room.heard = true;
        Ok(bytes)
    }

    /// Puts the frames of a read into a message, as many as it has.
    fn relay(&mut self, index: usize, bytes: usize) {
        let frames = self.buffer[..bytes].chunks_exact(FRAME).take(self.most / PCM);
        let pcm = frames.map(|frame| &frame[FRAME - PCM..]);
        if let Some(client) = &mut self.client {
            client.put(&self.rooms[index].subject, self.most + BESIDE, pcm, &self.tail);
            self.count.messages += 1;
            return;
        }
        if let Some(keeper) = &mut self.keeper {
            keeper.put(self.rooms[index].head.clone(), self.most + BESIDE, pcm, &self.tail);
            self.count.messages += 1;
            return;
        }
        let out = &mut self.out;
        out.extend_from_slice(&self.rooms[index].head);
        let begin = out.len();
        pcm.for_each(|pcm| out.extend_from_slice(pcm));
        let filled = out.len() - begin;
        out.extend_from_slice(&self.tail[filled..]);
        self.count.messages += 1;
    }

    /// Keeps the frames of a read until there is a message of them.
    fn gather(&mut self, index: usize, bytes: usize) {
        let room = &mut self.rooms[index];
        for frame in self.buffer[..bytes].chunks_exact(FRAME) {
            room.held.extend_from_slice(&frame[FRAME - PCM..]);
            if room.held.len() == self.most {
                self.out.extend_from_slice(&room.head);
                self.out.append(&mut room.held);
                self.out.extend_from_slice(&self.tail[self.most..]);
                self.count.messages += 1;
            }
        }
    }

    fn send(&mut self) -> anyhow::Result<()> {
        if let Some(client) = &mut self.client {
            client.send()?;
        }
        if let Some(keeper) = &mut self.keeper {
            self.count.writes += keeper.send(&self.server)?;
        }
        let mut rest = &self.out[..];
        while !rest.is_empty() {
            self.count.writes += 1;
            match rustix::io::write(&self.server, rest) {
                Ok(count) => rest = &rest[count..],
                Err(Errno::AGAIN) => {
                    self.count.sleeps += 1;
                    poll(&mut [PollFd::new(&self.server.as_fd(), PollFlags::OUT)], None)?;
                }
                Err(Errno::INTR) => (),
                Err(error) => return Err(error).context("the server is gone"),
            }
        }
        self.out.clear();
        Ok(())
    }

    /// Answers the server's PING: two without an answer end a connection.
    fn pong(&mut self) {
        let mut seen = [0; 1_024];
        while let Ok(count @ 1..) = self.server.read(&mut seen) {
            if seen[..count].windows(4).any(|word| word == b"PING") {
                self.out.extend_from_slice(b"PONG\r\n");
            }
        }
    }
}

impl Keeper {
    fn put<'a>(
        &mut self,
        head: Bytes,
        size: usize,
        pcm: impl Iterator<Item = &'a [u8]>,
        tail: &[u8],
    ) {
        let out = self.pool.buffer(size);
        pcm.for_each(|pcm| out.put_slice(pcm));
        out.put_slice(&tail[out.len()..]);
        let message = out.split().freeze();
        if self.kept.len() == self.keep {
            self.kept.pop_front();
        }
        self.kept.push_back(message.clone());
        self.pieces.extend([head, message]);
    }

    /// Writes all that waits; says in how many calls.
    fn send(&mut self, server: &TcpStream) -> anyhow::Result<u64> {
        let mut calls = 0;
        while !self.pieces.is_empty() {
            let pieces: Vec<_> =
                self.pieces.iter().take(1_024).map(|piece| IoSlice::new(piece)).collect();
            calls += 1;
            let mut written = match rustix::io::writev(server, &pieces) {
                Ok(count) => count,
                Err(Errno::AGAIN) => {
                    poll(&mut [PollFd::new(&server.as_fd(), PollFlags::OUT)], None)?;
                    continue;
                }
                Err(Errno::INTR) => continue,
                Err(error) => return Err(error).context("the server is gone"),
            };
            while let Some(first) = self.pieces.front_mut().filter(|_| written > 0) {
                let done = written.min(first.len());
                first.advance(done);
                written -= done;
                if first.is_empty() {
                    self.pieces.pop_front();
                }
            }
        }
        Ok(calls)
    }
}

/// When it is measured, and what it had used when that began.
struct Measure {
    all_heard: Option<i64>,
    begin: Option<(i64, Relayed)>,
    length: i64,
    warm_up: i64,
    look: i64,
}

impl Measure {
    fn new(options: &Options) -> Self {
        let length = options.seconds as i64 * 1_000_000;
        let warm_up = match options.publish {
            Publish::SocketKept | Publish::Kept | Publish::HereKept => WARM_UP_KEPT,
            Publish::Socket | Publish::Client | Publish::Here => WARM_UP,
        };
        Self { all_heard: None, begin: None, length, warm_up, look: 0 }
    }

    fn is_over(&mut self, relay: &mut Relay, now: i64) -> anyhow::Result<bool> {
        if now < self.look {
            return Ok(false);
        }
        self.look = now + 100_000;
        relay.pong();
        if self.all_heard.is_none() && relay.heard == relay.rooms.len() {
            self.all_heard = Some(now);
        }
        let Some(heard) = self.all_heard.filter(|heard| now >= heard + self.warm_up) else {
            return Ok(false);
        };
        let Some((begin, before)) = &self.begin else {
            println!("measures from {} µs after all were heard", now - heard);
            self.begin = Some((pace::now_us(), used(relay)));
            return Ok(false);
        };
        let now = pace::now_us();
        if now < begin + self.length {
            return Ok(false);
        }
        let after = used(relay);
        let whole = Relayed {
            seconds: (now - begin) as f64 / 1e6,
            cpu_us: after.cpu_us - before.cpu_us,
            voluntary: after.voluntary - before.voluntary,
            involuntary: after.involuntary - before.involuntary,
            sleeps: after.sleeps - before.sleeps,
            reads: after.reads - before.reads,
            writes: after.writes - before.writes,
            frames: after.frames - before.frames,
            messages: after.messages - before.messages,
            written: after.messages,
        };
        println!("{}", serde_json::to_string(&whole)?);
        Ok(true)
    }
}

fn used(relay: &Relay) -> Relayed {
    let usage = usage::of(std::process::id());
    Relayed {
        cpu_us: pace::cpu_us(ClockId::ProcessCPUTime),
        voluntary: usage.voluntary,
        involuntary: usage.involuntary,
        ..relay.count
    }
}
