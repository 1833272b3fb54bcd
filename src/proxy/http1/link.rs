//! The socket of one connection with its read buffer and timer; knows nothing of HTTP but how much to read.

use std::io;
use std::mem::MaybeUninit;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, ready};

use bytes::{BufMut, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf};
use tokio::time::Instant;

use super::timer::Timer;
use crate::limit::{Bodies, Held, Memory};
use crate::pipe::{Pipe, Socket};

/// First size of a read into the buffer.
const SMALL_READ: usize = 16 * 1024;
/// Largest size of a read: large bodies cost half of what they cost with 64 KiB (`spec/performance.md`).
const LARGE_READ: usize = 256 * 1024;
/// Bytes that are read ahead of need, which is how a client that went away is noticed.
const READ_AHEAD: usize = 64 * 1024;
/// Bytes read at once while nothing is buffered; lies on the stack, so an idle connection holds no buffer.
const FIRST_READ: usize = 8 * 1024;

/// Socket, read buffer and timer.
pub(super) struct Link<IO> {
    pub(super) io: IO,
    /// Bytes received and not used yet.
    pub(super) buf: BytesMut,
    /// The client closed its sending side.
    pub(super) eof: bool,
    timer: Timer,
    read_size: usize,
    /// What the last reads of a body take up.
    held: Held,
}

impl<IO: AsyncRead + AsyncWrite + Socket + Unpin> Link<IO> {
    /// `held` counts what bodies take up in the buffer.
    pub(super) fn new(io: IO, ahead: BytesMut, held: Held) -> Self {
        Self { io, buf: ahead, eof: false, timer: Timer::default(), read_size: SMALL_READ, held }
    }

    /// Appends to the buffer what the socket has, one read. 0: the client closed its side.
    pub(super) fn poll_fill(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let size = self.read_size();
        self.buf.reserve(size);
        let read = ready!(pin!(self.io.read_buf(&mut (&mut self.buf).limit(size))).poll(cx))?;
        if read == size {
            // Whoever fills a small read has more: two pieces of each body are small, not four.
            self.read_size = size.saturating_mul(8).min(LARGE_READ);
        }
        self.eof = read == 0;
        // A piece that was handed on lives about as long as it takes to read the next one.
        self.held.set(self.buf.len().max(read) as u64);
        Poll::Ready(Ok(read))
    }

    /// Bytes of the next read: few while bodies take up most of what they may (`security.md` D-4).
    fn read_size(&self) -> usize {
        match self.held.memory().bodies() {
            Bodies::Plenty => self.read_size,
            Bodies::Scarce | Bodies::Spent => self.read_size.min(SMALL_READ),
        }
    }

    /// True while more may be read although nobody asked for it.
    pub(super) fn may_read_ahead(&self) -> bool {
        !self.eof && self.buf.len() < READ_AHEAD.min(self.read_size())
    }

    /// One read while the buffer is empty. What came is shown to `look`, which keeps what it needs; while nothing
    /// comes no buffer is held.
    pub(super) fn poll_first<T>(
        &mut self,
        cx: &mut Context<'_>,
        look: impl FnOnce(&mut Self, &[u8]) -> T,
    ) -> Poll<io::Result<T>> {
        let mut space = [MaybeUninit::<u8>::uninit(); FIRST_READ];
        let mut read = ReadBuf::uninit(&mut space);
        match Pin::new(&mut self.io).poll_read(cx, &mut read) {
            Poll::Pending => {
                self.buf = BytesMut::new();
                Poll::Pending
            }
            Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
            Poll::Ready(Ok(())) => {
                self.eof = read.filled().is_empty();
                Poll::Ready(Ok(look(self, read.filled())))
            }
        }
    }

    /// One read towards the rest of a head. What waits for one holds what has come and no room for more: slow heads
    /// come by the thousand.
    pub(super) fn poll_piece(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut space = [MaybeUninit::<u8>::uninit(); FIRST_READ];
        let mut read = ReadBuf::uninit(&mut space);
        ready!(Pin::new(&mut self.io).poll_read(cx, &mut read))?;
        self.eof = read.filled().is_empty();
        self.buf.extend_from_slice(read.filled());
        Poll::Ready(Ok(()))
    }

    /// Forgets how large the last body was: nothing of it is held any more.
    pub(super) fn start_small(&mut self) {
        self.read_size = SMALL_READ;
        self.held.set(0);
    }

    /// One read ahead of need. 0: the client closed its side.
    pub(super) fn poll_ahead(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        if !self.buf.is_empty() {
            return self.poll_fill(cx);
        }
        self.poll_first(cx, |link, bytes| {
            link.buf.extend_from_slice(bytes);
            bytes.len()
        })
    }

    /// Reads once into nowhere and says how much it was. 0: the client closed its side.
    pub(super) fn poll_discard(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        self.poll_first(cx, |_, bytes| bytes.len())
    }

    /// Moves up to `most` bytes of a body into `pipe`. 0: the client closed its side.
    pub(super) fn poll_pipe(
        &mut self,
        cx: &mut Context<'_>,
        pipe: &Pipe,
        most: u64,
    ) -> Poll<io::Result<usize>> {
        let Some(socket) = self.io.socket() else {
            return Poll::Ready(Err(io::ErrorKind::Unsupported.into()));
        };
        let moved = ready!(pipe.poll_fill(socket, most, cx))?;
        self.eof = moved == 0;
        Poll::Ready(Ok(moved))
    }

    /// Looks for the end of what the client sends without taking anything. Ready with more than 0 while it sends.
    pub(super) fn poll_peek(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let Some(socket) = self.io.socket() else { return Poll::Pending };
        let mut space = [MaybeUninit::<u8>::uninit(); 1];
        let seen = ready!(socket.poll_peek(cx, &mut ReadBuf::uninit(&mut space)))?;
        self.eof = seen == 0;
        Poll::Ready(Ok(seen))
    }

    /// What bodies may take up.
    pub(super) fn memory(&self) -> &Memory {
        self.held.memory()
    }

    /// Ready once `deadline` has passed.
    pub(super) fn poll_until(&mut self, deadline: Instant, cx: &mut Context<'_>) -> Poll<()> {
        self.timer.poll_until(deadline, cx)
    }
}
