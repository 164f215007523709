//! Params that become arguments: their types, and what a value must be.

use std::{
    ffi::OsString,
    path::{Path, PathBuf},
};

use serde::Deserialize;
use serde_json::Value;

use super::url;
use crate::limits::PARAM_MAX_BYTES;

/// The type of a param and all that a value of it must hold to.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Kind {
    /// A URL of these schemes on these hosts. `mend` names the key to set.
    Url { schemes: Vec<String>, hosts: Vec<String>, mend: String },
    /// A file inside one of these folders. `mend` names the key to set.
    File { folders: Vec<PathBuf>, mend: String },
    /// A whole number.
    Int { min: i64, max: i64 },
    /// One of these words.
    Enum { values: Vec<String> },
    /// Text of these characters.
    Text { chars: Chars, also: String, max: usize },
}

/// Characters a text may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Chars {
    /// `0` to `9`.
    Digits,
    /// `A-Z a-z 0-9 _ -`.
    Token,
    /// All but control characters.
    Printable,
}

impl Chars {
    fn hold(self, c: char) -> bool {
        match self {
            Self::Digits => c.is_ascii_digit(),
            Self::Token => c.is_ascii_alphanumeric() || c == '_' || c == '-',
            Self::Printable => !c.is_control() && !matches!(c, '\u{2028}' | '\u{2029}'),
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Digits => "the digits 0-9",
            Self::Token => "the characters A-Z a-z 0-9 _ -",
            Self::Printable => "printable characters",
        }
    }
}

impl Kind {
    /// The value as it stands in an argument; the error says what it must be
    /// and never repeats it.
    pub(super) fn check(&self, value: &Value) -> Result<OsString, String> {
        if let Self::Int { min, max } = self {
            let number = value.as_i64().filter(|number| (min..=max).contains(&number));
            return match number {
                Some(number) => Ok(number.to_string().into()),
                None => Err(format!("must be a whole number from {min} to {max}")),
            };
        }
        let text = value.as_str().ok_or("must be a string")?;
        if text.is_empty() || text.len() > PARAM_MAX_BYTES {
            return Err(format!("must have 1 to {PARAM_MAX_BYTES} bytes"));
        }
        if text.contains('\0') {
            return Err("must not hold a NUL character".into());
        }
        if text.starts_with('-') {
            return Err("must not begin with a -, which would make it an option".into());
        }
        self.check_text(text)
    }

    fn check_text(&self, text: &str) -> Result<OsString, String> {
        match self {
            Self::Int { .. } => Err("must be a whole number".into()),
            Self::Url { schemes, hosts, mend } => {
                if schemes.is_empty() || hosts.is_empty() {
                    return Err(format!("cannot be used: the worker allows no URL; {mend}"));
                }
                url::check(text, schemes, hosts).map(|()| text.into())
            }
            Self::File { folders, mend } => {
                if folders.is_empty() {
                    return Err(format!("cannot be used: the worker allows no folder; {mend}"));
                }
                find_file(folders, text).map(PathBuf::into_os_string).ok_or_else(|| {
                    let folders: Vec<_> = folders.iter().map(|f| f.display().to_string()).collect();
                    format!("must be a regular file inside {}", folders.join(" or "))
                })
            }
            Self::Enum { values } => match values.iter().any(|allowed| allowed == text) {
                true => Ok(text.into()),
                false => Err(format!("must be one of {}", url::listed(values, ""))),
            },
            Self::Text { chars, also, max } => {
                let fits = |c| chars.hold(c) || also.contains(c);
                match text.chars().count() <= *max && text.chars().all(fits) {
                    true => Ok(text.into()),
                    false => Err(format!("must be 1 to {max} of {} {also}", chars.name())),
                }
            }
        }
    }
}

/// The file a name means: absolute, or below one of the folders; with all
/// links followed it must still be inside one, and a regular file. A file
/// that is elsewhere and one that is nowhere give the same answer.
fn find_file(folders: &[PathBuf], name: &str) -> Option<PathBuf> {
    folders.iter().find_map(|folder| {
        let folder = folder.canonicalize().ok()?;
        let file = folder.join(Path::new(name)).canonicalize().ok()?;
        (file.starts_with(&folder) && file.metadata().ok()?.is_file()).then_some(file)
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn text(chars: Chars, also: &str, max: usize) -> Kind {
        Kind::Text { chars, also: also.into(), max }
    }

    #[test]
    fn numbers_keep_their_bounds() {
        let kind = Kind::Int { min: -5, max: 10 };
        assert_eq!(kind.check(&json!(10)).unwrap(), "10");
        assert_eq!(kind.check(&json!(-5)).unwrap(), "-5");
        for bad in [json!(11), json!(-6), json!(1.5), json!("1"), json!(null), json!(u64::MAX)] {
            let error = kind.check(&bad).unwrap_err();
            assert_eq!(error, "must be a whole number from -5 to 10");
        }
    }

    #[test]
    fn words_and_texts() {
        let kind = Kind::Enum { values: vec!["low".into(), "high".into()] };
        assert_eq!(kind.check(&json!("low")).unwrap(), "low");
        assert_eq!(kind.check(&json!("mid")).unwrap_err(), "must be one of low, high");

        let kind = text(Chars::Token, ".", 5);
        assert_eq!(kind.check(&json!("a-b.c")).unwrap(), "a-b.c");
        for bad in ["", "a b", "abcdef", "-y", "--help", "a\n", "a\0", "ä", "a/b", "$(id)", "`id`"]
        {
            assert!(kind.check(&json!(bad)).is_err(), "{bad:?}");
        }
        let kind = text(Chars::Printable, "", 20);
        assert_eq!(kind.check(&json!("ä b; $(id) 日")).unwrap(), "ä b; $(id) 日");
        for bad in ["a\nb", "a\u{1b}[2J", "\u{2028}", "-", "a\u{9b}"] {
            assert!(kind.check(&json!(bad)).is_err(), "{bad:?}");
        }
        assert!(text(Chars::Digits, "", 9).check(&json!("12a")).is_err());
        assert!(kind.check(&json!({"a": 1})).is_err() && kind.check(&json!(["a"])).is_err());
    }

    #[test]
    fn files_stay_inside() {
        let outside = tempfile::tempdir().unwrap();
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        std::fs::write(outside.path().join("secret.wav"), "x").unwrap();
        std::fs::write(path("a.wav"), "x").unwrap();
        std::fs::write(path("-y"), "x").unwrap();
        std::fs::create_dir(path("sub")).unwrap();
        std::fs::write(path("sub/b.wav"), "x").unwrap();
        let link = |to: &Path, name: &str| std::os::unix::fs::symlink(to, path(name)).unwrap();
        link(&outside.path().join("secret.wav"), "out.wav");
        link(outside.path(), "away");
        link(&path("a.wav"), "in.wav");

        let kind = Kind::File { folders: vec![folder.path().into()], mend: String::new() };
        let real = folder.path().canonicalize().unwrap();
        let checked = |name: &str| kind.check(&json!(name));
        assert_eq!(checked("a.wav").unwrap(), real.join("a.wav"));
        assert_eq!(checked("sub/../in.wav").unwrap(), real.join("a.wav"), "inside by any way");
        assert_eq!(checked(path("sub/b.wav").to_str().unwrap()).unwrap(), real.join("sub/b.wav"));
        assert!(checked("-y").is_err());
        assert_eq!(checked("./-y").unwrap(), real.join("-y"), "absolute, so no option");
        let up = format!("../{}/secret.wav", outside.path().file_name().unwrap().to_str().unwrap());
        for bad in [
            "nowhere.wav",
            "out.wav",
            "away/secret.wav",
            &up,
            "../x",
            "/etc/passwd",
            "file:///etc/passwd",
            "concat:a.wav|/etc/passwd",
            "sub",
            ".",
            "/dev/zero",
            "a.wav\0",
            "a.wav\n",
        ] {
            let error = checked(bad).expect_err(bad);
            assert!(error.starts_with("must"), "{error}");
        }
    }

    #[test]
    fn nothing_is_allowed_until_it_is_configured() {
        let kind = Kind::File { folders: vec![], mend: "set media.folders".into() };
        assert!(kind.check(&json!("/etc/passwd")).unwrap_err().contains("set media.folders"));
        let kind = Kind::Url { schemes: vec!["http".into()], hosts: vec![], mend: "set it".into() };
        assert!(kind.check(&json!("http://a/")).unwrap_err().contains("set it"));
    }
}
