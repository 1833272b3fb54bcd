//! How each variable of an access-log format shows a [`Record`]. The names are those of `crate::variable`.

use std::cell::RefCell;
use std::net::IpAddr;
use std::sync::OnceLock;
use std::time::Duration;

use super::clock::{Clock, since_epoch};
use super::escape::{Escape, LINE_MAX, Out};
use crate::telemetry::record::{FieldLookup, ForwardedLookup, Record, RequestLine, UpstreamTry};
use crate::variable::{Fixed, Variable, escape_uri};

static HOSTNAME: OnceLock<String> = OnceLock::new();

/// Appends the value; false when there is none.
pub(super) fn write(variable: &Variable, record: &Record<'_>, clock: &mut Clock, out: &mut Out<'_>) -> bool {
    match variable {
        Variable::Fixed(fixed) => write_fixed(*fixed, record, clock, out),
        Variable::RequestField(name) => write_field(record.request_fields, name, out),
        Variable::ResponseField(name) => write_field(record.response_fields, name, out),
        Variable::Cookie(name) => write_cookie(record.request_fields, name, out),
        Variable::Argument(name) => write_argument(record.args, name, out),
        Variable::Place(name) => {
            let place = record.place.and_then(|lookup| lookup.place(name));
            optional(place.as_deref().map(str::as_bytes), out)
        }
        Variable::UpstreamField(name) => write_field(record.upstream_fields, name, out),
        Variable::UpstreamCookie(name) => write_set_cookie(record.upstream_fields, name, out),
        Variable::Own(name) => {
            let clock = RefCell::new(clock);
            let shown = |variable: &Variable| bytes(variable, record, &mut clock.borrow_mut());
            let value = record.own.map(|own| own.own(name, &shown));
            optional(Some(&value.unwrap_or_default()), out)
        }
        Variable::Group(_) => false,
    }
}

/// The value as it is, without any escaping; `None` where there is none.
pub fn bytes(variable: &Variable, record: &Record<'_>, clock: &mut Clock) -> Option<Vec<u8>> {
    let mut value = Vec::new();
    let mut out = Out::new(&mut value, Escape::Verbatim, LINE_MAX);
    out.begin_field();
    write(variable, record, clock, &mut out).then_some(value)
}

#[expect(clippy::too_many_lines, reason = "one line per variable: the list is the documentation")]
fn write_fixed(fixed: Fixed, record: &Record<'_>, clock: &mut Clock, out: &mut Out<'_>) -> bool {
    match fixed {
        Fixed::Pid => out.number(std::process::id().into()),
        Fixed::Pipe => out.plain(b"."),
        Fixed::Hostname => out.text(machine().as_bytes()),
        Fixed::UpstreamCacheStatus | Fixed::SslSessionId => return false,
        // As `$proxy_upstream_name`: set by nginx's configuration, once the head was judged.
        Fixed::EscapedRequestUri | Fixed::PassPort if record.uri.is_empty() => {}
        Fixed::EscapedRequestUri => {
            let mut escaped = Vec::new();
            escape_uri(target(record.line).unwrap_or_default(), &mut escaped);
            out.text(&escaped);
        }
        Fixed::PassPort => {
            out.text(record.forwarded.map(ForwardedLookup::port).unwrap_or_default().as_bytes());
        }
        Fixed::ProxyAddXForwardedFor => {
            if write_field(record.request_fields, "x-forwarded-for", out) {
                out.plain(b", ");
            }
            out.ip(record.client);
        }
        Fixed::SslAlpnProtocol
        | Fixed::SslClientEnd
        | Fixed::SslClientEscapedCert
        | Fixed::SslClientFingerprint
        | Fixed::SslClientIssuer
        | Fixed::SslClientRemain
        | Fixed::SslClientSerial
        | Fixed::SslClientStart
        | Fixed::SslClientSubject
        | Fixed::SslClientVerify
        | Fixed::SslCurve
        | Fixed::SslSessionReused => {
            let value = record.handshake.and_then(|handshake| handshake.value(fixed));
            return optional(value.as_deref(), out);
        }
        Fixed::BinaryRemoteAddr => match record.client {
            IpAddr::V4(address) => out.text(&address.octets()),
            IpAddr::V6(address) => out.text(&address.octets()),
        },
        Fixed::Http2 => out.plain(match (protocol(record.line), record.scheme) {
            (Some("HTTP/2.0"), "https") => b"h2",
            (Some("HTTP/2.0"), _) => b"h2c",
            _ => b"",
        }),
        Fixed::RequestCompletion => out.plain(if record.completed { b"OK" } else { b"" }),
        Fixed::RemoteAddr => out.ip(record.client),
        Fixed::RemotePort | Fixed::RealipRemotePort => out.number(record.peer.port().into()),
        Fixed::RealipRemoteAddr => out.ip(record.peer.ip()),
        Fixed::ServerAddr => out.ip(record.listener.ip()),
        Fixed::ServerPort => out.number(record.listener.port().into()),
        Fixed::RemoteUser => return optional(record.remote_user, out),
        Fixed::TimeLocal => out.plain(clock.local(record.time).as_bytes()),
        Fixed::TimeIso8601 => out.plain(clock.iso8601(record.time).as_bytes()),
        Fixed::Msec => out.seconds(since_epoch(record.time)),
        Fixed::Request => return write_line(record.line, out),
        Fixed::RequestMethod => return optional(method(record.line).map(str::as_bytes), out),
        Fixed::RequestUri => return optional(target(record.line), out),
        Fixed::ServerProtocol => return optional(protocol(record.line).map(str::as_bytes), out),
        Fixed::Uri => out.text(record.uri),
        // A rewrite took them away: that is a value, and an empty one.
        Fixed::Args if record.args == Some(b"") && asks_something(record.line) => {}
        Fixed::Args => return optional(record.args.filter(|args| !args.is_empty()), out),
        Fixed::IsArgs => out.plain(if record.args.is_some_and(|args| !args.is_empty()) { b"?" } else { b"" }),
        Fixed::Scheme => out.plain(record.scheme.as_bytes()),
        Fixed::Https => out.plain(if record.scheme == "https" { b"on" } else { b"" }),
        // Without a host it is the server's name.
        Fixed::Host if record.host.is_empty() => out.text(server_name(record)),
        Fixed::Host => out.text(record.host.as_bytes()),
        Fixed::PassAccessScheme => out.plain(record.scheme.as_bytes()),
        Fixed::BestHttpHost => out.text(record.best_host.as_bytes()),
        Fixed::ServerName => out.text(server_name(record)),
        Fixed::Status => write_status(record.status, out),
        Fixed::BodyBytesSent => out.number(record.body_bytes_sent),
        Fixed::BytesSent => out.number(record.bytes_sent),
        Fixed::RequestLength => out.number(record.request_length),
        Fixed::RequestTime => out.seconds(record.request_time),
        Fixed::ReqId => out.text(record.request_id.as_bytes()),
        Fixed::Connection => out.number(record.connection),
        Fixed::ConnectionRequests => out.number(record.connection_requests),
        // nginx sets it once the head was judged: a refused one shows nothing, not even a dash.
        Fixed::ProxyUpstreamName if record.upstream_name.is_empty() && record.uri.is_empty() => {}
        Fixed::ProxyUpstreamName if record.upstream_name.is_empty() => out.plain(b"-"),
        Fixed::ProxyUpstreamName => out.text(record.upstream_name.as_bytes()),
        Fixed::ProxyAlternativeUpstreamName => out.text(record.alternative_upstream_name.as_bytes()),
        Fixed::Namespace => out.text(record.route.namespace.as_bytes()),
        Fixed::IngressName => out.text(record.route.ingress.as_bytes()),
        Fixed::ServiceName => out.text(record.route.service.as_bytes()),
        Fixed::ServicePort => out.text(record.route.service_port.as_bytes()),
        Fixed::LocationPath => out.text(record.route.path.as_bytes()),
        Fixed::TraceId => return optional(record.trace.map(|trace| trace.trace_id.as_bytes()), out),
        Fixed::SpanId => return optional(record.trace.map(|trace| trace.span_id.as_bytes()), out),
        Fixed::TraceParent => return optional(record.trace.map(|trace| trace.parent.as_bytes()), out),
        Fixed::TraceState => {
            return optional(record.trace.map(|trace| trace.state).filter(|state| !state.is_empty()), out);
        }
        Fixed::ProxyProtocolAddr => match record.proxy_protocol {
            Some(address) => out.ip(address.ip()),
            None => return false,
        },
        Fixed::ProxyProtocolPort => match record.proxy_protocol {
            Some(address) => out.number(address.port().into()),
            None => return false,
        },
        Fixed::SslProtocol => return optional(record.tls_protocol.map(str::as_bytes), out),
        Fixed::SslCipher => return optional(record.tls_cipher.map(str::as_bytes), out),
        Fixed::SslServerName => return optional(record.tls_server_name.map(str::as_bytes), out),
        Fixed::UpstreamAddr => {
            return write_tries(record.tries, out, |one, out| match one.address {
                Some(address) => out.socket(address),
                None => out.plain(b"-"),
            });
        }
        Fixed::UpstreamStatus => {
            return write_tries(record.tries, out, |one, out| match one.status {
                Some(status) => out.number(status.into()),
                None => out.plain(b"-"),
            });
        }
        Fixed::UpstreamResponseLength => {
            return write_tries(record.tries, out, |one, out| out.number(one.response_length));
        }
        Fixed::UpstreamBytesReceived => {
            return write_tries(record.tries, out, |one, out| out.number(one.bytes_received));
        }
        Fixed::UpstreamBytesSent => {
            return write_tries(record.tries, out, |one, out| out.number(one.bytes_sent));
        }
        Fixed::UpstreamResponseTime => {
            return write_tries(record.tries, out, |one, out| write_time(one.response_time, out));
        }
        Fixed::UpstreamHeaderTime => {
            return write_tries(record.tries, out, |one, out| write_time(one.header_time, out));
        }
        Fixed::UpstreamConnectTime => {
            return write_tries(record.tries, out, |one, out| write_time(one.connect_time, out));
        }
    }
    true
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

fn server_name<'r>(record: &Record<'r>) -> &'r [u8] {
    match record.route.host {
        crate::telemetry::HostLabel::Configured(name) => name.as_bytes(),
        crate::telemetry::HostLabel::Undefined(_) => b"_",
    }
}

/// The target without the scheme and the authority of its absolute form, as nginx keeps it.
fn target(line: RequestLine<'_>) -> Option<&[u8]> {
    let RequestLine::Parsed { target, .. } = line else { return None };
    if target.starts_with(b"/") {
        return Some(target);
    }
    let after = memchr::memmem::find(target, b"://").and_then(|at| target.get(at.saturating_add(3)..));
    let path = after.and_then(|rest| rest.get(rest.iter().position(|byte| *byte == b'/')?..));
    Some(path.unwrap_or(target))
}

/// True for a target with a query that is not empty.
fn asks_something(line: RequestLine<'_>) -> bool {
    target(line).is_some_and(|target| target.contains(&b'?') && !target.ends_with(b"?"))
}

/// Method and version of a line; of one that was refused, as far as it is one.
fn words(line: RequestLine<'_>) -> Option<(&str, &str)> {
    match line {
        RequestLine::Parsed { method, protocol, .. } => Some((method, protocol)),
        RequestLine::Raw(bytes) => {
            let text = str::from_utf8(bytes).ok()?.trim_end();
            let (method, rest) = text.split_once(' ')?;
            let (_, protocol) = rest.rsplit_once(' ')?;
            let sound = protocol.starts_with("HTTP/") && method.bytes().all(|byte| byte.is_ascii_uppercase());
            sound.then_some((method, protocol))
        }
        RequestLine::Absent => None,
    }
}

fn method(line: RequestLine<'_>) -> Option<&str> {
    words(line).map(|(method, _)| method)
}

fn protocol(line: RequestLine<'_>) -> Option<&str> {
    words(line).map(|(_, protocol)| protocol)
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

/// Value of the first cookie of that name that a backend set.
fn write_set_cookie(fields: &dyn FieldLookup, name: &str, out: &mut Out<'_>) -> bool {
    let mut found = false;
    fields.each("set-cookie", &mut |line| {
        let pair = line.split(|byte| *byte == b';').next().unwrap_or_default().trim_ascii();
        if let Some(value) = named(pair, name).filter(|_| !found) {
            out.text(value);
            found = true;
        }
    });
    found
}

fn write_cookie(fields: &dyn FieldLookup, name: &str, out: &mut Out<'_>) -> bool {
    let mut found = false;
    fields.each("cookie", &mut |line| {
        for pair in line.split(|byte| *byte == b';') {
            let Some(value) = named(pair.trim_ascii(), name) else { continue };
            if !found {
                out.text(value);
                found = true;
            }
        }
    });
    found
}

/// Value of `name=value`; names of cookies compare without case, as in nginx.
fn named<'p>(pair: &'p [u8], name: &str) -> Option<&'p [u8]> {
    let (key, value) = pair.split_at_checked(name.len())?;
    key.eq_ignore_ascii_case(name.as_bytes()).then(|| value.strip_prefix(b"=")).flatten()
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

/// Name of this machine.
pub(super) fn machine() -> &'static str {
    HOSTNAME.get_or_init(hostname)
}

fn hostname() -> String {
    std::fs::read_to_string("/proc/sys/kernel/hostname")
        .map(|name| name.trim().to_owned())
        .unwrap_or_default()
}
