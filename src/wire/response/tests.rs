//! Tables of the rules for answers, and the promise that cuts do not matter.

use proptest::prelude::{any, prop, proptest};

use super::*;

const GET: ResponseContext = ResponseContext { head: false, upgrade: false };
const HEAD: ResponseContext = ResponseContext { head: true, upgrade: false };
const UPGRADE: ResponseContext = ResponseContext { head: false, upgrade: true };

fn parse(text: &[u8], context: ResponseContext) -> Parse<ParsedResponse> {
    parse_response_head(text, context, &ResponseLimits::default())
}

fn verdict(outcome: &Parse<ParsedResponse>) -> String {
    match outcome {
        Parse::Incomplete => "more".into(),
        Parse::Complete(parsed) => format!(
            "{} {:?} {} {:?} {} {:?}",
            parsed.head.status,
            parsed.head.reason,
            parsed.consumed,
            parsed.framing,
            parsed.keep_alive,
            parsed.head.fields
        ),
        Parse::Reject(reject) => format!("{} {reject}", reject.status.as_u16()),
    }
}

fn drip(bytes: &[u8]) -> String {
    let mut parser = ResponseParser::default();
    for end in 0..=bytes.len() {
        match parser.parse(&bytes[..end], GET, &ResponseLimits::default()) {
            Parse::Incomplete => {}
            outcome => return verdict(&outcome),
        }
    }
    "more".into()
}

#[track_caller]
fn accepted(text: &[u8], context: ResponseContext) -> ParsedResponse {
    match parse(text, context) {
        Parse::Complete(parsed) => parsed,
        other => panic!("{:?}: {}", String::from_utf8_lossy(text), verdict(&other)),
    }
}

#[track_caller]
fn refused(text: &[u8], rule: &str) {
    let outcome = verdict(&parse(text, GET));
    assert!(outcome.starts_with(&format!("502 {rule}")), "{:?}: {outcome}", String::from_utf8_lossy(text));
    assert_eq!(drip(text), outcome, "byte by byte");
}

fn answer(status: &str, lines: &[&str]) -> Vec<u8> {
    let mut text = format!("HTTP/1.1 {status}\r\n");
    for line in lines {
        text.push_str(line);
        text.push_str("\r\n");
    }
    text.push_str("\r\n");
    text.into_bytes()
}

#[test]
fn framing_follows_request_and_status() {
    let check = |status: &str, lines: &[&str], context, framing, keep_alive| {
        let parsed = accepted(&answer(status, lines), context);
        assert_eq!(
            (parsed.framing, parsed.keep_alive),
            (framing, keep_alive),
            "{status} {lines:?} {context:?}"
        );
    };
    let (length, chunked) = ("Content-Length: 5", "Transfer-Encoding: Chunked");
    check("200 OK", &[length], GET, Framing::Length(5), true);
    check("200 OK", &["Content-Length: 0"], GET, Framing::None, true);
    check("200 OK", &[length, length], GET, Framing::Length(5), true);
    check("200 OK", &[chunked], GET, Framing::Chunked, true);
    check("200 OK", &[], GET, Framing::UntilClose, false);
    check("200 OK", &[length, "Connection: close"], GET, Framing::Length(5), false);
    check("200 OK", &[length], HEAD, Framing::None, true);
    check("200 OK", &[chunked], HEAD, Framing::None, true);
    check("200 OK", &[], HEAD, Framing::None, true);
    check("304 Not Modified", &["Content-Length: 6"], GET, Framing::None, true);
    check("204 No Content", &[], GET, Framing::None, true);
    check("204 No Content", &[length], GET, Framing::None, false);
    check("103 Early Hints", &[], GET, Framing::None, true);
    check("101 Switching Protocols", &["Upgrade: x", "Connection: upgrade"], UPGRADE, Framing::None, false);
    let old = accepted(b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\n", GET);
    assert_eq!((old.head.version, old.keep_alive), (Version::Http10, false));
    assert!(
        accepted(b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\nConnection: keep-alive\r\n\r\n", GET).keep_alive
    );
}

#[test]
fn interim_answers_are_told_apart_from_the_final_one() {
    assert!(accepted(&answer("100 Continue", &[]), GET).interim);
    assert!(accepted(&answer("103 Early Hints", &["Link: </a>"]), GET).interim);
    assert!(!accepted(&answer("101 Switching Protocols", &[]), UPGRADE).interim);
    refused(&answer("101 Switching Protocols", &["Connection: Upgrade", "Upgrade: websocket"]), "R-6");
}

#[test]
fn ambiguous_framing_is_refused() {
    for lines in [
        &["Content-Length: 50", "Transfer-Encoding: chunked"][..],
        &["Content-Length: 2x"],
        &["Content-Length: -2"],
        &["Content-Length: 2, 2"],
        &["Content-Length: 2", "Content-Length: 3"],
        &["Transfer-Encoding: gzip"],
        &["Transfer-Encoding: chunked", "Transfer-Encoding: chunked"],
    ] {
        refused(&answer("200 OK", lines), "R-1");
    }
    refused(b"HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", "R-1");
}

#[test]
fn broken_syntax_is_refused() {
    for text in [
        &b"hello world\n"[..],
        b"HTTP/2.0 200 OK\r\n\r\n",
        b"HTTP/1.1 20\r\n\r\n",
        b"HTTP/1.1 099 X\r\n\r\n",
        b"HTTP/1.1  200 OK\r\n\r\n",
        b"HTTP/1.1 200OK\r\n\r\n",
        b"HTTP/1.1200 OK\r\n\r\n",
        b"HTTP/1.x 200 OK\r\n\r\n",
        b"\r\nHTTP/1.1 200 OK\r\n\r\n",
        b"HTTP/1.1 200 O\x01K\r\n\r\n",
        b"HTTP/1.1 200 OK\rX\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n X: y\r\n\r\n",
        // Its first line is no field, whatever it goes on with.
        b"HTTP/1.1 200 OK\r\n X-First: a\r\n b\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n \r\n Foo: bar\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n\tContent-Length: 2\r\n \r\n\r\n",
        b"HTTP/1.1 200 OK\r\nX: a\0b\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nX: a\rb\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nnocolon\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n: v\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nX y: v\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nX: a\x7f\r\n\r\n",
    ] {
        refused(text, "R-2");
    }
}

#[test]
fn old_backends_are_understood() {
    let lf = accepted(b"HTTP/1.1 200 OK\nContent-Length: 2\nX:y\n\nok", GET);
    assert_eq!((lf.consumed, lf.framing), (39, Framing::Length(2)));
    let bare = accepted(b"HTTP/1.1 200\r\n\r\n", GET);
    assert_eq!(bare.head.reason.as_deref(), Some(""));
    assert_eq!(accepted(b"HTTP/1.1 999 X\r\n\r\n", GET).head.status.as_u16(), 999);
    assert_eq!(accepted(b"HTTP/1.1 200 Fine\r\n\r\n", GET).head.reason.as_deref(), Some("Fine"));
    for (line, kept) in [
        ("200 OK", None),
        ("302 Found", Some("Found")),
        ("302 Moved Temporarily", None),
        ("503 Service Unavailable", Some("Service Unavailable")),
        ("503 Service Temporarily Unavailable", None),
        ("404 not found", Some("not found")),
        ("599", None),
    ] {
        let head = accepted(format!("HTTP/1.1 {line}\r\n\r\n").as_bytes(), GET).head;
        assert_eq!(head.reason.as_deref(), kept, "{line}");
    }
    let repaired = accepted(b"HTTP/1.1 200 OK\r\nX: a\r\n b\r\n\t \r\n\tc\r\nY : d\r\nZ: e\r\n\r\n", GET);
    let lines: Vec<_> = repaired.head.fields.iter().collect();
    assert_eq!(lines, [("X", &b"a b c"[..]), ("Y", b"d"), ("Z", b"e")]);
}

#[test]
fn sizes_are_limited() {
    accepted(&answer("200 OK", &["a: b"; 512]), GET);
    refused(&answer("200 OK", &["a: b"; 513]), "R-8");
    accepted(&answer("200 OK", &[&format!("a: {}", "b".repeat(60_000))]), GET);
    let large = answer("200 OK", &[&format!("a: {}", "b".repeat(70_000))]);
    assert!(verdict(&parse(&large, GET)).starts_with("502 R-8"));
    assert!(verdict(&parse(&large[..65_536], GET)).starts_with("502 R-8"));
    let bare = answer("200 OK", &["a: "]).len();
    let exact = |length: usize| answer("200 OK", &[&format!("a: {}", "b".repeat(length - bare))]);
    assert!(!verdict(&parse(&exact(65_536), GET)).starts_with("502"));
    assert!(verdict(&parse(&exact(65_537), GET)).starts_with("502 R-8"));
}

const PIECES: &[&[u8]] = &[
    b"HTTP/1.1 200 OK\r\n",
    b"HTTP/1.0 404\n",
    b"Content-Length: 3\r\n",
    b"Transfer-Encoding: chunked\r\n",
    b"X: y\n",
    b"\r\n",
    b"\n",
    b"\r",
    b": ",
    b" ",
    b"\t",
    b"X",
    b"\0",
    b"\xff",
];

proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig::with_cases(1_000))]

    #[test]
    fn the_verdict_does_not_depend_on_the_cuts(pieces in prop::collection::vec(prop::sample::select(PIECES), 0..24)) {
        let bytes = [&b"HTTP/1.1 200 OK\r\n"[..], &pieces.concat()].concat();
        assert_eq!(drip(&bytes), verdict(&parse(&bytes, GET)));
    }

    #[test]
    fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        drip(&[&b"HTTP/1.1 200 OK\r\n"[..], &bytes].concat());
        drip(&bytes);
    }
}
