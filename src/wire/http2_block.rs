//! What the HTTP/2 library hides in a header block, found on the raw bytes: a fragment in `:path`, which it cuts off,
//! and pseudo-fields in a trailer section, which it drops (RFC 9113 sections 8.1 and 8.3.1).
//!
//! It walks the HPACK instructions (RFC 7541 section 6) without decoding them: strings are skipped by their length, only
//! a literal `:path` is looked into. It keeps no table and is no HPACK decoder; a `:path` whose name an attacker
//! took from the dynamic table is not looked into, and has its fragment cut as before: one view for route and backend.
//! [`super::FrameCounter`] feeds it.

/// Names of pseudo-fields in the static table (RFC 7541 appendix A).
const STATIC_PSEUDO: std::ops::RangeInclusive<u32> = 1..=14;
/// `:path` in the static table.
const STATIC_PATH: std::ops::RangeInclusive<u32> = 4..=5;
/// `:path` as a literal name, plain and in Huffman code.
const PATH_PLAIN: &[u8] = b":path";
const PATH_HUFFMAN: &[u8] = &[0xb9, 0x58, 0xd3, 0x3f];
/// The Huffman code of `#`: twelve bits. That of `>` differs in the last one.
const HASH_CODE: (u32, u8) = (0xffa, 12);
/// How many codes of each length there are, from 0 bits to 30 (RFC 7541 appendix B, whose codes of one length follow
/// each other).
const CODES: [u32; 31] =
    [0, 0, 0, 0, 0, 10, 26, 32, 6, 0, 5, 3, 2, 6, 2, 3, 0, 0, 0, 3, 8, 13, 26, 29, 12, 4, 15, 19, 29, 0, 4];

/// A byte that must not reach the library as it is: its place, and what to change in it.
pub(super) type Patch = (usize, u8);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum At {
    /// First byte of an instruction.
    Instruction,
    /// A number that goes on; what follows it.
    Number(After),
    /// First byte of a string.
    Length(Text),
    /// Bytes of a string.
    Text(Text),
    /// The block is broken in a way that the library tells.
    Lost,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum After {
    /// An indexed field or a new size of the table: the instruction ends.
    Nothing,
    /// An indexed field.
    Indexed,
    /// The index of a name; the value follows.
    NameIndex,
    /// A length, of bytes in Huffman code or not.
    Length(Text, bool),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Text {
    Name,
    Value,
}

/// Stands somewhere in one header block.
#[derive(Debug)]
pub(super) struct BlockWalker {
    at: At,
    trailers: bool,
    number: u32,
    shift: u8,
    left: usize,
    huffman: bool,
    /// Bytes of the present string that were seen.
    seen: usize,
    /// The name is `:path`, as far as it was seen.
    path: bool,
    code: u32,
    bits: u8,
    /// First code of the present length.
    first: u32,
}

/// A pseudo-field in a trailer section.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct PseudoInTrailers;

impl BlockWalker {
    pub(super) const fn new(trailers: bool) -> Self {
        Self {
            at: At::Instruction,
            trailers,
            number: 0,
            shift: 0,
            left: 0,
            huffman: false,
            seen: 0,
            path: false,
            code: 0,
            bits: 0,
            first: 0,
        }
    }

    /// Goes on with `bytes` of the block. `patch` is called for each byte that has to be changed so that the library
    /// refuses the stream: `#` in a path becomes `>`, which no path of its may hold.
    ///
    /// # Errors
    /// [`PseudoInTrailers`].
    pub(super) fn walk(
        &mut self,
        bytes: &[u8],
        mut patch: impl FnMut(Patch),
    ) -> Result<(), PseudoInTrailers> {
        let mut at = 0;
        while let Some(byte) = bytes.get(at) {
            if let At::Text(text) = self.at {
                let length = self.left.min(bytes.len() - at);
                let piece = bytes.get(at..at + length).unwrap_or(&[]);
                self.text(text, piece, |(place, change)| patch((at + place, change)))?;
                at += length;
                continue;
            }
            self.byte(*byte)?;
            at += 1;
        }
        Ok(())
    }

    fn byte(&mut self, byte: u8) -> Result<(), PseudoInTrailers> {
        match self.at {
            At::Instruction => match byte {
                0x80.. => self.begin_number(byte, 7, After::Indexed),
                0x40.. => self.begin_number(byte, 6, After::NameIndex),
                0x20.. => self.begin_number(byte, 5, After::Nothing),
                _ => self.begin_number(byte, 4, After::NameIndex),
            },
            At::Number(after) => {
                let digit = u32::from(byte & 0x7f);
                // A number beyond four bytes is an error of the library's as well.
                if self.shift > 21 {
                    self.at = At::Lost;
                    return Ok(());
                }
                self.number = self.number.saturating_add(digit << self.shift);
                self.shift += 7;
                if byte & 0x80 == 0 { self.number_done(after) } else { Ok(()) }
            }
            At::Length(text) => self.begin_number(byte, 7, After::Length(text, byte & 0x80 != 0)),
            At::Text(_) | At::Lost => Ok(()),
        }
    }

    fn begin_number(&mut self, byte: u8, prefix: u8, after: After) -> Result<(), PseudoInTrailers> {
        let most = (1u8 << prefix) - 1;
        self.number = u32::from(byte & most);
        self.shift = 0;
        if byte & most == most {
            self.at = At::Number(after);
            return Ok(());
        }
        self.number_done(after)
    }

    fn number_done(&mut self, after: After) -> Result<(), PseudoInTrailers> {
        let pseudo = self.trailers && STATIC_PSEUDO.contains(&self.number);
        match after {
            After::Nothing => self.at = At::Instruction,
            After::Indexed | After::NameIndex if pseudo => return Err(PseudoInTrailers),
            After::Indexed => self.at = At::Instruction,
            After::NameIndex => {
                self.path = self.number == 0 || STATIC_PATH.contains(&self.number);
                self.at = At::Length(if self.number == 0 { Text::Name } else { Text::Value });
            }
            After::Length(text, huffman) => {
                self.left = usize::try_from(self.number).unwrap_or(usize::MAX);
                self.huffman = huffman;
                (self.seen, self.code, self.bits, self.first) = (0, 0, 0, 0);
                if text == Text::Name {
                    self.path = self.left == if huffman { PATH_HUFFMAN.len() } else { PATH_PLAIN.len() };
                }
                self.at = At::Text(text);
                self.text_done(text);
            }
        }
        Ok(())
    }

    /// Steps over a string that has no bytes left.
    fn text_done(&mut self, text: Text) {
        if self.left == 0 {
            self.at = match text {
                Text::Name => At::Length(Text::Value),
                Text::Value => At::Instruction,
            };
        }
    }

    fn text(&mut self, text: Text, piece: &[u8], patch: impl FnMut(Patch)) -> Result<(), PseudoInTrailers> {
        match text {
            Text::Name => self.name(piece)?,
            Text::Value if !self.path => {}
            Text::Value if self.huffman => self.huffman_path(piece, patch),
            Text::Value => plain_path(piece, patch),
        }
        self.seen = self.seen.saturating_add(piece.len());
        self.left -= piece.len();
        self.text_done(text);
        Ok(())
    }

    fn name(&mut self, piece: &[u8]) -> Result<(), PseudoInTrailers> {
        if self.trailers && self.seen == 0 {
            // The code of a colon has seven bits.
            let colon = |first: &u8| if self.huffman { first & 0xfe == 0xb8 } else { *first == b':' };
            if piece.first().is_some_and(colon) {
                return Err(PseudoInTrailers);
            }
        }
        let expected = if self.huffman { PATH_HUFFMAN } else { PATH_PLAIN };
        self.path = self.path && expected.get(self.seen..self.seen + piece.len()) == Some(piece);
        Ok(())
    }

    fn huffman_path(&mut self, piece: &[u8], mut patch: impl FnMut(Patch)) {
        // The code of `#` begins with nine ones; most paths have no such row and need no look at their codes.
        if self.seen == 0 && piece.len() == self.left && !has_nine_ones(piece) {
            return;
        }
        for (place, byte) in piece.iter().enumerate() {
            for bit in (0..8).rev() {
                let one = u32::from((byte >> bit) & 1);
                self.code = (self.code << 1) | one;
                self.bits += 1;
                let Some(codes) = CODES.get(usize::from(self.bits)) else {
                    // No code is that long; the library tells.
                    self.path = false;
                    return;
                };
                self.first <<= 1;
                if self.code.wrapping_sub(self.first) >= *codes {
                    self.first += codes;
                    continue;
                }
                if (self.code, self.bits) == HASH_CODE {
                    patch((place, 1 << bit));
                }
                (self.code, self.bits, self.first) = (0, 0, 0);
            }
        }
    }
}

fn plain_path(piece: &[u8], mut patch: impl FnMut(Patch)) {
    for (place, _) in piece.iter().enumerate().filter(|(_, byte)| **byte == b'#') {
        patch((place, b'#' ^ b'>'));
    }
}

fn has_nine_ones(bytes: &[u8]) -> bool {
    let mut row = 0;
    bytes.iter().any(|byte| {
        let found = row + byte.leading_ones() >= 9;
        row = if *byte == 0xff { row + 8 } else { byte.trailing_ones() };
        found
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Patches of a block, however it is cut, or that it is a broken trailer section.
    fn patches(trailers: bool, block: &[u8]) -> Result<Vec<Patch>, PseudoInTrailers> {
        let whole = cut(trailers, block, block.len().max(1));
        for size in 1..block.len() {
            assert_eq!(cut(trailers, block, size), whole, "{block:02x?} in pieces of {size}");
        }
        whole
    }

    fn cut(trailers: bool, block: &[u8], size: usize) -> Result<Vec<Patch>, PseudoInTrailers> {
        let (mut walker, mut found) = (BlockWalker::new(trailers), Vec::new());
        for (index, piece) in block.chunks(size).enumerate() {
            walker.walk(piece, |(at, change)| found.push((index * size + at, change)))?;
        }
        Ok(found)
    }

    fn plain(text: &[u8]) -> Vec<u8> {
        let mut out = vec![u8::try_from(text.len()).unwrap()];
        out.extend(text);
        out
    }

    #[test]
    fn a_fragment_in_a_path_becomes_what_the_library_refuses() {
        let change = b'#' ^ b'>';
        for first in [0x04, 0x05, 0x14, 0x44, 0x45] {
            assert_eq!(patches(false, &[&[first][..], &plain(b"/a#b")].concat()), Ok(vec![(4, change)]));
        }
        // The name spelled out, plain and in Huffman code.
        let spelled = [&[0x00][..], &plain(b":path"), &plain(b"#/#")].concat();
        assert_eq!(patches(false, &spelled), Ok(vec![(8, change), (10, change)]));
        let coded = [&[0x40, 0x84][..], PATH_HUFFMAN, &plain(b"#")].concat();
        assert_eq!(patches(false, &coded), Ok(vec![(7, change)]));
        // Fields before and behind it, a long number, an indexed field, a new size of the table.
        let around = [
            &[0x3f, 0xe1, 0x1f, 0x82, 0x40][..],
            &plain(b"x"),
            &plain(b"#"),
            &[0x04, 0x7f, 0x02],
            &[b'a'; 128],
            b"#",
            &[0x0f, 0x2b],
            &plain(b"#"),
        ]
        .concat();
        assert_eq!(patches(false, &around), Ok(vec![(12 + 128, change)]));
    }

    #[test]
    fn a_fragment_in_huffman_code_is_found_at_every_bit() {
        // `/` 011000, `a` 00011, `#` 111111111010, padded with ones; `#` at 6 + 5 * n bits.
        for letters in 0..16usize {
            let mut text = String::from("011000");
            text.push_str(&"00011".repeat(letters));
            let end = text.len() + 12 - 1;
            text.push_str("111111111010");
            let mut bits: Vec<u8> = text.bytes().map(|bit| bit - b'0').collect();
            bits.resize(bits.len().next_multiple_of(8), 1);
            let coded: Vec<u8> =
                bits.chunks(8).map(|byte| byte.iter().fold(0, |all, bit| (all << 1) | bit)).collect();
            let block = [&[0x04, 0x80 | u8::try_from(coded.len()).unwrap()][..], &coded].concat();
            let expect = (2 + end / 8, 1 << (7 - end % 8));
            assert_eq!(patches(false, &block), Ok(vec![expect]), "{letters} letters");
        }
        // `/~>`: `~` is thirteen bits that begin with eleven ones, `>` is twelve that begin with nine.
        let text = "011000".to_owned() + "1111111111101" + "111111111011" + "1";
        let coded: Vec<u8> = text
            .as_bytes()
            .chunks(8)
            .map(|byte| byte.iter().fold(0, |all, bit| (all << 1) | (bit - b'0')))
            .collect();
        assert_eq!(patches(false, &[&[0x04, 0x80 | 4][..], &coded].concat()), Ok(vec![]));
    }

    #[test]
    fn other_fields_keep_their_bytes() {
        for name in [&b"x"[..], b":patH", b"path:", b":authority"] {
            let block = [&[0x00][..], &plain(name), &plain(b"#")].concat();
            assert_eq!(patches(false, &block), Ok(vec![]), "{name:?}");
        }
        // Names of the static and of the dynamic table.
        for first in [0x41, 0x46, 0x7e, 0x01] {
            assert_eq!(patches(false, &[&[first][..], &plain(b"#")].concat()), Ok(vec![]), "{first:#x}");
        }
        assert_eq!(patches(false, &[0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0x04]), Ok(vec![]));
    }

    #[test]
    fn pseudo_fields_in_trailers_are_told() {
        for block in [
            &[0x82][..],
            &[0x8e],
            &[0x04, 1, b'/'],
            &[0x44, 1, b'/'],
            &[0x18, 0],
            &[0x00, 2, b':', b'x', 0],
            &[0x40, 0x81, 0xb9, 0],
            &[0x00, 1, b'x', 1, b'y', 0x82],
        ] {
            assert_eq!(patches(true, block), Err(PseudoInTrailers), "{block:02x?}");
            assert_eq!(patches(false, block), Ok(vec![]), "{block:02x?}");
        }
        for block in [&[0x00, 1, b'x', 1, b':'][..], &[0x9f], &[0xbe], &[0x20], &[0x7e, 1, b'x'], &[]] {
            assert_eq!(patches(true, block), Ok(vec![]), "{block:02x?}");
        }
    }
}
