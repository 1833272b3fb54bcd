//! Documents say what is true: links lead somewhere, commands exist, every module has its place on the map, and
//! nothing tells of the machine it was written on.

use std::collections::BTreeSet;
use std::fs;

use regex::Regex;

use crate::source::{below, files, root, sources};
use crate::{expect_none, expect_one};

/// A text file of the project.
struct Document {
    path: String,
    text: String,
}

fn regex(pattern: &str) -> Regex {
    Regex::new(pattern).expect("the pattern is written by hand")
}

/// Text files of the project that are written by us; test data is what others send.
fn documents(extensions: &[&str]) -> Vec<Document> {
    let root = root();
    let wanted = |path: &str| {
        let extension = path.rsplit_once('.').map_or("", |(_, extension)| extension);
        extensions.contains(&extension) && !path.starts_with("tests/data/")
    };
    let found: Vec<Document> = files(&root)
        .into_iter()
        .map(|path| below(&root, &path))
        .filter(|path| wanted(path))
        .filter_map(|path| fs::read_to_string(root.join(&path)).ok().map(|text| Document { path, text }))
        .collect();
    assert!(!found.is_empty(), "no documents found");
    found
}

fn document(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_default()
}

/// Line numbers rot with the next commit.
fn line_numbers(documents: &[Document]) -> Vec<String> {
    let pattern = regex(r"\.(rs|toml|md|py|sh)(:\d+|#L\d+)");
    let mut findings = Vec::new();
    for document in documents {
        findings.extend(
            pattern.find_iter(&document.text).map(|hit| format!("{}: {}", document.path, hit.as_str())),
        );
    }
    findings
}

/// Relative links whose file is not there.
fn dead_links(documents: &[Document], exists: impl Fn(&str) -> bool) -> Vec<String> {
    let pattern = regex(r"\]\(([^)\s]+)\)");
    let mut findings = Vec::new();
    for document in documents {
        let folder = document.path.rsplit_once('/').map_or("", |(folder, _)| folder);
        for hit in pattern.captures_iter(&document.text) {
            let target = hit[1].split('#').next().unwrap_or_default();
            if target.is_empty() || target.contains("://") || target.starts_with("mailto:") {
                continue;
            }
            let path = if folder.is_empty() { target.to_owned() } else { format!("{folder}/{target}") };
            if !exists(&normal(&path)) {
                findings.push(format!("{}: link to {target}, which is not there", document.path));
            }
        }
    }
    findings
}

/// Documents that comments of the code name and that are not there.
fn unwritten(named_in: &[Document], exists: impl Fn(&str) -> bool) -> Vec<String> {
    let pattern = regex(r"`(docs/[a-z-]+\.md)`");
    let mut findings = Vec::new();
    for document in named_in {
        let missing = pattern.captures_iter(&document.text).filter(|hit| !exists(&hit[1]));
        findings
            .extend(missing.map(|hit| format!("{}: names {}, which is not there", document.path, &hit[1])));
    }
    findings
}

/// `a/../b` as `b`.
fn normal(path: &str) -> String {
    let mut parts = Vec::new();
    for part in path.split('/') {
        match part {
            "." | "" => {}
            ".." => {
                parts.pop();
            }
            part => parts.push(part),
        }
    }
    parts.join("/")
}

/// Commands in code: `make x` needs a target, `narthex x` a subcommand, `cargo run --example x` nothing here.
fn unknown_commands(documents: &[Document], makefile: &str, command_line: &str) -> Vec<String> {
    let make = regex(r"(?m)(?:`|^\s*\$?\s*)make ([a-z][a-z0-9-]*)");
    let narthex = regex(r"(?:`|\./|^\s*\$?\s*|/)narthex ([a-z][a-z-]*)");
    let mut findings = Vec::new();
    for document in documents {
        for hit in make.captures_iter(&document.text) {
            if !regex(&format!(r"(?m)^{}:", &hit[1])).is_match(makefile) {
                findings.push(format!("{}: `make {}` is no target of the Makefile", document.path, &hit[1]));
            }
        }
        for hit in narthex.captures_iter(&document.text) {
            let variant = hit[1][..1].to_uppercase() + &hit[1][1..];
            if !regex(&format!(r"\b{variant}\b")).is_match(command_line) {
                findings.push(format!("{}: `narthex {}` is no subcommand", document.path, &hit[1]));
            }
        }
    }
    findings
}

/// Modules below the crate that the map does not name.
fn unmapped(modules: &[String], map: &str) -> Vec<String> {
    let missing = |module: &&String| !map.contains(&format!("`src/{module}.rs`"));
    modules
        .iter()
        .filter(missing)
        .map(|module| format!("`src/{module}.rs` has no place in ARCHITECTURE.md"))
        .collect()
}

/// Paths of a machine.
fn machine_paths(documents: &[Document]) -> Vec<String> {
    // Taken apart, or this file would find itself.
    let pattern =
        regex(concat!(r#"(?:^|[\s"'`=(:])(/"#, r"work/|/", r"root/|/", r"home/[a-z]|/", "tmp/[a-z])"));
    let mut findings = Vec::new();
    for document in documents {
        for line in document.text.lines().filter(|line| pattern.is_match(line)) {
            findings.push(format!("{}: {}", document.path, line.trim()));
        }
    }
    findings
}

fn sample(text: &str) -> Vec<Document> {
    vec![Document { path: "docs/x.md".into(), text: text.into() }]
}

#[test]
fn documents_hold_no_line_numbers() {
    expect_none("line numbers", &line_numbers(&documents(&["md"])));
    expect_one(&line_numbers(&sample("see src/app.rs:12")), ".rs:12");
}

#[test]
fn links_lead_somewhere() {
    let root = root();
    expect_none("links", &dead_links(&documents(&["md"]), |path| root.join(path).exists()));
    expect_one(&dead_links(&sample("[a](../gone.md#b)"), |path| path != "gone.md"), "gone.md");
    expect_none("elsewhere", &dead_links(&sample("[a](https://example.com) [b](#c)"), |_| false));
}

#[test]
fn documents_that_the_code_names_are_written() {
    let root = root();
    let comments: Vec<Document> =
        sources().into_iter().map(|source| Document { path: source.path, text: source.text }).collect();
    expect_none("documents", &unwritten(&comments, |path| root.join(path).exists()));
    expect_one(&unwritten(&sample("see `docs/gone.md`"), |_| false), "docs/gone.md");
}

/// Ids of rules that the code cites and that `rules` does not explain.
fn unexplained(named_in: &[Document], rules: &str) -> Vec<String> {
    let pattern = regex(r"\b(?:H1|H2|HF|PT|[B-HRU])-[0-9]{1,2}\b");
    let mut findings = BTreeSet::new();
    for document in named_in {
        let cited = pattern.find_iter(&document.text).map(|hit| hit.as_str());
        let unknown = cited.filter(|id| !rules.contains(&format!("| {id} |")));
        findings.extend(unknown.map(|id| format!("{}: {id} is not in docs/rules.md", document.path)));
    }
    findings.into_iter().collect()
}

#[test]
fn every_rule_that_the_code_cites_is_explained() {
    let comments: Vec<Document> =
        sources().into_iter().map(|source| Document { path: source.path, text: source.text }).collect();
    expect_none("rules", &unexplained(&comments, &document("docs/rules.md")));
    expect_one(&unexplained(&sample("as H1-99 says"), "| H1-01 | a rule |"), "H1-99");
}

#[test]
fn commands_in_documents_exist() {
    let command_line: String =
        sources().iter().filter(|s| s.module() == "cli").map(|s| s.production.as_str()).collect();
    expect_none("commands", &unknown_commands(&documents(&["md"]), &document("Makefile"), &command_line));
    expect_one(&unknown_commands(&sample("`make nothing`"), "test:\n", ""), "make nothing");
    expect_one(
        &unknown_commands(&sample("run `narthex nothing`"), "", "enum C { Check }"),
        "narthex nothing",
    );
    expect_none(
        "known",
        &unknown_commands(&sample("`make test` `narthex check`"), "test:\n", "enum C { Check }"),
    );
}

#[test]
fn every_module_has_its_place_on_the_map() {
    let mut modules: Vec<String> = sources().iter().map(|source| source.module().to_owned()).collect();
    modules.dedup();
    expect_none("map", &unmapped(&modules, &document("ARCHITECTURE.md")));
    expect_one(&unmapped(&["new".into()], "`src/old.rs`"), "new");
}

#[test]
fn nothing_tells_of_the_machine_it_was_written_on() {
    let kinds = ["md", "rs", "toml", "py", "sh", "yaml", "yml"];
    expect_none("machine paths", &machine_paths(&documents(&kinds)));
    expect_one(&machine_paths(&sample(concat!("see /", "home/me/x"))), "me/x");
}
