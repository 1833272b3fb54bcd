//! Writing one request: the head with the first bytes of the body, then the body as it comes.

use std::fmt;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use http_body::Body;
use tokio::io::AsyncWrite;

use super::super::UpstreamRequest;
use super::super::pool::Pool;
use crate::limit::Memory;
use crate::message::{BodyError, RequestBody};
use crate::pipe::{self, Pipe, Socket};
use crate::policy::backend_protocol::HttpVersion;
use crate::wire::{Framing, encode};

/// How far writing got.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Progress {
    /// All of it is written.
    Done,
    /// The socket takes no more.
    Blocked,
    /// The client has not sent more yet.
    Starved,
    /// The socket failed; an early answer may still be there to read.
    Broken,
}

/// The request on its way.
pub(super) struct Sender {
    /// Encoded head, later chunk lines and trailers.
    lines: Vec<u8>,
    lines_at: usize,
    data: Bytes,
    /// What follows the data of a chunk.
    tail: &'static [u8],
    /// Bytes that pass beside `data`, after it.
    pipe: Option<Rc<Pipe>>,
    body: RequestBody,
    framing: Framing,
    /// What `body` was if it can be sent again.
    full: Option<Bytes>,
    polled: bool,
    ended: bool,
    unflushed: bool,
    state: Progress,
    written: u64,
}

impl fmt::Debug for Sender {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Sender({:?}, {} bytes written)", self.state, self.written)
    }
}

impl Sender {
    /// Encodes the head into `scratch`, which is empty.
    ///
    /// # Errors
    /// Why the request cannot be written, and the body.
    pub(super) fn new(
        request: &UpstreamRequest<'_>,
        body: RequestBody,
        scratch: Vec<u8>,
    ) -> Result<Self, (&'static str, RequestBody)> {
        let lines = match head(request, &body, scratch) {
            Ok(lines) => lines,
            Err(reason) => return Err((reason, body)),
        };
        let full = match &body {
            RequestBody::Empty => Some(Bytes::new()),
            RequestBody::Full(bytes) => Some(bytes.clone()),
            RequestBody::Kept(_) | RequestBody::Stream(_) => None,
        };
        Ok(Self {
            lines,
            lines_at: 0,
            data: Bytes::new(),
            tail: b"",
            pipe: None,
            body,
            framing: request.framing,
            full,
            polled: false,
            ended: matches!(request.framing, Framing::None | Framing::Length(0)),
            unflushed: false,
            state: Progress::Starved,
            written: 0,
        })
    }

    /// Bytes that the socket took.
    pub(super) const fn written(&self) -> u64 {
        self.written
    }

    /// True when all of it is written.
    pub(super) fn is_done(&self) -> bool {
        self.state == Progress::Done
    }

    /// The body, if it can be sent (again).
    pub(super) fn into_body(self) -> Option<RequestBody> {
        match (self.full, self.body) {
            (Some(bytes), _) if bytes.is_empty() => Some(RequestBody::Empty),
            (Some(bytes), _) => Some(RequestBody::Full(bytes)),
            (None, body @ (RequestBody::Kept(_) | RequestBody::Stream(_))) if !self.polled => Some(body),
            (None, _) => None,
        }
    }

    /// Writes what can be written now.
    ///
    /// # Errors
    /// The client's body failed.
    pub(super) fn poll<W: AsyncWrite + Socket + Unpin>(
        &mut self,
        cx: &mut Context<'_>,
        stream: &mut W,
        pool: &Pool,
    ) -> Result<Progress, BodyError> {
        while !matches!(self.state, Progress::Done | Progress::Broken) {
            let starved = !self.ended
                && self.data.is_empty()
                && self.tail.is_empty()
                && self.pipe.as_ref().is_none_or(|pipe| pipe.is_empty())
                && !self.pull(cx, stream, pool.memory())?;
            if self.has_queued() {
                match self.write(cx, stream, pool) {
                    Poll::Ready(Ok(())) => continue,
                    Poll::Ready(Err(_)) => self.state = Progress::Broken,
                    Poll::Pending => {
                        self.state = Progress::Blocked;
                        break;
                    }
                }
                continue;
            }
            if self.unflushed {
                match Pin::new(&mut *stream).poll_flush(cx) {
                    Poll::Ready(Ok(())) => self.unflushed = false,
                    Poll::Ready(Err(_)) => {
                        self.state = Progress::Broken;
                        break;
                    }
                    Poll::Pending => {
                        self.state = Progress::Blocked;
                        break;
                    }
                }
            }
            if self.ended {
                self.state = Progress::Done;
            } else if starved {
                self.state = Progress::Starved;
                break;
            }
        }
        Ok(self.state)
    }

    fn has_queued(&self) -> bool {
        let piped = self.pipe.as_ref().is_some_and(|pipe| !pipe.is_empty());
        self.lines_at < self.lines.len() || !self.data.is_empty() || !self.tail.is_empty() || piped
    }

    /// Queues the next piece of the body; false when the client has none yet.
    fn pull(
        &mut self,
        cx: &mut Context<'_>,
        stream: &impl Socket,
        memory: &Memory,
    ) -> Result<bool, BodyError> {
        self.polled = true;
        if let Some(piped) = self.pull_pipe(cx, stream, memory) {
            return piped;
        }
        match Pin::new(&mut self.body).poll_frame(cx) {
            Poll::Pending => return Ok(false),
            Poll::Ready(Some(Err(error))) => return Err(error),
            Poll::Ready(None) => self.end()?,
            Poll::Ready(Some(Ok(frame))) => match frame.into_data() {
                Ok(data) => self.queue(data)?,
                // An HTTP/1 backend that merges trailers into the head would take them for the client's fields, and
                // nginx sends none (H1-09).
                Err(_trailers) => self.end()?,
            },
        }
        self.end_of_length();
        Ok(true)
    }

    /// The end of a body whose length is told needs no further poll, and its last bytes no second write.
    fn end_of_length(&mut self) {
        if self.framing == Framing::Length(0) {
            self.ended = true;
        }
    }

    /// [`Sender::pull`] by way of a pipe, where both sides can and it is worth it.
    fn pull_pipe(
        &mut self,
        cx: &mut Context<'_>,
        stream: &impl Socket,
        memory: &Memory,
    ) -> Option<Result<bool, BodyError>> {
        let Framing::Length(left) = self.framing else { return None };
        stream.socket()?;
        if self.pipe.is_none() {
            if left < pipe::WORTH_IT || !self.body.takes_pipe() {
                return None;
            }
            self.pipe = Pipe::lease(memory);
        }
        let moved = match self.body.poll_pipe(cx, self.pipe.as_ref()?)? {
            Poll::Pending => return Some(Ok(false)),
            Poll::Ready(Err(error)) => return Some(Err(error)),
            Poll::Ready(Ok(moved)) => moved as u64,
        };
        let Some(rest) = left.checked_sub(moved) else {
            return Some(Err(BodyError::Framing("the body is longer than its Content-Length")));
        };
        self.framing = Framing::Length(rest);
        self.end_of_length();
        Some(Ok(true))
    }

    fn queue(&mut self, data: Bytes) -> Result<(), BodyError> {
        match &mut self.framing {
            Framing::Length(left) => {
                let rest = left.checked_sub(data.len() as u64);
                *left = rest.ok_or(BodyError::Framing("the body is longer than its Content-Length"))?;
            }
            Framing::Chunked if !data.is_empty() => {
                let mut line = [0; encode::MAX_CHUNK_SIZE_LINE];
                let line = encode::chunk_size(data.len(), &mut line);
                self.lines.extend_from_slice(line);
                self.tail = b"\r\n";
            }
            Framing::Chunked | Framing::None | Framing::UntilClose => {}
        }
        self.data = data;
        Ok(())
    }

    fn end(&mut self) -> Result<(), BodyError> {
        match self.framing {
            Framing::Length(left) if left > 0 => {
                return Err(BodyError::Framing("the body is shorter than its Content-Length"));
            }
            Framing::Chunked => self.lines.extend_from_slice(encode::LAST_CHUNK),
            Framing::Length(_) | Framing::None | Framing::UntilClose => {}
        }
        self.ended = true;
        self.body = RequestBody::Empty;
        Ok(())
    }

    fn write<W: AsyncWrite + Socket + Unpin>(
        &mut self,
        cx: &mut Context<'_>,
        stream: &mut W,
        pool: &Pool,
    ) -> Poll<io::Result<()>> {
        if self.lines_at >= self.lines.len()
            && self.data.is_empty()
            && self.tail.is_empty()
            && let (Some(pipe), Some(socket)) = (&self.pipe, stream.socket())
        {
            let passed = ready!(pipe.poll_drain(socket, cx))?;
            self.written = self.written.saturating_add(passed as u64);
            return Poll::Ready(Ok(()));
        }
        let lines = self.lines.get(self.lines_at..).unwrap_or(&[]);
        let outcome = if self.data.is_empty() && self.tail.is_empty() {
            // The usual request has no body; one piece costs the kernel less than a list of them.
            Pin::new(stream).poll_write(cx, lines)
        } else {
            let slices = [IoSlice::new(lines), IoSlice::new(&self.data), IoSlice::new(self.tail)];
            Pin::new(stream).poll_write_vectored(cx, &slices)
        };
        let mut taken = match outcome {
            Poll::Ready(Ok(0)) => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
            Poll::Ready(Ok(taken)) => taken,
            Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
            Poll::Pending => return Poll::Pending,
        };
        self.written = self.written.saturating_add(taken as u64);
        self.unflushed = true;
        let of_lines = taken.min(lines.len());
        taken -= of_lines;
        self.lines_at = self.lines_at.saturating_add(of_lines);
        if self.lines_at >= self.lines.len() {
            self.lines_at = 0;
            if self.ended {
                pool.recycle_scratch(std::mem::take(&mut self.lines));
            } else {
                self.lines.clear();
            }
        }
        let of_data = taken.min(self.data.len());
        taken -= of_data;
        self.data.advance(of_data);
        self.tail = self.tail.get(taken.min(self.tail.len())..).unwrap_or(b"");
        Poll::Ready(Ok(()))
    }
}

fn head(
    request: &UpstreamRequest<'_>,
    body: &RequestBody,
    mut head: Vec<u8>,
) -> Result<Vec<u8>, &'static str> {
    head.reserve(request.target.len() + request.fields.written_len() + 96);
    encode::request_line(&mut head, request.method, request.target)
        .map_err(|_| "the target holds a byte that would break the request line")?;
    if request.version == HttpVersion::Http10 {
        // The line just written ends in "1.1\r\n".
        head.truncate(head.len().saturating_sub(3));
        head.extend_from_slice(b"0\r\n");
    }
    encode::fields(&mut head, request.fields);
    match request.framing {
        Framing::None if body.is_end_stream() => {}
        Framing::None => return Err("a body without framing"),
        Framing::Length(length) => encode::content_length(&mut head, length),
        Framing::Chunked if request.version == HttpVersion::Http10 => return Err("chunks in HTTP/1.0"),
        Framing::Chunked => encode::transfer_chunked(&mut head),
        Framing::UntilClose => return Err("a request body that ends with the connection"),
    }
    encode::end_of_head(&mut head);
    Ok(head)
}

#[cfg(test)]
mod tests {
    use std::task::Waker;

    use http::Method;

    use super::*;
    use crate::upstream::tests::KEEPALIVE;
    use crate::wire::Fields;

    /// A layer such as TLS: takes bytes in at once, lets go of them when flushed, and that only when `open`.
    #[derive(Default)]
    struct Layer {
        held: Vec<u8>,
        gone: Vec<u8>,
        open: bool,
    }

    impl Socket for Layer {}

    impl AsyncWrite for Layer {
        fn poll_write(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
            bytes: &[u8],
        ) -> Poll<io::Result<usize>> {
            self.held.extend_from_slice(bytes);
            Poll::Ready(Ok(bytes.len()))
        }

        fn poll_flush(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            if !self.open {
                return Poll::Pending;
            }
            let held = std::mem::take(&mut self.held);
            self.gone.extend(held);
            Poll::Ready(Ok(()))
        }

        fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
    }

    #[test]
    fn a_request_is_sent_when_the_layer_below_let_go_of_its_last_byte() {
        let request = UpstreamRequest {
            method: &Method::PUT,
            target: b"/",
            fields: &Fields::new(),
            framing: Framing::Length(2),
            version: HttpVersion::Http11,
            upgrade: false,
            trailers: false,
            head_bytes: None,
            among_many: false,
        };
        let body = RequestBody::Full(Bytes::from_static(b"ok"));
        let Ok(mut sender) = Sender::new(&request, body, Vec::new()) else { panic!("the request is sound") };
        let pool = Pool::new(KEEPALIVE, Memory::new(None));
        let (mut layer, mut cx) = (Layer::default(), Context::from_waker(Waker::noop()));
        for _ in 0..2 {
            assert_eq!(sender.poll(&mut cx, &mut layer, &pool), Ok(Progress::Blocked));
        }
        layer.open = true;
        assert_eq!(sender.poll(&mut cx, &mut layer, &pool), Ok(Progress::Done));
        assert_eq!(layer.gone, b"PUT / HTTP/1.1\r\nContent-Length: 2\r\n\r\nok");
    }
}
