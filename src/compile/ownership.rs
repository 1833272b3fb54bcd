//! To whom a host belongs (`security.md` B-13): the namespace of the oldest Ingress that is no canary holds it.
//! Settings of the whole host are the holder's to make. Others may add paths, unless `host-ownership` says otherwise.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::age::Age;
use super::finding::Finding;
use super::merge::{Entry, HostPlan};
use super::object::{CATCH_ALL, Contribution};
use crate::diagnostic::{Diagnostic, Severity};
use crate::policy::from_to_www;
use crate::policy::host_ownership::HostOwnership;
use crate::policy::server_alias::Alias;

/// The code of locations whose Ingress wanted a guard for a host that is not its own.
pub(super) const SHUT: &str = "HostClaimed";

/// The namespace that has had the host longest; `None` where only canaries mention it.
pub(super) fn holder(entries: &[Arc<Entry>]) -> Option<&Arc<str>> {
    let first = entries.iter().find(|entry| !entry.contribution.is_canary());
    first.map(|entry| &entry.contribution.key.namespace)
}

/// True when an Ingress may make settings of a host that this namespace holds.
pub(super) fn is_of(holder: Option<&Arc<str>>, contribution: &Contribution) -> bool {
    holder.is_none_or(|holder| *holder == contribution.key.namespace)
}

/// Names that an Ingress gives a host that its namespace holds, beside the host: aliases and twins. Where a host is
/// one namespace's alone they are held as hosts are.
pub(super) type Claims = BTreeMap<Arc<str>, Claim>;

/// Who has had a further name longest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Claim {
    pub(super) age: Age,
    pub(super) namespace: Arc<str>,
}

/// The claims of Ingresses that name hosts, which come oldest first: an older claim decides who holds the host that
/// a younger one would give further names. Expressions and open ends claim nothing.
pub(super) fn claims<'e>(
    namers: &[Arc<Entry>],
    entries_of: impl Fn(&str) -> Option<&'e [Arc<Entry>]>,
) -> Claims {
    let mut claims = Claims::new();
    for namer in namers {
        let contribution = &namer.contribution;
        let namespace = &contribution.key.namespace;
        for host in contribution.hosts() {
            let entries = entries_of(host).unwrap_or_default();
            if holder_with(entries, claims.get(host)) != Some(namespace) {
                continue;
            }
            let twin = contribution.policies.server.from_to_www.then(|| from_to_www::twin(host)).flatten();
            let aliases = contribution.policies.server.aliases.iter().filter_map(Alias::as_host);
            for name in aliases.chain(twin.map(Arc::from)) {
                let claim = || Claim { age: contribution.age.clone(), namespace: Arc::clone(namespace) };
                claims.entry(name).or_insert_with(claim);
            }
        }
    }
    claims
}

/// As [`holder`], where an older claim of the name may come first.
fn holder_with<'e>(entries: &'e [Arc<Entry>], claim: Option<&'e Claim>) -> Option<&'e Arc<str>> {
    let first = entries.iter().find(|entry| !entry.contribution.is_canary());
    match (first, claim) {
        (Some(first), Some(claim)) if claim.age < first.contribution.age => Some(&claim.namespace),
        (Some(first), _) => Some(&first.contribution.key.namespace),
        (None, claim) => claim.map(|claim| &claim.namespace),
    }
}

/// The entries that may have a word in a host, where not all may; and what the others are told.
pub(super) fn admit(
    host: &str,
    entries: &[Arc<Entry>],
    ownership: &HostOwnership,
    claim: Option<&Claim>,
) -> (Option<Vec<Arc<Entry>>>, Vec<Diagnostic>) {
    if *ownership == HostOwnership::Open || host == CATCH_ALL {
        return (None, Vec::new());
    }
    let may = |entry: &&Arc<Entry>| ownership.may_have(&entry.contribution.key.namespace, host);
    let listed: Vec<Arc<Entry>> = entries.iter().filter(may).cloned().collect();
    let holder = holder_with(&listed, claim).cloned();
    let is_in = |entry: &Arc<Entry>| {
        may(&entry) && (!ownership.is_exclusive() || is_of(holder.as_ref(), &entry.contribution))
    };
    let (admitted, refused): (Vec<_>, Vec<_>) = entries.iter().cloned().partition(is_in);
    let tell = |entry: &Arc<Entry>| {
        let (reason, hint) = match may(&entry) {
            false => {
                ("host-allow-list does not give this host to the namespace", "add it to host-allow-list")
            }
            true => (
                "an older Ingress of another namespace has this host, or gives it to one of its own as a further name",
                "use a host of your own",
            ),
        };
        let finding = Finding {
            severity: Severity::Error,
            code: SHUT,
            field: "spec.rules",
            value: host,
            reason: format!("{reason}, and host-ownership lets nobody else in: its rules take no request"),
            hint,
        };
        finding.about(&entry.contribution)
    };
    let told = refused.iter().map(tell).collect();
    ((!refused.is_empty()).then_some(admitted), told)
}

/// True when an Ingress that does not hold the host wanted to guard all of it: nothing of it may be served as if it
/// were guarded, and nothing of others may be shut.
pub(super) fn wants_guard(contribution: &Contribution) -> bool {
    let server = &contribution.policies.server;
    server.client_certificates.is_some() || server.snippet_guards
}

/// Tells those who do not hold the host which of their settings do not count.
pub(super) fn tell_foreign(
    plan: &HostPlan,
    foreign: &[&Arc<Entry>],
    root: Option<&Arc<Entry>>,
) -> Vec<Diagnostic> {
    let tell = |entry: &&Arc<Entry>| {
        let contribution = &entry.contribution;
        let mut names = settings(contribution);
        if root.is_some_and(|root| Arc::ptr_eq(root, entry)) {
            names.retain(|name| *name != "app-root");
        }
        if names.is_empty() {
            return None;
        }
        let guards = wants_guard(contribution);
        let consequence =
            if guards { "; since they protect, the routes of this Ingress answer 503" } else { "" };
        let finding = Finding {
            severity: if guards { Severity::Error } else { Severity::Warning },
            code: SHUT,
            field: "metadata.annotations",
            value: &plan.host,
            reason: format!(
                "an older Ingress of another namespace has host {}, and only its namespace makes settings of the host: \
                 {} without effect{consequence}",
                plan.host,
                names.join(", ")
            ),
            hint: "let the namespace that has had the host longest make them, or use a host of your own",
        };
        Some(finding.about(contribution))
    };
    foreign.iter().filter_map(tell).collect()
}

/// Settings of the whole host that an Ingress makes; `ssl-passthrough` and certificates are told of elsewhere.
fn settings(contribution: &Contribution) -> Vec<&'static str> {
    let server = &contribution.policies.server;
    let made = [
        ("auth-tls-secret", server.client_certificates.is_some()),
        ("server-snippet", server.snippet.is_some() || server.shut.is_some()),
        ("app-root", server.app_root.is_some()),
        ("from-to-www-redirect", server.from_to_www),
        ("server-alias", !server.aliases.is_empty()),
        ("ssl-ciphers, ssl-prefer-server-ciphers", !server.tls.is_default()),
    ];
    made.into_iter().filter(|(_, made)| *made).map(|(name, _)| name).collect()
}
