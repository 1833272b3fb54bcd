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
