//! What operators touch, against a real server, real dispatchers and workers:
//! the command line's verbs, and the same as any NATS client sees it.

#![allow(clippy::unwrap_used, reason = "in a test a panic is the answer")]

#[path = "../support/mod.rs"]
mod support;

mod drains;
mod figures;
mod keeps;
mod leads;
mod rig;
mod screen;
mod story;
