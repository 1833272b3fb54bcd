//! The socket of a connection: one read takes many frames, one write sends many.

use std::cell::Cell;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::wire::http2_session::Session;

/// Bytes of one read. Shared by all connections of a thread: one that idles has no room of its own.
const SCRATCH: usize = 64 * 1024;
/// Slices of one write.
const SLICES: usize = 32;

thread_local! {
    static ROOM: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

/// A socket, and what is known of it.
#[derive(Debug)]
pub(super) struct Socket<IO> {
    io: IO,
    /// Bytes of a frame that has not come whole.
    rest: Vec<u8>,
    /// It may give or take something.
    pub(super) readable: bool,
    pub(super) writable: bool,
    unflushed: bool,
}

/// What a read brought.
pub(super) enum Arrived {
    /// Frames, maybe parts of one.
    Bytes(Room),
    /// The peer is gone.
    End,
}

/// Bytes in the room of the thread.
pub(super) struct Room {
    bytes: Vec<u8>,
    length: usize,
}

impl Room {
    pub(super) fn bytes(&self) -> &[u8] {
        self.bytes.get(..self.length).unwrap_or(&[])
    }
}

impl<IO: AsyncRead + AsyncWrite + Unpin> Socket<IO> {
    pub(super) fn new(io: IO) -> Self {
        Self { io, rest: Vec::new(), readable: true, writable: true, unflushed: false }
    }

    /// Reads once. What was left of the last read comes first.
    pub(super) fn poll_read(&mut self, cx: &mut Context<'_>) -> Poll<Arrived> {
        let mut bytes = ROOM.take();
        bytes.resize(SCRATCH, 0);
        let kept = self.rest.len().min(SCRATCH / 2);
        if let (Some(room), Some(rest)) = (bytes.get_mut(..kept), self.rest.get(..kept)) {
            room.copy_from_slice(rest);
        }
        let mut buffer = ReadBuf::new(bytes.get_mut(kept..).unwrap_or(&mut []));
        let read = Pin::new(&mut self.io).poll_read(cx, &mut buffer);
        let new = buffer.filled().len();
        match read {
            Poll::Pending => {
                ROOM.set(bytes);
                self.readable = false;
                Poll::Pending
            }
            Poll::Ready(Ok(())) if new > 0 => Poll::Ready(Arrived::Bytes(Room { bytes, length: kept + new })),
            Poll::Ready(_) => {
                ROOM.set(bytes);
                Poll::Ready(Arrived::End)
            }
        }
    }

    /// Keeps the last `left` bytes of `room` for the next read.
    pub(super) fn keep(&mut self, room: Room, left: usize) {
        let rest = room.bytes().get(room.length.saturating_sub(left)..).unwrap_or(&[]);
        if rest.is_empty() {
            self.rest = Vec::new();
        } else {
            self.rest.clear();
            self.rest.extend_from_slice(rest);
        }
        ROOM.set(room.bytes);
    }

    /// Writes what `session` has to say. Says how much was written; an error when the peer is gone.
    pub(super) fn write(&mut self, session: &mut Session, cx: &mut Context<'_>) -> io::Result<usize> {
        let mut total = 0;
        while self.writable && !session.output.is_empty() {
            let mut slices = [IoSlice::new(&[]); SLICES];
            let used = session.output.slices(&mut slices);
            let slices = slices.get(..used).unwrap_or(&[]);
            let written = match slices {
                [one] => Pin::new(&mut self.io).poll_write(cx, one),
                many => Pin::new(&mut self.io).poll_write_vectored(cx, many),
            };
            match written {
                Poll::Pending => self.writable = false,
                Poll::Ready(Err(error)) => return Err(error),
                Poll::Ready(Ok(0)) => return Err(io::ErrorKind::WriteZero.into()),
                Poll::Ready(Ok(written)) => {
                    session.wrote(written);
                    total += written;
                    self.unflushed = true;
                }
            }
        }
        if self.unflushed
            && let Poll::Ready(flushed) = Pin::new(&mut self.io).poll_flush(cx)
        {
            flushed?;
            self.unflushed = false;
        }
        Ok(total)
    }

    /// Waits until everything is written, then says the end of the stream. What the peer still sends is read once, so
    /// that no reset takes the last words from it.
    pub(super) fn poll_close(&mut self, session: &mut Session, cx: &mut Context<'_>) -> Poll<()> {
        self.writable = true;
        if self.write(session, cx).is_err() {
            return Poll::Ready(());
        }
        if !session.output.is_empty() || self.unflushed {
            return Poll::Pending;
        }
        let ended = Pin::new(&mut self.io).poll_shutdown(cx).is_ready();
        if !ended {
            return Poll::Pending;
        }
        for _ in 0..4 {
            if let Poll::Ready(Arrived::Bytes(room)) = self.poll_read(cx) {
                self.keep(room, 0);
            }
        }
        Poll::Ready(())
    }
}
