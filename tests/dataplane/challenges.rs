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
