//! Frames of HTTP/2 as bytes: their headers, types, flags and codes (RFC 9113 sections 4, 6 and 7). What a frame does is
//! the session's.

/// What a client says first (RFC 9113 section 3.4).
pub(super) const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// Length of a frame header (RFC 9113 section 4.1).
pub(super) const HEADER: usize = 9;
/// Longest payload that we take: the least that a server may allow, and what every client keeps to.
pub(super) const MAX_PAYLOAD: usize = 16 * 1024;
/// Largest window (RFC 9113 section 6.9.1).
pub(super) const MAX_WINDOW: i64 = 0x7fff_ffff;

pub(super) const DATA: u8 = 0;
pub(super) const HEADERS: u8 = 1;
pub(super) const PRIORITY: u8 = 2;
pub(super) const RST_STREAM: u8 = 3;
pub(super) const SETTINGS: u8 = 4;
pub(super) const PUSH_PROMISE: u8 = 5;
pub(super) const PING: u8 = 6;
pub(super) const GOAWAY: u8 = 7;
pub(super) const WINDOW_UPDATE: u8 = 8;
pub(super) const CONTINUATION: u8 = 9;

/// Of SETTINGS and PING.
pub(super) const ACK: u8 = 1;
/// Of DATA and HEADERS.
pub(super) const END_STREAM: u8 = 1;
pub(super) const END_HEADERS: u8 = 4;
pub(super) const PADDED: u8 = 8;
pub(super) const HAS_PRIORITY: u8 = 0x20;

/// Why a stream or a connection ends (RFC 9113 section 7).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Code(pub u32);

impl Code {
    /// All is well.
    pub const NO_ERROR: Self = Self(0);
    /// A rule is broken that has no code of its own.
    pub const PROTOCOL_ERROR: Self = Self(1);
    /// We failed.
    pub const INTERNAL_ERROR: Self = Self(2);
    /// More was sent than a window takes.
    pub const FLOW_CONTROL_ERROR: Self = Self(3);
    /// A frame for a stream that is over.
    pub const STREAM_CLOSED: Self = Self(5);
    /// A frame of a length that it may not have.
    pub const FRAME_SIZE_ERROR: Self = Self(6);
    /// Nothing was done with the stream.
    pub const REFUSED_STREAM: Self = Self(7);
    /// Nobody needs the stream any more.
    pub const CANCEL: Self = Self(8);
    /// The table of a header block is out of step.
    pub const COMPRESSION_ERROR: Self = Self(9);
    /// The peer costs more than it asks for.
    pub const ENHANCE_YOUR_CALM: Self = Self(11);
}

/// One frame header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct FrameHeader {
    /// Bytes of payload.
    pub(super) length: usize,
    /// Type.
    pub(super) kind: u8,
    /// Flags.
    pub(super) flags: u8,
    /// Stream, 0 for the connection.
    pub(super) stream: u32,
}

impl FrameHeader {
    /// The header at the start of `bytes`, if all of it is there.
    pub(super) fn read(bytes: &[u8]) -> Option<Self> {
        let [a, b, c, kind, flags, s0, s1, s2, s3] = *bytes.first_chunk::<HEADER>()?;
        let length = usize::from(a) << 16 | usize::from(b) << 8 | usize::from(c);
        Some(Self { length, kind, flags, stream: u32::from_be_bytes([s0 & 0x7f, s1, s2, s3]) })
    }

    /// As bytes.
    pub(super) fn bytes(&self) -> [u8; HEADER] {
        let [_, a, b, c] = u32::try_from(self.length).unwrap_or(0).to_be_bytes();
        let [s0, s1, s2, s3] = self.stream.to_be_bytes();
        [a, b, c, self.kind, self.flags, s0, s1, s2, s3]
    }

    /// One of `flags` is set.
    pub(super) fn has(&self, flags: u8) -> bool {
        self.flags & flags != 0
    }
}

/// The four bytes at the start of `payload` as a number.
pub(super) fn number(payload: &[u8]) -> Option<u32> {
    payload.first_chunk().map(|bytes| u32::from_be_bytes(*bytes))
}

/// `payload` of a frame without its padding (RFC 9113 section 6.1). `None`: more padding than payload.
pub(super) fn unpadded(header: FrameHeader, payload: &[u8]) -> Option<&[u8]> {
    if !header.has(PADDED) {
        return Some(payload);
    }
    let (padding, rest) = payload.split_first()?;
    rest.get(..rest.len().checked_sub(usize::from(*padding))?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_reads_back_as_it_was_written() {
        let header = FrameHeader { length: 0x01_02_03, kind: HEADERS, flags: 0x25, stream: 0x7fff_ffff };
        assert_eq!(FrameHeader::read(&header.bytes()), Some(header));
        assert_eq!(FrameHeader::read(&header.bytes()[..8]), None);
        let reserved = [0, 0, 0, 0, 0, 0x80, 0, 0, 1];
        assert_eq!(FrameHeader::read(&reserved).map(|header| header.stream), Some(1));
    }

    #[test]
    fn padding_is_taken_off_and_no_more_than_there_is() {
        let check = |payload: &[u8], flags: u8, expect: Option<&[u8]>| {
            let header = FrameHeader { length: payload.len(), kind: DATA, flags, stream: 1 };
            assert_eq!(unpadded(header, payload), expect, "{payload:?}");
        };
        check(b"abc", 0, Some(b"abc"));
        check(b"\x01abc", PADDED, Some(b"ab"));
        check(b"\x03abc", PADDED, Some(b""));
        check(b"\x04abc", PADDED, None);
        check(b"", PADDED, None);
    }
}
