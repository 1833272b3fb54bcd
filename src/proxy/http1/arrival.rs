//! Waiting for the next request: its head, the end of the connection's time, or the client's farewell.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Buf;
use http::StatusCode;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::Instant;

use super::Options;
use super::exchange::Persistence;
use super::link::Link;
use crate::pipe::Socket;
use crate::proxy::turns::Place;
use crate::wire::{Parse, ParsedRequest, Reject, RequestParser};

/// What ends a connection that works well.
pub(super) struct Life<'d, D> {
    drain: Option<Pin<&'d mut D>>,
    /// Requests served so far.
    pub(super) requests: u64,
    max_requests: u64,
    end: Instant,
}

impl<'d, D: Future<Output = ()>> Life<'d, D> {
    pub(super) fn new(drain: Pin<&'d mut D>, options: &Options) -> Self {
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
    fn poll_keep(&mut self, now: Instant, cx: &mut Context<'_>) -> bool {
        self.requests < self.max_requests && now < self.end && self.poll_drain(cx).is_pending()
    }
}

/// What came instead of, or as, the next request.
pub(super) enum Arrival {
    Request(ParsedRequest),
    Refused(Reject),
    /// The client closed inside a head.
    Cut,
    /// Between two requests: the client closed, nothing came in time, or the process stops.
    Closed,
}

/// Waits for one request head.
#[derive(Default)]
pub(super) struct Waiting {
    parser: RequestParser,
    deadline: Option<Instant>,
    started: bool,
    since: Option<Instant>,
    /// There was nothing to read when it was first asked.
    was_woken: bool,
    place: Place,
}

impl Waiting {
    /// Waits since an instant that has just passed, or since it is first asked.
    pub(super) fn since(since: Option<Instant>) -> Self {
        Self { since, ..Self::default() }
    }

    /// Ready with what came.
    pub(super) fn poll<IO: AsyncRead + AsyncWrite + Socket + Unpin, D: Future<Output = ()>>(
        &mut self,
        cx: &mut Context<'_>,
        link: &mut Link<IO>,
        options: &Options,
        life: &mut Life<'_, D>,
    ) -> Poll<Arrival> {
        // Right after an answer there is usually nothing to read yet, so a turn is asked for by who was woken.
        if self.was_woken || !link.buf.is_empty() {
            ready!(options.turns.poll_begin(&mut self.place, 1, cx));
        }
        loop {
            if !link.buf.is_empty() {
                match self.parser.parse(&link.buf, &options.head) {
                    Parse::Complete(parsed) => {
                        link.buf.advance(parsed.consumed);
                        return Poll::Ready(Arrival::Request(parsed));
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
                link.poll_piece(cx)
            };
            match read {
                Poll::Ready(Ok(())) => {}
                Poll::Ready(Err(_)) => {
                    link.eof = true;
                    return Poll::Ready(if self.started { Arrival::Cut } else { Arrival::Closed });
                }
                Poll::Pending => {
                    self.was_woken = true;
                    return self.poll_time(cx, link, options, life);
                }
            }
        }
    }

    fn poll_time<IO: AsyncRead + AsyncWrite + Socket + Unpin, D: Future<Output = ()>>(
        &mut self,
        cx: &mut Context<'_>,
        link: &mut Link<IO>,
        options: &Options,
        life: &mut Life<'_, D>,
    ) -> Poll<Arrival> {
        if !self.started && life.poll_drain(cx).is_ready() {
            return Poll::Ready(Arrival::Closed);
        }
        link.start_small();
        let (timeout, since) =
            if self.started { (options.head_timeout, None) } else { (options.idle_timeout, self.since) };
        let deadline = || since.unwrap_or_else(Instant::now) + timeout;
        let deadline = *self.deadline.get_or_insert_with(deadline);
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
        Parse::Complete(parsed) => Some(Arrival::Request(parsed)),
        Parse::Reject(reject) => Some(Arrival::Refused(reject)),
        Parse::Incomplete => None,
    }
}
