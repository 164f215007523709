//! Audio as plain values: batches and their slots, a room's time line, what a
//! worker keeps of a track and what a listener makes of it.
//!
//! Nothing here reads a clock, opens a socket or starts a loop: time and bytes
//! are handed in, and what to do with the result is left to the caller.
//!
//! The way out of a worker is [`Timeline`] → [`TrackWriter`] → [`Ring`], past a
//! [`Tap`] into a [`Mixer`] where a track is mixed as well; the
//! way into a listener [`Batch::decode`] → [`Reorder`] → [`Filler`].

mod ahead;
mod batch;
mod drift;
mod fill;
mod frame;
mod gaps;
mod mix;
mod order;
mod pack;
mod pending;
mod place;
mod pool;
mod reorder;
mod ring;
mod runs;
mod tap;
mod timeline;
mod track;
mod wire;
mod writer;

pub use ahead::{AHEAD, ask_for, ask_for_slice};
pub use batch::{Batch, BatchError, BatchView, Slot};
pub use drift::Drift;
pub use fill::{Fill, Filler, Piece, Sound};
pub use frame::{
    FLAG_DISCONTINUITY, FLAG_LAST, FLAG_RESENT, FLAG_TALK_SPURT, Format, SLOTS_PER_S, SlotState,
};
pub use gaps::{Gap, GapReason, Pace};
pub use mix::{MixStats, Mixed, Mixer, SourceKey};
pub use order::{ReorderConfig, ReorderStats};
pub use place::Break;
pub use pool::Pool;
pub use reorder::{Delivered, Delivery, Reorder};
pub use ring::{Resend, Ring};
pub use runs::{Run, Runs};
pub use tap::{Tap, Tapped};
pub use timeline::{Origin, Timeline};
pub use track::{Encoded, Track, WriterStats};
pub use wire::resent;
pub use writer::TrackWriter;

#[cfg(test)]
mod tests;
