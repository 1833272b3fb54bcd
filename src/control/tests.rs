//! The whole loop on a real directory: edits become generations. Waiting ends with the condition and is bounded.

use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use tempfile::TempDir;

use super::*;

/// Only a failing test waits so long.
const PATIENCE: Duration = Duration::from_secs(20);

fn settings() -> Settings {
    Settings {
        options: Options::default(),
        without_class: None,
        namespace_selector: None,
        completion: Completion::Assume,
        mass_removal_guard: false,
    }
}

fn ingress(host: &str) -> String {
    format!(
        "apiVersion: networking.k8s.io/v1\nkind: Ingress\nmetadata: {{name: i}}\nspec:\n  rules:\n  - host: {host}\n    http: {{paths: [{{path: /, pathType: Prefix, backend: {{service: {{name: s, port: {{number: 80}}}}}}}}]}}\n"
    )
}

fn serves(reader: &Reader, host: &str) -> bool {
    *reader.load().table.server(host).name == *host
}

#[track_caller]
fn eventually(what: &str, condition: impl Fn() -> bool) {
    let end = Instant::now() + PATIENCE;
    while !condition() {
        assert!(Instant::now() < end, "{what} did not come true");
        thread::yield_now();
    }
}

fn write(directory: &Path, text: &str) {
    fs::write(directory.join("new"), text).unwrap();
    fs::rename(directory.join("new"), directory.join("a.yaml")).unwrap();
}

#[test]
fn edits_are_published_and_hooks_see_each_generation_once() {
    let root = TempDir::new().unwrap();
    write(root.path(), &ingress("one.example"));
    let seen = Arc::new(Mutex::new(Vec::new()));
    let noted = Arc::clone(&seen);
    let hook: Hook = Box::new(move |snapshot, report| {
        assert_eq!(snapshot.generation, report.generation);
        noted.lock().unwrap().push((report.generation, report.propagation.is_some()));
    });
    let (control, reader) = start(root.path().to_owned(), settings(), vec![hook]).unwrap();
    assert!(serves(&reader, "one.example") && control.is_alive());
    write(root.path(), &ingress("two.example"));
    eventually("two.example", || serves(&reader, "two.example"));
    assert!(!serves(&reader, "one.example"));
    write(root.path(), "{[");
    eventually("the finding", || reader.load().diagnostics.iter().any(|found| found.code == "InvalidYaml"));
    assert!(serves(&reader, "two.example"), "a broken file keeps its last good content");
    drop(control);
    let seen = seen.lock().unwrap().clone();
    assert_eq!(seen.first(), Some(&(1, false)));
    assert!(seen.windows(2).all(|pair| pair[1] == (pair[0].0 + 1, true)), "{seen:?}");
    assert_eq!(seen.last().map(|last| last.0), Some(reader.load().generation));
}

#[test]
fn a_writer_that_never_pauses_is_followed() {
    let root = TempDir::new().unwrap();
    let (_control, reader) = start(root.path().to_owned(), settings(), Vec::new()).unwrap();
    let stop = Arc::new(AtomicBool::new(false));
    let stopped = Arc::clone(&stop);
    let directory = root.path().to_owned();
    let writer = thread::spawn(move || {
        let mut round = 0_u64;
        while !stopped.load(Ordering::Relaxed) {
            round += 1;
            write(&directory, &ingress(&format!("h{round}.example")));
        }
    });
    // Each publication happens while the writer is at work: it only stops afterwards.
    eventually("five generations", || reader.load().generation >= 6);
    stop.store(true, Ordering::Relaxed);
    writer.join().unwrap();
}

#[test]
fn a_reread_finds_what_looks_unchanged_and_publishes_nothing_new() {
    let root = TempDir::new().unwrap();
    write(root.path(), &ingress("one.example"));
    let (control, reader) = start(root.path().to_owned(), settings(), Vec::new()).unwrap();
    control.reread();
    write(root.path(), &ingress("two.example"));
    eventually("two.example", || serves(&reader, "two.example"));
    assert_eq!(reader.load().generation, 2);
}

#[test]
fn a_directory_that_goes_and_comes_back_is_served_throughout() {
    let root = TempDir::new().unwrap();
    let manifests = root.path().join("m");
    fs::create_dir(&manifests).unwrap();
    write(&manifests, &ingress("one.example"));
    let (_control, reader) = start(manifests.clone(), settings(), Vec::new()).unwrap();
    fs::rename(&manifests, root.path().join("away")).unwrap();
    fs::create_dir(root.path().join("next")).unwrap();
    write(&root.path().join("next"), &ingress("two.example"));
    assert!(serves(&reader, "one.example"));
    fs::rename(root.path().join("next"), &manifests).unwrap();
    eventually("two.example", || serves(&reader, "two.example"));
    write(&manifests, &ingress("three.example"));
    eventually("three.example", || serves(&reader, "three.example"));
}

#[test]
fn a_missing_directory_does_not_start() {
    let root = TempDir::new().unwrap();
    let error = start(root.path().join("none"), settings(), Vec::new()).unwrap_err();
    assert!(matches!(error, StartError::Directory(ScanError::Missing(_))), "{error}");
}

#[test]
fn a_directory_that_loses_most_hosts_at_once_keeps_them_for_a_second_look_where_a_flag_asks_for_it() {
    let root = TempDir::new().unwrap();
    let many: Vec<String> = (0..30)
        .map(|number| {
            ingress(&format!("h{number}.example")).replace("name: i}", &format!("name: i{number}}}"))
        })
        .collect();
    write(root.path(), &many.join("---\n"));
    let guarded = Settings { mass_removal_guard: true, ..settings() };
    let (_control, reader) = start(root.path().to_owned(), guarded, Vec::new()).unwrap();
    write(root.path(), &many[..2].join("---\n"));
    eventually("the finding", || reader.load().diagnostics.iter().any(|found| found.code == HELD));
    assert!(serves(&reader, "h29.example"));
    eventually("the second look", || !serves(&reader, "h29.example"));
    assert!(serves(&reader, "h1.example"));
    assert!(reader.load().diagnostics.iter().all(|found| found.code != HELD));
}

#[test]
fn a_writer_that_keeps_its_file_open_is_followed_all_the_same() {
    let root = TempDir::new().unwrap();
    write(root.path(), &ingress("one.example"));
    let (_control, reader) = start(root.path().to_owned(), settings(), Vec::new()).unwrap();
    let mut open = fs::File::create(root.path().join("a.yaml")).unwrap();
    io::Write::write_all(&mut open, ingress("two.example").as_bytes()).unwrap();
    eventually("two.example", || serves(&reader, "two.example"));
    drop(open);
}
