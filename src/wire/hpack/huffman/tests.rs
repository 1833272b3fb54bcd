//! The code against RFC 7541, and against itself.

use super::*;

fn decoded(coded: &[u8]) -> Result<Vec<u8>, HpackError> {
    let mut out = Vec::new();
    decode(coded, &mut out).map(|()| out)
}

/// The bits of a string without its length.
fn coded(text: &[u8]) -> Vec<u8> {
    let (mut word, mut bits, mut out) = (0u64, 0, Vec::new());
    for byte in text {
        let code = CODES[usize::from(*byte)];
        word = (word << code.length) | u64::from(code.bits);
        bits += u32::from(code.length);
        while bits >= 8 {
            bits -= 8;
            out.push((word >> bits) as u8);
        }
    }
    if bits > 0 {
        out.push(((word << (8 - bits)) as u8) | (0xff >> bits));
    }
    out
}

#[test]
fn codes_are_those_of_the_standard() {
    // RFC 7541 appendix B: the first and the last of some lengths.
    for (byte, bits, length) in [
        (b'0', 0x0, 5),
        (b't', 0x9, 5),
        (b' ', 0x14, 6),
        (b'u', 0x2d, 6),
        (b':', 0x5c, 7),
        (b'z', 0x7b, 7),
        (b'&', 0xf8, 8),
        (b'Z', 0xfd, 8),
        (b'!', 0x3f8, 10),
        (b'?', 0x3fc, 10),
        (b'\'', 0x7fa, 11),
        (b'#', 0xffa, 12),
        (b'>', 0xffb, 12),
        (0, 0x1ff8, 13),
        (b'{', 0x7ffe, 15),
        (b'\\', 0x7fff0, 19),
        (0x80, 0xfffe6, 20),
        (9, 0xffffea, 24),
        (0xff, 0x3ffffee, 26),
        (0xf9, 0xffffffe, 28),
        (b'\n', 0x3ffffffc, 30),
        (22, 0x3ffffffe, 30),
    ] {
        let code = CODES[usize::from(byte)];
        assert_eq!((code.bits, code.length), (bits, length), "{byte:#x}");
    }
    // A complete code: every row of bits is one.
    let sum: u64 = LENGTHS.iter().map(|length| 1u64 << (30 - length)).sum();
    assert_eq!(sum, 1 << 30);
}

#[test]
fn every_byte_is_decoded_beside_every_other() {
    for one in 0..=255u8 {
        for other in 0..=255u8 {
            for text in [vec![one, other], vec![b'a', one, b'0', other, b'a'], vec![one; 9]] {
                assert_eq!(decoded(&coded(&text)), Ok(text));
            }
        }
    }
    assert_eq!(decoded(b""), Ok(vec![]));
}

#[test]
fn padding_is_fewer_than_eight_ones() {
    // `a` is 00011.
    assert_eq!(decoded(&[0x1f]), Ok(b"a".to_vec()));
    for broken in [
        &[0x1e][..],
        &[0x18],
        &[0x1f, 0xff],
        &[0xff],
        &[0xff, 0xff, 0xff, 0xff],
        &[0xff, 0xff, 0xff, 0xfc],
        // An end of the string behind a letter, and a code that is cut off.
        &[0x1f, 0xff, 0xff, 0xff, 0xff],
        &[0xff, 0xff, 0xff],
        &[0xfe],
    ] {
        assert_eq!(decoded(broken), Err(HpackError::Huffman), "{broken:02x?}");
    }
    // `0` is 00000: three zeros are no padding, five are a byte.
    assert_eq!(decoded(&[0x00]), Err(HpackError::Huffman));
    assert_eq!(decoded(&[0x00, 0x3f]), Ok(b"00".to_vec()));
}

#[test]
fn strings_are_written_in_the_shorter_form() {
    let written = |text: &[u8]| {
        let mut out = vec![9];
        write(text, |byte| byte, &mut out);
        out
    };
    assert_eq!(written(b""), [9, 0]);
    assert_eq!(written(b"a"), [9, 1, b'a']);
    assert_eq!(written(b"\xff\xff"), [9, 2, 0xff, 0xff]);
    assert_eq!(written(b"aaaaa"), [9, 0x84, 0x18, 0xc6, 0x31, 0xff]);
    for length in [126, 127, 128, 200, 203, 204, 300, 5000] {
        let text = vec![b'a'; length];
        let out = written(&text);
        let (first, mut rest) = out[1..].split_first().unwrap();
        assert!(first & 0x80 != 0);
        let told = super::super::integer::read(*first, 7, &mut rest);
        assert_eq!(told, Ok(rest.len()), "{length}");
        assert_eq!(decoded(rest), Ok(text));
    }
}

#[test]
fn names_are_written_in_lower_case() {
    let mut out = Vec::new();
    write(b"X-Request-Id", |byte| byte.to_ascii_lowercase(), &mut out);
    assert_eq!(decoded(&out[1..]), Ok(b"x-request-id".to_vec()));
    out.clear();
    write(b"A", |byte| byte.to_ascii_lowercase(), &mut out);
    assert_eq!(out, [1, b'a']);
}
