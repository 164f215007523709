//! How many submits are let in: a bucket of tokens for each caller and one for
//! all of them.
//!
//! A caller is a connection: its reply subjects begin with an inbox of its own
//! (see [`crate::bus::incoming::Incoming::caller`]). Whoever makes up a new inbox
//! for each request gets past his own bucket, not past that of all; where the
//! server holds him to an inbox prefix, not even past his own.

use std::{
    hash::{BuildHasher, RandomState},
    num::NonZeroU32,
    time::Duration,
};

use governor::{
    NotUntil, Quota, RateLimiter,
    clock::{Clock, DefaultClock},
    middleware::NoOpMiddleware,
    state::{InMemoryState, NotKeyed, keyed::HashMapStateStore},
};

use crate::{
    bus::messages::{Refusal, RefusalCode},
    limits,
};

/// The caller whose bucket those share for whom there is no room.
const CROWD: u64 = 0;

/// See the module.
#[derive(Debug)]
pub(super) struct Gate<C: Clock = DefaultClock> {
    callers: RateLimiter<u64, HashMapStateStore<u64>, C, NoOpMiddleware<C::Instant>>,
    all: RateLimiter<NotKeyed, InMemoryState, C, NoOpMiddleware<C::Instant>>,
    clock: C,
    names: RandomState,
    swept: C::Instant,
}

impl Gate {
    pub(super) fn new() -> Self {
        Self::with_clock(DefaultClock::default())
    }
}

impl<C: Clock + Clone> Gate<C> {
    fn with_clock(clock: C) -> Self {
        let quota =
            |rate, burst| Quota::per_second(at_least_one(rate)).allow_burst(at_least_one(burst));
        let each = quota(limits::SUBMITS_PER_CALLER_S, limits::SUBMITS_PER_CALLER_BURST);
        let all = quota(limits::SUBMITS_PER_S, limits::SUBMITS_BURST);
        Self {
            callers: RateLimiter::new(each, HashMapStateStore::default(), clock.clone()),
            all: RateLimiter::direct_with_clock(all, clock.clone()),
            swept: clock.now(),
            names: RandomState::new(),
            clock,
        }
    }

    /// Lets a submit in, or says when to come back.
    pub(super) fn pass(&mut self, caller: &str) -> Result<(), Refusal> {
        self.sweep();
        let mut key = self.names.hash_one(caller) | 1;
        if self.callers.len() >= limits::CALLERS_MAX {
            key = CROWD;
        }
        let each = limits::SUBMITS_PER_CALLER_S;
        let early = |early: NotUntil<C::Instant>| early.wait_time_from(self.clock.now());
        self.callers.check_key(&key).map_err(early).map_err(|wait| {
            refusal(wait, &format!("more than {each} submits a second from you"))
        })?;
        let most = limits::SUBMITS_PER_S;
        self.all
            .check()
            .map_err(early)
            .map_err(|wait| refusal(wait, &format!("more than {most} submits a second")))
    }

    /// Forgets callers whose buckets are full again: once a second, and sooner
    /// where there are many.
    fn sweep(&mut self) {
        let now = self.clock.now();
        let crowded = self.callers.len() >= limits::CALLERS_MAX;
        let span = if crowded { SWEEP_CROWDED } else { SWEEP };
        if governor::clock::Reference::duration_since(&now, self.swept) >= span.into() {
            self.swept = now;
            self.callers.retain_recent();
            self.callers.shrink_to_fit();
        }
    }
}

const SWEEP: Duration = Duration::from_secs(1);
const SWEEP_CROWDED: Duration = Duration::from_millis(20);

fn refusal(wait: Duration, why: &str) -> Refusal {
    Refusal {
        retry_after_ms: u64::try_from(wait.as_millis()).unwrap_or(u64::MAX).max(1),
        ..Refusal::new(RefusalCode::RateLimited, format!("{why}: come back"))
    }
}

fn at_least_one(number: u32) -> NonZeroU32 {
    NonZeroU32::new(number).unwrap_or(NonZeroU32::MIN)
}

#[cfg(test)]
mod tests {
    use governor::clock::FakeRelativeClock;

    use super::*;

    fn gate() -> (Gate<FakeRelativeClock>, FakeRelativeClock) {
        let clock = FakeRelativeClock::default();
        (Gate::with_clock(clock.clone()), clock)
    }

    fn passed(gate: &mut Gate<FakeRelativeClock>, caller: &str, times: u32) -> u32 {
        (0..times).map(|_| u32::from(gate.pass(caller).is_ok())).sum()
    }

    #[test]
    fn one_caller_cannot_take_what_is_everybody_s() {
        let (mut gate, clock) = gate();
        assert_eq!(passed(&mut gate, "hog", 5_000), limits::SUBMITS_PER_CALLER_BURST);
        assert_eq!(passed(&mut gate, "other", 100), 100);
        let refusal = gate.pass("hog").unwrap_err();
        assert_eq!(refusal.error, RefusalCode::RateLimited);
        assert!(refusal.message.contains("from you"), "{refusal}");
        assert!((1..=10).contains(&refusal.retry_after_ms), "{refusal:?}");
        // Who comes back when he was told is let in.
        clock.advance(Duration::from_millis(refusal.retry_after_ms));
        assert_eq!(gate.pass("hog"), Ok(()));
        clock.advance(Duration::from_secs(1));
        assert_eq!(passed(&mut gate, "hog", 5_000), limits::SUBMITS_PER_CALLER_S);
    }

    #[test]
    fn all_together_have_a_limit_too() {
        let (mut gate, clock) = gate();
        let crowd = |gate: &mut Gate<FakeRelativeClock>| -> u32 {
            (0..100).map(|caller| passed(gate, &format!("c{caller}"), 100)).sum()
        };
        assert_eq!(crowd(&mut gate), limits::SUBMITS_BURST);
        let refusal = gate.pass("c7").unwrap_err();
        assert!(refusal.message.starts_with("more than 500 submits a second:"), "{refusal}");
        clock.advance(Duration::from_secs(1));
        assert_eq!(crowd(&mut gate), limits::SUBMITS_PER_S);
    }

    #[test]
    fn a_million_callers_take_no_more_memory_than_a_few_thousand() {
        let (mut gate, clock) = gate();
        let (mut most, mut let_in) = (0, 0);
        for caller in 0..1_000_000_u32 {
            let_in += u32::from(gate.pass(&caller.to_string()).is_ok());
            most = most.max(gate.callers.len());
            if caller % 100 == 0 {
                clock.advance(Duration::from_micros(100));
            }
        }
        assert!(most <= limits::CALLERS_MAX + 1, "{most}");
        // One second has passed.
        assert_eq!(let_in, limits::SUBMITS_BURST + limits::SUBMITS_PER_S);
        clock.advance(Duration::from_secs(3));
        assert_eq!(gate.pass("somebody"), Ok(()));
        assert_eq!(gate.callers.len(), 1);
    }
}
