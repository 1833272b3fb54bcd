//! Sections of field lines: look-up, change, what may not enter, and how they are written.

use super::*;

fn sample() -> Fields {
    let mut fields = Fields::new();
    for (name, value) in [("Host", "a.test"), ("X-A", "1"), ("Accept", "*/*"), ("x-a", "2")] {
        fields.append(name, value.as_bytes()).unwrap();
    }
    fields
}

fn text(fields: &Fields) -> String {
    fields.iter().map(|(n, v)| format!("{n}={};", String::from_utf8_lossy(v))).collect()
}

#[test]
fn token_bytes_are_those_of_the_standard() {
    let token = b"!#$%&'*+-.^_`|~";
    for byte in 0..=255u8 {
        assert_eq!(is_tchar(byte), byte.is_ascii_alphanumeric() || token.contains(&byte), "{byte:#x}");
        assert_eq!(
            is_field_value(&[b'a', byte, b'b']),
            byte == b'\t' || (byte >= 0x20 && byte != 0x7f),
            "{byte:#x}"
        );
    }
}

#[test]
fn lookup_ignores_case_and_order_is_kept() {
    let fields = sample();
    assert_eq!(fields.get("host"), Some(&b"a.test"[..]));
    assert_eq!(fields.get_all("X-a").collect::<Vec<_>>(), [b"1", b"2"]);
    assert_eq!(fields.get_only("x-A"), Err(Repeated));
    assert_eq!(fields.get_only("absent"), Ok(None));
    assert_eq!(text(&fields), "Host=a.test;X-A=1;Accept=*/*;x-a=2;");
}

#[test]
fn set_replaces_every_line_in_the_place_of_the_first() {
    let mut fields = sample();
    fields.set("X-a", b"new").unwrap();
    assert_eq!(text(&fields), "Host=a.test;X-a=new;Accept=*/*;");
    fields.set("Late", b"z").unwrap();
    assert_eq!(text(&fields), "Host=a.test;X-a=new;Accept=*/*;Late=z;");
}

#[test]
fn remove_takes_all_lines_of_the_name() {
    let mut fields = sample();
    assert_eq!(fields.remove("X-A"), 2);
    assert_eq!(text(&fields), "Host=a.test;Accept=*/*;");
}

#[test]
fn lines_that_would_split_a_head_are_refused() {
    let mut fields = sample();
    for value in [&b"a\r\nX: y"[..], b"a\0", b"\x7f", b" lead", b"trail "] {
        assert_eq!(fields.append("X", value), Err(FieldError::Value), "{value:?}");
    }
    for name in ["", "a b", "a:", "\r\n", "é"] {
        assert_eq!(fields.append(name, b"v"), Err(FieldError::Name), "{name:?}");
    }
    assert_eq!(fields.len(), 4);
    fields.append("ok", b"tab\there \xff").unwrap();
}

#[test]
fn debug_text_hides_credentials() {
    let mut fields = Fields::new();
    fields.append("Authorization", b"Basic c2VjcmV0").unwrap();
    fields.append("cookie", b"sid=secret").unwrap();
    let text = format!("{fields:?}");
    assert!(!text.contains("c2VjcmV0") && !text.contains("secret"), "{text}");
}

fn written(fields: &Fields, keep: impl FnMut(FieldLine<'_>) -> bool) -> String {
    let mut out = Vec::new();
    fields.write(&mut out, keep);
    String::from_utf8_lossy(&out).into_owned()
}

#[test]
fn lines_are_written_in_order_wherever_they_lie() {
    let mut fields = sample();
    assert_eq!(written(&fields, |_| true), "Host: a.test\r\nX-A: 1\r\nAccept: */*\r\nx-a: 2\r\n");
    assert_eq!(written(&fields, |line| line.name() != "Accept"), "Host: a.test\r\nX-A: 1\r\nx-a: 2\r\n");
    assert_eq!(written(&fields, |line| line.name() == "x-a"), "x-a: 2\r\n");
    assert_eq!(written(&fields, |_| false), "");
    // A value that is no text lies apart, and one that was set lies after all others.
    fields.append("X-Raw", b"\xff").unwrap();
    fields.set("x-A", b"3").unwrap();
    assert_eq!(written(&fields, |_| true), "Host: a.test\r\nx-A: 3\r\nAccept: */*\r\nX-Raw: \u{fffd}\r\n");
    assert_eq!(fields.get("x-raw"), Some(&b"\xff"[..]));
    fields.remove("Host");
    assert_eq!(written(&fields, |_| true), "x-A: 3\r\nAccept: */*\r\nX-Raw: \u{fffd}\r\n");
}

#[test]
fn lines_pass_from_section_to_section_as_they_are() {
    let mut from = sample();
    from.append("X-Raw", b"\xff").unwrap();
    let mut to = Fields::new();
    to.append_own(&OwnName::new("Via: "), b"x").unwrap();
    for line in from.lines().filter(|line| line.name() != "Accept") {
        to.push_line(line).unwrap();
    }
    assert_eq!(written(&to, |_| true), "Via: x\r\nHost: a.test\r\nX-A: 1\r\nx-a: 2\r\nX-Raw: \u{fffd}\r\n");
    assert_eq!(to.get("x-raw"), Some(&b"\xff"[..]));
    assert_eq!(to.get_all("X-A").collect::<Vec<_>>(), [b"1", b"2"]);
}

#[test]
fn a_parsed_head_reads_and_writes_the_same_however_it_was_spelt() {
    let check = |lines: &[u8], expect: &str| {
        let head = [b"HTTP/1.1 200 OK\r\n", lines, b"\r\n"].concat();
        let context = crate::wire::ResponseContext::of(&http::Method::GET);
        let limits = crate::wire::ResponseLimits::default();
        // However it is cut.
        for cut in 0..=head.len() {
            let mut parser = crate::wire::ResponseParser::default();
            let whole = match parser.parse(&head[..cut], context, &limits) {
                crate::wire::Parse::Incomplete => parser.parse(&head, context, &limits),
                done => done,
            };
            let crate::wire::Parse::Complete(parsed) = whole else { panic!("refused at {cut}") };
            let fields = parsed.head.fields;
            assert_eq!(written(&fields, |_| true), expect, "{cut}");
            let mut again = Fields::new();
            fields.iter().for_each(|(name, value)| again.append(name, value).unwrap());
            assert_eq!(written(&again, |_| true), expect, "{cut}");
        }
    };
    check(b"A: 1\r\nB: 2\r\n", "A: 1\r\nB: 2\r\n");
    check(b"A:1\r\nB:\t2 \r\nC: 3\r\n", "A: 1\r\nB: 2\r\nC: 3\r\n");
    check(b"A: 1\nB: 2\r\nC : 3\r\n", "A: 1\r\nB: 2\r\nC: 3\r\n");
    check(b"A: 1\r\n 2\r\nB: x\r\n\ty\r\n z\r\nC: 3\r\n", "A: 1 2\r\nB: x y z\r\nC: 3\r\n");
    check(b"A:\r\nB: \r\nC: 3\r\n", "A: \r\nB: \r\nC: 3\r\n");
    check("A: \u{e4}\r\nB: 2\r\n".as_bytes(), "A: \u{e4}\r\nB: 2\r\n");
    check(b"A: \xe4\r\nB: 2\r\nC: x\r\n y\r\n", "A: \u{fffd}\r\nB: 2\r\nC: x y\r\n");
}

#[test]
fn names_of_unusual_bytes_are_known() {
    let mut fields = sample();
    assert!(!fields.may_be_unusual());
    fields.append("x_a", b"1").unwrap();
    fields.append("x.a", b"2").unwrap();
    assert!(fields.may_be_unusual());
    let of = |wanted: fn(FieldLine<'_>) -> bool| {
        fields.lines().filter(|line| wanted(*line)).map(FieldLine::name).collect::<Vec<_>>()
    };
    assert_eq!((of(|line| line.has_underscore()), of(|line| line.is_odd())), (vec!["x_a"], vec!["x.a"]));
}
