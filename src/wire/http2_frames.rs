//! Counting the frames of one HTTP/2 connection: what keeps a peer from costing more than it asks for
//! (`security.md` D.4).
//!
//! The HTTP/2 library bounds the memory of floods and resets; frames that ask for nothing (PING, SETTINGS, PRIORITY,
//! unknown types, empty DATA, window updates) still cost time each. Here they are counted on the raw bytes. It reads
//! frame headers, has [`BlockWalker`] look at header blocks, and copies nothing. `proxy::http2` feeds it.

use super::http2_block::{BlockWalker, Patch, PseudoInTrailers};

/// Length of a frame header (RFC 9113 section 4.1).
const HEADER: usize = 9;
/// Length of the client's connection preface (RFC 9113 section 3.4).
const PREFACE: usize = 24;
/// Length of the window in which frames are counted, milliseconds.
const WINDOW: u64 = 10_000;
/// Bytes sent to the peer that explain as much as one useful frame: who downloads must send window updates.
const BYTES_PER_USEFUL: u64 = 1024;

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const CONTINUATION: u8 = 9;
const END_HEADERS: u8 = 4;
const PADDED: u8 = 8;
const PRIORITY: u8 = 0x20;
/// Length of what a HEADERS frame says about priority, bytes.
const PRIORITY_LENGTH: usize = 5;
/// RFC 9113 section 7.
const PROTOCOL_ERROR: u32 = 1;
const ENHANCE_YOUR_CALM: u32 = 0xb;

/// What a peer may do in ten seconds (`security.md` D.4).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FrameLimits {
    /// Frames that ask for nothing. Only with more than [`FrameLimits::idle_ratio`] of them for each useful one.
    pub idle: u64,
    /// Idle frames that one useful frame excuses.
    pub idle_ratio: u64,
    /// Streams that the peer opened and reset; only when they are more than half of those it opened.
    pub resets: u64,
    /// CONTINUATION frames of one header block.
    pub continuations: u32,
    /// Bytes of one header block, compressed.
    pub header_block: u32,
}

impl Default for FrameLimits {
    fn default() -> Self {
        Self { idle: 1_000, idle_ratio: 10, resets: 100, continuations: 8, header_block: 64 * 1024 }
    }
}

/// The flood that was seen, or what ends a connection as a flood does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Flood {
    /// Frames that ask for nothing.
    #[error("more HTTP/2 frames that ask for nothing than allowed")]
    Idle,
    /// Streams opened and reset (CVE-2023-44487).
    #[error("more HTTP/2 streams opened and reset than allowed")]
    Resets,
    /// A header block without end (CVE-2024-27316).
    #[error("a longer HTTP/2 header block than allowed")]
    HeaderBlock,
    /// No flood: what breaks the protocol and the library would pass over (RFC 9113 sections 3.4 and 8.1).
    #[error("an HTTP/2 connection without SETTINGS at its start, or pseudo-fields in trailers")]
    Malformed,
}

impl Flood {
    /// A constant word for metric labels.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Idle => "http2-idle-frames",
            Self::Resets => "http2-resets",
            Self::HeaderBlock => "http2-header-block",
            Self::Malformed => "http2-malformed",
        }
    }

    /// The code that GOAWAY says.
    pub const fn code(self) -> u32 {
        match self {
            Self::Idle | Self::Resets | Self::HeaderBlock => ENHANCE_YOUR_CALM,
            Self::Malformed => PROTOCOL_ERROR,
        }
    }
}

/// One frame header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FrameHeader {
    /// Bytes of payload.
    pub length: u32,
    /// Type.
    pub kind: u8,
    /// Flags.
    pub flags: u8,
    /// Stream, 0 for the connection.
    pub stream: u32,
}

/// Finds frame headers in a byte stream that comes in pieces.
#[derive(Debug, Clone)]
pub struct FrameWalker {
    header: [u8; HEADER],
    have: usize,
    /// Bytes that are no header: payload, at the start the preface.
    skip: usize,
}

impl FrameWalker {
    /// For what a client sends.
    pub const fn of_client() -> Self {
        Self { header: [0; HEADER], have: 0, skip: PREFACE }
    }

    /// For what a server sends.
    pub const fn of_server() -> Self {
        Self { header: [0; HEADER], have: 0, skip: 0 }
    }

    /// True between two frames.
    pub const fn at_boundary(&self) -> bool {
        self.have == 0 && self.skip == 0
    }

    /// What of `bytes` belongs to the payload of the frame whose header was seen last.
    fn payload<'b>(&self, bytes: &'b [u8]) -> &'b [u8] {
        bytes.get(..self.skip.min(bytes.len())).unwrap_or(bytes)
    }

    /// The next frame header in `bytes`, which loses what was looked at; `None` when all of it was.
    pub fn next(&mut self, bytes: &mut &[u8]) -> Option<FrameHeader> {
        loop {
            let skipped = self.skip.min(bytes.len());
            self.skip -= skipped;
            *bytes = bytes.get(skipped..)?;
            if bytes.is_empty() {
                return None;
            }
            let taken = (HEADER - self.have).min(bytes.len());
            let (new, rest) = bytes.split_at_checked(taken)?;
            self.header.get_mut(self.have..self.have + taken)?.copy_from_slice(new);
            self.have += taken;
            *bytes = rest;
            if self.have == HEADER {
                self.have = 0;
                let [a, b, c, kind, flags, s0, s1, s2, s3] = self.header;
                let length = u32::from_be_bytes([0, a, b, c]);
                self.skip = usize::try_from(length).unwrap_or(usize::MAX);
                let stream = u32::from_be_bytes([s0 & 0x7f, s1, s2, s3]);
                return Some(FrameHeader { length, kind, flags, stream });
            }
        }
    }
}

/// Judges what a client sends on one connection.
#[derive(Debug)]
pub struct FrameCounter {
    walker: FrameWalker,
    limits: FrameLimits,
    window: u64,
    idle: u64,
    useful: u64,
    sent: u64,
    opened: u64,
    resets: u64,
    /// Highest stream that the client opened.
    last_stream: u32,
    block: u32,
    continuations: u32,
    /// The first frame was seen.
    begun: bool,
    heads: Heads,
}

impl FrameCounter {
    /// A counter that stands before the client's preface.
    pub const fn new(limits: FrameLimits) -> Self {
        Self {
            walker: FrameWalker::of_client(),
            limits,
            window: 0,
            idle: 0,
            useful: 0,
            sent: 0,
            opened: 0,
            resets: 0,
            last_stream: 0,
            block: 0,
            continuations: 0,
            begun: false,
            heads: Heads::new(),
        }
    }

    /// Highest stream that the client opened: what a GOAWAY names.
    pub const fn last_stream(&self) -> u32 {
        self.last_stream
    }

    /// So many bytes went to the client; they excuse the window updates that come back.
    pub const fn sent(&mut self, bytes: usize) {
        self.sent = self.sent.saturating_add(bytes as u64);
    }

    /// Looks at what the client sent. `now` is in milliseconds since any fixed point. A fragment in a `:path` is changed
    /// into what the library refuses the stream for; nothing else is changed.
    ///
    /// # Errors
    /// The limit that was passed; the connection is to be closed with [`Flood::code`].
    pub fn received(&mut self, bytes: &mut [u8], now: u64) -> Result<(), Flood> {
        let window = now / WINDOW;
        if window != self.window {
            self.window = window;
            (self.idle, self.useful, self.sent, self.opened, self.resets) = (0, 0, 0, 0, 0);
        }
        // Hardly ever filled, and then by few.
        let mut patches: Vec<Patch> = Vec::new();
        let mut rest: &[u8] = bytes;
        loop {
            if self.heads.inside {
                let at = bytes.len() - rest.len();
                let payload = self.walker.payload(rest);
                let looked = self.heads.look(payload, |(place, change)| patches.push((at + place, change)));
                looked.map_err(|PseudoInTrailers| Flood::Malformed)?;
            }
            let Some(frame) = self.walker.next(&mut rest) else { break };
            self.count(frame)?;
        }
        for (place, change) in patches {
            if let Some(byte) = bytes.get_mut(place) {
                *byte ^= change;
            }
        }
        Ok(())
    }

    fn count(&mut self, frame: FrameHeader) -> Result<(), Flood> {
        if !self.begun {
            // The client's preface ends with SETTINGS, which ask for nothing and are no flood.
            self.begun = true;
            return if frame.kind == SETTINGS { Ok(()) } else { Err(Flood::Malformed) };
        }
        self.heads.inside = false;
        match frame.kind {
            HEADERS => {
                self.heads.begin(&frame, frame.stream <= self.last_stream);
                if frame.stream > self.last_stream {
                    self.last_stream = frame.stream;
                    self.opened = self.opened.saturating_add(1);
                }
                self.useful = self.useful.saturating_add(1);
                (self.block, self.continuations) = (frame.length, 0);
                self.check_block()
            }
            CONTINUATION => {
                self.heads.go_on(&frame);
                self.block = self.block.saturating_add(frame.length);
                // The last one of a block is not held against it.
                self.continuations =
                    self.continuations.saturating_add(u32::from(frame.flags & END_HEADERS == 0));
                self.check_block()
            }
            DATA if frame.length > 0 => {
                self.useful = self.useful.saturating_add(1);
                Ok(())
            }
            RST_STREAM => {
                self.resets = self.resets.saturating_add(1);
                let most = self.resets.saturating_mul(2) > self.opened;
                if self.resets > self.limits.resets && most { Err(Flood::Resets) } else { Ok(()) }
            }
            _ => {
                self.idle = self.idle.saturating_add(1);
                let useful = self.useful.saturating_add(self.sent / BYTES_PER_USEFUL);
                let excused = useful.saturating_mul(self.limits.idle_ratio);
                if self.idle > self.limits.idle && self.idle > excused { Err(Flood::Idle) } else { Ok(()) }
            }
        }
    }

    const fn check_block(&self) -> Result<(), Flood> {
        if self.block > self.limits.header_block || self.continuations > self.limits.continuations {
            return Err(Flood::HeaderBlock);
        }
        Ok(())
    }
}

/// Where the bytes of header blocks lie in the frames that carry them.
#[derive(Debug)]
struct Heads {
    /// The present frame carries a piece of a block.
    inside: bool,
    walker: BlockWalker,
    /// The length of the padding comes first.
    padded: bool,
    /// Bytes before the piece.
    before: usize,
    /// Bytes of the piece.
    piece: usize,
}

impl Heads {
    const fn new() -> Self {
        Self { inside: false, walker: BlockWalker::new(false), padded: false, before: 0, piece: 0 }
    }

    fn begin(&mut self, frame: &FrameHeader, trailers: bool) {
        self.walker = BlockWalker::new(trailers);
        self.go_on(frame);
        self.padded = frame.flags & PADDED != 0;
        self.before = if frame.flags & PRIORITY == 0 { 0 } else { PRIORITY_LENGTH };
        self.piece = self.piece.saturating_sub(self.before);
    }

    fn go_on(&mut self, frame: &FrameHeader) {
        self.inside = true;
        (self.padded, self.before) = (false, 0);
        self.piece = usize::try_from(frame.length).unwrap_or(usize::MAX);
    }

    fn look(&mut self, payload: &[u8], mut patch: impl FnMut(Patch)) -> Result<(), PseudoInTrailers> {
        let mut rest = payload;
        if self.padded {
            let Some((padding, after)) = rest.split_first() else { return Ok(()) };
            self.padded = false;
            self.piece = self.piece.saturating_sub(1 + usize::from(*padding));
            rest = after;
        }
        let skipped = self.before.min(rest.len());
        self.before -= skipped;
        rest = rest.get(skipped..).unwrap_or(&[]);
        let taken = self.piece.min(rest.len());
        self.piece -= taken;
        let at = payload.len() - rest.len();
        let piece = rest.get(..taken).unwrap_or(&[]);
        self.walker.walk(piece, |(place, change)| patch((at + place, change)))
    }
}

#[cfg(test)]
mod tests;
