//! Numbers of HPACK (RFC 7541 section 5.1).

use super::HpackError;

/// Most bytes behind the prefix: four carry 28 bits, and what is more is no length of anything here.
const MOST: u32 = 4;

/// The number that starts in the low `prefix` bits of `first` and may go on in `rest`, which it is taken from.
pub(super) fn read(first: u8, prefix: u8, rest: &mut &[u8]) -> Result<usize, HpackError> {
    let most = (1u8 << prefix) - 1;
    let start = first & most;
    if start < most { Ok(usize::from(start)) } else { read_on(usize::from(start), rest) }
}

#[cold]
fn read_on(mut number: usize, rest: &mut &[u8]) -> Result<usize, HpackError> {
    for place in 0..MOST {
        let Some((byte, tail)) = rest.split_first() else { return Err(HpackError::Short) };
        *rest = tail;
        number += usize::from(byte & 0x7f) << (7 * place);
        if byte & 0x80 == 0 {
            return Ok(number);
        }
    }
    Err(HpackError::Number)
}

/// Writes `number` into the low `prefix` bits of a byte whose other bits are those of `pattern`, and behind it.
pub(super) fn write(number: usize, prefix: u8, pattern: u8, out: &mut Vec<u8>) {
    let most = (1u8 << prefix) - 1;
    match u8::try_from(number) {
        Ok(small) if small < most => out.push(pattern | small),
        _ => {
            out.push(pattern | most);
            let mut left = number.saturating_sub(usize::from(most));
            while left > 0x7f {
                out.push(0x80 | (left & 0x7f) as u8);
                left >>= 7;
            }
            out.push(left as u8);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_read_as_they_were_written() {
        for prefix in 1..=7u8 {
            for number in (0..600).chain([1337, 4096, 65_535, 1 << 20, (1 << 28) - 1]) {
                let mut out = Vec::new();
                write(number, prefix, 0, &mut out);
                let (first, mut rest) = out.split_first().unwrap();
                assert_eq!(read(*first, prefix, &mut rest), Ok(number), "{number} in {prefix} bits");
                assert!(rest.is_empty());
            }
        }
    }

    #[test]
    fn numbers_that_end_too_early_or_never_are_refused() {
        let check = |bytes: &[u8], expect| {
            let (first, mut rest) = bytes.split_first().unwrap();
            assert_eq!(read(*first, 5, &mut rest), expect, "{bytes:02x?}");
        };
        // RFC 7541 appendix C.1.
        check(&[0x0a], Ok(10));
        check(&[0x1f, 0x9a, 0x0a], Ok(1337));
        check(&[0x1f, 0x80, 0x80, 0x80, 0x00], Ok(31));
        check(&[0x1f], Err(HpackError::Short));
        check(&[0x1f, 0x80], Err(HpackError::Short));
        check(&[0x1f, 0xff, 0xff, 0xff, 0xff, 0x0f], Err(HpackError::Number));
        check(&[0x1f, 0x80, 0x80, 0x80, 0x80, 0x00], Err(HpackError::Number));
    }
}
