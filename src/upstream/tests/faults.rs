//! The upstream fault matrix: bytes from a backend in, verdict out.

use super::*;

/// What comes of an answer, in one line: `200 "hello" kept`, `200 "he" cut closed`, `closed sent answered`.
async fn verdict(method: Method, answer: &'static [u8]) -> String {
    let backend = serve(move |_, mut conn| async move {
        conn.head().await;
        conn.write(answer).await;
        // An answer that leaves the connection open leaves it open for as long as the proxy does.
        if !answer.ends_with(b"|") {
            let _ = conn.stream.shutdown().await;
        }
        conn.closed().await;
    })
    .await;
    let (upstreams, peer) = (upstreams(), clear(backend.address));
    let outcome = Ask { method, ..Ask::get(&peer) }.send(&upstreams).await;
    describe(outcome, &upstreams).await
}

async fn describe(outcome: Result<Answer, Failed>, upstreams: &Upstreams) -> String {
    match outcome {
        Ok(answer) => {
            let status = answer.head.status.as_u16();
            let (data, trailers, error) = read(answer.content).await;
            let kept = upstreams.kept_connections().0;
            let cut = error.map_or(String::new(), |error| format!(" {error:?}"));
            let trailers =
                trailers.map_or(String::new(), |map| format!(" {:?}", map.keys().collect::<Vec<_>>()));
            let data = String::from_utf8_lossy(&data).into_owned();
            format!("{status} {data:?}{trailers}{cut} {}", if kept > 0 { "kept" } else { "dropped" })
        }
        Err(failed) => {
            let error = failed.error;
            let sent = if error.sent { " sent" } else { "" };
            let answered = if error.answered { " answered" } else { "" };
            format!("{}{sent}{answered}", error.reason())
        }
    }
}

fn check(cases: &[(&'static str, &str)]) {
    for (answer, expected) in cases {
        let found = local(verdict(Method::GET, answer.as_bytes()));
        assert_eq!(&found, expected, "{answer:?}");
    }
}

#[test]
fn complete_answers_arrive_whole_and_keep_the_connection_where_framing_allows() {
    // The backend closes after its answer; what counts is what was known before that.
    check(&[
        ("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello", "200 \"hello\" kept"),
        ("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", "200 \"\" kept"),
        ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n", "200 \"abc\" kept"),
        ("HTTP/1.1 200 OK\r\n\r\nuntil close", "200 \"until close\" dropped"),
        ("HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok", "200 \"ok\" dropped"),
        ("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok", "200 \"ok\" dropped"),
        ("HTTP/1.1 204 No Content\r\n\r\n", "204 \"\" kept"),
        ("HTTP/1.1 999\r\nContent-Length: 0\r\n\r\n", "999 \"\" kept"),
        ("HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n", "503 \"\" kept"),
    ]);
}

#[test]
fn trailers_come_through_but_not_those_with_framing_or_identity() {
    check(&[(
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\nDigest: d\r\nContent-Length: 9\r\n\
         Set-Cookie: a=b\r\n\r\n",
        "200 \"x\" [\"digest\"] kept",
    )]);
}

#[test]
fn cut_bodies_are_errors() {
    check(&[
        ("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello", "200 \"hello\" Upstream dropped"),
        ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhel", "200 \"hel\" Upstream dropped"),
        ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n", "200 \"abc\" Upstream dropped"),
        (
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n",
            "200 \"abc\" Upstream dropped",
        ),
        (
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabcX\r\n",
            "200 \"abc\" Upstream dropped",
        ),
        ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", "200 \"\" Upstream dropped"),
    ]);
}

#[test]
fn broken_heads_are_no_answers() {
    check(&[
        ("", "closed sent"),
        ("HTTP/1.", "closed sent answered"),
        ("HTTP/1.1 200 OK\r\nX: y\r\n", "closed sent answered"),
        ("<html>hello", "invalid_header sent answered"),
        ("SSH-2.0-OpenSSH\r\n", "invalid_header sent answered"),
        ("HTTP/2.0 200 OK\r\n\r\n", "invalid_header sent answered"),
        ("HTTP/1.1 20x OK\r\n\r\n", "invalid_header sent answered"),
        ("HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n", "invalid_header sent answered"),
        (
            "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
            "invalid_header sent answered",
        ),
        ("HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", "invalid_header sent answered"),
        ("HTTP/1.1 200 OK\r\nX: a\0b\r\n\r\n", "invalid_header sent answered"),
    ]);
}

#[test]
fn bytes_after_an_answer_cost_the_connection_only() {
    check(&[
        ("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nokJUNK", "200 \"ok\" dropped"),
        ("HTTP/1.1 204 No Content\r\n\r\nbody", "204 \"\" dropped"),
        ("HTTP/1.1 304 Not Modified\r\nContent-Length: 4\r\n\r\nbody", "304 \"\" dropped"),
        (
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nHTTP/1.1 200 OK\r\n",
            "200 \"\" dropped",
        ),
    ]);
}

#[test]
fn an_answer_to_head_has_no_body_whatever_its_head_says() {
    let head = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n";
    assert_eq!(local(verdict(Method::HEAD, head)), "200 \"\" kept");
    let with_body = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello";
    assert_eq!(local(verdict(Method::HEAD, with_body)), "200 \"\" dropped");
}

#[test]
fn interim_answers_are_swallowed_up_to_a_limit() {
    check(&[
        ("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\na", "200 \"a\" kept"),
        (
            "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 200 OK\r\n\
             Content-Length: 1\r\n\r\na",
            "200 \"a\" kept",
        ),
        ("HTTP/1.1 100 Continue\r\n\r\n", "closed sent answered"),
        (
            "HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n",
            "invalid_header sent answered",
        ),
    ]);
    let end = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";
    let hint = "HTTP/1.1 103 Early Hints\r\n\r\n";
    let wide = format!("HTTP/1.1 103 Early Hints\r\nX: {}\r\n\r\n", "x".repeat(8 * 1024));
    for (answer, expected) in [
        (hint.repeat(16) + end, "200 \"\" kept"),
        (hint.repeat(17) + end, "invalid_header sent answered"),
        (wide.repeat(3) + end, "200 \"\" kept"),
        (wide.repeat(5) + end, "invalid_header sent answered"),
    ] {
        assert_eq!(local(verdict(Method::GET, answer.leak().as_bytes())), expected);
    }
}

#[test]
fn heads_are_bounded_in_fields_and_bytes() {
    let head = |lines: usize, width: usize| {
        let lines: String = (0..lines).map(|n| format!("X-{n}: {}\r\n", "v".repeat(width))).collect();
        format!("HTTP/1.1 200 OK\r\n{lines}Content-Length: 0\r\n\r\n").leak().as_bytes()
    };
    for (lines, width, expected) in [
        (200, 10, "200 \"\" kept"),
        (50, 1000, "200 \"\" kept"),
        (600, 10, "invalid_header sent answered"),
        (1, 100_000, "invalid_header sent answered"),
        (10_000, 100, "invalid_header sent answered"),
    ] {
        assert_eq!(local(verdict(Method::GET, head(lines, width))), expected, "{lines} × {width}");
    }
}

#[test]
fn a_reset_before_the_answer_is_told_from_one_in_the_body() {
    for (before, expected) in [
        ("", "reset sent"),
        ("HTTP/1.1 2", "reset sent answered"),
        ("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nab", "200 \"ab\" Upstream dropped"),
    ] {
        let found = local(async {
            let (go, wait) = tokio::sync::oneshot::channel::<()>();
            let wait = Cell::new(Some(wait));
            let backend = serve(move |_, mut conn| {
                let wait = wait.take();
                async move {
                    conn.head().await;
                    conn.write(before).await;
                    let _ = wait.unwrap().await;
                    conn.reset();
                }
            })
            .await;
            let (upstreams, peer) = (upstreams(), clear(backend.address));
            // RST overtakes nothing: it is sent once the bytes before it have been read.
            tokio::task::spawn_local(async move {
                tokio::time::sleep(Duration::from_millis(50)).await;
                let _ = go.send(());
            });
            let outcome = Ask::get(&peer).send(&upstreams).await;
            describe(outcome, &upstreams).await
        });
        assert_eq!(found, expected, "{before:?}");
    }
}

#[test]
fn silence_ends_in_the_timeout_of_its_phase() {
    local(async {
        let backend = serve(|_, mut conn| async move {
            conn.head().await;
            std::future::pending::<()>().await;
        })
        .await;
        let (upstreams, peer) = (upstreams(), clear(backend.address));
        let failed = Ask { timeouts: HASTY, ..Ask::get(&peer) }.send(&upstreams).await.unwrap_err();
        assert_eq!((failed.error.reason(), failed.error.timeout()), ("read_timeout", Some("read")));

        let deaf = serve(|_, conn| async move {
            let _conn = conn;
            std::future::pending::<()>().await;
        })
        .await;
        let peer = clear(deaf.address);
        let body = RequestBody::Full(Bytes::from(vec![0; 64 << 20]));
        let ask = Ask::post(&peer, Framing::Length(64 << 20), body);
        let failed = Ask { timeouts: HASTY, ..ask }.send(&upstreams).await.unwrap_err();
        assert_eq!((failed.error.reason(), failed.error.timeout()), ("send_timeout", Some("send")));
        assert!(failed.error.sent);
    });
}

/// A listener whose queue is full drops what asks for a connection, as a machine that is gone does.
#[test]
fn a_backend_that_takes_no_connection_ends_in_the_connect_timeout() {
    let hole = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    hole.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
    hole.listen(0).unwrap();
    let address = hole.local_addr().unwrap().as_socket().unwrap();
    let connect = || std::net::TcpStream::connect_timeout(&address, Duration::from_millis(200));
    let mut waiting = Vec::new();
    while waiting.len() < 16
        && let Ok(one) = connect()
    {
        waiting.push(one);
    }
    assert!(waiting.len() < 16, "the queue is full");
    local(async {
        let (upstreams, peer) = (upstreams(), clear(address));
        let body = RequestBody::Full(Bytes::from_static(b"x"));
        let ask = Ask { timeouts: HASTY, ..Ask::post(&peer, Framing::Length(1), body) };
        let failed = ask.send(&upstreams).await.unwrap_err();
        assert_eq!((failed.error.reason(), failed.error.timeout()), ("connect_timeout", Some("connect")));
        assert!(!failed.error.sent && failed.body.is_some(), "another endpoint may be asked");
    });
}

#[test]
fn a_body_that_stalls_is_cut_by_the_read_timeout() {
    local(async {
        let backend = serve(|_, mut conn| async move {
            conn.head().await;
            conn.write("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nab").await;
            conn.closed().await;
        })
        .await;
        let (upstreams, peer) = (upstreams(), clear(backend.address));
        let answer = Ask { timeouts: HASTY, ..Ask::get(&peer) }.send(&upstreams).await.unwrap();
        let (data, _, error) = read(answer.content).await;
        assert_eq!((data.as_slice(), error), (&b"ab"[..], Some(BodyError::UpstreamTimeout)));
    });
}

#[test]
fn a_silent_client_is_no_timeout_of_the_backend() {
    local(async {
        let backend = serve(|_, mut conn| async move {
            conn.head().await;
            conn.closed().await;
        })
        .await;
        let (upstreams, peer) = (upstreams(), clear(backend.address));
        let ask = Ask { timeouts: HASTY, ..Ask::post(&peer, Framing::Chunked, silent()) };
        let waited = tokio::time::timeout(HASTY.read * 4, ask.send(&upstreams)).await;
        assert!(waited.is_err(), "{waited:?}");
    });
}

#[test]
fn a_failing_client_body_is_the_clients_fault_and_closes_the_backend_connection() {
    local(async {
        let (told, closed) = tokio::sync::oneshot::channel();
        let told = Cell::new(Some(told));
        let backend = serve(move |_, mut conn| {
            let told = told.take();
            async move {
                conn.head().await;
                let _ = told.unwrap().send(conn.closed().await);
            }
        })
        .await;
        let (upstreams, peer) = (upstreams(), clear(backend.address));
        let body = stream_of(vec![Bytes::from_static(b"abc")], Some(Err(BodyError::TooLarge)));
        let failed = Ask::post(&peer, Framing::Chunked, body).send(&upstreams).await.unwrap_err();
        assert_eq!(failed.error.client(), Some(BodyError::TooLarge));
        assert_eq!(failed.error.failure(), None);
        assert!(failed.body.is_none());
        assert!(closed.await.unwrap());
    });
}

#[test]
fn bodies_that_differ_from_their_length_never_look_complete() {
    for (pieces, length) in [(vec!["abc"], 5_u64), (vec!["abc", "def"], 5)] {
        local(async {
            let backend = serve(|_, mut conn| async move {
                conn.head().await;
                conn.closed().await;
            })
            .await;
            let (upstreams, peer) = (upstreams(), clear(backend.address));
            let pieces = pieces.iter().map(|piece| Bytes::from_static(piece.as_bytes())).collect();
            let ask = Ask::post(&peer, Framing::Length(length), stream_of(pieces, None));
            let failed = ask.send(&upstreams).await.unwrap_err();
            assert!(matches!(failed.error.client(), Some(BodyError::Framing(_))), "{failed:?}");
        });
    }
}

#[test]
fn an_early_413_reaches_the_client_although_the_backend_stops_reading() {
    for round in 0..20 {
        local(async {
            let backend = serve(|_, mut conn| async move {
                conn.head().await;
                conn.write("HTTP/1.1 413 Too Large\r\nConnection: close\r\nContent-Length: 3\r\n\r\nbig")
                    .await;
                // Unread bytes are left in the socket, so that the kernel answers with RST.
            })
            .await;
            let (upstreams, peer) = (upstreams(), clear(backend.address));
            let ask = Ask::post(&peer, Framing::Length(10 << 20), bulk(10 << 20));
            let outcome = ask.send(&upstreams).await;
            assert_eq!(describe(outcome, &upstreams).await, "413 \"big\" dropped", "round {round}");
        });
    }
}

#[test]
fn ten_mebibytes_each_way_do_not_lock() {
    const SIZE: usize = 10 << 20;
    local(async {
        let backend = serve(|_, mut conn| async move {
            conn.head().await;
            // Everything out before anything in, then the last byte once all is in.
            conn.write(format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", SIZE + 1)).await;
            conn.write(vec![b'd'; SIZE]).await;
            assert!(conn.exactly(SIZE).await.iter().all(|byte| *byte == b'u'));
            conn.write("!").await;
            conn.closed().await;
        })
        .await;
        let (upstreams, peer) = (upstreams(), clear(backend.address));
        let ask = Ask::post(&peer, Framing::Length(SIZE as u64), bulk(SIZE));
        let times = Rc::clone(&ask.times);
        let answer = ask.send(&upstreams).await.unwrap();
        let (data, _, error) = read(answer.content).await;
        assert_eq!((data.len(), data.last(), error), (SIZE + 1, Some(&b'!'), None));
        assert_eq!(upstreams.kept_connections().0, 1);
        assert!(times.sent() > SIZE as u64 && times.received() > SIZE as u64);
        assert!(times.response() >= times.header() && times.header() >= times.connect());
    });
}

#[test]
fn an_early_complete_answer_costs_the_connection() {
    local(async {
        let backend = serve(|_, mut conn| async move {
            conn.head().await;
            conn.write("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await;
            conn.closed().await;
        })
        .await;
        let (upstreams, peer) = (upstreams(), clear(backend.address));
        let outcome = Ask::post(&peer, Framing::Chunked, silent()).send(&upstreams).await;
        assert_eq!(describe(outcome, &upstreams).await, "200 \"ok\" dropped");
    });
}

/// A backend that answers without reading would take what is left of the body for the next request (C.7).
#[test]
fn an_answer_before_the_whole_request_costs_the_connection_also_when_the_rest_could_follow() {
    for (framing, length) in [(Framing::Length(3), 2), (Framing::Chunked, 2), (Framing::Length(3), 0)] {
        local(async {
            let backend = serve(move |_, mut conn| async move {
                conn.head().await;
                let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n");
                conn.write(answer + &"ok"[..length]).await;
                std::future::pending::<()>().await;
            })
            .await;
            let (upstreams, peer) = (upstreams(), clear(backend.address));
            let ask = Ask::post(&peer, framing, RequestBody::Empty);
            let body = after_the_answer(&ask.times, b"GET");
            let outcome = Ask { body, ..ask }.send(&upstreams).await;
            let expected = format!("200 {:?} dropped", &"ok"[..length]);
            assert_eq!(describe(outcome, &upstreams).await, expected, "{framing:?}");
        });
    }
}

#[test]
fn requests_are_framed_as_asked() {
    let trailers = || {
        let mut map = HeaderMap::new();
        map.insert("x-sum", http::HeaderValue::from_static("7"));
        map.insert("content-length", http::HeaderValue::from_static("7"));
        Some(Ok(Frame::trailers(map)))
    };
    let pieces = || vec![Bytes::from_static(b"abc"), Bytes::new(), Bytes::from_static(b"defg")];
    let line = "GET /path?q=1 HTTP/1.1\r\nHost: a.test\r\n";
    let full = || RequestBody::Full(Bytes::from_static(b"abcdefg"));
    let cases: Vec<(Framing, RequestBody, HttpVersion, String)> = vec![
        (Framing::None, RequestBody::Empty, HttpVersion::Http11, format!("{line}\r\n")),
        (
            Framing::Length(0),
            RequestBody::Empty,
            HttpVersion::Http11,
            format!("{line}Content-Length: 0\r\n\r\n"),
        ),
        (Framing::Length(7), full(), HttpVersion::Http11, format!("{line}Content-Length: 7\r\n\r\nabcdefg")),
        (
            Framing::Length(7),
            stream_of(pieces(), None),
            HttpVersion::Http11,
            format!("{line}Content-Length: 7\r\n\r\nabcdefg"),
        ),
        (
            Framing::Chunked,
            stream_of(pieces(), trailers()),
            HttpVersion::Http11,
            format!("{line}Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n4\r\ndefg\r\n0\r\n\r\n"),
        ),
        (
            Framing::Chunked,
            RequestBody::Empty,
            HttpVersion::Http11,
            format!("{line}Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
        ),
        (
            Framing::Length(7),
            full(),
            HttpVersion::Http10,
            format!("{}Content-Length: 7\r\n\r\nabcdefg", line.replace("1.1", "1.0")),
        ),
    ];
    for (framing, body, version, expected) in cases {
        let found = local(async {
            let (told, seen) = tokio::sync::oneshot::channel();
            let told = Cell::new(Some(told));
            let length = expected.len();
            let backend = serve(move |_, mut conn| {
                let told = told.take();
                async move {
                    let request = conn.exactly(length).await;
                    conn.write("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").await;
                    let _ = told.unwrap().send(String::from_utf8(request).unwrap());
                    conn.closed().await;
                }
            })
            .await;
            let (upstreams, peer) = (upstreams(), clear(backend.address));
            let ask = Ask { framing, body, version, ..Ask::get(&peer) };
            let answer = ask.send(&upstreams).await.unwrap();
            read(answer.content).await;
            let kept = upstreams.kept_connections().0;
            assert_eq!(kept, usize::from(version == HttpVersion::Http11), "{framing:?}");
            seen.await.unwrap()
        });
        assert_eq!(found, expected);
    }
}

#[test]
fn requests_that_cannot_be_written_are_our_fault_and_keep_their_body() {
    for (framing, version) in [
        (Framing::None, HttpVersion::Http11),
        (Framing::UntilClose, HttpVersion::Http11),
        (Framing::Chunked, HttpVersion::Http10),
    ] {
        local(async {
            let backend = serve(|_, mut conn| async move {
                conn.closed().await;
            })
            .await;
            let (upstreams, peer) = (upstreams(), clear(backend.address));
            let body = RequestBody::Full(Bytes::from_static(b"x"));
            let ask = Ask { framing, version, body, ..Ask::get(&peer) };
            let failed = ask.send(&upstreams).await.unwrap_err();
            assert!(matches!(failed.error.kind, ErrorKind::Request(_)), "{framing:?}");
            assert!(failed.body.is_some() && !failed.error.sent);
        });
    }
}

#[test]
fn an_upgrade_gives_the_byte_stream_with_what_was_read_ahead() {
    local(async {
        let backend = serve(|_, mut conn| async move {
            conn.head().await;
            conn.write("HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\nahead")
                .await;
            let echo = conn.exactly(4).await;
            conn.write(echo).await;
            conn.closed().await;
        })
        .await;
        let (upstreams, peer) = (upstreams(), clear(backend.address));
        let answer = Ask { upgrade: true, ..Ask::get(&peer) }.send(&upstreams).await.unwrap();
        assert_eq!(answer.head.status, 101);
        let Content::Tunnel(mut tunnel) = answer.content else { panic!("no tunnel") };
        let mut bytes = [0; 5];
        tunnel.read_exact(&mut bytes).await.unwrap();
        assert_eq!(&bytes, b"ahead");
        tunnel.write_all(b"ping").await.unwrap();
        let mut bytes = [0; 4];
        tunnel.read_exact(&mut bytes).await.unwrap();
        assert_eq!(&bytes, b"ping");
    });
}

#[test]
fn refused_connections_leave_the_body_untouched() {
    local(async {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let peer = clear(listener.local_addr().unwrap());
        drop(listener);
        let upstreams = upstreams();
        let ask = Ask::post(&peer, Framing::Length(10 << 20), bulk(10 << 20));
        let times = Rc::clone(&ask.times);
        let failed = ask.send(&upstreams).await.unwrap_err();
        assert_eq!(failed.error.reason(), "connect_refused");
        assert!(!failed.error.sent && matches!(failed.body, Some(RequestBody::Stream(_))));
        assert!(times.connect().is_none() && times.response().is_some());
    });
}
