//! Long clear bodies of known length pass through pipes of the kernel, all others are copied: nobody may be able to
//! tell. Each case runs both ways, the copied one by chunks.

use std::io::{Read, Write};
use std::time::Duration;

use crate::support::backend::Backend;
use crate::support::client::Raw;
use crate::support::manifests::{annotated, config_map};
use crate::support::{TestProxy, eventually};

const STREAMED: [(&str, &str); 2] = [("proxy-request-buffering", "off"), ("proxy-body-size", "0")];

/// How a body is framed, which decides its way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    Piped,
    Copied,
}

const WAYS: [Way; 2] = [Way::Piped, Way::Copied];

impl Way {
    /// Field, and the body with its framing.
    fn frame(self, body: &[u8]) -> (String, Vec<u8>) {
        match self {
            Self::Piped => (format!("Content-Length: {}\r\n", body.len()), body.to_vec()),
            Self::Copied => {
                let mut chunks = format!("{:x}\r\n", body.len()).into_bytes();
                chunks.extend_from_slice(body);
                chunks.extend_from_slice(b"\r\n0\r\n\r\n");
                ("Transfer-Encoding: chunked\r\n".into(), chunks)
            }
        }
    }
}

fn pattern(size: usize) -> Vec<u8> {
    (0..size).map(|at| b'a' + u8::try_from(at % 23 + at / 65_536 % 3).unwrap()).collect()
}

/// Echoes each body, framed as `way` says.
fn mirror(way: Way) -> Backend {
    Backend::answering(move |request| {
        let (field, framed) = way.frame(&request.body);
        let mut answer = format!("HTTP/1.1 200 OK\r\n{field}\r\n").into_bytes();
        answer.extend(framed);
        answer
    })
}

#[test]
fn bodies_of_every_size_arrive_whole_and_what_follows_them_is_a_request_of_its_own() {
    for way in WAYS {
        let backend = mirror(way);
        let proxy = TestProxy::start(&annotated(backend.address(), &STREAMED), &[]);
        let mut raw = Raw::connect(proxy.http());
        for size in [1, 65_535, 65_536, 65_537, 100_000, 1 << 20, (1 << 20) + 1, 5_000_011] {
            let body = pattern(size);
            let (field, framed) = way.frame(&body);
            let mut writer = raw.stream.try_clone().unwrap();
            let sent = std::thread::spawn(move || {
                writer
                    .write_all(format!("POST /first HTTP/1.1\r\nHost: h.test\r\n{field}\r\n").as_bytes())
                    .unwrap();
                writer.write_all(&framed).unwrap();
                // In the same breath: not a byte of it belongs to the body.
                writer
                    .write_all(b"PUT /second HTTP/1.1\r\nHost: h.test\r\nContent-Length: 4\r\n\r\nnext")
                    .unwrap();
            });
            let answer = raw.answer();
            assert!(
                answer.status == 200 && answer.body == body,
                "{way:?} {size}: {} bytes",
                answer.body.len()
            );
            assert_eq!(raw.answer().text(), "next", "{way:?} {size}");
            sent.join().unwrap();
        }
        assert!(backend.requests().iter().all(|request| request.line.ends_with(" HTTP/1.1")));
    }
}

#[test]
fn a_body_in_pieces_with_pauses_arrives_piece_by_piece() {
    for way in WAYS {
        // Says so for each piece that has come.
        let backend = Backend::script(|mut stream, _| {
            let (mut seen, mut part, mut next) = (Vec::new(), vec![0; 4096], 1);
            while next <= 3 {
                match stream.read(&mut part) {
                    Ok(read @ 1..) => seen.extend_from_slice(&part[..read]),
                    _ => return,
                }
                let mark = format!("<{next}>");
                if seen.windows(3).any(|window| window == mark.as_bytes()) {
                    let head =
                        if next == 1 { "HTTP/1.1 200 OK\r\nContent-Length: 300000\r\n\r\n" } else { "" };
                    let _ = stream.write_all(head.as_bytes());
                    let _ = stream.write_all(&mark.repeat(100_000 / 3 + 1).as_bytes()[..100_000]);
                    next += 1;
                }
            }
        });
        let proxy = TestProxy::start(&annotated(backend.address(), &STREAMED), &[]);
        let mut raw = Raw::connect(proxy.http());
        let field = if way == Way::Piped { "Content-Length: 300000" } else { "Transfer-Encoding: chunked" };
        raw.send(format!("POST / HTTP/1.1\r\nHost: h.test\r\n{field}\r\n\r\n"));
        let mut head = false;
        for next in 1..=3 {
            let mut piece = vec![b'.'; 99_997];
            piece.extend_from_slice(format!("<{next}>").as_bytes());
            if way == Way::Copied {
                raw.send(format!("{:x}\r\n", piece.len()));
            }
            raw.send(&piece);
            if way == Way::Copied {
                raw.send("\r\n");
            }
            // The next piece is sent when the answer to this one is here.
            if !std::mem::replace(&mut head, true) {
                let mut seen = Vec::new();
                while !seen.ends_with(b"\r\n\r\n") {
                    seen.extend(raw.exactly(1));
                }
            }
            let echoed = raw.exactly(100_000);
            assert!(echoed.starts_with(format!("<{next}>").as_bytes()), "{way:?} {next}");
        }
    }
}

#[test]
fn a_cut_is_seen_as_a_cut_on_the_other_side() {
    // The backend cuts.
    let backend = Backend::script(|mut stream, _| {
        let _ = stream.read(&mut [0; 4096]);
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2000000\r\n\r\n");
        let _ = stream.write_all(&pattern(700_000));
    });
    let proxy = TestProxy::start(&annotated(backend.address(), &STREAMED), &[]);
    for _ in 0..3 {
        let mut raw = Raw::connect(proxy.http());
        raw.send("GET / HTTP/1.1\r\nHost: h.test\r\n\r\n");
        let answer = raw.answer();
        assert!(answer.status == 200 && !answer.whole, "{} of {} bytes", answer.whole, answer.body.len());
        assert!(pattern(700_000).starts_with(&answer.body), "what came is what was sent");
    }
    // The client cuts.
    let (tell, told) = std::sync::mpsc::channel();
    let tell = std::sync::Mutex::new(tell);
    let backend = Backend::script(move |mut stream, _| {
        let mut seen = Vec::new();
        let _ = stream.read_to_end(&mut seen);
        let _ = tell.lock().unwrap().send(seen);
    });
    let proxy = TestProxy::start(&annotated(backend.address(), &STREAMED), &[]);
    for reset in [false, true] {
        let mut raw = Raw::connect(proxy.http());
        raw.send("POST / HTTP/1.1\r\nHost: h.test\r\nContent-Length: 2000000\r\n\r\n").send(pattern(700_000));
        if reset {
            socket2::SockRef::from(&raw.stream).set_linger(Some(Duration::ZERO)).unwrap();
        }
        drop(raw);
        let seen = told.recv_timeout(Duration::from_secs(20)).expect("the backend sees the end");
        let body = seen.windows(4).position(|window| window == b"\r\n\r\n").map_or(0, |at| at + 4);
        assert!(pattern(700_000).starts_with(&seen[body..]), "reset {reset}");
    }
}

#[test]
fn a_client_that_leaves_while_the_backend_takes_nothing_is_noticed() {
    let (tell, told) = std::sync::mpsc::channel();
    let tell = std::sync::Mutex::new(tell);
    let backend = Backend::script(move |mut stream, _| {
        let _ = stream.read(&mut [0; 1024]);
        let _ = tell.lock().unwrap().send("deaf");
        // Only the end of the connection from the other side ends this: writing fails then.
        for _ in 0..2_000 {
            std::thread::sleep(Duration::from_millis(10));
            if socket2::SockRef::from(&stream).take_error().ok().flatten().is_some() {
                break;
            }
            let mut space = [0; 65_536];
            if matches!(stream.peek(&mut space), Ok(0) | Err(_)) {
                break;
            }
        }
        // What was sent is read to its end, which comes when the proxy has let go.
        let mut sink = vec![0; 1 << 20];
        while matches!(stream.read(&mut sink), Ok(1..)) {}
        let _ = tell.lock().unwrap().send("left");
    });
    let proxy = TestProxy::start(&annotated(backend.address(), &STREAMED), &[]);
    let raw = Raw::connect(proxy.http());
    let mut writer = raw.stream.try_clone().unwrap();
    writer.set_write_timeout(Some(Duration::from_millis(200))).unwrap();
    let _ = writer.write_all(b"POST / HTTP/1.1\r\nHost: h.test\r\nContent-Length: 100000000\r\n\r\n");
    let _full = writer.write_all(&pattern(20 << 20));
    assert_eq!(told.recv_timeout(Duration::from_secs(10)), Ok("deaf"));
    socket2::SockRef::from(&raw.stream).set_linger(Some(Duration::ZERO)).unwrap();
    drop((raw, writer));
    assert_eq!(told.recv_timeout(Duration::from_secs(60)), Ok("left"));
}

#[test]
fn a_long_body_counts_against_the_limit_and_in_the_log() {
    let log = tempfile::NamedTempFile::new().unwrap();
    let path = log.path().display().to_string();
    let data = [
        ("access-log-path", path.as_str()),
        (
            "log-format-upstream",
            "$request_method $status $body_bytes_sent $request_length $upstream_response_length",
        ),
    ];
    for way in WAYS {
        let backend = mirror(Way::Piped);
        let annotations = [("proxy-request-buffering", "off"), ("proxy-body-size", "2m")];
        let manifests = annotated(backend.address(), &annotations) + &config_map(&data);
        let proxy = TestProxy::start(&manifests, &["--configmap=default/config"]);
        let body = pattern(1_900_000);
        let (field, framed) = way.frame(&body);
        let head = format!("POST / HTTP/1.1\r\nHost: h.test\r\n{field}\r\n");
        let mut raw = Raw::connect(proxy.http());
        raw.send(&head).send(&framed);
        assert!(raw.answer().body == body, "{way:?}");
        let line = format!("POST 200 1900000 {} 1900000", head.len() + framed.len());
        eventually("the line is written", || {
            std::fs::read_to_string(&path).unwrap().lines().any(|one| one == line)
        });
        let mut raw = Raw::connect(proxy.http());
        let (field, framed) = way.frame(&pattern((2 << 20) + 1));
        raw.send(format!("POST / HTTP/1.1\r\nHost: h.test\r\n{field}\r\n"));
        let _refused_before_its_end = raw.stream.write_all(&framed);
        assert_eq!(raw.answer_to("POST").map(|answer| answer.status), Some(413), "{way:?}");
    }
}

/// Sends one byte of urgent data (RFC 9293 section 3.8.5).
fn urgent(stream: &std::net::TcpStream) {
    assert_eq!(socket2::SockRef::from(stream).send_out_of_band(b"!").unwrap(), 1);
}

#[test]
fn urgent_data_is_passed_over_and_the_body_goes_on_behind_it() {
    const PART: usize = 1 << 20;
    let backend = Backend::script(|mut stream, _| {
        let mut reader = std::io::BufReader::new(stream.try_clone().unwrap());
        while let Some(request) = crate::support::backend::read_request(&mut reader) {
            let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", 3 * PART);
            stream.write_all(head.as_bytes()).unwrap();
            assert!(request.body.is_empty() || request.body == pattern(3 * PART));
            let body = pattern(3 * PART);
            stream.write_all(&body[..PART]).unwrap();
            urgent(&stream);
            stream.write_all(&body[PART..]).unwrap();
        }
    });
    let proxy = TestProxy::start(&annotated(backend.address(), &STREAMED), &[]);
    let body = pattern(3 * PART);
    let mut raw = Raw::connect(proxy.http());
    raw.send("GET / HTTP/1.1\r\nHost: h.test\r\n\r\n");
    assert!(raw.answer().body == body, "the answer arrives whole");
    let head = format!("POST / HTTP/1.1\r\nHost: h.test\r\nContent-Length: {}\r\n\r\n", body.len());
    raw.send(head);
    raw.send(&body[..PART]);
    urgent(&raw.stream);
    raw.send(&body[PART..]);
    assert!(raw.answer().body == body, "the request arrived whole");
}

#[test]
fn what_has_come_of_an_answer_is_passed_on_while_its_backend_rests() {
    // Around the size of the first read, and beyond what goes through a pipe at once.
    const PIECES: [usize; 6] = [1, 5_000, 8_192, 70_000, 600_000, 1_500_000];
    let (tell, told) = std::sync::mpsc::channel::<()>();
    let told = std::sync::Mutex::new(told);
    let backend = Backend::script(move |mut stream, _| {
        let mut reader = std::io::BufReader::new(stream.try_clone().unwrap());
        let mut pieces = PIECES.iter();
        while let (Some(_), Some(piece)) = (crate::support::backend::read_request(&mut reader), pieces.next())
        {
            let body = pattern(2_000_000);
            let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.len());
            stream.write_all(&[head.as_bytes(), &body[..*piece]].concat()).unwrap();
            // The rest is sent when the client has this much.
            if told.lock().unwrap().recv_timeout(Duration::from_secs(30)).is_err() {
                return;
            }
            stream.write_all(&body[*piece..]).unwrap();
        }
    });
    let proxy = TestProxy::start(&annotated(backend.address(), &STREAMED), &[]);
    let mut raw = Raw::connect(proxy.http());
    for piece in PIECES {
        raw.send("GET / HTTP/1.1\r\nHost: h.test\r\n\r\n");
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.extend(raw.exactly(1));
        }
        let body = pattern(2_000_000);
        assert!(raw.exactly(piece) == body[..piece], "{piece}");
        tell.send(()).unwrap();
        assert!(raw.exactly(body.len() - piece) == body[piece..], "{piece}");
    }
    assert_eq!(backend.connections(), 1, "each answer was whole");
}
