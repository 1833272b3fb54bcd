//! Methods and request targets (rules H1-12 and H1-13): what a client may ask for, whatever HTTP version it
//! speaks. Normalising a path is `route`'s; nothing is decoded here and the bytes stay as they are.

use std::borrow::Cow;

use http::StatusCode;

use super::authority::{Authority, parse_authority};
use super::verdict::Reject;

/// Longest method that is taken; a longer one is 501.
pub const MAX_METHOD: usize = 32;

/// A target split into where it points and what it asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SplitTarget<'a> {
    /// Authority of an absolute-form target: replaces `Host` for routing and towards the backend (H1-14).
    pub authority: Option<Authority<'a>>,
    /// The authority exactly as it stands in the target.
    pub authority_text: Option<&'a str>,
    /// Path and query, starting with `/`.
    pub origin: Cow<'a, [u8]>,
}

/// True for a byte that a method may hold: nginx takes upper-case letters, `_` and `-` only.
pub(super) const fn is_method_byte(byte: u8) -> bool {
    matches!(byte, b'A'..=b'Z' | b'_' | b'-')
}

/// Checks a method against H1-12.
///
/// # Errors
/// [`Reject`]: 400 for bytes that no method of nginx has and for `CONNECT`, 405 for `TRACE`, 501 above
/// [`MAX_METHOD`] bytes.
pub fn check_method(method: &[u8]) -> Result<(), Reject> {
    if method.is_empty() {
        return Err(Reject::bad("H1-12", "the method is empty"));
    }
    let head = method.get(..MAX_METHOD).unwrap_or(method);
    if !head.iter().all(|byte| is_method_byte(*byte)) {
        return Err(Reject::bad("H1-12", "the method holds a byte that is not allowed"));
    }
    if method.len() > MAX_METHOD {
        return Err(Reject::new(StatusCode::NOT_IMPLEMENTED, "H1-12", "the method is longer than 32 bytes"));
    }
    match method {
        b"CONNECT" => Err(Reject::bad("H1-12", "CONNECT is not served")),
        b"TRACE" => Err(Reject::new(StatusCode::METHOD_NOT_ALLOWED, "H1-12", "TRACE is not served")),
        _ => Ok(()),
    }
}

/// Checks an origin-form target (HTTP/2 `:path` included) against H1-13.
///
/// Bytes that never stand in a target are refused everywhere: control bytes, space, `#`, and above ASCII what is
/// no UTF-8. In the path also `\`, broken `%XX` and `%00`. The query is opaque to us and goes to the backend as it
/// came: browsers send a raw `\` there and `?off=10%` is everyday traffic that nginx lets through.
///
/// # Errors
/// [`Reject`] with 400 and rule H1-13.
pub fn check_target(target: &[u8]) -> Result<(), Reject> {
    if target.first() != Some(&b'/') {
        return Err(Reject::bad("H1-13", "the target does not start with a slash"));
    }
    check_target_bytes(target)
}

/// Splits a target of HTTP/1 into authority and origin-form and checks both (H1-13, H1-14).
///
/// # Errors
/// [`Reject`] with 400: `*`, another scheme than `http` and `https`, user information, an empty or bad host, and
/// whatever [`check_target`] refuses.
pub fn split_target(target: &[u8]) -> Result<SplitTarget<'_>, Reject> {
    if target.first() == Some(&b'/') {
        check_target_bytes(target)?;
        return Ok(SplitTarget { authority: None, authority_text: None, origin: Cow::Borrowed(target) });
    }
    if target == b"*" {
        return Err(Reject::bad("H1-13", "the target `*` is not served"));
    }
    let Some(rest) = strip_scheme(target) else {
        return Err(Reject::bad("H1-13", "the target is neither a path nor an http URL"));
    };
    let end = rest.iter().position(|byte| matches!(byte, b'/' | b'?' | b'#')).unwrap_or(rest.len());
    let (authority, path) = rest.split_at_checked(end).unwrap_or((rest, &[]));
    let parsed = parse_authority(authority)?;
    let origin = if path.first() == Some(&b'/') {
        Cow::Borrowed(path)
    } else {
        let mut origin = Vec::with_capacity(path.len() + 1);
        origin.push(b'/');
        origin.extend_from_slice(path);
        Cow::Owned(origin)
    };
    check_target_bytes(&origin)?;
    let authority_text = std::str::from_utf8(authority).ok();
    Ok(SplitTarget { authority: Some(parsed), authority_text, origin })
}

fn strip_scheme(target: &[u8]) -> Option<&[u8]> {
    [&b"http://"[..], b"https://"].into_iter().find_map(|scheme| {
        let (head, rest) = target.split_at_checked(scheme.len())?;
        head.eq_ignore_ascii_case(scheme).then_some(rest)
    })
}

/// Bytes that no rule has anything against, wherever in a target they stand.
const PLAIN: [bool; 256] = {
    let mut table = [false; 256];
    let mut byte = b'!';
    while byte < 0x7f {
        table[byte as usize] = !matches!(byte, b'#' | b'%' | b'\\');
        byte += 1;
    }
    table
};

fn check_target_bytes(target: &[u8]) -> Result<(), Reject> {
    if target.iter().all(|byte| PLAIN[usize::from(*byte)]) {
        return Ok(());
    }
    let bad = |reason| Err(Reject::bad("H1-13", reason));
    let mut bytes = target.iter();
    let mut in_query = false;
    let mut high = false;
    while let Some(byte) = bytes.next() {
        match byte {
            b'#' => return bad("the target has a fragment"),
            0..=b' ' | 0x7f => return bad("the target holds a control byte or a space"),
            b'?' => in_query = true,
            b'\\' if !in_query => return bad("the path holds a backslash"),
            b'%' if !in_query => match (bytes.next(), bytes.next()) {
                (Some(b'0'), Some(b'0')) => return bad("the path holds %00"),
                (Some(one), Some(two)) if one.is_ascii_hexdigit() && two.is_ascii_hexdigit() => {}
                _ => return bad("the path holds a broken percent triple"),
            },
            0x80.. => high = true,
            _ => {}
        }
    }
    if high && std::str::from_utf8(target).is_err() {
        return bad("the target holds bytes that are no UTF-8");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn origin_form_is_kept_byte_for_byte() {
        for target in ["/", "/a//b/../c?x=1&y=%zz\\", "/%2F%e2%82%ac", "/\u{20ac}", "/a;b|c\"<>", "/?#x"] {
            let split = split_target(target.as_bytes());
            if target.contains('#') {
                assert_eq!(split.unwrap_err().reason, "the target has a fragment", "{target}");
            } else {
                assert_eq!(split.unwrap().origin, target.as_bytes(), "{target}");
                assert_eq!(check_target(target.as_bytes()), Ok(()), "{target}");
            }
        }
    }

    #[test]
    fn absolute_form_gives_authority_and_path() {
        let check = |target: &str, authority: &str, origin: &str| {
            let split = split_target(target.as_bytes()).unwrap();
            assert_eq!(split.authority_text, Some(authority), "{target}");
            assert_eq!(split.origin, origin.as_bytes(), "{target}");
        };
        check("http://a.test/x?y", "a.test", "/x?y");
        check("HTTPS://A.test:8443", "A.test:8443", "/");
        check("http://[::1]:80?q", "[::1]:80", "/?q");
        check("http://a.test//x", "a.test", "//x");
    }

    #[test]
    fn targets_that_hide_something_are_refused() {
        for target in [
            &b"*"[..],
            b"",
            b"a",
            b":80/",
            b"@evil.test/",
            b"/a\\b",
            b"/%",
            b"/%4",
            b"/%4g",
            b"/%00",
            b"/a\0",
            b"/a b",
            b"/a\tb",
            b"/a\x7f",
            b"/caf\xe9",
            b"/?caf\xe9",
            b"ftp://a.test/",
            b"http:///x",
            b"http://",
            b"http://u@a.test/",
            b"http://a..b/",
            b"//a.test",
            b"http:/a.test/",
            b"http://a.test/#f",
            b"http://a.test#f",
            b"http://a.test:99999/",
        ] {
            let refused = split_target(target).err().map(|reject| reject.status.as_u16());
            let expect = (target != b"//a.test").then_some(400);
            assert_eq!(refused, expect, "{:?}", String::from_utf8_lossy(target));
        }
    }

    #[test]
    fn methods_are_those_of_nginx() {
        let check = |method: &str, status: Option<u16>| {
            let refused = check_method(method.as_bytes()).err().map(|reject| reject.status.as_u16());
            assert_eq!(refused, status, "{method}");
        };
        for method in ["GET", "PATCH", "PROPFIND", "M-SEARCH", "VERSION_CONTROL", "TRACK", &"A".repeat(32)] {
            check(method, None);
        }
        for method in ["", "get", "GeT", "G3T", "GE\0T", "GET ", "GÉT", "CONNECT", "!"] {
            check(method, Some(400));
        }
        check("TRACE", Some(405));
        check(&"A".repeat(33), Some(501));
    }
}
