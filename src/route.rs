//! The routing table: what the data plane reads. Immutable; replaced whole.
//!
//! Words are nginx's where the behaviour is: a *server* is one virtual host, a *location* one routing entry of it.
//! Nothing here is decided by the data plane itself: [`decide::decide`] takes a request and answers with a backend or
//! a local reply, and `explain` is the same function with a recorder.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::model::ObjectKey;
use crate::pattern::Pattern;
use crate::policy::client_certificate::ClientCertificates;
use crate::policy::global::Globals;
use crate::policy::server_tls::ServerTls;
use crate::policy::snippet::Script;
use crate::policy::{BackendPolicies, RoutePolicies, canary::Canary};

pub mod decide;
pub mod dump;
pub mod endpoint;
pub mod explain;
pub mod fingerprint;
pub mod host;
pub mod intake;
pub mod path;
pub mod precedence;
pub mod reach;
pub mod stream;

pub use decide::{Chosen, Decision, access, choose, decide};
pub use endpoint::{EndpointAddress, EndpointMap, EndpointSet};

/// Identity of a backend that outlives snapshots: pools, balancers and counters are keyed by it. Never a joined
/// text (CVE-2020-8553).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BackendKey {
    /// Namespace of the Service.
    pub namespace: Arc<str>,
    /// Service name.
    pub service: Arc<str>,
    /// Port number or name as the Ingress wrote it; empty for "the first port".
    pub port: Arc<str>,
}

/// Index of a backend's endpoints in the [`EndpointMap`] that was published with this table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BackendSlot(pub u32);

/// One pool of endpoints with its policies.
#[derive(Debug, Clone, PartialEq)]
pub struct Backend {
    /// Identity.
    pub key: BackendKey,
    /// `<namespace>-<service>-<port>`, as logs, metrics and the sticky cookie's hash know it;
    /// `upstream-default-backend` for the global default backend.
    pub name: Arc<str>,
    /// Where its endpoints stand.
    pub slot: BackendSlot,
    /// Balancing, affinity, cookie settings.
    pub policies: BackendPolicies,
    /// The canary that hangs on this backend, if any: the first (oldest) one only.
    pub canary: Option<Arc<CanaryBackend>>,
}

/// A canary: its own backend and when to take it.
#[derive(Debug, Clone, PartialEq)]
pub struct CanaryBackend {
    /// Ingress that declares it.
    pub owner: ObjectKey,
    /// Where the traffic goes; its own `canary` is `None`.
    pub backend: Arc<Backend>,
    /// The rule.
    pub policy: Canary,
}

/// How a location compares with a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum LocationKind {
    /// `= /x`: the whole path.
    Exact,
    /// `/x/`: the start of the path, ends in a slash.
    Prefix,
    /// `~* ^…`: an expression, first match in order (regex mode of the host).
    Regex,
}

/// One routing entry of a server.
#[derive(Debug)]
pub struct Location {
    /// How it compares.
    pub kind: LocationKind,
    /// nginx's text of the location's path: `/foo/`, or the pattern's text without `^`.
    pub path: Arc<str>,
    /// Path as the Ingress wrote it (metrics label `path`, sticky cookie path); `/` for an implicit root.
    pub rule_path: Arc<str>,
    /// Ingress that owns it; `None` for built-ins.
    pub owner: Option<ObjectKey>,
    /// Field of the owner, such as `spec.rules[0].http.paths[1]`; empty for implicit roots and built-ins.
    pub field: Arc<str>,
    /// True for the root that a server has without any rule for `/`.
    pub implicit: bool,
    /// When it is asked: all are in one tier but with the Kubernetes meaning of paths.
    pub tier: precedence::Tier,
    /// What a location of kind `Regex` compares with; `None` takes nothing (a text that does not compile).
    pub pattern: Option<Arc<Pattern>>,
    /// Where requests go.
    pub target: LocationTarget,
    /// Location-scope policies.
    pub policies: Arc<RoutePolicies>,
    /// `default-backend` annotation: serves when `target` has no endpoints, and error pages.
    pub default_backend: Option<Arc<Backend>>,
    /// Set when requests of this location must match this pattern for the rewrite (`rewrite-target`).
    pub rewrite_pattern: Option<Arc<Pattern>>,
    /// `session-cookie` may be set on this location (its Ingress asks for affinity).
    pub sets_cookie: bool,
}

/// What a location leads to.
#[derive(Debug, Clone)]
pub enum LocationTarget {
    /// A Service.
    Backend(Arc<Backend>),
    /// The global default backend, or the built-in 404 where none is configured.
    Default(Option<Arc<Backend>>),
    /// `/healthz` of the catch-all server.
    Healthz,
    /// `/nginx_status` of the catch-all server.
    StubStatus,
}

/// One virtual host.
#[derive(Debug)]
pub struct Server {
    /// Host as declared; `_` for the catch-all, `*.x` for a wildcard.
    pub name: Arc<str>,
    /// Set for a from-to-www twin: every request is redirected to this host.
    pub redirect_to: Option<Arc<str>>,
    /// `app-root` of the host.
    pub app_root: Option<Arc<str>>,
    /// What the host wants of client certificates.
    pub client_certificates: Option<ClientCertificates>,
    /// `server-snippet` of the host.
    pub snippet: Option<Arc<Script>>,
    /// True when the host is in regex mode: the first location that matches wins.
    pub regex_mode: bool,
    /// True when a path that lacks only the trailing slash of a location is redirected (`routing.md` 4.3).
    pub slash_redirects: bool,
    /// Locations in nginx's order.
    pub locations: Vec<Arc<Location>>,
    /// Lookup over `locations`.
    pub index: path::PathIndex,
    /// `ssl-passthrough`: TLS connections with this name go to the backend unopened.
    pub passthrough: Option<Passthrough>,
    /// `ssl-ciphers`, `ssl-prefer-server-ciphers` of the host.
    pub handshakes: ServerTls,
    /// Stands for all of the above, once it is asked for.
    pub fingerprint: fingerprint::Fingerprint,
}

/// Where the TLS connections of a host go unopened.
#[derive(Debug, Clone)]
pub struct Passthrough {
    /// Backend of the path `/`.
    pub backend: Arc<Backend>,
    /// Policies of that path: address lists and refusals count, the rest lies inside the connection.
    pub policies: Arc<RoutePolicies>,
}

/// The whole table.
#[derive(Debug)]
pub struct Table {
    /// Host lookup.
    pub hosts: host::HostIndex,
    /// Catch-all server `_`.
    pub catch_all: Arc<Server>,
    /// Certificate choice by host: exact names and `*.x`; hosts listed here redirect to https by `ssl-redirect`.
    pub tls: Arc<BTreeMap<Arc<str>, CertificateChoice>>,
    /// Every backend but canaries' copies, sorted by key (not by slot: slots have gaps).
    pub backends: Arc<[Arc<Backend>]>,
    /// The ConfigMap, typed.
    pub globals: Arc<Globals>,
    /// The global default backend: what `--default-backend-service` names; error pages come from it.
    pub default_backend: Option<Arc<Backend>>,
    /// `--https-port` as written into redirects.
    pub https_port: u16,
    /// Some host wants client certificates.
    pub client_certificates: bool,
    /// Ports of TCP and UDP services.
    pub streams: Arc<stream::StreamTable>,
    /// Some host has `ssl-ciphers` or `ssl-prefer-server-ciphers` of its own.
    pub own_handshakes: bool,
    /// True when some host hands TLS through: connections are looked into before they are opened.
    pub passthrough: bool,
}

/// Which certificate a host presents.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CertificateChoice {
    /// The default certificate, pinned by a tls section that names no usable Secret.
    Default,
    /// The pair of this Secret.
    Secret(ObjectKey),
}

// === impl Table ===

impl Table {
    /// The server of a host name (lower case, without port and trailing dot).
    pub fn server(&self, host: &str) -> &Arc<Server> {
        self.hosts.find(host).unwrap_or(&self.catch_all)
    }

    /// The certificate entry of a host name: its own, else that of `*` and the rest (`routing.md` 5.4, E-2).
    pub fn certificate(&self, host: &str) -> Option<&CertificateChoice> {
        let wildcard = || {
            let (_, rest) = host.split_once('.')?;
            self.tls.get(&*format!("*.{rest}"))
        };
        self.tls.get(host).or_else(wildcard)
    }
}

// === impl Location ===

impl Location {
    /// The location as nginx writes it: `= /x`, `/x/`, `~* ^/x`.
    pub fn text(&self) -> String {
        match self.kind {
            LocationKind::Exact => format!("= {}", self.path),
            LocationKind::Prefix => self.path.to_string(),
            LocationKind::Regex => format!("~* ^{}", self.path),
        }
    }

    /// The backend of its target, if that is one.
    pub fn backend(&self) -> Option<&Arc<Backend>> {
        match &self.target {
            LocationTarget::Backend(backend) | LocationTarget::Default(Some(backend)) => Some(backend),
            LocationTarget::Default(None) | LocationTarget::Healthz | LocationTarget::StubStatus => None,
        }
    }

    /// True for a path of an ACME solver: exempt from redirects and access checks, judged by the location's own path
    /// and never by the request's (`security.md` B-14).
    pub fn is_acme(&self) -> bool {
        self.owner.is_some() && is_acme_path(&self.rule_path)
    }
}

/// True for the path of one ACME challenge (RFC 8555 section 8.3): the well-known place and a token, which is base64url.
/// Anything else below that place may be an expression that matches far more.
pub fn is_acme_path(path: &str) -> bool {
    let in_token = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    path.strip_prefix("/.well-known/acme-challenge/")
        .is_some_and(|token| !token.is_empty() && token.bytes().all(in_token))
}

#[cfg(test)]
mod tests {
    use super::is_acme_path;

    #[test]
    fn only_a_token_makes_the_path_of_a_challenge() {
        for (path, is) in [
            ("/.well-known/acme-challenge/aZ09-_", true),
            ("/.well-known/acme-challenge/", false),
            ("/.well-known/acme-challenge", false),
            ("/.well-known/acme-challenge/x|/", false),
            ("/.well-known/acme-challenge/.*", false),
            ("/.well-known/acme-challenge/a/b", false),
            ("/x/.well-known/acme-challenge/a", false),
        ] {
            assert_eq!(is_acme_path(path), is, "{path}");
        }
    }
}
