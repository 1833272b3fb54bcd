//! `backend-protocol`, `proxy-http-version`: what a backend speaks.

use super::annotation::{Fidelity, Reader, Risk, Scope, Spec};
use crate::request::Scheme;

const PROTOCOL: Spec = Spec::new("backend-protocol", Scope::Location, Risk::Low)
    .values("HTTP", "HTTPS")
    .fidelity(Fidelity::Equivalent(
        "any case counts (ingress-nginx loses the gRPC settings of lower-case values)",
    ))
    .doc("What the backend speaks: HTTP, HTTPS, AUTO_HTTP, GRPC, GRPCS or FCGI. HTTPS is not verified unless proxy-ssl-verify is on.");
const VERSION: Spec = Spec::new("proxy-http-version", Scope::Location, Risk::Low)
    .values("ConfigMap proxy-http-version (1.1)", "1.0")
    .doc("HTTP version towards the backend: 1.0 or 1.1.");

/// Annotations of this family.
pub const SPECS: &[Spec] = &[PROTOCOL, VERSION];

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
    /// FastCGI.
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

impl BackendProtocol {
    /// Reads the annotation.
    pub fn read(reader: &mut Reader<'_>) -> Self {
        let value = reader.read(&PROTOCOL, |text| match text.to_ascii_uppercase().as_str() {
            "HTTP" => Ok(Self::Http),
            "HTTPS" => Ok(Self::Https),
            "AUTO_HTTP" => Ok(Self::AutoHttp),
            "GRPC" => Ok(Self::Grpc),
            "GRPCS" => Ok(Self::Grpcs),
            "FCGI" => Ok(Self::Fcgi),
            _ => Err("must be one of HTTP, HTTPS, AUTO_HTTP, GRPC, GRPCS, FCGI".into()),
        });
        value.or(Self::Http)
    }
}

impl HttpVersion {
    /// Reads the annotation over the ConfigMap's value.
    pub fn read(reader: &mut Reader<'_>, global: Self) -> Self {
        reader.word(&VERSION, &[("1.0", Self::Http10), ("1.1", Self::Http11)]).or(global)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::annotation::sample::read;

    fn check(value: &str, expect: BackendProtocol) {
        assert_eq!(read(&[("backend-protocol", value)], BackendProtocol::read), expect, "{value:?}");
    }

    #[test]
    fn protocols_are_read_in_any_case_and_bad_ones_mean_http() {
        assert_eq!(read(&[], BackendProtocol::read), BackendProtocol::Http);
        check("HTTPS", BackendProtocol::Https);
        check("grpc", BackendProtocol::Grpc);
        check("Auto_Http", BackendProtocol::AutoHttp);
        check("fcgi", BackendProtocol::Fcgi);
        check("HTTP2", BackendProtocol::Http);
        check("HTTPS;", BackendProtocol::Http);
    }

    #[test]
    fn auto_http_follows_the_client() {
        assert!(BackendProtocol::AutoHttp.is_tls(Scheme::Https));
        assert!(!BackendProtocol::AutoHttp.is_tls(Scheme::Http));
        assert!(BackendProtocol::Grpcs.is_tls(Scheme::Http));
    }

    #[test]
    fn the_annotation_beats_the_config_map_and_a_bad_version_does_not() {
        let version = |text: &'static str| {
            read(&[("proxy-http-version", text)], |reader| HttpVersion::read(reader, HttpVersion::Http11))
        };
        assert_eq!(version("1.0"), HttpVersion::Http10);
        assert_eq!(version("2"), HttpVersion::Http11);
    }
}
