//! Adapters: the processes that sit in a room for us, and the pipe to them.

pub mod adapter;
pub mod launch;
pub mod pipe;
pub mod process;
pub mod raw;
