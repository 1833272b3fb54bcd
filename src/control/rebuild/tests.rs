//! Rebuilding without clock and files: what is published, what is skipped, and what a panic costs.

use std::collections::BTreeMap;

use super::super::{Completion, Settings};
use super::*;
use crate::cert;
use crate::compile::{Compiled, Compiler, Inputs};
use crate::config::Selector;
use crate::model::{ConfigMap, Ingress, IngressClass, Meta, Namespace};

const NOW: i64 = 1_767_225_600;

fn settings() -> Settings {
    Settings {
        options: Options::default(),
        without_class: None,
        namespace_selector: None,
        completion: Completion::Assume,
        mass_removal_guard: false,
    }
}

fn ingress(world: &mut World, namespace: &str, name: &str) {
    let key = ObjectKey::new(namespace, name);
    let meta = Meta::named(key.clone());
    let ingress =
        Ingress { meta, class_name: None, default_backend: None, rules: Vec::new(), tls: Vec::new() };
    world.ingresses.insert(key, Arc::new(ingress));
}

fn config_map(world: &mut World, name: &str) {
    let key = ObjectKey::new("ns", name);
    let map = ConfigMap { meta: Meta::named(key.clone()), data: BTreeMap::new() };
    world.config_maps.insert(key, Arc::new(map));
}

/// The real compiler, which fails on every Ingress whose name starts with `bad` and on `everything` as a whole.
struct Fragile(Compiler);

impl Compile for Fragile {
    fn fresh() -> Self {
        Self(Compiler::fresh())
    }

    fn compile(&mut self, inputs: &Inputs<'_>) -> Compiled {
        let bad = inputs.world.ingresses.keys().any(|key| key.name.starts_with("bad"));
        assert!(!bad, "a bad Ingress");
        let all = inputs.options.ingress_class == "everything";
        assert!(!all, "everything");
        Compile::compile(&mut self.0, inputs)
    }
}

fn start(settings: Settings, world: World) -> (Rebuild<Fragile>, Reader, Report) {
    let keeper = Keeper::new(cert::self_signed(NOW).unwrap());
    Rebuild::start(settings, keeper, world, Vec::new(), NOW).unwrap()
}

fn published(outcome: Outcome) -> Report {
    match outcome {
        Outcome::Published(report) => report,
        other => panic!("{other:?}"),
    }
}

fn finding() -> Diagnostic {
    Diagnostic {
        object: ObjectRef { kind: Kind::Manifest, key: ObjectKey::new("", "f") },
        code: "InvalidYaml",
        severity: Severity::Error,
        field: String::new(),
        value: String::new(),
        reason: "x".into(),
        hint: String::new(),
        origin: Arc::default(),
    }
}

#[test]
fn each_change_is_one_generation_and_no_change_is_none() {
    let mut world = World::default();
    let (mut rebuild, reader, first) = start(settings(), world.clone());
    assert_eq!((first.generation, reader.load().generation), (1, 1));
    assert!(
        matches!(rebuild.rebuild(world.clone(), Vec::new(), NOW), Outcome::Unchanged(report) if report.generation == 1)
    );
    let report = published(rebuild.rebuild(world.clone(), vec![finding()], NOW));
    assert_eq!((report.generation, report.errors, reader.load().diagnostics.len()), (2, 1, 1));
    ingress(&mut world, "ns", "a");
    config_map(&mut world, "unused");
    let outcome = rebuild.rebuild(world, Vec::new(), NOW);
    assert_eq!(published(outcome).generation, 3);
    assert_eq!(reader.load().generation, 3);
}

#[test]
fn an_object_that_the_compiler_fails_on_is_left_out_until_it_changes() {
    let mut world = World::default();
    for name in ["a", "b", "bad-1", "bad-2", "c"] {
        ingress(&mut world, "ns", name);
    }
    let (mut rebuild, _, report) = start(settings(), world.clone());
    let names: Vec<_> = report.quarantined.iter().map(ToString::to_string).collect();
    assert_eq!(names, ["Ingress ns/bad-1", "Ingress ns/bad-2"]);
    let told = rebuild.current().diagnostics.iter().filter(|found| found.code == "ObjectQuarantined").count();
    assert_eq!(told, 2);
    let panics = report.panics;
    // Held objects cost no further panic.
    ingress(&mut world, "ns", "d");
    let (Outcome::Published(report) | Outcome::Unchanged(report)) =
        rebuild.rebuild(world.clone(), Vec::new(), NOW)
    else {
        panic!("the world should compile")
    };
    assert_eq!((report.panics, report.quarantined.len()), (panics, 2));
    world.ingresses.retain(|key, _| !key.name.starts_with("bad"));
    let report = published(rebuild.rebuild(world, Vec::new(), NOW));
    assert_eq!((report.panics, report.quarantined.len()), (panics, 0));
}

#[test]
fn a_compiler_that_fails_on_everything_leaves_the_last_table() {
    let mut everything = settings();
    let (mut rebuild, reader, _) = start(settings(), World::default());
    rebuild.settings.options.ingress_class = "everything".into();
    assert_eq!(rebuild.rebuild(World::default(), Vec::new(), NOW), Outcome::Failed);
    assert_eq!(reader.load().generation, 1);
    everything.options.ingress_class = "everything".into();
    let keeper = Keeper::new(cert::self_signed(NOW).unwrap());
    let started = Rebuild::<Fragile>::start(everything, keeper, World::default(), Vec::new(), NOW);
    assert_eq!(started.map(|_| ()).unwrap_err(), CompilerFailed);
}

#[test]
fn a_missing_default_certificate_is_told() {
    let mut settings = settings();
    settings.options.default_certificate = Some(ObjectKey::new("ns", "none"));
    let (rebuild, _, report) = start(settings, World::default());
    assert!(report.warnings >= 1);
    assert!(rebuild.current().diagnostics.iter().any(|found| found.code == "DefaultCertificateMissing"));
}

#[test]
fn a_namespace_selector_hides_the_ingresses_of_other_namespaces() {
    let mut world = World::default();
    for (name, label) in [("one", "bar"), ("two", "baz")] {
        ingress(&mut world, name, "i");
        let mut meta = Meta::named(ObjectKey::new("", name));
        meta.labels.insert("foo".into(), label.into());
        world.namespaces.insert(meta.key.clone(), Arc::new(Namespace { meta }));
    }
    ingress(&mut world, "undeclared", "i");
    let mut settings = settings();
    settings.restrict(&mut world);
    assert_eq!(world.ingresses.len(), 3);
    settings.namespace_selector = Some(Selector::parse("foo=bar").unwrap());
    settings.restrict(&mut world);
    let left: Vec<_> = world.ingresses.keys().map(ToString::to_string).collect();
    assert_eq!(left, ["one/i"]);
}

#[test]
fn which_ingresses_are_ours_is_followed_through_changes_of_ingresses_and_classes() {
    let settings = || Settings { completion: Completion::AsGiven, ..settings() };
    let class = |controller: &str| {
        let meta = Meta::named(ObjectKey::new("", "c"));
        Arc::new(IngressClass { meta, controller: controller.into(), parameters: None })
    };
    let of_class = |world: &mut World, name: &str, class: &str| {
        ingress(world, "ns", name);
        let mut one = Ingress::clone(&world.ingresses[&ObjectKey::new("ns", name)]);
        one.class_name = Some(class.into());
        world.ingresses.insert(one.meta.key.clone(), Arc::new(one));
    };
    let mut world = World::default();
    world.classes.insert(ObjectKey::new("", "c"), class("k8s.io/ingress-nginx"));
    of_class(&mut world, "a", "c");
    let (mut rebuild, _reader, report) = start(settings(), world.clone());
    let names =
        |report: &Report| report.served.iter().map(|key| key.name.to_string()).collect::<Vec<_>>().join(" ");
    assert_eq!(names(&report), "a");
    let mut step = |world: &World, expect: &str| {
        let (Outcome::Published(report) | Outcome::Unchanged(report)) =
            rebuild.rebuild(world.clone(), Vec::new(), NOW)
        else {
            panic!("the compiler works");
        };
        let (_, _, fresh) = start(settings(), world.clone());
        assert_eq!((&*names(&report), &report.served), (expect, &fresh.served));
    };
    of_class(&mut world, "b", "other");
    step(&world, "a");
    of_class(&mut world, "b", "c");
    step(&world, "a b");
    of_class(&mut world, "a", "other");
    step(&world, "b");
    world.ingresses.remove(&ObjectKey::new("ns", "b"));
    step(&world, "");
    of_class(&mut world, "b", "c");
    step(&world, "b");
    world.classes.insert(ObjectKey::new("", "c"), class("example.com/other"));
    step(&world, "");
    world.classes.insert(ObjectKey::new("", "c"), class("k8s.io/ingress-nginx"));
    step(&world, "b");
    world.classes.remove(&ObjectKey::new("", "c"));
    step(&world, "");
}

#[test]
fn what_a_request_holds_is_freed_by_the_loop_and_never_by_the_request() {
    let (mut rebuild, reader, _) = start(settings(), World::default());
    let held = reader.load();
    let first = Arc::downgrade(&held);
    published(rebuild.rebuild(World::default(), vec![finding()], NOW));
    assert!(rebuild.free(), "a request holds the first table");
    drop(held);
    assert!(first.upgrade().is_some(), "the request was not the last to hold it");
    assert!(!rebuild.free());
    assert!(first.upgrade().is_none());
}
