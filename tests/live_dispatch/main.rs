//! Real dispatchers behind a real server. Services are played by requests, and
//! workers by [`rig::FakeWorker`], which takes what it is given and runs nothing.

// A test is the place to panic; clippy sees that only inside `#[test]` itself.
#![allow(clippy::unwrap_used, unreachable_pub)]

mod api;
mod failover;
mod overload;
mod raw;
mod rig;
#[path = "../support/mod.rs"]
mod support;
mod wiped;
