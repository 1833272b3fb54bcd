//! The Huffman code of HPACK (RFC 7541 section 5.2 and appendix B).
//!
//! The code is canonical: codes of one length follow each other in the order of their bytes, so the lengths say
//! everything. What is usual takes at most eight bits and is found by one look into 512 bytes; the rest by its length.

use super::HpackError;

/// Bits of the code of each byte; the last is that of the end of a string, which may not be sent.
#[rustfmt::skip]
const LENGTHS: [u8; 257] = [
    13, 23, 28, 28, 28, 28, 28, 28, 28, 24, 30, 28, 28, 30, 28, 28, 28, 28, 28, 28, 28, 28, 30, 28,
    28, 28, 28, 28, 28, 28, 28, 28, 6, 10, 10, 12, 13, 6, 8, 11, 10, 10, 8, 11, 8, 6, 6, 6,
    5, 5, 5, 6, 6, 6, 6, 6, 6, 6, 7, 8, 15, 6, 12, 10, 13, 6, 7, 7, 7, 7, 7, 7,
    7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 8, 7, 8, 13, 19, 13, 14, 6,
    15, 5, 6, 5, 6, 5, 6, 6, 6, 5, 7, 7, 6, 6, 6, 5, 6, 7, 6, 5, 5, 6, 7, 7,
    7, 7, 7, 15, 11, 14, 13, 28, 20, 22, 20, 20, 22, 22, 22, 23, 22, 23, 23, 23, 23, 23, 24, 23,
    24, 24, 22, 23, 24, 23, 23, 23, 23, 21, 22, 23, 22, 23, 23, 24, 22, 21, 20, 22, 22, 23, 23, 21,
    23, 22, 22, 24, 21, 22, 23, 23, 21, 21, 22, 21, 23, 22, 23, 23, 20, 22, 22, 22, 23, 22, 22, 23,
    26, 26, 20, 19, 22, 23, 22, 25, 26, 26, 26, 27, 27, 26, 24, 25, 19, 21, 26, 27, 27, 26, 27, 24,
    21, 21, 26, 26, 28, 27, 27, 27, 20, 24, 20, 21, 22, 21, 21, 23, 22, 22, 25, 25, 24, 24, 26, 23,
    26, 27, 26, 26, 27, 27, 27, 27, 27, 28, 27, 27, 27, 27, 27, 26, 30,
];

/// Longest code, bits.
const LONGEST: usize = 30;
/// What ends a string, and may not.
const END: u16 = 256;

/// A code: its bits at the low end, and how many.
#[derive(Clone, Copy)]
struct Code {
    bits: u32,
    length: u8,
}

/// The bytes in the order of their codes, and where those of each length begin.
struct Order {
    symbols: [u16; 257],
    /// First code of each length.
    first: [u32; LONGEST + 1],
    /// Place of its byte in `symbols`.
    place: [u16; LONGEST + 1],
    /// How many there are.
    count: [u16; LONGEST + 1],
}

const ORDER: Order = {
    let mut order = Order {
        symbols: [0; 257],
        first: [0; LONGEST + 1],
        place: [0; LONGEST + 1],
        count: [0; LONGEST + 1],
    };
    let (mut length, mut placed, mut code) = (1, 0, 0);
    while length <= LONGEST {
        code <<= 1;
        order.first[length] = code;
        order.place[length] = placed;
        let mut symbol = 0;
        while symbol < LENGTHS.len() {
            if LENGTHS[symbol] as usize == length {
                order.symbols[placed as usize] = symbol as u16;
                placed += 1;
                code += 1;
            }
            symbol += 1;
        }
        order.count[length] = placed - order.place[length];
        length += 1;
    }
    order
};

static DECODE: Order = ORDER;

static CODES: [Code; 256] = {
    let mut codes = [Code { bits: 0, length: 0 }; 256];
    let mut length = 1;
    while length <= LONGEST {
        let mut nth = 0;
        while nth < ORDER.count[length] {
            let symbol = ORDER.symbols[(ORDER.place[length] + nth) as usize];
            if symbol != END {
                codes[symbol as usize] =
                    Code { bits: ORDER.first[length] + nth as u32, length: length as u8 };
            }
            nth += 1;
        }
        length += 1;
    }
    codes
};

/// For each row of eight bits the byte whose code it starts with and its length; 0 for a longer code.
static SHORT: [(u8, u8); 256] = {
    let mut table = [(0, 0); 256];
    let mut symbol = 0;
    while symbol < 256 {
        let Code { bits, length } = CODES[symbol];
        if length <= 8 {
            let start = (bits << (8 - length)) as usize;
            let mut row = 0;
            while row < 1 << (8 - length) {
                table[start + row] = (symbol as u8, length);
                row += 1;
            }
        }
        symbol += 1;
    }
    table
};

/// Decodes `coded` to the end of `out`.
///
/// # Errors
/// [`HpackError::Huffman`] for the code of the end, and for padding of eight bits or more or other than ones.
pub(super) fn decode(coded: &[u8], out: &mut Vec<u8>) -> Result<(), HpackError> {
    // No code is shorter than five bits.
    out.reserve(coded.len() * 8 / 5);
    let mut rest = coded;
    // The next bits, from the highest on; below them zeros.
    let (mut word, mut bits) = (0u64, 0u32);
    loop {
        if bits <= 32 {
            (word, bits) = refill(word, bits, &mut rest);
        }
        while bits >= 8 {
            let (symbol, length) = SHORT[usize::from((word >> 56) as u8)];
            if length == 0 {
                if bits < LONGEST as u32 && !rest.is_empty() {
                    break;
                }
                let (symbol, length) = long(word)?;
                if length > bits {
                    return Err(HpackError::Huffman);
                }
                out.push(symbol);
                word <<= length;
                bits -= length;
                continue;
            }
            out.push(symbol);
            word <<= length;
            bits -= u32::from(length);
        }
        if rest.is_empty() && bits < 8 {
            return finish(word, bits, out);
        }
    }
}

/// Takes what fits into the word.
fn refill(mut word: u64, mut bits: u32, rest: &mut &[u8]) -> (u64, u32) {
    if let Some((chunk, tail)) = rest.split_first_chunk::<4>() {
        *rest = tail;
        return (word | (u64::from(u32::from_be_bytes(*chunk)) << (32 - bits)), bits + 32);
    }
    while let Some((byte, tail)) = rest.split_first() {
        *rest = tail;
        word |= u64::from(*byte) << (56 - bits);
        bits += 8;
        if bits > 56 {
            break;
        }
    }
    (word, bits)
}

/// The byte whose code of more than eight bits `word` starts with, and its length.
fn long(word: u64) -> Result<(u8, u32), HpackError> {
    for length in 9..=LONGEST {
        let code = (word >> (64 - length)) as u32;
        let nth = code.wrapping_sub(DECODE.first[length]);
        if nth < u32::from(DECODE.count[length]) {
            let place = usize::from(DECODE.place[length]) + nth as usize;
            let symbol = DECODE.symbols.get(place).copied().unwrap_or(END);
            let symbol = u8::try_from(symbol).map_err(|_| HpackError::Huffman)?;
            return Ok((symbol, length as u32));
        }
    }
    Err(HpackError::Huffman)
}

/// The last bits: one more byte or two may stand there, then padding of ones.
fn finish(mut word: u64, mut bits: u32, out: &mut Vec<u8>) -> Result<(), HpackError> {
    loop {
        let (symbol, length) = SHORT[usize::from((word >> 56) as u8)];
        if length == 0 || u32::from(length) > bits {
            break;
        }
        out.push(symbol);
        word <<= length;
        bits -= u32::from(length);
    }
    let ones = (1u64 << bits) - 1;
    let left = if bits == 0 { 0 } else { word >> (64 - bits) };
    if left == ones { Ok(()) } else { Err(HpackError::Huffman) }
}

/// Writes a string: its length, and its bytes in the shorter form. Each passes through `map` first.
pub(super) fn write(text: &[u8], map: impl Fn(u8) -> u8, out: &mut Vec<u8>) {
    let at = out.len();
    out.push(0);
    let (mut word, mut bits) = (0u64, 0u32);
    for byte in text {
        let code = CODES[usize::from(map(*byte))];
        word = (word << code.length) | u64::from(code.bits);
        bits += u32::from(code.length);
        if bits >= 32 {
            bits -= 32;
            out.extend_from_slice(&((word >> bits) as u32).to_be_bytes());
        }
    }
    // What is left with ones behind it, moved to the upper end.
    let last = (((word << 32) | u64::from(u32::MAX)) >> bits) as u32;
    let bytes = last.to_be_bytes();
    out.extend_from_slice(bytes.get(..bits.div_ceil(8) as usize).unwrap_or(&[]));
    let coded = out.len() - at - 1;
    if coded >= text.len() {
        out.truncate(at);
        super::integer::write(text.len(), 7, 0, out);
        out.extend(text.iter().map(|byte| map(*byte)));
        return;
    }
    if let (Ok(short @ 0..127), Some(place)) = (u8::try_from(coded), out.get_mut(at)) {
        *place = 0x80 | short;
        return;
    }
    let mut long = Vec::with_capacity(4);
    super::integer::write(coded, 7, 0x80, &mut long);
    out.splice(at..=at, long);
}

#[cfg(test)]
mod tests;
