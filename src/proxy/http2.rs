//! The downstream HTTP/2 connection: one task drives the socket and every stream on it. The protocol is
//! `wire::http2_session`'s; requests go to the same handler as those of HTTP/1, as [`Request`], and answers come back as
//! [`Response`].

use std::pin::{Pin, pin};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::task::coop::unconstrained;

use self::connection::Connection;
use super::turns::Turns;
use crate::limit::{self, Memory};
use crate::message::{Request, Response};
use crate::wire::{Flood, FrameLimits, HeadLimits};

mod answer;
mod connection;
mod inbox;
mod life;
mod ready;
mod socket;
mod streams;
mod tunnel;

/// Limits of one HTTP/2 connection.
#[derive(Debug, Clone)]
pub struct Http2Options {
    /// `http2-max-concurrent-streams`.
    pub max_streams: u32,
    /// Largest decoded header list, bytes.
    pub max_header_list: u32,
    /// Lines and fields of a head.
    pub head: HeadLimits,
    /// Between a PING of ours and the close of a silent connection.
    pub ping: (Duration, Duration),
    /// Longest wait for the next bytes of a request body.
    pub body_timeout: Duration,
    /// Least bytes per second of a body that is waited for; 0 for none.
    pub body_rate: u64,
    /// Longest wait for a client that takes nothing of an answer.
    pub send_timeout: Duration,
    /// Until the first request.
    pub first_request: Duration,
    /// Without a stream.
    pub idle_timeout: Duration,
    /// Requests on one connection.
    pub max_requests: u64,
    /// Age at which a connection takes no more requests.
    pub max_age: Duration,
    /// Floods.
    pub frames: FrameLimits,
    /// Resets that the peer may provoke (CVE-2025-8671).
    pub provoked_resets: usize,
    /// Where the windows of bodies are counted.
    pub memory: Memory,
    /// Turns of the worker.
    pub turns: Turns,
}

impl Default for Http2Options {
    fn default() -> Self {
        Self {
            max_streams: 128,
            max_header_list: 32 * 1024,
            head: HeadLimits::default(),
            ping: (Duration::from_secs(60), Duration::from_secs(20)),
            body_timeout: Duration::from_secs(60),
            body_rate: 0,
            send_timeout: Duration::from_secs(60),
            first_request: Duration::from_secs(60),
            idle_timeout: Duration::from_secs(75),
            max_requests: 1_000,
            max_age: Duration::from_secs(3_600),
            frames: FrameLimits::default(),
            provoked_resets: 256,
            memory: Memory::new(None),
            turns: Turns::default(),
        }
    }
}

/// Serves one connection until it ends; `drained` resolving starts a graceful GOAWAY. Says which flood ended it, if any.
///
/// The future of a request is boxed by `service`, dropped once it gave its answer, or when the client gave up.
pub async fn serve<IO, S, F>(
    io: IO,
    service: S,
    options: &Http2Options,
    drained: impl Future<Output = ()>,
) -> Option<Flood>
where
    IO: AsyncRead + AsyncWrite + Unpin + 'static,
    S: Fn(Request) -> Pin<Box<F>> + 'static,
    F: Future<Output = Response> + 'static,
{
    let mut connection = Connection::new(io, service, options);
    let mut drained = pin!(drained);
    // It sees to it itself that streams and connections get their turns.
    let end = unconstrained(std::future::poll_fn(|cx| connection.poll(drained.as_mut(), cx))).await;
    connection.close(end).await
}

/// Window of each stream, bytes: what a peer may send before anybody reads it.
fn window(options: &Http2Options) -> u32 {
    match options.memory.bodies() {
        limit::Bodies::Plenty => 64 * 1024,
        limit::Bodies::Scarce | limit::Bodies::Spent => 16 * 1024,
    }
}

#[cfg(test)]
mod tests;
