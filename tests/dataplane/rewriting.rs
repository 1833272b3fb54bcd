//! What becomes of a backend's answer on its way: rewritten fields, fields of ours, compression.

use std::io::{Read, Write};
use std::net::TcpStream;

use crate::support::TestProxy;
use crate::support::backend::Backend;
use crate::support::client::Raw;
use crate::support::manifests::{annotated, config_map, ingress, service, simple};

const LONG: usize = 5_000;

fn page(fields: &'static str) -> Backend {
    Backend::answering(move |_| {
        let body = "<p>text</p>".repeat(LONG / 10);
        format!(
            "HTTP/1.1 200 OK\r\nContent-Type: text/html\r\n{fields}Content-Length: {}\r\n\r\n{body}",
            body.len()
        )
        .into_bytes()
    })
}

fn fetch(proxy: &TestProxy, fields: &str) -> crate::support::client::Answer {
    Raw::connect(proxy.http()).send(format!("GET / HTTP/1.1\r\nHost: h.test\r\n{fields}\r\n")).answer()
}

#[test]
fn cookies_and_redirects_of_a_backend_become_those_of_the_outside() {
    let backend = page(
        "Set-Cookie: a=1; Domain=in.test; Path=/app/x\r\nSet-Cookie: b=2\r\nLocation: http://in.test/app/y\r\n",
    );
    let rewrite = [
        ("proxy-cookie-domain", "in.test out.test"),
        ("proxy-cookie-path", "/app/ /"),
        ("proxy-redirect-from", "http://in.test/app/"),
        ("proxy-redirect-to", "https://$host/"),
    ];
    let proxy = TestProxy::start(&annotated(backend.address(), &rewrite), &[]);
    let answer = fetch(&proxy, "");
    assert_eq!(answer.all("set-cookie"), ["a=1; Domain=out.test; Path=/x", "b=2"]);
    assert_eq!(answer.field("location"), Some("https://h.test/y"));
}

#[test]
fn custom_headers_stand_on_answers_of_the_backend_and_on_ours() {
    let backend = page("X-A: theirs\r\n");
    let headers = "---\napiVersion: v1\nkind: ConfigMap\nmetadata: {name: headers, namespace: default}\ndata: {X-A: ours}\n";
    let custom = [("custom-headers", "default/headers"), ("limit-rpm", "1"), ("limit-burst-multiplier", "0")];
    let config = config_map(&[("global-allowed-response-headers", "X-A"), ("disable-access-log", "true")]);
    let manifests = annotated(backend.address(), &custom) + headers + &config;
    let proxy = TestProxy::start(&manifests, &["--configmap=default/config"]);
    for status in [200, 503] {
        let answer = fetch(&proxy, "");
        assert_eq!((answer.status, answer.all("x-a")), (status, vec!["ours"]));
    }
    // The 404 where no rule takes the path comes from a backend, as nginx sees it: nothing is put in its place.
    let mut errors = vec![("custom-headers", "default/headers"), ("custom-http-errors", "404")];
    let world = |annotations: &[(&str, &str)]| {
        ingress("a", annotations, &[("h.test", "/x", "Prefix", "b")])
            + &service("b", &[backend.address()])
            + headers
            + &config
    };
    proxy.swap(&world(&errors));
    assert_eq!(fetch(&proxy, "").all("x-a"), [""; 0]);
    errors.push(("disable-proxy-intercept-errors", "true"));
    proxy.swap(&world(&errors));
    let answer = fetch(&proxy, "");
    assert_eq!((answer.status, answer.all("x-a")), (404, vec!["ours"]));
    let shut = annotated(backend.address(), &[("custom-headers", "default/absent")]);
    assert_eq!(fetch(&TestProxy::start(&shut, &[]), "").status, 503);
}

#[test]
fn fields_for_every_answer_stand_on_redirects_of_a_host_too() {
    let backend = page("");
    let fields = "---\napiVersion: v1\nkind: ConfigMap\nmetadata: {name: fields, namespace: default}\ndata: {X-A: ours}\n";
    let config = config_map(&[("add-headers", "default/fields"), ("disable-access-log", "true")]);
    let annotations = [("app-root", "/app"), ("from-to-www-redirect", "true")];
    let world = annotated(backend.address(), &annotations) + fields + &config;
    let proxy = TestProxy::start(&world, &["--configmap=default/config"]);
    for (host, target, status) in [("h.test", "/", 302), ("www.h.test", "/", 308), ("h.test", "/x", 200)] {
        let head = format!("GET {target} HTTP/1.1\r\nHost: {host}\r\n\r\n");
        let answer = Raw::connect(proxy.http()).send(head).answer();
        assert_eq!((answer.status, answer.all("x-a")), (status, vec!["ours"]), "{host}{target}");
    }
}

#[test]
fn answers_are_compressed_for_those_who_ask_and_come_back_whole() {
    let backend = page("ETag: \"e\"\r\n");
    let config = config_map(&[
        ("use-gzip", "true"),
        ("enable-brotli", "true"),
        ("enable-zstd", "true"),
        ("disable-access-log", "true"),
    ]);
    let manifests = simple(backend.address()) + &config;
    let proxy = TestProxy::start(&manifests, &["--configmap=default/config"]);
    let plain = fetch(&proxy, "");
    assert_eq!((plain.field("content-encoding"), plain.field("vary")), (None, Some("Accept-Encoding")));
    assert_eq!(plain.field("etag"), Some("\"e\""));
    for (asked, coding) in [("gzip", "gzip"), ("gzip, br", "br"), ("gzip, br, zstd", "zstd")] {
        let answer = fetch(&proxy, &format!("Accept-Encoding: {asked}\r\n"));
        assert_eq!(answer.field("content-encoding"), Some(coding));
        assert_eq!(answer.field("etag"), Some("W/\"e\""));
        assert!(answer.body.len() < plain.body.len() / 4);
        let mut text = Vec::new();
        match coding {
            "zstd" => zstd::Decoder::new(&answer.body[..]).unwrap().read_to_end(&mut text).unwrap(),
            "br" => brotli::Decompressor::new(&answer.body[..], 4096).read_to_end(&mut text).unwrap(),
            _ => flate2::read::GzDecoder::new(&answer.body[..]).read_to_end(&mut text).unwrap(),
        };
        assert!(text == plain.body);
    }
}

#[test]
fn events_are_not_held_back_by_compression() {
    let backend = Backend::script(|mut stream, _| {
        let _ = stream.read(&mut [0; 4096]);
        let _ = stream.write_all(
            b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n7\r\nevent 1\r\n",
        );
        // The stream stays open: only what was flushed can be seen.
        let _ = stream.read(&mut [0; 1]);
    });
    let config = config_map(&[
        ("use-gzip", "true"),
        ("gzip-types", "text/event-stream"),
        ("disable-access-log", "true"),
    ]);
    let proxy = TestProxy::start(&(simple(backend.address()) + &config), &["--configmap=default/config"]);
    let mut stream = TcpStream::connect(proxy.http()).unwrap();
    stream.set_read_timeout(Some(std::time::Duration::from_secs(20))).unwrap();
    stream.write_all(b"GET / HTTP/1.1\r\nHost: h.test\r\nAccept-Encoding: gzip\r\n\r\n").unwrap();
    let mut seen = Vec::new();
    for _ in 0..1000 {
        let mut part = [0; 4096];
        let read = stream.read(&mut part).unwrap();
        assert!(read > 0, "the stream stays open");
        seen.extend_from_slice(&part[..read]);
        if event_in(&seen) {
            return;
        }
    }
    panic!("the event never came");
}

/// The body so far, without its chunk framing, holds the event once it is inflated.
fn event_in(seen: &[u8]) -> bool {
    let Some(at) = seen.windows(4).position(|part| part == b"\r\n\r\n") else { return false };
    let (mut rest, mut body) = (&seen[at + 4..], Vec::new());
    while let Some(line) = rest.windows(2).position(|part| part == b"\r\n") {
        let size = usize::from_str_radix(std::str::from_utf8(&rest[..line]).unwrap(), 16).unwrap();
        let Some(chunk) = rest.get(line + 2..line + 2 + size) else { break };
        body.extend_from_slice(chunk);
        rest = rest.get(line + 4 + size..).unwrap_or_default();
    }
    let mut text = String::new();
    let _cut = flate2::read::GzDecoder::new(&body[..]).read_to_string(&mut text);
    text == "event 1"
}

#[test]
fn a_head_above_a_buffer_size_that_was_written_is_a_502() {
    let backend = Backend::answering(|_| {
        format!("HTTP/1.1 200 OK\r\nX-Big: {}\r\nContent-Length: 0\r\n\r\n", "x".repeat(6_000)).into_bytes()
    });
    for (annotations, status) in
        [(&[][..], 200), (&[("proxy-buffer-size", "4k")], 502), (&[("proxy-buffer-size", "8k")], 200)]
    {
        let proxy = TestProxy::start(&annotated(backend.address(), annotations), &[]);
        assert_eq!(fetch(&proxy, "").status, status, "{annotations:?}");
    }
}

#[test]
fn an_answer_that_is_read_ahead_arrives_whole_and_the_backend_may_forbid_it() {
    for fields in ["", "X-Accel-Buffering: no\r\n"] {
        let backend = page(fields);
        let proxy = TestProxy::start(&annotated(backend.address(), &[("proxy-buffering", "on")]), &[]);
        let answer = fetch(&proxy, "");
        assert_eq!((answer.status, answer.body.len()), (200, LONG / 10 * 11));
        assert_eq!(answer.field("content-length"), Some("5500"));
        assert_eq!(answer.field("x-accel-buffering"), None);
    }
}
