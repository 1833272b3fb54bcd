//! Heads between the types of this house and those of `http` (RFC 9113 section 8.3).

use http::uri::{Authority, PathAndQuery, Scheme};
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response, Uri, Version, header};

use super::super::UpstreamRequest;
use super::super::error::ErrorKind;
use super::super::pool::PoolKey;
use crate::wire::{Fields, Framing, ResponseHead, Version as WireVersion};

/// Fields that belong to one HTTP/1 connection (RFC 9113 section 8.2.2), and `Host`, which is `:authority` here.
const LEFT_OUT: [&str; 7] = [
    "host",
    "connection",
    "keep-alive",
    "proxy-connection",
    "transfer-encoding",
    "upgrade",
    "http2-settings",
];

/// The head of a request.
pub(super) fn request(request: &UpstreamRequest<'_>, key: &PoolKey) -> Result<Request<()>, &'static str> {
    let authority = match request.fields.get_str("host") {
        Some(host) if !host.is_empty() => Authority::try_from(host),
        _ => Authority::try_from(key.address.to_string()),
    };
    let mut parts = http::uri::Parts::default();
    parts.scheme = Some(if key.tls == 0 { Scheme::HTTP } else { Scheme::HTTPS });
    parts.authority = Some(authority.map_err(|_| "the host is no authority")?);
    let path = PathAndQuery::try_from(request.target);
    parts.path_and_query = Some(path.map_err(|_| "the target cannot be a :path")?);
    let mut head = Request::new(());
    *head.method_mut() = request.method.clone();
    *head.uri_mut() = Uri::from_parts(parts).map_err(|_| "the target cannot be a URI")?;
    *head.version_mut() = Version::HTTP_2;
    *head.headers_mut() = fields(request.fields);
    if let Framing::Length(length) = request.framing {
        head.headers_mut().insert(header::CONTENT_LENGTH, HeaderValue::from(length));
    }
    Ok(head)
}

fn fields(fields: &Fields) -> HeaderMap {
    let mut map = HeaderMap::with_capacity(fields.len());
    for (name, value) in fields.iter() {
        let te = name.eq_ignore_ascii_case("te") && !value.eq_ignore_ascii_case(b"trailers");
        if te || LEFT_OUT.iter().any(|left_out| name.eq_ignore_ascii_case(left_out)) {
            continue;
        }
        let pair = (HeaderName::from_bytes(name.as_bytes()), HeaderValue::from_bytes(value));
        if let (Ok(name), Ok(value)) = pair {
            map.append(name, value);
        }
    }
    map
}

/// The head of an answer, and its body.
pub(super) fn head(response: Response<h2::RecvStream>) -> Result<(ResponseHead, h2::RecvStream), ErrorKind> {
    let (parts, body) = response.into_parts();
    let room = parts.headers.iter().map(|(name, value)| name.as_str().len() + value.len()).sum();
    let mut fields = Fields::with_capacity(room);
    for (name, value) in &parts.headers {
        fields
            .append(name.as_str(), value.as_bytes().trim_ascii())
            .map_err(|error| ErrorKind::Stream(error.to_string().into()))?;
    }
    Ok((ResponseHead { status: parts.status, reason: None, version: WireVersion::Http2, fields }, body))
}
