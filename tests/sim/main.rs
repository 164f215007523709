//! The whole control plane in virtual time: dispatchers, workers, the store, the
//! wire, services that submit, and everything that can go wrong between them.
//!
//! Each run follows from its seed. `SIM_SEED=n` runs one seed alone and tells
//! what happened; `SIM_SEEDS=n` runs that many, from `SIM_FROM` on.

// A test binary has no outside.
#![allow(unreachable_pub)]
// A test is the place to panic; clippy sees that only inside `#[test]` itself.
#![allow(clippy::unwrap_used)]

mod check;
mod client;
mod dispatchers;
mod faults;
mod handovers;
mod mishaps;
mod node;
mod services;
mod store;
mod stories;
mod wire;
mod worker;
mod workers;
mod world;

use std::time::Instant;

use fastrand::Rng;
use world::{Scenario, World};

/// Runs of `cargo test`.
const SEEDS: u64 = 200;

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

fn run(seeds: impl Iterator<Item = u64>, tell: bool) {
    let begun = Instant::now();
    let (mut runs, mut served, mut requeued, mut updated) = (0, 0, 0, 0);
    for seed in seeds {
        let mut rng = Rng::with_seed(seed);
        let mut world = World::new(Scenario::storm(&mut rng), rng, tell);
        if let Err(broken) = world.run() {
            panic!("{broken}\n\nrun it again:  SIM_SEED={seed} cargo test --test sim\n");
        }
        runs += 1;
        served += world.checker.served;
        requeued += world.checker.requeued;
        updated += world.checker.updated;
    }
    println!(
        "{runs} runs in {:.1} s: {served} sessions started, {requeued} tasks taken back, {updated} \
         updates taken in",
        begun.elapsed().as_secs_f64()
    );
    let happened = served > 0 && requeued > 0 && updated > 0;
    assert!(tell || happened, "nothing happened");
}

#[test]
fn whatever_goes_wrong_no_room_is_served_twice_and_every_task_is_served() {
    if let Some(seed) = number("SIM_SEED") {
        return run(std::iter::once(seed), true);
    }
    let from = number("SIM_FROM").unwrap_or(0);
    run(from..from + number("SIM_SEEDS").unwrap_or(SEEDS), false);
}
