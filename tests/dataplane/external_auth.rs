//! External authentication over real sockets: what the service is asked, and what its answers lead to.

use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};
use std::sync::mpsc;

use crate::support::TestProxy;
use crate::support::backend::{Backend, Received, read_request, refusing};
use crate::support::client::{Answer, Raw, get};
use crate::support::manifests::{annotated, config_map, ingress, service};

/// A service that answers 200 to `Authorization: good`, else 401, with fields about the client.
fn service_of_ann() -> Backend {
    Backend::answering(|request| {
        match request.field("authorization") {
        Some("good") => b"HTTP/1.1 202 Accepted\r\nX-User: ann\r\nX-User: smith\r\nSet-Cookie: a=1\r\nSet-Cookie: b=2\r\nContent-Length: 4\r\n\r\nbody".to_vec(),
        _ => b"HTTP/1.1 401 Unauthorized\r\nWWW-Authenticate: Bearer realm=\"one\"\r\nWWW-Authenticate: Basic realm=\"two\"\r\nSet-Cookie: c=3\r\nContent-Length: 0\r\n\r\n".to_vec(),
    }
    })
}

fn url(service: &Backend, path: &str) -> String {
    format!("http://{}{path}", service.address())
}

fn ask(proxy: &TestProxy, head: &str) -> Answer {
    let mut raw = Raw::connect(proxy.http());
    raw.send(format!("{head}\r\nHost: h.test\r\nConnection: close\r\n\r\n"));
    raw.answer()
}

fn cookies(answer: &Answer) -> Vec<&str> {
    let lines = answer.fields.iter().filter(|(name, _)| name.eq_ignore_ascii_case("set-cookie"));
    lines.map(|(_, value)| value.as_str()).collect()
}

#[test]
fn the_service_decides_and_its_fields_replace_the_client_s() {
    let (backend, auth) = (Backend::echo("b"), service_of_ann());
    let annotations =
        [("auth-url", &*url(&auth, "/check?u=$request_uri")), ("auth-response-headers", "X-User, X-Mail")];
    let proxy = TestProxy::start(&annotated(backend.address(), &annotations), &[]);
    let spoofed = "X-User: root\r\nx-mail: root@h.test";
    let answer = ask(
        &proxy,
        &format!("POST /a?b=c HTTP/1.1\r\nAuthorization: good\r\n{spoofed}\r\nContent-Length: 0"),
    );
    assert_eq!(answer.status, 200);
    assert_eq!(cookies(&answer), ["a=1", "b=2"]);
    let seen = backend.requests();
    assert_eq!(seen[0].field("x-user"), Some("ann, smith"));
    assert_eq!(seen[0].field("x-mail"), None, "what the service does not say is nobody's");
    assert_eq!(seen[0].field("authorization"), Some("good"), "it is not ours to take away");
    let asked: Vec<Received> = auth.requests();
    assert_eq!(asked[0].line, "GET /check?u=/a?b=c HTTP/1.1");
    let field = |name| asked[0].field(name);
    assert_eq!(field("host"), Some("127.0.0.1"));
    assert_eq!(field("x-original-url"), Some("http://h.test/a?b=c"));
    assert_eq!(field("x-original-method"), Some("POST"));
    assert_eq!(field("x-sent-from"), Some("nginx-ingress-controller"));
    assert_eq!(field("x-auth-request-redirect"), Some("/a?b=c"));
    assert_eq!((field("content-length"), field("transfer-encoding")), (None, None));
    assert_eq!(field("x-request-id"), seen[0].field("x-request-id"));

    let refused = ask(&proxy, "GET / HTTP/1.1");
    assert_eq!((refused.status, cookies(&refused)), (401, vec![]));
    assert!(refused.text().contains("<title>401 Authorization Required</title>"), "{}", refused.text());
    let challenges = refused.fields.iter().filter(|(name, _)| name.eq_ignore_ascii_case("www-authenticate"));
    let challenges: Vec<&str> = challenges.map(|(_, value)| value.as_str()).collect();
    assert_eq!(challenges, ["Bearer realm=\"one\"", "Basic realm=\"two\""]);
    assert_eq!(backend.requests().len(), 1);
}

#[test]
fn a_client_nobody_knows_is_sent_to_the_sign_in_page_with_the_service_s_cookies() {
    let (backend, auth) = (Backend::echo("b"), service_of_ann());
    let annotations = [("auth-url", &*url(&auth, "/")), ("auth-signin", "https://$host/oauth2/start")];
    let proxy = TestProxy::start(&annotated(backend.address(), &annotations), &[]);
    let answer = ask(&proxy, "GET /a?b=c HTTP/1.1");
    let location = "https://h.test/oauth2/start?rd=http://h.test%2Fa%3Fb%3Dc";
    assert_eq!((answer.status, answer.field("location")), (302, Some(location)));
    assert_eq!(cookies(&answer), ["c=3"]);
    assert!(backend.requests().is_empty());
}

#[test]
fn anything_but_2xx_401_and_403_is_a_failure_and_never_admits() {
    let (backend, status) = (Backend::echo("b"), Arc::new(AtomicU16::new(200)));
    let said = Arc::clone(&status);
    let auth = Backend::answering(move |_| {
        let status = said.load(Ordering::Relaxed);
        format!("HTTP/1.1 {status} X\r\nLocation: http://elsewhere/\r\nContent-Length: 0\r\n\r\n")
            .into_bytes()
    });
    let annotations = [("auth-url", &*url(&auth, "/")), ("auth-always-set-cookie", "true")];
    let proxy = TestProxy::start(&annotated(backend.address(), &annotations), &[]);
    for (says, answers) in [
        (200, 200),
        (226, 200),
        (301, 500),
        (304, 500),
        (400, 500),
        (401, 401),
        (403, 403),
        (404, 500),
        (503, 500),
    ] {
        status.store(says, Ordering::Relaxed);
        assert_eq!(get(proxy.http(), "h.test", "/").status, answers, "{says}");
    }
    assert_eq!(backend.requests().len(), 2);
}

#[test]
fn a_service_that_cannot_be_asked_is_a_failure() {
    let backend = Backend::echo("b");
    let silent = Backend::script(|_, _| {});
    for url in [
        format!("http://{}/", refusing()),
        format!("http://{}/", silent.address()),
        format!("https://{}/", backend.address()),
        "http://169.254.169.254/latest/".to_owned(),
        "http://localhost:1/".to_owned(),
    ] {
        let annotations = [("auth-url", &*url), ("proxy-read-timeout", "1"), ("proxy-connect-timeout", "1")];
        let proxy = TestProxy::start(&annotated(backend.address(), &annotations), &[]);
        assert_eq!(get(proxy.http(), "h.test", "/").status, 500, "{url}");
    }
    assert!(backend.requests().iter().all(|request| !request.line.starts_with("GET / ")));
}

#[test]
fn our_own_listeners_are_no_authentication_service() {
    let backend = Backend::echo("b");
    let proxy = TestProxy::start(&annotated(backend.address(), &[]), &[]);
    let own = format!("http://{}/", proxy.http());
    proxy.swap(&annotated(backend.address(), &[("auth-url", &own)]));
    assert_eq!(get(proxy.http(), "h.test", "/").status, 500);
    assert!(backend.requests().is_empty());
}

#[test]
fn an_answer_is_remembered_for_its_key_and_its_route_only() {
    let (backend, auth) = (
        Backend::echo("b"),
        Backend::answering(|request| {
            let status = if request.field("cookie") == Some("sid=good") { "200 OK" } else { "401 No" };
            format!("HTTP/1.1 {status}\r\nContent-Length: 0\r\n\r\n").into_bytes()
        }),
    );
    let url = url(&auth, "/");
    let annotations =
        [("auth-url", &*url), ("auth-cache-key", "$cookie_sid"), ("auth-cache-duration", "200 401 1h")];
    let world = ingress("a", &annotations, &[("h.test", "/", "Prefix", "b"), ("i.test", "/", "Prefix", "b")])
        + &service("b", &[backend.address()]);
    let proxy = TestProxy::start(&world, &["--workers=2"]);
    let status = |host: &str, sid: &str| {
        let mut raw = Raw::connect(proxy.http());
        raw.send(format!("GET / HTTP/1.1\r\nHost: {host}\r\nCookie: sid={sid}\r\nConnection: close\r\n\r\n"));
        raw.answer().status
    };
    for _ in 0..8 {
        assert_eq!((status("h.test", "good"), status("h.test", "bad")), (200, 401));
    }
    assert_eq!(auth.requests().len(), 2, "one question for each key, whichever worker");
    assert_eq!(status("i.test", "good"), 200);
    assert_eq!(auth.requests().len(), 3, "another host is another route");
}

#[test]
fn answers_that_may_not_be_kept_are_not() {
    for line in ["Set-Cookie: a=1", "Cache-Control: no-store", "Vary: *", "X-Accel-Expires: 0"] {
        let backend = Backend::echo("b");
        let auth = Backend::answering(move |_| {
            format!("HTTP/1.1 200 OK\r\n{line}\r\nContent-Length: 0\r\n\r\n").into_bytes()
        });
        let url = url(&auth, "/");
        let annotations = [("auth-url", &*url), ("auth-cache-key", "x")];
        let proxy = TestProxy::start(&annotated(backend.address(), &annotations), &[]);
        for asked in 1..=3 {
            assert_eq!(get(proxy.http(), "h.test", "/").status, 200);
            assert_eq!(auth.requests().len(), asked, "{line}");
        }
    }
}

#[test]
fn requests_with_one_key_wait_for_one_question() {
    let backend = Backend::echo("b");
    let (release, held) = mpsc::channel::<()>();
    let held = std::sync::Mutex::new(held);
    let auth = Backend::script(move |stream, _| {
        let mut reader = std::io::BufReader::new(stream.try_clone().unwrap());
        let mut stream = stream;
        while read_request(&mut reader).is_some() {
            let _ = held.lock().unwrap().recv();
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
        }
    });
    let url = url(&auth, "/");
    let annotations = [("auth-url", &*url), ("auth-cache-key", "x")];
    let proxy = TestProxy::start(&annotated(backend.address(), &annotations), &["--workers=2"]);
    let mut clients: Vec<Raw> = (0..8).map(|_| Raw::connect(proxy.http())).collect();
    for client in &mut clients {
        client.send("GET / HTTP/1.1\r\nHost: h.test\r\nConnection: close\r\n\r\n");
    }
    // One answer is enough for all; a second question would never be answered.
    release.send(()).unwrap();
    for client in &mut clients {
        assert_eq!(client.answer().status, 200);
    }
    assert_eq!(auth.connections(), 1);
}

#[test]
fn connections_to_the_service_are_kept() {
    let (backend, auth) = (Backend::echo("b"), service_of_ann());
    let url = url(&auth, "/");
    let proxy = TestProxy::start(&annotated(backend.address(), &[("auth-url", &url)]), &["--workers=1"]);
    for _ in 0..20 {
        assert_eq!(ask(&proxy, "GET / HTTP/1.1\r\nAuthorization: good").status, 200);
    }
    assert_eq!(auth.requests().len(), 20);
    // A publication may close idle ones, and the next request may come before an answer is read to its end.
    assert!(auth.connections() < 20, "{}", auth.connections());
}

#[test]
fn connections_to_the_service_are_kept_as_long_as_its_own_limits_say() {
    for (requests, connections) in [("2", 10..20), ("0", 20..21)] {
        let (backend, auth) = (Backend::echo("b"), service_of_ann());
        let url = url(&auth, "/");
        let annotations =
            [("auth-url", &*url), ("auth-keepalive", "5"), ("auth-keepalive-requests", requests)];
        let proxy = TestProxy::start(&annotated(backend.address(), &annotations), &["--workers=1"]);
        for _ in 0..20 {
            assert_eq!(ask(&proxy, "GET / HTTP/1.1\r\nAuthorization: good").status, 200);
        }
        assert_eq!(auth.requests().len(), 20);
        assert!(connections.contains(&auth.connections()), "{requests}: {}", auth.connections());
    }
}

#[test]
fn the_service_of_the_config_map_guards_all_but_those_that_opt_out() {
    let (backend, auth) = (Backend::echo("b"), service_of_ann());
    let world = ingress("a", &[], &[("h.test", "/", "Prefix", "b"), ("h.test", "/free", "Prefix", "b")])
        + &ingress("o", &[("enable-global-auth", "false")], &[("open.test", "/", "Prefix", "b")])
        + &service("b", &[backend.address()]);
    let config = |url: &str| {
        config_map(&[
            ("disable-access-log", "true"),
            ("global-auth-url", url),
            ("global-auth-response-headers", "X-User"),
            ("no-auth-locations", "/free"),
        ])
    };
    let flags = ["--configmap=default/config"];
    let proxy = TestProxy::start(&(world.clone() + &config(&url(&auth, "/"))), &flags);
    let status = |host, target| get(proxy.http(), host, target).status;
    assert_eq!((status("h.test", "/"), status("h.test", "/free"), status("open.test", "/")), (401, 200, 200));
    assert_eq!(ask(&proxy, "GET / HTTP/1.1\r\nAuthorization: good").status, 200);
    assert_eq!(
        backend.requests().last().and_then(|seen| seen.field("x-user").map(str::to_owned)),
        Some("ann, smith".into())
    );
    // Broken: shut, never open.
    proxy.swap(&(world + &config("auth.test")));
    assert_eq!((status("h.test", "/"), status("open.test", "/")), (503, 200));
}

#[test]
fn a_faulty_detail_shuts_the_routes() {
    let (backend, auth) = (Backend::echo("b"), Backend::echo("auth"));
    let url = url(&auth, "/");
    for detail in [
        ("auth-cache-duration", "é"),
        ("auth-request-redirect", "a b"),
        ("auth-always-set-cookie", "perhaps"),
        ("auth-method", "TRACE"),
        ("auth-proxy-set-headers", "default/absent"),
    ] {
        let proxy = TestProxy::start(&annotated(backend.address(), &[("auth-url", &url), detail]), &[]);
        assert_eq!(get(proxy.http(), "h.test", "/").status, 503, "{detail:?}");
    }
    assert!(backend.requests().is_empty() && auth.requests().is_empty());
}

/// CVE-2026-24513: an error backend that answers 200 makes no refusal a success.
#[test]
fn a_refusal_stays_one_whatever_the_error_backend_says() {
    let (backend, auth, errors) = (Backend::echo("b"), service_of_ann(), Backend::echo("errors"));
    let url = url(&auth, "/");
    let annotations = [("auth-url", &*url), ("custom-http-errors", "401,403"), ("default-backend", "errors")];
    let world = annotated(backend.address(), &annotations) + &service("errors", &[errors.address()]);
    let proxy = TestProxy::start(&world, &[]);
    let answer = get(proxy.http(), "h.test", "/");
    assert_eq!((answer.status, answer.field("x-backend")), (401, Some("errors")));
    assert!(backend.requests().is_empty());
    assert_eq!(errors.requests()[0].field("x-code"), Some("401"));
}

/// nginx inherits `error_page` only where a location has none, and the sign-in page is one.
#[test]
fn error_pages_of_the_config_map_do_not_count_beside_a_sign_in_page() {
    let auth = service_of_ann();
    let backend = Backend::answering(|request| {
        let status = if request.line.contains("/401") { "401 Unauthorized" } else { "404 Not Found" };
        format!("HTTP/1.1 {status}\r\nX-Backend: own\r\nContent-Length: 0\r\n\r\n").into_bytes()
    });
    let (errors, mine) = (Backend::echo("errors"), Backend::echo("mine"));
    let url = url(&auth, "/");
    let signin = [("auth-url", &*url), ("auth-signin", "https://sso.test/start")];
    let own = [&signin[..], &[("custom-http-errors", "404"), ("default-backend", "errors")]].concat();
    let rule = |host: &'static str| [(host, "/", "Prefix", "b")];
    let world = ingress("a", &signin, &rule("h.test"))
        + &ingress("own", &own, &rule("own.test"))
        + &ingress("plain", &[], &rule("plain.test"))
        + &ingress("mine", &[("default-backend", "mine")], &rule("mine.test"))
        + &service("b", &[backend.address()])
        + &service("errors", &[errors.address()])
        + &service("mine", &[mine.address()])
        + &config_map(&[("custom-http-errors", "401,404")]);
    let flags = ["--configmap=default/config", "--default-backend-service=default/errors"];
    let proxy = TestProxy::start(&world, &flags);
    let check = |host: &str, target: &str, status: u16, by: Option<&str>| {
        let head = format!(
            "GET {target} HTTP/1.1\r\nAuthorization: good\r\nHost: {host}\r\nConnection: close\r\n\r\n"
        );
        let answer = Raw::connect(proxy.http()).send(head).answer();
        assert_eq!((answer.status, answer.field("x-backend")), (status, by), "{host}{target}");
    };
    check("plain.test", "/404", 200, Some("errors"));
    // A default backend gives pages for errors that its own Ingress lists.
    check("mine.test", "/404", 200, Some("errors"));
    check("h.test", "/404", 404, Some("own"));
    // Statuses of backends are looked at all the same, so that a 401 of one leads to the sign-in page.
    check("h.test", "/401", 302, None);
    check("own.test", "/404", 200, Some("errors"));
    check("own.test", "/401", 302, None);
}

#[test]
fn one_check_that_admits_is_enough_with_satisfy_any() {
    let (backend, auth) = (Backend::echo("b"), service_of_ann());
    let url = url(&auth, "/");
    let annotations = |list: &'static str| {
        [
            ("auth-url", url.clone()),
            ("satisfy", "any".to_owned()),
            ("allowlist-source-range", list.to_owned()),
            ("auth-response-headers", "X-User".to_owned()),
        ]
    };
    let world = |list: &'static str| {
        let annotations = annotations(list);
        let annotations: Vec<(&str, &str)> =
            annotations.iter().map(|(name, value)| (*name, &**value)).collect();
        annotated(backend.address(), &annotations)
    };
    let proxy = TestProxy::start(&world("127.0.0.0/8"), &[]);
    assert_eq!(ask(&proxy, "GET / HTTP/1.1\r\nX-User: root").status, 200);
    assert!(auth.requests().is_empty(), "the address is enough");
    assert_eq!(backend.requests()[0].field("x-user"), None, "and makes nobody a user");
    proxy.swap(&world("10.0.0.0/8"));
    assert_eq!(ask(&proxy, "GET / HTTP/1.1").status, 401);
    assert_eq!(ask(&proxy, "GET / HTTP/1.1\r\nAuthorization: good").status, 200);
}

#[test]
fn one_check_is_enough_with_satisfy_any_where_no_rule_takes_the_path() {
    let (backend, auth) = (Backend::echo("b"), service_of_ann());
    let url = url(&auth, "/");
    let annotations = [("auth-url", &*url), ("satisfy", "any"), ("allowlist-source-range", "10.0.0.0/8")];
    let world = ingress("a", &annotations, &[("h.test", "/x", "Prefix", "b")])
        + &ingress("list", &annotations[1..], &[("list.test", "/x", "Prefix", "b")])
        + &service("b", &[backend.address()]);
    let proxy = TestProxy::start(&world, &[]);
    let check = |host: &str, target: &str, fields: &str, status: u16| {
        let head = format!("GET {target} HTTP/1.1\r\nHost: {host}\r\n{fields}Connection: close\r\n\r\n");
        assert_eq!(Raw::connect(proxy.http()).send(head).answer().status, status, "{host}{target} {fields}");
    };
    for (target, found) in [("/x", 200), ("/else", 404)] {
        check("h.test", target, "", 401);
        check("h.test", target, "Authorization: good\r\n", found);
        check("list.test", target, "", 403);
    }
}

#[test]
fn a_service_with_a_route_is_found_by_its_cluster_name() {
    let (backend, auth) = (Backend::echo("b"), service_of_ann());
    let own =
        ingress("auth", &[], &[("auth.test", "/", "Prefix", "auth")]) + &service("auth", &[auth.address()]);
    for name in ["auth.default.svc", "auth.default.svc.cluster.local"] {
        let url = format!("http://{name}:80/check");
        let proxy = TestProxy::start(&(annotated(backend.address(), &[("auth-url", &url)]) + &own), &[]);
        assert_eq!(ask(&proxy, "GET / HTTP/1.1\r\nAuthorization: good").status, 200, "{name}");
        assert_eq!(
            auth.requests().last().and_then(|asked| asked.field("host").map(str::to_owned)),
            Some(name.into())
        );
    }
}
