//! Heads of HTTP/2: what is taken, refused and malformed.

use super::*;
use crate::wire::hpack::{Decoder, Encoder};

/// A block of literals: names and values as they are.
fn block(fields: &[(&str, &[u8])]) -> Vec<u8> {
    let mut out = Vec::new();
    for (name, value) in fields {
        out.push(0);
        for text in [name.as_bytes(), value] {
            match u8::try_from(text.len()) {
                Ok(short @ 0..127) => out.push(short),
                _ => {
                    let rest = text.len() - 127;
                    out.extend([
                        127,
                        0x80 | (rest & 0x7f) as u8,
                        0x80 | (rest >> 7 & 0x7f) as u8,
                        (rest >> 14) as u8,
                    ]);
                }
            }
            out.extend_from_slice(text);
        }
    }
    out
}

fn take(fields: &[(&str, &[u8])], end_stream: bool) -> Result<TakenHead, Malformed> {
    let mut draft = HeadDraft::new(32 * 1024);
    Decoder::new(4096).decode(&block(fields), &mut draft).unwrap();
    draft.finish(&HeadLimits::default(), end_stream)
}

/// The usual pseudo-fields with `fields` behind them; one that is named again takes the place of the first.
fn with<'a>(fields: &[(&'a str, &'a str)]) -> Vec<(&'a str, &'a [u8])> {
    let mut all: Vec<(&str, &[u8])> =
        vec![(":method", b"GET"), (":scheme", b"https"), (":path", b"/"), (":authority", b"a.test")];
    for (name, value) in fields {
        let place = all.iter().position(|(there, _)| there == name).filter(|place| *place < 4);
        match place {
            Some(place) => all[place].1 = value.as_bytes(),
            None => all.push((name, value.as_bytes())),
        }
    }
    all
}

fn without<'a>(name: &str, fields: &[(&'a str, &'a str)]) -> Vec<(&'a str, &'a [u8])> {
    with(fields).into_iter().filter(|(there, _)| *there != name).collect()
}

/// `Ok` with the status that refuses it, or 0; `Err` for a malformed one.
fn outcome(fields: &[(&str, &[u8])]) -> Result<u16, ()> {
    match take(fields, true) {
        Ok(taken) => Ok(taken.refused.map_or(0, |reject| reject.status.as_u16())),
        Err(_) => Err(()),
    }
}

fn check(fields: &[(&str, &[u8])], expect: Result<u16, ()>) {
    assert_eq!(outcome(fields), expect, "{fields:?}");
}

#[test]
fn a_head_keeps_all_that_was_sent() {
    let fields = with(&[
        (":path", "/a?b=c"),
        ("x-a", "1"),
        ("cookie", "a=1"),
        ("x_b", "2"),
        ("cookie", "b=2"),
        ("te", "trailers"),
    ]);
    let taken = take(&fields, true).unwrap();
    assert_eq!((taken.refused, taken.content_length), (None, None));
    let head = taken.head;
    assert_eq!((head.method, &*head.target, head.version), (Method::GET, &b"/a?b=c"[..], Version::Http2));
    assert_eq!((head.authority.as_deref(), head.protocol), (Some("a.test"), None));
    let lines: Vec<_> = head.fields.iter().map(|(n, v)| (n, std::str::from_utf8(v).unwrap())).collect();
    assert_eq!(lines, [("x-a", "1"), ("x_b", "2"), ("te", "trailers"), ("cookie", "a=1; b=2")]);
    assert!(head.fields.may_be_unusual());
    let mut written = Vec::new();
    head.fields.write(&mut written, |_| true);
    assert_eq!(written, b"x-a: 1\r\nx_b: 2\r\nte: trailers\r\ncookie: a=1; b=2\r\n");
}

#[test]
fn a_head_from_the_table_is_the_one_that_was_spelled_out() {
    let mut sent = Fields::new();
    for (name, value) in
        [("accept", &b"*/*"[..]), ("x-raw", b"\xff\xe9"), ("user-agent", b"x"), ("Te", b"trailers")]
    {
        sent.append(name, value).unwrap();
    }
    let (mut encoder, mut decoder) = (Encoder::new(), Decoder::new(4096));
    for _ in 0..4 {
        // The four usual ones from the static table but for the authority.
        let mut bytes = vec![0x82, 0x87, 0x84, 0x01, 6];
        bytes.extend_from_slice(b"a.test");
        encoder.begin(&mut Vec::new());
        sent.lines().for_each(|line| encoder.line(line, &mut bytes));
        let mut draft = HeadDraft::new(32 * 1024);
        decoder.decode(&bytes, &mut draft).unwrap();
        let head = draft.finish(&HeadLimits::default(), true).unwrap().head;
        for (name, value) in sent.iter() {
            assert_eq!(head.fields.get(name), Some(value), "{name}");
        }
        assert_eq!((head.fields.len(), &*head.target), (4, &b"/"[..]));
    }
}

#[test]
fn heads_that_http_1_would_take_are_taken() {
    check(&with(&[]), Ok(0));
    check(&with(&[("host", "A.test:443")]), Ok(0));
    check(&without(":authority", &[("host", "a.test:8080")]), Ok(0));
    check(&with(&[("content-length", "0")]), Ok(0));
    check(&with(&[(":scheme", "http")]), Ok(0));
    check(&with(&[(":scheme", "x+1-.")]), Ok(0));
    check(&with(&[("expect", "100-continue"), ("authorization", "a")]), Ok(0));
    check(&with(&[("x", ""), ("x-b", "a\tb \u{e4}")]), Ok(0));
    for path in ["/<>\"`{}|^", "/?a=\"<>\\^`", "/\u{20ac}?\u{20ac}", "/%2f/..//"] {
        check(&with(&[(":path", path)]), Ok(0));
    }
    let raw: [(&str, &[u8]); 5] = [
        (":method", b"GET"),
        (":scheme", b"https"),
        (":path", b"/"),
        (":authority", b"a.test"),
        ("x", b"\xff"),
    ];
    check(&raw, Ok(0));
}

#[test]
fn heads_that_http_1_would_refuse_are_refused() {
    for (fields, status) in [
        (&[(":method", "TRACE")][..], 405),
        (&[(":method", "get")], 400),
        (&[(":method", "ABCDEFGHIJKLMNOPQRSTUVWXYZABCDEFG")], 501),
        (&[(":path", "x")], 400),
        (&[(":path", "*")], 400),
        (&[(":path", "/a b")], 400),
        (&[(":path", " /")], 400),
        (&[(":path", "/a#b")], 400),
        (&[(":path", "/a\\b")], 400),
        (&[(":path", "/%00")], 400),
        (&[(":path", "/%zz")], 400),
        (&[(":authority", "")], 400),
        (&[(":authority", "a..test")], 400),
        (&[(":authority", "u@a.test")], 400),
        (&[(":authority", "a test")], 400),
        (&[(":authority", "a/b")], 400),
        (&[("host", "b.test")], 400),
        (&[("host", "a.test:81")], 400),
        (&[("host", "a.test"), ("host", "a.test")], 400),
        (&[(":scheme", "1http")], 400),
        (&[(":scheme", "")], 400),
        (&[("http2-settings", "x")], 400),
        (&[("x", " a")], 400),
        (&[("x", "a\t")], 400),
        (&[("cookie", "a "), ("cookie", "b")], 400),
        (&[("cookie", "a"), ("cookie", "")], 400),
        (&[("authorization", "a"), ("authorization", "b")], 400),
        (&[("if-modified-since", "a"), ("if-modified-since", "b")], 400),
        (&[("expect", "x")], 417),
        (&[("content-length", "0"), ("content-length", "0")], 400),
        (&[("content-length", "9223372036854775808")], 413),
    ] {
        check(&with(fields), Ok(status));
    }
    check(&without(":authority", &[]), Ok(400));
    for path in [&b"/caf\xe9"[..], b"/?\xff", b"/\xc3\x28"] {
        check(
            &[(":method", b"GET"), (":scheme", b"http"), (":path", path), (":authority", b"a.test")],
            Ok(400),
        );
    }
    check(
        &[(":method", b"GET"), (":scheme", b"http"), (":path", b"/"), (":authority", b"\xff.test")],
        Ok(400),
    );
}

#[test]
fn malformed_heads_are_told() {
    for fields in [
        &[("connection", "close")][..],
        &[("keep-alive", "1")],
        &[("proxy-connection", "close")],
        &[("transfer-encoding", "chunked")],
        &[("upgrade", "h2c")],
        &[("te", "gzip")],
        &[("te", "Trailers")],
        &[("te", "trailers ")],
        &[("te", "trailers, gzip")],
        &[("Upper", "x")],
        &[("a b", "x")],
        &[("a:", "x")],
        &[("", "x")],
        &[("\u{e4}", "x")],
        &[("x", "a\0b")],
        &[("x", "a\r\nb: c")],
        &[("x", "\u{7f}")],
        &[(":status", "200")],
        &[(":unknown", "x")],
        &[(":", "x")],
        &[(":PATH", "/")],
        &[(":protocol", "websocket")],
        &[("x", "y"), (":protocol", "websocket")],
        &[(":method", "")],
        &[(":method", "G T")],
        &[(":path", "")],
        &[(":path", "/\0")],
        &[(":path", "/ HTTP/1.1\r\nx: y")],
        &[(":scheme", "ht tp")],
        &[(":scheme", "http://")],
        &[("content-length", "")],
        &[("content-length", "x")],
        &[("content-length", "5,5")],
        &[("content-length", "-1")],
        &[("content-length", "0"), ("content-length", "1")],
        &[("content-length", "5")],
    ] {
        check(&with(fields), Err(()));
    }
    for name in [":method", ":scheme", ":path"] {
        check(&without(name, &[]), Err(()));
        let mut twice = with(&[]);
        twice.insert(0, *twice.iter().find(|(there, _)| *there == name).unwrap());
        check(&twice, Err(()));
        let mut behind = without(name, &[("x", "y")]);
        behind.push((name, b"/"));
        check(&behind, Err(()));
    }
}

#[test]
fn connect_asks_for_websockets_or_nothing() {
    let connect = |fields: &[(&'static str, &'static str)]| {
        let mut all: Vec<(&str, &[u8])> = vec![(":method", b"CONNECT"), (":authority", b"a.test")];
        all.extend(fields.iter().map(|(name, value)| (*name, value.as_bytes())));
        all
    };
    check(&connect(&[]), Ok(400));
    check(&connect(&[(":path", "/")]), Err(()));
    check(&connect(&[(":scheme", "https")]), Err(()));
    let whole = [(":scheme", "https"), (":path", "/chat")];
    check(&connect(&whole), Err(()));
    for (protocol, expect) in
        [("websocket", 0), ("WebSocket", 0), ("h2c", 501), ("connect-udp", 501), ("", 501)]
    {
        let fields = connect(&[whole[0], whole[1], (":protocol", protocol)]);
        check(&fields, Ok(expect));
        assert_eq!(take(&fields, false).unwrap().head.protocol.as_deref(), Some(protocol));
    }
    check(&connect(&[(":protocol", "websocket")]), Err(()));
    check(&connect(&[(":protocol", "websocket"), (":scheme", "https")]), Err(()));
}

#[test]
fn what_a_body_has_to_sum_up_to_is_told() {
    let length = |value| take(&with(&[("content-length", value)]), false).map(|taken| taken.content_length);
    assert_eq!(length("5"), Ok(Some(5)));
    assert_eq!(length("0"), Ok(Some(0)));
    assert_eq!(length("007"), Ok(Some(7)));
    assert_eq!(length("9223372036854775808"), Ok(None));
    assert_eq!(length("+5").map_err(|_| ()), Err(()));
}

#[test]
fn heads_are_no_larger_than_in_http_1() {
    let path = |length: usize| format!("/{}", "a".repeat(length - "GET / HTTP/1.1".len()));
    check(&with(&[(":path", &path(8192))]), Ok(0));
    check(&with(&[(":path", &path(8193))]), Ok(414));
    let value = "v".repeat(8192 - 3);
    check(&with(&[("x", &value)]), Ok(0));
    check(&with(&[("xy", &value)]), Ok(431));
    check(&with(&[("cookie", &"v".repeat(9000))]), Ok(0));
    check(&with(&[("x", "y"); 200]), Ok(0));
    check(&with(&[("x", "y"); 201]), Ok(431));
    // The sum, which is the list's.
    check(&with(&[("x", value.as_str()); 5]), Ok(431));
    check(&with(&[("cookie", &"v".repeat(33_000))]), Ok(431));
    check(&[(":path", "v".repeat(33_000).as_bytes())], Ok(431));
}

#[test]
fn trailers_are_fields_and_nothing_else() {
    let trailers = |fields: &[(&str, &[u8])]| {
        let mut draft = TrailerDraft::new(1000);
        Decoder::new(4096).decode(&block(fields), &mut draft).unwrap();
        draft.finish().ok().map(|fields| {
            fields.iter().map(|(n, v)| format!("{n}={};", String::from_utf8_lossy(v))).collect::<String>()
        })
    };
    assert_eq!(trailers(&[]), Some(String::new()));
    assert_eq!(
        trailers(&[("grpc-status", b"0"), ("x", b"\xff")]),
        Some("grpc-status=0;x=\u{fffd};".to_owned())
    );
    for fields in [
        (":path", &b"/"[..]),
        (":method", b"GET"),
        (":status", b"200"),
        (":x", b"1"),
        ("X", b"1"),
        ("", b"1"),
        ("connection", b"close"),
        ("te", b"gzip"),
        ("x", b"\r\n"),
        ("x", b"a "),
        ("x", &[b'a'; 1000]),
    ] {
        assert_eq!(trailers(&[fields]), None, "{fields:?}");
        assert_eq!(trailers(&[("a", b"b"), fields, ("c", b"d")]), None, "{fields:?}");
    }
}
