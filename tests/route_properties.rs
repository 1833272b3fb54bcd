//! Properties of compiler and lookup over random worlds.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a broken fixture fails the test")]

#[path = "support/world.rs"]
mod world;

use std::collections::BTreeMap;
use std::sync::Arc;

use narthex::compile::{Compiler, PathSemantics, compile};
use narthex::model::{
    Backend, ConfigMap, Ingress, Meta, ObjectKey, PathRule, PathType, PortRef, Rule, ServiceRef, Timestamp,
    TlsBlock,
};
use narthex::route::path::Found;
use narthex::route::{Server, Table, dump, fingerprint, precedence};
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::{Just, ProptestConfig, Strategy, any, prop, prop_oneof, proptest};
use proptest::sample::select;
use proptest::{prop_assert, prop_assert_eq};
use serde_json::json;
use world::Scene;

const HOSTS: [&str; 6] = ["", "a.test", "b.test", "www.a.test", "*.w.test", "x.w.test"];
const PATHS: [&str; 18] = [
    "",
    "/",
    "//",
    "/foo//",
    "/foo",
    // Both sort between `/foo` and `/foo/`.
    "/foo-",
    "/foo.b/",
    "/foo/",
    "/foo/bar",
    "/foo/bar/",
    "/Foo",
    "/fo",
    "/healthz",
    "/v[0-9]+",
    "/foo(/|$)(.*)",
    "/(",
    "/.well-known/acme-challenge/token",
    "/a b",
];
const ANNOTATIONS: [(&str, &str); 18] = [
    ("use-regex", "true"),
    ("rewrite-target", "/$2"),
    ("rewrite-target", "/foo"),
    ("server-alias", "al.test,*.al.test"),
    ("server-alias", "b.test,~^re[0-9]+$"),
    ("from-to-www-redirect", "true"),
    ("app-root", "/start"),
    ("permanent-redirect", "https://elsewhere.test"),
    ("whitelist-source-range", "10.0.0.0/8"),
    ("whitelist-source-range", "nonsense"),
    ("affinity", "cookie"),
    ("default-backend", "s2"),
    ("canary", "true"),
    ("canary", "true"),
    ("canary-weight", "50"),
    ("ssl-redirect", "false"),
    ("service-upstream", "true"),
    ("load-balance", "ewma"),
];

fn key() -> impl Strategy<Value = ObjectKey> {
    (select(vec!["one", "two"]), select(vec!["i1", "i2", "i3", "i4"]))
        .prop_map(|(namespace, name)| ObjectKey::new(namespace, name))
}

fn backend() -> impl Strategy<Value = Backend> {
    let service = (select(vec!["s1", "s2", "s3", "missing"]), select(vec![80_u16, 81]));
    prop_oneof![
        12 => service.prop_map(|(name, port)| Backend::Service(ServiceRef { name: name.into(), port: PortRef::Number(port) })),
        1 => Just(Backend::Resource { kind: "Bucket".into(), name: "b".into() }),
    ]
}

fn rule() -> impl Strategy<Value = Rule> {
    let kinds = select(vec![
        Some(PathType::Exact),
        Some(PathType::Prefix),
        Some(PathType::ImplementationSpecific),
        None,
    ]);
    let path = (select(PATHS.to_vec()), kinds, backend()).prop_map(|(path, path_type, backend)| PathRule {
        path: path.to_owned(),
        path_type,
        backend,
    });
    (select(HOSTS.to_vec()), option::weighted(0.9, vec(path, 0..4)))
        .prop_map(|(host, paths)| Rule { host: host.to_owned(), paths })
}

fn ingress_called(key: impl Strategy<Value = ObjectKey>) -> impl Strategy<Value = Ingress> {
    let annotations = prop_oneof![
        2 => Just(Vec::new()),
        3 => vec(select(ANNOTATIONS.to_vec()), 0..3),
    ];
    let tls = vec((select(HOSTS.to_vec()), select(vec!["", "good", "absent"])), 0..2);
    let class = select(vec!["nginx", "nginx", "nginx", "strict", "foreign"]);
    (key, class, option::of(0_i64..3), annotations, option::weighted(0.2, backend()), vec(rule(), 0..3), tls)
        .prop_map(|(key, class, created, annotations, default_backend, rules, tls)| {
            let mut meta = Meta::named(key);
            meta.created = created.map(Timestamp);
            meta.annotations = annotations
                .into_iter()
                .map(|(name, value)| (format!("nginx.ingress.kubernetes.io/{name}"), value.to_owned()))
                .collect();
            let tls = tls.into_iter().map(|(host, secret)| TlsBlock {
                hosts: vec![host.to_owned()],
                secret_name: secret.to_owned(),
            });
            Ingress { meta, class_name: Some(class.into()), default_backend, rules, tls: tls.collect() }
        })
}

/// One change of a world.
#[derive(Debug, Clone)]
enum Change {
    Put(Box<Ingress>),
    Delete(ObjectKey),
    Service(ObjectKey, usize),
    NoService(ObjectKey),
    Certificate(ObjectKey, bool),
    StrictClass(bool),
    ConfigMap(bool),
}

fn change() -> impl Strategy<Value = Change> {
    let service = || {
        (select(vec!["one", "two"]), select(vec!["s1", "s2", "s3"]))
            .prop_map(|(ns, name)| ObjectKey::new(ns, name))
    };
    let secret = select(vec!["one", "two"]).prop_map(|namespace| ObjectKey::new(namespace, "good"));
    prop_oneof![
        12 => ingress_called(key()).prop_map(|ingress| Change::Put(Box::new(ingress))),
        4 => key().prop_map(Change::Delete),
        3 => (service(), 0_usize..3).prop_map(|(key, endpoints)| Change::Service(key, endpoints)),
        1 => service().prop_map(Change::NoService),
        1 => (secret, any::<bool>()).prop_map(|(key, good)| Change::Certificate(key, good)),
        1 => any::<bool>().prop_map(Change::StrictClass),
        2 => any::<bool>().prop_map(Change::ConfigMap),
    ]
}

fn empty_scene() -> Scene {
    let mut scene = Scene::default();
    scene.options.config_map = Some(ObjectKey::new("sys", "cfg"));
    scene.options.default_backend = Some(ObjectKey::new("one", "s3"));
    for (name, controller) in [("nginx", "k8s.io/ingress-nginx"), ("foreign", "example.com/other")] {
        scene.add(
            &json!({"kind": "IngressClass", "metadata": {"name": name}, "spec": {"controller": controller}}),
        );
    }
    apply(&mut scene, &Change::StrictClass(true));
    scene
}

fn apply(scene: &mut Scene, change: &Change) {
    match change {
        Change::Put(ingress) => {
            scene.world.ingresses.insert(ingress.meta.key.clone(), Arc::new((**ingress).clone()));
        }
        Change::Delete(key) => {
            scene.world.ingresses.remove(key);
        }
        Change::Service(key, endpoints) => {
            scene.add_service(key, &[PortRef::Number(80), PortRef::Number(81)], *endpoints)
        }
        Change::NoService(key) => {
            scene.world.services.remove(key);
            scene.world.slices.remove(key);
        }
        Change::Certificate(key, good) => {
            let names = ["a.test", "www.a.test", "*.w.test", "al.test"].map(str::to_owned);
            let info = Arc::new(world::certificate("a.test", &names));
            let entry = if *good { Ok(info) } else { Err("the key does not fit".to_owned()) };
            scene.certificates.insert(key.clone(), entry);
        }
        Change::StrictClass(kubernetes) => {
            let name = if *kubernetes { "kubernetes" } else { "nginx" };
            scene.add(&json!({
                "kind": "IngressClass", "metadata": {"name": "strict"},
                "spec": {"controller": "k8s.io/ingress-nginx", "parameters": {"kind": "PathSemantics", "name": name}},
            }));
        }
        Change::ConfigMap(redirect) => scene.add(&json!({
            "kind": "ConfigMap", "metadata": {"name": "cfg", "namespace": "sys"},
            "data": {
                "ssl-redirect": redirect.to_string(),
                "host-ownership": if *redirect { "open" } else { "first-namespace" },
            },
        })),
    }
}

fn text(compiled: &narthex::compile::Compiled) -> String {
    let mut text = dump::table(&compiled.table, &compiled.endpoints);
    for diagnostic in &compiled.diagnostics {
        text.push_str(&format!("{diagnostic}\n"));
    }
    text
}

/// Dump of each server, by name.
fn by_server(scene: &Scene) -> BTreeMap<String, String> {
    let compiled = compile(&scene.inputs());
    let text = dump::table(&compiled.table, &compiled.endpoints);
    let blocks = text.split("server ").filter(|block| !block.is_empty());
    blocks
        .map(|block| {
            (block.split_whitespace().next().unwrap_or_default().to_owned(), block.trim().to_owned())
        })
        .collect()
}

fn servers(table: &Table) -> Vec<Arc<Server>> {
    let mut all: Vec<Arc<Server>> =
        table.hosts.names().into_iter().map(|(_, _, server)| Arc::clone(server)).collect();
    all.push(Arc::clone(&table.catch_all));
    all
}

fn path() -> impl Strategy<Value = String> {
    let segment = select(vec![
        "", "foo", "foo-", "foo.b", "Foo", "FOO", "bar", "fo", "foobar", "v1", "healthz", "healthzy", "a b",
        "\n", "é",
    ]);
    let pieces = vec(segment, 1..5).prop_map(|segments| format!("/{}", segments.join("/")));
    let known = select(PATHS.to_vec())
        .prop_map(|path| if path.is_empty() { "/".to_owned() } else { path.to_owned() });
    prop_oneof![3 => pieces, 1 => known, 1 => "/[ -~]{0,12}"]
}

/// The parts of a server's dump: what is said of the host, and each location with what is said of it.
fn parts(block: &str) -> Vec<String> {
    let mut parts: Vec<String> = Vec::new();
    for line in block.lines().skip(1) {
        match parts.last_mut().filter(|_| line.starts_with("    ")) {
            Some(part) => part.push_str(&format!("\n{line}")),
            None => parts.push(line.to_owned()),
        }
    }
    parts
}

/// `PROPTEST_CASES` for more; few by default, since each case compiles many worlds.
fn config() -> ProptestConfig {
    let cases = std::env::var("PROPTEST_CASES").ok().and_then(|text| text.parse().ok()).unwrap_or(64);
    ProptestConfig { cases, failure_persistence: None, ..ProptestConfig::default() }
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn compiling_step_by_step_gives_what_compiling_from_scratch_gives(changes in vec(change(), 1..14)) {
        let mut scene = empty_scene();
        let mut compiler = Compiler::new();
        for change in &changes {
            apply(&mut scene, change);
            let stepwise = compiler.compile(&scene.inputs());
            let scratch = compile(&scene.inputs());
            prop_assert_eq!(text(&stepwise), text(&scratch), "after {:?}", change);
            let numbers = [&stepwise, &scratch].map(|one| fingerprint::table(&one.table));
            prop_assert_eq!(numbers[0], numbers[1], "after {:?}", change);
        }
    }

    #[test]
    fn the_order_in_which_objects_come_does_not_matter(
        changes in prop::collection::btree_map(key(), ingress_called(key()), 1..6),
        seed in any::<u64>(),
    ) {
        let mut ingresses: Vec<Ingress> = changes
            .into_iter()
            .map(|(key, mut ingress)| {
                ingress.meta.key = key;
                ingress
            })
            .collect();
        let mut first = empty_scene();
        let mut compiler = Compiler::new();
        for ingress in &ingresses {
            apply(&mut first, &Change::Put(Box::new(ingress.clone())));
            compiler.compile(&first.inputs());
        }
        let one = text(&compiler.compile(&first.inputs()));
        let count = ingresses.len();
        ingresses.sort_by_key(|ingress| {
            (ingress.meta.key.to_string().bytes().map(u64::from).sum::<u64>().wrapping_mul(seed | 1)) % (count as u64 * 7)
        });
        let mut second = empty_scene();
        let mut compiler = Compiler::new();
        for ingress in &ingresses {
            apply(&mut second, &Change::Put(Box::new(ingress.clone())));
            compiler.compile(&second.inputs());
        }
        prop_assert_eq!(one, text(&compiler.compile(&second.inputs())));
    }

    #[test]
    fn a_broken_object_changes_no_other_host(
        changes in vec(change(), 0..8),
        mut broken in ingress_called(Just(ObjectKey::new("broken", "broken"))),
        garbage in vec(("[ -~]{0,20}", "\\PC{0,20}"), 0..4),
    ) {
        let mut scene = empty_scene();
        for change in &changes {
            apply(&mut scene, change);
        }
        let before = by_server(&scene);
        for rule in &mut broken.rules {
            rule.host = "broken.test".into();
        }
        // Without rules it would take over the catch-all; names are first come, first served.
        broken.default_backend = None;
        broken.meta.annotations.retain(|name, _| !name.ends_with("server-alias") && !name.ends_with("from-to-www-redirect"));
        for (path, value) in garbage {
            let backend = Backend::Service(ServiceRef { name: value.clone(), port: PortRef::Name(value.clone()) });
            let rule = PathRule { path, path_type: None, backend };
            broken.rules.push(Rule { host: "broken.test".into(), paths: Some(vec![rule]) });
            broken.meta.annotations.insert(format!("nginx.ingress.kubernetes.io/{value}"), value);
        }
        apply(&mut scene, &Change::Put(Box::new(broken)));
        let mut after = by_server(&scene);
        after.remove("broken.test");
        prop_assert_eq!(before, after);
    }

    /// PT-2 on shared hosts. What a younger object of another namespace may do to a host: add paths, bring regex mode
    /// (as with ingress-nginx), take the place of paths that nobody wrote, show a certificate where there is none, and,
    /// while hosts are open, have as a host of its own what was only a further name.
    #[test]
    fn a_younger_object_of_another_namespace_changes_no_route_and_no_setting_of_a_host(
        changes in vec(change(), 1..8),
        mut hostile in ingress_called(Just(ObjectKey::new("evil", "evil"))),
        garbage in vec("\\PC{0,20}", 0..3),
        exclusive in any::<bool>(),
    ) {
        let mut scene = empty_scene();
        changes.iter().for_each(|change| apply(&mut scene, change));
        let ownership = if exclusive { "first-namespace" } else { "open" };
        scene.add(&json!({
            "kind": "ConfigMap", "metadata": {"name": "cfg", "namespace": "sys"}, "data": {"host-ownership": ownership},
        }));
        let all: Vec<_> = scene.world.ingresses.values().cloned().collect();
        for ingress in all {
            let mut older = (*ingress).clone();
            older.meta.created = Some(older.meta.created.unwrap_or(Timestamp(3)));
            scene.world.ingresses.insert(older.meta.key.clone(), Arc::new(older));
        }
        let before = by_server(&scene);
        hostile.meta.created = Some(Timestamp(9));
        hostile.meta.annotations.retain(|name, _| !name.ends_with("use-regex") && !name.ends_with("rewrite-target"));
        for value in garbage {
            hostile.meta.annotations.insert(format!("nginx.ingress.kubernetes.io/{value}"), value);
        }
        // An exact path is another path than the exact half of a prefix, and goes before it.
        let exact: Vec<String> = hostile.rules.iter().flat_map(|rule| rule.paths.iter().flatten())
            .filter(|path| path.path_type == Some(PathType::Exact)).map(|path| format!("= {} -> ", path.path)).collect();
        let own: Vec<String> = hostile.rules.iter().map(|rule| rule.host.clone()).collect();
        apply(&mut scene, &Change::Put(Box::new(hostile)));
        let after = by_server(&scene);
        // The catch-all is nobody's.
        for (name, block) in before.into_iter().filter(|(name, _)| name != "_") {
            let changed = after.get(&name).map(|block| parts(block)).unwrap_or_default();
            // `app-root` goes with `/`.
            let roots = changed.iter().any(|part| part.starts_with("  / -> ") && part.contains("of Ingress evil/evil"));
            let was_further_name = !exclusive && own.contains(&name);
            for part in parts(&block) {
                let nobodys = part.contains("no rule") || part.trim_start().starts_with("certificate")
                    || (part.contains(" -> ") && !part.contains("of Ingress"))
                    || (!exclusive && exact.iter().any(|path| part.trim_start().starts_with(path)))
                    || (!exclusive && own.iter().any(|host| part.trim() == format!("also {host}")))
                    || (!exclusive && roots && part.trim_start().starts_with("app-root"))
                    || (was_further_name && part.trim_start().starts_with("redirects to"));
                prop_assert!(nobodys || changed.contains(&part), "{}: {:?} is not in {:#?}", name, part, changed);
            }
            let settings = |parts: &[String], word: &str| parts.iter().any(|part| part.trim_start().starts_with(word));
            for word in ["app-root", "client certificates", "redirects to"] {
                let (had, has) = (settings(&parts(&block), word), settings(&changed, word));
                prop_assert!(had || !has || (roots && word == "app-root"), "{}: {} came to {:#?}", name, word, changed);
            }
        }
    }

    #[test]
    fn the_fast_lookup_finds_what_looking_at_all_locations_finds(
        changes in vec(change(), 1..10),
        paths in vec(path(), 1..20),
    ) {
        let mut scene = empty_scene();
        changes.iter().for_each(|change| apply(&mut scene, change));
        let compiled = compile(&scene.inputs());
        for server in servers(&compiled.table) {
            for path in &paths {
                let fast = server.index.find(&server.locations, path.as_bytes());
                let slow = match precedence::linear_slash_redirect(&server, path.as_bytes()) {
                    Some(position) => Some(Found::LacksSlash(position)),
                    None => precedence::linear(&server, path.as_bytes()).map(Found::Location),
                };
                prop_assert_eq!(fast, slow, "{} {:?}", server.name, path);
            }
        }
    }

    #[test]
    fn servers_of_other_hosts_keep_their_address(changes in vec(change(), 0..10), path in select(PATHS.to_vec())) {
        let mut scene = empty_scene();
        changes.iter().for_each(|change| apply(&mut scene, change));
        let mut compiler = Compiler::new();
        let before = compiler.compile(&scene.inputs());
        let again = compiler.compile(&scene.inputs());
        prop_assert!(Arc::ptr_eq(&before.table, &again.table), "nothing changed, so nothing is new");
        prop_assert!(Arc::ptr_eq(&before.endpoints, &again.endpoints));

        let mut meta = Meta::named(ObjectKey::new("new", "new"));
        meta.created = Some(Timestamp(0));
        let backend = Backend::Service(ServiceRef { name: "s".into(), port: PortRef::Number(80) });
        let rule = PathRule { path: path.to_owned(), path_type: Some(PathType::Prefix), backend };
        let rules = vec![Rule { host: "new.test".into(), paths: Some(vec![rule]) }];
        let class_name = Some("nginx".into());
        apply(&mut scene, &Change::Put(Box::new(Ingress { meta, class_name, default_backend: None, rules, tls: Vec::new() })));
        let after = compiler.compile(&scene.inputs());
        for (_, name, server) in before.table.hosts.names() {
            if name.starts_with('~') || name.contains('*') {
                continue;
            }
            prop_assert!(Arc::ptr_eq(server, after.table.server(&name)), "{} was made anew", name);
        }
        prop_assert!(Arc::ptr_eq(&before.table.catch_all, &after.table.catch_all));
    }

    #[test]
    fn the_cheap_road_for_endpoints_leads_where_compiling_leads(
        changes in vec(change(), 1..10),
        services in vec((select(vec!["one", "two"]), select(vec!["s1", "s2", "s3"]), option::of(0_usize..3)), 1..4),
    ) {
        let mut scene = empty_scene();
        changes.iter().for_each(|change| apply(&mut scene, change));
        let mut compiler = Compiler::new();
        let before = compiler.compile(&scene.inputs());
        for (namespace, name, endpoints) in services {
            let key = ObjectKey::new(namespace, name);
            apply(&mut scene, &endpoints.map_or_else(
                || Change::NoService(key.clone()),
                |count| Change::Service(key.clone(), count),
            ));
        }
        let cheap = compiler.endpoints_only(&scene.inputs(), &before.table);
        let scratch = compile(&scene.inputs());
        prop_assert_eq!(
            dump::table(&before.table, &cheap),
            dump::table(&scratch.table, &scratch.endpoints)
        );
        let after = compiler.compile(&scene.inputs());
        prop_assert!(Arc::ptr_eq(&before.table, &after.table), "endpoints are no part of the table");
        prop_assert!(Arc::ptr_eq(&cheap, &after.endpoints), "what was published still holds");
        for (old, new) in before.endpoints.iter().zip(cheap.iter()) {
            prop_assert!(old != new || Arc::ptr_eq(old, new), "an unchanged set keeps its address");
        }
    }

    #[test]
    fn every_path_of_every_server_finds_something(changes in vec(change(), 1..8), kubernetes in any::<bool>()) {
        let mut scene = empty_scene();
        scene.options.path_semantics = if kubernetes { PathSemantics::Kubernetes } else { PathSemantics::Nginx };
        changes.iter().for_each(|change| apply(&mut scene, change));
        let compiled = compile(&scene.inputs());
        for server in servers(&compiled.table).iter().filter(|server| server.redirect_to.is_none()) {
            // An exact `/` of the host may be an expression that takes only that path.
            let root = server.locations.iter().any(|location| location.implicit || &*location.rule_path == "/");
            prop_assert!(root, "{} has a root", server.name);
        }
    }
}

/// Every part of what is served, once.
const SERVED: &str = r#"
kind: Ingress
metadata: {name: a, annotations: {nginx.ingress.kubernetes.io/proxy-read-timeout: "30"}}
spec:
  ingressClassName: nginx
  tls: [{hosts: [a.test], secretName: pair}]
  rules:
  - host: a.test
    http: {paths: [{path: /x, pathType: Prefix, backend: {service: {name: s1, port: {number: 80}}}}]}
  - host: b.test
    http: {paths: [{path: /, pathType: Prefix, backend: {service: {name: s2, port: {number: 80}}}}]}
---
kind: Ingress
metadata: {name: canary, annotations: {nginx.ingress.kubernetes.io/canary: "true", nginx.ingress.kubernetes.io/canary-weight: "10"}}
spec:
  ingressClassName: nginx
  rules:
  - host: b.test
    http: {paths: [{path: /, pathType: Prefix, backend: {service: {name: s3, port: {number: 80}}}}]}
---
kind: ConfigMap
metadata: {name: config}
data: {proxy-body-size: 1m}
"#;

#[test]
fn the_number_of_a_table_changes_with_everything_that_is_served_and_with_nothing_else() {
    let scene = |yaml: &str, endpoints: usize| {
        let mut scene = empty_scene();
        scene.options.config_map = Some(ObjectKey::new("default", "config"));
        scene.add_yaml(yaml);
        for service in ["s1", "s2", "s3"] {
            scene.add_service(&ObjectKey::new("default", service), &[PortRef::Number(80)], endpoints);
        }
        scene
    };
    let number = |scene: &Scene| fingerprint::table(&compile(&scene.inputs()).table);
    let first = scene(SERVED, 1);
    for (from, to) in [
        ("proxy-read-timeout: \"30\"", "proxy-read-timeout: \"31\""),
        ("proxy-read-timeout: \"30\"", "app-root: /start"),
        ("proxy-read-timeout: \"30\"", "server-alias: c.test"),
        ("proxy-read-timeout: \"30\"", "affinity: cookie"),
        ("proxy-read-timeout: \"30\"", "from-to-www-redirect: \"true\""),
        ("path: /x", "path: /y"),
        ("path: /x, pathType: Prefix", "path: /x, pathType: Exact"),
        ("name: s1", "name: s2"),
        ("name: s3", "name: s1"),
        ("canary-weight: \"10\"", "canary-weight: \"11\""),
        ("host: a.test", "host: other.test"),
        ("secretName: pair", "secretName: another"),
        ("name: a,", "name: renamed,"),
        ("proxy-body-size: 1m", "proxy-body-size: 2m"),
        ("proxy-body-size: 1m", "proxy-body-size: 1m, log-format-upstream: x"),
    ] {
        let text = SERVED.replacen(from, to, 1);
        assert_ne!(text, SERVED, "{from}");
        let mut other = scene(&text, 1);
        for secret in ["pair", "another"] {
            let pair = world::certificate("a.test", &[]);
            other.certificates.insert(ObjectKey::new("default", secret), Ok(Arc::new(pair)));
        }
        let mut first = first.clone();
        first.certificates = other.certificates.clone();
        assert_ne!(number(&first), number(&other), "{from} -> {to}");
    }
    for (from, to) in [
        ("metadata: {name: a,", "metadata: {labels: {x: y}, name: a,"),
        ("{path: /x, pathType: Prefix,", "{pathType: Prefix, path: /x,"),
    ] {
        assert_eq!(number(&first), number(&scene(&SERVED.replacen(from, to, 1), 1)), "{from} -> {to}");
    }
    assert_eq!(number(&first), number(&scene(SERVED, 3)), "endpoints");
}

#[test]
fn a_server_that_is_kept_keeps_its_number_and_one_that_changed_gets_another() {
    let mut scene = empty_scene();
    scene.add_yaml(SERVED);
    scene.add_missing_services();
    let mut compiler = Compiler::new();
    let before = fingerprint::table(&compiler.compile(&scene.inputs()).table);
    let key = ObjectKey::new("default", "a");
    let was = Arc::clone(&scene.world.ingresses[&key]);
    let mut changed = (*was).clone();
    changed.rules.pop();
    scene.world.ingresses.insert(key.clone(), Arc::new(changed));
    let between = fingerprint::table(&compiler.compile(&scene.inputs()).table);
    assert_eq!(between, fingerprint::table(&compile(&scene.inputs()).table));
    scene.world.ingresses.insert(key, was);
    let after = fingerprint::table(&compiler.compile(&scene.inputs()).table);
    assert!(before != between && before == after, "there and back again");
}

#[test]
fn keys_of_session_tickets_count_though_no_text_shows_them() {
    let of = |keys: &[u8]| {
        let mut scene = Scene::default();
        let name = ObjectKey::new("default", "config");
        let keys: Vec<String> =
            keys.iter().map(|key| format!("{}{}", "A".repeat(63), char::from(*key))).collect();
        let data = [("ssl-session-ticket-key".to_owned(), keys.join(","))].into();
        let map = ConfigMap { meta: Meta::named(name.clone()), data };
        scene.world.config_maps.insert(name.clone(), Arc::new(map));
        scene.options.config_map = Some(name);
        let compiled = compile(&scene.inputs());
        assert!(compiled.diagnostics.is_empty(), "{:?}", compiled.diagnostics);
        fingerprint::table(&compiled.table)
    };
    assert_eq!(of(b"AB"), of(b"AB"));
    assert_ne!(of(b"AB"), of(b"AC"));
    assert_ne!(of(b"AB"), of(b"BA"), "the first one seals");
    assert_ne!(of(b"AB"), of(b"A"));
}

#[test]
fn a_path_that_lacks_a_slash_finds_the_first_of_an_exact_and_a_prefix_location() {
    let key = ObjectKey::new("one", "i1");
    let kinds = [PathType::ImplementationSpecific, PathType::Exact];
    let paths = kinds.map(|kind| PathRule {
        path: "/foo/".to_owned(),
        path_type: Some(kind),
        backend: Backend::Service(ServiceRef { name: "s1".into(), port: PortRef::Number(80) }),
    });
    let ingress = Ingress {
        meta: Meta::named(key),
        class_name: Some("nginx".into()),
        default_backend: None,
        rules: vec![Rule { host: "a.test".to_owned(), paths: Some(paths.into()) }],
        tls: Vec::new(),
    };
    let mut scene = empty_scene();
    apply(&mut scene, &Change::Put(Box::new(ingress)));
    let compiled = compile(&scene.inputs());
    let server = compiled.table.server("a.test");

    let named: Vec<usize> =
        (0..server.locations.len()).filter(|at| &*server.locations[*at].path == "/foo/").collect();
    assert_eq!(named.len(), 2, "both are called so");
    let first = precedence::linear_slash_redirect(server, b"/foo");
    assert_eq!(first, named.first().copied());
    assert_eq!(server.index.find(&server.locations, b"/foo"), first.map(Found::LacksSlash));
}
