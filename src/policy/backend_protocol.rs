//! `backend-protocol`, `proxy-http-version`: what a backend speaks.

use crate::request::Scheme;

/// What is spoken to the backend.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum BackendProtocol {
    /// Clear-text HTTP/1.
    #[default]
    Http,
    /// HTTP/1 over TLS.
    Https,
    /// As the client came.
    AutoHttp,
    /// HTTP/2 with prior knowledge, gRPC rules.
    Grpc,
    /// HTTP/2 over TLS, gRPC rules.
    Grpcs,
    /// FastCGI: known, not spoken.
    Fcgi,
}

impl BackendProtocol {
    /// True when the connection to the backend is TLS, for a client that came by `scheme`.
    pub const fn is_tls(self, scheme: Scheme) -> bool {
        match self {
            Self::Https | Self::Grpcs => true,
            Self::AutoHttp => matches!(scheme, Scheme::Https),
            Self::Http | Self::Grpc | Self::Fcgi => false,
        }
    }

    /// True for gRPC, in clear or not.
    pub const fn is_grpc(self) -> bool {
        matches!(self, Self::Grpc | Self::Grpcs)
    }
}

/// HTTP version towards an HTTP/1 backend.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum HttpVersion {
    /// HTTP/1.0: no keep-alive, no chunked requests.
    Http10,
    /// HTTP/1.1.
    #[default]
    Http11,
}
