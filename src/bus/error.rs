//! What can go wrong on the bus, told apart by what a caller can do about it.

use super::messages::Refusal;

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// The server cannot be reached or refuses us.
    #[error(
        "cannot connect to {url}: {cause}; is nats-server running there, and are NATS_URL, NATS_CREDS and NATS_CA right?"
    )]
    Unreachable {
        /// Where.
        url: String,
        /// What the client library says.
        cause: String,
    },
    /// The server is too old.
    #[error("nats-server {found} at {url} is too old: {needed} or newer is needed")]
    TooOld {
        /// Where.
        url: String,
        /// Its version.
        found: String,
        /// The oldest that works.
        needed: String,
    },
    /// A file that the options name cannot be read.
    #[error("cannot read credentials: {0}")]
    Credentials(#[from] std::io::Error),
}

/// Why a message could not be handed to the connection.
#[derive(Debug, thiserror::Error)]
#[error("cannot publish to {subject}: {cause}")]
pub struct PublishError {
    /// Where to.
    pub subject: String,
    /// What the client library says.
    pub cause: String,
}

/// Why a question has no answer.
#[derive(Debug, thiserror::Error)]
pub enum AskError {
    /// Nobody serves the subject.
    #[error("nobody answers on {0}: is the program that serves it running?")]
    NoResponder(String),
    /// No answer in time.
    #[error("no answer from {0} in time")]
    TimedOut(String),
    /// The answer is a refusal.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// The answer cannot be read.
    #[error("the answer from {subject} cannot be read: {cause}")]
    Unreadable {
        /// Who answered.
        subject: String,
        /// Why.
        cause: String,
    },
    /// The question could not be sent.
    #[error("cannot ask {subject}: {cause}")]
    Failed {
        /// Whom.
        subject: String,
        /// Why.
        cause: String,
    },
}
