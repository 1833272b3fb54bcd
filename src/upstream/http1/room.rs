//! Room for the next read of a large answer.
//!
//! `memmove` copies by `rep movsb` where a processor says that this is fast. On AMD's Zen 3 it takes twenty times as long
//! where the target lies 1 to 63 bytes further within its page than the source does within its own (measured, see
//! docs/performance.md). An allocator gives both a buffer and a TLS record whole pages, and what a record carries begins
//! behind its header of five bytes: so bulk does not begin where a page does.

use bytes::{Buf, BytesMut};

const PAGE: usize = 4096;
/// Half a page.
const ASIDE: usize = PAGE / 2;
/// Where in a page bulk may begin. Frames of HTTP/2 move what they carry by nine bytes each, hence the distance.
const APART: std::ops::Range<usize> = 1024..PAGE - 512;

/// Makes room for `bytes` more in `buffer`.
pub(super) fn make(buffer: &mut BytesMut, bytes: usize) {
    if !buffer.is_empty() {
        return buffer.reserve(bytes);
    }
    buffer.reserve(bytes.saturating_add(ASIDE));
    if !APART.contains(&(buffer.as_ptr().addr() % PAGE)) {
        buffer.resize(ASIDE, 0);
        buffer.advance(ASIDE);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(buffer: &mut BytesMut, bytes: usize) {
        make(buffer, bytes);
        assert!(buffer.capacity() - buffer.len() >= bytes, "{bytes} find room");
        let within = buffer.as_ptr().addr() % PAGE;
        assert!((1024..PAGE - 512).contains(&within), "begins {within} bytes behind a page");
    }

    #[test]
    fn bulk_does_not_begin_where_a_page_does() {
        for bytes in [32 * 1024, 64 * 1024, 256 * 1024] {
            let mut buffer = BytesMut::new();
            let mut handed_on = Vec::new();
            for _ in 0..8 {
                check(&mut buffer, bytes);
                buffer.resize(bytes, 1);
                handed_on.push(buffer.split().freeze());
            }
            // The last one is free, and its room is taken again.
            handed_on.clear();
            check(&mut buffer, bytes);
        }
    }

    #[test]
    fn what_is_there_stays() {
        let mut buffer = BytesMut::from(&b"7f\r\n"[..]);
        make(&mut buffer, 64 * 1024);
        assert_eq!(buffer, b"7f\r\n"[..]);
        assert!(buffer.capacity() >= 64 * 1024 + 4);
    }
}
