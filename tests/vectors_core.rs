//! Observed behaviour of ingress-nginx against the pure core: every case of `routing-vectors.yaml`, as far as routing
//! alone can answer. Hosts and request lines are judged by the data plane, statuses and bodies of backends by nobody
//! here.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a broken fixture fails the test")]

#[path = "support/request.rs"]
mod request;
#[path = "support/world.rs"]
mod world;

use std::collections::BTreeMap;
use std::sync::Arc;

use http::Method;
use narthex::compile::{Compiled, compile};
use narthex::model::{ConfigMap, Meta, ObjectKey, PortRef};
use narthex::policy::forwarded::ProxyFacts;
use narthex::policy::snippet::Run;
use narthex::reply::{LocalReply, RedirectCause};
use narthex::request::Scheme;
use narthex::route::decide::Unrecorded;
use narthex::route::{CertificateChoice, Decision, LocationTarget, access, choose, decide};
use narthex::wire::Version;
use request::Ask;
use serde_json::{Value, json};
use world::{Scene, list, text};

const VECTORS: &str = include_str!("data/routing-vectors.yaml");
const DECIDED: &str = include_str!("data/decided.yaml");
const SELF_SIGNED: &str = "Kubernetes Ingress Controller Fake Certificate";

fn scene(case: &Value) -> Scene {
    let mut scene = Scene::default();
    let classes =
        case.get("ingressClasses").cloned().unwrap_or_else(|| json!({"nginx": "k8s.io/ingress-nginx"}));
    for (name, controller) in classes.as_object().unwrap() {
        scene.add(
            &json!({"kind": "IngressClass", "metadata": {"name": name}, "spec": {"controller": controller}}),
        );
    }
    for ingress in case["ingresses"].as_array().unwrap() {
        scene.add(ingress);
    }
    for (key, certificate) in case["secrets"].as_object().into_iter().flatten() {
        let info = world::certificate(&text(&certificate["commonName"]), &list(&certificate["dnsNames"]));
        scene.certificates.insert(ObjectKey::parse(key).unwrap(), Ok(Arc::new(info)));
    }
    if let Some(data) =
        case.get("configmap").filter(|data| data.as_object().is_some_and(|data| !data.is_empty()))
    {
        let key = ObjectKey::new("sys", "cfg");
        let map = ConfigMap { meta: Meta::named(key.clone()), data: world::strings(data) };
        scene.world.config_maps.insert(key.clone(), Arc::new(map));
        scene.options.config_map = Some(key);
    }
    for (name, value) in case["flags"].as_object().into_iter().flatten() {
        match name.as_str() {
            "watch-ingress-without-class" => scene.options.without_class = value.as_bool().unwrap(),
            "default-backend-service" => {
                let key = ObjectKey::parse(&text(value)).unwrap();
                scene.add_service(&key, &[PortRef::Number(80)], 1);
                scene.options.default_backend = Some(key);
            }
            other => panic!("unknown flag {other}"),
        }
    }
    scene.add_missing_services();
    for (key, declared) in case["services"].as_object().into_iter().flatten() {
        let key = ObjectKey::parse(key).unwrap();
        if declared["exists"] == json!(false) {
            scene.world.services.remove(&key);
            scene.world.slices.remove(&key);
        } else if declared["endpoints"].as_array().is_some_and(Vec::is_empty) {
            scene.world.slices.remove(&key);
        }
    }
    scene
}

fn ask(request: &Value) -> Ask {
    let target = text(&request["path"]);
    // Absolute-form: its authority is the host (RFC 9112 section 3.2.2); the data plane takes it apart.
    let (host, target) = match target.strip_prefix("http://").and_then(|rest| rest.split_once('/')) {
        Some((authority, path)) => (authority.to_owned(), format!("/{path}")),
        None => (text(&request["host"]), target),
    };
    let mut ask = Ask::get(&host, &target);
    if let Some(raw) = request["raw"].as_str() {
        ask.version = Version::Http10;
        ask.target = raw.split(' ').nth(1).unwrap().to_owned();
        return ask;
    }
    ask.method = Method::from_bytes(text(&request["method"]).as_bytes()).unwrap();
    if request["scheme"] == "https" {
        ask.scheme = Scheme::Https;
    }
    for line in request["headers"].as_array().into_iter().flatten() {
        let (name, value) = (text(&line[0]), text(&line[1]));
        if name.eq_ignore_ascii_case("host") || name.contains('_') {
            continue;
        }
        ask = ask.with(&name, &value);
    }
    if let Some(line) = request["proxy_protocol_line"].as_str() {
        let words: Vec<&str> = line.split(' ').collect();
        let address = |ip: usize, port: usize| format!("{}:{}", words[ip], words[port]).parse().unwrap();
        ask.proxy = Some(ProxyFacts { source: address(2, 4), destination: address(3, 5) });
    }
    ask
}

/// What the core does with a request, in the words of the vectors.
#[derive(Debug, Default, Clone, PartialEq)]
struct Seen {
    status: u16,
    server: String,
    ingress: Option<String>,
    location: Option<String>,
    backend: Option<String>,
    upstream_path: Option<String>,
    redirect: Option<String>,
    certificate_cn: Option<String>,
}

fn see(compiled: &Compiled, scene: &Scene, ask: &Ask, request: &Value) -> Option<Seen> {
    let table = &compiled.table;
    let view = ask.view(&table.globals)?;
    let mut seen = Seen::default();
    let mut run = Run::default();
    let decision = decide(table, &compiled.endpoints, &view, &mut run, &mut Unrecorded);
    let (server, location, reply) = match &decision {
        Decision::Reply { server, location, reply } => (*server, *location, Some(reply.clone())),
        Decision::Forward(forward) => {
            let refused = access(forward.location, &view, &run);
            let chosen =
                choose(forward.backend, &compiled.endpoints, &view, Default::default(), &mut Unrecorded);
            seen.backend = Some(chosen.backend.name.to_string());
            if refused.is_none() {
                seen.upstream_path = Some(String::from_utf8_lossy(&forward.target).into_owned());
            }
            (forward.server, Some(forward.location), refused)
        }
    };
    seen.server = match &server.redirect_to {
        Some(_) => format!("redirect:{}", server.name),
        None => server.name.to_string(),
    };
    if let Some(location) = location {
        seen.ingress = location.owner.as_ref().map(ToString::to_string);
        seen.location = Some(location.text());
        if seen.backend.is_none() {
            seen.backend = Some(match &location.target {
                LocationTarget::Default(None) => "upstream-default-backend".to_owned(),
                _ => location.backend()?.name.to_string(),
            });
        }
    }
    seen.status = reply.as_ref().map_or(200, |reply| reply.status().as_u16());
    if let Some(LocalReply::Redirect { status, location, cause }) = reply {
        // Codes without Location semantics (vector `redirect-odd-codes`): the data plane writes no field.
        let has_field = matches!(status.as_u16(), 301 | 302 | 303 | 307 | 308);
        seen.redirect = has_field.then_some(location);
        if cause == RedirectCause::TrailingSlash {
            seen.backend = None;
            // The test bed named the redirecting location so, whatever its kind.
            seen.location = seen.location.map(|text| format!("= {}", text.trim_start_matches("= ")));
        }
    }
    if ask.scheme == Scheme::Https {
        let name = request["sni"].as_str().map_or_else(|| view.host.name.to_string(), str::to_owned);
        seen.certificate_cn = Some(match table.certificate(&name) {
            Some(CertificateChoice::Secret(key)) => {
                scene.certificates[key].as_ref().unwrap().subject_common_name.clone()
            }
            Some(CertificateChoice::Default) | None => SELF_SIGNED.to_owned(),
        });
    }
    Some(seen)
}

/// Empty when the core did what was observed.
fn judge(seen: &Seen, expected: &Value, ours_alone: bool) -> Vec<String> {
    let mut wrong = Vec::new();
    let mut compare = |key: &str, got: Option<String>| {
        let Some(wanted) = expected.get(key) else { return };
        let wanted = match wanted {
            Value::Null => None,
            Value::String(text) => Some(text.clone()),
            other => Some(other.to_string()),
        };
        if wanted != got {
            wrong.push(format!("{key}: {got:?}, observed {wanted:?}"));
        }
    };
    let backend_answers = seen.upstream_path.is_some();
    if !backend_answers || ours_alone {
        compare("status", Some(seen.status.to_string()));
        compare("redirect", seen.redirect.clone());
    }
    if ours_alone {
        return wrong;
    }
    compare("server", Some(seen.server.clone()));
    compare("ingress", seen.ingress.clone());
    compare("location", seen.location.clone());
    if expected["backend"].is_string() {
        compare("backend", seen.backend.clone());
    }
    // No path observed: the response was refused or the backends of the case do not listen.
    if expected["upstream_path"].is_string() || !backend_answers {
        compare("upstream_path", seen.upstream_path.clone());
    }
    if expected["certificate_cn"].is_string() {
        compare("certificate_cn", seen.certificate_cn.clone());
    }
    wrong
}

/// Requests that are answered before routing, or after it by replacing a response.
fn is_elsewhere(request: &Value, expected: &Value) -> bool {
    let method = text(&request["method"]);
    let status = expected["status"].as_u64().unwrap_or_default();
    let before = status == 400 || method == "TRACE";
    let replaced = expected["ingress"].is_null()
        && expected["location"].is_null()
        && expected["upstream_path"].is_string();
    before || replaced
}

fn parse(yaml: &str) -> Value {
    // An Ingress called `y` is no boolean.
    let mut options = serde_saphyr::Options::default();
    options.strict_booleans = true;
    serde_saphyr::from_str_with_options(yaml, options).expect("the vectors are YAML")
}

#[test]
fn the_core_routes_as_ingress_nginx_was_observed_to() {
    let cases = parse(VECTORS);
    let decided: BTreeMap<(String, u64), Value> = parse(DECIDED)["decided"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|entry| entry["vectors"] == "routing")
        .map(|entry| ((text(&entry["case"]), entry["request"].as_u64().unwrap()), entry["ours"].clone()))
        .collect();
    let mut failures = Vec::new();
    let (mut judged, mut elsewhere) = (0, 0);
    for case in cases["cases"].as_array().unwrap() {
        let scene = scene(case);
        let compiled = compile(&scene.inputs());
        for (number, entry) in (0_u64..).zip(case["requests"].as_array().unwrap()) {
            let name = text(&case["name"]);
            let ours = decided.get(&(name.clone(), number));
            let (request, expected) = (&entry["request"], ours.unwrap_or_else(|| &entry["expect"]));
            let ask = ask(request);
            let mut fail =
                |why: String| failures.push(format!("{name}[{number}] {} {}: {why}", ask.host, ask.target));
            if is_elsewhere(request, expected) {
                elsewhere += 1;
                continue;
            }
            judged += 1;
            if let Some(shares) = expected["share"].as_object() {
                let repeat = u32::try_from(request["repeat"].as_u64().unwrap()).unwrap();
                for (backend, share) in shares {
                    let mut hits = 0;
                    for roll in 0..repeat {
                        let seen = see(&compiled, &scene, &Ask { roll, ..ask.clone() }, request).unwrap();
                        hits += u32::from(seen.backend.as_deref() == Some(backend));
                    }
                    let got = f64::from(hits) / f64::from(repeat);
                    if (got - share.as_f64().unwrap()).abs() > 0.12 {
                        fail(format!("{backend} has a share of {got}, observed {share}"));
                    }
                }
                continue;
            }
            match see(&compiled, &scene, &ask, request) {
                Some(seen) => judge(&seen, expected, ours.is_some()).into_iter().for_each(fail),
                None => fail("the target has no normal form".to_owned()),
            }
        }
    }
    assert!(failures.is_empty(), "{} of {judged} differ:\n{}", failures.len(), failures.join("\n"));
    assert!(judged > 350, "only {judged} requests judged, {elsewhere} left to other tests");
}

/// Where nginx refuses the whole configuration, the older rule wins and the younger one's owner is told.
#[test]
fn configurations_that_nginx_refuses_have_a_defined_answer() {
    let cases = parse(VECTORS);
    let compiled = |name: &str| {
        let case = cases["cases"].as_array().unwrap().iter().find(|case| case["name"] == name).unwrap();
        let scene = scene(case);
        (compile(&scene.inputs()), scene)
    };
    let check = |(compiled, scene): &(Compiled, Scene), path: &str, status: u16, ingress: &str| {
        let seen = see(compiled, scene, &Ask::get("h.test", path), &json!({})).unwrap();
        assert_eq!((seen.status, seen.ingress.as_deref()), (status, Some(ingress)), "{path}");
    };
    let duplicate = compiled("prefix-exact-exact-duplicate");
    check(&duplicate, "/foo", 200, "default/e1");
    check(&duplicate, "/foo/x", 200, "default/p");
    let told =
        duplicate.0.diagnostics.iter().find(|one| one.code == "PathConflict").expect("the loser is told");
    assert_eq!(&*told.object.key.name, "e2");

    let invalid = compiled("regex-invalid-pattern");
    check(&invalid, "/foo/x", 503, "default/a");
    check(&invalid, "/bar", 404, "default/a");
    assert!(invalid.0.diagnostics.iter().any(|one| one.code == "InvalidPattern"));
}
