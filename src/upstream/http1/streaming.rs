//! The body of an answer while it arrives. Owns the connection and moves both directions.

use std::fmt;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use bytes::{Buf, Bytes};
use http_body::{Body, Frame, SizeHint};

use super::super::deadline::Wait;
use super::super::trailers;
use super::{Exchange, Progress};
use crate::message::{BodyError, Flow, Piped, Section, trailers_of};
use crate::pipe::{self, Pipe, Socket};
use crate::wire::{BodyDecoder, Step};

/// A body under way. `exchange` is there until the end, clean or not.
pub(super) struct Streaming {
    exchange: Option<Exchange>,
    decoder: BodyDecoder,
    reusable: bool,
    trailers: Option<Section>,
}

impl fmt::Debug for Streaming {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Streaming({:?} bytes left)", self.decoder.remaining())
    }
}

impl Streaming {
    pub(super) fn new(
        exchange: Exchange,
        decoder: BodyDecoder,
        reusable: bool,
        trailers: Option<Section>,
    ) -> Self {
        Self { exchange: Some(exchange), decoder, reusable, trailers }
    }

    /// The connection goes back, or is closed when it cannot be used again.
    fn finish(&mut self) {
        if let Some(exchange) = self.exchange.take() {
            exchange.finish(self.reusable);
        }
    }

    /// The connection is closed.
    fn cut(&mut self, error: BodyError) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        self.close();
        Poll::Ready(Some(Err(error)))
    }

    fn close(&mut self) {
        if let Some(exchange) = self.exchange.take() {
            exchange.times.ended();
        }
    }

    /// What is to come passes through `pipe`; `None` where it cannot.
    fn piped(&mut self, cx: &mut Context<'_>, pipe: &Pipe) -> Option<Poll<Piped>> {
        let left = self.decoder.remaining().filter(|left| *left > 0)?;
        let exchange = self.exchange.as_mut().filter(|exchange| exchange.buffer.is_empty())?;
        exchange.connection.stream.socket()?;
        let progress = match exchange.poll_send(cx) {
            Ok(progress) => progress,
            Err(error) => return Some(Poll::Ready(Err(error))),
        };
        let most = left.min(pipe::TURN as u64);
        match pipe.poll_fill(exchange.connection.stream.socket()?, most, cx) {
            Poll::Ready(Err(error)) if error.kind() == io::ErrorKind::Unsupported => None,
            Poll::Ready(Ok(0) | Err(_)) => Some(Poll::Ready(Err(BodyError::Upstream))),
            Poll::Ready(Ok(moved)) => {
                exchange.times.add_received(moved);
                exchange.times.add_body(moved);
                exchange.connection.deadline.rest();
                self.decoder.passed(moved);
                if self.decoder.is_done() {
                    self.finish();
                }
                Some(Poll::Ready(Ok(moved)))
            }
            Poll::Pending => {
                let wait = if progress == Progress::Blocked { Wait::Send } else { Wait::Read };
                let passed = exchange.poll_deadline(cx, wait);
                Some(passed.map(|_| Err(BodyError::UpstreamTimeout)))
            }
        }
    }

    /// What the buffer holds of the body; `None` when more must be read.
    fn decode(&mut self) -> Result<Option<Option<Frame<Bytes>>>, BodyError> {
        let Some(exchange) = &mut self.exchange else { return Ok(Some(None)) };
        match self.decoder.decode(&exchange.buffer) {
            Ok(Step::More) => {
                exchange.times.add_body(exchange.buffer.len());
                exchange.buffer.clear();
                Ok(None)
            }
            Ok(Step::Data(range)) => {
                exchange.times.add_body(range.end);
                exchange.buffer.advance(range.start);
                let data = exchange.buffer.split_to(range.len()).freeze();
                exchange.connection.deadline.rest();
                if self.decoder.remaining() == Some(0) {
                    self.finish();
                }
                Ok(Some(Some(Frame::data(data))))
            }
            Ok(Step::End(taken)) => {
                exchange.times.add_body(taken);
                exchange.buffer.advance(taken);
                let fields = self.decoder.take_trailers();
                self.finish();
                let map = fields.as_ref().and_then(|fields| trailers::cleaned(trailers_of(fields)));
                if let (Some(section), Some(fields), Some(_)) = (&self.trailers, fields, &map) {
                    let _only_end = section.set(trailers::kept(fields));
                }
                Ok(Some(map.map(Frame::trailers)))
            }
            Err(_) => Err(BodyError::Upstream),
        }
    }
}

impl Flow for Streaming {
    fn takes_pipe(&self) -> bool {
        let socket = self.exchange.as_ref().and_then(|exchange| exchange.connection.stream.socket());
        socket.is_some() && self.decoder.remaining().is_some()
    }

    fn poll_pipe(mut self: Pin<&mut Self>, cx: &mut Context<'_>, pipe: &Rc<Pipe>) -> Option<Poll<Piped>> {
        let piped = self.piped(cx, pipe);
        if matches!(piped, Some(Poll::Ready(Err(_)))) {
            self.close();
        }
        piped
    }
}

impl Body for Streaming {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        loop {
            let Some(exchange) = &mut self.exchange else { return Poll::Ready(None) };
            let progress = match exchange.poll_send(cx) {
                Ok(progress) => progress,
                Err(error) => return self.cut(error),
            };
            match self.decode() {
                Ok(Some(Some(frame))) => return Poll::Ready(Some(Ok(frame))),
                Ok(Some(None)) => return Poll::Ready(None),
                Ok(None) => {}
                Err(error) => return self.cut(error),
            }
            let may_end = self.decoder.may_end();
            let Some(exchange) = &mut self.exchange else { return Poll::Ready(None) };
            match exchange.poll_fill(cx) {
                Poll::Ready(Ok(0)) if may_end => {
                    self.reusable = false;
                    self.finish();
                    return Poll::Ready(None);
                }
                Poll::Ready(Ok(0) | Err(_)) => return self.cut(BodyError::Upstream),
                Poll::Ready(Ok(_)) => {}
                Poll::Pending => {
                    // While the request goes on, either direction's progress counts for the one limit.
                    let wait = if progress == Progress::Blocked { Wait::Send } else { Wait::Read };
                    return match exchange.poll_deadline(cx, wait) {
                        Poll::Ready(_) => self.cut(BodyError::UpstreamTimeout),
                        Poll::Pending => Poll::Pending,
                    };
                }
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.exchange.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        match self.decoder.remaining() {
            Some(left) => SizeHint::with_exact(left),
            None => SizeHint::default(),
        }
    }
}

impl Drop for Streaming {
    fn drop(&mut self) {
        if let Some(exchange) = &self.exchange {
            exchange.times.ended();
        }
    }
}
