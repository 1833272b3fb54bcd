//! `ssl-ciphers`, `ssl-prefer-server-ciphers`: TLS 1.2 ciphers of a host. The first Ingress of the host with a value
//! wins, each for itself, as in ingress-nginx. TLS 1.3 has suites of its own, which no list touches.

use std::sync::Arc;

use super::annotation::{Fidelity, Reader, Risk, Scope, Spec};
use super::cipher_list::{self, Suite};
use crate::diagnostic::Severity;

const CIPHERS: Spec = Spec::new("ssl-ciphers", Scope::Server, Risk::Low)
    .fidelity(Fidelity::Equivalent(
        "read as OpenSSL does; of TLS 1.2 the six suites of ECDHE with AES-GCM or CHACHA20 are spoken, a list that leaves none of them counts as absent",
    ))
    .values("ConfigMap ssl-ciphers", "ECDHE-RSA-AES256-GCM-SHA384:ECDHE-RSA-AES128-GCM-SHA256")
    .doc("TLS 1.2 ciphers of the host, as a list of OpenSSL.");
const PREFER: Spec = Spec::new("ssl-prefer-server-ciphers", Scope::Server, Risk::Low)
    .values("true", "false")
    .doc("Whether the order of our ciphers counts rather than the client's.");

/// Annotations of this family.
pub const SPECS: &[Spec] = &[CIPHERS, PREFER];

/// What a host says about its handshakes.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct ServerTls {
    /// `ssl-ciphers`, in order of preference.
    pub ciphers: Option<Arc<[Suite]>>,
    /// `ssl-prefer-server-ciphers`.
    pub prefer: Option<bool>,
}

impl ServerTls {
    /// Reads the family.
    pub fn read(reader: &mut Reader<'_>) -> Self {
        Self { ciphers: ciphers(reader, &CIPHERS), prefer: reader.bool(&PREFER).ok() }
    }

    /// True when the host says nothing.
    pub fn is_default(&self) -> bool {
        *self == Self::default()
    }

    /// Fills in what this one leaves open.
    #[must_use]
    pub fn or(self, other: &Self) -> Self {
        Self { ciphers: self.ciphers.or_else(|| other.ciphers.clone()), prefer: self.prefer.or(other.prefer) }
    }
}

/// The suites of a list, which tells of names that are not spoken here.
pub(super) fn ciphers(reader: &mut Reader<'_>, spec: &Spec) -> Option<Arc<[Suite]>> {
    let list = reader.read(spec, cipher_list::parse).ok()?;
    if !list.unspoken.is_empty() {
        let reason = format!("names ciphers that are not spoken here: {}", list.unspoken.join(", "));
        reader.report(spec.name, Severity::Info, "CiphersNotSpoken", reason, "");
    }
    Some(list.suites)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::annotation::sample::{diagnostics, read};

    #[test]
    fn lists_and_preference_are_read_each_for_itself() {
        assert!(read(&[], ServerTls::read).is_default());
        let own =
            read(&[("ssl-ciphers", "AES256+aRSA"), ("ssl-prefer-server-ciphers", "false")], ServerTls::read);
        assert_eq!((own.ciphers.as_deref(), own.prefer), (Some(&[Suite::RsaAes256][..]), Some(false)));
        let other = read(&[("ssl-ciphers", "ALL"), ("ssl-prefer-server-ciphers", "true")], ServerTls::read);
        assert_eq!(own.clone().or(&other), own);
        assert_eq!(ServerTls { prefer: None, ..own }.or(&other).prefer, Some(true));
    }

    #[test]
    fn what_cannot_be_spoken_is_told_and_what_leaves_nothing_counts_as_absent() {
        let codes = |list| diagnostics(&[("ssl-ciphers", list)], |r| drop(ServerTls::read(r)));
        assert!(codes("HIGH").is_empty());
        assert_eq!(codes("ECDHE-RSA-AES128-GCM-SHA256:AES128-SHA"), ["CiphersNotSpoken"]);
        assert_eq!(codes("AES128-SHA"), ["InvalidAnnotation"]);
        assert_eq!(codes("HIGH;"), ["InvalidAnnotation"]);
        assert!(read(&[("ssl-ciphers", "AES128-SHA")], ServerTls::read).is_default());
        let prefer = diagnostics(&[("ssl-prefer-server-ciphers", "on")], |r| drop(ServerTls::read(r)));
        assert_eq!(prefer, ["InvalidAnnotation"]);
    }
}
