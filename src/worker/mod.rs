//! The worker: takes tasks from dispatchers, runs an adapter for each, and
//! puts the room's audio on the bus.
//!
//! [`core`] decides about sessions and [`room`] about audio, both as pure
//! values; [`plane`] is the thread that reads the adapters' pipes, and `run`
//! the loop that owns everything else.

mod allowance;
mod bucket;
pub mod core;
mod cost;
mod lease;
mod load;
mod loops;
pub mod nack;
mod owner;
pub mod plane;
mod playout;
pub mod record;
mod record_lane;
mod retire;
pub mod room;
mod run;
pub mod shelf;

pub use run::{Options, RunError, run};
