//! The field lines of one message (RFC 9110 section 5), in order, with the case the sender chose.
//!
//! Names lie in one buffer, values in another, and a line is a pair of ranges, so taking a head from a socket costs
//! one copy and forwarding it none per field. Names compare ASCII case-insensitively; they are text, so that looking
//! at one needs no check of its encoding.

use std::fmt;

use super::line::find_control;

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

#[derive(Clone, Copy)]
struct Line {
    name_start: u32,
    name: u16,
    value_start: u32,
    value: u32,
}

/// Room for lines that a section made for a head starts with.
const USUAL_LINES: usize = 16;

/// Ordered field lines of a head or a trailer section.
#[derive(Clone, Default)]
pub struct Fields {
    names: String,
    values: Vec<u8>,
    // Not in place: heads are moved more often than made, and wait in the futures of requests.
    lines: Vec<Line>,
}

impl Fields {
    /// An empty section.
    pub fn new() -> Self {
        Self::default()
    }

    /// An empty section with room for `bytes` of names and values.
    pub fn with_capacity(bytes: usize) -> Self {
        // Names of usual heads take less than a third.
        let names = bytes / 2;
        Self {
            names: String::with_capacity(names),
            values: Vec::with_capacity(bytes - names / 2),
            lines: Vec::with_capacity(USUAL_LINES),
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

    /// Bytes of names and values held (removed lines may still count).
    pub fn text_len(&self) -> usize {
        self.names.len() + self.values.len()
    }

    /// Removes all lines and keeps the memory.
    pub fn clear(&mut self) {
        self.names.clear();
        self.values.clear();
        self.lines.clear();
    }

    /// All lines in order as `(name, value)`; the name in the sender's case.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = (&str, &[u8])> + Clone {
        self.lines.iter().map(|line| (self.name_of(line), self.value_of(line)))
    }

    /// The value of the first line called `name`.
    pub fn get(&self, name: &str) -> Option<&[u8]> {
        let line = self.lines.iter().find(|line| self.name_of(line).eq_ignore_ascii_case(name))?;
        Some(self.value_of(line))
    }

    /// The value of the first line called `name` if it is UTF-8.
    pub fn get_str(&self, name: &str) -> Option<&str> {
        self.get(name).and_then(|value| std::str::from_utf8(value).ok())
    }

    /// The values of all lines called `name`, in order.
    pub fn get_all<'f>(&'f self, name: &'f str) -> impl DoubleEndedIterator<Item = &'f [u8]> + Clone {
        self.lines
            .iter()
            .filter(move |line| self.name_of(line).eq_ignore_ascii_case(name))
            .map(|line| self.value_of(line))
    }

    /// The value of a field that may stand at most once.
    ///
    /// # Errors
    /// [`Repeated`] when two or more lines carry it.
    pub fn get_only(&self, name: &str) -> Result<Option<&[u8]>, Repeated> {
        let mut lines = self.lines.iter().filter(|line| self.name_of(line).eq_ignore_ascii_case(name));
        let first = lines.next();
        if lines.next().is_some() { Err(Repeated) } else { Ok(first.map(|line| self.value_of(line))) }
    }

    /// True when a line called `name` is there.
    pub fn contains(&self, name: &str) -> bool {
        self.get(name).is_some()
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

    /// Adds a line that was judged before: by a parser of this module, or because it stands in another section.
    ///
    /// # Errors
    /// [`FieldError::Length`].
    pub(crate) fn push_parsed(&mut self, name: &str, value: &[u8]) -> Result<(), FieldError> {
        debug_assert!(is_token(name.as_bytes()), "parser let the name {name:?} through");
        self.push(name, value)
    }

    /// [`Fields::append`] for a name of ours, which needs no look at its bytes.
    ///
    /// # Errors
    /// As [`Fields::append`].
    pub(crate) fn append_own(&mut self, name: &'static str, value: &[u8]) -> Result<(), FieldError> {
        debug_assert!(is_token(name.as_bytes()), "{name:?} is no token");
        if is_field_value(value) { self.push(name, value) } else { Err(FieldError::Value) }
    }

    /// Replaces every line called `name` by one; it takes the place of the first, else stands at the end.
    ///
    /// # Errors
    /// As [`Fields::append`]; the old lines stay then.
    pub fn set(&mut self, name: &str, value: &[u8]) -> Result<(), FieldError> {
        let place = self.lines.iter().position(|line| self.name_of(line).eq_ignore_ascii_case(name));
        self.append(name, value)?;
        let Some(place) = place else { return Ok(()) };
        let Some(line) = self.lines.pop() else { return Ok(()) };
        if let Some(first) = self.lines.get_mut(place) {
            *first = line;
        }
        let mut index = 0;
        let names = &self.names;
        self.lines.retain(|line| {
            let keep = index <= place || !name_in(names, line).eq_ignore_ascii_case(name);
            index += 1;
            keep
        });
        Ok(())
    }

    /// Removes every line called `name` and says how many there were.
    pub fn remove(&mut self, name: &str) -> usize {
        let before = self.lines.len();
        let names = &self.names;
        self.lines.retain(|line| !name_in(names, line).eq_ignore_ascii_case(name));
        before - self.lines.len()
    }

    /// Keeps the lines for which `keep(name, value)` holds.
    pub fn retain(&mut self, mut keep: impl FnMut(&str, &[u8]) -> bool) {
        let (names, values) = (&self.names, &self.values);
        self.lines.retain(|line| keep(name_in(names, line), value_in(values, line)));
    }

    fn push(&mut self, name: &str, value: &[u8]) -> Result<(), FieldError> {
        let name_start = u32::try_from(self.names.len()).map_err(|_| FieldError::Length)?;
        let name_len = u16::try_from(name.len()).map_err(|_| FieldError::Length)?;
        name_start.checked_add(u32::from(name_len)).ok_or(FieldError::Length)?;
        let value_start = u32::try_from(self.values.len()).map_err(|_| FieldError::Length)?;
        let value_len = u32::try_from(value.len()).map_err(|_| FieldError::Length)?;
        value_start.checked_add(value_len).ok_or(FieldError::Length)?;
        self.names.push_str(name);
        self.values.extend_from_slice(value);
        self.lines.push(Line { name_start, name: name_len, value_start, value: value_len });
        Ok(())
    }

    fn name_of(&self, line: &Line) -> &str {
        name_in(&self.names, line)
    }

    fn value_of(&self, line: &Line) -> &[u8] {
        value_in(&self.values, line)
    }
}

fn name_in<'t>(names: &'t str, line: &Line) -> &'t str {
    let start = line.name_start as usize;
    names.get(start..start + usize::from(line.name)).unwrap_or("")
}

fn value_in<'t>(values: &'t [u8], line: &Line) -> &'t [u8] {
    let start = line.value_start as usize;
    values.get(start..start + line.value as usize).unwrap_or(&[])
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

/// True for a non-empty token (RFC 9110 section 5.6.2).
pub fn is_token(bytes: &[u8]) -> bool {
    !bytes.is_empty() && bytes.iter().all(|byte| is_tchar(*byte))
}

/// Which bytes may stand in a token.
const TCHARS: [bool; 256] = {
    let mut table = [false; 256];
    let mut byte = 0;
    while byte < 256 {
        table[byte] = matches!(byte as u8, b'0'..=b'9' | b'a'..=b'z' | b'A'..=b'Z' | b'!' | b'#' | b'$' | b'%' | b'&'
            | b'\'' | b'*' | b'+' | b'-' | b'.' | b'^' | b'_' | b'`' | b'|' | b'~');
        byte += 1;
    }
    table
};

/// True for a byte that may stand in a token.
pub const fn is_tchar(byte: u8) -> bool {
    // No byte lies outside of the table.
    TCHARS[byte as usize]
}

/// True for a field value: no control byte but HTAB, no white space at either end (RFC 9110 section 5.5).
pub fn is_field_value(value: &[u8]) -> bool {
    let edge = |byte: Option<&u8>| matches!(byte, Some(b' ' | b'\t'));
    !edge(value.first()) && !edge(value.last()) && find_control(value).is_none()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Fields {
        let mut fields = Fields::new();
        for (name, value) in [("Host", "a.test"), ("X-A", "1"), ("Accept", "*/*"), ("x-a", "2")] {
            fields.append(name, value.as_bytes()).unwrap();
        }
        fields
    }

    fn text(fields: &Fields) -> String {
        fields.iter().map(|(n, v)| format!("{n}={};", String::from_utf8_lossy(v))).collect()
    }

    #[test]
    fn token_bytes_are_those_of_the_standard() {
        let token = b"!#$%&'*+-.^_`|~";
        for byte in 0..=255u8 {
            assert_eq!(is_tchar(byte), byte.is_ascii_alphanumeric() || token.contains(&byte), "{byte:#x}");
            assert_eq!(
                is_field_value(&[b'a', byte, b'b']),
                byte == b'\t' || (byte >= 0x20 && byte != 0x7f),
                "{byte:#x}"
            );
        }
    }

    #[test]
    fn lookup_ignores_case_and_order_is_kept() {
        let fields = sample();
        assert_eq!(fields.get("host"), Some(&b"a.test"[..]));
        assert_eq!(fields.get_all("X-a").collect::<Vec<_>>(), [b"1", b"2"]);
        assert_eq!(fields.get_only("x-A"), Err(Repeated));
        assert_eq!(fields.get_only("absent"), Ok(None));
        assert_eq!(text(&fields), "Host=a.test;X-A=1;Accept=*/*;x-a=2;");
    }

    #[test]
    fn set_replaces_every_line_in_the_place_of_the_first() {
        let mut fields = sample();
        fields.set("X-a", b"new").unwrap();
        assert_eq!(text(&fields), "Host=a.test;X-a=new;Accept=*/*;");
        fields.set("Late", b"z").unwrap();
        assert_eq!(text(&fields), "Host=a.test;X-a=new;Accept=*/*;Late=z;");
    }

    #[test]
    fn remove_takes_all_lines_of_the_name() {
        let mut fields = sample();
        assert_eq!(fields.remove("X-A"), 2);
        assert_eq!(text(&fields), "Host=a.test;Accept=*/*;");
    }

    #[test]
    fn lines_that_would_split_a_head_are_refused() {
        let mut fields = sample();
        for value in [&b"a\r\nX: y"[..], b"a\0", b"\x7f", b" lead", b"trail "] {
            assert_eq!(fields.append("X", value), Err(FieldError::Value), "{value:?}");
        }
        for name in ["", "a b", "a:", "\r\n", "é"] {
            assert_eq!(fields.append(name, b"v"), Err(FieldError::Name), "{name:?}");
        }
        assert_eq!(fields.len(), 4);
        fields.append("ok", b"tab\there \xff").unwrap();
    }

    #[test]
    fn debug_text_hides_credentials() {
        let mut fields = Fields::new();
        fields.append("Authorization", b"Basic c2VjcmV0").unwrap();
        fields.append("cookie", b"sid=secret").unwrap();
        let text = format!("{fields:?}");
        assert!(!text.contains("c2VjcmV0") && !text.contains("secret"), "{text}");
    }
}
