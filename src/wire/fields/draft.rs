//! A section whose head is still being read: lines as ranges of a buffer that grows, taken over with one copy when the
//! head is complete. Only the parsers of heads use it.

use super::name::{Seen, Tag};
use super::{FieldError, Fields, Line, USUAL_LINES};

/// Beside what came, a head often takes a few lines of ours.
const SPARE: usize = 128;

/// Lines found so far.
#[derive(Debug, Default)]
pub(in crate::wire) struct Draft {
    lines: Vec<Line>,
    apart: Vec<u8>,
    seen: Seen,
}

/// One line in the buffer, by where its parts begin after the start of the first line.
#[derive(Debug, Clone, Copy)]
pub(in crate::wire) struct Found<'b> {
    /// Where the name begins.
    pub(in crate::wire) start: usize,
    /// The name, a token.
    pub(in crate::wire) name: &'b [u8],
    /// What kinds of bytes stand in it ([`super::scan_name`]).
    pub(in crate::wire) kinds: u8,
    /// Where the value begins.
    pub(in crate::wire) value_start: usize,
    /// The value, judged.
    pub(in crate::wire) value: &'b [u8],
    /// The line stands there as we would write it: nothing but `: ` and CRLF around the value.
    pub(in crate::wire) plain: bool,
    /// The value is not what stands there: folded lines were put together.
    pub(in crate::wire) folded: bool,
}

impl Draft {
    /// Number of lines.
    pub(in crate::wire) fn len(&self) -> usize {
        self.lines.len()
    }

    /// Takes a line in.
    ///
    /// # Errors
    /// [`FieldError::Length`].
    pub(in crate::wire) fn add(&mut self, found: &Found<'_>) -> Result<(), FieldError> {
        // More than that is refused when the head is complete.
        let length = |length: usize| u32::try_from(length).unwrap_or(u32::MAX);
        let mut tag = Tag::scanned(found.name, found.kinds);
        let (value_start, value) = if found.folded {
            tag = tag.apart();
            lay_apart(&mut self.apart, found.value)?
        } else {
            if found.plain {
                tag = tag.written();
            }
            (length(found.value_start), length(found.value.len()))
        };
        let name = u16::try_from(found.name.len()).map_err(|_| FieldError::Length)?;
        if self.lines.capacity() == 0 {
            self.lines.reserve(USUAL_LINES);
        }
        self.seen.join(tag);
        self.lines.push(Line { name_start: length(found.start), value_start, value, name, tag });
        Ok(())
    }

    /// Takes a line in that lies as it is written, with a name of letters, digits and `-`; `start` is where it begins,
    /// `tag` what [`Tag::usual`] says of it.
    ///
    /// # Errors
    /// [`FieldError::Length`].
    pub(in crate::wire) fn add_usual(
        &mut self,
        start: usize,
        name: &[u8],
        value: &[u8],
        tag: Tag,
    ) -> Result<(), FieldError> {
        // As above.
        let length = |length: usize| u32::try_from(length).unwrap_or(u32::MAX);
        let name = u16::try_from(name.len()).map_err(|_| FieldError::Length)?;
        let name_start = length(start);
        let value_start = name_start.saturating_add(u32::from(name) + 2);
        if self.lines.capacity() == 0 {
            self.lines.reserve(USUAL_LINES);
        }
        self.seen.join(tag);
        self.lines.push(Line { name_start, value_start, value: length(value.len()), name, tag });
        Ok(())
    }

    /// The section; `block` starts with the first line and ends with the last.
    ///
    /// # Errors
    /// [`FieldError::Length`].
    pub(in crate::wire) fn finish(&mut self, block: &[u8]) -> Result<Fields, FieldError> {
        let Self { lines, apart, seen } = std::mem::take(self);
        u32::try_from(block.len()).map_err(|_| FieldError::Length)?;
        let mut text = Vec::with_capacity(block.len() + SPARE);
        text.extend_from_slice(block);
        // Judged where it lies now, which is where words begin: that is faster.
        if let Ok(text) = String::from_utf8(text) {
            return Ok(Fields { text, apart, lines, seen });
        }
        let mut fields = Fields::with_capacity(block.len());
        for line in lines {
            let within = |bytes: &[u8], start: u32, length: usize| -> Vec<u8> {
                let start = start as usize;
                bytes.get(start..start + length).unwrap_or(&[]).to_vec()
            };
            // A token is text.
            let name =
                String::from_utf8(within(block, line.name_start, line.name.into())).unwrap_or_default();
            let from = if line.tag.is_apart() { &apart } else { block };
            fields.push(&name, &within(from, line.value_start, line.value as usize))?;
        }
        Ok(fields)
    }
}

/// Lays a value apart and says where.
pub(super) fn lay_apart(apart: &mut Vec<u8>, value: &[u8]) -> Result<(u32, u32), FieldError> {
    let start = u32::try_from(apart.len()).map_err(|_| FieldError::Length)?;
    let length = u32::try_from(value.len()).map_err(|_| FieldError::Length)?;
    start.checked_add(length).ok_or(FieldError::Length)?;
    apart.extend_from_slice(value);
    Ok((start, length))
}
