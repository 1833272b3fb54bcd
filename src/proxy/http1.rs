//! The downstream side of HTTP/1: one task drives one connection from its first byte to its last.
//!
//! It owns keep-alive, pipelining (one request after the other), timeouts, framing in both directions, `Expect`,
//! refusals of broken heads, and the hand-over to a tunnel. It knows neither routes nor backends: requests go to a
//! handler as [`Request`], answers come back as [`Response`]. `listener` calls [`serve`] for each connection that
//! speaks HTTP/1; parsing is `wire`'s.

mod date;
mod exchange;
mod incoming;
mod link;
mod outgoing;
mod page;
mod reply;
mod timer;
mod tunnel;

use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf, BytesMut};
use http::StatusCode;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::Instant;

use self::exchange::{Exchange, Outcome, Persistence};
use self::incoming::Source;
use self::link::Link;
use self::outgoing::Outgoing;
use self::tunnel::Tunnel;
use super::message::{Meter, Request, Response};
use crate::wire::{ChunkLimits, HeadLimits, Parse, ParsedRequest, Reject, RequestParser};

/// What a clean end of the client's sending side means while a complete request is worked on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HalfClose {
    /// The client still reads: it gets its answer.
    Answer,
    /// The client is gone (nginx's view): the request is cut.
    Abort,
}

/// Limits and timeouts of connections (`spec/security.md` D.1, D.2); shared by all of a listener.
#[derive(Debug, Clone)]
pub struct Options {
    /// Size of request heads.
    pub head: HeadLimits,
    /// Framing of chunked request bodies.
    pub chunks: ChunkLimits,
    /// Between two requests. 75 s.
    pub idle_timeout: Duration,
    /// From the first byte of a head to its last. 60 s.
    pub head_timeout: Duration,
    /// Between two reads of a body that is waited for. 60 s.
    pub body_timeout: Duration,
    /// Between two writes while the client takes nothing. 60 s.
    pub send_timeout: Duration,
    /// Requests on one connection. 1,000.
    pub max_requests: u64,
    /// Age after which a connection is closed with its next answer. 1 h.
    pub max_age: Duration,
    /// Bytes of an unread body that are read away to keep a connection, or to let a last answer arrive. 64 KiB.
    pub drain_bytes: u64,
    /// Time for the same. 2 s.
    pub drain_timeout: Duration,
    /// A clean end of the client's sending side.
    pub half_close: HalfClose,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            head: HeadLimits::default(),
            chunks: ChunkLimits::default(),
            idle_timeout: Duration::from_secs(75),
            head_timeout: Duration::from_secs(60),
            body_timeout: Duration::from_secs(60),
            send_timeout: Duration::from_secs(60),
            max_requests: 1_000,
            max_age: Duration::from_secs(3_600),
            drain_bytes: 64 * 1024,
            drain_timeout: Duration::from_secs(2),
            half_close: HalfClose::Answer,
        }
    }
}

/// A request that never became one; for the access log and metrics.
#[derive(Debug)]
pub struct Rejection<'a> {
    /// Status that was answered, or would have been.
    pub status: StatusCode,
    /// Rule that was broken: `H1-01` …
    pub rule: &'static str,
    /// What was wrong.
    pub reason: &'static str,
    /// What was readable of the request line, raw.
    pub line: &'a [u8],
    /// Bytes received of the request.
    pub request_bytes: u64,
    /// Bytes answered; 0 when the client was gone.
    pub bytes_sent: u64,
    /// The same without the head.
    pub body_bytes_sent: u64,
}

/// Drives one connection until it is closed or handed over to a tunnel that has ended.
///
/// `ahead` is what was read before HTTP/1 was chosen. `handle` is called once per request; dropping its future means
/// that the client went away. `drain` resolves when the process stops: an idle connection is closed at once, a busy
/// one with its next answer. `rejected` hears of requests that broke a rule before they could reach `handle`.
///
/// The socket should be set to send at once (`TCP_NODELAY`): every write is complete in itself.
pub async fn serve<IO, S, F, D, R>(
    io: IO,
    ahead: BytesMut,
    options: &Options,
    handle: S,
    drain: D,
    rejected: R,
) where
    IO: AsyncRead + AsyncWrite + Unpin + 'static,
    S: Fn(Request) -> F,
    F: Future<Output = Response>,
    D: Future<Output = ()>,
    R: Fn(&Rejection<'_>),
{
    let mut link = Link::new(io, ahead);
    let drain = pin!(drain);
    let mut life = Life::new(drain, options);
    loop {
        let mut waiting = Waiting::default();
        let parsed = match poll_fn(|cx| waiting.poll(cx, &mut link, options, &mut life)).await {
            Arrival::Request(parsed) => parsed,
            Arrival::Refused(reject) => return refuse(&mut link, options, &reject, &rejected).await,
            Arrival::Cut => return tell_cut(&link, &rejected),
            Arrival::Closed => return linger(&mut link, options, Linger::IfMore).await,
        };
        life.requests += 1;
        let mut exchange = Exchange::new(*parsed, &mut link, options, &handle);
        let outcome = poll_fn(|cx| exchange.poll(cx, &mut link, options, &mut life)).await;
        match outcome {
            Outcome::Next(source) => {
                drop(exchange);
                if !settle(&mut link, options, source).await {
                    return linger(&mut link, options, Linger::Await).await;
                }
            }
            Outcome::Close(wait) => {
                drop(exchange);
                return linger(&mut link, options, wait).await;
            }
            Outcome::Abort => return,
            Outcome::Upgrade(upgrade) => {
                drop(exchange);
                let stream = Tunnel::new(std::mem::take(&mut link.buf), link.io);
                return upgrade(Box::pin(stream)).await;
            }
        }
    }
}

/// What ends a connection that works well.
struct Life<'d, D> {
    drain: Option<Pin<&'d mut D>>,
    requests: u64,
    max_requests: u64,
    end: Instant,
}

impl<'d, D: Future<Output = ()>> Life<'d, D> {
    fn new(drain: Pin<&'d mut D>, options: &Options) -> Self {
        let end = Instant::now() + options.max_age;
        Self { drain: Some(drain), requests: 0, max_requests: options.max_requests, end }
    }

    fn poll_drain(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let Some(drain) = &mut self.drain else { return Poll::Ready(()) };
        ready!(drain.as_mut().poll(cx));
        self.drain = None;
        Poll::Ready(())
    }
}

impl<D: Future<Output = ()>> Persistence for Life<'_, D> {
    fn poll_keep(&mut self, cx: &mut Context<'_>) -> bool {
        self.requests < self.max_requests && Instant::now() < self.end && self.poll_drain(cx).is_pending()
    }
}

/// What came instead of, or as, the next request.
enum Arrival {
    Request(Box<ParsedRequest>),
    Refused(Reject),
    /// The client closed inside a head.
    Cut,
    /// Between two requests: the client closed, nothing came in time, or the process stops.
    Closed,
}

/// Waits for one request head.
#[derive(Default)]
struct Waiting {
    parser: RequestParser,
    deadline: Option<Instant>,
    started: bool,
}

impl Waiting {
    fn poll<IO: AsyncRead + AsyncWrite + Unpin, D: Future<Output = ()>>(
        &mut self,
        cx: &mut Context<'_>,
        link: &mut Link<IO>,
        options: &Options,
        life: &mut Life<'_, D>,
    ) -> Poll<Arrival> {
        loop {
            if !link.buf.is_empty() {
                match self.parser.parse(&link.buf, &options.head) {
                    Parse::Complete(parsed) => {
                        link.buf.advance(parsed.consumed);
                        return Poll::Ready(Arrival::Request(Box::new(parsed)));
                    }
                    Parse::Reject(reject) => return Poll::Ready(Arrival::Refused(reject)),
                    Parse::Incomplete => {}
                }
                if !std::mem::replace(&mut self.started, true) {
                    self.deadline = None;
                }
            }
            if link.eof {
                return Poll::Ready(if link.buf.is_empty() { Arrival::Closed } else { Arrival::Cut });
            }
            let read = if link.buf.is_empty() {
                let parser = &mut self.parser;
                match link.poll_first(cx, |link, bytes| first_bytes(parser, link, bytes, options)) {
                    Poll::Ready(Ok(Some(arrival))) => return Poll::Ready(arrival),
                    Poll::Ready(Ok(None)) => Poll::Ready(Ok(())),
                    Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
                    Poll::Pending => Poll::Pending,
                }
            } else {
                link.poll_fill(cx).map_ok(|_| ())
            };
            match read {
                Poll::Ready(Ok(())) => {}
                Poll::Ready(Err(_)) => {
                    link.eof = true;
                    return Poll::Ready(if self.started { Arrival::Cut } else { Arrival::Closed });
                }
                Poll::Pending => return self.poll_time(cx, link, options, life),
            }
        }
    }

    fn poll_time<IO: AsyncRead + AsyncWrite + Unpin, D: Future<Output = ()>>(
        &mut self,
        cx: &mut Context<'_>,
        link: &mut Link<IO>,
        options: &Options,
        life: &mut Life<'_, D>,
    ) -> Poll<Arrival> {
        if !self.started && life.poll_drain(cx).is_ready() {
            return Poll::Ready(Arrival::Closed);
        }
        let timeout = if self.started { options.head_timeout } else { options.idle_timeout };
        let deadline = *self.deadline.get_or_insert_with(|| Instant::now() + timeout);
        ready!(link.poll_until(deadline, cx));
        Poll::Ready(if self.started {
            let reason = "the head was not complete in time";
            Arrival::Refused(Reject { status: StatusCode::REQUEST_TIMEOUT, rule: "H1-18", reason })
        } else {
            Arrival::Closed
        })
    }
}

/// Parses right where the bytes were read; only what is left over is kept. None: go on with the buffer.
fn first_bytes<IO>(
    parser: &mut RequestParser,
    link: &mut Link<IO>,
    bytes: &[u8],
    options: &Options,
) -> Option<Arrival> {
    let outcome = parser.parse(bytes, &options.head);
    let used = if let Parse::Complete(parsed) = &outcome { parsed.consumed } else { 0 };
    let rest = bytes.get(used..).unwrap_or(&[]);
    if !rest.is_empty() {
        link.buf.extend_from_slice(rest);
    }
    match outcome {
        Parse::Complete(parsed) => Some(Arrival::Request(Box::new(parsed))),
        Parse::Reject(reject) => Some(Arrival::Refused(reject)),
        Parse::Incomplete => None,
    }
}

/// Reads the rest of a request body away. False: too much, too slow or broken.
async fn settle<IO: AsyncRead + AsyncWrite + Unpin>(
    link: &mut Link<IO>,
    options: &Options,
    mut source: Source,
) -> bool {
    if source.is_done() {
        return true;
    }
    let meter = Meter::default();
    let mut deadline = None;
    poll_fn(|cx| {
        loop {
            match source.discard(&mut link.buf, &meter) {
                Ok(true) => return Poll::Ready(true),
                Ok(false) if !link.eof && meter.request_bytes.get() <= options.drain_bytes => {}
                Ok(false) | Err(()) => return Poll::Ready(false),
            }
            match link.poll_fill(cx) {
                Poll::Ready(Ok(_)) => {}
                Poll::Ready(Err(_)) => return Poll::Ready(false),
                Poll::Pending => {
                    let deadline = *deadline.get_or_insert_with(|| Instant::now() + options.drain_timeout);
                    ready!(link.poll_until(deadline, cx));
                    return Poll::Ready(false);
                }
            }
        }
    })
    .await
}

/// Answers a request that broke a rule, closes, and tells.
async fn refuse<IO: AsyncRead + AsyncWrite + Unpin>(
    link: &mut Link<IO>,
    options: &Options,
    reject: &Reject,
    rejected: &impl Fn(&Rejection<'_>),
) {
    let received = std::mem::take(&mut link.buf);
    let (page, head) = page::refusal(reject.status);
    let meter = Meter::default();
    let mut out = Outgoing::default();
    out.head(|lead| lead.extend_from_slice(page.get(..head).unwrap_or(&page)));
    out.data(page.get(head..).unwrap_or(&[]).to_vec().into());
    let deadline = Instant::now() + options.send_timeout;
    let written = poll_fn(|cx| match out.poll_write(&mut link.io, cx, &meter, &mut false) {
        Poll::Pending => link.poll_until(deadline, cx).map(|()| false),
        Poll::Ready(outcome) => Poll::Ready(outcome.is_ok()),
    })
    .await;
    rejected(&Rejection {
        status: reject.status,
        rule: reject.rule,
        reason: reject.reason,
        line: first_line(&received),
        request_bytes: received.len() as u64,
        bytes_sent: meter.bytes_sent.get(),
        body_bytes_sent: meter.body_bytes_sent.get(),
    });
    if written {
        linger(link, options, Linger::Await).await;
    }
}

/// Tells of a head that the client left unfinished.
fn tell_cut<IO>(link: &Link<IO>, rejected: &impl Fn(&Rejection<'_>)) {
    rejected(&Rejection {
        status: StatusCode::BAD_REQUEST,
        rule: "H1-18",
        reason: "the client closed inside a head",
        line: first_line(&link.buf),
        request_bytes: link.buf.len() as u64,
        bytes_sent: 0,
        body_bytes_sent: 0,
    });
}

fn first_line(received: &[u8]) -> &[u8] {
    let start = received.iter().position(|byte| !matches!(byte, b'\r' | b'\n')).unwrap_or(received.len());
    let line = received.get(start..).unwrap_or(&[]);
    line.split(|byte| matches!(byte, b'\r' | b'\n')).next().unwrap_or(&[])
}

/// How long a connection is kept for what the client may still send.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Linger {
    /// Part of a request is missing, so something is probably under way.
    Await,
    /// Only if something is there already.
    IfMore,
}

/// Closes our side, then reads what the client still sends: unread bytes would make the kernel answer with a RST,
/// and that may overtake the answer.
async fn linger<IO: AsyncRead + AsyncWrite + Unpin>(link: &mut Link<IO>, options: &Options, wait: Linger) {
    let deadline = Instant::now() + options.drain_timeout;
    let mut shut = false;
    let mut wait = if link.buf.is_empty() { wait } else { Linger::Await };
    let mut left = options.drain_bytes;
    poll_fn(|cx| {
        if !shut {
            match Pin::new(&mut link.io).poll_shutdown(cx) {
                Poll::Pending => return link.poll_until(deadline, cx),
                Poll::Ready(Err(_)) => return Poll::Ready(()),
                Poll::Ready(Ok(())) => shut = true,
            }
        }
        while !link.eof && left > 0 {
            match link.poll_discard(cx) {
                Poll::Ready(Ok(read)) => {
                    wait = Linger::Await;
                    left = left.saturating_sub(read as u64);
                }
                Poll::Ready(Err(_)) => return Poll::Ready(()),
                Poll::Pending if wait == Linger::Await => return link.poll_until(deadline, cx),
                Poll::Pending => return Poll::Ready(()),
            }
        }
        Poll::Ready(())
    })
    .await;
}
