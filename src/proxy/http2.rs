//! The downstream HTTP/2 connection: hyper's server with the limits of `security.md` D.2 and D.4, translated to the
//! same [`Request`] and [`Response`] as HTTP/1.

use std::any::Any;
use std::convert::Infallible;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Method};
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::Instant;

use self::guard::Guard;
use self::life::{Life, Next, OpenStream, Streams};
use self::pace::Pace;
use super::http1::timer::Timer;
use super::patience::Patience;
use crate::limit::{self, Held, Memory};
use crate::message::{BodyError, Flow, Framed, Meter, Request, RequestBody, Response, ResponseBody};
use crate::wire::fields::NameSet;
use crate::wire::{Fields, Flood, FrameLimits, HeadLimits, Reject, RequestHead, Version, check_http2_head};

mod guard;
mod life;
mod pace;

/// Most of an answer that goes to the library at once.
const PIECE: usize = 16 * 1024;

/// Bytes that the lines of a head have room for at first.
const USUAL_HEAD: usize = 384;

/// Limits of one HTTP/2 connection.
#[derive(Debug, Clone)]
pub struct Http2Options {
    /// `http2-max-concurrent-streams`.
    pub max_streams: u32,
    /// Largest decoded header list, bytes.
    pub max_header_list: u32,
    /// Lines and fields of a head.
    pub head: HeadLimits,
    /// Between a PING of ours and the close of a silent connection.
    pub ping: (Duration, Duration),
    /// Longest wait for the next bytes of a request body.
    pub body_timeout: Duration,
    /// Least bytes per second of a body that is waited for; 0 for none.
    pub body_rate: u64,
    /// Longest wait for a client that takes nothing of an answer.
    pub send_timeout: Duration,
    /// Until the first request.
    pub first_request: Duration,
    /// Without a stream.
    pub idle_timeout: Duration,
    /// Requests on one connection.
    pub max_requests: u64,
    /// Age at which a connection takes no more requests.
    pub max_age: Duration,
    /// Floods.
    pub frames: FrameLimits,
    /// Resets that the peer may provoke (CVE-2025-8671).
    pub provoked_resets: usize,
    /// Where the windows of bodies are counted.
    pub memory: Memory,
}

impl Default for Http2Options {
    fn default() -> Self {
        Self {
            max_streams: 128,
            max_header_list: 32 * 1024,
            head: HeadLimits::default(),
            ping: (Duration::from_secs(60), Duration::from_secs(20)),
            body_timeout: Duration::from_secs(60),
            body_rate: 0,
            send_timeout: Duration::from_secs(60),
            first_request: Duration::from_secs(60),
            idle_timeout: Duration::from_secs(75),
            max_requests: 1_000,
            max_age: Duration::from_secs(3_600),
            frames: FrameLimits::default(),
            provoked_resets: 256,
            memory: Memory::new(None),
        }
    }
}

/// Spawns hyper's stream futures on the worker's own thread.
#[derive(Clone, Copy)]
struct LocalExecutor {
    send_timeout: Duration,
}

impl<F> hyper::rt::Executor<F> for LocalExecutor
where
    F: Future + 'static,
    F::Output: 'static,
{
    fn execute(&self, future: F) {
        // Boxed first: the task would be moved several times before it rests.
        tokio::task::spawn_local(pace::watched(Box::pin(future), self.send_timeout));
    }
}

/// Serves one connection until it ends; `drained` resolving starts a graceful GOAWAY. Says which flood ended it, if any.
pub async fn serve<IO, S, F>(
    io: IO,
    service: S,
    options: &Http2Options,
    drained: impl Future<Output = ()>,
) -> Option<Flood>
where
    IO: AsyncRead + AsyncWrite + Unpin + 'static,
    S: Fn(Request) -> F + 'static,
    F: Future<Output = Response> + 'static,
{
    let head_limits = options.head;
    let bodies = Bodies {
        timeout: options.body_timeout,
        rate: options.body_rate,
        window: window(options),
        memory: options.memory.clone(),
    };
    let streams = Streams::new();
    let mut life = Life::new(Rc::clone(&streams), options);
    let handler = hyper::service::service_fn(move |request: http::Request<Incoming>| {
        exchange(request, &service, &bodies, &head_limits, streams.begin())
    });
    let (io, traffic) = Guard::new(io, options.frames);
    let connection = builder(options).serve_connection(TokioIo::new(io), handler);
    let (mut connection, mut drained) = (pin!(connection), pin!(drained));
    let mut timer = Timer::default();
    let mut retired = false;
    std::future::poll_fn(|cx| {
        loop {
            if let Poll::Ready(ended) = connection.as_mut().poll(cx) {
                if let Err(error) = ended {
                    tracing::debug!(%error, "http/2 connection ended");
                }
                return Poll::Ready(());
            }
            let now = Instant::now();
            let next = match life.next(now, traffic.data_sent.get()) {
                _ if !retired && drained.as_mut().poll(cx).is_ready() => Next::Retire,
                next => next,
            };
            match next {
                Next::Wait(until) => std::task::ready!(timer.poll_until(until, cx)),
                Next::Cut => return Poll::Ready(()),
                Next::Retire => {
                    retired = true;
                    life.retire(now);
                    connection.as_mut().graceful_shutdown();
                }
            }
        }
    })
    .await;
    traffic.flood.get()
}

/// hyper's server with every limit set by name (`security.md` D-2).
fn builder(options: &Http2Options) -> hyper::server::conn::http2::Builder<LocalExecutor> {
    let executor = LocalExecutor { send_timeout: options.send_timeout };
    let mut builder = hyper::server::conn::http2::Builder::new(executor);
    builder
        .timer(TokioTimer::new())
        .max_concurrent_streams(options.max_streams)
        .max_header_list_size(options.max_header_list)
        .initial_stream_window_size(window(options))
        .initial_connection_window_size(1024 * 1024)
        .max_frame_size(16 * 1024)
        .max_send_buf_size(64 * 1024)
        .max_pending_accept_reset_streams(20)
        .max_local_error_reset_streams(options.provoked_resets)
        .keep_alive_interval(options.ping.0)
        .keep_alive_timeout(options.ping.1)
        .enable_connect_protocol();
    builder
}

/// Window of each stream, bytes: what a peer may send before anybody reads it.
fn window(options: &Http2Options) -> u32 {
    match options.memory.bodies() {
        limit::Bodies::Plenty => 64 * 1024,
        limit::Bodies::Scarce | limit::Bodies::Spent => 16 * 1024,
    }
}

/// What holds for the request bodies of one connection.
struct Bodies {
    timeout: Duration,
    rate: u64,
    window: u32,
    memory: Memory,
}

/// Takes the request in at once, so that the stream's task holds nothing of what the library made of its head.
fn exchange<S, F>(
    mut request: http::Request<Incoming>,
    service: &S,
    bodies: &Bodies,
    head_limits: &HeadLimits,
    stream: OpenStream,
) -> impl Future<Output = Result<http::Response<MeteredBody>, Infallible>> + use<S, F>
where
    S: Fn(Request) -> F,
    F: Future<Output = Response>,
{
    let protocol = request.extensions().get::<hyper::ext::Protocol>().map(|p| p.as_str().to_owned());
    let tunnel = (request.method() == Method::CONNECT).then(|| hyper::upgrade::on(&mut request));
    let head_only = request.method() == Method::HEAD;
    let (parts, body) = request.into_parts();
    let meter = Rc::new(Meter::default());
    let (head, refused) = request_head(&parts, protocol, head_limits);
    Meter::add(&meter.request_bytes, head.fields.text_len() + head.target.len());
    let body = if body.is_end_stream() || tunnel.is_some() {
        RequestBody::Empty
    } else {
        let window = u64::from(bodies.window);
        let most = body.size_hint().exact().map_or(window, |length| length.min(window));
        RequestBody::Stream(Box::pin(StreamBody {
            body,
            meter: Rc::clone(&meter),
            patience: Patience::new(bodies.timeout, bodies.rate),
            timer: Timer::default(),
            _window: bodies.memory.hold(most),
        }))
    };
    let response = service(Request { head: Box::new(head), body, refused, meter: Rc::clone(&meter) });
    async move {
        let mut response = response.await;
        let stream = match (response.upgrade.take(), tunnel) {
            (Some(takeover), Some(tunnel)) => {
                tokio::task::spawn_local(async move {
                    if let Ok(upgraded) = tunnel.await {
                        takeover(Box::pin(TokioIo::new(upgraded))).await;
                    }
                    drop(stream);
                });
                None
            }
            _ => Some(stream),
        };
        if head_only {
            without_body(&mut response);
        }
        meter.framed.set(Some(framed(&response, head_only)));
        Ok(response_of(response, meter, stream))
    }
}

/// What the head says of the body. The library writes the length of a body that knows it.
fn framed(response: &Response, head_only: bool) -> Framed {
    let head = &response.head;
    let told = head.fields.get_str("content-length").and_then(|told| told.parse().ok());
    let bodiless = head_only || matches!(head.status.as_u16(), 204 | 304);
    let length = told.or_else(|| response.body.size_hint().exact().filter(|_| !bodiless));
    Framed { length, chunked: false, connection: "keep-alive" }
}

/// An answer to HEAD tells the length of the body it leaves out (RFC 9110 section 9.3.2); hyper would send the body.
fn without_body(response: &mut Response) {
    let body = std::mem::replace(&mut response.body, ResponseBody::Empty);
    let length = body.size_hint().exact().filter(|length| *length > 0);
    if let Some(length) = length
        && !response.head.fields.contains("content-length")
    {
        // A number is a sound value.
        let _told = response.head.fields.append("Content-Length", length.to_string().as_bytes());
    }
}

/// RFC 9113 section 8.3 pseudo-fields and fields as a head of ours. Cookie crumbs are joined (section 8.2.3, `H2-11`).
///
/// A head that breaks a rule comes with the refusal (H2-01 to H2-07).
fn request_head(
    parts: &http::request::Parts,
    protocol: Option<String>,
    limits: &HeadLimits,
) -> (RequestHead, Option<Reject>) {
    let mut refused = check_scheme(&parts.uri).err();
    let mut fields = Fields::with_capacity(USUAL_HEAD);
    let mut cookies: Option<Vec<u8>> = None;
    for (name, value) in &parts.headers {
        if name == http::header::COOKIE {
            let crumbs = cookies.get_or_insert_default();
            if !crumbs.is_empty() {
                crumbs.extend_from_slice(b"; ");
            }
            crumbs.extend_from_slice(value.as_bytes());
            continue;
        }
        if fields.append_typed(name, value).is_err() {
            refused = Some(Reject::bad("H2-01", "a field that no HTTP/1 head could carry"));
        }
    }
    if cookies.is_some_and(|crumbs| fields.append("cookie", &crumbs).is_err()) {
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
    let refused = refused.or_else(|| check_http2_head(&head, limits).err());
    (head, refused)
}

/// `:scheme` begins with a letter (RFC 3986 section 3.1), which the library does not ask for. It keeps the scheme only
/// beside `:authority`.
fn check_scheme(uri: &http::Uri) -> Result<(), Reject> {
    let begins = |scheme: &str| scheme.starts_with(|first: char| first.is_ascii_alphabetic());
    if uri.authority().is_some() && uri.path_and_query().is_some() && !uri.scheme_str().is_some_and(begins) {
        return Err(Reject::bad("H2-01", "a :scheme that is none"));
    }
    Ok(())
}

fn response_of(
    response: Response,
    meter: Rc<Meter>,
    stream: Option<OpenStream>,
) -> http::Response<MeteredBody> {
    Meter::add(&meter.bytes_sent, response.head.fields.text_len());
    let ended = response.body.is_end_stream();
    meter.finished.set(ended);
    let body = MeteredBody {
        body: response.body,
        meter,
        pace: Pace::current(),
        rest: None,
        _guard: response.guard,
        _stream: stream,
    };
    let mut out = http::Response::new(body);
    *out.status_mut() = response.head.status;
    let headers = out.headers_mut();
    headers.reserve(response.head.fields.len() + 1);
    // One copy of all values, which the library's values then share.
    let (text, mut at) = (response.head.fields.values(), 0);
    for line in response.head.fields.lines() {
        let value = at..at + line.value().len();
        at = value.end;
        // RFC 9113 section 8.2.2: no connection-specific field may cross into HTTP/2.
        if line.is_one_of(&CONNECTION_SPECIFIC) {
            continue;
        }
        let pair = (
            HeaderName::from_bytes(line.name().as_bytes()),
            HeaderValue::from_maybe_shared(text.slice(value)),
        );
        if let (Ok(name), Ok(value)) = pair {
            headers.append(name, value);
        }
    }
    out
}

const CONNECTION_SPECIFIC: NameSet =
    NameSet::new(&["connection", "keep-alive", "proxy-connection", "transfer-encoding", "upgrade"]);

/// Request body of one stream, with the limits of time.
struct StreamBody {
    body: Incoming,
    meter: Rc<Meter>,
    patience: Patience,
    timer: Timer,
    /// What the peer may have sent ahead.
    _window: Held,
}

impl Flow for StreamBody {}

impl Body for StreamBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = &mut *self;
        match Pin::new(&mut this.body).poll_frame(cx) {
            Poll::Ready(frame) => {
                let data = frame.as_ref().and_then(|frame| frame.as_ref().ok()).and_then(Frame::data_ref);
                let length = data.map_or(0, Bytes::len);
                this.patience.rest(length as u64);
                Meter::add(&this.meter.request_bytes, length);
                Poll::Ready(frame.map(|frame| frame.map_err(|error| body_error(&error))))
            }
            Poll::Pending => {
                this.patience.wait();
                match this.patience.end() {
                    Some(end) if this.timer.poll_until(end, cx).is_ready() => {
                        Poll::Ready(Some(Err(BodyError::Timeout)))
                    }
                    _ => Poll::Pending,
                }
            }
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

/// Response body that counts what the client took.
pub(crate) struct MeteredBody {
    body: ResponseBody,
    meter: Rc<Meter>,
    pace: Rc<Pace>,
    /// What is left of a piece that was too long for one frame.
    rest: Option<Bytes>,
    /// Dropped with the body: after its last byte, or when the stream is reset.
    _guard: Option<Rc<dyn Any>>,
    _stream: Option<OpenStream>,
}

impl MeteredBody {
    /// Longer pieces go on in parts: whoever takes one part a minute is slow and not stalled, and no more than a part
    /// waits with the library beside its buffer.
    fn piece_of(&mut self, frame: Frame<Bytes>) -> Frame<Bytes> {
        match frame.into_data() {
            Ok(mut data) if data.len() > PIECE => {
                self.rest = Some(data.split_off(PIECE));
                Frame::data(data)
            }
            Ok(data) => Frame::data(data),
            Err(frame) => frame,
        }
    }
}

impl Body for MeteredBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        self.pace.taken();
        let frame = match self.rest.take() {
            Some(rest) => Some(Ok(Frame::data(rest))),
            None => std::task::ready!(Pin::new(&mut self.body).poll_frame(cx)),
        };
        let frame = frame.map(|frame| frame.map(|frame| self.piece_of(frame)));
        self.pace.give();
        if frame.is_none() || self.is_end_stream() {
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
        self.rest.is_none() && self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let hint = self.body.size_hint();
        match (&self.rest, hint.exact()) {
            (None, _) => hint,
            (Some(rest), Some(exact)) => SizeHint::with_exact(exact.saturating_add(rest.len() as u64)),
            (Some(_), None) => SizeHint::default(),
        }
    }
}

#[cfg(test)]
mod tests;
