//! The variables of nginx: one table of their names, and from when on each has a value. Parsed once, by whoever reads
//! a text with variables in it.
//!
//! Values are not here: `policy::template` shows them for a request under way, `telemetry::access_log` for a finished
//! one. A text that asks for a variable before it is known is refused by its parser.

use std::borrow::Cow;
use std::fmt;

/// From when on a variable has a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Known {
    /// With the request's head.
    Request,
    /// With the location that takes it.
    Route,
    /// With the head of the answer.
    Answer,
    /// With the last byte: in logs only.
    End,
    /// Never in this version; logs show it as missing.
    Never,
}

/// One variable.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Variable {
    /// One whose name says all.
    Fixed(Fixed),
    /// `$arg_*`: query argument, name as written.
    Argument(Box<str>),
    /// `$cookie_*`: cookie, name as written.
    Cookie(Box<str>),
    /// `$http_*`, `$content_type`, `$content_length`: request field of this name, with dashes.
    RequestField(Box<str>),
    /// `$sent_http_*`: field of the answer as the client gets it.
    ResponseField(Box<str>),
    /// `$upstream_http_*`: field of the answer as the backend gave it.
    UpstreamField(Box<str>),
    /// `$upstream_cookie_*`: cookie that the backend set, name as written. In logs only.
    UpstreamCookie(Box<str>),
    /// `$geoip2_*`.
    Place(Box<str>),
    /// `$1` to `$9`: group of the last expression that matched.
    Group(u8),
    /// One that the configuration defines itself: `set`, `map`, a named group.
    Own(Box<str>),
}

macro_rules! fixed {
    ($($name:literal, $variant:ident, $known:ident, $doc:literal;)*) => {
        /// Variables with a fixed name.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
        pub enum Fixed {
            $(#[doc = concat!("`$", $name, "`: ", $doc)] $variant,)*
        }

        /// Every fixed name, in order of names.
        pub const FIXED: &[Row] = &[$(Row { name: $name, fixed: Fixed::$variant, known: Known::$known, doc: $doc },)*];
    };
}

/// What the TLS connection of a request knows, for variables that begin with `ssl_`; asked only where somebody names
/// one.
pub trait Handshake: fmt::Debug {
    /// The value; `None` where there is none.
    fn value(&self, variable: Fixed) -> Option<Cow<'_, [u8]>>;
}

/// One line of the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Row {
    /// Name without `$`.
    pub name: &'static str,
    /// Which.
    pub fixed: Fixed,
    /// From when on it has a value.
    pub known: Known,
    /// For people.
    pub doc: &'static str,
}

fixed! {
    "args", Args, Request, "the query, without `?`";
    "best_http_host", BestHttpHost, Request, "host to report: `Host`, or a trusted `X-Forwarded-Host`";
    "binary_remote_addr", BinaryRemoteAddr, Request, "address of the client: its bytes in logs, its text in keys";
    "body_bytes_sent", BodyBytesSent, End, "bytes of the answer without its head";
    "bytes_sent", BytesSent, End, "bytes of the answer";
    "connection", Connection, End, "number of the connection";
    "connection_requests", ConnectionRequests, End, "number of the request on its connection";
    "escaped_request_uri", EscapedRequestUri, Request, "the target as sent, percent-encoded";
    "host", Host, Request, "name of the host, lower case, without port";
    "hostname", Hostname, End, "name of this machine";
    "http2", Http2, Request, "`h2` over TLS, `h2c` in clear text, empty for HTTP/1";
    "https", Https, Request, "`on` over TLS";
    "ingress_name", IngressName, Route, "name of the Ingress";
    "is_args", IsArgs, Request, "`?` where there is a query";
    "location_path", LocationPath, Route, "path of the rule";
    "msec", Msec, Request, "the time, in seconds with milliseconds";
    "namespace", Namespace, Route, "namespace of the Ingress";
    "opentelemetry_context_traceparent", TraceParent, Route, "the trace as the backend is told of it; empty where nothing is traced";
    "opentelemetry_context_tracestate", TraceState, Route, "what else travels with the trace";
    "opentelemetry_span_id", SpanId, Route, "id of the span of the request, 16 digits";
    "opentelemetry_trace_id", TraceId, Route, "id of the trace, 32 digits";
    "pass_access_scheme", PassAccessScheme, Request, "scheme to report: of the connection, or as a trusted peer told";
    "pass_port", PassPort, Request, "port to report";
    "pid", Pid, End, "number of this process";
    "pipe", Pipe, End, "`.`: requests are not known to be pipelined";
    "proxy_add_x_forwarded_for", ProxyAddXForwardedFor, Request, "`X-Forwarded-For` and the client's address";
    "proxy_alternative_upstream_name", ProxyAlternativeUpstreamName, End, "backend of the canary";
    "proxy_protocol_addr", ProxyProtocolAddr, End, "client of the PROXY header";
    "proxy_protocol_port", ProxyProtocolPort, End, "its port";
    "proxy_upstream_name", ProxyUpstreamName, Route, "`<namespace>-<service>-<port>`";
    "realip_remote_addr", RealipRemoteAddr, Request, "address of the peer, before trusted fields";
    "realip_remote_port", RealipRemotePort, Request, "its port";
    "remote_addr", RemoteAddr, Request, "address of the client";
    "remote_port", RemotePort, Request, "port of the peer";
    "remote_user", RemoteUser, Request, "name in basic credentials";
    "req_id", ReqId, Request, "id of the request";
    "request", Request, Request, "the request line";
    "request_completion", RequestCompletion, End, "`OK` where the whole answer was sent";
    "request_length", RequestLength, End, "bytes of the request";
    "request_method", RequestMethod, Request, "the method";
    "request_time", RequestTime, End, "seconds the request took";
    "request_uri", RequestUri, Request, "the target as sent";
    "scheme", Scheme, Request, "scheme of the connection";
    "server_addr", ServerAddr, End, "address the client reached";
    "server_name", ServerName, Request, "name of the virtual host";
    "server_port", ServerPort, Request, "port the client reached";
    "server_protocol", ServerProtocol, Request, "version of HTTP";
    "service_name", ServiceName, Route, "Service of the rule";
    "service_port", ServicePort, Route, "its port as written";
    "ssl_alpn_protocol", SslAlpnProtocol, Request, "protocol that the handshake agreed on: `h2`, `http/1.1`";
    "ssl_cipher", SslCipher, Request, "cipher of the connection";
    "ssl_client_escaped_cert", SslClientEscapedCert, Request, "certificate of the client, as PEM in percent-encoding";
    "ssl_client_fingerprint", SslClientFingerprint, Request, "its SHA-1";
    "ssl_client_i_dn", SslClientIssuer, Request, "its issuer";
    "ssl_client_s_dn", SslClientSubject, Request, "its subject";
    "ssl_client_serial", SslClientSerial, Request, "its serial number";
    "ssl_client_v_end", SslClientEnd, Request, "when it ends";
    "ssl_client_v_remain", SslClientRemain, Request, "days until then";
    "ssl_client_v_start", SslClientStart, Request, "when it began";
    "ssl_client_verify", SslClientVerify, Request, "outcome of its check: `SUCCESS`, `FAILED:reason`, `NONE`";
    "ssl_curve", SslCurve, Request, "group of the key exchange: `X25519`, `prime256v1`";
    "ssl_protocol", SslProtocol, Request, "version of TLS";
    "ssl_server_name", SslServerName, Request, "name the client asked for in the handshake";
    "ssl_session_id", SslSessionId, Never, "the TLS library does not tell it";
    "ssl_session_reused", SslSessionReused, Request, "`r` where the session was resumed, else `.`";
    "status", Status, Answer, "status of the answer";
    "time_iso8601", TimeIso8601, End, "the time";
    "time_local", TimeLocal, End, "the time";
    "upstream_addr", UpstreamAddr, End, "endpoints asked";
    "upstream_bytes_received", UpstreamBytesReceived, End, "bytes read from backends";
    "upstream_bytes_sent", UpstreamBytesSent, End, "bytes written to backends";
    "upstream_cache_status", UpstreamCacheStatus, Never, "there is no cache";
    "upstream_connect_time", UpstreamConnectTime, End, "seconds to connect";
    "upstream_header_time", UpstreamHeaderTime, End, "seconds to the head of the answer";
    "upstream_response_length", UpstreamResponseLength, End, "bytes of bodies, their framing included";
    "upstream_response_time", UpstreamResponseTime, End, "seconds to the last byte";
    "upstream_status", UpstreamStatus, Answer, "status of the backend";
    "uri", Uri, Request, "the path, decoded, as rewritten so far";
}

/// Other names of the same value.
pub const ALIASES: &[(&str, Fixed)] = &[
    ("document_uri", Fixed::Uri),
    ("pass_server_port", Fixed::PassPort),
    ("proxy_host", Fixed::ProxyUpstreamName),
    ("query_string", Fixed::Args),
    ("request_id", Fixed::ReqId),
    ("the_real_ip", Fixed::RemoteAddr),
];

/// Variables of the log of TCP and UDP services (`log-format-stream`).
pub const STREAM: &[&str] = &[
    "bytes_received",
    "bytes_sent",
    "connection",
    "hostname",
    "msec",
    "pid",
    "protocol",
    "proxy_protocol_addr",
    "proxy_upstream_name",
    "remote_addr",
    "remote_port",
    "server_addr",
    "server_port",
    "session_time",
    "ssl_preread_server_name",
    "status",
    "time_iso8601",
    "time_local",
    "upstream_addr",
    "upstream_bytes_received",
    "upstream_bytes_sent",
    "upstream_connect_time",
    "upstream_session_time",
];

/// Encodes everything but unreserved characters, as `ngx.escape_uri`: `$escaped_request_uri`.
pub fn escape_uri(text: &[u8], out: &mut Vec<u8>) {
    for byte in text {
        if byte.is_ascii_alphanumeric() || b"-._~!*'()".contains(byte) {
            out.push(*byte);
        } else {
            out.extend_from_slice(format!("%{byte:02X}").as_bytes());
        }
    }
}

/// `$name` or `${name}` at the start of `text`, as a log format has it, and what follows.
pub fn leading(text: &str) -> Option<(&str, &str)> {
    let after = text.strip_prefix('$')?;
    let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
    if let Some(braced) = after.strip_prefix('{') {
        let (name, rest) = braced.split_once('}')?;
        return (!name.is_empty() && name.chars().all(is_name)).then_some((name, rest));
    }
    let end = after.find(|c| !is_name(c)).unwrap_or(after.len());
    (end > 0).then(|| after.split_at(end))
}

/// The names of all variables of a log format, in order.
pub fn names(format: &str) -> impl Iterator<Item = &str> {
    format.match_indices('$').filter_map(|(at, _)| leading(format.get(at..)?)).map(|(name, _)| name)
}

// === impl Variable ===

impl Variable {
    /// The variable called `name` (without `$`). Those that a configuration defines itself are not known here.
    pub fn parse(name: &str) -> Option<Self> {
        if let Ok(at) = FIXED.binary_search_by_key(&name, |row| row.name) {
            return FIXED.get(at).map(|row| Self::Fixed(row.fixed));
        }
        if let Some((_, fixed)) = ALIASES.iter().find(|(alias, _)| *alias == name) {
            return Some(Self::Fixed(*fixed));
        }
        let field = |suffix: &str| suffix.to_ascii_lowercase().replace('_', "-").into_boxed_str();
        let rest = |prefix: &str| name.strip_prefix(prefix).filter(|rest| !rest.is_empty());
        if matches!(name, "content_type" | "content_length") {
            return Some(Self::RequestField(field(name)));
        }
        None.or_else(|| rest("sent_http_").map(|suffix| Self::ResponseField(field(suffix))))
            .or_else(|| rest("upstream_http_").map(|suffix| Self::UpstreamField(field(suffix))))
            .or_else(|| rest("upstream_cookie_").map(|suffix| Self::UpstreamCookie(suffix.into())))
            .or_else(|| rest("http_").map(|suffix| Self::RequestField(field(suffix))))
            .or_else(|| rest("cookie_").map(|suffix| Self::Cookie(suffix.into())))
            .or_else(|| rest("arg_").map(|suffix| Self::Argument(suffix.into())))
            .or_else(|| rest("geoip2_").map(|suffix| Self::Place(suffix.into())))
    }

    /// From when on it has a value.
    pub fn known(&self) -> Known {
        match self {
            Self::Fixed(fixed) => {
                FIXED.iter().find(|row| row.fixed == *fixed).map_or(Known::Never, |row| row.known)
            }
            Self::Argument(_)
            | Self::Cookie(_)
            | Self::RequestField(_)
            | Self::Place(_)
            | Self::Group(_)
            | Self::Own(_) => Known::Request,
            Self::ResponseField(_) | Self::UpstreamField(_) => Known::Answer,
            Self::UpstreamCookie(_) => Known::End,
        }
    }

    /// True when values are credentials (`B-24`).
    pub fn is_sensitive(&self) -> bool {
        match self {
            Self::RequestField(name) => {
                matches!(&**name, "authorization" | "proxy-authorization" | "cookie")
                    || name.starts_with("x-auth-")
            }
            Self::ResponseField(name) | Self::UpstreamField(name) => {
                &**name == "set-cookie" || name.starts_with("x-auth-")
            }
            Self::Cookie(_) | Self::UpstreamCookie(_) => true,
            Self::Fixed(_) | Self::Argument(_) | Self::Place(_) | Self::Group(_) | Self::Own(_) => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_sorted_and_names_are_unique() {
        assert!(FIXED.is_sorted_by(|one, next| one.name < next.name));
        assert!(ALIASES.is_sorted_by(|one, next| one.0 < next.0));
        for (alias, _) in ALIASES {
            assert!(FIXED.iter().all(|row| row.name != *alias), "{alias}");
        }
    }

    #[test]
    fn every_name_is_read_and_families_need_a_rest() {
        for row in FIXED {
            assert_eq!(Variable::parse(row.name), Some(Variable::Fixed(row.fixed)), "{}", row.name);
        }
        assert_eq!(Variable::parse("http_x_user"), Some(Variable::RequestField("x-user".into())));
        assert_eq!(Variable::parse("sent_http_Etag"), Some(Variable::ResponseField("etag".into())));
        assert_eq!(Variable::parse("upstream_http_x"), Some(Variable::UpstreamField("x".into())));
        assert_eq!(Variable::parse("content_type"), Some(Variable::RequestField("content-type".into())));
        assert_eq!(Variable::parse("arg_A"), Some(Variable::Argument("A".into())));
        for unknown in ["", "http_", "arg_", "cookie_", "document_root", "HOST", "1"] {
            assert_eq!(Variable::parse(unknown), None, "{unknown}");
        }
    }

    #[test]
    fn credentials_are_marked() {
        for (name, sensitive) in [("http_authorization", true), ("cookie_a", true), ("http_accept", false)] {
            assert_eq!(Variable::parse(name).unwrap().is_sensitive(), sensitive, "{name}");
        }
    }
}
