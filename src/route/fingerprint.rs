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
use super::stream::StreamService;
use super::{
    Backend, CanaryBackend, CertificateChoice, Location, LocationTarget, Passthrough, Server, Table,
};
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
    // Each part by its name, here and below: a new one that nobody thinks of does not compile.
    let Table {
        hosts: _,
        catch_all,
        tls,
        backends: _,
        globals,
        default_backend,
        https_port,
        client_certificates: _,
        streams,
        own_handshakes: _,
        passthrough: _,
    } = table;
    let mut told = Told::default();
    told.0.write_u64(names);
    told.0.write_u64(of_server(catch_all));
    told.shown(globals);
    for key in globals.ssl_session_ticket_keys.iter() {
        // The text that shows everything else does not show these.
        key.expose().hash(&mut told.0);
    }
    for (host, choice) in tls.iter() {
        host.hash(&mut told.0);
        match choice {
            CertificateChoice::Default => told.0.write_u8(0),
            CertificateChoice::Secret(key) => key.hash(&mut told.0),
        }
    }
    told.optional(default_backend.as_deref(), Told::backend);
    told.0.write_u16(*https_port);
    for (port, service) in streams.iter() {
        port.hash(&mut told.0);
        let StreamService { backend, snippet, accept, send } = &**service;
        told.backend(backend);
        told.shown(&(snippet, accept, send));
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
        let Server {
            name,
            redirect_to,
            app_root,
            client_certificates,
            snippet,
            regex_mode,
            slash_redirects,
            locations,
            index: _,
            passthrough,
            handshakes,
            fingerprint: _,
        } = server;
        let mut told = Told::default();
        (name, redirect_to, app_root).hash(&mut told.0);
        (regex_mode, slash_redirects, handshakes).hash(&mut told.0);
        told.optional(client_certificates.as_ref(), Told::client_certificates);
        told.shown(snippet);
        told.optional(passthrough.as_ref(), |told, Passthrough { backend, policies }| {
            told.backend(backend);
            told.shown(policies);
        });
        // The locations of an Ingress stand together, and have one set of policies.
        let mut last: Option<(&Arc<RoutePolicies>, u64)> = None;
        for location in locations {
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

    /// But for its policies, which many share.
    fn location(&mut self, location: &Location) {
        let Location {
            kind,
            path,
            rule_path,
            owner,
            // Of no consequence for requests.
            field: _,
            implicit,
            tier,
            pattern,
            target,
            policies: _,
            default_backend,
            rewrite_pattern,
            sets_cookie,
        } = location;
        (kind, path, rule_path, owner).hash(&mut self.0);
        (implicit, tier, sets_cookie).hash(&mut self.0);
        self.shown(&(pattern, rewrite_pattern));
        match target {
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
        self.optional(default_backend.as_deref(), Self::backend);
    }

    /// Without its slot, which depends on what was there before.
    fn backend(&mut self, backend: &Backend) {
        let Backend { key, name, slot: _, policies, canary } = backend;
        (key, name).hash(&mut self.0);
        self.shown(policies);
        self.optional(canary.as_deref(), |told, CanaryBackend { owner, backend, policy }| {
            owner.hash(&mut told.0);
            told.backend(backend);
            told.shown(policy);
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
