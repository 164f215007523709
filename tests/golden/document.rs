//! `docs/wire.md` as the tests see it: the JSON of its examples.

use std::sync::LazyLock;

use serde_json::{Deserializer, Value};

static WIRE: &str = include_str!("../../docs/wire.md");

/// Every value in a block marked `json`; a block may hold several.
static EXAMPLES: LazyLock<Vec<Value>> = LazyLock::new(|| {
    let mut examples = Vec::new();
    for block in WIRE.split("```json\n").skip(1) {
        let (block, _) = block.split_once("```").expect("the block ends");
        for value in Deserializer::from_str(block).into_iter::<Value>() {
            examples.push(value.unwrap_or_else(|error| panic!("{error} in\n{block}")));
        }
    }
    examples
});

/// Holds that the document has this message as an example.
#[track_caller]
pub(crate) fn shows(json: &str) {
    let value: Value = serde_json::from_str(json).unwrap();
    assert!(EXAMPLES.contains(&value), "docs/wire.md has no such example:\n{json}");
}

/// Holds that the document has this text, also where its lines are wrapped.
#[track_caller]
pub(crate) fn says(text: &str) {
    assert!(WIRE.contains(text), "docs/wire.md does not have: {text}");
}
