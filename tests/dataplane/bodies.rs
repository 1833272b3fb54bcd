//! Bodies: sizes, streaming, limits, cuts.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use crate::support::backend::Backend;
use crate::support::client::Raw;
use crate::support::manifests::{annotated, simple};
use crate::support::{TestProxy, eventually};

/// Bytes of the large bodies. Far more than every buffer on the way.
const LARGE: usize = 256 * 1024 * 1024;

fn resident_kib() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

#[test]
fn chunked_and_sized_bodies_arrive_whole_in_both_directions() {
    let backend = Backend::echo("b");
    let proxy = TestProxy::start(&simple(backend.address()), &[]);
    let mut raw = Raw::connect(proxy.http());
    for size in [0_usize, 1, 2, 8_191, 8_192, 8_193, 65_535, 65_536, 65_537, 300_000] {
        let body: Vec<u8> = (0..size).map(|n| b'a' + u8::try_from(n % 23).unwrap()).collect();
        raw.send(format!("POST / HTTP/1.1\r\nHost: h.test\r\nContent-Length: {size}\r\n\r\n")).send(&body);
        let answer = raw.answer();
        if size > 0 {
            assert!(answer.body == body, "{size} bytes with a length");
        }
        raw.send("POST / HTTP/1.1\r\nHost: h.test\r\nTransfer-Encoding: chunked\r\n\r\n");
        for part in body.chunks(5_000) {
            raw.send(format!("{:x}\r\n", part.len())).send(part).send("\r\n");
        }
        raw.send("0\r\n\r\n");
        let answer = raw.answer();
        if size > 0 {
            assert!(answer.body == body, "{size} bytes in chunks");
        }
    }
}

#[test]
fn a_large_response_passes_in_constant_memory() {
    let backend = Backend::script(|mut stream, _| {
        let _ = stream.read(&mut [0; 4096]);
        let _ = stream.write_all(format!("HTTP/1.1 200 OK\r\nContent-Length: {LARGE}\r\n\r\n").as_bytes());
        let part = vec![b'x'; 1024 * 1024];
        for _ in 0..LARGE / part.len() {
            if stream.write_all(&part).is_err() {
                return;
            }
        }
    });
    let proxy = TestProxy::start(&simple(backend.address()), &[]);
    let mut stream = TcpStream::connect(proxy.http()).unwrap();
    stream.write_all(b"GET / HTTP/1.1\r\nHost: h.test\r\nConnection: close\r\n\r\n").unwrap();
    let before = resident_kib();
    let (mut total, mut part) = (0, vec![0; 1024 * 1024]);
    loop {
        let read = stream.read(&mut part).unwrap();
        if read == 0 {
            break;
        }
        total += read;
    }
    assert!(total > LARGE, "{total}");
    assert!(resident_kib() < before + 64 * 1024, "{} KiB grew to {} KiB", before, resident_kib());
}

#[test]
fn a_large_upload_passes_in_constant_memory() {
    let backend = Backend::script(|mut stream, _| {
        let (mut total, mut part) = (0, vec![0; 1024 * 1024]);
        while total < LARGE {
            match stream.read(&mut part) {
                Ok(read) if read > 0 => total += read,
                _ => return,
            }
        }
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\ndone");
    });
    let proxy = TestProxy::start(&annotated(backend.address(), &[("proxy-body-size", "0")]), &[]);
    let mut raw = Raw::connect(proxy.http());
    raw.send(format!("PUT / HTTP/1.1\r\nHost: h.test\r\nContent-Length: {LARGE}\r\n\r\n"));
    let before = resident_kib();
    let part = vec![b'y'; 1024 * 1024];
    for _ in 0..LARGE / part.len() {
        raw.send(&part);
    }
    assert_eq!(raw.answer().text(), "done");
    assert!(resident_kib() < before + 64 * 1024, "{} KiB grew to {} KiB", before, resident_kib());
}

#[test]
fn a_body_over_the_limit_is_a_413_at_the_head_and_while_reading() {
    let backend = Backend::echo("b");
    let proxy = TestProxy::start(&simple(backend.address()), &[]);
    let mut raw = Raw::connect(proxy.http());
    raw.send(format!("POST / HTTP/1.1\r\nHost: h.test\r\nContent-Length: {}\r\n\r\n", 1024 * 1024 + 1));
    assert_eq!(raw.answer().status, 413);
    assert!(backend.requests().is_empty());
    let proxy = TestProxy::start(&annotated(backend.address(), &[("proxy-body-size", "1k")]), &[]);
    let mut raw = Raw::connect(proxy.http());
    raw.send("POST / HTTP/1.1\r\nHost: h.test\r\nTransfer-Encoding: chunked\r\n\r\n401\r\n");
    raw.send(vec![b'x'; 1025]).send("\r\n0\r\n\r\n");
    assert_eq!(raw.answer().status, 413);
    assert!(backend.requests().is_empty());
}

#[test]
fn a_chunk_that_cannot_fit_is_a_413_before_its_bytes() {
    let backend = Backend::echo("b");
    for buffering in ["on", "off"] {
        let annotations = [("proxy-body-size", "1k"), ("proxy-request-buffering", buffering)];
        let proxy = TestProxy::start(&annotated(backend.address(), &annotations), &[]);
        // The last but one is within the limit by itself and above it with what came before.
        for (sizes, status) in [
            ("401\r\n", 413),
            ("7FFFFFFFFFFFFFFF\r\n", 413),
            ("8000000000000000\r\n", 400),
            ("1\r\nx\r\n400\r\n", 413),
            ("1\r\nx\r\n3ff;a=b\r\n", 200),
        ] {
            let mut raw = Raw::connect(proxy.http());
            raw.send("POST / HTTP/1.1\r\nHost: h.test\r\nTransfer-Encoding: chunked\r\n\r\n").send(sizes);
            if status == 200 {
                raw.send(vec![b'x'; 1023]).send("\r\n0\r\n\r\n");
            }
            assert_eq!(raw.answer().status, status, "{sizes:?}, buffering {buffering}");
        }
    }
}

#[test]
fn a_cut_answer_is_seen_as_cut_and_the_connection_ends() {
    let backend = Backend::script(|mut stream, number| {
        let _ = stream.read(&mut [0; 4096]);
        let _ = stream.write_all(match number {
            0 => &b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc"[..],
            _ => b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n",
        });
    });
    let proxy = TestProxy::start(&simple(backend.address()), &[]);
    for _ in 0..2 {
        let mut raw = Raw::connect(proxy.http());
        raw.send("GET / HTTP/1.1\r\nHost: h.test\r\n\r\n");
        let answer = raw.answer();
        assert_eq!((answer.status, answer.whole), (200, false));
    }
    // To a client of HTTP/1.0 the end of the connection is the end of the answer: only a reset tells.
    let mut stream = TcpStream::connect(proxy.http()).unwrap();
    stream.write_all(b"GET / HTTP/1.0\r\nHost: h.test\r\n\r\n").unwrap();
    let end = stream.read_to_end(&mut Vec::new()).map_err(|error| error.kind());
    assert_eq!(end, Err(std::io::ErrorKind::ConnectionReset));
}

#[test]
fn an_early_answer_reaches_a_client_that_is_still_sending() {
    let backend = Backend::script(|mut stream, _| {
        let _ = stream.read(&mut [0; 4096]);
        let _ =
            stream.write_all(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\nConnection: close\r\n\r\nno");
        std::thread::sleep(Duration::from_millis(50));
    });
    let proxy = TestProxy::start(
        &annotated(backend.address(), &[("proxy-body-size", "0"), ("proxy-request-buffering", "off")]),
        &[],
    );
    let mut raw = Raw::connect(proxy.http());
    raw.send("POST / HTTP/1.1\r\nHost: h.test\r\nContent-Length: 100000000\r\n\r\nstart");
    let answer = raw.answer();
    assert_eq!((answer.status, answer.text().as_str()), (403, "no"));
}

#[test]
fn both_directions_at_once_do_not_lock_each_other() {
    const SIZE: usize = 10 * 1024 * 1024;
    let backend = Backend::script(|mut stream, _| {
        let mut head = [0; 4096];
        let read = stream.read(&mut head).unwrap_or(0);
        let end = head[..read].windows(4).position(|window| window == b"\r\n\r\n").map_or(read, |at| at + 4);
        let mut reader = stream.try_clone().unwrap();
        let sink = std::thread::spawn(move || {
            let (mut total, mut part) = (read - end, vec![0; 65_536]);
            while total < SIZE {
                match reader.read(&mut part) {
                    Ok(read) if read > 0 => total += read,
                    _ => break,
                }
            }
        });
        let _ = stream.write_all(format!("HTTP/1.1 200 OK\r\nContent-Length: {SIZE}\r\n\r\n").as_bytes());
        let _ = stream.write_all(&vec![b'd'; SIZE]);
        let _ = sink.join();
    });
    let flags = [("proxy-body-size", "0"), ("proxy-request-buffering", "off")];
    let proxy = TestProxy::start(&annotated(backend.address(), &flags), &[]);
    let mut raw = Raw::connect(proxy.http());
    raw.send(format!("POST / HTTP/1.1\r\nHost: h.test\r\nContent-Length: {SIZE}\r\n\r\n"));
    let mut writer = raw.stream.try_clone().unwrap();
    let sender = std::thread::spawn(move || writer.write_all(&vec![b'u'; SIZE]));
    let answer = raw.answer();
    assert!(
        answer.whole && answer.body.len() == SIZE,
        "{} {} of {SIZE} bytes: {:?}",
        answer.status,
        answer.body.len(),
        answer.fields
    );
    // The answer may be complete before the upload is; the rest of it is then read away.
    let _sent = sender.join().unwrap();
}

#[test]
fn a_client_that_leaves_ends_the_work_of_the_backend() {
    let (tell, told) = std::sync::mpsc::channel();
    let tell = std::sync::Mutex::new(tell);
    let backend = Backend::script(move |mut stream, _| {
        let _ = stream.read(&mut [0; 4096]);
        let _ = tell.lock().unwrap().send("asked");
        // The proxy closing its side is the sign that the client's absence was seen.
        while matches!(stream.read(&mut [0; 64]), Ok(read) if read > 0) {}
        let _ = tell.lock().unwrap().send("left");
    });
    let proxy = TestProxy::start(&simple(backend.address()), &[]);
    let raw = {
        let mut raw = Raw::connect(proxy.http());
        raw.send("GET / HTTP/1.1\r\nHost: h.test\r\n\r\n");
        raw
    };
    assert_eq!(told.recv_timeout(Duration::from_secs(10)), Ok("asked"));
    socket2::SockRef::from(&raw.stream).set_linger(Some(Duration::ZERO)).unwrap();
    drop(raw);
    assert_eq!(told.recv_timeout(Duration::from_secs(10)), Ok("left"));
    eventually("the 499 in the metrics", || {
        crate::support::client::get(proxy.admin(), "localhost", "/metrics").text().contains("status=\"499\"")
    });
}

#[test]
fn a_body_that_does_not_fit_in_memory_is_whole_before_a_backend_is_asked_and_can_be_sent_twice() {
    // The first backend reads a little of each request and hangs up.
    let broken = Backend::script(|mut stream, _| {
        let _ = stream.read(&mut [0; 1024]);
    });
    let sound = Backend::echo("sound");
    let manifests = crate::support::manifests::ingress(
        "a",
        &[("proxy-next-upstream", "error timeout non_idempotent")],
        &[("h.test", "/", "Prefix", "b")],
    ) + &crate::support::manifests::service("b", &[broken.address(), sound.address()]);
    let proxy = TestProxy::start(&manifests, &[]);
    let body: Vec<u8> = (0..900_000_u32).map(|n| b'a' + u8::try_from(n % 23).unwrap()).collect();
    let half = body.len() / 2;
    for round in 0..4 {
        let mut raw = Raw::connect(proxy.http());
        raw.send(format!("PUT / HTTP/1.1\r\nHost: h.test\r\nContent-Length: {}\r\n\r\n", body.len()));
        raw.send(&body[..half]);
        let asked = (broken.connections(), sound.requests().len());
        raw.send(&body[half..]);
        let answer = raw.answer();
        assert!(answer.status == 200 && answer.body == body, "round {round}: {}", answer.status);
        assert_eq!(asked.1, round, "nobody was asked before the body was whole");
    }
    assert!(broken.connections() > 0, "the other endpoint had its turn");
}

#[test]
fn without_request_buffering_a_backend_sees_the_first_bytes_at_once() {
    let backend = Backend::script(|mut stream, _| {
        let mut seen = Vec::new();
        let mut part = [0; 4096];
        while !seen.ends_with(b"first") {
            match stream.read(&mut part) {
                Ok(read) if read > 0 => seen.extend_from_slice(&part[..read]),
                _ => return,
            }
        }
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nearly");
    });
    let proxy = TestProxy::start(&annotated(backend.address(), &[("proxy-request-buffering", "off")]), &[]);
    let mut raw = Raw::connect(proxy.http());
    raw.send("POST / HTTP/1.1\r\nHost: h.test\r\nContent-Length: 100000\r\n\r\nfirst");
    assert_eq!(raw.answer().text(), "early");
}

/// How a backend that did not read the whole body goes away after its answer.
#[derive(Debug, Clone, Copy)]
enum Leaving {
    /// With bytes unread, so that the kernel sends RST.
    Unread,
    /// With RST at once, whatever is unread (`SO_LINGER` 0).
    Reset,
    /// Not at all, but it never reads again.
    Deaf,
}

#[test]
fn an_early_answer_wins_over_the_reset_that_follows_it() {
    const SIZE: usize = 3 << 20;
    let body = vec![b'u'; SIZE];
    for leaving in [Leaving::Unread, Leaving::Reset, Leaving::Deaf] {
        let kept = std::sync::Mutex::new(Vec::new());
        let backend = Backend::script(move |mut stream, _| {
            let mut part = [0; 1024];
            let _head = stream.read(&mut part);
            let _ = stream
                .write_all(b"HTTP/1.1 413 Too Large\r\nConnection: close\r\nContent-Length: 3\r\n\r\nbig");
            match leaving {
                Leaving::Unread => {}
                Leaving::Reset => {
                    socket2::SockRef::from(&stream).set_linger(Some(Duration::ZERO)).unwrap();
                }
                Leaving::Deaf => kept.lock().unwrap().push(stream),
            }
        });
        for buffering in ["on", "off"] {
            let annotations = [("proxy-request-buffering", buffering), ("proxy-body-size", "8m")];
            let proxy = TestProxy::start(&annotated(backend.address(), &annotations), &[]);
            for framing in ["Content-Length: 3145728\r\n", "Transfer-Encoding: chunked\r\n"] {
                for round in 0..10 {
                    let mut raw = Raw::connect(proxy.http());
                    raw.send(format!("POST / HTTP/1.1\r\nHost: h.test\r\n{framing}\r\n"));
                    // The proxy may close once it has answered.
                    if framing.starts_with('T') {
                        let _ = raw.stream.write_all(format!("{SIZE:x}\r\n").as_bytes());
                    }
                    let _ = raw.stream.write_all(&body);
                    if framing.starts_with('T') {
                        let _ = raw.stream.write_all(b"\r\n0\r\n\r\n");
                    }
                    let answer = raw.answer_to("POST");
                    let told = answer.map(|answer| (answer.status, answer.text()));
                    assert_eq!(
                        told,
                        Some((413, "big".to_owned())),
                        "{leaving:?}, buffering {buffering}, {framing:?}, round {round}"
                    );
                }
            }
        }
    }
}
