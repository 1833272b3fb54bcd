//! What packages may come in: the lists of `deny.toml`, held here too, so that nobody needs cargo-deny for it.

use std::process::Command;

use regex::Regex;
use serde_json::Value;

use crate::source::root;
use crate::{expect_none, expect_one};

/// Banned, but allowed to stand in the lock file as an optional part of others that is never built: rustls and
/// hickory name it for those who choose it.
const LOCKED_BUT_NEVER_BUILT: &[&str] = &["ring"];

fn file(name: &str) -> String {
    std::fs::read_to_string(root().join(name)).expect("the file is committed")
}

/// Packages that `deny.toml` bans.
fn bans(deny: &str) -> Vec<String> {
    let entry =
        Regex::new(r#"(?m)^\s*\{ crate = "([^"]+)", reason = "[^"]+" \},$"#).expect("written by hand");
    entry.captures_iter(deny).map(|hit| hit[1].to_owned()).collect()
}

/// Licences that `deny.toml` allows.
fn licences(deny: &str) -> Vec<String> {
    let list =
        deny.split_once("allow = [").and_then(|(_, rest)| rest.split_once(']')).map_or("", |(list, _)| list);
    list.split(',')
        .map(|name| name.trim().trim_matches('"').to_owned())
        .filter(|name| !name.is_empty())
        .collect()
}

fn in_lock_file(lock: &str, bans: &[String]) -> Vec<String> {
    let present = |name: &str| lock.lines().any(|line| line == format!("name = \"{name}\""));
    let wanted = |name: &&String| present(name) && !LOCKED_BUT_NEVER_BUILT.contains(&name.as_str());
    bans.iter().filter(wanted).map(|name| format!("{name} is in Cargo.lock")).collect()
}

/// `tree`: one `name version` a line, as `cargo tree --prefix none` prints it.
fn built(tree: &str, bans: &[String]) -> Vec<String> {
    let present = |name: &str| tree.lines().any(|line| line.split_whitespace().next() == Some(name));
    bans.iter().filter(|name| present(name)).map(|name| format!("{name} is built")).collect()
}

/// Packages whose licence cannot be met with the allowed ones.
fn unlicensed(metadata: &Value, allowed: &[String]) -> Vec<String> {
    let mut findings = Vec::new();
    for package in metadata["packages"].as_array().into_iter().flatten() {
        let licence = package["license"].as_str().unwrap_or_default();
        if !Expression::new(licence).holds(allowed) {
            findings.push(format!("{}: licence {licence:?}", package["name"].as_str().unwrap_or_default()));
        }
    }
    findings
}

/// An SPDX expression with `AND`, `OR`, parentheses, and the old `/` for `OR`.
struct Expression {
    words: Vec<String>,
    at: usize,
}

impl Expression {
    fn new(text: &str) -> Self {
        let spaced =
            text.replace('/', " OR ").replace('(', " ( ").replace(')', " ) ").replace(" WITH ", "+WITH+");
        Self {
            words: spaced.split_whitespace().map(|word| word.replace("+WITH+", " WITH ")).collect(),
            at: 0,
        }
    }

    fn holds(mut self, allowed: &[String]) -> bool {
        !self.words.is_empty() && self.or(allowed) && self.at == self.words.len()
    }

    fn take(&mut self, word: &str) -> bool {
        let found = self.words.get(self.at).is_some_and(|next| next == word);
        self.at += usize::from(found);
        found
    }

    fn or(&mut self, allowed: &[String]) -> bool {
        let mut holds = self.and(allowed);
        while self.take("OR") {
            holds |= self.and(allowed);
        }
        holds
    }

    fn and(&mut self, allowed: &[String]) -> bool {
        let mut holds = self.one(allowed);
        while self.take("AND") {
            holds &= self.one(allowed);
        }
        holds
    }

    fn one(&mut self, allowed: &[String]) -> bool {
        if self.take("(") {
            let holds = self.or(allowed);
            return self.take(")") && holds;
        }
        let holds = self.words.get(self.at).is_some_and(|word| allowed.contains(word));
        self.at += 1;
        holds
    }
}

fn cargo(arguments: &[&str]) -> String {
    let output =
        Command::new(env!("CARGO")).args(arguments).current_dir(root()).output().expect("cargo can be run");
    assert!(output.status.success(), "cargo {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[test]
fn the_lists_of_deny_toml_are_read() {
    let deny = file("deny.toml");
    assert!(bans(&deny).contains(&"openssl-sys".to_owned()), "{:?}", bans(&deny));
    assert_eq!(bans(&deny).len(), deny.matches("crate = ").count(), "an entry is written in another form");
    assert!(licences(&deny).contains(&"Apache-2.0".to_owned()), "{:?}", licences(&deny));
}

#[test]
fn banned_packages_are_not_in_the_lock_file() {
    let lock = file("Cargo.lock");
    assert!(lock.contains("name = \"rustls\""), "the lock file is not read right");
    expect_none("banned packages", &in_lock_file(&lock, &bans(&file("deny.toml"))));
    let bans = ["native-tls".to_owned()];
    expect_one(&in_lock_file("[[package]]\nname = \"native-tls\"\n", &bans), "native-tls");
}

#[test]
fn there_is_one_crypto_provider_and_no_banned_package_is_built() {
    let tree = cargo(&["tree", "--locked", "--offline", "--edges", "normal", "--prefix", "none"]);
    assert!(tree.contains("aws-lc-rs v"), "{tree}");
    expect_none("never built", &built(&tree, &bans(&file("deny.toml"))));
    expect_one(&built("ring v0.17.14\nrustls v0.23.0\n", &["ring".to_owned()]), "ring");
}

#[test]
fn every_licence_is_allowed() {
    // Without a platform, cargo asks for the packages of all platforms, which are not there offline.
    let platform = format!("{}-unknown-linux-gnu", std::env::consts::ARCH);
    let metadata = cargo(&[
        "metadata",
        "--locked",
        "--offline",
        "--format-version",
        "1",
        "--filter-platform",
        &platform,
    ]);
    let metadata = serde_json::from_str(&metadata).expect("cargo metadata is JSON");
    expect_none("licences", &unlicensed(&metadata, &licences(&file("deny.toml"))));
}

#[test]
fn licence_expressions_are_judged() {
    let allowed = ["MIT".to_owned(), "ISC".to_owned()];
    for (text, holds) in [
        ("MIT", true),
        ("GPL-3.0", false),
        ("GPL-3.0 OR MIT", true),
        ("GPL-3.0/MIT", true),
        ("GPL-3.0 AND MIT", false),
        ("ISC AND (GPL-3.0 OR MIT)", true),
        ("(ISC AND GPL-3.0) OR GPL-2.0", false),
        ("MIT WITH x", false),
        ("", false),
    ] {
        let package = serde_json::json!({"packages": [{"name": "p", "license": text}]});
        assert_eq!(unlicensed(&package, &allowed).is_empty(), holds, "{text:?}");
    }
}
