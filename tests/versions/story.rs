//! The recording.

use std::{collections::BTreeMap, sync::LazyLock};

use serde::Deserialize;
use serde_json::Value;

/// One message as it stood on the wire.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Said {
    /// Since the beginning.
    pub(crate) ms: u64,
    pub(crate) subject: String,
    #[serde(default)]
    pub(crate) reply: String,
    #[serde(default)]
    pub(crate) headers: BTreeMap<String, String>,
    pub(crate) data: String,
}

impl Said {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.data).unwrap()
    }
}

/// All of it, in order.
pub(crate) static STORY: LazyLock<Vec<Said>> = LazyLock::new(|| {
    include_str!("0.1.0.jsonl").lines().map(|line| serde_json::from_str(line).unwrap()).collect()
});

/// What a message is, by its subject; an answer by what it answers.
pub(crate) fn kind(said: &Said) -> Option<String> {
    let general = |subject: &str| {
        let mut parts: Vec<&str> = subject.split('.').collect();
        match parts.as_mut_slice() {
            ["gateway", "worker", id, _] | ["gateway", "task", "event", id] => *id = "*",
            ["$KV", _, ..] => parts.truncate(2),
            _ => (),
        }
        parts.join(".")
    };
    if said.subject.starts_with("_INBOX") {
        let asked = STORY.iter().find(|asked| asked.reply == said.subject)?;
        let refused = said.headers.contains_key("Nats-Service-Error-Code");
        let what = if refused { "refusal".to_owned() } else { general(&asked.subject) };
        return Some(format!("answer to {what}"));
    }
    // A deleted key has no value.
    (!said.headers.contains_key("KV-Operation")).then(|| general(&said.subject))
}
