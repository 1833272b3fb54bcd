//! HEADERS and CONTINUATION in both directions: requests, trailers, answers (RFC 9113 sections 6.2, 6.10 and 8.1).

use super::frame::{
    CONTINUATION, Code, END_HEADERS, END_STREAM, FrameHeader, HAS_PRIORITY, HEADER, HEADERS, MAX_PAYLOAD,
    unpadded,
};
use super::streams::Stream;
use super::{Block, Event, Fault, Leave, Session, depends_on};
use crate::wire::fields::{Fields, NameSet};
use crate::wire::hpack::{Discard, Sink};
use crate::wire::http2_head::{HeadDraft, TakenHead, TrailerDraft};

/// Bytes of what a HEADERS frame says of priority.
const PRIORITY_LENGTH: usize = 5;

/// RFC 9113 section 8.2.2: no connection-specific field may cross into HTTP/2.
const CONNECTION_SPECIFIC: NameSet =
    NameSet::new(&["connection", "keep-alive", "proxy-connection", "transfer-encoding", "upgrade"]);

impl Session {
    pub(super) fn headers<'b>(
        &mut self,
        header: FrameHeader,
        payload: &[u8],
    ) -> Result<Option<Event<'b>>, Fault> {
        if header.stream.is_multiple_of(2) {
            return Err(Fault::Connection(Code::PROTOCOL_ERROR));
        }
        let mut block = unpadded(header, payload).ok_or(Fault::Connection(Code::PROTOCOL_ERROR))?;
        let mut depends_on_itself = false;
        if header.has(HAS_PRIORITY) {
            depends_on_itself = depends_on(block) == Some(header.stream);
            block = block.get(PRIORITY_LENGTH..).ok_or(Fault::Connection(Code::FRAME_SIZE_ERROR))?;
        }
        let ended = header.has(END_STREAM);
        if header.has(END_HEADERS) {
            return self.head(header.stream, ended, depends_on_itself, block);
        }
        let bytes = block.to_vec();
        self.block = Some(Box::new(Block { stream: header.stream, ended, depends_on_itself, bytes }));
        Ok(None)
    }

    pub(super) fn continuation<'b>(
        &mut self,
        header: FrameHeader,
        payload: &[u8],
    ) -> Result<Option<Event<'b>>, Fault> {
        let mut block = self.block.take().ok_or(Fault::Connection(Code::PROTOCOL_ERROR))?;
        block.bytes.extend_from_slice(payload);
        if header.has(END_HEADERS) {
            return self.head(block.stream, block.ended, block.depends_on_itself, &block.bytes);
        }
        self.block = Some(block);
        Ok(None)
    }

    /// A whole header block. It is decoded whatever becomes of it: the table of the peer goes on.
    fn head<'b>(
        &mut self,
        id: u32,
        ended: bool,
        depends_on_itself: bool,
        block: &[u8],
    ) -> Result<Option<Event<'b>>, Fault> {
        if let Some(place) = self.streams.find(id) {
            return self.trailers(id, place, ended, block);
        }
        if id <= self.last {
            self.decode(block, &mut Discard)?;
            let forgiven = self.is_forgiven(id);
            return if forgiven { Ok(None) } else { Err(Fault::Connection(Code::STREAM_CLOSED)) };
        }
        self.last = id;
        if matches!(self.leave, Leave::Taken(_)) {
            self.decode(block, &mut Discard)?;
            return Ok(None);
        }
        if self.streams.len() >= usize::try_from(self.limits.streams).unwrap_or(usize::MAX) {
            self.decode(block, &mut Discard)?;
            return Err(Fault::Stream(id, Code::REFUSED_STREAM));
        }
        let mut draft = HeadDraft::new(self.limits.header_list);
        self.decode(block, &mut draft)?;
        let malformed = Fault::Stream(id, Code::PROTOCOL_ERROR);
        let TakenHead { head, refused, content_length } =
            draft.finish(&self.limits.head, ended).map_err(|_| malformed)?;
        if depends_on_itself
            || (ended && refused.is_none() && content_length.is_some_and(|length| length > 0))
        {
            return Err(malformed);
        }
        let place = self.streams.open(Stream {
            id,
            receives: !ended,
            sends: true,
            send_window: self.first_send_window,
            window: i64::from(self.first_window),
            owed: 0,
            left: content_length,
            waits: false,
        });
        self.served = self.served.saturating_add(1);
        Ok(Some(Event::Request { place, head: Box::new(head), refused, ended, length: content_length }))
    }

    fn trailers<'b>(
        &mut self,
        id: u32,
        place: usize,
        ended: bool,
        block: &[u8],
    ) -> Result<Option<Event<'b>>, Fault> {
        let mut draft = TrailerDraft::new(self.limits.header_list);
        self.decode(block, &mut draft)?;
        let malformed = Fault::Stream(id, Code::PROTOCOL_ERROR);
        let stream = self.streams.at(place).filter(|stream| stream.receives);
        let stream = stream.ok_or(Fault::Stream(id, Code::STREAM_CLOSED))?;
        let fields = draft.finish().map_err(|_| malformed)?;
        if !ended || stream.left.is_some_and(|left| left > 0) {
            return Err(malformed);
        }
        self.end_of_request(place);
        Ok(Some(Event::Trailers { place, fields }))
    }

    fn decode(&mut self, block: &[u8], sink: &mut impl Sink) -> Result<(), Fault> {
        self.decoder.decode(block, sink).map_err(|_| Fault::Connection(Code::COMPRESSION_ERROR))
    }

    /// Writes the head of an answer; `end`: nothing follows.
    pub fn answer(&mut self, place: usize, status: u16, fields: &Fields, end: bool) {
        self.write_head(place, Some(status), fields, end);
    }

    /// Ends an answer with a trailer section.
    pub fn end_with(&mut self, place: usize, trailers: &Fields) {
        self.write_head(place, None, trailers, true);
    }

    fn write_head(&mut self, place: usize, status: Option<u16>, fields: &Fields, end: bool) {
        let Some(id) = self.streams.peek(place).map(|stream| stream.id) else { return };
        let text = self.output.text();
        let start = text.len();
        text.extend_from_slice(&[0; HEADER]);
        self.encoder.begin(text);
        if let Some(status) = status {
            self.encoder.status(status, text);
        }
        let specific = fields.may_hold(&CONNECTION_SPECIFIC);
        for line in fields.lines() {
            if !(specific && line.is_one_of(&CONNECTION_SPECIFIC)) {
                self.encoder.line(line, text);
            }
        }
        let flags = if end { END_STREAM } else { 0 };
        frame_block(text, start, flags, id);
        if end {
            self.end_of_answer(place);
        }
    }
}

/// Gives the block behind an empty frame header at `start` its header, and cuts it where it is too long for a frame.
fn frame_block(text: &mut Vec<u8>, start: usize, flags: u8, stream: u32) {
    let longest = MAX_PAYLOAD;
    let length = text.len().saturating_sub(start + HEADER);
    let whole = if length <= longest { END_HEADERS } else { 0 };
    let header =
        FrameHeader { length: length.min(longest), kind: HEADERS, flags: flags | whole, stream }.bytes();
    if let Some(room) = text.get_mut(start..start + HEADER) {
        room.copy_from_slice(&header);
    }
    if whole == END_HEADERS {
        return;
    }
    let rest = text.split_off(start + HEADER + longest);
    let mut pieces = rest.chunks(longest).peekable();
    while let Some(piece) = pieces.next() {
        let flags = if pieces.peek().is_none() { END_HEADERS } else { 0 };
        let header = FrameHeader { length: piece.len(), kind: CONTINUATION, flags, stream };
        text.extend_from_slice(&header.bytes());
        text.extend_from_slice(piece);
    }
}
