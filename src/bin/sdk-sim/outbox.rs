//! What a moment has to say, gathered so that it leaves in one write.

use audio_gateway::sdk::pipe::{Encoder, FromAdapter};

/// Bytes on their way to stdout and stderr.
#[derive(Debug, Default)]
pub(crate) struct Outbox {
    encoder: Encoder,
    pub(crate) bytes: Vec<u8>,
    pub(crate) log: Vec<u8>,
}

impl Outbox {
    /// Puts a message on stdout.
    pub(crate) fn send(&mut self, message: &FromAdapter<'_>) {
        if let Err(error) = self.encoder.write(message, &mut self.bytes) {
            self.say(&error.to_string());
        }
    }

    /// Puts a line on stderr.
    pub(crate) fn say(&mut self, line: &str) {
        self.log.extend_from_slice(format!("sdk-sim: {line}\n").as_bytes());
    }
}
