//! What is written reads back as what was meant (PT-7).

use proptest::prelude::{any, prop, proptest};

use super::*;
use crate::wire::chunked::{ChunkLimits, ChunkedDecoder, Leniency, Step};
use crate::wire::{
    HeadLimits, Parse, ResponseContext, ResponseLimits, parse_request_head, parse_response_head,
};

#[test]
fn numbers_are_written_as_they_are() {
    let length = |number| {
        let mut out = Vec::new();
        content_length(&mut out, number);
        String::from_utf8(out).unwrap()
    };
    assert_eq!(length(0), "Content-Length: 0\r\n");
    assert_eq!(length(1_048_576), "Content-Length: 1048576\r\n");
    assert_eq!(length(u64::MAX), "Content-Length: 18446744073709551615\r\n");
    for size in [1usize, 15, 16, 255, 256, 4095, 65_536, usize::MAX] {
        let mut line = [0; MAX_CHUNK_SIZE_LINE];
        assert_eq!(chunk_size(size, &mut line), format!("{size:x}\r\n").as_bytes());
    }
}

#[test]
fn an_empty_chunk_does_not_end_the_body() {
    let mut out = Vec::new();
    chunk(&mut out, b"");
    assert!(out.is_empty());
    chunk(&mut out, b"hello");
    assert_eq!(out, b"5\r\nhello\r\n");
}

#[test]
fn status_lines_have_the_words_of_nginx() {
    let check = |status: u16, reason: Option<&str>, expect: &str| {
        let mut out = Vec::new();
        status_line(&mut out, StatusCode::from_u16(status).unwrap(), reason);
        assert_eq!(String::from_utf8(out).unwrap(), format!("HTTP/1.1 {expect}\r\n"));
    };
    check(200, None, "200 OK");
    check(200, Some("Fine"), "200 Fine");
    check(200, Some(""), "200 ");
    check(405, None, "405 Not Allowed");
    check(503, None, "503 Service Temporarily Unavailable");
    check(999, None, "999 ");
    check(500, Some("a\r\nX: y"), "500 ");
}

#[test]
fn targets_that_would_split_the_request_line_are_refused() {
    let mut out = Vec::new();
    for target in [&b""[..], b"/ HTTP/1.1", b"/\r\nX: y", b"/\n", b"/\0", b"/\x7f"] {
        assert_eq!(request_line(&mut out, &Method::GET, target), Err(BadTarget), "{target:?}");
    }
    assert_eq!(field(&mut out, "X", b"a\nb"), Err(FieldError::Value));
    assert_eq!(field(&mut out, "X:", b"a"), Err(FieldError::Name));
    assert!(out.is_empty());
}

fn field_lines(lines: &[(String, Vec<u8>)]) -> Fields {
    let mut section = Fields::new();
    for (name, value) in lines {
        let framing =
            ["host", "te", "expect", "content-length"].iter().any(|known| known.eq_ignore_ascii_case(name));
        if !framing {
            let _ = section.append(name, value);
        }
    }
    section
}

proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig::with_cases(1_000))]

    #[test]
    fn any_strings_make_a_head_with_exactly_the_fields_that_were_taken(
        lines in prop::collection::vec(("[a-zA-Z0-9_:\r\n -]{0,9}", prop::collection::vec(any::<u8>(), 0..20)), 0..9),
        target in prop::collection::vec(any::<u8>(), 0..12),
        reason in "[ -~\r\n]{0,9}",
    ) {
        let section = field_lines(&lines);
        let expect: Vec<_> = section.iter().collect();

        let mut out = Vec::new();
        let target = [b"/", &target[..]].concat();
        if request_line(&mut out, &Method::GET, &target).is_ok() {
            raw_field(&mut out, "Host", b"a");
            fields(&mut out, &section);
            end_of_head(&mut out);
            match parse_request_head(&out, &HeadLimits::default()) {
                Parse::Complete(parsed) => {
                    assert_eq!(parsed.consumed, out.len());
                    assert_eq!(parsed.head.target, target);
                    assert_eq!(parsed.head.fields.iter().skip(1).collect::<Vec<_>>(), expect);
                }
                Parse::Reject(reject) => assert_eq!(reject.rule, "H1-13", "{reject}"),
                Parse::Incomplete => panic!("the head does not end"),
            }
        }

        let mut out = Vec::new();
        status_line(&mut out, StatusCode::OK, Some(&reason));
        fields(&mut out, &section);
        end_of_head(&mut out);
        let context = ResponseContext { head: false, upgrade: false };
        let Parse::Complete(parsed) = parse_response_head(&out, context, &ResponseLimits::default()) else {
            panic!("{}", String::from_utf8_lossy(&out));
        };
        assert_eq!(parsed.consumed, out.len());
        assert_eq!(parsed.head.fields.iter().collect::<Vec<_>>(), expect);
    }

    #[test]
    fn chunks_read_back_as_the_data(pieces in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..70), 0..9)) {
        let mut out = Vec::new();
        for piece in &pieces {
            chunk(&mut out, piece);
        }
        let mut trailers = Fields::new();
        trailers.append("X-Sum", b"1").unwrap();
        last_chunk(&mut out, &trailers);
        let mut decoder = ChunkedDecoder::new(Leniency::Strict, ChunkLimits::default());
        let (mut data, mut at) = (Vec::new(), 0);
        loop {
            match decoder.decode(&out[at..]).unwrap() {
                Step::Data(range) => {
                    data.extend_from_slice(&out[at..][range.clone()]);
                    at += range.end;
                }
                Step::End(taken) => break assert_eq!(at + taken, out.len()),
                Step::More => panic!("the body does not end"),
            }
        }
        assert_eq!(data, pieces.concat());
        assert_eq!(decoder.trailers().get("X-Sum"), Some(&b"1"[..]));
    }
}
