//! How exchanges and connections end: rests that are read away, refusals, and a close that lets the last answer arrive.

use std::future::poll_fn;
use std::pin::Pin;
use std::task::{Poll, ready};

use http::StatusCode;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::Instant;

use super::incoming::Source;
use super::link::Link;
use super::outgoing::Outgoing;
use super::{Options, Rejection, page};
use crate::message::Meter;
use crate::pipe::Socket;
use crate::wire::Reject;

/// Reads the rest of a request body away. False: too much, too slow or broken.
pub(super) async fn settle<IO: AsyncRead + AsyncWrite + Socket + Unpin>(
    link: &mut Link<IO>,
    options: &Options,
    mut source: Source,
) -> bool {
    if source.is_done() {
        return true;
    }
    let meter = Meter::default();
    let mut deadline = None;
    poll_fn(|cx| {
        loop {
            match source.discard(&mut link.buf, &meter) {
                Ok(true) => return Poll::Ready(true),
                Ok(false) if !link.eof && meter.request_bytes.get() <= options.drain_bytes => {}
                Ok(false) | Err(()) => return Poll::Ready(false),
            }
            match link.poll_fill(cx) {
                Poll::Ready(Ok(_)) => {}
                Poll::Ready(Err(_)) => return Poll::Ready(false),
                Poll::Pending => {
                    let deadline = *deadline.get_or_insert_with(|| Instant::now() + options.drain_timeout);
                    ready!(link.poll_until(deadline, cx));
                    return Poll::Ready(false);
                }
            }
        }
    })
    .await
}

/// Answers a request that broke a rule, closes, and tells.
pub(super) async fn refuse<IO: AsyncRead + AsyncWrite + Socket + Unpin>(
    link: &mut Link<IO>,
    options: &Options,
    reject: &Reject,
    rejected: &impl Fn(&Rejection<'_>),
) {
    let received = std::mem::take(&mut link.buf);
    let (page, head) = page::refusal(reject.status);
    let meter = Meter::default();
    let mut out = Outgoing::default();
    out.head(|lead| lead.extend_from_slice(page.get(..head).unwrap_or(&page)));
    out.data(page.get(head..).unwrap_or(&[]).to_vec().into());
    let deadline = Instant::now() + options.send_timeout;
    let written = poll_fn(|cx| match out.poll_write(&mut link.io, cx, &meter, &mut false) {
        Poll::Pending => link.poll_until(deadline, cx).map(|()| false),
        Poll::Ready(outcome) => Poll::Ready(outcome.is_ok()),
    })
    .await;
    rejected(&Rejection {
        status: reject.status,
        rule: reject.rule,
        reason: reject.reason,
        line: first_line(&received),
        request_bytes: received.len() as u64,
        bytes_sent: meter.bytes_sent.get(),
        body_bytes_sent: meter.body_bytes_sent.get(),
    });
    if written {
        linger(link, options, Linger::Await).await;
    }
}

/// Tells of a head that the client left unfinished.
pub(super) fn tell_cut<IO>(link: &Link<IO>, rejected: &impl Fn(&Rejection<'_>)) {
    rejected(&Rejection {
        status: StatusCode::BAD_REQUEST,
        rule: "H1-18",
        reason: "the client closed inside a head",
        line: first_line(&link.buf),
        request_bytes: link.buf.len() as u64,
        bytes_sent: 0,
        body_bytes_sent: 0,
    });
}

fn first_line(received: &[u8]) -> &[u8] {
    let start = received.iter().position(|byte| !matches!(byte, b'\r' | b'\n')).unwrap_or(received.len());
    let line = received.get(start..).unwrap_or(&[]);
    line.split(|byte| matches!(byte, b'\r' | b'\n')).next().unwrap_or(&[])
}

/// How long a connection is kept for what the client may still send.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Linger {
    /// A whole answer went out while the client was still sending: it is read away until the client has taken the
    /// answer, with nginx's `lingering_time` and `lingering_timeout`.
    Deliver,
    /// Part of a request is missing, so something is probably under way.
    Await,
    /// Only if something is there already.
    IfMore,
}

/// Closes our side, then reads what the client still sends: unread bytes would make the kernel answer with a RST,
/// and that may overtake the answer.
pub(super) async fn linger<IO: AsyncRead + AsyncWrite + Socket + Unpin>(
    link: &mut Link<IO>,
    options: &Options,
    wait: Linger,
) {
    let (mut left, idle, longest) = match wait {
        Linger::Deliver => (options.linger_bytes, options.linger_idle, options.linger_time),
        Linger::Await | Linger::IfMore => (options.drain_bytes, options.drain_timeout, options.drain_timeout),
    };
    let end = Instant::now() + longest;
    let mut deadline = (Instant::now() + idle).min(end);
    let mut shut = false;
    let mut wait = if link.buf.is_empty() { wait } else { Linger::Await };
    poll_fn(|cx| {
        if !shut {
            match Pin::new(&mut link.io).poll_shutdown(cx) {
                Poll::Pending => return link.poll_until(deadline, cx),
                Poll::Ready(Err(_)) => return Poll::Ready(()),
                Poll::Ready(Ok(())) => shut = true,
            }
        }
        while !link.eof && left > 0 {
            match link.poll_discard(cx) {
                Poll::Ready(Ok(read)) => {
                    wait = Linger::Await;
                    left = left.saturating_sub(read as u64);
                    if idle < longest {
                        deadline = (Instant::now() + idle).min(end);
                    }
                }
                Poll::Ready(Err(_)) => return Poll::Ready(()),
                Poll::Pending if wait != Linger::IfMore => return link.poll_until(deadline, cx),
                Poll::Pending => return Poll::Ready(()),
            }
        }
        Poll::Ready(())
    })
    .await;
}
