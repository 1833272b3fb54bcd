//! `limit-*`: what a client hears who asks too much or reads too fast.

use std::sync::mpsc;

use crate::support::TestProxy;
use crate::support::backend::Backend;
use crate::support::client::Raw;
use crate::support::manifests::{annotated, config_map, ingress, service};

fn statuses(proxy: &TestProxy, host: &str, count: usize) -> Vec<u16> {
    let mut raw = Raw::connect(proxy.http());
    let ask = |_| raw.send(format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n")).answer().status;
    (0..count).map(ask).collect()
}

#[test]
fn a_burst_and_one_pass_and_the_rest_is_refused_whichever_worker_is_asked() {
    let backend = Backend::echo("b");
    // One a minute leaks away too slowly for this test to see.
    let limits = [("limit-rpm", "1"), ("limit-burst-multiplier", "3")];
    let proxy = TestProxy::start(&annotated(backend.address(), &limits), &["--workers=2"]);
    let asked: Vec<u16> = (0..8).flat_map(|_| statuses(&proxy, "h.test", 1)).collect();
    assert_eq!(asked, [200, 200, 200, 200, 503, 503, 503, 503]);
    assert_eq!(backend.requests().len(), 4);
}

#[test]
fn limits_are_counted_for_each_ingress_and_not_for_exempt_clients() {
    let backend = Backend::echo("b");
    let rpm = ("limit-rpm", "1");
    let flat = ("limit-burst-multiplier", "0");
    let manifests =
        ingress("a", &[rpm, flat], &[("a.test", "/", "Prefix", "b"), ("c.test", "/", "Prefix", "b")])
            + &ingress("b", &[rpm, flat], &[("b.test", "/", "Prefix", "b")])
            + &ingress(
                "d",
                &[rpm, flat, ("limit-whitelist", "127.0.0.0/8")],
                &[("d.test", "/", "Prefix", "b")],
            )
            + &service("b", &[backend.address()]);
    let proxy = TestProxy::start(&manifests, &[]);
    assert_eq!(statuses(&proxy, "a.test", 2), [200, 503]);
    assert_eq!(statuses(&proxy, "c.test", 1), [503], "all hosts of an Ingress share its limit");
    assert_eq!(statuses(&proxy, "b.test", 1), [200]);
    assert_eq!(statuses(&proxy, "d.test", 5), [200; 5]);
}

#[test]
fn statuses_and_the_key_come_from_the_config_map_and_limits_come_before_access() {
    let backend = Backend::echo("b");
    let limits =
        [("limit-rpm", "1"), ("limit-burst-multiplier", "0"), ("denylist-source-range", "127.0.0.0/8")];
    let config = config_map(&[
        ("limit-req-status-code", "429"),
        ("limit-conn-zone-variable", "$http_x_key"),
        ("disable-access-log", "true"),
    ]);
    let manifests = annotated(backend.address(), &limits) + &config;
    let proxy = TestProxy::start(&manifests, &["--configmap=default/config"]);
    let ask = |key: &str| {
        let mut raw = Raw::connect(proxy.http());
        raw.send(format!("GET / HTTP/1.1\r\nHost: h.test\r\n{key}\r\n")).answer().status
    };
    assert_eq!([ask("X-Key: a\r\n"), ask("X-Key: a\r\n"), ask("X-Key: b\r\n")], [403, 429, 403]);
    assert_eq!([ask(""), ask("")], [403, 403], "an empty key is not limited");
}

#[test]
fn requests_at_once_are_counted_until_their_answers_end() {
    let (release, wait) = mpsc::channel::<()>();
    let (arrive, arrived) = mpsc::channel::<()>();
    let wait = std::sync::Mutex::new(wait);
    let backend = Backend::answering(move |request| {
        if request.line.contains("/slow") {
            let _ = arrive.send(());
            let _ = wait.lock().unwrap().recv();
        }
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok".to_vec()
    });
    let proxy = TestProxy::start(&annotated(backend.address(), &[("limit-connections", "1")]), &[]);
    let mut slow = Raw::connect(proxy.http());
    slow.send("GET /slow HTTP/1.1\r\nHost: h.test\r\n\r\n");
    arrived.recv_timeout(std::time::Duration::from_secs(10)).unwrap();
    assert_eq!(statuses(&proxy, "h.test", 2), [503, 503]);
    release.send(()).unwrap();
    assert_eq!(slow.answer().status, 200);
    crate::support::eventually("there is room again", || statuses(&proxy, "h.test", 1) == [200]);
}

#[test]
fn a_window_is_counted_by_its_key() {
    let backend = Backend::echo("b");
    let window =
        [("global-rate-limit", "2"), ("global-rate-limit-window", "1d"), ("global-rate-limit-key", "$arg_k")];
    let proxy = TestProxy::start(&annotated(backend.address(), &window), &[]);
    let ask = |target: &str| {
        let mut raw = Raw::connect(proxy.http());
        raw.send(format!("GET {target} HTTP/1.1\r\nHost: h.test\r\n\r\n")).answer().status
    };
    assert_eq!(["/?k=1", "/?k=1", "/?k=1", "/?k=2", "/"].map(ask), [200, 200, 429, 200, 200]);
}

#[test]
fn a_slow_rate_delays_and_loses_nothing() {
    let backend = Backend::answering(|_| {
        let mut answer = b"HTTP/1.1 200 OK\r\nContent-Length: 2000\r\n\r\n".to_vec();
        answer.extend(vec![b'x'; 2000]);
        answer
    });
    let proxy = TestProxy::start(&annotated(backend.address(), &[("limit-rate", "1")]), &[]);
    let start = std::time::Instant::now();
    let answer = Raw::connect(proxy.http()).send("GET / HTTP/1.1\r\nHost: h.test\r\n\r\n").answer();
    assert_eq!((answer.status, answer.body.len()), (200, 2000));
    assert!(start.elapsed().as_millis() >= 900, "the second kilobyte belongs to the second second");
}
