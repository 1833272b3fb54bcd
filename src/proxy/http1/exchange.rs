//! One request and its answer. Handler, request body and answer make progress side by side in one task, so an
//! answer may start, and even end, while the request body still arrives.

use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use http::Method;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::Instant;

use super::Options;
use super::ending::Linger;
use super::incoming::{Source, Supply};
use super::link::Link;
use super::outgoing::Outgoing;
use super::reply::{Asker, Progress, Reply};
use crate::message::{BodyError, Meter, Request, RequestBody, Response, Upgrade};
use crate::pipe::Socket;
use crate::proxy::patience::Patience;
use crate::wire::{BodyDecoder, Framing, Leniency, ParsedRequest};

/// What the connection may do after an exchange.
pub(super) enum Outcome {
    /// Serve the next request once the rest of this one's body is read; the connection is quiet since then, where that
    /// is known.
    Next(Source, Option<Instant>),
    /// Close; the answer is complete.
    Close(Linger),
    /// Close at once and without ceremony: the client is gone or must see a cut.
    Abort,
    /// Close so that the client takes what it got for cut, where an end of the stream would be the end of the answer.
    Reset,
    /// Hand the connection over.
    Upgrade(Upgrade),
}

/// Whether the connection may be kept after this exchange, as far as that is known when the answer starts.
pub(super) trait Persistence {
    /// False: write `Connection: close`.
    fn poll_keep(&mut self, now: Instant, cx: &mut Context<'_>) -> bool;
}

/// State of one exchange. `F` is boxed: handlers are large and an idle connection must not carry one.
pub(super) struct Exchange<F> {
    handler: Option<Pin<Box<F>>>,
    source: Source,
    reply: Option<Reply>,
    out: Outgoing,
    asker: Asker,
    meter: Rc<Meter>,
    keep_alive: bool,
    expect_continue: bool,
    unflushed: bool,
    patience: Patience,
    /// [`Meter::request_bytes`] when the client was last waited for.
    counted: u64,
    send_deadline: Option<Instant>,
    /// When a client counts as gone that ended its sending side.
    gone: Option<Instant>,
}

impl<F: Future<Output = Response>> Exchange<F> {
    /// Starts the exchange: `handle` gets the request.
    pub(super) fn new<IO: AsyncRead + AsyncWrite + Socket + Unpin>(
        parsed: ParsedRequest,
        link: &mut Link<IO>,
        options: &Options,
        handle: impl FnOnce(Request) -> F,
    ) -> Self {
        let meter = Rc::new(Meter::default());
        Meter::add(&meter.request_bytes, parsed.consumed);
        let asker = Asker {
            head: parsed.head.method == Method::HEAD,
            version: parsed.head.version,
            accepts_trailers: parsed.accepts_trailers,
        };
        let mut source = Source::new(BodyDecoder::new(parsed.framing, Leniency::Strict, options.chunks));
        let body = if parsed.framing == Framing::None {
            RequestBody::Empty
        } else if let Some(bytes) = source.take_whole(&mut link.buf, &meter) {
            RequestBody::Full(bytes)
        } else {
            RequestBody::Stream(Box::pin(source.open(link.io.socket().is_some())))
        };
        let expect_continue = parsed.expect_continue && link.buf.is_empty() && !source.is_done();
        let counted = meter.request_bytes.get();
        let request = Request { head: parsed.head, body, refused: None, meter: Rc::clone(&meter) };
        // The room first: the future is large, and so it is made where it stays.
        let handler = Box::write(Box::new_uninit(), handle(request));
        Self {
            handler: Some(Box::into_pin(handler)),
            source,
            reply: None,
            out: Outgoing::default(),
            asker,
            meter,
            keep_alive: parsed.keep_alive,
            expect_continue,
            unflushed: false,
            patience: Patience::new(options.body_timeout, options.body_rate),
            counted,
            send_deadline: None,
            gone: None,
        }
    }

    /// Drives everything that can go on.
    pub(super) fn poll<IO: AsyncRead + AsyncWrite + Socket + Unpin>(
        &mut self,
        cx: &mut Context<'_>,
        link: &mut Link<IO>,
        options: &Options,
        persistence: &mut impl Persistence,
    ) -> Poll<Outcome> {
        loop {
            // Without a body to supply, what the client sends meanwhile is looked at only when the answer has to wait.
            let ahead = self.source.is_done();
            let mut progress = false;
            if !ahead {
                match self.receive(cx, link, options) {
                    Ok(received) => progress = received,
                    Err(_) => return Poll::Ready(Outcome::Abort),
                }
            }
            if let Some(handler) = &mut self.handler
                && let Poll::Ready(response) = handler.as_mut().poll(cx)
            {
                self.handler = None;
                self.start_reply(response, cx, link, options, persistence);
            }
            match self.send(cx, link, options) {
                Err(_) => return Poll::Ready(Outcome::Abort),
                Ok(Poll::Ready(outcome)) => return Poll::Ready(outcome),
                Ok(Poll::Pending) => {}
            }
            if ahead {
                match self.receive(cx, link, options) {
                    Ok(received) => progress = received,
                    Err(_) => return Poll::Ready(Outcome::Abort),
                }
            }
            if !progress && !self.source.was_asked() {
                match self.poll_deadlines(cx, link) {
                    Poll::Pending => return Poll::Pending,
                    Poll::Ready(Err(())) => return Poll::Ready(Outcome::Abort),
                    Poll::Ready(Ok(())) => {}
                }
            }
        }
    }

    /// Reads what the handler wants of the body; beyond that a little ahead, so a reset is seen at once. True when
    /// the handler has something new to see.
    fn receive<IO: AsyncRead + AsyncWrite + Socket + Unpin>(
        &mut self,
        cx: &mut Context<'_>,
        link: &mut Link<IO>,
        options: &Options,
    ) -> io::Result<bool> {
        loop {
            let (hungry, pipe) = match self.source.supply(&mut link.buf, cx, &self.meter) {
                Supply::Delivered => {
                    self.rest();
                    return Ok(true);
                }
                Supply::Pipe(pipe, most) => (true, Some((pipe, most))),
                Supply::Hungry => (true, None),
                Supply::Idle => (false, None),
            };
            if hungry {
                if link.eof {
                    self.source.fail(BodyError::Gone, cx);
                    return Ok(true);
                }
                if std::mem::take(&mut self.expect_continue) && self.reply.is_none() {
                    self.out.head(|out| out.extend_from_slice(b"HTTP/1.1 100 Continue\r\n\r\n"));
                }
            } else {
                self.rest();
                if !link.may_read_ahead() {
                    return Ok(false);
                }
            }
            let read = match &pipe {
                Some((pipe, most)) => match link.poll_pipe(cx, pipe, *most) {
                    Poll::Ready(Ok(moved @ 1..)) => {
                        self.source.piped(moved, cx, &self.meter);
                        self.rest();
                        return Ok(true);
                    }
                    Poll::Ready(Err(error)) if error.kind() == io::ErrorKind::Unsupported => {
                        self.source.without_pipes(cx);
                        return Ok(true);
                    }
                    read => read,
                },
                None if !hungry && self.source.is_piped() => match link.poll_peek(cx) {
                    Poll::Ready(Ok(1..)) => return Ok(false),
                    seen => seen,
                },
                // Between bodies nearly every read ahead finds nothing: that must not cost a buffer.
                None if self.source.is_done() => link.poll_ahead(cx),
                None => link.poll_fill(cx),
            };
            match read? {
                Poll::Pending => {
                    if hungry {
                        self.patience.wait();
                    }
                    return Ok(false);
                }
                Poll::Ready(0) => self.half_closed(link.buf.len(), options)?,
                Poll::Ready(_) => self.rest(),
            }
        }
    }

    /// The client is not waited for; what came of its body since the last time speaks for it.
    fn rest(&mut self) {
        let received = self.meter.request_bytes.get();
        self.patience.rest(received.saturating_sub(self.counted));
        self.counted = received;
    }

    /// The client sends no more. A complete request still gets its answer if that begins soon; an incomplete one never
    /// will be served.
    fn half_closed(&mut self, buffered: usize, options: &Options) -> io::Result<()> {
        if self.reply.is_none() && !self.source.may_be_complete(buffered) {
            return Err(io::ErrorKind::ConnectionAborted.into());
        }
        self.gone.get_or_insert_with(|| Instant::now() + options.half_close_grace);
        Ok(())
    }

    fn start_reply<IO: AsyncRead + AsyncWrite + Socket + Unpin>(
        &mut self,
        response: Response,
        cx: &mut Context<'_>,
        link: &Link<IO>,
        options: &Options,
        persistence: &mut impl Persistence,
    ) {
        let now = Instant::now();
        // A client that waits for a 100 which never comes may send its body or not: nobody could tell a body from
        // the next request. A long body that nobody reads is not worth reading either.
        let rest_is_bearable = self.source.is_done()
            || self.source.is_held()
            || self.source.missing(link.buf.len()).is_none_or(|missing| missing <= options.drain_bytes);
        let keep_alive = self.keep_alive
            && !link.eof
            && !self.source.broken
            && (!self.expect_continue || self.source.is_done())
            && rest_is_bearable
            && persistence.poll_keep(now, cx);
        self.reply = Some(Reply::start(response, self.asker, keep_alive, &mut self.out, (&self.meter, now)));
    }

    /// Writes what is queued, takes more of the answer's body, until one of them has to wait.
    fn send<IO: AsyncRead + AsyncWrite + Socket + Unpin>(
        &mut self,
        cx: &mut Context<'_>,
        link: &mut Link<IO>,
        options: &Options,
    ) -> io::Result<Poll<Outcome>> {
        loop {
            if let Some(reply) = &mut self.reply {
                let memory = link.io.socket().map(|_| link.memory());
                reply.fill(cx, &mut self.out, memory);
            }
            let mut progress = false;
            let written = self.out.poll_write(&mut link.io, cx, &self.meter, &mut progress)?;
            self.unflushed |= progress;
            if progress {
                self.send_deadline = None;
            }
            if written.is_pending() {
                self.wait_for_client(options);
                return Ok(Poll::Pending);
            }
            if progress && self.reply.as_ref().is_some_and(|reply| reply.progress == Progress::Going) {
                if self.out.ends_turn() {
                    cx.waker().wake_by_ref();
                    return Ok(Poll::Pending);
                }
                continue;
            }
            if self.unflushed {
                if Pin::new(&mut link.io).poll_flush(cx)?.is_pending() {
                    self.wait_for_client(options);
                    return Ok(Poll::Pending);
                }
                self.unflushed = false;
            }
            self.send_deadline = None;
            return Ok(self.outcome(cx));
        }
    }

    fn wait_for_client(&mut self, options: &Options) {
        if self.send_deadline.is_none() {
            self.send_deadline = Some(Instant::now() + options.send_timeout);
        }
    }

    /// With an empty queue: is the exchange over?
    fn outcome(&mut self, cx: &mut Context<'_>) -> Poll<Outcome> {
        let Some(reply) = &mut self.reply else { return Poll::Pending };
        match reply.progress {
            Progress::Going => return Poll::Pending,
            Progress::Cut if reply.ends_by_close() => return Poll::Ready(Outcome::Reset),
            Progress::Cut => return Poll::Ready(Outcome::Abort),
            Progress::Complete => self.meter.finished.set(true),
        }
        if let Some(upgrade) = reply.upgrade.take() {
            return Poll::Ready(Outcome::Upgrade(upgrade));
        }
        let keep_alive = reply.keep_alive && !self.source.broken;
        // The body of the answer may hold the body of the request: it goes first.
        self.reply = None;
        self.source.close(cx);
        Poll::Ready(if keep_alive {
            let ended = self.meter.ended.get().filter(|_| self.source.is_done());
            let source = std::mem::replace(&mut self.source, Source::new(BodyDecoder::Length(0)));
            Outcome::Next(source, ended.map(Instant::from_std))
        } else {
            Outcome::Close(if self.source.is_done() { Linger::IfMore } else { Linger::Deliver })
        })
    }

    /// Ready with `Ok` when the handler has something new to see, with an error when the client stalls.
    fn poll_deadlines<IO: AsyncRead + AsyncWrite + Socket + Unpin>(
        &mut self,
        cx: &mut Context<'_>,
        link: &mut Link<IO>,
    ) -> Poll<Result<(), ()>> {
        let gone = self.gone.filter(|_| self.reply.is_none());
        let next = [self.patience.end(), self.send_deadline, gone].into_iter().flatten().min();
        let Some(next) = next else { return Poll::Pending };
        if link.poll_until(next, cx).is_pending() {
            return Poll::Pending;
        }
        if self.send_deadline == Some(next) || gone == Some(next) {
            return Poll::Ready(Err(()));
        }
        self.rest();
        self.source.fail(BodyError::Timeout, cx);
        Poll::Ready(Ok(()))
    }
}
