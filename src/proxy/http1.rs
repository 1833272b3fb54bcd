//! The downstream side of HTTP/1: one task drives one connection from its first byte to its last.
//!
//! It owns keep-alive, pipelining (one request after the other), timeouts, framing in both directions, `Expect`,
//! refusals of broken heads, and the hand-over to a tunnel. It knows neither routes nor backends: requests go to a
//! handler as [`Request`], answers come back as [`Response`]. `listener` calls [`serve`] for each connection that
//! speaks HTTP/1; parsing is `wire`'s.

mod arrival;
pub(super) mod date;
mod ending;
mod exchange;
mod incoming;
mod link;
mod outgoing;
mod page;
mod reply;
pub(super) mod timer;

use std::future::poll_fn;
use std::pin::pin;
use std::time::Duration;

use bytes::BytesMut;
use http::StatusCode;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;

use self::arrival::{Arrival, Life, Waiting};
use self::ending::{Linger, linger, refuse, settle, tell_cut};
use self::exchange::{Exchange, Outcome};
use self::link::Link;
use super::prefixed::Prefixed;
use super::turns::Turns;
use crate::limit::Memory;
use crate::message::{Request, Response};
use crate::pipe::Socket;
use crate::wire::{ChunkLimits, HeadLimits};

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
    /// Least bytes per second of a body that is waited for; 0 for none.
    pub body_rate: u64,
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
    /// Bytes that are read away after a whole answer while the client still sends. 64 MiB.
    pub linger_bytes: u64,
    /// Between two reads of the same. 5 s (nginx lingering_timeout).
    pub linger_idle: Duration,
    /// Time for all of it. 30 s (nginx lingering_time).
    pub linger_time: Duration,
    /// How long a complete request is still worked on after a clean end of the client's sending side, before its answer
    /// began. 1 s: who only ended sending gets a prompt answer, and who is gone does not hold a backend for long. The
    /// two cannot be told apart; nginx cuts at once.
    pub half_close_grace: Duration,
    /// Where read buffers of bodies are counted, and what is left for them.
    pub memory: Memory,
    /// Turns of the worker.
    pub turns: Turns,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            head: HeadLimits::default(),
            chunks: ChunkLimits::default(),
            idle_timeout: Duration::from_secs(75),
            head_timeout: Duration::from_secs(60),
            body_timeout: Duration::from_secs(60),
            body_rate: 0,
            send_timeout: Duration::from_secs(60),
            max_requests: 1_000,
            max_age: Duration::from_secs(3_600),
            drain_bytes: 64 * 1024,
            drain_timeout: Duration::from_secs(2),
            linger_bytes: 64 * 1024 * 1024,
            linger_idle: Duration::from_secs(5),
            linger_time: Duration::from_secs(30),
            half_close_grace: Duration::from_secs(1),
            memory: Memory::new(None),
            turns: Turns::default(),
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
    IO: AsyncRead + AsyncWrite + Socket + Unpin + 'static,
    S: Fn(Request) -> F,
    F: Future<Output = Response>,
    D: Future<Output = ()>,
    R: Fn(&Rejection<'_>),
{
    let mut link = Link::new(io, ahead, options.memory.hold(0));
    let drain = pin!(drain);
    let mut life = Life::new(drain, options);
    let mut quiet_since = None;
    loop {
        // In a scope of its own: what is waited with and what is served with never need room at once.
        let arrival = {
            let mut waiting = Waiting::since(quiet_since);
            poll_fn(|cx| waiting.poll(cx, &mut link, options, &mut life)).await
        };
        let parsed = match arrival {
            Arrival::Request(parsed) => parsed,
            // Boxed: rare, and an idle connection would carry the room for it.
            Arrival::Refused(reject) => {
                return Box::pin(refuse(&mut link, options, &reject, &rejected)).await;
            }
            Arrival::Cut => return tell_cut(&link, &rejected),
            Arrival::Closed => return linger(&mut link, options, Linger::IfMore).await,
        };
        life.requests += 1;
        let mut exchange = Exchange::new(parsed, &mut link, options, &handle);
        let outcome = poll_fn(|cx| exchange.poll(cx, &mut link, options, &mut life)).await;
        match outcome {
            Outcome::Next(source, since) => {
                drop(exchange);
                quiet_since = since;
                if !settle(&mut link, options, source).await {
                    return linger(&mut link, options, Linger::Deliver).await;
                }
            }
            Outcome::Close(wait) => {
                drop(exchange);
                return linger(&mut link, options, wait).await;
            }
            Outcome::Abort => return,
            Outcome::Reset => {
                // TLS tells a cut by itself: no `close_notify` is sent.
                let _best_effort = link.io.socket().map(TcpStream::set_zero_linger);
                return;
            }
            Outcome::Upgrade(upgrade) => {
                drop(exchange);
                let stream = Prefixed::new(std::mem::take(&mut link.buf).freeze(), link.io);
                return upgrade(Box::pin(stream)).await;
            }
        }
    }
}
