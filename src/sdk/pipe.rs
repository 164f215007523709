//! The framed protocol between a worker and its adapter: pure, bytes in and
//! messages out, in both directions, so that the simulated room speaks it too.
//!
//! A frame is a 24-byte little-endian header and a payload; `docs/sdk-pipe.md`
//! is the reference to write an adapter from. This module owns the layout, the
//! typed messages and the recovery after garbage on stdout; who may say what
//! when, and every file descriptor, belong to those who use it.
//!
//! ```
//! use audio_gateway::sdk::pipe::{Decoder, Encoder, FromAdapter, ToAdapter};
//!
//! // the adapter's side …
//! let mut bytes = Vec::new();
//! let mut encoder = Encoder::default();
//! encoder.write(&FromAdapter::Idle { stream: 1, pts: 40_000 }, &mut bytes)?;
//!
//! // … and the worker's
//! let mut decoder = Decoder::from_adapter();
//! let mut input = bytes.as_slice();
//! while let Some(frame) = decoder.next(&mut input) {
//!     match FromAdapter::parse(frame)? {
//!         FromAdapter::Idle { stream, pts } => assert_eq!((stream, pts), (1, 40_000)),
//!         other => panic!("{other:?}"),
//!     }
//! }
//! # encoder.write(&ToAdapter::Ping, &mut bytes)?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod decode;
mod encode;
mod from_adapter;
mod header;
mod payload;
mod sounds;
mod to_adapter;

pub use decode::{Counters, Decoder};
pub use encode::{EncodeError, Encoder, Message};
pub use from_adapter::FromAdapter;
pub use header::{Frame, HEADER_BYTES, Header, Kind, MAGIC, MUST_UNDERSTAND, VERSION};
pub use payload::{Audio, Hello, Join, MediaClock, Participant, Refusal, Stats, Track, Welcome};
pub use sounds::Sounds;
pub use to_adapter::ToAdapter;

/// The protocol number in HELLO and WELCOME.
pub const PROTOCOL: u32 = 1;
/// Audio on the pipe is a multiple of this many bytes: 10 ms, half a frame.
pub const AUDIO_STEP: usize = crate::limits::FRAME_BYTES / 2;

#[cfg(test)]
mod tests;
