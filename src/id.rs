//! Identifiers, parsed once and valid ever after.
//!
//! A *token* is 1 to 64 characters of `A-Z a-z 0-9 _ -`. It holds no `.`, `*`,
//! `>` or space, so it can neither split a NATS subject nor match one. Ids from
//! an SDK may be any string; [`TrackId::of_user`] encodes those that are no
//! token, one to one.

use std::{fmt, sync::Arc};

use serde::{Deserialize, Serialize, Serializer};
use sha2::{Digest, Sha256};

use crate::limits::TOKEN_MAX;

/// Why a string is not the identifier it was taken for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{kind} {shown} is not a token: use 1 to 64 characters of A-Z a-z 0-9 _ - ({why})")]
pub struct IdError {
    kind: &'static str,
    shown: String,
    why: &'static str,
}

/// Checks the alphabet and length of a token.
fn check(kind: &'static str, text: &str) -> Result<(), IdError> {
    let why = if text.is_empty() {
        "it is empty"
    } else if text.len() > TOKEN_MAX {
        "it is too long"
    } else if !text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-') {
        "it holds another character"
    } else {
        return Ok(());
    };
    Err(IdError { kind, shown: shown(text), why })
}

/// The text as an error shows it: escaped and at most 32 characters.
fn shown(text: &str) -> String {
    let mut head: String = text.chars().take(32).collect();
    if head.len() < text.len() {
        head.push('…');
    }
    format!("{head:?}")
}

macro_rules! token {
    ($(#[$doc:meta])* $name:ident, $kind:literal) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize)]
        #[serde(try_from = "String")]
        pub struct $name(Arc<str>);

        impl $name {
            /// Accepts a token.
            ///
            /// # Errors
            /// [`IdError`] names the text and the mend.
            pub fn parse(text: &str) -> Result<Self, IdError> {
                check($kind, text)?;
                Ok(Self(text.into()))
            }
        }
        ident!($name);
    };
}

macro_rules! ident {
    ($name:ident) => {
        impl $name {
            /// The identifier as it stands in a subject.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
                to.serialize_str(&self.0)
            }
        }
        impl TryFrom<String> for $name {
            type Error = IdError;
            fn try_from(text: String) -> Result<Self, IdError> {
                Self::parse(&text)
            }
        }
        impl std::str::FromStr for $name {
            type Err = IdError;
            fn from_str(text: &str) -> Result<Self, IdError> {
                Self::parse(text)
            }
        }
        impl From<$name> for String {
            fn from(id: $name) -> String {
                id.0.as_ref().to_owned()
            }
        }
    };
}

token!(
    /// A live voice room, named by the service that submits the task.
    RoomId,
    "room"
);
token!(
    /// A task; also its idempotency key.
    TaskId,
    "task"
);
token!(
    /// One worker process.
    WorkerId,
    "worker"
);
token!(
    /// One dispatcher process.
    DispatcherId,
    "dispatcher"
);
token!(
    /// A program that listens to a room and may ask for batches again.
    SubscriberId,
    "subscriber"
);
token!(
    /// A source of audio that a service pushes into a room.
    SourceId,
    "source"
);
token!(
    /// An adapter as the workers' configuration names it.
    AdapterName,
    "sdk"
);

impl TaskId {
    /// A fresh id: a UUIDv7, so that ids sort by time.
    #[must_use]
    pub fn fresh() -> Self {
        Self(uuid::Uuid::now_v7().to_string().into())
    }
}

impl SubscriberId {
    /// A fresh id for a subscriber that has no name of its own.
    #[must_use]
    pub fn fresh() -> Self {
        Self(uuid::Uuid::new_v4().simple().to_string().into())
    }
}

/// One track of a room: a participant's audio, or a mix.
///
/// A token, or a token behind `=` where it stands for a user id that is none.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize)]
#[serde(try_from = "String")]
pub struct TrackId(Arc<str>);

impl TrackId {
    /// Accepts a token, or `=` and up to 63 characters of a token.
    ///
    /// # Errors
    /// [`IdError`] names the text and the mend.
    pub fn parse(text: &str) -> Result<Self, IdError> {
        match text.strip_prefix('=') {
            Some("") => (),
            Some(_) if text.len() > TOKEN_MAX => {
                return Err(IdError { kind: "track", shown: shown(text), why: "it is too long" });
            }
            Some(rest) => check("track", rest)?,
            None => check("track", text)?,
        }
        Ok(Self(text.into()))
    }

    /// The track of a participant as the SDK names it.
    ///
    /// A token stands for itself. Any other id becomes `=` and the base64url of
    /// its UTF-8 bytes without padding (RFC 4648 §5), or, where that is over 64
    /// characters, `=h` and the first 128 bits of its SHA-256 in hexadecimal.
    /// No base64 text has the 33 characters of the latter, so the two never
    /// meet, and no two users share a track.
    #[must_use]
    pub fn of_user(user: &str) -> Self {
        if check("track", user).is_ok() {
            return Self(user.into());
        }
        Self::of_user_apart(user)
    }

    /// The track of a participant whose id as it stands names another track: in
    /// the form of [`TrackId::of_user`] for ids that are no tokens.
    #[must_use]
    pub fn of_user_apart(user: &str) -> Self {
        let plain = format!("={}", data_encoding::BASE64URL_NOPAD.encode(user.as_bytes()));
        if plain.len() <= TOKEN_MAX {
            return Self(plain.into());
        }
        let hash = Sha256::digest(user.as_bytes());
        Self(format!("=h{}", data_encoding::HEXLOWER.encode(&hash[..16])).into())
    }
}
ident!(TrackId);

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn what_could_split_or_match_a_subject_is_refused() {
        let long = "x".repeat(5_000);
        for bad in ["", ".", "..", "*", ">", "a b", "a.b", "=x", "😀", "a\0b", "a\r\nb", &long] {
            assert!(RoomId::parse(bad).is_err(), "{bad:?}");
            let error = TaskId::parse(bad).unwrap_err().to_string();
            assert!(error.contains("1 to 64") && error.len() < 300, "{error}");
        }
        assert_eq!(RoomId::parse("A-z_09").unwrap().as_str(), "A-z_09");
    }

    #[test]
    fn user_ids_keep_apart() {
        let long = "u".repeat(100);
        let users = ["", ".", "..", "*", ">", "a b", "a_b", "a-b", "😀", "a\0b", "=YSBi", &long];
        let tracks: HashSet<_> = users.iter().map(|user| TrackId::of_user(user)).collect();
        assert_eq!(tracks.len(), users.len());
        for track in &tracks {
            assert_eq!(TrackId::parse(track.as_str()).unwrap(), *track);
        }
        assert_eq!(TrackId::of_user("a b").as_str(), "=YSBi");
        assert_eq!(TrackId::of_user(&long).as_str().len(), 34);
    }

    #[test]
    fn serde_checks_too() {
        assert!(serde_json::from_str::<RoomId>("\"a.b\"").is_err());
        assert_eq!(serde_json::from_str::<RoomId>("\"ab\"").unwrap().as_str(), "ab");
    }
}
