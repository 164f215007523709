//! Sections about what may be read, turned into the kinds that hold values to
//! it: `[media]`, and the params of an adapter.

use std::path::{Path, PathBuf};

use super::{
    Declared, MediaSection,
    file::{ParamSection, TypeKey},
    param::{Chars, Kind},
    url::is_host_pattern,
};

/// Characters in a text param unless configured otherwise.
const TEXT_MAX: usize = 256;

/// A key with what is wrong with it.
pub(super) type Problem = (String, String);

/// What the sections of the file share.
pub(super) struct Place<'a> {
    /// The file's folder.
    pub(super) base: &'a Path,
    pub(super) media: &'a MediaSection,
}

/// A key is refused.
pub(super) fn problem<T>(key: String, problem: impl Into<String>) -> Result<T, Problem> {
    Err((key, problem.into()))
}

/// Checks `[media]`.
pub(super) fn check_media(media: &MediaSection) -> Result<(), Problem> {
    check_schemes(&media.schemes, "media.schemes".into())?;
    check_hosts(&media.hosts, "media.hosts".into())?;
    for folder in media.folders.iter().filter(|folder| !folder.is_dir()) {
        tracing::warn!(folder = %folder.display(), "media.folders names a folder that is not there");
    }
    Ok(())
}

fn check_schemes(schemes: &[String], key: String) -> Result<(), Problem> {
    let fits = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b"+-.".contains(&b);
    let odd = |scheme: &&String| {
        !scheme.starts_with(|c: char| c.is_ascii_lowercase()) || !scheme.bytes().all(fits)
    };
    match schemes.iter().find(odd) {
        Some(scheme) => problem(key, format!("holds {scheme:?}: write a scheme like \"https\"")),
        None => Ok(()),
    }
}

fn check_hosts(hosts: &[String], key: String) -> Result<(), Problem> {
    match hosts.iter().find(|host| !is_host_pattern(host)) {
        Some(host) => problem(
            key,
            format!("holds {host:?}: write a host without port, \"*.example.org\", or \"*\""),
        ),
        None => Ok(()),
    }
}

/// A param of the file, with the lists of `[media]` where it has none itself.
pub(super) fn declare(
    section: ParamSection,
    key: &str,
    place: &Place<'_>,
) -> Result<Declared, Problem> {
    use TypeKey::{Enum, File, Int, Text, Url};
    let misplaced = [
        ("schemes", section.schemes.is_some(), Url),
        ("hosts", section.hosts.is_some(), Url),
        ("folders", section.folders.is_some(), File),
        ("min", section.min.is_some(), Int),
        ("max", section.max.is_some(), Int),
        ("values", section.values.is_some(), Enum),
        ("chars", section.chars.is_some(), Text),
        ("also", section.also.is_some(), Text),
        ("max_len", section.max_len.is_some(), Text),
    ];
    if let Some((name, ..)) = misplaced.iter().find(|(_, set, of)| *set && *of != section.kind) {
        return problem(format!("{key}.{name}"), "is for a param of another type: remove it");
    }
    // The key to set, as an error to a task names it.
    let mend = |own: bool, name: &str| match own {
        true => format!("set {key}.{name} in its configuration"),
        false => format!("set media.{name} in its configuration"),
    };
    let kind = match section.kind {
        Url => {
            let (own_schemes, own_hosts) = (section.schemes.is_some(), section.hosts.is_some());
            let schemes = section.schemes.unwrap_or_else(|| place.media.schemes.clone());
            let hosts = section.hosts.unwrap_or_else(|| place.media.hosts.clone());
            check_schemes(&schemes, format!("{key}.schemes"))?;
            check_hosts(&hosts, format!("{key}.hosts"))?;
            let mend = match schemes.is_empty() {
                true => mend(own_schemes, "schemes"),
                false => mend(own_hosts, "hosts"),
            };
            Kind::Url { schemes, hosts, mend }
        }
        File => {
            let own = section.folders.is_some();
            let folders = section.folders.unwrap_or_else(|| place.media.folders.clone());
            let folders: Vec<PathBuf> = folders.iter().map(|f| place.base.join(f)).collect();
            Kind::File { folders, mend: mend(own, "folders") }
        }
        Int => match (section.min, section.max) {
            (Some(min), Some(max)) if min <= max => Kind::Int { min, max },
            _ => return problem(key.into(), "needs min and max, min not above max"),
        },
        Enum => match section.values {
            Some(values) if !values.is_empty() && values.iter().all(|v| is_word(v)) => {
                Kind::Enum { values }
            }
            _ => return problem(format!("{key}.values"), "must list words that begin with no -"),
        },
        Text => {
            let also = section.also.unwrap_or_default();
            if also.chars().any(char::is_control) {
                return problem(format!("{key}.also"), "must hold no control character");
            }
            let chars = section.chars.unwrap_or(Chars::Token);
            Kind::Text { chars, also, max: section.max_len.unwrap_or(TEXT_MAX) }
        }
    };
    if let Some(default) = &section.default {
        // A file may come later; it is looked for when it is asked for.
        if !matches!(kind, Kind::File { .. }) {
            kind.check(default).map_err(|why| (format!("{key}.default"), why))?;
        }
    }
    Ok(Declared { kind, default: section.default })
}

fn is_word(text: &str) -> bool {
    !text.is_empty() && !text.starts_with('-') && !text.chars().any(char::is_control)
}
