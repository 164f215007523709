//! Every message of the contract that is JSON, as a type.
//!
//! `docs/wire.md` is their reference and `tests/golden` holds their bytes;
//! audio batches are msgpack and live in [`crate::audio`]. Unknown fields are
//! ignored in what programs of ours send each other, so that versions mix.

mod rooms;
mod tasks;
mod workers;

pub use rooms::*;
pub use tasks::*;
pub use workers::*;

/// What is left out of a message because it says nothing.
#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks by reference")]
fn is_false(value: &bool) -> bool {
    !*value
}

/// Likewise.
#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks by reference")]
fn is_zero(number: &u64) -> bool {
    *number == 0
}
