//! Answers that nginx makes in another location than the request's: error pages, the redirect to a sign-in page, the
//! built-in 404; and what counts before the request's own location does anything.

use crate::support::TestProxy;
use crate::support::backend::Backend;
use crate::support::client::{Answer, Raw};
use crate::support::manifests::{config_map, ingress, service};

/// A backend that answers with the status in `X-Status`.
fn obedient() -> Backend {
    Backend::answering(|request| {
        let status = request.field("x-status").unwrap_or("200").to_owned();
        format!("HTTP/1.1 {status} X\r\nWWW-Authenticate: Own\r\nContent-Length: 0\r\n\r\n").into_bytes()
    })
}

/// An authentication service that admits paths of `/ok` only.
fn gate() -> Backend {
    Backend::answering(|request| {
        let answer = if request.line.contains(" /ok") { "200 OK" } else { "401 Unauthorized" };
        format!("HTTP/1.1 {answer}\r\nWWW-Authenticate: Gate\r\nSet-Cookie: g=1\r\nContent-Length: 0\r\n\r\n")
            .into_bytes()
    })
}

/// Fields that annotations of a location put on its answers.
const MARKS: [(&str, &str); 3] = [
    ("enable-cors", "true"),
    ("configuration-snippet", "more_set_headers \"X-Mark: m\";\nadd_header X-Added a always;"),
    ("custom-headers", "default/marks"),
];

const MARKED: [&str; 4] = ["access-control-allow-origin", "x-mark", "x-added", "x-custom"];

const CUSTOM: &str = "---\napiVersion: v1\nkind: ConfigMap\nmetadata: {name: marks, namespace: default}\ndata: {X-Custom: c}\n";

fn start(ingresses: &str, services: &[(&str, &Backend)]) -> TestProxy {
    let services: String =
        services.iter().map(|(name, backend)| service(name, &[backend.address()])).collect();
    let open = config_map(&[
        ("allow-snippet-annotations", "true"),
        ("annotations-risk-level", "Critical"),
        ("global-allowed-response-headers", "X-Custom"),
    ]);
    TestProxy::start(&(ingresses.to_owned() + &services + CUSTOM + &open), &["--configmap=default/config"])
}

fn ask(proxy: &TestProxy, line: &str, host: &str, fields: &str) -> Answer {
    let head = format!("{line} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n{fields}\r\n");
    Raw::connect(proxy.http()).send(head).answer()
}

fn marks(answer: &Answer) -> Vec<&'static str> {
    MARKED.into_iter().filter(|name| answer.field(name).is_some()).collect()
}

fn rule(host: &'static str) -> [(&'static str, &'static str, &'static str, &'static str); 1] {
    [(host, "/", "Prefix", "b")]
}

#[test]
fn an_error_page_has_nothing_of_the_location_it_stands_in_for() {
    let (backend, pages, gate) = (obedient(), Backend::echo("pages"), gate());
    let url = format!("http://{}/ok", gate.address());
    let more = [
        ("custom-http-errors", "404"),
        ("default-backend", "pages"),
        ("auth-url", &*url),
        ("auth-always-set-cookie", "true"),
    ];
    let proxy = start(
        &ingress("a", &[&MARKS[..], &more[..]].concat(), &rule("h.test")),
        &[("b", &backend), ("pages", &pages)],
    );
    let own = ask(&proxy, "GET /", "h.test", "X-Status: 500\r\n");
    assert_eq!((own.status, marks(&own), own.field("set-cookie")), (500, MARKED.to_vec(), Some("g=1")));
    let page = ask(&proxy, "GET /", "h.test", "X-Status: 404\r\n");
    assert_eq!(page.field("x-backend"), Some("pages"));
    assert_eq!((marks(&page), page.field("set-cookie")), (vec![], None));
}

#[test]
fn what_an_error_backend_says_is_not_rewritten() {
    const SAYS: &str = "Set-Cookie: a=b; Domain=in.test; Path=/in\r\nLocation: http://in.test/x\r\n";
    let answering = |status: &'static str| {
        Backend::answering(move |_| {
            format!("HTTP/1.1 {status}\r\n{SAYS}Content-Length: 0\r\n\r\n").into_bytes()
        })
    };
    let (sound, broken, pages) = (answering("201 Made"), answering("404 Gone"), answering("404 Page"));
    let rewritten = [
        ("proxy-cookie-path", "/in /out"),
        ("proxy-cookie-domain", "in.test out.test"),
        ("proxy-redirect-from", "http://in.test/"),
        ("proxy-redirect-to", "http://out.test/"),
        ("custom-http-errors", "404"),
        ("default-backend", "pages"),
    ];
    let proxy = start(
        &(ingress(
            "a",
            &rewritten,
            &[("h.test", "/", "Prefix", "sound"), ("h.test", "/gone", "Prefix", "broken")],
        )),
        &[("sound", &sound), ("broken", &broken), ("pages", &pages)],
    );
    let own = ask(&proxy, "GET /", "h.test", "");
    let told = (own.field("set-cookie"), own.field("location"));
    assert_eq!(
        (own.status, told),
        (201, (Some("a=b; Domain=out.test; Path=/out"), Some("http://out.test/x")))
    );
    let page = ask(&proxy, "GET /gone", "h.test", "");
    let told = (page.field("set-cookie"), page.field("location"));
    assert_eq!((page.status, told), (404, (Some("a=b; Domain=in.test; Path=/in"), Some("http://in.test/x"))));
    assert_eq!(pages.requests().len(), 1);
}

#[test]
fn the_redirect_to_a_sign_in_page_has_cookies_challenges_and_cross_origin_fields_only() {
    let (backend, gate) = (obedient(), gate());
    let (no, ok) = (format!("http://{}/no", gate.address()), format!("http://{}/ok", gate.address()));
    let with = |url| [("auth-url", url), ("auth-signin", "https://sso.test/")];
    let errors = [("custom-http-errors", "404")];
    let proxy = start(
        &(ingress("shut", &[&MARKS[..], &with(&no)].concat(), &rule("no.test"))
            + &ingress("known", &[&MARKS[..], &with(&ok), &errors].concat(), &rule("ok.test"))),
        &[("b", &backend)],
    );
    for (host, challenge) in [("no.test", "Gate"), ("ok.test", "Own")] {
        let answer = ask(&proxy, "GET /", host, "X-Status: 401\r\n");
        assert_eq!((answer.status, marks(&answer)), (302, vec!["access-control-allow-origin"]), "{host}");
        assert_eq!(answer.field("www-authenticate"), Some(challenge), "{host}");
        assert_eq!(answer.field("set-cookie"), Some("g=1"), "{host}");
    }
}

#[test]
fn fields_of_snippets_stand_on_preflights_too() {
    let backend = obedient();
    let proxy = start(&ingress("a", &MARKS, &rule("h.test")), &[("b", &backend)]);
    let answer = ask(&proxy, "OPTIONS /", "h.test", "Origin: https://o.test\r\n");
    assert_eq!((answer.status, marks(&answer)), (204, MARKED.to_vec()));
    assert!(backend.requests().is_empty());
}

/// nginx looks at the announced length when it has chosen the location, before its rewrite phase.
#[test]
fn a_body_that_is_too_long_is_refused_before_redirects_and_checks() {
    let backend = obedient();
    let small = ("proxy-body-size", "8");
    let cases: [(&'static str, &[(&str, &str)]); 4] = [
        ("to.test", &[small, ("permanent-redirect", "https://other.test/")]),
        ("list.test", &[small, ("denylist-source-range", "127.0.0.0/8")]),
        ("tls.test", &[small, ("force-ssl-redirect", "true")]),
        ("root.test", &[small, ("app-root", "/app")]),
    ];
    let text: String = cases.iter().map(|(host, all)| ingress(&host[..2], all, &rule(host))).collect();
    let proxy = start(&text, &[("b", &backend)]);
    for (host, short, long) in
        [("to.test", 301, 413), ("list.test", 403, 413), ("tls.test", 308, 413), ("root.test", 302, 302)]
    {
        let status = |body: &str| {
            let fields = format!("Content-Length: {}\r\n\r\n{body}", body.len());
            let head = format!("POST / HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n{fields}");
            Raw::connect(proxy.http()).send(head).answer().status
        };
        assert_eq!((status("12345678"), status("123456789")), (short, long), "{host}");
    }
}

/// The built-in 404 is a backend to nginx: guards, cookies and limits of the oldest Ingress of the host hold there, and
/// its pages are those of the process.
#[test]
fn paths_that_no_rule_takes_are_guarded_like_their_host() {
    let (backend, pages, gate) = (obedient(), Backend::echo("pages"), gate());
    let (no, ok) = (format!("http://{}/no", gate.address()), format!("http://{}/ok", gate.address()));
    let cookie = ("auth-always-set-cookie", "true");
    let paged = [("custom-http-errors", "404"), ("default-backend", "pages")];
    let at = |host: &'static str| [(host, "/api", "Prefix", "b")];
    let proxy = start(
        &(ingress("shut", &[("auth-url", &*no)], &at("no.test"))
            + &ingress("known", &[("auth-url", &*ok), cookie], &at("ok.test"))
            + &ingress("paged", &paged, &at("paged.test"))),
        &[("b", &backend), ("pages", &pages)],
    );
    assert_eq!(ask(&proxy, "GET /other", "no.test", "").status, 401);
    let known = ask(&proxy, "GET /other", "ok.test", "");
    assert_eq!((known.status, known.field("set-cookie")), (404, Some("g=1")));
    let unruled = ask(&proxy, "GET /other", "paged.test", "");
    assert_eq!((unruled.status, unruled.field("x-backend")), (404, None));
    assert_eq!(ask(&proxy, "GET /api", "paged.test", "X-Status: 404\r\n").field("x-backend"), Some("pages"));
}
