//! The audio thread's time.

/// µs since the thread began.
pub(super) type Us = i64;
