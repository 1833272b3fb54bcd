//! FastCGI towards a backend, inline: one connection for each request, no task and no channel. Request body and answer
//! move at once, as over HTTP/1. What the application writes to its standard error goes to the log.

use std::fmt;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll};

use bytes::{Buf, Bytes, BytesMut};
use http::Method;
use http_body::{Body, Frame, SizeHint};
use tokio::io::{AsyncReadExt, AsyncWrite};

use super::deadline::{Deadline, Wait};
use super::error::ErrorKind;
use super::stream::Tunnel;
use super::times::UpstreamTimes;
use super::{Answer, Content, Failed, UpstreamError};
use crate::message::{BodyError, Flow, RequestBody, ResponseBody};
use crate::policy::timeout::Timeouts;
use crate::wire::fastcgi::{self, Decoder, HeadParser, Step};
use crate::wire::{Framing, Reject, ResponseContext};

/// A read buffer, bytes.
const BUFFER: usize = 16 * 1024;
/// Of one request's errors so much is logged, bytes.
const LOGGED: usize = 8 * 1024;

/// A request to an application.
#[derive(Debug, Clone, Copy)]
pub struct FastcgiRequest<'r> {
    /// Method: decides whether the answer has a body.
    pub method: &'r Method,
    /// The beginning, parameters included ([`fastcgi::encode_head`]).
    pub head: &'r [u8],
}

/// Sends a request over a fresh connection and reads the head of the answer.
///
/// # Errors
/// [`Failed`]; the connection is closed then, as it is when the future is dropped.
pub(super) async fn exchange(
    stream: Tunnel,
    request: &FastcgiRequest<'_>,
    body: RequestBody,
    timeouts: Timeouts,
    times: Rc<UpstreamTimes>,
) -> Result<Answer, Failed> {
    let full = match &body {
        RequestBody::Empty => Some(Bytes::new()),
        RequestBody::Full(bytes) => Some(bytes.clone()),
        RequestBody::Kept(_) | RequestBody::Stream(_) => None,
    };
    let mut exchange = Exchange {
        stream,
        lines: request.head.to_vec(),
        lines_at: 0,
        data: Bytes::new(),
        body,
        sending: Sending::Body,
        written: 0,
        buffer: BytesMut::with_capacity(BUFFER),
        decoder: Decoder::default(),
        errors: Vec::new(),
        deadline: Deadline::new(),
        timeouts,
        times,
    };
    let mut parser = HeadParser::new(ResponseContext::of(request.method));
    match std::future::poll_fn(|cx| exchange.poll_head(cx, &mut parser)).await {
        Ok(head) => {
            exchange.times.head_complete();
            let left = match head.framing {
                Framing::None => Some(0),
                Framing::Length(length) => Some(length),
                Framing::Chunked | Framing::UntilClose => None,
            };
            let content = if left == Some(0) {
                exchange.times.ended();
                ResponseBody::Empty
            } else {
                let ahead = Bytes::from(head.rest);
                ResponseBody::Stream(Box::pin(Streaming { exchange: Some(exchange), ahead, left }))
            };
            Ok(Answer { head: head.head, content: Content::Body(content), trailers: None, reused: false })
        }
        Err(kind) => {
            exchange.times.ended();
            let (sent, answered) = (exchange.written > 0, exchange.times.received() > 0);
            let error = UpstreamError { kind, reused: false, sent, answered };
            let body = full.map(
                |bytes| {
                    if bytes.is_empty() { RequestBody::Empty } else { RequestBody::Full(bytes) }
                },
            );
            Err(Failed { error, body })
        }
    }
}

/// How far the request body is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sending {
    /// More may come.
    Body,
    /// What is queued is the last.
    Last,
    /// All is written.
    Done,
    /// The socket takes no more; an answer may still be there.
    Broken,
}

struct Exchange {
    stream: Tunnel,
    /// Record headers, and the head.
    lines: Vec<u8>,
    lines_at: usize,
    /// Content of the record whose header stands in `lines`.
    data: Bytes,
    body: RequestBody,
    sending: Sending,
    written: u64,
    buffer: BytesMut,
    decoder: Decoder,
    /// Begin of a line of the application's errors, and how it is bounded.
    errors: Vec<u8>,
    deadline: Deadline,
    timeouts: Timeouts,
    times: Rc<UpstreamTimes>,
}

/// What the application said next.
enum Said {
    Output(Bytes),
    End,
}

impl Exchange {
    fn poll_head(
        &mut self,
        cx: &mut Context<'_>,
        parser: &mut HeadParser,
    ) -> Poll<Result<fastcgi::Head, ErrorKind>> {
        loop {
            let wait = match self.poll_send(cx) {
                Ok(wait) => wait,
                Err(error) => return Poll::Ready(Err(ErrorKind::Client(error))),
            };
            match self.next() {
                Ok(Some(Said::Output(part))) => match parser.take(&part) {
                    Ok(Some(head)) => return Poll::Ready(Ok(head)),
                    Ok(None) => continue,
                    Err(reject) => return Poll::Ready(Err(ErrorKind::Invalid(reject))),
                },
                Ok(Some(Said::End)) => return Poll::Ready(Err(ErrorKind::Closed)),
                Ok(None) => {}
                Err(reject) => return Poll::Ready(Err(ErrorKind::Invalid(reject))),
            }
            match self.poll_fill(cx) {
                Poll::Ready(Ok(0)) => return Poll::Ready(Err(ErrorKind::Closed)),
                Poll::Ready(Ok(_)) => {}
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error.into())),
                Poll::Pending => {
                    return self.poll_deadline(cx, wait).map(|wait| {
                        Err(if wait == Wait::Send { ErrorKind::SendTimeout } else { ErrorKind::ReadTimeout })
                    });
                }
            }
        }
    }

    /// What the buffer holds; `None` when more must be read.
    fn next(&mut self) -> Result<Option<Said>, Reject> {
        loop {
            match self.decoder.decode(&self.buffer)? {
                Step::More => return Ok(None),
                Step::Skip(taken) => self.buffer.advance(taken),
                Step::Output(range) => {
                    return Ok(Some(Said::Output(self.buffer.split_to(range.len()).freeze())));
                }
                Step::Errors(range) => {
                    let part = self.buffer.split_to(range.len());
                    let room = LOGGED.saturating_sub(self.errors.len()).min(part.len());
                    self.errors.extend_from_slice(part.get(..room).unwrap_or(&[]));
                }
                Step::End(taken) => {
                    self.buffer.advance(taken);
                    return Ok(Some(Said::End));
                }
            }
        }
    }

    /// Writes what can be written; says what is waited for then.
    fn poll_send(&mut self, cx: &mut Context<'_>) -> Result<Wait, BodyError> {
        loop {
            if matches!(self.sending, Sending::Done | Sending::Broken) {
                return Ok(Wait::Read);
            }
            if self.lines_at < self.lines.len() || !self.data.is_empty() {
                let queued = match self.lines.get(self.lines_at..) {
                    Some(lines) if !lines.is_empty() => lines,
                    _ => &self.data,
                };
                match Pin::new(&mut self.stream).poll_write(cx, queued) {
                    Poll::Pending => return Ok(Wait::Send),
                    Poll::Ready(Ok(count)) if count > 0 => self.wrote(count),
                    Poll::Ready(_) => self.sending = Sending::Broken,
                }
                continue;
            }
            if self.sending == Sending::Last {
                self.sending = Sending::Done;
                continue;
            }
            match Pin::new(&mut self.body).poll_frame(cx) {
                Poll::Pending => return Ok(Wait::Free),
                Poll::Ready(Some(Ok(frame))) => {
                    if let Ok(data) = frame.into_data() {
                        self.queue(data);
                    }
                }
                Poll::Ready(Some(Err(error))) => return Err(error),
                Poll::Ready(None) => {
                    self.line(0);
                    self.sending = Sending::Last;
                }
            }
        }
    }

    fn wrote(&mut self, count: usize) {
        self.written += count as u64;
        self.times.add_sent(count);
        self.deadline.rest();
        if self.lines_at < self.lines.len() {
            self.lines_at += count;
        } else {
            self.data.advance(count.min(self.data.len()));
        }
    }

    /// One record; a part that is too long for one goes into several, copied: it is rare.
    fn queue(&mut self, data: Bytes) {
        if data.len() <= fastcgi::longest_part() {
            if !data.is_empty() {
                self.line(data.len());
                self.data = data;
            }
            return;
        }
        self.lines.clear();
        self.lines_at = 0;
        for part in data.chunks(fastcgi::longest_part()) {
            self.lines.extend_from_slice(&fastcgi::body_header(part.len()));
            self.lines.extend_from_slice(part);
        }
    }

    fn line(&mut self, length: usize) {
        self.lines.clear();
        self.lines_at = 0;
        self.lines.extend_from_slice(&fastcgi::body_header(length));
    }

    fn poll_fill(&mut self, cx: &mut Context<'_>) -> Poll<std::io::Result<usize>> {
        self.buffer.reserve(BUFFER / 2);
        let read = pin!(self.stream.read_buf(&mut self.buffer)).poll(cx);
        if let Poll::Ready(Ok(count)) = &read {
            self.times.add_received(*count);
            self.deadline.rest();
        }
        read
    }

    fn poll_deadline(&mut self, cx: &mut Context<'_>, wait: Wait) -> Poll<Wait> {
        let limit = if wait == Wait::Send { self.timeouts.send } else { self.timeouts.read };
        self.deadline.poll(cx, wait, limit).map(|()| wait)
    }
}

impl Drop for Exchange {
    fn drop(&mut self) {
        self.times.ended();
        if !self.errors.is_empty() {
            let text = String::from_utf8_lossy(&self.errors);
            tracing::error!(stderr = %text.trim_end().escape_debug(), "a FastCGI application reports");
        }
    }
}

/// The body of an answer while it arrives.
struct Streaming {
    exchange: Option<Exchange>,
    /// What came with the head.
    ahead: Bytes,
    /// Bytes that the head promised and that have not come; `None` without promise.
    left: Option<u64>,
}

impl fmt::Debug for Streaming {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Streaming({:?} bytes left)", self.left)
    }
}

impl Streaming {
    /// A part of the body, as far as the head promised it: what is beyond is dropped, as nginx does.
    fn part(&mut self, mut data: Bytes) -> Option<Frame<Bytes>> {
        if let Some(left) = &mut self.left {
            data.truncate(usize::try_from(*left).unwrap_or(usize::MAX));
            *left -= data.len() as u64;
        }
        if let Some(exchange) = &self.exchange {
            exchange.times.add_body(data.len());
        }
        if self.left == Some(0) {
            self.exchange = None;
        }
        (!data.is_empty()).then(|| Frame::data(data))
    }

    fn cut(&mut self, error: BodyError) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        self.exchange = None;
        Poll::Ready(Some(Err(error)))
    }
}

impl Flow for Streaming {}

impl Body for Streaming {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        if !self.ahead.is_empty() {
            let ahead = std::mem::take(&mut self.ahead);
            if let Some(frame) = self.part(ahead) {
                return Poll::Ready(Some(Ok(frame)));
            }
        }
        loop {
            let promised = self.left.is_some();
            let Some(exchange) = &mut self.exchange else { return Poll::Ready(None) };
            let wait = match exchange.poll_send(cx) {
                Ok(wait) => wait,
                Err(error) => return self.cut(error),
            };
            match exchange.next() {
                Ok(Some(Said::Output(data))) => match self.part(data) {
                    Some(frame) => return Poll::Ready(Some(Ok(frame))),
                    None => continue,
                },
                Ok(Some(Said::End)) if !promised => {
                    self.exchange = None;
                    return Poll::Ready(None);
                }
                Ok(Some(Said::End)) | Err(_) => return self.cut(BodyError::Upstream),
                Ok(None) => {}
            }
            match exchange.poll_fill(cx) {
                Poll::Ready(Ok(0) | Err(_)) => return self.cut(BodyError::Upstream),
                Poll::Ready(Ok(_)) => {}
                Poll::Pending => {
                    let wait = if wait == Wait::Send { Wait::Send } else { Wait::Read };
                    return match exchange.poll_deadline(cx, wait) {
                        Poll::Ready(_) => self.cut(BodyError::UpstreamTimeout),
                        Poll::Pending => Poll::Pending,
                    };
                }
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.exchange.is_none() && self.ahead.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        self.left.map_or_else(SizeHint::default, SizeHint::with_exact)
    }
}
