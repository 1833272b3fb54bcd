//! The field lines of one message (RFC 9110 section 5), in order, with the case the sender chose.
//!
//! All lines lie in one text as they are written to a socket, `Name: value` CRLF, and a line is a pair of ranges: a head
//! from a socket costs one copy, and so does writing one, however many lines it has. Names compare ASCII
//! case-insensitively; they are text, so that looking at one needs no check of its encoding. A value that is no text, or
//! that stood on folded lines, lies apart.

use std::fmt;

use bytes::BufMut;

use super::line::find_control;

mod draft;
mod name;

pub(super) use draft::{Draft, Found};
pub(crate) use name::{Looks, NameSet, OwnName};
pub(super) use name::{Tag, is_called, look, scan_name, usual_length};
pub use name::{is_tchar, is_token, tokens};

use name::Seen;

/// Why a field line was refused by [`Fields::append`] or [`Fields::set`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum FieldError {
    /// The name is no token (RFC 9110 section 5.6.2).
    #[error("field name is no token")]
    Name,
    /// The value holds a control byte other than HTAB, or white space at an end (RFC 9110 section 5.5).
    #[error("field value holds a byte that is not allowed")]
    Value,
    /// The text of all lines would pass 4 GiB or one name 64 KiB.
    #[error("field line is too long")]
    Length,
}

/// More than one line carries a field that may stand once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Repeated;

#[derive(Debug, Clone, Copy)]
struct Line {
    name_start: u32,
    /// In the text, or in what lies apart ([`Tag::is_apart`]).
    value_start: u32,
    value: u32,
    name: u16,
    tag: Tag,
}

/// Room for lines that a section made for a head starts with.
const USUAL_LINES: usize = 16;
/// What a line takes beside its name and value.
const FRAME: usize = 4;

/// Ordered field lines of a head or a trailer section.
#[derive(Clone, Default)]
pub struct Fields {
    text: String,
    apart: Vec<u8>,
    // Not in place: heads are moved more often than made, and wait in the futures of requests.
    lines: Vec<Line>,
    /// Everything that the tag of a line here says; lines that went may still count.
    seen: Seen,
}

/// One line of a section, for whoever looks at many of them.
#[derive(Clone, Copy)]
pub(crate) struct FieldLine<'f> {
    fields: &'f Fields,
    line: &'f Line,
}

impl Fields {
    /// An empty section.
    pub fn new() -> Self {
        Self::default()
    }

    /// An empty section with room for `bytes` of names and values.
    pub fn with_capacity(bytes: usize) -> Self {
        Self {
            text: String::with_capacity(bytes),
            apart: Vec::new(),
            lines: Vec::with_capacity(USUAL_LINES),
            seen: Seen::default(),
        }
    }

    /// Number of lines.
    pub fn len(&self) -> usize {
        self.lines.len()
    }

    /// True when no line is there.
    pub fn is_empty(&self) -> bool {
        self.lines.is_empty()
    }

    /// Bytes of names and values.
    pub fn text_len(&self) -> usize {
        self.lines.iter().map(|line| usize::from(line.name) + line.value as usize).sum()
    }

    /// Bytes that writing all lines takes, at most.
    pub(crate) fn written_len(&self) -> usize {
        self.text.len() + self.apart.len() + FRAME * self.lines.len()
    }

    /// Removes all lines and keeps the memory.
    pub fn clear(&mut self) {
        self.text.clear();
        self.apart.clear();
        self.lines.clear();
        self.seen = Seen::default();
    }

    /// All lines in order as `(name, value)`; the name in the sender's case.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = (&str, &[u8])> + Clone {
        self.lines.iter().map(|line| (self.name_of(line), self.value_of(line)))
    }

    /// All lines in order.
    pub(crate) fn lines(&self) -> impl DoubleEndedIterator<Item = FieldLine<'_>> + Clone {
        self.lines.iter().map(|line| FieldLine { fields: self, line })
    }

    /// The value of the first line called `name`.
    pub fn get(&self, name: &str) -> Option<&[u8]> {
        self.called(name).next().map(|line| self.value_of(line))
    }

    /// The value of the first line called `name` if it is UTF-8.
    pub fn get_str(&self, name: &str) -> Option<&str> {
        self.called(name).next().and_then(|line| self.text_of(line))
    }

    /// The values of all lines called `name`, in order.
    pub fn get_all<'f>(&'f self, name: &'f str) -> impl DoubleEndedIterator<Item = &'f [u8]> + Clone {
        self.called(name).map(|line| self.value_of(line))
    }

    /// The value of a field that may stand at most once.
    ///
    /// # Errors
    /// [`Repeated`] when two or more lines carry it.
    pub fn get_only(&self, name: &str) -> Result<Option<&[u8]>, Repeated> {
        let mut lines = self.called(name);
        let first = lines.next();
        if lines.next().is_some() { Err(Repeated) } else { Ok(first.map(|line| self.value_of(line))) }
    }

    /// True when a line called `name` is there.
    pub fn contains(&self, name: &str) -> bool {
        self.called(name).next().is_some()
    }

    /// True when a line may be called by one of `names`; false is certain.
    pub(crate) fn may_hold(&self, names: &NameSet) -> bool {
        names.may_meet(self.seen)
    }

    /// True when a name here may hold more than letters, digits and `-`; false is certain.
    pub(crate) fn may_be_unusual(&self) -> bool {
        self.seen.may_be_unusual()
    }

    /// Adds a line at the end.
    ///
    /// # Errors
    /// [`FieldError`] when name or value would not survive being written and read again; nothing is added then.
    pub fn append(&mut self, name: &str, value: &[u8]) -> Result<(), FieldError> {
        if !is_token(name.as_bytes()) {
            return Err(FieldError::Name);
        }
        if !is_field_value(value) {
            return Err(FieldError::Value);
        }
        self.push(name, value)
    }

    /// Adds a line that was judged before, by a parser of this module.
    ///
    /// # Errors
    /// [`FieldError::Length`].
    pub(crate) fn push_parsed(&mut self, name: &str, value: &[u8]) -> Result<(), FieldError> {
        debug_assert!(is_token(name.as_bytes()), "parser let the name {name:?} through");
        self.push(name, value)
    }

    /// Adds a line of another section, where it was judged.
    ///
    /// # Errors
    /// [`FieldError::Length`].
    pub(crate) fn push_line(&mut self, line: FieldLine<'_>) -> Result<(), FieldError> {
        let Some(written) = line.written() else { return self.push(line.name(), line.value()) };
        let name_start = u32::try_from(self.text.len()).map_err(|_| FieldError::Length)?;
        let offset = line.line.value_start.saturating_sub(line.line.name_start);
        name_start
            .checked_add(offset)
            .and_then(|at| at.checked_add(line.line.value))
            .ok_or(FieldError::Length)?;
        self.text.push_str(written);
        self.add(Line { name_start, value_start: name_start + offset, ..*line.line });
        Ok(())
    }

    /// Adds a line that was judged before and stands in `text` as it is written, behind a name of that length.
    ///
    /// # Errors
    /// [`FieldError::Length`].
    pub(super) fn push_written(&mut self, text: &str, name: usize, tag: Tag) -> Result<(), FieldError> {
        let length = |length: usize| u32::try_from(length).map_err(|_| FieldError::Length);
        let start = self.text.len();
        length(start + text.len())?;
        let (name_start, value_start) = (length(start)?, length(start + name + 2)?);
        let value = length(text.len().saturating_sub(name + FRAME))?;
        let name = u16::try_from(name).map_err(|_| FieldError::Length)?;
        self.text.push_str(text);
        self.add(Line { name_start, value_start, value, name, tag });
        Ok(())
    }

    /// [`Fields::append`] for a name of ours, which needs no look at its bytes.
    ///
    /// # Errors
    /// As [`Fields::append`].
    pub(crate) fn append_own(&mut self, name: &OwnName, value: &[u8]) -> Result<(), FieldError> {
        if !is_field_value(value) {
            return Err(FieldError::Value);
        }
        match std::str::from_utf8(value) {
            Ok(value) => self.append_sound(name, value),
            Err(_) => self.push_apart(name.name(), value),
        }
    }

    /// [`Fields::append_own`] for a value that is known to be one: made by us, or judged where it came in.
    ///
    /// # Errors
    /// [`FieldError::Length`].
    pub(crate) fn append_sound(&mut self, name: &OwnName, value: &str) -> Result<(), FieldError> {
        debug_assert!(is_field_value(value.as_bytes()), "{value:?} is no value of a field");
        let start = self.text.len();
        let value_start = start + name.written().len();
        // What fits at its end fits before.
        let end = u32::try_from(value_start + value.len()).map_err(|_| FieldError::Length)?;
        let [name_start, value_start] = [start, value_start].map(|at| u32::try_from(at).unwrap_or(end));
        self.text.reserve(name.written().len() + value.len() + 2);
        self.text.push_str(name.written());
        self.text.push_str(value);
        self.text.push_str("\r\n");
        let line =
            Line { name_start, value_start, value: end - value_start, name: name.length(), tag: name.tag() };
        self.add(line);
        Ok(())
    }

    /// Replaces every line called `name` by one; it takes the place of the first, else stands at the end.
    ///
    /// # Errors
    /// As [`Fields::append`]; the old lines stay then.
    pub fn set(&mut self, name: &str, value: &[u8]) -> Result<(), FieldError> {
        let look = look(name.as_bytes());
        let place = self.lines.iter().position(|line| line.tag.may_be(look) && self.is_called(line, name));
        self.append(name, value)?;
        let Some(place) = place else { return Ok(()) };
        let Some(line) = self.lines.pop() else { return Ok(()) };
        if let Some(first) = self.lines.get_mut(place) {
            *first = line;
        }
        let mut index = 0;
        self.keep(|fields, line| {
            let keep = index <= place || !fields.is_called(line, name);
            index += 1;
            keep
        });
        Ok(())
    }

    /// Removes every line called `name` and says how many there were.
    pub fn remove(&mut self, name: &str) -> usize {
        let before = self.lines.len();
        if self.contains(name) {
            self.keep(|fields, line| !fields.is_called(line, name));
        }
        before - self.lines.len()
    }

    /// Keeps the lines for which `keep(name, value)` holds.
    pub fn retain(&mut self, mut keep: impl FnMut(&str, &[u8]) -> bool) {
        self.keep(|fields, line| keep(fields.name_of(line), fields.value_of(line)));
    }

    /// Keeps the lines for which `keep` holds.
    pub(crate) fn retain_lines(&mut self, mut keep: impl FnMut(FieldLine<'_>) -> bool) {
        self.keep(|fields, line| keep(FieldLine { fields, line }));
    }

    /// Writes those lines for which `keep` holds; what lies together is written at once.
    pub(crate) fn write(&self, out: &mut impl BufMut, mut keep: impl FnMut(FieldLine<'_>) -> bool) {
        let (mut start, mut end) = (0, 0);
        let run = |from: usize, to: usize| self.text.as_bytes().get(from..to).unwrap_or(&[]);
        for line in &self.lines {
            let line = FieldLine { fields: self, line };
            if !keep(line) {
                continue;
            }
            let (from, to) = line.place();
            if line.line.tag.is_written() && from == end {
                end = to;
                continue;
            }
            out.put_slice(run(start, end));
            if line.line.tag.is_written() {
                (start, end) = (from, to);
                continue;
            }
            (start, end) = (0, 0);
            out.put_slice(line.name().as_bytes());
            out.put_slice(b": ");
            out.put_slice(line.value());
            out.put_slice(b"\r\n");
        }
        out.put_slice(run(start, end));
    }

    fn keep(&mut self, mut keep: impl FnMut(&Self, &Line) -> bool) {
        let mut lines = std::mem::take(&mut self.lines);
        lines.retain(|line| keep(self, line));
        self.lines = lines;
    }

    fn push(&mut self, name: &str, value: &[u8]) -> Result<(), FieldError> {
        match std::str::from_utf8(value) {
            Ok(value) => self.push_text(name, value, Tag::of(name.as_bytes())),
            Err(_) => self.push_apart(name, value),
        }
    }

    fn push_text(&mut self, name: &str, value: &str, tag: Tag) -> Result<(), FieldError> {
        let name_len = u16::try_from(name.len()).map_err(|_| FieldError::Length)?;
        let start = self.text.len();
        let value_start = start + name.len() + 2;
        // What fits at its end fits before.
        let end = u32::try_from(value_start + value.len()).map_err(|_| FieldError::Length)?;
        let [name_start, value_start] = [start, value_start].map(|at| u32::try_from(at).unwrap_or(end));
        self.text.reserve(name.len() + value.len() + FRAME);
        self.text.push_str(name);
        self.text.push_str(": ");
        self.text.push_str(value);
        self.text.push_str("\r\n");
        self.add(Line {
            name_start,
            value_start,
            value: end - value_start,
            name: name_len,
            tag: tag.written(),
        });
        Ok(())
    }

    fn push_apart(&mut self, name: &str, value: &[u8]) -> Result<(), FieldError> {
        let name_len = u16::try_from(name.len()).map_err(|_| FieldError::Length)?;
        let name_start = u32::try_from(self.text.len()).map_err(|_| FieldError::Length)?;
        name_start.checked_add(u32::from(name_len)).ok_or(FieldError::Length)?;
        let (value_start, value_len) = draft::lay_apart(&mut self.apart, value)?;
        self.text.push_str(name);
        let tag = Tag::of(name.as_bytes()).apart();
        self.add(Line { name_start, value_start, value: value_len, name: name_len, tag });
        Ok(())
    }

    fn add(&mut self, line: Line) {
        self.seen.join(line.tag);
        self.lines.push(line);
    }

    fn called<'f>(&'f self, name: &'f str) -> impl DoubleEndedIterator<Item = &'f Line> + Clone {
        let look = look(name.as_bytes());
        let lines = if self.seen.may_be(look) { self.lines.as_slice() } else { &[] };
        lines.iter().filter(move |line| line.tag.may_be(look) && self.is_called(line, name))
    }

    fn is_called(&self, line: &Line, name: &str) -> bool {
        usize::from(line.name) == name.len() && self.name_bytes(line).eq_ignore_ascii_case(name.as_bytes())
    }

    fn name_bytes(&self, line: &Line) -> &[u8] {
        let start = line.name_start as usize;
        self.text.as_bytes().get(start..start + usize::from(line.name)).unwrap_or(&[])
    }

    fn name_of(&self, line: &Line) -> &str {
        let start = line.name_start as usize;
        self.text.get(start..start + usize::from(line.name)).unwrap_or("")
    }

    /// The value if it is text. Beside names, only what is text lies in [`Self::text`].
    fn text_of(&self, line: &Line) -> Option<&str> {
        if line.tag.is_apart() {
            return std::str::from_utf8(self.value_of(line)).ok();
        }
        let start = line.value_start as usize;
        self.text.get(start..start + line.value as usize)
    }

    fn value_of(&self, line: &Line) -> &[u8] {
        let bytes = if line.tag.is_apart() { &self.apart } else { self.text.as_bytes() };
        let start = line.value_start as usize;
        bytes.get(start..start + line.value as usize).unwrap_or(&[])
    }
}

impl<'f> FieldLine<'f> {
    /// Name in the sender's case.
    pub(crate) fn name(self) -> &'f str {
        self.fields.name_of(self.line)
    }

    /// [`FieldLine::name`] as bytes, which costs less to get.
    pub(crate) fn name_bytes(self) -> &'f [u8] {
        self.fields.name_bytes(self.line)
    }

    /// Value.
    pub(crate) fn value(self) -> &'f [u8] {
        self.fields.value_of(self.line)
    }

    /// True when it is called by one of `names`.
    pub(crate) fn is_one_of(self, names: &NameSet) -> bool {
        names.may_hold(self.line.tag) && names.holds(self.fields.name_bytes(self.line))
    }

    /// True when it is called by a name of `names` that [`NameSet`] gives the same look.
    pub(crate) fn may_be_one_of(self, names: &NameSet) -> bool {
        names.may_hold(self.line.tag)
    }

    /// False when its name is certainly none of those that `looks` took in.
    pub(crate) fn may_look(self, looks: Looks) -> bool {
        looks.may_hold(self.line.tag)
    }

    /// Its name holds a `_`.
    pub(crate) fn has_underscore(self) -> bool {
        self.line.tag.has_underscore()
    }

    /// Its name holds a byte that is neither letter, digit, `-` nor `_`.
    pub(crate) fn is_odd(self) -> bool {
        self.line.tag.is_odd()
    }

    /// Where it lies as it is written.
    fn place(self) -> (usize, usize) {
        let end = self.line.value_start as usize + self.line.value as usize;
        (self.line.name_start as usize, end + 2)
    }

    /// The line as it is written, where it lies so.
    pub(super) fn written(self) -> Option<&'f str> {
        let (start, end) = self.place();
        if self.line.tag.is_written() { self.fields.text.get(start..end) } else { None }
    }
}

impl fmt::Debug for Fields {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let redacted = ["authorization", "proxy-authorization", "cookie", "set-cookie"];
        f.debug_map()
            .entries(self.iter().map(|(name, value)| {
                let secret = redacted.iter().any(|r| r.eq_ignore_ascii_case(name));
                (name, if secret { "…".into() } else { String::from_utf8_lossy(value) })
            }))
            .finish()
    }
}

/// True for a field value: no control byte but HTAB, no white space at either end (RFC 9110 section 5.5).
pub fn is_field_value(value: &[u8]) -> bool {
    !has_bare_edge(value) && find_control(value).is_none()
}

/// White space stands at an end of `value`.
pub(super) fn has_bare_edge(value: &[u8]) -> bool {
    let edge = |byte: Option<&u8>| matches!(byte, Some(b' ' | b'\t'));
    edge(value.first()) || edge(value.last())
}

#[cfg(test)]
mod tests;
