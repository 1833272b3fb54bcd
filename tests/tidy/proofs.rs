//! `docs/security.md` promises and names the command that proves each promise: the tests behind the commands exist, and
//! every promise of the list has its row.

use std::fs;
use std::path::Path;

use regex::Regex;

use crate::source::{below, files, root};
use crate::{expect_none, expect_one};

/// Promises that the table holds, P1 to this one.
const PROMISES: usize = 25;

/// A command in a document: `--test NAME` or `--lib`, and the filter behind it.
fn proofs(text: &str) -> Vec<(String, String)> {
    let pattern =
        Regex::new(r"`cargo test (--lib|--test ([a-z0-9_]+))(?: ([a-z0-9_:]+))?`").expect("by hand");
    let named = |hit: regex::Captures<'_>| {
        let target = hit.get(2).map_or("lib", |name| name.as_str()).to_owned();
        (target, hit.get(3).map_or("", |filter| filter.as_str()).to_owned())
    };
    pattern.captures_iter(text).map(named).collect()
}

/// True when a test of `target` can match `filter`: it is part of a module's path or of a function's name.
fn is_there(root: &Path, target: &str, filter: &str) -> bool {
    let last = filter.rsplit("::").next().unwrap_or_default();
    let folder = if target == "lib" { "src/".to_owned() } else { format!("tests/{target}/") };
    let alone = format!("tests/{target}.rs");
    let functions = Regex::new(r"fn ([a-z0-9_]+)").expect("by hand");
    let mut found = false;
    let mut matched = last.is_empty();
    for path in files(root) {
        let name = below(root, &path);
        if name != alone && !name.starts_with(&folder) {
            continue;
        }
        found = true;
        let text = fs::read_to_string(&path).unwrap_or_default();
        matched = matched
            || name.ends_with(&format!("/{last}.rs"))
            || functions.captures_iter(&text).any(|hit| hit[1].contains(last));
    }
    found && matched
}

fn missing(text: &str, is_there: impl Fn(&str, &str) -> bool) -> Vec<String> {
    let gone = proofs(text).into_iter().filter(|(target, filter)| !is_there(target, filter));
    let gone = gone.map(|(target, filter)| format!("no test of {target} matches {filter:?}"));
    let untold = (1..=PROMISES)
        .map(|number| format!("P{number}"))
        .filter(|promise| {
            !Regex::new(&format!(r"(?m)^\| [P0-9, ]*\b{promise}\b")).expect("by hand").is_match(text)
        })
        .map(|promise| format!("{promise} has no row"));
    gone.chain(untold).collect()
}

#[test]
fn every_promise_has_a_proof_that_exists() {
    let root = root();
    let text = fs::read_to_string(root.join("docs/security.md")).unwrap_or_default();
    assert!(proofs(&text).len() >= 20, "the table was not read");
    expect_none("proofs", &missing(&text, |target, filter| is_there(&root, target, filter)));
    let rows: String = (1..=PROMISES).map(|number| format!("| P{number} | x |\n")).collect();
    expect_one(&missing(&format!("{rows}`cargo test --test a gone`"), |_, _| false), "gone");
    expect_one(&missing(&rows.replace("| P7 |", "| |"), |_, _| true), "P7");
}
