//! One Ingress alone becomes a contribution: what it would add to the table if there were no other. Pure, so it is
//! kept until the Ingress, the ConfigMap or the flags change. `merge` lays contributions over each other.

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};

use super::age::Age;
use super::finding::Finding;
use super::options::{Options, PathSemantics};
use crate::diagnostic::{Diagnostic, Severity};
use crate::model::{self, Ingress, ObjectKey, Origin, PathType, PortRef, TlsBlock};
use crate::policy::annotation::Objects;
use crate::policy::global::Globals;
use crate::policy::{IngressPolicies, affinity, registry};
use crate::route::BackendKey;
use crate::route::stream::Transport;

/// Name of the catch-all server.
pub const CATCH_ALL: &str = "_";
/// Longest path that is looked at (`B-11`).
const MAX_PATH: usize = 4096;

/// A backend and the part it plays; the same Service port may play several.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BackendId {
    /// Namespace, Service, port.
    pub key: BackendKey,
    /// Its part.
    pub role: BackendRole,
}

/// The part a backend plays.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum BackendRole {
    /// A path or `spec.defaultBackend` leads to it.
    Route,
    /// The `default-backend` annotation names it.
    Fallback,
    /// `--default-backend-service` names it.
    Global,
    /// A TCP or UDP service leads to it.
    Stream(Transport),
}

/// What one Ingress adds.
#[derive(Debug, Clone)]
pub struct Contribution {
    /// Place among all.
    pub age: Age,
    /// The Ingress.
    pub key: ObjectKey,
    /// Where it was read.
    pub origin: Arc<Origin>,
    /// Meaning of its paths.
    pub semantics: PathSemantics,
    /// Its annotations.
    pub policies: IngressPolicies,
    /// `affinity-canary-behavior` of a canary.
    pub canary_behavior: affinity::CanaryBehavior,
    /// Every backend it names, each once.
    pub backends: Vec<NamedBackend>,
    /// `spec.defaultBackend`, as index into `backends`.
    pub default_backend: Option<usize>,
    /// `default-backend` annotation, as index into `backends`.
    pub fallback: Option<usize>,
    /// Its rules.
    pub rules: Vec<RuleLine>,
    /// `spec.tls`.
    pub tls: Vec<TlsBlock>,
    /// Findings about the Ingress alone.
    pub diagnostics: Vec<Diagnostic>,
}

/// A backend that the Ingress names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NamedBackend {
    /// Which.
    pub id: BackendId,
    /// True when a path names it: session affinity comes from those only.
    pub by_path: bool,
}

/// One entry of `spec.rules`.
#[derive(Debug, Clone)]
pub struct RuleLine {
    /// Server name: the host in lower case, `_` for none.
    pub host: Arc<str>,
    /// Its paths; none when the rule has no `http`.
    pub paths: Vec<PathLine>,
}

/// One path that can be served.
#[derive(Debug, Clone)]
pub struct PathLine {
    /// `/` where the Ingress writes none.
    pub path: Arc<str>,
    /// How it was declared, absent and `ImplementationSpecific` being one.
    pub kind: RuleKind,
    /// True for `Exact` and `Prefix` as written: those are never expressions with the Kubernetes meaning.
    pub literal: bool,
    /// `spec.rules[i].http.paths[j]`.
    pub field: Arc<str>,
    /// Index into `backends`.
    pub backend: usize,
    /// Set when requests that match are answered 503: the code of the finding.
    pub shut: Option<&'static str>,
}

/// `pathType` after defaulting (`routing.md` 0.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum RuleKind {
    /// `Exact`.
    Exact,
    /// `Prefix`, `ImplementationSpecific` or none.
    Prefix,
}

/// Compiles one Ingress.
pub fn contribution(
    ingress: &Ingress,
    semantics: PathSemantics,
    globals: &Globals,
    options: &Options,
    objects: Objects<'_>,
) -> Contribution {
    let (policies, diagnostics) =
        registry::read(ingress, &options.annotations_prefix, options.validate_annotations, globals, objects);
    let contribution = Contribution {
        age: Age::of(&ingress.meta),
        key: ingress.meta.key.clone(),
        origin: Arc::clone(&ingress.meta.origin),
        semantics,
        canary_behavior: canary_behavior(ingress, options),
        policies,
        backends: Vec::new(),
        default_backend: None,
        fallback: None,
        rules: Vec::with_capacity(ingress.rules.len()),
        tls: ingress.tls.clone(),
        diagnostics,
    };
    let mut draft = Draft { contribution, places: BTreeMap::new() };
    draft.contribution.default_backend = draft.spec_default_backend(ingress);
    draft.contribution.fallback = draft.contribution.policies.route.default_backend.clone().map(|service| {
        let key = backend_key(&ingress.meta.key.namespace, &service, &PortRef::Unset);
        draft.backend_index(BackendId { key, role: BackendRole::Fallback }, false)
    });
    for (number, rule) in ingress.rules.iter().enumerate() {
        let line = draft.rule(number, rule);
        draft.contribution.rules.push(line);
    }
    draft.contribution.backends.shrink_to_fit();
    draft.contribution
}

/// A contribution being made.
struct Draft {
    contribution: Contribution,
    /// Index in `contribution.backends` by id.
    places: BTreeMap<BackendId, usize>,
}

/// Read here and not with `affinity`, since on a canary it counts without `affinity: cookie` (`routing.md` 7).
fn canary_behavior(ingress: &Ingress, options: &Options) -> affinity::CanaryBehavior {
    let name = format!("{}/affinity-canary-behavior", options.annotations_prefix);
    match ingress.meta.annotations.get(&name).map(|value| value.trim()) {
        Some("legacy") => affinity::CanaryBehavior::Legacy,
        _ => affinity::CanaryBehavior::Sticky,
    }
}

// === impl Contribution ===

impl Contribution {
    /// True for a canary Ingress.
    pub fn is_canary(&self) -> bool {
        self.policies.canary.is_some()
    }

    /// Every server name it mentions, in order, possibly more than once.
    pub fn hosts(&self) -> impl Iterator<Item = &Arc<str>> {
        self.rules.iter().map(|rule| &rule.host)
    }
}

// === impl Draft ===

impl Draft {
    fn spec_default_backend(&mut self, ingress: &Ingress) -> Option<usize> {
        match ingress.default_backend.as_ref()? {
            model::Backend::Service(service) => {
                let key = backend_key(&self.contribution.key.namespace, &service.name, &service.port);
                Some(self.backend_index(BackendId { key, role: BackendRole::Route }, false))
            }
            model::Backend::Resource { kind, name } => {
                self.resource_backend("spec.defaultBackend.resource", kind, name);
                None
            }
        }
    }

    fn rule(&mut self, number: usize, rule: &model::Rule) -> RuleLine {
        let host: Arc<str> = match rule.host.as_str() {
            "" => Arc::from(CATCH_ALL),
            host => Arc::from(host.to_ascii_lowercase()),
        };
        if let Some(reason) = host_fault(&rule.host) {
            self.report(Finding {
                severity: Severity::Warning,
                code: "InvalidHost",
                field: &format!("spec.rules[{number}].host"),
                value: &rule.host,
                reason: reason.to_owned(),
                hint: "write a DNS name, or *. and a DNS name",
            });
        }
        let lines = rule.paths.iter().flatten().enumerate();
        let paths = lines.filter_map(|(position, path)| self.path(path, field_of(number, position)));
        let mut paths: Vec<PathLine> = paths.collect();
        paths.shrink_to_fit();
        RuleLine { host, paths }
    }

    fn path(&mut self, rule: &model::PathRule, field: Arc<str>) -> Option<PathLine> {
        let service = match &rule.backend {
            model::Backend::Service(service) => service,
            model::Backend::Resource { kind, name } => {
                self.resource_backend(&format!("{field}.backend.resource"), kind, name);
                return None;
            }
        };
        let path = if rule.path.is_empty() { "/" } else { rule.path.as_str() };
        let literal = matches!(rule.path_type, Some(PathType::Exact | PathType::Prefix));
        let shut = self.judge_path(path, rule.path_type, &field).ok()?;
        let key = backend_key(&self.contribution.key.namespace, &service.name, &service.port);
        Some(PathLine {
            path: Arc::from(path),
            kind: if rule.path_type == Some(PathType::Exact) { RuleKind::Exact } else { RuleKind::Prefix },
            literal,
            field,
            backend: self.backend_index(BackendId { key, role: BackendRole::Route }, true),
            shut,
        })
    }

    /// `B-10` and `B-11`. `Err` when the path can take nothing and is left out, `Ok(Some)` when it is served shut.
    fn judge_path(
        &mut self,
        path: &str,
        path_type: Option<PathType>,
        field: &str,
    ) -> Result<Option<&'static str>, ()> {
        let field = format!("{field}.path");
        let finding = |severity, reason: &str, hint| Finding {
            severity,
            code: "InvalidPath",
            field: &field,
            value: path,
            reason: reason.to_owned(),
            hint,
        };
        if !path.starts_with('/') || path.len() > MAX_PATH {
            let reason = "a path must start with a slash and have at most 4096 bytes; this one is left out";
            self.report(finding(Severity::Error, reason, ""));
            return Err(());
        }
        if path.contains("%00") || path.bytes().any(|byte| byte < 0x20 || byte == 0x7f || byte == b' ') {
            let reason = "a path may hold no space and no control character; requests for it answer 503";
            self.report(finding(Severity::Error, reason, ""));
            return Ok(Some("InvalidPath"));
        }
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-' | b'/');
        if path_type != Some(PathType::ImplementationSpecific) && !path.bytes().all(plain) {
            let reason = format!(
                "path {path} cannot be used with pathType {}",
                path_type.map_or("missing", PathType::as_str)
            );
            let hint = "strict-validate-path-type would refuse it; use pathType ImplementationSpecific";
            self.report(finding(Severity::Warning, &reason, hint));
        } else if is_never_met(path) {
            let reason = "requests are compared after percent-decoding and without query and fragment, so this text is rarely what is meant";
            self.report(finding(Severity::Warning, reason, "write the decoded path"));
        }
        Ok(None)
    }

    fn resource_backend(&mut self, field: &str, kind: &str, name: &str) {
        self.report(Finding {
            severity: Severity::Warning,
            code: "ResourceBackend",
            field,
            value: &format!("{kind} {name}"),
            reason: "only backends of kind Service are served; this one is left out".to_owned(),
            hint: "name a Service",
        });
    }

    fn backend_index(&mut self, id: BackendId, by_path: bool) -> usize {
        let backends = &mut self.contribution.backends;
        let place = *self.places.entry(id).or_insert_with_key(|id| {
            backends.push(NamedBackend { id: id.clone(), by_path });
            backends.len() - 1
        });
        if let Some(named) = backends.get_mut(place) {
            named.by_path |= by_path;
        }
        place
    }

    fn report(&mut self, finding: Finding<'_>) {
        let diagnostic = finding.about(&self.contribution);
        self.contribution.diagnostics.push(diagnostic);
    }
}

/// The name of a rule's field. Those of the first rules and paths, which nearly all Ingresses have, are one text each.
fn field_of(rule: usize, path: usize) -> Arc<str> {
    static FIRST: [[OnceLock<Arc<str>>; 16]; 4] = [const { [const { OnceLock::new() }; 16] }; 4];
    let make = || Arc::from(format!("spec.rules[{rule}].http.paths[{path}]"));
    match FIRST.get(rule).and_then(|paths| paths.get(path)) {
        Some(known) => Arc::clone(known.get_or_init(make)),
        None => make(),
    }
}

fn backend_key(namespace: &Arc<str>, service: &str, port: &PortRef) -> BackendKey {
    let port = match port {
        PortRef::Name(name) => Arc::from(name.as_str()),
        PortRef::Number(number) => Arc::from(number.to_string()),
        PortRef::Unset => Arc::from(""),
    };
    BackendKey { namespace: Arc::clone(namespace), service: Arc::from(service), port }
}

/// Literal text that normalisation never produces (`routing.md` 4.1). Expressions use the same characters, so only
/// what no expression needs is named.
fn is_never_met(path: &str) -> bool {
    let triple = |at: usize| {
        path.as_bytes().get(at + 1..at + 3).is_some_and(|digits| digits.iter().all(u8::is_ascii_hexdigit))
    };
    path.bytes().enumerate().any(|(at, byte)| byte == b'#' || (byte == b'%' && triple(at)))
}

fn host_fault(host: &str) -> Option<&'static str> {
    let name = host.strip_prefix("*.").unwrap_or(host);
    let sound =
        |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'-' | b'.' | b'_');
    if host.is_empty() || (!name.is_empty() && name.bytes().all(sound)) {
        None
    } else if name.bytes().all(|byte| sound(byte.to_ascii_lowercase())) && !name.is_empty() {
        Some("host names are lower case; it is read as such")
    } else {
        Some("this is no host name, so no request can name it")
    }
}
