//! The bytes of every message of the contract, one test a message: a change of
//! the wire fails by the name of what it breaks. Each message also stands as an
//! example in `docs/wire.md`.
//!
//! A test here that fails means that programs in the field stop understanding
//! us. Additions are allowed where old readers ignore them; change the text and
//! the document together.

#![allow(clippy::unwrap_used, reason = "in a test a panic is the answer")]

mod batch;
mod document;
mod limits;
mod rooms;
mod subjects;
mod tasks;
mod workers;

use std::fmt::Debug;

use audio_gateway::{
    id::{AdapterName, RoomId, TaskId, TrackId, WorkerId},
    task::{Epoch, Handover},
};
use serde::{Serialize, de::DeserializeOwned};

/// Holds that `message` is written as `json` and `json` is read as `message`,
/// and that the reference shows it.
#[track_caller]
fn golden<M>(message: &M, json: &str)
where
    M: Serialize + DeserializeOwned + PartialEq + Debug,
{
    assert_eq!(serde_json::to_string(message).unwrap(), json, "what is written");
    assert_eq!(serde_json::from_str::<M>(json).unwrap(), *message, "what is read");
    document::shows(json);
}

/// Holds that `json`, which leaves out what has a default, is read as `message`.
#[track_caller]
fn read_as<M: DeserializeOwned + PartialEq + Debug>(json: &str, message: &M) {
    assert_eq!(serde_json::from_str::<M>(json).unwrap(), *message, "{json}");
}

fn task() -> TaskId {
    TaskId::parse("call-42").unwrap()
}

fn room() -> RoomId {
    RoomId::parse("42").unwrap()
}

fn worker() -> WorkerId {
    WorkerId::parse("w1").unwrap()
}

fn w2() -> WorkerId {
    WorkerId::parse("w2").unwrap()
}

fn from_w1() -> Handover {
    Handover { worker: worker(), epoch: Epoch(1_767_225_600_000) }
}

fn sim() -> AdapterName {
    AdapterName::parse("sim").unwrap()
}

fn ann() -> TrackId {
    TrackId::parse("ann").unwrap()
}
