//! The cases: each starts its own programs, plays its fault again and again, and
//! returns what it measured.

pub(crate) mod cluster;
pub(crate) mod consumer;
pub(crate) mod drain;
pub(crate) mod leader;
pub(crate) mod server;
pub(crate) mod store;
pub(crate) mod submits;
pub(crate) mod worker;
