//! Endpoint sets by slot, kept while nothing touches their Service.

use super::{
    Arc, BTreeSet, BackendId, BackendRole, BackendSlot, EndpointMap, EndpointSet, ObjectKey, Problem,
    Services, Settings, Slots, Wish, endpoints,
};
use std::collections::BTreeMap;

#[derive(Debug, Default)]
pub(super) struct EndpointState {
    sets: Vec<Arc<EndpointSet>>,
    pub(super) problems: BTreeMap<BackendSlot, Problem>,
    /// Slots by Service.
    users: BTreeMap<ObjectKey, BTreeSet<BackendSlot>>,
    /// What was published last, while it still holds.
    published: Option<Arc<EndpointMap>>,
}

impl EndpointState {
    /// Resolves the backends of touched Services, and those in `backends`.
    pub(super) fn refresh(
        &mut self,
        slots: &Slots,
        services: &Services,
        settings: &Settings,
        touched: &BTreeSet<ObjectKey>,
        backends: &BTreeSet<BackendSlot>,
    ) {
        for slot in backends {
            if let Some(state) = slots.state(*slot) {
                self.users.entry(service_of(&state.id.key)).or_default().insert(*slot);
            }
        }
        if self.sets.len() < slots.len() {
            let nothing = Arc::new(EndpointSet { ready: Vec::new(), empty_because: "unknown backend" });
            self.sets.resize(slots.len(), nothing);
            self.published = None;
        }
        let of_services = touched.iter().filter_map(|service| self.users.get(service)).flatten();
        let due: BTreeSet<BackendSlot> = of_services.chain(backends).copied().collect();
        for slot in due {
            self.resolve(slot, slots, services, settings);
        }
    }

    fn resolve(&mut self, slot: BackendSlot, slots: &Slots, services: &Services, settings: &Settings) {
        let Some(state) = slots.state(slot) else { return };
        let service = service_of(&state.id.key);
        let asked = state.backend.as_ref().and_then(|backend| backend.policies.service_upstream);
        let wish = Wish {
            id: &state.id,
            service_upstream: state.id.role == BackendRole::Route
                && asked.unwrap_or(settings.globals.service_upstream),
            external_names: !settings.options.disable_external_name,
            reach: &settings.reach,
            zone: &services.zone,
        };
        let slices = services.slices_of(&service);
        let found = services.services.get(&service).map(Arc::as_ref);
        let (set, problem) = endpoints::resolve(wish, found, &slices);
        match problem {
            Some(problem) => self.problems.insert(slot, problem),
            None => self.problems.remove(&slot),
        };
        if let Some(place) = self.sets.get_mut(slot.0 as usize)
            && **place != set
        {
            *place = Arc::new(set);
            self.published = None;
        }
    }

    /// Forgets a slot that was given back.
    pub(super) fn forget(&mut self, slot: BackendSlot, id: &BackendId) {
        self.problems.remove(&slot);
        let service = service_of(&id.key);
        if let Some(users) = self.users.get_mut(&service) {
            users.remove(&slot);
            if users.is_empty() {
                self.users.remove(&service);
            }
        }
        if let Some(place) = self.sets.get_mut(slot.0 as usize)
            && !place.ready.is_empty()
        {
            *place = Arc::new(EndpointSet { ready: Vec::new(), empty_because: "unknown backend" });
            self.published = None;
        }
    }

    /// All sets; the same value while nothing changed.
    pub(super) fn map(&mut self) -> Arc<EndpointMap> {
        Arc::clone(self.published.get_or_insert_with(|| Arc::new(EndpointMap::new(self.sets.clone()))))
    }
}

fn service_of(key: &crate::route::BackendKey) -> ObjectKey {
    ObjectKey { namespace: Arc::clone(&key.namespace), name: Arc::clone(&key.service) }
}
