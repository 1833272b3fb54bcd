//! Annotations that are known and not built yet, or mean nothing here. Those that protect something shut the routes;
//! the others give a warning, so that nobody believes in them.

use super::annotation::{Fidelity, Reader, Risk, Scope, Spec, parse_bool};
use super::global::Globals;
use crate::diagnostic::Severity;

const NO_EFFECT_YET: Fidelity = Fidelity::AcceptedNoEffect("not built yet");
const LOCATION: Scope = Scope::Location;

/// Switches of protections: set to anything but "off", they shut the routes.
pub const REFUSED: &[Spec] = &[Spec::new("enable-modsecurity", LOCATION, Risk::Low)
    .fail_closed()
    .fidelity(Fidelity::Refused("there is no web application firewall"))
    .values("false", "true")
    .doc("Web application firewall.")];

/// Rules of a web application firewall.
pub const SNIPPETS: &[Spec] = &[Spec::new("modsecurity-snippet", LOCATION, Risk::Critical)
    .fidelity(Fidelity::AcceptedNoEffect("there is no web application firewall"))
    .values("none", "# nothing")
    .doc("Rules of a web application firewall.")];

const fn later(
    name: &'static str,
    scope: Scope,
    risk: Risk,
    example: &'static str,
    doc: &'static str,
) -> Spec {
    Spec::new(name, scope, risk).fidelity(NO_EFFECT_YET).values("none", example).doc(doc)
}

const fn dead(
    name: &'static str,
    scope: Scope,
    risk: Risk,
    example: &'static str,
    why: &'static str,
) -> Spec {
    Spec::new(name, scope, risk).fidelity(Fidelity::AcceptedNoEffect(why)).values("none", example).doc(why)
}

const TRACING: &str = "Tracing.";
const FASTCGI: &str = "FastCGI is not spoken";
const SERVER_TLS: &str = "the TLS library offers a fixed set of sound ciphers";

/// Comforts, and details of protections whose switch stands above.
pub const WITHOUT_EFFECT: &[Spec] = &[
    later(
        "ssl-passthrough",
        Scope::Server,
        Risk::Low,
        "true",
        "TLS connections of the host go through unopened.",
    ),
    later("enable-opentelemetry", LOCATION, Risk::Low, "true", TRACING),
    later("opentelemetry-trust-incoming-span", LOCATION, Risk::Low, "true", TRACING),
    later("opentelemetry-operation-name", LOCATION, Risk::Medium, "checkout", TRACING),
    dead("enable-owasp-core-rules", LOCATION, Risk::Low, "true", "there is no web application firewall"),
    dead(
        "modsecurity-transaction-id",
        LOCATION,
        Risk::High,
        "$request_id",
        "there is no web application firewall",
    ),
    dead("fastcgi-index", LOCATION, Risk::Medium, "index.php", FASTCGI),
    dead("fastcgi-params-configmap", LOCATION, Risk::Medium, "default/params", FASTCGI),
    dead("http2-push-preload", LOCATION, Risk::Low, "true", "browsers and servers gave up HTTP/2 push"),
    dead("ssl-ciphers", Scope::Server, Risk::Low, "HIGH", SERVER_TLS),
    dead("ssl-prefer-server-ciphers", Scope::Server, Risk::Low, "true", SERVER_TLS),
];

/// Reports every annotation of this file that is set, and shuts the routes for protections.
pub fn read(reader: &mut Reader<'_>, globals: &Globals) {
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
    for spec in SNIPPETS {
        snippet_in_use(reader, spec, globals);
    }
    for spec in WITHOUT_EFFECT {
        let Some((name, value)) = reader.raw(spec) else { continue };
        if matches!(value.trim(), "" | "false" | "off") {
            continue;
        }
        let reason = match spec.fidelity {
            Fidelity::AcceptedNoEffect(why) if spec.fidelity != NO_EFFECT_YET => {
                format!("has no effect: {why}")
            }
            _ => "has no effect in this version".into(),
        };
        reader.report(name, Severity::Warning, "NoEffect", reason, "");
    }
}

/// True for a value that leaves the protection off. An empty value never does: it is more likely a template that went
/// wrong than a wish (ground rule 1).
fn is_off(spec: &Spec, value: &str) -> bool {
    if spec.name.starts_with("enable-") { parse_bool(value) == Ok(false) } else { false }
}

/// Snippets above the risk level were refused by the gate. The others are stripped; one that protects something shuts
/// the routes when it was meant to count (`B-16`).
fn snippet_in_use(reader: &mut Reader<'_>, spec: &Spec, globals: &Globals) {
    let Some((name, value)) = reader.raw(spec) else { return };
    if value.trim().is_empty() || spec.risk > globals.annotations_risk_level {
        return;
    }
    if !globals.allow_snippet_annotations {
        let reason = "is ignored: allow-snippet-annotations is false";
        return reader.report(name, Severity::Warning, "SnippetIgnored", reason, "");
    }
    if value.split(|c: char| c.is_whitespace() || matches!(c, ';' | '{' | '}')).any(protects) {
        reader.deny("SnippetRefused");
        let reason =
            "is not interpreted in this version and holds directives that protect: the routes answer 503";
        return reader.report(name, Severity::Error, "SnippetRefused", reason, "use allowlist-source-range");
    }
    reader.report(name, Severity::Warning, "NoEffect", "is not interpreted in this version", "");
}

fn protects(word: &str) -> bool {
    matches!(word, "deny" | "allow" | "return" | "satisfy" | "internal")
        || word.starts_with("auth_")
        || word.starts_with("limit_")
        || word.starts_with("Sec")
        || word.starts_with("access_by_lua")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::annotation::sample::{denied, diagnostics};

    fn code(annotations: &[(&str, &str)], globals: &Globals) -> Option<&'static str> {
        denied(annotations, |reader| read(reader, globals))
    }

    #[test]
    fn protections_that_are_not_built_shut_the_routes_unless_off() {
        let globals = Globals::default();
        for (name, value) in [("enable-modsecurity", "true"), ("enable-modsecurity", "perhaps")] {
            assert_eq!(code(&[(name, value)], &globals), Some("NotSupported"), "{name} {value}");
        }
        for (name, value) in [("enable-modsecurity", "false"), ("auth-method", "GET")] {
            assert_eq!(code(&[(name, value)], &globals), None, "{name} {value}");
        }
    }

    #[test]
    fn comforts_are_reported_when_set() {
        let codes = |name, value| diagnostics(&[(name, value)], |reader| read(reader, &Globals::default()));
        assert_eq!(codes("enable-opentelemetry", "true"), ["NoEffect"]);
        assert!(codes("enable-opentelemetry", "false").is_empty());
    }
}
