//! The core is pure: no runtime, no sockets, no clock, no randomness, no order by chance. `cargo check --lib
//! --no-default-features` proves most of it; this proves what the compiler lets pass.

use crate::source::{Source, sources};
use crate::{expect_none, expect_one};

/// Modules of ring 1.
const CORE: &[&str] =
    &["model", "wire", "diagnostic", "pattern", "request", "reply", "policy", "route", "compile", "variable"];

/// Words that have no business there, and why.
const FORBIDDEN: &[(&str, &str)] = &[
    ("tokio", "no runtime in the core"),
    ("hyper", "no HTTP library in the core"),
    ("rustls", "no TLS in the core"),
    ("k8s_openapi", "Kubernetes shapes end in `manifest`"),
    ("kube", "no API server in the core"),
    ("serde_json", "Kubernetes shapes end in `manifest`"),
    ("rand", "chance is an argument"),
    ("RandomState", "the order of an output may not depend on chance"),
    ("getrandom", "chance is an argument"),
];

/// Paths that have no business there.
const FORBIDDEN_PATHS: &[(&str, &str)] = &[
    ("std::fs", "no files in the core"),
    ("SystemTime::now", "time is an argument"),
    ("Instant::now", "time is an argument"),
    ("std::thread", "no threads in the core"),
    ("std::env", "no environment in the core"),
    ("net::Tcp", "no sockets in the core"),
    ("net::Udp", "no sockets in the core"),
    ("HashMap::new", "a map with the random hasher"),
    ("HashMap::with_capacity(", "a map with the random hasher"),
    ("HashMap::from", "a map with the random hasher"),
    ("HashSet::new", "a set with the random hasher"),
    ("HashSet::with_capacity(", "a set with the random hasher"),
    ("HashSet::from", "a set with the random hasher"),
];

/// What a webhook that anybody in the network can call must not be able to do (CVE-2025-1974).
const BEYOND_WEBHOOK: &[(&str, &str)] = &[
    ("std::fs", "reviews open no file"),
    ("tokio::fs", "reviews open no file"),
    ("::connect(", "reviews go nowhere"),
    ("UdpSocket", "reviews go nowhere"),
    ("std::env", "reviews read no environment"),
    ("Publisher", "reviews publish nothing"),
];

/// The process runs no other program; the plugin is a command of its own, which runs kubectl.
const RUNS_PROGRAMS: &str = "cli/plugin.rs";

fn reaches(sources: &[Source]) -> Vec<String> {
    let mut findings = Vec::new();
    for source in sources {
        let judge = source.module() == "admission";
        let beyond = BEYOND_WEBHOOK.iter().filter(|_| judge).copied();
        let program = [("process::Command", "no other program is run")];
        let program = program.into_iter().filter(|_| source.path != RUNS_PROGRAMS);
        for (path, why) in beyond.chain(program) {
            let hits = source.production.match_indices(path);
            findings.extend(hits.map(|(at, _)| format!("{}: `{path}`: {why}", source.at(at))));
        }
    }
    findings
}

fn impurities(sources: &[Source]) -> Vec<String> {
    let mut findings = Vec::new();
    for source in sources.iter().filter(|source| CORE.contains(&source.module())) {
        let code = &source.production;
        for (word, why) in FORBIDDEN {
            findings.extend(words(code, word).map(|at| format!("{}: `{word}`: {why}", source.at(at))));
        }
        for (path, why) in FORBIDDEN_PATHS {
            findings.extend(
                code.match_indices(path).map(|(at, _)| format!("{}: `{path}`: {why}", source.at(at))),
            );
        }
        for (name, parameters) in [("HashMap<", 3), ("HashSet<", 2)] {
            for (at, _) in code.match_indices(name) {
                if arguments(&code[at + name.len()..]) < parameters {
                    findings.push(format!("{}: `{name}…>` without a fixed hasher", source.at(at)));
                }
            }
        }
    }
    findings
}

/// Offsets where `word` stands alone.
fn words<'c>(code: &'c str, word: &'c str) -> impl Iterator<Item = usize> + 'c {
    let part = |c: char| c.is_alphanumeric() || c == '_';
    code.match_indices(word)
        .filter(move |(at, _)| {
            !code[..*at].chars().next_back().is_some_and(part)
                && !code[at + word.len()..].chars().next().is_some_and(part)
        })
        .map(|(at, _)| at)
}

/// How many generic arguments follow an opening `<`.
fn arguments(rest: &str) -> usize {
    let mut depth = 1_usize;
    let mut commas = 0;
    let mut last = ' ';
    for c in rest.chars() {
        match c {
            '<' | '(' | '[' => depth += 1,
            '>' if matches!(last, '-' | '=') => {}
            '>' | ')' | ']' => {
                depth -= 1;
                if depth == 0 {
                    break;
                }
            }
            ',' if depth == 1 => commas += 1,
            _ => {}
        }
        last = c;
    }
    commas + 1
}

#[test]
fn the_core_is_pure() {
    expect_none("purity of the core", &impurities(&sources()));
}

#[test]
fn the_webhook_is_pure_and_no_program_is_run() {
    expect_none("reach of the webhook", &reaches(&sources()));
    for text in ["let x = std::fs::read(p);", "TcpStream::connect(a)", "use std::process::Command;"] {
        expect_one(&reaches(&[Source::new("admission/x.rs", text)]), "src/admission/x.rs");
    }
    expect_one(&reaches(&[Source::new("proxy/x.rs", "std::process::Command::new(p)")]), "src/proxy/x.rs");
    expect_none("proxy", &reaches(&[Source::new("proxy/x.rs", "TcpStream::connect(a)")]));
}

#[test]
fn every_impurity_is_found() {
    for text in [
        "use tokio::time;",
        "let now = std::time::SystemTime::now();",
        "let t = Instant::now();",
        "let m = HashMap::new();",
        "struct A { m: HashMap<String, Vec<(u8, u8)>> }",
        "struct A { m: HashSet<u8> }",
        "let x = std::fs::read(p);",
    ] {
        expect_one(&impurities(&[Source::new("route/x.rs", text)]), "src/route/x.rs");
    }
}

#[test]
fn what_only_looks_impure_passes() {
    let text = "fn operand() -> SystemTime { UNIX_EPOCH } struct Instantiate; // tokio\nstruct B { m: HashMap<u8, fn() -> u8, Fixed>, s: \
                HashSet<u8, Fixed> }\n#[cfg(test)] mod tests { use tokio::time; }";
    expect_none("core", &impurities(&[Source::new("route.rs", text)]));
    expect_none("proxy", &impurities(&[Source::new("proxy.rs", "use tokio::time;")]));
}
