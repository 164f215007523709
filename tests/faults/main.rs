//! Real faults on real programs: dispatchers, workers, adapters and servers are
//! killed, stopped, continued and cut off, and a listener hears what becomes of
//! the rooms.

// A test is the place to panic; clippy sees that only inside `#[test]` itself.
#![allow(clippy::unwrap_used, unreachable_pub)]

mod cluster;
mod dispatchers;
mod ears;
mod rig;
mod server;
#[path = "../support/mod.rs"]
mod support;
mod workers;
