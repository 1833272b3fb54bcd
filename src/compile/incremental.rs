//! The compiler that remembers: it looks at what changed since the last world and makes only that anew. What did not
//! change keeps its address. Compiling a world from scratch is the same code with nothing to remember.

use std::collections::{BTreeMap, BTreeSet};
use std::mem;
use std::sync::Arc;

use super::backend::{Attachment, Slots};
use super::canary;
use super::class::{Classes, Verdict};
use super::endpoints::{self, Problem, Services, Wish};
use super::expression::Expressions;
use super::finding::Finding;
use super::follow::{follow, follow_by};
use super::merge::{self, Entry, HostPlan, Surroundings};
use super::names::{self, Named, Overlay};
use super::object::{self, BackendId, BackendRole, CATCH_ALL, Contribution};
use super::options::{Options, PathSemantics};
use super::ownership;
use super::server::{self, Workshop};
use super::stream::{self, Owner};
use super::tls;
use super::{Compiled, Inputs};
use crate::diagnostic::{Diagnostic, Severity};
use crate::model::{
    CertCatalog, CertInfo, ConfigMap, Ingress, IngressClass, Kind, Meta, ObjectKey, ObjectRef, Origin,
};
use crate::policy::RoutePolicies;
use crate::policy::annotation::Objects;
use crate::policy::global::Globals;
use crate::route::host::HostIndex;
use crate::route::reach::Reach;
use crate::route::stream::{StreamService, StreamTable};
use crate::route::{BackendKey, BackendSlot, CertificateChoice, EndpointMap, EndpointSet, Server, Table};

mod endpoint_state;
mod findings;
mod references;
mod settings;

use endpoint_state::EndpointState;
use references::References;
use settings::Settings;

/// Compiles one world after the other.
#[derive(Debug, Default)]
pub struct Compiler {
    settings: Option<Settings>,
    classes: Classes,
    seen_classes: BTreeMap<ObjectKey, Arc<IngressClass>>,
    seen_certificates: CertCatalog,
    ingresses: BTreeMap<ObjectKey, Arc<Ingress>>,
    judged: BTreeMap<ObjectKey, Judged>,
    references: References,
    /// Entries of canaries and of default backends without rules, which are asked as a whole.
    canaries: Vec<Arc<Entry>>,
    slots: Slots,
    services: Services,
    endpoints: EndpointState,
    hosts: BTreeMap<Arc<str>, Host>,
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
    table: Option<Arc<Table>>,
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
            *self = Self { settings: Some(Settings::new(inputs)), ..Self::default() };
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

    fn follow_ingresses(&mut self, inputs: &Inputs<'_>, work: &mut Work) {
        let mut changed: BTreeSet<ObjectKey> = follow(&mut self.ingresses, &inputs.world.ingresses)
            .into_iter()
            .map(|change| change.key)
            .collect();
        let first = self.table.is_none();
        let hidden = inputs.world.classes_hidden != self.classes.are_hidden();
        if !follow(&mut self.seen_classes, &inputs.world.classes).is_empty() || hidden || first {
            let classes = Classes::new(inputs.world, inputs.options);
            if classes != self.classes {
                self.classes = classes;
                changed = self.ingresses.keys().cloned().chain(changed).collect();
            }
        }
        changed.extend(self.references.changes(inputs.world));
        let objects = Objects { secrets: &inputs.world.secrets, config_maps: &inputs.world.config_maps };
        let mut added = Vec::new();
        for key in changed {
            if let Some(Judged::Ours(entry)) = self.judged.remove(&key) {
                self.remove_entry(&entry, work);
            }
            self.references.forget(&key);
            let Some(ingress) = self.ingresses.get(&key) else { continue };
            let judged = match self.classes.judge(ingress, inputs.options) {
                Verdict::Ours(semantics) => {
                    let settings = self.settings();
                    let mut contribution =
                        object::contribution(ingress, semantics, &settings.globals, inputs.options, objects);
                    // Most Ingresses say nothing special: they share one value.
                    if contribution.policies.route == settings.base {
                        contribution.policies.route = Arc::clone(&settings.base);
                    }
                    self.references.watch(&key, &contribution.policies.references, inputs.world);
                    let slots =
                        contribution.backends.iter().map(|named| self.slots.intern(&named.id)).collect();
                    let entry = Arc::new(Entry { contribution, slots });
                    added.push(Arc::clone(&entry));
                    Judged::Ours(entry)
                }
                Verdict::Foreign { field, value, reason } => {
                    Judged::Foreign(Box::new(class_finding(&ingress.meta, field, &value, reason)))
                }
                Verdict::OutOfScope => Judged::OutOfScope,
            };
            self.judged.insert(key, judged);
        }
        // Oldest first, so that each lands at the end of the lists it joins when all are new.
        added.sort_by(|a, b| a.contribution.age.cmp(&b.contribution.age));
        for entry in added {
            self.add_entry(entry, work);
        }
    }

    fn add_entry(&mut self, entry: Arc<Entry>, work: &mut Work) {
        for host in hosts_of(&entry.contribution) {
            insert_by_age(&mut self.hosts.entry(Arc::clone(&host)).or_default().entries, &entry);
            work.plans.insert(host);
        }
        for slot in entry.slots.iter() {
            if let Some(state) = self.slots.state_mut(*slot) {
                insert_by_age(&mut state.users, &entry);
            }
            work.backends.insert(*slot);
        }
        if entry.contribution.is_canary() {
            insert_by_age(&mut self.canaries, &entry);
            return;
        }
        let server = &entry.contribution.policies.server;
        if !server.streams.is_empty() {
            insert_by_age(&mut self.streamers, &entry);
        }
        if server.from_to_www || !server.aliases.is_empty() {
            insert_by_age(&mut self.namers, &entry);
        }
    }

    fn remove_entry(&mut self, entry: &Arc<Entry>, work: &mut Work) {
        for host in hosts_of(&entry.contribution) {
            if let Some(state) = self.hosts.get_mut(&host) {
                remove(&mut state.entries, entry);
            }
            work.plans.insert(host);
        }
        for slot in entry.slots.iter() {
            if let Some(state) = self.slots.state_mut(*slot) {
                remove(&mut state.users, entry);
            }
            work.backends.insert(*slot);
        }
        remove(&mut self.canaries, entry);
        remove(&mut self.streamers, entry);
        remove(&mut self.namers, entry);
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

    /// Who holds further names; where that changes, so does who may have rules for the host of that name.
    fn hold_names(&mut self, work: &mut Work) {
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

    fn plan_hosts(&mut self, work: &mut Work) {
        let catch_all: Arc<str> = Arc::from(CATCH_ALL);
        let hostless = self.hosts.entry(Arc::clone(&catch_all)).or_default().entries.clone();
        if work.plans.contains(&catch_all) {
            work.plans.extend(self.hosts_with_hostless_rules());
        }
        let Some(settings) = &self.settings else { return };
        let slots = &self.slots;
        let hostless: Vec<Arc<Entry>> = hostless
            .into_iter()
            .filter(|entry| entry.contribution.semantics == PathSemantics::Kubernetes)
            .collect();
        for name in &work.plans {
            let Some(host) = self.hosts.get_mut(name) else { continue };
            let surroundings = Surroundings {
                base: &settings.base,
                canary_only: &|slot| slots.canary_only(slot),
                hostless: &hostless,
                semantics: settings.options.path_semantics,
            };
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
        for slot in &work.backends {
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
        let Some(settings) = &self.settings else { return };
        let mut workshop = Workshop {
            slots: &self.slots,
            default_backend: settings.default_slot.and_then(|slot| self.slots.backend(slot)),
            base: &settings.base,
            health_check_path: &settings.options.health_check_path,
            expressions: &mut self.expressions,
            ssl_passthrough: settings.options.ssl_passthrough,
        };
        for name in &work.servers {
            let Some(host) = self.hosts.get_mut(name) else { continue };
            let built = host.plan.as_ref().map(|plan| server::build(plan, &mut workshop));
            let from_to_www = built.as_ref().is_some_and(|built| built.from_to_www);
            host.from_to_www = from_to_www;
            host.server_findings = Vec::new();
            let server = built.map(|built| {
                host.server_findings = built.diagnostics;
                built.server
            });
            work.names |= host.server.is_some() != server.is_some();
            host.server = server;
            let named =
                host.server.is_some() && (from_to_www || names::alias_owner(host.admitted()).is_some());
            work.names |= named;
            work.names |=
                if named { self.named_hosts.insert(Arc::clone(name)) } else { self.named_hosts.remove(name) };
            place(&mut self.index, name, host.server.as_ref());
        }
    }

    fn choose_certificates(&mut self, work: &Work) {
        for name in &work.certificates {
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
    fn lay_names(&mut self, work: &Work) {
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

    /// Forgets hosts and backends that nobody mentions any more.
    fn retire(&mut self, work: &Work) {
        for name in &work.plans {
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

    /// The stream services that lead somewhere: one without endpoints keeps its port, one whose Service is not there
    /// or may not be used has none (`security.md` G-1).
    fn streams(&self, settings: &Settings) -> StreamTable {
        let services = settings.streams.iter().filter_map(|(entry, slot)| {
            // Only what the Service itself decides: endpoints come and go without a new table.
            let fault = self.endpoints.problems.get(slot).map(|problem| problem.code);
            if matches!(fault, Some("ServiceNotFound" | "PortNotFound" | "ExternalNameRefused")) {
                return None;
            }
            let backend = Arc::clone(self.slots.backend(*slot)?);
            let service = StreamService { backend, snippet: None, accept: entry.accept, send: entry.send };
            Some(((entry.transport, entry.port), Arc::new(service)))
        });
        StreamTable::new(services.chain(self.stream_snippets(settings).0))
    }

    /// The ports that snippets open, the ConfigMap's first, then those of Ingresses from the oldest on.
    fn stream_snippets(&self, settings: &Settings) -> (stream::Ports, Vec<Diagnostic>) {
        let globals = &settings.globals.snippets.streams;
        if globals.is_empty() && self.streamers.is_empty() {
            return (Vec::new(), Vec::new());
        }
        let of_all = settings.config_map.as_ref().map(|(key, origin)| Owner {
            object: ObjectRef { kind: Kind::ConfigMap, key: key.clone() },
            field: "data[stream-snippet]".into(),
            origin,
            rules: globals,
        });
        let of_ingresses = self.streamers.iter().map(|entry| Owner {
            object: ObjectRef { kind: Kind::Ingress, key: entry.contribution.key.clone() },
            field: format!("metadata.annotations[{}/stream-snippet]", settings.options.annotations_prefix),
            origin: &entry.contribution.origin,
            rules: &entry.contribution.policies.server.streams,
        });
        let taken = settings.streams.iter().map(|(entry, _)| (entry.transport, entry.port));
        stream::snippets(of_all.into_iter().chain(of_ingresses), taken, &settings.options)
    }

    fn table(&mut self, work: &Work) -> Arc<Table> {
        let last = self.table.take();
        let settings = self.settings.as_ref().expect("compile follows the settings first");
        let backends = match &last {
            Some(last) if work.backends.is_empty() => Arc::clone(&last.backends),
            _ => self.slots.backends(),
        };
        let default_backend = settings.default_slot.and_then(|slot| self.slots.backend(slot));
        let streams = self.streams(settings);
        let catch_all = self.hosts.get(CATCH_ALL).and_then(|host| host.server.clone());
        let catch_all = catch_all.expect("the catch-all host always has a plan, and so a server");
        let unchanged = |last: &Table| {
            work.servers.is_empty()
                && work.backends.is_empty()
                && !work.names
                && Arc::ptr_eq(&last.tls, &self.tls)
                && Arc::ptr_eq(&last.catch_all, &catch_all)
                && *last.streams == streams
        };
        let table = match last {
            Some(last) if unchanged(&last) => last,
            _ => Arc::new(Table {
                hosts: self.index.clone(),
                catch_all,
                tls: Arc::clone(&self.tls),
                backends,
                globals: Arc::clone(&settings.globals),
                default_backend: default_backend.cloned(),
                https_port: settings.options.https_port,
                client_certificates: self.hosts.values().any(|host| {
                    host.server.as_ref().is_some_and(|server| server.client_certificates.is_some())
                }),
                own_handshakes: self
                    .hosts
                    .values()
                    .any(|host| host.server.as_ref().is_some_and(|server| !server.handshakes.is_default())),
                passthrough: self.hosts.values().any(Host::passes_through),
                streams: Arc::new(streams),
            }),
        };
        self.table = Some(Arc::clone(&table));
        table
    }
}

impl Host {
    /// The entries that have a word in it.
    fn admitted(&self) -> &[Arc<Entry>] {
        self.admitted.as_deref().unwrap_or(&self.entries)
    }

    fn passes_through(&self) -> bool {
        self.server.as_ref().is_some_and(|server| server.passthrough.is_some())
    }
}

/// Puts a host into the index, or takes it out.
fn place(index: &mut HostIndex, name: &Arc<str>, server: Option<&Arc<Server>>) {
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

/// Every server that an Ingress has a word in.
fn hosts_of(contribution: &Contribution) -> BTreeSet<Arc<str>> {
    let mut hosts: BTreeSet<Arc<str>> = contribution.hosts().cloned().collect();
    let default_counts = contribution.semantics == PathSemantics::Kubernetes && !contribution.is_canary();
    if merge::is_default_only(contribution) || (default_counts && contribution.default_backend.is_some()) {
        hosts.insert(Arc::from(CATCH_ALL));
    }
    hosts
}

fn insert_by_age(entries: &mut Vec<Arc<Entry>>, entry: &Arc<Entry>) {
    let at = entries.partition_point(|other| other.contribution.age < entry.contribution.age);
    if !entries.get(at).is_some_and(|other| Arc::ptr_eq(other, entry)) {
        entries.insert(at, Arc::clone(entry));
    }
}

fn remove(entries: &mut Vec<Arc<Entry>>, entry: &Arc<Entry>) {
    let at = entries.partition_point(|other| other.contribution.age < entry.contribution.age);
    if entries.get(at).is_some_and(|other| Arc::ptr_eq(other, entry)) {
        entries.remove(at);
    }
}

fn global_id(service: &ObjectKey) -> BackendId {
    let key = BackendKey {
        namespace: Arc::clone(&service.namespace),
        service: Arc::clone(&service.name),
        port: Arc::from(""),
    };
    BackendId { key, role: BackendRole::Global }
}

fn class_finding(meta: &Meta, field: &str, value: &str, reason: String) -> Diagnostic {
    Finding { severity: Severity::Info, code: "ClassNotOurs", field, value, reason, hint: "" }
        .about_ingress(meta)
}
