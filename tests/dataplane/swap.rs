//! Table swaps under load: nothing notices.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use crate::support::backend::Backend;
use crate::support::client::Raw;
use crate::support::manifests::{ingress, service};
use crate::support::{TestProxy, eventually};

/// Swaps made under load over HTTP/1.
const SWAPS: u64 = 1_000;

/// Two hosts whose Services carry the same generation mark: a request that saw two generations would show it.
fn marked(mark: &str, even: std::net::SocketAddr, odd: std::net::SocketAddr) -> String {
    let endpoint = if mark == "even" { even } else { odd };
    ingress("a", &[("upstream-vhost", mark)], &[("h.test", "/", "Prefix", "b")]) + &service("b", &[endpoint])
}

#[test]
fn a_thousand_swaps_under_load_fail_no_request_and_mix_no_generation() {
    // Each backend answers with its own name and the Host it was sent: both come from one table or the swap tore.
    let answer = |name: &'static str| {
        Backend::answering(move |request| {
            let body = format!("{name} {}", request.field("host").unwrap_or("none"));
            format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len()).into_bytes()
        })
    };
    let (even, odd) = (answer("even"), answer("odd"));
    let chat = crate::upgrade::echo();
    let world = |mark: &str| {
        marked(mark, even.address(), odd.address())
            + &ingress("chat", &[], &[("tunnel.test", "/", "Prefix", "chat")])
            + &service("chat", &[chat.address()])
    };
    let proxy = TestProxy::start(&world("even"), &["--workers=2"]);
    let (stop, served) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let clients: Vec<_> = (0..4)
        .map(|_| {
            let (stop, served, address) = (Arc::clone(&stop), Arc::clone(&served), proxy.http());
            std::thread::spawn(move || {
                let mut raw = Raw::connect(address);
                while !stop.load(Ordering::Relaxed) {
                    raw.send("GET / HTTP/1.1\r\nHost: h.test\r\n\r\n");
                    let answer = raw.answer();
                    assert_eq!(answer.status, 200);
                    let text = answer.text();
                    assert!(text == "even even" || text == "odd odd", "a request saw two tables: {text}");
                    served.fetch_add(1, Ordering::Relaxed);
                    if answer.field("connection").is_some_and(|value| value.eq_ignore_ascii_case("close")) {
                        // keep-alive-requests is reached, as announced.
                        raw = Raw::connect(address);
                    }
                }
            })
        })
        .collect();
    // Beside them: many streams over one HTTP/2 connection, and a tunnel that stays open.
    let streams = {
        let (stop, address) = (Arc::clone(&stop), proxy.http());
        std::thread::spawn(move || crate::http2::ask_until(address, &stop))
    };
    let mut tunnel = Raw::connect(proxy.http());
    tunnel
        .send("GET /chat HTTP/1.1\r\nHost: tunnel.test\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n");
    assert_eq!(tunnel.answer().status, 101);
    for round in 0..SWAPS {
        let mark = if round % 2 == 0 { "odd" } else { "even" };
        proxy.swap(&world(mark));
        if round % 50 == 0 {
            tunnel.send(format!("{round:04}"));
            assert_eq!(tunnel.exactly(4), format!("{round:04}").as_bytes(), "the tunnel goes on");
        }
    }
    assert!(proxy.generation() > SWAPS, "{} generations", proxy.generation());
    let after = served.load(Ordering::Relaxed) + 100;
    eventually("requests after the last swap", || served.load(Ordering::Relaxed) > after);
    stop.store(true, Ordering::Relaxed);
    for client in clients {
        client.join().expect("no request failed");
    }
    let (answered, mixed) = streams.join().expect("no stream failed");
    assert!(answered > 100, "{answered} streams");
    assert_eq!(mixed, Vec::<String>::new());
    let requests = served.load(Ordering::Relaxed) + answered;
    println!("measured: {SWAPS} swaps, {requests} requests, no error, one tunnel throughout");
}

#[test]
fn an_edited_manifest_takes_effect_and_a_broken_one_leaves_the_rest_alone() {
    let (first, second) = (Backend::echo("first"), Backend::echo("second"));
    let host = |host: &str, service: &str| {
        ingress(&format!("i-{}", service), &[], &[(host, "/", "Prefix", service)])
    };
    let good = host("h.test", "x") + &service("x", &[first.address()]) + &service("y", &[second.address()]);
    let proxy = TestProxy::start(&good, &[]);
    let ask = |host: &str| crate::support::client::get(proxy.http(), host, "/");
    assert_eq!(ask("h.test").field("x-backend"), Some("first"));
    proxy.replace(&(good.clone() + &host("new.test", "y")));
    assert_eq!(ask("new.test").field("x-backend"), Some("second"));
    let broken = ingress(
        "broken",
        &[("rewrite-target", "/$1"), ("use-regex", "true")],
        &[("broken.test", "/(", "ImplementationSpecific", "y")],
    );
    proxy.replace(&(good.clone() + &broken));
    assert_eq!(ask("h.test").field("x-backend"), Some("first"));
    assert_ne!(ask("broken.test").status, 200);
    // A file that is no YAML keeps its last good content.
    proxy.write("this: is: not: yaml\n\t- at all");
    eventually("the diagnostic", || {
        crate::support::client::get(proxy.admin(), "localhost", "/api/v1/diagnostics")
            .text()
            .contains("all.yaml")
    });
    assert_eq!(ask("h.test").field("x-backend"), Some("first"));
    proxy.replace(&good);
    assert_eq!(ask("h.test").field("x-backend"), Some("first"));
}
