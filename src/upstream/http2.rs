//! HTTP/2 towards a backend (gRPC): many streams over few connections, trailers both ways.
//!
//! Each connection has one task of the worker that moves frames; request and answer are driven inline by the caller,
//! as with HTTP/1. Built on `h2` itself, since only it tells how many streams a backend takes.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::Instant;

use bytes::Bytes;
use foldhash::fast::RandomState;
use h2::client::{ResponseFuture, SendRequest};
use tokio::sync::Notify;

use super::deadline::{Deadline, Wait};
use super::error::ErrorKind;
use super::pool::{Open, PoolKey};
use super::stream::Stream;
use super::times::UpstreamTimes;
use super::{Answer, Content, Failed, UpstreamError, UpstreamRequest};
use crate::limit::{Bodies, Memory};
use crate::message::{RequestBody, ResponseBody};
use crate::policy::global::UpstreamKeepalive;
use crate::policy::timeout::Timeouts;

mod convert;
mod pump;
mod streaming;

use pump::{Progress, Pump};
use streaming::Streaming;

/// Receive window of one stream, bytes: what a backend may send while its client takes nothing.
const WINDOW: u32 = 256 * 1024;
/// The same while room for bodies is scarce.
const SCARCE_WINDOW: u32 = 64 * 1024;
/// Receive window of a connection, the largest there is (RFC 9113 section 6.9.1): a smaller one would be used up by
/// clients that take nothing, and all others of the backend would wait for them. Each stream has a bound of its own,
/// which counts in the room for bodies.
const CONNECTION_WINDOW: u32 = (1 << 31) - 1;
/// Decoded head of an answer, bytes.
const MAX_HEAD: u32 = 64 * 1024;

const fn window(room: Bodies) -> u32 {
    match room {
        Bodies::Plenty => WINDOW,
        Bodies::Scarce | Bodies::Spent => SCARCE_WINDOW,
    }
}

/// Connections of one worker, by endpoint.
#[derive(Debug, Default)]
pub struct Sessions {
    slots: RefCell<HashMap<PoolKey, Slot, RandomState>>,
}

#[derive(Debug, Default)]
struct Slot {
    sessions: Vec<Session>,
    /// Somebody connects; wakes those who would rather share.
    connecting: Option<Rc<Notify>>,
}

#[derive(Debug)]
struct Session {
    sender: SendRequest<Bytes>,
    streams: Rc<Cell<u32>>,
    /// Receive window of its streams, bytes.
    window: u32,
    created: Instant,
    used: Instant,
    exchanges: u32,
}

/// The right to one stream of a session.
#[derive(Debug)]
pub(super) struct Lease {
    sender: SendRequest<Bytes>,
    streams: Rc<Cell<u32>>,
    /// Receive window of the stream, bytes.
    window: u32,
    reused: bool,
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.streams.set(self.streams.get().saturating_sub(1));
    }
}

/// Answer of [`Sessions::checkout`].
pub(super) enum Checkout {
    /// A stream on a connection that is there.
    Lease(Lease),
    /// Somebody else connects: wait and ask again.
    Wait(Rc<Notify>),
    /// Connect; the ticket tells the others when it is dropped.
    Connect(Ticket),
}

/// Held while connecting.
#[derive(Debug)]
pub(super) struct Ticket {
    sessions: Rc<Sessions>,
    key: PoolKey,
    notify: Rc<Notify>,
}

impl Drop for Ticket {
    fn drop(&mut self) {
        if let Some(slot) = self.sessions.slots.borrow_mut().get_mut(&self.key)
            && slot.connecting.as_ref().is_some_and(|notify| Rc::ptr_eq(notify, &self.notify))
        {
            slot.connecting = None;
        }
        self.notify.notify_waiters();
    }
}

impl Sessions {
    /// A stream on a connection that takes one more, or the task of making a connection. `may_wait: false` never
    /// waits for another's connection attempt, so a failing backend fails all who wait at once and not in turn.
    pub(super) fn checkout(
        self: &Rc<Self>,
        key: &PoolKey,
        limits: &UpstreamKeepalive,
        may_wait: bool,
        now: Instant,
    ) -> Checkout {
        let mut slots = self.slots.borrow_mut();
        let slot = slots.entry(*key).or_default();
        slot.sessions.retain_mut(|session| session.takes_requests(limits, now));
        if let Some(session) = slot.sessions.iter_mut().find(|session| session.has_room()) {
            return Checkout::Lease(session.lease(now));
        }
        match &slot.connecting {
            Some(notify) if may_wait => Checkout::Wait(Rc::clone(notify)),
            _ => {
                let notify = Rc::new(Notify::new());
                slot.connecting = Some(Rc::clone(&notify));
                Checkout::Connect(Ticket { sessions: Rc::clone(self), key: *key, notify })
            }
        }
    }

    /// Starts HTTP/2 on a connected stream and leases its first stream.
    pub(super) async fn start(
        &self,
        key: PoolKey,
        stream: Stream,
        open: Open,
        room: Bodies,
    ) -> Result<Lease, ErrorKind> {
        let window = window(room);
        let mut builder = h2::client::Builder::new();
        builder
            .enable_push(false)
            .initial_window_size(window)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .max_header_list_size(MAX_HEAD);
        let (sender, connection) = builder.handshake(stream).await.map_err(|error| kind_of(&error))?;
        tokio::task::spawn_local(async move {
            // Streams learn by themselves why the connection ended.
            let _ = connection.await;
            drop(open);
        });
        let now = Instant::now();
        let mut session =
            Session { sender, streams: Rc::new(Cell::new(0)), window, created: now, used: now, exchanges: 0 };
        let lease = session.lease(now);
        self.slots.borrow_mut().entry(key).or_default().sessions.push(session);
        Ok(lease)
    }

    /// Connections kept.
    pub fn len(&self) -> usize {
        self.slots.borrow().values().map(|slot| slot.sessions.len()).sum()
    }

    /// True when no connection is kept.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Lets go of connections that ended, or idled too long. Streams under way go on.
    pub fn sweep(&self, limits: &UpstreamKeepalive, now: Instant) {
        self.slots.borrow_mut().retain(|_, slot| {
            slot.sessions.retain_mut(|session| {
                let idle = now.saturating_duration_since(session.used);
                session.takes_requests(limits, now) && (session.streams.get() > 0 || idle < limits.timeout)
            });
            !slot.sessions.is_empty() || slot.connecting.is_some()
        });
    }

    /// Lets go of the connections for whose key `keep` does not hold.
    pub fn retain(&self, keep: impl Fn(&PoolKey) -> bool) {
        self.slots.borrow_mut().retain(|key, slot| slot.connecting.is_some() || keep(key));
    }
}

impl Session {
    /// Neither closed, nor told to go away, nor worn out.
    fn takes_requests(&mut self, limits: &UpstreamKeepalive, now: Instant) -> bool {
        let mut cx = Context::from_waker(Waker::noop());
        let open = matches!(self.sender.poll_ready(&mut cx), Poll::Ready(Ok(())));
        open && self.exchanges < limits.requests && now.saturating_duration_since(self.created) < limits.time
    }

    fn has_room(&self) -> bool {
        (self.streams.get() as usize) < self.sender.current_max_send_streams()
    }

    fn lease(&mut self, now: Instant) -> Lease {
        let reused = self.exchanges > 0;
        self.exchanges = self.exchanges.saturating_add(1);
        self.used = now;
        self.streams.set(self.streams.get().saturating_add(1));
        Lease { sender: self.sender.clone(), streams: Rc::clone(&self.streams), window: self.window, reused }
    }
}

/// Sends `request` on a leased stream and reads the head of the answer.
///
/// # Errors
/// [`Failed`]. Dropping the future resets the stream.
pub(super) async fn exchange(
    mut lease: Lease,
    key: &PoolKey,
    request: &UpstreamRequest<'_>,
    body: RequestBody,
    timeouts: Timeouts,
    times: Rc<UpstreamTimes>,
    memory: &Memory,
) -> Result<Answer, Failed> {
    let reused = lease.reused;
    let unsent = |kind| UpstreamError { reused, ..UpstreamError::unsent(kind) };
    let head = match convert::request(request, key) {
        Ok(head) => head,
        Err(reason) => return Err(Failed { error: unsent(ErrorKind::Request(reason)), body: Some(body) }),
    };
    let (response, stream) = match lease.sender.send_request(head, http_body::Body::is_end_stream(&body)) {
        Ok(sent) => sent,
        Err(error) => return Err(Failed { error: unsent(kind_of(&error)), body: Some(body) }),
    };
    let pump = Pump::new(stream, body, request.framing);
    let mut call = Call { response, pump, deadline: Deadline::new(), timeouts, times };
    match std::future::poll_fn(|cx| call.poll(cx)).await {
        Ok(response) => {
            call.times.head_complete();
            match convert::head(response) {
                Ok((head, incoming)) => Ok(call.answer(head, incoming, lease, reused, memory)),
                Err(kind) => Err(call.failed(kind, reused, true)),
            }
        }
        Err(kind) => Err(call.failed(kind, reused, false)),
    }
}

/// One request until the head of its answer.
struct Call {
    response: ResponseFuture,
    pump: Pump,
    deadline: Deadline,
    timeouts: Timeouts,
    times: Rc<UpstreamTimes>,
}

impl Call {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<http::Response<h2::RecvStream>, ErrorKind>> {
        let progress = match self.pump.poll(cx, &self.times, &mut self.deadline) {
            Ok(progress) => progress,
            Err(error) => return Poll::Ready(Err(ErrorKind::Client(error))),
        };
        match Pin::new(&mut self.response).poll(cx) {
            Poll::Ready(Ok(response)) => return Poll::Ready(Ok(response)),
            Poll::Ready(Err(error)) => return Poll::Ready(Err(kind_of(&error))),
            Poll::Pending => {}
        }
        let (wait, limit, kind) = match progress {
            Progress::Starved => return Poll::Pending,
            Progress::Blocked => (Wait::Send, self.timeouts.send, ErrorKind::SendTimeout),
            Progress::Done | Progress::Broken => (Wait::Read, self.timeouts.read, ErrorKind::ReadTimeout),
        };
        self.deadline.poll(cx, wait, limit).map(|()| Err(kind))
    }

    fn failed(self, kind: ErrorKind, reused: bool, answered: bool) -> Failed {
        self.times.ended();
        let sent = !matches!(kind, ErrorKind::Refused);
        Failed { error: UpstreamError { kind, reused, sent, answered }, body: self.pump.into_body() }
    }

    fn answer(
        self,
        head: crate::wire::ResponseHead,
        incoming: h2::RecvStream,
        lease: Lease,
        reused: bool,
        memory: &Memory,
    ) -> Answer {
        let body = if incoming.is_end_stream() {
            self.times.ended();
            ResponseBody::Empty
        } else {
            let length = head.fields.get_str("content-length").and_then(|length| length.parse().ok());
            ResponseBody::Stream(Box::pin(Streaming::new(self, incoming, length, memory.hold(0), lease)))
        };
        Answer { head, content: Content::Body(body), trailers: None, reused }
    }
}

/// What an HTTP/2 error means for a retry. REFUSED_STREAM, and a graceful GOAWAY with an older last stream, promise
/// that the request was not processed (RFC 9113 sections 6.8 and 8.7).
fn kind_of(error: &h2::Error) -> ErrorKind {
    let reason = error.reason();
    let refused = error.is_reset() && reason == Some(h2::Reason::REFUSED_STREAM);
    let gone = error.is_go_away() && reason == Some(h2::Reason::NO_ERROR);
    match error.get_io() {
        _ if error.is_remote() && (refused || gone) => ErrorKind::Refused,
        Some(io) if io.kind() == std::io::ErrorKind::BrokenPipe => ErrorKind::Closed,
        Some(io) => ErrorKind::from(std::io::Error::from(io.kind())),
        None => ErrorKind::Stream(error.to_string().into()),
    }
}

#[cfg(test)]
mod tests;
