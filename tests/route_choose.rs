//! Primary or canary: sticky cookies, rules, and canaries without endpoints.

#[path = "support/request.rs"]
mod request;
#[path = "support/world.rs"]
mod world;

use narthex::compile::{Compiled, compile};
use narthex::model::ObjectKey;
use narthex::policy::snippet::Run;
use narthex::reply::LocalReply;
use narthex::route::decide::{Sticky, Unrecorded};
use narthex::route::{Decision, choose, decide};
use request::Ask;
use world::Scene;

const MANIFESTS: &str = r#"
kind: Ingress
metadata:
  name: main
  creationTimestamp: "2024-01-01T00:00:01Z"
  annotations: {MAIN}
spec:
  rules: [{host: h.test, http: {paths: [{path: /, pathType: Prefix, backend: {service: {name: main, port: {number: 80}}}}]}}]
---
kind: Ingress
metadata:
  name: canary
  creationTimestamp: "2024-01-01T00:00:02Z"
  annotations:
    nginx.ingress.kubernetes.io/canary: "true"
    nginx.ingress.kubernetes.io/canary-by-header: X-Canary
    CANARY
spec:
  rules: [{host: h.test, http: {paths: [{path: /, pathType: Prefix, backend: {service: {name: next, port: {number: 80}}}}]}}]
"#;

const AFFINITY: &str = r#"nginx.ingress.kubernetes.io/affinity: "cookie""#;
const LEGACY: &str = r#"nginx.ingress.kubernetes.io/affinity-canary-behavior: "legacy""#;

fn scene(main: &str, canary: &str) -> Scene {
    let mut scene = Scene::default();
    scene.options.without_class = true;
    scene.add_yaml(&MANIFESTS.replace("MAIN", main).replace("CANARY", canary));
    scene.add_missing_services();
    scene
}

fn without_endpoints(mut scene: Scene, service: &str) -> Scene {
    scene.world.slices.remove(&ObjectKey::new("default", service));
    scene
}

fn chosen(compiled: &Compiled, header: &str, sticky: Sticky) -> Result<(String, bool), LocalReply> {
    let ask = Ask::get("h.test", "/").with("X-Canary", header);
    let view = ask.view(&compiled.table.globals).expect("a sound target");
    match decide(&compiled.table, &compiled.endpoints, &view, &mut Run::default(), &mut Unrecorded) {
        Decision::Forward(forward) => {
            let chosen = choose(forward.backend, &compiled.endpoints, &view, sticky, &mut Unrecorded);
            Ok((chosen.backend.name.to_string(), chosen.canary))
        }
        Decision::Reply { reply, .. } => Err(reply),
    }
}

fn check(scene: &Scene, header: &str, sticky: Sticky, canary: bool) {
    let name = if canary { "default-next-80" } else { "default-main-80" };
    let got = chosen(&compile(&scene.inputs()), header, sticky);
    assert_eq!(got, Ok((name.to_owned(), canary)), "{header} {sticky:?}");
}

#[test]
fn rules_decide_where_no_cookie_is_bound() {
    let scene = scene("", "");
    check(&scene, "always", Sticky::Unbound, true);
    check(&scene, "never", Sticky::Unbound, false);
    check(&scene, "other", Sticky::Unbound, false);
}

#[test]
fn a_bound_cookie_goes_before_all_rules() {
    let scene = scene(AFFINITY, "");
    check(&scene, "always", Sticky::Primary, false);
    check(&scene, "never", Sticky::Canary, true);
    check(&scene, "always", Sticky::Unbound, true);
}

#[test]
fn a_cookie_means_nothing_without_affinity_of_the_primary() {
    let scene = scene("", AFFINITY);
    check(&scene, "always", Sticky::Primary, true);
    check(&scene, "never", Sticky::Canary, false);
}

#[test]
fn a_canary_has_the_affinity_of_its_primary_unless_it_says_legacy() {
    let affinity = |canary: &str| {
        let compiled = compile(&scene(AFFINITY, canary).inputs());
        let backend = compiled.table.backends.iter().find(|backend| backend.canary.is_some()).cloned();
        backend
            .and_then(|backend| backend.canary.clone())
            .map(|canary| canary.backend.policies.affinity.is_some())
    };
    assert_eq!(affinity(""), Some(true));
    assert_eq!(affinity(LEGACY), Some(false));
}

#[test]
fn a_canary_without_endpoints_is_never_chosen() {
    let scene = without_endpoints(scene(AFFINITY, ""), "next");
    check(&scene, "always", Sticky::Unbound, false);
    check(&scene, "never", Sticky::Canary, false);
}

#[test]
fn a_primary_without_endpoints_is_not_rescued_by_its_canary() {
    let scene = without_endpoints(scene("", ""), "main");
    assert_eq!(chosen(&compile(&scene.inputs()), "always", Sticky::Unbound), Err(LocalReply::NoEndpoints));
}
