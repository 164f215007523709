//! Decisions are plain values: the modules that make them read no clock, hold
//! no socket, and know no runtime. A test of theirs may.

use super::source::{Breach, Source};

/// Files and folders that decide and do nothing.
const PURE: &[&str] = &[
    "src/limits.rs",
    "src/id.rs",
    "src/json.rs",
    "src/task.rs",
    "src/task/",
    "src/audio/",
    "src/bus/subjects.rs",
    "src/bus/messages/",
    "src/sdk/pipe.rs",
    "src/sdk/pipe/",
    "src/dispatch/core.rs",
    "src/dispatch/core/",
    "src/dispatch/capacity.rs",
    "src/dispatch/place.rs",
    "src/dispatch/quarantine.rs",
    "src/dispatch/queue.rs",
    "src/worker/core.rs",
    "src/worker/core/",
];

/// What a pure module does not name.
const FORBIDDEN: &[(&[&str], &str)] = &[
    (&["Instant", "now"], "take the time as an argument"),
    (&["SystemTime"], "take the time as an argument, in µs or ms since the epoch"),
    (&["crate", "clock"], "take the time as an argument, in µs or ms since the epoch"),
    (&["tokio"], "the shell around it is what runs"),
    (&["async_nats"], "the bus is a shell of its own"),
    (&["rand"], "take the seed as an argument"),
    (&["fastrand"], "take the seed as an argument"),
    (&["std", "net"], "sockets belong to the shell"),
    (&["std", "fs"], "files belong to the shell"),
    (&["std", "process"], "processes belong to the shell"),
    (&["std", "thread"], "threads belong to the shell"),
    (&["std", "env"], "take it as an argument"),
];

/// What a pure file names that it must not.
pub(crate) fn check(file: &Source) -> Vec<Breach> {
    let pure = PURE.iter().any(|path| match path.strip_suffix('/') {
        Some(_) => file.path.starts_with(path),
        None => file.path == *path,
    });
    if !pure {
        return Vec::new();
    }
    let mut breaches = Vec::new();
    for (index, word) in file.words.iter().enumerate() {
        for (what, mend) in FORBIDDEN {
            if !word.test && names(file, index, what) {
                let what = what.join("::");
                breaches.push(file.breach(word.line, format!("{what} in a pure module: {mend}")));
            }
        }
    }
    breaches
}

/// Whether `what` is named from the word at `index` on, in a path or in the
/// braces behind its first part.
fn names(file: &Source, index: usize, what: &[&str]) -> bool {
    if !file.is(index, what[0]) {
        return false;
    }
    let Some(second) = what.get(1) else {
        // As the first part of a path, or as a type: not as a field or a word of another path.
        return index == 0 || !file.is(index - 1, ".");
    };
    if !(file.is(index + 1, ":") && file.is(index + 2, ":")) {
        return false;
    }
    if !file.is(index + 3, "{") {
        return file.is(index + 3, second);
    }
    let mut depth = 0;
    for at in index + 3..file.words.len() {
        match file.words[at].text.as_str() {
            "{" => depth += 1,
            "}" => depth -= 1,
            // The first part of one of the paths in the braces.
            text if depth == 1
                && text == *second
                && (file.is(at - 1, ",") || file.is(at - 1, "{")) =>
            {
                return true;
            }
            _ => (),
        }
        if depth == 0 {
            return false;
        }
    }
    false
}

/// Where the client library is named outside the bus.
pub(crate) fn check_client(file: &Source) -> Vec<Breach> {
    if file.path.starts_with("src/bus/") {
        return Vec::new();
    }
    let named = file.words.iter().filter(|word| word.text == "async_nats");
    let mend = "async_nats is named in src/bus/ alone: give bus::connection what is missing";
    named.map(|word| file.breach(word.line, mend)).collect()
}
