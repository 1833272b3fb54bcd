//! PCRE text (byte mode, no UTF) into the dialect of `regex` and `fancy-regex` in ASCII byte mode.
//!
//! Every byte of the pattern that is not ASCII, and every literal inside a class, becomes `\xHH`; escapes and quantifiers
//! that read differently are spelled out; what no engine knows is refused. Two texts come out: `linear` where `$` is the
//! very end, and `exact` where `$` also stands before a final newline.

use super::PatternError;

/// Result of a translation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Translated {
    /// For the linear engine; meaningless when `backtracks`.
    pub(super) linear: String,
    /// For the backtracking engine.
    pub(super) exact: String,
    /// Needs the backtracking engine.
    pub(super) backtracks: bool,
    /// Holds a `$` (or `\Z`) that also matches before a final newline.
    pub(super) dollar: bool,
    /// Has a `|` outside every group.
    pub(super) top_alternation: bool,
}

struct Scanner<'t> {
    text: &'t [u8],
    at: usize,
    out: Translated,
    /// Flag `m` and `x` of every open group, outermost first.
    flags: Vec<Flags>,
    groups: u32,
    max_nest: usize,
    /// The last thing can take a quantifier.
    quantifiable: bool,
}

#[derive(Debug, Clone, Copy, Default)]
struct Flags {
    multi_line: bool,
    extended: bool,
}

/// Bytes with a meaning of their own in both dialects.
const META: &[u8] = br"\.+*?()|[]{}^$";

/// Text that matches exactly `text`.
pub fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for letter in text.chars() {
        if letter.is_ascii() && META.contains(&(letter as u8)) {
            out.push('\\');
        }
        out.push(letter);
    }
    out
}

/// The text before the first metacharacter, escaped ordinary characters included: what every match of `^text` starts
/// with (`B-12`). A character that a quantifier makes optional does not belong to it.
pub fn literal_prefix(text: &str) -> String {
    let mut out = String::new();
    let mut letters = text.strip_prefix('^').unwrap_or(text).chars().peekable();
    while let Some(letter) = letters.next() {
        let literal = match letter {
            '\\' => match letters.next() {
                Some(escaped) if !escaped.is_ascii_alphanumeric() => escaped,
                _ => break,
            },
            meta if meta.is_ascii() && META.contains(&(meta as u8)) => {
                if meta == '|' {
                    out.clear();
                }
                break;
            }
            other => other,
        };
        if matches!(letters.peek(), Some('*' | '?' | '{')) {
            break;
        }
        out.push(literal);
    }
    if has_top_alternation(text) { String::new() } else { out }
}

fn has_top_alternation(text: &str) -> bool {
    let (mut depth, mut class, mut escaped) = (0_usize, false, false);
    for byte in text.bytes() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b'[' => class = true,
            b']' => class = false,
            _ if class => {}
            b'(' => depth += 1,
            b')' => depth = depth.saturating_sub(1),
            b'|' if depth == 0 => return true,
            _ => {}
        }
    }
    false
}

/// Translates; `max_nest` bounds groups inside groups.
pub(super) fn translate(text: &[u8], max_nest: usize) -> Result<Translated, PatternError> {
    let out = Translated {
        linear: String::with_capacity(text.len() + 8),
        exact: String::with_capacity(text.len() + 8),
        backtracks: false,
        dollar: false,
        top_alternation: false,
    };
    let flags = vec![Flags::default()];
    let mut scanner = Scanner { text, at: 0, out, flags, groups: 0, max_nest, quantifiable: false };
    while let Some(byte) = scanner.next() {
        scanner.step(byte)?;
    }
    if scanner.flags.len() > 1 {
        return Err(syntax("a group is not closed"));
    }
    Ok(scanner.out)
}

fn syntax(reason: &str) -> PatternError {
    PatternError::Syntax(reason.into())
}

fn unsupported(what: impl Into<String>) -> PatternError {
    PatternError::Unsupported(what.into())
}

impl Scanner<'_> {
    fn peek(&self) -> Option<u8> {
        self.text.get(self.at).copied()
    }

    fn next(&mut self) -> Option<u8> {
        let byte = self.peek()?;
        self.at += 1;
        Some(byte)
    }

    fn eat(&mut self, expected: &[u8]) -> bool {
        let found = self.text.get(self.at..).is_some_and(|rest| rest.starts_with(expected));
        if found {
            self.at += expected.len();
        }
        found
    }

    fn emit(&mut self, text: &str) {
        self.out.linear.push_str(text);
        self.out.exact.push_str(text);
    }

    /// One byte that stands for itself.
    fn literal(&mut self, byte: u8) {
        let text = match byte {
            _ if META.contains(&byte) => format!("\\{}", char::from(byte)),
            b'#' | b'&' | b'~' | b'-' | b' ' | 0..=0x1f | 0x7f.. => format!("\\x{byte:02X}"),
            _ => char::from(byte).to_string(),
        };
        self.emit(&text);
        self.quantifiable = true;
    }

    fn flags(&mut self) -> &mut Flags {
        if self.flags.is_empty() {
            self.flags.push(Flags::default());
        }
        let last = self.flags.len() - 1;
        &mut self.flags[last]
    }

    fn step(&mut self, byte: u8) -> Result<(), PatternError> {
        match byte {
            b'\\' => self.escape(),
            b'[' => self.class(),
            b'(' => self.open(),
            b')' => {
                if self.flags.len() < 2 {
                    return Err(syntax("a closing parenthesis has no opening one"));
                }
                self.flags.pop();
                self.emit(")");
                self.quantifiable = true;
                Ok(())
            }
            b'|' => {
                self.out.top_alternation |= self.flags.len() == 1;
                self.emit("|");
                self.quantifiable = false;
                Ok(())
            }
            b'*' | b'+' | b'?' => self.quantifier(&char::from(byte).to_string()),
            b'{' => match self.counted() {
                Some(text) => self.quantifier(&text),
                None => {
                    self.literal(b'{');
                    Ok(())
                }
            },
            b'$' => {
                self.dollar();
                Ok(())
            }
            b'^' => {
                self.emit("^");
                self.quantifiable = false;
                Ok(())
            }
            b'.' => {
                self.emit(".");
                self.quantifiable = true;
                Ok(())
            }
            b' ' | b'\t' | b'\n' | b'\r' | 0x0b | 0x0c if self.flags().extended => Ok(()),
            b'#' if self.flags().extended => {
                while self.next().is_some_and(|byte| byte != b'\n') {}
                Ok(())
            }
            other => {
                self.literal(other);
                Ok(())
            }
        }
    }

    fn dollar(&mut self) {
        self.quantifiable = false;
        if self.flags().multi_line {
            return self.emit("$");
        }
        self.out.dollar = true;
        self.out.linear.push_str(r"\z");
        self.out.exact.push_str(r"(?=\n?\z)");
    }

    /// `{n}`, `{n,}` or `{n,m}` after the brace; `None` when the brace is a literal.
    fn counted(&mut self) -> Option<String> {
        let rest = self.text.get(self.at..)?;
        let end = rest.iter().position(|byte| *byte == b'}')?;
        let inner = std::str::from_utf8(rest.get(..end)?).ok()?;
        let (low, high) = inner.split_once(',').map_or((inner, None), |(low, high)| (low, Some(high)));
        let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
        if low.is_empty() || !digits(low) || !high.is_none_or(digits) {
            return None;
        }
        let text = format!("{{{inner}}}");
        self.at += end + 1;
        Some(text)
    }

    fn quantifier(&mut self, text: &str) -> Result<(), PatternError> {
        if !self.quantifiable {
            return Err(syntax("a quantifier has nothing to repeat"));
        }
        self.quantifiable = false;
        self.emit(text);
        if self.eat(b"?") {
            self.emit("?");
        } else if self.eat(b"+") {
            self.out.backtracks = true;
            self.emit("+");
        }
        Ok(())
    }

    fn open(&mut self) -> Result<(), PatternError> {
        if self.flags.len() > self.max_nest {
            return Err(PatternError::TooLarge("groups are nested too deeply"));
        }
        if self.peek() == Some(b'*') {
            return Err(unsupported("a verb such as (*FAIL)"));
        }
        let inherited = *self.flags();
        self.quantifiable = false;
        if !self.eat(b"?") {
            self.groups += 1;
            self.emit("(");
            self.flags.push(inherited);
            return Ok(());
        }
        if self.eat(b"#") {
            while let Some(byte) = self.next() {
                if byte == b')' {
                    return Ok(());
                }
            }
            return Err(syntax("a comment is not closed"));
        }
        for (start, hard) in [(":", false), ("=", true), ("!", true), ("<=", true), ("<!", true), (">", true)]
        {
            if self.eat(start.as_bytes()) {
                self.out.backtracks |= hard;
                self.emit("(?");
                self.emit(start);
                self.flags.push(inherited);
                return Ok(());
            }
        }
        for (start, end) in [(&b"P<"[..], b'>'), (b"<", b'>'), (b"'", b'\'')] {
            if self.eat(start) {
                let name = self.name(end)?;
                self.groups += 1;
                self.emit(&format!("(?P<{name}>"));
                self.flags.push(inherited);
                return Ok(());
            }
        }
        if self.eat(b"P=") {
            let name = self.name(b')')?;
            return self.back_reference(&name);
        }
        self.inline_flags(inherited)
    }

    fn inline_flags(&mut self, inherited: Flags) -> Result<(), PatternError> {
        let (mut flags, mut on, mut text) = (inherited, true, String::new());
        while let Some(byte) = self.next() {
            match byte {
                b'i' | b's' | b'U' => text.push(char::from(byte)),
                b'm' => {
                    flags.multi_line = on;
                    text.push('m');
                }
                // Comments and spaces are removed here, so the engines never see this flag.
                b'x' => flags.extended = on,
                b'-' if on => {
                    on = false;
                    text.push('-');
                }
                b':' | b')' => {
                    let text = text.trim_end_matches('-');
                    if byte == b':' {
                        self.emit(&format!("(?{text}:"));
                        self.flags.push(flags);
                    } else {
                        if !text.is_empty() {
                            self.emit(&format!("(?{text})"));
                        }
                        *self.flags() = flags;
                    }
                    return Ok(());
                }
                other => return Err(unsupported(format!("the group (?{}…)", char::from(other)))),
            }
        }
        Err(syntax("a group is not closed"))
    }

    fn name(&mut self, end: u8) -> Result<String, PatternError> {
        let mut name = String::new();
        while let Some(byte) = self.next() {
            match byte {
                _ if byte == end && !name.is_empty() => return Ok(name),
                b'_' | b'0'..=b'9' | b'a'..=b'z' | b'A'..=b'Z' if name.len() < 32 => {
                    name.push(char::from(byte))
                }
                _ => break,
            }
        }
        Err(syntax("a group name is broken"))
    }

    fn back_reference(&mut self, name: &str) -> Result<(), PatternError> {
        self.out.backtracks = true;
        self.quantifiable = true;
        match name.parse::<u32>() {
            Ok(0) => return Err(syntax("a back-reference to group 0")),
            Ok(number) => self.emit(&format!("(?:\\{number})")),
            Err(_) => self.emit(&format!("(?:\\k<{name}>)")),
        }
        Ok(())
    }

    fn escape(&mut self) -> Result<(), PatternError> {
        let Some(byte) = self.next() else { return Err(syntax("a backslash ends the pattern")) };
        match byte {
            b'd' | b'D' | b'w' | b'W' | b's' | b'S' => {
                self.emit(&format!("\\{}", char::from(byte)));
                self.quantifiable = true;
            }
            b'h' => self.piece(r"[\t\x20\xA0]"),
            b'H' => self.piece(r"[^\t\x20\xA0]"),
            b'v' => self.piece(r"[\n\x0B\x0C\r\x85]"),
            b'V' => self.piece(r"[^\n\x0B\x0C\r\x85]"),
            b'N' => self.piece(r"[^\n]"),
            b'C' => self.piece("(?s:.)"),
            b'R' => self.piece(r"(?:\r\n|[\n\x0B\x0C\r\x85])"),
            b'b' | b'B' => self.assertion(&format!("\\{}", char::from(byte))),
            b'A' | b'G' => self.assertion(r"\A"),
            b'z' => self.assertion(r"\z"),
            b'Z' => {
                let flags = *self.flags();
                self.flags().multi_line = false;
                self.dollar();
                *self.flags() = flags;
            }
            b'K' => {
                self.out.backtracks = true;
                self.assertion(r"\K");
            }
            b'Q' => {
                while !self.eat(br"\E") {
                    let Some(byte) = self.next() else { break };
                    self.literal(byte);
                }
            }
            b'E' => {}
            b'1'..=b'9' => return self.numbered(byte),
            b'k' => {
                let end = match self.next() {
                    Some(b'<') => b'>',
                    Some(b'{') => b'}',
                    Some(b'\'') => b'\'',
                    _ => return Err(syntax(r"\k is not followed by a name")),
                };
                let name = self.name(end)?;
                return self.back_reference(&name);
            }
            b'g' => return self.relative_reference(),
            _ => {
                let byte = self.character(byte)?;
                self.literal(byte);
            }
        }
        Ok(())
    }

    fn piece(&mut self, text: &str) {
        self.emit(text);
        self.quantifiable = true;
    }

    fn assertion(&mut self, text: &str) {
        self.emit(text);
        self.quantifiable = false;
    }

    /// `\1` to `\9` are back-references; longer numbers are if there are so many groups, else octal.
    fn numbered(&mut self, first: u8) -> Result<(), PatternError> {
        let mut number = u32::from(first - b'0');
        let start = self.at;
        while let Some(digit @ b'0'..=b'9') = self.peek() {
            number = number.saturating_mul(10).saturating_add(u32::from(digit - b'0'));
            self.at += 1;
        }
        if number < 10 || number <= self.groups {
            return self.back_reference(&number.to_string());
        }
        self.at = start - 1;
        let byte = self.octal(3)?;
        self.literal(byte);
        Ok(())
    }

    fn relative_reference(&mut self) -> Result<(), PatternError> {
        let braced = self.eat(b"{");
        let negative = self.eat(b"-");
        let mut name = String::new();
        while let Some(byte @ (b'_' | b'0'..=b'9' | b'a'..=b'z' | b'A'..=b'Z')) = self.peek() {
            if !braced && !byte.is_ascii_digit() {
                break;
            }
            name.push(char::from(byte));
            self.at += 1;
        }
        if name.is_empty() || (braced && !self.eat(b"}")) {
            return Err(syntax(r"\g is not followed by a group"));
        }
        if !negative {
            return self.back_reference(&name);
        }
        let back: u32 = name.parse().map_err(|_| syntax(r"\g is not followed by a group"))?;
        match self.groups.checked_sub(back).and_then(|before| before.checked_add(1)) {
            Some(number) if back > 0 => self.back_reference(&number.to_string()),
            _ => Err(syntax("a relative back-reference points before the first group")),
        }
    }

    fn octal(&mut self, digits: usize) -> Result<u8, PatternError> {
        let mut value = 0_u32;
        for _ in 0..digits {
            let Some(digit @ b'0'..=b'7') = self.peek() else { break };
            value = value * 8 + u32::from(digit - b'0');
            self.at += 1;
        }
        u8::try_from(value).map_err(|_| syntax("a character code is above 255"))
    }

    /// The byte that an escape stands for, inside and outside classes.
    fn character(&mut self, byte: u8) -> Result<u8, PatternError> {
        Ok(match byte {
            b'a' => 0x07,
            b'e' => 0x1b,
            b'f' => 0x0c,
            b'n' => b'\n',
            b'r' => b'\r',
            b't' => b'\t',
            b'0' => self.octal(2)?,
            b'c' => match self.next() {
                Some(letter) if letter.is_ascii_graphic() => letter.to_ascii_uppercase() ^ 0x40,
                _ => return Err(syntax(r"\c is not followed by a character")),
            },
            b'x' => self.hex()?,
            other if other.is_ascii_alphanumeric() => {
                return Err(unsupported(format!("the escape \\{}", char::from(other))));
            }
            other => other,
        })
    }

    fn hex(&mut self) -> Result<u8, PatternError> {
        let braced = self.eat(b"{");
        let (mut value, mut digits) = (0_u32, 0);
        while let Some(digit) = self.peek().and_then(|byte| char::from(byte).to_digit(16)) {
            if digits == 2 && !braced {
                break;
            }
            value = value.saturating_mul(16).saturating_add(digit);
            digits += 1;
            self.at += 1;
        }
        if braced && !self.eat(b"}") {
            return Err(syntax(r"\x{ is not closed"));
        }
        u8::try_from(value).map_err(|_| unsupported("a character above 255 in byte mode"))
    }

    fn class(&mut self) -> Result<(), PatternError> {
        let mut text = String::from("[");
        if self.eat(b"^") {
            text.push('^');
        }
        let (mut first, mut from): (bool, Option<u8>) = (true, None);
        loop {
            let Some(byte) = self.next() else { return Err(syntax("a character class is not closed")) };
            match byte {
                b']' if !first => break,
                b'[' if self.posix(&mut text)? => from = None,
                b'\\' => from = self.class_escape(&mut text)?,
                b'-' if from.is_some() && self.peek().is_some_and(|next| next != b']') => {
                    let low = from.take().unwrap_or_default();
                    self.range(&mut text, low)?;
                }
                other => {
                    text.push_str(&format!("\\x{other:02X}"));
                    from = Some(other);
                }
            }
            first = false;
        }
        text.push(']');
        self.piece(&text);
        Ok(())
    }

    /// The end of a range whose low end is already written.
    fn range(&mut self, text: &mut String, low: u8) -> Result<(), PatternError> {
        let high = match self.next() {
            Some(b'\\') => match self.next() {
                Some(class @ (b'd' | b'D' | b'w' | b'W' | b's' | b'S')) => {
                    text.push_str(&format!("\\x2D\\{}", char::from(class)));
                    return Ok(());
                }
                Some(b'b') => 0x08,
                Some(byte) => self.character(byte)?,
                None => return Err(syntax("a backslash ends the pattern")),
            },
            Some(byte) => byte,
            None => return Err(syntax("a character class is not closed")),
        };
        if high < low {
            return Err(syntax("a range in a character class is out of order"));
        }
        text.push_str(&format!("-\\x{high:02X}"));
        Ok(())
    }

    fn posix(&mut self, text: &mut String) -> Result<bool, PatternError> {
        let rest = self.text.get(self.at..).unwrap_or_default();
        if !rest.starts_with(b":") {
            return Ok(false);
        }
        let Some(end) = rest.windows(2).position(|pair| pair == b":]").filter(|end| *end > 0) else {
            return Ok(false);
        };
        let name = String::from_utf8_lossy(rest.get(1..end).unwrap_or_default()).into_owned();
        if !name.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'^') {
            return Ok(false);
        }
        if !POSIX.contains(&name.trim_start_matches('^')) {
            return Err(syntax("a POSIX class name is unknown"));
        }
        text.push_str(&format!("[:{name}:]"));
        self.at += end + 2;
        Ok(true)
    }

    fn class_escape(&mut self, text: &mut String) -> Result<Option<u8>, PatternError> {
        let Some(byte) = self.next() else { return Err(syntax("a backslash ends the pattern")) };
        let set = match byte {
            b'd' | b'D' | b'w' | b'W' | b's' | b'S' => format!("\\{}", char::from(byte)),
            b'h' => r"\t\x20\xA0".into(),
            b'v' => r"\n\x0B\x0C\r\x85".into(),
            b'E' => String::new(),
            b'Q' => return Err(unsupported(r"\Q in a character class")),
            b'b' => r"\x08".into(),
            b'1'..=b'7' => {
                self.at -= 1;
                let byte = self.octal(3)?;
                text.push_str(&format!("\\x{byte:02X}"));
                return Ok(Some(byte));
            }
            other => {
                let byte = self.character(other)?;
                text.push_str(&format!("\\x{byte:02X}"));
                return Ok(Some(byte));
            }
        };
        text.push_str(&set);
        Ok(None)
    }
}

const POSIX: [&str; 14] = [
    "alnum", "alpha", "ascii", "blank", "cntrl", "digit", "graph", "lower", "print", "punct", "space",
    "upper", "word", "xdigit",
];
