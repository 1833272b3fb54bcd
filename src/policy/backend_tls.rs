//! `proxy-ssl-*`: how a TLS backend is spoken to. Unlike ingress-nginx these count without `proxy-ssl-secret` too.

use std::sync::Arc;

use super::annotation::{Fidelity, Reader, Risk, Scope, Spec, is_regex_char};
use super::cipher_list::Suite;
use super::client_certificate::pem;
use super::server_tls;
use crate::diagnostic::Severity;
use crate::model::{ObjectKey, Secret};

const WITHOUT_SECRET: Fidelity =
    Fidelity::Equivalent("counts without proxy-ssl-secret too; ingress-nginx ignores it then");

pub(super) const SECRET: Spec = Spec::new("proxy-ssl-secret", Scope::Location, Risk::Medium)
    .fail_closed()
    .values("none", "default/backend-ca")
    .doc("Secret with a client pair (`tls.crt`, `tls.key`) and/or the CA of the backend (`ca.crt`). Without a usable one the routes answer 503.");
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
        let secret = secret(reader);
        let verify = reader.on_off(&VERIFY).or(default.verify);
        let depth = reader.count(&DEPTH).or(default.depth);
        let name = reader.text(&NAME, "a server name", is_regex_char).ok();
        let server_name = reader.on_off(&SERVER_NAME).or(default.server_name);
        let (tls12, tls13) = reader.read(&PROTOCOLS, protocols).or((default.tls12, default.tls13));
        let ciphers = server_tls::ciphers(reader, &CIPHERS);
        Self { secret, verify, depth, name, server_name, tls12, tls13, ciphers }
    }
}

/// `proxy-ssl-secret`. One that is of no use shuts the routes: backends would be asked without the pair they expect.
fn secret(reader: &mut Reader<'_>) -> Option<ObjectKey> {
    let key = reader.reference(&SECRET).ok()?;
    let used = match reader.secret(&key) {
        None => Err("names a Secret that does not exist or cannot be read"),
        Some(secret) => usable(&secret),
    };
    if let Err(reason) = used {
        reader.deny("BackendTlsUnavailable");
        let hint = "put a pair under tls.crt and tls.key, the authorities of the backend under ca.crt, or both; \
                    until then the routes of this Ingress answer 503";
        reader.report(SECRET.name, Severity::Error, "BackendTlsUnavailable", reason, hint);
    }
    Some(key)
}

/// As ingress-nginx: a whole pair, authorities, or both; half a pair beside authorities is none. Here only the form is
/// judged: what stands in certificates is the business of whoever connects, and that never connects without them.
fn usable(secret: &Secret) -> Result<(), &'static str> {
    let part = |name| secret.data.get(name).map(|bytes| bytes.expose());
    let pair = part("tls.crt").zip(part("tls.key"));
    let authorities = part("ca.crt").filter(|text| !text.is_empty());
    if pair.is_none() && authorities.is_none() {
        return Err("names a Secret with neither a pair (tls.crt and tls.key) nor ca.crt");
    }
    let has_certificate = |text| pem::sections(text, "CERTIFICATE").is_some_and(|found| !found.is_empty());
    if let Some((certificate, key)) = pair {
        if !has_certificate(certificate) {
            return Err("names a Secret with a tls.crt that holds no certificate in PEM");
        }
        if !std::str::from_utf8(key).is_ok_and(|text| text.contains("PRIVATE KEY-----")) {
            return Err("names a Secret with a tls.key that holds no key in PEM");
        }
    }
    match authorities {
        Some(text) if !has_certificate(text) => {
            Err("names a Secret with a ca.crt that holds no certificate in PEM")
        }
        _ => Ok(()),
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
    use crate::model::{Meta, SecretBytes, SharedMap};
    use crate::policy::annotation::Objects;
    use crate::policy::annotation::sample::{PREFIX, denied, ingress, read};

    const PEM: &str = "-----BEGIN CERTIFICATE-----\nMAMCAQE=\n-----END CERTIFICATE-----\n";
    const KEY: &str = "-----BEGIN PRIVATE KEY-----\nMAMCAQE=\n-----END PRIVATE KEY-----\n";

    /// What is read beside a Secret `default/ca` of this content, the code that shuts the routes, and what is told.
    fn read_with(
        annotations: &[(&str, &str)],
        data: &[(&str, &str)],
    ) -> (BackendTls, Option<&'static str>, Vec<String>) {
        let key = ObjectKey::new("default", "ca");
        let data = data.iter().map(|(key, text)| ((*key).to_owned(), SecretBytes::new(text.as_bytes())));
        let secret =
            Secret { meta: Meta::named(key.clone()), secret_type: "Opaque".into(), data: data.collect() };
        let secrets = SharedMap::from([(key, Arc::new(secret))]);
        let ingress = ingress(annotations);
        let objects = Objects { secrets: &secrets, ..Objects::NONE };
        let mut reader = Reader::new(&ingress, PREFIX, true).with_objects(objects);
        let read = BackendTls::read(&mut reader);
        let (told, denied) = reader.finish();
        (read, denied, told.into_iter().map(|found| format!("{}: {}", found.code, found.reason)).collect())
    }

    #[test]
    fn absent_annotations_mean_no_verification_and_no_sni() {
        assert_eq!(read(&[], BackendTls::read), BackendTls::default());
    }

    #[test]
    fn all_settings_are_read() {
        let (tls, denied, _) = read_with(
            &[
                ("proxy-ssl-secret", "default/ca"),
                ("proxy-ssl-verify", "on"),
                ("proxy-ssl-verify-depth", "3"),
                ("proxy-ssl-name", "b.example"),
                ("proxy-ssl-server-name", "on"),
                ("proxy-ssl-protocols", "TLSv1.1 TLSv1.3"),
                ("proxy-ssl-ciphers", "CHACHA20+aRSA"),
            ],
            &[("ca.crt", PEM)],
        );
        assert_eq!(denied, None);
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
    fn a_secret_that_is_missing_or_of_no_use_shuts_the_routes_and_is_told() {
        let pair = [("tls.crt", PEM), ("tls.key", KEY)];
        let with = |more| [pair[0], pair[1], ("ca.crt", more)];
        let check = |name: &str, data: &[(&str, &str)], expect: Option<&str>| {
            let (_, denied, told) =
                read_with(&[("proxy-ssl-secret", name), ("proxy-ssl-verify", "off")], data);
            assert_eq!(denied, expect.map(|_| "BackendTlsUnavailable"), "{name} {data:?}");
            assert_eq!(told.len(), usize::from(expect.is_some()), "{told:?}");
            assert!(expect.is_none_or(|part| told[0].contains(part)), "{told:?}");
        };
        for sound in [&pair[..], &[("ca.crt", PEM)], &with(PEM), &with(""), &[pair[0], ("ca.crt", PEM)]] {
            check("default/ca", sound, None);
            check("ca", sound, None);
            check("default/nope", sound, Some("does not exist"));
        }
        for bad in [&[][..], &[("foo", "x")], &pair[..1], &pair[1..], &[("ca.crt", "")]] {
            check("ca", bad, Some("neither"));
        }
        check("ca", &[("ca.crt", "x")], Some("a ca.crt"));
        check("ca", &with("x"), Some("a ca.crt"));
        check("ca", &[("tls.crt", "x"), pair[1]], Some("a tls.crt"));
        check("ca", &[pair[0], ("tls.key", "x")], Some("a tls.key"));
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
