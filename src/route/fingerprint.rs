//! A number that stands for what a table serves (`nginx_ingress_controller_config_hash`): equal in every process with the
//! same objects and flags, whatever happened before; another one when something changes. As with ingress-nginx,
//! endpoints and certificates do not count, which come and go without a new configuration; nor does what Secrets hold,
//! so that nothing of it shows.
//!
//! Not a digest: nobody is kept from making two tables with one number. `app/observe` calls it for the metric.

use std::fmt::{self, Debug, Write};
use std::hash::{BuildHasher, Hash, Hasher};
use std::mem::discriminant;
use std::sync::{Arc, OnceLock};

use foldhash::quality::{FixedState, FoldHasher};

use super::host::NameKind;
use super::{Backend, CertificateChoice, Location, LocationTarget, Server, Table};
use crate::policy::RoutePolicies;
use crate::policy::client_certificate::ClientCertificates;

const SEED: u64 = 0x6e61_7274_6865_7803;

/// The number of a server, once somebody asked for it: a server that did not change is not looked at again.
#[derive(Debug, Default)]
pub struct Fingerprint(OnceLock<u64>);

/// The number of a table.
pub fn table(table: &Table) -> u64 {
    let names = table.hosts.names();
    let numbers = names.iter().map(|(kind, name, server)| of_name(kind, name, server));
    with_names(table, numbers.fold(0, u64::wrapping_add))
}

/// The number of a table whose names have the numbers ([`of_name`]) that add up to `names`, in whatever order.
pub fn with_names(table: &Table, names: u64) -> u64 {
    let mut told = Told::default();
    told.0.write_u64(names);
    told.0.write_u64(of_server(&table.catch_all));
    told.shown(&table.globals);
    for (host, choice) in table.tls.iter() {
        host.hash(&mut told.0);
        match choice {
            CertificateChoice::Default => told.0.write_u8(0),
            CertificateChoice::Secret(key) => key.hash(&mut told.0),
        }
    }
    told.optional(table.default_backend.as_deref(), Told::backend);
    told.0.write_u16(table.https_port);
    for (port, service) in table.streams.iter() {
        port.hash(&mut told.0);
        told.backend(&service.backend);
        told.shown(&(&service.snippet, service.accept, service.send));
    }
    told.0.finish()
}

/// The number of a name and what it leads to.
pub fn of_name(kind: &NameKind, name: &str, server: &Server) -> u64 {
    let mut told = Told::default();
    discriminant(kind).hash(&mut told.0);
    (name, of_server(server)).hash(&mut told.0);
    told.0.finish()
}

/// The number of a server.
fn of_server(server: &Server) -> u64 {
    *server.fingerprint.0.get_or_init(|| {
        let mut told = Told::default();
        (&server.name, &server.redirect_to, &server.app_root).hash(&mut told.0);
        (server.regex_mode, server.slash_redirects, &server.handshakes).hash(&mut told.0);
        told.optional(server.client_certificates.as_ref(), Told::client_certificates);
        told.shown(&server.snippet);
        told.optional(server.passthrough.as_ref(), |told, passthrough| {
            told.backend(&passthrough.backend);
            told.shown(&passthrough.policies);
        });
        // The locations of an Ingress stand together, and have one set of policies.
        let mut last: Option<(&Arc<RoutePolicies>, u64)> = None;
        for location in &server.locations {
            let policies = match last {
                Some((seen, number)) if Arc::ptr_eq(seen, &location.policies) => number,
                _ => of_policies(&location.policies),
            };
            last = Some((&location.policies, policies));
            policies.hash(&mut told.0);
            told.location(location);
        }
        told.0.finish()
    })
}

fn of_policies(policies: &RoutePolicies) -> u64 {
    let mut told = Told::default();
    told.shown(policies);
    told.0.finish()
}

/// What was told so far.
struct Told(FoldHasher<'static>);

impl Default for Told {
    fn default() -> Self {
        Self(FixedState::with_seed(SEED).build_hasher())
    }
}

impl Write for Told {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.0.write(text.as_bytes());
        Ok(())
    }
}

impl Told {
    /// What has many fields, by the text that shows all of them. Addresses, slots and caches have no place in it.
    fn shown(&mut self, what: &impl Debug) {
        write!(self, "{what:?}").expect("hashing a text cannot fail");
    }

    fn optional<T: ?Sized>(&mut self, what: Option<&T>, tell: impl FnOnce(&mut Self, &T)) {
        self.0.write_u8(u8::from(what.is_some()));
        if let Some(what) = what {
            tell(self, what);
        }
    }

    fn location(&mut self, location: &Location) {
        (location.kind, &location.path, &location.rule_path, &location.owner).hash(&mut self.0);
        (location.implicit, location.tier, location.sets_cookie).hash(&mut self.0);
        self.shown(&(&location.pattern, &location.rewrite_pattern));
        match &location.target {
            LocationTarget::Backend(backend) => {
                self.0.write_u8(0);
                self.backend(backend);
            }
            LocationTarget::Default(backend) => {
                self.0.write_u8(1);
                self.optional(backend.as_deref(), Self::backend);
            }
            LocationTarget::Healthz => self.0.write_u8(2),
            LocationTarget::StubStatus => self.0.write_u8(3),
        }
        self.optional(location.default_backend.as_deref(), Self::backend);
    }

    /// Without its slot, which depends on what was there before.
    fn backend(&mut self, backend: &Backend) {
        (&backend.key, &backend.name).hash(&mut self.0);
        self.shown(&backend.policies);
        self.optional(backend.canary.as_deref(), |told, canary| {
            canary.owner.hash(&mut told.0);
            told.backend(&canary.backend);
            told.shown(&canary.policy);
        });
    }

    /// Certificates of authorities are long.
    fn client_certificates(&mut self, wanted: &ClientCertificates) {
        match wanted {
            ClientCertificates::Broken => self.0.write_u8(0),
            ClientCertificates::Ask(auth) => {
                auth.group.hash(&mut self.0);
                self.shown(&(&auth.error_page, auth.pass_certificate, &auth.match_cn));
            }
        }
    }
}
