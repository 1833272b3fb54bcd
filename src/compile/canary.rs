//! Which canary hangs on which backend (`routing.md` 7): a canary Ingress joins the backends of equal paths.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::backend::{Attachment, Slots};
use super::finding::{Finding, name_for};
use super::merge::{Entry, HostPlan, PlannedRule};
use super::object::{CATCH_ALL, Contribution, PathLine};
use crate::diagnostic::{Diagnostic, Severity};
use crate::route::BackendSlot;

/// Attaches all canaries, oldest first; of several on one backend only the first counts.
pub(super) fn attach<'p>(
    canaries: impl Iterator<Item = &'p Arc<Entry>>,
    plan_of: impl Fn(&str) -> Option<&'p HostPlan>,
    slots: &Slots,
) -> (BTreeMap<BackendSlot, Attachment>, Vec<Diagnostic>) {
    let mut work = Work { slots, attachments: BTreeMap::new(), diagnostics: Vec::new() };
    for entry in canaries {
        for rule in &entry.contribution.rules {
            let plan = plan_of(&rule.host);
            for line in &rule.paths {
                let equal = |planned: &&PlannedRule| planned.path == line.path && planned.kind == line.kind;
                let rules = plan.into_iter().flat_map(|plan| &plan.rules).filter(equal);
                work.join(entry, &rule.host, line, rules);
            }
        }
        if let Some(slot) = entry.contribution.default_backend.and_then(|backend| entry.slot(backend)) {
            let rules = plan_of(CATCH_ALL).into_iter().flat_map(|plan| &plan.rules);
            for primary in rules.filter_map(|rule| rule.target) {
                work.hang(entry, slot, primary, "spec.defaultBackend");
            }
        }
    }
    (work.attachments, work.diagnostics)
}

struct Work<'w> {
    slots: &'w Slots,
    attachments: BTreeMap<BackendSlot, Attachment>,
    diagnostics: Vec<Diagnostic>,
}

impl Work<'_> {
    fn join<'p>(
        &mut self,
        entry: &Arc<Entry>,
        host: &str,
        line: &PathLine,
        rules: impl Iterator<Item = &'p PlannedRule>,
    ) {
        let Some(slot) = entry.slot(line.backend) else { return };
        let finding = |code, reason: String| Finding {
            severity: Severity::Warning,
            code,
            field: &line.field,
            value: &line.path,
            reason,
            hint: "a canary needs a Service of its own and a main Ingress with the same host, path and pathType",
        };
        if !self.slots.canary_only(slot) {
            let reason =
                "an older Ingress uses the same Service as main one, so this is no canary of it".to_owned();
            self.diagnostics.push(finding("CanaryIgnored", reason).about(&entry.contribution));
            return;
        }
        let all: Vec<BackendSlot> = rules.filter_map(|rule| rule.target).collect();
        let primaries: Vec<BackendSlot> =
            all.iter().copied().filter(|primary| self.is_own(entry, *primary)).collect();
        if primaries.is_empty() && !all.is_empty() {
            let reason = format!(
                "path {} of host {host} leads to a Service of another namespace, whose traffic is not this one's to take",
                line.path
            );
            self.diagnostics.push(finding("CanaryIgnored", reason).about(&entry.contribution));
        } else if primaries.is_empty() {
            let reason = format!("no main Ingress has path {} of host {host} with this pathType", line.path);
            self.diagnostics.push(finding("CanaryWithoutMain", reason).about(&entry.contribution));
        }
        for primary in primaries {
            self.hang(entry, slot, primary, &line.field);
        }
    }

    /// A canary takes requests, so only those of its own namespace: else whoever names a host and a path would have
    /// the credentials of everybody who goes there.
    fn is_own(&self, entry: &Entry, primary: BackendSlot) -> bool {
        let state = self.slots.state(primary);
        state.is_some_and(|state| state.id.key.namespace == entry.contribution.key.namespace)
    }

    fn hang(&mut self, entry: &Arc<Entry>, slot: BackendSlot, primary: BackendSlot, field: &str) {
        if primary == slot || self.slots.canary_only(primary) || !self.slots.canary_only(slot) {
            return;
        }
        if !self.is_own(entry, primary) {
            return;
        }
        let Some(first) = self.attachments.get(&primary) else {
            self.attachments.insert(primary, Attachment { owner: Arc::clone(entry), slot });
            return;
        };
        if first.slot != slot {
            self.diagnostics.push(second(&entry.contribution, &first.owner.contribution, field));
        }
    }
}

fn second(loser: &Contribution, winner: &Contribution, field: &str) -> Diagnostic {
    let finding = Finding {
        severity: Severity::Warning,
        code: "CanaryIgnored",
        field,
        value: "",
        reason: format!(
            "{} is an older canary of the same Service; only one canary is ever asked",
            name_for(&loser.key, &winner.key)
        ),
        hint: "remove one of the two canaries",
    };
    finding.about(loser)
}
