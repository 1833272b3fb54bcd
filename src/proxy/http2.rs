//! The downstream HTTP/2 connection: hyper's server with the limits of `security.md` D.2 and D.4, translated to the
//! same [`Request`] and [`Response`] as HTTP/1.

use std::any::Any;
use std::convert::Infallible;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderName, HeaderValue};
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};

use crate::message::{BodyError, Meter, Request, RequestBody, Response, ResponseBody};
use crate::wire::{Fields, Reject, RequestHead, Version, check_http2_head};

/// Limits of one HTTP/2 connection.
#[derive(Debug, Clone)]
pub struct Http2Options {
    /// `http2-max-concurrent-streams`.
    pub max_streams: u32,
    /// Largest decoded header list, bytes.
    pub max_header_list: u32,
    /// Between a PING of ours and the close of a silent connection.
    pub ping: (Duration, Duration),
    /// Longest wait for the next bytes of a request body.
    pub body_timeout: Duration,
}

impl Default for Http2Options {
    fn default() -> Self {
        Self {
            max_streams: 128,
            max_header_list: 32 * 1024,
            ping: (Duration::from_secs(60), Duration::from_secs(20)),
            body_timeout: Duration::from_secs(60),
        }
    }
}

/// Spawns hyper's stream futures on the worker's own thread.
#[derive(Clone, Copy)]
struct LocalExecutor;

impl<F> hyper::rt::Executor<F> for LocalExecutor
where
    F: Future + 'static,
    F::Output: 'static,
{
    fn execute(&self, future: F) {
        tokio::task::spawn_local(future);
    }
}

/// Serves one connection until it ends; `drained` resolving starts a graceful GOAWAY.
pub async fn serve<IO, S, F>(io: IO, service: S, options: &Http2Options, drained: impl Future<Output = ()>)
where
    IO: AsyncRead + AsyncWrite + Unpin + 'static,
    S: Fn(Request) -> F + 'static,
    F: Future<Output = Response> + 'static,
{
    let service = Rc::new(service);
    let body_timeout = options.body_timeout;
    let handler = hyper::service::service_fn(move |request: http::Request<Incoming>| {
        let service = Rc::clone(&service);
        async move { Ok::<_, Infallible>(exchange(request, &*service, body_timeout).await) }
    });
    let mut builder = hyper::server::conn::http2::Builder::new(LocalExecutor);
    builder
        .timer(TokioTimer::new())
        .max_concurrent_streams(options.max_streams)
        .max_header_list_size(options.max_header_list)
        .initial_stream_window_size(64 * 1024)
        .initial_connection_window_size(1024 * 1024)
        .max_frame_size(16 * 1024)
        .max_send_buf_size(64 * 1024)
        .max_pending_accept_reset_streams(20)
        .max_local_error_reset_streams(256)
        .keep_alive_interval(options.ping.0)
        .keep_alive_timeout(options.ping.1)
        .enable_connect_protocol();
    let connection = builder.serve_connection(TokioIo::new(io), handler);
    tokio::pin!(connection, drained);
    let mut draining = false;
    loop {
        tokio::select! {
            ended = connection.as_mut() => {
                if let Err(error) = ended {
                    tracing::debug!(%error, "http/2 connection ended");
                }
                return;
            }
            () = drained.as_mut(), if !draining => {
                draining = true;
                connection.as_mut().graceful_shutdown();
            }
        }
    }
}

async fn exchange<S, F>(
    mut request: http::Request<Incoming>,
    service: &S,
    body_timeout: Duration,
) -> http::Response<MeteredBody>
where
    S: Fn(Request) -> F,
    F: Future<Output = Response>,
{
    let protocol = request.extensions().get::<hyper::ext::Protocol>().map(|p| p.as_str().to_owned());
    let tunnel = (request.method() == http::Method::CONNECT).then(|| hyper::upgrade::on(&mut request));
    let (parts, body) = request.into_parts();
    let meter = Rc::new(Meter::default());
    let (head, refused) = request_head(&parts, protocol);
    Meter::add(&meter.request_bytes, head.fields.text_len() + head.target.len());
    let body = if body.is_end_stream() || tunnel.is_some() {
        RequestBody::Empty
    } else {
        RequestBody::Stream(Box::pin(StreamBody {
            body,
            meter: Rc::clone(&meter),
            timeout: Idle::new(body_timeout),
        }))
    };
    let mut response = service(Request { head, body, refused, meter: Rc::clone(&meter) }).await;
    if let (Some(takeover), Some(tunnel)) = (response.upgrade.take(), tunnel) {
        tokio::task::spawn_local(async move {
            if let Ok(stream) = tunnel.await {
                takeover(Box::pin(TokioIo::new(stream))).await;
            }
        });
    }
    response_of(response, meter)
}

/// RFC 9113 section 8.3 pseudo-fields and fields as a head of ours. Cookie crumbs are joined (section 8.2.3, `H2-11`).
///
/// A head that breaks a rule comes with the refusal (H2-01 to H2-07).
fn request_head(parts: &http::request::Parts, protocol: Option<String>) -> (RequestHead, Option<Reject>) {
    let mut refused = None;
    let mut fields = Fields::with_capacity(512);
    let mut cookies: Vec<u8> = Vec::new();
    for (name, value) in &parts.headers {
        if name == http::header::COOKIE {
            if !cookies.is_empty() {
                cookies.extend_from_slice(b"; ");
            }
            cookies.extend_from_slice(value.as_bytes());
            continue;
        }
        if fields.append(name.as_str(), value.as_bytes()).is_err() {
            refused = Some(Reject::bad("H2-01", "a field that no HTTP/1 head could carry"));
        }
    }
    if !cookies.is_empty() && fields.append("cookie", &cookies).is_err() {
        refused = Some(Reject::bad("H2-01", "a cookie that no HTTP/1 head could carry"));
    }
    let target = parts.uri.path_and_query().map_or(&b"/"[..], |target| target.as_str().as_bytes());
    let head = RequestHead {
        method: parts.method.clone(),
        target: target.to_vec(),
        version: Version::Http2,
        authority: parts.uri.authority().map(|authority| authority.as_str().to_owned()),
        protocol,
        fields,
    };
    let refused = refused.or_else(|| check_http2_head(&head).err());
    (head, refused)
}

fn response_of(response: Response, meter: Rc<Meter>) -> http::Response<MeteredBody> {
    Meter::add(&meter.bytes_sent, response.head.fields.text_len());
    let ended = response.body.is_end_stream();
    meter.finished.set(ended);
    let mut out = http::Response::new(MeteredBody { body: response.body, meter, _guard: response.guard });
    *out.status_mut() = response.head.status;
    let headers = out.headers_mut();
    headers.reserve(response.head.fields.len() + 1);
    for (name, value) in response.head.fields.iter() {
        // RFC 9113 section 8.2.2: no connection-specific field may cross into HTTP/2.
        if is_connection_specific(name) {
            continue;
        }
        let pair = (HeaderName::from_bytes(name.as_bytes()), HeaderValue::from_bytes(value));
        if let (Ok(name), Ok(value)) = pair {
            headers.append(name, value);
        }
    }
    out
}

fn is_connection_specific(name: &str) -> bool {
    ["connection", "keep-alive", "proxy-connection", "transfer-encoding", "upgrade"]
        .iter()
        .any(|specific| name.eq_ignore_ascii_case(specific))
}

/// Request body of one stream, with the idle limit of `client-body-timeout`.
struct StreamBody {
    body: Incoming,
    meter: Rc<Meter>,
    timeout: Idle,
}

impl Body for StreamBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        match Pin::new(&mut self.body).poll_frame(cx) {
            Poll::Ready(frame) => {
                self.timeout.reset();
                if let Some(Ok(frame)) = &frame
                    && let Some(data) = frame.data_ref()
                {
                    Meter::add(&self.meter.request_bytes, data.len());
                }
                Poll::Ready(frame.map(|frame| frame.map_err(|error| body_error(&error))))
            }
            Poll::Pending if self.timeout.poll_expired(cx) => Poll::Ready(Some(Err(BodyError::Timeout))),
            Poll::Pending => Poll::Pending,
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

fn body_error(error: &hyper::Error) -> BodyError {
    if error.is_parse() || error.is_body_write_aborted() {
        BodyError::Framing("HTTP/2")
    } else {
        BodyError::Gone
    }
}

/// A timer that is armed only while somebody waits.
struct Idle {
    limit: Duration,
    sleep: Option<Pin<Box<tokio::time::Sleep>>>,
}

impl Idle {
    fn new(limit: Duration) -> Self {
        Self { limit, sleep: None }
    }

    fn reset(&mut self) {
        if let Some(sleep) = &mut self.sleep {
            sleep.as_mut().reset(tokio::time::Instant::now() + self.limit);
        }
    }

    fn poll_expired(&mut self, cx: &mut Context<'_>) -> bool {
        let limit = self.limit;
        let sleep = self.sleep.get_or_insert_with(|| Box::pin(tokio::time::sleep(limit)));
        sleep.as_mut().poll(cx).is_ready()
    }
}

/// Response body that counts what the client took.
pub(crate) struct MeteredBody {
    body: ResponseBody,
    meter: Rc<Meter>,
    /// Dropped with the body: after its last byte, or when the stream is reset.
    _guard: Option<Box<dyn Any>>,
}

impl Body for MeteredBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let frame = std::task::ready!(Pin::new(&mut self.body).poll_frame(cx));
        if frame.is_none() || self.body.is_end_stream() {
            self.meter.finished.set(true);
        }
        if let Some(Ok(frame)) = &frame
            && let Some(data) = frame.data_ref()
        {
            Meter::add(&self.meter.body_bytes_sent, data.len());
            Meter::add(&self.meter.bytes_sent, data.len());
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
