//! The server side of one HTTP/2 connection (RFC 9113) without its socket: bytes in, events and bytes out.
//!
//! It owns frames, HPACK, settings, the states of streams, flow control both ways, GOAWAY, and what each violation costs:
//! the stream or the connection. It knows neither handlers nor clocks; `proxy::http2` drives it. Priorities are read and
//! not followed (RFC 9113 section 5.3.2).

use std::collections::VecDeque;

use self::flood::FrameCounter;
use self::frame::{
    ACK, CONTINUATION, DATA, FrameHeader, GOAWAY, HEADER, HEADERS, MAX_PAYLOAD, PING, PREFACE, PRIORITY,
    PUSH_PROMISE, RST_STREAM, SETTINGS, WINDOW_UPDATE, number,
};
use self::streams::Streams;
use super::fields::Fields;
use super::head::RequestHead;
use super::hpack::{Decoder, Encoder};
use super::request::HeadLimits;
use super::verdict::Reject;

mod flood;
mod flow;
mod frame;
mod heads;
mod output;
mod settings;
mod streams;

pub use flood::{Flood, FrameLimits};
pub use frame::Code;
pub use output::Output;

/// What the peer may send on all streams together before anybody reads it, bytes.
const CONNECTION_WINDOW: u32 = 1024 * 1024;
/// Windows before anybody said anything (RFC 9113 section 6.9.2).
const FIRST_WINDOW: u32 = 65_535;
/// Size of the table that the peer may use for its heads: what it may use unasked (RFC 7541).
const HEADER_TABLE: u32 = 4_096;
/// A header block that unfolds into so many times the largest header list ends the connection instead of its stream:
/// references to a table make a long list of a short block.
const UNFOLDED: usize = 4;
/// Streams that were reset and whose last frames may still be under way.
const REMEMBERED: usize = 256;
/// Payload of the PING between the two GOAWAYs of a graceful end.
const FAREWELL: [u8; 8] = *b"farewell";
/// Payload of the PING that looks whether the peer is there.
const PRESENCE: [u8; 8] = *b"presence";

/// Limits of one connection.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Open streams.
    pub streams: u32,
    /// Largest decoded header list, bytes.
    pub header_list: u32,
    /// Window of each stream, bytes.
    pub window: u32,
    /// Lines and fields of a head.
    pub head: HeadLimits,
    /// Floods.
    pub frames: FrameLimits,
    /// Resets that the peer may provoke (CVE-2025-8671).
    pub provoked_resets: usize,
}

/// What a frame means for whoever serves the streams.
#[derive(Debug)]
pub enum Event<'b> {
    /// A stream was opened.
    Request {
        /// Where the stream stands from now on until it is over.
        place: usize,
        /// Its head.
        head: Box<RequestHead>,
        /// What is wrong with the head, to be answered.
        refused: Option<Reject>,
        /// No body follows.
        ended: bool,
        /// `Content-Length`.
        length: Option<u64>,
    },
    /// A piece of a body. What is used up of it is given back with [`Session::consumed`].
    Data {
        /// Stream.
        place: usize,
        /// The piece, without padding.
        data: &'b [u8],
        /// It is the last one.
        ended: bool,
    },
    /// The end of a body that has trailers.
    Trailers {
        /// Stream.
        place: usize,
        /// Its lines.
        fields: Fields,
    },
    /// The stream is over, by the peer or by an error of its own.
    Reset {
        /// Where it stood.
        place: usize,
    },
    /// A stream that [`Session::wait`] was called for may send again.
    Room {
        /// Stream.
        place: usize,
    },
    /// All streams may.
    RoomForAll,
}

/// The end of a connection. GOAWAY stands in the output.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fatal {
    /// What GOAWAY says.
    pub code: Code,
    /// The limit that was passed.
    pub flood: Option<Flood>,
}

/// What is wrong with a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fault {
    Stream(u32, Code),
    Connection(Code),
    Flood(Flood),
}

impl From<Flood> for Fault {
    fn from(flood: Flood) -> Self {
        Self::Flood(flood)
    }
}

/// How far the peer's preface came (RFC 9113 section 3.4).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Begun {
    Nothing,
    Preface,
    Settings,
}

/// How far we took our leave (RFC 9113 section 6.8).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Leave {
    Not,
    /// Told that it is coming: no stream is lost that is under way.
    Announced,
    /// Streams above this one are not served.
    Taken(u32),
}

/// A header block whose end has not come.
#[derive(Debug)]
struct Block {
    stream: u32,
    ended: bool,
    depends_on_itself: bool,
    bytes: Vec<u8>,
}

/// One connection.
#[derive(Debug)]
pub struct Session {
    limits: Limits,
    decoder: Decoder,
    encoder: Encoder,
    /// What is to be written.
    pub output: Output,
    streams: Streams,
    floods: FrameCounter,
    begun: Begun,
    /// Highest stream that the peer opened.
    last: u32,
    block: Option<Box<Block>>,
    /// What the peer takes on all streams together.
    send_window: i64,
    /// What it takes on a new stream.
    first_send_window: i64,
    /// What the peer may send on all streams together.
    window: i64,
    owed: u32,
    /// What it may send on a new stream: ours once it has acknowledged our settings.
    first_window: u32,
    provoked: usize,
    reset: VecDeque<u32>,
    leave: Leave,
    /// The peer said GOAWAY.
    peer_leaves: bool,
    served: u64,
}

impl Session {
    /// A connection whose peer has said nothing. Our settings stand in the output.
    pub fn new(limits: Limits) -> Self {
        let mut session = Self {
            decoder: Decoder::new(HEADER_TABLE).with_most_list(UNFOLDED * limits.header_list as usize),
            encoder: Encoder::new(),
            output: Output::default(),
            streams: Streams::default(),
            floods: FrameCounter::new(limits.frames),
            begun: Begun::Nothing,
            last: 0,
            block: None,
            send_window: i64::from(FIRST_WINDOW),
            first_send_window: i64::from(FIRST_WINDOW),
            window: i64::from(CONNECTION_WINDOW),
            owed: 0,
            first_window: FIRST_WINDOW,
            provoked: 0,
            reset: VecDeque::new(),
            leave: Leave::Not,
            peer_leaves: false,
            served: 0,
            limits,
        };
        session.say_settings();
        session
    }

    /// Takes the next frames out of `input` until one means something; `None` when the rest of `input` is no whole frame.
    /// `now` is in milliseconds since any fixed point.
    ///
    /// # Errors
    /// The connection is over; GOAWAY stands in the output.
    pub fn next<'b>(&mut self, input: &mut &'b [u8], now: u64) -> Result<Option<Event<'b>>, Fatal> {
        self.floods.at(now);
        loop {
            let taken = self.take(input).and_then(|frame| match frame {
                None => Ok(None),
                Some((header, payload)) => self.frame(header, payload).map(Some),
            });
            match taken {
                Ok(None) => return Ok(None),
                Ok(Some(None)) => {}
                Ok(Some(Some(event))) => return Ok(Some(event)),
                Err(fault) => {
                    if let Some(place) = self.charge(fault)? {
                        return Ok(Some(Event::Reset { place }));
                    }
                }
            }
        }
    }

    /// The next whole frame.
    fn take<'b>(&mut self, input: &mut &'b [u8]) -> Result<Option<(FrameHeader, &'b [u8])>, Fault> {
        if self.begun == Begun::Nothing {
            let known = input.len().min(PREFACE.len());
            if input.get(..known) != PREFACE.get(..known) {
                return Err(Fault::Connection(Code::PROTOCOL_ERROR));
            }
            let Some(rest) = input.get(PREFACE.len()..) else { return Ok(None) };
            *input = rest;
            self.begun = Begun::Preface;
        }
        let Some(header) = FrameHeader::read(input) else { return Ok(None) };
        if self.begun == Begun::Preface && header.kind != SETTINGS {
            return Err(Fault::Flood(Flood::Malformed));
        }
        if header.length > MAX_PAYLOAD {
            return Err(Fault::Connection(Code::FRAME_SIZE_ERROR));
        }
        let Some(payload) = input.get(HEADER..HEADER + header.length) else { return Ok(None) };
        *input = input.get(HEADER + header.length..).unwrap_or(&[]);
        if self.begun == Begun::Preface {
            // It ends the client's preface: it asks for nothing and is no flood.
            self.begun = Begun::Settings;
        } else {
            self.floods.count(&header, payload, header.stream > self.last)?;
        }
        Ok(Some((header, payload)))
    }

    fn frame<'b>(&mut self, header: FrameHeader, payload: &'b [u8]) -> Result<Option<Event<'b>>, Fault> {
        if let Some(block) = &self.block
            && (header.kind != CONTINUATION || header.stream != block.stream)
        {
            return Err(Fault::Connection(Code::PROTOCOL_ERROR));
        }
        match header.kind {
            DATA => self.data(header, payload),
            HEADERS => self.headers(header, payload),
            CONTINUATION => self.continuation(header, payload),
            WINDOW_UPDATE => self.window_update(header, payload),
            RST_STREAM => self.rst_stream(header, payload),
            SETTINGS => self.settings(header, payload),
            PING => self.ping_frame(header, payload),
            PRIORITY => self.priority(header, payload),
            GOAWAY if header.stream != 0 => Err(Fault::Connection(Code::PROTOCOL_ERROR)),
            GOAWAY if payload.len() < 8 => Err(Fault::Connection(Code::FRAME_SIZE_ERROR)),
            GOAWAY => {
                self.peer_leaves = true;
                Ok(None)
            }
            PUSH_PROMISE => Err(Fault::Connection(Code::PROTOCOL_ERROR)),
            // RFC 9113 section 5.5.
            _ => Ok(None),
        }
    }

    /// Says what a violation costs; the place of a stream that is over by it.
    fn charge(&mut self, fault: Fault) -> Result<Option<usize>, Fatal> {
        let (code, flood) = match fault {
            Fault::Stream(id, code) => {
                self.provoked += 1;
                if self.provoked <= self.limits.provoked_resets {
                    let place = self.streams.find(id);
                    self.say_reset(id, code);
                    place.into_iter().for_each(|place| self.streams.close(place));
                    return Ok(place);
                }
                (Code::ENHANCE_YOUR_CALM, None)
            }
            Fault::Connection(code) => (code, None),
            Fault::Flood(flood) => (flood.code(), Some(flood)),
        };
        self.abort(code);
        Err(Fatal { code, flood })
    }

    /// A stream that was idle is over by that, too (RFC 9113 section 5.1.1).
    fn say_reset(&mut self, id: u32, code: Code) {
        self.last = self.last.max(id);
        self.output.frame(RST_STREAM, 0, id, &code.0.to_be_bytes());
        if self.reset.len() >= REMEMBERED {
            self.reset.pop_front();
        }
        self.reset.push_back(id);
    }

    fn say_goaway(&mut self, last: u32, code: Code) {
        let [l0, l1, l2, l3] = last.to_be_bytes();
        let [c0, c1, c2, c3] = code.0.to_be_bytes();
        self.output.frame(GOAWAY, 0, 0, &[l0, l1, l2, l3, c0, c1, c2, c3]);
    }

    fn rst_stream<'b>(&mut self, header: FrameHeader, payload: &[u8]) -> Result<Option<Event<'b>>, Fault> {
        if payload.len() != 4 {
            return Err(Fault::Connection(Code::FRAME_SIZE_ERROR));
        }
        self.refuse_idle(header.stream)?;
        let Some(place) = self.streams.find(header.stream) else { return Ok(None) };
        self.streams.close(place);
        Ok(Some(Event::Reset { place }))
    }

    fn priority<'b>(&mut self, header: FrameHeader, payload: &[u8]) -> Result<Option<Event<'b>>, Fault> {
        if header.stream == 0 {
            return Err(Fault::Connection(Code::PROTOCOL_ERROR));
        }
        if payload.len() != 5 {
            return Err(Fault::Stream(header.stream, Code::FRAME_SIZE_ERROR));
        }
        if depends_on(payload) == Some(header.stream) {
            return Err(Fault::Stream(header.stream, Code::PROTOCOL_ERROR));
        }
        Ok(None)
    }

    fn ping_frame<'b>(&mut self, header: FrameHeader, payload: &[u8]) -> Result<Option<Event<'b>>, Fault> {
        if header.stream != 0 {
            return Err(Fault::Connection(Code::PROTOCOL_ERROR));
        }
        if payload.len() != 8 {
            return Err(Fault::Connection(Code::FRAME_SIZE_ERROR));
        }
        if !header.has(ACK) {
            self.output.frame(PING, ACK, 0, payload);
        } else if payload == FAREWELL {
            self.leave();
        }
        Ok(None)
    }

    /// A stream that nobody opened takes no frames (RFC 9113 section 5.1).
    fn refuse_idle(&self, id: u32) -> Result<(), Fault> {
        if id == 0 || id > self.last || id.is_multiple_of(2) {
            return Err(Fault::Connection(Code::PROTOCOL_ERROR));
        }
        Ok(())
    }

    /// The stream was reset by us, or came too late: what the peer sent before it knew is no fault.
    fn is_forgiven(&self, id: u32) -> bool {
        matches!(self.leave, Leave::Taken(last) if id > last) || self.reset.contains(&id)
    }

    /// Asks the peer whether it is there.
    pub fn ping(&mut self) {
        self.output.frame(PING, 0, 0, &PRESENCE);
    }

    /// Announces the end: streams that are under way, and those of a peer that has not heard, are served.
    pub fn retire(&mut self) {
        if self.leave == Leave::Not {
            self.leave = Leave::Announced;
            self.say_goaway(0x7fff_ffff, Code::NO_ERROR);
            self.output.frame(PING, 0, 0, &FAREWELL);
        }
    }

    /// Takes the leave that was announced: streams opened from now on are not served. False when there is none to take.
    pub fn leave(&mut self) -> bool {
        let announced = self.leave == Leave::Announced;
        if announced {
            self.leave = Leave::Taken(self.last);
            self.say_goaway(self.last, Code::NO_ERROR);
        }
        announced
    }

    /// Ends the connection at once. No later GOAWAY names a higher stream (RFC 9113 section 6.8).
    pub fn abort(&mut self, code: Code) {
        let last = if let Leave::Taken(taken) = self.leave { taken } else { self.last };
        self.say_goaway(last, code);
    }

    /// Ends a stream. Nothing happens when it is over.
    pub fn reset(&mut self, place: usize, code: Code) {
        if let Some(id) = self.streams.peek(place).map(|stream| stream.id) {
            self.say_reset(id, code);
            self.streams.close(place);
        }
    }

    /// The stream has something to send or to receive.
    pub fn is_open(&self, place: usize) -> bool {
        self.streams.peek(place).is_some()
    }

    /// Open streams.
    pub fn open(&self) -> usize {
        self.streams.len()
    }

    /// Streams that were opened and not refused.
    pub fn served(&self) -> u64 {
        self.served
    }

    /// One side has taken its leave, and nothing is left to be served.
    pub fn is_done(&self) -> bool {
        (self.peer_leaves || matches!(self.leave, Leave::Taken(_))) && self.streams.len() == 0
    }

    /// So many bytes of the output went to the peer.
    pub fn wrote(&mut self, bytes: usize) {
        self.floods.sent(bytes);
        self.output.advance(bytes);
    }
}

/// What a stream is to depend on, at the start of `payload`.
fn depends_on(payload: &[u8]) -> Option<u32> {
    number(payload).map(|stream| stream & 0x7fff_ffff)
}

#[cfg(test)]
mod tests;
