//! What is judged before any family reads: size, names nobody knows, the risk level, the word blocklist.

use super::super::annotation::{MAX_VALUE, Reader, Risk, Spec};
use super::super::global::Globals;
use super::{gone, nearest, specs};
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
        format!("holds {word:?} of annotation-value-word-blocklist: the routes of this Ingress answer 404");
    reader.deny("AnnotationBlocklisted");
    reader.report(name, Severity::Error, "AnnotationBlocklisted", reason, "");
}

fn unknown(reader: &mut Reader<'_>, name: &str) {
    if let Some(known) = gone::find(gone::ANNOTATIONS, name) {
        let reason = "is not an annotation of ingress-nginx (any more) and has no effect";
        return reader.report(name, gone::severity(name), "UnknownAnnotation", reason, known.hint);
    }
    let names = specs().flat_map(|spec| std::iter::once(spec.name).chain(spec.aliases.iter().copied()));
    let hint = nearest(name, names).map(|name| format!("did you mean {name}?")).unwrap_or_default();
    let reason = "no annotation has this name; it has no effect";
    reader.report(name, Severity::Warning, "UnknownAnnotation", reason, hint);
}

/// The prefix of the first versions of ingress-nginx; other controllers write under it, too.
const FIRST_PREFIX: &str = "ingress.kubernetes.io";

/// Prefixes that people take for ours, or carry over, and whose they are.
const OTHERS: [(&str, &str); 6] = [
    ("nginx.org", "another controller (F5 NGINX)"),
    ("nginx.com", "another controller (F5 NGINX)"),
    ("haproxy.org", "another controller (HAProxy)"),
    ("haproxy.com", "another controller (HAProxy)"),
    ("haproxy-ingress.github.io", "another controller (HAProxy Ingress)"),
    (FIRST_PREFIX, "the first versions of ingress-nginx"),
];

/// Annotations of other controllers that people carry over, and prefixes with a slip of the pen.
fn foreign(reader: &mut Reader<'_>, full: &str, prefix: &str, name: &str) {
    let known = specs().any(|spec| spec.name == name || spec.aliases.contains(&name));
    let own = format!("{}/{name}", reader.prefix());
    let others = OTHERS.iter().find(|(other, _)| *other == prefix);
    if let Some((_, whose)) = others.filter(|_| known || prefix != FIRST_PREFIX) {
        let hint = match (known, gone::find(gone::ANNOTATIONS, name)) {
            (true, _) => format!("write {own}"),
            (false, Some(gone)) => gone.hint.to_owned(),
            (false, None) => nearest(name, specs().map(|spec| spec.name))
                .map(|name| format!("did you mean {}/{name}?", reader.prefix()))
                .unwrap_or_default(),
        };
        let reason = format!("belongs to {whose} and has no effect");
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
