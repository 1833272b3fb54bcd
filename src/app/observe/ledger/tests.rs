//! The ledger against tables that are made by the compiler: whatever changed, what it knows is what a ledger that sees
//! the table for the first time knows.

use super::*;
use crate::compile::{Compiler, Inputs, Options};
use crate::manifest;
use crate::model::{CertCatalog, World};

mod chance;

/// An Ingress with rules `host service`; `extra` are more annotations.
fn ingress(name: &str, extra: &str, rules: &[(&str, &str)]) -> String {
    let rules: Vec<String> = rules
        .iter()
        .map(|(host, service)| {
            format!("{{host: '{host}', http: {{paths: [{{path: /a, pathType: Prefix, backend: {{service: {{name: {service}, port: {{number: 80}}}}}}}}]}}}}")
        })
        .collect();
    format!(
        "apiVersion: networking.k8s.io/v1\nkind: Ingress\nmetadata: {{name: {name}, namespace: ns, annotations: {{kubernetes.io/ingress.class: nginx, {extra}}}}}\nspec: {{rules: [{}]}}\n",
        rules.join(", ")
    )
}

fn service(name: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Service\nmetadata: {{name: {name}, namespace: ns}}\nspec: {{clusterIP: 10.0.0.1, ports: [{{port: 80}}]}}\n"
    )
}

fn endpoint(service: &str) -> String {
    format!(
        "apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata: {{name: {service}, namespace: ns, labels: {{kubernetes.io/service-name: {service}}}}}\naddressType: IPv4\nports: [{{port: 80, protocol: TCP}}]\nendpoints: [{{addresses: [10.1.0.1], conditions: {{ready: true}}}}]\n"
    )
}

fn world(objects: &[String]) -> World {
    let manifest = manifest::read("a.yaml", objects.join("---\n").as_bytes());
    assert_eq!(manifest.diagnostics, []);
    manifest::world([&manifest]).0
}

/// What is there: hosts and Ingresses.
#[derive(Debug, Default, PartialEq, Eq)]
struct There {
    hosts: BTreeMap<Arc<str>, i32>,
    ingresses: BTreeSet<IngressName>,
    orphans: BTreeMap<IngressName, Orphaned>,
}

impl There {
    fn take(&mut self, news: News) {
        for host in news.came.hosts {
            *self.hosts.entry(host).or_default() += 1;
        }
        for host in news.left.hosts {
            *self.hosts.entry(host).or_default() -= 1;
        }
        self.hosts.retain(|_, count| *count != 0);
        for name in news.left.ingresses {
            assert!(self.ingresses.remove(&name), "{name:?} was there");
        }
        for name in news.came.ingresses {
            assert!(self.ingresses.insert(name.clone()), "{name:?} was not there");
        }
        for (name, orphaned) in news.orphans {
            match orphaned {
                Some(orphaned) => self.orphans.insert(name, orphaned),
                None => self.orphans.remove(&name),
            };
        }
    }
}

/// Follows worlds one after the other; gives what is told of each Ingress in the end.
fn follow(worlds: &[Vec<String>]) -> Vec<(String, bool, Option<bool>)> {
    let (mut compiler, mut ledger, mut there) = (Compiler::new(), Ledger::default(), There::default());
    let (certificates, options) = (CertCatalog::default(), Options::default());
    for objects in worlds {
        let world = world(objects);
        let compiled =
            compiler.compile(&Inputs { world: &world, certificates: &certificates, options: &options });
        let (table, endpoints) = (&compiled.table, &compiled.endpoints);
        there.take(ledger.follow(table, endpoints));
        let (mut fresh, mut all) = (Ledger::default(), There::default());
        all.take(fresh.follow(table, endpoints));
        assert_eq!(there, all);
        let figures = |ledger: &Ledger| (ledger.hosts(), ledger.locations(), ledger.ready());
        assert_eq!(ledger.fingerprint(table), fingerprint::table(table));
        assert_eq!(figures(&ledger), figures(&fresh));
        assert_eq!(ledger.follow(table, endpoints), News::default(), "the same again is no news");
    }
    let told = there.orphans.iter().map(|((_, name), it)| (name.to_string(), it.no_service, it.no_endpoint));
    told.collect()
}

fn told(all: &[(&str, bool, Option<bool>)]) -> Vec<(String, bool, Option<bool>)> {
    all.iter().map(|(name, service, endpoint)| ((*name).to_owned(), *service, *endpoint)).collect()
}

#[test]
fn an_ingress_is_an_orphan_by_any_of_its_rules_wherever_they_stand() {
    let (both, lost) = (
        ingress("both", "", &[("a.example", "served"), ("b.example", "empty"), ("c.example", "lost")]),
        ingress("lost", "", &[("f.example", "lost")]),
    );
    let good = ingress("good", "", &[("d.example", "served"), ("e.example", "served")]);
    let world = vec![both, lost, good, service("served"), endpoint("served"), service("empty")];
    let expected = [("both", true, Some(true)), ("good", false, Some(false)), ("lost", true, None)];
    assert_eq!(follow(&[world]), told(&expected));
}

#[test]
fn services_and_endpoints_that_come_and_go_are_followed() {
    let rules = [
        ingress("a", "", &[("a.example", "s")]),
        ingress("b", "", &[("b.example", "s"), ("c.example", "t")]),
    ];
    let with = |more: &[String]| [&rules[..], more].concat();
    let (s, t) = (service("s"), service("t"));
    let steps = [
        with(&[]),
        with(std::slice::from_ref(&s)),
        with(&[s.clone(), endpoint("s"), t.clone()]),
        with(&[s.clone(), endpoint("s"), t, endpoint("t")]),
        with(&[s, endpoint("s")]),
    ];
    assert_eq!(follow(&steps), told(&[("a", false, Some(false)), ("b", true, Some(false))]));
    assert_eq!(follow(&steps[..2]), told(&[("a", false, Some(true)), ("b", true, Some(true))]));
}

#[test]
fn hosts_and_ingresses_come_change_and_go() {
    let (s, e) = (service("s"), endpoint("s"));
    let one = |extra: &str, rules: &[(&str, &str)]| ingress("one", extra, rules);
    let two = ingress("two", "", &[("b.example", "s")]);
    let alias = "nginx.ingress.kubernetes.io/server-alias: 'x.example,*.y.example,~^z[.]'";
    let steps = [
        vec![one("", &[("a.example", "s")]), two.clone(), s.clone(), e.clone()],
        vec![one("", &[("a.example", "s"), ("*.w.example", "s")]), two.clone(), s.clone(), e.clone()],
        vec![one(alias, &[("a.example", "s")]), two.clone(), s.clone(), e.clone()],
        vec![one(alias, &[("a.example", "t")]), s.clone(), e.clone()],
        vec![
            one("nginx.ingress.kubernetes.io/from-to-www-redirect: 'true'", &[("a.example", "s")]),
            two.clone(),
            s,
            e,
        ],
        vec![two],
        vec![],
    ];
    assert_eq!(follow(&steps), []);
    assert_eq!(follow(&steps[..6]), told(&[("two", true, None)]));
    assert_eq!(follow(&steps[..4]), told(&[("one", true, None)]));
}
