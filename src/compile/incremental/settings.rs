//! What every contribution depends on: flags and ConfigMap. When they change, all is compiled anew.

use crate::policy::{BackendPolicies, ServerPolicies};

use super::{
    Arc, BackendSlot, ConfigMap, Diagnostic, Entry, Globals, Inputs, ObjectKey, Options, Origin, Reach,
    RoutePolicies, SharedMap, Slots, Surroundings, follow, stream,
};

#[derive(Debug)]
pub(super) struct Settings {
    pub(super) options: Options,
    config_maps: SharedMap<ObjectKey, Arc<ConfigMap>>,
    /// The controller's, with the place it came from.
    pub(super) config_map: Option<(ObjectKey, Arc<Origin>)>,
    pub(super) globals: Arc<Globals>,
    pub(super) globals_findings: Vec<Diagnostic>,
    /// Policies of an Ingress without annotations.
    pub(super) base: Arc<RoutePolicies>,
    /// The same for its hosts.
    pub(super) plain_server: Arc<ServerPolicies>,
    /// The same for its backends.
    pub(super) plain_backend: Arc<BackendPolicies>,
    /// `--default-backend-service`.
    pub(super) default_slot: Option<BackendSlot>,
    pub(super) reach: Reach,
    /// TCP and UDP services, with their slots.
    pub(super) streams: Vec<(stream::Entry, BackendSlot)>,
}

impl Settings {
    pub(super) fn new(inputs: &Inputs<'_>) -> Self {
        let options = inputs.options.clone();
        let (globals, mut globals_findings) = read_globals(inputs);
        let (streams, found) = stream::read(inputs.world, inputs.options);
        globals_findings.extend(found);
        let main = inputs.options.config_map.as_ref();
        let config_map = main
            .and_then(|key| Some((key.clone(), Arc::clone(&inputs.world.config_maps.get(key)?.meta.origin))));
        Self {
            config_map,
            reach: options.reach(),
            options,
            config_maps: inputs.world.config_maps.clone(),
            base: Arc::new(RoutePolicies::defaults(&globals)),
            plain_server: Arc::default(),
            plain_backend: Arc::default(),
            globals: Arc::new(globals),
            globals_findings,
            default_slot: None,
            // Slots are given out when the settings are taken over.
            streams: streams.into_iter().map(|entry| (entry, BackendSlot(u32::MAX))).collect(),
        }
    }

    /// What the plan of a host depends on beside its entries.
    pub(super) fn surroundings<'s>(
        &'s self,
        slots: &'s Slots,
        hostless: &'s [Arc<Entry>],
    ) -> Surroundings<'s> {
        Surroundings { base: &self.base, slots, hostless, semantics: self.options.path_semantics }
    }

    /// True when flags and ConfigMap still say the same. Findings about the ConfigMap are renewed.
    pub(super) fn still_holds(&mut self, inputs: &Inputs<'_>) -> bool {
        if self.options != *inputs.options {
            return false;
        }
        if follow(&mut self.config_maps, &inputs.world.config_maps).is_empty() {
            return true;
        }
        let (globals, findings) = read_globals(inputs);
        let (streams, found) = stream::read(inputs.world, inputs.options);
        self.globals_findings = findings;
        self.globals_findings.extend(found);
        globals == *self.globals && self.streams.iter().map(|(entry, _)| entry).eq(&streams)
    }
}

fn read_globals(inputs: &Inputs<'_>) -> (Globals, Vec<Diagnostic>) {
    let maps = &inputs.world.config_maps;
    let (mut globals, findings) = match inputs.options.config_map.as_ref().and_then(|key| maps.get(key)) {
        Some(main) => Globals::parse_keeping(main, maps, &inputs.options.kept_keys),
        None => (Globals::default(), Vec::new()),
    };
    globals.compat_trust_forwarded_any = inputs.options.trust_forwarded_any;
    (globals, findings)
}
