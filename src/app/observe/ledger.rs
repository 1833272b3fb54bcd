//! What metrics tell of a table, brought up to date by what a publication changed: to look at ten thousand hosts for one of
//! them takes longer than to compile it. Holds the last table's hosts and endpoints, which are those that are served, and
//! lets go of them with the next. Decides nothing and tells nobody; `observe` does.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use crate::limit::priority::breathe;
use crate::model::ObjectKey;
use crate::route::host::{HostIndex, NameKind};
use crate::route::{EndpointMap, EndpointSet, LocationTarget, Server, Table, fingerprint};
use crate::telemetry::metrics::{IngressName, LiveObjects, Orphaned};

/// What is known of the last table.
#[derive(Default)]
pub(super) struct Ledger {
    hosts: HostIndex,
    catch_all: Option<Arc<Server>>,
    endpoints: Option<Arc<EndpointMap>>,
    /// By address: each server once, and under how many names.
    servers: HashMap<usize, (Arc<Server>, usize)>,
    locations: usize,
    ready: usize,
    /// By slot; slots after the last lead somewhere.
    leads: Vec<Leads>,
    owners: BTreeMap<ObjectKey, Owner>,
    /// The numbers of all names ([`fingerprint::of_name`]), added up.
    names: u64,
    /// Owners whose figures changed.
    touched: BTreeSet<ObjectKey>,
}

/// What became of a table since the last one.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct News {
    pub(super) came: LiveObjects,
    pub(super) left: LiveObjects,
    pub(super) orphans: Vec<(IngressName, Option<Orphaned>)>,
}

/// Where a backend leads.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum Leads {
    #[default]
    Somewhere,
    /// Its Service has no endpoint.
    ToNobody,
    /// Its Service does not exist.
    Nowhere,
}

/// What is known of an Ingress.
#[derive(Debug, Default)]
struct Owner {
    /// Its locations, also those that lead to no Service.
    locations: u32,
    /// Its locations by [`Leads`].
    leads: [u32; 3],
    /// What was told, once it was.
    told: Option<Option<Orphaned>>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Turn {
    Comes,
    Leaves,
}

// === impl Ledger ===

impl Ledger {
    /// Takes in the table that is served now, and its endpoints.
    pub(super) fn follow(&mut self, table: &Table, endpoints: &Arc<EndpointMap>) -> News {
        let mut news = News::default();
        let before = std::mem::replace(&mut self.hosts, table.hosts.clone());
        let catch_all = self.catch_all.replace(Arc::clone(&table.catch_all));
        let renamed = table.hosts.since(&before);
        let mut came = renamed.came;
        let mut left = renamed.left;
        for (kind, name, server) in &came {
            self.names = self.names.wrapping_add(fingerprint::of_name(kind, name, server));
        }
        for (kind, name, server) in &left {
            self.names = self.names.wrapping_sub(fingerprint::of_name(kind, name, server));
        }
        if !catch_all.as_ref().is_some_and(|known| Arc::ptr_eq(known, &table.catch_all)) {
            came.push((NameKind::Expression, "_".into(), &table.catch_all));
            left.extend(catch_all.as_ref().map(|known| (NameKind::Expression, "_".into(), known)));
        }
        // Those that come first: a server that gets another name stays.
        for (_, _, server) in came {
            breathe();
            if self.name(server, Turn::Comes) {
                news.came.hosts.push(Arc::clone(&server.name));
                self.count(server, Turn::Comes);
            }
        }
        for (_, _, server) in left {
            if self.name(server, Turn::Leaves) {
                news.left.hosts.push(Arc::clone(&server.name));
                self.count(server, Turn::Leaves);
            }
        }
        self.follow_endpoints(endpoints);
        self.tell_owners(&mut news);
        news
    }

    /// Virtual hosts.
    pub(super) fn hosts(&self) -> usize {
        self.servers.len()
    }

    /// Locations of all of them.
    pub(super) const fn locations(&self) -> usize {
        self.locations
    }

    /// Endpoints that are ready.
    pub(super) const fn ready(&self) -> usize {
        self.ready
    }

    /// The number of the table, which is to be the one that was followed last.
    pub(super) fn fingerprint(&self, table: &Table) -> u64 {
        fingerprint::with_names(table, self.names)
    }

    /// Notes a name of a server; true when it is its first, or was its last.
    fn name(&mut self, server: &Arc<Server>, turn: Turn) -> bool {
        let address = Arc::as_ptr(server).addr();
        let (_, names) = self.servers.entry(address).or_insert_with(|| (Arc::clone(server), 0));
        match turn {
            Turn::Comes => *names += 1,
            Turn::Leaves => *names = names.saturating_sub(1),
        }
        let only = *names == usize::from(turn == Turn::Comes);
        if only && turn == Turn::Leaves {
            self.servers.remove(&address);
        }
        only
    }

    /// Counts a server's locations in or out.
    fn count(&mut self, server: &Server, turn: Turn) {
        match turn {
            Turn::Comes => self.locations += server.locations.len(),
            Turn::Leaves => self.locations = self.locations.saturating_sub(server.locations.len()),
        }
        let step = |count: &mut u32| match turn {
            Turn::Comes => *count = count.saturating_add(1),
            Turn::Leaves => *count = count.saturating_sub(1),
        };
        for location in &server.locations {
            let Some(key) = &location.owner else { continue };
            let owner = owner_of(&mut self.owners, &mut self.touched, key);
            step(&mut owner.locations);
            if let (LocationTarget::Backend(backend), false) = (&location.target, location.implicit) {
                let leads = self.leads.get(backend.slot.0 as usize).copied().unwrap_or_default();
                owner.leads.get_mut(leads as usize).map(step);
            }
        }
    }

    /// Looks at the endpoint sets that are others than before.
    fn follow_endpoints(&mut self, endpoints: &Arc<EndpointMap>) {
        let before = self.endpoints.replace(Arc::clone(endpoints));
        if before.as_ref().is_some_and(|before| Arc::ptr_eq(before, endpoints)) {
            return;
        }
        let mut changed: BTreeMap<usize, (Leads, Leads)> = BTreeMap::new();
        let mut old = before.iter().flat_map(|before| before.iter());
        let mut slots = 0;
        for (slot, set) in endpoints.iter().enumerate() {
            slots = slot + 1;
            let known = old.next();
            if known.is_some_and(|known| Arc::ptr_eq(known, set)) {
                continue;
            }
            self.ready =
                (self.ready + set.ready.len()).saturating_sub(known.map_or(0, |known| known.ready.len()));
            if self.leads.len() <= slot {
                self.leads.resize(slot + 1, Leads::default());
            }
            let now = Leads::of(set);
            if let Some(before) = self.leads.get_mut(slot).map(|leads| std::mem::replace(leads, now))
                && before != now
            {
                changed.insert(slot, (before, now));
            }
        }
        let gone: usize = old.map(|known| known.ready.len()).sum();
        self.ready = self.ready.saturating_sub(gone);
        self.leads.truncate(slots);
        if !changed.is_empty() {
            self.lead_elsewhere(&changed);
        }
    }

    /// Services came to have endpoints, or lost them: rarer than any other change, so all locations are asked.
    fn lead_elsewhere(&mut self, changed: &BTreeMap<usize, (Leads, Leads)>) {
        let Self { servers, owners, touched, .. } = self;
        let locations = servers.values().inspect(|_| breathe()).flat_map(|(server, _)| &server.locations);
        for location in locations.filter(|location| !location.implicit) {
            let (Some(key), LocationTarget::Backend(backend)) = (&location.owner, &location.target) else {
                continue;
            };
            let Some((before, now)) = changed.get(&(backend.slot.0 as usize)) else { continue };
            let owner = owner_of(owners, touched, key);
            if let Some(count) = owner.leads.get_mut(*before as usize) {
                *count = count.saturating_sub(1);
            }
            if let Some(count) = owner.leads.get_mut(*now as usize) {
                *count = count.saturating_add(1);
            }
        }
    }

    fn tell_owners(&mut self, news: &mut News) {
        for key in std::mem::take(&mut self.touched) {
            let Some(owner) = self.owners.get_mut(&key) else { continue };
            let name = (Arc::clone(&key.namespace), Arc::clone(&key.name));
            let (now, before) = (owner.orphaned(), owner.told);
            if now != before.flatten() {
                news.orphans.push((name.clone(), now));
            }
            if owner.locations == 0 {
                self.owners.remove(&key);
                if before.is_some() {
                    news.left.ingresses.push(name);
                }
                continue;
            }
            if owner.told.replace(now).is_none() {
                news.came.ingresses.push(name);
            }
        }
    }
}

/// The figures of an owner, which are about to change.
fn owner_of<'o>(
    owners: &'o mut BTreeMap<ObjectKey, Owner>,
    touched: &mut BTreeSet<ObjectKey>,
    key: &ObjectKey,
) -> &'o mut Owner {
    if !touched.contains(key) {
        touched.insert(key.clone());
    }
    owners.entry(key.clone()).or_default()
}

impl Leads {
    fn of(set: &EndpointSet) -> Self {
        match set.ready.is_empty() {
            false => Self::Somewhere,
            true if set.lacks_service() => Self::Nowhere,
            true => Self::ToNobody,
        }
    }
}

impl Owner {
    /// `orphan_ingress` as ingress-nginx tells it: an orphan by any of its rules, and nothing about endpoints where there
    /// is no Service. `None` where no rule leads to a Service.
    fn orphaned(&self) -> Option<Orphaned> {
        let [somewhere, to_nobody, nowhere] = self.leads;
        let of_services = somewhere > 0 || to_nobody > 0;
        (of_services || nowhere > 0).then_some(Orphaned {
            no_service: nowhere > 0,
            no_endpoint: of_services.then_some(to_nobody > 0),
        })
    }
}

#[cfg(test)]
mod tests;
