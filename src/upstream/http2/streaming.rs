//! The body of an answer on a stream.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use h2::RecvStream;
use http_body::{Body, Frame, SizeHint};

use super::super::deadline::Wait;
use super::super::trailers;
use super::{Call, Lease, Progress};
use crate::message::{BodyError, Flow};

/// A body under way; `call` sends what is left of the request.
pub(super) struct Streaming {
    call: Call,
    incoming: RecvStream,
    left: Option<u64>,
    ended: bool,
    _lease: Lease,
}

impl Streaming {
    pub(super) fn new(mut call: Call, incoming: RecvStream, left: Option<u64>, lease: Lease) -> Self {
        call.deadline.rest();
        Self { call, incoming, left, ended: false, _lease: lease }
    }

    fn end(
        &mut self,
        last: Option<Result<Frame<Bytes>, BodyError>>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        self.ended = true;
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
