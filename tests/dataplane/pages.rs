//! `error_page` of snippets over real sockets: a page has the guards, fields and limits of its own location, as in nginx,
//! where it is one more way of the same request.

use crate::support::TestProxy;
use crate::support::backend::Backend;
use crate::support::client::{Answer, Raw};
use crate::support::manifests::{config_map, ingress, service};

/// Name, annotations and path of an Ingress.
type Guarded<'a> = (&'a str, &'a [(&'a str, &'a str)], &'a str);

/// Ingresses of `h.test` before `backend`.
fn start(ingresses: &[Guarded<'_>], backend: &Backend) -> TestProxy {
    let mut manifests = service("b", &[backend.address()]);
    for (name, annotations, path) in ingresses {
        manifests += &ingress(name, annotations, &[("h.test", path, "Prefix", "b")]);
    }
    let open = [("allow-snippet-annotations", "true"), ("annotations-risk-level", "Critical")];
    TestProxy::start(&(manifests + &config_map(&open)), &["--configmap=default/config"])
}

fn ask(proxy: &TestProxy, target: &str, fields: &str) -> Answer {
    let mut raw = Raw::connect(proxy.http());
    raw.send(format!("GET {target} HTTP/1.1\r\nHost: h.test\r\n{fields}Connection: close\r\n\r\n"));
    raw.answer()
}

/// Answers 404 below `/deep`, else with what was asked for.
fn application() -> Backend {
    Backend::answering(|request| {
        let status = if request.line.contains("/deep") { "404 Gone" } else { "200 OK" };
        let line = &request.line;
        format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\n\r\n{line}", line.len()).into_bytes()
    })
}

#[test]
fn what_the_checks_of_a_page_grant_is_what_its_backend_sees() {
    let backend = application();
    let auth =
        Backend::answering(|_| b"HTTP/1.1 200 OK\r\nX-User: bob\r\nContent-Length: 0\r\n\r\n".to_vec());
    let url = format!("http://{}/", auth.address());
    let proxy = start(
        &[
            (
                "closed",
                &[("configuration-snippet", "deny all;"), ("server-snippet", "error_page 403 /app/denied;")],
                "/closed",
            ),
            ("app", &[("auth-url", &url), ("auth-response-headers", "X-User")], "/app"),
        ],
        &backend,
    );
    assert_eq!(ask(&proxy, "/app/x", "X-User: admin\r\n").status, 200);
    let refused = ask(&proxy, "/closed", "X-User: admin\r\n");
    assert_eq!((refused.status, refused.text().as_str()), (403, "GET /app/denied HTTP/1.1"));
    let users: Vec<_> =
        backend.requests().iter().map(|seen| seen.field("x-user").map(str::to_owned)).collect();
    assert_eq!(
        users,
        [Some("bob".to_owned()), Some("bob".to_owned())],
        "nobody names himself by being refused"
    );
}

#[test]
fn a_page_has_the_fields_of_its_own_location() {
    let backend = application();
    let spa = "proxy_intercept_errors on; error_page 404 =200 /index.html; error_page 418 @tea; \
        more_set_headers 'X-Frame-Options: DENY'; add_header X-Policy p; if ($arg_tea) { return 418; }";
    let server = "location @tea { add_header Retry-After 300 always; return 503 tea; }";
    let annotations = [("configuration-snippet", spa), ("server-snippet", server), ("enable-cors", "true")];
    let proxy = start(&[("spa", &annotations, "/")], &backend);
    for target in ["/", "/deep/link"] {
        let answer = ask(&proxy, target, "Origin: https://o.test\r\n");
        assert_eq!(answer.status, 200, "{target}");
        assert_eq!(answer.field("x-frame-options"), Some("DENY"), "{target}");
        assert_eq!(answer.field("x-policy"), Some("p"), "{target}");
        assert_eq!(answer.field("access-control-allow-origin"), Some("*"), "{target}");
    }
    let tea = ask(&proxy, "/?tea=1", "");
    assert_eq!((tea.status, tea.field("retry-after"), tea.field("x-policy")), (503, Some("300"), None));
}

#[test]
fn a_request_that_leads_to_a_page_counts_once() {
    let backend = application();
    let spa = "proxy_intercept_errors on; error_page 404 =200 /index.html;";
    let annotations = [("configuration-snippet", spa), ("limit-connections", "1")];
    let proxy = start(&[("spa", &annotations, "/")], &backend);
    // On one connection: a request ends before the next one is read.
    let mut raw = Raw::connect(proxy.http());
    for _ in 0..3 {
        raw.send("GET /deep/link HTTP/1.1\r\nHost: h.test\r\n\r\n");
        let answer = raw.answer();
        assert_eq!((answer.status, answer.text().as_str()), (200, "GET /index.html HTTP/1.1"));
    }
}

#[test]
fn pages_of_a_server_stand_in_for_its_own_errors() {
    let backend = application();
    let server = "error_page 503 @maintenance; if ($arg_m) { return 503; } \
        location @maintenance { return 503 'back soon'; } \
        location = /gone { return 404; } error_page 404 /page; location = /said { return 404 said; }";
    let proxy = start(&[("a", &[("server-snippet", server)], "/")], &backend);
    let seen = |target: &str| {
        let answer = ask(&proxy, target, "");
        (answer.status, answer.text())
    };
    assert_eq!(seen("/x?m=1"), (503, "back soon".to_owned()));
    assert_eq!(seen("/gone"), (404, "GET /page HTTP/1.1".to_owned()));
    assert_eq!(seen("/said"), (404, "said".to_owned()), "a text is an answer and no error");
    assert_eq!(seen("/x").0, 200);
}
