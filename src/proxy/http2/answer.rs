//! One answer: what its head says beside the fields of the handler, and its body piece by piece.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::StatusCode;
use http_body::Body;
use tokio::time::Instant;

use crate::message::{BodyError, Framed, Meter, Response, ResponseBody, fields_of};
use crate::proxy::http1::date;
use crate::wire::Fields;
use crate::wire::fields::OwnName;

const DATE: OwnName = OwnName::new("Date: ");
const LENGTH: OwnName = OwnName::new("Content-Length: ");

/// An answer whose head is written.
pub(super) struct Answer {
    body: ResponseBody,
    /// What was taken out of the body and not sent.
    rest: Bytes,
    /// `None`: somebody else counts.
    meter: Option<Rc<Meter>>,
    /// Since when the client takes nothing of it.
    pub(super) since: Option<Instant>,
    /// It may stand still for ever.
    pub(super) patient: bool,
    /// Dropped with the answer: after its last byte, or when the stream is over.
    _guard: Option<Rc<dyn Any>>,
}

/// What is to be sent next.
pub(super) enum Piece {
    /// Data, at least a byte unless it is the last.
    Data { data: Bytes, last: bool },
    /// The end, with trailers.
    Trailers(Fields),
    /// The body broke: the client must see the cut.
    Broken,
}

impl Answer {
    /// The rest of `response`.
    pub(super) fn new(body: ResponseBody, meter: Option<Rc<Meter>>, guard: Option<Rc<dyn Any>>) -> Self {
        let patient = meter.is_none();
        Self { body, rest: Bytes::new(), meter, since: None, patient, _guard: guard }
    }

    /// Takes a piece of the body in hand, if none is; what is in hand, is given out by [`Answer::take`].
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Piece>> {
        while self.rest.is_empty() {
            let body = Pin::new(&mut self.body);
            // A body that panics hurts its own stream.
            let frame = catch_unwind(AssertUnwindSafe(|| body.poll_frame(cx)));
            let frame = match frame {
                Ok(Poll::Pending) => return Poll::Pending,
                Ok(Poll::Ready(Some(frame))) => frame,
                Ok(Poll::Ready(None)) => {
                    self.finished();
                    return Poll::Ready(Some(Piece::Data { data: Bytes::new(), last: true }));
                }
                Err(_panic) => Err(BodyError::Aborted("a panic")),
            };
            match frame.map(http_body::Frame::into_data) {
                Ok(Ok(data)) => self.rest = data,
                Ok(Err(trailers)) => {
                    let Some(map) = trailers.trailers_ref() else { continue };
                    let fields = fields_of(map);
                    self.finished();
                    return Poll::Ready(Some(Piece::Trailers(fields)));
                }
                Err(_) => return Poll::Ready(Some(Piece::Broken)),
            }
            if self.rest.is_empty() && self.body.is_end_stream() {
                self.finished();
                return Poll::Ready(Some(Piece::Data { data: Bytes::new(), last: true }));
            }
        }
        Poll::Ready(None)
    }

    /// At most `room` bytes of what is in hand.
    pub(super) fn take(&mut self, room: usize) -> Piece {
        let data =
            if room >= self.rest.len() { std::mem::take(&mut self.rest) } else { self.rest.split_to(room) };
        let last = self.rest.is_empty() && self.body.is_end_stream();
        if let Some(meter) = &self.meter {
            Meter::add(&meter.body_bytes_sent, data.len());
            Meter::add(&meter.bytes_sent, data.len());
        }
        if last {
            self.finished();
        }
        self.since = None;
        Piece::Data { data, last }
    }

    fn finished(&self) {
        if let Some(meter) = &self.meter {
            meter.finished.set(true);
        }
    }
}

/// Gives the head what a driver writes itself, and says whether nothing follows it. `head_only`: the request was HEAD.
pub(super) fn complete(response: &mut Response, head_only: bool, meter: &Meter, now: Instant) -> bool {
    if response.head.status.is_informational() {
        // A handler's mistake; no client could tell where such an answer ends.
        response.head.status = StatusCode::INTERNAL_SERVER_ERROR;
    }
    if head_only {
        without_body(response);
    }
    let head = &mut response.head;
    let told = head.fields.get_str("content-length").and_then(|told| told.parse().ok());
    let bodiless = head_only || matches!(head.status.as_u16(), 204 | 304);
    let exact = response.body.size_hint().exact();
    let ended = response.body.is_end_stream();
    let length = told.or_else(|| exact.filter(|_| !bodiless));
    meter.framed.set(Some(Framed { length, chunked: false, connection: "keep-alive" }));
    Meter::add(&meter.bytes_sent, head.fields.text_len());
    // Lines of ours are sound: nothing of them can be refused.
    if !head.fields.contains("date") {
        let _told = date::with_value(now, |value| head.fields.append_sound(&DATE, value));
    }
    if !ended
        && let Some(exact) = exact
        && !head.fields.contains("content-length")
    {
        let _told = head.fields.append_sound(&LENGTH, &exact.to_string());
    }
    meter.finished.set(ended);
    ended
}

/// An answer to HEAD tells the length of the body it leaves out (RFC 9110 section 9.3.2).
fn without_body(response: &mut Response) {
    let body = std::mem::replace(&mut response.body, ResponseBody::Empty);
    let length = body.size_hint().exact().filter(|length| *length > 0);
    if let Some(length) = length
        && !response.head.fields.contains("content-length")
    {
        let _told = response.head.fields.append_sound(&LENGTH, &length.to_string());
    }
}
