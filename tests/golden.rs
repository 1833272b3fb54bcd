//! Golden files: manifests, the table they give, what their owners are told, and what happens to some requests.
//! `UPDATE_GOLDEN=1 cargo test --test golden` writes the expectations anew.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a broken fixture fails the test")]

#[path = "support/request.rs"]
mod request;
#[path = "support/world.rs"]
mod world;

use std::fmt::Write;
use std::path::Path;
use std::{env, fs};

use narthex::compile::{PathSemantics, compile, semantics_differences};
use narthex::model::PortRef;
use narthex::route::{dump, explain};
use request::Ask;
use world::Scene;

const TABLE: &str = "\n---------- table\n";

/// Directives are comments at the start of a line: `# request: http://host/path`, `# semantics: kubernetes`,
/// `# differences`.
fn expectation(manifests: &str) -> String {
    let mut scene = Scene::default();
    scene.options.without_class = true;
    let directive = |name: &str| -> Vec<String> {
        let start = format!("# {name}");
        let lines = manifests.lines().filter_map(|line| line.strip_prefix(&start));
        lines.map(|rest| rest.trim_start_matches(':').trim().to_owned()).collect()
    };
    if directive("semantics") == ["kubernetes"] {
        scene.options.path_semantics = PathSemantics::Kubernetes;
    }
    for key in directive("default-backend") {
        let key = narthex::model::ObjectKey::parse(&key).expect("namespace/name");
        scene.add_service(&key, &[PortRef::Number(80)], 1);
        scene.options.default_backend = Some(key);
    }
    scene.add_yaml(manifests);
    if directive("no-services").is_empty() {
        scene.add_missing_services();
    }
    let compiled = compile(&scene.inputs());
    let mut text = dump::table(&compiled.table, &compiled.endpoints);
    text.push_str("---------- diagnostics\n");
    let mut diagnostics = compiled.diagnostics.clone();
    if !directive("differences").is_empty() {
        diagnostics.extend(semantics_differences(&scene.inputs()));
    }
    for diagnostic in diagnostics {
        let _ = writeln!(text, "{diagnostic}");
    }
    for url in directive("request") {
        let (scheme, rest) = url.split_once("://").expect("scheme://host/path");
        let (host, path) = rest.split_once('/').expect("scheme://host/path");
        let mut ask = Ask::get(host, &format!("/{path}"));
        if scheme == "https" {
            ask = ask.https();
        }
        let view = ask.view(&compiled.table.globals).expect("a sound target");
        let explanation = explain::explain(&compiled.table, &compiled.endpoints, &view);
        let _ = write!(text, "---------- request {url}\n{}", explanation.to_text());
    }
    text
}

#[test]
fn tables_and_findings_are_as_written_down() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
    let update = env::var_os("UPDATE_GOLDEN").is_some();
    let mut files: Vec<_> =
        fs::read_dir(&folder).expect("the folder exists").map(|entry| entry.unwrap().path()).collect();
    files.retain(|path| path.extension().is_some_and(|extension| extension == "txt"));
    files.sort();
    assert!(!files.is_empty(), "there are golden files");
    let mut differing = Vec::new();
    for path in files {
        let file = fs::read_to_string(&path).expect("golden files are text");
        let (manifests, expected) = file.split_once(TABLE).unwrap_or_else(|| (file.trim_end(), ""));
        let got = expectation(manifests);
        if update {
            fs::write(&path, format!("{manifests}{TABLE}{got}")).expect("golden files can be written");
        } else if got != expected {
            differing.push(format!("=== {}\n{got}", path.display()));
        }
    }
    assert!(differing.is_empty(), "differing (UPDATE_GOLDEN=1 writes them anew):\n{}", differing.join("\n"));
}
