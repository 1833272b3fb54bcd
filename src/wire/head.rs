//! Heads of messages as values.

use http::{Method, StatusCode};

use super::fields::Fields;

/// HTTP version a message was sent with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Version {
    /// HTTP/1.0.
    Http10,
    /// HTTP/1.1 (also 1.2 to 1.9, RFC 9110 section 2.5).
    Http11,
    /// HTTP/2.
    Http2,
}

impl Version {
    /// As nginx writes it in `$server_protocol`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Http10 => "HTTP/1.0",
            Self::Http11 => "HTTP/1.1",
            Self::Http2 => "HTTP/2.0",
        }
    }
}

/// Head of a request as received, every byte of the target kept.
#[derive(Debug, Clone)]
pub struct RequestHead {
    /// Method; case kept.
    pub method: Method,
    /// Request target exactly as sent (origin-form, absolute-form or `*`). From HTTP/2: `:path`.
    pub target: Vec<u8>,
    /// Version.
    pub version: Version,
    /// HTTP/2 `:authority`; always `None` for HTTP/1.
    pub authority: Option<String>,
    /// HTTP/2 `:protocol` (RFC 8441); always `None` for HTTP/1.
    pub protocol: Option<String>,
    /// Field lines in order.
    pub fields: Fields,
}

/// Head of a response.
#[derive(Debug, Clone)]
pub struct ResponseHead {
    /// Status 100 to 999.
    pub status: StatusCode,
    /// Reason phrase as a backend sent it; `None` writes the one of nginx.
    pub reason: Option<Box<str>>,
    /// Version the backend answered with.
    pub version: Version,
    /// Field lines in order.
    pub fields: Fields,
}

/// How the end of a body is told on an HTTP/1 connection (RFC 9112 section 6).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Framing {
    /// No body.
    None,
    /// `Content-Length`.
    Length(u64),
    /// `Transfer-Encoding: chunked`.
    Chunked,
    /// Until the connection closes (responses only).
    UntilClose,
}
