//! The loop over a stream, fed by hand: nothing before everything is listed, bursts, and the cheap road of endpoints.

use std::sync::mpsc::Receiver as Reports;
use std::sync::{Arc, mpsc};

use serde_json::{Value as Json, json};

use super::*;
use crate::compile::Options;
use crate::control::{Completion, Report};
use crate::manifest;
use crate::model::{Kind, ObjectKey, ObjectRef};
use crate::snapshot::Snapshot;

/// Only a failing test waits so long.
const PATIENCE: Duration = Duration::from_secs(20);

fn settings() -> Settings {
    Settings {
        options: Options::default(),
        without_class: None,
        namespace_selector: None,
        completion: Completion::AsGiven,
        mass_removal_guard: true,
    }
}

fn object(kind: Kind, namespace: &str, name: &str, body: &Json) -> (ObjectRef, manifest::Decoded) {
    let mut json = json!({"metadata": {"name": name, "namespace": namespace,
        "labels": {"kubernetes.io/service-name": "web"}}});
    json.as_object_mut().unwrap().extend(body.as_object().unwrap().clone());
    let reference = ObjectRef { kind, key: ObjectKey::new(namespace, name) };
    let decoded = manifest::decode(&reference, &json);
    assert!(decoded.object.is_some(), "{decoded:?}");
    (reference, decoded)
}

fn ingress(host: &str) -> (ObjectRef, manifest::Decoded) {
    let path = json!({"path": "/", "pathType": "Prefix", "backend": {"service": {"name": "web", "port": {"number": 80}}}});
    let body =
        json!({"spec": {"ingressClassName": "nginx", "rules": [{"host": host, "http": {"paths": [path]}}]}});
    object(Kind::Ingress, "team", host, &body)
}

fn class() -> (ObjectRef, manifest::Decoded) {
    object(Kind::IngressClass, "", "nginx", &json!({"spec": {"controller": "k8s.io/ingress-nginx"}}))
}

fn service() -> (ObjectRef, manifest::Decoded) {
    object(Kind::Service, "team", "web", &json!({"spec": {"ports": [{"port": 80, "targetPort": 8080}]}}))
}

fn slice(addresses: &[&str]) -> (ObjectRef, manifest::Decoded) {
    let endpoints: Vec<Json> = addresses.iter().map(|one| json!({"addresses": [one]})).collect();
    let body = json!({"addressType": "IPv4", "ports": [{"port": 8080}], "endpoints": endpoints});
    object(Kind::EndpointSlice, "team", "web-1", &body)
}

fn applied((reference, decoded): (ObjectRef, manifest::Decoded)) -> Change {
    Change::Applied { feed: 0, reference, decoded }
}

/// A loop whose first list was taken, and what it publishes from then on.
struct Scene {
    changes: Changes,
    reports: Reports<(Arc<Snapshot>, Report)>,
    suspicions: Reports<Suspicion>,
    _control: Control,
}

impl Scene {
    fn start(objects: Vec<(ObjectRef, manifest::Decoded)>) -> Self {
        let (sender, reports) = mpsc::channel();
        let hook: Hook = Box::new(move |snapshot, report| {
            drop(sender.send((Arc::clone(snapshot), report.clone())));
        });
        let list = |changes: Changes| {
            changes.send(Change::Listed { feed: 0, objects });
            Ok(changes)
        };
        let (suspect, suspicions) = mpsc::channel();
        let suspect: Suspect = Box::new(move |suspicion| {
            let _nobody_listens = suspect.send(suspicion);
        });
        let (control, _, changes) = start_stream(settings(), vec![hook], 1, suspect, list).unwrap();
        let scene = Self { changes, reports, suspicions, _control: control };
        assert_eq!(scene.next().1.generation, 1);
        scene
    }

    #[track_caller]
    fn next(&self) -> (Arc<Snapshot>, Report) {
        self.reports.recv_timeout(PATIENCE).expect("a publication")
    }

    #[track_caller]
    fn suspects(&self, expect: Suspicion) {
        assert_eq!(self.suspicions.recv_timeout(PATIENCE), Ok(expect));
    }
}

/// A class and Ingresses of this many hosts.
fn cluster(hosts: usize) -> Vec<(ObjectRef, manifest::Decoded)> {
    (0..hosts).map(|number| ingress(&format!("h{number}.example"))).chain([class()]).collect()
}

fn serves(snapshot: &Snapshot, host: &str) -> bool {
    *snapshot.table.server(host).name == *host
}

fn endpoints(snapshot: &Snapshot) -> usize {
    snapshot.endpoints.iter().map(|set| set.ready.len()).sum()
}

#[test]
fn nothing_is_published_before_every_feed_was_listed() {
    let (sender, changes) = mpsc::channel();
    let starting = thread::spawn(move || {
        let begin = |changes| {
            sender.send(changes).unwrap();
            Ok(())
        };
        start_stream(settings(), Vec::new(), 2, Box::new(drop), begin)
            .map(|(control, reader, ())| (control, reader))
    });
    let changes = changes.recv_timeout(PATIENCE).unwrap();
    changes.send(Change::Listed { feed: 0, objects: vec![class(), ingress("a.example")] });
    changes.send(applied(ingress("b.example")));
    assert!(!starting.is_finished());
    changes.send(Change::Listed { feed: 1, objects: Vec::new() });
    let (_control, reader) = starting.join().unwrap().unwrap();
    let first = reader.load();
    assert_eq!(first.generation, 1);
    assert!(["a.example", "b.example"].iter().all(|host| *first.table.server(host).name == **host));
}

#[test]
fn what_came_while_something_was_published_is_one_publication() {
    const HOSTS: usize = 300;
    let (sender, reports) = mpsc::channel();
    let (open, gate) = mpsc::channel::<()>();
    let hook: Hook = Box::new(move |snapshot, report| {
        drop(sender.send((Arc::clone(snapshot), report.generation)));
        // The second publication takes as long as the test likes.
        if report.generation == 2 {
            let _opened = gate.recv();
        }
    });
    let list = |changes: Changes| {
        changes.send(Change::Listed { feed: 0, objects: vec![class()] });
        Ok(changes)
    };
    let (_control, _, changes) = start_stream(settings(), vec![hook], 1, Box::new(drop), list).unwrap();
    changes.send(applied(ingress("first.example")));
    while reports.recv_timeout(PATIENCE).expect("a publication").1 < 2 {}
    for number in 0..HOSTS {
        changes.send(applied(ingress(&format!("h{number}.example"))));
    }
    // Older than anything may wait: each of them is due at once.
    thread::sleep(super::super::LONGEST * 2);
    drop(open);
    let last = format!("h{}.example", HOSTS - 1);
    let generation = loop {
        let (snapshot, generation) = reports.recv_timeout(PATIENCE).expect("a publication");
        if *snapshot.table.server(&last).name == *last {
            break generation;
        }
    };
    assert!(generation < 10, "{generation} publications for one burst");
}

#[test]
fn a_cluster_has_no_class_that_nobody_declared() {
    let scene = Scene::start(vec![ingress("a.example")]);
    scene.changes.send(applied(class()));
    let (snapshot, report) = scene.next();
    assert_eq!(&*snapshot.table.server("a.example").name, "a.example");
    assert_eq!(report.served.iter().map(ToString::to_string).collect::<Vec<_>>(), ["team/a.example"]);
}

#[test]
fn a_change_of_slices_keeps_the_table_and_its_address() {
    let scene = Scene::start(vec![class(), service(), ingress("a.example"), slice(&["10.244.0.1"])]);
    let before = scene.changes.clone();
    before.send(applied(slice(&["10.244.0.1", "10.244.0.2"])));
    let (two, report) = scene.next();
    assert_eq!((endpoints(&two), report.generation), (2, 2));
    before.send(applied(slice(&["10.244.0.3"])));
    let (one, _) = scene.next();
    assert_eq!(endpoints(&one), 1);
    assert!(Arc::ptr_eq(&one.table, &two.table) && Arc::ptr_eq(&one.certs, &two.certs));
}

#[test]
fn findings_about_endpoints_follow_after_a_while() {
    let scene = Scene::start(vec![class(), service(), ingress("a.example"), slice(&["10.244.0.1"])]);
    // Loopback is refused as a backend, which is a finding.
    scene.changes.send(applied(slice(&["127.0.0.1"])));
    let (cheap, _) = scene.next();
    assert_eq!((endpoints(&cheap), cheap.diagnostics.len()), (0, 0));
    let (whole, _) = scene.next();
    assert!(!whole.diagnostics.is_empty());
    assert!(Arc::ptr_eq(&cheap.table, &whole.table));
}

#[test]
fn slices_and_a_service_at_once_are_one_publication_of_the_whole() {
    let scene = Scene::start(vec![class(), ingress("a.example")]);
    scene.changes.send(applied(slice(&["10.244.0.1"])));
    scene.changes.send(applied(service()));
    scene.changes.send(applied(ingress("b.example")));
    let (snapshot, report) = scene.next();
    assert_eq!((endpoints(&snapshot), report.generation), (1, 2));
    assert_eq!(&*snapshot.table.server("b.example").name, "b.example");
}

#[test]
fn a_list_that_lacks_most_hosts_takes_them_away_only_when_a_second_one_agrees() {
    let scene = Scene::start(cluster(30));
    let mut half_list = cluster(2);
    half_list.push(ingress("new.example"));
    scene.changes.send(Change::Listed { feed: 0, objects: half_list });
    scene.suspects(Suspicion::Held(0));
    let (held, _) = scene.next();
    assert!(serves(&held, "h29.example") && serves(&held, "new.example"));
    assert!(held.diagnostics.iter().any(|found| found.code == "RemovalHeld"), "{:?}", held.diagnostics);
    scene.suspects(Suspicion::Ask(0));
    scene.changes.send(Change::Listed { feed: 0, objects: cluster(2) });
    scene.suspects(Suspicion::Settled(0));
    let (believed, _) = scene.next();
    assert!(serves(&believed, "h1.example") && !serves(&believed, "h29.example"));
    assert!(believed.diagnostics.iter().all(|found| found.code != "RemovalHeld"));
}

#[test]
fn a_class_that_vanishes_from_a_list_would_take_its_hosts_along_and_is_held() {
    let scene = Scene::start(cluster(30));
    let classless = (0..30).map(|number| ingress(&format!("h{number}.example"))).collect();
    scene.changes.send(Change::Listed { feed: 0, objects: classless });
    scene.suspects(Suspicion::Held(0));
    assert!(serves(&scene.next().0, "h29.example"));
}
