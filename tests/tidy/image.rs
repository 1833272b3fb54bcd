//! The build of the image sees what `.dockerignore` lets through: all that a build reads must be among it, and not every
//! machine has an engine that would miss it.

use std::fs;

use crate::source::root;
use crate::{expect_none, expect_one};

const RULES: &str = "deploy/image/Containerfile.dockerignore";

fn text(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_default()
}

/// What a build reads: the package, cargo's settings, and what these call for the compiler.
fn read_by_a_build(settings: &str) -> Vec<String> {
    let wrapper = settings.lines().filter_map(|line| line.strip_prefix("rustc-wrapper = "));
    let package = ["Cargo.toml", "Cargo.lock", "src", ".cargo"].into_iter().map(str::to_owned);
    package.chain(wrapper.map(|path| path.replace('"', ""))).collect()
}

/// What of `read` is ignored. All is (`*`) but what a line names after `!`, and what is below it.
fn ignored(read: &[String], rules: &str) -> Vec<String> {
    let let_through = |path: &String| {
        rules.lines().filter_map(|line| line.strip_prefix('!')).any(|named| {
            path.strip_prefix(named).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        })
    };
    let lacking = read.iter().filter(|path| !let_through(path));
    lacking.map(|path| format!("{RULES}: a build reads {path}")).collect()
}

#[test]
fn the_image_is_built_of_all_that_a_build_reads() {
    let read = read_by_a_build(&text(".cargo/config.toml"));
    assert_eq!(read.len(), 5, "the compiler's wrapper is not among {read:?}");
    expect_none("what the image's build would lack", &ignored(&read, &text(RULES)));
}

#[test]
fn what_is_not_let_through_is_found() {
    let read = read_by_a_build("[build]\nrustc-wrapper = \"tools/rustc\"\n");
    let rules = "*\n!src\n!Cargo.toml\n!Cargo.lock\n!.cargo\n";
    expect_one(&ignored(&read, rules), "tools/rustc");
    expect_one(&ignored(&read, &format!("{rules}!tool\n")), "tools/rustc");
    expect_none("let through", &ignored(&read, &format!("{rules}!tools\n")));
}
