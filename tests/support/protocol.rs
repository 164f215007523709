//! As much of the NATS protocol as a proxy needs: where one operation ends and
//! the next begins, and which of them carry a message.

use bytes::{Buf, Bytes, BytesMut};

/// One whole operation as it was on the wire.
#[derive(Debug, PartialEq, Eq)]
pub struct Operation {
    /// All its bytes, the payload included.
    pub bytes: Bytes,
    /// The subject, where it carries a message (MSG, HMSG, PUB, HPUB).
    pub subject: Option<String>,
}

/// Takes the next whole operation off the front, or nothing where more bytes
/// are needed.
pub fn take(buffer: &mut BytesMut) -> Option<Operation> {
    let line = buffer.windows(2).position(|pair| pair == b"\r\n")? + 2;
    let Some((subject, payload)) = message(&buffer[..line - 2]) else {
        return Some(Operation { bytes: buffer.split_to(line).freeze(), subject: None });
    };
    let whole = line + payload + 2;
    if buffer.len() < whole {
        buffer.reserve(whole - buffer.len());
        return None;
    }
    Some(Operation { bytes: buffer.split_to(whole).freeze(), subject: Some(subject) })
}

/// Subject and payload length of a line that opens a message. In all four
/// forms the subject is the second word and the length the last.
fn message(line: &[u8]) -> Option<(String, usize)> {
    let line = std::str::from_utf8(line).ok()?;
    let mut words = line.split_ascii_whitespace();
    if !matches!(words.next()?, "MSG" | "HMSG" | "PUB" | "HPUB") {
        return None;
    }
    Some((words.next()?.to_owned(), words.next_back()?.parse().ok()?))
}

/// Whether a subject falls under a filter with `*` and `>`.
pub fn matches(filter: &str, subject: &str) -> bool {
    let (mut filter, mut subject) = (filter.split('.'), subject.split('.'));
    loop {
        match (filter.next(), subject.next()) {
            (Some(">"), Some(_)) | (None, None) => return true,
            (Some("*"), Some(_)) => (),
            (Some(want), Some(have)) if want == have => (),
            _ => return false,
        }
    }
}
