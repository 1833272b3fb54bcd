//! The encoder. Fields that come again on a connection cost one byte and one comparison; those that come once cost no
//! room in the table.
//!
//! A field enters the table when it is seen for the second time among the latest that were not there: dates, lengths and
//! identifiers of single answers pass by. Answers carry their fields in the same order, so the entry behind the one used
//! last is tried first. All that is remembered is of fixed size, and so is the work for each field.

use super::super::fields::{FieldLine, Fields, NameSet};
use super::table::Table;
use super::{Known, Mark, OVERHEAD, Tag, Value, huffman, integer, statics};

/// Most that we use of what the peer allows: what it allows at first (RFC 9113 section 6.5.2).
const MOST: usize = 4096;
/// Entries that are found again: the newest ones.
const REMEMBERED: usize = 64;
/// Fields whose second coming is noticed.
const NOTICED: usize = 32;
/// Never to be kept in a table, by anybody on the way (RFC 7541 section 7.1).
const SECRET: NameSet = NameSet::new(&["set-cookie", "cookie", "authorization", "proxy-authorization"]);

/// First byte of each form of a field (RFC 7541 section 6), and how many bits of it are the number's.
const INDEXED: (u8, u8) = (0x80, 7);
const KEPT: (u8, u8) = (0x40, 6);
const NEVER_KEPT: (u8, u8) = (0x10, 4);
const PASSING: (u8, u8) = (0, 4);
const NEW_SIZE: (u8, u8) = (0x20, 5);

/// Encodes the header blocks of one connection, in their order.
#[derive(Debug)]
pub struct Encoder {
    table: Table,
    /// Entries that were ever made. The number of an entry is how many were made before it.
    made: u32,
    /// What the entries look like, by the low bits of their numbers.
    hashes: [u32; REMEMBERED],
    /// What fields that are not in the table looked like.
    noticed: [u32; NOTICED],
    notice: u8,
    /// The entry that is tried first for the next field.
    next: u32,
    /// The first one of the present block, or of the block before it.
    first: u32,
    at_first: bool,
    /// Smallest size that the peer asked for since the last block, and the last one.
    resize: Option<(usize, usize)>,
}

impl Default for Encoder {
    fn default() -> Self {
        Self::new()
    }
}

impl Encoder {
    /// Of a new connection.
    pub fn new() -> Self {
        Self {
            table: Table::new(MOST),
            made: 0,
            hashes: [0; REMEMBERED],
            noticed: [0; NOTICED],
            notice: 0,
            next: 0,
            first: 0,
            at_first: true,
            resize: None,
        }
    }

    /// The peer's SETTINGS_HEADER_TABLE_SIZE, bytes. The next block says what we make of it (RFC 7541 section 4.2).
    pub fn set_max_size(&mut self, size: u32) {
        let size = usize::try_from(size).unwrap_or(MOST).min(MOST);
        self.resize = match self.resize {
            Some((least, _)) => Some((least.min(size), size)),
            None if size == self.table.max() => None,
            None => Some((size, size)),
        };
    }

    /// Begins a block: to be called before its first field.
    pub fn begin(&mut self, out: &mut Vec<u8>) {
        if let Some((least, last)) = self.resize.take() {
            if least < last {
                self.table.resize(least);
                integer::write(least, NEW_SIZE.1, NEW_SIZE.0, out);
            }
            self.table.resize(last);
            integer::write(last, NEW_SIZE.1, NEW_SIZE.0, out);
        }
        self.next = self.first;
        self.at_first = true;
    }

    /// Writes `:status`.
    pub fn status(&mut self, status: u16, out: &mut Vec<u8>) {
        let row = match status {
            200 => 0,
            204 => 1,
            206 => 2,
            304 => 3,
            400 => 4,
            404 => 5,
            500 => 6,
            _ => {
                let digit = |place: u16| b'0' + (status / place % 10) as u8;
                integer::write(statics::STATUS, PASSING.1, PASSING.0, out);
                out.extend_from_slice(&[3, digit(100), digit(10), digit(1)]);
                return;
            }
        };
        integer::write(statics::STATUS + row, INDEXED.1, INDEXED.0, out);
    }

    /// Writes all lines of a section, trailers for example.
    pub fn section(&mut self, fields: &Fields, out: &mut Vec<u8>) {
        self.begin(out);
        fields.lines().for_each(|line| self.line(line, out));
    }

    /// Writes a field, its name in lower case.
    pub(crate) fn line(&mut self, line: FieldLine<'_>, out: &mut Vec<u8>) {
        let Some(text) = line.written() else { return literal(line, PASSING, out) };
        if self.is(self.next, text) {
            return self.write_entry(self.next, out);
        }
        if line.is_one_of(&SECRET) {
            return literal(line, NEVER_KEPT, out);
        }
        let hash = hash(text.as_bytes());
        if let Some(number) = self.find(hash, text) {
            return self.write_entry(number, out);
        }
        let size = line.name().len() + line.value().len() + OVERHEAD;
        // A single one that fills the table is not worth all others.
        if size > self.table.max() / 4 * 3 || !self.was_noticed(hash) {
            return literal(line, PASSING, out);
        }
        literal(line, KEPT, out);
        self.keep(line.name().len(), size, hash, text);
    }

    fn keep(&mut self, name: usize, size: usize, hash: u32, text: &str) {
        let start = self.table.begin();
        self.table.push_str(text);
        // What stands beside an entry of ours is asked for by nobody.
        let mark = Mark { known: Known::Plain, value: Value::Text, tag: Tag::of_line("x") };
        if self.table.keep_draft(start, name, size, mark) {
            let number = self.made;
            self.made = self.made.wrapping_add(1);
            self.hashes[number as usize % REMEMBERED] = hash;
            self.passed(number);
        }
    }

    /// How many entries are newer than the one with that number, if it is there.
    fn nth(&self, number: u32) -> Option<usize> {
        let nth = self.made.wrapping_sub(number).wrapping_sub(1) as usize;
        (nth < self.table.len()).then_some(nth)
    }

    fn is(&self, number: u32, text: &str) -> bool {
        let entry = self.nth(number).and_then(|nth| self.table.entry(nth));
        entry.is_some_and(|entry| self.table.text_of(entry) == text)
    }

    fn write_entry(&mut self, number: u32, out: &mut Vec<u8>) {
        if let Some(nth) = self.nth(number) {
            integer::write(statics::LENGTH + 1 + nth, INDEXED.1, INDEXED.0, out);
        }
        self.passed(number);
    }

    fn passed(&mut self, number: u32) {
        self.next = number.wrapping_add(1);
        if self.at_first {
            self.first = number;
            self.at_first = false;
        }
    }

    /// The number of the newest entry with that text.
    fn find(&self, hash: u32, text: &str) -> Option<u32> {
        for (row, hashes) in self.hashes.chunks_exact(ROW).enumerate() {
            if row * ROW >= self.made as usize {
                break;
            }
            // All at once: most rows hold none.
            if !hashes.iter().fold(false, |any, known| any | (*known == hash)) {
                continue;
            }
            for (place, _) in hashes.iter().enumerate().filter(|(_, known)| **known == hash) {
                let number = self.latest_at(row * ROW + place);
                if self.is(number, text) {
                    return Some(number);
                }
            }
        }
        None
    }

    /// The number of the latest entry that was remembered at that place.
    fn latest_at(&self, place: usize) -> u32 {
        let last = self.made.wrapping_sub(1);
        let back = last.wrapping_sub(place as u32) % REMEMBERED as u32;
        last.wrapping_sub(back)
    }

    /// True for what came by not long ago; it is noticed in any case.
    fn was_noticed(&mut self, hash: u32) -> bool {
        if self.noticed.iter().fold(false, |any, known| any | (*known == hash)) {
            return true;
        }
        if let Some(place) = self.noticed.get_mut(usize::from(self.notice) % NOTICED) {
            *place = hash;
        }
        self.notice = self.notice.wrapping_add(1);
        false
    }
}

/// Hashes that are compared together.
const ROW: usize = 8;

/// Tells lines apart; who makes two of the same gains nothing but longer answers.
fn hash(text: &[u8]) -> u32 {
    const FACTOR: u64 = 0x517c_c1b7_2722_0a95;
    let (words, rest) = text.as_chunks::<8>();
    let mix = |hash: u64, word: u64| (hash.rotate_left(5) ^ word).wrapping_mul(FACTOR);
    let hash = words.iter().fold(text.len() as u64, |hash, word| mix(hash, u64::from_le_bytes(*word)));
    let last = rest.iter().fold(0, |word, byte| (word << 8) | u64::from(*byte));
    (mix(hash, last) >> 32) as u32
}

/// Writes a field by name and value.
fn literal(line: FieldLine<'_>, (pattern, prefix): (u8, u8), out: &mut Vec<u8>) {
    match statics::named(line.name()) {
        Some(index) => integer::write(index, prefix, pattern, out),
        None => {
            out.push(pattern);
            huffman::write(line.name().as_bytes(), |byte| byte.to_ascii_lowercase(), out);
        }
    }
    huffman::write(line.value(), |byte| byte, out);
}
