//! Every routing vector through real sockets and real TLS against the built binary: a directory of manifests, a
//! fresh process and echo backends per case. `vectors_core` asks the same questions of the pure core.
//!
//! `NARTHEX_CASE=name cargo test --test vectors_blackbox` runs one case, with the log of its process.

mod case;
mod client;
mod echo;
mod judge;
mod process;
#[allow(dead_code, unreachable_pub, reason = "shared with the tests of the data plane")]
#[path = "../support/tls.rs"]
mod tls;

use std::collections::BTreeMap;
use std::io::Write;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use serde_json::Value;

use crate::judge::Verdict;

/// What was observed on a real nginx with the controller's own Lua.
const VECTORS: &str = include_str!("../data/routing-vectors.yaml");
/// The requests where we deliberately answer otherwise, each with its reason.
const DECIDED: &str = include_str!("../data/decided.yaml");
/// Processes at a time.
const PARALLEL: usize = 4;

/// Our own expectations by case and index of the request.
type Ours = BTreeMap<(String, usize), Value>;

/// As YAML 1.2: `y` is a name, not a truth value.
fn yaml(text: &str) -> Value {
    let mut options = serde_saphyr::Options::default();
    options.strict_booleans = true;
    serde_saphyr::from_str_with_options(text, options).expect("the test data is YAML")
}

fn vectors() -> Vec<Value> {
    let file = yaml(VECTORS);
    file["cases"].as_array().expect("a list of cases").clone()
}

fn decided() -> Ours {
    let file = yaml(DECIDED);
    let entries = file["decided"].as_array().expect("a list of decisions");
    let of_routing = entries.iter().filter(|entry| entry["vectors"] == "routing");
    of_routing
        .map(|entry| {
            assert!(entry["why"].as_str().is_some_and(|why| !why.is_empty()), "a reason is missing: {entry}");
            let index = entry["request"].as_u64().expect("an index");
            let case = entry["case"].as_str().expect("a case").to_owned();
            ((case, usize::try_from(index).expect("a small index")), entry["ours"].clone())
        })
        .collect()
}

/// What one case gave: a line for each request that failed, and how many were judged.
fn run(case: &Value, ours: &Ours) -> (usize, Vec<String>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let name = case["name"].as_str().expect("a name");
    let requests = case["requests"].as_array().expect("requests");
    let failures = runtime.block_on(async {
        let started = match process::start(case).await {
            Ok(started) => started,
            Err(reason) => return vec![format!("{name}: {reason}")],
        };
        let mut failures = Vec::new();
        for (index, request) in requests.iter().enumerate() {
            let own = ours.get(&(name.to_owned(), index));
            let expect = own.unwrap_or_else(|| &request["expect"]);
            // nginx kept its old configuration there; ours has an answer, and golden tests say which.
            let any_answer = case["config_valid"] == false && own.is_none();
            let request = &request["request"];
            let verdict = match client::repeat(request, &started).await {
                Ok(_) if any_answer => Verdict::Pass,
                Ok(answers) => judge::judge(request, expect, &answers, &started.ports),
                Err(error) => Verdict::Fail(error),
            };
            if let Verdict::Fail(why) = verdict {
                let target = request.get("path").or_else(|| request.get("raw"));
                let target = target.and_then(Value::as_str).unwrap_or_default();
                let host = request["host"].as_str().unwrap_or("-");
                failures.push(format!("{name}[{index}] {} {host} {target:?}: {why}", request["scheme"]));
            }
        }
        if std::env::var_os("NARTHEX_CASE").is_some() {
            // Around the capture of the harness: whoever asks for one case wants to read it, failed or not.
            writeln!(std::io::stderr(), "log of the process:\n{}", started.log()).expect("there is a stderr");
        }
        failures
    });
    (requests.len(), failures)
}

#[test]
fn the_running_binary_answers_every_routing_vector_as_observed() {
    let only = std::env::var("NARTHEX_CASE").ok();
    let wanted = |case: &Value| only.as_deref().is_none_or(|only| case["name"] == only);
    let cases: Vec<Value> = vectors().into_iter().filter(wanted).collect();
    assert!(cases.len() >= if only.is_some() { 1 } else { 130 }, "cases are missing");
    let ours = decided();
    let next = AtomicUsize::new(0);
    let results = Mutex::new((0, Vec::new()));
    thread::scope(|scope| {
        for _ in 0..PARALLEL {
            scope.spawn(|| {
                while let Some(case) = cases.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let (judged, failures) = run(case, &ours);
                    let mut results = results.lock().expect("no worker panicked");
                    results.0 += judged;
                    results.1.extend(failures);
                }
            });
        }
    });
    let (judged, mut failures) = results.into_inner().expect("no worker panicked");
    failures.sort();
    let summary = format!("{judged} requests of {} cases, {} failures", cases.len(), failures.len());
    assert!(failures.is_empty(), "{summary}\n{}", failures.join("\n"));
    println!("{summary}");
}

#[test]
fn every_decision_names_a_request_that_exists() {
    let vectors = vectors();
    for (case, index) in decided().keys() {
        let found = vectors.iter().find(|vector| vector["name"] == case.as_str());
        let requests = found.and_then(|vector| vector["requests"].as_array());
        assert!(requests.is_some_and(|requests| *index < requests.len()), "{case}[{index}] is not there");
    }
}
