//! Style that no lint knows: heads of files, imports, panics on the request path, size, where features may stand.

use crate::source::{Source, sources};
use crate::{expect_none, expect_one};

/// Modules that a request passes through: a panic there costs a connection.
const REQUEST_PATH: &[&str] = &[
    "listener", "proxy", "upstream", "limit", "drain", "route", "policy", "request", "reply", "wire",
    "pattern",
];

/// Files that may be longer than `LIMIT` lines, and why.
const LONG: &[(&str, &str)] = &[
    ("policy/snippet/directive.rs", "a table, one row for each directive"),
    ("pattern/translate.rs", "one recursive descent over the syntax of PCRE"),
    ("policy/annotation.rs", "the reader and its typed getters, a short one for each form of value"),
];

/// Lines of a file before it has to give a reason.
const LIMIT: usize = 500;

fn without_head(sources: &[Source]) -> Vec<String> {
    // A file of tests is told by the module it stands beside.
    let headless = |source: &&Source| !source.is_test() && !source.text.trim_start().starts_with("//!");
    sources.iter().filter(headless).map(|source| format!("src/{}: no `//!` head", source.path)).collect()
}

fn module_files(sources: &[Source]) -> Vec<String> {
    let wrong = |source: &&Source| source.path.ends_with("mod.rs");
    sources
        .iter()
        .filter(wrong)
        .map(|source| format!("src/{}: `mod.rs`; use `x.rs` and `x/`", source.path))
        .collect()
}

/// `use …::*` outside tests, and `use crate::*` anywhere.
fn globs(sources: &[Source]) -> Vec<String> {
    let mut findings = Vec::new();
    for source in sources {
        let code = if source.is_test() { &source.code } else { &source.production };
        for (at, _) in code.match_indices("use ") {
            if code[..at].chars().next_back().is_some_and(|c| c.is_alphanumeric() || c == '_') {
                continue;
            }
            let end = code[at..].find(';').map_or(code.len(), |n| at + n);
            let import: String = code[at..end].split_whitespace().collect::<Vec<_>>().join(" ");
            let test_glob = source.is_test() && import.starts_with("use super::");
            if import.contains("::*") && !test_glob {
                findings.push(format!("{}: `{import}`", source.at(at)));
            }
        }
    }
    findings
}

fn panics(sources: &[Source]) -> Vec<String> {
    let everywhere = ["todo!(", "unimplemented!(", "dbg!("];
    let on_the_path = [".unwrap()", ".unwrap_err()", "panic!(", "unreachable!("];
    let mut findings = Vec::new();
    for source in sources {
        let on_path = REQUEST_PATH.contains(&source.module());
        for word in everywhere.iter().chain(on_the_path.iter().filter(|_| on_path)) {
            for (at, _) in source.production.match_indices(word) {
                if source.production[..at].ends_with("debug_") {
                    continue;
                }
                findings.push(format!("{}: `{word}`", source.at(at)));
            }
        }
    }
    findings
}

/// Promises to finish something later.
fn promises(sources: &[Source]) -> Vec<String> {
    let words = [concat!("TO", "DO"), concat!("FIX", "ME"), concat!("XX", "X:")];
    let mut findings = Vec::new();
    for source in sources {
        for (number, line) in source.text.lines().enumerate() {
            if words.iter().any(|word| line.contains(word)) {
                findings.push(format!("src/{}:{}: {}", source.path, number + 1, line.trim()));
            }
        }
    }
    findings
}

fn too_long(sources: &[Source], allowed: &[(&str, &str)]) -> Vec<String> {
    let mut findings = Vec::new();
    for source in sources.iter().filter(|source| !source.is_test()) {
        let lines = source.text.lines().count();
        let excused = allowed.iter().any(|(path, _)| *path == source.path);
        if lines > LIMIT && !excused {
            findings.push(format!("src/{}: {lines} lines; split it or give a reason in LONG", source.path));
        }
        if lines <= LIMIT && excused {
            findings.push(format!("src/{}: short enough to leave LONG", source.path));
        }
    }
    let missing = |path: &str| !sources.iter().any(|source| source.path == path);
    findings.extend(
        allowed
            .iter()
            .filter(|(path, _)| missing(path))
            .map(|(path, _)| format!("src/{path}: in LONG, not in src")),
    );
    findings
}

/// Features are rings; they stand on the module lines of `lib.rs` and nowhere else.
fn features(sources: &[Source]) -> Vec<String> {
    let mut findings = Vec::new();
    for source in sources {
        for (at, _) in source.code.match_indices("feature = ") {
            let line = source.code[at..].lines().nth(1).unwrap_or_default().trim_start();
            if source.path != "lib.rs" || !(line.starts_with("pub mod ") || line.starts_with("#[")) {
                findings.push(format!("{}: a feature outside the module lines of lib.rs", source.at(at)));
            }
        }
    }
    findings
}

#[test]
fn every_file_opens_with_what_it_is() {
    expect_none("heads", &without_head(&sources()));
    expect_one(&without_head(&[Source::new("a.rs", "use std::fmt;\n")]), "a.rs");
}

#[test]
fn there_is_no_mod_rs() {
    expect_none("mod.rs", &module_files(&sources()));
    expect_one(&module_files(&[Source::new("a/mod.rs", "")]), "a/mod.rs");
}

#[test]
fn imports_are_named() {
    expect_none("glob imports", &globs(&sources()));
    for text in ["use crate::*;", "pub use self::a::*;", "use a::{b, c::*};"] {
        expect_one(&globs(&[Source::new("a.rs", text)]), "*");
    }
    expect_one(&globs(&[Source::new("a/tests.rs", "use crate::*;")]), "use crate::*");
    expect_none("tests", &globs(&[Source::new("a.rs", "#[cfg(test)]\nmod tests {\n    use super::*;\n}\n")]));
    expect_none("tests", &globs(&[Source::new("a/tests.rs", "use super::*;")]));
}

#[test]
fn nothing_on_the_request_path_panics_on_purpose() {
    expect_none("panics", &panics(&sources()));
    expect_one(&panics(&[Source::new("proxy/a.rs", "fn f() { x.unwrap(); }")]), "unwrap");
    expect_one(&panics(&[Source::new("route.rs", "fn f() { unreachable!() }")]), "unreachable");
    expect_one(&panics(&[Source::new("cli.rs", "fn f() { todo!() }")]), "todo");
    expect_none("outside the path", &panics(&[Source::new("cli.rs", "fn f() { x.unwrap(); }")]));
    expect_none(
        "tests",
        &panics(&[Source::new("proxy.rs", "#[cfg(test)] mod tests { fn f() { x.unwrap(); } }")]),
    );
}

#[test]
fn nothing_is_left_for_later() {
    expect_none("promises", &promises(&sources()));
    expect_one(&promises(&[Source::new("a.rs", concat!("// TO", "DO: more"))]), "a.rs:1");
}

#[test]
fn files_stay_readable() {
    expect_none("long files", &too_long(&sources(), LONG));
    let long = Source::new("a.rs", &"//! x\n".repeat(LIMIT + 1));
    expect_one(&too_long(&[long], &[]), "a.rs");
    expect_one(&too_long(&[Source::new("a.rs", "//! x\n")], &[("a.rs", "reason")]), "leave LONG");
    expect_one(&too_long(&[], &[("b.rs", "reason")]), "not in src");
}

#[test]
fn features_stand_on_module_lines_only() {
    expect_none("features", &features(&sources()));
    expect_one(&features(&[Source::new("a.rs", "#[cfg(feature = \"proxy\")]\nfn f() {}")]), "a.rs");
    expect_one(&features(&[Source::new("lib.rs", "#[cfg(feature = \"proxy\")]\nfn f() {}")]), "lib.rs");
    expect_none("lib", &features(&[Source::new("lib.rs", "#[cfg(feature = \"proxy\")]\npub mod proxy;")]));
}
