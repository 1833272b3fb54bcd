//! WebSocket and other upgrades.

use std::io::{Read, Write};

use crate::support::TestProxy;
use crate::support::backend::{Backend, read_request};
use crate::support::client::{Raw, get};
use crate::support::manifests::{annotated, simple};

/// Accepts any upgrade and echoes bytes; says in `X-Upgrade` what it was asked for.
pub(crate) fn echo() -> Backend {
    Backend::script(|stream, _| {
        let mut writer = stream.try_clone().unwrap();
        let mut reader = std::io::BufReader::new(stream);
        let Some(request) = read_request(&mut reader) else { return };
        let Some(protocol) = request.field("upgrade").map(str::to_owned) else {
            let connection = request.field("connection").unwrap_or("none").to_owned();
            let _ = writer.write_all(
                format!("HTTP/1.1 200 OK\r\nX-Connection: {connection}\r\nContent-Length: 5\r\n\r\nplain")
                    .as_bytes(),
            );
            return;
        };
        let connection = request.field("connection").unwrap_or("").to_owned();
        let head = format!(
            "HTTP/1.1 101 Switching Protocols\r\nUpgrade: {protocol}\r\nConnection: upgrade\r\nX-Saw: {connection}\r\n\r\n"
        );
        let _ = writer.write_all(head.as_bytes());
        let mut part = [0; 4096];
        while let Ok(read) = reader.read(&mut part) {
            if read == 0 || writer.write_all(&part[..read]).is_err() {
                return;
            }
        }
    })
}

const ASK: &str = "GET /chat HTTP/1.1\r\nHost: h.test\r\nConnection: keep-alive, Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";

#[test]
fn bytes_pass_both_ways_after_a_101_also_those_sent_ahead() {
    let backend = echo();
    let proxy = TestProxy::start(&simple(backend.address()), &[]);
    let mut raw = Raw::connect(proxy.http());
    raw.send([ASK.as_bytes(), b"early"].concat());
    let answer = raw.answer();
    assert_eq!(
        (answer.status, answer.field("upgrade"), answer.field("x-saw")),
        (101, Some("websocket"), Some("upgrade"))
    );
    assert!(answer.field("connection").is_some_and(|value| value.eq_ignore_ascii_case("upgrade")));
    assert_eq!(raw.exactly(5), b"early");
    for size in [1, 100, 100_000] {
        let bytes = vec![b'w'; size];
        raw.send(&bytes);
        assert!(raw.exactly(size) == bytes);
    }
}

#[test]
fn a_tunnel_survives_table_swaps() {
    let backend = echo();
    let proxy = TestProxy::start(&simple(backend.address()), &[]);
    let mut raw = Raw::connect(proxy.http());
    raw.send(ASK);
    assert_eq!(raw.answer().status, 101);
    for round in 0..5 {
        proxy.replace(&annotated(backend.address(), &[("proxy-read-timeout", &format!("{}", 60 + round))]));
        raw.send(format!("ping{round}"));
        assert_eq!(raw.exactly(5), format!("ping{round}").as_bytes());
    }
}

#[test]
fn an_idle_tunnel_ends_after_the_read_timeout() {
    let backend = echo();
    let annotations = [("proxy-read-timeout", "1"), ("proxy-send-timeout", "1")];
    let proxy = TestProxy::start(&annotated(backend.address(), &annotations), &[]);
    let mut raw = Raw::connect(proxy.http());
    raw.send(ASK);
    assert_eq!(raw.answer().status, 101);
    assert!(raw.is_closed());
}

#[test]
fn a_refused_upgrade_is_an_ordinary_answer() {
    let backend = Backend::echo("b");
    let proxy = TestProxy::start(&simple(backend.address()), &[]);
    let mut raw = Raw::connect(proxy.http());
    raw.send(ASK);
    assert_eq!(raw.answer().text(), "GET /chat HTTP/1.1");
    raw.send("GET /next HTTP/1.1\r\nHost: h.test\r\n\r\n");
    assert_eq!(raw.answer().text(), "GET /next HTTP/1.1");
}

#[test]
fn what_is_no_upgrade_goes_on_without_one() {
    let backend = echo();
    let proxy = TestProxy::start(&simple(backend.address()), &[]);
    for ask in [
        "GET / HTTP/1.1\r\nHost: h.test\r\nUpgrade: websocket\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: h.test\r\nConnection: upgrade\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n\r\n",
    ] {
        let mut raw = Raw::connect(proxy.http());
        raw.send(ask);
        let answer = raw.answer();
        assert_eq!((answer.status, answer.text().as_str()), (200, "plain"), "{ask}");
    }
    assert_eq!(get(proxy.http(), "h.test", "/").text(), "plain");
}

#[test]
fn a_web_socket_hears_that_the_server_goes_away() {
    let backend = echo();
    let limits = crate::support::manifests::config_map(&[
        ("disable-access-log", "true"),
        ("worker-shutdown-timeout", "2s"),
    ]);
    let proxy = TestProxy::start(&(simple(backend.address()) + &limits), &["--configmap=default/config"]);
    let mut raw = Raw::connect(proxy.http());
    raw.send(ASK);
    assert_eq!(raw.answer().status, 101);
    // A masked text frame and its echo: the tunnel stands between two frames, then the process drains.
    let frame = [0x81, 0x82, 0, 0, 0, 0, b'h', b'i'];
    raw.send(frame);
    assert_eq!(raw.exactly(frame.len()), frame);
    proxy.terminate();
    assert_eq!(raw.rest(), [0x88, 2, 0x03, 0xe9]);
    proxy.join();
}
