//! What the integration tests stand on: a real nats-server, a proxy that plays
//! a bad network, programs under test as processes, and waiting for events.
//!
//! Each test binary takes it in with `mod support;`. It knows nothing of what
//! is tested.

// Every test binary compiles its own copy and uses only a part of it.
#![allow(dead_code, unused_imports, unreachable_pub)]
// A test is the place to panic; clippy sees that only inside `#[test]` itself.
#![allow(clippy::unwrap_used)]

mod cluster;
mod engine;
mod errors;
mod program;
pub mod protocol;
mod proxy;
mod server;
mod wait;

pub use cluster::Cluster;
pub use errors::ErrorLog;
pub use program::{Living, Program, Running};
pub use protocol::matches;
pub use proxy::{Counts, Direction, Loss, Proxy};
pub use server::{Builder, NatsServer};
pub use wait::{eventually, lasting, within};
