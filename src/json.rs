//! JSON that others wrote, read whole: what is wrong with it is named by its field,
//! in words that are no programming language's.

use serde::de::DeserializeOwned;
use serde_json::error::Category;

/// Reads an object of at most so many bytes, and the first field of it that nothing
/// is known of.
///
/// # Errors
/// What is wrong, and where.
pub fn object<T: DeserializeOwned>(
    payload: &[u8],
    most: usize,
) -> Result<(T, Option<String>), String> {
    if payload.len() > most {
        return Err(format!("longer than the {most} bytes that are read"));
    }
    match payload.trim_ascii_start() {
        [] => return Err("empty: send a JSON object".into()),
        [b'{', ..] => (),
        _ => return Err("no JSON object: send one, in braces".into()),
    }
    let (mut unknown, mut track) = (None, serde_path_to_error::Track::new());
    let mut json = serde_json::Deserializer::from_slice(payload);
    let tracked = serde_path_to_error::Deserializer::new(&mut json, &mut track);
    let read = serde_ignored::deserialize(tracked, |path| {
        unknown.get_or_insert_with(|| path.to_string().replace("?.", ""));
    });
    let read = read.and_then(|read| json.end().map(|()| read));
    read.map(|read| (read, unknown)).map_err(|error| told(&track.path().to_string(), &error))
}

/// What was expected, as the reader says it and as people do.
const WORDS: [(&str, &str); 8] = [
    ("u8", "a whole number of 0 to 255"),
    ("u16", "a whole number of 0 to 65535"),
    ("u32", "a whole number, 0 or more"),
    ("u64", "a whole number, 0 or more"),
    ("usize", "a whole number, 0 or more"),
    ("a map", "an object"),
    ("a sequence", "a list"),
    ("a boolean", "true or false"),
];

fn told(path: &str, error: &serde_json::Error) -> String {
    let mut why = error.to_string();
    if error.classify() == Category::Data {
        // The field says it better than line and column.
        why.truncate(why.rfind(" at line ").unwrap_or(why.len()));
        if let Some((before, expected)) = why.split_once(", expected ") {
            let word = WORDS.iter().find(|(word, _)| *word == expected).map(|(_, word)| *word);
            let word = word.or(expected.starts_with("struct ").then_some("an object"));
            why = format!("{before}, expected {}", word.unwrap_or(expected));
        }
    }
    if path == "." { why } else { format!("`{path}`: {why}") }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use serde::Deserialize;

    use super::*;

    #[derive(Debug, PartialEq, Deserialize)]
    struct Inner {
        count: u8,
        #[serde(default)]
        map: BTreeMap<String, bool>,
    }

    #[derive(Debug, PartialEq, Deserialize)]
    struct Outer {
        name: String,
        #[serde(default)]
        inner: Option<Inner>,
        #[serde(default)]
        list: Vec<u64>,
    }

    fn read(text: &str) -> Result<(Outer, Option<String>), String> {
        object(text.as_bytes(), 80)
    }

    #[test]
    fn what_is_wrong_is_named_by_its_field() {
        for (text, why) in [
            ("", "empty: send a JSON object"),
            (" \n", "empty: send a JSON object"),
            (r#"["a"]"#, "no JSON object: send one, in braces"),
            ("nonsense", "no JSON object: send one, in braces"),
            (r#"{"name":42}"#, "`name`: invalid type: integer `42`, expected a string"),
            (r#"{"list":[]}"#, "missing field `name`"),
            (
                r#"{"name":"a","inner":{"count":-1}}"#,
                "`inner.count`: invalid value: integer `-1`, expected a whole number of 0 to 255",
            ),
            (
                r#"{"name":"a","inner":{"count":1,"map":{"k":1}}}"#,
                "`inner.map.k`: invalid type: integer `1`, expected true or false",
            ),
            (
                r#"{"name":"a","inner":{"count":1,"map":7}}"#,
                "`inner.map`: invalid type: integer `7`, expected an object",
            ),
            (r#"{"name":"a","inner":7}"#, "`inner`: invalid type: integer `7`, expected an object"),
            (
                r#"{"name":"a","list":[1,-2]}"#,
                "`list[1]`: invalid value: integer `-2`, expected a whole number, 0 or more",
            ),
            (r#"{"name":"a","list":{}}"#, "`list`: invalid type: map, expected a list"),
            (r#"{"name":"a"} x"#, "trailing characters at line 1 column 14"),
        ] {
            assert_eq!(read(text).unwrap_err(), why, "{text}");
        }
        let long = format!(r#"{{"name":"{}"}}"#, "a".repeat(80));
        assert_eq!(read(&long).unwrap_err(), "longer than the 80 bytes that are read");
        let cut = read(r#"{"name":"a","inner":{"count"#).unwrap_err();
        assert!(cut.ends_with("EOF while parsing a string at line 1 column 27"), "{cut}");
    }

    #[test]
    fn what_nothing_is_known_of_is_named_too() {
        let (outer, unknown) = read(r#"{"name":"a","inner":{"count":1,"cuont":2}}"#).unwrap();
        assert_eq!(outer.inner.unwrap().count, 1);
        assert_eq!(unknown.as_deref(), Some("inner.cuont"));
    }
}
