//! The virtual host of a plan: locations in nginx's order, expanded, in regex mode or not (`routing.md` 4.2 to 4.4),
//! with the backends they lead to.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::backend::Slots;
use super::expression::Expressions;
use super::finding::{Finding, name_for};
use super::merge::{Entry, HostPlan, PlannedRule};
use super::object::CATCH_ALL;
use super::options::PathSemantics;
use super::ownership;
use crate::diagnostic::{Diagnostic, Severity};
use crate::pattern::{Anchor, Pattern};
use crate::policy::client_certificate::ClientCertificates;
use crate::policy::server_tls::ServerTls;
use crate::policy::{RoutePolicies, ServerPolicies};
use crate::route::fingerprint::Fingerprint;
use crate::route::path::PathIndex;
use crate::route::precedence::Tier;
use crate::route::{Backend, Location, LocationKind, LocationTarget, Server, is_acme_path};

mod expand;
mod passthrough;

use expand::Draft;

/// What servers are made with beside their plans.
pub(super) struct Workshop<'w> {
    /// Backends by slot.
    pub(super) slots: &'w Slots,
    /// `--default-backend-service`.
    pub(super) default_backend: Option<&'w Arc<Backend>>,
    /// Policies without any annotation.
    pub(super) base: &'w Arc<RoutePolicies>,
    /// `--health-check-path`.
    pub(super) health_check_path: &'w str,
    /// Patterns compiled so far.
    pub(super) expressions: &'w mut Expressions,
    /// `--enable-ssl-passthrough`.
    pub(super) ssl_passthrough: bool,
}

/// A server, and what its owners should know.
pub(super) struct Built {
    pub(super) server: Arc<Server>,
    /// `from-to-www-redirect` of any location.
    pub(super) from_to_www: bool,
    pub(super) diagnostics: Vec<Diagnostic>,
}

/// Makes the server of a plan.
pub(super) fn build(plan: &HostPlan, workshop: &mut Workshop<'_>) -> Built {
    let (drafts, regex_mode, mut diagnostics) = match plan.semantics {
        PathSemantics::Nginx => expand::nginx(plan),
        PathSemantics::Kubernetes => (expand::kubernetes(plan), false, Vec::new()),
    };
    // The oldest first, wherever its paths stand in the order of locations (`B-13`).
    let owned = drafts.iter().filter(|draft| owns_server_scope(draft.rule));
    let mut by_age: Vec<&Arc<Entry>> = owned.filter_map(|draft| draft.rule.owner.as_ref()).collect();
    // Whose only place was the root that nobody wrote, still has the settings when another one writes it.
    by_age.extend(plan.creator.as_ref());
    by_age.sort_by(|one, other| one.contribution.age.cmp(&other.contribution.age));
    by_age.dedup_by(|one, other| Arc::ptr_eq(one, other));
    let (owners, foreign): (Vec<&Arc<Entry>>, Vec<&Arc<Entry>>) =
        by_age.into_iter().partition(|entry| ownership::is_of(plan.holder.as_ref(), &entry.contribution));
    // Where `/` leads is for whoever has that path.
    let root = drafts.iter().find(|draft| &*draft.rule.path == "/" && !draft.rule.implicit);
    let root = root.and_then(|draft| draft.rule.owner.as_ref());
    diagnostics.extend(ownership::tell_foreign(plan, &foreign, root));
    let servers = || owners.iter().map(|owner| &*owner.contribution.policies.server);
    let snippet = servers().find(|server| server.snippet.is_some() || server.shut.is_some());
    let shut = snippet.and_then(|server| server.shut);
    let mut locations = Vec::with_capacity(drafts.len());
    for draft in &drafts {
        let guard_of_others = draft.rule.owner.as_ref().is_some_and(|owner| {
            !ownership::is_of(plan.holder.as_ref(), &owner.contribution)
                && ownership::wants_guard(&owner.contribution)
        });
        let shut = shut.or_else(|| guard_of_others.then_some(ownership::SHUT)).or(draft.rule.shut);
        locations.push(Arc::new(location(draft, shut, workshop, &mut diagnostics)));
    }
    if *plan.host == *CATCH_ALL && !regex_mode {
        locations.extend(built_ins(workshop).map(Arc::new));
    }
    let (passthrough, found) = passthrough::find(plan, &drafts, &mut locations, workshop.ssl_passthrough);
    diagnostics.extend(found);
    let slash_redirects = plan.semantics == PathSemantics::Nginx && !regex_mode;
    let server = Server {
        name: Arc::clone(&plan.host),
        redirect_to: None,
        app_root: servers()
            .chain(root.map(|owner| &*owner.contribution.policies.server))
            .find_map(|server| server.app_root.clone()),
        client_certificates: client_certificates(servers()),
        snippet: snippet.and_then(|server| server.snippet.clone()),
        regex_mode,
        slash_redirects,
        index: PathIndex::new(&locations, regex_mode, slash_redirects),
        locations,
        passthrough,
        handshakes: servers().fold(ServerTls::default(), |found, server| found.or(&server.tls)),
        fingerprint: Fingerprint::default(),
    };
    let from_to_www = servers().any(|server| server.from_to_www);
    Built { server: Arc::new(server), from_to_www, diagnostics }
}

/// The first Ingress with a usable Secret decides; where one asks and none has, the host is shut (`E-5`).
fn client_certificates<'s>(servers: impl Iterator<Item = &'s ServerPolicies>) -> Option<ClientCertificates> {
    let mut broken = None;
    for asked in servers.filter_map(|one| one.client_certificates.as_ref()) {
        match asked {
            ClientCertificates::Ask(_) => return Some(asked.clone()),
            ClientCertificates::Broken => broken = Some(ClientCertificates::Broken),
        }
    }
    broken
}

/// Roots that a default backend provides take neither redirects nor rewrites (`routing.md` 2.2).
fn owns_server_scope(rule: &PlannedRule) -> bool {
    &*rule.field != "spec.defaultBackend"
}

/// True where the Kubernetes meaning takes a path as an expression: it is not declared literal, and its own Ingress
/// says `use-regex`.
pub(super) fn is_expression(rule: &PlannedRule) -> bool {
    !rule.literal && rule.policies.use_regex
}

/// True when a rewrite changes anything at a location of this path (`routing.md` 4.4).
fn rewrites(rule: &PlannedRule, path: &str) -> bool {
    rule.policies.rewrite.as_ref().is_some_and(|rewrite| *rewrite.target.text != *path)
}

/// `shut` is the code of the finding that closes it, if one does.
fn location(
    draft: &Draft<'_>,
    mut shut: Option<&'static str>,
    workshop: &mut Workshop<'_>,
    diagnostics: &mut Vec<Diagnostic>,
) -> Location {
    let rule = draft.rule;
    let mut pattern = None;
    if draft.kind == LocationKind::Regex {
        let expression = workshop.expressions.location(&draft.path, is_protective(&rule.policies));
        if let Some(fault) = expression.fault {
            shut = Some("InvalidPattern");
            diagnostics.extend(invalid_pattern(draft, &fault, expression.pattern.is_some()));
        }
        pattern = expression.pattern;
    }
    let mut rewrite_pattern = None;
    if rewrites(rule, &draft.path) && shut.is_none() {
        match workshop.expressions.get(&draft.path, Anchor::None) {
            Ok(pattern) => {
                diagnostics.extend(unknown_groups(draft, &pattern));
                rewrite_pattern = Some(pattern);
            }
            Err(fault) => {
                shut = Some("InvalidPattern");
                diagnostics.extend(invalid_pattern(draft, &fault, true));
            }
        }
    }
    let target = match rule.target {
        None => LocationTarget::Default(workshop.default_backend.cloned()),
        Some(slot) => workshop
            .slots
            .backend(slot)
            .map_or(LocationTarget::Default(None), |backend| LocationTarget::Backend(Arc::clone(backend))),
    };
    Location {
        kind: draft.kind,
        path: Arc::clone(&draft.path),
        rule_path: Arc::clone(&rule.path),
        owner: rule.owner.as_ref().map(|owner| owner.contribution.key.clone()),
        field: Arc::clone(&rule.field),
        implicit: rule.implicit || (rule.tier == Tier::Default && rule.target.is_none()),
        tier: rule.tier,
        pattern,
        target,
        policies: match shut {
            Some(code) => denied(&rule.policies, code),
            None if rule.owner.is_some() && is_acme_path(&rule.path) => {
                Arc::new(rule.policies.for_challenge())
            }
            None => Arc::clone(&rule.policies),
        },
        default_backend: rule.fallback.and_then(|slot| workshop.slots.backend(slot)).cloned(),
        rewrite_pattern,
        sets_cookie: rule.sets_cookie,
    }
}

/// True when a location keeps clients out: such a one is answered 503 rather than left out (`B-12`).
fn is_protective(policies: &RoutePolicies) -> bool {
    policies.ip_access.is_some()
        || policies.password_auth.is_some()
        || policies.external_auth.is_some()
        || policies.limits.is_some()
        || policies.global_rate_limit.is_some()
        || policies.snippet.as_ref().is_some_and(|snippet| !snippet.settings.access.is_empty())
        || policies.denied.is_some()
}

/// Tells of a rewrite that asks for groups which the expression does not have: they stay empty.
fn unknown_groups(draft: &Draft<'_>, pattern: &Pattern) -> Option<Diagnostic> {
    let rule = draft.rule;
    let owner = rule.owner.as_ref().filter(|_| !rule.implicit)?;
    let target = &rule.policies.rewrite.as_ref()?.target;
    let unknown: Vec<&str> = target.unknown_names(pattern).collect();
    if unknown.is_empty() {
        return None;
    }
    let finding = Finding {
        severity: Severity::Warning,
        code: "UnknownGroup",
        field: &format!("{}.path", rule.field),
        value: &draft.path,
        reason: format!(
            "rewrite-target {:?} asks for what is no group of the path and no variable, and stays empty: {}",
            target.text,
            unknown.join(", ")
        ),
        hint: "name a group in the path, such as (?<name>[a-z]+)",
    };
    Some(finding.about(&owner.contribution))
}

fn denied(policies: &Arc<RoutePolicies>, code: &'static str) -> Arc<RoutePolicies> {
    if policies.denied.is_some() {
        return Arc::clone(policies);
    }
    Arc::new(RoutePolicies { denied: Some(code), ..RoutePolicies::clone(policies) })
}

fn invalid_pattern(draft: &Draft<'_>, fault: &str, takes: bool) -> Option<Diagnostic> {
    let owner = draft.rule.owner.as_ref()?;
    let finding = Finding {
        severity: Severity::Error,
        code: "InvalidPattern",
        field: &format!("{}.path", draft.rule.field),
        value: &draft.path,
        reason: format!(
            "the path is no valid expression: {fault}; {}",
            if takes { "requests under its literal start answer 503" } else { "it takes no request" }
        ),
        hint: "correct the expression",
    };
    Some(finding.about(&owner.contribution))
}

/// `/healthz` and `/nginx_status` of the catch-all server (`routing.md` 3): any path that starts so.
fn built_ins(workshop: &Workshop<'_>) -> impl Iterator<Item = Location> + use<> {
    let health = workshop.health_check_path.to_owned();
    // What shuts every route shuts no probe.
    let base = Arc::new(RoutePolicies { denied: None, ..RoutePolicies::clone(workshop.base) });
    let wanted =
        [(health, LocationTarget::Healthz), ("/nginx_status".to_owned(), LocationTarget::StubStatus)];
    wanted.into_iter().filter(|(path, _)| path.len() > 1 && path.starts_with('/')).map(
        move |(path, target)| {
            let path: Arc<str> = Arc::from(path);
            Location {
                kind: LocationKind::Prefix,
                rule_path: Arc::clone(&path),
                path,
                owner: None,
                field: Arc::from(""),
                implicit: false,
                tier: Tier::Own,
                pattern: None,
                target,
                policies: Arc::clone(&base),
                default_backend: None,
                rewrite_pattern: None,
                sets_cookie: false,
            }
        },
    )
}

/// Tells every Ingress of a host in regex mode which Ingress switched it (`routing.md` 10.2).
fn regex_mode_findings(plan: &HostPlan, switch: &PlannedRule) -> Vec<Diagnostic> {
    let Some(switcher) = &switch.owner else { return Vec::new() };
    let annotation = if switch.policies.use_regex { "use-regex" } else { "rewrite-target" };
    let mut owners = BTreeMap::new();
    for owner in plan.rules.iter().filter_map(|rule| rule.owner.as_ref()) {
        owners.entry(&owner.contribution.age).or_insert(owner);
    }
    let findings = owners.into_values().map(|owner| {
        let who = if owner.contribution.key == switcher.contribution.key {
            "this Ingress".to_owned()
        } else {
            name_for(&owner.contribution.key, &switcher.contribution.key)
        };
        let finding = Finding {
            severity: Severity::Info,
            code: "RegexModeHost",
            field: "spec.rules",
            value: &plan.host,
            reason: format!(
                "{who} has {annotation}, so every path of host {} is a case-insensitive expression without end",
                plan.host
            ),
            hint: "use a host of its own for expressions, or path semantics kubernetes",
        };
        finding.about(&owner.contribution)
    });
    findings.collect()
}
