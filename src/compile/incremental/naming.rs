//! Under which names and certificates the hosts are known: aliases, twins with and without `www.`, and the index that a
//! request is looked up in.

use std::collections::BTreeSet;
use std::mem;
use std::sync::Arc;

use super::{Compiler, Work};
use crate::compile::names::Named;
use crate::compile::object::CATCH_ALL;
use crate::compile::{names, ownership, tls};
use crate::route::host::HostIndex;
use crate::route::{CertificateChoice, Server};

impl Compiler {
    /// Who holds further names; where that changes, so does who may have rules for the host of that name.
    pub(super) fn hold_names(&mut self, work: &mut Work) {
        if !self.settings().globals.host_ownership.is_exclusive() || work.plans.is_empty() {
            return;
        }
        let hosts = &self.hosts;
        let held =
            ownership::claims(&self.namers, |name| hosts.get(name).map(|host| host.entries.as_slice()));
        let before = mem::replace(&mut self.held, held);
        let changed = |name: &&Arc<str>| before.get(*name) != self.held.get(*name);
        let names: BTreeSet<&Arc<str>> = before.keys().chain(self.held.keys()).filter(changed).collect();
        work.names |= !names.is_empty();
        work.plans.extend(names.into_iter().filter(|name| self.hosts.contains_key(*name)).cloned());
    }

    pub(super) fn choose_certificates(&mut self, work: &Work) {
        for name in self.pause.among(&work.certificates) {
            let default = self.settings().options.default_certificate.as_ref();
            let default = default.and_then(|key| self.seen_certificates.get(key)).cloned();
            let default = default.and_then(Result::ok);
            let chosen = self.hosts.get_mut(name).and_then(|host| {
                let (choice, findings) = if host.server.is_some() && **name != *CATCH_ALL {
                    tls::choose(name, host.admitted(), &self.seen_certificates, default.as_deref())
                } else {
                    (None, Vec::new())
                };
                host.tls_findings = findings;
                choice
            });
            // The catch-all has an entry always: the default certificate (`routing.md` 2.6).
            let chosen = if **name == *CATCH_ALL { Some(CertificateChoice::Default) } else { chosen };
            self.set_certificate(name, chosen);
        }
    }

    fn set_certificate(&mut self, name: &Arc<str>, choice: Option<CertificateChoice>) {
        if self.tls.get(name) == choice.as_ref() {
            return;
        }
        let tls = Arc::make_mut(&mut self.tls);
        match choice {
            Some(choice) => tls.insert(Arc::clone(name), choice),
            None => tls.remove(name),
        };
    }

    /// Aliases and twins, laid over the hosts.
    pub(super) fn lay_names(&mut self, work: &Work) {
        let certificates_matter = !work.certificates.is_empty() && !self.named_hosts.is_empty();
        if !work.names && !certificates_matter {
            return;
        }
        let Some(settings) = &self.settings else { return };
        let info_of = |choice: &CertificateChoice| {
            let key = match choice {
                CertificateChoice::Secret(key) => Some(key),
                CertificateChoice::Default => settings.options.default_certificate.as_ref(),
            };
            key.and_then(|key| self.seen_certificates.get(key)).and_then(|info| info.as_deref().ok())
        };
        let named = self.named_hosts.iter().filter_map(|name| {
            let host = self.hosts.get(name)?;
            let certificate = self.tls.get(name).map(|choice| (choice, info_of(choice)));
            Some(Named {
                server: host.server.as_ref()?,
                entries: host.admitted(),
                from_to_www: host.from_to_www,
                certificate,
            })
        });
        let named: Vec<Named<'_>> = named.collect();
        let is_host = |name: &str| self.hosts.get(name).is_some_and(|host| host.server.is_some());
        let mut next = names::overlay(&named, &settings.globals.host_ownership, &self.held, is_host);
        let old = mem::take(&mut self.overlay);
        for name in old.exact.keys().filter(|name| !next.exact.contains_key(*name)) {
            if self.hosts.get(name).is_none_or(|host| host.server.is_none()) {
                self.index.remove_exact(name);
            }
        }
        for (name, server) in &mut next.exact {
            // A twin that is as it was keeps its address.
            if let Some(before) = old.exact.get(name)
                && server.redirect_to.is_some()
                && before.redirect_to == server.redirect_to
            {
                *server = Arc::clone(before);
            }
            self.index.set_exact(name, server);
        }
        self.index.set_aliases(mem::take(&mut next.patterns));
        let gone: Vec<Arc<str>> =
            old.tls.keys().filter(|name| !next.tls.contains_key(*name)).cloned().collect();
        for name in gone {
            if self.hosts.get(&name).is_none_or(|host| host.server.is_none()) {
                self.set_certificate(&name, None);
            }
        }
        let covered: Vec<_> =
            next.tls.iter().map(|(name, choice)| (Arc::clone(name), choice.clone())).collect();
        for (name, choice) in covered {
            self.set_certificate(&name, Some(choice));
        }
        self.overlay = next;
    }
}

/// Puts a host into the index, or takes it out.
pub(super) fn place(index: &mut HostIndex, name: &Arc<str>, server: Option<&Arc<Server>>) {
    if **name == *CATCH_ALL {
        return;
    }
    match (name.strip_prefix("*."), server) {
        (Some(suffix), Some(server)) => index.set_wildcard(suffix, server),
        (Some(suffix), None) => index.remove_wildcard(suffix),
        (None, Some(server)) => index.set_exact(name, server),
        (None, None) => index.remove_exact(name),
    }
}
