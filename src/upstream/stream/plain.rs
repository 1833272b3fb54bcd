//! A clear connection to a backend on which an answer may be seen before it is taken.
//!
//! Whoever takes the last byte that waits on a socket has the kernel acknowledge at once what came in two small parts,
//! and a backend that writes head and body apart sends every answer so: one packet more for each request, which takes
//! longer than all the other reading. What is only looked at (`MSG_PEEK`) is acknowledged by the next request, which
//! leaves soon on a busy connection. The bytes are taken after it has left, before anything else is read, when the
//! connection has idled a moment (`Pool`), and at its end.
//!
//! `Exchange` decides when an answer is looked at; everybody else sees a stream whose bytes come once.

use std::cell::Cell;
use std::io::{self, IoSlice};
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::task::{Context, Poll, Waker, ready};

use bytes::BytesMut;
use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf};
use tokio::net::TcpStream;

use crate::pipe::in_one;

/// What is looked at, bytes; more waits to be read as usual.
pub(in crate::upstream) const LOOK: usize = 4 * 1024;

/// The connection.
#[derive(Debug)]
pub struct Plain {
    socket: TcpStream,
    /// Bytes that were handed out and still wait on the socket.
    seen: Cell<usize>,
}

impl Plain {
    pub(in crate::upstream) const fn new(socket: TcpStream) -> Self {
        Self { socket, seen: Cell::new(0) }
    }

    /// The socket, where what it carries comes next.
    pub(super) fn socket(&self) -> &TcpStream {
        self.take_seen();
        &self.socket
    }

    /// Bytes wait that were handed out.
    pub(in crate::upstream) fn has_seen(&self) -> bool {
        self.seen.get() > 0
    }

    /// Takes the bytes that were handed out.
    pub(in crate::upstream) fn take_seen(&self) {
        if !self.has_seen() {
            return;
        }
        let mut space = [MaybeUninit::uninit(); LOOK];
        while let Some(rest) = space.get_mut(..self.seen.get()).filter(|rest| !rest.is_empty()) {
            match SockRef::from(&self.socket).recv(rest) {
                Ok(taken) if taken > 0 => self.seen.set(self.seen.get().saturating_sub(taken)),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                // The next read says what happened.
                Ok(_) | Err(_) => self.seen.set(0),
            }
        }
    }

    /// Appends to `buffer` what waits, and leaves it there when it is less than [`LOOK`]; `Ok(0)` is the end.
    ///
    /// # Errors
    /// Those of the socket.
    pub(in crate::upstream) fn poll_look(
        &self,
        cx: &mut Context<'_>,
        buffer: &mut BytesMut,
    ) -> Poll<io::Result<usize>> {
        self.take_seen();
        let mut space = [MaybeUninit::uninit(); LOOK];
        let mut read = ReadBuf::uninit(&mut space);
        let length = ready!(self.socket.poll_peek(cx, &mut read))?;
        buffer.extend_from_slice(read.filled());
        self.seen.set(length);
        if length > 0 && length < LOOK {
            self.forget_mark();
        }
        Poll::Ready(Ok(length))
    }

    /// True when nothing waits but what was handed out, and the backend has not closed.
    pub(super) fn is_quiet(&self) -> bool {
        let mut cx = Context::from_waker(Waker::noop());
        let mut space = [MaybeUninit::uninit(); LOOK + 1];
        let Some(space) = space.get_mut(..=self.seen.get()) else { return false };
        match self.socket.poll_peek(&mut cx, &mut ReadBuf::uninit(space)) {
            Poll::Pending => true,
            // The mark was set again by the last part of what was seen, or by the end of the stream: that stays.
            Poll::Ready(Ok(length)) if self.has_seen() && length == self.seen.get() => {
                self.forget_mark();
                self.socket.poll_read_ready(&mut cx).is_pending()
            }
            Poll::Ready(_) => false,
        }
    }

    /// Takes back that bytes wait: the next ones set the mark again. What tokio's own reads do when they get less than
    /// they have room for.
    fn forget_mark(&self) {
        let _would_block = self
            .socket
            .try_io(Interest::READABLE, || io::Result::<()>::Err(io::ErrorKind::WouldBlock.into()));
    }
}

impl Drop for Plain {
    fn drop(&mut self) {
        // Bytes that nobody took would make the end of the connection a reset.
        self.take_seen();
    }
}

impl AsyncRead for Plain {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.take_seen();
        Pin::new(&mut self.socket).poll_read(cx, into)
    }
}

impl AsyncWrite for Plain {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = ready!(Pin::new(&mut self.socket).poll_write(cx, bytes));
        self.take_seen();
        Poll::Ready(written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if let Some(bytes) = in_one(slices) {
            return self.poll_write(cx, bytes);
        }
        let written = ready!(Pin::new(&mut self.socket).poll_write_vectored(cx, slices));
        self.take_seen();
        Poll::Ready(written)
    }

    fn is_write_vectored(&self) -> bool {
        self.socket.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.take_seen();
        Pin::new(&mut self.socket).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::time::Duration;

    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::*;

    async fn pair() -> (Plain, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (near, far) = tokio::join!(TcpStream::connect(listener.local_addr().unwrap()), listener.accept());
        (Plain::new(near.unwrap()), far.unwrap().0)
    }

    fn block<T>(test: impl Future<Output = T>) -> T {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let bounded = async { tokio::time::timeout(Duration::from_secs(60), test).await };
        runtime.block_on(bounded).expect("the test hangs")
    }

    /// A connection on which `text` was looked at.
    async fn looked_at(text: &str) -> (Plain, TcpStream) {
        let (near, mut far) = pair().await;
        far.write_all(text.as_bytes()).await.unwrap();
        let mut buffer = BytesMut::new();
        while waiting(&near) < text.len() {
            tokio::task::yield_now().await;
        }
        assert_eq!(poll_fn(|cx| near.poll_look(cx, &mut buffer)).await.unwrap(), text.len());
        assert_eq!(buffer, text.as_bytes());
        assert!(near.has_seen() && waiting(&near) == text.len(), "it waits on");
        (near, far)
    }

    /// Bytes that wait on the socket.
    fn waiting(near: &Plain) -> usize {
        SockRef::from(&near.socket).peek(&mut [MaybeUninit::uninit(); 100]).unwrap_or(0)
    }

    #[test]
    fn what_was_looked_at_is_taken_by_the_next_write_or_read() {
        block(async {
            let (mut near, mut far) = looked_at("answer").await;
            near.write_all(b"next").await.unwrap();
            assert!(!near.has_seen() && waiting(&near) == 0);
            far.write_all(b"another").await.unwrap();
            let mut read = [0; 7];
            near.read_exact(&mut read).await.unwrap();
            assert_eq!(&read, b"another");

            let (mut near, mut far) = looked_at("part").await;
            far.write_all(b"rest").await.unwrap();
            let mut read = [0; 4];
            near.read_exact(&mut read).await.unwrap();
            assert_eq!(&read, b"rest");
            let (near, _far) = looked_at("answer").await;
            assert_eq!(waiting(&near), 6);
            let _for_a_pipe = near.socket();
            assert_eq!(waiting(&near), 0);
        });
    }

    #[test]
    fn more_than_is_looked_at_is_no_less_whole() {
        block(async {
            let (mut near, mut far) = pair().await;
            let sent: Vec<u8> = (0..3 * LOOK).map(|number| number as u8).collect();
            let (there, written) = (sent.clone(), async {
                far.write_all(&sent).await.unwrap();
                far.shutdown().await.unwrap();
            });
            let got = async {
                let mut buffer = BytesMut::new();
                while poll_fn(|cx| near.poll_look(cx, &mut buffer)).await.unwrap() > 0
                    && buffer.len() < 2 * LOOK
                {}
                let mut rest = Vec::new();
                near.read_to_end(&mut rest).await.unwrap();
                [buffer.as_ref(), &rest].concat()
            };
            let (got, ()) = tokio::join!(got, written);
            assert!(got == there);
        });
    }

    #[test]
    fn a_connection_is_quiet_until_something_new_comes() {
        block(async {
            for new in ["x", ""] {
                let (near, mut far) = looked_at("answer").await;
                assert!(near.is_quiet());
                // Marks that came late for what was seen say nothing new.
                tokio::time::sleep(Duration::from_millis(1)).await;
                assert!(near.is_quiet() && near.has_seen());
                if new.is_empty() {
                    far.shutdown().await.unwrap();
                } else {
                    far.write_all(new.as_bytes()).await.unwrap();
                }
                near.socket.readable().await.unwrap();
                assert!(!near.is_quiet(), "{new:?}");
            }
            let (near, far) = pair().await;
            assert!(near.is_quiet());
            drop(far);
            near.socket.readable().await.unwrap();
            assert!(!near.is_quiet());
        });
    }

    #[test]
    fn the_end_of_a_connection_is_no_reset() {
        block(async {
            let (near, mut far) = looked_at("answer").await;
            drop(near);
            assert_eq!(far.read(&mut [0; 9]).await.unwrap(), 0);
        });
    }
}
