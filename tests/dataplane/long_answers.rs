//! Large answers pass in turns: where a turn ends, who reads slowly, leaves, or is told to hurry makes no difference to
//! what arrives.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use crate::support::backend::{Backend, read_request};
use crate::support::client::Raw;
use crate::support::manifests::simple;
use crate::support::{TestProxy, eventually, tls};

const TURN: usize = narthex::pipe::TURN;
/// Around the ends of turns, and of what a pipe holds.
const SIZES: [usize; 8] =
    [TURN - 1, TURN, TURN + 1, 2 * TURN - 1, 2 * TURN, 2 * TURN + 1, 4 * TURN, 4 * TURN + 17];

fn pattern(size: usize) -> Vec<u8> {
    (0..size).map(|at| b'a' + u8::try_from(at % 23 + at / 65_536 % 3).unwrap()).collect()
}

/// How a backend tells where its answer ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    Length,
    LengthAndClose,
    Chunks,
    Close,
}

/// Answers `/<size>` with so many bytes; the head comes with the first of them, or alone.
fn backend(end: End, head_alone: bool) -> Backend {
    Backend::script(move |mut stream, _| {
        let mut reader = std::io::BufReader::new(stream.try_clone().unwrap());
        while let Some(request) = read_request(&mut reader) {
            let size = request.line.split(['/', ' ']).nth(2).unwrap().parse().unwrap();
            let body = pattern(size);
            let mut head = match end {
                End::Length => format!("HTTP/1.1 200 OK\r\nContent-Length: {size}\r\n\r\n"),
                End::LengthAndClose => {
                    format!("HTTP/1.1 200 OK\r\nContent-Length: {size}\r\nConnection: close\r\n\r\n")
                }
                End::Chunks => format!("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{size:x}\r\n"),
                End::Close => "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n".to_owned(),
            }
            .into_bytes();
            if head_alone {
                if stream.write_all(&head).is_err() {
                    return;
                }
                head.clear();
            }
            head.extend_from_slice(&body);
            if end == End::Chunks {
                head.extend_from_slice(b"\r\n0\r\n\r\n");
            }
            if stream.write_all(&head).is_err() || matches!(end, End::LengthAndClose | End::Close) {
                return;
            }
        }
    })
}

fn start(backend: &Backend) -> TestProxy {
    TestProxy::start(&simple(backend.address()), &["--workers=1"])
}

/// A client whose window is small, so that the proxy can write little at a time.
fn narrow(address: SocketAddr) -> Raw {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    socket.set_recv_buffer_size(16 * 1024).unwrap();
    socket.connect(&address.into()).unwrap();
    Raw::over(TcpStream::from(socket))
}

#[test]
fn answers_that_end_where_a_turn_does_arrive_whole_and_the_next_one_follows() {
    for end in [End::Length, End::LengthAndClose, End::Chunks, End::Close] {
        for head_alone in [false, true] {
            let backend = backend(end, head_alone);
            let proxy = start(&backend);
            let (mut wide, mut small) = (Raw::connect(proxy.http()), narrow(proxy.http()));
            for size in SIZES {
                let what = format!("{end:?} {head_alone} {size}");
                let ask = format!("GET /{size} HTTP/1.1\r\nHost: h.test\r\n\r\n");
                for client in [&mut wide, &mut small] {
                    // Two in one breath: the second waits until the first is out.
                    client.send(ask.repeat(2));
                    for _ in 0..2 {
                        let answer = client.answer();
                        assert!(answer.whole && answer.body == pattern(size), "{what}");
                    }
                }
                let mut old = Raw::connect(proxy.http());
                old.send(format!("GET /{size} HTTP/1.0\r\nHost: h.test\r\n\r\n"));
                let answer = old.answer();
                assert!(answer.whole && answer.body == pattern(size), "{what} HTTP/1.0");
                assert!(old.is_closed(), "{what}");
            }
        }
    }
}

#[test]
fn answers_over_tls_arrive_whole() {
    for end in [End::Length, End::Chunks] {
        let backend = backend(end, false);
        let proxy = start(&backend);
        let config = Arc::new(tls::config(&[&rustls::version::TLS13]));
        for size in SIZES {
            let name = "h.test".try_into().unwrap();
            let session = rustls::ClientConnection::new(Arc::clone(&config), name).unwrap();
            let stream = TcpStream::connect(proxy.https()).unwrap();
            stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
            let mut stream = rustls::StreamOwned::new(session, stream);
            write!(stream, "GET /{size} HTTP/1.0\r\nHost: h.test\r\n\r\n").unwrap();
            let mut all = Vec::new();
            stream.read_to_end(&mut all).expect("an end that is told");
            let head = all.windows(4).position(|window| window == b"\r\n\r\n").unwrap() + 4;
            assert!(all[head..] == pattern(size), "{end:?} {size}: {} bytes", all.len() - head);
        }
    }
}

#[test]
fn an_answer_that_is_cut_where_a_turn_ends_is_seen_as_cut() {
    for sent in [TURN, 2 * TURN] {
        let backend = Backend::script(move |mut stream, _| {
            let _ = stream.read(&mut [0; 4096]);
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 4000000\r\n\r\n");
            let _ = stream.write_all(&pattern(sent));
        });
        let proxy = start(&backend);
        for version in ["1.1", "1.0"] {
            let mut raw = narrow(proxy.http());
            raw.send(format!("GET / HTTP/{version}\r\nHost: h.test\r\n\r\n"));
            let answer = raw.answer();
            assert!(!answer.whole && answer.body == pattern(sent), "{version}: {} bytes", answer.body.len());
        }
    }
}

#[test]
fn clients_that_leave_in_the_middle_take_nothing_with_them() {
    let backend = backend(End::Length, false);
    let proxy = start(&backend);
    let size = 16 * TURN;
    let ask = format!("GET /{size} HTTP/1.1\r\nHost: h.test\r\n\r\n");
    // More than there are pipes.
    for turn in 0..100 {
        let mut raw = narrow(proxy.http());
        raw.send(&ask);
        raw.exactly(1 + turn * 10_000);
        if turn % 2 == 0 {
            socket2::SockRef::from(&raw.stream).set_linger(Some(Duration::ZERO)).unwrap();
        }
    }
    let metrics = || crate::support::client::get(proxy.admin(), "localhost", "/metrics").text();
    eventually("nothing is under way", || metrics().contains("\nnarthex_active_requests 0\n"));
    let mut raw = Raw::connect(proxy.http());
    let answer = raw.send(&ask).answer();
    assert!(answer.whole && answer.body == pattern(size));
}

#[test]
fn an_answer_under_way_is_finished_while_the_process_leaves() {
    for end in [End::Length, End::Chunks] {
        let backend = backend(end, false);
        let proxy = start(&backend);
        let size = 16 * TURN;
        let mut raw = narrow(proxy.http());
        raw.send(format!("GET /{size} HTTP/1.1\r\nHost: h.test\r\n\r\n"));
        raw.peek(1);
        proxy.terminate();
        eventually("nobody new", || TcpStream::connect(proxy.http()).is_err());
        let answer = raw.answer();
        assert!(answer.whole && answer.body == pattern(size), "{end:?}");
        assert!(raw.is_closed());
        proxy.join();
    }
}
