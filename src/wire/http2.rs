//! Heads of HTTP/2 requests judged by the rules of HTTP/1 (`spec/security.md` C.4): what a client may ask for must not
//! depend on the version it speaks. Frames, HPACK and pseudo-field order are the HTTP/2 library's.

use http::StatusCode;

use super::authority::{Authority, parse_authority};
use super::evidence::Evidence;
use super::fields::NameSet;
use super::head::{RequestHead, Version};
use super::request::HeadLimits;
use super::target::{check_method, check_target};
use super::verdict::Reject;

/// Checks sizes (H1-17), method (H2-07), target (H2-06), authority (H2-05), connection-specific fields (H2-02), what
/// `Content-Length` says (H1-02, H2-03), singletons and expectations (H1-15, H1-16).
///
/// # Errors
/// [`Reject`] with the status to answer the stream with.
pub fn check_http2_head(head: &RequestHead, limits: &HeadLimits) -> Result<(), Reject> {
    check_sizes(head, limits)?;
    match &head.protocol {
        Some(protocol) if head.method == http::Method::CONNECT => check_protocol(protocol)?,
        _ => check_method(head.method.as_str().as_bytes())?,
    }
    check_target(&head.target)?;
    check_authority(head)?;
    let mut evidence = Evidence::default();
    for line in head.fields.lines() {
        if line.is_one_of(&CONNECTION_SPECIFIC) {
            return Err(Reject::bad("H2-02", "a connection-specific field in HTTP/2"));
        }
        let (name, value) = (line.name(), line.value());
        if name.eq_ignore_ascii_case("te") && !value.eq_ignore_ascii_case(b"trailers") {
            return Err(Reject::bad("H2-02", "TE other than trailers in HTTP/2"));
        }
        evidence.note(name.as_bytes(), value);
    }
    evidence.request_framing(Version::Http2)?;
    evidence.check_singletons()?;
    evidence.check_expectation()
}

/// A head is as large as one of HTTP/1 may be: cookies were joined before. The library bounds the sum.
fn check_sizes(head: &RequestHead, limits: &HeadLimits) -> Result<(), Reject> {
    let too_large = |reason| Err(Reject::new(StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE, "H1-17", reason));
    let line = head.method.as_str().len() + head.target.len() + " ".len() + " HTTP/1.1".len();
    if line > limits.line {
        let reason = "the request line is longer than allowed";
        return Err(Reject::new(StatusCode::URI_TOO_LONG, "H1-17", reason));
    }
    if head.fields.len() > limits.fields {
        return too_large("more field lines than allowed");
    }
    let long = |(name, value): (&str, &[u8])| {
        name.len() + ": ".len() + value.len() > limits.line && !name.eq_ignore_ascii_case("cookie")
    };
    if head.fields.iter().any(long) {
        return too_large("a field line is longer than allowed");
    }
    Ok(())
}

/// Extended CONNECT (RFC 8441) opens WebSockets and nothing else: the backend is asked by `Upgrade`, and `h2c` there
/// would open a way past every policy (U-1).
fn check_protocol(protocol: &str) -> Result<(), Reject> {
    if protocol.eq_ignore_ascii_case("websocket") {
        return Ok(());
    }
    Err(Reject::new(StatusCode::NOT_IMPLEMENTED, "H2-07", "a :protocol other than websocket"))
}

/// `:authority` and `Host` are one name or the request is refused.
fn check_authority(head: &RequestHead) -> Result<(), Reject> {
    let Ok(host) = head.fields.get_only("host") else {
        return Err(Reject::bad("H2-05", "more than one Host"));
    };
    let host = host.map(parse_authority).transpose()?;
    let authority = head.authority.as_deref().map(|text| parse_authority(text.as_bytes())).transpose()?;
    match (authority, host) {
        (None, None) => Err(Reject::bad("H2-05", "neither :authority nor Host")),
        (Some(authority), Some(host)) if !same(&authority, &host) => {
            Err(Reject::bad("H2-05", ":authority and Host differ"))
        }
        _ => Ok(()),
    }
}

fn same(one: &Authority<'_>, two: &Authority<'_>) -> bool {
    let port = |authority: &Authority<'_>| authority.port.filter(|port| !matches!(port, 80 | 443));
    one.host.eq_ignore_ascii_case(two.host) && port(one) == port(two)
}

const CONNECTION_SPECIFIC: NameSet = NameSet::new(&[
    "connection",
    "keep-alive",
    "proxy-connection",
    "transfer-encoding",
    "upgrade",
    "http2-settings",
]);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::Fields;

    fn check_http2_head(head: &RequestHead) -> Result<(), Reject> {
        super::check_http2_head(head, &HeadLimits::default())
    }

    fn head(method: &str, target: &str, authority: Option<&str>, lines: &[(&str, &str)]) -> RequestHead {
        let mut fields = Fields::new();
        for (name, value) in lines {
            fields.append(name, value.as_bytes()).unwrap();
        }
        RequestHead {
            method: method.parse().unwrap(),
            target: target.as_bytes().to_vec(),
            version: Version::Http2,
            authority: authority.map(str::to_owned),
            protocol: None,
            fields,
        }
    }

    #[test]
    fn heads_that_http_1_would_take_are_taken() {
        let a = Some("a.test");
        for head in [
            head("GET", "/x?y", a, &[("te", "trailers"), ("cookie", "a=1"), ("cookie", "b=2")]),
            head("GET", "/", None, &[("host", "a.test:8080")]),
            head("GET", "/", a, &[("host", "A.test:443")]),
            head("GET", "/", Some("a.test:80"), &[("host", "a.test")]),
        ] {
            assert_eq!(check_http2_head(&head), Ok(()), "{head:?}");
        }
        let mut connect = head("CONNECT", "/chat", a, &[]);
        connect.protocol = Some("websocket".to_owned());
        assert_eq!(check_http2_head(&connect), Ok(()));
    }

    #[test]
    fn extended_connect_opens_websockets_only() {
        for protocol in ["h2c", "HTTP/2.0", "connect-udp", "tcp", ""] {
            let mut connect = head("CONNECT", "/chat", Some("a.test"), &[]);
            connect.protocol = Some(protocol.to_owned());
            let refused = check_http2_head(&connect).map_err(|reject| (reject.status.as_u16(), reject.rule));
            assert_eq!(refused, Err((501, "H2-07")), "{protocol}");
        }
    }

    #[test]
    fn heads_that_http_1_would_refuse_are_refused() {
        let a = Some("a.test");
        let check = |head: RequestHead, rule: &str| {
            assert_eq!(check_http2_head(&head).map_err(|reject| reject.rule), Err(rule), "{head:?}");
        };
        check(head("CONNECT", "/", a, &[]), "H1-12");
        check(head("TRACE", "/", a, &[]), "H1-12");
        check(head("get", "/", a, &[]), "H1-12");
        check(head("GET", "x", a, &[]), "H1-13");
        check(head("OPTIONS", "*", a, &[]), "H1-13");
        check(head("GET", "/a\\b", a, &[]), "H1-13");
        check(head("GET", "/%00", a, &[]), "H1-13");
        check(head("GET", "/", None, &[]), "H2-05");
        check(head("GET", "/", Some("a..test"), &[]), "H1-14");
        check(head("GET", "/", Some("u@a.test"), &[]), "H1-14");
        check(head("GET", "/", a, &[("host", "b.test")]), "H2-05");
        check(head("GET", "/", a, &[("host", "a.test:81")]), "H2-05");
        check(head("GET", "/", a, &[("host", "a.test"), ("host", "a.test")]), "H2-05");
        check(head("GET", "/", a, &[("connection", "close")]), "H2-02");
        check(head("GET", "/", a, &[("http2-settings", "x")]), "H2-02");
        check(head("GET", "/", a, &[("te", "gzip")]), "H2-02");
        check(head("GET", "/", a, &[("authorization", "a"), ("authorization", "b")]), "H1-15");
        check(head("GET", "/", a, &[("expect", "foo")]), "H1-16");
        check(head("POST", "/", a, &[("content-length", "5"), ("content-length", "5")]), "H1-02");
        check(head("POST", "/", a, &[("content-length", "5,5")]), "H1-02");
        check(head("POST", "/", a, &[("content-length", "9223372036854775808")]), "H1-03");
    }

    #[test]
    fn heads_are_no_larger_than_in_http_1() {
        let a = Some("a.test");
        let check = |head: &RequestHead, status: Option<u16>| {
            let refused = check_http2_head(head).map_err(|reject| reject.status.as_u16());
            assert_eq!(refused.err(), status, "{} fields, {} bytes", head.fields.len(), head.target.len());
        };
        let path = |length: usize| format!("/{}", "a".repeat(length - "GET / HTTP/1.1".len()));
        check(&head("GET", &path(8192), a, &[]), None);
        check(&head("GET", &path(8193), a, &[]), Some(414));
        let value = "v".repeat(8192 - 3);
        check(&head("GET", "/", a, &[("x", &value)]), None);
        check(&head("GET", "/", a, &[("xy", &value)]), Some(431));
        check(&head("GET", "/", a, &[("cookie", &"v".repeat(9000))]), None);
        check(&head("GET", "/", a, &[("x", "y"); 200]), None);
        check(&head("GET", "/", a, &[("x", "y"); 201]), Some(431));
    }
}
