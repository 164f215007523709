//! The documents against the tree: every path, link and anchor they name is
//! there, and the README's example is the one that is kept and tested.

#![allow(clippy::unwrap_used, reason = "in a test a panic is the answer")]

use std::{
    fs,
    path::{Path, PathBuf},
};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Every document that people read, without what is built or fetched.
fn documents() -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![root().to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap().flatten() {
            let path = entry.path();
            let name = entry.file_name().into_string().unwrap();
            if entry.file_type().unwrap().is_dir() {
                if !name.starts_with('.') && !name.starts_with("target") && name != "demo-out" {
                    folders.push(path);
                }
            } else if name.ends_with(".md") {
                found.push(path);
            }
        }
    }
    found.sort();
    assert!(found.len() >= 4, "{found:?}");
    found
}

/// The text between `open` and `close`, each time it occurs.
fn between<'a>(text: &'a str, open: &str, close: &'a str) -> Vec<&'a str> {
    text.split(open).skip(1).filter_map(|rest| Some(rest.split_once(close)?.0)).collect()
}

/// Without blocks of code, in which brackets and backticks mean other things.
fn prose(text: &str) -> String {
    text.split("```").step_by(2).collect()
}

/// The anchor that a heading gets.
fn anchor(heading: &str) -> String {
    let kept = heading.trim().to_lowercase();
    let kept = kept.chars().filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'));
    kept.map(|c| if c == ' ' { '-' } else { c }).collect()
}

fn anchors(text: &str) -> Vec<String> {
    let headings = prose(text);
    let headings = headings.lines().filter_map(|line| line.strip_prefix('#'));
    headings.map(|line| anchor(line.trim_start_matches('#'))).collect()
}

#[test]
fn every_link_leads_somewhere() {
    for document in documents() {
        let text = fs::read_to_string(&document).unwrap();
        for link in between(&prose(&text), "](", ")") {
            if link.contains("://") {
                continue;
            }
            let (file, fragment) = link.split_once('#').unwrap_or((link, ""));
            let target = match file {
                "" => document.clone(),
                file => document.parent().unwrap().join(file),
            };
            assert!(target.exists(), "{}: {link} is not there", document.display());
            if !fragment.is_empty() {
                let found = anchors(&fs::read_to_string(&target).unwrap());
                let there = found.iter().any(|anchor| anchor == fragment);
                assert!(there, "{}: {link} has no such heading: {found:?}", document.display());
            }
        }
    }
}

#[test]
fn the_map_names_what_is_there() {
    let text = prose(&fs::read_to_string(root().join("ARCHITECTURE.md")).unwrap());
    for name in between(&text, "`", "`") {
        let top = name.split('/').next().unwrap();
        let path = match top {
            "src" | "tests" | "docs" | "nats" | "examples" | "scripts" | "bench" | "config"
            | "clients" => root().join(name),
            // In running text a module goes without `src`, a file without `.rs`.
            "bus" | "sdk" | "worker" | "dispatch" | "client" if name.contains('/') => {
                root().join("src").join(name)
            }
            _ => continue,
        };
        let there = path.exists() || path.with_extension("rs").exists();
        assert!(there, "ARCHITECTURE.md names {name}, which is not there");
    }
}

#[test]
fn the_map_leaves_nothing_out() {
    let text = fs::read_to_string(root().join("ARCHITECTURE.md")).unwrap();
    let entries = fs::read_dir(root().join("src")).unwrap().flatten();
    for name in entries.map(|entry| entry.file_name().into_string().unwrap()) {
        if name != "lib.rs" {
            assert!(text.contains(&format!("src/{name}")), "ARCHITECTURE.md does not name {name}");
        }
    }
    for entry in fs::read_dir(root().join("src/bin")).unwrap().flatten() {
        let name = entry.path().file_stem().unwrap().to_str().unwrap().to_owned();
        assert!(text.contains(&format!("`{name}`")), "ARCHITECTURE.md does not name {name}");
    }
}

/// The README shows the shortest consumer; it is the one in the examples.
#[test]
fn the_readme_shows_the_example() {
    let readme = include_str!("../README.md");
    let example = include_str!("../examples/python/hear.py");
    assert!(readme.contains(example), "README.md does not hold examples/python/hear.py");
    let lines = example.lines().filter(|line| !line.is_empty()).count();
    assert!(lines <= 17, "{lines} lines");
}
