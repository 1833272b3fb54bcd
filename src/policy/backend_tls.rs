//! `proxy-ssl-*`: how a TLS backend is spoken to. Unlike ingress-nginx these count without `proxy-ssl-secret` too.

use std::sync::Arc;

use crate::model::ObjectKey;

/// TLS towards the backend.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct BackendTls {
    /// `proxy-ssl-secret`: client pair (`tls.crt`, `tls.key`) and/or trusted CA (`ca.crt`).
    pub secret: Option<ObjectKey>,
    /// `proxy-ssl-verify`.
    pub verify: bool,
    /// `proxy-ssl-verify-depth`.
    pub depth: u32,
    /// `proxy-ssl-name`: name to verify and to send as SNI.
    pub name: Option<Arc<str>>,
    /// `proxy-ssl-server-name`: send SNI.
    pub server_name: bool,
    /// TLS 1.2 is among `proxy-ssl-protocols`.
    pub tls12: bool,
    /// TLS 1.3 is among `proxy-ssl-protocols`.
    pub tls13: bool,
}

impl Default for BackendTls {
    fn default() -> Self {
        Self { secret: None, verify: false, depth: 1, name: None, server_name: false, tls12: true, tls13: true }
    }
}
