//! The same merge with the meaning that the Kubernetes documentation gives to paths: no rule says more than it
//! says, annotations stay with their own paths, and rules without host apply to every host (of their namespace, so
//! that no tenant takes paths of another one's host, `B-14`).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::{Entry, Left, Loser, Merge, PlannedRule, path_conflict};
use crate::compile::object::{CATCH_ALL, RuleKind};
use crate::compile::server::is_expression;
use crate::route::precedence::Tier;

impl Merge<'_> {
    pub(super) fn kubernetes(&mut self, creator: Option<&Arc<Entry>>) {
        let mut root = self.implicit_root(None);
        root.tier = Tier::Default;
        let default = self
            .entries
            .iter()
            .find(|entry| entry.contribution.default_backend.is_some() && !entry.contribution.is_canary());
        if let Some(entry) = default {
            root.owner = Some(Arc::clone(entry));
            root.target = entry.default_backend();
            root.fallback = entry.fallback();
            root.policies = Arc::clone(&entry.contribution.policies.route);
            root.field = Arc::from("spec.defaultBackend");
        } else {
            root.owner = creator.cloned();
        }
        self.plan.rules.push(root);

        let host = Arc::clone(&self.plan.host);
        self.tier(self.entries, &host, Tier::Own);
        if *host != *CATCH_ALL {
            let namespaces: BTreeSet<_> =
                self.entries.iter().map(|entry| entry.contribution.key.namespace.clone()).collect();
            let neighbours: Vec<Arc<Entry>> = self
                .surroundings
                .hostless
                .iter()
                .filter(|entry| namespaces.contains(&entry.contribution.key.namespace))
                .cloned()
                .collect();
            self.tier(&neighbours, CATCH_ALL, Tier::Hostless);
        }
    }

    fn tier(&mut self, entries: &[Arc<Entry>], host: &str, tier: Tier) {
        let mut taken: BTreeMap<(RuleKind, String), PlannedRule> = BTreeMap::new();
        for entry in entries {
            for line in entry.lines(host) {
                let Some(mut rule) = self.rule(entry, line) else { continue };
                rule.tier = tier;
                let key = (rule.kind, elements(&rule));
                match taken.get(&key) {
                    Some(winner) => {
                        let loser = Loser { path: &line.path, field: &line.field };
                        let told =
                            path_conflict(&self.plan.host, &entry.contribution, loser, winner, Left::Nothing);
                        // Whoever loses among rules without host is told once, at the catch-all.
                        self.plan.diagnostics.extend(told.filter(|_| tier == Tier::Own));
                    }
                    None => {
                        taken.insert(key, rule.clone());
                        self.plan.rules.push(rule);
                    }
                }
            }
        }
    }
}

/// What makes two rules of one kind the same: a prefix is compared by elements, so a trailing slash means nothing.
fn elements(rule: &PlannedRule) -> String {
    match rule.kind {
        RuleKind::Exact => rule.path.to_string(),
        RuleKind::Prefix if is_expression(rule) => format!("~{}", rule.path),
        RuleKind::Prefix => rule.path.trim_end_matches('/').to_owned(),
    }
}
