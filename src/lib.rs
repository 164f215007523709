//! The library behind audio-gateway: live voice rooms on a NATS bus.
//!
//! The modules stand in floor order: a module uses only what is above it in
//! this list, and modules of one floor do not know each other. `tests/tidy.rs`
//! holds that, and `ARCHITECTURE.md` says why.

// floor 0: every bound
pub mod limits;
// floor 1: names and process-wide matters
pub mod clock;
pub mod id;
pub mod json;
pub mod shutdown;
pub mod telemetry;
// floor 2: values
pub mod audio;
pub mod task;
// floor 3: the outside world
pub mod bus;
pub mod sdk;
// floor 4: the programs
pub mod client;
pub mod dispatch;
pub mod worker;
