//! All findings of a compilation, in one order.

use super::{Compiler, Diagnostic, Finding, Judged, Problem};
use crate::compile::merge::Entry;

impl Compiler {
    pub(super) fn diagnostics(&self) -> Vec<Diagnostic> {
        let mut all = Vec::new();
        if let Some(settings) = &self.settings {
            all.extend(settings.globals_findings.iter().cloned());
        }
        for judged in self.judged.values() {
            match judged {
                Judged::Ours(entry) => all.extend(entry.contribution.diagnostics.iter().cloned()),
                Judged::Foreign(diagnostic) => all.push((**diagnostic).clone()),
                Judged::OutOfScope => {}
            }
        }
        for host in self.hosts.values() {
            all.extend(host.plan.iter().flat_map(|plan| &plan.diagnostics).cloned());
            all.extend(host.server_findings.iter().chain(&host.tls_finding).cloned());
        }
        all.extend(self.overlay.diagnostics.iter().chain(&self.canary_findings).cloned());
        for (slot, problem) in &self.endpoints.problems {
            let Some(state) = self.slots.state(*slot) else { continue };
            for user in &state.users {
                all.extend(
                    named_fields(user, *slot).map(|field| told(user, &field, &state.id.key.service, problem)),
                );
            }
        }
        all.sort_by(|a, b| {
            (&a.object, &a.field, a.code, &a.value, &a.reason)
                .cmp(&(&b.object, &b.field, b.code, &b.value, &b.reason))
        });
        all.dedup();
        all
    }
}

/// Fields of an Ingress that lead to a slot.
fn named_fields(user: &Entry, slot: crate::route::BackendSlot) -> impl Iterator<Item = String> {
    let leads = move |backend: usize| user.slot(backend) == Some(slot);
    let contribution = &user.contribution;
    let default = contribution
        .default_backend
        .filter(|backend| leads(*backend))
        .map(|_| "spec.defaultBackend".to_owned());
    let fallback =
        contribution.fallback.filter(|backend| leads(*backend)).map(|_| "metadata.annotations".to_owned());
    let lines =
        contribution.rules.iter().flat_map(|rule| &rule.paths).filter(move |line| leads(line.backend));
    let lines = lines.map(|line| format!("{}.backend.service", line.field));
    default.into_iter().chain(fallback).chain(lines)
}

fn told(user: &Entry, field: &str, service: &str, problem: &Problem) -> Diagnostic {
    let finding = Finding {
        severity: problem.severity,
        code: problem.code,
        field,
        value: service,
        reason: problem.reason.clone(),
        hint: problem.hint,
    };
    finding.about(&user.contribution)
}
