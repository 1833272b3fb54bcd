//! One answer on its way out: which framing it gets, its head, and its body frame by frame.

use std::any::Any;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::StatusCode;
use http_body::{Body, Frame};
use tokio::time::Instant;

use super::date;
use super::outgoing::Outgoing;
use crate::limit::Memory;
use crate::message::{BodyError, Framed, Meter, Response, ResponseBody, Section, Upgrade, fields_of};
use crate::pipe;
use crate::wire::fields::NameSet;
use crate::wire::{Version, encode};

/// What of the request decides how its answer is written.
#[derive(Debug, Clone, Copy)]
pub(super) struct Asker {
    pub(super) head: bool,
    pub(super) version: Version,
    pub(super) accepts_trailers: bool,
}

/// How the client is told where the body ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Delimiter {
    /// No body is sent.
    None,
    /// `Content-Length`; bytes left.
    Length(u64),
    Chunked,
    /// The connection closes (HTTP/1.0).
    Close,
}

/// State of one answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Progress {
    /// More of the body is to come.
    Going,
    /// All of it is queued.
    Complete,
    /// The body broke: nothing more may be sent, the client must see the cut.
    Cut,
}

/// An answer whose head is queued.
pub(super) struct Reply {
    body: ResponseBody,
    delimiter: Delimiter,
    trailers: bool,
    /// Trailers as the backend wrote them.
    section: Option<Section>,
    /// The connection may serve another request after this.
    pub(super) keep_alive: bool,
    pub(super) upgrade: Option<Upgrade>,
    pub(super) progress: Progress,
    /// Dropped with the reply, after the last byte.
    _guard: Option<Rc<dyn Any>>,
}

impl Reply {
    /// Queues the head of `response`. `keep_alive` is what the connection would allow; `meter` keeps what the head says
    /// of the body, and it is `now`.
    pub(super) fn start(
        mut response: Response,
        asker: Asker,
        keep_alive: bool,
        out: &mut Outgoing,
        (meter, now): (&Meter, Instant),
    ) -> Self {
        let switching = response.head.status == StatusCode::SWITCHING_PROTOCOLS && response.upgrade.is_some();
        if response.head.status.is_informational() && !switching {
            // A handler's mistake; no client could tell where such an answer ends.
            response.head.status = StatusCode::INTERNAL_SERVER_ERROR;
            response.head.reason = None;
            response.close = true;
        }
        let delimiter = delimiter(&response, asker);
        let keep_alive = keep_alive && !response.close && delimiter != Delimiter::Close && !switching;
        out.head(|out| {
            let framed = write_head(out, &response, (delimiter, keep_alive), asker, now);
            meter.framed.set(Some(framed));
        });
        let sends_body = !matches!(delimiter, Delimiter::None | Delimiter::Length(0));
        let mut reply = Self {
            body: if sends_body { response.body } else { ResponseBody::Empty },
            delimiter,
            trailers: asker.accepts_trailers && delimiter == Delimiter::Chunked,
            section: response.trailers,
            keep_alive,
            upgrade: response.upgrade.filter(|_| switching),
            progress: Progress::Going,
            _guard: response.guard,
        };
        if !sends_body {
            reply.progress = Progress::Complete;
        }
        reply
    }

    /// The end of the connection is the end of the answer, so that it tells of no cut.
    pub(super) fn ends_by_close(&self) -> bool {
        self.delimiter == Delimiter::Close
    }

    /// Takes frames of the body while there are any and `out` has room. `pipes`: what bodies may take up, where bytes
    /// can go through pipes.
    pub(super) fn fill(&mut self, cx: &mut Context<'_>, out: &mut Outgoing, pipes: Option<&Memory>) {
        while self.progress == Progress::Going && out.has_room_behind() {
            match self.poll_pipe(cx, out, pipes) {
                Some(Poll::Pending) => return,
                Some(Poll::Ready(())) => {}
                None if !out.has_room() => return,
                None => match Pin::new(&mut self.body).poll_frame(cx) {
                    Poll::Pending => return,
                    Poll::Ready(frame) => self.take(frame, out),
                },
            }
            if self.progress == Progress::Going && self.body.is_end_stream() {
                self.take(None, out);
            }
        }
    }

    /// The next bytes by way of a pipe, where both sides can and it is worth it.
    fn poll_pipe(
        &mut self,
        cx: &mut Context<'_>,
        out: &mut Outgoing,
        pipes: Option<&Memory>,
    ) -> Option<Poll<()>> {
        let Delimiter::Length(left) = &mut self.delimiter else { return None };
        let worth_it = out.has_pipe() || (*left >= pipe::WORTH_IT && self.body.takes_pipe());
        let memory = pipes.filter(|_| worth_it)?;
        match self.body.poll_pipe(cx, out.pipe(memory)?)? {
            Poll::Pending => return Some(Poll::Pending),
            Poll::Ready(Err(_)) => self.progress = Progress::Cut,
            Poll::Ready(Ok(moved)) => match left.checked_sub(moved as u64) {
                Some(rest) => {
                    *left = rest;
                    if rest == 0 {
                        self.progress = Progress::Complete;
                    }
                }
                None => self.progress = Progress::Cut,
            },
        }
        Some(Poll::Ready(()))
    }

    fn take(&mut self, frame: Option<Result<Frame<Bytes>, BodyError>>, out: &mut Outgoing) {
        let Some(Ok(frame)) = frame else {
            let short = frame.is_some() || matches!(self.delimiter, Delimiter::Length(1..));
            self.progress = if short { Progress::Cut } else { Progress::Complete };
            if !short && self.delimiter == Delimiter::Chunked {
                out.last_chunk(None);
            }
            return;
        };
        match frame.into_data() {
            Ok(data) if data.is_empty() => {}
            Ok(data) => match &mut self.delimiter {
                Delimiter::Length(left) if data.len() as u64 > *left => self.progress = Progress::Cut,
                Delimiter::Length(left) => {
                    *left -= data.len() as u64;
                    out.data(data);
                    if *left == 0 {
                        self.progress = Progress::Complete;
                    }
                }
                Delimiter::Chunked => out.chunk(data),
                Delimiter::Close => out.data(data),
                Delimiter::None => {}
            },
            Err(frame) => {
                if self.delimiter == Delimiter::Chunked {
                    let section = self.section.as_ref().and_then(|section| section.get());
                    match (section, frame.trailers_ref()) {
                        (Some(section), _) if self.trailers => out.last_chunk(Some(section)),
                        (None, Some(map)) if self.trailers => out.last_chunk(Some(&fields_of(map))),
                        _ => out.last_chunk(None),
                    }
                }
                let short = matches!(self.delimiter, Delimiter::Length(1..));
                self.progress = if short { Progress::Cut } else { Progress::Complete };
            }
        }
    }
}

fn delimiter(response: &Response, asker: Asker) -> Delimiter {
    let status = response.head.status;
    let bodiless = status == StatusCode::NO_CONTENT || status == StatusCode::NOT_MODIFIED;
    if asker.head || bodiless || status.is_informational() {
        return Delimiter::None;
    }
    match response.body.size_hint().exact() {
        Some(length) => Delimiter::Length(length),
        None if asker.version == Version::Http10 => Delimiter::Close,
        None => Delimiter::Chunked,
    }
}

/// What the writer says itself.
const FRAMING: NameSet = NameSet::new(&["connection", "content-length", "transfer-encoding"]);

fn write_head(
    out: &mut Vec<u8>,
    response: &Response,
    (delimiter, keep_alive): (Delimiter, bool),
    asker: Asker,
    now: Instant,
) -> Framed {
    let head = &response.head;
    out.reserve(head.fields.written_len() + 256);
    encode::status_line(out, head.status, head.reason.as_deref());
    if !head.fields.contains("date") {
        date::write(out, now);
    }
    let told = head.fields.get("content-length");
    if head.fields.may_hold(&FRAMING) {
        head.fields.write(out, |line| !line.is_one_of(&FRAMING));
    } else {
        head.fields.write(out, |_| true);
    }
    let mut said = None;
    match delimiter {
        Delimiter::Length(length) => {
            encode::content_length(out, length);
            said = Some(length);
        }
        Delimiter::Chunked => encode::transfer_chunked(out),
        Delimiter::Close => {}
        Delimiter::None => {
            let may_tell = asker.head || head.status == StatusCode::NOT_MODIFIED;
            let length = response.body.size_hint().exact().filter(|length| *length > 0 && asker.head);
            match (told.filter(|_| may_tell), length) {
                (Some(told), _) => {
                    encode::raw_field(out, "Content-Length", told);
                    said = str::from_utf8(told).ok().and_then(|told| told.parse().ok());
                }
                (None, Some(length)) => {
                    encode::content_length(out, length);
                    said = Some(length);
                }
                (None, None) => {}
            }
        }
    }
    let connection = match head.status {
        StatusCode::SWITCHING_PROTOCOLS => "upgrade",
        _ if keep_alive => "keep-alive",
        _ => "close",
    };
    encode::raw_field(out, "Connection", connection.as_bytes());
    encode::end_of_head(out);
    Framed { length: said, chunked: delimiter == Delimiter::Chunked, connection }
}
