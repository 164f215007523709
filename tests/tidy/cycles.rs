//! Files that refer to each other in a circle cannot be read one by one.
//!
//! A child may name its parent and a parent its children: that is how modules
//! re-export. A circle is one among files of which none is inside another.

use std::collections::{BTreeMap, BTreeSet};

use super::source::{Breach, Source};

/// The circles among these files.
pub(crate) fn check(files: &[Source]) -> Vec<Breach> {
    let owners: BTreeMap<Vec<&str>, usize> =
        files.iter().enumerate().map(|(index, file)| (file.module(), index)).collect();
    let mut edges: BTreeMap<usize, BTreeMap<usize, usize>> = BTreeMap::new();
    for (from, file) in files.iter().enumerate() {
        for (path, word) in file.paths() {
            let to = owner(&owners, file, &path);
            let Some(to) = to.filter(|_| !word.test) else { continue };
            let (one, other) = (file.module(), files[to].module());
            if !one.starts_with(&other) && !other.starts_with(&one) {
                edges.entry(from).or_default().entry(to).or_insert(word.line);
            }
        }
    }
    let mut breaches = Vec::new();
    for from in 0..files.len() {
        let reached = reach(&edges, from);
        if !reached.contains(&from) {
            continue;
        }
        for (to, line) in edges.get(&from).into_iter().flatten() {
            if *to == from || reach(&edges, *to).contains(&from) {
                breaches.push(files[from].breach(
                    *line,
                    format!(
                        "{} also refers back here: move what both need into a third file",
                        files[*to].path
                    ),
                ));
            }
        }
    }
    breaches
}

/// The file that holds what a path names: the one with the longest module path.
fn owner(owners: &BTreeMap<Vec<&str>, usize>, file: &Source, path: &[String]) -> Option<usize> {
    let path: Vec<&str> = path.iter().map(String::as_str).collect();
    let find = |path: &[&str]| (1..=path.len()).rev().find_map(|n| owners.get(&path[..n]).copied());
    // Inside a binary of several files `crate` is the binary.
    match file.module().as_slice() {
        ["bin", name, ..] => {
            let inside = [&["bin", name], path.as_slice()].concat();
            find(&path).or_else(|| find(&inside))
        }
        _ => find(&path),
    }
}

/// Everything that can be reached from a file.
fn reach(edges: &BTreeMap<usize, BTreeMap<usize, usize>>, from: usize) -> BTreeSet<usize> {
    let mut reached = BTreeSet::new();
    let mut next = vec![from];
    while let Some(at) = next.pop() {
        for to in edges.get(&at).into_iter().flat_map(BTreeMap::keys) {
            if reached.insert(*to) {
                next.push(*to);
            }
        }
    }
    reached
}
