//! The facts of one finished request, as borrowed plain values: what a log line and the metrics are both made from.
//!
//! `proxy::exchange` makes one when the exchange ends, also when it ends early (client gone: status 499). Nothing is
//! copied or formatted here.

use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, SystemTime};

use crate::variable::{Handshake, Variable};

/// Finds field lines of a message for `$http_*` and `$sent_http_*`.
pub trait FieldLookup {
    /// Calls `visit` with the value of every line called `name` (lower case, `-` between words), in order.
    fn each(&self, name: &str, visit: &mut dyn FnMut(&[u8]));
}

/// Where the client is, for `$geoip2_*`.
pub trait PlaceLookup {
    /// Value of `$geoip2_<name>`.
    fn place(&self, name: &str) -> Option<String>;
}

/// What is reported of the way a request came, worked out where somebody asks.
pub trait ForwardedLookup {
    /// `$pass_port`.
    fn port(&self) -> String;
}

/// Variables that the configuration defines itself (`set`, `map`).
pub trait OwnLookup {
    /// The value of `$name`, empty where the request has none; `shown` gives those of all other variables.
    fn own(&self, name: &str, shown: &dyn Fn(&Variable) -> Option<Vec<u8>>) -> Vec<u8>;
}

/// A message without fields.
#[derive(Debug, Clone, Copy)]
pub struct NoFields;

impl FieldLookup for NoFields {
    fn each(&self, _: &str, _: &mut dyn FnMut(&[u8])) {}
}

/// The request line as `$request` shows it.
#[derive(Debug, Clone, Copy)]
pub enum RequestLine<'a> {
    /// A parsed one; HTTP/2 requests are written in the same form.
    Parsed {
        /// Method as sent.
        method: &'a str,
        /// Target as sent, never decoded.
        target: &'a [u8],
        /// `HTTP/1.0`, `HTTP/1.1` or `HTTP/2.0`.
        protocol: &'static str,
    },
    /// What came instead of one (request answered 400).
    Raw(&'a [u8]),
    /// The connection ended or was refused before a line was complete.
    Absent,
}

/// The `host` label of metrics: only configured names become labels (`B-26`, `H-3`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HostLabel<'a> {
    /// The name of the server that took the request: a host of an Ingress, an alias of one, or `*.x`.
    Configured(&'a str),
    /// The catch-all took it; the name the client sent, lower case, without port. It becomes a label only with
    /// `--metrics-per-undefined-host`, and then a bounded number of them.
    Undefined(&'a str),
}

/// Where the request was routed. Empty texts where there is no such object.
#[derive(Debug, Clone, Copy)]
pub struct RouteLabels<'a> {
    /// A number that is likely the same for the same location and server (address of the location): makes finding
    /// the series cheap. A wrong one costs time, never correctness.
    pub identity: usize,
    /// Generation of the table that the texts stand in, which is held while they are shown; 0 for none. There, equal
    /// places of texts are equal texts.
    pub generation: u64,
    /// Host label.
    pub host: HostLabel<'a>,
    /// `$namespace` of the Ingress.
    pub namespace: &'a str,
    /// `$ingress_name`.
    pub ingress: &'a str,
    /// `$service_name`.
    pub service: &'a str,
    /// `$service_port`.
    pub service_port: &'a str,
    /// Path as the Ingress wrote it: metrics label `path` and `$location_path`.
    pub path: &'a str,
}

impl RouteLabels<'_> {
    /// A request that never reached routing.
    pub const NONE: Self = RouteLabels {
        identity: 0,
        generation: 0,
        host: HostLabel::Undefined(""),
        namespace: "",
        ingress: "",
        service: "",
        service_port: "",
        path: "",
    };
}

/// One try at an endpoint. Times count from the start of the try, as nginx's `$upstream_*_time` do.
#[derive(Debug, Clone, Copy)]
pub struct UpstreamTry {
    /// Endpoint; `None` when no address was found.
    pub address: Option<SocketAddr>,
    /// Status it answered, or the one we made of the failure (502, 504); `None` when the client left first.
    pub status: Option<u16>,
    /// Until the connection stood; zero-ish for a pooled one, `None` when it never did.
    pub connect_time: Option<Duration>,
    /// Until the response head was read; `None` when it never was.
    pub header_time: Option<Duration>,
    /// Until the response ended or the try failed.
    pub response_time: Option<Duration>,
    /// Bytes of the response body, its framing included.
    pub response_length: u64,
    /// Bytes written to the endpoint.
    pub bytes_sent: u64,
    /// Bytes read from it.
    pub bytes_received: u64,
    /// True for the first try after an internal redirect (error page from a default backend): ` : ` stands before it.
    pub starts_group: bool,
}

/// Why an answer was ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LocalReason {
    /// Kind of the reply: a stable word such as `no_route`, `redirect`, `bad_request`, `overloaded`, `client_gone`.
    pub kind: &'static str,
    /// Rule, code or cause, such as `H1-13`; may be empty.
    pub rule: &'static str,
}

/// A span as texts: `$opentelemetry_*`.
#[derive(Debug, Clone, Copy)]
pub struct TraceText<'a> {
    /// `$opentelemetry_trace_id`.
    pub trace_id: &'a str,
    /// `$opentelemetry_span_id`.
    pub span_id: &'a str,
    /// `$opentelemetry_context_traceparent`.
    pub parent: &'a str,
    /// `$opentelemetry_context_tracestate`.
    pub state: &'a [u8],
}

/// One finished request.
#[derive(Clone, Copy)]
pub struct Record<'a> {
    /// When it ended.
    pub time: SystemTime,
    /// `$remote_addr`: the client after trust was judged.
    pub client: IpAddr,
    /// The TCP peer.
    pub peer: SocketAddr,
    /// `$server_addr` and `$server_port`: where the client connected.
    pub listener: SocketAddr,
    /// `$proxy_protocol_addr` and port.
    pub proxy_protocol: Option<SocketAddr>,
    /// `$remote_user`: user name of Basic credentials.
    pub remote_user: Option<&'a [u8]>,
    /// Request line.
    pub line: RequestLine<'a>,
    /// `$scheme`: `http` or `https`, of the connection itself.
    pub scheme: &'static str,
    /// `$host`: lower case, without port.
    pub host: &'a str,
    /// `$best_http_host`: host as the backend is told.
    pub best_host: &'a str,
    /// What else the backend is told of the way here; `None` where no request came to be.
    pub forwarded: Option<&'a dyn ForwardedLookup>,
    /// `$uri`: the normalised path.
    pub uri: &'a [u8],
    /// `$args`; `None` without `?`.
    pub args: Option<&'a [u8]>,
    /// Request fields as received.
    pub request_fields: &'a dyn FieldLookup,
    /// Response fields as sent.
    pub response_fields: &'a dyn FieldLookup,
    /// Response fields as the last backend gave them; kept only where the format shows one.
    pub upstream_fields: &'a dyn FieldLookup,
    /// TLS of the connection, for variables.
    pub handshake: Option<&'a dyn Handshake>,
    /// `$request_completion`: the whole answer was handed to the kernel.
    pub completed: bool,
    /// `$req_id`, 32 hexadecimal digits.
    pub request_id: &'a str,
    /// Number of the connection (`$connection`).
    pub connection: u64,
    /// How many requests the connection has carried, this one included (`$connection_requests`).
    pub connection_requests: u64,
    /// `$request_length`: line, fields and body as received.
    pub request_length: u64,
    /// `$request_time`: first byte of the head read to last byte of the answer handed to the kernel.
    pub request_time: Duration,
    /// Status sent; 499 when the client left first, 0 when there was none.
    pub status: u16,
    /// `$bytes_sent`: head and body.
    pub bytes_sent: u64,
    /// `$body_bytes_sent`.
    pub body_bytes_sent: u64,
    /// `$ssl_protocol`, such as `TLSv1.3`.
    pub tls_protocol: Option<&'a str>,
    /// `$ssl_cipher`.
    pub tls_cipher: Option<&'a str>,
    /// `$ssl_server_name`.
    pub tls_server_name: Option<&'a str>,
    /// `$proxy_upstream_name`: `<namespace>-<service>-<port>`, `upstream-default-backend`, `internal`; empty shows `-`, and
    /// nothing where `uri` is empty too.
    pub upstream_name: &'a str,
    /// `$proxy_alternative_upstream_name`: backend of the canary that took the request, else empty.
    pub alternative_upstream_name: &'a str,
    /// Variables of the configuration's own, where there may be any.
    pub own: Option<&'a dyn OwnLookup>,
    /// Every try at an endpoint, in order.
    pub tries: &'a [UpstreamTry],
    /// Where it was routed.
    pub route: RouteLabels<'a>,
    /// Where the client is, where that is known.
    pub place: Option<&'a dyn PlaceLookup>,
    /// Its span, where requests are traced.
    pub trace: Option<TraceText<'a>>,
    /// Set when the answer was ours.
    pub local: Option<LocalReason>,
}

/// What of a finished request is counted; its fields are those of its [`Record`].
#[derive(Debug, Clone, Copy)]
pub struct Counted<'a> {
    /// Method of a parsed request line.
    pub method: Option<&'a str>,
    /// [`Record::request_length`].
    pub request_length: u64,
    /// [`Record::request_time`].
    pub request_time: Duration,
    /// [`Record::status`].
    pub status: u16,
    /// [`Record::bytes_sent`].
    pub bytes_sent: u64,
    /// [`Record::alternative_upstream_name`].
    pub alternative_upstream_name: &'a str,
    /// The last of [`Record::tries`].
    pub last: Option<&'a UpstreamTry>,
    /// [`Record::route`].
    pub route: RouteLabels<'a>,
    /// [`Record::local`].
    pub local: Option<LocalReason>,
}

impl<'a> Record<'a> {
    /// What of it is counted.
    pub fn counted(&self) -> Counted<'a> {
        Counted {
            method: self.method(),
            request_length: self.request_length,
            request_time: self.request_time,
            status: self.status,
            bytes_sent: self.bytes_sent,
            alternative_upstream_name: self.alternative_upstream_name,
            last: self.tries.last(),
            route: self.route,
            local: self.local,
        }
    }

    /// Method of a parsed request line.
    pub fn method(&self) -> Option<&'a str> {
        match self.line {
            RequestLine::Parsed { method, .. } => Some(method),
            RequestLine::Raw(_) | RequestLine::Absent => None,
        }
    }
}
