//! Bytes on their way to the client: heads and small data in one buffer, large data beside it without a copy, all
//! written with one system call where the socket can.

use std::cell::Cell;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use tokio::io::AsyncWrite;

use crate::limit::Memory;
use crate::message::Meter;
use crate::pipe::{self, Pipe, Socket};
use crate::wire::{Fields, encode};

/// Data below this size is copied beside its framing: cheaper than one more slice for the kernel.
const COPY: usize = 4 * 1024;
/// More is not gathered before a write.
const ENOUGH: usize = 32 * 1024;
/// Bytes of the largest buffer that waits for the next answer.
const SPARE: usize = 4 * 1024;

thread_local! {
    /// An empty buffer that was used last: the next answer finds its memory warm.
    static LAST: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

/// Queue of one connection. At most one large piece of data waits in it.
#[derive(Default)]
pub(super) struct Outgoing {
    lead: Vec<u8>,
    written: usize,
    data: Bytes,
    tail: Bytes,
    /// Bytes that pass beside all others, after them.
    pipe: Option<Rc<Pipe>>,
    /// Bytes at the front of the queue that belong to a head.
    head_left: usize,
    /// Bytes that went through the pipe since others had their turn.
    turn: usize,
}

impl Outgoing {
    pub(super) fn is_empty(&self) -> bool {
        self.is_written() && !self.is_piped()
    }

    fn is_written(&self) -> bool {
        self.written >= self.lead.len() && self.data.is_empty() && self.tail.is_empty()
    }

    fn is_piped(&self) -> bool {
        self.pipe.as_ref().is_some_and(|pipe| !pipe.is_empty())
    }

    /// The pipe that bytes may pass through, if there is one for them.
    pub(super) fn pipe(&mut self, memory: &Memory) -> Option<&Rc<Pipe>> {
        if self.pipe.is_none() {
            self.pipe = Pipe::lease(memory);
        }
        self.pipe.as_ref()
    }

    /// A pipe is in use.
    pub(super) fn has_pipe(&self) -> bool {
        self.pipe.is_some()
    }

    /// True when so much has passed that other connections come first; said once for each turn.
    pub(super) fn ends_turn(&mut self) -> bool {
        let ends = self.turn >= pipe::TURN;
        if ends {
            self.turn = 0;
        }
        ends
    }

    /// True while more may be queued before the next write.
    pub(super) fn has_room(&self) -> bool {
        self.data.is_empty() && self.tail.is_empty() && self.lead.len() < ENOUGH && !self.is_piped()
    }

    /// True while bytes may go into the pipe although others are queued before them.
    pub(super) fn has_room_behind(&self) -> bool {
        !self.is_piped()
    }

    /// Queues a head written by `write`.
    pub(super) fn head(&mut self, write: impl FnOnce(&mut Vec<u8>)) {
        if self.lead.capacity() == 0 {
            self.lead = LAST.take();
        }
        let before = self.lead.len();
        write(&mut self.lead);
        self.head_left += self.lead.len().saturating_sub(before);
    }

    /// Queues data as it is. Only while [`Outgoing::has_room`].
    pub(super) fn data(&mut self, data: Bytes) {
        if data.len() < COPY {
            self.lead.extend_from_slice(&data);
        } else {
            self.data = data;
        }
    }

    /// Queues one chunk. Only while [`Outgoing::has_room`].
    pub(super) fn chunk(&mut self, data: Bytes) {
        if data.len() < COPY {
            encode::chunk(&mut self.lead, &data);
        } else {
            let mut line = [0; encode::MAX_CHUNK_SIZE_LINE];
            self.lead.extend_from_slice(encode::chunk_size(data.len(), &mut line));
            self.data = data;
            self.tail = Bytes::from_static(b"\r\n");
        }
    }

    /// Queues the end of a body in chunks.
    pub(super) fn last_chunk(&mut self, trailers: Option<&Fields>) {
        let Some(trailers) = trailers else {
            if self.data.is_empty() {
                self.lead.extend_from_slice(encode::LAST_CHUNK);
            } else {
                self.tail = Bytes::from_static(b"\r\n0\r\n\r\n");
            }
            return;
        };
        if self.data.is_empty() {
            encode::last_chunk(&mut self.lead, trailers);
        } else {
            let mut tail = self.tail.to_vec();
            encode::last_chunk(&mut tail, trailers);
            self.tail = tail.into();
        }
    }

    /// Writes until the queue is empty. Returns how much was written in all when it is; `progress` is set as soon
    /// as something was.
    pub(super) fn poll_write(
        &mut self,
        io: &mut (impl AsyncWrite + Socket + Unpin),
        cx: &mut Context<'_>,
        meter: &Meter,
        progress: &mut bool,
    ) -> Poll<io::Result<()>> {
        while !self.is_empty() {
            if self.is_written()
                && let (Some(pipe), Some(socket)) = (&self.pipe, io.socket())
            {
                let passed = ready!(pipe.poll_drain(socket, cx))?;
                *progress = true;
                Meter::add(&meter.bytes_sent, passed);
                Meter::add(&meter.body_bytes_sent, passed);
                self.turn = self.turn.saturating_add(passed);
                continue;
            }
            let lead = self.lead.get(self.written..).unwrap_or(&[]);
            let slices = [IoSlice::new(lead), IoSlice::new(&self.data), IoSlice::new(&self.tail)];
            let slices = slices.get(usize::from(lead.is_empty())..).unwrap_or(&slices);
            let written = if self.is_piped()
                && let Some(socket) = io.socket()
            {
                ready!(pipe::poll_write_before(socket, slices, cx))?
            } else if self.data.is_empty() && self.tail.is_empty() {
                ready!(Pin::new(&mut *io).poll_write(cx, lead))?
            } else {
                ready!(Pin::new(&mut *io).poll_write_vectored(cx, slices))?
            };
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            *progress = true;
            self.advance(written, meter);
        }
        Poll::Ready(Ok(()))
    }

    fn advance(&mut self, written: usize, meter: &Meter) {
        let head = written.min(self.head_left);
        self.head_left -= head;
        Meter::add(&meter.bytes_sent, written);
        Meter::add(&meter.body_bytes_sent, written - head);
        let mut rest = written;
        let lead = rest.min(self.lead.len().saturating_sub(self.written));
        self.written += lead;
        rest -= lead;
        if self.written >= self.lead.len() {
            self.lead.clear();
            self.written = 0;
            if self.lead.capacity() <= SPARE {
                LAST.set(std::mem::take(&mut self.lead));
            }
        }
        let data = rest.min(self.data.len());
        self.data.advance(data);
        if self.data.is_empty() {
            // Frees what a backend's buffer shares with it.
            self.data = Bytes::new();
        }
        let tail = (rest - data).min(self.tail.len());
        self.tail.advance(tail);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn drained(queue: &mut Outgoing, limit: usize) -> String {
        let meter = Meter::default();
        let mut all = Vec::new();
        while !queue.is_empty() {
            let lead = queue.lead.get(queue.written..).unwrap();
            let whole = [lead, &queue.data, &queue.tail].concat();
            let piece = &whole[..limit.min(whole.len())];
            all.extend_from_slice(piece);
            queue.advance(piece.len(), &meter);
        }
        assert_eq!(meter.bytes_sent.get(), all.len() as u64);
        String::from_utf8(all).unwrap()
    }

    #[test]
    fn short_writes_lose_and_repeat_nothing() {
        let large = "x".repeat(5000);
        for limit in [1, 3, 100, 4096, usize::MAX] {
            let mut queue = Outgoing::default();
            queue.head(|out| out.extend_from_slice(b"HEAD\r\n\r\n"));
            queue.chunk(Bytes::from_static(b"hello"));
            queue.chunk(Bytes::from(large.clone()));
            assert!(!queue.has_room());
            queue.last_chunk(None);
            let expect = format!("HEAD\r\n\r\n5\r\nhello\r\n1388\r\n{large}\r\n0\r\n\r\n");
            assert_eq!(drained(&mut queue, limit), expect, "{limit}");
            let mut trailers = Fields::new();
            trailers.append("X", b"y").unwrap();
            queue.chunk(Bytes::from(large.clone()));
            queue.last_chunk(Some(&trailers));
            assert_eq!(
                drained(&mut queue, limit),
                format!("1388\r\n{large}\r\n0\r\nX: y\r\n\r\n"),
                "{limit}"
            );
        }
    }
}
