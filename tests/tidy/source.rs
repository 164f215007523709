//! Reading the tree: files, and Rust as words with their lines, without
//! comments and the insides of strings.

use std::{fmt, fs, path::Path};

/// What breaks a rule, where, and how to mend it.
#[derive(Debug)]
pub(crate) struct Breach {
    path: String,
    line: usize,
    text: String,
}

impl fmt::Display for Breach {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}", self.path, self.line, self.text)
    }
}

/// One word of Rust.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Word {
    /// An identifier, a string with its quotes, a number, or one character.
    pub(crate) text: String,
    /// Counted from 1.
    pub(crate) line: usize,
    /// Whether it stands in code that only tests are built from.
    pub(crate) test: bool,
    /// Modules written inside this file around it.
    pub(crate) depth: usize,
}

/// A file.
#[derive(Debug)]
pub(crate) struct Source {
    /// From the project's root, with `/`.
    pub(crate) path: String,
    /// As it is.
    pub(crate) text: String,
    /// As Rust; empty where it is not.
    pub(crate) words: Vec<Word>,
}

impl Source {
    /// A file with this text.
    pub(crate) fn new(path: &str, text: &str) -> Self {
        let rust = path.ends_with(".rs");
        let mut words = if rust { words(text) } else { Vec::new() };
        mark(&mut words, path);
        Self { path: path.to_owned(), text: text.to_owned(), words }
    }

    /// Something at a line of it.
    pub(crate) fn breach(&self, line: usize, text: impl Into<String>) -> Breach {
        Breach { path: self.path.clone(), line, text: text.into() }
    }

    /// The modules it is, outermost first: `src/bus/kv.rs` is `bus`, `kv`. A
    /// file of a binary begins with `bin`.
    pub(crate) fn module(&self) -> Vec<&str> {
        let path = self.path.strip_prefix("src/").unwrap_or(&self.path);
        let path = path.strip_suffix(".rs").unwrap_or(path);
        let path = path.strip_suffix("/mod").unwrap_or(path);
        path.split('/').filter(|part| *part != "lib").collect()
    }

    /// The paths it names, each with its line: `crate::a::b` as `a`, `b`, with
    /// `super` and `self` resolved and the braces of `use` taken apart.
    pub(crate) fn paths(&self) -> Vec<(Vec<String>, &Word)> {
        let mut found = Vec::new();
        for (index, word) in self.words.iter().enumerate() {
            let follows = self.is(index + 1, ":") && self.is(index + 2, ":");
            let begins = index < 2 || !(self.is(index - 1, ":") && self.is(index - 2, ":"));
            if !follows || !begins {
                continue;
            }
            let own: Vec<String> = self.module().iter().map(|part| (*part).to_owned()).collect();
            let base = match word.text.as_str() {
                "crate" | "audio_gateway" => Vec::new(),
                // A module written inside the file is a level of its own.
                "self" if word.depth == 0 => own,
                "super" if word.depth > 0 => own,
                "super" => own[..own.len().saturating_sub(1)].to_vec(),
                _ => continue,
            };
            let depth = word.depth.saturating_sub(1);
            self.follow(index + 3, base, depth, &mut |path, at| {
                found.push((path, &self.words[at]));
            });
        }
        found
    }

    /// Follows a path from the word `at`, and into its braces.
    fn follow(
        &self,
        mut at: usize,
        mut path: Vec<String>,
        mut depth: usize,
        found: &mut dyn FnMut(Vec<String>, usize),
    ) -> usize {
        loop {
            let Some(word) = self.words.get(at) else { return at };
            match word.text.as_str() {
                "super" if depth > 0 => depth -= 1,
                "super" => drop(path.pop()),
                "{" => {
                    at += 1;
                    while !self.is(at, "}") && at < self.words.len() {
                        at = self.follow(at, path.clone(), depth, found);
                        while !self.is(at, ",") && !self.is(at, "}") && at < self.words.len() {
                            at += 1;
                        }
                        if self.is(at, ",") {
                            at += 1;
                        }
                    }
                    return at + 1;
                }
                text => path.push(text.to_owned()),
            }
            if !(self.is(at + 1, ":") && self.is(at + 2, ":")) {
                found(path, at);
                return at + 1;
            }
            at += 3;
        }
    }

    /// Whether the word at `index` is this.
    pub(crate) fn is(&self, index: usize, text: &str) -> bool {
        self.words.get(index).is_some_and(|word| word.text == text)
    }
}

/// Marks what is built for tests alone, and how deep in modules each word is.
fn mark(words: &mut [Word], path: &str) {
    let all = path.starts_with("tests/") || path.contains("/tests/") || path.ends_with("/tests.rs");
    // Open braces, each with whether it is a module and whether it is a test's.
    let mut open: Vec<(bool, bool)> = Vec::new();
    let mut pending = (false, false);
    for index in 0..words.len() {
        let text = words[index].text.clone();
        let next = |text: &[&str]| {
            text.iter().enumerate().all(|(n, t)| words.get(index + n).is_some_and(|w| w.text == *t))
        };
        if next(&["#", "[", "cfg", "(", "test", ")", "]"]) {
            pending.1 = true;
        }
        let depth = open.iter().filter(|one| one.0).count();
        let test = all || pending.1 || open.iter().any(|one| one.1);
        match text.as_str() {
            "mod" => pending.0 = true,
            "{" => open.push(std::mem::take(&mut pending)),
            "}" => drop(open.pop()),
            ";" => pending = (false, false),
            _ => (),
        }
        (words[index].depth, words[index].test) = (depth, test);
    }
}

/// The words of a text of Rust.
fn words(text: &str) -> Vec<Word> {
    let mut words = Vec::new();
    let mut line = 1;
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let length = if let Some(comment) = comment(rest) {
            comment
        } else if first.is_whitespace() {
            first.len_utf8()
        } else {
            let length = word(rest);
            let text = rest[..length].to_owned();
            words.push(Word { text, line, test: false, depth: 0 });
            length
        };
        line += rest[..length].matches('\n').count();
        rest = &rest[length..];
    }
    words
}

/// The length of the comment that `text` begins with.
fn comment(text: &str) -> Option<usize> {
    if text.starts_with("//") {
        return Some(text.find('\n').unwrap_or(text.len()));
    }
    let mut depth = 0;
    let mut at = 0;
    if !text.starts_with("/*") {
        return None;
    }
    while at < text.len() {
        if text[at..].starts_with("/*") {
            depth += 1;
            at += 2;
        } else if text[at..].starts_with("*/") {
            depth -= 1;
            at += 2;
            if depth == 0 {
                return Some(at);
            }
        } else {
            at += text[at..].chars().next().map_or(1, char::len_utf8);
        }
    }
    Some(at)
}

/// The length of the word that `text` begins with.
fn word(text: &str) -> usize {
    let name = |text: &str| text.find(|c: char| !c.is_alphanumeric() && c != '_');
    let prefix = text.len() - text.trim_start_matches(['b', 'c', 'r']).len();
    let body = &text[prefix..];
    let hashes = body.len() - body.trim_start_matches('#').len();
    if prefix <= 2 && text[..prefix].contains('r') && body[hashes..].starts_with('"') {
        let end = format!("\"{}", "#".repeat(hashes));
        let inside = prefix + hashes + 1;
        return text[inside..].find(&end).map_or(text.len(), |at| inside + at + end.len());
    }
    if prefix <= 1 && hashes == 0 && body.starts_with('"') {
        return prefix + quoted(body, '"');
    }
    if let Some(after) = text.strip_prefix('\'') {
        // A lifetime has no closing quote behind its first character.
        let character = after.starts_with('\\') || after.chars().nth(1) == Some('\'');
        return if character { quoted(text, '\'') } else { 1 + name(after).unwrap_or(after.len()) };
    }
    match name(text) {
        Some(0) => text.chars().next().map_or(1, char::len_utf8),
        Some(length) => length,
        None => text.len(),
    }
}

/// The length of a literal from its opening quote to its closing one.
fn quoted(text: &str, quote: char) -> usize {
    let mut escaped = false;
    for (at, c) in text.char_indices().skip(1) {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            _ if c == quote => return at + 1,
            _ => (),
        }
    }
    text.len()
}

/// The files under `folder` whose names end with one of `endings`.
fn walk(folder: &str, endings: &[&str]) -> Vec<Source> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut found = Vec::new();
    let mut folders = vec![root.join(folder)];
    while let Some(folder) = folders.pop() {
        let entries = fs::read_dir(&folder).expect("the project's folders can be read");
        for entry in entries.flatten() {
            let path = entry.path();
            let name = entry.file_name().to_string_lossy().into_owned();
            // Hidden folders are a checkout's own, but for those named here.
            let hidden = name.starts_with('.') && !matches!(name.as_str(), ".ci" | ".config");
            let ours = !hidden && !matches!(name.as_str(), "target" | "demo-out");
            if path.is_dir() && ours && !path.join("CACHEDIR.TAG").exists() {
                folders.push(path);
            } else if endings.iter().any(|ending| name.ends_with(ending)) {
                let inside = path.strip_prefix(root).expect("it was found there");
                let inside = inside.to_str().expect("names of ours are text").replace('\\', "/");
                let text = fs::read_to_string(&path).expect("a file of ours is text");
                found.push(Source::new(&inside, &text));
            }
        }
    }
    found.sort_by(|one, other| one.path.cmp(&other.path));
    assert!(!found.is_empty(), "nothing found in {folder:?}: the check checks nothing");
    found
}

/// The library and the binaries.
pub(crate) fn library_and_binaries() -> Vec<Source> {
    walk("src", &[".rs"])
}

/// All Rust of the project.
pub(crate) fn all_rust() -> Vec<Source> {
    walk("", &[".rs"])
}

/// Code and configuration in other languages.
pub(crate) fn other_code() -> Vec<Source> {
    walk("", &[".sh", ".py", ".conf", ".toml", ".yml", "Makefile", "Dockerfile"])
}

/// Everything that is read by people.
pub(crate) fn all_text() -> Vec<Source> {
    let mut all = other_code();
    all.extend(walk("", &[".rs", ".md", ".env"]));
    all
}
