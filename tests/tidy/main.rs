//! The house rules, read from the files themselves: module edges, the purity of the core, style, documents,
//! dependencies. Nothing here runs the product.
//!
//! A rule is a function from sources to findings. Every rule is tried twice: on the tree, where it must find
//! nothing, and on a small text that breaks it, where it must find something.

mod core;
mod dependencies;
mod documents;
mod edges;
mod image;
mod proofs;
mod settings;
mod source;
mod style;

/// Fails with all findings, one a line.
#[track_caller]
fn expect_none(rule: &str, findings: &[String]) {
    assert!(findings.is_empty(), "{rule}:\n  {}", findings.join("\n  "));
}

/// Fails unless exactly one finding speaks of `needle`.
#[track_caller]
fn expect_one(findings: &[String], needle: &str) {
    assert_eq!(findings.len(), 1, "one finding expected: {findings:?}");
    assert!(findings[0].contains(needle), "{needle:?} is not named in {:?}", findings[0]);
}
