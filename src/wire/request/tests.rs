//! Tables of the rules that a request head can break, and the promise that cuts do not matter.

use proptest::prelude::{any, prop, proptest};

use super::*;

fn parse(text: &[u8]) -> Parse<ParsedRequest> {
    parse_request_head(text, &HeadLimits::default())
}

/// Verdict in one line, the same for every way of cutting `bytes`.
fn verdict(outcome: Parse<ParsedRequest>) -> String {
    match outcome {
        Parse::Incomplete => "more".into(),
        Parse::Complete(parsed) => format!(
            "{} {} {:?} {} {:?} {}",
            parsed.head.method,
            String::from_utf8_lossy(&parsed.head.target),
            parsed.head.version,
            parsed.consumed,
            parsed.framing,
            parsed.head.fields.len(),
        ),
        Parse::Reject(reject) => format!("{} {}", reject.status.as_u16(), reject),
    }
}

/// Feeds `bytes` up to each of `cuts`; stops at the first verdict as a driver does.
fn cut(bytes: &[u8], cuts: impl Iterator<Item = usize>) -> String {
    let mut parser = RequestParser::default();
    for end in cuts.chain([bytes.len()]) {
        match parser.parse(&bytes[..end], &HeadLimits::default()) {
            Parse::Incomplete => {}
            outcome => return verdict(outcome),
        }
    }
    verdict(Parse::Incomplete)
}

#[track_caller]
fn refused(text: &[u8], status: u16, rule: &str) {
    let expect = format!("{status} {rule}");
    let whole = cut(text, [].into_iter());
    assert!(whole.starts_with(&expect), "{:?}: {whole}, expected {expect}", String::from_utf8_lossy(text));
    assert_eq!(cut(text, 0..text.len()), whole, "byte by byte");
}

#[track_caller]
fn accepted(text: &[u8]) -> ParsedRequest {
    assert_eq!(cut(text, 0..text.len()), cut(text, [].into_iter()), "byte by byte");
    match parse(text) {
        Parse::Complete(parsed) => parsed,
        other => panic!("{:?}: {}", String::from_utf8_lossy(text), verdict(other)),
    }
}

/// A GET with `lines` (each ended by CRLF here) after its Host.
fn with(lines: &[&str]) -> Vec<u8> {
    let mut text = b"GET / HTTP/1.1\r\nHost: a.test\r\n".to_vec();
    for line in lines {
        text.extend_from_slice(line.as_bytes());
        text.extend_from_slice(b"\r\n");
    }
    text.extend_from_slice(b"\r\n");
    text
}

#[test]
fn a_head_keeps_every_byte_that_matters() {
    let text = b"\r\n\r\nPOST http://B.test/a%2Fb?x=\\ HTTP/1.1\r\nhOST: a.test\r\nX-Y:  v\xff w \t\r\nContent-Length: 007\r\n\r\nrest";
    let parsed = accepted(text);
    assert_eq!(parsed.head.target, b"http://B.test/a%2Fb?x=\\");
    let lines: Vec<_> = parsed.head.fields.iter().collect();
    assert_eq!(lines, [("hOST", &b"a.test"[..]), ("X-Y", b"v\xff w"), ("Content-Length", b"007")]);
    assert_eq!(parsed.framing, Framing::Length(7));
    assert_eq!(&text[parsed.consumed..], b"rest");
    assert!(parsed.keep_alive && !parsed.expect_continue && !parsed.upgrade && !parsed.accepts_trailers);
}

#[test]
fn the_request_line_is_three_words() {
    for (line, status, rule) in [
        ("GET  / HTTP/1.1", 400, "H1-10"),
        ("GET / HTTP/1.1 ", 400, "H1-10"),
        ("GET /a b HTTP/1.1", 400, "H1-10"),
        (" GET / HTTP/1.1", 400, "H1-10"),
        ("GET /", 400, "H1-11"),
        ("GET", 400, "H1-12"),
        ("GET / HTTP/1.32", 400, "H1-11"),
        ("GET / HTTP/2.0", 505, "H1-11"),
        ("GET / HTTP/0.9", 505, "H1-11"),
        ("GET / http/1.1", 400, "H1-11"),
        ("GET / HTTP/x", 400, "H1-11"),
        ("GET / HTTP/4294967297.1", 400, "H1-11"),
        ("GET / HTTP/1,1", 400, "H1-11"),
        ("PRI * HTTP/2.0", 400, "H1-13"),
        ("get / HTTP/1.1", 400, "H1-12"),
        ("\x16\x03\x01", 400, "H1-12"),
        ("CONNECT a.test:443 HTTP/1.1", 400, "H1-12"),
        ("TRACE / HTTP/1.1", 405, "H1-12"),
        ("OPTIONS * HTTP/1.1", 400, "H1-13"),
        ("GET /#f HTTP/1.1", 400, "H1-13"),
        ("GET http://a..b/ HTTP/1.1", 400, "H1-14"),
        ("GET\t/ HTTP/1.1", 400, "H1-12"),
        ("GET /\t HTTP/1.1", 400, "H1-13"),
        ("GET /a\0b HTTP/1.1", 400, "H1-06"),
    ] {
        refused(format!("{line}\r\nHost: a.test\r\n\r\n").as_bytes(), status, rule);
    }
    refused(b"GET /\nHTTP/1.1\r\nHost: a.test\r\n\r\n", 400, "H1-07");
    refused(b"GET /\rx HTTP/1.1\r\nHost: a.test\r\n\r\n", 400, "H1-07");
    assert_eq!(accepted(b"GET / HTTP/1.7\r\nHost: a\r\n\r\n").head.version, Version::Http11);
}

#[test]
fn a_refusal_does_not_wait_for_the_end_of_the_head() {
    for text in [&b"G\0"[..], b"\x16", b"GET / HTTP/3.0\r\n", b"GET / HTTP/1.1\r\nHost : ", b"X\n", b" "] {
        let outcome = parse(text);
        let waits = text.ends_with(b"Host : ");
        assert_eq!(matches!(outcome, Parse::Incomplete), waits, "{text:?}: {}", verdict(outcome));
    }
    refused(&b"A".repeat(33), 501, "H1-12");
}

#[test]
fn empty_lines_before_the_request_line_are_bounded() {
    accepted(b"\r\n\r\n\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n");
    refused(b"\r\n\r\n\r\n\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", 400, "H1-10");
    refused(b"\nGET / HTTP/1.1\r\n", 400, "H1-07");
    assert_eq!(verdict(parse(b"\r\n\r\n")), "more");
}

#[test]
fn field_lines_obey_the_grammar() {
    for line in [
        ": v",
        ":",
        "garbage",
        "X y: z",
        "X : z",
        "X\t: z",
        " X: y",
        "\tX: y",
        "n\u{e4}: v",
        "X: a\x7fb",
        "X: a\x01b",
        "X: a\x0bb",
        "X: a\0",
        "\u{b}X: a",
        "(X): a",
    ] {
        refused(&with(&[line]), 400, "H1-06");
    }
    refused(&with(&["X: a", " b"]), 400, "H1-06");
    refused(&with(&["X: y\nZ: w"]), 400, "H1-07");
    refused(&with(&["X: y\rZ: w"]), 400, "H1-07");
    refused(b"GET / HTTP/1.1\r\nHost: a\r\n\n", 400, "H1-07");
    refused(b"GET / HTTP/1.1\r\nHost: a\r\n\rX", 400, "H1-07");
    accepted(&with(&["X:", "!#$%&'*+-.^_`|~0aZ: \u{e9}\ta", "_under_score: 1"]));
}

#[test]
fn host_stands_once_and_is_a_host() {
    refused(b"GET / HTTP/1.1\r\nX: y\r\n\r\n", 400, "H1-14");
    refused(&with(&["Host: a.test"]), 400, "H1-14");
    refused(b"GET / HTTP/1.1\r\nHost:\r\n\r\n", 400, "H1-14");
    refused(b"GET / HTTP/1.0\r\nHost: a b\r\n\r\n", 400, "H1-14");
    refused(b"GET http://a.test/ HTTP/1.1\r\n\r\n", 400, "H1-14");
    refused(b"GET http://a.test/ HTTP/1.1\r\nHost: a/b\r\n\r\n", 400, "H1-14");
    accepted(b"GET / HTTP/1.0\r\n\r\n");
    accepted(b"GET http://a.test/ HTTP/1.1\r\nHost:\r\n\r\n");
}

#[test]
fn framing_rules_hold_for_whole_heads() {
    refused(&with(&["Content-Length: 6", "Transfer-Encoding: chunked"]), 400, "H1-01");
    refused(&with(&["Content-Length: 5", "content-length: 5"]), 400, "H1-02");
    refused(&with(&["Content-Length: 18446744073709551615"]), 413, "H1-03");
    refused(&with(&["Transfer-Encoding: gzip, chunked"]), 501, "H1-04");
    refused(b"GET / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n", 400, "H1-05");
    assert_eq!(accepted(&with(&["Transfer-Encoding:\tCHUNKED \t"])).framing, Framing::Chunked);
    assert_eq!(accepted(&with(&[])).framing, Framing::None);
}

#[test]
fn singletons_twice_are_refused() {
    refused(&with(&["Authorization: a", "authorization: a"]), 400, "H1-15");
    refused(&with(&["If-Modified-Since: a", "If-Modified-Since: b"]), 400, "H1-15");
    accepted(&with(&["Cookie: a=1", "Cookie: b=2", "Authorization: x", "Accept: a", "Accept: b"]));
}

#[test]
fn expectations_are_100_continue_or_nothing() {
    let body = "Content-Length: 5";
    assert!(accepted(&with(&[body, "Expect: 100-Continue"])).expect_continue);
    assert!(accepted(&with(&[body, "Expect: 100-continue", "Expect: 100-continue"])).expect_continue);
    assert!(!accepted(&with(&["Expect: 100-continue"])).expect_continue);
    assert!(
        !accepted(b"POST / HTTP/1.0\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n").expect_continue
    );
    refused(&with(&[body, "Expect: foo"]), 417, "H1-16");
    refused(&with(&[body, "Expect: 100-continue", "Expect: x"]), 417, "H1-16");
}

#[test]
fn sizes_are_limited() {
    let line = "a".repeat(8 * 1024);
    refused(format!("GET /{line} HTTP/1.1\r\n").as_bytes(), 414, "H1-17");
    refused(format!("GET /{line}").as_bytes(), 414, "H1-17");
    refused(&with(&[&format!("X: {line}")]), 431, "H1-17");
    let most = &line[..8 * 1024 - "GET / HTTP/1.1".len()];
    accepted(format!("GET /{most} HTTP/1.1\r\nHost: a\r\n\r\n").as_bytes());
    refused(format!("GET /{most}a HTTP/1.1\r\nHost: a\r\n\r\n").as_bytes(), 414, "H1-17");
    accepted(&with(&[&format!("X:{}", &line[..8 * 1024 - 2])]));
    refused(&with(&[&format!("X:{}", &line[..8 * 1024 - 1])]), 431, "H1-17");
    accepted(&with(&["x: y"; 199]));
    refused(&with(&["x: y"; 200]), 431, "H1-17");
    let field = format!("X: {}", &line[..7000]);
    accepted(&with(&[field.as_str(); 4]));
    refused(&with(&[field.as_str(); 5]), 431, "H1-17");
}

#[test]
fn connection_options_decide_over_the_connection() {
    let keeps = |text: &[u8]| accepted(text).keep_alive;
    assert!(keeps(&with(&[])));
    assert!(!keeps(&with(&["Connection: close", "Connection: keep-alive"])));
    assert!(!keeps(&with(&["Connection: keep-alive, x,  CLOSE"])));
    assert!(!keeps(b"GET / HTTP/1.0\r\n\r\n"));
    assert!(keeps(b"GET / HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\n"));
    assert!(accepted(&with(&["Connection: upgrade", "Upgrade: websocket"])).upgrade);
    assert!(!accepted(&with(&["Upgrade: websocket"])).upgrade);
    assert!(!accepted(b"GET / HTTP/1.0\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n").upgrade);
    assert!(accepted(&with(&["TE: gzip;q=0.5, trailers"])).accepts_trailers);
}

/// Pieces that make bytes look like heads often enough to get past the first line.
const PIECES: &[&[u8]] = &[
    b"GET / HTTP/1.1\r\n",
    b"POST /x HTTP/1.0\r\n",
    b"Host: a\r\n",
    b"Content-Length: 3\r\n",
    b"Transfer-Encoding: chunked\r\n",
    b"Expect: y\r\n",
    b"\r\n",
    b"\n",
    b"\r",
    b": ",
    b" ",
    b"\t",
    b"X",
    b"\0",
    b"\xff",
    b"GET",
];

proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig::with_cases(1_000))]

    #[test]
    fn the_verdict_does_not_depend_on_the_cuts(
        pieces in prop::collection::vec(prop::sample::select(PIECES), 0..24),
        cuts in prop::collection::vec(any::<u8>(), 0..8),
    ) {
        let bytes = pieces.concat();
        let mut cuts: Vec<usize> = cuts.iter().map(|cut| usize::from(*cut) % (bytes.len() + 1)).collect();
        cuts.sort_unstable();
        let whole = cut(&bytes, [].into_iter());
        assert_eq!(cut(&bytes, cuts.into_iter()), whole);
        assert_eq!(cut(&bytes, 0..bytes.len()), whole);
    }

    #[test]
    fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..600), start in any::<bool>()) {
        let mut text = if start { b"GET / HTTP/1.1\r\nHost: a\r\n".to_vec() } else { Vec::new() };
        text.extend_from_slice(&bytes);
        cut(&text, 0..text.len());
    }
}
