//! Failing backends: other endpoints, statuses, never a second POST.

use std::io::{Read, Write};
use std::time::Duration;

use crate::support::TestProxy;
use crate::support::backend::{Backend, read_request, refusing};
use crate::support::client::{Raw, get};
use crate::support::manifests::{annotated, ingress, service, simple};

fn two(first: std::net::SocketAddr, second: std::net::SocketAddr, annotations: &[(&str, &str)]) -> String {
    ingress("a", annotations, &[("h.test", "/", "Prefix", "b")]) + &service("b", &[first, second])
}

#[test]
fn a_refusing_endpoint_costs_no_request() {
    let backend = Backend::echo("b");
    let proxy = TestProxy::start(&two(refusing(), backend.address(), &[]), &[]);
    for _ in 0..20 {
        assert_eq!(get(proxy.http(), "h.test", "/").status, 200);
    }
    let mut raw = Raw::connect(proxy.http());
    raw.send("POST / HTTP/1.1\r\nHost: h.test\r\nContent-Length: 2\r\n\r\nhi");
    assert_eq!(raw.answer().text(), "hi", "nothing was sent to the refusing endpoint, so a POST may go on");
}

#[test]
fn all_endpoints_refusing_is_a_502_and_none_a_503() {
    let proxy = TestProxy::start(&two(refusing(), refusing(), &[]), &[]);
    assert_eq!(get(proxy.http(), "h.test", "/").status, 502);
    let nobody = ingress("a", &[], &[("h.test", "/", "Prefix", "b")]) + &service("b", &[]);
    let proxy = TestProxy::start(&nobody, &[]);
    let answer = get(proxy.http(), "h.test", "/");
    assert_eq!(answer.status, 503);
    assert!(answer.text().contains("<h1>503 Service Temporarily Unavailable</h1>"));
}

#[test]
fn a_post_is_not_sent_twice_and_a_get_is() {
    let first = Backend::script(move |stream, _| {
        let mut reader = std::io::BufReader::new(stream);
        // Reads the whole request and closes without an answer.
        let _request = read_request(&mut reader);
    });
    let second = Backend::echo("second");
    let manifests = two(first.address(), second.address(), &[]);
    let proxy = TestProxy::start(&manifests, &["--workers=1"]);
    let (mut refused, mut answered) = (0, 0);
    for _ in 0..10 {
        let mut raw = Raw::connect(proxy.http());
        raw.send("POST / HTTP/1.1\r\nHost: h.test\r\nConnection: close\r\nContent-Length: 2\r\n\r\nhi");
        match raw.answer().status {
            502 => refused += 1,
            200 => answered += 1,
            other => panic!("{other}"),
        }
    }
    assert_eq!(refused + answered, 10);
    assert!(refused > 0, "a POST that reached the breaking endpoint must not be repeated");
    assert_eq!(second.requests().len(), answered);
    for _ in 0..10 {
        assert_eq!(get(proxy.http(), "h.test", "/").status, 200);
    }
}

#[test]
fn statuses_are_retried_only_when_asked_for() {
    let failing = Backend::answering(|_| b"HTTP/1.1 503 X\r\nContent-Length: 4\r\n\r\nfail".to_vec());
    let working = Backend::echo("b");
    let proxy = TestProxy::start(&two(failing.address(), working.address(), &[]), &["--workers=1"]);
    let statuses: Vec<u16> = (0..4).map(|_| get(proxy.http(), "h.test", "/").status).collect();
    assert!(statuses.contains(&503), "{statuses:?}");
    let annotations = [("proxy-next-upstream", "error timeout http_503")];
    let proxy = TestProxy::start(&two(failing.address(), working.address(), &annotations), &["--workers=1"]);
    for _ in 0..4 {
        assert_eq!(get(proxy.http(), "h.test", "/").status, 200);
    }
}

#[test]
fn a_silent_backend_is_a_504_after_the_read_timeout() {
    let backend =
        Backend::script(|mut stream, _| while matches!(stream.read(&mut [0; 4096]), Ok(read) if read > 0) {});
    let annotations = [("proxy-read-timeout", "1"), ("proxy-next-upstream", "off")];
    let proxy = TestProxy::start(&annotated(backend.address(), &annotations), &[]);
    assert_eq!(get(proxy.http(), "h.test", "/").status, 504);
}

#[test]
fn answers_that_are_no_http_are_a_502() {
    for bytes in [
        &b"garbage\r\n\r\n"[..],
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nok",
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: upgrade\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nX: a\0b\r\nContent-Length: 0\r\n\r\n",
        b"",
    ] {
        let backend = Backend::script(move |mut stream, _| {
            let _ = stream.read(&mut [0; 4096]);
            let _ = stream.write_all(bytes);
        });
        let proxy = TestProxy::start(&simple(backend.address()), &[]);
        assert_eq!(get(proxy.http(), "h.test", "/").status, 502, "{:?}", String::from_utf8_lossy(bytes));
    }
}

#[test]
fn a_backend_that_closes_idle_connections_costs_no_get_and_doubles_no_post() {
    // Answers one request per connection with keep-alive, then closes: every pooled connection is stale.
    let count = std::sync::Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let posts = std::sync::Arc::clone(&count);
    let backend = Backend::script(move |stream, _| {
        let mut writer = stream.try_clone().unwrap();
        let mut reader = std::io::BufReader::new(stream);
        if let Some(request) = read_request(&mut reader) {
            if request.line.starts_with("POST") {
                posts.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            }
            let _ = writer.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
        }
    });
    let proxy = TestProxy::start(&simple(backend.address()), &["--workers=1"]);
    let mut raw = Raw::connect(proxy.http());
    for number in 0..300 {
        raw.send("GET / HTTP/1.1\r\nHost: h.test\r\n\r\n");
        assert_eq!(raw.answer().status, 200, "GET {number}");
    }
    let mut answered = 0;
    for _ in 0..100 {
        raw.send("POST / HTTP/1.1\r\nHost: h.test\r\nContent-Length: 2\r\n\r\nhi");
        if raw.answer().status == 200 {
            answered += 1;
        }
    }
    assert_eq!(
        count.load(std::sync::atomic::Ordering::Relaxed),
        answered,
        "every POST that arrived was answered once"
    );
}

#[test]
fn round_robin_takes_every_endpoint_in_turn() {
    let backends: Vec<Backend> = ["x", "y", "z"].map(Backend::echo).into();
    let addresses: Vec<_> = backends.iter().map(Backend::address).collect();
    let manifests = ingress("a", &[], &[("h.test", "/", "Prefix", "b")]) + &service("b", &addresses);
    let proxy = TestProxy::start(&manifests, &["--workers=1"]);
    let names: Vec<String> =
        (0..9).map(|_| get(proxy.http(), "h.test", "/").field("x-backend").unwrap().to_owned()).collect();
    assert_eq!(names[..3], names[3..6]);
    assert_eq!(names[..3], names[6..]);
    let distinct: std::collections::BTreeSet<&String> = names.iter().collect();
    assert_eq!(distinct.len(), 3);
}

#[test]
fn a_slow_backend_does_not_hold_up_others() {
    let slow = Backend::script(|mut stream, _| {
        let _ = stream.read(&mut [0; 4096]);
        std::thread::sleep(Duration::from_secs(3));
    });
    let quick = Backend::echo("q");
    let manifests = ingress("a", &[], &[("slow.test", "/", "Prefix", "s"), ("h.test", "/", "Prefix", "b")])
        + &service("s", &[slow.address()])
        + &service("b", &[quick.address()]);
    let proxy = TestProxy::start(&manifests, &["--workers=1"]);
    let mut waiting = Raw::connect(proxy.http());
    waiting.send("GET / HTTP/1.1\r\nHost: slow.test\r\n\r\n");
    for _ in 0..10 {
        assert_eq!(get(proxy.http(), "h.test", "/").status, 200);
    }
}
