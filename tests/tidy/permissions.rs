//! `nats/permissions.conf` against the subjects in the code.
//!
//! The table says who publishes and who subscribes to each subject. A subject
//! in the code that is not in the table, one in the table that the code does
//! not know, and a permission that is too wide or missing: all are breaches.

use std::{collections::BTreeMap, fs, path::Path};

use super::source::{Breach, Source};

const CODE: &str = "src/bus/subjects.rs";
const CONF: &str = "nats/permissions.conf";

const ROLES: [&str; 7] =
    ["dispatcher", "worker", "recorder", "service", "consumer-42", "reviewer-42", "operator"];

/// Subject, who publishes, who subscribes.
const TABLE: &[(&str, &[&str], &[&str])] = &[
    ("gateway.task.submit", &["service"], &["dispatcher"]),
    ("gateway.task.get", &["service", "operator"], &["dispatcher"]),
    ("gateway.task.list", &["service", "operator"], &["dispatcher"]),
    ("gateway.task.update", &["service", "operator"], &["dispatcher"]),
    ("gateway.task.cancel", &["service", "operator"], &["dispatcher"]),
    ("gateway.task.event.*", &["dispatcher", "worker"], &["dispatcher", "service", "operator"]),
    ("gateway.admin.workers", &["operator"], &["dispatcher"]),
    ("gateway.admin.leader", &["worker", "operator"], &["dispatcher"]),
    ("gateway.admin.drain", &["operator"], &["dispatcher"]),
    ("gateway.admin.stepdown", &["operator"], &["dispatcher"]),
    ("gateway.worker.*.heartbeat", &["worker"], &["dispatcher", "operator"]),
    ("gateway.worker.*.assign", &["dispatcher"], &["worker"]),
    ("gateway.worker.*.update", &["dispatcher"], &["worker"]),
    ("gateway.worker.*.revoke", &["dispatcher"], &["worker"]),
    ("gateway.worker.*.drain", &["dispatcher", "operator"], &["worker"]),
    ("gateway.worker.*.ping", &["dispatcher", "worker", "operator"], &["worker"]),
    ("gateway.worker.*.inventory", &["dispatcher", "operator"], &["worker"]),
    ("audio.live.*.*", &["worker"], &["worker", "consumer-42", "reviewer-42"]),
    ("audio.rec.*.*", &["worker"], &["worker", "consumer-42", "reviewer-42"]),
    ("audio.resend.*.*.*", &["worker"], &["worker", "consumer-42", "reviewer-42"]),
    ("audio.nack.*.*", &["consumer-42", "reviewer-42"], &["worker"]),
    (
        "audio.event.*",
        &["worker"],
        &["worker", "recorder", "consumer-42", "reviewer-42", "operator"],
    ),
    ("audio.push.*.*", &["service"], &["worker"]),
    ("audio.control.*.*", &["service"], &["worker"]),
];

/// The project's file against the project's code.
pub(crate) fn check() -> Vec<Breach> {
    let read = |path: &str| {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
        fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
    };
    check_text(&read(CODE), &read(CONF))
}

/// A file of permissions against code.
pub(crate) fn check_text(code: &str, conf: &str) -> Vec<Breach> {
    let code = Source::new(CODE, code);
    let conf = Source::new(CONF, conf);
    let mut breaches = check_code(&code);
    let users = users(&conf.text);
    for role in ROLES {
        if !users.contains_key(role) {
            breaches.push(conf.breach(1, format!("no user for the role {role}: add one")));
        }
    }
    for (name, user) in &users {
        if !ROLES.contains(&name.as_str()) {
            breaches.push(conf.breach(1, format!("{name} is no role of the table in {}", file!())));
        }
        breaches.extend(check_user(&conf, name, user));
    }
    for (number, line) in conf.text.lines().enumerate() {
        if line.contains("allow_responses") && !line.trim_start().starts_with('#') {
            let mend = "allow_responses lets whoever asks choose where we publish: list subjects";
            breaches.push(conf.breach(number + 1, mend));
        }
    }
    breaches
}

/// Every subject in the code stands in the table, and the other way round.
fn check_code(code: &Source) -> Vec<Breach> {
    let mut breaches = Vec::new();
    let mut known = Vec::new();
    for word in code.words.iter().filter(|word| !word.test) {
        let text = word.text.trim_matches('"');
        if !text.starts_with("gateway.") && !text.starts_with("audio.") {
            // The verbs of a worker's subjects stand apart from them.
            known.push(format!("gateway.worker.*.{text}"));
            continue;
        }
        let subject = text.split('.').map(general).collect::<Vec<_>>().join(".");
        // Some literals are the front of a subject that is put together.
        let in_table = TABLE.iter().any(|(row, ..)| {
            *row == subject
                || (subject.ends_with(".*") && !row.ends_with("heartbeat") && parts(row, &subject))
                || (text.ends_with('.') && row.starts_with(&subject))
        });
        if !in_table {
            let mend = format!("{subject} is in no row of the table in {}: say who may", file!());
            breaches.push(code.breach(word.line, mend));
        }
        known.push(subject);
    }
    for (row, ..) in TABLE {
        let front = row.split(".*").next().unwrap_or(row);
        let there = known.iter().any(|one| one == row || one.starts_with(&format!("{front}.*")))
            || ["audio.live", "audio.rec"].contains(&front)
                && known.contains(&"audio.*.*.*".into());
        if !there {
            breaches.push(code.breach(1, format!("{row} is in the table and not in the code")));
        }
    }
    breaches
}

/// A token of a literal as a filter has it.
fn general(token: &str) -> &str {
    if token.contains('{') { "*" } else { token }
}

/// Whether two patterns agree, a `*` on either side standing for any token.
fn parts(one: &str, other: &str) -> bool {
    let (one, other): (Vec<_>, Vec<_>) = (one.split('.').collect(), other.split('.').collect());
    one.len() == other.len()
        && one.iter().zip(&other).all(|(a, b)| a == b || *a == "*" || *b == "*")
}

/// What one user may say and hear, each with its line.
#[derive(Debug, Default)]
struct User {
    publish: Vec<(String, usize)>,
    subscribe: Vec<(String, usize)>,
}

/// The users of the file. It is read as this project writes it: one keyword a
/// line, subjects in quotes.
fn users(conf: &str) -> BTreeMap<String, User> {
    let mut users: BTreeMap<String, User> = BTreeMap::new();
    let mut user = String::new();
    let mut publishes = true;
    for (number, line) in conf.lines().enumerate() {
        let line = line.trim();
        let strings: Vec<&str> = line.split('"').skip(1).step_by(2).collect();
        if line.starts_with('#') {
            continue;
        }
        if line.contains("user: \"") {
            user = strings[0].to_owned();
            users.entry(user.clone()).or_default();
            continue;
        }
        publishes = match line {
            _ if line.contains("publish:") => true,
            _ if line.contains("subscribe:") => false,
            _ => publishes,
        };
        let Some(user) = users.get_mut(&user) else { continue };
        let list = if publishes { &mut user.publish } else { &mut user.subscribe };
        list.extend(strings.iter().map(|text| ((*text).to_owned(), number + 1)));
    }
    users
}

fn check_user(conf: &Source, name: &str, user: &User) -> Vec<Breach> {
    let mut breaches = Vec::new();
    for (verb, list) in [("publish", &user.publish), ("subscribe", &user.subscribe)] {
        let needs = |row: &&(&str, &[&str], &[&str])| {
            (if verb == "publish" { row.1 } else { row.2 }).contains(&name)
        };
        for (row, ..) in TABLE.iter().filter(needs) {
            // Who hears one room has the room's name where others have a `*`.
            let of_room = name.ends_with("-42");
            let has = |subject: &str| subject == *row || (of_room && parts(row, subject));
            if !list.iter().any(|(subject, _)| has(subject)) {
                breaches.push(conf.breach(1, format!("{name} must {verb} {row}: allow it")));
            }
        }
        for (subject, line) in list {
            let tokens = subject.split('.').count();
            let ours = subject.starts_with("gateway.") || subject.starts_with("audio.");
            let mend = if ours {
                let row = TABLE.iter().filter(needs).any(|(row, ..)| parts(row, subject));
                (!row).then_some("the table does not say so")
            } else if subject.starts_with('>') || subject.starts_with('*') {
                Some("too wide: name what is needed")
            } else if subject.starts_with("$JS.API.") && subject.ends_with('>') && tokens < 6 {
                Some("too wide: name the call and the stream")
            } else if subject.starts_with("_INBOX.") && verb == "subscribe" {
                (*subject != format!("_INBOX.{name}.>")).then_some("that is another user's inbox")
            } else {
                None
            };
            if let Some(mend) = mend {
                breaches.push(conf.breach(*line, format!("{name} may {verb} {subject:?}: {mend}")));
            }
        }
    }
    breaches
}
