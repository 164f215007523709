//! How to reach the server: the same variables and flags as the `nats` CLI.

use std::path::PathBuf;

use clap::Args;

use super::credentials::Credentials;
use crate::limits;

/// Where the server is and who we are to it.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "NATS")]
pub struct BusOptions {
    /// Server URLs, separated by commas
    #[arg(
        short = 's',
        long = "server",
        env = "NATS_URL",
        hide_env_values = true,
        default_value = "nats://127.0.0.1:4222",
        global = true
    )]
    pub url: String,
    /// Credentials file (JWT and seed)
    #[arg(long, env = "NATS_CREDS", global = true)]
    pub creds: Option<PathBuf>,
    /// User name, or a token where no password is given
    #[arg(long, env = "NATS_USER", hide_env_values = true, global = true)]
    pub user: Option<String>,
    /// Password
    #[arg(long, env = "NATS_PASSWORD", hide_env_values = true, global = true)]
    pub password: Option<String>,
    /// File that holds an NKEY seed
    #[arg(long, env = "NATS_NKEY", conflicts_with = "creds", global = true)]
    pub nkey: Option<PathBuf>,
    /// Certificate authority to trust beside the system's
    #[arg(long, env = "NATS_CA", global = true)]
    pub tlsca: Option<PathBuf>,
    /// Client certificate
    #[arg(long, env = "NATS_CERT", requires = "tlskey", global = true)]
    pub tlscert: Option<PathBuf>,
    /// Client certificate's key
    #[arg(long, env = "NATS_KEY", requires = "tlscert", global = true)]
    pub tlskey: Option<PathBuf>,
    /// Prefix of reply subjects
    #[arg(long, env = "NATS_INBOX_PREFIX", default_value = "_INBOX", global = true)]
    pub inbox_prefix: String,
}

impl BusOptions {
    /// Options for a server without authentication.
    #[must_use]
    pub fn plain(url: &str) -> Self {
        Self {
            url: url.to_owned(),
            creds: None,
            user: None,
            password: None,
            nkey: None,
            tlsca: None,
            tlscert: None,
            tlskey: None,
            inbox_prefix: "_INBOX".to_owned(),
        }
    }

    /// The URLs without what must not be logged.
    #[must_use]
    pub fn shown(&self) -> String {
        let hide = |url: &str| match url.rsplit_once('@') {
            Some((_, host)) => format!("nats://***@{host}"),
            None => url.to_owned(),
        };
        self.url.split(',').map(|url| hide(url.trim())).collect::<Vec<_>>().join(",")
    }

    /// The client library's options.
    pub(super) async fn client_options(&self) -> std::io::Result<async_nats::ConnectOptions> {
        let credentials = match (&self.creds, &self.nkey) {
            (Some(file), _) => Some(Credentials::File(file.clone())),
            (None, Some(file)) => Some(Credentials::Nkey(file.clone())),
            (None, None) => None,
        };
        let options = match credentials {
            Some(credentials) => {
                // Once now, where a wrong file can be told.
                credentials.prove(b"").await?;
                async_nats::ConnectOptions::with_auth_callback(move |nonce| {
                    credentials.clone().answer(nonce)
                })
            }
            None => async_nats::ConnectOptions::new(),
        };
        let mut options = options
            .custom_inbox_prefix(&self.inbox_prefix)
            .connection_timeout(limits::CONNECT_TIMEOUT)
            .request_timeout(Some(limits::REQUEST_TIMEOUT))
            .ping_interval(limits::PING_INTERVAL)
            // The first try is at once: in a cluster another server is there.
            .reconnect_delay_callback(|tries| match tries {
                0 | 1 => std::time::Duration::ZERO,
                _ => limits::RECONNECT_DELAY,
            })
            .max_reconnects(None)
            .client_capacity(limits::CLIENT_CAPACITY);
        match (&self.user, &self.password) {
            (Some(user), Some(password)) => {
                options = options.user_and_password(user.clone(), password.clone());
            }
            (Some(token), None) => options = options.token(token.clone()),
            (None, _) => (),
        }
        if let Some(ca) = &self.tlsca {
            options = options.add_root_certificates(ca.clone());
        }
        if let (Some(cert), Some(key)) = (&self.tlscert, &self.tlskey) {
            options = options.add_client_certificate(cert.clone(), key.clone());
        }
        Ok(options)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passwords_in_urls_are_not_shown() {
        let options = BusOptions::plain("nats://a:b@one:4222, tls://two:4222");
        assert_eq!(options.shown(), "nats://***@one:4222,tls://two:4222");
    }
}
