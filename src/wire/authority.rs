//! The grammar of `Host`, `:authority` and the authority of an absolute target (rule H1-14).
//!
//! One function for both protocols, so HTTP/1 and HTTP/2 clients reach a host by the same spellings.

use std::net::Ipv6Addr;

use super::verdict::Reject;

/// An authority that obeys H1-14.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Authority<'a> {
    /// Host in the sender's case, IPv6 in brackets, a trailing dot still there.
    pub host: &'a str,
    /// Port; absent and empty are the same.
    pub port: Option<u16>,
}

impl<'a> Authority<'a> {
    /// The host without the trailing dot of an absolute DNS name; for look-ups (case stays).
    pub fn lookup_host(&self) -> &'a str {
        self.host.strip_suffix('.').unwrap_or(self.host)
    }
}

/// Parses `host [ ":" *5DIGIT ]` where host is a reg-name, an IPv4 address or an IPv6 address in brackets.
///
/// Narrower than RFC 3986: no user information, comma, quote, slash, `%`, bytes above ASCII, no empty label but
/// one trailing dot, a port of at most 65535.
///
/// # Errors
/// [`Reject`] with 400 and rule H1-14.
pub fn parse_authority(bytes: &[u8]) -> Result<Authority<'_>, Reject> {
    let bad = |reason| Err(Reject::bad("H1-14", reason));
    let Ok(text) = std::str::from_utf8(bytes) else {
        return bad("the host holds bytes above ASCII");
    };
    let (host, port) = if let Some(rest) = text.strip_prefix('[') {
        let Some((address, after)) = rest.split_once(']') else {
            return bad("the host has an opening bracket only");
        };
        if address.parse::<Ipv6Addr>().is_err() {
            return bad("the host is no IPv6 address");
        }
        let host = text.get(..address.len() + 2).unwrap_or(text);
        match after.strip_prefix(':') {
            Some(port) => (host, port),
            None if after.is_empty() => (host, ""),
            None => return bad("the host goes on after its bracket"),
        }
    } else {
        let (length, fault) = reg_name(bytes);
        let (host, rest) = text.split_at_checked(length).unwrap_or((text, ""));
        if let Some(reason) = fault {
            return bad(reason);
        }
        let port = rest.strip_prefix(':').unwrap_or("");
        (host, port)
    };
    Ok(Authority { host, port: parse_port(port)? })
}

/// [`parse_authority`] for whoever wants no more than the verdict.
///
/// # Errors
/// As [`parse_authority`].
pub(super) fn check_authority(bytes: &[u8]) -> Result<(), Reject> {
    let (length, fault) = reg_name(bytes);
    // No port, or one that has too few digits to be too large.
    let port = match bytes.get(length..) {
        Some([] | [b':']) => true,
        Some([b':', port @ ..]) => port.len() <= 4 && port.iter().all(u8::is_ascii_digit),
        _ => false,
    };
    if fault.is_none() && port { Ok(()) } else { parse_authority(bytes).map(|_| ()) }
}

fn parse_port(port: &str) -> Result<Option<u16>, Reject> {
    if port.is_empty() {
        return Ok(None);
    }
    // `u16::from_str` would take a sign.
    if port.len() > 5 || !port.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(Reject::bad("H1-14", "the port is no number"));
    }
    port.parse().map(Some).map_err(|_| Reject::bad("H1-14", "the port is above 65535"))
}

/// Length of the host that `bytes` start with, up to a colon, and what is wrong with it; in one pass, since every
/// request comes by here.
fn reg_name(bytes: &[u8]) -> (usize, Option<&'static str>) {
    let (mut length, mut last, mut empty) = (0, DOT, 0);
    for byte in bytes {
        let kind = HOST_BYTES[usize::from(*byte)];
        if kind == 0 {
            if *byte == b':' {
                break;
            }
            return (length, Some("the host holds a byte that is not allowed"));
        }
        // One dot at the end is that of an absolute name.
        empty |= last & kind & DOT;
        last = kind;
        length += 1;
    }
    if length == 0 {
        return (0, Some("the host is empty"));
    }
    (length, (empty != 0).then_some("the host has an empty label"))
}

const DOT: u8 = 2;

/// Which bytes [`is_host_byte`] allows, 0 for none; [`DOT`] for the dot.
const HOST_BYTES: [u8; 256] = {
    let mut table = [0; 256];
    let mut byte = 0;
    while byte < 256 {
        table[byte] = if byte as u8 == b'.' { DOT } else { is_host_byte(byte as u8) as u8 };
        byte += 1;
    }
    table
};

/// unreserved and sub-delims of RFC 3986 without comma and quote.
const fn is_host_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric()
        || matches!(
            byte,
            b'-' | b'.' | b'_' | b'~' | b'!' | b'$' | b'&' | b'(' | b')' | b'*' | b'+' | b';' | b'='
        )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn legal_authorities_are_taken_apart() {
        let check = |text: &'static str, host: &str, port: Option<u16>| {
            assert_eq!(parse_authority(text.as_bytes()), Ok(Authority { host, port }), "{text}");
        };
        check("a.test", "a.test", None);
        check("A.Test:8080", "A.Test", Some(8080));
        check("a.test:", "a.test", None);
        check("a.test.", "a.test.", None);
        check("a_b-c.test:65535", "a_b-c.test", Some(65535));
        check("192.0.2.1:00080", "192.0.2.1", Some(80));
        check("[::1]", "[::1]", None);
        check("[2001:db8::1]:443", "[2001:db8::1]", Some(443));
        check("localhost", "localhost", None);
    }

    #[test]
    fn the_trailing_dot_is_gone_for_look_ups() {
        assert_eq!(parse_authority(b"a.test.:1").unwrap().lookup_host(), "a.test");
        assert_eq!(parse_authority(b"a.test").unwrap().lookup_host(), "a.test");
    }

    #[test]
    fn illegal_authorities_are_refused() {
        for text in [
            "",
            ".",
            "..",
            ":80",
            ".a.test",
            "a..test",
            "a.test..",
            "a.test/x",
            "a.test:80@evil.test",
            "u@a.test",
            "a.test:65536",
            "a.test:65616",
            "a.test:000080",
            "a.test:+80",
            "a.test:8x",
            "a.test:80:80",
            "a,b",
            "a'b",
            "a\"b",
            "a%2eb",
            "a b",
            "a\tb",
            "[::1",
            "::1",
            "[::1]x",
            "[::1]:x",
            "[]",
            "[::1%eth0]",
            "[v1.x]",
            "a\\b",
            "\u{ff}a.test",
            "<script>",
            "a?b",
            "a#b",
        ] {
            assert_eq!(parse_authority(text.as_bytes()).unwrap_err().rule, "H1-14", "{text}");
        }
        assert!(parse_authority(b"\xffa.test").is_err());
    }
}
