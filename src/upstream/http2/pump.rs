//! The request body onto a stream, as fast as the backend's window takes it.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use h2::SendStream;
use http_body::Body;

use super::super::deadline::Deadline;
use super::super::times::UpstreamTimes;
use super::super::trailers;
use crate::message::{BodyError, RequestBody};
use crate::wire::Framing;

/// How far sending got.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Progress {
    /// All of it is with `h2`.
    Done,
    /// The window is closed.
    Blocked,
    /// The client has not sent more yet.
    Starved,
    /// The stream takes nothing any more; the answer tells why.
    Broken,
}

/// The request body on its way.
pub(super) struct Pump {
    stream: SendStream<Bytes>,
    body: RequestBody,
    /// Data waiting for the window.
    data: Option<Bytes>,
    /// What `body` was if it can be sent again.
    full: Option<Bytes>,
    left: Option<u64>,
    polled: bool,
    end: Option<Progress>,
}

impl Pump {
    pub(super) fn new(stream: SendStream<Bytes>, body: RequestBody, framing: Framing) -> Self {
        let full = match &body {
            RequestBody::Empty => Some(Bytes::new()),
            RequestBody::Full(bytes) => Some(bytes.clone()),
            RequestBody::Kept(_) | RequestBody::Stream(_) => None,
        };
        let left = if let Framing::Length(length) = framing { Some(length) } else { None };
        let end = body.is_end_stream().then_some(Progress::Done);
        Self { stream, body, data: None, full, left, polled: false, end }
    }

    /// The body, if it can be sent (again).
    pub(super) fn into_body(self) -> Option<RequestBody> {
        match (self.full, self.body) {
            (Some(bytes), _) if bytes.is_empty() => Some(RequestBody::Empty),
            (Some(bytes), _) => Some(RequestBody::Full(bytes)),
            (None, body @ (RequestBody::Kept(_) | RequestBody::Stream(_))) if !self.polled => Some(body),
            (None, _) => None,
        }
    }

    /// Sends what can be sent now.
    ///
    /// # Errors
    /// The client's body failed.
    pub(super) fn poll(
        &mut self,
        cx: &mut Context<'_>,
        times: &UpstreamTimes,
        deadline: &mut Deadline,
    ) -> Result<Progress, BodyError> {
        loop {
            if let Some(end) = self.end {
                return Ok(end);
            }
            let moved = match self.data.take() {
                Some(data) => match self.poll_window(cx) {
                    Poll::Ready(true) => {
                        times.add_sent(data.len());
                        self.stream.send_data(data, false).is_ok()
                    }
                    Poll::Ready(false) => false,
                    Poll::Pending => {
                        self.data = Some(data);
                        return Ok(Progress::Blocked);
                    }
                },
                None => {
                    self.polled = true;
                    match Pin::new(&mut self.body).poll_frame(cx) {
                        Poll::Pending => return Ok(self.starved(cx)),
                        Poll::Ready(Some(Err(error))) => {
                            self.stream.send_reset(h2::Reason::CANCEL);
                            return Err(error);
                        }
                        Poll::Ready(Some(Ok(frame))) => self.take(frame)?,
                        Poll::Ready(None) => self.finish(None)?,
                    }
                }
            };
            if moved {
                deadline.rest();
            } else {
                self.end = Some(Progress::Broken);
            }
        }
    }

    /// Ready(true) when the window takes at least a byte. `h2` holds the rest of a piece until the window takes it.
    fn poll_window(&mut self, cx: &mut Context<'_>) -> Poll<bool> {
        self.stream.reserve_capacity(1);
        loop {
            if self.stream.capacity() > 0 {
                return Poll::Ready(true);
            }
            match self.stream.poll_capacity(cx) {
                Poll::Ready(Some(Ok(_))) => {}
                Poll::Ready(Some(Err(_)) | None) => return Poll::Ready(false),
                Poll::Pending => return Poll::Pending,
            }
        }
    }

    /// Learns of a reset also while the client is silent.
    fn starved(&mut self, cx: &mut Context<'_>) -> Progress {
        match self.stream.poll_reset(cx) {
            Poll::Pending => Progress::Starved,
            Poll::Ready(_) => {
                self.end = Some(Progress::Broken);
                Progress::Broken
            }
        }
    }

    fn take(&mut self, frame: http_body::Frame<Bytes>) -> Result<bool, BodyError> {
        match frame.into_data() {
            Ok(data) if data.is_empty() => Ok(true),
            Ok(data) => {
                if let Some(left) = &mut self.left {
                    let rest = left.checked_sub(data.len() as u64);
                    *left = rest.ok_or(BodyError::Framing("the body is longer than its Content-Length"))?;
                }
                self.data = Some(data);
                Ok(true)
            }
            Err(frame) => self.finish(frame.into_trailers().ok().and_then(trailers::cleaned)),
        }
    }

    fn finish(&mut self, trailers: Option<http::HeaderMap>) -> Result<bool, BodyError> {
        if self.left.is_some_and(|left| left > 0) {
            self.stream.send_reset(h2::Reason::CANCEL);
            return Err(BodyError::Framing("the body is shorter than its Content-Length"));
        }
        let sent = match trailers {
            Some(trailers) => self.stream.send_trailers(trailers),
            None => self.stream.send_data(Bytes::new(), true),
        };
        self.body = RequestBody::Empty;
        if sent.is_ok() {
            self.end = Some(Progress::Done);
        }
        Ok(sent.is_ok())
    }
}
