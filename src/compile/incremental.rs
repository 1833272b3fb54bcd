//! The compiler that remembers: it looks at what changed since the last world and makes only that anew. What did not
//! change keeps its address. Compiling a world from scratch is the same code with nothing to remember. The order of
//! [`Compiler::compile`] is the proof of what each change touches; the steps stand in the files beside.

use std::collections::{BTreeMap, BTreeSet};
use std::mem;
use std::sync::Arc;

use super::backend::{Attachment, Slots};
use super::canary;
use super::class::Classes;
use super::endpoints::{self, Problem, Services, Wish};
use super::expression::Expressions;
use super::finding::Finding;
use super::follow::{follow, follow_by};
use super::merge::{self, Entry, HostPlan, Surroundings};
use super::names::{self, Overlay};
use super::object::{BackendId, BackendRole, CATCH_ALL, Contribution};
use super::options::{Options, PathSemantics};
use super::ownership;
use super::pause::Pause;
use super::server::{self, Workshop};
use super::stream;
use super::{Compiled, Inputs};
use crate::diagnostic::Diagnostic;
use crate::model::{CertCatalog, CertInfo, ConfigMap, Ingress, IngressClass, ObjectKey, Origin, SharedMap};
use crate::policy::RoutePolicies;
use crate::policy::global::Globals;
use crate::route::host::HostIndex;
use crate::route::reach::Reach;
use crate::route::{BackendKey, BackendSlot, CertificateChoice, EndpointMap, EndpointSet, Server, Table};

mod assemble;
mod endpoint_state;
mod entries;
mod findings;
mod naming;
mod references;
mod settings;

use assemble::Traits;
use endpoint_state::EndpointState;
use findings::Told;
use naming::place;
use references::References;
use settings::Settings;

/// Compiles one world after the other.
#[derive(Debug, Default)]
pub struct Compiler {
    settings: Option<Settings>,
    classes: Classes,
    seen_classes: SharedMap<ObjectKey, Arc<IngressClass>>,
    seen_certificates: CertCatalog,
    ingresses: SharedMap<ObjectKey, Arc<Ingress>>,
    judged: BTreeMap<ObjectKey, Judged>,
    references: References,
    /// Entries of canaries and of default backends without rules, which are asked as a whole.
    canaries: Vec<Arc<Entry>>,
    slots: Slots,
    services: Services,
    endpoints: EndpointState,
    hosts: BTreeMap<Arc<str>, Box<Host>>,
    attachments: BTreeMap<BackendSlot, Attachment>,
    canary_findings: Vec<Diagnostic>,
    /// Ingresses with a `stream-snippet` that counts, oldest first.
    streamers: Vec<Arc<Entry>>,
    /// Ingresses that give hosts further names, oldest first.
    namers: Vec<Arc<Entry>>,
    /// Further names that are held, where a host is one namespace's alone.
    held: ownership::Claims,
    /// Hosts that have aliases or a twin.
    named_hosts: BTreeSet<Arc<str>>,
    overlay: Overlay,
    index: HostIndex,
    tls: Arc<BTreeMap<Arc<str>, CertificateChoice>>,
    expressions: Expressions,
    traits: Traits,
    told: Told,
    table: Option<Arc<Table>>,
    pause: Pause,
}

/// What became of an Ingress.
#[derive(Debug)]
enum Judged {
    Ours(Arc<Entry>),
    Foreign(Box<Diagnostic>),
    OutOfScope,
}

/// What is known of one host.
#[derive(Debug, Default)]
struct Host {
    /// Entries that mention it, oldest first.
    entries: Vec<Arc<Entry>>,
    /// Those of them that may have a word in it, where not all may.
    admitted: Option<Vec<Arc<Entry>>>,
    claim_findings: Vec<Diagnostic>,
    plan: Option<HostPlan>,
    server: Option<Arc<Server>>,
    from_to_www: bool,
    server_findings: Vec<Diagnostic>,
    tls_findings: Vec<Diagnostic>,
}

/// What must be made anew.
#[derive(Debug, Default)]
struct Work {
    /// Hosts whose rules changed.
    plans: BTreeSet<Arc<str>>,
    /// Hosts whose server must be built although their rules are the same.
    servers: BTreeSet<Arc<str>>,
    /// Hosts whose certificate may have changed.
    certificates: BTreeSet<Arc<str>>,
    /// Backends whose users changed.
    backends: BTreeSet<BackendSlot>,
    /// The set of hosts, or a host with further names, changed.
    names: bool,
}

// === impl Compiler ===

impl Compiler {
    /// A compiler that has seen nothing.
    pub fn new() -> Self {
        Self::default()
    }

    /// The same compiler, which from now on pauses like this between objects.
    #[must_use]
    pub fn pausing(self, pause: Pause) -> Self {
        Self { pause, ..self }
    }

    /// Compiles a world. Total: any world gives a table and findings.
    pub fn compile(&mut self, inputs: &Inputs<'_>) -> Compiled {
        let mut work = Work::default();
        self.follow_settings(inputs, &mut work);
        self.follow_ingresses(inputs, &mut work);
        self.follow_certificates(inputs, &mut work);
        self.judge_backends(&mut work);
        self.hold_names(&mut work);
        self.plan_hosts(&mut work);
        self.attach_canaries(&mut work);
        self.build_backends(&mut work);
        self.follow_services(inputs, &work.backends);
        self.build_servers(&mut work);
        self.choose_certificates(&work);
        self.lay_names(&work);
        self.retire(&work);
        self.note_findings(&work);
        let table = self.table(&work);
        let endpoints = self.endpoints.map();
        Compiled { table, endpoints, diagnostics: self.diagnostics() }
    }

    /// Only what changed in Services and EndpointSlices, for the table compiled last. Findings about them come with
    /// the next [`Compiler::compile`].
    pub fn endpoints_only(&mut self, inputs: &Inputs<'_>, table: &Table) -> Arc<EndpointMap> {
        debug_assert!(
            self.table.as_deref().is_none_or(|last| std::ptr::eq(last, table)),
            "slots belong to the table compiled last"
        );
        if self.settings.is_some() {
            self.follow_services(inputs, &BTreeSet::new());
        }
        self.endpoints.map()
    }

    fn settings(&self) -> &Settings {
        self.settings.as_ref().expect("compile follows the settings first")
    }

    /// Flags or ConfigMap changed: nothing that is remembered can be trusted.
    fn follow_settings(&mut self, inputs: &Inputs<'_>, work: &mut Work) {
        if self.settings.as_mut().is_none_or(|settings| !settings.still_holds(inputs)) {
            let fresh = Self { settings: Some(Settings::new(inputs)), pause: self.pause, ..Self::default() };
            mem::replace(self, fresh).forget();
            work.plans.insert(Arc::from(CATCH_ALL));
            work.names = true;
            let default = inputs.options.default_backend.as_ref().map(global_id);
            let slot = default.map(|id| self.slots.intern(&id));
            work.backends.extend(slot);
            if let Some(settings) = &mut self.settings {
                settings.default_slot = slot;
                for (entry, slot) in &mut settings.streams {
                    *slot = self.slots.intern(&entry.id);
                    work.backends.insert(*slot);
                }
            }
        }
    }

    /// Frees what is remembered, piece by piece: all at once takes long.
    fn forget(self) {
        let Self { pause, hosts, judged, .. } = self;
        pause.among(hosts).for_each(drop);
        pause.among(judged).for_each(drop);
    }

    fn follow_certificates(&mut self, inputs: &Inputs<'_>, work: &mut Work) {
        type Seen<'k, 's> = (&'k ObjectKey, &'s Result<Arc<CertInfo>, String>);
        // Several Secrets may hold one pair, or be broken the same way.
        let same = |(known, a): Seen<'_, '_>, (key, b): Seen<'_, '_>| match (a, b) {
            (Ok(a), Ok(b)) => Arc::ptr_eq(a, b) && known == key,
            (Err(a), Err(b)) => a == b && known == key,
            _ => false,
        };
        let changes = follow_by(&mut self.seen_certificates, inputs.certificates, same, |a, b| a == b);
        if changes.is_empty() {
            return;
        }
        let changed: BTreeSet<ObjectKey> = changes.into_iter().map(|change| change.key).collect();
        if inputs.options.default_certificate.as_ref().is_some_and(|key| changed.contains(key)) {
            work.names = true;
            // Whether a host needs the certificate of a namespace that does not hold it depends on the default one.
            work.certificates.extend(self.hosts.keys().cloned());
        }
        for judged in self.judged.values() {
            let Judged::Ours(entry) = judged else { continue };
            let contribution = &entry.contribution;
            let namespace = &contribution.key.namespace;
            let uses = contribution.tls.iter().any(|block| {
                changed.contains(&ObjectKey::new(Arc::clone(namespace), block.secret_name.as_str()))
            });
            if uses {
                work.certificates.extend(contribution.hosts().cloned());
            }
        }
    }

    /// Whether only canaries may lead to a backend; where that changes, the rules of its users change.
    fn judge_backends(&mut self, work: &mut Work) {
        let mut affected = BTreeSet::new();
        for slot in &work.backends {
            let Some(state) = self.slots.state_mut(*slot) else { continue };
            let canary_only = state.id.role == BackendRole::Route
                && state.users.first().is_some_and(|first| first.contribution.is_canary());
            if mem::replace(&mut state.canary_only, canary_only) != canary_only {
                affected.extend(state.users.iter().flat_map(|user| hosts_of(&user.contribution)));
            }
        }
        work.plans.extend(affected);
    }

    fn plan_hosts(&mut self, work: &mut Work) {
        let catch_all: Arc<str> = Arc::from(CATCH_ALL);
        self.hosts.entry(Arc::clone(&catch_all)).or_default();
        if work.plans.contains(&catch_all) {
            work.plans.extend(self.hosts_with_hostless_rules());
        }
        let hostless = self.hostless();
        let Some(settings) = &self.settings else { return };
        let surroundings = settings.surroundings(&self.slots, &hostless);
        for name in self.pause.among(&work.plans) {
            let Some(host) = self.hosts.get_mut(name) else { continue };
            (host.admitted, host.claim_findings) =
                ownership::admit(name, &host.entries, &settings.globals.host_ownership, self.held.get(name));
            host.plan = merge::plan(name, host.admitted(), &surroundings);
        }
        work.servers.extend(work.plans.iter().cloned());
        work.certificates.extend(work.plans.iter().cloned());
    }

    fn attach_canaries(&mut self, work: &mut Work) {
        if self.canaries.is_empty() && self.attachments.is_empty() {
            self.canary_findings.clear();
            return;
        }
        let plan_of = |host: &str| self.hosts.get(host).and_then(|host| host.plan.as_ref());
        let (attachments, findings) = canary::attach(self.canaries.iter(), plan_of, &self.slots);
        let same = |a: Option<&Attachment>, b: Option<&Attachment>| match (a, b) {
            (Some(a), Some(b)) => Arc::ptr_eq(&a.owner, &b.owner) && a.slot == b.slot,
            (None, None) => true,
            _ => false,
        };
        for slot in attachments.keys().chain(self.attachments.keys()) {
            let (now, before) = (attachments.get(slot), self.attachments.get(slot));
            if !same(now, before) || now.is_some_and(|now| work.backends.contains(&now.slot)) {
                work.backends.insert(*slot);
            }
        }
        self.attachments = attachments;
        self.canary_findings = findings;
    }

    fn build_backends(&mut self, work: &mut Work) {
        for slot in self.pause.among(&work.backends) {
            if !self.slots.rebuild(*slot, &self.attachments) {
                continue;
            }
            let users = self.slots.state(*slot).map(|state| state.users.as_slice()).unwrap_or_default();
            work.servers.extend(users.iter().flat_map(|user| hosts_of(&user.contribution)));
        }
        if work.servers.contains(CATCH_ALL) {
            work.servers.extend(self.hosts_with_hostless_rules());
        }
    }

    /// Entries with rules without host that hosts with the Kubernetes meaning take over, oldest first.
    fn hostless(&self) -> Vec<Arc<Entry>> {
        let entries = self.hosts.get(CATCH_ALL).into_iter().flat_map(|host| &host.entries);
        let kubernetes = |entry: &&Arc<Entry>| entry.contribution.semantics == PathSemantics::Kubernetes;
        entries.filter(kubernetes).cloned().collect()
    }

    /// Hosts whose rules depend on those of the catch-all.
    fn hosts_with_hostless_rules(&self) -> Vec<Arc<str>> {
        let kubernetes =
            |host: &Host| host.plan.as_ref().is_some_and(|plan| plan.semantics == PathSemantics::Kubernetes);
        self.hosts.iter().filter(|(_, host)| kubernetes(host)).map(|(name, _)| Arc::clone(name)).collect()
    }

    fn follow_services(&mut self, inputs: &Inputs<'_>, backends: &BTreeSet<BackendSlot>) {
        let Some(settings) = &self.settings else { return };
        let mut touched: BTreeSet<ObjectKey> = BTreeSet::new();
        let services = follow(&mut self.services.services, &inputs.world.services);
        touched.extend(services.into_iter().map(|change| change.key));
        for change in follow(&mut self.services.slices, &inputs.world.slices) {
            self.services.follow_slice(&change.key, change.before.as_deref(), &mut touched);
        }
        if self.services.zone != inputs.world.zone {
            self.services.zone = Arc::clone(&inputs.world.zone);
            touched.extend(self.services.services.keys().cloned());
        }
        self.endpoints.refresh(&self.slots, &self.services, settings, &touched, backends);
    }

    fn build_servers(&mut self, work: &mut Work) {
        let hostless = self.hostless();
        let Some(settings) = &self.settings else { return };
        let surroundings = settings.surroundings(&self.slots, &hostless);
        let mut workshop = Workshop {
            slots: &self.slots,
            default_backend: settings.default_slot.and_then(|slot| self.slots.backend(slot)),
            base: &settings.base,
            health_check_path: &settings.options.health_check_path,
            expressions: &mut self.expressions,
            ssl_passthrough: settings.options.ssl_passthrough,
        };
        for name in self.pause.among(&work.servers) {
            let Some(host) = self.hosts.get_mut(name) else { continue };
            if host.plan.as_ref().is_some_and(|plan| plan.rules.is_empty()) {
                host.plan = merge::plan(name, host.admitted(), &surroundings);
            }
            let built = host.plan.as_ref().map(|plan| server::build(plan, &mut workshop));
            host.let_go(name);
            let from_to_www = built.as_ref().is_some_and(|built| built.from_to_www);
            host.from_to_www = from_to_www;
            host.server_findings = Vec::new();
            let server = built.map(|built| {
                host.server_findings = built.diagnostics;
                built.server
            });
            work.names |= host.server.is_some() != server.is_some();
            self.traits.exchange(host.server.as_deref(), server.as_deref());
            host.server = server;
            let named =
                host.server.is_some() && (from_to_www || names::alias_owner(host.admitted()).is_some());
            work.names |= named;
            work.names |=
                if named { self.named_hosts.insert(Arc::clone(name)) } else { self.named_hosts.remove(name) };
            place(&mut self.index, name, host.server.as_ref());
        }
    }

    /// Forgets hosts and backends that nobody mentions any more.
    fn retire(&mut self, work: &Work) {
        for name in self.pause.among(&work.plans) {
            let unused =
                self.hosts.get(name).is_some_and(|host| host.entries.is_empty() && host.server.is_none());
            if unused {
                self.hosts.remove(name);
            }
        }
        for slot in &work.backends {
            if let Some(id) = self.slots.release(*slot) {
                self.endpoints.forget(*slot, &id);
            }
        }
    }
}

impl Host {
    /// Lets go of rules that nobody asks for before the server is built anew: canaries do, and there are few. They take
    /// as much memory as all that Ingresses say, and are soon made again.
    fn let_go(&mut self, name: &str) {
        let asked = self.entries.iter().any(|entry| entry.contribution.is_canary()) || *name == *CATCH_ALL;
        if let Some(plan) = self.plan.as_mut().filter(|_| !asked) {
            plan.rules = Vec::new();
        }
    }

    /// The entries that have a word in it.
    fn admitted(&self) -> &[Arc<Entry>] {
        self.admitted.as_deref().unwrap_or(&self.entries)
    }
}

/// Every server that an Ingress has a word in.
fn hosts_of(contribution: &Contribution) -> BTreeSet<Arc<str>> {
    let mut hosts: BTreeSet<Arc<str>> = contribution.hosts().cloned().collect();
    let default_counts = contribution.semantics == PathSemantics::Kubernetes && !contribution.is_canary();
    if merge::is_default_only(contribution) || (default_counts && contribution.default_backend.is_some()) {
        hosts.insert(Arc::from(CATCH_ALL));
    }
    hosts
}

fn global_id(service: &ObjectKey) -> BackendId {
    let key = BackendKey {
        namespace: Arc::clone(&service.namespace),
        service: Arc::clone(&service.name),
        port: Arc::from(""),
    };
    BackendId { key, role: BackendRole::Global }
}
