//! Adapter processes through the real launcher: started, drained, ended,
//! reaped, and never left behind.
#![allow(clippy::unwrap_used, unreachable_pub)]

mod bench;
mod killed;
mod life;
