use proptest::prelude::{Strategy, any, prop_assert, prop_assert_eq, prop_oneof, proptest};

use super::*;

fn check(target: &str, expect: Result<&str, BadTarget>) {
    let found =
        normalize(target.as_bytes()).map(|path| String::from_utf8_lossy(path.as_bytes()).into_owned());
    assert_eq!(found, expect.map(str::to_owned), "{target}");
}

#[test]
fn slashes_dots_and_triples_are_resolved_once() {
    for (target, expect) in [
        ("//foo", "/foo"),
        ("/foo//bar", "/foo/bar"),
        ("/./foo", "/foo"),
        ("/foo/./bar", "/foo/bar"),
        ("/a/../foo", "/foo"),
        ("/foo/../bar", "/bar"),
        ("/foo/..", "/"),
        ("/%66oo", "/foo"),
        ("/%66%6f%6F/x", "/foo/x"),
        ("/foo%2Fbar", "/foo/bar"),
        ("/foo%2fbar", "/foo/bar"),
        ("/a/%2e%2e/foo", "/foo"),
        ("/a/%2E%2E%2ffoo", "/foo"),
        ("/foo;x=1", "/foo;x=1"),
        ("/foo/;x", "/foo/;x"),
        ("/foo%20", "/foo "),
        ("/foo%3Fx", "/foo?x"),
        ("/foo/é", "/foo/é"),
        ("/foo/%C3%A9", "/foo/é"),
        ("/foo/a+b%20c?d=%20+", "/foo/a+b c"),
        ("///", "/"),
        ("/foo///", "/foo/"),
        ("/", "/"),
        ("/a/.", "/a/"),
        ("/a/b/..", "/a/"),
        ("/a/...", "/a/..."),
        ("/.well-known/x", "/.well-known/x"),
        ("/a%5Cb%23c", "/a\\b#c"),
        ("/%252e%252e/x", "/%2e%2e/x"),
        ("/a/..?/../x", "/"),
        ("/foo?a=%zz\\", "/foo"),
        ("/public/..%2Fadmin", "/admin"),
        ("/public/%2e%2e/admin/x", "/admin/x"),
        ("/public//../admin", "/admin"),
        ("/public/../admin", "/admin"),
        ("/.well-known/acme-challenge/../../admin", "/admin"),
    ] {
        check(target, Ok(expect));
    }
}

#[test]
fn targets_without_a_normal_form_are_refused() {
    for (target, expect) in [
        ("", BadTarget::NoSlash),
        ("*", BadTarget::NoSlash),
        ("foo", BadTarget::NoSlash),
        ("?x", BadTarget::NoSlash),
        ("/foo/../../x", BadTarget::AboveRoot),
        ("/../foo", BadTarget::AboveRoot),
        ("/%2e%2e", BadTarget::AboveRoot),
        ("//..", BadTarget::AboveRoot),
        ("/foo%00", BadTarget::Byte),
        ("/foo%zz", BadTarget::Percent),
        ("/foo%", BadTarget::Percent),
        ("/foo%4", BadTarget::Percent),
        ("/foo\\bar", BadTarget::Byte),
        ("/foo#frag", BadTarget::Byte),
        ("/foo?a#frag", BadTarget::Byte),
        ("/foo bar", BadTarget::Byte),
        ("/foo?a b", BadTarget::Byte),
        ("/foo\u{7f}", BadTarget::Byte),
        ("/foo\tbar", BadTarget::Byte),
        ("/foo\0", BadTarget::Byte),
    ] {
        check(target, Err(expect));
    }
    assert_eq!(normalize(b"/\xff"), Err(BadTarget::Byte));
}

#[test]
fn a_path_in_normal_form_is_borrowed() {
    for target in ["/", "/foo/bar", "/a.b/c?x=%20", "/é"] {
        let path = normalize(target.as_bytes()).unwrap();
        assert!(matches!(path.0, Cow::Borrowed(_)), "{target}");
    }
}

#[test]
fn a_target_is_split_at_the_first_question_mark() {
    assert_eq!(split_target(b"/a?b?c"), (&b"/a"[..], Some(&b"b?c"[..])));
    assert_eq!(split_target(b"/a?"), (&b"/a"[..], Some(&b""[..])));
    assert_eq!(split_target(b"/a"), (&b"/a"[..], None));
}

fn encode(path: &[u8]) -> Vec<u8> {
    path.iter().flat_map(|b| if *b == b'/' { vec![*b] } else { format!("%{b:02x}").into_bytes() }).collect()
}

fn targets() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop_oneof![
        proptest::sample::select(vec![
            "/", "//", ".", "..", "%2e", "%2F", "%25", "%2e%2E", "a", "%00", "%", "?", "é"
        ])
        .prop_map(|text| text.as_bytes().to_vec()),
        any::<u8>().prop_map(|byte| vec![byte]),
    ];
    proptest::collection::vec(piece, 0..24).prop_map(|pieces| [b"/".to_vec(), pieces.concat()].concat())
}

proptest! {
    #[test]
    fn normalising_again_changes_nothing(target in targets()) {
        if let Ok(path) = normalize(&target) {
            let encoded = encode(path.as_bytes());
            let again = normalize(&encoded).unwrap();
            prop_assert_eq!(again.as_bytes(), path.as_bytes());
        }
    }

    #[test]
    fn a_normal_form_has_no_double_slash_and_no_dot_segment(target in targets()) {
        if let Ok(path) = normalize(&target) {
            let bytes = path.as_bytes();
            prop_assert!(bytes.starts_with(b"/"));
            let segments: Vec<&[u8]> = bytes.split(|byte| *byte == b'/').collect();
            let inner = &segments[1..segments.len() - 1];
            prop_assert!(inner.iter().all(|segment| !segment.is_empty()));
            prop_assert!(!segments.iter().any(|segment| *segment == b"." || *segment == b".."));
        }
    }
}
