//! Contributions laid over each other: which rules one host has and who owns them (`routing.md` 2.2, 2.3). The
//! older Ingress wins; the loser is told. Knows nothing of endpoints or certificates; `server` makes the
//! virtual host of a plan.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry as Place;
use std::sync::Arc;

use super::backend::Slots;
use super::finding::{Finding, name_for};
use super::object::{CATCH_ALL, Contribution, PathLine, RuleKind};
use super::options::PathSemantics;
use super::ownership;
use crate::diagnostic::{Diagnostic, Severity};
use crate::policy::RoutePolicies;
use crate::route::BackendSlot;
use crate::route::precedence::Tier;

mod kubernetes;

/// A contribution and the slots of its backends.
#[derive(Debug)]
pub(super) struct Entry {
    /// What the Ingress adds.
    pub(super) contribution: Contribution,
    /// Slots of `contribution.backends`, in the same order.
    pub(super) slots: Box<[BackendSlot]>,
}

/// The rules of one host, merged.
#[derive(Debug)]
pub(super) struct HostPlan {
    /// Server name.
    pub(super) host: Arc<str>,
    /// Meaning of its paths: that of the oldest Ingress.
    pub(super) semantics: PathSemantics,
    /// The namespace whose settings of the host count (`ownership`).
    pub(super) holder: Option<Arc<str>>,
    /// The oldest Ingress of a host, also where it has no path there: its settings of the host count.
    pub(super) creator: Option<Arc<Entry>>,
    /// Rules in the order in which they were added; the root of the server is first. None where they were let go of.
    pub(super) rules: Vec<PlannedRule>,
    /// Findings about losers and owners.
    pub(super) diagnostics: Vec<Diagnostic>,
}

/// One rule that has won its place.
#[derive(Debug, Clone)]
pub(super) struct PlannedRule {
    /// Who owns it; `None` for the root of the catch-all.
    pub(super) owner: Option<Arc<Entry>>,
    /// Path as the Ingress wrote it.
    pub(super) path: Arc<str>,
    /// How it was declared.
    pub(super) kind: RuleKind,
    /// True for a path that is never an expression with the Kubernetes meaning.
    pub(super) literal: bool,
    /// Field of the owner; empty for a root without rule.
    pub(super) field: Arc<str>,
    /// A root without rule.
    pub(super) implicit: bool,
    /// When it is asked.
    pub(super) tier: Tier,
    /// Where it leads; `None` for the global default backend.
    pub(super) target: Option<BackendSlot>,
    /// `default-backend` annotation.
    pub(super) fallback: Option<BackendSlot>,
    /// Policies of the owner.
    pub(super) policies: Arc<RoutePolicies>,
    /// The owner asks for session affinity.
    pub(super) sets_cookie: bool,
    /// Requests for it are answered 503, with this code.
    pub(super) shut: Option<&'static str>,
}

/// What a plan depends on beside the entries of the host.
pub(super) struct Surroundings<'s> {
    /// Policies without any annotation.
    pub(super) base: &'s Arc<RoutePolicies>,
    /// Which backends only a canary may lead to (`routing.md` 7).
    pub(super) slots: &'s Slots,
    /// Entries with rules without host, oldest first, for hosts with the Kubernetes meaning.
    pub(super) hostless: &'s [Arc<Entry>],
    /// Meaning of paths where no Ingress says.
    pub(super) semantics: PathSemantics,
}

// === impl Entry ===

impl Entry {
    /// The slot of a backend by its index in the contribution.
    pub(super) fn slot(&self, backend: usize) -> Option<BackendSlot> {
        self.slots.get(backend).copied()
    }

    fn default_backend(&self) -> Option<BackendSlot> {
        self.contribution.default_backend.and_then(|backend| self.slot(backend))
    }

    fn fallback(&self) -> Option<BackendSlot> {
        self.contribution.fallback.and_then(|backend| self.slot(backend))
    }

    fn lines<'e>(&'e self, host: &'e str) -> impl Iterator<Item = &'e PathLine> {
        self.contribution.rules.iter().filter(move |rule| *rule.host == *host).flat_map(|rule| &rule.paths)
    }
}

/// Merges the rules of one host. `entries` are all that mention it, oldest first; `None` when none of them may
/// create a server (canaries only).
pub(super) fn plan(
    host: &Arc<str>,
    entries: &[Arc<Entry>],
    surroundings: &Surroundings<'_>,
) -> Option<HostPlan> {
    let creator = entries.iter().find(|entry| !entry.contribution.is_canary());
    if creator.is_none() && **host != *CATCH_ALL {
        return None;
    }
    let semantics = creator.map_or(surroundings.semantics, |entry| entry.contribution.semantics);
    let holder = ownership::holder(entries).cloned();
    let plan = HostPlan {
        host: Arc::clone(host),
        semantics,
        holder,
        creator: None,
        rules: Vec::new(),
        diagnostics: Vec::new(),
    };
    let mut merge = Merge { plan, entries, surroundings, first_with_path: BTreeMap::new() };
    match semantics {
        PathSemantics::Nginx => merge.nginx(creator),
        PathSemantics::Kubernetes => merge.kubernetes(creator),
    }
    merge.tell_about_claims(creator);
    merge.plan.rules.shrink_to_fit();
    Some(merge.plan)
}

struct Merge<'m> {
    plan: HostPlan,
    entries: &'m [Arc<Entry>],
    surroundings: &'m Surroundings<'m>,
    /// Index in `plan.rules` of the first rule with this path: the only one nginx's controller compares with.
    first_with_path: BTreeMap<Arc<str>, usize>,
}

// === impl Merge ===

impl Merge<'_> {
    fn nginx(&mut self, creator: Option<&Arc<Entry>>) {
        self.plan.creator = creator.filter(|_| *self.plan.host != *CATCH_ALL).cloned();
        let root =
            if *self.plan.host == *CATCH_ALL { self.catch_all_root() } else { self.implicit_root(creator) };
        self.add(root);
        for entry in self.entries {
            for line in entry.lines(&self.plan.host.clone()) {
                self.nginx_line(entry, line);
            }
        }
        self.tell_about_root();
    }

    /// The root of a host carries the annotations of the Ingress that created the host (`routing.md` 2.2).
    fn implicit_root(&self, creator: Option<&Arc<Entry>>) -> PlannedRule {
        PlannedRule {
            owner: creator.cloned(),
            path: Arc::from("/"),
            kind: RuleKind::Prefix,
            literal: true,
            field: Arc::from(""),
            implicit: true,
            tier: Tier::Own,
            target: creator.and_then(|entry| entry.default_backend()),
            fallback: creator.and_then(|entry| entry.fallback()),
            policies: creator
                .map_or(self.surroundings.base, |entry| &entry.contribution.policies.route)
                .clone(),
            sets_cookie: false,
            shut: None,
        }
    }

    /// The root of the catch-all: taken over by the first Ingress that has a default backend and no rules, less its
    /// redirect and rewrite annotations (`routing.md` 2.2).
    fn catch_all_root(&mut self) -> PlannedRule {
        let base = self.surroundings.base;
        let mut plain = RoutePolicies::clone(base);
        plain.ssl_redirect.on = false;
        plain.ssl_redirect.force = false;
        let mut root = self.implicit_root(None);
        let mut takers = self.entries.iter().filter(|entry| is_default_only(&entry.contribution));
        let Some(taker) = takers.next() else {
            return PlannedRule { policies: Arc::new(plain), ..root };
        };
        let late: Vec<Diagnostic> = takers
            .map(|entry| {
                Finding {
                    severity: Severity::Warning,
                    code: "DefaultBackendIgnored",
                    field: "spec.defaultBackend",
                    value: "",
                    reason: format!(
                        "{} is older and already provides the default backend",
                        name_for(&entry.contribution.key, &taker.contribution.key)
                    ),
                    hint: "only one Ingress without rules can have a default backend",
                }
                .about(&entry.contribution)
            })
            .collect();
        self.plan.diagnostics.extend(late);
        let mut policies = RoutePolicies::clone(&taker.contribution.policies.route);
        policies.redirect = plain.redirect;
        policies.redirect_style = plain.redirect_style;
        policies.rewrite = plain.rewrite;
        policies.use_regex = plain.use_regex;
        policies.ssl_redirect = plain.ssl_redirect;
        root.owner = Some(Arc::clone(taker));
        root.implicit = false;
        root.field = Arc::from("spec.defaultBackend");
        root.target = taker.default_backend();
        root.fallback = taker.fallback();
        root.policies = Arc::new(policies);
        root
    }

    fn nginx_line(&mut self, entry: &Arc<Entry>, line: &PathLine) {
        let Some(rule) = self.rule(entry, line) else { return };
        let first = self.first_with_path.get(&line.path).copied();
        match first.and_then(|index| self.plan.rules.get_mut(index)) {
            Some(first) if first.kind == rule.kind && first.implicit => *first = rule,
            Some(first) if first.kind == rule.kind => {
                let winner = first.clone();
                self.conflict(entry, line, &winner);
            }
            _ => self.add(rule),
        }
    }

    /// The rule of a line; `None` when only canaries may use its Service.
    fn rule(&mut self, entry: &Arc<Entry>, line: &PathLine) -> Option<PlannedRule> {
        let slot = entry.slot(line.backend)?;
        let contribution = &entry.contribution;
        if self.surroundings.slots.canary_only(slot) {
            if !contribution.is_canary() {
                let finding = Finding {
                    severity: Severity::Error,
                    code: "CanaryOwnsService",
                    field: &format!("{}.backend.service", line.field),
                    value: "",
                    reason:
                        "an older canary Ingress uses the same Service and port, so this rule is left out"
                            .into(),
                    hint: "give the canary a Service of its own",
                };
                self.plan.diagnostics.push(finding.about(contribution));
            }
            return None;
        }
        Some(PlannedRule {
            owner: Some(Arc::clone(entry)),
            path: Arc::clone(&line.path),
            kind: line.kind,
            literal: line.literal,
            field: Arc::clone(&line.field),
            implicit: false,
            tier: Tier::Own,
            target: Some(slot),
            fallback: entry.fallback(),
            policies: Arc::clone(&contribution.policies.route),
            sets_cookie: contribution.policies.backend.affinity.is_some(),
            shut: line.shut,
        })
    }

    fn add(&mut self, rule: PlannedRule) {
        if let Place::Vacant(place) = self.first_with_path.entry(Arc::clone(&rule.path)) {
            place.insert(self.plan.rules.len());
        }
        self.plan.rules.push(rule);
    }

    fn conflict(&mut self, entry: &Entry, line: &PathLine, winner: &PlannedRule) {
        self.plan.diagnostics.extend(path_conflict(
            &self.plan.host,
            &entry.contribution,
            line_of(line),
            winner,
            Left::Nothing,
        ));
    }

    /// Who else's annotations guard the paths that no rule takes (`routing.md` 10.6).
    fn tell_about_root(&mut self) {
        let Some(root) = self.plan.rules.first().filter(|root| root.implicit) else { return };
        let Some(owner) = &root.owner else { return };
        // That expressions spread over the host is told by `server`.
        let more = RoutePolicies { use_regex: false, ..RoutePolicies::clone(&root.policies) };
        if Arc::ptr_eq(&root.policies, self.surroundings.base) || more == **self.surroundings.base {
            return;
        }
        let finding = Finding {
            severity: Severity::Info,
            code: "ImplicitRootInherits",
            field: "metadata.annotations",
            value: "",
            reason: format!(
                "paths of host {} that no rule takes follow the annotations of this Ingress, the oldest of the host",
                self.plan.host
            ),
            hint: "add a rule for / to give them annotations of their own",
        };
        self.plan.diagnostics.push(finding.about(&owner.contribution));
    }

    /// Server-level settings belong to the oldest Ingress of the host (`B-13`).
    fn tell_about_claims(&mut self, creator: Option<&Arc<Entry>>) {
        let Some(creator) = creator.filter(|_| *self.plan.host != *CATCH_ALL) else { return };
        let winner = &creator.contribution.key;
        for entry in self.entries.iter().filter(|entry| entry.contribution.key.namespace != winner.namespace)
        {
            let finding = Finding {
                severity: Severity::Info,
                code: "HostClaimed",
                field: "spec.rules",
                value: &self.plan.host,
                reason: "an older Ingress of another namespace owns the settings of this host; paths are added to it".into(),
                hint: "",
            };
            self.plan.diagnostics.push(finding.about(&entry.contribution));
        }
    }
}

/// True for an Ingress that may take over the root of the catch-all.
pub(super) fn is_default_only(contribution: &Contribution) -> bool {
    contribution.default_backend.is_some() && contribution.rules.is_empty() && !contribution.is_canary()
}

/// What a conflict is about.
pub(super) struct Loser<'l> {
    pub(super) path: &'l str,
    pub(super) field: &'l str,
}

/// What a rule that lost still takes.
#[derive(Clone, Copy)]
pub(super) enum Left {
    /// Requests for its path to the byte.
    PathItself,
    Nothing,
}

fn line_of(line: &PathLine) -> Loser<'_> {
    Loser { path: &line.path, field: &line.field }
}

/// Tells the owner of a rule that another one stands in its place.
pub(super) fn path_conflict(
    host: &str,
    loser: &Contribution,
    rule: Loser<'_>,
    winner: &PlannedRule,
    left: Left,
) -> Option<Diagnostic> {
    let owner = &winner.owner.as_ref()?.contribution.key;
    let (who, why) = if *owner == loser.key {
        (format!("{} of this Ingress", winner.field), "comes first")
    } else {
        (name_for(&loser.key, owner), "goes before")
    };
    let kind = match winner.kind {
        RuleKind::Exact => "Exact",
        RuleKind::Prefix => "Prefix",
    };
    let left = match left {
        Left::PathItself => format!("this one takes {} only, and nothing below it", rule.path),
        Left::Nothing => "this one takes no request".to_owned(),
    };
    let finding = Finding {
        severity: Severity::Warning,
        code: "PathConflict",
        field: &format!("{}.path", rule.field),
        value: rule.path,
        reason: format!("{who} {why} and has the {kind} path {} of host {host}; {left}", winner.path),
        hint: "remove one of the two rules",
    };
    Some(finding.about(loser))
}
