//! What annotations and the ConfigMap ask for, typed; and the decisions that follow, as pure functions.
//!
//! One annotation family is one file: names and documentation (`SPECS`), the typed policy, its reader, its
//! decision, its tests. `registry` lists them all; documentation is generated from that list.
//! State and I/O live elsewhere (`upstream`, `proxy`).

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::model::ObjectKey;

pub mod annotation;
pub mod registry;

pub mod affinity;
pub mod app_root;
pub mod backend_protocol;
pub mod backend_tls;
pub mod basic_auth;
pub mod body;
pub mod buffering;
pub mod canary;
pub mod cipher_list;
pub mod client_certificate;
pub mod compression;
pub mod connection_header;
pub mod cors;
pub mod custom_errors;
pub mod custom_headers;
pub mod default_backend;
pub mod digest_auth;
pub mod external_auth;
pub mod fastcgi;
pub mod forwarded;
pub mod forwarded_prefix;
pub mod from_to_www;
pub mod global;
pub mod global_rate_limit;
pub mod host_ownership;
pub mod hsts;
pub mod ip_access;
pub mod load_balance;
pub mod log;
pub mod mirror;
pub mod pending;
pub mod redirect;
pub mod request_headers;
pub mod request_limit;
pub mod response_headers;
pub mod response_rate;
pub mod response_rewrite;
pub mod retry;
pub mod rewrite;
pub mod satisfy;
pub mod server_alias;
pub mod server_tls;
pub mod service_upstream;
pub mod session_cookie;
pub mod snippet;
pub mod ssl_passthrough;
pub mod ssl_redirect;
pub mod template;
pub mod timeout;
pub mod tracing;
pub mod upstream_vhost;

/// Location scope: belongs to the Ingress that owns the path; nothing is merged between Ingresses.
#[derive(Debug, Clone, PartialEq)]
pub struct RoutePolicies {
    /// `permanent-redirect`, `temporal-redirect` and their codes.
    pub redirect: Option<redirect::Redirect>,
    /// `relative-redirects` and `use-port-in-redirects`: how our own redirects are written.
    pub redirect_style: redirect::RedirectStyle,
    /// `rewrite-target` (empty and absent are `None`).
    pub rewrite: Option<rewrite::Rewrite>,
    /// `use-regex`.
    pub use_regex: bool,
    /// `ssl-redirect`, `force-ssl-redirect`, `preserve-trailing-slash`.
    pub ssl_redirect: ssl_redirect::SslRedirect,
    /// `allowlist-source-range`, `denylist-source-range`.
    pub ip_access: Option<ip_access::IpAccess>,
    /// `satisfy`: whether address lists and authentication must all agree.
    pub satisfy: satisfy::Satisfy,
    /// `auth-type`, `auth-secret*`, `auth-realm`.
    pub password_auth: Option<basic_auth::PasswordAuth>,
    /// `auth-url` and what goes with it, or the ConfigMap's `global-auth-*`.
    pub external_auth: Option<Arc<external_auth::ExternalAuth>>,
    /// `limit-rps`, `limit-rpm`, `limit-connections` and their details.
    pub limits: Option<request_limit::RequestLimits>,
    /// `global-rate-limit` and its details.
    pub global_rate_limit: Option<global_rate_limit::GlobalRateLimit>,
    /// `limit-rate`, `limit-rate-after`.
    pub response_rate: Option<response_rate::ResponseRate>,
    /// `enable-cors`, `cors-*`.
    pub cors: Option<cors::Cors>,
    /// `custom-headers`.
    pub custom_headers: Option<custom_headers::CustomHeaders>,
    /// `proxy-cookie-domain`, `proxy-cookie-path`, `proxy-redirect-*`.
    pub response_rewrite: Option<response_rewrite::ResponseRewrite>,
    /// `mirror-*`.
    pub mirror: Option<mirror::Mirror>,
    /// `upstream-vhost`.
    pub upstream_vhost: Option<template::Template>,
    /// `x-forwarded-prefix`.
    pub forwarded_prefix: Option<forwarded_prefix::ForwardedPrefix>,
    /// `connection-proxy-header`.
    pub connection_header: Option<connection_header::ConnectionHeader>,
    /// `proxy-connect-timeout`, `proxy-send-timeout`, `proxy-read-timeout`.
    pub timeout: timeout::Timeouts,
    /// `proxy-next-upstream` and its limits.
    pub retry: retry::Retry,
    /// `proxy-body-size`, `client-body-buffer-size`.
    pub body: body::BodyLimits,
    /// `proxy-buffering`, `proxy-request-buffering`, buffer sizes.
    pub buffering: buffering::Buffering,
    /// `custom-http-errors`, `disable-proxy-intercept-errors`.
    pub errors: custom_errors::CustomErrors,
    /// `default-backend`: a Service name of the same namespace.
    pub default_backend: Option<Arc<str>>,
    /// `backend-protocol`.
    pub protocol: backend_protocol::BackendProtocol,
    /// `fastcgi-index`, `fastcgi-params-configmap`; with `backend-protocol` FCGI only.
    pub fastcgi: Option<Arc<fastcgi::Fastcgi>>,
    /// `proxy-ssl-*`.
    pub backend_tls: backend_tls::BackendTls,
    /// `X-Accel-*` of a backend that are not heeded (`proxy_ignore_headers` of snippets).
    pub ignored: snippet::settings::Ignored,
    /// `proxy-http-version`.
    pub http_version: backend_protocol::HttpVersion,
    /// `enable-access-log`.
    pub access_log: bool,
    /// `enable-rewrite-log`.
    pub rewrite_log: bool,
    /// `enable-opentelemetry`, `opentelemetry-*`; `None` where nothing is traced.
    pub tracing: Option<Arc<tracing::Tracing>>,
    /// `configuration-snippet`.
    pub snippet: Option<Arc<snippet::Script>>,
    /// `auth-snippet`: fields of the request to the authentication service (`snippet::heads::to_service`).
    pub auth_snippet: Option<Arc<snippet::Settings>>,
    /// Set when a protective annotation cannot be honoured: the route answers 503 (`LocalReply::Denied`). The code of
    /// the diagnostic that says why.
    pub denied: Option<&'static str>,
}

impl RoutePolicies {
    /// For the path of an ACME challenge within an Ingress that has policies (cert-manager's edit-in-place): the solver is
    /// to be asked by the Host that is validated (RFC 8555 section 8.3), as often as the authority likes, and alone. Guards
    /// and redirects are skipped where they are met (`Location::is_acme`).
    #[must_use]
    pub fn for_challenge(&self) -> Self {
        Self {
            upstream_vhost: None,
            mirror: None,
            limits: None,
            global_rate_limit: None,
            response_rate: None,
            ..self.clone()
        }
    }

    /// What a location without annotations does: the ConfigMap's values.
    pub fn defaults(globals: &global::Globals) -> Self {
        let mut route = Self {
            redirect: None,
            redirect_style: redirect::RedirectStyle {
                relative: globals.relative_redirects,
                with_port: globals.use_port_in_redirects,
            },
            rewrite: None,
            use_regex: false,
            ssl_redirect: ssl_redirect::SslRedirect {
                on: globals.ssl_redirect,
                force: globals.force_ssl_redirect,
                preserve_trailing_slash: globals.preserve_trailing_slash,
            },
            ip_access: ip_access::IpAccess::global(globals),
            satisfy: satisfy::Satisfy::All,
            password_auth: None,
            external_auth: None,
            limits: None,
            global_rate_limit: None,
            response_rate: response_rate::ResponseRate::of(globals.limit_rate, globals.limit_rate_after),
            cors: None,
            custom_headers: None,
            response_rewrite: response_rewrite::ResponseRewrite::global(globals),
            mirror: None,
            upstream_vhost: None,
            forwarded_prefix: None,
            connection_header: None,
            timeout: timeout::Timeouts {
                connect: globals.proxy_connect_timeout,
                send: globals.proxy_send_timeout,
                read: globals.proxy_read_timeout,
            },
            retry: retry::Retry {
                on: globals.proxy_next_upstream,
                tries: globals.proxy_next_upstream_tries,
                timeout: globals.proxy_next_upstream_timeout,
                non_idempotent: globals.retry_non_idempotent,
            },
            body: body::BodyLimits { max: globals.proxy_body_size, memory: globals.client_body_buffer_size },
            buffering: buffering::Buffering::global(globals),
            errors: custom_errors::CustomErrors::global(globals),
            default_backend: None,
            protocol: backend_protocol::BackendProtocol::Http,
            fastcgi: None,
            backend_tls: backend_tls::BackendTls::default(),
            ignored: snippet::settings::Ignored::default(),
            http_version: globals.proxy_http_version,
            access_log: true,
            rewrite_log: false,
            tracing: tracing::Tracing::global(globals),
            snippet: None,
            auth_snippet: None,
            denied: globals.snippets.refused.or(globals.firewall),
        };
        if let Some(snippet) = &globals.snippets.location {
            snippet.settings.replace(&mut route);
        }
        route
    }
}

/// Server scope: the first Ingress of a host with a value wins.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ServerPolicies {
    /// `server-alias`, sorted, without duplicates.
    pub aliases: Vec<server_alias::Alias>,
    /// `app-root`; stands per location, the longest path wins for the host.
    pub app_root: Option<Arc<str>>,
    /// `from-to-www-redirect`.
    pub from_to_www: bool,
    /// `auth-tls-*`.
    pub client_certificates: Option<client_certificate::ClientCertificates>,
    /// `server-snippet`.
    pub snippet: Option<Arc<snippet::Script>>,
    /// `stream-snippet`.
    pub streams: Arc<[snippet::StreamRule]>,
    /// Variables that its snippets set.
    pub names: snippet::Names,
    /// `ssl-ciphers`, `ssl-prefer-server-ciphers`.
    pub tls: server_tls::ServerTls,
    /// `server-snippet` holds directives that protect, honoured or not.
    pub snippet_guards: bool,
    /// Such a `server-snippet` cannot be honoured: the whole host answers 503. The code of the diagnostic.
    pub shut: Option<&'static str>,
    /// `ssl-passthrough`.
    pub ssl_passthrough: bool,
}

/// Upstream scope: shared by every path that uses the same namespace, Service and port.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct BackendPolicies {
    /// `load-balance`; `None` means the ConfigMap's.
    pub load_balance: Option<load_balance::LoadBalance>,
    /// `upstream-hash-by` and subset.
    pub hash_by: Option<load_balance::HashBy>,
    /// `affinity`, `affinity-mode`, `affinity-canary-behavior`.
    pub affinity: Option<affinity::Affinity>,
    /// `session-cookie-*`.
    pub cookie: session_cookie::SessionCookie,
    /// `service-upstream`.
    pub service_upstream: Option<bool>,
}

/// All that the annotations of one Ingress say.
#[derive(Debug, Clone, PartialEq)]
pub struct IngressPolicies {
    /// Location scope.
    pub route: Arc<RoutePolicies>,
    /// Server scope.
    pub server: Arc<ServerPolicies>,
    /// Upstream scope.
    pub backend: Arc<BackendPolicies>,
    /// Present when `canary` is true.
    pub canary: Option<Box<canary::Canary>>,
    /// Secrets and ConfigMaps that annotations refer to, there or not.
    pub references: BTreeSet<ObjectKey>,
}
