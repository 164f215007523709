//! A real worker with real adapters behind a real server; the test is the
//! dispatcher and the listener.

// A test is the place to panic; clippy sees that only inside `#[test]` itself.
#![allow(clippy::unwrap_used)]

#[path = "../support/mod.rs"]
mod support;

mod lives;
mod nack;
mod outage;
mod raw;
mod record;
mod rig;
mod rooms;
mod strange;
