//! Which certificate a host presents (`routing.md` 2.6, `security.md` E-2). Facts about certificates come from
//! outside; keys are never seen here.

use super::finding::Finding;
use super::merge::Entry;
use super::object::Contribution;
use crate::diagnostic::{Diagnostic, Severity};
use crate::model::{CertCatalog, CertInfo, ObjectKey};
use crate::route::CertificateChoice;
use std::sync::Arc;

/// The choice for one host; `None` when no Ingress of it has a tls section. `entries` are those of the host, oldest
/// first: the first with any tls section decides, for good or bad.
pub(super) fn choose(
    host: &str,
    entries: &[Arc<Entry>],
    certificates: &CertCatalog,
) -> Option<(CertificateChoice, Option<Diagnostic>)> {
    let mut deciders =
        entries.iter().map(|entry| &entry.contribution).filter(|one| !one.is_canary() && !one.tls.is_empty());
    let decider = deciders.next()?;
    Some(match secret_for(host, decider, certificates) {
        Ok(secret) => (CertificateChoice::Secret(secret), None),
        Err(fault) => (CertificateChoice::Default, Some(fault.tell(host, decider))),
    })
}

/// True when the certificate is made for the name (RFC 6125 section 6.4.3: `*` stands for the whole first label).
pub(super) fn covers(info: &CertInfo, name: &str) -> bool {
    let wildcard = name.split_once('.').map(|(_, rest)| rest);
    info.names.iter().any(|known| {
        known.eq_ignore_ascii_case(name)
            || known
                .strip_prefix("*.")
                .is_some_and(|rest| wildcard.is_some_and(|tail| rest.eq_ignore_ascii_case(tail)))
    })
}

enum Fault {
    /// No tls entry lists the host and no certificate of the others covers it.
    NotListed,
    /// The entry lists the host but names no Secret.
    NoSecret(usize),
    Unusable(usize, String),
    NotCovering(usize, Vec<String>),
}

fn secret_for(host: &str, decider: &Contribution, certificates: &CertCatalog) -> Result<ObjectKey, Fault> {
    let lists = |hosts: &[String]| hosts.iter().any(|listed| listed.eq_ignore_ascii_case(host));
    let key = |secret: &str| ObjectKey::new(Arc::clone(&decider.key.namespace), secret);
    let Some(number) = decider.tls.iter().position(|block| lists(&block.hosts)) else {
        let covering = decider
            .tls
            .iter()
            .filter(|block| !block.secret_name.is_empty())
            .map(|block| key(&block.secret_name));
        let mut covering = covering
            .filter(|secret| matches!(certificates.get(secret), Some(Ok(info)) if covers(info, host)));
        return covering.next().ok_or(Fault::NotListed);
    };
    let name = decider.tls.get(number).map(|block| block.secret_name.as_str()).unwrap_or_default();
    if name.is_empty() {
        return Err(Fault::NoSecret(number));
    }
    let secret = key(name);
    match certificates.get(&secret) {
        None => Err(Fault::Unusable(number, format!("Secret {secret} does not exist or cannot be read"))),
        Some(Err(reason)) => Err(Fault::Unusable(number, format!("Secret {secret} is not usable: {reason}"))),
        Some(Ok(info)) if covers(info, host) => Ok(secret),
        Some(Ok(info)) => Err(Fault::NotCovering(number, info.names.clone())),
    }
}

impl Fault {
    fn tell(&self, host: &str, decider: &Contribution) -> Diagnostic {
        let consequence =
            "the host has the default certificate, also where ssl-redirect sends its clients to https";
        let (severity, code, field, reason) = match self {
            Self::NotListed => (
                Severity::Warning,
                "CertificateNotCoveringHost",
                "spec.tls".to_owned(),
                format!(
                    "no tls entry lists host {host} and none of their certificates covers it; {consequence}"
                ),
            ),
            // An entry without Secret asks for the default certificate.
            Self::NoSecret(number) => (
                Severity::Info,
                "DefaultCertificate",
                format!("spec.tls[{number}].secretName"),
                format!("the entry of host {host} names no Secret; {consequence}"),
            ),
            Self::Unusable(number, why) => (
                Severity::Error,
                "SecretNotFound",
                format!("spec.tls[{number}].secretName"),
                format!("{why}; {consequence}"),
            ),
            Self::NotCovering(number, names) => (
                Severity::Error,
                "CertificateNotCoveringHost",
                format!("spec.tls[{number}].secretName"),
                format!("the certificate is for {}, not for host {host}; {consequence}", names.join(", ")),
            ),
        };
        let number = match self {
            Self::NotListed => None,
            Self::NoSecret(number) | Self::Unusable(number, _) | Self::NotCovering(number, _) => {
                Some(*number)
            }
        };
        let block = number.and_then(|number| decider.tls.get(number));
        let value = block.map(|block| block.secret_name.as_str()).unwrap_or_default();
        Finding { severity, code, field: &field, value, reason, hint: "" }.about(decider)
    }
}
