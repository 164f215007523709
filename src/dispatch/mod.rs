//! The dispatcher: takes tasks in, gives them to workers and sees them through.
//!
//! Any dispatcher answers services; one, the leader by lease, schedules. What
//! keeps two leaders, or one that died between two steps, from doing harm is
//! compare-and-set on the buckets and the epoch, never who leads.
//!
//! [`core`] decides and does nothing else, [`lease`] decides who leads, [`run`]
//! is the shell that talks to the bus. The dispatcher knows nothing of audio.

mod api;
pub mod capacity;
mod claims;
pub mod core;
mod figures;
mod handover;
mod index;
pub mod io;
pub mod lease;
mod loads;
mod memory;
pub mod place;
#[cfg(test)]
mod protocol;
mod quarantine;
mod queue;
mod records;
pub mod run;
mod starts;
mod table;
mod tasks;
mod timers;
mod updates;
mod waits;
mod wiped;
mod workers;
