//! The variables of an access-log format: their names, and how each shows a [`Record`].

use std::time::Duration;

use super::clock::{Clock, since_epoch};
use super::escape::Out;
use crate::telemetry::record::{FieldLookup, Record, RequestLine, UpstreamTry};

/// One variable.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Variable {
    /// One whose name says all.
    Fixed(Fixed),
    /// `$http_*`: request field of this name.
    RequestField(Box<str>),
    /// `$sent_http_*`: response field of this name.
    ResponseField(Box<str>),
    /// `$cookie_*`.
    Cookie(Box<str>),
    /// `$arg_*`.
    Argument(Box<str>),
    /// The same for every line.
    Constant(Box<str>),
    /// Never has a value.
    Missing,
}

macro_rules! fixed {
    ($($name:literal => $variant:ident,)*) => {
        /// Variables with a fixed name.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum Fixed {
            $(#[doc = concat!("`$", $name, "`.")] $variant,)*
        }

        /// Every fixed name, for documentation and tests.
        pub const FIXED: &[(&str, Fixed)] = &[$(($name, Fixed::$variant),)*];
    };
}

fixed! {
    "args" => Args,
    "best_http_host" => BestHttpHost,
    "body_bytes_sent" => BodyBytesSent,
    "bytes_sent" => BytesSent,
    "connection" => Connection,
    "connection_requests" => ConnectionRequests,
    "host" => Host,
    "https" => Https,
    "ingress_name" => IngressName,
    "is_args" => IsArgs,
    "location_path" => LocationPath,
    "msec" => Msec,
    "namespace" => Namespace,
    "proxy_alternative_upstream_name" => ProxyAlternativeUpstreamName,
    "proxy_protocol_addr" => ProxyProtocolAddr,
    "proxy_protocol_port" => ProxyProtocolPort,
    "proxy_upstream_name" => ProxyUpstreamName,
    "realip_remote_addr" => RealipRemoteAddr,
    "realip_remote_port" => RealipRemotePort,
    "remote_addr" => RemoteAddr,
    "remote_port" => RemotePort,
    "remote_user" => RemoteUser,
    "req_id" => ReqId,
    "request" => Request,
    "request_length" => RequestLength,
    "request_method" => RequestMethod,
    "request_time" => RequestTime,
    "request_uri" => RequestUri,
    "scheme" => Scheme,
    "server_addr" => ServerAddr,
    "server_name" => ServerName,
    "server_port" => ServerPort,
    "server_protocol" => ServerProtocol,
    "service_name" => ServiceName,
    "service_port" => ServicePort,
    "ssl_cipher" => SslCipher,
    "ssl_protocol" => SslProtocol,
    "ssl_server_name" => SslServerName,
    "status" => Status,
    "time_iso8601" => TimeIso8601,
    "time_local" => TimeLocal,
    "upstream_addr" => UpstreamAddr,
    "upstream_connect_time" => UpstreamConnectTime,
    "upstream_header_time" => UpstreamHeaderTime,
    "upstream_response_length" => UpstreamResponseLength,
    "upstream_response_time" => UpstreamResponseTime,
    "upstream_status" => UpstreamStatus,
    "uri" => Uri,
}

/// Other names of the same value.
const ALIASES: &[(&str, Fixed)] = &[
    ("document_uri", Fixed::Uri),
    ("pass_access_scheme", Fixed::Scheme),
    ("query_string", Fixed::Args),
    ("request_id", Fixed::ReqId),
    ("the_real_ip", Fixed::RemoteAddr),
];

// === impl Variable ===

impl Variable {
    /// The variable called `name` (without `$`).
    pub fn parse(name: &str) -> Option<Self> {
        if let Some((_, fixed)) = FIXED.iter().chain(ALIASES).find(|(known, _)| *known == name) {
            return Some(Self::Fixed(*fixed));
        }
        let field = |suffix: &str| suffix.to_ascii_lowercase().replace('_', "-").into_boxed_str();
        if let Some(suffix) = name.strip_prefix("sent_http_") {
            return Some(Self::ResponseField(field(suffix)));
        }
        if let Some(suffix) = name.strip_prefix("http_") {
            return Some(Self::RequestField(field(suffix)));
        }
        if let Some(cookie) = name.strip_prefix("cookie_") {
            return Some(Self::Cookie(cookie.into()));
        }
        if let Some(argument) = name.strip_prefix("arg_") {
            return Some(Self::Argument(argument.into()));
        }
        match name {
            "content_type" => Some(Self::RequestField("content-type".into())),
            "content_length" => Some(Self::RequestField("content-length".into())),
            "pipe" => Some(Self::Constant(".".into())),
            "pid" => Some(Self::Constant(std::process::id().to_string().into())),
            "hostname" => Some(Self::Constant(hostname().into())),
            // Known to nginx, without a value here: no cache, no client certificates, no GeoIP data.
            "upstream_cache_status" | "ssl_client_s_dn" | "ssl_client_verify" => Some(Self::Missing),
            _ if name.starts_with("geoip2_") => Some(Self::Missing),
            _ => None,
        }
    }

    /// True when values are credentials (`B-24`).
    pub fn is_sensitive(&self) -> bool {
        match self {
            Self::RequestField(name) => {
                matches!(&**name, "authorization" | "proxy-authorization" | "cookie")
                    || name.starts_with("x-auth-")
            }
            Self::ResponseField(name) => &**name == "set-cookie" || name.starts_with("x-auth-"),
            Self::Cookie(_) => true,
            Self::Fixed(_) | Self::Argument(_) | Self::Constant(_) | Self::Missing => false,
        }
    }

    /// Appends the value; false when there is none.
    pub fn write(&self, record: &Record<'_>, clock: &mut Clock, out: &mut Out<'_>) -> bool {
        match self {
            Self::Fixed(fixed) => fixed.write(record, clock, out),
            Self::RequestField(name) => {
                let found = write_field(record.request_fields, name, out);
                // HTTP/2 names the host in `:authority`; nginx shows it as `Host`.
                if !found && &**name == "host" && !record.host.is_empty() {
                    out.text(record.host.as_bytes());
                    return true;
                }
                found
            }
            Self::ResponseField(name) => write_field(record.response_fields, name, out),
            Self::Cookie(name) => write_cookie(record.request_fields, name, out),
            Self::Argument(name) => write_argument(record.args, name, out),
            Self::Constant(text) => {
                out.text(text.as_bytes());
                true
            }
            Self::Missing => false,
        }
    }
}

// === impl Fixed ===

impl Fixed {
    fn write(self, record: &Record<'_>, clock: &mut Clock, out: &mut Out<'_>) -> bool {
        match self {
            Self::RemoteAddr => out.ip(record.client),
            Self::RemotePort | Self::RealipRemotePort => out.number(record.peer.port().into()),
            Self::RealipRemoteAddr => out.ip(record.peer.ip()),
            Self::ServerAddr => out.ip(record.listener.ip()),
            Self::ServerPort => out.number(record.listener.port().into()),
            Self::RemoteUser => return optional(record.remote_user, out),
            Self::TimeLocal => out.plain(clock.local(record.time).as_bytes()),
            Self::TimeIso8601 => out.plain(clock.iso8601(record.time).as_bytes()),
            Self::Msec => out.seconds(since_epoch(record.time)),
            Self::Request => return write_line(record.line, out),
            Self::RequestMethod => return optional(record.method().map(str::as_bytes), out),
            Self::RequestUri => return optional(target(record.line), out),
            Self::ServerProtocol => match record.line {
                RequestLine::Parsed { protocol, .. } => out.plain(protocol.as_bytes()),
                RequestLine::Raw(_) | RequestLine::Absent => return false,
            },
            Self::Uri => out.text(record.uri),
            Self::Args => return optional(record.args, out),
            Self::IsArgs => {
                out.plain(if record.args.is_some_and(|args| !args.is_empty()) { b"?" } else { b"" })
            }
            Self::Scheme => out.plain(record.scheme.as_bytes()),
            Self::Https => out.plain(if record.scheme == "https" { b"on" } else { b"" }),
            Self::Host => out.text(record.host.as_bytes()),
            Self::BestHttpHost => out.text(record.best_host.as_bytes()),
            Self::ServerName => out.text(match record.route.host {
                crate::telemetry::HostLabel::Configured(name) => name.as_bytes(),
                crate::telemetry::HostLabel::Undefined(_) => b"_",
            }),
            Self::Status => write_status(record.status, out),
            Self::BodyBytesSent => out.number(record.body_bytes_sent),
            Self::BytesSent => out.number(record.bytes_sent),
            Self::RequestLength => out.number(record.request_length),
            Self::RequestTime => out.seconds(record.request_time),
            Self::ReqId => out.text(record.request_id.as_bytes()),
            Self::Connection => out.number(record.connection),
            Self::ConnectionRequests => out.number(record.connection_requests),
            Self::ProxyUpstreamName if record.upstream_name.is_empty() => out.plain(b"-"),
            Self::ProxyUpstreamName => out.text(record.upstream_name.as_bytes()),
            Self::ProxyAlternativeUpstreamName => out.text(record.alternative_upstream_name.as_bytes()),
            Self::Namespace => out.text(record.route.namespace.as_bytes()),
            Self::IngressName => out.text(record.route.ingress.as_bytes()),
            Self::ServiceName => out.text(record.route.service.as_bytes()),
            Self::ServicePort => out.text(record.route.service_port.as_bytes()),
            Self::LocationPath => out.text(record.route.path.as_bytes()),
            Self::ProxyProtocolAddr => match record.proxy_protocol {
                Some(address) => out.ip(address.ip()),
                None => return false,
            },
            Self::ProxyProtocolPort => match record.proxy_protocol {
                Some(address) => out.number(address.port().into()),
                None => return false,
            },
            Self::SslProtocol => return optional(record.tls_protocol.map(str::as_bytes), out),
            Self::SslCipher => return optional(record.tls_cipher.map(str::as_bytes), out),
            Self::SslServerName => return optional(record.tls_server_name.map(str::as_bytes), out),
            Self::UpstreamAddr => {
                return write_tries(record.tries, out, |one, out| match one.address {
                    Some(address) => out.socket(address),
                    None => out.plain(b"-"),
                });
            }
            Self::UpstreamStatus => {
                return write_tries(record.tries, out, |one, out| match one.status {
                    Some(status) => out.number(status.into()),
                    None => out.plain(b"-"),
                });
            }
            Self::UpstreamResponseLength => {
                return write_tries(record.tries, out, |one, out| out.number(one.response_length));
            }
            Self::UpstreamResponseTime => {
                return write_tries(record.tries, out, |one, out| write_time(one.response_time, out));
            }
            Self::UpstreamHeaderTime => {
                return write_tries(record.tries, out, |one, out| write_time(one.header_time, out));
            }
            Self::UpstreamConnectTime => {
                return write_tries(record.tries, out, |one, out| write_time(one.connect_time, out));
            }
        }
        true
    }
}

fn optional(value: Option<&[u8]>, out: &mut Out<'_>) -> bool {
    match value {
        Some(value) => {
            out.text(value);
            true
        }
        None => false,
    }
}

fn target(line: RequestLine<'_>) -> Option<&[u8]> {
    match line {
        RequestLine::Parsed { target, .. } => Some(target),
        RequestLine::Raw(_) | RequestLine::Absent => None,
    }
}

fn write_line(line: RequestLine<'_>, out: &mut Out<'_>) -> bool {
    match line {
        RequestLine::Parsed { method, target, protocol } => {
            out.text(method.as_bytes());
            out.plain(b" ");
            out.text(target);
            out.plain(b" ");
            out.plain(protocol.as_bytes());
            true
        }
        RequestLine::Raw(bytes) => {
            out.text(bytes);
            true
        }
        RequestLine::Absent => false,
    }
}

/// nginx pads to three digits: `000` where no status was decided.
pub(super) fn write_status(status: u16, out: &mut Out<'_>) {
    match status {
        0 => out.plain(b"000"),
        status => out.number(status.into()),
    }
}

fn write_time(time: Option<Duration>, out: &mut Out<'_>) {
    match time {
        Some(time) => out.seconds(time),
        None => out.plain(b"-"),
    }
}

/// A list over all tries: `, ` between tries, ` : ` before a new group; no value without tries.
fn write_tries(
    tries: &[UpstreamTry],
    out: &mut Out<'_>,
    mut one: impl FnMut(&UpstreamTry, &mut Out<'_>),
) -> bool {
    for (index, item) in tries.iter().enumerate() {
        if index > 0 {
            out.plain(if item.starts_group { b" : " } else { b", " });
        }
        one(item, out);
    }
    !tries.is_empty()
}

/// Lines of one name are joined as nginx joins them: `; ` for cookies, else `, `.
fn write_field(fields: &dyn FieldLookup, name: &str, out: &mut Out<'_>) -> bool {
    let separator: &[u8] = if name == "cookie" { b"; " } else { b", " };
    let mut found = false;
    fields.each(name, &mut |value| {
        if found {
            out.plain(separator);
        }
        out.text(value);
        found = true;
    });
    found
}

fn write_cookie(fields: &dyn FieldLookup, name: &str, out: &mut Out<'_>) -> bool {
    let mut found = false;
    fields.each("cookie", &mut |line| {
        for pair in line.split(|byte| *byte == b';') {
            let Some(value) =
                pair.trim_ascii().strip_prefix(name.as_bytes()).and_then(|rest| rest.strip_prefix(b"="))
            else {
                continue;
            };
            if !found {
                out.text(value);
                found = true;
            }
        }
    });
    found
}

/// First argument of that name; names compare without case, as in nginx.
fn write_argument(args: Option<&[u8]>, name: &str, out: &mut Out<'_>) -> bool {
    for pair in args.unwrap_or_default().split(|byte| *byte == b'&') {
        let Some(equals) = pair.iter().position(|byte| *byte == b'=') else { continue };
        let (key, value) = pair.split_at(equals);
        if key.eq_ignore_ascii_case(name.as_bytes()) {
            out.text(value.get(1..).unwrap_or_default());
            return true;
        }
    }
    false
}

fn hostname() -> String {
    std::fs::read_to_string("/proc/sys/kernel/hostname")
        .map(|name| name.trim().to_owned())
        .unwrap_or_default()
}
