//! Client bytes made safe for one line: nginx's three escapings, with bounds (`B-23`).
//!
//! Whatever the client sent, a line stays one line: control characters and line separators never get out raw, in no
//! mode. A field is cut at [`FIELD_MAX`], a line at [`LINE_MAX`], never inside an escape or a character.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

/// Bytes of one escaped field.
pub const FIELD_MAX: usize = 4 * 1024;
/// Bytes of one line.
pub const LINE_MAX: usize = 16 * 1024;

/// `log-format-escape-*` of the ConfigMap.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Escape {
    /// nginx `escape=default`: `"`, `\`, control and non-ASCII bytes as `\xHH`; a missing value is `-`.
    #[default]
    Default,
    /// nginx `escape=json`: the inside of a JSON string; a missing value is empty.
    Json,
    /// nginx `escape=none`: as it came, except what would break the line or drive a terminal; a missing value is empty.
    None,
    /// As it came, for values that are looked up and never written like that.
    Verbatim,
}

/// A line under construction: appends values with escaping and within bounds.
#[derive(Debug)]
pub struct Out<'o> {
    buffer: &'o mut Vec<u8>,
    escape: Escape,
    line_left: usize,
    field_left: usize,
    truncated: bool,
}

/// Bytes that `escape=default` replaces.
const fn needs_default(byte: u8) -> bool {
    byte < 0x20 || byte > 0x7e || byte == b'"' || byte == b'\\'
}

static NEEDS_DEFAULT: [bool; 256] = {
    let mut table = [false; 256];
    let mut byte = 0;
    while byte < 256 {
        table[byte] = needs_default(byte as u8);
        byte += 1;
    }
    table
};

// === impl Out ===

impl<'o> Out<'o> {
    /// A line that may grow by `budget` bytes of values.
    pub fn new(buffer: &'o mut Vec<u8>, escape: Escape, budget: usize) -> Self {
        Self { buffer, escape, line_left: budget, field_left: FIELD_MAX, truncated: false }
    }

    /// Text of the operator or of ours: as it is, outside the bounds.
    pub fn literal(&mut self, text: &[u8]) {
        self.buffer.extend_from_slice(text);
    }

    /// A new field: its own bound begins.
    pub fn begin_field(&mut self) {
        self.field_left = FIELD_MAX.min(self.line_left);
    }

    /// A field without a value.
    pub fn missing(&mut self) {
        if self.escape == Escape::Default {
            self.atom(b"-");
        }
    }

    /// True when something was cut.
    pub fn is_truncated(&self) -> bool {
        self.truncated
    }

    /// Printable ASCII of ours without quotes: numbers, addresses, separators.
    pub fn plain(&mut self, text: &[u8]) {
        self.atom(text);
    }

    /// A whole number.
    pub fn number(&mut self, number: u64) {
        let mut digits = [0; 20];
        self.atom(decimal(number, &mut digits));
    }

    /// Seconds with milliseconds, as nginx writes times.
    pub fn seconds(&mut self, time: std::time::Duration) {
        let mut digits = [0; 20];
        let millis = time.subsec_millis();
        let fraction = [b'.', digit(millis / 100), digit(millis / 10), digit(millis)];
        self.atom(decimal(time.as_secs(), &mut digits));
        self.atom(&fraction);
    }

    /// An address without port.
    pub fn ip(&mut self, address: IpAddr) {
        match address {
            IpAddr::V4(address) => {
                let mut text = [0; 15];
                let text = dotted(address, &mut text);
                self.atom(text);
            }
            IpAddr::V6(address) => self.display(address),
        }
    }

    /// An address with port.
    pub fn socket(&mut self, address: SocketAddr) {
        match address {
            SocketAddr::V4(address) => {
                self.ip(IpAddr::V4(*address.ip()));
                self.atom(b":");
                self.number(address.port().into());
            }
            SocketAddr::V6(address) => self.display(address),
        }
    }

    /// Anything short that can be displayed.
    pub fn display(&mut self, value: impl std::fmt::Display) {
        use std::io::Write;
        let mut text = [0_u8; 64];
        let mut rest = &mut text[..];
        let fits = write!(rest, "{value}").is_ok();
        let left = rest.len();
        if fits {
            self.text(text.get(..64_usize.saturating_sub(left)).unwrap_or_default());
        }
    }

    /// Bytes of unknown origin.
    pub fn text(&mut self, bytes: &[u8]) {
        match self.escape {
            Escape::Default => self.text_default(bytes),
            Escape::Json => self.text_utf8(bytes, json_escape),
            Escape::None => self.text_utf8(bytes, none_escape),
            Escape::Verbatim => self.run(bytes),
        }
    }

    fn text_default(&mut self, mut bytes: &[u8]) {
        while let Some(at) = bytes.iter().position(|byte| NEEDS_DEFAULT[usize::from(*byte)]) {
            let (plain, rest) = bytes.split_at(at);
            self.run(plain);
            if let Some((byte, rest)) = rest.split_first() {
                self.atom(&hex_escape(*byte));
                bytes = rest;
            }
            if self.field_left == 0 {
                return;
            }
        }
        self.run(bytes);
    }

    /// JSON and none look at characters: the table gives the escape of one, or nothing.
    fn text_utf8(&mut self, bytes: &[u8], escape: fn(char) -> Option<EscapeText>) {
        for chunk in bytes.utf8_chunks() {
            let mut valid = chunk.valid();
            while let Some((at, found, text)) =
                valid.char_indices().find_map(|(at, c)| escape(c).map(|text| (at, c, text)))
            {
                let (plain, rest) = valid.split_at(at);
                self.run_str(plain);
                self.atom(text.as_bytes());
                valid = rest.get(found.len_utf8()..).unwrap_or_default();
                if self.field_left == 0 {
                    return;
                }
            }
            self.run_str(valid);
            for byte in chunk.invalid() {
                match self.escape {
                    Escape::Json => self.atom(EscapeText::unicode(u32::from(*byte)).as_bytes()),
                    Escape::Default | Escape::None | Escape::Verbatim => self.atom(&hex_escape(*byte)),
                }
            }
        }
    }

    /// Bytes that may be cut anywhere.
    fn run(&mut self, bytes: &[u8]) {
        let fits = bytes.len().min(self.field_left);
        self.push(bytes.get(..fits).unwrap_or_default(), fits < bytes.len());
    }

    /// Characters, cut between two of them.
    fn run_str(&mut self, text: &str) {
        let fits = text.floor_char_boundary(self.field_left);
        self.push(text.get(..fits).unwrap_or_default().as_bytes(), fits < text.len());
    }

    /// Bytes that are written whole or not at all.
    fn atom(&mut self, bytes: &[u8]) {
        if bytes.len() <= self.field_left {
            self.push(bytes, false);
        } else {
            self.push(b"", true);
        }
    }

    fn push(&mut self, bytes: &[u8], cut: bool) {
        self.buffer.extend_from_slice(bytes);
        self.line_left = self.line_left.saturating_sub(bytes.len());
        // After a cut nothing more of the field may follow, or its end would look like its middle.
        self.field_left = if cut { 0 } else { self.field_left.saturating_sub(bytes.len()) };
        self.truncated |= cut;
    }
}

/// Text of one escape, at most `\u2028`.
#[derive(Debug, Clone, Copy)]
struct EscapeText {
    bytes: [u8; 6],
    length: usize,
}

impl EscapeText {
    const fn short(letter: u8) -> Self {
        Self { bytes: [b'\\', letter, 0, 0, 0, 0], length: 2 }
    }

    const fn unicode(code: u32) -> Self {
        let bytes = [b'\\', b'u', hex(code >> 12), hex(code >> 8), hex(code >> 4), hex(code)];
        Self { bytes, length: 6 }
    }

    fn as_bytes(&self) -> &[u8] {
        self.bytes.get(..self.length).unwrap_or_default()
    }
}

/// True for what moves to another line or drives a terminal: C0, DEL, C1 and the Unicode line separators.
const fn is_control(c: char) -> bool {
    matches!(c, '\0'..='\x1f' | '\x7f'..='\u{9f}' | '\u{2028}' | '\u{2029}')
}

/// RFC 8259 section 7, and what [`is_control`] adds.
const fn json_escape(c: char) -> Option<EscapeText> {
    match c {
        '"' => Some(EscapeText::short(b'"')),
        '\\' => Some(EscapeText::short(b'\\')),
        '\n' => Some(EscapeText::short(b'n')),
        '\r' => Some(EscapeText::short(b'r')),
        '\t' => Some(EscapeText::short(b't')),
        '\x08' => Some(EscapeText::short(b'b')),
        '\x0c' => Some(EscapeText::short(b'f')),
        c if is_control(c) => Some(EscapeText::unicode(c as u32)),
        _ => None,
    }
}

const fn none_escape(c: char) -> Option<EscapeText> {
    if is_control(c) { Some(EscapeText::unicode(c as u32)) } else { None }
}

const fn hex(nibble: u32) -> u8 {
    match (nibble & 0xf) as u8 {
        low @ 0..=9 => b'0' + low,
        high => b'A' + (high - 10),
    }
}

const fn hex_escape(byte: u8) -> [u8; 4] {
    [b'\\', b'x', hex((byte >> 4) as u32), hex(byte as u32)]
}

const fn digit(number: u32) -> u8 {
    b'0' + (number % 10) as u8
}

/// The text of an IPv4 address; the standard formatter is many times slower, and every line has two.
fn dotted(address: Ipv4Addr, text: &mut [u8; 15]) -> &[u8] {
    let mut end = 0;
    let mut push = |byte: u8| {
        if let Some(place) = text.get_mut(end) {
            *place = byte;
            end += 1;
        }
    };
    for (index, octet) in address.octets().into_iter().enumerate() {
        if index > 0 {
            push(b'.');
        }
        if octet >= 100 {
            push(b'0' + octet / 100);
        }
        if octet >= 10 {
            push(b'0' + octet / 10 % 10);
        }
        push(b'0' + octet % 10);
    }
    text.get(..end).unwrap_or_default()
}

fn decimal(mut number: u64, digits: &mut [u8; 20]) -> &[u8] {
    let mut at = digits.len();
    loop {
        at = at.saturating_sub(1);
        if let Some(place) = digits.get_mut(at) {
            *place = digit((number % 10) as u32);
        }
        number /= 10;
        if number == 0 {
            return digits.get(at..).unwrap_or_default();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn escaped(bytes: &[u8], escape: Escape) -> String {
        let mut buffer = Vec::new();
        let mut out = Out::new(&mut buffer, escape, LINE_MAX);
        out.begin_field();
        out.text(bytes);
        String::from_utf8_lossy(&buffer).into_owned()
    }

    #[test]
    fn default_escapes_what_nginx_escapes_and_nothing_else() {
        for byte in 0..=255_u8 {
            let expect = match byte {
                b'"' | b'\\' | 0..=0x1f | 0x7f..=0xff => format!("\\x{byte:02X}"),
                _ => char::from(byte).to_string(),
            };
            assert_eq!(escaped(&[byte], Escape::Default), expect);
        }
        assert_eq!(escaped("a\"b\u{fc}c".as_bytes(), Escape::Default), r"a\x22b\xC3\xBCc");
    }

    #[test]
    fn json_escapes_parse_back_and_keep_unicode() {
        for (bytes, expect) in [
            (&b"plain /path?a=b"[..], "plain /path?a=b"),
            (b"q\"b\\s", r#"q\"b\\s"#),
            (b"\n\r\t\x08\x0c\x00\x1b", r"\n\r\t\b\f\u0000\u001B"),
            ("\u{2028}\u{2029}\u{85}\u{7f}".as_bytes(), r"\u2028\u2029\u0085\u007F"),
            ("grün 漢".as_bytes(), "grün 漢"),
            (b"bad\xff\xfeend", r"bad\u00FF\u00FEend"),
            (b"cut\xe6\xbc", r"cut\u00E6\u00BC"),
        ] {
            assert_eq!(escaped(bytes, Escape::Json), expect);
        }
    }

    #[test]
    fn none_keeps_quotes_but_never_a_line_feed_or_an_escape_sequence() {
        assert_eq!(escaped(b"a\"b\\c", Escape::None), "a\"b\\c");
        assert_eq!(escaped(b"a\nb\x1b[31m", Escape::None), r"a\u000Ab\u001B[31m");
        assert_eq!(escaped(b"\xff", Escape::None), r"\xFF");
    }

    #[test]
    fn a_field_is_cut_at_its_bound_and_never_inside_an_escape() {
        for (escape, unit) in
            [(Escape::Default, &b"\n"[..]), (Escape::Json, b"\x01"), (Escape::Json, "漢".as_bytes())]
        {
            let text = escaped(&unit.repeat(8_000), escape);
            let whole = escaped(unit, escape);
            assert!(text.len() <= FIELD_MAX && text.len() > FIELD_MAX - whole.len());
            assert_eq!(text, whole.repeat(text.len() / whole.len()));
        }
    }

    #[test]
    fn after_a_cut_the_rest_of_the_field_stays_out() {
        let mut buffer = Vec::new();
        let mut out = Out::new(&mut buffer, Escape::Default, 10);
        out.begin_field();
        out.text(b"123456789\n");
        out.text(b"x");
        assert!(out.is_truncated());
        out.begin_field();
        out.text(b"yz");
        assert_eq!(buffer, b"123456789y");
    }

    #[test]
    fn addresses_are_written_as_the_standard_formatter_writes_them() {
        for text in
            ["0.0.0.0:0", "1.20.255.100:65535", "127.0.0.1:80", "[2001:db8::1]:443", "[::ffff:1.2.3.4]:1"]
        {
            let address: SocketAddr = text.parse().unwrap();
            let mut buffer = Vec::new();
            let mut out = Out::new(&mut buffer, Escape::Default, LINE_MAX);
            out.begin_field();
            out.socket(address);
            out.plain(b" ");
            out.ip(address.ip());
            assert_eq!(String::from_utf8(buffer).unwrap(), format!("{address} {}", address.ip()));
        }
    }

    #[test]
    fn numbers_and_times_are_written_as_nginx_writes_them() {
        let mut buffer = Vec::new();
        let mut out = Out::new(&mut buffer, Escape::Default, LINE_MAX);
        out.begin_field();
        out.number(0);
        out.plain(b" ");
        out.number(u64::MAX);
        out.plain(b" ");
        out.seconds(std::time::Duration::from_micros(12_345_678));
        out.plain(b" ");
        out.seconds(std::time::Duration::from_micros(999));
        assert_eq!(buffer, b"0 18446744073709551615 12.345 0.000");
    }
}
