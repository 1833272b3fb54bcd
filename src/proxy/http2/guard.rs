//! The byte stream under the HTTP/2 library, with the frames on it counted (`security.md` D.4).
//!
//! A flood ends the connection: GOAWAY where a frame may stand, then an error for the library.

use std::cell::Cell;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Instant;

use crate::wire::{Flood, FrameCounter, FrameLimits, FrameWalker};

/// Frame type of DATA.
const DATA: u8 = 0;

/// What the guard tells the connection about its bytes.
#[derive(Debug)]
pub(super) struct Traffic {
    /// When a piece of an answer's body was last taken by the socket.
    pub(super) data_sent: Cell<Instant>,
    /// The flood that ended the connection.
    pub(super) flood: Cell<Option<Flood>>,
}

/// Counts frames on `io`.
pub(super) struct Guard<IO> {
    io: IO,
    start: Instant,
    incoming: FrameCounter,
    outgoing: FrameWalker,
    traffic: Rc<Traffic>,
}

impl<IO> Guard<IO> {
    pub(super) fn new(io: IO, limits: FrameLimits) -> (Self, Rc<Traffic>) {
        let start = Instant::now();
        let traffic = Rc::new(Traffic { data_sent: Cell::new(start), flood: Cell::new(None) });
        let incoming = FrameCounter::new(limits);
        let guard =
            Self { io, start, incoming, outgoing: FrameWalker::of_server(), traffic: Rc::clone(&traffic) };
        (guard, traffic)
    }

    fn wrote(&mut self, slices: &[IoSlice<'_>], mut written: usize) {
        self.incoming.sent(written);
        let mut data = false;
        for slice in slices {
            let mut taken = slice.get(..written.min(slice.len())).unwrap_or(&[]);
            written -= taken.len();
            while let Some(frame) = self.outgoing.next(&mut taken) {
                data |= frame.kind == DATA;
            }
        }
        if data {
            self.traffic.data_sent.set(Instant::now());
        }
    }
}

impl<IO: AsyncWrite + Unpin> Guard<IO> {
    /// Says farewell where that cannot break a frame; a socket that takes nothing gets none.
    fn go_away(&mut self, flood: Flood, cx: &mut Context<'_>) {
        if !self.outgoing.at_boundary() {
            return;
        }
        let mut frame = vec![0, 0, 8, 7, 0, 0, 0, 0, 0];
        frame.extend(self.incoming.last_stream().to_be_bytes());
        frame.extend(flood.code().to_be_bytes());
        // The connection ends now, whether the peer learns why or not.
        let _told = Pin::new(&mut self.io).poll_write(cx, &frame).is_ready();
        let _flushed = Pin::new(&mut self.io).poll_flush(cx).is_ready();
    }
}

impl<IO: AsyncRead + AsyncWrite + Unpin> AsyncRead for Guard<IO> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = into.filled().len();
        ready!(Pin::new(&mut self.io).poll_read(cx, into))?;
        let now = u64::try_from(self.start.elapsed().as_millis()).unwrap_or(u64::MAX);
        let new = into.filled_mut().get_mut(before..).unwrap_or(&mut []);
        if let Err(flood) = self.incoming.received(new, now) {
            self.traffic.flood.set(Some(flood));
            self.go_away(flood, cx);
            return Poll::Ready(Err(io::Error::new(io::ErrorKind::ConnectionAborted, flood)));
        }
        Poll::Ready(Ok(()))
    }
}

impl<IO: AsyncWrite + Unpin> AsyncWrite for Guard<IO> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = ready!(Pin::new(&mut self.io).poll_write(cx, bytes))?;
        self.wrote(&[IoSlice::new(bytes)], written);
        Poll::Ready(Ok(written))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = ready!(Pin::new(&mut self.io).poll_write_vectored(cx, slices))?;
        self.wrote(slices, written);
        Poll::Ready(Ok(written))
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}
