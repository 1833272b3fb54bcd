//! What is known of a field's name at a glance: a small number that most names do not share, and which kinds of bytes
//! stand in it. So most look-ups end without comparing a name. Used by `fields` and the parsers of heads.

/// The tokens of a list field's line, less what is none: one odd element takes nothing from the others.
pub fn tokens(line: &[u8]) -> impl Iterator<Item = &str> {
    let elements = line.split(|byte| *byte == b',').map(<[u8]>::trim_ascii);
    elements.filter(|element| is_token(element)).filter_map(|token| std::str::from_utf8(token).ok())
}

/// True for a non-empty token (RFC 9110 section 5.6.2).
pub fn is_token(bytes: &[u8]) -> bool {
    !bytes.is_empty() && bytes.iter().all(|byte| is_tchar(*byte))
}

/// A letter, a digit or `-`.
const USUAL: u8 = 1;
const UNDERSCORE: u8 = 2;
/// Any other byte of a token.
const ODD: u8 = 4;
/// The line lies as it is written.
const WRITTEN: u8 = 8;
/// The value lies apart.
const APART: u8 = 16;

/// Which bytes may stand in a token, and of which kind they are; 0 for none.
const KINDS: [u8; 256] = {
    let mut table = [0; 256];
    let mut byte = 0;
    while byte < 256 {
        table[byte] = match byte as u8 {
            b'0'..=b'9' | b'a'..=b'z' | b'A'..=b'Z' | b'-' => USUAL,
            b'_' => UNDERSCORE,
            b'!' | b'#' | b'$' | b'%' | b'&' | b'\'' | b'*' | b'+' | b'.' | b'^' | b'`' | b'|' | b'~' => ODD,
            _ => 0,
        };
        byte += 1;
    }
    table
};

/// True for a byte that may stand in a token.
pub const fn is_tchar(byte: u8) -> bool {
    // No byte lies outside of the table.
    KINDS[byte as usize] != 0
}

/// The token that `line` starts with: its length, and the kinds of its bytes.
pub(in crate::wire) const fn scan_name(line: &[u8]) -> (usize, u8) {
    let (mut length, mut kinds) = (0, 0);
    while length < line.len() {
        let kind = KINDS[line[length] as usize];
        if kind == 0 {
            break;
        }
        kinds |= kind;
        length += 1;
    }
    (length, kinds)
}

/// How many bytes at the start of `line` are letters, digits or `-`.
///
/// Eight at a time: to a byte below 0x80 a number is added that carries into its high bit from some byte on, and no
/// further.
pub(in crate::wire) fn usual_length(line: &[u8]) -> usize {
    const HIGHS: u64 = 0x8080_8080_8080_8080;
    const fn all(byte: u8) -> u64 {
        byte as u64 * 0x0101_0101_0101_0101
    }
    let (chunks, rest) = line.as_chunks::<8>();
    let mut length = 0;
    for chunk in chunks {
        let word = u64::from_le_bytes(*chunk);
        let low = word & !HIGHS;
        let small = low | all(0x20);
        let letters = (small + all(0x80 - b'a')) & !(small + all(0x7f - b'z'));
        let digits = (low + all(0x80 - b'0')) & !(low + all(0x7f - b'9'));
        let others_than_dashes = (low ^ all(b'-')) + all(0x7f);
        let others = (!(letters | digits) & others_than_dashes | word) & HIGHS;
        if others != 0 {
            return length + (others.trailing_zeros() / 8) as usize;
        }
        length += 8;
    }
    length + rest.iter().take_while(|byte| KINDS[usize::from(**byte)] == USUAL).count()
}

/// What is known of one line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::wire) struct Tag {
    /// Below 64.
    look: u8,
    flags: u8,
}

impl Tag {
    /// Of a line with that name.
    pub(super) fn of(name: &[u8]) -> Self {
        Self::scanned(name, scan_name(name).1)
    }

    /// Of a line as it is written, with a name in which nothing unusual stands ([`usual_length`]).
    pub(in crate::wire) const fn usual(name: &[u8]) -> Self {
        Self { look: look(name), flags: USUAL | WRITTEN }
    }

    /// Of a line whose name has bytes of those `kinds` ([`scan_name`]).
    pub(in crate::wire) const fn scanned(name: &[u8], kinds: u8) -> Self {
        Self { look: look(name), flags: kinds }
    }

    /// Of a line of that name that lies as it is written.
    pub(in crate::wire) const fn of_line(name: &'static str) -> Self {
        Self::scanned(name.as_bytes(), scan_name(name.as_bytes()).1).written()
    }

    /// Of a line that lies as it is written.
    pub(in crate::wire) const fn written(self) -> Self {
        Self { flags: self.flags | WRITTEN, ..self }
    }

    /// Of a line whose value lies apart.
    pub(super) const fn apart(self) -> Self {
        Self { flags: self.flags | APART, ..self }
    }

    pub(super) const fn is_written(self) -> bool {
        self.flags & WRITTEN != 0
    }

    pub(super) const fn is_apart(self) -> bool {
        self.flags & APART != 0
    }

    pub(super) const fn has_underscore(self) -> bool {
        self.flags & UNDERSCORE != 0
    }

    pub(super) const fn is_odd(self) -> bool {
        self.flags & ODD != 0
    }

    /// False when its name is certainly not one with that look.
    pub(super) const fn may_be(self, look: u8) -> bool {
        self.look == look
    }
}

/// The name of a field of ours as it is written, with all that is known of it before any request comes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct OwnName {
    written: &'static str,
    length: u16,
    tag: Tag,
}

impl OwnName {
    /// `written` is the name, of letters, digits and `-`, with what follows it in a line: `Host: `.
    pub(crate) const fn new(written: &'static str) -> Self {
        let bytes = written.as_bytes();
        let length = bytes.len() - 2;
        assert!(length > 0 && length < 256 && bytes[length] == b':' && bytes[length + 1] == b' ');
        let (name, _) = bytes.split_at(length);
        let mut at = 0;
        while at < length {
            assert!(KINDS[name[at] as usize] == USUAL, "a name of ours is unusual");
            at += 1;
        }
        Self { written, length: length as u16, tag: Tag::usual(name) }
    }

    /// Name, colon and space.
    pub(super) const fn written(&self) -> &'static str {
        self.written
    }

    /// Bytes of the name alone.
    pub(super) const fn length(&self) -> u16 {
        self.length
    }

    pub(super) const fn tag(&self) -> Tag {
        self.tag
    }

    /// The name alone.
    pub(crate) fn name(&self) -> &'static str {
        self.written.strip_suffix(": ").unwrap_or(self.written)
    }
}

/// True when `name`, a token, is `lower` in whatever case; `lower` is small letters, digits and `-`. No other byte of a
/// token differs from one of those by the bit of the case alone.
pub(in crate::wire) fn is_called(name: &[u8], lower: &[u8]) -> bool {
    name.len() == lower.len()
        && name.iter().zip(lower).fold(0, |differing, (one, other)| differing | ((*one | 0x20) ^ *other)) == 0
}

const fn is_lower(name: &[u8]) -> bool {
    let mut at = 0;
    while at < name.len() {
        if !matches!(name[at], b'a'..=b'z' | b'0'..=b'9' | b'-') {
            return false;
        }
        at += 1;
    }
    true
}

/// Below 64, and the same for names that differ in case only.
pub(in crate::wire) const fn look(name: &[u8]) -> u8 {
    let (first, last) = match name {
        [] => (0, 0),
        [only] => (*only, *only),
        [first, .., last] => (*first, *last),
    };
    // The low five bits of a letter are the same in both cases.
    let mixed = (name.len() as u8).wrapping_add((first & 31) << 1).wrapping_add((last & 31) << 3);
    mixed & 63
}

/// What is known of all lines of a section together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Seen {
    looks: u64,
    flags: u8,
}

impl Seen {
    pub(super) const fn join(&mut self, tag: Tag) {
        self.looks |= 1 << tag.look;
        self.flags |= tag.flags;
    }

    /// False when no line has a name with that look.
    pub(super) const fn may_be(self, look: u8) -> bool {
        self.looks & (1 << look) != 0
    }

    /// False when all names are letters, digits and `-`.
    pub(super) const fn may_be_unusual(self) -> bool {
        self.flags & (UNDERSCORE | ODD) != 0
    }
}

/// What the names of a list that is made at run time look like.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Looks(u64);

impl Looks {
    /// Takes `name` in.
    pub(crate) const fn add(&mut self, name: &OwnName) {
        self.0 |= 1 << name.tag.look;
    }

    pub(super) const fn may_hold(self, tag: Tag) -> bool {
        self.0 & (1 << tag.look) != 0
    }
}

/// Names that are looked for together.
pub(crate) struct NameSet {
    names: &'static [&'static str],
    looks: u64,
}

impl NameSet {
    /// The set of `names`: small letters, digits and `-`.
    pub(crate) const fn new(names: &'static [&'static str]) -> Self {
        let (mut looks, mut at) = (0, 0);
        while at < names.len() {
            assert!(is_lower(names[at].as_bytes()), "a name of a set has no capitals");
            looks |= 1 << look(names[at].as_bytes());
            at += 1;
        }
        Self { names, looks }
    }

    /// True when `name` is one of them, in whatever case.
    pub(crate) fn contains(&self, name: &str) -> bool {
        self.looks & (1 << look(name.as_bytes())) != 0 && self.holds(name.as_bytes())
    }

    pub(super) fn holds(&self, name: &[u8]) -> bool {
        self.names.iter().any(|one| is_called(name, one.as_bytes()))
    }

    pub(in crate::wire) const fn may_hold(&self, tag: Tag) -> bool {
        self.looks & (1 << tag.look) != 0
    }

    pub(super) const fn may_meet(&self, seen: Seen) -> bool {
        self.looks & seen.looks != 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_looks_the_same_in_every_case() {
        for name in ["Host", "X-Forwarded-For", "te", "A", "_", "!#", "content-Length", "ETag"] {
            let one = look(name.as_bytes());
            assert!(one < 64, "{name}");
            assert_eq!(one, look(name.to_ascii_uppercase().as_bytes()), "{name}");
            assert_eq!(one, look(name.to_ascii_lowercase().as_bytes()), "{name}");
        }
    }

    #[test]
    fn a_set_holds_its_names_in_any_case_and_no_other() {
        const SET: NameSet = NameSet::new(&["te", "connection", "x-real-ip"]);
        for name in ["TE", "Connection", "x-Real-IP"] {
            assert!(SET.contains(name), "{name}");
        }
        for name in ["", "t", "tea", "connectioN-", "x-real-iP6", "host"] {
            assert!(!SET.contains(name), "{name}");
        }
    }

    #[test]
    fn no_byte_of_a_token_passes_for_another() {
        for lower in (0..=255u8).filter(|byte| is_lower(&[*byte])) {
            for byte in (0..=255u8).filter(|byte| is_tchar(*byte)) {
                let same = byte.eq_ignore_ascii_case(&lower);
                assert_eq!(is_called(&[byte], &[lower]), same, "{byte:#x} and {lower:#x}");
            }
        }
        assert!(!is_called(b"Hos", b"host") && is_called(b"HOST", b"host") && is_called(b"", b""));
    }

    #[test]
    fn usual_bytes_are_counted_up_to_the_first_other_wherever_it_stands() {
        for byte in 0..=255u8 {
            for at in 0..20 {
                let mut line = *b"Az09-content-TYPE-xyz";
                line[at] = byte;
                let expect = if KINDS[usize::from(byte)] == USUAL { line.len() } else { at };
                assert_eq!(usual_length(&line), expect, "byte {byte:#x} at {at}");
            }
        }
        assert_eq!(
            (usual_length(b""), usual_length(b"\xffabcdefgh"), usual_length(b"abcdefgh: ")),
            (0, 0, 8)
        );
    }

    #[test]
    fn the_token_at_the_start_of_a_line_is_measured_and_its_bytes_told_apart() {
        for (line, length, kinds) in [
            (&b"X-a: 1"[..], 3, USUAL),
            (b"a_b", 3, USUAL | UNDERSCORE),
            (b"a.b c", 3, USUAL | ODD),
            (b": v", 0, 0),
            (b"", 0, 0),
            (b"\xc3\xa4: v", 0, 0),
        ] {
            assert_eq!(scan_name(line), (length, kinds), "{line:?}");
        }
    }
}
