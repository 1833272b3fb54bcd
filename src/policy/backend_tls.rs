//! `proxy-ssl-*`: how a TLS backend is spoken to. Unlike ingress-nginx these count without `proxy-ssl-secret` too.

use std::sync::Arc;

use super::annotation::{Fidelity, Reader, Risk, Scope, Spec, is_regex_char};
use super::cipher_list::Suite;
use super::server_tls;
use crate::model::ObjectKey;

const WITHOUT_SECRET: Fidelity =
    Fidelity::Equivalent("counts without proxy-ssl-secret too; ingress-nginx ignores it then");

pub(super) const SECRET: Spec = Spec::new("proxy-ssl-secret", Scope::Location, Risk::Medium)
    .fail_closed()
    .values("none", "default/backend-ca")
    .doc("Secret with a client pair (`tls.crt`, `tls.key`) and/or the CA of the backend (`ca.crt`).");
const VERIFY: Spec = Spec::new("proxy-ssl-verify", Scope::Location, Risk::Low)
    .fail_closed()
    .fidelity(WITHOUT_SECRET)
    .values("off", "on")
    .doc("Verify the certificate of the backend against `ca.crt` of proxy-ssl-secret.");
const DEPTH: Spec = Spec::new("proxy-ssl-verify-depth", Scope::Location, Risk::Low)
    .fidelity(WITHOUT_SECRET)
    .values("1", "2")
    .doc("How many authorities may stand between the backend's certificate and those of `ca.crt`.");
const NAME: Spec = Spec::new("proxy-ssl-name", Scope::Location, Risk::High)
    .fail_closed()
    .fidelity(WITHOUT_SECRET)
    .values("the name of the upstream", "backend.example")
    .doc("Name that the certificate of the backend must carry and that is sent as SNI.");
const SERVER_NAME: Spec = Spec::new("proxy-ssl-server-name", Scope::Location, Risk::Low)
    .fidelity(WITHOUT_SECRET)
    .values("off", "on")
    .doc("Send the server name (SNI) to the backend.");
const PROTOCOLS: Spec = Spec::new("proxy-ssl-protocols", Scope::Location, Risk::Low)
    .fidelity(Fidelity::Equivalent("versions before TLS 1.2 are not spoken; the default offers TLS 1.3 too"))
    .values("TLSv1.2 TLSv1.3", "TLSv1.2 TLSv1.3")
    .doc("TLS versions towards the backend.");
const CIPHERS: Spec = Spec::new("proxy-ssl-ciphers", Scope::Location, Risk::Medium)
    .fidelity(Fidelity::Equivalent(
        "read as OpenSSL does; of TLS 1.2 the six suites of ECDHE with AES-GCM or CHACHA20 are spoken, a list that leaves none of them counts as absent",
    ))
    .values("DEFAULT", "HIGH:!aNULL:!MD5")
    .doc("TLS 1.2 ciphers towards the backend, as a list of OpenSSL.");

/// Annotations of this family.
pub const SPECS: &[Spec] = &[SECRET, VERIFY, DEPTH, NAME, SERVER_NAME, PROTOCOLS, CIPHERS];

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
    /// `proxy-ssl-ciphers`, in order of preference; `None` for all that are spoken.
    pub ciphers: Option<Arc<[Suite]>>,
}

impl Default for BackendTls {
    fn default() -> Self {
        Self {
            secret: None,
            verify: false,
            depth: 1,
            name: None,
            server_name: false,
            tls12: true,
            tls13: true,
            ciphers: None,
        }
    }
}

impl BackendTls {
    /// Reads the family.
    pub fn read(reader: &mut Reader<'_>) -> Self {
        let default = Self::default();
        let secret = reader.reference(&SECRET).ok();
        let verify = reader.on_off(&VERIFY).or(default.verify);
        let depth = reader.count(&DEPTH).or(default.depth);
        let name = reader.text(&NAME, "a server name", is_regex_char).ok();
        let server_name = reader.on_off(&SERVER_NAME).or(default.server_name);
        let (tls12, tls13) = reader.read(&PROTOCOLS, protocols).or((default.tls12, default.tls13));
        let ciphers = server_tls::ciphers(reader, &CIPHERS);
        Self { secret, verify, depth, name, server_name, tls12, tls13, ciphers }
    }
}

/// TLS 1.2 and 1.3 out of a list of versions.
pub(super) fn protocols(text: &str) -> Result<(bool, bool), String> {
    let mut known = (false, false);
    for word in text.split_ascii_whitespace() {
        match word {
            "TLSv1.2" => known.0 = true,
            "TLSv1.3" => known.1 = true,
            "SSLv2" | "SSLv3" | "TLSv1" | "TLSv1.1" => {}
            other => return Err(format!("{other:?} is no TLS version")),
        }
    }
    if known == (false, false) { Err("leaves neither TLSv1.2 nor TLSv1.3".into()) } else { Ok(known) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::annotation::sample::{denied, read};

    #[test]
    fn absent_annotations_mean_no_verification_and_no_sni() {
        assert_eq!(read(&[], BackendTls::read), BackendTls::default());
    }

    #[test]
    fn all_settings_are_read() {
        let tls = read(
            &[
                ("proxy-ssl-secret", "default/ca"),
                ("proxy-ssl-verify", "on"),
                ("proxy-ssl-verify-depth", "3"),
                ("proxy-ssl-name", "b.example"),
                ("proxy-ssl-server-name", "on"),
                ("proxy-ssl-protocols", "TLSv1.1 TLSv1.3"),
                ("proxy-ssl-ciphers", "CHACHA20+aRSA"),
            ],
            BackendTls::read,
        );
        let expect = BackendTls {
            secret: Some(ObjectKey::new("default", "ca")),
            verify: true,
            depth: 3,
            name: Some(Arc::from("b.example")),
            server_name: true,
            tls12: false,
            tls13: true,
            ciphers: Some(Arc::from([Suite::RsaChacha20])),
        };
        assert_eq!(tls, expect);
    }

    #[test]
    fn broken_protection_shuts_the_routes() {
        for (name, value) in [
            ("proxy-ssl-verify", "yes"),
            ("proxy-ssl-secret", "other/ca"),
            ("proxy-ssl-secret", "a/b/c"),
            ("proxy-ssl-name", "a b"),
        ] {
            assert!(denied(&[(name, value)], BackendTls::read).is_some(), "{name}: {value}");
        }
        assert_eq!(denied(&[("proxy-ssl-protocols", "TLSv1")], BackendTls::read), None);
    }
}
