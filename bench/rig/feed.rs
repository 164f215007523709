//! Writes the audio of all rooms from one thread, into the pipes of adapters
//! that only lend their names: a process that wakes 50 times a second costs
//! 500 µs of CPU a room-second for the waking alone, which at a thousand rooms
//! is a quarter of a small machine, and has nothing to do with what is measured.
//!
//! What comes out is what a thousand adapters write: one frame of 664 bytes in
//! each 20 ms, in one write, each room at a moment of its own. The clock counts
//! from the Unix epoch, and a sample's value is its number since then, so a room
//! goes on without a seam whoever serves it.

use std::{
    fs::{File, OpenOptions},
    io,
    os::{
        fd::OwnedFd,
        unix::{fs::OpenOptionsExt, net::UnixDatagram},
    },
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering::Relaxed},
        mpsc,
    },
    thread::JoinHandle,
    time::{SystemTime, UNIX_EPOCH},
};

use audio_gateway::sdk::pipe::{HEADER_BYTES, Header, Kind};
use rustix::{io::Errno, thread::set_current_timer_slack, time::ClockId};

use super::pace;

/// The name of its thread.
pub(crate) const THREAD: &str = "feed";
/// A frame in µs.
const FRAME_US: i64 = 20_000;
/// Moments within it at which rooms are written to.
const STEPS: i64 = 10;
const STEP_US: i64 = FRAME_US / STEPS;
/// Frames whose moment is remembered: 5 s.
const DEPTH: usize = 256;
/// Bytes of 20 ms.
const PCM_BYTES: usize = 640;
/// How late the kernel may wake the thread, in ns.
const SLACK_NS: u64 = 50_000;

/// How the samples stand on a pipe.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Shape {
    /// As frames of the SDK pipe.
    Framed,
    /// Nothing but samples.
    Raw,
}

struct Pipe {
    room: usize,
    shape: Shape,
    to: File,
    seq: u32,
}

/// When each frame entered its pipe.
#[derive(Debug)]
pub(crate) struct Moments {
    /// Unix time less the monotonic clock's, in µs, fixed at the beginning.
    offset: i64,
    at: Vec<AtomicI64>,
}

impl Moments {
    /// The time, µs since the Unix epoch, of the clock that the feeder goes by.
    pub(crate) fn now(&self) -> i64 {
        pace::now_us() + self.offset
    }

    /// When the frame entered its pipe that holds the last sample before `end`.
    pub(crate) fn written(&self, room: usize, end: i64) -> Option<i64> {
        let phase = phase(room);
        // Positions are rounded to samples of 62.5 µs.
        let frame = (end - phase - 100).div_euclid(FRAME_US) + 1;
        let at = self.at.get(place(room, frame))?.load(Relaxed);
        let meant = frame * FRAME_US + phase;
        // Another one's by now, or not yet written.
        (meant - STEP_US..meant + FRAME_US * DEPTH as i64 / 2).contains(&at).then_some(at)
    }

    fn note(&self, room: usize, frame: i64, at: i64) {
        if let Some(place) = self.at.get(place(room, frame)) {
            place.store(at, Relaxed);
        }
    }
}

fn phase(room: usize) -> i64 {
    room as i64 % STEPS * STEP_US
}

fn place(room: usize, frame: i64) -> usize {
    room * DEPTH + frame.rem_euclid(DEPTH as i64) as usize
}

/// What the feeder has done so far.
#[derive(Debug, Default)]
struct Count {
    frames: AtomicU64,
    /// Frames for which a pipe had no room.
    dropped: AtomicU64,
    /// The latest a frame was written after it was due, in µs, and the sum.
    latest_us: AtomicI64,
    cpu_us: AtomicI64,
    pipes: AtomicU64,
    stop: AtomicBool,
}

/// See the module. Dropping it ends the thread and removes the socket.
pub(crate) struct Feeder {
    path: Option<PathBuf>,
    count: Arc<Count>,
    moments: Arc<Moments>,
    more: mpsc::Sender<(usize, OwnedFd, Shape)>,
    thread: Option<JoinHandle<()>>,
}

impl Feeder {
    /// Starts it for so many rooms. Adapters say at `socket` that they are there.
    pub(crate) fn start(rooms: usize, socket: Option<&Path>) -> io::Result<Self> {
        let path = socket.map(Path::to_owned);
        let socket = socket.map(UnixDatagram::bind).transpose()?;
        if let Some(socket) = &socket {
            socket.set_nonblocking(true)?;
        }
        let unix = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let moments = Arc::new(Moments {
            offset: unix.as_micros() as i64 - pace::now_us(),
            at: std::iter::repeat_with(AtomicI64::default).take(rooms * DEPTH).collect(),
        });
        let count = Arc::new(Count::default());
        let (more, newcomers) = mpsc::channel();
        let thread = Thread {
            socket,
            newcomers,
            lanes: std::array::from_fn(|_| Vec::new()),
            count: Arc::clone(&count),
            moments: Arc::clone(&moments),
        };
        let thread = std::thread::Builder::new().name(THREAD.to_owned()).spawn(|| thread.run())?;
        Ok(Self { path, count, moments, more, thread: Some(thread) })
    }

    /// Writes to this pipe from now on.
    pub(crate) fn add(&self, room: usize, pipe: OwnedFd, shape: Shape) -> io::Result<()> {
        rustix::io::ioctl_fionbio(&pipe, true)?;
        self.more.send((room, pipe, shape)).map_err(|_| io::ErrorKind::BrokenPipe.into())
    }

    /// When each frame entered its pipe.
    pub(crate) fn moments(&self) -> Arc<Moments> {
        Arc::clone(&self.moments)
    }

    /// Pipes it writes to.
    pub(crate) fn pipes(&self) -> u64 {
        self.count.pipes.load(Relaxed)
    }

    /// Frames written, frames a pipe had no room for, and the latest of them
    /// in µs since this was asked last.
    pub(crate) fn frames(&self) -> (u64, u64, i64) {
        let count = &self.count;
        let latest = count.latest_us.swap(0, Relaxed);
        (count.frames.load(Relaxed), count.dropped.load(Relaxed), latest)
    }

    /// CPU time of its thread in µs.
    pub(crate) fn cpu_us(&self) -> i64 {
        self.count.cpu_us.load(Relaxed)
    }
}

impl Drop for Feeder {
    fn drop(&mut self) {
        self.count.stop.store(true, Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
        if let Some(path) = &self.path {
            let _ = std::fs::remove_file(path);
        }
    }
}

struct Thread {
    socket: Option<UnixDatagram>,
    newcomers: mpsc::Receiver<(usize, OwnedFd, Shape)>,
    lanes: [Vec<Pipe>; STEPS as usize],
    count: Arc<Count>,
    moments: Arc<Moments>,
}

impl Thread {
    fn run(mut self) {
        // Where it is refused, frames come a little later.
        let _ = set_current_timer_slack(std::num::NonZeroU64::new(SLACK_NS));
        let offset = self.moments.offset;
        let mut due = (self.moments.now() / STEP_US + 1) * STEP_US;
        let mut bytes = vec![0; HEADER_BYTES + PCM_BYTES];
        while !self.count.stop.load(Relaxed) {
            pace::sleep_until(due - offset);
            self.welcome();
            self.write(due, &mut bytes);
            // Without a room to write to it only looks whether one has come.
            let none = self.lanes.iter().all(Vec::is_empty);
            due += if none { FRAME_US } else { STEP_US };
            self.count.cpu_us.store(pace::cpu_us(ClockId::ThreadCPUTime), Relaxed);
        }
    }

    /// Takes in who has come.
    fn welcome(&mut self) {
        let mut text = [0; 128];
        while let Some(Ok(length)) = self.socket.as_ref().map(|socket| socket.recv(&mut text)) {
            match std::str::from_utf8(&text[..length]).ok().and_then(lent) {
                Some((room, to)) => self.take(Pipe { room, shape: Shape::Framed, to, seq: 0 }),
                None => eprintln!("feeder: an adapter's pipe cannot be opened"),
            }
        }
        while let Ok((room, pipe, shape)) = self.newcomers.try_recv() {
            self.take(Pipe { room, shape, to: pipe.into(), seq: 0 });
        }
    }

    fn take(&mut self, pipe: Pipe) {
        self.count.pipes.fetch_add(1, Relaxed);
        self.lanes[pipe.room % STEPS as usize].push(pipe);
    }

    /// Writes the frame that ends at `due` to each room whose moment that is.
    fn write(&mut self, due: i64, bytes: &mut [u8]) {
        let lane = (due % FRAME_US / STEP_US) as usize;
        let pts = due - FRAME_US;
        // 16 samples a ms, and STEP_US is whole ms: nothing is rounded.
        let first = pts / 1_000 * 16;
        for (index, sample) in bytes[HEADER_BYTES..].chunks_exact_mut(2).enumerate() {
            sample.copy_from_slice(&((first + index as i64) as u16).to_le_bytes());
        }
        let (count, moments) = (&self.count, &self.moments);
        self.lanes[lane].retain_mut(|pipe| {
            let header = Header {
                kind: Kind::Audio as u8,
                flags: 0,
                stream: 1,
                seq: pipe.seq,
                length: PCM_BYTES as u32,
                pts,
            };
            pipe.seq = pipe.seq.wrapping_add(1);
            bytes[..HEADER_BYTES].copy_from_slice(&header.to_bytes());
            let bytes = match pipe.shape {
                Shape::Framed => &bytes[..],
                Shape::Raw => &bytes[HEADER_BYTES..],
            };
            let now = moments.now();
            moments.note(pipe.room, due / FRAME_US, now);
            count.latest_us.fetch_max(now - due, Relaxed);
            // A write of less than a page is whole or not at all.
            match rustix::io::write(&pipe.to, bytes) {
                Ok(_) => count.frames.fetch_add(1, Relaxed),
                Err(Errno::AGAIN) => count.dropped.fetch_add(1, Relaxed),
                // Nobody reads it any more.
                Err(_) => {
                    count.pipes.fetch_sub(1, Relaxed);
                    return false;
                }
            };
            true
        });
    }
}

/// The room and the standard output of a process that lends it: `PID ROOM`,
/// where the room's name ends with its number.
fn lent(text: &str) -> Option<(usize, File)> {
    let (pid, room) = text.split_once(' ')?;
    let pid: u32 = pid.parse().ok()?;
    let room = room.rsplit('-').next()?.parse().ok()?;
    let nonblocking = rustix::fs::OFlags::NONBLOCK.bits() as i32;
    let path = format!("/proc/{pid}/fd/1");
    let to = OpenOptions::new().write(true).custom_flags(nonblocking).open(path).ok()?;
    Some((room, to))
}
