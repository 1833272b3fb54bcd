//! HTTP/2 clients that cost more than they ask for (`security.md` D.4): each flood is bounded, ends its own connection
//! and nobody else's.

use crate::support::TestProxy;
use crate::support::backend::Backend;
use crate::support::client::get as http1;
use crate::support::frames::{
    CONTINUATION, DATA, END_HEADERS, END_STREAM, Frames, HEADERS, PING, PRIORITY, RST_STREAM, SETTINGS,
    WINDOW_UPDATE, frame, get, literals,
};
use crate::support::manifests::simple;

/// Most frames that any flood may get through before its connection ends.
const BOUND: usize = 50_000;

fn post(stream: u32) -> Vec<u8> {
    let fields = [(":method", "POST"), (":scheme", "http"), (":path", "/"), (":authority", "h.test")];
    frame(HEADERS, END_HEADERS, stream, &literals(&fields))
}

/// Sends what `make` gives for 0, 1, … until the connection ends, and says after how many.
fn flood(first: &[u8], make: impl Fn(u32) -> Vec<u8>) -> usize {
    let backend = Backend::echo("b");
    let proxy = TestProxy::start(&simple(backend.address()), &["--workers=1"]);
    let mut bystander = Frames::connect(proxy.http());
    let mut client = Frames::connect(proxy.http());
    client.send(first);
    let mut sent = 0;
    while sent < BOUND && !client.closed && client.seen.goaway.is_none() {
        let batch: Vec<u8> = (0..100).flat_map(|n| make(u32::try_from(sent + n).unwrap())).collect();
        client.send(&batch);
        sent += 100;
        client.read();
    }
    client.until("the end of the connection", |client| client.closed || client.seen.goaway.is_some());
    bystander.send(&get(1, "/other"));
    bystander.until("an answer", |client| client.seen.status.get(&1) == Some(&200));
    assert_eq!(http1(proxy.http(), "h.test", "/").status, 200);
    sent
}

#[test]
fn frames_that_ask_for_nothing_end_the_connection() {
    for (what, bytes) in [
        ("ping", frame(PING, 0, 0, &[0; 8])),
        ("settings", frame(SETTINGS, 0, 0, &[])),
        ("priority", frame(PRIORITY, 0, 1, &[0, 0, 0, 0, 1])),
        ("unknown", frame(0x42, 0, 0, b"x")),
        ("window", frame(WINDOW_UPDATE, 0, 0, &[0, 0, 0, 1])),
    ] {
        let sent = flood(&[], |_| bytes.clone());
        assert!(sent < 10_000, "{what}: {sent}");
    }
}

#[test]
fn empty_data_ends_the_connection() {
    assert!(flood(&post(1), |_| frame(DATA, 0, 1, &[])) < 10_000);
}

#[test]
fn a_header_block_without_end_ends_the_connection() {
    let fields = [(":method", "GET"), (":scheme", "http"), (":path", "/"), (":authority", "h.test")];
    let first = frame(HEADERS, END_STREAM, 1, &literals(&fields));
    assert!(flood(&first, |_| frame(CONTINUATION, 0, 1, &[])) < 1_000);
    assert!(flood(&first, |_| frame(CONTINUATION, 0, 1, &literals(&[("x", "y")]))) < 1_000);
}

#[test]
fn a_header_block_that_unfolds_without_end_ends_the_connection() {
    // A field of 4,000 bytes for the table, then blocks that refer to it byte by byte.
    let usual = b"\x82\x86\x84\x01\x06h.test";
    let entry = [&usual[..], b"\x40\x01x\x7f\xa1\x1e", &[b'v'; 4_000]].concat();
    let bomb = [&usual[..], &[0xbe; 16_000]].concat();
    let ended = END_HEADERS | END_STREAM;
    let sent = flood(&frame(HEADERS, ended, 1, &entry), |n| frame(HEADERS, ended, 2 * n + 3, &bomb));
    assert!(sent <= 200, "{sent}");
}

#[test]
fn rapid_resets_end_the_connection() {
    let sent = flood(&[], |n| [get(2 * n + 1, "/"), frame(RST_STREAM, 0, 2 * n + 1, &[0, 0, 0, 8])].concat());
    assert!(sent < 2_000, "{sent}");
}

#[test]
fn resets_that_the_client_provokes_end_the_connection() {
    // A window update of nothing is an error of the stream, which the server has to reset (CVE-2025-8671).
    let sent = flood(&[], |n| [post(2 * n + 1), frame(WINDOW_UPDATE, 0, 2 * n + 1, &[0; 4])].concat());
    assert!(sent < 5_000, "{sent}");
}

#[test]
fn a_flood_is_counted_by_its_name() {
    let backend = Backend::echo("b");
    let proxy = TestProxy::start(&simple(backend.address()), &["--workers=1"]);
    let mut client = Frames::connect(proxy.http());
    for _ in 0..100 {
        client.send(&frame(PING, 0, 0, &[0; 8]).repeat(100));
    }
    client.until("the end", |client| client.closed || client.seen.goaway.is_some());
    crate::support::eventually("the count", || {
        http1(proxy.admin(), "localhost", "/metrics").text().contains("http2-idle-frames")
    });
}

#[test]
fn streams_above_the_limit_are_refused_and_the_others_served() {
    let backend = Backend::echo("b");
    let proxy = TestProxy::start(&simple(backend.address()), &["--workers=1"]);
    let mut client = Frames::connect(proxy.http());
    for n in 0..200 {
        client.send(&post(2 * n + 1));
    }
    client.until("refusals", |client| client.seen.reset.len() >= 72 || client.closed);
    assert!(client.seen.reset.values().all(|code| *code == 7), "REFUSED_STREAM: {:?}", client.seen.reset);
    client.send(&frame(DATA, END_STREAM, 1, b"x"));
    client.until("an answer", |client| client.seen.status.get(&1) == Some(&200));
}
