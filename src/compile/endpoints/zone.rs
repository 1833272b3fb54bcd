//! Which endpoints are meant for the zone of this process (`--enable-topology-aware-routing`): by the hints of their slices,
//! and never so that none is left. Who finds the zone is `controller`; asked by `endpoints`.

use crate::model::{Endpoint, EndpointSlice, Service};

/// KEP-2433: `Auto` asks for hints by zone.
const TOPOLOGY_MODE: &str = "service.kubernetes.io/topology-mode";

/// True for a Service that asks for endpoints of the own zone.
pub(super) fn counts(service: &Service) -> bool {
    let mode = service.meta.annotations.get(TOPOLOGY_MODE);
    mode.is_some_and(|mode| mode.eq_ignore_ascii_case("auto"))
        // The second name of the same since Kubernetes 1.34 (KEP-3015).
        || matches!(service.traffic_distribution.as_str(), "PreferClose" | "PreferSameZone")
}

/// True when the hints of a slice count: every endpoint has some.
pub(super) fn is_hinted(slice: &EndpointSlice, zone: &str) -> bool {
    !zone.is_empty() && slice.endpoints.iter().all(|endpoint| !endpoint.hinted_zones.is_empty())
}

/// True for an endpoint that is meant for the zone.
pub(super) fn is_near(endpoint: &Endpoint, zone: &str) -> bool {
    endpoint.hinted_zones.iter().any(|hinted| hinted == zone)
}
