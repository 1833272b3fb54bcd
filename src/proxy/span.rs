//! The span of a request: begun when a location takes it, finished with its record.
//!
//! What is traced is `policy::tracing`; how spans reach a collector is `telemetry::spans` and `collector`. The names of
//! attributes are those of the OpenTelemetry module that ingress-nginx loads.

use smallvec::SmallVec;

use super::exchange::Exchange;
use crate::policy::template::Facts;
use crate::policy::tracing::context::{Parent, TraceContext};
use crate::request::RequestView;
use crate::telemetry::spans::{Attribute, Span};
use crate::telemetry::{HostLabel, Record, RequestLine};

/// A span under way.
#[derive(Debug)]
pub struct Traced {
    /// Its ids, and what other hops are told.
    pub context: TraceContext,
    /// Its name.
    pub name: String,
}

/// Begins the span of a request where its location is traced. `None` costs a look at the location.
pub(super) fn begin(exchange: &Exchange, view: &RequestView<'_>) -> Option<Box<Traced>> {
    let location = exchange.location()?;
    let tracing = location.policies.tracing.as_ref()?;
    let defaults = &exchange.snapshot.table.globals.tracing;
    let parent = if tracing.trust { Parent::read(view.fields) } else { None };
    let rng = &exchange.worker.rng;
    let dice = [rng.next_u64(), rng.next_u64(), rng.next_u64()];
    let context = TraceContext::begin(parent.as_ref(), defaults, dice);
    let name = match &tracing.name {
        Some(template) => {
            let mut route = exchange.facts(&view.host.name, exchange.worker.since_epoch());
            route.trace = Some(&context);
            template.expand(&Facts { view, route })
        }
        None => location.rule_path.to_string(),
    };
    Some(Box::new(Traced { context, name }))
}

/// Hands a finished span over, if it is recorded.
pub(super) fn finish(exchange: &Exchange, traced: &Traced, record: &Record<'_>) {
    let context = &traced.context;
    if !context.sampled {
        return;
    }
    let client = record.client.to_string();
    let mut attributes: SmallVec<[(&'static str, Attribute<'_>); 12]> = SmallVec::new();
    if let RequestLine::Parsed { method, target, protocol } = record.line {
        let flavor = protocol.strip_prefix("HTTP/").unwrap_or(protocol);
        attributes.push(("http.method", Attribute::Text(method.as_bytes())));
        attributes.push(("http.flavor", Attribute::Text(flavor.as_bytes())));
        attributes.push(("http.target", Attribute::Text(target)));
    }
    let server = match record.route.host {
        HostLabel::Configured(name) => name,
        HostLabel::Undefined(_) => "_",
    };
    attributes.push(("http.server_name", Attribute::Text(server.as_bytes())));
    let fields = &exchange.head.fields;
    let host = fields.get("host").unwrap_or(record.host.as_bytes());
    if !host.is_empty() {
        attributes.push(("http.host", Attribute::Text(host)));
    }
    if let Some(agent) = fields.get("user-agent") {
        attributes.push(("http.user_agent", Attribute::Text(agent)));
    }
    attributes.push(("http.status_code", Attribute::Number(record.status.into())));
    attributes.push(("http.scheme", Attribute::Text(record.scheme.as_bytes())));
    attributes.push(("net.host.port", Attribute::Number(record.listener.port().into())));
    attributes.push(("net.peer.ip", Attribute::Text(client.as_bytes())));
    attributes.push(("net.peer.port", Attribute::Number(record.peer.port().into())));
    let span = Span {
        trace_id: context.trace_id,
        span_id: context.span_id,
        parent: context.parent,
        state: &context.state,
        name: &traced.name,
        end: record.time,
        took: record.request_time,
        attributes: &attributes,
    };
    exchange.worker.spans.offer(span.encode());
}
