//! Answers that are sent at a bounded rate (`limit-rate`). How much may go when is `policy::response_rate`'s.

use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use tokio::time::{Instant, Sleep, sleep};

use crate::message::{BodyError, Flow, ResponseBody};
use crate::policy::response_rate::ResponseRate;

/// A body that passes at `rate`; `elapsed` since the request came.
pub(super) fn throttled(body: ResponseBody, rate: ResponseRate, elapsed: Duration) -> ResponseBody {
    match body {
        ResponseBody::Empty => ResponseBody::Empty,
        body => {
            let start = Instant::now().checked_sub(elapsed).unwrap_or_else(Instant::now);
            ResponseBody::Stream(Box::pin(Throttled {
                body,
                rate,
                start,
                sent: 0,
                held: Bytes::new(),
                wait: Box::pin(sleep(Duration::ZERO)),
            }))
        }
    }
}

struct Throttled {
    body: ResponseBody,
    rate: ResponseRate,
    start: Instant,
    sent: u64,
    held: Bytes,
    wait: Pin<Box<Sleep>>,
}

impl Flow for Throttled {}

impl Body for Throttled {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let left = loop {
            ready!(self.wait.as_mut().poll(cx));
            match self.rate.allowance(self.start.elapsed(), self.sent) {
                Ok(left) => break usize::try_from(left).unwrap_or(usize::MAX),
                Err(wait) => {
                    let until = Instant::now() + wait;
                    self.wait.as_mut().reset(until);
                }
            }
        };
        let mut data = if self.held.is_empty() {
            match ready!(Pin::new(&mut self.body).poll_frame(cx)) {
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(data) => data,
                    Err(trailers) => return Poll::Ready(Some(Ok(trailers))),
                },
                end => return Poll::Ready(end),
            }
        } else {
            std::mem::take(&mut self.held)
        };
        if data.len() > left {
            self.held = data.split_off(left);
        }
        self.sent = self.sent.saturating_add(data.len() as u64);
        Poll::Ready(Some(Ok(Frame::data(data))))
    }

    fn is_end_stream(&self) -> bool {
        self.held.is_empty() && self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        match self.body.size_hint().exact() {
            Some(rest) => SizeHint::with_exact(rest.saturating_add(self.held.len() as u64)),
            None => SizeHint::default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proxy::paused::block_on;

    #[test]
    fn the_first_second_s_worth_goes_at_once_and_nothing_is_lost() {
        block_on(async {
            let rate = ResponseRate::of(1, 0).unwrap();
            let bytes = Bytes::from(vec![b'x'; 3000]);
            let mut body = throttled(ResponseBody::Full(bytes), rate, Duration::ZERO);
            assert_eq!(body.size_hint().exact(), Some(3000));
            let start = Instant::now();
            let mut parts = Vec::new();
            while let Some(frame) = std::future::poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)).await {
                parts.push((start.elapsed().as_secs(), frame.unwrap().into_data().unwrap().len()));
            }
            assert_eq!(parts, [(0, 1024), (1, 1024), (2, 952)]);
        });
    }
}
