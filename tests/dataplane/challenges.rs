//! Paths of ACME challenges over real sockets: answered whatever guards the Ingress that holds them.

use crate::support::TestProxy;
use crate::support::backend::Backend;
use crate::support::client::get;
use crate::support::manifests::{ingress, service};

const CHALLENGE: &str = "/.well-known/acme-challenge/token";

/// As cert-manager's edit-in-place leaves it: the challenge stands in the user's own Ingress.
#[test]
fn a_challenge_in_a_guarded_ingress_is_answered_as_it_came_though_the_guard_is_faulty() {
    let backend = Backend::echo("b");
    let service = service("b", &[backend.address()]);
    let rules = [("h.test", CHALLENGE, "Exact", "b"), ("h.test", "/", "Prefix", "b")];
    let guards: [&[(&str, &str)]; 6] = [
        &[("auth-type", "basic"), ("auth-secret", "none")],
        &[("allowlist-source-range", "198.51.100.0/24")],
        &[("allowlist-source-range", "nonsense")],
        &[("force-ssl-redirect", "true")],
        &[("permanent-redirect", "https://elsewhere.test/")],
        &[("auth-url", "nonsense")],
    ];
    for guard in guards {
        let proxy = TestProxy::start(&(ingress("a", guard, &rules) + &service), &[]);
        assert_eq!(get(proxy.http(), "h.test", CHALLENGE).status, 200, "{guard:?}");
        assert_ne!(get(proxy.http(), "h.test", "/").status, 200, "the rest stays guarded: {guard:?}");
    }
    let rewritten = ingress("a", &[("rewrite-target", "/x")], &rules) + &service;
    let proxy = TestProxy::start(&rewritten, &[]);
    let before = backend.requests().len();
    assert_eq!(get(proxy.http(), "h.test", CHALLENGE).status, 200);
    assert_eq!(backend.requests()[before].line, format!("GET {CHALLENGE} HTTP/1.1"));
}

/// The solver compares the Host; authorities ask from several places at once.
#[test]
fn neither_another_host_nor_a_limit_nor_a_mirror_of_its_ingress_counts_for_a_challenge() {
    let backend = Backend::echo("b");
    let service = service("b", &[backend.address()]);
    let rules = [("h.test", CHALLENGE, "Exact", "b"), ("h.test", "/", "Prefix", "b")];
    let annotations = [
        ("upstream-vhost", "elsewhere.test"),
        ("limit-rpm", "1"),
        ("limit-burst-multiplier", "1"),
        ("limit-connections", "1"),
    ];
    let proxy = TestProxy::start(&(ingress("a", &annotations, &rules) + &service), &[]);
    for _ in 0..5 {
        assert_eq!(get(proxy.http(), "h.test", CHALLENGE).status, 200);
    }
    let statuses: Vec<u16> = (0..5).map(|_| get(proxy.http(), "h.test", "/").status).collect();
    assert!(statuses.contains(&503), "the rest is limited: {statuses:?}");
    for request in backend.requests() {
        let expect = if request.line.contains(CHALLENGE) { "h.test" } else { "elsewhere.test" };
        assert_eq!(request.field("host"), Some(expect), "{}", request.line);
    }
}
