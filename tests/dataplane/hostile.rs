//! What a hostile client tries against the proxy as a whole: ways past it, and connections that never end.

use std::time::{Duration, Instant};

use crate::support::TestProxy;
use crate::support::backend::Backend;
use crate::support::client::Raw;
use crate::support::frames::{END_HEADERS, END_STREAM, Frames, HEADERS, frame, literals, request};
use crate::support::manifests::{annotated, config_map, simple};

fn connect(stream: u32, protocol: &str) -> Vec<u8> {
    let fields = [
        (":method", "CONNECT"),
        (":protocol", protocol),
        (":scheme", "http"),
        (":path", "/"),
        (":authority", "h.test"),
    ];
    frame(HEADERS, END_HEADERS, stream, &literals(&fields))
}

#[test]
fn extended_connect_is_no_way_to_another_protocol_of_the_backend() {
    let backend = Backend::answering(|request| {
        let asked = request.field("upgrade").unwrap_or("nothing");
        format!("HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: {asked}\r\n\r\n")
            .into_bytes()
    });
    let proxy = TestProxy::start(&simple(backend.address()), &[]);
    let mut client = Frames::connect(proxy.http());
    for (number, protocol) in ["h2c", "HTTP/2.0", "tcp"].into_iter().enumerate() {
        let stream = u32::try_from(2 * number + 1).unwrap();
        client.send(&connect(stream, protocol));
        client.until("a refusal", |client| {
            client.seen.status.get(&stream) == Some(&501) || client.seen.reset.contains_key(&stream)
        });
    }
    assert!(backend.requests().is_empty(), "{:?}", backend.requests());
}

#[test]
fn an_answer_to_head_has_no_body_over_http_2() {
    let backend = Backend::echo("b");
    let proxy = TestProxy::start(&simple(backend.address()), &[]);
    let mut client = Frames::connect(proxy.http());
    let fields = [(":method", "HEAD"), (":scheme", "http"), (":path", "/"), (":authority", "unknown.test")];
    client.send(&request(1, &fields));
    client.until("an answer", |client| client.seen.ended.contains(&1));
    assert_eq!(client.seen.status.get(&1), Some(&404));
    assert_eq!(client.seen.data.get(&1).copied().unwrap_or(0), 0);
}

#[test]
fn request_trailers_never_reach_an_http_1_backend() {
    let backend = Backend::script(|mut stream, _| {
        use std::io::{Read, Write};
        let (mut all, mut part) = (Vec::new(), [0; 4096]);
        while !all.ends_with(b"0\r\n\r\n") && !all.windows(6).any(|window| window == b"X-Sum:") {
            match stream.read(&mut part) {
                Ok(0) | Err(_) => return,
                Ok(count) => all.extend_from_slice(&part[..count]),
            }
        }
        let merged = String::from_utf8_lossy(&all).to_ascii_lowercase().contains("x-sum");
        let status = if merged { "500 Merged" } else { "200 OK" };
        let _ = write!(stream, "HTTP/1.1 {status}\r\nContent-Length: 0\r\n\r\n");
    });
    let text = annotated(backend.address(), &[("proxy-request-buffering", "off")]);
    let proxy = TestProxy::start(&text, &[]);
    let mut raw = Raw::connect(proxy.http());
    raw.send("POST / HTTP/1.1\r\nHost: h.test\r\nTE: trailers\r\nConnection: te\r\nTransfer-Encoding: chunked\r\n\r\n");
    raw.send("1\r\nx\r\n0\r\nX-Sum: 1\r\nX-User: root\r\n\r\n");
    assert_eq!(raw.answer().status, 200);
}

/// Time limits of one second.
fn impatient() -> String {
    config_map(&[("keep-alive", "1"), ("client-header-timeout", "1"), ("client-body-timeout", "1")])
}

#[test]
fn connections_that_send_nothing_or_stop_half_way_are_closed() {
    let backend = Backend::echo("b");
    let proxy =
        TestProxy::start(&(simple(backend.address()) + &impatient()), &["--configmap=default/config"]);
    let silent = |bytes: &[u8]| {
        let mut raw = Raw::connect(proxy.http());
        raw.send(bytes);
        raw
    };
    let waiting: Vec<(&str, Raw)> = vec![
        ("nothing", silent(b"")),
        ("half a preface", silent(b"PRI * HTT")),
        ("half a head", silent(b"GET / HTTP/1.1\r\nHost: h.t")),
        ("half a body", silent(b"POST / HTTP/1.1\r\nHost: h.test\r\nContent-Length: 10\r\n\r\nhalf")),
        (
            "half a chunk",
            silent(b"POST / HTTP/1.1\r\nHost: h.test\r\nTransfer-Encoding: chunked\r\n\r\n9\r\nhalf"),
        ),
        ("a preface and no more", silent(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")),
    ];
    for (what, mut raw) in waiting {
        let start = Instant::now();
        raw.rest();
        assert!(start.elapsed() < Duration::from_secs(10), "{what} is held open");
    }
    assert!(backend.requests().is_empty(), "nothing unfinished is completed");
}

#[test]
fn an_http_2_connection_without_streams_is_told_to_go() {
    let backend = Backend::echo("b");
    let proxy =
        TestProxy::start(&(simple(backend.address()) + &impatient()), &["--configmap=default/config"]);
    let mut client = Frames::connect(proxy.http());
    client.send(&crate::support::frames::get(1, "/"));
    client.until("an answer", |client| client.seen.status.get(&1) == Some(&200));
    client.until("a farewell", |client| client.seen.goaway == Some(0) || client.closed);
    // It never answers the PING of the farewell: the connection is cut all the same.
    client.until("the end", |client| client.closed);
    let mut half = Frames::connect(proxy.http());
    half.send(&frame(HEADERS, END_STREAM, 1, &literals(&[(":method", "GET")])));
    half.until("the end", |client| client.closed);
}

#[test]
fn a_drain_answers_what_was_sent_before_it() {
    let backend = Backend::echo("b");
    for _ in 0..10 {
        let proxy = TestProxy::start(&simple(backend.address()), &["--workers=1"]);
        let mut clients: Vec<Raw> = (0..8).map(|_| Raw::connect(proxy.http())).collect();
        for client in &mut clients {
            client.send("GET / HTTP/1.1\r\nHost: h.test\r\n\r\n");
        }
        proxy.terminate();
        let answers: Vec<Option<u16>> =
            clients.iter_mut().map(|client| client.answer_to("GET").map(|answer| answer.status)).collect();
        assert_eq!(answers, vec![Some(200); clients.len()]);
        proxy.join();
    }
}

#[test]
fn heads_of_http_2_are_judged_as_those_of_http_1() {
    let backend = Backend::echo("b");
    let proxy = TestProxy::start(&simple(backend.address()), &["--workers=1"]);
    let mut client = Frames::connect(proxy.http());
    let head = |path: &'static str, scheme: &'static str| {
        [(":method", "GET"), (":scheme", scheme), (":path", path), (":authority", "h.test")]
    };
    // Fragments: spelled out, then by the index of `:path` and in Huffman code (`/a#`), then from the dynamic table that
    // the stream before it filled.
    for (stream, path) in [(1, "#"), (3, "/a#b"), (5, "/?#"), (7, "/#")] {
        client.send(&request(stream, &head(path, "http")));
    }
    let rest = literals(&[(":method", "GET"), (":scheme", "http"), (":authority", "h.test")]);
    let coded = [&[0x44, 0x83, 0x60, 0x7f, 0xf5][..], &rest].concat();
    client.send(&frame(HEADERS, END_STREAM | END_HEADERS, 9, &coded));
    client.send(&frame(HEADERS, END_STREAM | END_HEADERS, 11, &[&[0xbe][..], &rest].concat()));
    client.send(&request(13, &head("/", "1http")));
    let fields: Vec<(String, &str)> = (0..201).map(|n| (format!("x{n}"), "y")).collect();
    let many: Vec<(&str, &str)> =
        head("/", "http").into_iter().chain(fields.iter().map(|(name, value)| (&**name, *value))).collect();
    client.send(&request(15, &many));
    client.send(&request(17, &head("/last", "http")));
    client.until("the last answer", |client| client.seen.status.contains_key(&17));
    let seen = &client.seen;
    assert!(seen.reset.is_empty(), "{seen:?}");
    let statuses: Vec<_> = seen.status.iter().map(|(stream, status)| (*stream, *status)).collect();
    let fragments = [1, 3, 5, 7, 9, 11, 13].map(|stream| (stream, 400));
    assert_eq!(statuses, [&fragments[..], &[(15, 431), (17, 200)]].concat());
    assert_eq!(backend.requests().len(), 1);

    let mut client = Frames::connect(proxy.http());
    client.send(&frame(HEADERS, END_HEADERS, 1, &literals(&head("/", "http"))));
    client.send(&frame(HEADERS, END_STREAM | END_HEADERS, 1, &literals(&[("x", "y"), (":path", "/b")])));
    client.until("the end", |client| client.closed || client.seen.goaway.is_some());
    assert_eq!(client.seen.goaway, Some(1), "PROTOCOL_ERROR");
    assert_eq!(backend.requests().len(), 1);
}
