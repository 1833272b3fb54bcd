//! Decoder of the chunked transfer coding (RFC 9112 section 7.1) by rules H1-08 and H1-09.
//!
//! A byte-level state machine over whatever slices come; tells where data lies in the slice and copies none of it.
//! Extensions are checked and dropped. Trailers become [`Fields`] of their own and are never merged into a head;
//! which of them may be forwarded is the caller's decision.

use std::ops::Range;

use http::StatusCode;

use super::fields::{Fields, is_tchar};
use super::line::{find_control, split_field};
use super::verdict::Reject;

/// Largest size of a chunk, bytes.
const LARGEST: u64 = i64::MAX as u64;

/// What framing may cost beside the data.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ChunkLimits {
    /// Bytes of chunk extensions in one message. 4 KiB.
    pub extensions: u64,
    /// Framing bytes allowed whatever the data. 16 KiB.
    pub overhead: u64,
    /// Framing bytes allowed for each byte of data. 16.
    pub overhead_ratio: u64,
    /// Trailer lines. 32.
    pub trailer_fields: usize,
    /// Bytes of the trailer section. 8 KiB.
    pub trailer_bytes: usize,
}

impl Default for ChunkLimits {
    fn default() -> Self {
        Self {
            extensions: 4 * 1024,
            overhead: 16 * 1024,
            overhead_ratio: 16,
            trailer_fields: 32,
            trailer_bytes: 8 * 1024,
        }
    }
}

/// How exact the sender must be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Leniency {
    /// Clients: the grammar and nothing else.
    Strict,
    /// Backends: a bare LF ends a line, white space may follow a size.
    Backend,
}

/// What a body decoder found in a slice.
#[derive(Debug, PartialEq, Eq)]
pub enum Step {
    /// The whole slice is taken, no data was in it; come back with more bytes.
    More,
    /// Data at this range; the slice is taken up to the range's end.
    Data(Range<usize>),
    /// The body is complete; so many bytes of the slice were its last. The rest is the next message.
    End(usize),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    SizeStart,
    Size(u8),
    SizeSpace,
    ExtNameStart,
    ExtName,
    ExtValueStart,
    ExtToken,
    ExtQuoted,
    ExtEscape,
    ExtQuotedEnd,
    SizeLf,
    Data,
    DataCr,
    DataLf,
    Trailer,
    TrailerLf,
    Done,
}

impl State {
    const fn in_extension(self) -> bool {
        matches!(
            self,
            Self::ExtNameStart
                | Self::ExtName
                | Self::ExtValueStart
                | Self::ExtToken
                | Self::ExtQuoted
                | Self::ExtEscape
                | Self::ExtQuotedEnd
        )
    }
}

/// Decoder of one chunked body.
#[derive(Debug)]
pub struct ChunkedDecoder {
    state: State,
    leniency: Leniency,
    limits: ChunkLimits,
    left: u64,
    data: u64,
    overhead: u64,
    extensions: u64,
    section: usize,
    line: Vec<u8>,
    trailers: Fields,
}

impl ChunkedDecoder {
    /// A decoder that stands before the first chunk.
    pub fn new(leniency: Leniency, limits: ChunkLimits) -> Self {
        Self {
            state: State::SizeStart,
            leniency,
            limits,
            left: 0,
            data: 0,
            overhead: 0,
            extensions: 0,
            section: 0,
            line: Vec::new(),
            trailers: Fields::new(),
        }
    }

    /// Bytes of data seen and announced so far.
    pub fn announced(&self) -> u64 {
        self.data.saturating_add(self.left)
    }

    /// True once the last byte of the body was seen.
    pub fn is_done(&self) -> bool {
        self.state == State::Done
    }

    /// The trailer section; complete after [`Step::End`].
    pub fn trailers(&self) -> &Fields {
        &self.trailers
    }

    /// Takes the trailer section out.
    pub fn take_trailers(&mut self) -> Fields {
        std::mem::take(&mut self.trailers)
    }

    /// Goes on with `buf`, the bytes after those that the last step took.
    ///
    /// # Errors
    /// [`Reject`] with rule H1-08 or H1-09; the decoder must not be used after it.
    pub fn decode(&mut self, buf: &[u8]) -> Result<Step, Reject> {
        let mut at = 0;
        loop {
            match self.state {
                State::Done => return Ok(Step::End(at)),
                State::Data => {
                    let rest = buf.len().saturating_sub(at);
                    let take = usize::try_from(self.left).unwrap_or(usize::MAX).min(rest);
                    if take == 0 {
                        return Ok(Step::More);
                    }
                    self.left -= take as u64;
                    self.data = self.data.saturating_add(take as u64);
                    if self.left == 0 {
                        self.state = State::DataCr;
                    }
                    return Ok(Step::Data(at..at + take));
                }
                State::Trailer => match self.trailer_bytes(buf.get(at..).unwrap_or(&[]))? {
                    Some(taken) => at += taken,
                    None => return Ok(Step::More),
                },
                _ => {
                    let Some(byte) = buf.get(at) else { return Ok(Step::More) };
                    at += 1;
                    self.count_overhead()?;
                    self.state = self.framing_byte(*byte)?;
                }
            }
        }
    }

    fn count_overhead(&mut self) -> Result<(), Reject> {
        self.overhead = self.overhead.saturating_add(1);
        let allowed =
            self.data.saturating_mul(self.limits.overhead_ratio).saturating_add(self.limits.overhead);
        if self.overhead > allowed {
            return Err(Reject::bad("H1-08", "chunk framing outweighs the data"));
        }
        Ok(())
    }

    /// One byte of a chunk line or of the line end after data.
    fn framing_byte(&mut self, byte: u8) -> Result<State, Reject> {
        let lenient = self.leniency == Leniency::Backend;
        let in_extension = self.state.in_extension();
        if byte == b';' || (in_extension && byte != b'\r') {
            self.extensions = self.extensions.saturating_add(1);
            if self.extensions > self.limits.extensions {
                return Err(Reject::bad("H1-08", "chunk extensions are longer than allowed"));
            }
        }
        match (self.state, byte) {
            (State::SizeStart, _) => {
                self.left = 0;
                self.size_digit(byte, 0)
            }
            (State::Size(_), b'\r') => Ok(State::SizeLf),
            (State::Size(_) | State::SizeSpace, b';') => Ok(State::ExtNameStart),
            (State::Size(_), b' ' | b'\t') if lenient => Ok(State::SizeSpace),
            (State::Size(_) | State::SizeSpace | State::SizeLf, b'\n') if lenient => Ok(self.after_size()),
            (State::Size(digits), _) => self.size_digit(byte, digits),
            (State::SizeSpace, b' ' | b'\t') => Ok(State::SizeSpace),
            (State::SizeSpace, b'\r') => Ok(State::SizeLf),
            (State::SizeLf, b'\n') => Ok(self.after_size()),
            (State::DataCr, b'\r') => Ok(State::DataLf),
            (State::DataCr, b'\n') if lenient => Ok(State::SizeStart),
            (State::DataLf, b'\n') => Ok(State::SizeStart),
            (State::TrailerLf, b'\n') => self.trailer_line(),
            (State::TrailerLf, _) => Err(Reject::bad("H1-09", "a CR without LF in the trailer section")),
            _ if in_extension => self.extension_byte(byte),
            (State::DataCr | State::DataLf, _) => {
                Err(Reject::bad("H1-08", "chunk data is not followed by CRLF"))
            }
            _ => Err(Reject::bad("H1-08", "a chunk line does not end with CRLF")),
        }
    }

    fn size_digit(&mut self, byte: u8, digits: u8) -> Result<State, Reject> {
        let digit = match byte {
            b'0'..=b'9' => byte - b'0',
            b'a'..=b'f' => byte - b'a' + 10,
            b'A'..=b'F' => byte - b'A' + 10,
            _ => return Err(Reject::bad("H1-08", "a chunk size is no hexadecimal number")),
        };
        if digits >= 16 {
            return Err(Reject::bad("H1-08", "a chunk size has more than 16 digits"));
        }
        if self.left > LARGEST >> 4 {
            return Err(Reject::bad("H1-08", "a chunk size is above 2^63-1"));
        }
        self.left = (self.left << 4) | u64::from(digit);
        Ok(State::Size(digits + 1))
    }

    fn after_size(&self) -> State {
        if self.left == 0 { State::Trailer } else { State::Data }
    }

    /// `*( ";" token [ "=" ( token / quoted-string ) ] )` without white space.
    fn extension_byte(&mut self, byte: u8) -> Result<State, Reject> {
        let lenient = self.leniency == Leniency::Backend;
        Ok(match (self.state, byte) {
            (State::ExtName | State::ExtToken | State::ExtQuotedEnd, b';') => State::ExtNameStart,
            (State::ExtName | State::ExtToken | State::ExtQuotedEnd, b'\r') => State::SizeLf,
            (State::ExtName | State::ExtToken | State::ExtQuotedEnd, b'\n') if lenient => self.after_size(),
            (State::ExtName, b'=') => State::ExtValueStart,
            (State::ExtNameStart | State::ExtName, _) if is_tchar(byte) => State::ExtName,
            (State::ExtValueStart, b'"') => State::ExtQuoted,
            (State::ExtValueStart | State::ExtToken, _) if is_tchar(byte) => State::ExtToken,
            (State::ExtQuoted, b'"') => State::ExtQuotedEnd,
            (State::ExtQuoted, b'\\') => State::ExtEscape,
            (State::ExtQuoted, _) if is_text(byte) => State::ExtQuoted,
            (State::ExtEscape, _) if is_text(byte) => State::ExtQuoted,
            _ => return Err(Reject::bad("H1-08", "a chunk extension is broken")),
        })
    }

    /// Bytes of a trailer line up to its line end. None: the slice held no line end.
    fn trailer_bytes(&mut self, bytes: &[u8]) -> Result<Option<usize>, Reject> {
        let found = find_control(bytes);
        let length = found.unwrap_or(bytes.len());
        let line = bytes.get(..length).unwrap_or(&[]);
        self.section = self.section.saturating_add(length);
        if self.section > self.limits.trailer_bytes {
            return Err(too_large("the trailer section is longer than allowed"));
        }
        self.line.extend_from_slice(line);
        let Some(at) = found else { return Ok(None) };
        self.section = self.section.saturating_add(2);
        match bytes.get(at) {
            Some(b'\r') => self.state = State::TrailerLf,
            Some(b'\n') if self.leniency == Leniency::Backend => self.state = self.trailer_line()?,
            _ => return Err(Reject::bad("H1-09", "a control byte in the trailer section")),
        }
        Ok(Some(at + 1))
    }

    fn trailer_line(&mut self) -> Result<State, Reject> {
        if self.line.is_empty() {
            self.line = Vec::new();
            return Ok(State::Done);
        }
        if self.trailers.len() >= self.limits.trailer_fields {
            return Err(too_large("more trailer lines than allowed"));
        }
        let (name, value) = split_field(&self.line).map_err(|reject| Reject { rule: "H1-09", ..reject })?;
        self.trailers.push_parsed(name, value).map_err(|_| too_large("a trailer line is too long"))?;
        self.line.clear();
        Ok(State::Trailer)
    }
}

fn too_large(reason: &'static str) -> Reject {
    Reject::new(StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE, "H1-09", reason)
}

/// A byte of a quoted string that is neither quote nor backslash (those are matched before).
const fn is_text(byte: u8) -> bool {
    byte == b'\t' || (byte >= b' ' && byte != 0x7f)
}

#[cfg(test)]
mod tests;
