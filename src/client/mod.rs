//! What programs import: hand in tasks, watch them, and listen to rooms.
//!
//! [`Gateway`] is the control side and opens a [`Listener`], which brings the
//! batches of a room into order, asks the worker for those that are missing and
//! declares a gap where one does not come. [`WavFile`] keeps what was heard.
//!
//! Decisions are in `ears`, which is pure; the loop around it is the listener's.

pub mod ears;
mod events;
mod gateway;
mod keep;
mod listen;
mod options;
mod wait;
mod wav;

pub use ears::{Ending, Heard, ListenStats, Sounds};
pub use events::Events;
pub use gateway::Gateway;
pub use keep::{KeepError, KeepOptions};
pub use listen::{ListenError, Listener};
pub use options::{DropOnPurpose, From, ListenOptions, Tracks};
pub use wait::WaitError;
pub use wav::{WavError, WavFile, WavGap, WavReport};
