//! Pages of an error backend (`custom-http-errors`): who gives them, and how it is asked. `service` calls it for an answer
//! that is to be replaced.

use std::sync::Arc;

use http::StatusCode;

use super::head::{as_granted, head_for_backend};
use super::{Trip, Way, answer, endpoints_of};
use crate::message::{RequestBody, Response};
use crate::policy::backend_protocol::BackendProtocol;
use crate::policy::request_headers::{Outgoing, Purpose};
use crate::route::{Backend, LocationTarget};

/// Who gives pages for errors of a location: its own default backend, else the one of the process, if it has endpoints.
/// As with ingress-nginx a path that no rule takes has no own one, nor have errors that only the ConfigMap lists.
pub fn error_backend<'w>(way: &Way<'w>) -> Option<&'w Arc<Backend>> {
    let snapshot = &way.exchange.snapshot;
    let alive = |backend: &&Arc<Backend>| !snapshot.endpoints.of(backend.slot).ready.is_empty();
    let global = || snapshot.table.default_backend.as_ref().filter(alive);
    let has_own = !is_unruled(way) && !way.location.policies.errors.inherited;
    way.location.default_backend.as_ref().filter(|own| has_own && alive(own)).or_else(global)
}

/// True where no rule takes the path: the default backend of the process is what serves there.
fn is_unruled(way: &Way<'_>) -> bool {
    matches!(way.location.target, LocationTarget::Default(_))
}

/// A page of the error backend for an answer with `status`; `None` when it fails.
pub async fn error_page(
    way: &Way<'_>,
    backend: &Arc<Backend>,
    status: StatusCode,
    body: RequestBody,
) -> Option<Response> {
    let described = way.location.backend().unwrap_or(backend);
    let mut route = way.facts(described);
    if is_unruled(way) {
        (route.service, route.service_port) = Default::default();
    }
    let purpose = Purpose::ErrorPage(status.as_u16());
    let outgoing = Outgoing {
        view: way.view,
        route,
        policies: &way.location.policies,
        globals: way.globals(),
        hop: way.hop,
        trusted: way.trusted,
        forwarded_prefix: None,
        purpose,
    };
    let mut fields = head_for_backend(way, &outgoing);
    as_granted(way, &mut fields);
    let mut target = b"/".to_vec();
    if let Some(query) = way.view.query {
        target.push(b'?');
        target.extend_from_slice(query);
    }
    let trip = Trip {
        way,
        backend,
        endpoints: endpoints_of(way, backend).await,
        method: way.view.method,
        target: &target,
        fields: &fields,
        protocol: BackendProtocol::Http,
        page: true,
        sticky_key: None,
        hash_key: None,
    };
    let got = trip.run(body).await.ok()?;
    answer(way, backend, got, purpose).await.ok()
}
