//! HTTP/2 by hand: frames as bytes, and what a server sends taken apart far enough to judge it.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

/// What a client sends first.
pub const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// Frame types (RFC 9113 section 6).
pub const DATA: u8 = 0;
pub const HEADERS: u8 = 1;
pub const PRIORITY: u8 = 2;
pub const RST_STREAM: u8 = 3;
pub const SETTINGS: u8 = 4;
pub const PING: u8 = 6;
pub const GOAWAY: u8 = 7;
pub const WINDOW_UPDATE: u8 = 8;
pub const CONTINUATION: u8 = 9;
/// Flags.
pub const END_STREAM: u8 = 1;
pub const END_HEADERS: u8 = 4;

/// One frame.
pub fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).expect("a short payload").to_be_bytes();
    let mut bytes = vec![length[1], length[2], length[3], kind, flags];
    bytes.extend(stream.to_be_bytes());
    bytes.extend(payload);
    bytes
}

/// A field section of literals that change no table (RFC 7541 section 6.2.2); short names and values only.
pub fn literals(fields: &[(&str, &str)]) -> Vec<u8> {
    let mut block = Vec::new();
    for (name, value) in fields {
        block.push(0);
        for text in [name, value] {
            block.push(u8::try_from(text.len()).ok().filter(|length| *length < 127).expect("a short text"));
            block.extend(text.as_bytes());
        }
    }
    block
}

/// A request without body for `target` on `h.test`.
pub fn get(stream: u32, target: &str) -> Vec<u8> {
    request(stream, &[(":method", "GET"), (":scheme", "http"), (":path", target), (":authority", "h.test")])
}

/// A request without body.
pub fn request(stream: u32, fields: &[(&str, &str)]) -> Vec<u8> {
    frame(HEADERS, END_STREAM | END_HEADERS, stream, &literals(fields))
}

/// What a server sent.
#[derive(Debug, Default)]
pub struct Seen {
    at: usize,
    /// Statuses of streams whose `:status` is an entry of the static table or a plain literal.
    pub status: BTreeMap<u32, u16>,
    /// Bytes of DATA of streams.
    pub data: BTreeMap<u32, usize>,
    /// Codes of RST_STREAM.
    pub reset: BTreeMap<u32, u32>,
    /// Streams that ended.
    pub ended: Vec<u32>,
    /// Code of GOAWAY.
    pub goaway: Option<u32>,
    /// Frames in all.
    pub frames: usize,
}

impl Seen {
    /// Takes in what is new in all bytes received so far.
    pub fn feed(&mut self, bytes: &[u8]) {
        while let Some(header) = bytes.get(self.at..self.at + 9) {
            let length = usize::from(header[0]) << 16 | usize::from(header[1]) << 8 | usize::from(header[2]);
            let Some(payload) = bytes.get(self.at + 9..self.at + 9 + length) else { return };
            let stream = u32::from_be_bytes([header[5] & 0x7f, header[6], header[7], header[8]]);
            self.at += 9 + length;
            self.frames += 1;
            match header[3] {
                DATA => *self.data.entry(stream).or_default() += length,
                HEADERS => {
                    if let Some(status) = status(payload) {
                        self.status.entry(stream).or_insert(status);
                    }
                }
                RST_STREAM => {
                    self.reset.insert(stream, code(payload, 0));
                }
                GOAWAY => self.goaway = Some(code(payload, 4)),
                _ => {}
            }
            if header[3] <= HEADERS && header[4] & END_STREAM != 0 {
                self.ended.push(stream);
            }
        }
    }
}

fn code(payload: &[u8], at: usize) -> u32 {
    payload.get(at..at + 4).and_then(|bytes| bytes.try_into().ok()).map_or(0, u32::from_be_bytes)
}

/// `:status` comes first: an entry of the static table, a literal of three digits, or their Huffman code.
fn status(block: &[u8]) -> Option<u16> {
    let block = match block {
        [update, rest @ ..] if update & 0xe0 == 0x20 => rest,
        block => block,
    };
    match block {
        [0x88, ..] => Some(200),
        [0x89, ..] => Some(204),
        [0x8a, ..] => Some(206),
        [0x8b, ..] => Some(304),
        [0x8c, ..] => Some(400),
        [0x8d, ..] => Some(404),
        [0x8e, ..] => Some(500),
        [_, 3, a, b, c, ..] => std::str::from_utf8(&[*a, *b, *c]).ok()?.parse().ok(),
        [_, length, rest @ ..] if length & 0x80 != 0 => digits(rest.get(..usize::from(length & 0x7f))?),
        _ => None,
    }
}

/// Huffman-coded digits (RFC 7541 appendix B).
fn digits(bytes: &[u8]) -> Option<u16> {
    let (mut number, mut count, mut code, mut length) = (0_u16, 0, 0_u8, 0);
    for bit in bytes.iter().flat_map(|byte| (0..8).rev().map(move |bit| byte >> bit & 1)) {
        code = code << 1 | bit;
        length += 1;
        let digit = match (length, code) {
            (5, 0..=2) => code,
            (6, 0x19..=0x1f) => code - 0x19 + 3,
            (8.., _) => return None,
            _ => continue,
        };
        number = number * 10 + u16::from(digit);
        count += 1;
        (code, length) = (0, 0);
        if count == 3 {
            return Some(number);
        }
    }
    None
}

/// A connection with prior knowledge whose frames the test writes itself.
pub struct Frames {
    stream: TcpStream,
    bytes: Vec<u8>,
    /// What came back.
    pub seen: Seen,
    /// The server closed, or reset, the connection.
    pub closed: bool,
}

impl Frames {
    /// Connects and sends preface and empty SETTINGS.
    pub fn connect(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).expect("connected");
        stream.set_nodelay(true).expect("nodelay set");
        stream.set_read_timeout(Some(Duration::from_millis(20))).expect("timeout set");
        stream.set_write_timeout(Some(Duration::from_millis(200))).expect("timeout set");
        let mut frames = Self { stream, bytes: Vec::new(), seen: Seen::default(), closed: false };
        frames.send(&[PREFACE, &frame(SETTINGS, 0, 0, &[])].concat());
        frames
    }

    /// Writes; false when the server takes no more.
    pub fn send(&mut self, bytes: &[u8]) -> bool {
        self.stream.write_all(bytes).is_ok()
    }

    /// Reads what is there now.
    pub fn read(&mut self) {
        let mut part = [0; 64 * 1024];
        match self.stream.read(&mut part) {
            Ok(0) => self.closed = true,
            Ok(count) => self.bytes.extend_from_slice(&part[..count]),
            Err(error) => {
                self.closed |=
                    !matches!(error.kind(), std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut);
            }
        }
        self.seen.feed(&self.bytes);
    }

    /// Reads until the condition holds; the test fails after ten seconds.
    pub fn until(&mut self, what: &str, condition: impl Fn(&Self) -> bool) {
        let start = Instant::now();
        while !condition(self) {
            assert!(start.elapsed() < Duration::from_secs(10), "{what} did not come: {:?}", self.seen);
            self.read();
        }
    }
}
