//! Words and shapes that have no place in the tree.

use super::source::{Breach, Source};

/// Most lines a file of code may have.
const LINES: usize = 500;

/// Names that say nothing of what is inside.
const EMPTY_NAMES: &[&str] = &["utils", "util", "common", "manager", "helpers", "helper", "misc"];

/// Where a thread may sleep, and why.
const SLEEPERS: &[(&str, &str)] =
    &[("src/bin/sdk-launch.rs", "one thread, left over alone, that looks again for survivors")];

/// A file opens with what it owns, and is not too long.
pub(crate) fn check_shape(file: &Source) -> Vec<Breach> {
    let mut breaches = check_length(file);
    let first = file.text.lines().next().unwrap_or_default();
    if !first.starts_with("//! ") || first.contains("being built") {
        let mend = "open the file with `//!`: what it owns, and what it leaves to others";
        breaches.push(file.breach(1, mend));
    }
    breaches
}

/// A file is not too long.
pub(crate) fn check_length(file: &Source) -> Vec<Breach> {
    let lines = file.text.lines().count();
    if lines <= LINES {
        return Vec::new();
    }
    let mend = format!("{lines} lines, at most {LINES}: give a part of it a file of its own");
    vec![file.breach(LINES, mend)]
}

/// Nothing unfinished, unbounded, slept through or named after nothing.
pub(crate) fn check_words(file: &Source) -> Vec<Breach> {
    let mut breaches = Vec::new();
    for name in EMPTY_NAMES {
        if file.module().contains(name) {
            breaches.push(file.breach(1, format!("{name} is no name: say what is inside")));
        }
    }
    for (number, line) in file.text.lines().enumerate() {
        // Put together here, so that this file does not hold them.
        for word in
            [["TO", "DO"], ["FIX", "ME"], ["XX", "X"], ["HA", "CK"]].map(|half| half.concat())
        {
            if line.split(|c: char| !c.is_alphanumeric()).any(|part| part == word) {
                breaches.push(file.breach(number + 1, format!("{word}: do it, or leave it out")));
            }
        }
    }
    let path = |index: usize, path: &[&str]| {
        path.iter().enumerate().all(|(offset, part)| file.is(index + offset, part))
    };
    for (index, word) in file.words.iter().enumerate() {
        let mut breach = |text: &str| breaches.push(file.breach(word.line, text));
        match word.text.as_str() {
            "todo" | "unimplemented" if file.is(index + 1, "!") => {
                breach("todo!/unimplemented!: build it, or refuse with an error");
            }
            "ignore" if path(index - 2, &["#", "["]) => {
                breach("#[ignore]: a test that does not run holds nothing; mend or delete it");
            }
            "unbounded_channel" | "unbounded" | "UnboundedSender" => {
                breach("an unbounded queue: bound it by a constant of limits.rs");
            }
            "thread" if SLEEPERS.iter().any(|(path, _)| *path == file.path) => (),
            "thread" if path(index, &["thread", ":", ":", "sleep"]) => {
                breach("thread::sleep: wait for the event with a deadline");
            }
            "sleep" if word.test && file.is(index + 1, "(") => {
                breach("a test that sleeps is slow or wrong: wait for the event with a deadline");
            }
            text if word.test && fixed_port(text) => {
                breach("a fixed port: another test may hold it; bind port 0");
            }
            _ => (),
        }
    }
    breaches
}

/// Whether a string names a port of this host.
fn fixed_port(text: &str) -> bool {
    ["127.0.0.1:", "localhost:", "0.0.0.0:"].iter().any(|host| {
        text.split(host).skip(1).any(|rest| rest.starts_with(|c: char| ('1'..='9').contains(&c)))
    })
}

/// The project speaks of itself alone.
pub(crate) fn check_provenance(file: &Source) -> Vec<Breach> {
    // Put together here, so that this file does not hold them.
    let foreign = [["/", "work/"], ["/tmp/", "wt"], ["/tmp/", "t-"]];
    let mut breaches = Vec::new();
    for (number, line) in file.text.lines().enumerate() {
        for text in foreign.map(|halves| halves.concat()) {
            if line.contains(&text) {
                let mend = format!("{text:?} means nothing to a reader elsewhere: leave it out");
                breaches.push(file.breach(number + 1, mend));
            }
        }
    }
    breaches
}
