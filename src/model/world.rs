//! Every object that is known, by key.

use std::sync::Arc;

use super::{
    ConfigMap, EndpointSlice, Ingress, IngressClass, Kind, Namespace, ObjectKey, ObjectRef, Secret, Service,
    SharedMap,
};

/// All objects by key. Copies share what they have in common: taking a copy of the world is cheap, and an unchanged
/// object keeps its address, which is what incremental compilation looks at.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct World {
    /// Ingress objects of every class.
    pub ingresses: SharedMap<ObjectKey, Arc<Ingress>>,
    /// IngressClass objects (key namespace empty).
    pub classes: SharedMap<ObjectKey, Arc<IngressClass>>,
    /// This process may not read IngressClasses: what `spec.ingressClassName` means is not known, and it says nothing.
    pub classes_hidden: bool,
    /// Services.
    pub services: SharedMap<ObjectKey, Arc<Service>>,
    /// EndpointSlices.
    pub slices: SharedMap<ObjectKey, Arc<EndpointSlice>>,
    /// Secrets.
    pub secrets: SharedMap<ObjectKey, Arc<Secret>>,
    /// ConfigMaps.
    pub config_maps: SharedMap<ObjectKey, Arc<ConfigMap>>,
    /// Namespaces (key namespace empty).
    pub namespaces: SharedMap<ObjectKey, Arc<Namespace>>,
    /// Zone of the node that this process runs on, where endpoints are chosen by it; empty else.
    pub zone: Arc<str>,
}

impl World {
    /// True when there is such an object.
    pub fn contains(&self, reference: &ObjectRef) -> bool {
        let key = &reference.key;
        match reference.kind {
            Kind::ConfigMap => self.config_maps.contains_key(key),
            Kind::EndpointSlice => self.slices.contains_key(key),
            Kind::Ingress => self.ingresses.contains_key(key),
            Kind::IngressClass => self.classes.contains_key(key),
            Kind::Namespace => self.namespaces.contains_key(key),
            Kind::Secret => self.secrets.contains_key(key),
            Kind::Service => self.services.contains_key(key),
            Kind::Manifest | Kind::Node | Kind::Pod => false,
        }
    }

    /// Takes an object out.
    pub fn remove(&mut self, reference: &ObjectRef) {
        let key = &reference.key;
        match reference.kind {
            Kind::ConfigMap => drop(self.config_maps.remove(key)),
            Kind::EndpointSlice => drop(self.slices.remove(key)),
            Kind::Ingress => drop(self.ingresses.remove(key)),
            Kind::IngressClass => drop(self.classes.remove(key)),
            Kind::Namespace => drop(self.namespaces.remove(key)),
            Kind::Secret => drop(self.secrets.remove(key)),
            Kind::Service => drop(self.services.remove(key)),
            Kind::Manifest | Kind::Node | Kind::Pod => {}
        }
    }
}
