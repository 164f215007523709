//! The whole media plane in virtual time: adapters as the bytes they write, the
//! room that reads them, a wire on which anything may happen, and listeners who
//! check each sample against what was really said.
//!
//! Each run follows from its seed. `SIM_SEED=n` runs one seed alone,
//! `SIM_SEEDS=n` that many, from `SIM_FROM` on.

// A test binary has no outside.
#![allow(unreachable_pub)]
// A test is the place to panic; clippy sees that only inside `#[test]` itself.
#![allow(clippy::unwrap_used)]

mod adapter;
mod check;
mod stories;
mod storm;

mod truth;
mod wire;
mod worker;
mod world;

use std::time::Instant;

use world::Tally;

/// Runs of `cargo test`.
const SEEDS: u64 = 200;
/// Where rooms' time lines begin, in µs since the Unix epoch.
const ORIGIN: i64 = 1_767_225_600_000_000;

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

#[test]
fn whatever_goes_wrong_each_sample_is_right_or_declared_and_none_comes_twice() {
    let (from, count) = match number("SIM_SEED") {
        Some(seed) => (seed, 1),
        None => (number("SIM_FROM").unwrap_or(0), number("SIM_SEEDS").unwrap_or(SEEDS)),
    };
    let begun = Instant::now();
    let mut all = Tally::default();
    for seed in from..from + count {
        let mut world = storm::storm(seed);
        if let Err(broken) = world.run() {
            let plan = world.plan();
            panic!(
                "{broken}\n\n{plan:#?}\n\nrun it again:  SIM_SEED={seed} cargo test --test media\n"
            );
        }
        all += world.tally();
    }
    println!("{count} runs in {:.1} s: {all:?}", begun.elapsed().as_secs_f64());
    let happened = all.slots > 0 && all.declared > 0 && all.recovered > 0 && all.damaged > 0;
    assert!(count < SEEDS || happened, "nothing happened");
}
