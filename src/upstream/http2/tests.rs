//! HTTP/2 backends made with `h2`'s server.

use std::rc::Rc;
use std::time::Duration;

use h2::server::{Builder, Connection as Server, SendResponse};
use h2::{Reason, RecvStream};
use http::{HeaderMap, HeaderValue, Method, Request, Response};
use tokio::net::TcpStream;

use super::*;
use crate::message::BodyError;
use crate::upstream::tests::{
    Ask, HASTY, PATIENT, Scripted, fields, local, read, serve, silent, stream_of, upstreams,
};
use crate::upstream::{Peer, Protocol, Upstreams};
use crate::wire::Framing;

/// Serves every stream of every connection with `handler`.
async fn backend<F, Fut>(max_streams: u32, handler: F) -> Scripted
where
    F: Fn(Request<RecvStream>, SendResponse<Bytes>) -> Fut + Clone + 'static,
    Fut: Future<Output = ()> + 'static,
{
    serve(move |_, conn| {
        let handler = handler.clone();
        async move {
            let mut server = accept(conn.stream, max_streams).await;
            while let Some(Ok((request, respond))) = server.accept().await {
                tokio::task::spawn_local(handler(request, respond));
            }
        }
    })
    .await
}

async fn accept(stream: TcpStream, max_streams: u32) -> Server<TcpStream, Bytes> {
    Builder::new()
        .max_concurrent_streams(max_streams)
        .initial_window_size(1 << 20)
        .handshake(stream)
        .await
        .unwrap()
}

fn peer(backend: &Scripted) -> Peer {
    Peer { address: backend.address, protocol: Protocol::Http2, kept: None, tls: None }
}

fn grpc(peer: &Peer, body: RequestBody) -> Ask<'_> {
    let fields = fields(&[
        ("Host", "grpc.test"),
        ("Content-Type", "application/grpc"),
        ("TE", "trailers"),
        ("Connection", "close"),
        ("Keep-Alive", "x"),
    ]);
    Ask { method: Method::POST, fields, ..Ask::post(peer, Framing::Chunked, body) }
}

fn status(code: &'static str) -> HeaderMap {
    let mut map = HeaderMap::new();
    map.insert("grpc-status", HeaderValue::from_static(code));
    map
}

/// Sends the request body back, then trailers.
async fn echo(request: Request<RecvStream>, mut respond: SendResponse<Bytes>) {
    let mut stream = respond.send_response(Response::new(()), false).unwrap();
    let mut body = request.into_body();
    while let Some(Ok(data)) = body.data().await {
        let _ = body.flow_control().release_capacity(data.len());
        if stream.send_data(data, false).is_err() {
            return;
        }
    }
    let _ = stream.send_trailers(status("0"));
}

#[test]
fn a_call_streams_both_ways_and_ends_with_trailers() {
    local(async {
        let backend = backend(100, echo).await;
        let (upstreams, peer) = (upstreams(), peer(&backend));
        for reused in [false, true] {
            let body = stream_of(vec![Bytes::from_static(b"one "), Bytes::from_static(b"two")], None);
            let answer = grpc(&peer, body).send(&upstreams).await.unwrap();
            assert_eq!((answer.head.status.as_u16(), answer.reused), (200, reused));
            let (data, trailers, error) = read(answer.content).await;
            assert_eq!((data.as_slice(), error), (&b"one two"[..], None));
            assert_eq!(trailers.unwrap()["grpc-status"], "0");
        }
        assert_eq!(backend.accepted.get(), 1);
    });
}

#[test]
fn the_head_is_translated_and_loses_what_belongs_to_a_connection() {
    local(async {
        let backend =
            backend(100, |request: Request<RecvStream>, mut respond: SendResponse<Bytes>| async move {
                let uri = request.uri();
                let mut names: Vec<_> = request.headers().keys().map(http::HeaderName::as_str).collect();
                names.sort_unstable();
                let text = format!(
                    "{} {} {} {} {}",
                    request.method(),
                    uri.scheme_str().unwrap(),
                    uri.authority().unwrap(),
                    uri.path_and_query().unwrap(),
                    names.join(",")
                );
                let response = Response::builder().status(201).header("x-seen", text).body(()).unwrap();
                respond.send_response(response, true).unwrap();
            })
            .await;
        let (upstreams, peer) = (upstreams(), peer(&backend));
        let answer = grpc(&peer, RequestBody::Empty).send(&upstreams).await.unwrap();
        assert_eq!(answer.head.status.as_u16(), 201);
        let seen = answer.head.fields.get_str("x-seen");
        assert_eq!(seen, Some("POST http grpc.test /path?q=1 content-type,te"));
        let (data, trailers, error) = read(answer.content).await;
        assert!(data.is_empty() && trailers.is_none() && error.is_none());
    });
}

#[test]
fn calls_share_a_connection_until_its_streams_run_out() {
    for (max_streams, connections) in [(100, 1), (4, 3)] {
        local(async {
            let backend = backend(max_streams, echo).await;
            let (upstreams, peer) = (Rc::new(upstreams()), peer(&backend));
            // The backend's settings are known after a first call.
            read(grpc(&peer, RequestBody::Empty).send(&upstreams).await.unwrap().content).await;
            let mut open = Vec::new();
            for _ in 0..10 {
                open.push(grpc(&peer, silent()).send(&upstreams).await.unwrap());
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            assert_eq!(backend.accepted.get(), connections, "{max_streams}");
            drop(open);
        });
    }
}

#[test]
fn calls_at_once_wait_for_one_connection() {
    local(async {
        let backend = backend(100, echo).await;
        let (upstreams, peer) = (Rc::new(upstreams()), peer(&backend));
        let mut calls = tokio::task::JoinSet::new();
        for _ in 0..20 {
            let (upstreams, peer) = (Rc::clone(&upstreams), peer.clone());
            calls.spawn_local(async move {
                let body = RequestBody::Full(Bytes::from_static(b"x"));
                let answer = grpc(&peer, body).send(&upstreams).await.unwrap();
                read(answer.content).await.0
            });
        }
        while let Some(data) = calls.join_next().await {
            assert_eq!(data.unwrap(), b"x");
        }
        assert_eq!(backend.accepted.get(), 1);
    });
}

#[test]
fn a_refused_stream_may_be_sent_again() {
    local(async {
        let backend = backend(100, |_request, mut respond: SendResponse<Bytes>| async move {
            respond.send_reset(Reason::REFUSED_STREAM);
        })
        .await;
        let (upstreams, peer) = (upstreams(), peer(&backend));
        let body = RequestBody::Full(Bytes::from_static(b"x"));
        let failed = grpc(&peer, body).send(&upstreams).await.unwrap_err();
        assert_eq!((failed.error.reason(), failed.error.sent), ("refused_stream", false));
        assert!(failed.body.is_some());
        assert_eq!(failed.error.failure(), Some(crate::policy::retry::Failure::Connect));
    });
}

#[test]
fn other_resets_count_as_sent() {
    for reason in [Reason::INTERNAL_ERROR, Reason::CANCEL, Reason::ENHANCE_YOUR_CALM] {
        local(async {
            let backend = backend(100, move |_request, mut respond: SendResponse<Bytes>| async move {
                respond.send_reset(reason);
            })
            .await;
            let (upstreams, peer) = (upstreams(), peer(&backend));
            let failed = grpc(&peer, RequestBody::Empty).send(&upstreams).await.unwrap_err();
            assert_eq!((failed.error.reason(), failed.error.sent), ("stream", true), "{reason:?}");
        });
    }
}

#[test]
fn a_connection_told_to_go_away_takes_no_new_calls() {
    local(async {
        let backend = serve(|_, conn| async move {
            let mut server = accept(conn.stream, 100).await;
            let Some(Ok((request, respond))) = server.accept().await else { return };
            tokio::task::spawn_local(echo(request, respond));
            server.graceful_shutdown();
            while server.accept().await.is_some() {}
        })
        .await;
        let (upstreams, peer) = (upstreams(), peer(&backend));
        for _ in 0..3 {
            let body = RequestBody::Full(Bytes::from_static(b"x"));
            let answer = grpc(&peer, body).send(&upstreams).await.unwrap();
            let (data, _, error) = read(answer.content).await;
            assert_eq!((data.as_slice(), error), (&b"x"[..], None));
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        assert_eq!(backend.accepted.get(), 3);
    });
}

#[test]
fn a_cut_body_is_an_error() {
    local(async {
        let backend = backend(100, |_request, mut respond: SendResponse<Bytes>| async move {
            let mut stream = respond.send_response(Response::new(()), false).unwrap();
            stream.send_data(Bytes::from_static(b"part"), false).unwrap();
            tokio::time::sleep(Duration::from_millis(20)).await;
            stream.send_reset(Reason::INTERNAL_ERROR);
        })
        .await;
        let (upstreams, peer) = (upstreams(), peer(&backend));
        let answer = grpc(&peer, RequestBody::Empty).send(&upstreams).await.unwrap();
        let (data, _, error) = read(answer.content).await;
        assert_eq!((data.as_slice(), error), (&b"part"[..], Some(BodyError::Upstream)));
    });
}

#[test]
fn silence_ends_in_the_read_timeout() {
    local(async {
        let backend =
            backend(100, |request: Request<RecvStream>, mut respond: SendResponse<Bytes>| async move {
                let with_head = request.headers().contains_key("x-head");
                let _stream = with_head.then(|| respond.send_response(Response::new(()), false).unwrap());
                std::future::pending::<()>().await;
            })
            .await;
        let (upstreams, peer) = (upstreams(), peer(&backend));
        let failed =
            Ask { timeouts: HASTY, ..grpc(&peer, RequestBody::Empty) }.send(&upstreams).await.unwrap_err();
        assert_eq!(failed.error.timeout(), Some("read"));
        let with_head = fields(&[("Host", "grpc.test"), ("x-head", "1")]);
        let ask = Ask { timeouts: HASTY, fields: with_head, ..grpc(&peer, RequestBody::Empty) };
        let answer = ask.send(&upstreams).await.unwrap();
        assert_eq!(read(answer.content).await.2, Some(BodyError::UpstreamTimeout));
    });
}

#[test]
fn ten_mebibytes_each_way_do_not_lock() {
    const SIZE: usize = 10 << 20;
    local(async {
        let backend =
            backend(100, |request: Request<RecvStream>, mut respond: SendResponse<Bytes>| async move {
                let mut stream = respond.send_response(Response::new(()), false).unwrap();
                stream.send_data(Bytes::from(vec![b'd'; SIZE]), false).unwrap();
                let mut body = request.into_body();
                let mut total = 0;
                while let Some(Ok(data)) = body.data().await {
                    let _ = body.flow_control().release_capacity(data.len());
                    total += data.len();
                }
                assert_eq!(total, SIZE);
                stream.send_trailers(status("0")).unwrap();
            })
            .await;
        let (upstreams, peer) = (upstreams(), peer(&backend));
        let answer = grpc(&peer, crate::upstream::tests::bulk(SIZE)).send(&upstreams).await.unwrap();
        let (data, trailers, error) = read(answer.content).await;
        assert_eq!((data.len(), trailers.is_some(), error), (SIZE, true, None));
    });
}

#[test]
fn a_failing_client_body_resets_the_stream() {
    local(async {
        let backend =
            backend(100, |request: Request<RecvStream>, _respond: SendResponse<Bytes>| async move {
                let mut body = request.into_body();
                while let Some(Ok(_)) = body.data().await {}
            })
            .await;
        let (upstreams, peer) = (upstreams(), peer(&backend));
        let body = stream_of(vec![Bytes::from_static(b"x")], Some(Err(BodyError::Gone)));
        let failed = grpc(&peer, body).send(&upstreams).await.unwrap_err();
        assert_eq!(failed.error.client(), Some(BodyError::Gone));
    });
}

#[test]
fn a_backend_that_speaks_no_http2_is_no_answer() {
    local(async {
        let backend = serve(|_, mut conn| async move {
            conn.write("HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n").await;
            conn.closed().await;
        })
        .await;
        let (upstreams, peer) = (upstreams(), peer(&backend));
        let failed = Ask { timeouts: PATIENT, ..grpc(&peer, RequestBody::Empty) }.send(&upstreams).await;
        assert!(failed.unwrap_err().error.failure().is_some());
    });
}

#[test]
fn idle_and_vanished_connections_are_let_go() {
    local(async {
        let backend = backend(100, echo).await;
        let (upstreams, peer): (Upstreams, _) = (upstreams(), peer(&backend));
        read(grpc(&peer, RequestBody::Empty).send(&upstreams).await.unwrap().content).await;
        assert_eq!(upstreams.kept_connections().1, 1);
        upstreams.sweep();
        assert_eq!(upstreams.kept_connections().1, 1);
        let none = crate::route::EndpointMap::default();
        upstreams.publish(std::iter::empty(), &none, crate::upstream::tests::KEEPALIVE, || None).await;
        assert_eq!(upstreams.kept_connections().1, 0);
    });
}

#[test]
fn a_client_that_leaves_resets_its_stream_and_no_other() {
    local(async {
        let resets = Rc::new(Cell::new(0));
        let count = Rc::clone(&resets);
        let backend = backend(100, move |request: Request<RecvStream>, mut respond: SendResponse<Bytes>| {
            let count = Rc::clone(&count);
            async move {
                if request.headers().contains_key("x-stays") {
                    return echo(request, respond).await;
                }
                let reason = std::future::poll_fn(|cx| respond.poll_reset(cx)).await.unwrap();
                assert_eq!(reason, Reason::CANCEL);
                count.set(count.get() + 1);
            }
        })
        .await;
        let (upstreams, peer) = (upstreams(), peer(&backend));
        let stays = fields(&[("Host", "grpc.test"), ("x-stays", "1")]);
        let stays = Ask { fields: stays, ..grpc(&peer, RequestBody::Full(Bytes::from_static(b"x"))) };
        let answer = stays.send(&upstreams).await.unwrap();
        let leaves = grpc(&peer, RequestBody::Empty).send(&upstreams);
        assert!(tokio::time::timeout(Duration::from_millis(50), leaves).await.is_err());
        assert_eq!(read(answer.content).await.0, b"x");
        while resets.get() == 0 {
            tokio::task::yield_now().await;
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        assert_eq!(backend.accepted.get(), 1);
    });
}
