//! The driver over a pipe, with a clock that jumps.

use std::cell::Cell;
use std::rc::Rc;
use std::task::{Context, Poll};

use bytes::Bytes;
use h2::client;
use http::StatusCode;
use http_body::{Body, Frame};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
use tokio::task::{JoinHandle, LocalSet, spawn_local};

use super::*;
use crate::message::{BodyError, DownstreamStream, Flow, ResponseBody};
use crate::proxy::tunnel;
use crate::wire::{Fields, ResponseHead, Version};

fn run(test: impl Future<Output = ()>) {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
    LocalSet::new().block_on(&runtime, test);
}

fn answer(body: ResponseBody) -> Response {
    let fields = Fields::new();
    let head = ResponseHead { status: StatusCode::OK, reason: None, version: Version::Http11, fields };
    Response { head, body, trailers: None, close: false, upgrade: None, guard: None }
}

/// The driver; every answer is `bytes` long and its guard counts in `open`.
fn start(
    options: Http2Options,
    bytes: usize,
    open: &Rc<Cell<i32>>,
) -> (DuplexStream, JoinHandle<Option<Flood>>) {
    let (client, server) = duplex(64 * 1024);
    let open = Rc::clone(open);
    let handle = move |request: Request| {
        let open = Rc::clone(&open);
        let bytes = if request.head.target == b"/nothing" { 0 } else { bytes };
        Box::pin(async move {
            open.set(open.get() + 1);
            let guard = Counted(open);
            Response { guard: Some(Rc::new(guard)), ..answer(ResponseBody::Stream(Box::pin(Pieces(bytes)))) }
        })
    };
    let task = spawn_local(async move { serve(server, handle, &options, std::future::pending()).await });
    (client, task)
}

struct Counted(Rc<Cell<i32>>);

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.set(self.0.get() - 1);
    }
}

/// A body of so many bytes in large pieces.
struct Pieces(usize);

impl Flow for Pieces {}

impl Body for Pieces {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let size = self.0.min(200 * 1024);
        self.0 -= size;
        Poll::Ready((size > 0).then(|| Ok(Frame::data(Bytes::from(vec![b'x'; size])))))
    }
}

#[test]
fn a_client_that_takes_nothing_of_an_answer_loses_the_stream_and_not_the_connection() {
    run(async {
        let open = Rc::new(Cell::new(0));
        let (io, task) = start(Http2Options::default(), 1_000_000, &open);
        let (mut sender, connection) = client::handshake(io).await.unwrap();
        spawn_local(connection);
        let request = http::Request::get("http://a.test/").body(()).unwrap();
        // Its window is never opened again: the body is never read.
        let (response, _) = sender.send_request(request, true).unwrap();
        let stalled = response.await.unwrap().into_body();
        tokio::time::sleep(Duration::from_secs(59)).await;
        assert_eq!(open.get(), 1);
        tokio::time::sleep(Duration::from_secs(3)).await;
        assert_eq!(open.get(), 0, "the stream is given up");
        assert!(!task.is_finished(), "the connection goes on");
        drop((stalled, sender));
    });
}

#[test]
fn a_slow_client_that_takes_some_is_served_to_the_end() {
    run(async {
        let open = Rc::new(Cell::new(0));
        let (io, _task) = start(Http2Options::default(), 400_000, &open);
        let (mut sender, connection) = client::handshake(io).await.unwrap();
        spawn_local(connection);
        let request = http::Request::get("http://a.test/").body(()).unwrap();
        let (response, _) = sender.send_request(request, true).unwrap();
        let mut body = response.await.unwrap().into_body();
        let mut total = 0;
        while let Some(piece) = body.data().await {
            let piece = piece.unwrap();
            total += piece.len();
            // About 800 bytes a second; what the library splits off is not waited for.
            let pause = if piece.len() > 1_000 { 20 } else { 0 };
            tokio::time::sleep(Duration::from_secs(pause)).await;
            body.flow_control().release_capacity(piece.len()).unwrap();
        }
        assert_eq!(total, 400_000);
    });
}

#[test]
fn a_client_that_never_speaks_is_cut() {
    run(async {
        let open = Rc::new(Cell::new(0));
        for first in [&b""[..], b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"] {
            let (mut io, task) = start(Http2Options::default(), 0, &open);
            io.write_all(first).await.unwrap();
            let cut = tokio::time::timeout(Duration::from_secs(70), task).await;
            assert_eq!(cut.expect("in time").unwrap(), None);
        }
    });
}

#[test]
fn a_connection_is_retired_after_its_requests() {
    run(async {
        let open = Rc::new(Cell::new(0));
        let options = Http2Options { max_requests: 3, ..Http2Options::default() };
        let (io, task) = start(options, 10, &open);
        let (mut sender, connection) = client::handshake(io).await.unwrap();
        let connection = spawn_local(connection);
        for _ in 0..3 {
            sender = sender.ready().await.unwrap();
            let request = http::Request::get("http://a.test/").body(()).unwrap();
            let (response, _) = sender.send_request(request, true).unwrap();
            assert_eq!(response.await.unwrap().status(), StatusCode::OK);
        }
        task.await.unwrap();
        drop(sender);
        connection.await.unwrap().unwrap();
        assert_eq!(open.get(), 0);
    });
}

#[test]
fn a_flood_is_told_on_the_wire_and_to_the_caller() {
    run(async {
        let open = Rc::new(Cell::new(0));
        let (mut io, task) = start(Http2Options::default(), 0, &open);
        io.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0").await.unwrap();
        let ping = [&[0, 0, 8, 6, 1, 0, 0, 0, 0][..], &[0; 8]].concat();
        for _ in 0..1_001 {
            io.write_all(&ping).await.unwrap();
        }
        assert_eq!(task.await.unwrap(), Some(Flood::Idle));
        let mut received = Vec::new();
        io.read_to_end(&mut received).await.unwrap();
        let go_away = [&[0, 0, 8, 7, 0, 0, 0, 0, 0][..], &[0, 0, 0, 0], &[0, 0, 0, 0xb]].concat();
        assert!(received.ends_with(&go_away), "{received:?}");
    });
}

/// The driver with `handle` for every request.
fn serving<F>(
    options: Http2Options,
    handle: impl Fn(Request) -> F + 'static,
) -> (DuplexStream, JoinHandle<Option<Flood>>)
where
    F: Future<Output = Response> + 'static,
{
    let (client, server) = duplex(64 * 1024);
    let handle = move |request| Box::pin(handle(request));
    (client, spawn_local(async move { serve(server, handle, &options, std::future::pending()).await }))
}

fn get() -> http::Request<()> {
    http::Request::get("http://a.test/").body(()).unwrap()
}

fn post() -> http::Request<()> {
    http::Request::post("http://a.test/").body(()).unwrap()
}

#[test]
fn a_handler_that_panics_hurts_its_own_stream() {
    run(async {
        let first = Cell::new(true);
        let (io, task) = serving(Http2Options::default(), move |_| {
            let bad = first.replace(false);
            async move {
                assert!(!bad, "on purpose");
                answer(ResponseBody::Full(Bytes::from_static(b"well")))
            }
        });
        let (mut sender, connection) = client::handshake(io).await.unwrap();
        spawn_local(connection);
        let (bad, _) = sender.send_request(get(), true).unwrap();
        let (good, _) = sender.send_request(get(), true).unwrap();
        assert_eq!(bad.await.unwrap_err().reason(), Some(h2::Reason::INTERNAL_ERROR));
        let good = good.await.unwrap();
        assert_eq!(good.headers()["content-length"], "4");
        assert!(good.headers().contains_key("date"));
        assert_eq!(good.into_body().data().await.unwrap().unwrap(), "well");
        assert!(!task.is_finished());
    });
}

#[test]
fn a_stream_that_the_client_resets_stops_its_handler_and_its_body() {
    run(async {
        let open = Rc::new(Cell::new(0));
        let counted = Rc::clone(&open);
        let (io, _task) = serving(Http2Options::default(), move |mut request| {
            let open = Rc::clone(&counted);
            async move {
                open.set(open.get() + 1);
                let _guard = Counted(open);
                while let Some(frame) =
                    std::future::poll_fn(|cx| Pin::new(&mut request.body).poll_frame(cx)).await
                {
                    let _piece = frame;
                }
                std::future::pending().await
            }
        });
        let (mut sender, connection) = client::handshake(io).await.unwrap();
        spawn_local(connection);
        let (_response, mut body) = sender.send_request(post(), false).unwrap();
        body.send_data(Bytes::from_static(b"x"), false).unwrap();
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert_eq!(open.get(), 1);
        body.send_reset(h2::Reason::CANCEL);
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert_eq!(open.get(), 0);
    });
}

#[test]
fn a_tunnel_ends_with_its_stream_also_where_the_client_had_ended_its_half() {
    for connection_dies in [false, true] {
        run(async move {
            let (open, ended) = (Rc::new(Cell::new(0)), Rc::new(Cell::new(false)));
            let (backends, mut accepted) = tokio::sync::mpsc::unbounded_channel();
            let (counted, over) = (Rc::clone(&open), Rc::clone(&ended));
            let (io, _task) = serving(Http2Options::default(), move |_| {
                let (open, over, backends) = (Rc::clone(&counted), Rc::clone(&over), backends.clone());
                async move {
                    open.set(open.get() + 1);
                    let guard = Counted(open);
                    let upgrade =
                        Box::new(move |client: DownstreamStream| -> Pin<Box<dyn Future<Output = ()>>> {
                            Box::pin(async move {
                                let _guard = guard;
                                let (near, far) = duplex(64);
                                backends.send(far).unwrap();
                                let idle = Duration::from_secs(3_600);
                                tunnel::join(client, near, idle, std::future::pending(), |_| ()).await;
                                over.set(true);
                            })
                        });
                    Response { upgrade: Some(upgrade), ..answer(ResponseBody::Empty) }
                }
            });
            let (mut sender, connection) = client::handshake(io).await.unwrap();
            let connection = spawn_local(connection);
            while !sender.is_extended_connect_protocol_enabled() {
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
            let mut request =
                http::Request::builder().method("CONNECT").uri("http://a.test/").body(()).unwrap();
            request.extensions_mut().insert(h2::ext::Protocol::from_static("websocket"));
            let (response, mut body) = sender.send_request(request, false).unwrap();
            let response = response.await.unwrap();
            let mut backend = accepted.recv().await.unwrap();
            body.send_data(Bytes::from_static(b"bye"), true).unwrap();
            let mut heard = Vec::new();
            backend.read_to_end(&mut heard).await.unwrap();
            tokio::time::sleep(Duration::from_secs(1)).await;
            assert_eq!((heard.as_slice(), open.get()), (&b"bye"[..], 1), "the backend may still answer");
            if connection_dies {
                connection.abort();
            } else {
                drop((response, body));
            }
            tokio::time::sleep(Duration::from_secs(1)).await;
            assert_eq!((open.get(), ended.get()), (0, false), "the backend is let go");
        });
    }
}

#[test]
fn bodies_larger_than_all_windows_pass_on_many_streams_at_once() {
    const EACH: usize = 200_000;
    run(async {
        let (io, _task) = serving(Http2Options::default(), |mut request| async move {
            let mut total = 0;
            while let Some(frame) =
                std::future::poll_fn(|cx| Pin::new(&mut request.body).poll_frame(cx)).await
            {
                total += frame.unwrap().into_data().map_or(0, |data| data.len());
            }
            answer(ResponseBody::Full(total.to_string().into()))
        });
        let (mut sender, connection) = client::handshake(io).await.unwrap();
        spawn_local(connection);
        let mut answers = Vec::new();
        for _ in 0..60 {
            sender = sender.ready().await.unwrap();
            let (response, mut body) = sender.send_request(post(), false).unwrap();
            body.send_data(Bytes::from(vec![b'x'; EACH]), true).unwrap();
            answers.push(response);
        }
        for response in answers {
            let total = response.await.unwrap().into_body().data().await.unwrap().unwrap();
            assert_eq!(total, EACH.to_string());
        }
    });
}

#[test]
fn an_answer_before_the_end_of_the_request_ends_the_stream_without_an_error() {
    run(async {
        let (io, task) = serving(Http2Options::default(), |_| async { answer(ResponseBody::Empty) });
        let (mut sender, connection) = client::handshake(io).await.unwrap();
        spawn_local(connection);
        let (response, mut body) = sender.send_request(post(), false).unwrap();
        assert_eq!(response.await.unwrap().status(), StatusCode::OK);
        let reset = std::future::poll_fn(|cx| body.poll_reset(cx)).await.unwrap();
        assert_eq!(reset, h2::Reason::NO_ERROR);
        assert!(!task.is_finished());
    });
}

#[test]
fn a_peer_that_reads_nothing_at_all_is_cut_and_holds_little_meanwhile() {
    run(async {
        let open = Rc::new(Cell::new(0));
        let (mut io, task) = start(Http2Options::default(), 10_000_000, &open);
        let window = [&[0, 0, 4, 8, 0, 0, 0, 0, 0][..], &[0x7f, 0, 0, 0]].concat();
        let settings = [&[0, 0, 6, 4, 0, 0, 0, 0, 0][..], &[0, 4, 0x7f, 0, 0, 0]].concat();
        let get = [&[0, 0, 11, 1, 5, 0, 0, 0, 1][..], b"\x82\x86\x84\x41\x06a.test"].concat();
        io.write_all(&[b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", &settings[..], &window, &get].concat())
            .await
            .unwrap();
        tokio::time::sleep(Duration::from_secs(30)).await;
        assert_eq!(open.get(), 1);
        tokio::time::sleep(Duration::from_secs(40)).await;
        assert_eq!(open.get(), 0);
        assert!(task.is_finished());
        let mut received = Vec::new();
        io.read_to_end(&mut received).await.unwrap();
        assert!(received.len() < 300_000, "{}", received.len());
    });
}

#[test]
fn an_answer_without_bytes_ends_while_another_fills_the_window_of_the_connection() {
    run(async {
        let open = Rc::new(Cell::new(0));
        let (io, _task) = start(Http2Options::default(), 1_000_000, &open);
        let (mut sender, connection) = client::handshake(io).await.unwrap();
        spawn_local(connection);
        let request = |path| http::Request::get(format!("http://a.test{path}")).body(()).unwrap();
        let (response, _) = sender.send_request(request("/"), true).unwrap();
        let unread = response.await.unwrap().into_body();
        tokio::time::sleep(Duration::from_secs(1)).await;
        let (response, _) = sender.send_request(request("/nothing"), true).unwrap();
        let mut body = response.await.unwrap().into_body();
        let end = tokio::time::timeout(Duration::from_secs(1), body.data()).await.expect("in time");
        assert!(end.is_none_or(|piece| piece.unwrap().is_empty()));
        assert!(body.is_end_stream());
        drop(unread);
    });
}

/// HEADERS of `GET / HTTP/2` on `stream`, with END_STREAM and END_HEADERS.
fn headers_of_get(stream: u8) -> Vec<u8> {
    let block = [0x82, 0x84, 0x86, 0x41, 1, b'a'];
    [&[0, 0, 6, 1, 5, 0, 0, 0, stream][..], &block].concat()
}

#[test]
fn a_client_that_answers_no_ping_opens_no_streams_after_the_farewell() {
    run(async {
        let open = Rc::new(Cell::new(0));
        let options = Http2Options { max_requests: 3, ..Http2Options::default() };
        let (io, _task) = start(options, 1_000_000, &open);
        let (mut from, mut to) = tokio::io::split(io);
        let reader = spawn_local(async move {
            let mut received = Vec::new();
            let _until_cut =
                tokio::time::timeout(Duration::from_secs(9), from.read_to_end(&mut received)).await;
            received
        });
        to.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0").await.unwrap();
        to.write_all(&[headers_of_get(1), headers_of_get(3), headers_of_get(5)].concat()).await.unwrap();
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert_eq!(open.get(), 3);
        to.write_all(&headers_of_get(7)).await.unwrap();
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert_eq!(open.get(), 4, "it may not have heard yet");
        tokio::time::sleep(Duration::from_secs(4)).await;
        to.write_all(&headers_of_get(9)).await.unwrap();
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert_eq!(open.get(), 4);
        let received = reader.await.unwrap();
        let last = [&[0, 0, 8, 7, 0, 0, 0, 0, 0][..], &[0, 0, 0, 7, 0, 0, 0, 0]].concat();
        assert!(received.windows(last.len()).any(|window| window == last), "no GOAWAY names the last stream");
    });
}

#[test]
fn requests_wait_for_a_turn_of_the_worker_and_bodies_under_way_do_not() {
    const LENGTH: usize = 500_000;
    run(async {
        let turns = Turns::default();
        let options = Http2Options { turns: turns.clone(), ..Http2Options::default() };
        let (io, _task) = serving(options, |mut request| async move {
            let mut total = 0;
            while let Some(frame) =
                std::future::poll_fn(|cx| Pin::new(&mut request.body).poll_frame(cx)).await
            {
                total += frame.unwrap().into_data().map_or(0, |data| data.len());
            }
            answer(ResponseBody::Stream(Box::pin(Pieces(total))))
        });
        let (mut sender, connection) = client::handshake(io).await.unwrap();
        spawn_local(connection);
        let (response, mut body) = sender.send_request(post(), false).unwrap();
        tokio::time::sleep(Duration::from_secs(1)).await;
        // From here on nothing may begin: the body comes, and then leaves, through windows a tenth of its size.
        turns.fill();
        body.send_data(Bytes::from(vec![b'x'; LENGTH]), true).unwrap();
        let mut body = response.await.unwrap().into_body();
        let mut total = 0;
        while let Some(piece) = body.data().await {
            total += piece.as_ref().unwrap().len();
            body.flow_control().release_capacity(piece.unwrap().len()).unwrap();
        }
        assert_eq!(total, LENGTH);
        let (second, _) = sender.send_request(get(), true).unwrap();
        let mut second = std::pin::pin!(second);
        assert!(
            tokio::time::timeout(Duration::from_secs(10), second.as_mut()).await.is_err(),
            "its turn has not come"
        );
        turns.call();
        assert_eq!(second.await.unwrap().status(), StatusCode::OK);
    });
}

#[test]
fn a_download_goes_on_without_a_turn_also_when_another_one_of_its_connection_is_through() {
    async fn read(body: &mut h2::RecvStream) -> usize {
        let mut total = 0;
        while let Some(piece) = body.data().await {
            let length = piece.unwrap().len();
            total += length;
            body.flow_control().release_capacity(length).unwrap();
        }
        total
    }
    run(async {
        let turns = Turns::default();
        let options = Http2Options { turns: turns.clone(), ..Http2Options::default() };
        let lengths = Cell::new([500_000, 70_000].into_iter());
        let (io, _task) = serving(options, move |_request| {
            let mut rest = lengths.replace([0, 0].into_iter());
            let length = rest.next().unwrap();
            lengths.set(rest);
            async move { answer(ResponseBody::Stream(Box::pin(Pieces(length)))) }
        });
        let (mut sender, connection) = client::Builder::new()
            .initial_connection_window_size(1 << 20)
            .handshake::<_, Bytes>(io)
            .await
            .unwrap();
        spawn_local(connection);
        let (long, _) = sender.send_request(get(), true).unwrap();
        let (short, _) = sender.send_request(get(), true).unwrap();
        let (mut long, mut short) = (long.await.unwrap().into_body(), short.await.unwrap().into_body());
        tokio::time::sleep(Duration::from_secs(1)).await;
        // Both wait for their own windows, and from here on nothing may begin.
        turns.fill();
        assert_eq!(read(&mut short).await, 70_000);
        assert_eq!(tokio::time::timeout(Duration::from_secs(10), read(&mut long)).await, Ok(500_000));
    });
}
