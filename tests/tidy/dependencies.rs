//! Packages that must not come in, and why.

use std::process::Command;

use crate::source::root;
use crate::{expect_none, expect_one};

/// Never in the lock file.
const BANNED: &[(&str, &str)] = &[
    ("openssl-sys", "one TLS library, and it is rustls"),
    ("native-tls", "one TLS library, and it is rustls"),
    ("serde_yaml", "unmaintained; YAML is serde-saphyr behind `manifest`"),
    ("serde_yml", "unsound"),
    ("rustls-pemfile", "archived; use rustls-pki-types"),
    ("reqwest", "a second HTTP client"),
];

/// May stand in the lock file as an optional dependency of others, but is never built.
const NEVER_BUILT: &[(&str, &str)] =
    &[("ring", "two providers compiled in and none installed: panic at start")];

fn banned(lock: &str) -> Vec<String> {
    let present = |name: &str| lock.lines().any(|line| line == format!("name = \"{name}\""));
    BANNED.iter().filter(|(name, _)| present(name)).map(|(name, why)| format!("{name}: {why}")).collect()
}

/// `tree`: one `name version` a line, as `cargo tree --prefix none` prints it.
fn built(tree: &str) -> Vec<String> {
    let present = |name: &str| tree.lines().any(|line| line.split_whitespace().next() == Some(name));
    NEVER_BUILT.iter().filter(|(name, _)| present(name)).map(|(name, why)| format!("{name}: {why}")).collect()
}

#[test]
fn banned_packages_are_not_in_the_lock_file() {
    let lock = std::fs::read_to_string(root().join("Cargo.lock")).expect("Cargo.lock is committed");
    assert!(lock.contains("name = \"rustls\""), "the lock file is not read right");
    expect_none("banned packages", &banned(&lock));
    expect_one(&banned("[[package]]\nname = \"native-tls\"\n"), "native-tls");
}

#[test]
fn there_is_one_crypto_provider() {
    let output = Command::new(env!("CARGO"))
        .args(["tree", "--locked", "--offline", "--edges", "normal", "--prefix", "none"])
        .current_dir(root())
        .output()
        .expect("cargo can be run");
    let tree = String::from_utf8_lossy(&output.stdout);
    assert!(tree.contains("aws-lc-rs v"), "{}", String::from_utf8_lossy(&output.stderr));
    expect_none("never built", &built(&tree));
    expect_one(&built("ring v0.17.14\nrustls v0.23.0\n"), "ring");
}
