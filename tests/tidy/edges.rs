//! Which module may name which (ARCHITECTURE.md, "Direction of dependency").
//!
//! A new edge is one changed line here, in the commit that needs it, where a reviewer sees it.

use std::collections::{BTreeMap, BTreeSet};

use crate::source::{Source, sources};
use crate::{expect_none, expect_one};

/// Module, and the modules it may name. From the bottom up; a module may always name itself.
const EDGES: &[(&str, &[&str])] = &[
    // core
    ("model", &[]),
    ("diagnostic", &["model"]),
    ("wire", &[]),
    ("pattern", &[]),
    ("variable", &[]),
    ("request", &["variable", "wire"]),
    ("reply", &[]),
    ("policy", &["request", "reply", "diagnostic", "pattern", "variable", "wire", "model"]),
    ("route", &["policy", "request", "reply", "pattern", "wire", "model"]),
    ("compile", &["route", "policy", "diagnostic", "pattern", "model"]),
    ("inquiry", &["request", "route", "policy", "wire"]),
    // from Kubernetes objects, and to JSON
    ("manifest", &["model", "diagnostic"]),
    ("report", &["diagnostic", "route"]),
    // seam
    ("cert", &["model", "diagnostic"]),
    ("places", &["policy"]),
    ("snapshot", &["route", "cert", "diagnostic"]),
    // used by both planes, know neither
    ("telemetry", &["variable"]),
    ("drain", &[]),
    ("limit", &[]),
    // data plane
    ("pipe", &["limit"]),
    ("message", &["pipe", "wire"]),
    ("listener", &[]),
    ("upstream", &["message", "pipe", "cert", "route", "policy", "wire", "limit"]),
    (
        "proxy",
        &[
            "message",
            "pipe",
            "snapshot",
            "cert",
            "route",
            "policy",
            "request",
            "reply",
            "wire",
            "upstream",
            "listener",
            "drain",
            "limit",
            "places",
            "telemetry",
            "variable",
        ],
    ),
    // control plane
    ("config", &["compile", "model"]),
    ("standalone", &["manifest", "model", "diagnostic", "compile"]),
    (
        "control",
        &[
            "standalone",
            "config",
            "compile",
            "cert",
            "snapshot",
            "model",
            "diagnostic",
            "manifest",
            "route",
            "limit",
        ],
    ),
    ("admission", &["control", "compile", "cert", "policy", "manifest", "model", "diagnostic", "telemetry"]),
    (
        "controller",
        &["cert", "control", "config", "manifest", "snapshot", "model", "diagnostic", "telemetry"],
    ),
    ("admin", &["snapshot", "route", "policy", "inquiry", "report", "model", "telemetry", "drain", "limit"]),
    (
        "cli",
        &[
            "admission",
            "config",
            "control",
            "standalone",
            "manifest",
            "compile",
            "cert",
            "route",
            "inquiry",
            "model",
            "report",
            "diagnostic",
        ],
    ),
    ("collector", &["telemetry"]),
    ("stapler", &["cert", "route", "snapshot"]),
    ("demo", &["config", "model"]),
    // wiring
    ("app", ANY),
    ("lib", ANY),
    ("main", ANY),
];

/// For the modules that put everything together.
const ANY: &[&str] = &["*"];

/// Edges of one file to other top-level modules, with the offset of the mention.
fn mentions(source: &Source, modules: &BTreeSet<&str>) -> Vec<(String, usize)> {
    let code = &source.production;
    let mut found = Vec::new();
    for root in ["crate::", "narthex::"] {
        for (at, _) in code.match_indices(root) {
            if root == "narthex::" && source.module() != "main" {
                continue;
            }
            found.extend(named(&code[at + root.len()..]).into_iter().map(|name| (name, at)));
        }
    }
    // `super::super::x` that climbs to the crate.
    let climb = "super::".repeat(source.depth());
    for (at, _) in code.match_indices(&climb) {
        let rest = &code[at + climb.len()..];
        if !code[..at].ends_with("super::") && !rest.starts_with("super::") {
            found.extend(
                named(rest).into_iter().filter(|name| modules.contains(name.as_str())).map(|name| (name, at)),
            );
        }
    }
    found
}

/// The first segments of `a::b`, or of each member of `{a, b::{c}}`.
fn named(rest: &str) -> Vec<String> {
    let word = |text: &str| {
        text.chars().take_while(|c| c.is_alphanumeric() || *c == '_' || *c == '*').collect::<String>()
    };
    if !rest.starts_with('{') {
        return vec![word(rest)];
    }
    let mut names = Vec::new();
    let mut depth = 0_usize;
    let mut expect_name = false;
    for (at, c) in rest.char_indices() {
        match c {
            '{' => {
                depth += 1;
                expect_name = depth == 1;
            }
            '}' => {
                depth -= 1;
                if depth == 0 {
                    break;
                }
            }
            ',' => expect_name = depth == 1,
            c if c.is_whitespace() => {}
            _ => {
                if expect_name {
                    names.push(word(&rest[at..]));
                }
                expect_name = false;
            }
        }
    }
    names
}

fn forbidden_edges(sources: &[Source], table: &[(&str, &[&str])]) -> Vec<String> {
    let table: BTreeMap<&str, &[&str]> = table.iter().copied().collect();
    let modules: BTreeSet<&str> = table.keys().copied().collect();
    let mut findings = BTreeSet::new();
    for source in sources {
        let Some(allowed) = table.get(source.module()) else {
            findings.insert(format!("src/{}: module `{}` is missing in EDGES", source.path, source.module()));
            continue;
        };
        if *allowed == ANY {
            continue;
        }
        for (name, at) in mentions(source, &modules) {
            if name != source.module() && !allowed.contains(&name.as_str()) {
                findings.insert(format!("{}: `{}` may not name `{name}`", source.at(at), source.module()));
            }
        }
    }
    findings.into_iter().collect()
}

/// Circles in the table, as `a -> b -> a`.
fn circles(table: &[(&str, &[&str])]) -> Vec<String> {
    fn visit<'t>(
        name: &'t str,
        table: &BTreeMap<&'t str, &'t [&'t str]>,
        trail: &mut Vec<&'t str>,
        found: &mut BTreeSet<String>,
    ) {
        if let Some(start) = trail.iter().position(|seen| *seen == name) {
            found.insert(format!("{} -> {name}", trail[start..].join(" -> ")));
            return;
        }
        trail.push(name);
        for next in table.get(name).copied().unwrap_or_default() {
            visit(next, table, trail, found);
        }
        trail.pop();
    }
    let table: BTreeMap<&str, &[&str]> = table.iter().copied().collect();
    let mut found = BTreeSet::new();
    for name in table.keys() {
        visit(name, &table, &mut Vec::new(), &mut found);
    }
    found.into_iter().collect()
}

#[test]
fn modules_name_only_what_the_table_allows() {
    expect_none("module edges", &forbidden_edges(&sources(), EDGES));
}

#[test]
fn the_table_of_edges_has_no_circle() {
    expect_none("circles", &circles(EDGES));
    assert!(!circles(&[("a", &["b"]), ("b", &["c"]), ("c", &["a"])]).is_empty(), "a circle must be found");
}

#[test]
fn control_and_data_plane_do_not_know_each_other() {
    let of =
        |name: &str| EDGES.iter().find(|(module, _)| *module == name).map(|(_, to)| *to).unwrap_or_default();
    for plane in ["proxy", "upstream", "listener"] {
        for other in ["control", "standalone", "admin", "cli", "manifest", "compile", "config", "app"] {
            assert!(!of(plane).contains(&other), "{plane} may not name {other}");
        }
    }
    for control in ["control", "standalone", "admin"] {
        for other in ["proxy", "upstream", "listener", "app"] {
            assert!(!of(control).contains(&other), "{control} may not name {other}");
        }
    }
}

/// Edges that the table allows and nobody uses, as `a -> b`.
fn unused_edges(sources: &[Source], table: &[(&str, &[&str])]) -> Vec<String> {
    let modules: BTreeSet<&str> = table.iter().map(|(module, _)| *module).collect();
    let used: BTreeSet<(&str, String)> = sources
        .iter()
        .flat_map(|source| mentions(source, &modules).into_iter().map(|(name, _)| (source.module(), name)))
        .collect();
    let edges = table
        .iter()
        .filter(|(_, to)| *to != ANY)
        .flat_map(|(from, to)| to.iter().map(move |to| (*from, *to)));
    edges
        .filter(|(from, to)| !used.contains(&(*from, (*to).to_owned())))
        .map(|(from, to)| format!("{from} -> {to}"))
        .collect()
}

#[test]
fn the_table_allows_no_more_than_is_used() {
    expect_none("unused edges", &unused_edges(&sources(), EDGES));
    let table: &[(&str, &[&str])] = &[("low", &[]), ("high", &["low"])];
    expect_one(&unused_edges(&[Source::new("high.rs", "")], table), "high -> low");
    expect_none("used", &unused_edges(&[Source::new("high.rs", "use crate::low::A;")], table));
}

#[test]
fn a_forbidden_edge_is_found_in_every_spelling() {
    let table: &[(&str, &[&str])] = &[("low", &[]), ("high", &["low"])];
    for text in [
        "use crate::high::A;",
        "use crate::{\n    low::B,\n    high::{A, C},\n};",
        "fn f() { crate::high::run() }",
        "use super::high::A;",
    ] {
        expect_one(&forbidden_edges(&[Source::new("low.rs", text)], table), "may not name `high`");
    }
    expect_one(&forbidden_edges(&[Source::new("low/a.rs", "use super::super::high::A;")], table), "`high`");
    expect_one(&forbidden_edges(&[Source::new("new.rs", "")], table), "missing in EDGES");
}

#[test]
fn allowed_edges_own_module_tests_and_comments_pass() {
    let table: &[(&str, &[&str])] = &[("low", &[]), ("high", &["low"])];
    for (path, text) in [
        ("high.rs", "use crate::{low::{B, C}, high::D};"),
        ("low.rs", "// use crate::high;\n#[cfg(test)]\nmod tests { use crate::high::A; }"),
        ("low/tests.rs", "use crate::high::A;"),
        ("low/a.rs", "use super::high;"),
    ] {
        expect_none(path, &forbidden_edges(&[Source::new(path, text)], table));
    }
}
