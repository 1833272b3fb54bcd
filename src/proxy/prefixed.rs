//! A stream of which some bytes were read already: they come first, then the rest.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::{Buf, Bytes};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

use crate::pipe::{Socket, in_one};

/// `io` with `ahead` in front of what it will read.
#[derive(Debug)]
pub struct Prefixed<IO> {
    ahead: Bytes,
    io: IO,
}

impl<IO> Prefixed<IO> {
    /// Puts `ahead` in front.
    pub fn new(ahead: Bytes, io: IO) -> Self {
        Self { ahead, io }
    }
}

impl<IO: Socket> Socket for Prefixed<IO> {
    fn socket(&self) -> Option<&TcpStream> {
        self.io.socket().filter(|_| self.ahead.is_empty())
    }
}

impl<IO: AsyncRead + Unpin> AsyncRead for Prefixed<IO> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.ahead.is_empty() {
            return Pin::new(&mut self.io).poll_read(cx, into);
        }
        let length = self.ahead.len().min(into.remaining());
        into.put_slice(self.ahead.get(..length).unwrap_or(&[]));
        self.ahead.advance(length);
        if self.ahead.is_empty() {
            self.ahead = Bytes::new();
        }
        Poll::Ready(Ok(()))
    }
}

impl<IO: AsyncWrite + Unpin> AsyncWrite for Prefixed<IO> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match in_one(slices) {
            Some(bytes) => Pin::new(&mut self.io).poll_write(cx, bytes),
            None => Pin::new(&mut self.io).poll_write_vectored(cx, slices),
        }
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::AsyncReadExt;

    #[test]
    fn what_was_read_ahead_comes_first_at_any_read_size() {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        for size in 1..8 {
            let mut stream = Prefixed::new(Bytes::from_static(b"abc"), io::Cursor::new(b"defg".to_vec()));
            let mut got = Vec::new();
            let mut part = vec![0; size];
            runtime.block_on(async {
                loop {
                    let length = stream.read(&mut part).await.unwrap();
                    if length == 0 {
                        break;
                    }
                    got.extend_from_slice(&part[..length]);
                }
            });
            assert_eq!(got, b"abcdefg");
        }
    }
}
