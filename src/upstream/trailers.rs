//! Which trailer fields cross the proxy.

use http::HeaderMap;
use http::header::{
    AUTHORIZATION, CACHE_CONTROL, CONNECTION, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE,
    COOKIE, EXPECT, FORWARDED, HOST, HeaderName, MAX_FORWARDS, PROXY_AUTHENTICATE, PROXY_AUTHORIZATION,
    SET_COOKIE, TE, TRAILER, TRANSFER_ENCODING, UPGRADE, WWW_AUTHENTICATE,
};

use crate::wire::Fields;

/// Fields for framing, routing, identity and payload processing have no place in a trailer section
/// (RFC 9110 section 6.5.1) and would be taken for head fields by receivers that merge the two.
const REFUSED: [HeaderName; 20] = [
    AUTHORIZATION,
    CACHE_CONTROL,
    CONNECTION,
    CONTENT_ENCODING,
    CONTENT_LENGTH,
    CONTENT_RANGE,
    CONTENT_TYPE,
    COOKIE,
    EXPECT,
    FORWARDED,
    HOST,
    MAX_FORWARDS,
    PROXY_AUTHENTICATE,
    PROXY_AUTHORIZATION,
    SET_COOKIE,
    TE,
    TRAILER,
    TRANSFER_ENCODING,
    UPGRADE,
    WWW_AUTHENTICATE,
];

/// Takes refused fields out; `None` when nothing is left.
pub(super) fn cleaned(mut trailers: HeaderMap) -> Option<HeaderMap> {
    let doomed: Vec<HeaderName> = trailers.keys().filter(|name| is_refused(name)).cloned().collect();
    for name in doomed {
        trailers.remove(name);
    }
    (!trailers.is_empty()).then_some(trailers)
}

/// [`cleaned`] for a section as it was written.
pub(super) fn kept(mut trailers: Fields) -> Fields {
    trailers.retain(|name, _| HeaderName::from_bytes(name.as_bytes()).is_ok_and(|name| !is_refused(&name)));
    trailers
}

fn is_refused(name: &HeaderName) -> bool {
    REFUSED.contains(name)
        || matches!(name.as_str(), "keep-alive" | "proxy-connection")
        || ["x-forwarded-", "x-real-ip", "x-original-", "x-auth-request-", "ssl-client-"]
            .iter()
            .any(|prefix| name.as_str().starts_with(prefix))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(names: &[&'static str], left: &[&str]) {
        let mut map = HeaderMap::new();
        for name in names {
            map.append(*name, http::HeaderValue::from_static("v"));
        }
        let map = cleaned(map).unwrap_or_default();
        assert_eq!(map.keys().map(HeaderName::as_str).collect::<Vec<_>>(), left, "{names:?}");
    }

    #[test]
    fn framing_and_identity_fields_do_not_cross_in_trailers() {
        check(&["grpc-status", "grpc-message"], &["grpc-status", "grpc-message"]);
        check(&["content-length", "transfer-encoding", "host", "digest"], &["digest"]);
        check(&["x-forwarded-for", "authorization", "set-cookie"], &[]);
        check(&[], &[]);
    }
}
