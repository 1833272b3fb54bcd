//! Requests and responses between the connection drivers (`http1`, `http2`) and the handler (`service`).
//!
//! Both drivers hand over the same types, so the handler does not know which protocol the client speaks.
//! Everything here lives on one worker thread: `Rc`, not `Arc`; no `Send`.

use std::any::Any;
use std::cell::{Cell, OnceCell};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Instant;

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};

use crate::pipe::Pipe;
use crate::wire::{Fields, Reject, RequestHead, ResponseHead};

/// Why a body ended before its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BodyError {
    /// The client broke framing: answer 400 if nothing was answered yet (`spec` C-3).
    #[error("the client's body breaks the framing rules: {0}")]
    Framing(&'static str),
    /// The client went away (closed or reset).
    #[error("the client closed the connection")]
    Gone,
    /// The client sent nothing for `client-body-timeout`.
    #[error("the client sent no body bytes in time")]
    Timeout,
    /// More bytes than the route allows (413).
    #[error("the body is larger than the route allows")]
    TooLarge,
    /// The backend cut its answer (short length, bad chunk, reset): the client must see the cut.
    #[error("the backend cut its answer short")]
    Upstream,
    /// The backend sent nothing for `proxy-read-timeout`.
    #[error("the backend sent no body bytes in time")]
    UpstreamTimeout,
    /// The body was to be kept until it is whole, and there is no room for it.
    #[error("there is no room to keep the body")]
    NoRoom,
    /// We gave up on purpose (drain deadline, limit).
    #[error("aborted by the proxy: {0}")]
    Aborted(&'static str),
}

/// A body as a trait object on one thread. Boxing costs one allocation per streamed body.
pub type LocalBody = Pin<Box<dyn Flow>>;

/// A body that may know a shorter way than frames.
pub trait Flow: Body<Data = Bytes, Error = BodyError> {
    /// False where [`Flow::poll_pipe`] gives nothing.
    fn takes_pipe(&self) -> bool {
        false
    }

    /// Puts the next bytes into `pipe`, which is empty, and says how many (never 0). `None`: take the next frame, if
    /// there is one. Who got `Pending` asks this way again, not for a frame. A body that changes or delays what passes
    /// leaves this as it is.
    fn poll_pipe(self: Pin<&mut Self>, _cx: &mut Context<'_>, _pipe: &Rc<Pipe>) -> Option<Poll<Piped>> {
        None
    }

    /// Says that a longer body is an error, so that the source need not wait for what it was only told of.
    fn expect_at_most(&self, _bytes: u64) {}
}

/// How many bytes went into a pipe.
pub type Piped = Result<usize, BodyError>;

/// A body that can be read from its start as often as wanted.
pub trait Replay: Body<Data = Bytes, Error = BodyError> {
    /// The same body from its start.
    fn again(&self) -> Pin<Box<dyn Replay>>;
}

/// Body of a request from a client.
pub enum RequestBody {
    /// None.
    Empty,
    /// All of it, already read.
    Full(Bytes),
    /// All of it, already read, outside memory.
    Kept(Pin<Box<dyn Replay>>),
    /// Streaming; polled on demand, so a slow backend slows the client.
    Stream(LocalBody),
}

/// Body of an answer to a client.
pub enum ResponseBody {
    /// None.
    Empty,
    /// All of it.
    Full(Bytes),
    /// Streaming, usually from a backend.
    Stream(LocalBody),
}

/// One request as a connection driver hands it over.
pub struct Request {
    /// Head as received; framing fields (`Content-Length`, `Transfer-Encoding`, `Connection` …) still in place.
    pub head: Box<RequestHead>,
    /// Body; `Expect: 100-continue` is answered by the driver when the body is first polled.
    pub body: RequestBody,
    /// Set when the driver found a broken rule that the client is to hear of as an answer (HTTP/2).
    pub refused: Option<Reject>,
    /// What the driver counts; final once [`Response::guard`] is dropped.
    pub meter: Rc<Meter>,
}

/// Bytes of one exchange as they pass the client's connection, for the access log. Written by the driver.
#[derive(Debug, Default)]
pub struct Meter {
    /// Head and body received, framing included (nginx `$request_length`).
    pub request_bytes: Cell<u64>,
    /// Answer handed to the socket, head included (nginx `$bytes_sent`).
    pub bytes_sent: Cell<u64>,
    /// Answer without its head, chunk framing included (nginx `$body_bytes_sent`).
    pub body_bytes_sent: Cell<u64>,
    /// The whole answer was handed to the socket.
    pub finished: Cell<bool>,
    /// When the handler's account of it was closed. Written by the handler.
    pub ended: Cell<Option<Instant>>,
    /// What the head of the answer said of its body, once it was written.
    pub framed: Cell<Option<Framed>>,
}

/// The fields that a driver writes itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Framed {
    /// `Content-Length`.
    pub length: Option<u64>,
    /// `Transfer-Encoding: chunked`.
    pub chunked: bool,
    /// `Connection`; for HTTP/2, which has none, the word that nginx shows.
    pub connection: &'static str,
}

impl Meter {
    /// Adds `bytes` to one of the counters.
    pub fn add(counter: &Cell<u64>, bytes: usize) {
        counter.set(counter.get().saturating_add(bytes as u64));
    }
}

/// One answer as the handler hands it back. The driver writes framing fields (`Content-Length`,
/// `Transfer-Encoding`, `Connection`) itself from the body's [`SizeHint`]; those in `head.fields` other than a
/// `Content-Length` of an answer to HEAD or a 304 have been removed by the handler.
pub struct Response {
    /// Head; `version` is ignored.
    pub head: ResponseHead,
    /// Body.
    pub body: ResponseBody,
    /// Where a backend's trailer section stands as it was written, once `body` has given its frame (whose names are in
    /// lower case); `None` where nobody asked for it.
    pub trailers: Option<Section>,
    /// Close the downstream connection after this answer. HTTP/1 only: an HTTP/2 connection outlives its streams, as in
    /// nginx; what is left of the request is reset away.
    pub close: bool,
    /// For 101 and for 2xx to extended CONNECT: what takes the byte stream over once the head is written.
    pub upgrade: Option<Upgrade>,
    /// Kept until the last byte was handed to the socket or the exchange was cut (for an upgrade: until the head is
    /// written), then dropped: what must happen once per answer, such as the access log line, lives in its `Drop`.
    pub guard: Option<Rc<dyn Any>>,
}

/// A trailer section with the names in their sender's case, filled when it has come.
pub type Section = Rc<OnceCell<Fields>>;

/// Takes over a connection after a 101: gets the bytes that the client already sent and both directions of the
/// downstream as one stream; resolves when the tunnel ends.
pub type Upgrade = Box<dyn FnOnce(DownstreamStream) -> Pin<Box<dyn Future<Output = ()>>>>;

/// The downstream side of a tunnel: HTTP/1 socket (clear or TLS) with read-ahead bytes first, or one h2 stream.
pub type DownstreamStream = Pin<Box<dyn DuplexIo>>;

/// Both directions of a byte stream on one thread.
pub trait DuplexIo: tokio::io::AsyncRead + tokio::io::AsyncWrite {}
impl<T: tokio::io::AsyncRead + tokio::io::AsyncWrite> DuplexIo for T {}

macro_rules! body_impl {
    ($name:ident $(, $kept:ident)?) => {
        impl $name {
            /// [`Flow::takes_pipe`] of what streams.
            pub fn takes_pipe(&self) -> bool {
                matches!(self, Self::Stream(body) if body.takes_pipe())
            }

            /// [`Flow::poll_pipe`] of what streams.
            pub fn poll_pipe(&mut self, cx: &mut Context<'_>, pipe: &Rc<Pipe>) -> Option<Poll<Piped>> {
                match self {
                    Self::Stream(body) => body.as_mut().poll_pipe(cx, pipe),
                    _ => None,
                }
            }
        }

        impl Body for $name {
            type Data = Bytes;
            type Error = BodyError;

            fn poll_frame(
                mut self: Pin<&mut Self>,
                cx: &mut Context<'_>,
            ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
                match &mut *self {
                    Self::Empty => Poll::Ready(None),
                    Self::Full(_) => {
                        let Self::Full(bytes) = std::mem::replace(&mut *self, Self::Empty) else {
                            return Poll::Ready(None);
                        };
                        if bytes.is_empty() {
                            Poll::Ready(None)
                        } else {
                            Poll::Ready(Some(Ok(Frame::data(bytes))))
                        }
                    }
                    Self::Stream(body) => body.as_mut().poll_frame(cx),
                    $(Self::$kept(body) => body.as_mut().poll_frame(cx),)?
                }
            }

            fn is_end_stream(&self) -> bool {
                match self {
                    Self::Empty => true,
                    Self::Full(bytes) => bytes.is_empty(),
                    Self::Stream(body) => body.is_end_stream(),
                    $(Self::$kept(body) => body.is_end_stream(),)?
                }
            }

            fn size_hint(&self) -> SizeHint {
                match self {
                    Self::Empty => SizeHint::with_exact(0),
                    Self::Full(bytes) => SizeHint::with_exact(bytes.len() as u64),
                    Self::Stream(body) => body.size_hint(),
                    $(Self::$kept(body) => body.size_hint(),)?
                }
            }
        }
    };
}
body_impl!(RequestBody, Kept);
body_impl!(ResponseBody);

/// Trailer fields travel as [`http::HeaderMap`] frames (the type `http_body` prescribes).
pub fn trailers_of(fields: &Fields) -> http::HeaderMap {
    let mut map = http::HeaderMap::with_capacity(fields.len());
    for (name, value) in fields.iter() {
        let pair = (http::HeaderName::from_bytes(name.as_bytes()), http::HeaderValue::from_bytes(value));
        if let (Ok(name), Ok(value)) = pair {
            map.append(name, value);
        }
    }
    map
}

/// [`trailers_of`] the other way; a line that would not read back is left out.
pub fn fields_of(map: &http::HeaderMap) -> Fields {
    let mut fields = Fields::new();
    for (name, value) in map {
        let _unsendable = fields.append(name.as_str(), value.as_bytes());
    }
    fields
}
