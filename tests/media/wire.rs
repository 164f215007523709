//! The wire between worker and listeners: what is lost, late, doubled, damaged.

use std::{cmp::Reverse, collections::BinaryHeap};

use bytes::Bytes;
use fastrand::Rng;

/// The weather of a run; shares are of 1,000.
#[derive(Debug, Clone, Copy, Default)]
pub struct Weather {
    /// Batches lost, live and sent again, and questions or answers.
    pub live: u32,
    pub again: u32,
    pub nacks: u32,
    pub twice: u32,
    pub damaged: u32,
    /// The longest a message takes, in µs: those behind it overtake it.
    pub slow: i64,
}

/// Something under way.
#[derive(Debug)]
pub enum Parcel {
    Batch { to: usize, subject: String, payload: Bytes },
    News { to: usize, payload: Bytes },
    Nack { from: usize, ask: u64 },
    Reply { to: usize, ask: u64, reply: Option<Box<audio_gateway::bus::messages::NackReply>> },
}

#[derive(Debug)]
struct Flight(i64, u64, Parcel);

impl PartialEq for Flight {
    fn eq(&self, other: &Self) -> bool {
        (self.0, self.1) == (other.0, other.1)
    }
}
impl Eq for Flight {}
impl PartialOrd for Flight {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Flight {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.0, self.1).cmp(&(other.0, other.1))
    }
}

/// See the module.
#[derive(Debug, Default)]
pub struct Wire {
    pub weather: Weather,
    flights: BinaryHeap<Reverse<Flight>>,
    sent: u64,
    /// Payloads that were damaged on the way.
    pub damaged: u64,
}

impl Wire {
    pub fn new(weather: Weather) -> Self {
        Self { weather, ..Self::default() }
    }

    pub fn next(&self) -> Option<i64> {
        self.flights.peek().map(|flight| flight.0.0)
    }

    pub fn take(&mut self, now: i64) -> Option<Parcel> {
        if self.next()? > now {
            return None;
        }
        self.flights.pop().map(|flight| flight.0.2)
    }

    /// Sends something that arrives at a time.
    pub fn at(&mut self, at: i64, parcel: Parcel) {
        self.sent += 1;
        self.flights.push(Reverse(Flight(at, self.sent, parcel)));
    }

    fn delay(&self, rng: &mut Rng) -> i64 {
        200 + rng.i64(0..=self.weather.slow)
    }

    /// Sends a batch, late, twice, damaged or not at all.
    pub fn batch(
        &mut self,
        to: usize,
        subject: &str,
        payload: &Bytes,
        again: bool,
        now: i64,
        rng: &mut Rng,
    ) {
        let loss = if again { self.weather.again } else { self.weather.live };
        if rng.u32(0..1_000) < loss {
            return;
        }
        let copies = 1 + u32::from(rng.u32(0..1_000) < self.weather.twice);
        for _ in 0..copies {
            let mut payload = payload.clone();
            // Three that are sent again and damaged are lost.
            let spared = again && self.weather.again == 0;
            if !spared && rng.u32(0..1_000) < self.weather.damaged {
                self.damaged += 1;
                payload = damage(&payload, rng);
            }
            let at = now + self.delay(rng);
            self.at(at, Parcel::Batch { to, subject: subject.to_owned(), payload });
        }
    }

    /// Sends a question or an answer.
    pub fn control(&mut self, parcel: Parcel, now: i64, rng: &mut Rng) {
        if rng.u32(0..1_000) >= self.weather.nacks {
            let at = now + self.delay(rng);
            self.at(at, parcel);
        }
    }
}

/// Flips up to eight bits within 32 that follow each other.
fn damage(payload: &Bytes, rng: &mut Rng) -> Bytes {
    let mut bytes = payload.to_vec();
    let bits = bytes.len() * 8;
    let from = rng.usize(0..bits);
    let span = (bits - from).min(32);
    for _ in 0..rng.u32(1..=8) {
        let bit = from + rng.usize(0..span);
        bytes[bit / 8] ^= 1 << (bit % 8);
    }
    bytes.into()
}
