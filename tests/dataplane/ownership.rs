//! A host that two namespaces share: what the younger one may do to it, and that it may do no more (`security.md`
//! B-13, threat model T1 and T2).

use std::net::SocketAddr;

use crate::support::TestProxy;
use crate::support::backend::Backend;
use crate::support::client::get;
use crate::support::manifests::{config_map, ingress, service, tls_secret, with_tls};
use crate::tls::{ANY_VERSION, config};

const SNIPPETS: &[(&str, &str)] =
    &[("allow-snippet-annotations", "true"), ("annotations-risk-level", "Critical")];

/// An older Ingress `mine` of namespace `default`, and a younger one of namespace `other` for `h.test` `/theirs`.
struct Shared {
    mine: Backend,
    theirs: Backend,
}

fn theirs(manifests: &str) -> String {
    manifests.replace("namespace: default", "namespace: other").replace("2024-01-01", "2025-01-01")
}

impl Shared {
    fn new() -> Self {
        Self { mine: Backend::echo("mine"), theirs: Backend::echo("theirs") }
    }

    fn manifests(&self, mine: &[(&str, &str)], foreign: &[(&str, &str)]) -> String {
        self.with(&ingress("m", mine, &[("h.test", "/", "Prefix", "m")]), foreign, "/theirs")
    }

    fn with(&self, mine: &str, foreign: &[(&str, &str)], path: &str) -> String {
        let foreign = ingress("t", foreign, &[("h.test", path, "Prefix", "t")])
            + &service("t", &[self.theirs.address()]);
        mine.to_owned() + &service("m", &[self.mine.address()]) + &theirs(&foreign)
    }
}

fn start(manifests: &str, data: &[(&str, &str)]) -> TestProxy {
    TestProxy::start(&(manifests.to_owned() + &config_map(data)), &["--configmap=default/config"])
}

fn told(proxy: &TestProxy) -> String {
    get(proxy.admin(), "localhost", "/api/v1/diagnostics").text()
}

/// The backend that answered.
fn who(address: SocketAddr, host: &str, target: &str) -> String {
    get(address, host, target).field("x-backend").unwrap_or_default().to_owned()
}

#[test]
fn a_younger_namespace_can_neither_demand_certificates_nor_shut_the_host() {
    let shared = Shared::new();
    // A Secret that does not exist, and one without authorities.
    for secret in ["other/absent", "other/empty"] {
        let manifests = shared.manifests(&[], &[("auth-tls-secret", secret), ("ssl-redirect", "false")])
            + "---\napiVersion: v1\nkind: Secret\nmetadata: {name: empty, namespace: other}\ntype: Opaque\nstringData: {x: y}\n";
        let proxy = start(&manifests, &[]);
        assert_eq!(get(proxy.http(), "h.test", "/").status, 200, "{secret}");
        assert_eq!(
            get(proxy.http(), "h.test", "/theirs").status,
            503,
            "{secret}: what wanted a guard is shut"
        );
    }
    // A sound one.
    let ca = rcgen::generate_simple_self_signed(["ca".to_owned()]).unwrap();
    let lines: String = ca.cert.pem().lines().map(|line| format!("    {line}\n")).collect();
    let secret = format!(
        "---\napiVersion: v1\nkind: Secret\nmetadata: {{name: ca, namespace: other}}\ntype: Opaque\nstringData:\n  ca.crt: |\n{lines}"
    );
    let manifests =
        shared.manifests(&[], &[("auth-tls-secret", "other/ca"), ("ssl-redirect", "false")]) + &secret;
    let proxy = start(&manifests, &[]);
    assert_eq!(get(proxy.http(), "h.test", "/").status, 200);
    let seen = crate::tls::ask(&config(ANY_VERSION), proxy.https(), "h.test", "h.test").unwrap();
    assert!(seen.text.starts_with("HTTP/1.1 200"), "{}", seen.text);
    assert_eq!(get(proxy.http(), "h.test", "/theirs").status, 503);
    assert!(shared.theirs.requests().is_empty());
    assert!(told(&proxy).contains("auth-tls-secret without effect"), "{}", told(&proxy));
}

#[test]
fn a_younger_namespace_writes_no_directives_for_the_host() {
    let shared = Shared::new();
    for (snippet, status_of_theirs) in [
        ("return 403;", 503),
        ("deny all;", 503),
        ("deny all; unheard_of x;", 503),
        ("location / { return 200 taken; }", 200),
        ("rewrite ^/ /theirs;", 200),
    ] {
        let proxy = start(&shared.manifests(&[], &[("server-snippet", snippet)]), SNIPPETS);
        assert_eq!(who(proxy.http(), "h.test", "/"), "mine", "{snippet}");
        assert_eq!(get(proxy.http(), "h.test", "/theirs").status, status_of_theirs, "{snippet}");
    }
}

#[test]
fn a_refused_snippet_of_the_host_that_protects_shuts_all_of_the_host() {
    let shared = Shared::new();
    for refused in ["deny all; unheard_of x;", "location /x { deny all; unheard_of x; }", "deny all; {"] {
        let mine = ingress("m", &[("server-snippet", refused)], &[("h.test", "/", "Prefix", "m")])
            + &ingress("n", &[], &[("h.test", "/also", "Prefix", "m"), ("n.test", "/", "Prefix", "m")]);
        let proxy = start(&shared.with(&mine, &[], "/theirs"), SNIPPETS);
        for path in ["/", "/also", "/theirs", "/theirs/x"] {
            assert_eq!(get(proxy.http(), "h.test", path).status, 503, "{refused}: {path}");
        }
        assert_eq!(get(proxy.http(), "n.test", "/").status, 200, "{refused}: another host");
    }
    // One that protects nothing shuts nothing.
    let proxy = start(&shared.manifests(&[("server-snippet", "unheard_of x;")], &[]), SNIPPETS);
    assert_eq!(get(proxy.http(), "h.test", "/theirs").status, 200);
}

#[test]
fn a_younger_namespace_gives_the_host_no_names_and_no_redirects() {
    let shared = Shared::new();
    let foreign = [("server-alias", "alias.test"), ("from-to-www-redirect", "true"), ("app-root", "/theirs")];
    let proxy = start(&shared.manifests(&[], &foreign), &[]);
    assert_eq!(get(proxy.http(), "h.test", "/").status, 200);
    assert_eq!(get(proxy.http(), "alias.test", "/").status, 404);
    assert_eq!(get(proxy.http(), "www.h.test", "/").status, 404);
    // Whoever has `/` says where it leads.
    let mine = ingress("m", &[], &[("h.test", "/mine", "Prefix", "m")]);
    let proxy = start(&shared.with(&mine, &[("app-root", "/theirs")], "/"), &[]);
    assert_eq!(get(proxy.http(), "h.test", "/").field("location"), Some("http://h.test/theirs"));
}

#[test]
fn an_alias_belongs_to_the_namespace_that_has_listed_it_longest() {
    let shared = Shared::new();
    let old = ingress("m", &[("server-alias", "alias.test")], &[("z.test", "/", "Prefix", "m")]);
    // Names decide within a namespace only: this host sorts first.
    let young = ingress("t", &[("server-alias", "alias.test")], &[("a.test", "/", "Prefix", "t")])
        + &service("t", &[shared.theirs.address()]);
    let manifests = old + &service("m", &[shared.mine.address()]) + &theirs(&young);
    let proxy = start(&manifests, &[]);
    assert_eq!(who(proxy.http(), "alias.test", "/"), "mine");
}

#[test]
fn a_canary_takes_no_requests_of_another_namespace() {
    let shared = Shared::new();
    let all = [("canary", "true"), ("canary-weight", "100")];
    let mine = ingress("m", &[], &[("h.test", "/", "Prefix", "m")]);
    let proxy = start(&shared.with(&mine, &all, "/"), &[]);
    for _ in 0..20 {
        assert_eq!(who(proxy.http(), "h.test", "/"), "mine");
    }
    assert!(shared.theirs.requests().is_empty());
    assert!(told(&proxy).contains("Service of another namespace"), "{}", told(&proxy));
}

/// A pair whose certificate is for these names.
fn pair(secret: &str, names: &[&str]) -> String {
    let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
    let made = rcgen::generate_simple_self_signed(names).unwrap();
    tls_secret(secret, &made.cert.pem(), &made.signing_key.serialize_pem())
}

fn names_at(proxy: &TestProxy) -> Vec<String> {
    crate::tls::ask(&config(ANY_VERSION), proxy.https(), "h.test", "h.test").unwrap().names
}

#[test]
fn a_certificate_of_a_younger_namespace_takes_nobodys_place() {
    let shared = Shared::new();
    let foreign = |secret: &str| {
        let plain = ingress("t", &[], &[("h.test", "/theirs", "Prefix", "t")]);
        theirs(&(with_tls(&plain, "h.test", secret) + &service("t", &[shared.theirs.address()])))
    };
    let mine = ingress("m", &[], &[("h.test", "/", "Prefix", "m")]);
    let services = service("m", &[shared.mine.address()]);
    let usable = theirs(&pair("pair", &["h.test", "theirs.test"]));

    // The namespace that has the host has a certificate, though of a younger Ingress.
    let own = with_tls(&ingress("y", &[], &[("h.test", "/y", "Prefix", "m")]), "h.test", "own")
        .replace("2024-01-01", "2026-01-01")
        + &pair("own", &["h.test", "mine.test"]);
    let proxy = start(&(mine.clone() + &services + &own + &foreign("pair") + &usable), &[]);
    assert!(names_at(&proxy).contains(&"DNSName(mine.test)".to_owned()), "{:?}", names_at(&proxy));

    // A broken one leaves the host with the default certificate, and its clients are sent to https as they were by
    // ingress-nginx: what asks for TLS is not served in clear text.
    let proxy = start(&(mine.clone() + &services + &foreign("absent")), &[]);
    assert_eq!(get(proxy.http(), "h.test", "/theirs").status, 308);

    // Where the operator's default is made for the host, it stays.
    let default = pair("default", &["*.test", "h.test", "operator.test"]);
    let manifests = mine.clone()
        + &services
        + &foreign("pair")
        + &usable
        + &default
        + &config_map(&[]).replace("data:\n", "");
    let flags = ["--configmap=default/config", "--default-ssl-certificate=default/default"];
    let proxy = TestProxy::start(&manifests, &flags);
    assert!(names_at(&proxy).contains(&"DNSName(operator.test)".to_owned()), "{:?}", names_at(&proxy));
    assert_eq!(
        get(proxy.http(), "h.test", "/").status,
        308,
        "who asks for TLS is not left without, as before"
    );

    // Nobody else has one for the host: as with ingress-nginx, it serves all of it.
    let proxy = start(&(mine + &services + &foreign("pair") + &usable), &[]);
    assert!(names_at(&proxy).contains(&"DNSName(theirs.test)".to_owned()), "{:?}", names_at(&proxy));
    assert_eq!(get(proxy.http(), "h.test", "/").status, 308);
}

#[test]
fn host_ownership_keeps_other_namespaces_out_of_a_host() {
    let shared = Shared::new();
    let manifests = shared.manifests(&[], &[]);
    let proxy = start(&manifests, &[]);
    assert_eq!(who(proxy.http(), "h.test", "/theirs"), "theirs", "open by default");
    for mode in ["first-namespace", "frist-namespace"] {
        let proxy = start(&manifests, &[("host-ownership", mode)]);
        assert_eq!(who(proxy.http(), "h.test", "/theirs"), "mine", "{mode}");
        assert!(told(&proxy).contains("host-ownership lets nobody else in"), "{}", told(&proxy));
    }
    let listed =
        |list: &str| start(&manifests, &[("host-ownership", "allow-list"), ("host-allow-list", list)]);
    assert_eq!(who(listed("default: h.test").http(), "h.test", "/theirs"), "mine");
    assert_eq!(who(listed("default: *\nother: *.test h.test").http(), "h.test", "/theirs"), "theirs");
    // The list gives the host to the younger one alone.
    let proxy = listed("other: h.test");
    assert_eq!(get(proxy.http(), "h.test", "/").status, 404);
    assert_eq!(who(proxy.http(), "h.test", "/theirs"), "theirs");
    // Nor does another name lead there: an alias, a pattern, or the twin with or without www.
    for alias in ["h.test", "x.h.test", "*.h.test", "~^.+\\.h\\.test$", "h.*"] {
        let annotations = [("server-alias", alias), ("ssl-redirect", "false")];
        let manifests = theirs(&ingress("t", &annotations, &[("t.test", "/", "Prefix", "t")]))
            + &theirs(&service("t", &[shared.theirs.address()]));
        let list = [
            ("host-ownership", "allow-list"),
            ("host-allow-list", "default: h.test *.h.test\nother: t.test"),
        ];
        let proxy = start(&manifests, &list);
        assert_eq!(who(proxy.http(), "t.test", "/"), "theirs");
        for host in ["h.test", "x.h.test"] {
            assert_eq!(get(proxy.http(), host, "/").status, 404, "{alias} {host}");
        }
        assert!(told(&proxy).contains("host-allow-list does not give"), "{alias}: {}", told(&proxy));
    }
    let twin = theirs(&ingress("t", &[("from-to-www-redirect", "true")], &[("h.test", "/", "Prefix", "t")]));
    let list = [("host-ownership", "allow-list"), ("host-allow-list", "other: h.test")];
    assert_eq!(get(start(&twin, &list).http(), "www.h.test", "/").status, 404);
    // Without a sound list nobody has any host.
    assert_eq!(get(listed("").http(), "h.test", "/").status, 404);
}

#[test]
fn where_a_host_is_one_namespaces_alone_its_further_names_are_too() {
    let shared = Shared::new();
    let services =
        service("m", &[shared.mine.address()]) + &theirs(&service("t", &[shared.theirs.address()]));
    let exclusive = [("host-ownership", "first-namespace")];
    let claims =
        |annotation: (&str, &str), host: &str| ingress("m", &[annotation], &[(host, "/", "Prefix", "m")]);
    let foreign = |annotations: &[(&str, &str)], host: &str| {
        theirs(&ingress("t", annotations, &[(host, "/", "Prefix", "t")]))
    };
    for (annotation, host, taken) in [
        (("server-alias", "a.test"), "h.test", "a.test"),
        (("server-alias", "*.w.test"), "h.test", "*.w.test"),
        (("from-to-www-redirect", "true"), "h.test", "www.h.test"),
        (("from-to-www-redirect", "true"), "www.h.test", "h.test"),
    ] {
        let asked = taken.replace('*', "x");
        let manifests = claims(annotation, host) + &foreign(&[], taken) + &services;
        // As with ingress-nginx, a host goes before the alias of another one.
        assert_eq!(who(start(&manifests, &[]).http(), &asked, "/"), "theirs", "{taken}");
        let proxy = start(&manifests, &exclusive);
        assert_ne!(who(proxy.http(), &asked, "/"), "theirs", "{taken}");
        let status = get(proxy.http(), &asked, "/").status;
        assert_eq!(status, if annotation.0 == "server-alias" { 200 } else { 308 }, "{taken}");
        assert!(told(&proxy).contains("further name"), "{taken}: {}", told(&proxy));
        // A younger alias or twin takes nothing that is held, either.
        let rival = foreign(&[("server-alias", taken)], "t.test");
        let proxy = start(&(claims(annotation, host) + &rival + &services), &exclusive);
        assert_ne!(who(proxy.http(), &asked, "/"), "theirs", "{taken}");
        assert_eq!(who(proxy.http(), "t.test", "/"), "theirs", "its own host stays");
    }
    // The other way round: a younger claim takes no host, and a twin no older alias.
    let young = claims(("server-alias", "t.test"), "h.test").replace("2024-01-01", "2026-01-01");
    let proxy = start(&(young + &foreign(&[], "t.test") + &services), &exclusive);
    assert_eq!(
        (who(proxy.http(), "t.test", "/"), who(proxy.http(), "h.test", "/")),
        ("theirs".into(), "mine".into())
    );
    let twin = foreign(&[("from-to-www-redirect", "true")], "t.test");
    let proxy = start(&(claims(("server-alias", "www.t.test"), "h.test") + &twin + &services), &exclusive);
    assert_eq!(who(proxy.http(), "www.t.test", "/"), "mine");
    // Who does not hold a host gives it no names: the claim counts for nothing.
    let foreign_alias =
        theirs(&ingress("t", &[("server-alias", "v.test")], &[("h.test", "/t", "Prefix", "t")]));
    let victim = ingress("v", &[], &[("v.test", "/", "Prefix", "m")]).replace("2024-01-01", "2026-01-01");
    let mine = ingress("m", &[], &[("h.test", "/", "Prefix", "m")]);
    let proxy = start(&(mine + &foreign_alias + &victim + &services), &exclusive);
    assert_eq!(who(proxy.http(), "v.test", "/"), "mine");
}
