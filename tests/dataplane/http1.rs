//! HTTP/1 towards clients and backends.

use crate::support::TestProxy;
use crate::support::backend::Backend;
use crate::support::client::{Raw, get};
use crate::support::manifests::{annotated, config_map, simple};

#[test]
fn a_request_reaches_the_backend_with_the_fields_of_ingress_nginx() {
    let backend = Backend::echo("b");
    let proxy = TestProxy::start(&simple(backend.address()), &[]);
    let mut raw = Raw::connect(proxy.http());
    raw.send("GET /a/../b%20c?q=%2F HTTP/1.1\r\nHost: H.test:8080\r\nX-MiXed: One\r\nX-MiXed: two\r\nx_under: no\r\nKeep-Alive: x\r\nProxy: evil\r\nX-Forwarded-For: 9.9.9.9\r\n\r\n");
    let answer = raw.answer();
    assert_eq!(answer.status, 200);
    assert_eq!(answer.text(), "GET /a/../b%20c?q=%2F HTTP/1.1", "the raw target goes up");
    let seen = backend.requests().remove(0);
    let names: Vec<&str> = seen.fields.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(seen.field("host"), Some("H.test:8080"));
    assert_eq!(
        seen.fields.iter().filter(|(name, _)| name == "X-MiXed").count(),
        2,
        "case and lines kept: {names:?}"
    );
    for gone in ["x_under", "keep-alive", "proxy", "connection", "te", "upgrade"] {
        assert_eq!(seen.field(gone), None, "{gone} must not go up");
    }
    assert_eq!(seen.field("x-forwarded-for"), Some("127.0.0.1"));
    assert_eq!(seen.field("x-original-forwarded-for"), Some("9.9.9.9"));
    assert_eq!(seen.field("x-real-ip"), Some("127.0.0.1"));
    assert_eq!(seen.field("x-forwarded-proto"), Some("http"));
    assert_eq!(seen.field("x-forwarded-scheme"), Some("http"));
    assert_eq!(seen.field("x-scheme"), Some("http"));
    assert_eq!(seen.field("x-forwarded-host"), Some("H.test:8080"));
    assert_eq!(seen.field("x-request-id").map(str::len), Some(32));
}

#[test]
fn one_connection_carries_many_requests_and_so_does_the_backend_s() {
    let backend = Backend::echo("b");
    let proxy = TestProxy::start(&simple(backend.address()), &["--workers=1"]);
    let mut raw = Raw::connect(proxy.http());
    for number in 0..50 {
        raw.send(format!("GET /{number} HTTP/1.1\r\nHost: h.test\r\n\r\n"));
        let answer = raw.answer();
        assert_eq!((answer.status, answer.text()), (200, format!("GET /{number} HTTP/1.1")));
    }
    assert_eq!(backend.connections(), 1, "the pool gives the connection back");
}

#[test]
fn pipelined_requests_are_answered_in_order() {
    let backend = Backend::echo("b");
    let proxy = TestProxy::start(&simple(backend.address()), &[]);
    let mut raw = Raw::connect(proxy.http());
    let burst: String = (0..20)
        .map(|n| format!("POST /{n} HTTP/1.1\r\nHost: h.test\r\nContent-Length: 2\r\n\r\n{n:02}"))
        .collect();
    raw.send(burst);
    for number in 0..20 {
        assert_eq!(raw.answer().text(), format!("{number:02}"));
    }
}

#[test]
fn head_204_and_304_have_no_body_and_keep_the_connection() {
    let backend = Backend::answering(|request| match request.line.split(' ').nth(1) {
        Some("/204") => b"HTTP/1.1 204 No Content\r\n\r\n".to_vec(),
        Some("/304") => b"HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\nETag: \"x\"\r\n\r\n".to_vec(),
        Some("/head") => b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n".to_vec(),
        _ => b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok".to_vec(),
    });
    let proxy = TestProxy::start(&simple(backend.address()), &["--workers=1"]);
    let mut raw = Raw::connect(proxy.http());
    raw.send("HEAD /head HTTP/1.1\r\nHost: h.test\r\n\r\n");
    let head = raw.answer_to("HEAD").unwrap();
    assert_eq!((head.status, head.field("content-length")), (200, Some("5")));
    raw.send("GET /204 HTTP/1.1\r\nHost: h.test\r\n\r\n");
    let empty = raw.answer();
    assert_eq!((empty.status, empty.field("transfer-encoding")), (204, None));
    raw.send("GET /304 HTTP/1.1\r\nHost: h.test\r\n\r\n");
    assert_eq!(raw.answer().status, 304);
    raw.send("GET / HTTP/1.1\r\nHost: h.test\r\n\r\n");
    assert_eq!(raw.answer().text(), "ok");
}

#[test]
fn expect_100_continue_is_answered_once_and_not_forwarded() {
    let backend = Backend::echo("b");
    let proxy = TestProxy::start(&simple(backend.address()), &[]);
    let mut raw = Raw::connect(proxy.http());
    raw.send("POST / HTTP/1.1\r\nHost: h.test\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n");
    assert_eq!(raw.exactly(25), b"HTTP/1.1 100 Continue\r\n\r\n");
    raw.send("hello");
    assert_eq!(raw.answer().text(), "hello");
    assert_eq!(backend.requests()[0].field("expect"), None);
}

#[test]
fn a_refused_body_is_not_asked_for() {
    let backend = Backend::echo("b");
    let proxy = TestProxy::start(&annotated(backend.address(), &[("proxy-body-size", "4")]), &[]);
    let mut raw = Raw::connect(proxy.http());
    raw.send("POST / HTTP/1.1\r\nHost: h.test\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n");
    let bytes = String::from_utf8(raw.rest()).unwrap();
    assert!(bytes.starts_with("HTTP/1.1 413 "), "{bytes}");
    assert!(backend.requests().is_empty());
}

#[test]
fn http_1_0_gets_no_chunks_and_the_connection_closes() {
    let backend = Backend::answering(|_| {
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n".to_vec()
    });
    let proxy = TestProxy::start(&simple(backend.address()), &[]);
    let mut raw = Raw::connect(proxy.http());
    raw.send("GET / HTTP/1.0\r\nHost: h.test\r\n\r\n");
    let answer = raw.answer();
    assert_eq!((answer.status, answer.text().as_str()), (200, "ok"));
    assert_eq!(answer.field("transfer-encoding"), None);
    assert!(raw.is_closed());
}

#[test]
fn response_trailers_go_to_clients_that_ask_for_them() {
    let backend = Backend::answering(|_| {
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum\r\n\r\n2\r\nok\r\n0\r\nX-Sum: 7\r\nDIGEST: b\r\nContent-Length: 9\r\nx-Sum: 8\r\n\r\n".to_vec()
    });
    let proxy = TestProxy::start(&simple(backend.address()), &[]);
    let mut raw = Raw::connect(proxy.http());
    raw.send("GET / HTTP/1.1\r\nHost: h.test\r\nTE: trailers\r\nConnection: te\r\n\r\n");
    let with = raw.answer();
    let lines: Vec<_> = with.trailers.iter().map(|(name, value)| format!("{name}: {value}")).collect();
    assert_eq!(lines, ["X-Sum: 7", "DIGEST: b", "x-Sum: 8"], "as they were written");
    raw.send("GET / HTTP/1.1\r\nHost: h.test\r\n\r\n");
    let without = raw.answer();
    assert_eq!((without.text().as_str(), without.trailers.len()), ("ok", 0));
}

#[test]
fn absolute_form_names_the_host_and_goes_up_as_a_path() {
    let backend = Backend::echo("b");
    let proxy = TestProxy::start(&simple(backend.address()), &[]);
    let mut raw = Raw::connect(proxy.http());
    raw.send("GET http://h.test/p?q HTTP/1.1\r\nHost: other.test\r\n\r\n");
    assert_eq!(raw.answer().text(), "GET /p?q HTTP/1.1");
    assert_eq!(backend.requests()[0].field("host"), Some("h.test"));
}

#[test]
fn broken_requests_are_answered_once_and_reach_nobody() {
    let backend = Backend::echo("b");
    let proxy = TestProxy::start(&simple(backend.address()), &[]);
    for (bytes, status) in [
        ("GET / HTTP/1.1\r\n\r\n", "400"),
        ("GET / HTTP/1.1\r\nHost: h.test\r\nHost: h.test\r\n\r\n", "400"),
        (
            "POST / HTTP/1.1\r\nHost: h.test\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
            "400",
        ),
        ("POST / HTTP/1.1\r\nHost: h.test\r\nContent-Length: +1\r\n\r\nx", "400"),
        ("GET /a\\b HTTP/1.1\r\nHost: h.test\r\n\r\n", "400"),
        ("GET /#f HTTP/1.1\r\nHost: h.test\r\n\r\n", "400"),
        ("GET /%zz HTTP/1.1\r\nHost: h.test\r\n\r\n", "400"),
        ("GET /../x HTTP/1.1\r\nHost: h.test\r\n\r\n", "400"),
        ("TRACE / HTTP/1.1\r\nHost: h.test\r\n\r\n", "405"),
        ("get / HTTP/1.1\r\nHost: h.test\r\n\r\n", "400"),
        ("GET / HTTP/1.1\r\nHost: h.test\r\nX: a\r\n b\r\n\r\n", "400"),
        ("GET / HTTP/3.0\r\nHost: h.test\r\n\r\n", "505"),
    ] {
        let mut raw = Raw::connect(proxy.http());
        raw.send(bytes);
        let text = String::from_utf8_lossy(&raw.rest()).into_owned();
        assert!(text.starts_with(&format!("HTTP/1.1 {status} ")), "{bytes:?} gave {text:?}");
        assert_eq!(text.matches("HTTP/1.1 ").count(), 1, "{bytes:?} gave {text:?}");
    }
    assert!(backend.requests().is_empty(), "{:?}", backend.requests());
}

#[test]
fn a_chunk_error_after_the_head_is_a_400_and_the_backend_never_sees_an_end() {
    let backend = Backend::echo("b");
    let proxy = TestProxy::start(&simple(backend.address()), &[]);
    let mut raw = Raw::connect(proxy.http());
    raw.send("POST / HTTP/1.1\r\nHost: h.test\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\nzz\r\n");
    assert_eq!(raw.answer().status, 400);
    assert!(raw.is_closed());
    assert!(backend.requests().is_empty());
}

#[test]
fn a_client_that_half_closes_still_gets_its_answer() {
    let backend = Backend::echo("b");
    let proxy = TestProxy::start(&simple(backend.address()), &[]);
    let mut raw = Raw::connect(proxy.http());
    raw.send("GET /half HTTP/1.1\r\nHost: h.test\r\n\r\n");
    raw.stream.shutdown(std::net::Shutdown::Write).unwrap();
    assert_eq!(raw.answer().text(), "GET /half HTTP/1.1");
}

#[test]
fn a_client_that_is_gone_does_not_hold_a_backend() {
    let (release, held) = std::sync::mpsc::channel::<()>();
    let held = std::sync::Mutex::new(held);
    let backend = Backend::answering(move |request| {
        if request.line.contains("/slow") {
            let _ = held.lock().unwrap().recv();
        }
        b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n".to_vec()
    });
    let proxy = TestProxy::start(&simple(backend.address()), &[]);
    let mut raw = Raw::connect(proxy.http());
    raw.send("GET /slow HTTP/1.1\r\nHost: h.test\r\n\r\n");
    let active = || {
        let text = get(proxy.admin(), "localhost", "/metrics").text();
        text.lines()
            .find(|line| line.starts_with("narthex_active_requests "))
            .is_some_and(|line| line.ends_with(" 1"))
    };
    crate::support::eventually("it is under way", active);
    drop(raw);
    // The backend has not answered yet, so only the client's end can end it.
    crate::support::eventually("it is over", || !active());
    release.send(()).unwrap();
}

#[test]
fn unknown_hosts_get_the_stock_404_and_catch_all_health_answers() {
    let backend = Backend::echo("b");
    let proxy = TestProxy::start(&simple(backend.address()), &[]);
    let answer = get(proxy.http(), "unknown.test", "/");
    assert_eq!((answer.status, answer.body.len(), answer.field("server")), (404, 146, None));
    assert_eq!(get(proxy.http(), "unknown.test", "/healthz").status, 200);
    assert_eq!(get(proxy.http(), "h.test", "/healthz").text(), "GET /healthz HTTP/1.1");
}

#[test]
fn hop_by_hop_fields_of_a_backend_stay_behind_and_its_cookies_stay_apart() {
    let backend = Backend::answering(|_| {
        b"HTTP/1.1 200 OK\r\nServer: secret/1\r\nConnection: X-Hop\r\nX-Hop: 1\r\nKeep-Alive: timeout=5\r\nSet-Cookie: a=1\r\nSet-Cookie: b=2\r\nX-CaSe: kept\r\nContent-Length: 0\r\n\r\n".to_vec()
    });
    let proxy = TestProxy::start(&simple(backend.address()), &[]);
    let answer = get(proxy.http(), "h.test", "/");
    for gone in ["server", "x-hop", "keep-alive"] {
        assert_eq!(answer.field(gone), None, "{gone}");
    }
    assert_eq!(answer.fields.iter().filter(|(name, _)| name.eq_ignore_ascii_case("set-cookie")).count(), 2);
    assert!(answer.fields.iter().any(|(name, _)| name == "X-CaSe"), "{:?}", answer.fields);
    assert!(answer.field("date").is_some());
}

#[test]
fn the_reason_phrase_of_a_backend_goes_to_the_client_as_it_is() {
    let backend = Backend::answering(|received| {
        let status = received.line.split(['/', ' ']).nth(2).unwrap_or_default().replace('_', " ");
        format!("HTTP/1.1 {status}\r\nContent-Length: 0\r\n\r\n").into_bytes()
    });
    let proxy = TestProxy::start(&simple(backend.address()), &[]);
    for status in [
        "200_OK",
        "302_Found",
        "302_Moved_Temporarily",
        "404_Nope",
        "408_Request_Timeout",
        "413_Payload_Too_Large",
        "503_Service_Unavailable",
        "504_Gateway_Timeout",
    ] {
        let mut raw = Raw::connect(proxy.http());
        raw.send(format!("GET /{status} HTTP/1.1\r\nHost: h.test\r\nConnection: close\r\n\r\n"));
        let text = String::from_utf8(raw.rest()).unwrap();
        let line = format!("HTTP/1.1 {}", status.replace('_', " "));
        assert_eq!(text.lines().next(), Some(line.as_str()));
    }
}

#[test]
fn without_a_pool_a_backend_is_told_that_the_connection_ends() {
    let backend = Backend::echo("b");
    for (kept, told) in [("0", Some("close")), ("320", None)] {
        let config = config_map(&[("upstream-keepalive-connections", kept), ("disable-access-log", "true")]);
        let proxy = TestProxy::start(&(simple(backend.address()) + &config), &["--configmap=default/config"]);
        assert_eq!(get(proxy.http(), "h.test", "/").status, 200);
        assert_eq!(backend.requests().last().unwrap().field("connection"), told, "{kept}");
    }
}
