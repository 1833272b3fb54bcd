//! The controller ConfigMap, typed. Absent keys have the defaults of ingress-nginx; a bad value affects that key only.

use std::sync::Arc;
use std::time::Duration;

use http::StatusCode;
use ipnet::IpNet;

use super::annotation::Risk;
use super::backend_protocol::HttpVersion;
use super::cipher_list;
use super::compression::Compression;
use super::host_ownership::{AllowList, HostOwnership};
use super::ip_access::contains;
use super::load_balance::LoadBalance;
use super::response_rewrite;
use super::retry::RetryOn;
use super::template::Template;
use crate::pattern::{Anchor, Case, Pattern};
use crate::request::RequestView;

/// Everything the ConfigMap (and the ConfigMaps it names) says.
#[derive(Debug, Clone, PartialEq)]
pub struct Globals {
    // Defaults of annotations.
    /// `proxy-body-size`; `None` for no limit.
    pub proxy_body_size: Option<u64>,
    /// `client-body-buffer-size`.
    pub client_body_buffer_size: u64,
    /// `proxy-connect-timeout`.
    pub proxy_connect_timeout: Duration,
    /// `proxy-send-timeout`.
    pub proxy_send_timeout: Duration,
    /// `proxy-read-timeout`.
    pub proxy_read_timeout: Duration,
    /// `proxy-buffer-size`, only when set.
    pub proxy_buffer_size: Option<u32>,
    /// `proxy-buffering`.
    pub proxy_buffering: bool,
    /// `proxy-buffers-number`.
    pub proxy_buffers_number: u32,
    /// `proxy-max-temp-file-size`.
    pub proxy_max_temp_file_size: u64,
    /// `proxy-request-buffering`.
    pub proxy_request_buffering: bool,
    /// `proxy-next-upstream`.
    pub proxy_next_upstream: RetryOn,
    /// `proxy-next-upstream-timeout`; `None` for no limit.
    pub proxy_next_upstream_timeout: Option<Duration>,
    /// `proxy-next-upstream-tries`; 0 for no limit.
    pub proxy_next_upstream_tries: u32,
    /// `retry-non-idempotent` (or `non_idempotent` in `proxy-next-upstream`).
    pub retry_non_idempotent: bool,
    /// `proxy-http-version`.
    pub proxy_http_version: HttpVersion,
    /// `ssl-redirect`.
    pub ssl_redirect: bool,
    /// `force-ssl-redirect`.
    pub force_ssl_redirect: bool,
    /// `http-redirect-code`.
    pub http_redirect_code: StatusCode,
    /// `preserve-trailing-slash`.
    pub preserve_trailing_slash: bool,
    /// `no-tls-redirect-locations`.
    pub no_tls_redirect_locations: Arc<[Box<str>]>,
    /// `no-auth-locations`: prefixes of paths that need no authentication.
    pub no_auth_locations: Arc<[Box<str>]>,
    /// `use-port-in-redirects`.
    pub use_port_in_redirects: bool,
    /// `relative-redirects`.
    pub relative_redirects: bool,
    /// `custom-http-errors`, sorted.
    pub custom_http_errors: Arc<[u16]>,
    /// `disable-proxy-intercept-errors`.
    pub disable_proxy_intercept_errors: bool,
    /// `whitelist-source-range`.
    pub allowlist_source_range: Arc<[IpNet]>,
    /// `denylist-source-range`.
    pub denylist_source_range: Arc<[IpNet]>,
    /// `load-balance`.
    pub load_balance: LoadBalance,
    /// `service-upstream`.
    pub service_upstream: bool,
    /// `limit-rate`, in kilobytes per second; 0 for no limit.
    pub limit_rate: u32,
    /// `limit-rate-after`, in kilobytes.
    pub limit_rate_after: u32,
    /// `limit-req-status-code`.
    pub limit_req_status: StatusCode,
    /// `limit-conn-status-code`.
    pub limit_conn_status: StatusCode,
    /// `global-rate-limit-status-code`.
    pub global_rate_limit_status: StatusCode,
    /// `limit-conn-zone-variable`, the key of all request limits; `None` for the client's address.
    pub limit_key: Option<Template>,
    /// `proxy-cookie-domain`.
    pub proxy_cookie_domain: Option<response_rewrite::Rule>,
    /// `proxy-cookie-path`.
    pub proxy_cookie_path: Option<response_rewrite::Rule>,
    /// `proxy-redirect-from`.
    pub proxy_redirect_from: Arc<str>,
    /// `proxy-redirect-to`.
    pub proxy_redirect_to: Arc<str>,
    /// `global-allowed-response-headers`: names that `custom-headers` may set.
    pub allowed_response_headers: Arc<[Box<str>]>,
    /// `use-gzip`, `enable-brotli` and their details.
    pub compression: Compression,

    // Client side, forwarding, real IP.
    /// `use-forwarded-headers`.
    pub use_forwarded_headers: bool,
    /// `compute-full-forwarded-for`.
    pub compute_full_forwarded_for: bool,
    /// `enable-real-ip`.
    pub enable_real_ip: bool,
    /// `proxy-real-ip-cidr`: peers whose word about the client counts.
    pub proxy_real_ip_cidr: Arc<[IpNet]>,
    /// `forwarded-for-header`.
    pub forwarded_for_header: Arc<str>,
    /// `forwarded-host-header`: only the source of `X-Original-Forwarded-Host`.
    pub forwarded_host_header: Arc<str>,
    /// `use-proxy-protocol`.
    pub use_proxy_protocol: bool,
    /// `proxy-protocol-header-timeout`.
    pub proxy_protocol_header_timeout: Duration,
    /// `--compat-trust-forwarded=any`: `X-Forwarded-Proto`, `-Host` and `-Port` count from any peer, as in nginx. A
    /// flag, kept here so that one value says whom to trust; the composer sets it.
    pub compat_trust_forwarded_any: bool,
    /// `global-auth-*`: external authentication of every route that does not opt out.
    pub global_auth: GlobalAuth,
    /// `proxy-add-original-uri-header`.
    pub proxy_add_original_uri_header: bool,
    /// `generate-request-id`.
    pub generate_request_id: bool,
    /// `enable-underscores-in-headers`.
    pub enable_underscores_in_headers: bool,
    /// `ignore-invalid-headers`.
    pub ignore_invalid_headers: bool,
    /// `proxy-set-headers`: request fields for every backend, in the ConfigMap's (sorted) order.
    pub proxy_set_headers: Arc<[(Box<str>, Template)]>,
    /// `add-headers`: response fields for every client.
    pub add_headers: Arc<[(Box<str>, Box<str>)]>,
    /// `hide-headers`, lower case.
    pub hide_headers: Arc<[Box<str>]>,
    /// `server-tokens`.
    pub server_tokens: bool,
    /// `allow-backend-server-header`.
    pub allow_backend_server_header: bool,
    /// `client-header-timeout`.
    pub client_header_timeout: Duration,
    /// `client-body-timeout`.
    pub client_body_timeout: Duration,
    /// `large-client-header-buffers`, first number.
    pub large_header_count: u32,
    /// `large-client-header-buffers`, second number: bytes of the longest line.
    pub large_header_bytes: u32,
    /// `keep-alive`; `None` (0) closes after each answer.
    pub keep_alive: Option<Duration>,
    /// `keep-alive-requests`.
    pub keep_alive_requests: u32,
    /// `use-http2`.
    pub use_http2: bool,
    /// `http2-max-concurrent-streams`.
    pub http2_max_concurrent_streams: u32,
    /// `block-cidrs`.
    pub block_cidrs: Arc<[IpNet]>,
    /// `block-user-agents`.
    pub block_user_agents: Arc<[TextTest]>,
    /// `block-referers`.
    pub block_referers: Arc<[TextTest]>,
    /// `bind-address`.
    pub bind_address: Arc<[std::net::IpAddr]>,
    /// `disable-ipv6`.
    pub disable_ipv6: bool,
    /// `strict-validate-path-type`.
    pub strict_validate_path_type: bool,

    // TLS.
    /// TLS 1.2 is among `ssl-protocols`.
    pub tls12: bool,
    /// TLS 1.3 is among `ssl-protocols`.
    pub tls13: bool,
    /// `ssl-ciphers`, in order of preference.
    pub ssl_ciphers: Arc<[cipher_list::Suite]>,
    /// `ssl-session-cache`.
    pub ssl_session_cache: bool,
    /// `ssl-session-timeout`.
    pub ssl_session_timeout: Duration,
    /// `ssl-session-tickets`.
    pub ssl_session_tickets: bool,
    /// `disable-ipv6-dns`.
    pub disable_ipv6_dns: bool,
    /// `enable-auth-access-log`.
    pub auth_access_log: bool,
    /// `enable-ocsp`.
    pub enable_ocsp: bool,
    /// `ssl-session-ticket-key`: the first seals tickets, all open them.
    pub ssl_session_ticket_keys: Arc<[TicketKey]>,
    /// `ssl-reject-handshake`.
    pub ssl_reject_handshake: bool,
    /// `hsts*`: complete value of the field; `None` with `hsts: false`.
    pub hsts: Option<Arc<str>>,

    // Gates.
    /// `allow-snippet-annotations`.
    pub allow_snippet_annotations: bool,
    /// `http-snippet`, `server-snippet`, `location-snippet`.
    pub snippets: Arc<super::snippet::GlobalSnippets>,
    /// `annotations-risk-level`.
    pub annotations_risk_level: Risk,
    /// `annotation-value-word-blocklist`.
    pub annotation_value_word_blocklist: Arc<[Box<str>]>,
    /// `allow-cross-namespace-resources`.
    pub allow_cross_namespace_resources: bool,
    /// `enable-modsecurity` with rules that would turn requests away (`SecRuleEngine On`): every route that does not
    /// opt out is shut, since there is no such firewall. The code of the diagnostic.
    pub firewall: Option<&'static str>,
    /// `host-ownership`.
    pub host_ownership: HostOwnership,
    /// `host-allow-list`.
    pub host_allow_list: AllowList,

    // Logs.
    /// `log-format-upstream`.
    pub log_format_upstream: Arc<str>,
    /// `log-format-stream`.
    pub log_format_stream: Arc<str>,
    /// `disable-access-log` or `disable-stream-access-log`.
    pub disable_stream_access_log: bool,
    /// `stream-access-log-path`, else `access-log-path`.
    pub stream_access_log_path: Arc<str>,
    /// `log-format-escape-json`, `log-format-escape-none`.
    pub log_escape: LogEscape,
    /// `disable-access-log` or `disable-http-access-log`.
    pub disable_access_log: bool,
    /// `enable-access-log-for-default-backend`.
    pub access_log_for_default_backend: bool,
    /// `skip-access-log-urls`.
    pub skip_access_log_urls: Arc<[TextTest]>,
    /// `http-access-log-path`, else `access-log-path`.
    pub access_log_path: Arc<str>,
    /// `error-log-path`.
    pub error_log_path: Arc<str>,
    /// `enable-syslog`, `syslog-host`, `syslog-port`: where all logs go instead of their files.
    pub syslog: Syslog,
    /// `error-log-level`.
    pub error_log_level: Arc<str>,

    /// `use-geoip2`.
    pub geoip: bool,
    /// `geoip2-autoreload-in-minutes`; `None` for never.
    pub geoip_reload: Option<Duration>,

    /// `enable-opentelemetry` and what goes with it.
    pub tracing: TracingDefaults,

    // Pools, process.
    /// `upstream-keepalive-*`.
    pub upstream_keepalive: UpstreamKeepalive,
    /// `worker-shutdown-timeout`.
    pub worker_shutdown_timeout: Duration,
    /// `worker-processes`; `None` for `auto`.
    pub worker_processes: Option<u32>,
    /// `max-worker-connections`.
    pub max_worker_connections: u32,
    /// `nginx-status-ipv4-whitelist` and `-ipv6-`: who may read `/nginx_status`.
    pub status_allow: Arc<[IpNet]>,

    /// What clients may cost.
    pub limits: Limits,

    // TCP and UDP services.
    /// `proxy-stream-timeout`.
    pub stream_timeout: Duration,
    /// `proxy-stream-next-upstream`.
    pub stream_next_upstream: bool,
    /// `proxy-stream-next-upstream-timeout`; `None` for no limit.
    pub stream_next_upstream_timeout: Option<Duration>,
    /// `proxy-stream-next-upstream-tries`; 0 for no limit.
    pub stream_next_upstream_tries: u32,
    /// `proxy-stream-responses`.
    pub stream_responses: u32,
}

/// Idle connections to backends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UpstreamKeepalive {
    /// `upstream-keepalive-connections`: idle ones per worker; 0 for no pool.
    pub connections: u32,
    /// `upstream-keepalive-time`: greatest age.
    pub time: Duration,
    /// `upstream-keepalive-timeout`: longest idle time.
    pub timeout: Duration,
    /// `upstream-keepalive-requests`: requests over one connection.
    pub requests: u32,
}

/// A syslog server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Syslog {
    /// `enable-syslog`.
    pub on: bool,
    /// `syslog-host`: a name or an address.
    pub host: Arc<str>,
    /// `syslog-port`.
    pub port: u16,
}

impl Default for Syslog {
    fn default() -> Self {
        Self { on: false, host: Arc::from(""), port: 514 }
    }
}

impl Syslog {
    /// The server that logs go to; `None` where they go to files.
    pub fn server(&self) -> Option<(&str, u16)> {
        (self.on && !self.host.is_empty()).then_some((&self.host, self.port))
    }
}

/// Escaping of the access log.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum LogEscape {
    /// `\xHH`.
    #[default]
    Default,
    /// JSON strings.
    Json,
    /// None.
    None,
}

/// A value in nginx's `map` syntax: text, `~regex` or `~*regex`.
#[derive(Debug, Clone, PartialEq)]
pub enum TextTest {
    /// Equal, ASCII case-insensitively.
    Text(Box<str>),
    /// A match.
    Regex(Arc<Pattern>),
}

/// Data of the ConfigMaps that the controller's ConfigMap names, by `namespace/name`.
pub type Referenced = crate::model::SharedMap<crate::model::ObjectKey, Arc<crate::model::ConfigMap>>;

mod auth;
mod defaults;
mod hsts_keys;
mod keys;
pub mod limits;
mod log_format;
mod parse;
mod report;
mod tls;
mod tracing;
mod values;

/// The code of a finding about a variable in a log format that nobody knows.
pub const UNKNOWN_VARIABLE: &str = "UnknownVariable";

pub use auth::GlobalAuth;
pub use keys::{Effect, KEYS, Key, markdown};
pub use limits::{Limits, Share};
pub use tls::TicketKey;
pub use tracing::{Sampler, TracingDefaults};

/// `log-format-upstream` of ingress-nginx.
pub const DEFAULT_LOG_FORMAT: &str = concat!(
    "$remote_addr - $remote_user [$time_local] \"$request\" $status $body_bytes_sent \"$http_referer\" ",
    "\"$http_user_agent\" $request_length $request_time [$proxy_upstream_name] [$proxy_alternative_upstream_name] ",
    "$upstream_addr $upstream_response_length $upstream_response_time $upstream_status $req_id",
);

/// `log-format-stream` of ingress-nginx.
pub const DEFAULT_STREAM_LOG_FORMAT: &str =
    "[$remote_addr] [$time_local] $protocol $status $bytes_sent $bytes_received $session_time";

impl TextTest {
    /// Reads text, `~regex` or `~*regex`.
    ///
    /// # Errors
    /// Says what is wrong with an expression.
    pub fn parse(text: &str) -> Result<Self, String> {
        let (case, pattern) = match text.strip_prefix('~') {
            None => return Ok(Self::Text(text.strip_prefix('\\').unwrap_or(text).into())),
            Some(rest) => match rest.strip_prefix('*') {
                Some(rest) => (Case::Insensitive, rest),
                None => (Case::Sensitive, rest),
            },
        };
        let pattern =
            Pattern::compile(pattern, case, Anchor::None).map_err(|error| format!("{text:?}: {error}"))?;
        Ok(Self::Regex(Arc::new(pattern)))
    }

    /// True for a value that equals or matches. A search over its limit counts as a match: these lists refuse or hide.
    pub fn matches(&self, value: &[u8]) -> bool {
        match self {
            Self::Text(text) => text.as_bytes().eq_ignore_ascii_case(value),
            Self::Regex(pattern) => pattern.is_match(value).unwrap_or(true),
        }
    }
}

impl Globals {
    /// True for locations that ask nobody who they are (`no-auth-locations`), judged by the location's own path, whole
    /// segments at a time (C-9). A path that may be an expression is never free: it could match anything.
    pub fn is_free_of_auth(&self, location_path: &str) -> bool {
        let literal =
            |rest: &str| rest.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._~/".contains(&byte));
        let below = |prefix: &str| {
            let rest = location_path.strip_prefix(prefix)?;
            let whole = rest.is_empty() || rest.starts_with('/') || prefix.ends_with('/');
            Some(whole && literal(rest))
        };
        self.no_auth_locations.iter().any(|prefix| below(prefix).unwrap_or(false))
    }

    /// 403 for a request that `block-cidrs`, `block-user-agents` or `block-referers` names. Asked before routing's
    /// redirects, as nginx does at server level.
    pub fn blocks(&self, view: &RequestView<'_>) -> bool {
        let says = |tests: &[TextTest], name: &str| {
            !tests.is_empty() && {
                let value = view.fields.get(name).unwrap_or_default();
                tests.iter().any(|test| test.matches(value))
            }
        };
        contains(&self.block_cidrs, view.forwarded.client)
            || says(&self.block_user_agents, "user-agent")
            || says(&self.block_referers, "referer")
    }
}

#[cfg(test)]
mod tests;
