//! Everything towards backends: choosing an endpoint, connecting, sending, reading the answer, keeping connections.
//!
//! All of it lives on one worker thread (`Rc`, no `Send`, no locks) and outlives snapshots; [`Upstreams`] is the one
//! value that a worker owns. `proxy::forward` calls it in this order: `endpoints`, `pick`, `tls`, `exchange`,
//! `observe`. Retries are its business: an error here says what happened ([`UpstreamError`]), not what to do.
//! Not here: which backend takes a request (`route`), what the request looks like (`proxy::headers`).

use http::Method;

use crate::message::{RequestBody, ResponseBody, Section};
use crate::policy::backend_protocol::HttpVersion;
use crate::wire::{Fields, Framing, ResponseHead};

pub mod balance;
mod budget;
pub mod connect;
mod deadline;
pub mod error;
pub mod fastcgi;
pub mod health;
pub mod http1;
pub mod http2;
pub mod pool;
pub mod resolve;
pub mod rng;
pub mod state;
pub mod stream;
pub mod suites;
pub mod times;
pub mod tls;
mod trailers;

pub use balance::{Balancer, PickFacts, Picked};
pub use error::{ErrorKind, UpstreamError};
pub use fastcgi::FastcgiRequest;
pub use rng::Rng;
pub use state::{Peer, Settings, Upstreams};
pub use stream::Tunnel;
pub use times::UpstreamTimes;
pub use tls::{ClientTls, TlsMaterial};

/// What is spoken over a connection to a backend.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Protocol {
    /// HTTP/1.1 or 1.0.
    Http1,
    /// HTTP/2: prior knowledge in clear text, ALPN `h2` over TLS.
    Http2,
}

/// A request as it is sent. Borrowed, so that it can be sent again.
#[derive(Debug, Clone, Copy)]
pub struct UpstreamRequest<'r> {
    /// Method.
    pub method: &'r Method,
    /// Request target, origin-form or `*`; `:path` of HTTP/2.
    pub target: &'r [u8],
    /// All field lines but framing ones (`Content-Length`, `Transfer-Encoding`), `Host` first. Over HTTP/2 `Host`
    /// becomes `:authority`, and connection-specific fields are left out.
    pub fields: &'r Fields,
    /// How the body's end is told. [`Framing::None`] writes no framing field; [`Framing::UntilClose`] is refused.
    pub framing: Framing,
    /// Version written; [`HttpVersion::Http10`] cannot send [`Framing::Chunked`].
    pub version: HttpVersion,
    /// The fields ask for an upgrade, so 101 is an answer.
    pub upgrade: bool,
    /// The trailer section is wanted as it was written ([`Answer::trailers`]).
    pub trailers: bool,
    /// Bytes of the longest head of an answer over HTTP/1, at most 1 MiB; `None` for 64 KiB.
    pub head_bytes: Option<u32>,
    /// Many such requests are likely under way on this thread: over HTTP/1 all answers that are there are read before
    /// any is worked on.
    pub among_many: bool,
}

/// A pooled connection may be used, or not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reuse {
    /// An idle one if there is one.
    Allow,
    /// A new one: the extra try after a stale connection (F-13).
    Fresh,
}

/// A backend's answer.
#[derive(Debug)]
pub struct Answer {
    /// Head with all field lines in place, framing and hop-by-hop ones included.
    pub head: ResponseHead,
    /// What follows the head.
    pub content: Content,
    /// Trailers of an answer in chunks over HTTP/1 as they were written, where they were asked for.
    pub trailers: Option<Section>,
    /// It came over a connection that had been used before.
    pub reused: bool,
}

/// What follows the head of an answer.
pub enum Content {
    /// A body. A streamed one also sends what is left of the request body while it is polled, returns the connection
    /// to the pool at a clean end, and closes it when dropped before. Every end that is not clean is an error.
    Body(ResponseBody),
    /// After 101: the byte stream, what was read ahead first.
    Tunnel(Tunnel),
}

impl std::fmt::Debug for Content {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Body(ResponseBody::Empty) => "Body(Empty)",
            Self::Body(ResponseBody::Full(_)) => "Body(Full)",
            Self::Body(ResponseBody::Stream(_)) => "Body(Stream)",
            Self::Tunnel(_) => "Tunnel",
        })
    }
}

/// A try that gave no answer.
pub struct Failed {
    /// Why.
    pub error: UpstreamError,
    /// The request body if it can be sent (again): none, a full one, or a stream that nobody has polled.
    pub body: Option<RequestBody>,
}

impl Failed {
    /// True when one extra try on a fresh connection is due (F-13): the connection had been idle in the pool, not
    /// one byte of an answer came, the body can be sent again, and the request either was not written at all or may
    /// be repeated (`idempotent`). The extra try does not count as a try.
    pub fn allows_fresh_try(&self, idempotent: bool) -> bool {
        self.error.is_stale() && self.body.is_some() && (!self.error.sent || idempotent)
    }
}

impl std::fmt::Debug for Failed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Failed").field("error", &self.error).field("body", &self.body.is_some()).finish()
    }
}

#[cfg(test)]
mod tests;
