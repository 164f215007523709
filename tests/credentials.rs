//! Who we are to the server: an NKEY, a JWT with its seed, and what happens
//! when the file is wrong or is replaced while we run.

// A test is the place to panic; clippy sees that only inside `#[test]` itself.
#![allow(clippy::unwrap_used)]

mod support;

use std::{
    path::{Path, PathBuf},
    sync::atomic::Ordering,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use audio_gateway::bus::{BusOptions, Link, Purpose};
use data_encoding::BASE64URL_NOPAD as BASE64;
use nkeys::KeyPair;
use serde_json::{Value, json};
use support::{NatsServer, within};

const PATIENCE: Duration = Duration::from_secs(30);

/// Writes a file and returns where.
fn file(folder: &Path, name: &str, text: &str) -> PathBuf {
    let path = folder.join(name);
    std::fs::write(&path, text).unwrap();
    path
}

fn unix_now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()
}

/// An operator, an account and the server's configuration that trusts them.
struct Authority {
    account: KeyPair,
    config: String,
}

impl Authority {
    fn new() -> Self {
        let (operator, account) = (KeyPair::new_operator(), KeyPair::new_account());
        let trusted = jwt(&operator, &operator, None, &json!({"type": "operator", "version": 2}));
        let limits = json!({"subs": -1, "data": -1, "payload": -1, "imports": -1, "exports": -1,
            "wildcards": true, "conn": -1, "leaf": -1});
        let claims = json!({"type": "account", "version": 2, "limits": limits,
            "default_permissions": {"pub": {}, "sub": {}}});
        let preload = jwt(&operator, &account, None, &claims);
        let config = format!(
            "operator: {trusted}\nresolver: MEMORY\nresolver_preload: {{ {}: {preload} }}\n",
            account.public_key()
        );
        Self { account, config }
    }

    /// A credentials file of a user whose JWT is good until a Unix time.
    fn credentials(&self, until: u64) -> String {
        let user = KeyPair::new_user();
        let claims = json!({"type": "user", "version": 2, "pub": {}, "sub": {},
            "subs": -1, "data": -1, "payload": -1});
        format!(
            "-----BEGIN NATS USER JWT-----\n{}\n------END NATS USER JWT------\n\n\
             -----BEGIN USER NKEY SEED-----\n{}\n------END USER NKEY SEED------\n",
            jwt(&self.account, &user, Some(until), &claims),
            user.seed().unwrap()
        )
    }
}

/// Claims about `subject`, signed by `issuer`.
fn jwt(issuer: &KeyPair, subject: &KeyPair, until: Option<u64>, claims: &Value) -> String {
    let header = json!({"typ": "JWT", "alg": "ed25519-nkey"});
    let mut body = json!({"jti": "1", "iat": unix_now(), "name": "t", "nats": claims,
        "iss": issuer.public_key(), "sub": subject.public_key()});
    if let Some(until) = until {
        body["exp"] = until.into();
    }
    let encode = |value: &Value| BASE64.encode(value.to_string().as_bytes());
    let signed = format!("{}.{}", encode(&header), encode(&body));
    let signature = BASE64.encode(&issuer.sign(signed.as_bytes()).unwrap());
    format!("{signed}.{signature}")
}

#[tokio::test]
async fn an_nkey_opens_and_another_does_not() {
    let folder = tempfile::tempdir().unwrap();
    let (key, other) = (KeyPair::new_user(), KeyPair::new_user());
    let users = format!("authorization {{ users: [ {{ nkey: {} }} ] }}\n", key.public_key());
    let config = file(folder.path(), "server.conf", &users);
    let server = NatsServer::build().config(config).start().await;
    let mut options = BusOptions::plain(&server.url());
    options.nkey = Some(file(folder.path(), "user.nk", &format!("{}\n", key.seed().unwrap())));
    let link = Link::connect(&options, "t", Purpose::Control).await.unwrap();
    link.barrier().await.unwrap();

    options.nkey = Some(file(folder.path(), "other.nk", &other.seed().unwrap()));
    let error = Link::connect(&options, "t", Purpose::Control).await.unwrap_err().to_string();
    assert!(error.contains("authorization violation"), "{error}");
}

#[tokio::test]
async fn a_file_that_is_no_credentials_is_named_and_its_seed_is_not() {
    let folder = tempfile::tempdir().unwrap();
    let mut options = BusOptions::plain("nats://127.0.0.1:0");
    let seed = KeyPair::new_user().seed().unwrap();
    let broken = seed.replace('A', "B");
    for (name, text, why) in [
        ("no-jwt.creds", seed.clone(), "no block of a JWT"),
        ("no-seed.creds", "-----BEGIN NATS USER JWT-----\nabc\n".to_owned(), "no block of a seed"),
        (
            "seed.creds",
            format!("-----BEGIN NATS USER JWT-----\na\n-----BEGIN USER NKEY SEED-----\n{broken}\n"),
            "not an NKEY's",
        ),
    ] {
        options.creds = Some(file(folder.path(), name, &text));
        let error = Link::connect(&options, "t", Purpose::Control).await.unwrap_err().to_string();
        assert!(error.contains(name) && error.contains(why), "{error}");
        assert!(!error.contains(&seed) && !error.contains(&broken), "{error}");
    }
    options.creds = Some(folder.path().join("nowhere.creds"));
    let error = Link::connect(&options, "t", Purpose::Control).await.unwrap_err().to_string();
    assert!(error.contains("nowhere.creds: No such file"), "{error}");
}

/// The server ends a connection whose JWT has run out; the next one is made
/// with what stands in the file by then.
#[tokio::test]
async fn a_jwt_that_was_replaced_in_time_is_used_when_the_old_one_runs_out() {
    let folder = tempfile::tempdir().unwrap();
    let authority = Authority::new();
    let config = file(folder.path(), "server.conf", &authority.config);
    let server = NatsServer::build().config(config).start().await;
    let mut options = BusOptions::plain(&server.url());
    let soon = authority.credentials(unix_now() + 3);
    let creds = file(folder.path(), "user.creds", &soon);
    options.creds = Some(creds.clone());
    let link = Link::connect(&options, "t", Purpose::Control).await.unwrap();
    link.barrier().await.unwrap();
    std::fs::write(creds, authority.credentials(unix_now() + 3_600)).unwrap();
    let mut health = link.health();
    within("the end of the first", PATIENCE, health.wait_for(|up| !up)).await.unwrap();
    within("the second", PATIENCE, health.wait_for(|up| *up)).await.unwrap();
    link.barrier().await.unwrap();
    assert_eq!(link.counters().disconnects.load(Ordering::Relaxed), 1);
}
