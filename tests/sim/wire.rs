//! The wire and the server: how long things take, what gets lost, who is cut
//! off from whom.

use audio_gateway::dispatch::io::Shelf;
use fastrand::Rng;

const MS: u64 = 1_000;

/// How a part of the system is reached.
#[derive(Debug, Default)]
pub struct Port {
    /// Cut off from the server until then.
    pub cut_until: Option<u64>,
    /// The server has noticed, and answers "nobody" in its stead.
    pub noticed: bool,
    /// Stopped until then; what comes waits.
    pub paused_until: Option<u64>,
}

impl Port {
    pub fn is_cut(&self) -> bool {
        self.cut_until.is_some()
    }
}

/// The weather of a run.
#[derive(Debug, Clone)]
pub struct Weather {
    /// The longest a message takes, in µs.
    pub slow: u64,
    /// Of 1,000 messages that many are lost.
    pub loss: u32,
    /// Of 1,000 requests to the store that many are lost, or their answers.
    pub store_loss: u32,
    /// Of 1,000 watch updates that many take long.
    pub lag: u32,
    /// Of 1,000 steps that many are the last of their process.
    pub step_crash: u32,
    /// The leader dies so many steps after a moment, each one thing it asks of
    /// the store or a worker.
    pub dies_after: Option<(u64, u32)>,
    /// The server is away until then.
    pub away_until: Option<u64>,
    /// Buckets that are gone, until then.
    pub gone: Vec<(Shelf, u64)>,
}

impl Weather {
    pub fn of(rng: &mut Rng) -> Self {
        if rng.u8(0..4) == 0 {
            return Self::fair();
        }
        let mut some = |most: u32| if rng.bool() { rng.u32(0..=most) } else { 0 };
        let (loss, store_loss, lag, step_crash) = (some(60), some(30), some(100), some(8));
        Self {
            slow: [2, 10, 60, 300][rng.usize(0..4)] * MS,
            loss,
            store_loss,
            lag,
            step_crash,
            dies_after: None,
            away_until: None,
            gone: Vec::new(),
        }
    }

    /// Nothing goes wrong.
    pub fn fair() -> Self {
        Self {
            slow: 2 * MS,
            loss: 0,
            store_loss: 0,
            lag: 0,
            step_crash: 0,
            dies_after: None,
            away_until: None,
            gone: Vec::new(),
        }
    }

    /// Whether nothing is lost and nothing takes long.
    pub fn is_fair(&self) -> bool {
        self.loss == 0 && self.store_loss == 0 && self.lag == 0 && self.slow <= 60 * MS
    }

    /// Nothing goes wrong any more.
    pub fn calm(&mut self) {
        self.slow = self.slow.min(10 * MS);
        self.loss = 0;
        self.store_loss = 0;
        self.lag = 0;
        self.step_crash = 0;
    }

    /// Whether a bucket is there.
    pub fn has(&self, shelf: Shelf, now: u64) -> bool {
        !self.gone.iter().any(|(gone, until)| *gone == shelf && now < *until)
    }

    pub fn delay(&self, rng: &mut Rng) -> u64 {
        100 + rng.u64(0..self.slow)
    }

    pub fn loses(&self, rng: &mut Rng) -> bool {
        self.away_until.is_some() || rng.u32(0..1_000) < self.loss
    }

    pub fn store_loses(&self, rng: &mut Rng) -> bool {
        self.away_until.is_some() || rng.u32(0..1_000) < self.store_loss
    }

    pub fn watch_delay(&self, rng: &mut Rng) -> u64 {
        if rng.u32(0..1_000) < self.lag { rng.u64(0..3_000) * MS } else { self.delay(rng) }
    }
}
