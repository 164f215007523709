//! The floors: read from `src/lib.rs`, where each group of modules stands
//! behind a line `// floor N: …`.

use std::collections::BTreeMap;

use super::source::{Breach, Source, library_and_binaries};

/// Modules with their floors.
#[derive(Debug)]
pub(crate) struct Floors(BTreeMap<String, u32>);

/// The project's floors.
pub(crate) fn read() -> Floors {
    let files = library_and_binaries();
    let lib = files.iter().find(|file| file.path == "src/lib.rs").expect("the library has a root");
    parse(&lib.text)
}

/// The floors as a `lib.rs` states them.
pub(crate) fn parse(lib: &str) -> Floors {
    let mut floor = None;
    let mut floors = BTreeMap::new();
    for line in lib.lines() {
        if let Some(rest) = line.strip_prefix("// floor ") {
            let number = rest.split(':').next().and_then(|number| number.parse().ok());
            assert!(number > floor, "floors rise in lib.rs: {line}");
            floor = number;
        }
        if let Some(module) = line.strip_prefix("pub mod ").and_then(|rest| rest.strip_suffix(';'))
        {
            let floor = floor.expect("each `pub mod` of lib.rs stands behind a `// floor N:` line");
            floors.insert(module.to_owned(), floor);
        }
    }
    assert!(floors.get("limits") == Some(&0), "limits are floor 0");
    Floors(floors)
}

impl Floors {
    /// What a file uses that is not below it.
    pub(crate) fn check(&self, file: &Source) -> Vec<Breach> {
        let module = file.module();
        let Some(own) = module.first().copied() else { return Vec::new() };
        // Binaries stand on top of all, and do not name each other.
        let floor = match self.0.get(own) {
            Some(floor) => *floor,
            None if own == "bin" => u32::MAX,
            None => {
                let mend = format!("put `pub mod {own};` on a floor of src/lib.rs");
                return vec![file.breach(1, mend)];
            }
        };
        let mut breaches = Vec::new();
        for (path, word) in file.paths() {
            let Some(used) = path.first() else { continue };
            // Inside a binary `crate` and `super` are the binary's own modules.
            let inside = own == "bin" && (used == "bin" || !self.0.contains_key(used));
            if used == own || inside || used == "*" {
                continue;
            }
            match self.0.get(used) {
                Some(below) if *below < floor => (),
                Some(below) => breaches.push(file.breach(
                    word.line,
                    format!(
                        "{own} (floor {floor}) uses {used} (floor {below}): a module uses only \
                         floors below its own; move what both need down, or hand it in"
                    ),
                )),
                None => breaches.push(file.breach(
                    word.line,
                    format!("{used} is no module of src/lib.rs: name the module it comes from"),
                )),
            }
        }
        breaches
    }
}
