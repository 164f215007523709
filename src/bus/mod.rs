//! The bus: subjects, messages, and the only code that names the NATS client.
//!
//! [`subjects`] and [`messages`] are pure and are the contract; [`connection`],
//! [`kv`] and [`service`] are thin shells around the client library.

pub mod connection;
mod credentials;
pub mod error;
pub mod history;
pub mod incoming;
pub mod kv;
pub mod messages;
pub mod options;
pub mod recording;
pub mod service;
pub mod subjects;
pub mod survey;

pub use connection::{Link, Purpose};
pub use error::{AskError, ConnectError, PublishError};
pub use incoming::{Address, Inbox, Incoming, Subscription};
pub use options::BusOptions;

/// What a program logs that runs by itself: of the library that carries the
/// messages only what is wrong, since [`Link`] tells of its connections.
pub const LOG_FILTER: &str = "info,async_nats=warn";
