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

// === every annotation

/// The Ingress under test, another of its host where it is a canary, and a neighbour that must notice nothing.
fn scene_with(annotations: &[(String, String)]) -> Scene {
    let mut scene = Scene::default();
    scene.options.without_class = true;
    scene.options.ssl_passthrough = true;
    scene.options.config_map = narthex::model::ObjectKey::parse("default/config");
    scene.add_yaml(
        "kind: ConfigMap\nmetadata: {name: config, namespace: default}\ndata: {allow-snippet-annotations: \"true\", \
         annotations-risk-level: Critical, enable-opentelemetry: \"true\", \
         global-allowed-response-headers: X-A}\n---\n\
         kind: ConfigMap\nmetadata: {name: headers, namespace: default}\ndata: {X-A: b}\n---\n\
         kind: ConfigMap\nmetadata: {name: auth-headers, namespace: default}\ndata: {X-A: b}\n---\n\
         kind: ConfigMap\nmetadata: {name: params, namespace: default}\ndata: {SCRIPT_FILENAME: /x.php}\n",
    );
    for (name, key, text) in [
        ("users", "auth", "ann:{PLAIN}secret"),
        ("clients-ca", "ca.crt", "not read here"),
        ("backend-ca", "ca.crt", "-----BEGIN CERTIFICATE-----\nMAMCAQE=\n-----END CERTIFICATE-----\n"),
    ] {
        let meta = narthex::model::Meta::named(narthex::model::ObjectKey::new("default", name));
        let secret = narthex::model::Secret {
            meta: meta.clone(),
            secret_type: "Opaque".to_owned(),
            data: [(key.to_owned(), narthex::model::SecretBytes::new(text.as_bytes().to_vec()))].into(),
        };
        scene.world.secrets.insert(meta.key, std::sync::Arc::new(secret));
    }
    let ingress = |namespace: &str, name: &str, host: &str, service: &str, annotations: serde_json::Value| {
        serde_json::json!({
            "kind": "Ingress",
            "metadata": {
                "name": name, "namespace": namespace, "creationTimestamp": "2024-01-01T00:00:01Z",
                "annotations": annotations,
            },
            "spec": {"rules": [{"host": host, "http": {"paths": [{
                "path": "/", "pathType": "Prefix",
                "backend": {"service": {"name": service, "port": {"number": 80}}},
            }]}}]},
        })
    };
    let own: serde_json::Map<String, serde_json::Value> = annotations
        .iter()
        .map(|(name, value)| (format!("nginx.ingress.kubernetes.io/{name}"), value.clone().into()))
        .collect();
    if annotations.iter().any(|(name, value)| name == "canary" && value.eq_ignore_ascii_case("true")) {
        scene.add(&ingress("default", "main", "own.test", "main", serde_json::json!({})));
    }
    scene.add(&ingress("default", "own", "own.test", "own", own.into()));
    scene.add(&ingress("other", "neighbour", "neighbour.test", "neighbour", serde_json::json!({})));
    scene.add_missing_services();
    scene
}

/// What two tables may differ in where only the Ingress under test changed: its own host, its ports.
struct Seen {
    own: String,
    neighbour: String,
    codes: Vec<String>,
    shut: Option<&'static str>,
}

fn seen(annotations: &[(String, String)]) -> Seen {
    let scene = scene_with(annotations);
    let compiled = compile(&scene.inputs());
    let table = &compiled.table;
    let server = table.server("own.test");
    let text = dump::table(table, &compiled.endpoints);
    // A twin or an alias of the host is its own doing, and so is all but what stands under the neighbour's name.
    let mut parts: Vec<&str> = text.split("\nserver ").collect();
    let at = parts.iter().position(|part| part.starts_with("neighbour.test"));
    let part = at.map(|at| parts.remove(at)).unwrap_or_default();
    let shut = server.locations.iter().find_map(|location| location.policies.denied);
    let mut codes: Vec<String> = compiled
        .diagnostics
        .iter()
        .map(|found| format!("{} {}", found.code, found.object.key.name))
        .collect();
    codes.sort();
    codes.dedup();
    Seen {
        own: format!("{server:?} {:?} {parts:?} {:?}", table.streams, table.backends),
        neighbour: format!("{part} {:?}", table.server("neighbour.test").locations[0].policies),
        codes,
        shut,
    }
}

/// `%text*n%` is text n times.
fn spelled(text: &str) -> String {
    let mut out = String::new();
    let mut pieces = text.split('%');
    out.push_str(pieces.next().unwrap_or_default());
    while let (Some(inside), Some(after)) = (pieces.next(), pieces.next()) {
        let (part, count) = inside.rsplit_once('*').expect("text*n");
        out.push_str(&part.repeat(count.parse().expect("a number")));
        out.push_str(after);
    }
    out.replace("\\n", "\n")
}

/// What a row says of its annotation, found out through the real compiler.
fn outcome(name: &str, value: &str, others: &str) -> String {
    let others: Vec<(String, String)> = others
        .split(" & ")
        .filter_map(|one| one.split_once('='))
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect();
    let mut all = others.clone();
    if value != "-" {
        all.push((name.to_owned(), spelled(value)));
    }
    let (without, with) = (seen(&others), seen(&all));
    assert_eq!(without.neighbour, with.neighbour, "{name}: {value:?} changes another's Ingress");
    let told: Vec<&str> = with
        .codes
        .iter()
        .filter(|code| !without.codes.contains(code))
        .map(|code| code.strip_suffix(" own").unwrap_or_else(|| panic!("{name}: told to another: {code}")))
        .collect();
    let effect = match with.shut {
        Some(code) if without.shut.is_none() => format!("shut by {code}"),
        _ if with.own == without.own => "as without".to_owned(),
        _ => "counts".to_owned(),
    };
    if told.is_empty() { effect } else { format!("{effect}; told: {}", told.join(", ")) }
}

#[test]
fn every_annotation_has_five_cases_and_touches_only_its_own_ingress() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/annotation-cases.txt");
    let file = fs::read_to_string(&path).expect("the file is text");
    let mut written = String::new();
    let mut differing = Vec::new();
    let mut cases: std::collections::BTreeMap<String, Vec<String>> = std::collections::BTreeMap::new();
    for line in file.lines() {
        let columns: Vec<&str> = line.split(" | ").collect();
        let [name, case, value, others, expect] = columns.as_slice() else {
            assert!(line.is_empty() || line.starts_with('#'), "five columns: {line}");
            let _ = writeln!(written, "{line}");
            continue;
        };
        cases.entry((*name).to_owned()).or_default().push((*case).to_owned());
        let got = outcome(name, value, others);
        if got != *expect {
            differing.push(format!("{name} | {case}: {got} instead of {expect}"));
        }
        let _ = writeln!(written, "{name} | {case} | {value} | {others} | {got}");
    }
    for spec in narthex::policy::registry::specs() {
        let found = cases.get(spec.name).cloned().unwrap_or_default();
        let wanted = ["absent", "typical", "extreme", "malformed", "conflicting"];
        assert_eq!(found, wanted, "the cases of {}", spec.name);
    }
    if env::var_os("UPDATE_GOLDEN").is_some() {
        fs::write(&path, written).expect("the file can be written");
        return;
    }
    assert!(differing.is_empty(), "differing (UPDATE_GOLDEN=1 writes them anew):\n{}", differing.join("\n"));
}
