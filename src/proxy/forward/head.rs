//! The head for a backend: what the policies say, what snippets say, what the checks of access granted.

use super::Way;
use crate::policy::request_headers::{self, Outgoing, Purpose};
use crate::policy::snippet::heads;
use crate::proxy::filter;
use crate::telemetry::metrics::Counter;
use crate::wire::Fields;

/// The fields a backend gets. One whose expanded value would break the head is left out and counted (B-7).
pub(super) fn head_for_backend(way: &Way<'_>, outgoing: &Outgoing<'_>) -> Fields {
    let mut head = request_headers::apply(outgoing);
    way.exchange.worker.metrics.add(Counter::HeaderValuesRejected, u64::from(head.rejected));
    if !way.run.is_idle() && !matches!(outgoing.purpose, Purpose::ErrorPage(_)) {
        heads::to_backend(way.run, &way.stage(outgoing.route), &mut head.fields);
    }
    head.fields
}

/// What the access checks want the backend to see, and not to see.
pub(super) fn as_granted(way: &Way<'_>, fields: &mut Fields) {
    if let Some(standing) = way.exchange.standing() {
        filter::edit(&standing.fields, fields);
    }
    if let Some(granted) = way.exchange.granted() {
        filter::edit(&granted.fields, fields);
    }
}

/// RFC 8441 section 5: HTTP/2 leaves the key of the WebSocket handshake out; an HTTP/1 backend needs one.
pub(super) fn complete_handshake(way: &Way<'_>, fields: &mut Fields) {
    if !fields.contains("sec-websocket-key") {
        let key = way.exchange.worker.websocket_key();
        let _kept_without = fields.set("Sec-WebSocket-Key", key.as_bytes());
    }
}
