//! Finding and splitting lines of a head; shared by the parsers of heads and trailer sections.

use super::fields::{scan_name, usual_length};
use super::verdict::Reject;

const ONES: u64 = 0x0101_0101_0101_0101;
const HIGHS: u64 = 0x8080_8080_8080_8080;

/// Index of the first byte that may not stand inside a line: a control byte other than HTAB, or DEL.
///
/// Eight bytes at a time: in `v - 0x20` a byte below 0x20 borrows into its high bit, in `v + 1` DEL carries into it. What
/// spills over into bytes above may raise a false alarm, so each is looked at again, and hides none.
pub(super) fn find_control(bytes: &[u8]) -> Option<usize> {
    let (chunks, rest) = bytes.as_chunks::<8>();
    let mut offset = 0;
    for chunk in chunks {
        let word = u64::from_le_bytes(*chunk);
        let mut alarms = (word.wrapping_sub(ONES * 0x20) | word.wrapping_add(ONES)) & !word & HIGHS;
        while alarms != 0 {
            let at = (alarms.trailing_zeros() / 8) as usize;
            if chunk.get(at).is_some_and(|byte| is_control(*byte)) {
                return Some(offset + at);
            }
            alarms &= alarms - 1;
        }
        offset += 8;
    }
    rest.iter().position(|byte| is_control(*byte)).map(|at| offset + at)
}

const fn is_control(byte: u8) -> bool {
    (byte < 0x20 && byte != b'\t') || byte == 0x7f
}

/// A field line taken apart.
pub(super) struct Parts<'l> {
    pub(super) name: &'l [u8],
    /// What kinds of bytes stand in the name ([`scan_name`]).
    pub(super) kinds: u8,
    /// Where in the line the value begins.
    pub(super) value_at: usize,
    /// Without white space at its ends.
    pub(super) value: &'l [u8],
}

impl Parts<'_> {
    /// The line is as we would write it, if CRLF ended it.
    pub(super) fn is_plain(&self, line: &[u8]) -> bool {
        self.value_at == self.name.len() + 2
            && line.get(self.name.len() + 1) == Some(&b' ')
            && self.value_at + self.value.len() == line.len()
    }
}

/// A field line as nearly every one is: a name of letters, digits and `-`, `: `, a value, CRLF.
#[derive(Debug, Clone, Copy)]
pub(super) struct UsualLine<'l> {
    pub(super) name: &'l [u8],
    pub(super) value: &'l [u8],
}

impl UsualLine<'_> {
    /// Bytes of the line with what stands between its parts and ends it.
    pub(super) const fn length(&self) -> usize {
        self.name.len() + 2 + self.value.len() + 2
    }
}

/// The line that `bytes` starts with, if it is such a one, complete, and not folded, for which the byte after it must
/// be there. `None` says nothing of the line: somebody has to look closer.
pub(super) fn usual_line(bytes: &[u8]) -> Option<UsualLine<'_>> {
    let (name, rest) = bytes.split_at_checked(usual_length(bytes))?;
    let [b':', b' ', rest @ ..] = rest else { return None };
    let (value, after) = rest.split_at_checked(find_control(rest)?)?;
    let [b'\r', b'\n', next, ..] = after else { return None };
    let (first, last) = (value.first()?, value.last()?);
    // The start of a value is nearly always no white space, and the next line's never.
    let space = [*first, *last, *next].iter().any(|byte| matches!(byte, b' ' | b'\t'));
    (!space && !name.is_empty()).then_some(UsualLine { name, value })
}

/// Splits a field line (no line end) into name and value by RFC 9112 section 5.1: a token, a colon at once, the
/// value with white space trimmed. The caller has seen to it that no control byte is in the line.
pub(super) fn take_apart(line: &[u8]) -> Result<Parts<'_>, Reject> {
    let (length, kinds) = scan_name(line);
    let (name, rest) = line.split_at_checked(length).unwrap_or((line, &[]));
    let Some((b':', value)) = rest.split_first() else {
        return Err(match line.first() {
            Some(b' ' | b'\t') => Reject::bad("H1-06", "a field line starts with white space"),
            _ => Reject::bad("H1-06", "a field line is not a name, a colon and a value"),
        });
    };
    if name.is_empty() {
        return Err(Reject::bad("H1-06", "a field line has no name"));
    }
    let value = trim_start(value);
    Ok(Parts { name, kinds, value_at: line.len() - value.len(), value: trim_end(value) })
}

/// [`take_apart`] for where only name and value count.
pub(super) fn split_field(line: &[u8]) -> Result<(&str, &[u8]), Reject> {
    let Parts { name, value, .. } = take_apart(line)?;
    Ok((std::str::from_utf8(name).unwrap_or(""), value))
}

/// `bytes` without SP and HTAB at both ends.
pub(super) fn trim(bytes: &[u8]) -> &[u8] {
    trim_end(trim_start(bytes))
}

/// `bytes` without SP and HTAB at the start.
pub(super) fn trim_start(mut bytes: &[u8]) -> &[u8] {
    while let Some((b' ' | b'\t', rest)) = bytes.split_first() {
        bytes = rest;
    }
    bytes
}

/// `bytes` without SP and HTAB at the end.
pub(super) fn trim_end(mut bytes: &[u8]) -> &[u8] {
    while let Some((b' ' | b'\t', rest)) = bytes.split_last() {
        bytes = rest;
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_control_byte_is_found_at_every_offset() {
        for byte in 0..=255u8 {
            for offset in 0..20 {
                let mut line = vec![b'a'; 21];
                line[3] = b'\t';
                line[offset] = byte;
                let expect = ((byte < 0x20 && byte != b'\t') || byte == 0x7f).then_some(offset);
                assert_eq!(find_control(&line), expect, "byte {byte:#x} at {offset}");
            }
        }
        assert_eq!(find_control(b"\x80\xff\x20\x21\x1f\r\n"), Some(4));
        assert_eq!(find_control(b"ab\rdefg\n"), Some(2));
        assert_eq!(find_control(b""), None);
    }

    #[test]
    fn a_usual_line_is_told_at_a_glance_and_every_other_is_left() {
        for next in ["X: y\r\n", "\r\n"] {
            let bytes = format!("Content-Type: text/html; a=\tb\r\n{next}");
            let line = usual_line(bytes.as_bytes()).unwrap();
            assert_eq!((line.name, line.value), (&b"Content-Type"[..], &b"text/html; a=\tb"[..]));
            assert_eq!(&bytes.as_bytes()[line.length()..], next.as_bytes());
        }
        for bytes in [
            &b"A: b\r\n"[..],
            b"A: b\r\n folded\r\n",
            b"A: b\r\n\tfolded\r\n",
            b"A: b\nB: c\r\n",
            b"A: b\rB: c\r\n",
            b"A:b\r\nB: c\r\n",
            b"A:  b\r\nB: c\r\n",
            b"A: b \r\nB: c\r\n",
            b"A: b\t\r\nB: c\r\n",
            b"A: \r\nB: c\r\n",
            b"A: b\x00\r\nB: c\r\n",
            b"A : b\r\nB: c\r\n",
            b"A_a: b\r\nB: c\r\n",
            b"A.a: b\r\nB: c\r\n",
            b": b\r\nB: c\r\n",
            b"\r\nB: c\r\n",
            b" A: b\r\nB: c\r\n",
            b"",
        ] {
            assert!(usual_line(bytes).is_none(), "{:?}", String::from_utf8_lossy(bytes));
        }
    }

    #[test]
    fn a_field_line_is_a_token_a_colon_and_a_trimmed_value() {
        assert_eq!(split_field(b"X-a:\t b c \t").unwrap(), ("X-a", &b"b c"[..]));
        assert_eq!(split_field(b"X:").unwrap(), ("X", &b""[..]));
        assert_eq!(split_field(b"X:a:b").unwrap(), ("X", &b"a:b"[..]));
        for line in [&b": v"[..], b":", b"name", b"na me: v", b"name : v", b" name: v", b"n\xc3\xa4: v", b""]
        {
            assert_eq!(split_field(line).unwrap_err().rule, "H1-06", "{line:?}");
        }
    }
}
