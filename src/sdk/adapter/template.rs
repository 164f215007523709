//! An argument of an adapter's command with params in braces: `"file:{file}"`.
//! `{{` and `}}` stand for the braces themselves.

use std::ffi::{OsStr, OsString};

/// One argument.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Template(Vec<Piece>);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Piece {
    Text(OsString),
    Param(String),
}

impl Template {
    /// Reads the text of an argument; the error says what is wrong with it.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        if text.contains('\0') {
            return Err("holds a NUL character".into());
        }
        let mut pieces = Vec::new();
        let mut plain = String::new();
        let mut rest = text;
        while let Some(at) = rest.find(['{', '}']) {
            plain.push_str(&rest[..at]);
            let (brace, after) = rest[at..].split_at(1);
            if let Some(after) = after.strip_prefix(brace) {
                plain.push_str(brace);
                rest = after;
                continue;
            }
            let named = after.split_once('}').filter(|_| brace == "{");
            let Some((name, after)) = named.filter(|(name, _)| !name.contains('{')) else {
                return Err(format!("{text:?} has a lone {brace}: write {brace}{brace} for one"));
            };
            if !plain.is_empty() {
                pieces.push(Piece::Text(std::mem::take(&mut plain).into()));
            }
            pieces.push(Piece::Param(name.to_owned()));
            rest = after;
        }
        plain.push_str(rest);
        if !plain.is_empty() {
            pieces.push(Piece::Text(plain.into()));
        }
        Ok(Self(pieces))
    }

    /// An argument without params.
    pub(super) fn literal(text: OsString) -> Self {
        Self(vec![Piece::Text(text)])
    }

    /// The params it mentions.
    pub(super) fn params(&self) -> impl Iterator<Item = &str> {
        self.0.iter().filter_map(|piece| match piece {
            Piece::Param(name) => Some(name.as_str()),
            Piece::Text(_) => None,
        })
    }

    /// The argument with the values put in. A param without a value is left
    /// out; whoever calls has made sure there is none.
    pub(super) fn fill<'v>(&self, value: impl Fn(&str) -> Option<&'v OsStr>) -> OsString {
        let mut argument = OsString::new();
        for piece in &self.0 {
            match piece {
                Piece::Text(text) => argument.push(text),
                Piece::Param(name) => argument.push(value(name).unwrap_or_default()),
            }
        }
        argument
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filled(text: &str) -> OsString {
        Template::parse(text).unwrap().fill(|name| (name == "x").then_some(OsStr::new("a {y} b")))
    }

    #[test]
    fn params_are_put_in_once() {
        assert_eq!(filled("-i"), "-i");
        assert_eq!(filled(""), "");
        assert_eq!(filled("{x}"), "a {y} b", "a value is never a template itself");
        assert_eq!(filled("file:{x}/{x}"), "file:a {y} b/a {y} b");
        assert_eq!(filled("{{x}} {{{x}}}"), "{x} {a {y} b}");
        let names = Template::parse("{a}:{b}").unwrap();
        assert_eq!(names.params().collect::<Vec<_>>(), ["a", "b"]);
    }

    #[test]
    fn lone_braces_are_said() {
        for bad in ["{", "}", "a{b", "a}b", "{a{b}", "{a}}", "x\0y"] {
            let error = Template::parse(bad).unwrap_err();
            assert!(error.contains("lone") || error.contains("NUL"), "{bad}: {error}");
        }
    }
}
