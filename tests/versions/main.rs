//! Version N beside version N-1: a conversation that 0.1.0 had, as `record.py`
//! wrote it down, is read by today's code and replayed to today's dispatcher and
//! worker; and what those say is read by the rules of 0.1.0.

#![allow(clippy::unwrap_used, reason = "in a test a panic is the answer")]

mod old;
mod reads;
mod replay;
mod serves;
mod story;
