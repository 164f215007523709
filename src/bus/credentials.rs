//! Credentials in files: a JWT with its seed, or a seed alone. They are read at
//! each connect, so that a file that is replaced while we run is in force from
//! the next connection on: a JWT may live for hours, we for months.

use std::{io, path::PathBuf};

use async_nats::{Auth, AuthError};
use nkeys::KeyPair;

/// Where a proof of who we are comes from.
#[derive(Debug, Clone)]
pub(super) enum Credentials {
    /// A credentials file: JWT and seed, as `nsc` writes it.
    File(PathBuf),
    /// A file that holds a seed alone.
    Nkey(PathBuf),
}

impl Credentials {
    /// Reads the file and signs what the server asks to be signed.
    pub(super) async fn prove(&self, nonce: &[u8]) -> io::Result<Auth> {
        let (Self::File(file) | Self::Nkey(file)) = self;
        let wrong = |kind, why: String| io::Error::new(kind, format!("{}: {why}", file.display()));
        let text = tokio::fs::read_to_string(file)
            .await
            .map_err(|error| wrong(error.kind(), error.to_string()))?;
        let invalid = |why: &str| wrong(io::ErrorKind::InvalidData, why.to_owned());
        let (jwt, seed) = match self {
            Self::File(_) => (
                Some(block(&text, "JWT").ok_or_else(|| invalid("it holds no block of a JWT"))?),
                block(&text, "SEED").ok_or_else(|| invalid("it holds no block of a seed"))?,
            ),
            Self::Nkey(_) => (None, text.trim()),
        };
        // What the library says of a bad seed names none of it.
        let key = KeyPair::from_seed(seed).map_err(|_| invalid("its seed is not an NKEY's"))?;
        let mut auth = Auth::new();
        auth.nkey = jwt.is_none().then(|| key.public_key());
        auth.jwt = jwt.map(str::to_owned);
        auth.signature = Some(key.sign(nonce).map_err(|_| invalid("its seed cannot sign"))?);
        Ok(auth)
    }

    /// What the client library asks at each connect.
    pub(super) async fn answer(self, nonce: Vec<u8>) -> Result<Auth, AuthError> {
        self.prove(&nonce).await.map_err(|error| {
            tracing::warn!(%error, "cannot read the credentials");
            AuthError::new(error)
        })
    }
}

/// The line within `-----BEGIN … name-----` and `------END … name------`.
fn block<'t>(text: &'t str, name: &str) -> Option<&'t str> {
    let mut lines = text.lines().map(str::trim);
    lines.find(|line| {
        line.strip_prefix("-----BEGIN ")
            .is_some_and(|rest| rest.trim_end_matches('-').ends_with(name))
    })?;
    lines.find(|line| !line.is_empty()).filter(|line| !line.starts_with("--"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_are_found_whatever_stands_around_them() {
        let file = "-----BEGIN NATS USER JWT-----\r\nabc\n------END NATS USER JWT------\n\n\
                    **** IMPORTANT ****\n-----BEGIN USER NKEY SEED-----\n\nSUA\n---END---\n";
        assert_eq!((block(file, "JWT"), block(file, "SEED")), (Some("abc"), Some("SUA")));
        assert_eq!(
            block("-----BEGIN NATS USER JWT-----\n------END NATS USER JWT------", "JWT"),
            None
        );
        assert_eq!(block("abc", "JWT"), None);
    }
}
