//! The head for a backend: what the policies say, what snippets say, what the checks of access granted.

use http::StatusCode;

use super::Way;
use crate::policy::request_headers::{self, Outgoing, Purpose};
use crate::policy::snippet::heads;
use crate::proxy::filter;
use crate::reply::LocalReply;
use crate::telemetry::metrics::Counter;
use crate::wire::Fields;
use crate::wire::authority::parse_authority;

/// The fields a backend gets. One whose expanded value would break the head is left out and counted (B-7).
pub(in crate::proxy) fn head_for_backend(way: &Way<'_>, outgoing: &Outgoing<'_>) -> Fields {
    let mut head = request_headers::apply(outgoing);
    way.exchange.worker.metrics.add(Counter::HeaderValuesRejected, u64::from(head.rejected));
    if !way.run.is_idle() && !matches!(outgoing.purpose, Purpose::ErrorPage(_)) {
        heads::to_backend(way.run, &way.stage(outgoing.route), &mut head.fields);
    }
    head.fields
}

/// A `Host` that somebody put together from what a client sent is judged as the client's own is (H1-14, B-7): an
/// empty one, or one with bytes that no host has, would mean something else to whoever reads it.
///
/// # Errors
/// The answer for a request whose `Host` cannot be sent.
pub(super) fn sound_host(way: &Way<'_>, fields: &Fields) -> Result<(), LocalReply> {
    let made = way.location.policies.upstream_vhost.is_some()
        || !way.run.is_idle()
        || !way.globals().proxy_set_headers.is_empty()
        || way.view.forwarded.host != way.view.host.raw;
    let host = fields.get("host").unwrap_or_default();
    // A client of HTTP/1.0 that named none goes on without.
    if !made || (host.is_empty() && way.view.host.raw.is_empty()) || parse_authority(host).is_ok() {
        return Ok(());
    }
    way.exchange.worker.metrics.add(Counter::HeaderValuesRejected, 1);
    let reason = "the Host for the backend is none";
    Err(LocalReply::BadRequest { status: StatusCode::BAD_REQUEST, rule: "B-7", reason })
}

/// What the access checks want the backend to see, and not to see.
pub(in crate::proxy) fn as_granted(way: &Way<'_>, fields: &mut Fields) {
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
