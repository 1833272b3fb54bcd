//! What every test of the driver needs: a driver at one end of a pipe, small bodies, readers of bytes.

use std::future::{pending, poll_fn};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, StatusCode};
use http_body::{Body, Frame};
use narthex::message::{BodyError, Request, RequestBody, Response, ResponseBody};
use narthex::proxy::http1::{Options, Rejection, serve};
use narthex::wire::{Fields, ResponseHead, Version};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, DuplexStream};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::task::{JoinHandle, LocalSet, spawn_local};

pub(crate) const GET: &[u8] = b"GET / HTTP/1.1\r\nHost: a.test\r\n\r\n";

/// Runs `test` on one thread as the data plane does; gives up after a minute.
pub(crate) fn run(test: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    LocalSet::new().block_on(&runtime, async {
        tokio::time::timeout(Duration::from_secs(60), test).await.expect("the test came to an end");
    });
}

pub(crate) fn options() -> Options {
    Options {
        drain_timeout: Duration::from_millis(50),
        linger_bytes: 64 * 1024,
        linger_idle: Duration::from_millis(50),
        linger_time: Duration::from_millis(50),
        ..Options::default()
    }
}

/// Starts the driver over an in-memory pipe.
pub(crate) fn start<S, F>(options: Options, handle: S) -> (DuplexStream, JoinHandle<()>)
where
    S: Fn(Request) -> F + 'static,
    F: Future<Output = Response> + 'static,
{
    let (client, server) = tokio::io::duplex(256 * 1024);
    let task = spawn_local(async move {
        serve(server, BytesMut::new(), &options, handle, pending(), |_: &Rejection<'_>| {}).await;
    });
    (client, task)
}

/// Starts the driver over a loopback connection.
pub(crate) async fn start_tcp<S, F>(options: Options, handle: S) -> (TcpStream, JoinHandle<()>)
where
    S: Fn(Request) -> F + 'static,
    F: Future<Output = Response> + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    let (server, _) = listener.accept().await.unwrap();
    let task = spawn_local(async move {
        serve(server, BytesMut::new(), &options, handle, pending(), |_: &Rejection<'_>| {}).await;
    });
    (client, task)
}

pub(crate) fn response(status: u16, body: ResponseBody) -> Response {
    let status = StatusCode::from_u16(status).unwrap();
    let head = ResponseHead { status, reason: None, version: Version::Http11, fields: Fields::new() };
    Response { head, body, trailers: None, close: false, upgrade: None, guard: None }
}

pub(crate) fn full(text: impl Into<Bytes>) -> Response {
    response(200, ResponseBody::Full(text.into()))
}

/// A body made of what comes through a channel.
pub(crate) struct Piped(mpsc::UnboundedReceiver<Result<Frame<Bytes>, BodyError>>);

impl narthex::message::Flow for Piped {}

impl Body for Piped {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        self.0.poll_recv(cx)
    }
}

pub(crate) type Feed = mpsc::UnboundedSender<Result<Frame<Bytes>, BodyError>>;

pub(crate) fn piped() -> (Feed, ResponseBody) {
    let (feed, body) = mpsc::unbounded_channel();
    (feed, ResponseBody::Stream(Box::pin(Piped(body))))
}

/// A body of these frames, all ready.
pub(crate) fn frames(frames: Vec<Result<Frame<Bytes>, BodyError>>) -> ResponseBody {
    let (feed, body) = piped();
    for frame in frames {
        feed.send(frame).unwrap();
    }
    body
}

pub(crate) fn data(text: &'static str) -> Result<Frame<Bytes>, BodyError> {
    Ok(Frame::data(Bytes::from_static(text.as_bytes())))
}

pub(crate) async fn next_frame(body: &mut RequestBody) -> Option<Result<Frame<Bytes>, BodyError>> {
    poll_fn(|cx| Pin::new(&mut *body).poll_frame(cx)).await
}

/// All data of a body and its trailers, or its error.
pub(crate) async fn collect(mut body: RequestBody) -> Result<(Vec<u8>, Option<HeaderMap>), BodyError> {
    let (mut all, mut trailers) = (Vec::new(), None);
    while let Some(frame) = next_frame(&mut body).await {
        match frame?.into_data() {
            Ok(data) => all.extend_from_slice(&data),
            Err(frame) => trailers = frame.into_trailers().ok(),
        }
    }
    Ok((all, trailers))
}

/// Answers with target and body of the request.
pub(crate) async fn echo(request: Request) -> Response {
    let target = request.head.target.clone();
    match collect(request.body).await {
        Ok((body, _)) => full([&target[..], b" ", &body].concat()),
        Err(error) => response(400, ResponseBody::Full(error.to_string().into())),
    }
}

/// Reads until `needle` was seen and returns everything read.
pub(crate) async fn read_until(io: &mut (impl AsyncRead + Unpin), needle: &str) -> String {
    let mut all = Vec::new();
    while !String::from_utf8_lossy(&all).contains(needle) {
        let read = io.read_buf(&mut all).await.expect("the connection is whole");
        assert!(read > 0, "{needle:?} is missing in {:?}", String::from_utf8_lossy(&all));
    }
    String::from_utf8_lossy(&all).into_owned()
}

pub(crate) async fn read_all(io: &mut (impl AsyncRead + Unpin)) -> String {
    let mut all = Vec::new();
    io.read_to_end(&mut all).await.expect("the connection ends cleanly");
    String::from_utf8_lossy(&all).into_owned()
}

pub(crate) async fn send(io: &mut (impl AsyncWrite + Unpin), bytes: impl AsRef<[u8]>) {
    io.write_all(bytes.as_ref()).await.unwrap();
}

/// The answer without its `Date` line.
pub(crate) fn dateless(text: &str) -> String {
    let (before, after) = text.split_once("Date: ").expect("every answer has a date");
    format!("{before}{}", after.split_once("\r\n").unwrap().1)
}
