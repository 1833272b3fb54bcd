//! networking.k8s.io/v1 Ingress as declared.

use super::key::Meta;

/// One Ingress object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ingress {
    /// Name, age, annotations.
    pub meta: Meta,
    /// `spec.ingressClassName`.
    pub class_name: Option<String>,
    /// `spec.defaultBackend`.
    pub default_backend: Option<Backend>,
    /// `spec.rules` in order.
    pub rules: Vec<Rule>,
    /// `spec.tls` in order.
    pub tls: Vec<TlsBlock>,
}

/// One entry of `spec.rules`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    /// `host` as written (the API server only takes lower case); empty when absent.
    pub host: String,
    /// `http.paths`; `None` when the rule has no `http`, which still makes the host known.
    pub paths: Option<Vec<PathRule>>,
}

/// One entry of `http.paths`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PathRule {
    /// `path` as written; empty when absent.
    pub path: String,
    /// `pathType`; `None` when absent.
    pub path_type: Option<PathType>,
    /// Where it leads.
    pub backend: Backend,
}

/// `pathType`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum PathType {
    /// The path is meant to the byte.
    Exact,
    /// Up to the controller.
    ImplementationSpecific,
    /// Element-wise prefix.
    Prefix,
}

impl PathType {
    /// The word that Kubernetes uses.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Exact => "Exact",
            Self::ImplementationSpecific => "ImplementationSpecific",
            Self::Prefix => "Prefix",
        }
    }
}

/// `backend` of a path or `spec.defaultBackend`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Backend {
    /// A Service of the Ingress' own namespace.
    Service(ServiceRef),
    /// Something that is no Service; takes no traffic.
    Resource {
        /// Kind of the resource, for messages.
        kind: String,
        /// Its name.
        name: String,
    },
}

/// `backend.service`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ServiceRef {
    /// Service name.
    pub name: String,
    /// Which port of it.
    pub port: PortRef,
}

/// `backend.service.port`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum PortRef {
    /// `port.name`.
    Name(String),
    /// `port.number`.
    Number(u16),
    /// Neither given; the Service's first port is meant where only a name of a Service can be written
    /// (`default-backend` annotation, `--default-backend-service`).
    Unset,
}

/// One entry of `spec.tls`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsBlock {
    /// `hosts` as written.
    pub hosts: Vec<String>,
    /// `secretName`; empty when absent.
    pub secret_name: String,
}
