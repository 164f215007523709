//! What the replicas of a micro service say of themselves, all of them at once.

use std::time::Duration;

use bytes::Bytes;
use serde::Deserialize;

use super::{connection::Link, error::PublishError, incoming::read_json};

/// One replica's answer to `$SRV.STATS`.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct Stats {
    /// The replica.
    pub id: String,
    /// Its endpoints.
    pub endpoints: Vec<EndpointStats>,
}

/// What became of one endpoint's requests.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct EndpointStats {
    /// Its name.
    pub name: String,
    /// Requests so far.
    pub num_requests: u64,
    /// Those of them that were refused.
    pub num_errors: u64,
    /// What the service tells beside.
    #[serde(default)]
    pub data: serde_json::Value,
}

impl Stats {
    /// Requests to an endpoint so far.
    #[must_use]
    pub fn requests(&self, endpoint: &str) -> u64 {
        let found = self.endpoints.iter().find(|it| it.name == endpoint);
        found.map_or(0, |endpoint| endpoint.num_requests)
    }

    /// A number of the service's own.
    #[must_use]
    pub fn number(&self, key: &str) -> Option<u64> {
        self.endpoints.first()?.data.get(key)?.as_u64()
    }
}

/// Asks every replica of the service `name`, and returns what came within a
/// while. What cannot be read is left out.
///
/// # Errors
/// As [`Link::publish`].
pub async fn stats(link: &Link, name: &str, within: Duration) -> Result<Vec<Stats>, PublishError> {
    let answers = link.ask_all(&format!("$SRV.STATS.{name}"), Bytes::new(), within).await?;
    Ok(answers.iter().filter_map(|answer| read_json(answer).ok()).collect())
}
