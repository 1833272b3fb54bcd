//! Writing heads, chunk framing and trailers.
//!
//! Nothing written here can split a head: names and values were judged when they entered [`Fields`], methods and
//! status codes are types, and what comes in as bytes is checked before a byte is written.

use bytes::BufMut;
use http::{Method, StatusCode};

use super::fields::{FieldError, Fields, is_field_value, is_token};

/// A request target that would break the request line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the target is empty or holds a space or a control byte")]
pub struct BadTarget;

/// The end of a body in chunks without trailers.
pub const LAST_CHUNK: &[u8] = b"0\r\n\r\n";

/// Longest result of [`chunk_size`].
pub const MAX_CHUNK_SIZE_LINE: usize = 18;

/// Writes `method target HTTP/1.1`.
///
/// # Errors
/// [`BadTarget`]; nothing is written then.
pub fn request_line(out: &mut impl BufMut, method: &Method, target: &[u8]) -> Result<(), BadTarget> {
    if target.is_empty() || target.iter().any(|byte| *byte <= b' ' || *byte == 0x7f) {
        return Err(BadTarget);
    }
    out.put_slice(method.as_str().as_bytes());
    out.put_slice(b" ");
    out.put_slice(target);
    out.put_slice(b" HTTP/1.1\r\n");
    Ok(())
}

/// Writes `HTTP/1.1 status reason`. A `reason` that holds control bytes is dropped; `None` writes
/// [`reason_phrase`].
pub fn status_line(out: &mut impl BufMut, status: StatusCode, reason: Option<&str>) {
    if status == StatusCode::OK && reason.is_none() {
        return out.put_slice(b"HTTP/1.1 200 OK\r\n");
    }
    let reason = match reason {
        Some(reason) if reason.bytes().all(|byte| byte == b'\t' || (byte >= b' ' && byte != 0x7f)) => reason,
        Some(_) => "",
        None => reason_phrase(status),
    };
    out.put_slice(b"HTTP/1.1 ");
    out.put_slice(status.as_str().as_bytes());
    out.put_slice(b" ");
    out.put_slice(reason.as_bytes());
    out.put_slice(b"\r\n");
}

/// Writes every line of `fields`.
pub fn fields(out: &mut impl BufMut, fields: &Fields) {
    fields.write(out, |_| true);
}

/// Writes one line.
///
/// # Errors
/// [`FieldError`] when the line would not read back as it was meant; nothing is written then.
pub fn field(out: &mut impl BufMut, name: &str, value: &[u8]) -> Result<(), FieldError> {
    if !is_token(name.as_bytes()) {
        return Err(FieldError::Name);
    }
    if !is_field_value(value) {
        return Err(FieldError::Value);
    }
    raw_field(out, name, value);
    Ok(())
}

/// Writes a line that comes from a [`Fields`] and so has been judged.
pub(crate) fn raw_field(out: &mut impl BufMut, name: &str, value: &[u8]) {
    out.put_slice(name.as_bytes());
    out.put_slice(b": ");
    out.put_slice(value);
    out.put_slice(b"\r\n");
}

/// Writes `Content-Length: length`.
pub fn content_length(out: &mut impl BufMut, length: u64) {
    let mut digits = [0; 20];
    out.put_slice(b"Content-Length: ");
    out.put_slice(decimal(length, &mut digits));
    out.put_slice(b"\r\n");
}

/// Writes `Transfer-Encoding: chunked`.
pub fn transfer_chunked(out: &mut impl BufMut) {
    out.put_slice(b"Transfer-Encoding: chunked\r\n");
}

/// Writes the empty line after a head.
pub fn end_of_head(out: &mut impl BufMut) {
    out.put_slice(b"\r\n");
}

/// The line before a chunk of `length` bytes; the data and a CRLF follow. `length` must not be 0, which is how a
/// body ends.
pub fn chunk_size(length: usize, line: &mut [u8; MAX_CHUNK_SIZE_LINE]) -> &[u8] {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let digits = (usize::BITS - length.max(1).leading_zeros()).div_ceil(4) as usize;
    let mut rest = length;
    for place in line.iter_mut().take(digits).rev() {
        *place = DIGITS.get(rest & 15).copied().unwrap_or(b'0');
        rest >>= 4;
    }
    for (place, byte) in line.iter_mut().skip(digits).zip(b"\r\n") {
        *place = *byte;
    }
    line.get(..digits + 2).unwrap_or(&[])
}

/// Writes one whole chunk; nothing for empty data, which would end the body.
pub fn chunk(out: &mut impl BufMut, data: &[u8]) {
    if data.is_empty() {
        return;
    }
    out.put_slice(chunk_size(data.len(), &mut [0; MAX_CHUNK_SIZE_LINE]));
    out.put_slice(data);
    out.put_slice(b"\r\n");
}

/// Writes the last chunk with trailers.
pub fn last_chunk(out: &mut impl BufMut, trailers: &Fields) {
    out.put_slice(b"0\r\n");
    fields(out, trailers);
    out.put_slice(b"\r\n");
}

/// The reason phrase that nginx writes for `status`; empty for one that nobody knows.
pub fn reason_phrase(status: StatusCode) -> &'static str {
    match status.as_u16() {
        302 => "Moved Temporarily",
        405 => "Not Allowed",
        408 => "Request Time-out",
        413 => "Request Entity Too Large",
        414 => "Request-URI Too Large",
        416 => "Requested Range Not Satisfiable",
        503 => "Service Temporarily Unavailable",
        504 => "Gateway Time-out",
        _ => status.canonical_reason().unwrap_or(""),
    }
}

fn decimal(mut number: u64, digits: &mut [u8; 20]) -> &[u8] {
    let mut start = digits.len();
    for (index, place) in digits.iter_mut().enumerate().rev() {
        *place = b'0' + u8::try_from(number % 10).unwrap_or(0);
        start = index;
        number /= 10;
        if number == 0 {
            break;
        }
    }
    digits.get(start..).unwrap_or(&[])
}

#[cfg(test)]
mod tests;
