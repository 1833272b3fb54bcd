//! From findings about one Ingress to a verdict: what is refused, in the words that users of ingress-nginx know. Pure.

use std::collections::BTreeMap;
use std::iter;

use crate::compile::Options;
use crate::compile::class::{self, Classes};
use crate::diagnostic::{Diagnostic, Severity};
use crate::model::{Ingress, ObjectKey, PathRule, PathType, World};
use crate::policy::annotation::{is_url_char, parse_bool, parse_int};
use crate::policy::global::Globals;

/// Most warnings of an answer; `kubectl` prints each.
const MOST_WARNINGS: usize = 16;
/// Longest warning: API servers cut what is longer.
const LONGEST_WARNING: usize = 256;
/// Longest reason of a refusal.
const LONGEST_MESSAGE: usize = 2048;

/// What becomes of an Ingress.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// It may be stored.
    Allow {
        /// What its owner should know nevertheless.
        warnings: Vec<String>,
    },
    /// It may not.
    Refuse {
        /// Why.
        message: String,
        /// As above.
        warnings: Vec<String>,
    },
}

/// The verdict about an Ingress of ours. `found` are the findings about it that come of compiling `world`, which holds it.
pub fn verdict(
    ingress: &Ingress,
    found: &[Diagnostic],
    world: &World,
    options: &Options,
    globals: &Globals,
) -> Verdict {
    let warnings = found.iter().filter(|one| one.severity > Severity::Info).map(warning);
    let warnings: Vec<String> = warnings.take(MOST_WARNINGS).collect();
    let refusal = deep_inspect(ingress)
        .or_else(|| catch_all(ingress, options))
        .or_else(|| strict_path(found, globals))
        .or_else(|| foreign_prefix(ingress, options))
        .or_else(|| snippet(ingress, options, globals))
        .or_else(|| found.iter().find(|one| refuses(one) || validated(one, options)).map(message))
        .or_else(|| overlap(ingress, found, world, options))
        .or_else(|| twin(ingress, world, options));
    match refusal {
        Some(message) => {
            Verdict::Refuse { message: shortened(&message, LONGEST_MESSAGE).to_owned(), warnings }
        }
        None => Verdict::Allow { warnings },
    }
}

fn warning(found: &Diagnostic) -> String {
    let mut text = if found.field.is_empty() { String::new() } else { format!("{}: ", found.field) };
    text.push_str(&found.reason);
    if !found.hint.is_empty() {
        text.push_str(&format!(" ({})", found.hint));
    }
    // A line feed would end the header that carries it.
    shortened(&text.replace(char::is_control, " "), LONGEST_WARNING).to_owned()
}

fn shortened(text: &str, most: usize) -> &str {
    text.get(..text.floor_char_boundary(most)).unwrap_or(text)
}

/// What is nobody's business to have in a path or a name (`routing.md` 2.5). With us such text does nothing; it is refused
/// because whoever writes it means harm.
fn deep_inspect(ingress: &Ingress) -> Option<String> {
    let in_rules = ingress.rules.iter().flat_map(|rule| {
        let paths = rule.paths.iter().flatten();
        let paths = paths.map(|path| ("rule in ingress", "invalid http path: ", path.path.as_str()));
        iter::once(("host in ingress", "", rule.host.as_str())).chain(paths)
    });
    let in_tls = ingress.tls.iter().flat_map(|block| {
        let hosts = block.hosts.iter().map(|host| ("host in ingress tls config", "", host.as_str()));
        iter::once(("secret in ingress", "", block.secret_name.as_str())).chain(hosts)
    });
    let (place, what, bad) = in_rules.chain(in_tls).find(|(_, _, text)| is_hostile(text))?;
    let (key, bad) = (&ingress.meta.key, bad.escape_debug());
    Some(format!("invalid object: invalid {place} {key}: {what}invalid value found: {bad}"))
}

fn is_hostile(text: &str) -> bool {
    const PLACES: [&str; 7] = [
        "/etc/passwd",
        "/etc/shadow",
        "/etc/group",
        "/etc/nginx",
        "/etc/ingress-controller",
        "/var/run/secrets",
        "_by_lua",
    ];
    let directive = |word: &str| {
        text.split_once(word)
            .is_some_and(|(_, rest)| rest.starts_with([' ', '\t', '\n']) && rest.contains(';'))
    };
    PLACES.iter().any(|place| text.contains(place)) || directive("alias") || directive("root")
}

fn catch_all(ingress: &Ingress, options: &Options) -> Option<String> {
    (options.disable_catch_all && ingress.default_backend.is_some()).then(|| {
        "this deployment is trying to create a catch-all ingress while DisableCatchAll flag is set to true. Remove \
         '.spec.defaultBackend' or set DisableCatchAll flag to false"
            .to_owned()
    })
}

/// `strict-validate-path-type`, on unless the ConfigMap says otherwise.
fn strict_path(found: &[Diagnostic], globals: &Globals) -> Option<String> {
    if !globals.strict_validate_path_type {
        return None;
    }
    let bad =
        found.iter().find(|one| one.code == "InvalidPath" && one.reason.contains("cannot be used with"))?;
    Some(format!("ingress contains invalid paths: {}", bad.reason))
}

/// Where `--annotations-prefix` is another, the usual one has no effect, which nobody who writes it expects.
fn foreign_prefix(ingress: &Ingress, options: &Options) -> Option<String> {
    const USUAL: &str = "nginx.ingress.kubernetes.io";
    if options.annotations_prefix == USUAL {
        return None;
    }
    let mut names = ingress.meta.annotations.keys();
    names.find(|name| name.split_once('/').is_some_and(|(prefix, _)| prefix == USUAL)).map(|_| {
        format!(
            "this deployment has a custom annotation prefix defined. Use '{}' instead of '{USUAL}'",
            options.annotations_prefix
        )
    })
}

/// Snippets where the administrator allows none; ingress-nginx says so before it looks at risks.
fn snippet(ingress: &Ingress, options: &Options, globals: &Globals) -> Option<String> {
    if globals.allow_snippet_annotations {
        return None;
    }
    let own = |name: &&String| {
        name.split_once('/')
            .is_some_and(|(prefix, name)| prefix == options.annotations_prefix && name.ends_with("-snippet"))
    };
    ingress.meta.annotations.keys().find(own).map(|name| {
        format!(
            "{name} annotation cannot be used. Snippet directives are disabled by the Ingress administrator"
        )
    })
}

/// An error that is the object's own. What another object can still mend is none: objects come in any order.
fn refuses(found: &Diagnostic) -> bool {
    const MAY_COME_LATER: [&str; 15] = [
        "AuthUnavailable",
        "BackendTlsUnavailable",
        "CanaryOwnsService",
        "CertificateNotCoveringHost",
        "ClientCertificatesUnavailable",
        "ConfigMapNotFound",
        "CustomHeadersUnavailable",
        "DefaultCertificate",
        "EndpointRefused",
        "ExternalNameRefused",
        "FastcgiParams",
        "NoEndpoints",
        "PortNotFound",
        "SecretNotFound",
        "ServiceNotFound",
    ];
    found.severity == Severity::Error && !MAY_COME_LATER.contains(&found.code)
}

/// Annotations whose value ingress-nginx has checked before it admits an Ingress, though with a bad one nothing is left
/// open here and the default counts.
const VALIDATED: [&str; 28] = [
    "auth-realm",
    "auth-secret-type",
    "auth-tls-error-page",
    "auth-tls-pass-certificate-to-upstream",
    "client-body-buffer-size",
    "connection-proxy-header",
    "custom-http-errors",
    "default-backend",
    "fastcgi-index",
    "fastcgi-params-configmap",
    "from-to-www-redirect",
    "http2-push-preload",
    "limit-allowlist",
    "limit-whitelist",
    "load-balance",
    "permanent-redirect",
    "permanent-redirect-code",
    "relative-redirects",
    "server-alias",
    "ssl-ciphers",
    "ssl-passthrough",
    "temporal-redirect",
    "temporal-redirect-code",
    "upstream-hash-by",
    "upstream-hash-by-subset",
    "upstream-hash-by-subset-size",
    "upstream-vhost",
    "x-forwarded-prefix",
];

/// A value that the checks of ingress-nginx refuse (`--enable-annotation-validation`).
fn validated(found: &Diagnostic, options: &Options) -> bool {
    let name = annotation(found).and_then(|full| full.strip_prefix(options.annotations_prefix.as_str()));
    let name = name.and_then(|rest| rest.strip_prefix('/')).unwrap_or_default();
    options.validate_annotations
        && found.code == "InvalidAnnotation"
        && VALIDATED.contains(&name)
        && !is_well_formed(name, found.value.trim())
}

/// A value of the right form that has no meaning: there the default counts, and the Ingress is admitted.
fn is_well_formed(name: &str, value: &str) -> bool {
    match name {
        "permanent-redirect-code" | "temporal-redirect-code" | "upstream-hash-by-subset-size" => {
            parse_int(value).is_ok()
        }
        "temporal-redirect" => value.bytes().all(is_url_char),
        _ => false,
    }
}

/// Full name of the annotation that a finding is about.
fn annotation(found: &Diagnostic) -> Option<&str> {
    found.field.strip_prefix("metadata.annotations[")?.strip_suffix(']')
}

fn message(found: &Diagnostic) -> String {
    let annotation = annotation(found).unwrap_or(&found.field);
    match found.code {
        "AnnotationBlocklisted" => {
            let word = found.reason.split('"').nth(1).unwrap_or_default();
            format!("{annotation} annotation contains invalid word {word}")
        }
        "AnnotationRiskTooHigh" => {
            format!(
                "annotation {annotation} is too risky for this controller: its annotation group contains risky annotation \
                 based on ingress configuration; it {}",
                found.reason
            )
        }
        code if code.contains("Snippet") && annotation.ends_with("-snippet") => format!(
            "{annotation} annotation cannot be used. Snippet directives are disabled by the Ingress administrator: {}",
            found.reason
        ),
        "InvalidAnnotation" => {
            let hint = if found.hint.is_empty() { String::new() } else { format!(" ({})", found.hint) };
            format!(
                "annotation {annotation} contains invalid value {:?}: {}{hint}",
                found.value, found.reason
            )
        }
        _ => {
            let value = if found.value.is_empty() { String::new() } else { format!("={:?}", found.value) };
            let hint = if found.hint.is_empty() { String::new() } else { format!(" ({})", found.hint) };
            format!("{}{value}: {}{hint}", found.field, found.reason)
        }
    }
}

/// A path that another Ingress has already (`routing.md` 9.3); the canary annotation, whatever its value, disarms this.
fn overlap(ingress: &Ingress, found: &[Diagnostic], world: &World, options: &Options) -> Option<String> {
    let canary = format!("{}/canary", options.annotations_prefix);
    if ingress.meta.annotations.contains_key(&canary) {
        return None;
    }
    let conflicts = found.iter().filter(|one| one.code == "PathConflict");
    conflicts.filter_map(|one| place(&one.field)).find_map(|(rule, path)| {
        let rule = ingress.rules.get(rule)?;
        let path = &rule.paths.as_ref()?.get(path)?.path;
        let path = if path.is_empty() { "/" } else { path };
        let owner = owner(&rule.host, path, &ingress.meta.key, &canary, world)?;
        let host = if rule.host.is_empty() { "_" } else { &rule.host };
        Some(format!("host \"{host}\" and path \"{path}\" is already defined in ingress {owner}"))
    })
}

/// A path that another Ingress has with another type. Both would be served, each where it matches; ingress-nginx refuses
/// it where its location has the very text of the other's, whatever the types.
fn twin(ingress: &Ingress, world: &World, options: &Options) -> Option<String> {
    let canary = format!("{}/canary", options.annotations_prefix);
    if ingress.meta.annotations.contains_key(&canary) {
        return None;
    }
    let classes = Classes::new(world, options);
    let is_ours = |other: &Ingress| {
        !other.meta.annotations.contains_key(&canary)
            && matches!(classes.judge(other, options), class::Verdict::Ours(_))
    };
    // Whoever has a host is looked up once, not for each path: an Ingress may have thousands.
    let mut sharing: BTreeMap<&str, BTreeMap<&ObjectKey, &Ingress>> =
        ingress.rules.iter().map(|rule| (&*rule.host, BTreeMap::new())).collect();
    for (key, other) in world.ingresses.iter().filter(|(key, _)| **key != ingress.meta.key) {
        for rule in &other.rules {
            if let Some(others) = sharing.get_mut(&*rule.host) {
                others.insert(key, other);
            }
        }
    }
    for rule in &ingress.rules {
        let others = sharing.get(&*rule.host).into_iter().flatten();
        for path in rule.paths.iter().flatten() {
            let declares = |other: &Ingress| {
                let rules = other.rules.iter().filter(|other| other.host == rule.host);
                let mut paths = rules.filter_map(|rule| rule.paths.as_ref()).flatten();
                paths.any(|one| meets(path, one, other, options))
            };
            if let Some((owner, _)) = others.clone().find(|(_, other)| declares(other) && is_ours(other)) {
                let host = if rule.host.is_empty() { "_" } else { &rule.host };
                return Some(format!(
                    "host \"{host}\" and path \"{}\" is already defined in ingress {owner}",
                    written(path)
                ));
            }
        }
    }
    None
}

fn written(path: &PathRule) -> &str {
    if path.path.is_empty() { "/" } else { &path.path }
}

/// True when a new path and one of `other`, of different types, are one text to ingress-nginx: beside an Exact path, a
/// Prefix but `/` is only what has a slash at its end, unless it is an expression.
fn meets(new: &PathRule, there: &PathRule, other: &Ingress, options: &Options) -> bool {
    let exact = |path: &PathRule| path.path_type == Some(PathType::Exact);
    let (text, found) = (written(new), written(there));
    match (exact(new), exact(there)) {
        (false, true) => text == found,
        (true, false) if found == "/" => text == "/",
        (true, false) => {
            let says = |name: &str| {
                other
                    .meta
                    .annotations
                    .get(&format!("{}/{name}", options.annotations_prefix))
                    .map(|text| text.trim())
            };
            let expression = says("use-regex").is_some_and(|text| parse_bool(text) == Ok(true))
                || says("rewrite-target").is_some_and(|target| !target.is_empty() && target != found);
            match expression {
                true => text == found,
                false => text.strip_suffix('/') == Some(found.trim_end_matches('/')),
            }
        }
        _ => false,
    }
}

/// `spec.rules[1].http.paths[2].path` as `(1, 2)`.
fn place(field: &str) -> Option<(usize, usize)> {
    let rest = field.strip_prefix("spec.rules[")?;
    let (rule, rest) = rest.split_once("].http.paths[")?;
    let (path, _) = rest.split_once(']')?;
    Some((rule.parse().ok()?, path.parse().ok()?))
}

/// Who else declares a path, and is no canary. Only asked when somebody does.
fn owner<'w>(
    host: &str,
    path: &str,
    own: &ObjectKey,
    canary: &str,
    world: &'w World,
) -> Option<&'w ObjectKey> {
    let bare = |path: &str| path.trim_end_matches('/').len();
    let same = |other: &str| other.get(..bare(other)) == path.get(..bare(path));
    let declares = |other: &Ingress| {
        let rules = other.rules.iter().filter(|rule| rule.host == host);
        rules.filter_map(|rule| rule.paths.as_ref()).flatten().any(|other| same(&other.path))
    };
    let others = world.ingresses.iter().filter(|(key, _)| *key != own);
    let mut others = others.filter(|(_, other)| !other.meta.annotations.contains_key(canary));
    others.find(|(_, other)| declares(other)).map(|(key, _)| key)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hostile_text_is_known_and_ordinary_paths_are_not_mistaken_for_it() {
        let hostile =
            ["/etc/nginx/x", "/a;alias /;", "/x root /etc;", "/var/run/secrets/t", "/content_by_lua_block"];
        for text in hostile {
            assert!(is_hostile(text), "{text}");
        }
        for text in
            ["/", "/alias", "/root", "/aliases/1;2", "/etc", "/api/v1", "/.well-known/acme-challenge/a.b-c"]
        {
            assert!(!is_hostile(text), "{text}");
        }
    }

    #[test]
    fn the_place_of_a_path_is_read_from_its_field() {
        assert_eq!(place("spec.rules[1].http.paths[12].path"), Some((1, 12)));
        assert_eq!(place("spec.rules[1].host"), None);
        assert_eq!(place(""), None);
    }

    #[test]
    fn warnings_are_one_line_and_short() {
        let found = Diagnostic {
            object: crate::model::ObjectRef {
                kind: crate::model::Kind::Ingress,
                key: ObjectKey::new("a", "b"),
            },
            code: "X",
            severity: Severity::Warning,
            field: "f".into(),
            value: String::new(),
            reason: format!("one\ntwo {}", "ä".repeat(300)),
            hint: "do".into(),
            origin: std::sync::Arc::default(),
        };
        let text = warning(&found);
        assert!(text.len() <= LONGEST_WARNING && text.starts_with("f: one two"), "{text}");
    }
}
