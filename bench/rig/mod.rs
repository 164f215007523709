//! What the benches share: adapters that cost next to nothing, a server, and
//! what a program has used. Each bench takes the part it needs.

pub(crate) mod feed;
pub(crate) mod nats;
pub(crate) mod pace;
pub(crate) mod sink;
pub(crate) mod usage;
