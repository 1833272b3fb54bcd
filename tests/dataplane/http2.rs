//! HTTP/2 towards clients, by hyper's client over clear text with prior knowledge.

use std::io::Write;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use http::{HeaderMap, Method, Request, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper_util::rt::{TokioExecutor, TokioIo};

use crate::support::TestProxy;
use crate::support::backend::{Backend, read_request};
use crate::support::client::Raw;
use crate::support::manifests::{annotated, simple};

type Sender = hyper::client::conn::http2::SendRequest<Full<Bytes>>;

fn block<T>(test: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap().block_on(test)
}

async fn connect(address: SocketAddr) -> Sender {
    let stream = tokio::net::TcpStream::connect(address).await.unwrap();
    let (sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    sender
}

fn request(method: Method, target: &str, body: &'static str) -> Request<Full<Bytes>> {
    Request::builder()
        .method(method)
        .uri(format!("http://h.test{target}"))
        .header("cookie", "a=1")
        .header("cookie", "b=2")
        .body(Full::new(Bytes::from_static(body.as_bytes())))
        .unwrap()
}

async fn read(
    response: http::Response<hyper::body::Incoming>,
) -> (StatusCode, HeaderMap, Bytes, Option<HeaderMap>) {
    let (parts, body) = response.into_parts();
    let body = body.collect().await.unwrap();
    let trailers = body.trailers().cloned();
    (parts.status, parts.headers, body.to_bytes(), trailers)
}

/// Asks for `h.test` over one connection, eight streams at a time, until `stop`; how many answers came, and those that
/// were not 200 or not of one table.
pub(crate) fn ask_until(address: SocketAddr, stop: &AtomicBool) -> (usize, Vec<String>) {
    block(async {
        let mut sender = connect(address).await;
        let (mut answered, mut odd) = (0, Vec::new());
        while !stop.load(Ordering::Relaxed) {
            let mut wave = Vec::new();
            for _ in 0..8 {
                if sender.ready().await.is_err() {
                    break;
                }
                wave.push(sender.send_request(request(Method::GET, "/", "")));
            }
            let mut closed = wave.is_empty();
            for one in wave {
                let response = match one.await {
                    Ok(response) => response,
                    // keep-alive-requests is reached: GOAWAY came before this one was sent.
                    Err(error) if error.is_canceled() => {
                        closed = true;
                        continue;
                    }
                    Err(error) => {
                        odd.push(error.to_string());
                        continue;
                    }
                };
                let (status, _, body, _) = read(response).await;
                answered += 1;
                if status != StatusCode::OK || (body != "even even" && body != "odd odd") {
                    odd.push(format!("{status} {body:?}"));
                }
            }
            if closed {
                sender = connect(address).await;
            }
        }
        (answered, odd)
    })
}

#[test]
fn many_streams_share_one_connection_and_reach_an_http_1_backend() {
    let backend = Backend::echo("b");
    let proxy = TestProxy::start(&simple(backend.address()), &["--workers=1"]);
    block(async {
        let sender = connect(proxy.http()).await;
        let all: Vec<_> = (0..100)
            .map(|number| {
                let mut sender = sender.clone();
                tokio::spawn(async move {
                    sender.ready().await.unwrap();
                    let response = sender
                        .send_request(request(Method::GET, &format!("/{number}?x=%2F"), ""))
                        .await
                        .unwrap();
                    (number, read(response).await)
                })
            })
            .collect();
        for one in all {
            let (number, (status, headers, body, _)) = one.await.unwrap();
            assert_eq!(status, StatusCode::OK);
            assert_eq!(body, format!("GET /{number}?x=%2F HTTP/1.1"));
            assert_eq!(headers.get("x-backend").unwrap(), "b");
            assert!(headers.get("connection").is_none() && headers.contains_key("date"));
        }
    });
    let seen = backend.requests();
    assert_eq!(seen[0].field("host"), Some("h.test"));
    assert_eq!(seen[0].field("cookie"), Some("a=1; b=2"), "crumbs are joined");
    assert_eq!(seen[0].field("x-forwarded-proto"), Some("http"));
}

#[test]
fn bodies_pass_in_both_directions() {
    let backend = Backend::echo("b");
    let proxy = TestProxy::start(&annotated(backend.address(), &[("proxy-body-size", "0")]), &[]);
    block(async {
        let mut sender = connect(proxy.http()).await;
        for size in [1, 1000, 100_000, 3_000_000] {
            let body = Bytes::from(vec![b'z'; size]);
            let request = Request::post("http://h.test/").body(Full::new(body.clone())).unwrap();
            sender.ready().await.unwrap();
            let (status, _, echoed, _) = read(sender.send_request(request).await.unwrap()).await;
            assert_eq!(status, StatusCode::OK);
            assert!(echoed == body, "{size}");
        }
    });
}

#[test]
fn trailers_of_an_http_1_backend_always_reach_the_client() {
    let backend = Backend::answering(|_| {
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\nX-Sum: 7\r\n\r\n".to_vec()
    });
    let proxy = TestProxy::start(&simple(backend.address()), &[]);
    block(async {
        let mut sender = connect(proxy.http()).await;
        let (_, _, body, trailers) =
            read(sender.send_request(request(Method::GET, "/", "")).await.unwrap()).await;
        assert_eq!(body, "ok");
        assert_eq!(trailers.unwrap().get("x-sum").unwrap(), "7");
    });
}

#[test]
fn local_answers_and_head_have_their_shape() {
    let backend = Backend::echo("b");
    let proxy = TestProxy::start(&annotated(backend.address(), &[("proxy-body-size", "2")]), &[]);
    block(async {
        let mut sender = connect(proxy.http()).await;
        let unknown = Request::get("http://unknown.test/").body(Full::default()).unwrap();
        let (status, headers, body, _) = read(sender.send_request(unknown).await.unwrap()).await;
        assert_eq!((status, body.len()), (StatusCode::NOT_FOUND, 146));
        assert!(headers.get("server").is_none());
        sender.ready().await.unwrap();
        let (status, _, body, _) =
            read(sender.send_request(request(Method::HEAD, "/", "")).await.unwrap()).await;
        assert_eq!((status, body.len()), (StatusCode::OK, 0));
        sender.ready().await.unwrap();
        let (status, ..) = read(sender.send_request(request(Method::POST, "/", "xyz")).await.unwrap()).await;
        assert_eq!(status, StatusCode::PAYLOAD_TOO_LARGE);
        sender.ready().await.unwrap();
        let (status, ..) = read(sender.send_request(request(Method::POST, "/", "xy")).await.unwrap()).await;
        assert_eq!(status, StatusCode::OK, "the connection goes on after a refused stream");
    });
}

#[test]
fn grpc_reaches_an_http_2_backend_with_its_trailers_and_local_errors_speak_grpc() {
    block(async {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let service =
                    hyper::service::service_fn(|request: Request<hyper::body::Incoming>| async move {
                        assert_eq!(request.headers().get("te").unwrap(), "trailers");
                        let path = request.uri().path().to_owned();
                        let sent = request.into_body().collect().await.unwrap().to_bytes();
                        let mut trailers = HeaderMap::new();
                        trailers.insert("grpc-status", "0".parse().unwrap());
                        trailers.insert("grpc-message", path.parse().unwrap());
                        let body = Full::new(sent).with_trailers(std::future::ready(Some(Ok(trailers))));
                        let answer =
                            http::Response::builder().header("content-type", "application/grpc").body(body);
                        Ok::<_, std::convert::Infallible>(answer.unwrap())
                    });
                tokio::spawn(
                    hyper::server::conn::http2::Builder::new(TokioExecutor::new())
                        .serve_connection(TokioIo::new(stream), service),
                );
            }
        });
        let proxy = TestProxy::start(&annotated(address, &[("backend-protocol", "GRPC")]), &[]);
        let mut sender = connect(proxy.http()).await;
        let call = |uri: &str| {
            Request::post(uri)
                .header("content-type", "application/grpc")
                .header("te", "trailers")
                .body(Full::new(Bytes::from_static(b"\0\0\0\0\x02hi")))
                .unwrap()
        };
        let (status, _, body, trailers) =
            read(sender.send_request(call("http://h.test/pkg.Service/Method")).await.unwrap()).await;
        let trailers = trailers.unwrap();
        assert_eq!((status, &body[..]), (StatusCode::OK, &b"\0\0\0\0\x02hi"[..]));
        assert_eq!(trailers.get("grpc-status").unwrap(), "0");
        assert_eq!(trailers.get("grpc-message").unwrap(), "/pkg.Service/Method");
        sender.ready().await.unwrap();
        let (status, headers, ..) =
            read(sender.send_request(call("http://unknown.test/x.Y/Z")).await.unwrap()).await;
        assert_eq!(status, StatusCode::OK);
        assert_eq!(headers.get("grpc-status").unwrap(), "12");
    });
}

#[test]
fn a_table_swap_touches_no_stream() {
    let backend = Backend::echo("b");
    let proxy = TestProxy::start(&simple(backend.address()), &[]);
    block(async {
        let mut sender = connect(proxy.http()).await;
        for round in 0..20 {
            sender.ready().await.unwrap();
            let (status, ..) = read(sender.send_request(request(Method::GET, "/", "")).await.unwrap()).await;
            assert_eq!(status, StatusCode::OK);
            let text = annotated(backend.address(), &[("proxy-read-timeout", &format!("{}", 60 + round))]);
            proxy.swap(&text);
        }
    });
}

#[test]
fn extended_connect_opens_a_websocket_to_an_http_1_backend() {
    let backend = crate::upgrade::echo();
    let proxy = TestProxy::start(&simple(backend.address()), &[]);
    block(async {
        let stream = tokio::net::TcpStream::connect(proxy.http()).await.unwrap();
        let (mut client, connection) = h2::client::handshake(stream).await.unwrap();
        tokio::spawn(connection);
        // The server must have announced it (RFC 8441 section 3).
        for _ in 0..1000 {
            if client.is_extended_connect_protocol_enabled() {
                break;
            }
            tokio::task::yield_now().await;
            tokio::time::sleep(std::time::Duration::from_millis(1)).await;
        }
        let mut request =
            Request::builder().method(Method::CONNECT).uri("http://h.test/chat").body(()).unwrap();
        request.extensions_mut().insert(h2::ext::Protocol::from_static("websocket"));
        request.headers_mut().insert("sec-websocket-version", "13".parse().unwrap());
        let (answer, mut send) = client.send_request(request, false).unwrap();
        let answer = answer.await.unwrap();
        assert_eq!(answer.status(), StatusCode::OK);
        assert!(answer.headers().get("upgrade").is_none());
        let mut body = answer.into_body();
        for word in ["hello", "again"] {
            send.send_data(Bytes::from_static(word.as_bytes()), false).unwrap();
            let mut got = Vec::new();
            while got.len() < word.len() {
                let data = body.data().await.unwrap().unwrap();
                let _ = body.flow_control().release_capacity(data.len());
                got.extend_from_slice(&data);
            }
            assert_eq!(got, word.as_bytes());
        }
    });
}

/// The pieces in which a backend writes its answer to `/<case>`; it closes behind them where it says so.
fn pieces(case: usize) -> (&'static [&'static str], bool) {
    const CLOSE: bool = true;
    match case {
        0 => (&["HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"], false),
        1 => (&["H", "TTP/1.1 200 OK\r\nContent-Le", "ngth: 2\r\n\r", "\nok"], false),
        2 => (&["HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n", "o", "k"], false),
        3 => (
            &["HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"],
            false,
        ),
        4 => (
            &["HTTP/1.1 103 Early Hints\r\n\r\n", "HTTP/1.1 404 Not Found\r\nContent-Length: 2\r\n\r\nno"],
            false,
        ),
        5 => (&["HTTP/1.1 200 OK\r\n\r\n", "until the ", "end"], CLOSE),
        6 => (&["HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3", "\r\nabc\r", "\n0\r\n\r\n"], false),
        7 => (&[], CLOSE),
        8 => (&["HTTP/1.1 200 OK\r\nContent-"], CLOSE),
        9 => (&["HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nok"], false),
        10 => (&["HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n", "short"], CLOSE),
        11 => (&["HTTP/1.1 204 No Content\r\n\r\n"], false),
        12 => (&["HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"], CLOSE),
        _ => (&["HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nab"], CLOSE),
    }
}

#[test]
fn answers_read_together_are_those_that_one_alone_gets() {
    const CASES: usize = 14;
    let backend = Backend::script(|mut stream, _| {
        let mut reader = std::io::BufReader::new(stream.try_clone().unwrap());
        while let Some(request) = read_request(&mut reader) {
            let (pieces, closes) = pieces(request.line.split(['/', ' ']).nth(2).unwrap().parse().unwrap());
            for piece in pieces {
                if stream.write_all(piece.as_bytes()).is_err() {
                    return;
                }
                // So that most pieces are read one by one; what comes of them is the same if they are not.
                std::thread::sleep(std::time::Duration::from_millis(2));
            }
            if closes {
                return;
            }
        }
    });
    let proxy = TestProxy::start(&simple(backend.address()), &["--workers=1"]);
    // Status, body, and whether that was all of it.
    let alone: Vec<(u16, Vec<u8>, bool)> = (0..CASES)
        .map(|case| {
            let mut raw = Raw::connect(proxy.http());
            raw.send(format!("GET /{case} HTTP/1.1\r\nHost: h.test\r\n\r\n"));
            let answer = raw.answer();
            (answer.status, answer.body, answer.whole)
        })
        .collect();
    let statuses: Vec<u16> = alone.iter().map(|answer| answer.0).collect();
    assert_eq!(statuses, [200, 200, 200, 200, 404, 200, 200, 502, 502, 502, 200, 204, 200, 200]);
    let together = block(async {
        let mut sender = connect(proxy.http()).await;
        let mut asked = Vec::new();
        for turn in 0..5 * CASES {
            sender.ready().await.unwrap();
            let target = format!("/{}", turn % CASES);
            asked.push(sender.send_request(request(Method::GET, &target, "")));
        }
        let mut answers = Vec::new();
        for one in asked {
            let (parts, mut body) = one.await.unwrap().into_parts();
            let (mut all, mut whole) = (Vec::new(), true);
            while let Some(frame) = body.frame().await {
                match frame {
                    Ok(frame) => all.extend(frame.into_data().unwrap_or_default()),
                    Err(_) => {
                        whole = false;
                        break;
                    }
                }
            }
            answers.push((parts.status.as_u16(), all, whole));
        }
        answers
    });
    for (turn, answer) in together.iter().enumerate() {
        let (status, body, whole) = &alone[turn % CASES];
        assert_eq!((answer.0, answer.2), (*status, *whole), "case {}", turn % CASES);
        // A stream that is reset may lose what came before; no more than was sent arrives.
        let same = if *whole { answer.1 == *body } else { body.starts_with(&answer.1) };
        assert!(same, "case {}: {:?}", turn % CASES, String::from_utf8_lossy(&answer.1));
    }
}
