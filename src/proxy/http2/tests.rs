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
use crate::message::{BodyError, Flow, ResponseBody};
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
    let handle = move |_: Request| {
        let open = Rc::clone(&open);
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
