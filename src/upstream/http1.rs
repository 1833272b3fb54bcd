//! HTTP/1 towards a backend, inline: no task and no channel, the caller's future drives the socket.
//!
//! Request and response move at once. While the head is waited for, the request is written; when the head comes
//! early, the body of the answer goes on writing the rest of the request each time it is polled. So an early 413
//! reaches the client, and 10 MiB each way do not lock.

use std::io;
use std::pin::pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Instant;

use bytes::{Buf, Bytes, BytesMut};
use tokio::io::AsyncReadExt;

use super::deadline::{Deadline, Wait};
use super::error::ErrorKind;
use super::pool::{BUFFER, Lane, Open, Pool};
use super::stream::{Stream, Tunnel};
use super::times::UpstreamTimes;
use super::{Answer, Content, Failed, UpstreamError, UpstreamRequest};
use crate::limit::{Bodies, Held, Memory};
use crate::message::{RequestBody, ResponseBody, Section};
use crate::policy::backend_protocol::HttpVersion;
use crate::policy::timeout::Timeouts;
use crate::wire::response::{MAX_INTERIM, MAX_INTERIM_BYTES};
use crate::wire::{
    BodyDecoder, ChunkLimits, Framing, Leniency, Parse, ParsedResponse, Reject, ResponseContext,
    ResponseLimits, ResponseParser,
};

mod room;
mod send;
mod streaming;

use send::{Progress, Sender};
use streaming::Streaming;

/// A read buffer grows to this for bulk, bytes.
const BULK: usize = 256 * 1024;
/// It does not grow beyond this while bodies take up most of what they may (`security.md` D-4), bytes.
const SMALL: usize = 16 * 1024;
/// TLS hands over one record per read; records up to this are gathered before the client gets them, bytes.
const GATHER: usize = 64 * 1024;
/// Bytes of a head, whatever `proxy-buffer-size` says.
const MAX_HEAD: usize = 1024 * 1024;
/// A complete body up to this is copied out of the read buffer, so that the buffer can serve again, bytes.
const COPY: usize = 4 * 1024;

/// One connection on which nothing is under way.
#[derive(Debug)]
pub struct Connection {
    stream: Stream,
    deadline: Deadline,
    created: Instant,
    exchanges: u32,
    open: Open,
    /// What the last reads of a long answer take up.
    held: Held,
}

/// Where a connection goes after a clean end.
#[derive(Debug, Clone)]
pub(super) struct Home {
    pub(super) pool: Rc<Pool>,
    pub(super) lane: Rc<Lane>,
}

impl Connection {
    /// Takes a connected stream.
    pub(super) fn new(stream: Stream, open: Open, memory: &Memory) -> Self {
        let held = memory.hold(0);
        Self { stream, deadline: Deadline::new(), created: Instant::now(), exchanges: 0, open, held }
    }

    /// When it was made.
    pub const fn created(&self) -> Instant {
        self.created
    }

    /// Requests sent over it.
    pub const fn exchanges(&self) -> u32 {
        self.exchanges
    }

    /// True when the backend has neither closed it nor sent anything.
    pub(super) fn is_quiet(&mut self) -> bool {
        self.stream.is_quiet()
    }
}

/// Sends `request` and reads the head of the answer.
///
/// # Errors
/// [`Failed`]; the connection is closed then. Dropping the future closes it too.
pub(super) async fn exchange(
    mut connection: Box<Connection>,
    home: Home,
    request: &UpstreamRequest<'_>,
    body: RequestBody,
    timeouts: Timeouts,
    times: Rc<UpstreamTimes>,
) -> Result<Answer, Failed> {
    let reused = connection.exchanges > 0;
    connection.exchanges = connection.exchanges.saturating_add(1);
    connection.deadline.rest();
    let sender = match Sender::new(request, body, home.pool.scratch()) {
        Ok(sender) => sender,
        Err((reason, body)) => {
            let error = UpstreamError { reused, ..UpstreamError::unsent(ErrorKind::Request(reason)) };
            return Err(Failed { error, body: Some(body) });
        }
    };
    let buffer = BytesMut::new();
    let mut exchange = Exchange {
        connection,
        home,
        sender,
        buffer,
        want: BUFFER,
        timeouts,
        times,
        answers_whole: false,
        came: false,
        among_many: request.among_many,
    };
    let context = ResponseContext { upgrade: request.upgrade, ..ResponseContext::of(request.method) };
    let mut limits = ResponseLimits::default();
    if let Some(bytes) = request.head_bytes {
        limits.head = usize::try_from(bytes).unwrap_or(MAX_HEAD).min(MAX_HEAD);
    }
    let parser = ResponseParser::default();
    let mut intake = Intake { context, limits, parser, interim: 0, interim_bytes: 0 };
    match std::future::poll_fn(|cx| exchange.poll_head(cx, &mut intake)).await {
        Ok(parsed) => {
            exchange.times.head_complete();
            let reusable = parsed.keep_alive && request.version == HttpVersion::Http11;
            let trailers = request.trailers && parsed.framing == Framing::Chunked;
            let trailers = trailers.then(Section::default);
            Ok(exchange.answer(parsed, reusable, reused, trailers))
        }
        Err(kind) => {
            exchange.times.ended();
            let sent = exchange.sender.written() > 0;
            let answered = exchange.times.received() > 0;
            let error = UpstreamError { kind, reused, sent, answered };
            Err(Failed { error, body: exchange.sender.into_body() })
        }
    }
}

/// State of reading heads.
struct Intake {
    context: ResponseContext,
    limits: ResponseLimits,
    parser: ResponseParser,
    interim: usize,
    interim_bytes: usize,
}

impl Intake {
    /// Takes interim answers off the buffer until the final head is complete.
    fn parse(&mut self, buffer: &mut BytesMut) -> Result<Option<ParsedResponse>, Reject> {
        loop {
            let parsed = match self.parser.parse(buffer, self.context, &self.limits) {
                Parse::Incomplete => return Ok(None),
                Parse::Reject(reject) => return Err(reject),
                Parse::Complete(parsed) => parsed,
            };
            buffer.advance(parsed.consumed);
            if !parsed.interim {
                return Ok(Some(parsed));
            }
            self.parser = ResponseParser::default();
            self.interim = self.interim.saturating_add(1);
            self.interim_bytes = self.interim_bytes.saturating_add(parsed.consumed);
            if self.interim > MAX_INTERIM || self.interim_bytes > MAX_INTERIM_BYTES {
                return Err(Reject::gateway("R-7", "more interim answers than allowed"));
            }
        }
    }
}

/// One request and its answer on a connection.
#[derive(Debug)]
struct Exchange {
    connection: Box<Connection>,
    home: Home,
    sender: Sender,
    buffer: BytesMut,
    /// Bytes to offer to the next read.
    want: usize,
    timeouts: Timeouts,
    times: Rc<UpstreamTimes>,
    /// The request had gone out whole when the backend was last heard of.
    answers_whole: bool,
    /// Bytes came that are not looked at yet.
    came: bool,
    /// [`UpstreamRequest::among_many`], until it had its effect.
    among_many: bool,
}

impl Exchange {
    fn poll_head(
        &mut self,
        cx: &mut Context<'_>,
        intake: &mut Intake,
    ) -> Poll<Result<ParsedResponse, ErrorKind>> {
        loop {
            if std::mem::take(&mut self.came) {
                match intake.parse(&mut self.buffer) {
                    Ok(Some(parsed)) => return Poll::Ready(Ok(parsed)),
                    Ok(None) => {}
                    Err(reject) => return Poll::Ready(Err(ErrorKind::Invalid(reject))),
                }
            }
            let progress = match self.poll_send(cx) {
                Ok(progress) => progress,
                Err(error) => return Poll::Ready(Err(ErrorKind::Client(error))),
            };
            match self.poll_fill(cx) {
                Poll::Ready(Ok(0)) => return Poll::Ready(Err(ErrorKind::Closed)),
                Poll::Ready(Ok(_)) => {
                    self.came = true;
                    // The others read first: what one thing is done with many times in a row stays warm.
                    if std::mem::take(&mut self.among_many) {
                        cx.waker().wake_by_ref();
                        return Poll::Pending;
                    }
                }
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error.into())),
                Poll::Pending => {
                    self.lay_buffer_down();
                    let wait = match progress {
                        Progress::Starved => Wait::Free,
                        Progress::Blocked => Wait::Send,
                        Progress::Done | Progress::Broken => Wait::Read,
                    };
                    return match self.poll_deadline(cx, wait) {
                        Poll::Ready(Wait::Send) => Poll::Ready(Err(ErrorKind::SendTimeout)),
                        Poll::Ready(_) => Poll::Ready(Err(ErrorKind::ReadTimeout)),
                        Poll::Pending => Poll::Pending,
                    };
                }
            }
        }
    }

    /// Nobody holds an empty buffer while waiting for a backend: few that are used all the time stay warm.
    fn lay_buffer_down(&mut self) {
        if self.buffer.is_empty() {
            self.home.pool.recycle(std::mem::take(&mut self.buffer));
        }
    }

    /// Writes what can be written.
    fn poll_send(&mut self, cx: &mut Context<'_>) -> Result<Progress, crate::message::BodyError> {
        let before = self.sender.written();
        let progress = self.sender.poll(cx, &mut self.connection.stream, &self.home.pool);
        let moved = self.sender.written().saturating_sub(before);
        if moved > 0 {
            self.times.add_sent(usize::try_from(moved).unwrap_or(usize::MAX));
            self.connection.deadline.rest();
        }
        progress
    }

    fn poll_deadline(&mut self, cx: &mut Context<'_>, wait: Wait) -> Poll<Wait> {
        let limit = if wait == Wait::Send { self.timeouts.send } else { self.timeouts.read };
        self.connection.deadline.poll(cx, wait, limit).map(|()| wait)
    }

    /// Reads once (TLS: several records) into the buffer; `Ok(0)` is the end of the stream.
    fn poll_fill(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        if self.buffer.capacity() == 0 {
            self.buffer = self.home.pool.buffer();
        }
        if self.buffer.capacity().saturating_sub(self.buffer.len()) < self.want / 2 {
            room::make(&mut self.buffer, self.want);
        }
        let room = self.buffer.capacity().saturating_sub(self.buffer.len());
        let gathers = matches!(self.connection.stream, Stream::Tls(_));
        let mut total: usize = 0;
        loop {
            let read = pin!(self.connection.stream.read_buf(&mut self.buffer)).poll(cx);
            match read {
                Poll::Ready(Ok(count)) => {
                    total = total.saturating_add(count);
                    if count > 0 && gathers && total < room.min(GATHER) {
                        continue;
                    }
                }
                // Bytes first: the failure stays and comes again with the next read.
                Poll::Ready(Err(error)) if total == 0 => return Poll::Ready(Err(error)),
                Poll::Pending if total == 0 => return Poll::Pending,
                Poll::Ready(Err(_)) | Poll::Pending => {}
            }
            break;
        }
        // A piece that was handed on lives about as long as it takes to read the next one.
        if self.want > BUFFER {
            self.connection.held.set(self.buffer.len().max(total) as u64);
        }
        if total >= room || (gathers && total >= self.want) {
            let most = if self.home.pool.memory().bodies() == Bodies::Plenty { BULK } else { SMALL };
            self.want = self.want.saturating_mul(4).min(most);
        } else if total < self.want / 8 {
            self.want = (self.want / 2).max(BUFFER);
        }
        self.times.add_received(total);
        self.connection.deadline.rest();
        self.answers_whole = self.sender.is_done();
        Poll::Ready(Ok(total))
    }

    /// Turns a parsed head into the answer: what is complete already is handed over whole.
    fn answer(
        mut self,
        parsed: ParsedResponse,
        reusable: bool,
        reused: bool,
        trailers: Option<Section>,
    ) -> Answer {
        let ParsedResponse { head, framing, .. } = parsed;
        if head.status == http::StatusCode::SWITCHING_PROTOCOLS {
            let Self { connection, buffer, .. } = self;
            let Connection { stream, open, .. } = *connection;
            let content = Content::Tunnel(Tunnel::new(buffer, stream, open));
            return Answer { head, content, trailers, reused };
        }
        let content = match self.complete_length(framing) {
            Some(0) => {
                self.times.ended_with_head();
                self.finish(reusable);
                ResponseBody::Empty
            }
            Some(length) => {
                let data = self.take(length);
                self.times.add_body(data.len());
                self.times.ended_with_head();
                self.finish(reusable);
                ResponseBody::Full(data)
            }
            None => {
                if let Framing::Length(length) = framing {
                    // What is known to come is asked for at once, instead of in reads that grow.
                    self.want = usize::try_from(length).unwrap_or(BULK).clamp(self.want.min(BULK), BULK);
                }
                let decoder = BodyDecoder::new(framing, Leniency::Backend, ChunkLimits::default());
                ResponseBody::Stream(Box::pin(Streaming::new(self, decoder, reusable, trailers.clone())))
            }
        };
        Answer { head, content: Content::Body(content), trailers, reused }
    }

    /// Length of the body when all of it is in the buffer.
    fn complete_length(&self, framing: Framing) -> Option<usize> {
        match framing {
            Framing::None => Some(0),
            Framing::Length(length) => {
                usize::try_from(length).ok().filter(|length| *length <= self.buffer.len())
            }
            Framing::Chunked | Framing::UntilClose => None,
        }
    }

    /// The first `length` bytes of the buffer.
    fn take(&mut self, length: usize) -> Bytes {
        if length > COPY {
            return self.buffer.split_to(length).freeze();
        }
        let data = Bytes::copy_from_slice(self.buffer.get(..length).unwrap_or(&[]));
        self.buffer.advance(data.len());
        data
    }

    /// The answer is complete. The connection is kept when the request had gone out whole before its end came, and
    /// nothing is left over. Whoever answers earlier may never read the rest, or take it for the next request.
    fn finish(self, reusable: bool) {
        let now = self.times.ended();
        let Self { mut connection, home, buffer, answers_whole, .. } = self;
        connection.deadline.rest();
        connection.held.set(0);
        if reusable && answers_whole && buffer.is_empty() {
            home.pool.recycle(buffer);
            home.pool.checkin(&home.lane, connection, now);
        }
    }
}
