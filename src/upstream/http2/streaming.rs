//! The body of an answer on a stream.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use h2::RecvStream;
use http_body::{Body, Frame, SizeHint};

use super::super::deadline::Wait;
use super::super::trailers;
use super::{Call, Lease, Progress};
use crate::limit::Held;
use crate::message::{BodyError, Flow};

/// A body under way; `call` sends what is left of the request.
pub(super) struct Streaming {
    call: Call,
    incoming: RecvStream,
    left: Option<u64>,
    ended: bool,
    /// What the backend may have sent while nobody asks for more: a client that takes nothing is why it lies here.
    held: Held,
    lease: Lease,
}

impl Streaming {
    /// `held` counts what lies unread.
    pub(super) fn new(
        mut call: Call,
        incoming: RecvStream,
        left: Option<u64>,
        held: Held,
        lease: Lease,
    ) -> Self {
        call.deadline.rest();
        let mut body = Self { call, incoming, left, ended: false, held, lease };
        body.hold();
        body
    }

    /// Until the next piece is asked for, what is left may arrive, as far as its window lets it.
    fn hold(&mut self) {
        let most = u64::from(self.lease.window);
        self.held.set(self.left.map_or(most, |left| left.min(most)));
    }

    fn end(
        &mut self,
        last: Option<Result<Frame<Bytes>, BodyError>>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        self.ended = true;
        self.held.set(0);
        self.call.times.ended();
        Poll::Ready(last)
    }

    fn data(&mut self, data: Bytes) -> Frame<Bytes> {
        // Only fails on a stream that is gone, and then nothing waits for the window.
        let _ = self.incoming.flow_control().release_capacity(data.len());
        self.call.times.add_received(data.len());
        self.call.times.add_body(data.len());
        self.call.deadline.rest();
        self.left = self.left.map(|left| left.saturating_sub(data.len() as u64));
        self.hold();
        Frame::data(data)
    }
}

impl Flow for Streaming {}

impl Body for Streaming {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        if self.ended {
            return Poll::Ready(None);
        }
        let Call { pump, times, deadline, .. } = &mut self.call;
        let progress = match pump.poll(cx, times, deadline) {
            Ok(progress) => progress,
            Err(error) => return self.end(Some(Err(error))),
        };
        match self.incoming.poll_data(cx) {
            Poll::Ready(Some(Ok(data))) => return Poll::Ready(Some(Ok(self.data(data)))),
            Poll::Ready(Some(Err(_))) => return self.end(Some(Err(BodyError::Upstream))),
            Poll::Ready(None) => match self.incoming.poll_trailers(cx) {
                Poll::Ready(Ok(trailers)) => {
                    let last = trailers.and_then(trailers::cleaned).map(|map| Ok(Frame::trailers(map)));
                    return self.end(last);
                }
                Poll::Ready(Err(_)) => return self.end(Some(Err(BodyError::Upstream))),
                Poll::Pending => {}
            },
            Poll::Pending => {}
        }
        // All that came is on its way: who waits for the next piece takes it at once.
        self.held.set(0);
        let timeouts = self.call.timeouts;
        let (wait, limit) = match progress {
            Progress::Blocked => (Wait::Send, timeouts.send),
            Progress::Starved | Progress::Done | Progress::Broken => (Wait::Read, timeouts.read),
        };
        match self.call.deadline.poll(cx, wait, limit) {
            Poll::Ready(()) => self.end(Some(Err(BodyError::UpstreamTimeout))),
            Poll::Pending => Poll::Pending,
        }
    }

    fn is_end_stream(&self) -> bool {
        self.ended
    }

    fn size_hint(&self) -> SizeHint {
        self.left.map_or_else(SizeHint::default, SizeHint::with_exact)
    }
}

impl Drop for Streaming {
    fn drop(&mut self) {
        self.call.times.ended();
    }
}
