//! Which certificate a host presents (`routing.md` 2.6, `security.md` E-2). Facts about certificates come from
//! outside; keys are never seen here.

use super::finding::Finding;
use super::merge::Entry;
use super::object::Contribution;
use super::ownership;
use crate::diagnostic::{Diagnostic, Severity};
use crate::model::{CertCatalog, CertInfo, ObjectKey};
use crate::route::CertificateChoice;
use std::sync::Arc;

/// The choice for one host; `None` when no Ingress that decides has a tls section. `entries` are those of the host,
/// oldest first: the first with any tls section of the namespace that holds the host decides, for good or bad.
///
/// Where that namespace says nothing, the first certificate of another one that is made for the host is better than
/// none. It takes nobody's place: not that of `default`, where that covers the host, and what cannot be used changes
/// nothing.
pub(super) fn choose(
    host: &str,
    entries: &[Arc<Entry>],
    certificates: &CertCatalog,
    default: Option<&CertInfo>,
) -> (Option<CertificateChoice>, Vec<Diagnostic>) {
    let holder = ownership::holder(entries);
    let deciders =
        entries.iter().map(|entry| &entry.contribution).filter(|one| !one.is_canary() && !one.tls.is_empty());
    let (own, foreign): (Vec<&Contribution>, Vec<&Contribution>) =
        deciders.partition(|one| ownership::is_of(holder, one));
    if let Some(decider) = own.first() {
        let mut told: Vec<Diagnostic> = foreign.iter().map(|late| not_yours(host, late, OWN)).collect();
        return match secret_for(host, decider, certificates) {
            Ok(secret) => (Some(CertificateChoice::Secret(secret)), told),
            Err(fault) => {
                told.push(fault.tell(host, decider, AS_DEFAULT));
                (Some(CertificateChoice::Default), told)
            }
        };
    }
    if default.is_some_and(|info| covers(info, host)) {
        // The certificate shown is the same; that somebody asks for one still sends clients to https.
        let choice = (!foreign.is_empty()).then_some(CertificateChoice::Default);
        return (choice, foreign.iter().map(|late| not_yours(host, late, COVERED)).collect());
    }
    let (mut told, mut plain) = (Vec::new(), None);
    for decider in foreign {
        match secret_for(host, decider, certificates) {
            Ok(secret) => return (Some(CertificateChoice::Secret(secret)), told),
            Err(fault) => {
                // The host shows the default certificate anyway; who asked for TLS is not left without.
                plain = Some(CertificateChoice::Default);
                told.push(fault.tell(host, decider, AS_DEFAULT));
            }
        }
    }
    (plain, told)
}

const OWN: &str = "which has a tls section of its own";
const COVERED: &str = "and the default certificate is made for it";
/// What a fault leads to where the Ingress decides.
const AS_DEFAULT: &str =
    "the host has the default certificate, also where ssl-redirect sends its clients to https";

fn not_yours(host: &str, late: &Contribution, why: &str) -> Diagnostic {
    let finding = Finding {
        severity: Severity::Info,
        code: "HostClaimed",
        field: "spec.tls",
        value: host,
        reason: format!("without effect: the host belongs to an older Ingress of another namespace, {why}"),
        hint: "",
    };
    finding.about(late)
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
    fn tell(&self, host: &str, decider: &Contribution, consequence: &str) -> Diagnostic {
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
