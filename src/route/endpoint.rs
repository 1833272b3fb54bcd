//! Endpoints by backend: changes often, so it is a value of its own that is published with the table.

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;

use super::BackendSlot;

/// Where an endpoint is.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum EndpointAddress {
    /// An address.
    Socket(SocketAddr),
    /// A name to resolve (ExternalName) and a port.
    Name(Arc<str>, u16),
}

impl fmt::Display for EndpointAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Socket(address) => write!(f, "{address}"),
            Self::Name(name, port) => write!(f, "{name}:{port}"),
        }
    }
}

/// Endpoints of one backend, deduplicated and sorted.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct EndpointSet {
    /// Those that take requests.
    pub ready: Vec<EndpointAddress>,
    /// Why there is none; for logs and `explain`. Empty when there are some.
    pub empty_because: &'static str,
}

impl EndpointSet {
    /// What a set says that is empty for want of a Service.
    pub const NO_SERVICE: &str = "the Service does not exist";

    /// True where there is no Service to have endpoints.
    pub fn lacks_service(&self) -> bool {
        self.empty_because == Self::NO_SERVICE
    }
}

/// Endpoint sets by [`BackendSlot`].
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct EndpointMap {
    sets: Vec<Arc<EndpointSet>>,
}

impl EndpointMap {
    /// Sets in slot order.
    pub fn new(sets: Vec<Arc<EndpointSet>>) -> Self {
        Self { sets }
    }

    /// The set of a backend; an empty one for a slot that does not exist.
    pub fn of(&self, slot: BackendSlot) -> &EndpointSet {
        static NONE: EndpointSet = EndpointSet { ready: Vec::new(), empty_because: "unknown backend" };
        self.sets.get(slot.0 as usize).map_or(&NONE, Arc::as_ref)
    }

    /// The shared set of a backend: unchanged sets keep their address between snapshots.
    pub fn shared(&self, slot: BackendSlot) -> Option<&Arc<EndpointSet>> {
        self.sets.get(slot.0 as usize)
    }

    /// All sets in slot order.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<EndpointSet>> {
        self.sets.iter()
    }
}
