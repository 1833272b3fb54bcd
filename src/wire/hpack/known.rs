//! What is known of a field at a glance: what its name asks for, and whether its value may stand in a head. Found once,
//! when the field comes first; [`super::super::http2_head`] acts on it.

use super::super::fields::{has_bare_edge, scan_name};
use super::super::line::find_control;

/// What a name means to a request over HTTP/2.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::wire) enum Known {
    /// `:method`.
    Method,
    /// `:scheme`.
    Scheme,
    /// `:authority`.
    Authority,
    /// `:path`.
    Path,
    /// `:protocol` (RFC 8441).
    Protocol,
    /// No name that a request may carry: `:status`, an unknown pseudo-field, capitals, what is no token.
    Unsound,
    /// Belongs to a connection of HTTP/1 (RFC 9113 section 8.2.2).
    Connection,
    /// `http2-settings`.
    Settings,
    /// `host`.
    Host,
    /// `cookie`.
    Cookie,
    /// `te`.
    Te,
    /// Is evidence in judging the head.
    Evidence,
    /// Anything else.
    Plain,
}

/// What is known of a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::wire) enum Value {
    /// Text that a field may hold.
    Text,
    /// What a field may hold, but no text.
    Raw,
    /// White space stands at an end.
    Edge,
    /// A control byte stands in it.
    Control,
}

impl Known {
    /// Of a name, and which kinds of bytes stand in it where it is a token.
    pub(super) fn of(name: &[u8]) -> (Self, u8) {
        let (length, kinds) = scan_name(name);
        if length != name.len() || name.is_empty() || name.iter().any(u8::is_ascii_uppercase) {
            return (Self::pseudo(name), kinds);
        }
        (Self::field(name), kinds)
    }

    const fn pseudo(name: &[u8]) -> Self {
        match name {
            b":method" => Self::Method,
            b":scheme" => Self::Scheme,
            b":authority" => Self::Authority,
            b":path" => Self::Path,
            b":protocol" => Self::Protocol,
            _ => Self::Unsound,
        }
    }

    const fn field(name: &[u8]) -> Self {
        match name {
            b"connection" | b"keep-alive" | b"proxy-connection" | b"transfer-encoding" | b"upgrade" => {
                Self::Connection
            }
            b"http2-settings" => Self::Settings,
            b"host" => Self::Host,
            b"cookie" => Self::Cookie,
            b"te" => Self::Te,
            b"content-length"
            | b"expect"
            | b"authorization"
            | b"if-modified-since"
            | b"if-unmodified-since" => Self::Evidence,
            _ => Self::Plain,
        }
    }

    /// Of a name of the static table.
    pub(super) const fn of_static(name: &'static str) -> Self {
        match name.as_bytes() {
            [b':', ..] => Self::pseudo(name.as_bytes()),
            name => Self::field(name),
        }
    }
}

impl Value {
    /// Of a value, and the value as text where it is that.
    pub(super) fn of(value: &[u8]) -> (Self, Option<&str>) {
        let text = std::str::from_utf8(value).ok();
        let state = match text {
            _ if find_control(value).is_some() => Self::Control,
            _ if has_bare_edge(value) => Self::Edge,
            Some(_) => Self::Text,
            None => Self::Raw,
        };
        (state, text)
    }
}
