//! What goes wrong, and when.

use audio_gateway::dispatch::io::Shelf;
use fastrand::Rng;

const MS: u64 = 1_000;

/// One fault.
#[derive(Debug, Clone, Copy)]
pub enum Fault {
    /// A dispatcher dies and is back after a while (in µs).
    KillDispatcher(usize, u64),
    /// It stands still for a while.
    PauseDispatcher(usize, u64),
    /// It cannot reach the server for a while.
    CutDispatcher(usize, u64),
    /// It ends as it should and is started again.
    StopDispatcher(usize, u64),
    /// The leader dies, stands still, is cut off, or ends as it should.
    KillLeader(u64),
    PauseLeader(u64),
    CutLeader(u64),
    StopLeader(u64),
    /// An operator has another one lead.
    StepDown,
    /// A bucket is deleted, and made anew after a while by whoever looks for it.
    DeleteBucket(Shelf, u64),
    /// All in a bucket is removed.
    EmptyBucket(Shelf),
    /// A dispatcher leads for a while, whoever has the lease.
    ForceLeader(usize, u64),
    /// Its clock steps by this many ms.
    StepClock(usize, i64),
    /// Its watches break and begin anew.
    BreakWatch(usize),
    /// A worker dies and is back after a while.
    KillWorker(usize, u64),
    /// It stands still for a while.
    PauseWorker(usize, u64),
    /// It cannot reach the server for a while.
    CutWorker(usize, u64),
    /// Whatever it starts fails for a while, by its own fault or another's.
    SpoilWorker(usize, u64),
    /// Many tasks at once: more than there is room for.
    Burst(u32),
    /// The server is away for a while.
    ServerAway(u64),
    /// A worker is drained, and undrained after a while.
    DrainWorker(usize, u64),
    /// A worker is asked to end, has so long to give its rooms away, and is
    /// back a while after it has ended.
    RetireWorker(usize, u64, u64),
}

impl Fault {
    /// Whether what is kept is lost by it.
    pub fn wipes(self) -> bool {
        matches!(self, Self::DeleteBucket(..) | Self::EmptyBucket(_))
    }

    /// Whether a dispatcher ends by it, and with it what it was about to say.
    pub fn ends_a_dispatcher(self) -> bool {
        matches!(
            self,
            Self::KillDispatcher(..)
                | Self::StopDispatcher(..)
                | Self::KillLeader(..)
                | Self::StopLeader(..)
        )
    }
}

/// The faults of a run, by time in µs.
pub fn plan(rng: &mut Rng, until: u64, dispatchers: usize, workers: usize) -> Vec<(u64, Fault)> {
    if rng.u8(0..4) == 0 {
        return flapping(rng, until, dispatchers, workers);
    }
    let count = if rng.u8(0..8) == 0 { 0 } else { rng.u32(1..12) };
    (0..count)
        .map(|_| {
            let at = rng.u64(0..until);
            let (dispatcher, worker) = (rng.usize(0..dispatchers), rng.usize(0..workers));
            let span = match rng.u8(0..3) {
                0 => rng.u64(10..800),
                1 => rng.u64(500..4_000),
                _ => rng.u64(2_000..12_000),
            } * MS;
            let fault = match rng.u8(0..32) {
                0 | 1 => Fault::KillDispatcher(dispatcher, span),
                2 => Fault::PauseDispatcher(dispatcher, span),
                3 | 4 => Fault::CutDispatcher(dispatcher, span),
                5 => Fault::StopDispatcher(dispatcher, span),
                6 | 7 => Fault::ForceLeader(dispatcher, span),
                8 => {
                    let steps = [-3_600_000, -5_000, -1, 700, 30_000, 7_200_000];
                    Fault::StepClock(dispatcher, steps[rng.usize(0..steps.len())])
                }
                9 => Fault::BreakWatch(dispatcher),
                10 | 11 => Fault::KillWorker(worker, span),
                12 => Fault::PauseWorker(worker, span),
                13 | 14 => Fault::CutWorker(worker, span),
                15 | 16 => Fault::SpoilWorker(worker, 3 * span),
                17 => Fault::Burst(rng.u32(20..80)),
                18..=21 => Fault::DrainWorker(worker, span),
                22 | 23 => Fault::RetireWorker(worker, rng.u64(10..6_000) * MS, span),
                24 | 25 => Fault::ServerAway(span),
                26 | 27 => Fault::StepDown,
                other => {
                    let shelf = if rng.bool() { Shelf::Tasks } else { Shelf::Rooms };
                    match other {
                        28 | 29 => Fault::DeleteBucket(shelf, rng.u64(0..1_000) * MS),
                        _ => Fault::EmptyBucket(shelf),
                    }
                }
            };
            (at, fault)
        })
        .collect()
}

/// Processes that die again and again and are back at once, two leaders all the
/// while: what is under way meets the next life.
fn flapping(rng: &mut Rng, until: u64, dispatchers: usize, workers: usize) -> Vec<(u64, Fault)> {
    (0..rng.u32(20..60))
        .map(|_| {
            let at = rng.u64(0..until);
            let (dispatcher, worker) = (rng.usize(0..dispatchers), rng.usize(0..workers));
            let span = rng.u64(5..700) * MS;
            let fault = match rng.u8(0..8) {
                0 => Fault::KillDispatcher(dispatcher, span),
                1 => Fault::PauseDispatcher(dispatcher, span),
                2 => Fault::CutDispatcher(dispatcher, span),
                3 => Fault::ForceLeader(dispatcher, 10 * span),
                4 => Fault::PauseWorker(worker, span),
                _ => Fault::KillWorker(worker, span),
            };
            (at, fault)
        })
        .collect()
}
