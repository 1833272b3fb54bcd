//! Names beside the hosts of Ingresses: aliases and from-to-www twins (`routing.md` 2.7, 5.6). Made anew for every
//! table, from the few hosts that have some.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::finding::{Finding, name_for};
use super::merge::Entry;
use super::object::Contribution;
use super::ownership::{self, Claims};
use crate::diagnostic::{Diagnostic, Severity};
use crate::model::{CertInfo, ObjectKey};
use crate::policy::from_to_www;
use crate::policy::host_ownership::HostOwnership;
use crate::policy::server_alias::Alias;
use crate::route::fingerprint::Fingerprint;
use crate::route::host::AliasNames;
use crate::route::path::PathIndex;
use crate::route::{CertificateChoice, Server};

/// What a host with further names brings.
pub(super) struct Named<'n> {
    pub(super) server: &'n Arc<Server>,
    /// Entries of the host, oldest first.
    pub(super) entries: &'n [Arc<Entry>],
    pub(super) from_to_www: bool,
    pub(super) certificate: Option<(&'n CertificateChoice, Option<&'n CertInfo>)>,
}

/// Further names of all hosts.
#[derive(Debug, Default)]
pub(super) struct Overlay {
    /// Whole names: aliases and twins.
    pub(super) exact: BTreeMap<Arc<str>, Arc<Server>>,
    /// The others.
    pub(super) patterns: AliasNames,
    /// Certificates of further names that the certificate of their host covers.
    pub(super) tls: BTreeMap<Arc<str>, CertificateChoice>,
    pub(super) diagnostics: Vec<Diagnostic>,
}

/// Collects the further names. `named` comes in order of host names; `is_host` knows the hosts of Ingresses, which no
/// further name takes.
pub(super) fn overlay<'n>(
    named: &[Named<'n>],
    ownership: &HostOwnership,
    held: &Claims,
    is_host: impl Fn(&str) -> bool,
) -> Overlay {
    let mut overlay = Overlay::default();
    // Redirecting servers stand before all others in nginx's configuration, so twins go before aliases.
    for host in named.iter().filter(|host| host.from_to_www) {
        overlay.twin(host, ownership, held, &is_host);
    }
    let claims = claims(named);
    for host in named {
        overlay.aliases(host, &claims, ownership, &is_host);
    }
    overlay
}

/// The entry whose aliases a host has: the first that lists any, of the namespace that holds the host.
pub(super) fn alias_owner(entries: &[Arc<Entry>]) -> Option<&Arc<Entry>> {
    let holder = ownership::holder(entries);
    entries
        .iter()
        .find(|entry| has_aliases(&entry.contribution) && ownership::is_of(holder, &entry.contribution))
}

/// Who has listed an alias longest: its namespace has the name before all others, whatever their hosts are called.
fn claims(named: &[Named<'_>]) -> BTreeMap<String, ObjectKey> {
    let mut oldest: BTreeMap<String, &Contribution> = BTreeMap::new();
    for owner in named.iter().filter_map(|host| alias_owner(host.entries)) {
        for alias in &owner.contribution.policies.server.aliases {
            let place = oldest.entry(alias.text()).or_insert(&owner.contribution);
            if owner.contribution.age < place.age {
                *place = &owner.contribution;
            }
        }
    }
    oldest.into_iter().map(|(text, claimer)| (text, claimer.key.clone())).collect()
}

fn has_aliases(contribution: &Contribution) -> bool {
    !contribution.is_canary() && !contribution.policies.server.aliases.is_empty()
}

/// What an expression or an open end matches no list can foresee: only who may have every host may have that.
fn may_alias(ownership: &HostOwnership, namespace: &str, alias: &Alias, text: &str) -> bool {
    match alias {
        Alias::Exact(_) | Alias::Suffix(_) => ownership.may_have(namespace, text),
        Alias::Prefix(_) | Alias::Regex(_) => ownership.may_have(namespace, ""),
    }
}

/// True when another namespace holds a further name.
fn is_of_others(held: &Claims, name: &str, contribution: &Contribution) -> bool {
    held.get(name).is_some_and(|claim| claim.namespace != contribution.key.namespace)
}

// === impl Overlay ===

impl Overlay {
    fn twin(
        &mut self,
        host: &Named<'_>,
        ownership: &HostOwnership,
        held: &Claims,
        is_host: &impl Fn(&str) -> bool,
    ) {
        let name = &host.server.name;
        let holder = ownership::holder(host.entries);
        let owner = host.entries.iter().find(|entry| {
            entry.contribution.policies.server.from_to_www && ownership::is_of(holder, &entry.contribution)
        });
        let Some(twin) = from_to_www::twin(name) else {
            let reason =
                format!("host {name} has no single name to redirect to; the annotation has no effect on it");
            self.tell(owner.map(|entry| &entry.contribution), "FromToWwwIgnored", reason);
            return;
        };
        if is_host(&twin) || self.exact.contains_key(&*twin) {
            return;
        }
        if owner.is_some_and(|entry| !ownership.may_have(&entry.contribution.key.namespace, &twin)) {
            let reason =
                format!("host-allow-list does not give {twin} to the namespace, so {name} has no twin");
            self.tell(owner.map(|entry| &entry.contribution), ownership::SHUT, reason);
            return;
        }
        if owner.is_some_and(|entry| is_of_others(held, &twin, &entry.contribution)) {
            let reason = format!("an older Ingress of another namespace has {twin}, so {name} has no twin");
            self.tell(owner.map(|entry| &entry.contribution), ownership::SHUT, reason);
            return;
        }
        let twin: Arc<str> = Arc::from(twin);
        self.cover(host, &twin);
        let server = Server {
            name: Arc::clone(&twin),
            redirect_to: Some(Arc::clone(name)),
            app_root: None,
            client_certificates: None,
            snippet: None,
            regex_mode: false,
            slash_redirects: false,
            locations: Vec::new(),
            index: PathIndex::default(),
            passthrough: None,
            handshakes: host.server.handshakes.clone(),
            fingerprint: Fingerprint::default(),
        };
        self.exact.insert(twin, Arc::new(server));
    }

    fn aliases(
        &mut self,
        host: &Named<'_>,
        claims: &BTreeMap<String, ObjectKey>,
        ownership: &HostOwnership,
        is_host: &impl Fn(&str) -> bool,
    ) {
        let Some(owner) = alias_owner(host.entries) else { return };
        let own = |entry: &&Arc<Entry>| entry.contribution.key.namespace == owner.contribution.key.namespace;
        for late in host.entries.iter().filter(own).filter(|entry| has_aliases(&entry.contribution)) {
            let same =
                late.contribution.policies.server.aliases == owner.contribution.policies.server.aliases;
            if !same {
                let who = name_for(&late.contribution.key, &owner.contribution.key);
                let reason =
                    format!("{who} is older and already gives host {} its aliases", host.server.name);
                self.tell(Some(&late.contribution), "AliasIgnored", reason);
            }
        }
        for alias in &owner.contribution.policies.server.aliases {
            let text = alias.text();
            if is_host(&text) {
                let reason =
                    format!("{text} is a host of its own, so it is no alias of {}", host.server.name);
                self.tell(Some(&owner.contribution), "AliasIgnored", reason);
            } else if !may_alias(ownership, &owner.contribution.key.namespace, alias, &text) {
                let reason =
                    format!("host-allow-list does not give {text} to the namespace, so it is no alias");
                self.tell(Some(&owner.contribution), ownership::SHUT, reason);
            } else if claims.get(&text).is_some_and(|who| who.namespace != owner.contribution.key.namespace) {
                let reason = format!("an older Ingress of another namespace has the alias {text}");
                self.tell(Some(&owner.contribution), "AliasIgnored", reason);
            } else if let Some(other) = self.take(alias, &text, host) {
                let reason =
                    format!("{text} already leads to {other}, so it is no alias of {}", host.server.name);
                self.tell(Some(&owner.contribution), "AliasIgnored", reason);
            }
        }
    }

    /// Adds an alias; the name of the server that has it already, if one does.
    fn take(&mut self, alias: &Alias, text: &str, host: &Named<'_>) -> Option<Arc<str>> {
        let holder = match alias {
            Alias::Exact(name) => self.exact.get(name),
            Alias::Suffix(suffix) => self.patterns.suffixes.get(suffix),
            Alias::Prefix(prefix) => self.patterns.prefixes.get(prefix),
            Alias::Regex(_) => None,
        };
        if let Some(holder) = holder {
            let same = Arc::ptr_eq(holder, host.server);
            return (!same).then(|| Arc::clone(&holder.name));
        }
        let server = Arc::clone(host.server);
        match alias {
            Alias::Exact(name) => {
                self.exact.insert(Arc::clone(name), server);
            }
            Alias::Suffix(suffix) => {
                self.patterns.suffixes.insert(Arc::clone(suffix), server);
            }
            Alias::Prefix(prefix) => {
                self.patterns.prefixes.insert(Arc::clone(prefix), server);
            }
            Alias::Regex(pattern) => self.patterns.expressions.push((Arc::clone(pattern), server)),
        }
        self.cover(host, &Arc::from(text));
        None
    }

    /// A further name has the certificate of its host only if that lists it, as it is or with `*` for its first label.
    fn cover(&mut self, host: &Named<'_>, name: &Arc<str>) {
        let Some((choice, Some(info))) = host.certificate else { return };
        if super::tls::covers(info, name) {
            self.tls.insert(Arc::clone(name), choice.clone());
        }
    }

    fn tell(&mut self, owner: Option<&Contribution>, code: &'static str, reason: String) {
        let finding = Finding {
            severity: Severity::Warning,
            code,
            field: "metadata.annotations",
            value: "",
            reason,
            hint: "",
        };
        self.diagnostics.extend(owner.map(|owner| finding.about(owner)));
    }
}
