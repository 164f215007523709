//! Mixes as a task names them: whose voices are in one, and on which side. How
//! they are mixed is `audio`'s.

use std::fmt;

use serde::{
    Deserialize, Deserializer, Serialize, Serializer,
    de::{self, value::MapAccessDeserializer},
};

use super::{SpecError, refuse};
use crate::{id::TrackId, limits};

/// One mix. In JSON a name alone, where everybody is in it, or an object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mix {
    /// Its track.
    pub name: TrackId,
    /// Who is heard in each of its channels: one, or left and right.
    pub channels: Vec<Voices>,
}

/// Whose voices: of these roles or these users, of everybody where neither is
/// named; and none of those that are excepted.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Voices {
    /// Whoever has one of these roles, as the SDK names them.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub roles: Vec<String>,
    /// And these, as the SDK names them.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub users: Vec<String>,
    /// But nobody of these roles …
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub except_roles: Vec<String>,
    /// … and none of these.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub except_users: Vec<String>,
}

impl Voices {
    /// Whether a participant is among them.
    #[must_use]
    pub fn have(&self, user: &str, role: &str) -> bool {
        let all = self.roles.is_empty() && self.users.is_empty();
        let among = |texts: &[String], text: &str| texts.iter().any(|it| it == text);
        (all || among(&self.roles, role) || among(&self.users, user))
            && !among(&self.except_roles, role)
            && !among(&self.except_users, user)
    }

    fn lists(&self) -> [&Vec<String>; 4] {
        [&self.roles, &self.users, &self.except_roles, &self.except_users]
    }
}

impl Mix {
    /// Everybody in one channel.
    #[must_use]
    pub fn of_all(name: TrackId) -> Self {
        Self { name, channels: vec![Voices::default()] }
    }

    /// The channels in which a participant is heard, a bit each.
    #[must_use]
    pub fn channels_of(&self, user: &str, role: &str) -> u8 {
        let heard = self.channels.iter().enumerate().filter(|(_, it)| it.have(user, role));
        heard.fold(0, |bits, (channel, _)| bits | 1 << (channel & 7))
    }

    fn is_of_all(&self) -> bool {
        matches!(&self.channels[..], [all] if *all == Voices::default())
    }

    /// Holds the mixes of a task against their bounds.
    pub(super) fn check_all(mixes: &[Self]) -> Result<(), SpecError> {
        if mixes.len() > limits::TASK_MAX_MIXES {
            let most = limits::TASK_MAX_MIXES;
            return refuse("pull.mix", format!("{} mixes; use at most {most}", mixes.len()));
        }
        for (at, mix) in mixes.iter().enumerate() {
            mix.check()?;
            if mixes[..at].iter().any(|other| other.name == mix.name) {
                let why = format!("{} is named twice: give each mix a name of its own", mix.name);
                return refuse("pull.mix", why);
            }
        }
        Ok(())
    }

    fn check(&self) -> Result<(), SpecError> {
        let name = &self.name;
        if name.as_str().starts_with('=') {
            let why = format!("{name} is the track of a user: let the name be a token");
            return refuse("pull.mix", why);
        }
        let most = usize::from(limits::BATCH_MAX_CHANNELS);
        if self.channels.is_empty() || self.channels.len() > most {
            let count = self.channels.len();
            let why = format!(
                "{name} has {count} channels: use one, or two for left and right; or the name alone"
            );
            return refuse("pull.mix", why);
        }
        for list in self.channels.iter().flat_map(Voices::lists) {
            let long = list.iter().any(|text| text.len() > limits::TASK_MAX_STRING);
            if long || list.len() > limits::TASK_MAX_LIST {
                let (most, bytes) = (limits::TASK_MAX_LIST, limits::TASK_MAX_STRING);
                let why = format!("{name}: name at most {most} roles or users of {bytes} bytes");
                return refuse("pull.mix", why);
            }
        }
        Ok(())
    }
}

/// The object, as it is written where the name alone does not say it.
#[derive(Serialize, Deserialize)]
struct Object {
    name: TrackId,
    #[serde(default = "everybody")]
    channels: Vec<Voices>,
}

fn everybody() -> Vec<Voices> {
    vec![Voices::default()]
}

impl Serialize for Mix {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        // So that whoever knows names alone goes on reading what it can.
        if self.is_of_all() {
            return self.name.serialize(serializer);
        }
        Object { name: self.name.clone(), channels: self.channels.clone() }.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Mix {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl<'de> de::Visitor<'de> for Visitor {
            type Value = Mix;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a name, or an object with name and channels")
            }

            fn visit_str<E: de::Error>(self, name: &str) -> Result<Mix, E> {
                TrackId::parse(name).map(Mix::of_all).map_err(E::custom)
            }

            fn visit_map<A: de::MapAccess<'de>>(self, map: A) -> Result<Mix, A::Error> {
                let Object { name, channels } =
                    Object::deserialize(MapAccessDeserializer::new(map))?;
                Ok(Mix { name, channels })
            }
        }
        deserializer.deserialize_any(Visitor)
    }
}
