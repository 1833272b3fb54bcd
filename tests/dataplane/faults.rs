//! The matrices of faults: what a backend may do wrong at each stage, by method, by protocol of the client, over a fresh
//! and over a pooled connection; and what a client may break off, at every byte.
//!
//! The oracle is the same everywhere: the status or a cut that the client can see, how often a request was sent, and that
//! the request after the fault gets its own answer.

use std::io::{BufReader, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use socket2::SockRef;

use crate::support::backend::{Backend, read_request, refusing};
use crate::support::client::{Raw, get};
use crate::support::frames::{self, Frames, Seen};
use crate::support::manifests::{annotated, ingress, service, simple};
use crate::support::{TestProxy, eventually};

/// How a connection ends after the bytes of a fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    /// As TCP ends.
    Fin,
    /// With a reset.
    Reset,
    /// Not at all, until the other side ends it.
    Silence,
    /// It goes on: what was written is a whole answer.
    Open,
}

/// What a backend does when it is asked for `/fault`.
#[derive(Clone)]
struct Fault {
    name: &'static str,
    bytes: Vec<u8>,
    end: End,
    /// Status that a GET gets, and whether its body is whole.
    get: (u16, bool),
    /// A GET may be sent again.
    again: bool,
}

fn fault(name: &'static str, bytes: impl Into<Vec<u8>>, end: End, get: (u16, bool), again: bool) -> Fault {
    Fault { name, bytes: bytes.into(), end, get, again }
}

const OK: &str = "HTTP/1.1 200 OK\r\n";

fn faults() -> Vec<Fault> {
    [before_the_head(), inside_the_body(), malformed()].concat()
}

fn before_the_head() -> Vec<Fault> {
    use End::{Fin, Reset, Silence};
    vec![
        fault("closes without a word", "", Fin, (502, true), true),
        fault("resets without a word", "", Reset, (502, true), true),
        fault("says nothing", "", Silence, (504, true), true),
        fault("half a status line", "HTTP/1.1 2", Fin, (502, true), true),
        fault("half a head", "HTTP/1.1 200 OK\r\nContent-Le", Fin, (502, true), true),
        fault("half a head, reset", "HTTP/1.1 200 OK\r\nContent-Le", Reset, (502, true), true),
        fault("half a head, then nothing", "HTTP/1.1 200 OK\r\nContent-Le", Silence, (504, true), true),
    ]
}

fn inside_the_body() -> Vec<Fault> {
    use End::{Fin, Open, Reset, Silence};
    vec![
        fault("a head alone", format!("{OK}Content-Length: 9\r\n\r\n"), Fin, (200, false), false),
        fault("a head, then nothing", format!("{OK}Content-Length: 9\r\n\r\n"), Silence, (200, false), false),
        fault("a short body", format!("{OK}Content-Length: 9\r\n\r\nabc"), Fin, (200, false), false),
        fault("a short body, reset", format!("{OK}Content-Length: 9\r\n\r\nabc"), Reset, (200, false), false),
        fault(
            "a body that stalls",
            format!("{OK}Content-Length: 9\r\n\r\nabc"),
            Silence,
            (200, false),
            false,
        ),
        fault(
            "a short chunk",
            format!("{OK}Transfer-Encoding: chunked\r\n\r\n9\r\nabc"),
            Fin,
            (200, false),
            false,
        ),
        fault(
            "no last chunk",
            format!("{OK}Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n"),
            Fin,
            (200, false),
            false,
        ),
        fault(
            "a broken chunk",
            format!("{OK}Transfer-Encoding: chunked\r\n\r\nzz\r\nabc"),
            Open,
            (200, false),
            false,
        ),
    ]
}

fn malformed() -> Vec<Fault> {
    use End::{Fin, Open};
    let fields = |count: usize, size: usize| {
        let lines: String = (0..count).map(|n| format!("X-{n}: {}\r\n", "v".repeat(size))).collect();
        format!("{OK}{lines}Content-Length: 2\r\n\r\nok")
    };
    vec![
        fault("garbage", "garbage\r\n\r\n", Open, (502, true), true),
        fault(
            "garbage before the answer",
            format!("\0\0{OK}Content-Length: 0\r\n\r\n"),
            Open,
            (502, true),
            true,
        ),
        fault(
            "garbage after the answer",
            format!("{OK}Content-Length: 2\r\n\r\nokHTTP/1.1 666 X"),
            Open,
            (200, true),
            false,
        ),
        fault(
            "a second answer",
            format!("{OK}Content-Length: 2\r\n\r\nok{OK}Content-Length: 4\r\n\r\nEVIL"),
            Open,
            (200, true),
            false,
        ),
        fault(
            "two lengths",
            format!("{OK}Content-Length: 2\r\nContent-Length: 3\r\n\r\nok"),
            Open,
            (502, true),
            true,
        ),
        fault(
            "both framings",
            format!("{OK}Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n"),
            Open,
            (502, true),
            true,
        ),
        fault(
            "a flood of interim answers",
            "HTTP/1.1 103 Early Hints\r\n\r\n".repeat(500),
            Open,
            (502, true),
            true,
        ),
        fault(
            "100 twice",
            format!("{0}{0}{OK}Content-Length: 2\r\n\r\nok", "HTTP/1.1 100 Continue\r\n\r\n"),
            Open,
            (200, true),
            false,
        ),
        fault(
            "103",
            format!("HTTP/1.1 103 Early Hints\r\nLink: <a>\r\n\r\n{OK}Content-Length: 2\r\n\r\nok"),
            Open,
            (200, true),
            false,
        ),
        fault(
            "101 unasked",
            "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: upgrade\r\n\r\n",
            Open,
            (502, true),
            true,
        ),
        fault("600 fields", fields(600, 1), Open, (502, true), true),
        fault("a line of 100 KiB", fields(1, 100 << 10), Open, (502, true), true),
        fault("a head of 1 MiB", fields(256, 4 << 10), Open, (502, true), true),
        fault(
            "a body where none may be",
            "HTTP/1.1 204 No Content\r\n\r\nHTTP/1.1 666 X\r\n\r\n",
            Open,
            (204, true),
            false,
        ),
        fault(
            "an answer until the end of the connection",
            format!("{OK}\r\nuntil the end"),
            Fin,
            (200, true),
            false,
        ),
    ]
}

/// A backend that answers everything but `/fault`, there does `fault`, and counts how often it was asked for it.
fn backend(fault: &Fault) -> (Backend, Arc<AtomicUsize>) {
    let asked = Arc::new(AtomicUsize::new(0));
    let (count, fault) = (Arc::clone(&asked), fault.clone());
    let backend = Backend::script(move |stream, _| {
        let mut writer = stream.try_clone().unwrap();
        let mut reader = BufReader::new(stream);
        while let Some(request) = read_request(&mut reader) {
            if !request.line.contains(" /fault") {
                let body = if request.line.starts_with("HEAD") { "" } else { "fine" };
                let _ = writer.write_all(format!("{OK}Content-Length: 4\r\n\r\n{body}").as_bytes());
                continue;
            }
            count.fetch_add(1, Ordering::SeqCst);
            let _ = writer.write_all(&fault.bytes);
            match fault.end {
                End::Open => {}
                End::Fin => return drop(writer.shutdown(Shutdown::Write)),
                End::Reset => {
                    let _ = SockRef::from(&writer).set_linger(Some(Duration::ZERO));
                    return;
                }
                // Until the proxy has had enough.
                End::Silence => {
                    let _ = std::io::copy(&mut reader, &mut std::io::sink());
                    return;
                }
            }
        }
    });
    (backend, asked)
}

const TIMEOUTS: [(&str, &str); 2] = [("proxy-read-timeout", "1"), ("proxy-next-upstream-tries", "2")];

/// One request as bytes; `body`: none, with a length, in chunks.
fn request(method: &str, target: &str, body: usize) -> String {
    let head = format!("{method} {target} HTTP/1.1\r\nHost: h.test\r\n");
    match body {
        0 => format!("{head}\r\n"),
        1 => format!("{head}Content-Length: 5\r\n\r\nhello"),
        _ => format!("{head}Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n"),
    }
}

#[test]
fn every_fault_of_a_backend_has_its_status_its_number_of_tries_and_leaves_nothing_behind() {
    println!("measured: {} faults, each 8 ways", faults().len());
    for fault in faults() {
        let (backend, asked) = backend(&fault);
        let proxy = TestProxy::start(&annotated(backend.address(), &TIMEOUTS), &["--workers=1"]);
        for (method, body) in [("GET", 0), ("HEAD", 0), ("POST", 1), ("POST", 2)] {
            for pooled in [false, true] {
                let case = format!("{}: {method} {body}, pooled: {pooled}", fault.name);
                asked.store(0, Ordering::SeqCst);
                if pooled {
                    assert_eq!(get(proxy.http(), "h.test", "/fine").text(), "fine", "{case}");
                }
                let mut raw = Raw::connect(proxy.http());
                raw.send(request(method, "/fault", body));
                let answer = raw.answer_to(method).unwrap_or_else(|| panic!("{case}: no answer"));
                let (status, whole) = fault.get;
                assert_eq!(answer.status, status, "{case}");
                assert!(answer.whole == whole || method == "HEAD", "{case}: whole is {}", answer.whole);
                assert!(!answer.text().contains("666") && !answer.text().contains("EVIL"), "{case}");
                let tries = asked.load(Ordering::SeqCst);
                // One endpoint is asked once; that a pooled connection failed does not count (F-13).
                let most = if fault.again && body == 0 { 2 } else { 1 };
                assert!((1..=most).contains(&tries), "{case}: sent {tries} times");
                // To HEAD that head is a whole answer: what is silent then is a connection that was kept for good reason.
                if method == "HEAD" && fault.end == End::Silence && !whole {
                    get(proxy.http(), "h.test", "/fine");
                }
                // Whatever is left of the fault, the next answers are those of their own requests.
                for _ in 0..2 {
                    assert_eq!(get(proxy.http(), "h.test", "/fine").text(), "fine", "{case}");
                }
            }
        }
    }
}

#[test]
fn over_http_2_a_fault_of_a_backend_costs_its_stream_and_no_other() {
    for fault in faults() {
        let (backend, _) = backend(&fault);
        let proxy = TestProxy::start(&annotated(backend.address(), &TIMEOUTS), &["--workers=1"]);
        let mut client = Frames::connect(proxy.http());
        client.send(&[frames::get(1, "/fault"), frames::get(3, "/fine")].concat());
        let is_over = |seen: &Seen, stream| seen.ended.contains(&stream) || seen.reset.contains_key(&stream);
        client.until(fault.name, |client| is_over(&client.seen, 1) && is_over(&client.seen, 3));
        let seen = &client.seen;
        assert_eq!(seen.status.get(&3), Some(&200), "{}", fault.name);
        assert!(!seen.reset.contains_key(&3) && seen.goaway.is_none(), "{}: {seen:?}", fault.name);
        let (status, whole) = fault.get;
        // A cut that follows the head at once may overtake it.
        let told = seen.status.get(&1).copied();
        assert!(told == Some(status) || (told.is_none() && !whole), "{}: {seen:?}", fault.name);
        assert_eq!(
            seen.reset.contains_key(&1),
            !whole,
            "{}: a cut is a reset and nothing else is",
            fault.name
        );
    }
}

#[test]
fn with_another_endpoint_a_fault_before_the_head_costs_a_get_nothing_and_a_post_only_when_it_was_sent() {
    for fault in faults().into_iter().filter(|fault| fault.again && fault.end != End::Open) {
        let (bad, asked) = backend(&fault);
        let good = Backend::echo("good");
        let text = ingress("a", &TIMEOUTS, &[("h.test", "/", "Prefix", "b")])
            + &service("b", &[bad.address(), good.address()]);
        let proxy = TestProxy::start(&text, &["--workers=1", "--passive-health=off"]);
        for _ in 0..4 {
            assert_eq!(get(proxy.http(), "h.test", "/fault").status, 200, "{}", fault.name);
        }
        assert!(asked.load(Ordering::SeqCst) >= 1, "{}: the bad one was never asked", fault.name);
        asked.store(0, Ordering::SeqCst);
        let (mut failed, mut served) = (0, 0);
        for _ in 0..4 {
            let mut raw = Raw::connect(proxy.http());
            raw.send(request("POST", "/fault", 1));
            match raw.answer().status {
                200 => served += 1,
                _ => failed += 1,
            }
        }
        assert_eq!(
            asked.load(Ordering::SeqCst),
            failed,
            "{}: a POST that was sent is not sent again",
            fault.name
        );
        assert!(served > 0, "{}", fault.name);
    }
}

#[test]
fn an_endpoint_that_refuses_or_cannot_be_reached_costs_no_method_anything() {
    let good = Backend::echo("good");
    let text = ingress("a", &[("proxy-connect-timeout", "1")], &[("h.test", "/", "Prefix", "b")])
        + &service("b", &[refusing(), good.address()]);
    let proxy = TestProxy::start(&text, &["--workers=1"]);
    for (method, body) in [("GET", 0), ("HEAD", 0), ("POST", 1), ("POST", 2), ("PATCH", 1)] {
        for _ in 0..3 {
            let mut raw = Raw::connect(proxy.http());
            raw.send(request(method, "/", body));
            assert_eq!(raw.answer_to(method).map(|answer| answer.status), Some(200), "{method} {body}");
        }
    }
}

/// A number that the proxy shows.
fn gauge(proxy: &TestProxy, name: &str) -> f64 {
    let text = get(proxy.admin(), "admin", "/metrics").text();
    let line = text.lines().find(|line| line.starts_with(name) && !line.starts_with('#'));
    line.and_then(|line| line.rsplit(' ').next()?.parse().ok()).unwrap_or(-1.0)
}

fn leave(stream: TcpStream, reset: bool) {
    if reset {
        let _ = SockRef::from(&stream).set_linger(Some(Duration::ZERO));
    }
    drop(stream);
}

fn nothing_stays(proxy: &TestProxy) {
    eventually("connections and requests are over", || {
        gauge(proxy, "narthex_connections ") <= 0.0
            && gauge(proxy, "narthex_active_requests ") <= 0.0
            && gauge(proxy, "narthex_upstream_connections_in_use ") <= 0.0
            && gauge(proxy, "narthex_buffered_body_bytes ") <= 0.0
    });
}

#[test]
fn a_client_that_leaves_after_any_byte_leaves_nothing_behind_and_half_a_request_is_none() {
    let backend = Backend::echo("b");
    let proxy = TestProxy::start(&simple(backend.address()), &["--workers=1"]);
    for body in [1, 2] {
        let whole = request("POST", "/off", body);
        for reset in [false, true] {
            for end in 0..whole.len() {
                let mut stream = TcpStream::connect(proxy.http()).unwrap();
                let _ = stream.write_all(&whole.as_bytes()[..end]);
                leave(stream, reset);
            }
        }
    }
    nothing_stays(&proxy);
    assert_eq!(backend.requests().len(), 0, "a part of a request was taken for a whole one");
    assert_eq!(get(proxy.http(), "h.test", "/on").status, 200);
}

#[test]
fn an_http_2_client_that_leaves_after_any_byte_leaves_nothing_behind() {
    let backend = Backend::echo("b");
    let proxy = TestProxy::start(&simple(backend.address()), &["--workers=1"]);
    let mut whole = frames::PREFACE.to_vec();
    whole.extend(frames::frame(frames::SETTINGS, 0, 0, &[]));
    let post = [(":method", "POST"), (":scheme", "http"), (":path", "/off"), (":authority", "h.test")];
    whole.extend(frames::frame(frames::HEADERS, frames::END_HEADERS, 1, &frames::literals(&post)));
    whole.extend(frames::frame(frames::DATA, frames::END_STREAM, 1, b"hello"));
    for reset in [false, true] {
        for end in 0..whole.len() {
            let mut stream = TcpStream::connect(proxy.http()).unwrap();
            let _ = stream.write_all(&whole[..end]);
            leave(stream, reset);
        }
    }
    nothing_stays(&proxy);
    let cut: Vec<_> = backend.requests().into_iter().filter(|request| request.body != b"hello").collect();
    assert!(cut.is_empty(), "a part of a body was taken for a whole one: {cut:?}");
}

#[test]
fn a_client_that_leaves_inside_the_answer_frees_the_backend() {
    // A backend that would send for ever.
    let (tell, told) = std::sync::mpsc::channel();
    let tell = Mutex::new(tell);
    let backend = Backend::script(move |mut stream, _| {
        let mut reader = BufReader::new(stream.try_clone().unwrap());
        if read_request(&mut reader).is_none() {
            return;
        }
        let _ = stream.write_all(format!("{OK}Transfer-Encoding: chunked\r\n\r\n").as_bytes());
        let part = format!("{:x}\r\n{}\r\n", 65_536, "x".repeat(65_536));
        while stream.write_all(part.as_bytes()).is_ok() {}
        let _ = tell.lock().unwrap().send(());
    });
    let proxy = TestProxy::start(&simple(backend.address()), &["--workers=1"]);
    for reset in [false, true] {
        let mut raw = Raw::connect(proxy.http());
        raw.send(request("GET", "/", 0));
        raw.exactly(100_000);
        leave(raw.stream, reset);
        told.recv_timeout(Duration::from_secs(10)).expect("the backend is let go");
    }
    nothing_stays(&proxy);
}

#[test]
fn a_client_that_takes_nothing_stops_its_backend_and_bounds_what_is_held() {
    let sent = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&sent);
    let backend = Backend::script(move |mut stream, _| {
        let mut reader = BufReader::new(stream.try_clone().unwrap());
        if read_request(&mut reader).is_none() {
            return;
        }
        let _ = stream.write_all(format!("{OK}Content-Length: 1073741824\r\n\r\n").as_bytes());
        let part = vec![b'x'; 65_536];
        while stream.write_all(&part).is_ok() {
            count.fetch_add(part.len(), Ordering::SeqCst);
        }
    });
    let proxy = TestProxy::start(&simple(backend.address()), &["--workers=1"]);
    let clients: Vec<Raw> = (0..8)
        .map(|_| {
            let mut raw = Raw::connect(proxy.http());
            let _ = SockRef::from(&raw.stream).set_recv_buffer_size(4096);
            raw.send(request("GET", "/", 0));
            raw
        })
        .collect();
    eventually("the gauge shows what is held", || gauge(&proxy, "narthex_buffered_body_bytes ") > 0.0);
    // It stands still once buffers, the kernel's too, are full.
    let mut before = usize::MAX;
    eventually("the backend is stopped", || {
        std::thread::sleep(Duration::from_millis(100));
        let now = sent.load(Ordering::SeqCst);
        std::mem::replace(&mut before, now) == now && now > 0
    });
    let held = gauge(&proxy, "narthex_buffered_body_bytes ");
    // A pipe of the kernel counts with all it can hold; where there is none, a buffer of half as much is the most.
    assert!(held <= 8.0 * 1_048_576.0, "{held} bytes for eight answers");
    drop(clients);
    nothing_stays(&proxy);
}

#[test]
fn a_backend_that_should_speak_tls_and_does_not_is_an_error_and_never_hears_plain_text() {
    // What it sends after the greeting, and whether it closes then.
    let cases: [(&str, &[u8], bool); 5] = [
        ("closes", b"", true),
        ("stalls", b"", false),
        ("plain HTTP", b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", true),
        ("an alert", b"\x15\x03\x03\x00\x02\x02\x28", true),
        ("half a record, then nothing", b"\x16\x03\x03\x40\x00\x02", false),
    ];
    for (name, bytes, closes) in cases {
        let heard = Arc::new(Mutex::new(Vec::new()));
        let kept = Arc::clone(&heard);
        let backend = Backend::script(move |mut stream, _| {
            let mut part = [0; 8192];
            let read = stream.read(&mut part).unwrap_or(0);
            kept.lock().unwrap().extend_from_slice(&part[..read]);
            let _ = stream.write_all(bytes);
            if !closes {
                let _ = std::io::copy(&mut stream, &mut std::io::sink());
            }
        });
        let annotations =
            [("backend-protocol", "HTTPS"), ("proxy-connect-timeout", "1"), ("proxy-read-timeout", "1")];
        let proxy = TestProxy::start(&annotated(backend.address(), &annotations), &["--workers=1"]);
        for method in ["GET", "POST"] {
            let mut raw = Raw::connect(proxy.http());
            raw.send(request(method, "/secret", usize::from(method == "POST")));
            let status = raw.answer().status;
            assert!(matches!(status, 502 | 504), "{name}: {method} is answered {status}");
        }
        let heard = heard.lock().unwrap();
        assert_eq!(heard.first(), Some(&0x16), "{name}: a handshake");
        assert!(!heard.windows(7).any(|window| window == b"/secret"), "{name}: plain text");
    }
}

#[test]
fn endpoints_that_come_and_go_give_503_only_while_there_are_none() {
    let backend = Backend::echo("b");
    let with = simple(backend.address());
    let without = ingress("a", &[], &[("h.test", "/", "Prefix", "b")]) + &service("b", &[]);
    let proxy = TestProxy::start(&with, &["--workers=1"]);
    for round in 0..20 {
        assert_eq!(get(proxy.http(), "h.test", "/").status, 200, "round {round}");
        proxy.swap(&without);
        assert_eq!(get(proxy.http(), "h.test", "/").status, 503, "round {round}");
        proxy.swap(&with);
    }
}
