//! From rules to locations: order, prefix expansion, regex mode (`routing.md` 0.5 to 0.7).

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::{is_expression, regex_mode_findings, rewrites};
use crate::compile::merge::{HostPlan, Left, Loser, PlannedRule, path_conflict};
use crate::compile::object::RuleKind;
use crate::diagnostic::Diagnostic;
use crate::route::precedence::Tier;
use crate::route::{LocationKind, is_acme_path};

/// A location before its backend and patterns are looked up.
pub(super) struct Draft<'p> {
    pub(super) rule: &'p PlannedRule,
    /// Place of the rule in the plan: the smaller came first.
    pub(super) age: usize,
    pub(super) kind: LocationKind,
    pub(super) path: Arc<str>,
}

/// Locations as nginx's controller makes them, and whether the host is in regex mode.
pub(super) fn nginx(plan: &HostPlan) -> (Vec<Draft<'_>>, bool, Vec<Diagnostic>) {
    let mut order: Vec<(usize, &PlannedRule)> = plan.rules.iter().enumerate().collect();
    order.sort_by(|(_, a), (_, b)| b.path.len().cmp(&a.path.len()).then_with(|| b.path.cmp(&a.path)));

    let exact: BTreeSet<&str> =
        plan.rules.iter().filter(|rule| rule.kind == RuleKind::Exact).map(|rule| &*rule.path).collect();
    let mut drafts = Vec::with_capacity(order.len() * 2);
    for (age, rule) in order {
        let draft = |kind, path: &Arc<str>| Draft { rule, age, kind, path: Arc::clone(path) };
        if rule.kind == RuleKind::Exact {
            drafts.push(draft(LocationKind::Exact, &rule.path));
        } else if &*rule.path == "/" || rewrites(rule, &rule.path) || rule.policies.use_regex {
            drafts.push(draft(LocationKind::Prefix, &rule.path));
        } else {
            drafts.push(draft(LocationKind::Prefix, &with_slash(&rule.path)));
            if !exact.contains(&*rule.path) {
                drafts.push(draft(LocationKind::Exact, &rule.path));
            }
        }
    }
    let switch =
        drafts.iter().find(|draft| draft.rule.policies.use_regex || rewrites(draft.rule, &draft.path));
    match switch.map(|draft| draft.rule) {
        Some(switch) => {
            for draft in &mut drafts {
                draft.kind = LocationKind::Regex;
            }
            // `B-14`: whatever else the host has, a certificate can be renewed.
            drafts.sort_by_key(|draft| !is_acme_path(&draft.rule.path));
            (drafts, true, regex_mode_findings(plan, switch))
        }
        None => {
            let (drafts, told) = without_doubles(plan, drafts);
            (drafts, false, told)
        }
    }
}

/// nginx refuses a configuration with two locations of one kind and path; here the older rule wins. A rule for `/x/`
/// that loses its prefix loses `= /x/` too, since the winner's `/x` means that as well.
fn without_doubles<'p>(plan: &'p HostPlan, drafts: Vec<Draft<'p>>) -> (Vec<Draft<'p>>, Vec<Diagnostic>) {
    let mut oldest: BTreeMap<(LocationKind, Arc<str>), (usize, &PlannedRule)> = BTreeMap::new();
    for draft in &drafts {
        let place = oldest.entry((draft.kind, Arc::clone(&draft.path))).or_insert((draft.age, draft.rule));
        if draft.age < place.0 {
            *place = (draft.age, draft.rule);
        }
    }
    let winner_over = |draft: &Draft<'p>| {
        let (age, winner) = oldest.get(&(draft.kind, Arc::clone(&draft.path)))?;
        (*age != draft.age).then_some(*winner)
    };
    let lost_prefixes: BTreeSet<(usize, Arc<str>)> = drafts
        .iter()
        .filter(|draft| draft.kind == LocationKind::Prefix && winner_over(draft).is_some())
        .map(|draft| (draft.age, Arc::clone(&draft.path)))
        .collect();
    let mut told = Vec::new();
    let kept = drafts.into_iter().filter(|draft| {
        let Some(winner) = winner_over(draft) else {
            return !lost_prefixes.contains(&(draft.age, Arc::clone(&draft.path)));
        };
        if let Some(owner) = &draft.rule.owner {
            let loser = Loser { path: &draft.rule.path, field: &draft.rule.field };
            let keeps = draft.kind == LocationKind::Prefix && !draft.rule.path.ends_with('/');
            let left = if keeps { Left::PathItself } else { Left::Nothing };
            told.extend(path_conflict(&plan.host, &owner.contribution, loser, winner, left));
        }
        false
    });
    let kept = kept.collect();
    (kept, told)
}

/// Locations with the Kubernetes meaning: prefixes by element, a trailing slash means nothing.
pub(super) fn kubernetes(plan: &HostPlan) -> Vec<Draft<'_>> {
    let mut order: Vec<(usize, &PlannedRule)> = plan.rules.iter().enumerate().collect();
    order.sort_by_key(|(age, rule)| (rule.tier, Reverse(rule.path.len()), *age));
    let mut drafts = Vec::with_capacity(order.len() * 2);
    // Exact rules first: among locations of one path and kind the first one counts.
    let (exact, other): (Vec<_>, Vec<_>) =
        order.into_iter().partition(|(_, rule)| rule.kind == RuleKind::Exact);
    for (age, rule) in exact {
        drafts.push(Draft { rule, age, kind: LocationKind::Exact, path: Arc::clone(&rule.path) });
    }
    for (age, rule) in other {
        let draft = |kind, path: Arc<str>| Draft { rule, age, kind, path };
        let element = rule.path.trim_end_matches('/');
        if is_expression(rule) && rule.tier != Tier::Default {
            drafts.push(draft(LocationKind::Regex, Arc::clone(&rule.path)));
        } else {
            drafts.push(draft(LocationKind::Prefix, Arc::from(format!("{element}/"))));
            if !element.is_empty() {
                drafts.push(draft(LocationKind::Exact, Arc::from(element)));
            }
        }
    }
    drafts
}

fn with_slash(path: &Arc<str>) -> Arc<str> {
    if path.ends_with('/') { Arc::clone(path) } else { Arc::from(format!("{path}/")) }
}
