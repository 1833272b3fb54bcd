//! An extended CONNECT that was granted (RFC 8441): both directions of one stream as a byte stream. What is written to it
//! goes to the client as the body of an answer does.

use std::cell::RefCell;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker, ready};

use bytes::{Buf, Bytes, BytesMut};
use http_body::{Body, Frame};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::inbox::Inbox;
use crate::message::{BodyError, Flow, Upgrade};

/// Bytes that wait for the client.
const ROOM: usize = 64 * 1024;

#[derive(Debug, Default)]
struct Outbox {
    bytes: BytesMut,
    /// Nothing more is written.
    ended: bool,
    /// Nobody takes it any more.
    broken: bool,
    writer: Option<Waker>,
    taker: Option<Waker>,
    /// Who wants to know that it broke.
    listener: Option<Waker>,
}

impl Outbox {
    fn end(&mut self) {
        self.ended = true;
        self.taker.take().into_iter().for_each(Waker::wake);
    }
}

/// The tunnel's end of a stream, and what the connection sends of it.
pub(super) fn pair(inbox: Rc<Inbox>) -> (Tunnel, Outgoing) {
    let outbox = Rc::new(RefCell::new(Outbox::default()));
    (Tunnel { inbox, rest: Bytes::new(), outbox: Rc::clone(&outbox) }, Outgoing(outbox))
}

/// Runs what takes the tunnel over for as long as the stream is there. A client that ended its half is read no more, so
/// that whoever waits for the other side would not hear of its reset, or of the end of its connection.
pub(super) async fn carry(takeover: Upgrade, tunnel: Tunnel) {
    let broken = Broken(Rc::clone(&tunnel.outbox));
    tokio::select! {
        biased;
        () = takeover(Box::pin(tunnel)) => {}
        () = broken => {}
    }
}

/// Resolves when the connection gives the stream up before the tunnel has ended its half.
struct Broken(Rc<RefCell<Outbox>>);

impl Future for Broken {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let mut outbox = self.0.borrow_mut();
        if outbox.broken {
            return Poll::Ready(());
        }
        outbox.listener = Some(cx.waker().clone());
        Poll::Pending
    }
}

/// Both directions.
pub(super) struct Tunnel {
    inbox: Rc<Inbox>,
    /// What was taken out of the inbox and not read yet.
    rest: Bytes,
    outbox: Rc<RefCell<Outbox>>,
}

impl Drop for Tunnel {
    fn drop(&mut self) {
        self.inbox.abandon();
        self.outbox.borrow_mut().end();
    }
}

impl AsyncRead for Tunnel {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.rest.is_empty() {
            self.rest = match ready!(self.inbox.poll_piece(cx)) {
                Some(Ok(piece)) => piece,
                Some(Err(error)) => {
                    return Poll::Ready(Err(io::Error::new(io::ErrorKind::ConnectionReset, error)));
                }
                None => return Poll::Ready(Ok(())),
            };
        }
        let length = self.rest.len().min(into.remaining());
        into.put_slice(self.rest.get(..length).unwrap_or(&[]));
        self.rest.advance(length);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Tunnel {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let mut outbox = self.outbox.borrow_mut();
        if outbox.broken || outbox.ended {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        let length = bytes.len().min(ROOM.saturating_sub(outbox.bytes.len()));
        if length == 0 && !bytes.is_empty() {
            outbox.writer = Some(cx.waker().clone());
            return Poll::Pending;
        }
        outbox.bytes.extend_from_slice(bytes.get(..length).unwrap_or(&[]));
        outbox.taker.take().into_iter().for_each(Waker::wake);
        Poll::Ready(Ok(length))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.outbox.borrow_mut().end();
        Poll::Ready(Ok(()))
    }
}

/// What the tunnel sends to the client, for the connection.
pub(super) struct Outgoing(Rc<RefCell<Outbox>>);

impl Drop for Outgoing {
    fn drop(&mut self) {
        let mut outbox = self.0.borrow_mut();
        // After its end the other half may go on.
        if !outbox.ended {
            outbox.broken = true;
            let told = outbox.writer.take().into_iter().chain(outbox.listener.take());
            told.for_each(Waker::wake);
        }
    }
}

impl Flow for Outgoing {}

impl Body for Outgoing {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let mut outbox = self.0.borrow_mut();
        if !outbox.bytes.is_empty() {
            let bytes = outbox.bytes.split().freeze();
            outbox.writer.take().into_iter().for_each(Waker::wake);
            return Poll::Ready(Some(Ok(Frame::data(bytes))));
        }
        if outbox.ended {
            return Poll::Ready(None);
        }
        outbox.taker = Some(cx.waker().clone());
        Poll::Pending
    }
}
