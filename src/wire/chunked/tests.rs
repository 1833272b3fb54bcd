//! Tables of H1-08 and H1-09, and the promise that cuts do not matter.

use proptest::prelude::{any, prop, proptest};

use super::*;

/// Data, trailers as text and left-over bytes, or the rule that was broken; `None`: more is needed.
type Outcome = Result<Option<(Vec<u8>, String, usize)>, &'static str>;

fn decode(bytes: &[u8], leniency: Leniency, step: usize) -> Outcome {
    let mut decoder = ChunkedDecoder::new(leniency, ChunkLimits::default());
    let mut data = Vec::new();
    let (mut at, mut end) = (0, step.min(bytes.len()));
    for _ in 0..bytes.len() * 4 + 4 {
        match decoder.decode(&bytes[at..end]).map_err(|reject| reject.rule)? {
            Step::More if end == bytes.len() => return Ok(None),
            Step::More => {
                at = end;
                end = (end + step).min(bytes.len());
            }
            Step::Data(range) => {
                assert!(!range.is_empty());
                data.extend_from_slice(&bytes[at..][range.clone()]);
                at += range.end;
            }
            Step::End(taken) => {
                assert!(decoder.is_done());
                let trailers = decoder.take_trailers();
                let text =
                    trailers.iter().map(|(n, v)| format!("{n}={};", String::from_utf8_lossy(v))).collect();
                return Ok(Some((data, text, bytes.len() - at - taken)));
            }
        }
    }
    panic!("the decoder makes no progress on {bytes:?}");
}

#[track_caller]
fn accepted(text: &str, data: &str, trailers: &str, rest: usize) {
    let expect = Ok(Some((data.as_bytes().to_vec(), trailers.to_owned(), rest)));
    assert_eq!(decode(text.as_bytes(), Leniency::Strict, usize::MAX), expect, "{text:?}");
    assert_eq!(decode(text.as_bytes(), Leniency::Strict, 1), expect, "{text:?} byte by byte");
    assert_eq!(decode(text.as_bytes(), Leniency::Backend, 3), expect, "{text:?} from a backend");
}

#[track_caller]
fn refused(text: &str, rule: &'static str) {
    assert_eq!(decode(text.as_bytes(), Leniency::Strict, usize::MAX), Err(rule), "{text:?}");
    assert_eq!(decode(text.as_bytes(), Leniency::Strict, 1), Err(rule), "{text:?} byte by byte");
}

#[test]
fn well_formed_bodies_give_their_data() {
    accepted("5\r\nhello\r\n0\r\n\r\n", "hello", "", 0);
    accepted("0\r\n\r\nGET /", "", "", 5);
    accepted("000a\r\n0123456789\r\n1\r\nx\r\n000\r\n\r\n", "0123456789x", "", 0);
    accepted("5;a=b;c=\"d\\\"\t;\";e\r\nhello\r\n0;z\r\n\r\n", "hello", "", 0);
    accepted("1\r\nx\r\n0\r\nx-sum: 1 \r\nY:\r\n\r\nrest", "x", "x-sum=1;Y=;", 4);
}

#[test]
fn unfinished_bodies_are_never_complete() {
    let whole = "5;a\r\nhello\r\n0\r\nX: y\r\n\r\n";
    for end in 0..whole.len() {
        assert_eq!(decode(&whole.as_bytes()[..end], Leniency::Strict, 1), Ok(None), "{end}");
    }
}

#[test]
fn broken_chunks_are_refused() {
    for text in [
        "\r\n\r\n",
        "0x5\r\nhello",
        "0_2e\r\n",
        "5zz\r\nhello",
        "10000000000000005\r\n",
        "00000000000000005\r\n",
        "2;\nxx",
        "5;a=\0\r\n",
        "5;\r\nhello",
        "5;a=\r\n",
        "5;a=\x7f\r\n",
        "5;a=\"\x01\"\r\n",
        "5;a=\"x\"y\r\n",
        "5;=x\r\n",
        "5; a=b\r\n",
        "5 \r\nhello",
        "5\r\nhello\n0\r\n\r\n",
        "5\r\nhelloXX0\r\n\r\n",
        "5\rhello",
        "INVALID!!!\r\n",
        "+5\r\n",
        "-5\r\n",
        " 5\r\n",
        "5\nhello",
        "5\r\nhello\r0",
        ";a\r\n",
    ] {
        refused(text, "H1-08");
    }
}

#[test]
fn broken_trailers_are_refused() {
    for line in ["XX", "X: y\nZ: w", "X: y\r\n z", "X: \0", ": x", "X : y", " X: y", "X: a\rb"] {
        refused(&format!("0\r\n{line}\r\n\r\n"), "H1-09");
    }
    refused("0\r\nX: y\r\n\n", "H1-09");
}

#[test]
fn framing_may_not_outweigh_the_data() {
    refused(&format!("5;a={}\r\nhello\r\n", "b".repeat(5000)), "H1-08");
    accepted(&format!("5;{}\r\nhello\r\n0\r\n\r\n", "b".repeat(4095)), "hello", "", 0);
    refused(&format!("5;{}\r\nhello\r\n0\r\n\r\n", "b".repeat(4096)), "H1-08");
    refused(&"1;x\r\na\r\n".repeat(3000), "H1-08");
    refused(&format!("5\r\nhello\r\n0\r\n{}\r\n", "a: b\r\n".repeat(33)), "H1-09");
    refused(&format!("0\r\na: {}\r\n\r\n", "b".repeat(9000)), "H1-09");
    let many = format!("{}0\r\n\r\n", "1\r\na\r\n".repeat(20_000));
    let data = decode(many.as_bytes(), Leniency::Strict, 7).unwrap().unwrap().0;
    assert_eq!(data.len(), 20_000, "one-byte chunks are legal");
}

#[test]
fn backends_may_pad_sizes_and_end_lines_with_lf() {
    let lenient = |text: &str| decode(text.as_bytes(), Leniency::Backend, 1).unwrap().unwrap().0;
    assert_eq!(lenient("5  \r\nhello\r\n0 \t\r\n\r\n"), b"hello");
    assert_eq!(lenient("5\nhello\n0\n\n"), b"hello");
    assert_eq!(lenient("5;a\nhello\n0\nX: y\n\n"), b"hello");
    for text in ["0x5\r\nhello", "5\r\nhelloXX", "5 5\r\n", "\n"] {
        assert_eq!(decode(text.as_bytes(), Leniency::Backend, 1), Err("H1-08"), "{text:?}");
    }
}

proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig::with_cases(1_000))]

    #[test]
    fn the_verdict_does_not_depend_on_the_cuts(
        pieces in prop::collection::vec(
            prop::sample::select(
                &["5\r\nhello\r\n", "0\r\n", "\r\n", "\n", ";a=b", "\"", "3", "\r", "X: y\r\n", "abc", " ", "\\"][..]
            ),
            0..12,
        ),
        step in 1..9usize,
    ) {
        let text = pieces.concat();
        for leniency in [Leniency::Strict, Leniency::Backend] {
            let whole = decode(text.as_bytes(), leniency, usize::MAX);
            assert_eq!(decode(text.as_bytes(), leniency, step), whole);
            assert_eq!(decode(text.as_bytes(), leniency, 1), whole);
        }
    }

    #[test]
    fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..300), step in 1..50usize) {
        let _ = decode(&bytes, Leniency::Strict, step);
        let _ = decode(&bytes, Leniency::Backend, step);
    }
}

#[test]
fn a_size_that_no_body_can_have_is_refused_at_once() {
    refused("8000000000000000", "H1-08");
    refused("FFFFFFFFFFFFFFFF", "H1-08");
    let mut decoder = ChunkedDecoder::new(Leniency::Strict, ChunkLimits::default());
    assert!(matches!(decoder.decode(b"5\r\nhello\r\n7FFFFFFFFFFFFFFA\r\n"), Ok(Step::Data(_))));
    assert_eq!(decoder.decode(b"\r\n7FFFFFFFFFFFFFFA\r\n"), Ok(Step::More));
    assert_eq!(decoder.announced(), i64::MAX as u64);
}
