//! Log lines of TCP and UDP sessions: `log-format-stream`.

use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, SystemTime};

use super::clock::{Clock, since_epoch};
use super::escape::{Escape, Out};
use super::format::budget;
use super::template::{Problem, Segment, parse};
use super::variable::{machine, write_status};

/// Default of `log-format-stream` in ingress-nginx.
pub const DEFAULT_STREAM_FORMAT: &str =
    "[$remote_addr] [$time_local] $protocol $status $bytes_sent $bytes_received $session_time";

const JSON: &str = concat!(
    r#"{"time":"$time_iso8601","remote_addr":"$remote_addr","remote_port":$remote_port,"protocol":"$protocol","#,
    r#""status":$status,"bytes_sent":$bytes_sent,"bytes_received":$bytes_received,"session_time":$session_time,"#,
    r#""proxy_upstream_name":"$proxy_upstream_name","upstream_addr":"$upstream_addr","#,
    r#""ssl_preread_server_name":"$ssl_preread_server_name"}"#,
);

/// One finished session.
#[derive(Debug, Clone, Copy)]
pub struct StreamRecord<'a> {
    /// When it ended.
    pub time: SystemTime,
    /// `$remote_addr`: the client, from the PROXY line where one is trusted.
    pub client: IpAddr,
    /// `$remote_port`.
    pub client_port: u16,
    /// `$connection`: number of the session in this process.
    pub number: u64,
    /// `$proxy_protocol_addr`: the client as a PROXY line told of it, believed or not.
    pub proxied: Option<IpAddr>,
    /// Where the client connected.
    pub listener: SocketAddr,
    /// `TCP` or `UDP`.
    pub protocol: &'static str,
    /// nginx's word for the end: 200 done, 400 bad input, 403 refused, 500 internal, 502 no backend, 503 limited.
    pub status: u16,
    /// Bytes to the client.
    pub bytes_sent: u64,
    /// Bytes from the client.
    pub bytes_received: u64,
    /// Length of the session.
    pub session_time: Duration,
    /// Endpoint, when one was chosen.
    pub upstream: Option<SocketAddr>,
    /// Until the endpoint was connected.
    pub upstream_connect_time: Option<Duration>,
    /// `tcp-<namespace>-<service>-<port>` or `udp-…`; empty for passthrough of an unknown name.
    pub upstream_name: &'a str,
    /// `$ssl_preread_server_name` of a passthrough session.
    pub server_name: Option<&'a str>,
}

/// A compiled format for sessions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StreamFormat {
    segments: Vec<Segment<Option<Name>>>,
    escape: Escape,
    budget: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Name {
    RemoteAddr,
    RemotePort,
    ServerAddr,
    ServerPort,
    TimeLocal,
    TimeIso8601,
    Msec,
    Protocol,
    Status,
    BytesSent,
    BytesReceived,
    SessionTime,
    UpstreamAddr,
    UpstreamConnectTime,
    Upstream,
    Sni,
    Connection,
    Hostname,
    Pid,
    ProxyProtocolAddr,
}

const NAMES: &[(&str, Name)] = &[
    ("remote_addr", Name::RemoteAddr),
    ("remote_port", Name::RemotePort),
    ("server_addr", Name::ServerAddr),
    ("server_port", Name::ServerPort),
    ("time_local", Name::TimeLocal),
    ("time_iso8601", Name::TimeIso8601),
    ("msec", Name::Msec),
    ("protocol", Name::Protocol),
    ("status", Name::Status),
    ("bytes_sent", Name::BytesSent),
    ("bytes_received", Name::BytesReceived),
    ("session_time", Name::SessionTime),
    ("upstream_addr", Name::UpstreamAddr),
    ("upstream_connect_time", Name::UpstreamConnectTime),
    // The two directions carry the same bytes on both sides of the proxy.
    ("upstream_bytes_received", Name::BytesSent),
    ("upstream_bytes_sent", Name::BytesReceived),
    ("upstream_session_time", Name::SessionTime),
    ("proxy_upstream_name", Name::Upstream),
    ("ssl_preread_server_name", Name::Sni),
    ("connection", Name::Connection),
    ("hostname", Name::Hostname),
    ("pid", Name::Pid),
    ("proxy_protocol_addr", Name::ProxyProtocolAddr),
];

/// Every name, for tests.
#[cfg(test)]
pub(super) fn known() -> impl Iterator<Item = &'static str> {
    NAMES.iter().map(|(name, _)| *name)
}

impl Default for StreamFormat {
    fn default() -> Self {
        Self::compile(DEFAULT_STREAM_FORMAT, Escape::Default).0
    }
}

impl StreamFormat {
    /// Compiles `log-format-stream`. Always gives a usable format.
    pub fn compile(text: &str, escape: Escape) -> (Self, Vec<Problem>) {
        let mut problems = Vec::new();
        let segments = parse(text, |name| {
            let known = NAMES.iter().find(|(known, _)| *known == name).map(|(_, variable)| *variable);
            if known.is_none() {
                problems.push(Problem::Unknown { name: name.to_owned() });
            }
            known
        });
        let budget = budget(&segments);
        (Self { segments, escape, budget }, problems)
    }

    /// One JSON object per line, for `--log-format json`.
    pub fn json() -> Self {
        Self::compile(JSON, Escape::Json).0
    }

    /// Appends the line for `record`, without a line feed.
    pub fn render(&self, record: &StreamRecord<'_>, clock: &mut Clock, buffer: &mut Vec<u8>) {
        let mut out = Out::new(buffer, self.escape, self.budget);
        for segment in &self.segments {
            match segment {
                Segment::Literal(text) => out.literal(text),
                Segment::Variable(name) => {
                    out.begin_field();
                    if !name.is_some_and(|name| write(name, record, clock, &mut out)) {
                        out.missing();
                    }
                }
            }
        }
    }
}

/// Appends a value; false when there is none.
fn write(name: Name, record: &StreamRecord<'_>, clock: &mut Clock, out: &mut Out<'_>) -> bool {
    match name {
        Name::RemoteAddr => out.ip(record.client),
        Name::RemotePort => out.number(record.client_port.into()),
        Name::ServerAddr => out.ip(record.listener.ip()),
        Name::ServerPort => out.number(record.listener.port().into()),
        Name::TimeLocal => out.plain(clock.local(record.time).as_bytes()),
        Name::TimeIso8601 => out.plain(clock.iso8601(record.time).as_bytes()),
        Name::Msec => out.seconds(since_epoch(record.time)),
        Name::Protocol => out.plain(record.protocol.as_bytes()),
        Name::Status => write_status(record.status, out),
        Name::BytesSent => out.number(record.bytes_sent),
        Name::BytesReceived => out.number(record.bytes_received),
        Name::SessionTime => out.seconds(record.session_time),
        Name::Upstream => out.text(record.upstream_name.as_bytes()),
        Name::UpstreamAddr => match record.upstream {
            Some(address) => out.socket(address),
            None => return false,
        },
        Name::UpstreamConnectTime => match record.upstream_connect_time {
            Some(time) => out.seconds(time),
            None => return false,
        },
        Name::Connection => out.number(record.number),
        Name::Hostname => out.text(machine().as_bytes()),
        Name::Pid => out.number(std::process::id().into()),
        Name::ProxyProtocolAddr => match record.proxied {
            Some(address) => out.ip(address),
            None => return false,
        },
        Name::Sni => match record.server_name {
            Some(name) => out.text(name.as_bytes()),
            None => return false,
        },
    }
    true
}
