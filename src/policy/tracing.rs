//! `enable-opentelemetry` and its details: which requests make a span, what it is called, whose trace it belongs to.
//!
//! What the spans are made of is [`context`] (ids, propagation) and `proxy::span` (attributes); who sends them is
//! `collector`.

use std::sync::Arc;

use super::annotation::{Fidelity, Reader, Risk, Scope, Spec};
use super::global::Globals;
use super::template::Template;

pub mod context;

const ENABLE: Spec = Spec::new("enable-opentelemetry", Scope::Location, Risk::Low)
    .fidelity(Fidelity::Equivalent(
        "requests that no location takes make no span; FastCGI and gRPC backends are told of the trace, too",
    ))
    .values("enable-opentelemetry of the ConfigMap", "true")
    .doc(
        "Make a span of each request, tell the backend of it, and send it to the collector of the ConfigMap.",
    );
const TRUST: Spec = Spec::new("opentelemetry-trust-incoming-span", Scope::Location, Risk::Low)
    .values("opentelemetry-trust-incoming-span of the ConfigMap", "false")
    .doc("Go on with the trace that the client names (`traceparent`), instead of beginning one.");
const NAME: Spec = Spec::new("opentelemetry-operation-name", Scope::Location, Risk::Medium)
    .values("opentelemetry-operation-name of the ConfigMap, else the path of the rule", "checkout")
    .doc("Name of the span.");

/// Annotations of this family.
pub const SPECS: &[Spec] = &[ENABLE, TRUST, NAME];

/// How requests of a location are traced.
#[derive(Debug, Clone, PartialEq)]
pub struct Tracing {
    /// The client's trace is gone on with.
    pub trust: bool,
    /// Name of the span; `None` for the path of the rule.
    pub name: Option<Template>,
}

impl Tracing {
    /// Reads the annotations; `None` where nothing is traced.
    pub fn read(reader: &mut Reader<'_>, globals: &Globals) -> Option<Arc<Self>> {
        let defaults = &globals.tracing;
        let on = reader.bool(&ENABLE).or(defaults.on);
        let trust = reader.bool(&TRUST).or(defaults.trust);
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-';
        let name = reader.text(&NAME, "the name of an operation", allowed).ok();
        // Without validation there may be variables in it, as in the ConfigMap.
        let name = name.map(|text| Template::parse(&text).unwrap_or_else(|_| Template::plain(&text)));
        on.then(|| Arc::new(Self { trust, name: name.or_else(|| defaults.name.clone()) }))
    }

    /// What the ConfigMap says for locations without annotations.
    pub fn global(globals: &Globals) -> Option<Arc<Self>> {
        let defaults = &globals.tracing;
        defaults.on.then(|| Arc::new(Self { trust: defaults.trust, name: defaults.name.clone() }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::annotation::sample::{diagnostics, read};

    fn globals(data: &[(&str, &str)]) -> Globals {
        let mut globals = Globals::default();
        for (key, value) in data {
            globals.tracing.set(key, value).expect("a key of tracing").expect("sound");
        }
        globals
    }

    /// `data` is the ConfigMap; expected are trust and name, or nothing.
    fn check(annotations: &[(&str, &str)], data: &[(&str, &str)], expect: Option<(bool, Option<&str>)>) {
        let globals = globals(data);
        let read = read(annotations, |reader| Tracing::read(reader, &globals));
        let seen =
            read.as_ref().map(|tracing| (tracing.trust, tracing.name.as_ref().map(|name| name.as_str())));
        assert_eq!(seen, expect, "{annotations:?} {data:?}");
    }

    #[test]
    fn annotations_win_over_the_config_map_one_by_one() {
        let on = [("enable-opentelemetry", "true")];
        check(&[], &[], None);
        check(&on, &[], Some((true, None)));
        check(&[], &on, Some((true, None)));
        check(&[("enable-opentelemetry", "false")], &on, None);
        check(&[("enable-opentelemetry", "perhaps")], &on, Some((true, None)));
        check(&[("opentelemetry-trust-incoming-span", "false")], &on, Some((false, None)));
        let wary = [("enable-opentelemetry", "true"), ("opentelemetry-trust-incoming-span", "false")];
        check(&[], &wary, Some((false, None)));
        check(&[("opentelemetry-trust-incoming-span", "true")], &wary, Some((true, None)));
        let named =
            [("enable-opentelemetry", "true"), ("opentelemetry-operation-name", "HTTP $request_method")];
        check(&[], &named, Some((true, Some("HTTP $request_method"))));
        check(&[("opentelemetry-operation-name", "pay-1_a")], &named, Some((true, Some("pay-1_a"))));
        check(&[("opentelemetry-operation-name", "a b")], &named, Some((true, Some("HTTP $request_method"))));
    }

    #[test]
    fn names_of_operations_are_one_plain_word_in_annotations() {
        let found = |name| {
            diagnostics(&[("opentelemetry-operation-name", name)], |reader| {
                Tracing::read(reader, &Globals::default());
            })
        };
        assert!(found("pay_it-2").is_empty());
        for bad in ["a b", "$uri", "a;b", "\"x\""] {
            assert_eq!(found(bad), ["InvalidAnnotation"], "{bad}");
        }
    }
}
