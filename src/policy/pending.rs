//! Annotations that are known and not honoured, or mean nothing here. Those that protect something shut the routes;
//! the others give a warning, so that nobody believes in them.

use std::collections::BTreeMap;

use super::annotation::{Fidelity, Reader, Risk, Scope, Spec, parse_bool};
use crate::diagnostic::Severity;

const NO_FIREWALL: Fidelity = Fidelity::Refused("there is no web application firewall");
const LOCATION: Scope = Scope::Location;

/// Protections: set to anything but "off", they shut the routes.
pub const REFUSED: &[Spec] = &[
    Spec::new("enable-modsecurity", LOCATION, Risk::Low)
        .fail_closed()
        .fidelity(NO_FIREWALL)
        .values("false", "true")
        .doc("Web application firewall."),
    Spec::new("modsecurity-snippet", LOCATION, Risk::Critical)
        .fail_closed()
        .fidelity(NO_FIREWALL)
        .values("none", "SecRuleEngine On")
        .doc("Rules of a web application firewall."),
];

const fn dead(
    name: &'static str,
    scope: Scope,
    risk: Risk,
    example: &'static str,
    why: &'static str,
) -> Spec {
    Spec::new(name, scope, risk).fidelity(Fidelity::AcceptedNoEffect(why)).values("none", example).doc(why)
}

/// Comforts, and details of protections whose switch stands above.
pub const WITHOUT_EFFECT: &[Spec] = &[
    dead("enable-owasp-core-rules", LOCATION, Risk::Low, "true", "there is no web application firewall"),
    dead(
        "modsecurity-transaction-id",
        LOCATION,
        Risk::High,
        "$request_id",
        "there is no web application firewall",
    ),
    dead("http2-push-preload", LOCATION, Risk::Low, "true", "browsers and servers gave up HTTP/2 push"),
];

/// Reports every annotation of this file that is set, and shuts the routes for protections.
pub fn read(reader: &mut Reader<'_>) {
    for spec in REFUSED {
        let Some((name, value)) = reader.raw(spec) else { continue };
        if is_off(spec, value.trim()) {
            continue;
        }
        reader.deny("NotSupported");
        let reason = "protects the routes and is not supported in this version: they answer 503";
        let hint = "keep these hosts on the old controller until it is, or remove the annotation";
        reader.report(name, Severity::Error, "NotSupported", reason, hint);
    }
    for spec in WITHOUT_EFFECT {
        if spec.example == "true" && reader.bool(spec).ok() != Some(true) {
            continue;
        }
        let Some((name, value)) = reader.raw(spec) else { continue };
        if value.trim().is_empty() {
            continue;
        }
        let reason = match spec.fidelity {
            Fidelity::AcceptedNoEffect(why) => format!("has no effect: {why}"),
            _ => "has no effect".into(),
        };
        reader.report(name, Severity::Warning, "NoEffect", reason, "");
    }
}

/// `enable-modsecurity: "false"`: what the ConfigMap says of the firewall does not count here.
pub fn opts_out_of_firewall(reader: &Reader<'_>) -> bool {
    let spec = REFUSED.iter().find(|spec| spec.name == "enable-modsecurity");
    spec.and_then(|spec| reader.raw(spec)).is_some_and(|(_, value)| parse_bool(value.trim()) == Ok(false))
}

/// True where the keys of the ConfigMap make a firewall that turns requests away. By default nginx's only writes down
/// what it would do (`SecRuleEngine DetectionOnly`).
pub fn blocks(data: &BTreeMap<String, String>) -> bool {
    let on = data.get("enable-modsecurity").is_some_and(|value| parse_bool(value.trim()) == Ok(true));
    let rules = data.get("modsecurity-snippet").map(String::as_str).unwrap_or_default();
    let engine = rules.lines().rev().find_map(|line| {
        let mut words = line.split_ascii_whitespace();
        let is_engine = words.next().is_some_and(|word| word.eq_ignore_ascii_case("SecRuleEngine"));
        words.next().filter(|_| is_engine)
    });
    on && engine.is_some_and(|value| value.trim_matches('"').eq_ignore_ascii_case("on"))
}

/// True for a value that leaves the protection off. An empty value never does: it is more likely a template that went
/// wrong than a wish (ground rule 1).
fn is_off(spec: &Spec, value: &str) -> bool {
    if spec.name.starts_with("enable-") { parse_bool(value) == Ok(false) } else { false }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::annotation::sample::{denied, diagnostics};

    #[test]
    fn protections_that_are_not_built_shut_the_routes_unless_off() {
        for (name, value) in [
            ("enable-modsecurity", "true"),
            ("enable-modsecurity", "perhaps"),
            ("modsecurity-snippet", "SecRuleEngine On"),
        ] {
            assert_eq!(denied(&[(name, value)], read), Some("NotSupported"), "{name} {value}");
        }
        for (name, value) in [("enable-modsecurity", "false"), ("auth-method", "GET")] {
            assert_eq!(denied(&[(name, value)], read), None, "{name} {value}");
        }
    }

    #[test]
    fn comforts_are_reported_when_set() {
        let codes = |name, value| diagnostics(&[(name, value)], read);
        assert_eq!(codes("http2-push-preload", "true"), ["NoEffect"]);
        assert!(codes("http2-push-preload", "false").is_empty());
    }

    #[test]
    fn a_firewall_that_only_watches_shuts_nothing() {
        let check = |data: &[(&str, &str)], expect| {
            let owned = data.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
            assert_eq!(blocks(&owned.collect()), expect, "{data:?}");
        };
        check(&[], false);
        check(&[("enable-modsecurity", "true")], false);
        check(&[("enable-modsecurity", "true"), ("enable-owasp-modsecurity-crs", "true")], false);
        check(&[("modsecurity-snippet", "SecRuleEngine On")], false);
        let rules = |text| [("enable-modsecurity", "true"), ("modsecurity-snippet", text)];
        check(&rules("SecRuleEngine On"), true);
        check(&rules("SecAuditEngine Off\n  secruleengine \"ON\"\nSecRule x y"), true);
        check(&rules("SecRuleEngine DetectionOnly"), false);
        check(&rules("SecRuleEngine On\nSecRuleEngine Off"), false);
        check(&rules("# SecRuleEngine On"), false);
    }
}
