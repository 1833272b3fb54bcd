//! What is judged before any family reads: size, names nobody knows, the risk level, the word blocklist.

use super::super::annotation::{MAX_VALUE, Reader, Risk, Spec};
use super::super::global::Globals;
use super::{nearest, specs};
use crate::diagnostic::Severity;

/// Bytes of all annotations of an object (`B-5`).
const MAX_TOTAL: usize = 256 * 1024;

/// Reports and denies as `routing.md` 2.5 and `security.md` B.2 say.
pub(super) fn check(reader: &mut Reader<'_>, globals: &Globals) {
    let annotations = &reader.ingress().meta.annotations;
    let total: usize = annotations.iter().map(|(name, value)| name.len() + value.len()).sum();
    let mut own = Vec::new();
    for (full, value) in annotations {
        match full.split_once('/') {
            Some((prefix, name)) if prefix == reader.prefix() => own.push((name, value.as_str())),
            Some((prefix, name)) => foreign(reader, full, prefix, name),
            None => {}
        }
    }
    if total > MAX_TOTAL && !own.is_empty() {
        reader.deny("AnnotationsTooLarge");
        let reason = "the annotations of this object are larger than 256 KiB together: its routes answer 503";
        reader.report(own[0].0, Severity::Error, "AnnotationsTooLarge", reason, "remove what is not needed");
    }
    for (name, value) in own {
        match specs().find(|spec| spec.name == name || spec.aliases.contains(&name)) {
            Some(spec) => {
                risk(reader, spec, name, globals);
                blocklist(reader, name, value, globals);
                if value.len() > MAX_VALUE {
                    reader.deny("AnnotationsTooLarge");
                }
            }
            None => unknown(reader, name),
        }
    }
}

/// True for the codes by which [`check`] refuses an Ingress as a whole.
pub(super) fn refuses_whole(code: &str) -> bool {
    matches!(code, "AnnotationRiskTooHigh" | "AnnotationBlocklisted" | "AnnotationsTooLarge")
}

fn risk(reader: &mut Reader<'_>, spec: &Spec, name: &str, globals: &Globals) {
    if spec.risk <= globals.annotations_risk_level {
        return;
    }
    reader.deny("AnnotationRiskTooHigh");
    let level = match spec.risk {
        Risk::Low => "Low",
        Risk::Medium => "Medium",
        Risk::High => "High",
        Risk::Critical => "Critical",
    };
    reader.report(
        name,
        Severity::Error,
        "AnnotationRiskTooHigh",
        format!("has risk {level}, above annotations-risk-level: the routes of this Ingress answer 503"),
        format!("remove the annotation, or set annotations-risk-level to {level} in the ConfigMap"),
    );
}

/// The word is looked for in the value as written and in the value without white space (`B-3`).
fn blocklist(reader: &mut Reader<'_>, name: &str, value: &str, globals: &Globals) {
    if globals.annotation_value_word_blocklist.is_empty() {
        return;
    }
    let dense: String = value.chars().filter(|letter| !letter.is_whitespace()).collect();
    let hit = |word: &&str| value.contains(*word) || dense.contains(*word);
    let Some(word) = globals.annotation_value_word_blocklist.iter().map(|word| &**word).find(hit) else {
        return;
    };
    let reason =
        format!("holds {word:?} of annotation-value-word-blocklist: the routes of this Ingress answer 503");
    reader.deny("AnnotationBlocklisted");
    reader.report(name, Severity::Error, "AnnotationBlocklisted", reason, "");
}

/// Names that existed once or that people believe in (`surface.md` 1.4), and what to write instead.
const GONE: &[(&str, &str)] = &[
    ("add-base-url", "it was removed from ingress-nginx; let the application know its base URL"),
    ("base-url-scheme", "it was removed from ingress-nginx"),
    ("client-header-buffer-size", "set the ConfigMap key large-client-header-buffers"),
    ("client-max-body-size", "use proxy-body-size"),
    ("enable-influxdb", "it was removed from ingress-nginx; use the Prometheus metrics"),
    ("enable-opentracing", "use enable-opentelemetry"),
    ("enable-websockets", "WebSocket always works; remove the annotation"),
    ("grpc-backend", "use backend-protocol: GRPC"),
    ("gzip", "set the ConfigMap key use-gzip"),
    ("hsts", "set the ConfigMap keys hsts, hsts-max-age, hsts-include-subdomains, hsts-preload"),
    ("large-client-header-buffers", "set the ConfigMap key large-client-header-buffers"),
    ("lua-resty-waf", "it was removed from ingress-nginx"),
    ("mirror-uri", "use mirror-target"),
    ("opentracing-operation-name", "use opentelemetry-operation-name"),
    ("opentracing-trust-incoming-span", "use opentelemetry-trust-incoming-span"),
    ("rate-limit", "use limit-rps or limit-rpm"),
    ("rate-limit-rps", "use limit-rps"),
    ("rate-limit-window", "use limit-rps or limit-rpm"),
    ("secure-backends", "use backend-protocol: HTTPS"),
    ("secure-verify-ca-secret", "use proxy-ssl-secret and proxy-ssl-verify"),
    ("server-snippets", "it never existed; the name is server-snippet"),
    ("session-cookie-hash", "it was removed from ingress-nginx; remove the annotation"),
    ("websocket-services", "WebSocket always works; remove the annotation"),
];

fn unknown(reader: &mut Reader<'_>, name: &str) {
    if let Some((_, hint)) = GONE.iter().find(|(gone, _)| *gone == name) {
        let reason = "is not an annotation of ingress-nginx (any more) and has no effect";
        return reader.report(name, Severity::Warning, "UnknownAnnotation", reason, *hint);
    }
    let names = specs().flat_map(|spec| std::iter::once(spec.name).chain(spec.aliases.iter().copied()));
    let hint = nearest(name, names).map(|name| format!("did you mean {name}?")).unwrap_or_default();
    let reason = "no annotation has this name; it has no effect";
    reader.report(name, Severity::Warning, "UnknownAnnotation", reason, hint);
}

/// Annotations of other controllers that people carry over, and prefixes with a slip of the pen.
fn foreign(reader: &mut Reader<'_>, full: &str, prefix: &str, name: &str) {
    let known = specs().any(|spec| spec.name == name || spec.aliases.contains(&name));
    let own = format!("{}/{name}", reader.prefix());
    if matches!(prefix, "nginx.org" | "nginx.com") {
        let hint = if known { format!("write {own}") } else { String::new() };
        let reason = "belongs to another controller (F5 NGINX) and has no effect";
        reader.report_full(full, Severity::Warning, "ForeignAnnotation", reason, hint);
    } else if known && nearest(prefix, std::iter::once(reader.prefix())).is_some() {
        let reason = format!("has a prefix that is not read; {} is", reader.prefix());
        reader.report_full(
            full,
            Severity::Warning,
            "UnknownAnnotation",
            reason,
            format!("did you mean {own}?"),
        );
    }
}
