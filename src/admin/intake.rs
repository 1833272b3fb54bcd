//! Connections of the admin port: at most 64, and five seconds for each step (`H-1`).

use std::future::Future;
use std::io::{self, IoSlice};
use std::net::{SocketAddr, TcpListener};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::extract::connect_info::Connected;
use axum::serve::{IncomingStream, Listener};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, Sleep, sleep};

use crate::limit::priority::breathe;

/// Connections at once.
pub(super) const CONNECTIONS: usize = 64;
/// Time for a request to arrive, for an answer to be made, and for it to be read; a scrape is made while it is read.
pub(super) const STEP: Duration = Duration::from_secs(5);

/// Most bytes of one write. The kernel copies them in one go and lets nobody else have the processor meanwhile; a
/// scrape of many series has tens of MiB.
const WRITE: usize = 64 * 1024;

/// Accepts, with a bound.
#[derive(Debug)]
pub(super) struct Intake {
    listener: tokio::net::TcpListener,
    free: Arc<Semaphore>,
}

/// Address of who asks.
#[derive(Debug, Clone, Copy)]
pub(super) struct Peer(pub(super) SocketAddr);

/// A connection that fails when a step takes too long.
#[derive(Debug)]
pub(super) struct Limited {
    stream: TcpStream,
    deadline: Pin<Box<Sleep>>,
    step: Step,
    _permit: OwnedSemaphorePermit,
}

/// Which way the bytes go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    Receiving,
    Answering,
}

impl Intake {
    /// Takes over a bound, non-blocking listener.
    pub(super) fn new(listener: TcpListener) -> io::Result<Self> {
        let listener = tokio::net::TcpListener::from_std(listener)?;
        Ok(Self { listener, free: Arc::new(Semaphore::new(CONNECTIONS)) })
    }
}

impl Listener for Intake {
    type Io = Limited;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Limited, SocketAddr) {
        let permit = Arc::clone(&self.free).acquire_owned().await;
        let permit = permit.expect("the semaphore is never closed");
        loop {
            match self.listener.accept().await {
                Ok((stream, peer)) => {
                    // An answer leaves in pieces; its last one waits for nobody.
                    let _ = stream.set_nodelay(true);
                    let deadline = Box::pin(sleep(STEP));
                    return (Limited { stream, deadline, step: Step::Receiving, _permit: permit }, peer);
                }
                Err(error) => {
                    tracing::debug!(%error, "the admin port cannot accept");
                    sleep(Duration::from_millis(100)).await;
                }
            }
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }
}

impl Connected<IncomingStream<'_, Intake>> for Peer {
    fn connect_info(stream: IncomingStream<'_, Intake>) -> Self {
        Self(*stream.remote_addr())
    }
}

impl Limited {
    /// Time begins anew when the direction turns, not with each byte: a trickle does not prolong a step.
    fn enter(&mut self, step: Step) {
        if self.step != step {
            self.step = step;
            self.deadline.as_mut().reset(Instant::now() + STEP);
        }
    }

    fn pending<T>(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<T>> {
        match self.deadline.as_mut().poll(cx) {
            Poll::Ready(()) => Poll::Ready(Err(io::ErrorKind::TimedOut.into())),
            Poll::Pending => Poll::Pending,
        }
    }
}

/// As many of the first parts that hold something as have no more than so many bytes, at least one if there is any: what
/// writes nothing looks like a connection that takes nothing.
fn at_most<'p, 'b>(parts: &'p [IoSlice<'b>], bytes: usize) -> &'p [IoSlice<'b>] {
    let empty = parts.iter().take_while(|part| part.is_empty()).count();
    let parts = parts.get(empty..).unwrap_or_default();
    let mut sum = 0_usize;
    let fits = parts.iter().take_while(|part| {
        sum = sum.saturating_add(part.len());
        sum <= bytes
    });
    parts.get(..fits.count().max(1)).unwrap_or(parts)
}

impl AsyncRead for Limited {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match Pin::new(&mut self.stream).poll_read(cx, into) {
            Poll::Ready(read) => {
                self.enter(Step::Receiving);
                Poll::Ready(read)
            }
            Poll::Pending => self.pending(cx),
        }
    }
}

impl AsyncWrite for Limited {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.enter(Step::Answering);
        breathe();
        let piece = bytes.get(..WRITE).unwrap_or(bytes);
        match Pin::new(&mut self.stream).poll_write(cx, piece) {
            Poll::Ready(written) => Poll::Ready(written),
            Poll::Pending => self.pending(cx),
        }
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let parts = at_most(parts, WRITE);
        if let [one] = parts {
            return self.poll_write(cx, one);
        }
        self.enter(Step::Answering);
        breathe();
        match Pin::new(&mut self.stream).poll_write_vectored(cx, parts) {
            Poll::Ready(written) => Poll::Ready(written),
            Poll::Pending => self.pending(cx),
        }
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_write_takes_whole_parts_up_to_a_bound_and_at_least_something() {
        let check = |lengths: &[usize], taken: &[usize]| {
            let parts: Vec<IoSlice<'_>> =
                lengths.iter().map(|length| IoSlice::new(&[0; 100][..*length])).collect();
            let found: Vec<usize> = at_most(&parts, 10).iter().map(|part| part.len()).collect();
            assert_eq!(found, taken, "{lengths:?}");
        };
        check(&[4, 6, 1], &[4, 6]);
        check(&[11, 1], &[11]);
        check(&[4, 7], &[4]);
        check(&[0, 0, 11, 1], &[11]);
        check(&[0], &[]);
        check(&[], &[]);
    }
}
