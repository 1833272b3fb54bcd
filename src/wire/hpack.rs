//! HPACK, the coding of heads in HTTP/2 (RFC 7541): complete header blocks in and out.
//!
//! Pure: bytes and tables, no frames. A line of the tables lies as the field store writes it, `name: value` CRLF, with
//! what is known of its name beside it, so that a field that was sent before reaches [`super::Fields`] by one copy and is
//! not looked at again. What a field means is [`super::http2_head`]'s; whose error ends what is the connection's.
//! `proxy::http2` drives it.

use std::borrow::Cow;

use super::fields::Tag;

mod decoder;
mod encoder;
mod huffman;
mod integer;
mod known;
mod statics;
mod table;

pub use decoder::Decoder;
pub use encoder::Encoder;
pub(super) use known::{Known, Value};

/// Why a header block cannot be decoded: COMPRESSION_ERROR for the connection (RFC 9113 section 4.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum HpackError {
    /// The block ends within a field.
    #[error("the header block ends within a field")]
    Short,
    /// A number above what any table or string can need (RFC 7541 section 5.1).
    #[error("a number of the header block is too large")]
    Number,
    /// No entry of a table has that index (RFC 7541 section 2.3.3).
    #[error("a field refers to an entry that is not there")]
    Index,
    /// A string is no Huffman code (RFC 7541 section 5.2).
    #[error("a string of the header block is no Huffman code")]
    Huffman,
    /// A new size of the table that is too large, or that stands behind a field (RFC 7541 sections 4.2 and 6.3).
    #[error("a change of the table's size that is not allowed")]
    Size,
}

/// Whether a [`Sink`] wants more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Appetite {
    /// Go on.
    More,
    /// Spare it the rest of the block: the table is kept in step, nothing else is done.
    Full,
}

/// Takes the fields of a block in.
pub trait Sink {
    /// The next field.
    fn line(&mut self, line: &Line<'_>) -> Appetite;
}

/// A sink for blocks that have to be decoded for the table's sake only.
#[derive(Debug, Clone, Copy, Default)]
pub struct Discard;

impl Sink for Discard {
    fn line(&mut self, _: &Line<'_>) -> Appetite {
        Appetite::Full
    }
}

/// What is known of a field, found when it came first.
#[derive(Debug, Clone, Copy)]
struct Mark {
    known: Known,
    value: Value,
    tag: Tag,
}

/// One decoded field.
#[derive(Debug, Clone, Copy)]
pub struct Line<'t> {
    /// As it is written in HTTP/1. A value that is no text stands there with one character for each byte, and what no
    /// field may hold with a replacement for each.
    text: &'t str,
    name: usize,
    mark: Mark,
    size: usize,
}

impl<'t> Line<'t> {
    /// Name; of a pseudo-field with its colon.
    pub fn name(&self) -> &'t str {
        self.text.get(..self.name).unwrap_or("")
    }

    /// Value.
    pub fn value(&self) -> Cow<'t, [u8]> {
        let value = self.value_text();
        if self.mark.value == Value::Raw {
            // Each of its characters was made from one byte.
            return value.chars().map(|byte| u8::try_from(byte).unwrap_or(b'?')).collect();
        }
        Cow::Borrowed(value.as_bytes())
    }

    /// Bytes that it counts for in a table and in a header list: name, value and 32 (RFC 7541 section 4.1).
    pub fn size(&self) -> usize {
        self.size
    }

    /// The value as text, but for [`Value::Raw`].
    fn value_text(&self) -> &'t str {
        let end = self.text.len().saturating_sub(2);
        self.text.get(self.name + 2..end).unwrap_or("")
    }

    /// The value where it is text.
    pub(super) fn text_value(&self) -> Option<&'t str> {
        (self.mark.value != Value::Raw).then(|| self.value_text())
    }

    /// The line as it is written, where its value is text.
    pub(super) fn written(&self) -> Option<&'t str> {
        (self.mark.value != Value::Raw).then_some(self.text)
    }

    pub(super) fn name_len(&self) -> usize {
        self.name
    }

    pub(super) fn tag(&self) -> Tag {
        self.mark.tag
    }

    pub(super) fn known(&self) -> Known {
        self.mark.known
    }

    pub(super) fn value_state(&self) -> Value {
        self.mark.value
    }
}

/// What an entry counts beside its name and value (RFC 7541 section 4.1).
const OVERHEAD: usize = 32;

#[cfg(test)]
mod tests;
